/**
 * One live conversation with one peer, owned by a scope.
 *
 * Four fibers make a connection: one reads, one writes, one pings, one watches the deadlines. They run as a race: the
 * first to end decides why the connection ended, and the others are interrupted before anything is released.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import * as Codec from "./Codec.ts"
import * as ConnectionError from "./ConnectionError.ts"
import type { Heartbeat } from "./Heartbeat.ts"
import { Deadlines, type Limits, limitsOf } from "./internal/deadlines.ts"
import { Inbox } from "./internal/inbox.ts"
import { type Frame, Outbox, sizeOf } from "./internal/outbox.ts"
import type { Packer } from "./internal/packer.ts"
import { pause } from "./internal/pause.ts"
import { Pings } from "./internal/pings.ts"
import { transportOf } from "./internal/transport.ts"
import { turnsOf } from "./internal/turns.ts"
import * as Policy from "./Policy.ts"

export {
  /**
   * Adds what is known of a transport (message boundaries, addresses, unsent bytes) to its socket.
   *
   * **When to use**
   *
   * When you make sockets yourself. Those of `holdfast/node` are described already, and a socket that nobody described
   * is a byte stream without addresses.
   *
   * @category transport
   * @since 0.1.0
   */
  describe
} from "./internal/transport.ts"
export type { Transport } from "./internal/transport.ts"

type Failure = ConnectionError.ConnectionError

/**
 * What a connection looks like at one moment. Times are milliseconds of the `Clock`, sizes are bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly id: number
  /** `open`; `draining`: nothing more is received, replies still leave; `closing`: flushing; `ended`. */
  readonly state: "open" | "draining" | "closing" | "ended"
  readonly local: string | undefined
  readonly remote: string | undefined
  readonly openedAt: number
  /** How long the connection has lived, or lived. */
  readonly age: number
  /** How long ago the peer was last heard. */
  readonly quietFor: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly messagesIn: number
  readonly messagesOut: number
  /** Messages (and their bytes) read, and not received yet. */
  readonly inbox: { readonly messages: number; readonly bytes: number }
  /** Messages (and their bytes) accepted, and not written yet. */
  readonly outbox: { readonly messages: number; readonly bytes: number }
  /** Messages dropped by `overflow`. */
  readonly dropped: number
  /** Over-long frames that the codec was told to skip. */
  readonly skipped: number
  /** Accepted messages that had not been handed to the transport when the connection ended. */
  readonly lost: number
  /** Whether we have stopped reading because nobody receives. */
  readonly paused: boolean
  /** Round-trip times of pings, in milliseconds; `smoothed` as in RFC 6298 (one eighth of each new one). */
  readonly rtt: { readonly last: number; readonly smoothed: number } | undefined
  /** Why the connection ended, or is ending. */
  readonly reason: ConnectionError.Reason | undefined
}

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
   * that cannot be encoded, and with `MessageTooLarge` or `OutboxFull`; the connection survives those.
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
  readonly offerFrame: (frame: Frame) => Effect.Effect<boolean>
}

/**
 * Turns messages into frames. Connections of one `make` over one kind of transport share theirs, so that a broadcast
 * encodes once for all of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Wire<in Out> {
  readonly encode: (message: Out) => Result.Result<Frame, ConnectionError.CodecReason>
}

/**
 * What makes a connection out of a socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in out In, in out Out> {
  readonly codec: Codec.Codec<In, Out>
  /** How to ping, and what a pong looks like. Without one, only `silence` and TCP keep-alive notice a dead peer. */
  readonly heartbeat?: Heartbeat<In, Out> | undefined
  /** A policy, or the fields that differ from `Policy.defaults`. A field that makes no sense throws `InvalidPolicy`. */
  readonly policy?: Policy.Policy | Policy.Patch | undefined
  /**
   * Told to the peer when it is asked to leave: a message, or one made for the reason. A fixed one that the codec cannot
   * encode throws its `ConnectionError`.
   */
  readonly goodbye?: Out | ((reason: ConnectionError.Reason) => Out) | undefined
  /** Told to the peer last, when we end the conversation for this reason; `undefined` says nothing. */
  readonly farewell?: ((reason: ConnectionError.Reason) => Out | undefined) | undefined
  /**
   * `messages`: each transport message is one frame, and the framing half of the codec is left out. Default: what the
   * socket is described as, or `messages` where Effect's WebSocket server provides its `WebSocket`, else `stream`.
   *
   * **Gotchas**
   *
   * Effect's own WebSocket client sockets do not say what they are: name it for them.
   */
  readonly transport?: "stream" | "messages" | undefined
}

