/**
 * RESP 2 and 3, the protocol of Redis and Valkey: commands out, replies in.
 *
 * Use it for a client of Redis: with `Request` over a `ConnectionPool` for commands, with a `Connection` of its own for
 * subscriptions. Nothing of RESP 3 comes until the client has sent `HELLO 3`.
 *
 * @see https://redis.io/docs/latest/develop/reference/protocol-spec/
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"
import type { CodecReason } from "../ConnectionError.ts"
import { guarded } from "../internal/codec/payload.ts"
import type { Scale } from "../internal/codec/room.ts"
import { scanned, type Scanner } from "./internal/scanned.ts"
import {
  bytesOf,
  countAt,
  CR,
  invalidLength,
  joined,
  LF,
  shown,
  textOf,
  utf8,
  utf8Exact,
  weigh
} from "./internal/text.ts"

/**
 * What Redis answers to a command that it refuses: `WRONGTYPE ...`, `ERR unknown command ...`.
 *
 * @category models
 * @since 0.1.0
 */
export class Refusal {
  readonly message: string
  constructor(message: string) {
    this.message = message
  }
}

/**
 * What comes without being asked for (RESP 3): a message of a subscription, an invalidation of a cache.
 *
 * @category models
 * @since 0.1.0
 */
export class Push {
  readonly values: ReadonlyArray<Reply>
  constructor(values: ReadonlyArray<Reply>) {
    this.values = values
  }
}

/**
 * A reply. Integers beyond 2^53 and big numbers are `bigint`; a bulk string is text, or bytes with `bulk: "bytes"`; attributes
 * are left out.
 *
 * @category models
 * @since 0.1.0
 */
export type Reply =
  | string
  | number
  | bigint
  | boolean
  | null
  | Uint8Array
  | Refusal
  | Push
  | ReadonlyArray<Reply>
  | ReadonlyMap<Reply, Reply>
  | ReadonlySet<Reply>

/**
 * A command: its name, and its arguments.
 *
 * @category models
 * @since 0.1.0
 */
export type Command = ReadonlyArray<string | number | Uint8Array>

/**
 * How replies are read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** What a bulk string is: UTF-8 text (`"text"`, the default), or its bytes (`"bytes"`). */
  readonly bulk?: "text" | "bytes" | undefined
  /** The most bytes of one reply. Default: that of the policy. */
  readonly maxFrame?: number | undefined
}

/** Replies nest a few levels; a peer that nests a million wants our stack. */
const maxDepth = 32

const code = (char: string): number => char.charCodeAt(0)
const bulks = new Set(["$", "!", "="].map(code))
const lists = new Set(["*", "~", ">"].map(code))
const maps = new Set(["%", "|"].map(code))
const lines = new Set(["+", "-", ":", "_", "#", ",", "("].map(code))
const attribute = code("|")

/** Where the line from `at` on ends, at its return; -1 when that, or what follows it, has not come. */
const lineEnd = (bytes: Uint8Array, at: number): number => {
  const found = bytes.indexOf(CR, at)
  return found + 1 < bytes.length ? found : -1
}

const isNull = (bytes: Uint8Array, from: number, to: number): boolean =>
  to - from === 2 && bytes[from] === code("-") && bytes[from + 1] === code("1")

const scanner = (): Scanner => {
  // the next element begins here, after the start of the frame, and so many are missing
  let at = 0
  let missing = 1
  let least = 0
  // so far there is no end of that element's line
  let seen = 0
  return {
    get least() {
      return least
    },
    scan(bytes, start) {
      const end = bytes.length
      while (start + at < end) {
        const from = start + at
        const kind = bytes[from]!
        const to = lineEnd(bytes, Math.max(from, start + seen))
        if (to < 0) {
          // a line that only grows is bounded by the frame
          least = at + 1
          seen = end - start - 1
          return 0
        }
        if (bytes[to + 1] !== LF) return invalidLength(`a line without its end: ${shown(bytes, from, end)}`)
        let next = to + 2 - start
        let more = 0
        if (!lines.has(kind)) {
          const count = isNull(bytes, from + 1, to) ? 0 : countAt(bytes, from + 1, to)
          if (count < 0) return invalidLength(`not a count: ${shown(bytes, from, to)}`)
          if (bulks.has(kind)) next += isNull(bytes, from + 1, to) ? 0 : count + 2
          else if (lists.has(kind)) more = count
          // what an attribute belongs to comes behind it
          else if (maps.has(kind)) more = 2 * count + (kind === attribute ? 1 : 0)
          else return invalidLength(`not a reply: ${shown(bytes, from, to)}`)
        }
        // every element has at least 3 bytes: what is announced is bounded before it comes
        least = next + (missing - 1 + more) * 3
        if (start + next > end) return 0
        at = next
        missing += more - 1
        if (missing > 0) continue
        at = 0
        seen = 0
        missing = 1
        least = 0
        return start + next
      }
      return 0
    }
  }
}

/** Reads one frame, whose lengths are right. It throws a sentence. */
class Reader {
  private readonly bytes: Uint8Array
  private readonly isText: boolean
  private readonly scale: Scale | undefined
  private at = 0

