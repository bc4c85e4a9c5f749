/**
 * How two ends tell each other that they are alive, in messages of their own protocol.
 *
 * Give one to `Connection.make` where the protocol has pings. How long to wait for an answer is a matter of `Policy`; this
 * module knows what a ping and a pong look like, and schedules of when to ping.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { Advice, Reason } from "./ConnectionError.ts"
import { atLeast } from "./internal/arguments/atLeast.ts"
import { millisOf } from "./internal/arguments/durations.ts"

/**
 * What a received message means to the connection, when it is not an ordinary message.
 *
 * - `Ping`: the connection sends `answer`, ahead of waiting data.
 * - `Pong`: matched to its ping by `token`; without a token it answers the oldest ping.
 * - `Leave`: the peer asks us to finish; `Connection.leaving` completes.
 * - `Data`: an ordinary message that also carries advice. The application receives it.
 * - `End`: the peer ends the connection, with this reason. It gets no farewell.
 * - `Violation`: the message is not allowed. The connection ends with this reason, and the peer gets a farewell.
 *
 * `advice` says when to dial again once this connection is lost; it holds until the next advice.
 *
 * @category models
 * @since 0.1.0
 */
export type Signal<Out> =
  | { readonly _tag: "Ping"; readonly answer: Out; readonly advice?: Advice | undefined }
  | { readonly _tag: "Pong"; readonly token: number | undefined }
  | { readonly _tag: "Leave"; readonly advice?: Advice | undefined }
  | { readonly _tag: "Data"; readonly advice: Advice | undefined }
  | { readonly _tag: "End"; readonly reason: Reason; readonly advice?: Advice | undefined }
  | { readonly _tag: "Violation"; readonly reason: Reason; readonly advice?: undefined }

/**
 * The pings and pongs of a protocol, and its other messages that are not for the application.
 *
 * **When to use**
 *
 * `text` and `messages` make one for fixed pings and pongs, `tagged` for pings and pongs of a tagged union, `make` for pings
 * and pongs told by one message alone. Implement it for a protocol with more: farewells, advice, messages that depend on
 * earlier ones.
 *
 * **Details**
 *
 * `reader` makes the reader of one connection, which may keep state, as a codec's decoder does. The connection calls it for
 * every message: keep it cheap, and return `undefined` for an ordinary one. The application receives ordinary messages, and
 * those that the reader calls `Data`.
 *
 * A token, where the protocol has room for one, matches a pong to its ping, so that a late or repeated pong does not pass
 * for a fresh one. Tokens are whole numbers counting up from 1.
 *
 * `Control` is what the application never receives, as a type: `Connection.make` takes it out of what its connections receive.
 * `tagged`, and `make` with `isControl`, know it; for other heartbeats it is `never`, and nothing is taken out.
 *
 * @category models
 * @since 0.1.0
 */
export interface Heartbeat<in In, out Out, in Control = never> {
  /** Makes a ping; its answer carries the token back. */
  readonly ping: (token: number) => Out
  /** Makes what reads one connection: it tells what a message is, `undefined` for data. */
  readonly reader: () => (message: In) => Signal<Out> | undefined
  /** Whether a connection over a WebSocket pings with frames of it in place of `ping`: see `preferFrames`. Default false. */
  readonly frames?: boolean | undefined
  /**
   * A peer that has heard our goodbye sends nothing new, and answers a ping that came behind it. A `Server` that stops then
   * reads until that pong is there, for a second at most, so that nothing crosses its goodbye and is lost. The native protocol
   * is such a one. Default false.
   */
  readonly hearsGoodbye?: boolean | undefined
  /** Only for the type, never set. For every message of this type `reader` gives a signal other than `Data`. */
  readonly "~control"?: ((control: Control) => void) | undefined
}

const untokenedPong = { _tag: "Pong", token: undefined } as const

/** An answer that is a ping is answered in its turn, for ever. */
const differ = (ping: unknown, pong: unknown): void => {
  if (Equal.equals(ping, pong)) {
    throw new RangeError("ping and pong must differ: each end would answer the answers of the other")
  }
}

/**
 * Pings and pongs that are fixed messages, compared structurally: `{ ping: { type: "ping" }, pong: { type: "pong" } }`. As for `text`
 * and `tagged`, a `ping` that is the `pong` throws a `RangeError`: each end would answer the answers of the other, for ever.
 *
 * @category constructors
 * @since 0.1.0
 */
