/**
 * A connection that outlives its transports.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Backoff from "./Backoff.ts"
import type { Connection } from "./Connection.ts"
import * as ConnectionError from "./ConnectionError.ts"
import { sizeOf } from "./internal/bytes/sizes.ts"
import { condemn, errorNow, errorOf, guarded } from "./internal/reasons/defects.ts"
import { Signal } from "./internal/scheduling/signal.ts"
import { restarted, spawnIn } from "./internal/scheduling/supervised.ts"
import { turnsOf } from "./internal/scheduling/turns.ts"
import * as Policy from "./Policy.ts"

type Failure = ConnectionError.ConnectionError

/**
 * Where a client stands.
 *
 * - `Connecting`: dialling, or in `onConnect`. `attempt` counts from 1 since the last stable stretch.
 * - `Connected`: `send` and `receive` go to this connection.
 * - `Waiting`: `error` ended the last try, and `attempt`, the next one, begins in `delay`.
 * - `Closed`: for good, with the reason.
 *
 * `lost` counts messages that a connection had accepted and not handed to the transport when it ended. Each is told once.
 *
 * @category models
 * @since 0.1.0
 */
export type State<In, Out = In> =
  | { readonly _tag: "Connecting"; readonly attempt: number }
  | { readonly _tag: "Connected"; readonly connection: Connection<In, Out> }
  | {
    readonly _tag: "Waiting"
    readonly attempt: number
    readonly delay: Duration.Duration
    readonly error: Failure
    readonly lost: number
  }
  | { readonly _tag: "Closed"; readonly error: Failure; readonly lost: number }

/**
 * A connection that outlives its transports.
 *
 * **Details**
 *
 * Everything is at most once, and this is what becomes of a message:
 *
 * - `send` failed: no connection accepted the message, and none will.
 * - `send` waits: no connection has accepted the message yet. When one ends before it did, the next one is asked.
 * - `send` succeeded: one connection accepted the message, and no other will get it. It was delivered, or it is lost when
 *   that connection ended first. What had not been handed to the transport by then is counted as `lost` in the next
 *   state; of what had been, only the peer knows.
 * - `send` was interrupted: either of the last two. `flush`, and an answer of the peer, tell more than `send` can.
 * - A batch of `sendAll` goes to one connection. When that ends before it took all of the batch, `sendAll` fails with the
 *   reason, and the connection may have accepted the first messages of it.
 * - What was read before a connection ended is received once, before anything of the next one. While nobody receives, as
 *   much is kept of ended connections as `Policy.inboxMessages` and `inboxBytes` say; of older ones nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Client<out In, in Out = In> {
  readonly state: Effect.Effect<State<In, Out>>
  /** The current state, then every transition, none lost however slow the reader; ends after `Closed`. */
  readonly changes: Stream.Stream<State<In, Out>>
  /**
   * Gives a message to the connection. While there is none it waits its turn, first come first served, or fails with
   * `Offline`, as `Policy.whenOffline` says. It always settles: with success, its own error, or the reason of the close.
   */
  readonly send: (message: Out) => Effect.Effect<void, Failure>
  /** Gives several messages, in order and nothing in between, to one connection. Waits, or is refused, as a whole. */
  readonly sendAll: (messages: Iterable<Out>) => Effect.Effect<void, Failure>
  /** Waits until what the present connection has accepted is handed to its transport; fails when that one ends. */
  readonly flush: Effect.Effect<void, Failure>
  /**
   * Takes the next message, of whichever connection there is; fails only once the client has closed. Interrupted, it may
   * have taken one.
   */
  readonly receive: Effect.Effect<In, Failure>
  readonly receiveAll: Effect.Effect<NonEmptyReadonlyArray<In>, Failure>
  /** The connection, as soon as there is one; fails once the client has closed. */
  readonly connection: Effect.Effect<Connection<In, Out>, Failure>
  /** Ends the wait for the next try. Nothing happens in any other state. */
  readonly retryNow: Effect.Effect<void>
  /** Closes for good: flushes a live connection within its drain, and ends any other state at once. */
  readonly close: Effect.Effect<void>
  /** Never succeeds: fails with the reason once the client has closed. */
  readonly closed: Effect.Effect<never, Failure>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options<In, Out, E = never, R = never> {
  /**
   * Its retry and offline fields, `handshake`, and the inbox bounds for what ended connections left. The limits of each
   * connection are those of `open`: give both the same policy, and one document describes the whole client.
   */
  readonly policy?: Policy.Policy | Policy.Patch | undefined
  /** When to try again; replaces the retry fields of the policy. The client closes once it stops or fails. */
  readonly reconnect?: Schedule.Schedule<unknown, Failure, unknown> | undefined
  /** Which errors are worth another try. Default: `error.isRetryable`. */
  readonly isRetryable?: ((error: Failure) => boolean) | undefined
  /**
   * Runs on every new connection before anybody else may send: authenticate, subscribe again. It has `Policy.handshake`;
   * its failure ends that connection, with `HandshakeFailed` unless it is a `ConnectionError`.
   */
  readonly onConnect?: ((connection: Connection<In, Out>) => Effect.Effect<unknown, E, R>) | undefined
  /**
   * Size of a message in bytes while it waits for a connection. Default: of text and bytes their own, else of JSON. Where
   * it throws, that `send` fails with `Defect`.
   */
  readonly sizeOf?: ((message: Out) => number) | undefined
}

