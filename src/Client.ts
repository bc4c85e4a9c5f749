/**
 * A connection that comes back: it dials, greets, and dials again when its connection ends.
 *
 * For a program that keeps one conversation with a server, whatever the network does. For many requests over several
 * connections see `ConnectionPool`; for one connection that ends for good see `Connection`.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Backoff from "./Backoff.ts"
import type { Connection } from "./Connection.ts"
import type * as ConnectionError from "./ConnectionError.ts"
import { atLeast } from "./internal/arguments/atLeast.ts"
import { weightOf } from "./internal/bytes/sizes.ts"
import { receive } from "./internal/client/receiving.ts"
import { reconnecting } from "./internal/client/reconnecting.ts"
import { remainsOf } from "./internal/client/remains.ts"
import { SendQueue } from "./internal/client/sending.ts"
import { makeCells } from "./internal/client/state.ts"
import { limitOf } from "./internal/connection/core/limits.ts"
import { guarded } from "./internal/endings/defects.ts"
import { isRetryableBy } from "./internal/endings/retry.ts"
import * as Policy from "./Policy.ts"

type Failure = ConnectionError.ConnectionError

/**
 * Where a client stands.
 *
 * - `Connecting`: dialling, or in `onConnect`. `attempt` counts from 1 since the last connection that lived for
 *   `Policy.retryResetAfter`.
 * - `Connected`: `send` and `receive` go to `connection`.
 * - `Waiting`: the last try ended with `error`; the next one, `attempt`, begins in `delay`. That is random to a fraction of a
 *   millisecond: round it to show it.
 * - `Closed`: for good, with the reason `error`.
 *
 * `lost`, of `Waiting` and `Closed`, counts messages that a connection had accepted and not handed to the transport when
 * it ended. `unknown` counts those that were handed to the transport of a connection that ended before any byte of its peer
 * came: a kernel accepts for a server that is full, stopping or not even running behind its proxy, so that on plain TCP, TLS
 * and Unix sockets only a first byte shows that the server was there (`Options.confirm`). Each message is counted in one state.
 *
 * `missed` is there only in `changes`, after as many states that a reader was too slow for (`Options.changes`).
 *
 * @category models
 * @since 0.1.0
 */
export type State<In, Out = In> =
  & (
    | { readonly _tag: "Connecting"; readonly attempt: number }
    | { readonly _tag: "Connected"; readonly connection: Connection<In, Out> }
    | {
      readonly _tag: "Waiting"
      readonly attempt: number
      readonly delay: Duration.Duration
      readonly error: Failure
      readonly lost: number
      readonly unknown: number
    }
    | { readonly _tag: "Closed"; readonly error: Failure; readonly lost: number; readonly unknown: number }
  )
  & { readonly missed?: number | undefined }

/**
 * A connection that comes back. It has the operations of a connection, and outlives each of its connections.
 *
 * **Details**
 *
 * Every message is delivered at most once:
 *
 * - `send` failed: no connection accepted the message, and none will.
 * - `send` waits: no connection has accepted the message yet. When the connection ends first, the next one gets it.
 * - `send` succeeded: one connection accepted the message, and no other will get it. The message was delivered, or is
 *   lost because that connection ended first. `State.lost` counts it if it was not handed to the transport by then; if it
 *   was, only the peer knows, and `State.unknown` counts it where the peer had shown no sign of life at all.
 * - `send` was interrupted: either of the last two. `flush`, and an answer of the peer, tell more than `send` can.
 * - A batch of `sendAll` goes to one connection. When that ends before it took all of the batch, `sendAll` fails with the
 *   reason, and the connection may have accepted the first messages of it.
 * - What a connection read before its end is received once, before anything of the next one. While no fiber receives, the
 *   client keeps as much of ended connections as `Policy.inboxMessages` and `inboxBytes` allow, the newest ones first.
 *
 * @category models
 * @since 0.1.0
 */
