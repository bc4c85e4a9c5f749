/**
 * One live conversation with one peer, owned by a scope.
 *
 * Its own fiber supervises four children: a **reader** (pull, hear, decode, offer to the inbox, wait for room), a **writer**
 * (take from the queue, write, say the last words), a **heartbeat** (follow the schedule, ping) and **deadlines** (look, sleep
 * until the next rule could be broken, look again). The first of them to end, fail or die decides why the conversation ended;
 * the others are interrupted and awaited, and the transport is released. `fibers` shows them at work.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Channel from "effect/Channel"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Sink from "effect/Sink"
import type * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import type * as Codec from "./Codec.ts"
import type * as ConnectionError from "./ConnectionError.ts"
import type { Beat, Heartbeat } from "./Heartbeat.ts"
import { receiveAlone } from "./internal/connection/core/inbox.ts"
import { type Wire } from "./internal/connection/core/setup.ts"
import { type Snapshot } from "./internal/connection/core/snapshot.ts"
import { type Explanation, explanationOf, sentence } from "./internal/connection/handle/explanation.ts"
import { type FiberReport, type Internals, TypeId } from "./internal/connection/handle/internals.ts"
import { open } from "./internal/connection/handle/opening.ts"
import { setupOf } from "./internal/connection/handle/setupOf.ts"
import { spawnIn } from "./internal/scheduling/supervised.ts"
import type * as Policy from "./Policy.ts"

export {
  /**
   * Adds what is known of a transport (message boundaries, addresses, unsent bytes) to its socket.
   *
   * **When to use**
   *
   * When you make sockets yourself. Those of `holdfast/node` are described already, and a socket without a description
   * is a byte stream without addresses.
   *
   * @category transport
   * @since 0.1.0
   */
  describe
} from "./internal/transport/transport.ts"
export type { Transport } from "./internal/transport/transport.ts"

export type { Wire } from "./internal/connection/core/setup.ts"
export type { Snapshot } from "./internal/connection/core/snapshot.ts"
export type { Remaining } from "./internal/connection/deadlines.ts"
export type { Deadline, Explanation, Who } from "./internal/connection/handle/explanation.ts"
export type { FiberReport } from "./internal/connection/handle/internals.ts"
export type { Happening, What } from "./internal/telemetry/story.ts"

type Failure = ConnectionError.ConnectionError

/**
 * One live conversation with one peer.
 *
 * **Details**
 *
 * A value of this type is alive until its scope closes or the conversation ends; then every operation fails with the
 * same, sticky `ConnectionError`. What was read before the end can still be received.
 *
 * - The peer finishes sending (FIN): what it sent can be received, answers still leave for `Policy.halfClose`.
 * - `close`, or the scope closing with success: what was accepted is flushed within `Policy.drain`, then FIN.
 * - Anything else, or the scope closing with a failure or an interruption: the connection ends at once.
 *
 * **Gotchas**
 *
 * It is an instance with a prototype, to be small: its operations can be taken off (`const { send } = connection`), but
 * `{ ...connection }` is not a connection. `wrap` makes one of a connection and what it does differently.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connection<out In, in Out = In> {
  /** Counts up from 1 and is never reused in this process. */
  readonly id: number
  /** Takes the next message, waiting for one. */
  readonly receive: Effect.Effect<In, Failure>
  /** Takes every message that is there, waiting for at least one. The cheapest way to receive. */
  readonly receiveAll: Effect.Effect<NonEmptyReadonlyArray<In>, Failure>
  /**
   * Puts a message into the outbox. Success means accepted, not delivered. Fails with the codec's reason for a message
   * that cannot be encoded, and with `MessageTooLarge` or `OutboxFull`; the connection survives those. The bytes of a
   * large message (4 KiB or more; any, on a WebSocket) are not copied: do not change them any more.
   */
  readonly send: (message: Out) => Effect.Effect<void, Failure>
  /** Sends several in order. Nothing is sent when one cannot be encoded. Interrupted while waiting, a prefix is sent. */
  readonly sendAll: (messages: Iterable<Out>) => Effect.Effect<void, Failure>
  /** Waits until everything accepted so far was handed to the transport. */
  readonly flush: Effect.Effect<void, Failure>
  /** False from the moment the outbox is full until it is down to `Policy.lowWater`. */
  readonly isWritable: Effect.Effect<boolean>
  /** Waits until `isWritable`, or the end. */
  readonly awaitWritable: Effect.Effect<void>
  /** Flushes what was accepted, within `Policy.drain`, and ends the connection; safe to call anywhere, repeatedly. */
  readonly close: Effect.Effect<void>
  /** Like `close`, with a reason that both `receive` and `send` then report. */
  readonly closeWith: (reason: ConnectionError.Reason) => Effect.Effect<void>
  /**
   * Asks this conversation to finish: says goodbye (`Options.goodbye`), receives nothing new, and lets answers to what
   * was received leave for `Policy.drain`. Returns at once.
   */
  readonly drainWith: (reason: ConnectionError.Reason) => Effect.Effect<void>
  /**
   * Completes when the connection is asked to leave: at `Policy.maxAge`, because its server stops, or by the peer where
   * the protocol can say it.
   */
  readonly leaving: Effect.Effect<void>
  /**
   * Never succeeds: fails with the reason at the first sign of the end, such as the peer's FIN or our own `close`, when
   * answers may still leave.
   */
  readonly ending: Effect.Effect<never, Failure>
  /** Never succeeds: fails with the reason once the connection has ended. Race against it. */
  readonly closed: Effect.Effect<never, Failure>
  /** Changes limits and cadences now, whatever sleeps. `maxFrame` and `open` are fixed once open. */
  readonly patch: (changes: Policy.Patch) => Effect.Effect<void, Policy.InvalidPolicy>
  readonly policy: Effect.Effect<Policy.Policy>
  readonly snapshot: Effect.Effect<Snapshot>
  /** The encoder this connection shares with others of the same options; see `Wire`. */
  readonly wire: Wire<Out>
  /** Puts frames of `wire` into the outbox without waiting; false for a frame that was dropped or refused. */
  readonly offerFrame: (frame: Codec.Frame) => Effect.Effect<boolean>
  /**
   * What the library needs of a connection; `wrap` keeps it.
   *
   * @internal
   */
  readonly [TypeId]: Internals
}