const sizeOfMessage = (message: unknown): number => {
  if (message instanceof Uint8Array || typeof message === "string") return sizeOf(message)
  try {
    return sizeOf(JSON.stringify(message) ?? "")
  } catch {
    // not a JSON value: counted, if not weighed
    return 1
  }
}

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** What a connection that is wrapped may throw is an error of its caller; a failure goes to `onFailure`. */
const orDefect = <A, In, Out>(
  by: string,
  connection: Connection<In, Out>,
  effect: Effect.Effect<A, Failure>,
  onFailure: (error: Failure) => Effect.Effect<A, Failure>
): Effect.Effect<A, Failure> =>
  Effect.catchCause(effect, (cause) => {
    const failed = cause.reasons.find(Cause.isFailReason)
    if (failed !== undefined) return onFailure(failed.error)
    return Cause.hasDies(cause) ? Effect.flatMap(errorOf(by, cause, connection), Effect.fail) : Effect.failCause(cause)
  })

const localClose = () => ConnectionError.make(new ConnectionError.Closed({ by: "local" }))

const failedHandshake = (cause: unknown) => ConnectionError.make(new ConnectionError.HandshakeFailed({ cause }))

/** Why a session is over. */
const failureOf = (by: string, cause: Cause.Cause<Failure>): Effect.Effect<Failure> =>
  Cause.hasInterruptsOnly(cause) ? Effect.succeed(failedHandshake(Cause.squash(cause))) : errorOf(by, cause)

const greet = <In, Out, E, R>(
  connection: Connection<In, Out>,
  onConnect: Options<In, Out, E, R>["onConnect"],
  handshake: number
): Effect.Effect<unknown, Failure, R> =>
  onConnect === undefined ? Effect.void : onConnect(connection).pipe(
    handshake === Infinity ? (self) => self : Effect.timeoutOrElse({
      duration: handshake,
      orElse: () => Effect.fail(ConnectionError.make(new ConnectionError.HandshakeTimeout({ limit: handshake })))
    }),
    Effect.mapError((cause) => cause instanceof ConnectionError.ConnectionError ? cause : failedHandshake(cause))
  )

/** A peer that asks us to leave takes no more: what it still answers is received, then we go if it does not. */
const hangUp = <In, Out>(
  connection: Connection<In, Out>,
  drain: Duration.Duration,
  onLeave: () => void
): Effect.Effect<never> =>
  connection.leaving.pipe(
    Effect.andThen(Effect.suspend(() => {
      onLeave()
      return Effect.sleep(drain)
    })),
    Effect.andThen(Effect.suspend(() => connection.closeWith(new ConnectionError.GoingAway({})))),
    Effect.catchCauseIf(Cause.hasDies, (cause) =>
      Effect.flatMap(errorOf("leaving", cause, connection), ({ reason }) => connection.closeWith(reason))),
    // its end is that of the session
    Effect.andThen(Effect.never)
  )

/** What ended connections left to be received is bounded as an inbox is; the oldest goes first. */
const kept = Effect.fnUntraced(function*<In, Out>(sources: ReadonlyArray<Connection<In, Out>>, policy: Policy.Policy) {
  const kept: Array<Connection<In, Out>> = []
  let messages = 0
  let bytes = 0
  for (const connection of sources.toReversed()) {
    const { inbox } = yield* connection.snapshot
    if (inbox.messages === 0) continue
    messages += inbox.messages
    bytes += inbox.bytes
    if (kept.length > 0 && (messages > policy.inboxMessages || bytes > policy.inboxBytes)) break
    kept.unshift(connection)
  }
  return kept
})