export interface Client<out In, in Out = In> {
  /** Where the client stands now. */
  readonly state: Effect.Effect<State<In, Out>>
  /**
   * The current state, then every transition; ends after `Closed`. A slow reader holds `Options.changes` states at the most:
   * then it goes on with the newest one, and is told how many it has `missed`. In place of a connection that has ended since,
   * it gets what is left of it: its id, its last snapshot, its reason.
   */
  readonly changes: Stream.Stream<State<In, Out>>
  /**
   * Gives a message to the connection; success means that the connection accepted it. While there is none, senders wait,
   * first come first served, or fail with `Offline`, as `Policy.whenOffline` says; beyond `Policy.offlineMessages` and
   * `offlineBytes` they fail in any case. It always settles: with success, its own error, or the reason of the close.
   */
  readonly send: (message: Out) => Effect.Effect<void, Failure>
  /**
   * Gives several messages, in order and nothing in between, to one connection. Waits, or is refused, as a whole. An iterable
   * that throws is a `Defect`.
   */
  readonly sendAll: (messages: Iterable<Out>) => Effect.Effect<void, Failure>
  /** Waits until what the present connection has accepted is handed to its transport; fails when that one ends. */
  readonly flush: Effect.Effect<void, Failure>
  /**
   * Takes the next message, and waits for one over any number of reconnects; fails only once the client has closed.
   * Interrupted, it may have taken a message.
   */
  readonly receive: Effect.Effect<In, Failure>
  /** As `receive`, for all messages that one connection has read by now, and at least one. */
  readonly receiveAll: Effect.Effect<NonEmptyReadonlyArray<In>, Failure>
  /**
   * The connection, as soon as there is one; fails once the client has closed.
   *
   * Its `close` and `closeWith` flush and close it as they do any connection, and their reason is judged like every other:
   * `close` ends the client, too (`Closed` by us is not retryable); after `closeWith` of a reason that is retryable the client
   * comes back, by its backoff. For another connection at once see `reconnect`.
   */
  readonly connection: Effect.Effect<Connection<In, Out>, Failure>
  /** Ends the wait for the next try. Nothing happens in any other state. */
  readonly retryNow: Effect.Effect<void>
  /**
   * Dials now, for a connection that is fresh: after a change of network, for new credentials. Returns at once; `send` and
   * `connection` wait for the new one.
   *
   * - `Connected`: the connection gets no more messages, flushes what it has accepted within `Policy.drain`, and ends; the next
   *   try follows without a delay. `changes` tells a `Waiting` of no time between them.
   * - `Connecting`: the try is given up, and begins anew.
   * - `Waiting`: as `retryNow`.
   * - `Closed`: nothing happens.
   */
  readonly reconnect: Effect.Effect<void>
  /** Closes for good: flushes a live connection within its `Policy.drain`, and ends any other state at once. */
  readonly close: Effect.Effect<void>
  /** Never succeeds: fails with the reason once the client has closed. Race against it. */
  readonly closed: Effect.Effect<never, Failure>
}

/**
 * When a client dials again, how it greets, and how much it keeps while there is no connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<In, Out, E = never, R = never> {
  /**
   * A client uses its retry and offline fields, `handshake`, `drain` for a peer that asks us to leave, and the inbox bounds
   * for what ended connections left. Each connection has the limits of `open`: give both the same policy, and one document
   * describes the whole client.
   */
  readonly policy?: Policy.Patch | undefined
  /** When to try again, in place of the delays of the policy. The client closes once the schedule stops or fails. */
  readonly reconnect?: Schedule.Schedule<unknown, Failure, unknown> | undefined
  /**
   * Which errors are worth another try. Default: what `giveUpOn` and `retryOn` of the policy say, else
   * `error.isRetryable`. A `Defect` never is.
   */
  readonly isRetryable?: ((error: Failure) => boolean) | undefined
  /**
   * Runs on every new connection before any other fiber may send: authenticate, subscribe again. It may take
   * `Policy.handshake`. Its failure ends that connection, with `HandshakeFailed` unless it is a `ConnectionError`.
   *
   * Use the connection that it is given. The client itself has none yet: what would wait for one here (`send`, `receive`,
   * `connection`), also in a fiber that `onConnect` forked and while it runs, fails at once with `Offline`, and a sentence that
   * says so.
   */
  readonly onConnect?: ((connection: Connection<In, Out>) => Effect.Effect<unknown, E, R>) | undefined
  /**
   * When a connection counts as `Connected`: once it is open and `onConnect` is done (`"open"`, the default), or, with
   * `"first-byte"`, once the first byte of the server has come as well.
   *
   * **When to use**
   *
   * On TCP, TLS and Unix sockets, where the kernel accepts for a server that is full, stopping or hung. A WebSocket and the
   * native protocol have a first word of the server, so that there it changes nothing.
   *
   * **Details**
   *
   * Until the byte has come, senders wait as they do for any connection, and what comes is received later. Should the connection
   * end first, nothing was sent but the greeting of `onConnect`, and the next address is tried. It all has to happen within
   * `Policy.handshake`. A server that speaks only when it is spoken to needs a first word of ours: whatever `onConnect`
   * sends, or the ping that a connection with a heartbeat sends here at once. Without either, the client would wait for a
   * server that waits for it, and fails with `HandshakeTimeout`.
   */
  readonly confirm?: "open" | "first-byte" | undefined
  /** How many states a reader of `changes` that does not keep up may hold. Default 64. */
  readonly changes?: number | undefined
  /**
   * Size of a message in bytes, for `Policy.offlineBytes`. Default: that of a text or of bytes, else that of the message as
   * JSON. When it throws, or returns no size, that `send` fails with `Defect`.
   */
  readonly sizeOf?: ((message: Out) => number) | undefined
}