/**
 * What makes a connection out of a socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in out In, in out Out, in Control = never> {
  readonly codec: Codec.Codec<In, Out>
  /**
   * How to ping, and what a pong looks like. Without one, only `silence` and TCP keep-alive notice a dead peer. A heartbeat
   * that knows its messages as a type (`Heartbeat.tagged`) takes them out of what the connection receives.
   */
  readonly heartbeat?: Heartbeat<NoInfer<In>, NoInfer<Out>, Control> | undefined
  /**
   * When to ping, by a schedule that is told how the last pings went. Default `Heartbeat.steady`: what `pingEvery` and
   * `pingJitter` of the policy say. See `Heartbeat.adaptive`. A schedule that ends, fails or dies is replaced by the
   * default, with one line in the log.
   */
  readonly pings?: Schedule.Schedule<unknown, Beat, unknown> | undefined
  /** A policy, or the fields that differ from `Policy.defaults`. A field that makes no sense throws `InvalidPolicy`. */
  readonly policy?: Policy.Patch | undefined
  /**
   * Told to the peer when it is asked to leave: a message, or one made for the reason. A fixed one that the codec cannot
   * encode throws its `ConnectionError`.
   */
  readonly goodbye?: Out | NoInfer<(reason: ConnectionError.Reason) => Out> | undefined
  /** Told to the peer last, when we end the conversation for this reason; `undefined` says nothing. */
  readonly farewell?: NoInfer<(reason: ConnectionError.Reason) => Out | undefined> | undefined
  /**
   * `messages`: each transport message is one frame, and the framing half of the codec is left out. Default: what the
   * socket is described as, or `messages` where Effect's WebSocket server provides its `WebSocket`, else `stream`.
   *
   * **Gotchas**
   *
   * Sockets of `Socket.makeWebSocket` (browsers) do not say what they are: name it for them. Of those a connection sees whole
   * messages only: no pings, no bytes of a message on its way, and no way to hold the peer back.
   */
  readonly transport?: "stream" | "messages" | undefined
}

/**
 * Makes a connection of a socket: what `make(options)` returns, for `Server`, `Client` and every other `open`.
 *
 * **When to use**
 *
 * To name what a program keeps or passes on: `const chat: Connection.Open<string> = Connection.make({ codec: Codec.lines() })`.
 *
 * **Details**
 *
 * `~open` is only for the type, never set. TypeScript infers from a generic call that returns a bare function last, after it
 * has given the parameters of functions beside it their types. This is an intersection, which it infers from in time: the
 * handler in `Server.run({ open: Connection.make({ codec }), handle: (connection) => ... })` knows its messages.
 *
 * @category models
 * @since 0.1.0
 */
