/** Makes the class of a reason, and keeps all that is said of it: here, over WebSocket, and in the native protocol. */
import type * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"
import { type CloseCode, closeCodes, violation } from "./closeCodes.ts"
import { plain } from "./logs.ts"

/** What an end of the native protocol knows when it reads a CLOSE. */
export interface Receiver {
  /** The versions it speaks: `"1-1"`. */
  readonly ours: string
  /** What the server said about pings, in milliseconds. */
  readonly minPingEvery: number
}

/** The same for every error of a reason, or what the facts of one error say. */
type ByFacts<Facts, A> = A | ((facts: Facts) => A)

/** All that is said of a reason. */
interface Row<Facts> {
  /** The message, for a person: a sentence, which the peer is told as well. */
  readonly text: (facts: Facts) => string
  /**
   * What programs act on. A reason that ends no connection, or of which the peer cannot hear, leaves out the codes: they
   * are needed only where an application closes a connection with it.
   */
  readonly codes: {
    /** `isRetryable`: whether opening again can help. */
    readonly retry: ByFacts<Facts, boolean>
    /** The code of the close frame (RFC 6455, 7.4.1). Default 1008. */
    readonly webSocket?: ByFacts<Facts, number>
    /** The code of the native CLOSE. Default FAILED. */
    readonly native?: ByFacts<Facts, CloseCode>
  }
  /**
   * What the peer is told, where that is not the message; undefined is no word, and so it is by default for a reason with a
   * `cause`. A message that may hold a text of the application (a cause, a detail of its codec) is for the log alone.
   */
  readonly told?: (facts: Facts) => string | undefined
  /** The text of a native CLOSE, where its code says already what the message says. */
  readonly note?: (facts: Facts) => string
  /** The flag of a native CLOSE, where it is not `codes.retry`: whether the peer should come back. */
  readonly comeBack?: (facts: Facts) => boolean
  /** The facts that a native CLOSE with the code of this reason gives its receiver; undefined where its text has none. */
  readonly heard?: (note: string, receiver: Receiver) => Facts | undefined
}

interface Tagged {
  readonly _tag: string
}

const rows = new Map<string, Row<unknown>>()

/** The row of a reason, which reads the facts of that reason. */
export const rowOf = ({ _tag }: Tagged): Row<unknown> => rows.get(_tag)!

const byFacts = <A>(value: ByFacts<unknown, A>, facts: unknown): A =>
  typeof value === "function" ? (value as (facts: unknown) => A)(facts) : value

/** The code of the close frame. RFC 6455, 7.4.1. */
export const webSocketCode = (reason: Tagged): number => byFacts(rowOf(reason).codes.webSocket ?? violation, reason)

/** The code of the native CLOSE. */
export const nativeCode = (reason: Tagged): number =>
  closeCodes[byFacts(rowOf(reason).codes.native ?? "FAILED", reason)]

/** What the peer is told of a reason. */
export const toldOf = (reason: Tagged & { readonly message: string }): string | undefined => {
  const { told } = rowOf(reason)
  if (told !== undefined) return told(reason)
  return "cause" in reason ? undefined : reason.message
}

// facts that quote a peer, or its bytes: they are kept without what a terminal or a log obeys
const quotes = ["detail", "path", "statusText", "headers"]

type Constructor = new(facts: Readonly<Record<string, unknown>>, options?: Schema.MakeOptions) => object

const withPlain = (Base: Constructor): Constructor =>
  class extends Base {
    constructor(facts: Readonly<Record<string, unknown>>, options?: Schema.MakeOptions) {
      const changed = Object.fromEntries(
        quotes.filter((name) => name in facts).map((name) => [name, plain(facts[name])])
      )
      super({ ...facts, ...changed }, options)
    }
  }

/** The base class of a reason: a tagged error with these facts, its message, and whether opening again can help. */
export const reason = <Self>() =>
<Tag extends string, const Fields extends Schema.Struct.Fields>(
  tag: Tag,
  fields: Fields,
  row: Row<Schema.Struct.Type<Fields>>
): Schema.Class<Self, Schema.TaggedStruct<Tag, Fields>, Cause.YieldableError & { readonly isRetryable: boolean }> => {
  const tagged = Schema.TaggedError<Error>()(tag, fields)
  const base = quotes.some((name) => name in fields) ? withPlain(tagged as never) : tagged
  rows.set(tag, row as never)
  Object.defineProperties(base.prototype, {
    message: {
      configurable: true,
      get(this: Schema.Struct.Type<Fields>) {
        return row.text(this)
      }
    },
    isRetryable: {
      configurable: true,
      get() {
        return byFacts(row.codes.retry as ByFacts<unknown, boolean>, this)
      }
    }
  })
  return base as never
}

/** A stack here would be that of an event, and cost more than anything else when a connection ends. */
export const withoutStack = <A>(make: () => A): A => {
  const errors = Error as { stackTraceLimit?: number | undefined }
  const limit = errors.stackTraceLimit
  // not an assignment, which throws where intrinsics are frozen
  Reflect.set(errors, "stackTraceLimit", 0)
  try {
    return make()
  } finally {
    Reflect.set(errors, "stackTraceLimit", limit)
  }
}