let nextId = 0

/**
 * The next id, for what is shown beside connections without being made here (HTTP).
 *
 * @internal
 */
export const takeId = (): number => ++nextId

// how often closing looks whether the peer has taken the rest
const takenPoll = Duration.millis(20)

const localClose = new ConnectionError.Closed({ by: "local" })

const utf8 = new TextEncoder()

/** Cuts a text to the 123 bytes that a close frame can carry, between two characters. */
const closeNote = (text: string): string => text.slice(0, utf8.encodeInto(text, new Uint8Array(123)).read)

/** RFC 6455, 7.4.1. */
const closeEvent = (reason: ConnectionError.Reason): Socket.CloseEvent => {
  const note = reason._tag === "Closed" ? undefined : closeNote(reason.message)
  switch (reason._tag) {
    case "Closed":
      return reason.code === failed ? new Socket.CloseEvent(failed) : new Socket.CloseEvent(1000)
    case "FrameTooLong":
      return new Socket.CloseEvent(1009, note)
    case "InvalidLength":
    case "InvalidMessage":
    case "Truncated":
      return new Socket.CloseEvent(1007, note)
    case "Refused":
      return new Socket.CloseEvent(1013, note)
    case "GoingAway":
    case "MaxAge":
    case "IdleTimeout":
    case "Swept":
    case "SilenceTimeout":
    case "PongTimeout":
    case "WriteStalled":
      return new Socket.CloseEvent(1001, note)
    default:
      return new Socket.CloseEvent(1008, note)
  }
}

// WebSocket's close code for an end that met something unexpected (RFC 6455, 7.4.1)
const failed = 1011

/** What `make` computes once, for all connections of the same options. */
interface Shared<In, Out> {
  readonly options: Options<In, Out>
  readonly policy: Policy.Policy
  readonly limits: Limits
  readonly stream: Way<Out>
  readonly messages: Way<Out>
}

/** What depends on whether the transport keeps messages apart. */
interface Way<in Out> {
  readonly wire: Wire<Out>
  readonly packer: Packer<Out> | undefined
  readonly goodbye: (reason: ConnectionError.Reason) => Frame | undefined
}

const share = <In, Out>(options: Options<In, Out>): Shared<In, Out> => {
  const policy = Policy.make(options.policy)
  const way = (transport: "stream" | "messages"): Way<Out> => {
    const wire: Wire<Out> = { encode: Codec.encoder(options.codec, { maxFrame: policy.maxFrame, transport }) }
    const packer = transport === "stream" ? Codec.packer(options.codec, { maxFrame: policy.maxFrame }) : undefined
    const { goodbye } = options
    if (goodbye === undefined) return { wire, packer, goodbye: () => undefined }
    if (typeof goodbye === "function") {
      const encode = (reason: ConnectionError.Reason) =>
        wire.encode((goodbye as (reason: ConnectionError.Reason) => Out)(reason))
      return { wire, packer, goodbye: (reason) => Result.getOrUndefined(encode(reason)) }
    }
    const encoded = wire.encode(goodbye)
    if (Result.isFailure(encoded)) throw ConnectionError.make(encoded.failure)
    return { wire, packer, goodbye: () => encoded.success }
  }
  return { options, policy, limits: limitsOf(policy), stream: way("stream"), messages: way("messages") }
}

const transportFor = <In, Out>(socket: Socket.Socket, options: Options<In, Out>, context: Context.Context<never>) => {
  const described = transportOf(socket)
  const messages = options.transport === undefined
    ? described.messages || Context.getOption(context, Socket.WebSocket)._tag === "Some"
    : options.transport === "messages"
  return messages === described.messages ? described : { ...described, messages }
}

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
 *   yield* Stream.runForEachArray(Connection.messages(connection), connection.sendAll)
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  <In, Out>(
    options: Options<In, Out>
  ): (socket: Socket.Socket) => Effect.Effect<Connection<In, Out>, Failure, Scope.Scope>
  <In, Out>(
    socket: Socket.Socket,
    options: Options<In, Out>
  ): Effect.Effect<Connection<In, Out>, Failure, Scope.Scope>
} = (...args: ReadonlyArray<unknown>): never => {
  if (args.length === 1) {
    const shared = share(args[0] as Options<unknown, unknown>)
    return ((socket: Socket.Socket) => open(socket, shared)) as never
  }
  return open(args[0] as Socket.Socket, share(args[1] as Options<unknown, unknown>)) as never
}