export type Open<In, Out = In> =
  & ((socket: Socket.Socket) => Effect.Effect<Connection<In, Out>, Failure, Scope.Scope>)
  & { readonly "~open"?: undefined }

/**
 * Only for inference, never a message: the default of `Out` where functions return messages beside what says their type.
 *
 * **Details**
 *
 * TypeScript gives `() => "bye"` its type before it knows `Out`, and widens it to `string`. Where such a function is asked for
 * in a `NoInfer`, and the default of `Out` holds literals at every depth, it keeps `"bye"`, and `{ _tag: "Bye" }` too,
 * without `as const`.
 *
 * @category models
 * @since 0.1.0
 */
export type Literal = "" | 0 | 0n | boolean | { readonly [key: string]: Literal }

/**
 * Opens a connection over a socket.
 *
 * **Details**
 *
 * Fails with `OpenFailed` or `OpenTimeout` when the transport does not open within `Policy.open`. The scope owns the
 * connection: closing it with success flushes first, for `Policy.drain` at the most.
 *
 * **Gotchas**
 *
 * Use a fresh `Socket` per connection. On a `TestClock`, a scope that closes while the peer takes nothing waits for
 * `Policy.drain` of virtual time: close it in a forked fiber and adjust the clock, or set `drain: 0`.
 *
 * **Example** (An echo over any socket)
 *
 * ```ts
 * const chat = Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") })
 *
 * const echo = Effect.gen(function*() {
 *   const connection = yield* chat(socket)
 *   yield* Stream.runForEach(Connection.batches(connection), connection.sendAll)
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  <In, Out = Literal, Control = never>(
    options: Options<In, Out, Control>
  ): Open<Exclude<In, Control>, Out>
  <In, Out = Literal, Control = never>(
    socket: Socket.Socket,
    options: Options<In, Out, Control>
  ): Effect.Effect<Connection<Exclude<In, Control>, Out>, Failure, Scope.Scope>
} = (...args: ReadonlyArray<unknown>): never => {
  if (args.length === 1) {
    const setup = setupOf(args[0] as Options<unknown, unknown>)
    return ((socket: Socket.Socket) => open(socket, setup)) as never
  }
  return open(args[0] as Socket.Socket, setupOf(args[1] as Options<unknown, unknown>)) as never
}

/**
 * All that is known of a connection: how it is, or why it ended, who ended it, and what saw that.
 *
 * **When to use**
 *
 * For a page or a log line about one connection. Ends of a registry's connections are in `Registry.ended`.
 *
 * **Gotchas**
 *
 * It has no content of messages. What a reason's `message` says may be a text of the application, such as why its handshake
 * failed: `inWords` shows what the peer may read.
 *
 * **Example** (Why it ended)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection } from "holdfast"
 *
 * const watch = (connection: Connection.Connection<string>) =>
 *   Effect.ignore(connection.closed).pipe(
 *     Effect.andThen(Connection.explain(connection)),
 *     Effect.flatMap((explanation) => Effect.log(Connection.inWords(explanation)))
 *   )
 * ```
 *
 * @category diagnosis
 * @since 0.1.0
 */
export const explain = <In, Out>(self: Connection<In, Out>): Effect.Effect<Explanation> =>
  Effect.sync(() => explanationOf(self[TypeId]))

/**
 * An explanation as one line of plain text: who, why, what saw it, when it was last heard and written, and what was lost.
 *
 * @category diagnosis
 * @since 0.1.0
 */
export const inWords: (explanation: Explanation) => string = sentence

/**
 * The fibers of a connection, for diagnosis: its own, always the four under it, and the handler where a `Server` serves it.
 *
 * **Details**
 *
 * The fibers are live: interrupting one ends the connection. Where a transport reads and writes in the event loop's own
 * events, most work is done by a short cut while the fiber stands by, and `direct` counts it.
 *
 * @category diagnosis
 * @since 0.1.0
 */
export const fibers = <In, Out>(self: Connection<In, Out>): Effect.Effect<ReadonlyArray<FiberReport>> =>
  Effect.sync(() => self[TypeId].fibers)

/**
 * What `wrap` can replace: everything a connection does, but not what it is.
 *
 * @category models
 * @since 0.1.0
 */
export type Overrides<In, Out> = Partial<Omit<Connection<In, Out>, "id">>