export const messages = <A>(options: { readonly ping: A; readonly pong: A }): Heartbeat<A, A> => {
  differ(options.ping, options.pong)
  const answered = { _tag: "Ping", answer: options.pong } as const
  return make({
    ping: () => options.ping,
    read: (message) =>
      Equal.equals(message, options.ping)
        ? answered
        : Equal.equals(message, options.pong)
        ? untokenedPong
        : undefined
  })
}

/** A token has at most 16 digits; a message with a longer number is an ordinary one. */
const tokenAfter = (message: string, prefix: string): string | undefined =>
  message.startsWith(prefix) && /^\d{1,16}$/.test(message.slice(prefix.length))
    ? message.slice(prefix.length)
    : undefined

/**
 * Pings and pongs that are fixed texts: a message `ping` is answered with `pong`.
 *
 * With `token: true` a number follows (`ping 7` is answered with `pong 7`), so that each pong is matched to its ping; a
 * ping without a number is answered without one.
 *
 * @category constructors
 * @since 0.1.0
 */
export const text = (
  ping: string,
  pong: string,
  options?: { readonly token?: boolean | undefined }
): Heartbeat<string, string> => {
  differ(ping, pong)
  const answered = { _tag: "Ping", answer: pong } as const
  if (options?.token !== true) {
    return make({
      ping: () => ping,
      read: (message) => (message === ping ? answered : message === pong ? untokenedPong : undefined)
    })
  }
  const pingPrefix = `${ping} `
  const pongPrefix = `${pong} `
  return make({
    ping: (token) => pingPrefix + token,
    read: (message) => {
      if (message === ping) return answered
      if (message === pong) return untokenedPong
      const asked = tokenAfter(message, pingPrefix)
      if (asked !== undefined) return { _tag: "Ping", answer: pongPrefix + asked }
      const told = tokenAfter(message, pongPrefix)
      return told === undefined ? undefined : { _tag: "Pong", token: Number(told) }
    }
  })
}

/**
 * Pings and pongs that are members of a tagged union, told by their tag.
 *
 * **When to use**
 *
 * Where the pings are messages of the union that a schema reads: the connection then receives the union without them, so
 * that a `switch` over it has no case for a ping.
 *
 * **Details**
 *
 * The tag is the property `_tag`, or the one that `key` names. `token` names a property of both that holds a number: each
 * pong then repeats that of its ping. The messages are plain objects of tag and token; for class instances, or with more
 * properties, use `make` with `isControl`.
 *
 * **Gotchas**
 *
 * Both ends ping, so the union that an end writes has both members, and so has the one that it reads.
 *
 * **Example** (A handler that sees no pings)
 *
 * ```ts
 * import * as Schema from "effect/Schema"
 * import { Codec, Connection, Heartbeat } from "holdfast"
 *
 * const Message = Schema.TaggedUnion({ Ping: { n: Schema.Finite }, Pong: { n: Schema.Finite }, Say: { text: Schema.String } })
 *
 * // its connections receive `Say` alone
 * const chat = Connection.make({
 *   codec: Codec.lines().pipe(Codec.schema(Message)),
 *   heartbeat: Heartbeat.tagged("Ping", "Pong", { token: "n" })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const tagged = <
  const Ping extends string,
  const Pong extends string,
  const Key extends string = "_tag",
  const Token extends string = never
>(
  ping: Ping,
  pong: Pong,
  options?: {
    /** The property that is the tag. Default `"_tag"`. */
    readonly key?: Key | undefined
    /** The property that holds the token. Default: pings have none. */
    readonly token?: Token | undefined
  }
): Heartbeat<
  { readonly [K in Key]: unknown },
  | { readonly [K in Key | Token]: K extends Key ? Ping : number }
  | { readonly [K in Key | Token]: K extends Key ? Pong : number },
  { readonly [K in Key]: Ping | Pong }
> => {
  differ(ping, pong)
  type Message = Readonly<Record<string, unknown>>
  const key: string = options?.key ?? "_tag"
  const field: string | undefined = options?.token
  const withTag = (tag: string, token: unknown) =>
    (field === undefined ? { [key]: tag } : { [key]: tag, [field]: token }) as never
  const tokenOf = (message: Message): number | undefined => {
    const token = field === undefined ? undefined : message[field]
    return typeof token === "number" ? token : undefined
  }
  const read = (message: Message): Signal<never> | undefined => {
    const tag = message[key]
    if (tag === ping) return { _tag: "Ping", answer: withTag(pong, field === undefined ? undefined : message[field]) }
    return tag === pong ? { _tag: "Pong", token: tokenOf(message) } : undefined
  }
  return { ping: (token) => withTag(ping, token), reader: () => read }
}