/** In a policy, 0 turns a limit off. */
const limitOf = (limit: Duration.Duration): Duration.Duration => Duration.isZero(limit) ? Duration.infinity : limit

const backoffOf = (policy: Policy.Policy) => {
  // a policy is checked field by field; the two are brought together here
  const cap = limitOf(policy.retryCap)
  const least = Duration.millis(1)
  return Backoff.exponential({
    base: Duration.max(least, Duration.min(policy.retryBase, cap)),
    factor: policy.retryFactor,
    cap: Duration.max(least, cap),
    jitter: policy.retryJitter,
    attempts: policy.retryAttempts === 0 ? Infinity : policy.retryAttempts,
    elapsed: limitOf(policy.retryElapsed),
    resetAfter: policy.retryResetAfter,
    maxAdvice: policy.retryMaxAdvice
  })
}

/**
 * Keeps a connection alive, owned by the scope.
 *
 * **Details**
 *
 * `open` is any effect that makes a connection out of a fresh socket. Given several, a round tries each in turn, and one
 * backoff delay follows the round; a connection that did not last is the last to be tried again. The client starts to
 * dial at once.
 *
 * - An error that is not retryable closes the client; so does a schedule that ends. What throws in `open`, `onConnect`,
 *   `reconnect` or `isRetryable` closes it with `Defect`, whatever `isRetryable` says. A connection that is closed on our
 *   side (`connection.close`) is `Closed` by us: not retryable.
 * - The backoff starts over after a stable stretch, never because a connection opened.
 * - The first sign of an end counts: a FIN, a reset, a missed pong. Two signs of one death are one reconnect, because one
 *   fiber does all of it, one connection after the other.
 * - A scope that closes with success flushes like `close`; with anything else the connection ends at once.
 *
 * **Gotchas**
 *
 * With a schedule of your own that fails or stops, `closed` reports the connection's error, not the schedule's.
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
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*<In, Out, R = never, E = never, RC = never>(
  open:
    | Effect.Effect<Connection<In, Out>, Failure, R>
    | NonEmptyReadonlyArray<Effect.Effect<Connection<In, Out>, Failure, R>>,
  options?: Options<In, Out, E, RC>
): Effect.fn.Return<Client<In, Out>, never, Exclude<R | RC, Scope.Scope> | Scope.Scope> {
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  const turns = turnsOf(yield* Scheduler.Scheduler)
  const policy = Policy.make(options?.policy)
  const reconnect = options?.reconnect ?? backoffOf(policy)
  const handshake = Duration.toMillis(limitOf(policy.handshake))
  const isRetryable = options?.isRetryable ?? ((error: Failure) => error.isRetryable)
  const sizeOf = options?.sizeOf ?? sizeOfMessage
  const opens = (Effect.isEffect(open) ? [open] : open) as ReadonlyArray<
    Effect.Effect<Connection<In, Out>, Failure, Scope.Scope>
  >
  const states = yield* PubSub.unbounded<State<In, Out>>({ replay: 1 })

  // owned by the loop below and by synchronous code
  let state: State<In, Out>
  // opens with the next state, and is replaced: whoever has looked cannot miss it
  let changed = new Signal(turns, false)
  // the connection in use, until its end
  let connected: Connection<In, Out> | undefined
  // the same, until the first sign of its end
  let current: Connection<In, Out> | undefined
  // accepted messages that no state has told to be lost
  let lost = 0
  // ends the wait for the next try
  let retry: (() => void) | undefined
  let closing = false
  let end: Failure | undefined
  // what is at fault when the loop dies now
  let doing = "reconnect"
  // connections that may still have something to receive, oldest first: a reconnect loses nothing that was read
  let sources: Array<Connection<In, Out>> = []

  const now = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000

  /** The last thing that synchronous code does: readers of `changes` run in the middle of it. */
  const publish = (next: State<In, Out>): void => {
    state = next
    const woken = changed
    changed = new Signal(turns, false)
    woken.open()
    PubSub.publishUnsafe(states, next)
  }
  publish({ _tag: "Connecting", attempt: 1 })

  const takeLost = (): number => {
    const taken = lost
    lost = 0
    return taken
  }

  const finish = (error: Failure): void => {
    end = error
    publish({ _tag: "Closed", error, lost: takeLost() })
  }

  /** Waits until `look` finds what it looks for, or the client has closed. */
  const awaiting = <A>(look: () => A | undefined): Effect.Effect<A, Failure> =>
    Effect.suspend(() => {
      const found = look()
      if (found !== undefined) return Effect.succeed(found)
      return end !== undefined ? Effect.fail(end) : Effect.andThen(changed.await, awaiting(look))
    })

  // ---- one session after the other ----------------------------------------------------------------------------------

  const leave = (connection: Connection<In, Out>) => () => {
    if (current === connection) current = undefined
  }

  /** From dialling to the end of a connection, if there was one: why it ended, and how long it was in use. */
  const session = (dial: Effect.Effect<Connection<In, Out>, Failure, Scope.Scope>) =>
    Effect.suspend(() => {
      let opened: Connection<In, Out> | undefined
      let connectedAt: number | undefined
      doing = "open"
      return Effect.gen(function*() {
        const connection = yield* dial
        opened = connection
        doing = "onConnect"
        yield* greet(connection, options?.onConnect, handshake)
        doing = "ending"
        connectedAt = now()
        connected = connection
        current = connection
        sources.push(connection)
        publish({ _tag: "Connected", connection })
        yield* restarted("the leaving of a client", hangUp(connection, policy.drain, leave(connection)))
        return yield* Effect.catch(connection.ending, (ending) => {
          current = undefined
          // enough to dial again; but a close of our own is let to flush
          return Effect.flatMap(connection.snapshot, (snapshot) =>
            snapshot.state === "closing" ? connection.closed : Effect.fail(ending))
        })
      }).pipe(
        // while the scope is open: the connection ends with that reason, too
        Effect.catchCauseIf(Cause.hasDies, (cause) =>
          Effect.flatMap(errorOf(doing, cause, opened), (error) =>
            Effect.andThen(opened === undefined ? Effect.void : condemn(opened, error), Effect.fail(error)))),
        Effect.scoped,
        Effect.sandbox,
        Effect.flip,
        Effect.flatMap((cause) =>
          failureOf(doing, cause)
        ),
        Effect.ensuring(Effect.suspend(() => {
          connected = undefined
          current = undefined
          return opened === undefined ? Effect.void : Effect.map(opened.snapshot, (snapshot) => {
            lost += snapshot.lost
          })
        })),
        Effect.map((error) => ({ error, livedFor: connectedAt === undefined ? undefined : now() - connectedAt }))
      )
    })

  /** Ends with the reason to close. */
  const loop = Effect.gen(function*() {
    const step = yield* Schedule.toStep(reconnect)
    const stable = Duration.toMillis(policy.retryResetAfter)
    let attempt = 1
    let index = 0
    // addresses of this round that were not tried
    let left = opens.length
    while (true) {
      const { error, livedFor } = yield* session(opens[index]!)
      sources = yield* kept(sources, policy)
      doing = "isRetryable"
      if (closing || error.reason._tag === "Defect" || !isRetryable(error)) return error
      const isStable = livedFor !== undefined && livedFor >= stable
      index = isStable ? 0 : (index + 1) % opens.length
      left--
      if (livedFor === undefined && left > 0) continue
      doing = "reconnect"
      const next = yield* Effect.option(step(clock.currentTimeMillisUnsafe(), error))
      if (next._tag === "None") return error
      const delay = next.value[1]
      attempt = isStable ? 1 : attempt + 1
      left = opens.length
      const asked = Deferred.makeUnsafe<void>()
      retry = () => Deferred.doneUnsafe(asked, Exit.void)
      publish({ _tag: "Waiting", attempt, delay, error, lost: takeLost() })
      // whole milliseconds: a rest too short for the clock to tell would come at once
      yield* Effect.raceFirst(Effect.sleep(Math.ceil(Duration.toMillis(delay))), Deferred.await(asked))
      retry = undefined
      publish({ _tag: "Connecting", attempt })
    }
  })

  const scope = yield* Effect.scope
  // however it ends, even before it began: no sender and no receiver is left waiting
  const fiber = yield* spawnIn(scope, "client", loop, (exit) => {
    const error = Exit.isSuccess(exit) ? exit.value : errorNow(context, doing, exit.cause)
    finish(closing || Exit.hasInterrupts(exit) ? localClose() : error)
  }, { startImmediately: true })

  const closed = awaiting<never>(() => undefined)
  const awaitEnd = Effect.ignore(closed)
  const abort = Effect.suspend(() => {
    closing = true
    fiber.interruptUnsafe()
    return awaitEnd
  })
  const close = Effect.suspend(() => {
    closing = true
    return connected === undefined ? abort : Effect.andThen(connected.close, abort)
  })
  yield* Scope.addFinalizerExit(scope, (exit) => Exit.isSuccess(exit) ? close : abort)

  // ---- sending ------------------------------------------------------------------------------------------------------

  // one sender at a time gives its messages to a connection; the others stand in line behind it
  const turn = yield* Semaphore.make(1)
  const line = { messages: 0, bytes: 0 }

  const offline = () => ConnectionError.make(new ConnectionError.Offline({ ...line }))

  const online: Effect.Effect<Connection<In, Out>, Failure> = policy.whenOffline === "wait"
    ? awaiting(() => current)
    : Effect.suspend(() => current !== undefined ? Effect.succeed(current) : Effect.fail(end ?? offline()))

  interface Entry {
    readonly messages: ReadonlyArray<Out>
    bytes: number
  }

  const weigh = (messages: ReadonlyArray<Out>): number => {
    let bytes = 0
    for (const message of messages) bytes += sizeOf(message)
    return bytes
  }

  const deliver = (entry: Entry): Effect.Effect<void, Failure> =>
    Effect.flatMap(online, (connection) => {
      const { messages } = entry
      const sent = Effect.suspend(() =>
        messages.length === 1 ? connection.send(messages[0]!) : connection.sendAll(messages)
      )
      return orDefect("send", connection, sent, (error) =>
        Effect.flatMap(connection.snapshot, ({ reason }) => {
          // what one connection did not accept because it ended, the next one may. A batch may be accepted in part
          if (reason !== error.reason || messages.length > 1) return Effect.fail(error)
          if (current === connection) current = undefined
          return Effect.flatMap(guarded("sizeOf", () => weigh(messages)), (bytes) => {
            line.bytes += bytes - entry.bytes
            entry.bytes = bytes
            return deliver(entry)
          })
        }))
    })

  /** Stands in line. Counted and uncounted whatever comes in between: only `restore` can be interrupted. */
  const enter = (entry: Entry, restore: Restore): Effect.Effect<void, Failure> => {
    const { bytes, messages } = entry
    const isOver = line.messages + messages.length > policy.offlineMessages ||
      line.bytes + bytes > policy.offlineBytes
    if (current === undefined && (policy.whenOffline === "fail" || isOver)) return Effect.fail(offline())
    line.messages += messages.length
    line.bytes += bytes
    return Effect.ensuring(
      restore(turn.withPermit(deliver(entry))),
      Effect.sync(() => {
        line.messages -= messages.length
        line.bytes -= entry.bytes
      })
    )
  }

  const send = (messages: ReadonlyArray<Out>): Effect.Effect<void, Failure> =>
    Effect.uninterruptibleMask((restore) => {
      if (end !== undefined) return Effect.fail(end)
      if (messages.length === 0) return Effect.void
      // one that is alone with a connection is weighed when that ends
      if (current !== undefined && line.messages === 0) return enter({ messages, bytes: 0 }, restore)
      return Effect.flatMap(guarded("sizeOf", () => weigh(messages)), (bytes) => enter({ messages, bytes }, restore))
    })

  // ---- receiving ----------------------------------------------------------------------------------------------------

  const received = <A>(
    take: (connection: Connection<In, Out>) => Effect.Effect<A, Failure>
  ): Effect.Effect<A, Failure> =>
    Effect.flatMap(
      awaiting(() => sources[0]),
      (connection) =>
        orDefect("receive", connection, Effect.suspend(() => take(connection)), () => {
          sources = sources.filter((source) => source !== connection)
          return received(take)
        })
    )

  return {
    state: Effect.sync(() => state),
    changes: Stream.takeUntil(Stream.fromPubSub(states), (state) => state._tag === "Closed"),
    send: (message) => send([message]),
    sendAll: (messages) => Effect.suspend(() => send(Array.from(messages))),
    flush: Effect.suspend(() =>
      connected !== undefined ? connected.flush : end === undefined ? Effect.void : Effect.fail(end)
    ),
    receive: received((connection) => connection.receive),
    receiveAll: received((connection) => connection.receiveAll),
    connection: awaiting(() => current),
    retryNow: Effect.sync(() => retry?.()),
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