/**
 * A connection with some operations replaced, which is complete: it behaves as the one inside in `Server`,
 * `ConnectionPool`, `Registry`, `Client` and `Request`.
 *
 * **When to use**
 *
 * To log, count, rate-limit or change what is sent and received on a connection that others will use.
 *
 * **Details**
 *
 * What is not replaced is that of `self`. Where only `receive` is replaced, `receiveAll` takes one message with it, and
 * where only `send` is, `sendAll` calls it for each message.
 *
 * **Gotchas**
 *
 * A broadcast of a `Registry` encodes once for many connections: it uses `wire` and `offerFrame`, not `send`. An object
 * that is spread or made by hand is no connection; this is what makes one.
 *
 * **Example** (Count what is sent)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection } from "holdfast"
 *
 * const counted = (connection: Connection.Connection<string>, count: Effect.Effect<void>) =>
 *   Connection.wrap(connection, {
 *     send: (message) => Effect.andThen(count, connection.send(message))
 *   })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const wrap = <In, Out>(self: Connection<In, Out>, overrides: Overrides<In, Out>): Connection<In, Out> => {
  const { offerFrame, receive, send } = overrides
  const internals = self[TypeId]
  const { closeWith, drainWith, patch } = self
  return {
    id: self.id,
    receive: self.receive,
    receiveAll: receive === undefined ? self.receiveAll : Effect.map(receive, (message) => [message]),
    send: self.send,
    sendAll: send === undefined
      ? self.sendAll
      : (messages) => Effect.suspend(() => Effect.forEach(messages, send, { discard: true })),
    flush: self.flush,
    isWritable: self.isWritable,
    awaitWritable: self.awaitWritable,
    close: self.close,
    closeWith,
    drainWith,
    leaving: self.leaving,
    ending: self.ending,
    closed: self.closed,
    patch,
    policy: self.policy,
    snapshot: self.snapshot,
    wire: self.wire,
    offerFrame: self.offerFrame,
    ...overrides,
    [TypeId]: without(internals, [
      ...(offerFrame === undefined ? [] : ["offerNow"] as const),
      ...(overrides.drainWith === undefined ? [] : ["stop"] as const)
    ])
  }
}

/** Prototypes, not copies: the getters look at the connection when they are asked. */
const without = (internals: Internals, names: ReadonlyArray<"offerNow" | "stop">): Internals =>
  names.length === 0
    ? internals
    : Object.create(internals, Object.fromEntries(names.map((name) => [name, { value: undefined }]))) as Internals

/**
 * Every message until the connection ends, then its failure.
 *
 * **When to use**
 *
 * To handle messages one by one, with the operators of `Stream`. Where they come in bursts and are handled together,
 * `batches` is cheaper.
 *
 * **Details**
 *
 * A message is received when the stream asks for it, and no other is: after `Stream.take`, `Stream.runHead`, a handler that
 * fails or an interruption, the rest is there for the next receiver.
 *
 * **Gotchas**
 *
 * Operators that ask ahead (`Stream.buffer`, `Stream.mapEffect` with a concurrency) have received what they hold.
 *
 * **Example** (A greeting, and then the rest)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Connection } from "holdfast"
 *
 * const greeted = Effect.fnUntraced(function*(connection: Connection.Connection<string>) {
 *   const greeting = yield* Stream.runHead(Connection.messages(connection))
 *   yield* Effect.log(greeting)
 *   yield* Stream.runForEach(Connection.messages(connection), connection.send)
 * })
 * ```
 *
 * @category streams
 * @since 0.1.0
 */
export const messages = <In, Out>(self: Connection<In, Out>): Stream.Stream<In, Failure> =>
  Stream.fromPull(Effect.succeed(receiveAlone(self.receive)))

/**
 * Every message until the connection ends, then its failure, in batches: all that the inbox holds, and at least one.
 *
 * **When to use**
 *
 * Where a batch costs little more than a message: an echo, a relay, an insert into a database.
 *
 * **Gotchas**
 *
 * A batch is received as a whole. `Stream.flattenArray` makes messages of it, and an early end then loses the rest of a
 * batch; `messages` does not.
 *
 * **Example** (An echo that answers a burst with one write)
 *
 * ```ts
 * import { Stream } from "effect"
 * import { Connection } from "holdfast"
 *
 * const echo = (connection: Connection.Connection<string>) =>
 *   Stream.runForEach(Connection.batches(connection), connection.sendAll)
 * ```
 *
 * @category streams
 * @since 0.1.0
 */