/**
 * Pings and pongs of a protocol of your own, told by one message alone. Where the meaning of a message depends on earlier
 * ones, write a `Heartbeat` with its own `reader`.
 *
 * **Details**
 *
 * With `isControl`, a type guard such as `Schema.is(Ping)`, `read` is asked only about the messages that it holds for. The
 * application receives none of these, and their type is taken out of what connections receive. Without it, `read` is asked
 * about every message, and returns `undefined` for an ordinary one.
 *
 * **Example** (Pings that are instances of a class)
 *
 * ```ts
 * import * as Schema from "effect/Schema"
 * import { Heartbeat } from "holdfast"
 *
 * class Ping extends Schema.TaggedClass<Ping>()("Ping", { n: Schema.Finite }) {}
 * class Pong extends Schema.TaggedClass<Pong>()("Pong", { n: Schema.Finite }) {}
 *
 * const heartbeat = Heartbeat.make({
 *   ping: (n): Ping | Pong => new Ping({ n }),
 *   isControl: Schema.is(Schema.Union([Ping, Pong])),
 *   read: ({ _tag, n }) => (_tag === "Ping" ? { _tag, answer: new Pong({ n }) } : { _tag, token: n })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  <In, Out, Control extends In>(options: {
    readonly ping: (token: number) => Out
    readonly isControl: (message: In) => message is Control
    readonly read: (control: Control) => Exclude<Signal<Out>, { readonly _tag: "Data" }>
  }): Heartbeat<In, Out, Control>
  <In, Out>(options: {
    readonly ping: (token: number) => Out
    readonly read: (message: In) => Signal<Out> | undefined
  }): Heartbeat<In, Out>
} = <In, Out>({ isControl, ping, read }: {
  readonly ping: (token: number) => Out
  readonly isControl?: (message: In) => boolean
  readonly read: (message: In) => Signal<Out> | undefined
}): Heartbeat<In, Out, unknown> => {
  const readControl = isControl === undefined
    ? read
    : (message: In) => (isControl(message) ? read(message) : undefined)
  return { ping, reader: () => readControl }
}

/**
 * The pings and pongs of the WebSocket protocol itself (RFC 6455, 5.5.2): a browser's page answers them without a line of
 * code, and so does every other client.
 *
 * **When to use**
 *
 * It is what a connection over `ws://` and `wss://` pings with where its options name no heartbeat; name it to say so.
 *
 * **Details**
 *
 * Each ping carries a token, which its pong repeats: a late or made-up pong counts for nothing, and the round trip is measured.
 * A peer's ping is answered whatever heartbeat there is, and proves life.
 *
 * **Gotchas**
 *
 * Only over Holdfast's own listeners and diallers. Over TCP, and over the sockets of `Socket.makeWebSocket`, whose `WebSocket`
 * keeps its pings to itself, there is nothing to ping with, as without a heartbeat. `pingEvery: 0` turns it off.
 *
 * @category constructors
 * @since 0.1.0
 */
export const webSocket: Heartbeat<unknown, never> = {
  ping: (token) => {
    throw new RangeError(`Heartbeat.webSocket pings by frames of its own, and ping ${token} was asked for as a message`)
  },
  reader: () => () => undefined
}

/**
 * The same heartbeat, which pings with the frames of the WebSocket protocol where there is a WebSocket, as `webSocket` does.
 *
 * **When to use**
 *
 * For a protocol with pings of its own, whose clients are also browsers: a page answers frames by itself, and messages only with
 * code of yours. A peer's own pings are answered as before, and over TCP nothing changes.
 *
 * **Example** (A chat for `nc` and for pages that only listen)
 *
 * ```ts
 * import { Codec, Connection, Heartbeat } from "holdfast"
 *
 * export const chat = Connection.make({
 *   codec: Codec.lines(),
 *   heartbeat: Heartbeat.preferFrames(Heartbeat.text("ping", "pong"))
 * })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const preferFrames = <In, Out, Control = never>(
  self: Heartbeat<In, Out, Control>
): Heartbeat<In, Out, Control> => ({ ...self, frames: true })

/**
 * The input of a schedule of pings at each step: how the last pings went. Its delay is the time until the next ping.
 *
 * @category models
 * @since 0.1.0
 */