const backoffOf = (policy: Policy.Policy) => {
  // a policy is checked field by field; the two are brought together here
  const cap = Math.max(1, limitOf(policy, "retryCap"))
  return Backoff.exponential({
    base: Math.max(1, Math.min(limitOf(policy, "retryBase"), cap)),
    factor: policy.retryFactor,
    cap,
    jitter: policy.retryJitter,
    attempts: limitOf(policy, "retryAttempts"),
    elapsed: limitOf(policy, "retryElapsed"),
    resetAfter: policy.retryResetAfter,
    maxAdvice: policy.retryMaxAdvice
  })
}

/**
 * Keeps a connection alive, owned by the scope.
 *
 * **Details**
 *
 * `open` is any effect that makes a connection out of a fresh socket. Several are the addresses of one server: a round
 * tries one after the other, and one backoff delay follows the round; an address whose connection did not last is the last
 * one of the next round. The client starts to dial at once.
 *
 * - An error that is not retryable closes the client; so does a schedule that ends. A throw in `open`, `onConnect`,
 *   `reconnect` or `isRetryable` closes it with `Defect`. A connection closed on our side (`connection.close`) is `Closed`
 *   by us: not retryable.
 * - The backoff starts over after a connection that lived for `Policy.retryResetAfter`, never because one opened.
 * - `Policy.open` of the client counts from the beginning of a try until the transport is open, whatever `open` does before it
 *   dials (fetch a token, look up a name); what `open` does afterwards, such as a greeting, has `Policy.handshake`.
 * - The first sign of an end counts: a FIN, a reset, a missed pong. Two signs of one death are one reconnect, because one
 *   fiber dials, and follows one connection after the other.
 * - A scope that closes with success flushes like `close`; with a failure or an interruption the connection ends at once.
 *
 * **Gotchas**
 *
 * When a schedule of your own fails or stops, `closed` reports the error of the connection, not of the schedule.
 *
 * **Example** (A client that comes back)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Client, Codec, Connection, Heartbeat } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const chat = Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") })
 * // a URL that makes no sense is a mistake in the program
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tls://chat.example:7001")), chat)
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* Client.make(open, { onConnect: (connection) => connection.send("subscribe news") })
 *   yield* client.send("hello")
 *   return yield* client.receive
 * })
 * ```
 *
 * **Example** (A text protocol that says "do not come back")
 *
 * A WebSocket closes with a code, and the native protocol with a flag: a client that is superseded, refused or at fault does
 * not dial again. A plain stream has a FIN, which says nothing, so its protocol needs a last word: the server's `farewell`, and
 * an `End` of the client's heartbeat. Without one, two clients with one key supersede each other for ever.
 *
 * ```ts
 * import { Codec, Connection, ConnectionError, Heartbeat } from "holdfast"
 *
 * const final = new Set(["Superseded", "DuplicateKey", "HandshakeFailed", "ProtocolViolation", "InvalidMessage"])
 *
 * const chat = Connection.make<string, string>({
 *   codec: Codec.lines(),
 *   farewell: ({ _tag }) => (final.has(_tag) ? `bye ${_tag}` : undefined),
 *   heartbeat: Heartbeat.make({
 *     ping: () => "ping",
 *     read: (line: string) => {
 *       if (line === "ping") return { _tag: "Ping", answer: "pong" }
 *       if (line === "pong") return { _tag: "Pong", token: undefined }
 *       if (!line.startsWith("bye ")) return undefined
 *       return {
 *         _tag: "End",
 *         reason: new ConnectionError.Closed({ by: "peer", retryable: false, note: line.slice(4) })
 *       }
 *     }
 *   })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*<In, Out, R = never, E = never, RC = never>(
  open:
    | Effect.Effect<Connection<In, Out>, Failure, R>
    | NonEmptyReadonlyArray<Effect.Effect<Connection<In, Out>, Failure, R>>,
  options?: Options<In, Out, E, RC>
): Effect.fn.Return<Client<In, Out>, never, Exclude<R | RC, Scope.Scope> | Scope.Scope> {
  const policy = Policy.make(options?.policy)
  const cells = yield* makeCells<Connection<In, Out>>(atLeast(0, "changes", options?.changes ?? 64), remainsOf)
  const { close, closed } = yield* reconnecting(cells, {
    policy,
    confirms: options?.confirm === "first-byte",
    opens: (Effect.isEffect(open) ? [open] : open) as ReadonlyArray<
      Effect.Effect<Connection<In, Out>, Failure, R | RC>
    >,
    onConnect: options?.onConnect,
    reconnect: options?.reconnect ?? backoffOf(policy),
    isRetryable: options?.isRetryable ?? isRetryableBy(policy)
  })
  const queue = new SendQueue<Out>(cells, policy, options?.sizeOf ?? weightOf)
  return {
    state: Effect.sync(() => cells.state),
    changes: cells.changes,
    send: (message) => queue.send([message]),
    sendAll: (messages) => Effect.flatMap(guarded("sendAll", () => [...messages]), (all) => queue.send(all)),
    flush: Effect.suspend(() => {
      const { connected, end } = cells
      return connected !== undefined ? connected.flush : end === undefined ? Effect.void : Effect.fail(end)
    }),
    receive: receive(cells, (connection) => connection.receive),
    receiveAll: receive(cells, (connection) => connection.receiveAll),
    connection: cells.awaiting(() => cells.current),
    retryNow: Effect.sync(() => cells.retry?.()),
    reconnect: Effect.suspend(() => cells.end === undefined ? cells.renew : Effect.void),
    close,
    closed
  }
})

/**
 * Provides a client as a service, so that it composes into an application.
 *
 * **Example** (A client as a service, in a browser)
 *
 * ```ts
 * import { Context, Effect } from "effect"
 * import { Socket } from "effect/socket"
 * import { Client, Codec, Connection } from "holdfast"
 *
 * const open = Socket.makeWebSocket("wss://chat.example/live").pipe(
 *   Effect.provide(Socket.layerWebSocketConstructorGlobal),
 *   Effect.flatMap(Connection.make({ codec: Codec.lines(), transport: "messages" }))
 * )
 *
 * class Chat extends Context.Service<Chat, Client.Client<string>>()("app/Chat") {
 *   static readonly layer = Client.layer(Chat, open)
 * }
 *
 * const program = Chat.use((chat) => chat.send("hello")).pipe(Effect.provide(Chat.layer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <I, In, Out, R = never, E = never, RC = never>(
  service: Context.Key<I, Client<In, Out>>,
  open:
    | Effect.Effect<Connection<In, Out>, Failure, R>
    | NonEmptyReadonlyArray<Effect.Effect<Connection<In, Out>, Failure, R>>,
  options?: Options<In, Out, E, RC>
): Layer.Layer<I, never, Exclude<R | RC, Scope.Scope>> => Layer.effect(service, make(open, options))