export const batches = <In, Out>(self: Connection<In, Out>): Stream.Stream<NonEmptyReadonlyArray<In>, Failure> =>
  Stream.fromEffectRepeat(self.receiveAll)

/**
 * Sends every element of a stream.
 *
 * **When to use**
 *
 * To end a pipeline in a connection: a feed, a file, what another connection receives.
 *
 * **Details**
 *
 * What the stream gives at a time is sent with one `sendAll`. The stream is asked for more once that is accepted, so a full
 * outbox holds it back (`Policy.overflow`). The sink fails as soon as the connection ends, also while the stream has nothing
 * to give, and with the reason of a message that is refused (`MessageTooLarge`, `OutboxFull`, the codec's).
 *
 * **Gotchas**
 *
 * It ends when everything is accepted, and leaves the connection open: `connection.flush` waits until all is handed to the
 * transport. Of messages that the stream gives together none is sent when one cannot be encoded.
 *
 * **Example** (A feed)
 *
 * ```ts
 * import { Effect, Schedule, Stream } from "effect"
 * import { Connection } from "holdfast"
 *
 * const feed = (connection: Connection.Connection<string>) =>
 *   Stream.fromSchedule(Schedule.spaced("1 second")).pipe(
 *     Stream.map((count) => `tick ${count}`),
 *     Stream.run(Connection.sink(connection))
 *   )
 * ```
 *
 * @category streams
 * @since 0.1.0
 */
export const sink = <In, Out>(self: Connection<In, Out>): Sink.Sink<void, Out, never, Failure> => {
  const sending = Sink.forEachArray(self.sendAll)
  return Sink.fromTransform((upstream, scope) => Effect.raceFirst(sending.transform(upstream, scope), self.closed))
}

/**
 * Both directions at once: sends what goes in, and gives out what is received.
 *
 * **When to use**
 *
 * Where a protocol is written as a transformation of streams (`Stream.pipeThroughChannel`, `Channel.pipeTo`), as with
 * `Socket.toChannel`.
 *
 * **Details**
 *
 * - Input is sent as `sink` does, while output is received as `messages` does: an early end leaves the rest.
 * - The end of the input ends nothing: answers are received until the connection ends, and then the channel fails.
 * - A failure of the input, and of a message that is refused, fails the channel and leaves the connection open.
 * - The end of the channel interrupts the input.
 *
 * **Gotchas**
 *
 * `Channel.pipeTo` does not infer the error of an input that can fail: name it, as in `Connection.channel<In, Out, E>(self)`.
 * `Stream.pipeThroughChannel` does.
 *
 * **Example** (Two questions, two answers)
 *
 * ```ts
 * import { Stream } from "effect"
 * import { Connection } from "holdfast"
 *
 * const ask = (connection: Connection.Connection<string>) =>
 *   Stream.make("who?", "when?").pipe(
 *     Stream.pipeThroughChannel(Connection.channel(connection)),
 *     Stream.take(2),
 *     Stream.runCollect
 *   )
 * ```
 *
 * @category streams
 * @since 0.1.0
 */
export const channel = <In, Out, IE = never>(
  self: Connection<In, Out>
): Channel.Channel<NonEmptyReadonlyArray<In>, Failure | IE, void, NonEmptyReadonlyArray<Out>, IE> =>
  Channel.fromTransform(
    Effect.fnUntraced(function*(upstream: Pull.Pull<NonEmptyReadonlyArray<Out>, IE, unknown>, scope) {
      const failed = Deferred.makeUnsafe<never, Failure | IE>()
      let failure: Exit.Exit<never, Failure | IE> | undefined
      const sending = Effect.flatMap(upstream, self.sendAll).pipe(
        Effect.forever({ disableYield: true }),
        Pull.catchDone(() => Effect.void)
      ) as Effect.Effect<void, Failure | IE>
      yield* spawnIn(scope, "input of a channel", sending, (exit) => {
        // after the end of the connection its receiver is told, once it has what was read before
        if (exit._tag === "Success" || self[TypeId].state !== "open") return
        failure = Exit.failCause(exit.cause)
        Deferred.doneUnsafe(failed, failure)
      }, { startImmediately: true })
      const receiving = Effect.raceFirst(receiveAlone(self.receive), Deferred.await(failed))
      return Effect.suspend(() => failure ?? receiving)
    })
  )