export interface Beat {
  /** `Policy.pingEvery` as it is now, in milliseconds. */
  readonly every: number
  /** `Policy.pingJitter` as it is now. */
  readonly jitter: number
  /** How many pings were sent before this interval: 0 before the first one. */
  readonly count: number
  /** How many pings, without the last one, were sent since a pong came. More than 0: the link, or the peer, missed one. */
  readonly unanswered: number
  /** The smoothed round-trip time in milliseconds, once a pong came. */
  readonly rtt: number | undefined
  /** How long ago the last bytes of the peer came, in milliseconds. */
  readonly quietFor: number
}

/** The first interval is shorter, so that connections which opened together do not ping in step. */
const jittered = (random: Context.Service.Shape<typeof Random.Random>, { every, jitter }: Beat): number =>
  Math.round(every * (1 - jitter * random.nextDoubleUnsafe()))

const step = (millis: number): [Duration.Duration, Duration.Duration] => {
  const duration = Duration.millis(millis)
  return [duration, duration]
}

/**
 * The default schedule of pings: every `Policy.pingEvery`, the first one up to `Policy.pingJitter` early.
 *
 * **When to use**
 *
 * As a part of a schedule of your own (`Schedule.min([Heartbeat.steady, ...])`); a connection uses it anyway.
 *
 * @category schedules
 * @since 0.1.0
 */
export const steady: Schedule.Schedule<Duration.Duration, Beat> = Schedule.fromStep(
  Effect.map(
    Random.Random,
    (random) => (_now: number, beat: Beat) =>
      Effect.succeed(step(beat.count === 0 ? jittered(random, beat) : beat.every))
  )
)

/**
 * A schedule of pings whose interval grows while pongs come and shrinks after a miss: for mobile links, where each ping
 * wakes a radio for seconds, and where it is not known how long the network's address translation keeps a quiet connection.
 *
 * **Details**
 *
 * The first two intervals are `Policy.pingEvery` within `min` and `max`, the first with its jitter. When the ping before
 * was answered by the time of the next one, the interval after that is `growth` times as long (default 1.5), up to `max`;
 * when it was not, half as long, down to `min`. A cellular network forgets a quiet connection after 4 to 30 minutes: a few
 * steps find its limit.
 *
 * **Gotchas**
 *
 * `Policy.silence` has to be longer than `max`, or a healthy connection ends between two pings; and `pong` has to be on
 * with `misses: 1` or more, or the first miss ends the connection before the interval can shorten. `pingEvery: 0` turns
 * pings off under any schedule. An option that makes no sense (`min` over `max`, `growth` under 1, `min` of 0) throws a
 * `RangeError` that names it.
 *
 * **Example** (Between one and ten minutes)
 *
 * ```ts
 * import { Codec, Connection, Heartbeat, Policy } from "holdfast"
 *
 * const chat = Connection.make({
 *   codec: Codec.lines(),
 *   heartbeat: Heartbeat.text("ping", "pong"),
 *   pings: Heartbeat.adaptive({ min: "1 minute", max: "10 minutes" }),
 *   policy: Policy.make({ silence: "25 minutes", pong: "30 seconds", misses: 2 }, Policy.mobile)
 * })
 * ```
 *
 * @category schedules
 * @since 0.1.0
 */
export const adaptive = (options: {
  readonly min: Duration.Input
  readonly max: Duration.Input
  readonly growth?: number | undefined
}): Schedule.Schedule<Duration.Duration, Beat> => {
  const min = millisOf("min", options.min)
  const max = millisOf("max", options.max)
  const growth = atLeast(1, "growth", options.growth ?? 1.5)
  if (!(min > 0)) throw new RangeError("min must be more than 0")
  if (!(max >= min)) throw new RangeError("max must not be less than min")
  const within = (millis: number): number => Math.min(max, Math.max(min, millis))
  return Schedule.fromStep(Effect.map(Random.Random, (random) => {
    let interval: number | undefined
    return (_now: number, beat: Beat) => {
      if (interval === undefined || beat.count === 0) {
        interval = within(beat.every)
        return Effect.succeed(step(jittered(random, { ...beat, every: interval })))
      }
      // the fate of the first ping is not known yet
      if (beat.count > 1) interval = within(beat.unanswered > 0 ? interval / 2 : interval * growth)
      return Effect.succeed(step(Math.round(interval)))
    }
  }))
}