  constructor(bytes: Uint8Array, isText: boolean, scale: Scale | undefined) {
    this.bytes = bytes
    this.isText = isText
    this.scale = scale
  }

  private text(from: number, to: number): string {
    const text = textOf(this.bytes.subarray(from, to))
    if (text === undefined) throw new Error("a text is not UTF-8")
    return text
  }

  private many(count: number, depth: number): Array<Reply> {
    weigh(this.scale, 48 + 8 * count)
    const all: Array<Reply> = []
    for (let i = 0; i < count; i++) all.push(this.element(depth + 1))
    return all
  }

  private pairs(count: number, depth: number): Map<Reply, Reply> {
    weigh(this.scale, 192 + 64 * count)
    const all = new Map<Reply, Reply>()
    for (let i = 0; i < count; i++) all.set(this.element(depth + 1), this.element(depth + 1))
    return all
  }

  private bulk(kind: string, count: number): Reply {
    const from = this.at
    this.at += count + 2
    if (this.bytes[this.at - 2] !== CR || this.bytes[this.at - 1] !== LF) {
      throw new Error("a bulk string has another length")
    }
    weigh(this.scale, 64)
    if (kind === "!") return new Refusal(this.text(from, from + count))
    // a verbatim string has its format in front: `txt:`
    if (kind === "=") return this.text(from + Math.min(4, count), from + count)
    return this.isText ? this.text(from, from + count) : this.bytes.subarray(from, from + count)
  }

  private simple(kind: string, line: string): Reply {
    switch (kind) {
      case "+":
        return line
      case "-":
        weigh(this.scale, 64)
        return new Refusal(line)
      case "_":
        return null
      case "#":
        return line === "t"
      case ",":
        weigh(this.scale, 16)
        return line === "inf" ? Infinity : line === "-inf" ? -Infinity : Number(line)
      default: {
        if (!/^[+-]?\d+$/.test(line)) throw new Error(`not a number: ${line.slice(0, 20)}`)
        const number = Number(line)
        return kind === ":" && Number.isSafeInteger(number) ? number : BigInt(line)
      }
    }
  }

  element(depth: number): Reply {
    if (depth > maxDepth) throw new Error(`it is nested over ${maxDepth} levels`)
    const { bytes } = this
    const end = bytes.indexOf(CR, this.at)
    const kind = String.fromCharCode(bytes[this.at]!)
    const from = this.at + 1
    this.at = end + 2
    if (lines.has(code(kind))) return this.simple(kind, this.text(from, end))
    if (isNull(bytes, from, end)) return null
    const count = countAt(bytes, from, end)
    switch (kind) {
      case "*":
        return this.many(count, depth)
      case ">":
        return new Push(this.many(count, depth))
      case "~":
        // besides the list that it is made of
        weigh(this.scale, 112 + 40 * count)
        return new Set(this.many(count, depth))
      case "%":
        return this.pairs(count, depth)
      case "|":
        this.pairs(count, depth)
        return this.element(depth + 1)
      default:
        return this.bulk(kind, count)
    }
  }
}

const read = (frame: Uint8Array | string, isText: boolean, scale?: Scale): Result.Result<Reply, CodecReason> =>
  guarded("decode", "RESP", () => Result.succeed(new Reader(bytesOf(frame), isText, scale).element(0)))

const write = (command: Command): Result.Result<Uint8Array, CodecReason> =>
  guarded("encode", "RESP", () => {
    if (command.length === 0) return Result.fail("a command has a name")
    const parts = [utf8(`*${command.length}\r\n`)]
    for (const part of command) {
      const bytes = part instanceof Uint8Array ? part : utf8Exact(String(part))
      parts.push(utf8(`$${bytes.length}\r\n`), bytes, utf8("\r\n"))
    }
    return Result.succeed(joined(parts))
  })

/**
 * Makes the codec of a client.
 *
 * **Details**
 *
 * A reply is bounded by `maxFrame` in bytes, by what its announced lengths come to before it has come, and by
 * `Policy.maxDecoded` in memory. It nests 32 levels at the most.
 *
 * **Gotchas**
 *
 * With `bulk: "bytes"` the bytes are views of what was read: copy what is kept for long. Streamed strings and aggregates of RESP
 * 3, which Redis does not send, are refused.
 *
 * **Example** (A command)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection, Request } from "holdfast"
 * import { Resp } from "holdfast/codecs"
 * import { Dialer } from "holdfast/node"
 *
 * const redis = Connection.make({ codec: Resp.make() })
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:6379")), redis)
 *
 * const program = Request.once(open, ["SET", "answer", 42])
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Codec.Codec<Reply, Command> => {
  const isText = options.bulk !== "bytes"
  return Codec.make<Reply, Command>({
    framing: scanned("resp", scanner),
    payload: {
      form: "bytes",
      content: "value",
      decode: (frame, scale) => read(frame, isText, scale),
      encode: write
    },
    maxFrame: options.maxFrame
  })
}
