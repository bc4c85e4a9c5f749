/** What `serve` speaks on its listeners: one protocol on all of them, or one on each. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Socket from "effect/socket/Socket"
import * as Codec from "../Codec.ts"
import * as Connection from "../Connection.ts"
import * as Heartbeat from "../Heartbeat.ts"
import { textOf, utf8 } from "../internal/bytes/utf8.ts"
import { redactUrl } from "../node/internal/addresses/address.ts"
import type * as Listener from "../node/Listener.ts"
import type { Policy } from "../Policy.ts"
import * as Protocol from "../Protocol.ts"
import { CommandFailed } from "./CommandFailed.ts"

export const protocols = ["lines", "frames", "native"] as const
export type Name = (typeof protocols)[number]

/** An address, and what is spoken there where it says so: `native+tcp://...`. `before` is what a mistake in it begins with. */
export const spokenAt = (
  text: string,
  before: string
): Effect.Effect<{ readonly protocol: Name | undefined; readonly url: string }, CommandFailed> => {
  const [, name, url = text] = /^([^:/+]*)\+([a-z]+:.*)$/is.exec(text) ?? []
  const protocol = protocols.find((one) => one === name?.toLowerCase())
  return name === undefined || protocol !== undefined ? Effect.succeed({ protocol, url }) : Effect.fail(
    new CommandFailed({
      message: `${before} ${redactUrl(text)}: there is no protocol "${name}"; there are ${
        protocols.join(", ")
      }, as in native+${redactUrl(url)}`
    })
  )
}

/** How connections of each protocol are opened, and how a text of ours is a message on all of them. */
export interface Speech<A> {
  readonly open: Connection.Open<A>
  readonly say: (text: string) => A
}

/** The protocol of the listener that brought a connection. */
const Spoken = Context.Reference<Name>("holdfast/cli/Spoken", { defaultValue: () => "lines" })

/** A listener whose connections speak this. */
export const speaking = <Self extends Listener.Listener>(listener: Self, name: Name): Self => ({
  ...listener,
  run: (handler) => Effect.provideService(listener.run(handler), Spoken, name)
})

/** Text and bytes as one kind of message: what a hub takes from one protocol and gives to another. */
const eitherText = (codec: Codec.Codec<string>): Codec.Codec<string | Uint8Array> =>
  Codec.mapResult<string, string, string | Uint8Array, string | Uint8Array>({
    format: "text",
    decode: Result.succeed,
    encode: (message) => {
      const text = typeof message === "string" ? message : textOf(message)
      return text === undefined ? Result.fail("bytes that are no text") : Result.succeed(text)
    }
  })(codec)

const eitherBytes = (codec: Codec.Codec<Uint8Array>): Codec.Codec<string | Uint8Array> =>
  Codec.map<Uint8Array, Uint8Array, string | Uint8Array, string | Uint8Array>({
    format: "bytes",
    decode: (bytes) => bytes,
    encode: (message) => typeof message === "string" ? utf8(message) : message
  })(codec)

/** Whether a connection that came to this address of ours speaks lines. */
export const linesAt = (listeners: ReadonlyArray<Listener.Listener>, spoken: ReadonlyArray<Name>) => {
  const ends = listeners.filter((_, i) => spoken[i] === "lines").map(({ address }) =>
    address._tag === "UnixPathAddress" ? address.path : `:${address.port}`
  )
  return (local = ""): boolean => ends.some((end) => local.endsWith(end))
}

interface Options {
  readonly policy: Policy
  /** How many connections would come back, were we to die now. */
  readonly live: () => number
}

const byListener =
  <A>(opens: Readonly<Record<Name, Connection.Open<A>>>): Connection.Open<A> => (socket: Socket.Socket) =>
    Effect.flatMap(Spoken, (name) => opens[name](socket))

const natively = <A>(codec: Codec.Codec<A>, { live, policy }: Options): Connection.Open<A> =>
  Protocol.server({ codec, policy, advise: () => Protocol.spread(live(), policy.acceptRate || 1000) })

// a page in a browser answers frames by itself, and is not to be sent a `ping` that it did not ask for
const textual = Heartbeat.preferFrames(Heartbeat.text("ping", "pong"))

/** Messages that are bytes: of `frames` alone. */
export const bytes = ({ policy }: Options): Speech<Uint8Array> => ({
  open: Connection.make({ codec: Codec.lengthPrefix(), policy }),
  say: utf8
})

/** Messages that are text: of `lines`, of `native`, or of both. */
export const text = (names: ReadonlySet<Name>, options: Options): Speech<string> => {
  const { policy } = options
  const lines = Connection.make({ codec: Codec.lines(), heartbeat: textual, policy })
  const native = natively(Codec.lengthPrefix().pipe(Codec.text), options)
  const open = names.size > 1 ? byListener({ lines, native, frames: lines }) : names.has("native") ? native : lines
  return { open, say: (text) => text }
}

/** Messages that are either: of `frames` beside others. */
export const either = (options: Options): Speech<string | Uint8Array> => {
  const { policy } = options
  return {
    open: byListener({
      lines: Connection.make({
        codec: eitherText(Codec.lines()),
        heartbeat: Heartbeat.preferFrames(Heartbeat.messages<string | Uint8Array>({ ping: "ping", pong: "pong" })),
        policy
      }),
      native: natively(eitherText(Codec.lengthPrefix().pipe(Codec.text)), options),
      frames: Connection.make({ codec: eitherBytes(Codec.lengthPrefix()), policy })
    }),
    say: (text) => text
  }
}