// only dialling can be interrupted: whatever it opened has an owner when the next interruption is looked at
const open = <In, Out>(socket: Socket.Socket, shared: Shared<In, Out>) =>
  Effect.uninterruptibleMask((restore) => opening(socket, shared, restore))

const opening = Effect.fnUntraced(function*<In, Out>(
  socket: Socket.Socket,
  shared: Shared<In, Out>,
  restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.fn.Return<Connection<In, Out>, Failure, Scope.Scope> {
  const { options, limits } = shared
  const context = yield* Effect.context<Scope.Scope>()
  const scope = Context.get(context, Scope.Scope)
  const clock = yield* Clock.Clock
  const random = yield* Random.Random
  const transport = transportFor(socket, options, context)
  const { goodbye, packer, wire } = transport.messages ? shared.messages : shared.stream
  // before anything is open: the framing of a codec is anybody's code
  const decoder = Codec.decoder(options.codec, {
    maxFrame: shared.policy.maxFrame,
    transport: transport.messages ? "messages" : "stream"
  })
  // released when the conversation ends, which may be long before the user's scope closes
  const transportScope = yield* Scope.fork(scope)

  const { pull } = yield* Scope.provide(socket.reader, transportScope).pipe(
    Effect.mapError(ConnectionError.fromSocketError),
    limits.open === Infinity ? (self) => self : Effect.timeoutOrElse({
      duration: limits.open,
      orElse: () => Effect.fail(ConnectionError.make(new ConnectionError.OpenTimeout({ limit: limits.open })))
    }),
    restore,
    // the scope that dialled outlives a failed attempt otherwise
    Effect.onError(() => Scope.close(transportScope, Exit.void))
  )

  // in the transport's scope: releasing it half-closes, and the last words come after the writing fiber has ended
  const { write, writeAll } = yield* Scope.provide(socket.writer, transportScope)

  const now = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
  const id = takeId()
  const openedAt = clock.currentTimeMillisUnsafe()
  const opened = now()
  const unsent = transport.unsent ?? (() => 0)
  const dispatcher = turnsOf(yield* Scheduler.Scheduler)
  const split = !transport.messages && transport.unsent === undefined
  const outbox = yield* Outbox.make(dispatcher, boundsOf(shared.policy), split)
  const inbox = new Inbox<In>(dispatcher, shared.policy.inboxMessages, shared.policy.inboxBytes)
  const pings = new Pings(opened)
  const deadlines = new Deadlines(
    shared.limits,
    opened,
    0.9 + 0.2 * random.nextDoubleUnsafe(),
    transport.unsent === undefined ? undefined : () => outbox.written - unsent()
  )
  const closed = Deferred.makeUnsafe<never, Failure>()
  const leaving = Deferred.makeUnsafe<void>()
  const ending = Deferred.makeUnsafe<never, Failure>()
  const goneWatchers = new Set<() => void>()

  // owned by this connection's fibers, and by whoever closes it; every change is synchronous
  let policy = shared.policy
  let phase: Snapshot["state"] = "open"
  // why it ends: decided once, reported by everything afterwards
  let sticky: Failure | undefined
  // what the peer last asked of those it loses
  let advice: ConnectionError.Advice | undefined
  let endedAt: number | undefined
  let gone = false
  let bytesIn = 0
  let messagesIn = 0
  let skipped = 0
  let lost = 0
  let wakeHeartbeat: (() => void) | undefined
  let wakeDeadline: (() => void) | undefined
  /** Something began to count: the deadlines are looked at by then, if they would not be. In a task of its own. */
  const lookBy = (at: number): void => {
    if (deadlines.plannedAt <= at) return
    deadlines.plannedAt = at
    dispatcher.scheduleTask(() => wakeDeadline?.(), 0)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // ways to the end
  // -------------------------------------------------------------------------------------------------------------------

  /** The first reason is the one that is reported. */
  const decide = (error: Failure): Failure => {
    if (sticky !== undefined) return sticky
    const decided = advice === undefined ? error : ConnectionError.make(error.reason, advice)
    sticky = decided
    // in a task of its own: whoever waits for it must not run in the middle of this
    dispatcher.scheduleTask(() => Deferred.doneUnsafe(ending, Exit.fail(decided)), 0)
    return decided
  }

  /** Nothing more is received; answers still leave, until `limit` has passed. */
  const finishReceiving = (error: Failure, limit: number): void => {
    if (sticky !== undefined) return
    const reason = decide(error)
    phase = "draining"
    inbox.end(reason)
    deadlines.finishReading()
    deadlines.forceAt(now() + limit, reason)
    wakeDeadline?.()
  }

  /** Nothing more is sent either; what was accepted is flushed, until `drain` has passed. */
  const finishSending = (error: Failure): void => {
    if (phase === "closing" || phase === "ended") return
    const reason = decide(error)
    phase = "closing"
    inbox.end(reason)
    outbox.close(reason)
    deadlines.finishReading()
    deadlines.forceAt(now() + deadlines.limits.drain, reason)
    wakeDeadline?.()
  }

  /** The one place that settles the end. */
  const settle = (error: Failure): Failure => {
    const reason = decide(error)
    phase = "ended"
    endedAt = now()
    inbox.end(reason)
    lost = outbox.end(reason)
    Deferred.doneUnsafe(leaving, Exit.void)
    return reason
  }

  const leave = (reason: ConnectionError.Reason): void => {
    if (!Deferred.doneUnsafe(leaving, Exit.void)) return
    const frame = goodbye(reason)
    if (frame !== undefined) outbox.offerControl(frame)
  }

  const drain = (reason: ConnectionError.Reason): void => {
    leave(reason)
    finishReceiving(ConnectionError.make(reason), deadlines.limits.drain)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the reader
  // -------------------------------------------------------------------------------------------------------------------

  /** Never waits: the control lane passes a full outbox. A heartbeat that cannot be encoded ends the connection. */
  const sendControl = (message: Out): ConnectionError.Reason | undefined => {
    const encoded = wire.encode(message)
    if (Result.isFailure(encoded)) return encoded.failure
    outbox.offerControl(encoded.success)
    return undefined
  }

  // what a message showed to be wrong, or the peer's own word that it is over
  let broken: ConnectionError.Reason | undefined
  let peerEnded = false
  const read = options.heartbeat?.reader()
  /** Whether a message is for the application; answers pings and matches pongs on the way. */
  const isData = read === undefined ? undefined : (message: In, at: number): boolean => {
    const signal = read(message)
    if (signal === undefined) return true
    if (signal._tag === "Pong") {
      if (pings.answered(signal.token, at)) deadlines.provenAt = at
      return false
    }
    deadlines.provenAt = at
    if (signal.advice !== undefined) advice = signal.advice
    switch (signal._tag) {
      case "Ping":
        broken = pings.peerPinged(at, deadlines.limits.minPingEvery)
          ? new ConnectionError.TooManyPings({ minimum: deadlines.limits.minPingEvery })
          : sendControl(signal.answer)
        return false
      case "Leave":
        Deferred.doneUnsafe(leaving, Exit.void)
        return false
      case "Data":
        return true
      case "End":
        broken = signal.reason
        peerEnded = true
        return false
      case "Violation":
        broken = signal.reason
        return false
    }
  }

  const applicationMessages = (messages: ReadonlyArray<In>, at: number): ReadonlyArray<In> => {
    if (isData === undefined) {
      deadlines.provenAt = at
      return messages
    }
    let kept: Array<In> | undefined
    for (let i = 0; i < messages.length; i++) {
      if (isData(messages[i]!, at)) kept?.push(messages[i]!)
      else {
        kept ??= messages.slice(0, i)
        if (broken !== undefined) break
      }
    }
    const data = kept ?? messages
    if (data.length > 0 || messages.length === 0) deadlines.provenAt = at
    return data
  }

  /** Decodes what one read brought, and hands it over at once: one wake-up a read, not one a chunk or a message. */
  const receiveChunks = (
    chunks: ReadonlyArray<Uint8Array | string>,
    at: number
  ): ConnectionError.Reason | undefined => {
    let batch: ReadonlyArray<In> = []
    let size = 0
    let failure: ConnectionError.Reason | undefined
    // what an earlier read left unfinished belongs to the messages that it is part of
    const held = decoder.pending
    for (let i = 0; i < chunks.length && failure === undefined; i++) {
      const chunk = chunks[i]!
      size += sizeOf(chunk)
      const decoded = decoder.write(chunk)
      const data = applicationMessages(decoded.messages, at)
      skipped += decoded.skipped.length
      if (decoder.pending === 0) deadlines.frameSince = undefined
      else if (deadlines.frameSince === undefined || decoded.messages.length + decoded.skipped.length > 0) {
        deadlines.frameSince = at
        lookBy(at + deadlines.limits.frame)
      }
      batch = batch.length === 0 ? data : data.length === 0 ? batch : batch.concat(data)
      failure = decoded.error ?? broken
    }
    bytesIn += size
    if (batch.length > 0) {
      messagesIn += batch.length
      deadlines.received(at)
      inbox.offer(batch, held + size - decoder.pending)
    }
    return failure
  }

  const reader: Effect.Effect<never, Failure> = Effect.gen(function*() {
    while (true) {
      const chunks = yield* pull
      let at = now()
      deadlines.heardAt = at
      // we are going away: what still comes is read, so that the peer's last writes do not become a reset, and dropped
      if (phase !== "open") continue
      // one read ahead of a full inbox: the end of the stream, or a reset, may be all that is behind it
      if (inbox.isFull) {
        deadlines.pause()
        yield* inbox.awaitRoom
        if (phase !== "open") continue
        at = now()
        deadlines.resume(at)
      }
      const failure = receiveChunks(chunks, at)
      if (failure !== undefined) return yield* ConnectionError.make(failure)
    }
  }).pipe(
    Effect.catchTag("SocketError", (cause) => {
      const error = ConnectionError.fromSocketError(cause)
      const isEnd = error.reason._tag === "Closed" && !transport.messages
      const leftover = isEnd && phase === "open" ? decoder.end() : undefined
      const reason = leftover === undefined ? error : ConnectionError.make(leftover)
      if (!isEnd) return Effect.fail(reason)
      // end of stream: the peer said all it has to say, and may still be listening
      finishReceiving(reason, deadlines.limits.halfClose)
      return Effect.never
    })
  )

  // -------------------------------------------------------------------------------------------------------------------
  // the writer
  // -------------------------------------------------------------------------------------------------------------------

  let said = false
  /** What the peer is told last: the farewell of its protocol, and the close frame of a WebSocket. */
  const lastWords = Effect.fnUntraced(function*(reason: ConnectionError.Reason) {
    said = true
    const farewell = peerEnded ? undefined : options.farewell?.(reason)
    const encoded = farewell === undefined ? undefined : wire.encode(farewell)
    if (encoded !== undefined && Result.isSuccess(encoded)) yield* write(encoded.success)
    if (transport.messages) yield* write(closeEvent(reason))
  })

  const watchWrite = (): void => lookBy(deadlines.watchWrite(now(), unsent()))
  const beginWrite = (at: number): void => {
    if (deadlines.beginWrite(at) < deadlines.plannedAt) dispatcher.scheduleTask(watchWrite, 0)
  }
  const endWrite = (at: number, data: boolean): void => {
    deadlines.endWrite(at, data)
    outbox.wrote()
  }

  // begun without the fiber, and more than the transport takes at once
  let left: NonEmptyReadonlyArray<Frame> | undefined
  const { writeNow } = transport
  if (writeNow !== undefined) {
    outbox.serve = () => {
      while (left === undefined) {
        const batch = outbox.next()
        if (batch === undefined) return true
        const data = outbox.writingData
        const at = now()
        if (!writeNow(batch)) left = batch
        else {
          // what the kernel has taken as well needs no watching
          if (unsent() > 0) beginWrite(at)
          endWrite(at, data)
        }
      }
      return false
    }
  }

  const writer: Effect.Effect<never, Failure> = Effect.gen(function*() {
    while (true) {
      const batch = left ?? outbox.next()
      left = undefined
      if (batch === undefined) {
        const done = outbox.isDrained
        if (done === undefined) {
          yield* outbox.awaitWork
          continue
        }
        // a transport that is released drops what it holds: first the peer takes it, for as long as the drain lasts
        while (unsent() > 0) yield* clock.sleep(takenPoll)
        yield* lastWords(done.reason)
        return yield* done
      }
      const data = outbox.writingData
      beginWrite(now())
      yield* writeAll(batch)
      endWrite(now(), data)
    }
  }).pipe(Effect.catchTag("SocketError", (cause) => Effect.fail(ConnectionError.fromSocketError(cause))))

  // -------------------------------------------------------------------------------------------------------------------
  // the clockwork
  // -------------------------------------------------------------------------------------------------------------------

  const runFork = Effect.runForkWith(context)
  const ping: Effect.Effect<void, Failure> = options.heartbeat === undefined ? Effect.void : Effect.suspend(() => {
    if (phase !== "open") return Effect.void
    const at = now()
    const failure = sendControl(options.heartbeat!.ping(pings.send(at)))
    lookBy(at + deadlines.pongLimit)
    return failure === undefined ? Effect.void : Effect.fail(ConnectionError.make(failure))
  })

  const heartbeat: Effect.Effect<never, Failure> = Effect.gen(function*() {
    if (options.heartbeat === undefined) return yield* Effect.never
    let every = deadlines.limits.pingEvery
    const first = (): number => Math.round(every * (1 - policy.pingJitter * random.nextDoubleUnsafe()))
    let next = opened + first()
    while (true) {
      const limit = deadlines.limits.pingEvery
      if (limit !== every) {
        every = limit
        // the first one is jittered, however late pings are turned on
        next = Math.max(now(), pings.lastAt + (pings.lastAt === opened ? first() : every))
      }
      const at = now()
      if (at < next) {
        yield* pause(runFork, clock, next - at, (wake) => {
          wakeHeartbeat = wake
        })
        continue
      }
      // both directions carried bytes since the last ping: each side knows the other is alive
      const quietSince = Math.min(deadlines.heardAt, deadlines.sentAt)
      if (policy.pingWhen === "quiet" && quietSince > pings.lastAt && quietSince + every > at) {
        next = quietSince + every
        continue
      }
      deadlines.pingedLate(at - next, at)
      yield* ping
      // the cadence is the interval, whatever the round trip takes; after a stall it starts over
      next = next + every > at ? next + every : at + every
    }
  })

  const deadline: Effect.Effect<never, Failure> = Effect.gen(function*() {
    let planned = now()
    let wallOffset = clock.currentTimeMillisUnsafe() - planned
    let confirmed = false
    while (true) {
      const at = now()
      const offset = clock.currentTimeMillisUnsafe() - at
      // the wall clock jumped: this machine slept, or somebody set it. Ask at once, condemn nobody
      if (Math.abs(offset - wallOffset) > 5_000) yield* ping
      wallOffset = offset
      const verdict = deadlines.look(at, at - planned, unsent(), pings, decoder.pending, confirmed)
      confirmed = false
      switch (verdict._tag) {
        case "End":
          // it ends in any case: what the transport takes at once still leaves
          if (verdict.error === sticky) yield* Effect.yieldNow
          return yield* verdict.error
        case "Leave":
          leave(new ConnectionError.MaxAge({ limit: deadlines.limits.maxAge }))
          continue
        case "Drain":
          drain(verdict.reason)
          continue
        case "Probe":
          yield* ping
          planned = at
          continue
        case "Confirm":
          // a timer runs before the input that is waiting: let the event loop deliver that first
          for (let i = 0; i < 3; i++) yield* Effect.yieldNow
          confirmed = true
          continue
        case "Wait":
          planned = at + verdict.millis
          deadlines.plannedAt = planned
          yield* pause(runFork, clock, verdict.millis, (wake) => {
            // waking early is not coming late
            wakeDeadline = wake === undefined ? undefined : () => {
              planned = Infinity
              wake()
            }
          })
      }
    }
  })

  // -------------------------------------------------------------------------------------------------------------------
  // the race
  // -------------------------------------------------------------------------------------------------------------------

  const notifyGone = (): void => {
    gone = true
    for (const watcher of goneWatchers) watcher()
    goneWatchers.clear()
  }

  /** A defect in a codec or a socket ends its connection like any other failure, and nothing else. */
  const reasonOf = (exit: Exit.Exit<never, Failure>): Failure => {
    if (Exit.isSuccess(exit)) return ConnectionError.make(localClose)
    for (const reason of exit.cause.reasons) if (reason._tag === "Fail") return reason.error
    for (const reason of exit.cause.reasons) {
      if (reason._tag === "Die") {
        return ConnectionError.make(new ConnectionError.TransportFailed({ operation: "read", cause: reason.defect }))
      }
    }
    return ConnectionError.make(localClose)
  }

  const finish = Effect.fnUntraced(function*(exit: Exit.Exit<never, Failure>) {
    const { midFrame } = outbox
    const error = settle(reasonOf(exit))
    if (!said && !midFrame) {
      // a write suspends while its socket is not connected, and this one may find it so
      yield* Effect.ignoreCause(Effect.raceFirst(lastWords(error.reason), Effect.yieldNow))
    }
    yield* Effect.ignoreCause(Scope.close(transportScope, Exit.void))
    Deferred.doneUnsafe(closed, Exit.fail(error))
    // a handler that still has something to receive finishes with it, but not for ever
    if (inbox.messages === 0 || deadlines.limits.drain === 0) return notifyGone()
    yield* Effect.forkIn(Effect.andThen(Effect.sleep(deadlines.limits.drain), Effect.sync(notifyGone)), scope)
  })

  const race = yield* Effect.raceAllFirst([reader, writer, heartbeat, deadline]).pipe(
    Effect.onExit(finish),
    Effect.ignoreCause,
    Effect.forkIn(scope, { startImmediately: true })
  )

  const awaitEnd = Effect.ignore(Deferred.await(closed))
  const closeWith = (reason: ConnectionError.Reason): Effect.Effect<void> =>
    Effect.suspend(() => {
      finishSending(ConnectionError.make(reason))
      return awaitEnd
    })
  const close = closeWith(localClose)
  // runs before the race is stopped and before the transport is released: finalizers run last in, first out
  yield* Scope.addFinalizerExit(scope, (exit) => {
    if (Exit.isSuccess(exit)) return close
    if (!Cause.hasInterruptsOnly(exit.cause)) {
      decide(ConnectionError.make(new ConnectionError.Closed({ by: "local", code: failed })))
    }
    return Fiber.interrupt(race)
  })

  /** All of them can be encoded, or none is sent. */
  const sendAll = (messages: Iterable<Out>): Effect.Effect<void, Failure> => {
    const frames: Array<Frame> = []
    let packed = 0
    let packedBytes = 0
    const add = (message: Out): ConnectionError.CodecReason | undefined => {
      if (packer === undefined) {
        const encoded = wire.encode(message)
        if (Result.isFailure(encoded)) return encoded.failure
        frames.push(encoded.success)
        return undefined
      }
      const failure = packer.prepare(message)
      if (failure !== undefined) return failure
      if (frames.length > 0 || !outbox.pack(packer)) frames.push(packer.frame())
      else {
        packed++
        packedBytes += packer.size
      }
      return undefined
    }
    let failure: ConnectionError.CodecReason | undefined
    let complete = false
    try {
      for (const message of messages) if ((failure = add(message)) !== undefined) break
      complete = failure === undefined
    } finally {
      if (!complete) outbox.unpack(packed, packedBytes)
    }
    if (failure !== undefined) return Effect.fail(ConnectionError.make(failure))
    return frames.length === 0 && packed > 0 ? Effect.void : outbox.send(frames, slowConsumer)
  }
  const slowConsumer = (error: Failure): void => {
    decide(error)
    race.interruptUnsafe()
  }

  const self: Connection<In, Out> & Watched & Resting & Untouched = {
    id,
    receive: inbox.receive,
    receiveAll: inbox.receiveAll,
    send: (message) =>
      Effect.suspend(() => {
        if (packer === undefined) {
          const encoded = wire.encode(message)
          return Result.isFailure(encoded)
            ? Effect.fail(ConnectionError.make(encoded.failure))
            : outbox.send([encoded.success], slowConsumer)
        }
        const failure = packer.prepare(message)
        if (failure !== undefined) return Effect.fail(ConnectionError.make(failure))
        return outbox.pack(packer) ? Effect.void : outbox.send([packer.frame()], slowConsumer)
      }),
    sendAll: (messages) => Effect.suspend(() => sendAll(messages)),
    flush: outbox.flush,
    isWritable: Effect.sync(() => outbox.isWritable),
    awaitWritable: outbox.awaitWritable,
    close,
    closeWith,
    drainWith: (reason) => Effect.sync(() => drain(reason)),
    leaving: Deferred.await(leaving),
    ending: Deferred.await(ending),
    closed: Deferred.await(closed),
    patch: (changes) =>
      Effect.map(Effect.suspend(() => Policy.patch(policy, changes)), (patched) => {
        policy = patched
        deadlines.setLimits(limitsOf(patched))
        outbox.setBounds(boundsOf(patched))
        inbox.setBounds(patched.inboxMessages, patched.inboxBytes)
        wakeHeartbeat?.()
        wakeDeadline?.()
      }),
    policy: Effect.sync(() => policy),
    snapshot: Effect.sync(() => {
      const at = endedAt ?? now()
      return {
        id,
        state: phase,
        local: transport.local,
        remote: transport.remote,
        openedAt,
        age: at - opened,
        quietFor: at - deadlines.heardAt,
        bytesIn,
        bytesOut: outbox.written,
        messagesIn,
        messagesOut: outbox.accepted,
        inbox: { messages: inbox.messages, bytes: inbox.bytes },
        outbox: { messages: outbox.messages, bytes: outbox.bytes },
        dropped: outbox.dropped,
        skipped,
        lost,
        paused: phase === "open" && deadlines.readingSince === undefined,
        rtt: pings.rtt,
        reason: sticky?.reason
      }
    }),
    wire,
    offerFrame: (frame) =>
      Effect.sync(() => {
        const result = outbox.offer(frame)
        if (typeof result === "object" && result.reason._tag === "SlowConsumer") slowConsumer(result)
        return result === "accepted"
      }),
    [Watched]: (watcher) => {
      if (gone) watcher()
      else goneWatchers.add(watcher)
    },
    [Untouched]: () => outbox.untouched,
    [Resting]: () => phase === "open" && sticky === undefined && inbox.messages === 0 && decoder.pending === 0
  }
  return self as Connection<In, Out>
})

const boundsOf = (policy: Policy.Policy) => ({
  messages: policy.outboxMessages,
  bytes: policy.outboxBytes,
  overflow: policy.overflow,
  lowWater: policy.lowWater
})

const Watched = "~holdfast/Connection/Watched"
interface Watched {
  readonly [Watched]: (watcher: () => void) => void
}

/**
 * Calls back once the connection has ended; where messages still wait to be received then, `Policy.drain` later. A server
 * stops its handler with it; one callback costs less than the fibers of a race.
 *
 * @internal
 */
export const onGone = <In, Out>(self: Connection<In, Out>, watcher: () => void): void =>
  (self as Connection<In, Out> & Watched)[Watched](watcher)

const Resting = "~holdfast/Connection/Resting"
interface Resting {
  readonly [Resting]: () => boolean
}

/**
 * Whether the connection is open and nothing lies between two messages: none is waiting to be received, and none has
 * begun to arrive. A pool asks before every use, without the cost of a snapshot. Anything that is no connection of
 * `make` is at rest.
 *
 * @internal
 */
export const isResting = <In, Out>(self: Connection<In, Out>): boolean =>
  (self as Connection<In, Out> & Partial<Resting>)[Resting]?.() ?? true

const Untouched = "~holdfast/Connection/Untouched"
interface Untouched {
  readonly [Untouched]: () => number
}

/**
 * Of a connection that has ended: how many of the messages it had accepted last no write had begun with, so that the
 * peer cannot have seen any of them. `Snapshot.lost` counts also those in the write that was under way. None where that
 * is not known.
 *
 * @internal
 */
export const untouched = <In, Out>(self: Connection<In, Out>): number =>
  (self as Connection<In, Out> & Partial<Untouched>)[Untouched]?.() ?? 0

/**
 * Every message until the connection ends, then its failure, in the batches they came in.
 *
 * @category streams
 * @since 0.1.0
 */
export const messages = <In, Out>(self: Connection<In, Out>): Stream.Stream<In, Failure> =>
  Stream.fromPull(Effect.succeed(self.receiveAll))
