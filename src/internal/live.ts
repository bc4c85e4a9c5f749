/** A connection from the moment its transport is open: what `Connection.make` returns. */
import * as Arr from "effect/Array"
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
import type * as Socket from "effect/socket/Socket"
import * as ConnectionError from "../ConnectionError.ts"
import type { Signal } from "../Heartbeat.ts"
import * as Policy from "../Policy.ts"
import { Clockwork, type Host } from "./clockwork.ts"
import { closeEvent, failed } from "./closeEvent.ts"
import { type Internals, TypeId } from "./connection/internals.ts"
import { Deadlines, limitsOf, type Progress } from "./deadlines.ts"
import type { Appender } from "./decoder.ts"
import { Inbox } from "./inbox.ts"
import { type Frame, Outbox, type Owner, sizeOf } from "./outbox.ts"
import { detach, type Framed } from "./packer.ts"
import { Pings } from "./pings.ts"
import { type Sender, Sending, SendingAll } from "./prompt.ts"
import { type Timer, type Timers, timersOf } from "./scheduling/timers.ts"
import { type Task, type Turns, turnsOf } from "./scheduling/turns.ts"
import { boundsOf, type Shared, type Snapshot, type Way, type Wire } from "./shared.ts"
import type { Attachable, Transport } from "./transport.ts"

type Failure = ConnectionError.ConnectionError

let nextId = 0

/**
 * The next id, for what is shown beside connections without being made here (HTTP).
 *
 * @internal
 */
export const takeId = (): number => ++nextId

// how often closing looks whether the peer has taken the rest
const takenPoll = Duration.millis(20)

/** What may throw as an effect that cannot fail; one that has nothing to do is `Effect.void` itself. */
const guarded = (make: () => Effect.Effect<void, unknown>): Effect.Effect<void> => {
  try {
    const effect = make()
    return effect === Effect.void ? Effect.void : Effect.ignoreCause(effect)
  } catch {
    return Effect.void
  }
}

const defectOf = (cause: unknown): Failure =>
  ConnectionError.make(new ConnectionError.TransportFailed({ operation: "read", cause }))

/** A defect in a codec or a socket ends its connection like any other failure, and nothing else. */
const reasonOf = (exit: Exit.Exit<unknown, Failure>): Failure => {
  const reasons = Exit.isSuccess(exit) ? [] : exit.cause.reasons
  for (const reason of reasons) if (reason._tag === "Fail") return reason.error
  for (const reason of reasons) if (reason._tag === "Die") return defectOf(reason.defect)
  return ConnectionError.closedByUs
}

/**
 * A connection from the moment its transport is open. Everything is changed synchronously, by its own fibers, by the
 * transport's events, and by whoever sends and closes.
 *
 * A class with its operations on the prototype, because there may be a hundred thousand of them.
 */
export class Live<in out In, in out Out> implements Host, Internals, Owner, Progress, Sender<Out>, Task {
  readonly id = takeId()
  readonly clock: Clock.Clock
  readonly random: (typeof Random.Random)["Service"]
  readonly turns: Turns
  readonly timers: Timers
  readonly deadlines: Deadlines
  readonly pings: Pings
  readonly receive: Effect.Effect<In, Failure>
  private readonly shared: Shared<In, Out>
  private readonly context: Context.Context<Scope.Scope>
  private readonly transport: Transport
  private readonly way: Way<Out>
  private readonly decoder: Appender<In>
  private readonly messages: boolean
  /** Lets the transport go: the scope it was opened in, or itself. */
  private readonly opener: Scope.Closeable | Attachable
  private readonly writer: Socket.Writer
  private readonly inbox: Inbox<In>
  private readonly outbox: Outbox
  private readonly clockwork: Clockwork
  private readonly openedAt: number
  readonly opened: number
  private readonly whenClosed = Deferred.makeUnsafe<never, Failure>()
  private isLeaving = false
  // made when somebody waits for it
  private whenLeaving: Deferred.Deferred<void> | undefined
  private whenEnding: Deferred.Deferred<never, Failure> | undefined
  private readonly readSignal: ((message: In) => Signal<Out> | undefined) | undefined
  /** Reads, and ends the conversation: it is interrupted for every end that reading does not find by itself. */
  private reading: Fiber.Fiber<never, Failure> | undefined
  /** Writes, while somebody has to wait for the transport. */
  private writing: Fiber.Fiber<void, Failure> | undefined
  // begun without the fiber, and more than the transport takes at once
  private left: NonEmptyReadonlyArray<Frame> | undefined
  /** The policy as it is now. */
  current: Policy.Policy
  private phase: Snapshot["state"] = "open"
  /** Why it ends: decided once, reported by everything afterwards. */
  reason: Failure | undefined
  // what the peer last asked of those it loses
  private advice: ConnectionError.Advice | undefined
  // what a message showed to be wrong, or the peer's own word that it is over
  private broken: ConnectionError.Reason | undefined
  private peerEnded = false
  private said = false
  private endedAt: number | undefined
  private gone = false
  private goneTimer: Timer | undefined
  // nearly always one
  private goneWatchers: (() => void) | Array<() => void> | undefined
  private bytesIn = 0
  private messagesIn = 0
  // the reader waits for more, and nothing was read that it has not got
  private pulling = false
  // read, and not looked at yet
  private chunk: Uint8Array | string | undefined
  /** Bytes of the unfinished frame. */
  pending = 0
  private skipped = 0
  private lost = 0

  constructor(
    shared: Shared<In, Out>,
    context: Context.Context<Scope.Scope>,
    transport: Transport,
    messages: boolean,
    decoder: Appender<In>,
    opener: Scope.Closeable | Attachable,
    writer: Socket.Writer
  ) {
    const scheduler = Context.get(context, Scheduler.Scheduler)
    this.shared = shared
    this.context = context
    this.transport = transport
    this.messages = messages
    this.way = messages ? shared.messages : shared.stream
    this.decoder = decoder
    this.opener = opener
    this.writer = writer
    this.current = shared.policy
    this.clock = Context.get(context, Clock.Clock)
    this.random = Context.get(context, Random.Random)
    this.turns = turnsOf(scheduler)
    this.timers = timersOf(this.clock, scheduler)
    this.openedAt = this.clock.currentTimeMillisUnsafe()
    this.opened = this.timers.now()
    const split = !messages && transport.unsent === undefined
    this.outbox = new Outbox(this.turns, shared.bounds, split, this)
    this.inbox = new Inbox<In>(this.turns, shared.policy.inboxMessages, shared.policy.inboxBytes)
    this.receive = this.inbox.receive
    this.pings = new Pings(this.opened)
    this.deadlines = new Deadlines(
      shared.limits,
      this.opened,
      0.9 + 0.2 * this.random.nextDoubleUnsafe(),
      transport.unsent === undefined ? undefined : this
    )
    this.readSignal = shared.heartbeat?.reader()
    this.clockwork = new Clockwork(this, shared.heartbeat !== undefined)
  }

  start(pull: Socket.Reader["pull"]): void {
    this.clockwork.start()
    const conversation = Effect.onExit(this.read(pull), (exit) => this.finish(exit))
    this.reading = Effect.runForkWith(this.context)(conversation)
    this.transport.onRead?.((chunk) => this.take(chunk))
  }

  get unsent(): number {
    return this.transport.unsent?.() ?? 0
  }

  get taken(): number {
    return this.outbox.written - this.unsent
  }

  // -------------------------------------------------------------------------------------------------------------------
  // ways to the end
  // -------------------------------------------------------------------------------------------------------------------

  /** The first reason is the one that is reported. */
  private decide(error: Failure): Failure {
    if (this.reason !== undefined) return this.reason
    const decided = this.advice === undefined ? error : ConnectionError.make(error.reason, this.advice)
    this.reason = decided
    // in a task of its own: whoever waits for it must not run in the middle of this
    const { whenEnding } = this
    if (whenEnding !== undefined) this.turns.scheduleTask(() => Deferred.doneUnsafe(whenEnding, Exit.fail(decided)))
    return decided
  }

  /** Nothing more is received; answers still leave, until `limit` has passed. */
  private finishReceiving(error: Failure, limit: number): void {
    if (this.reason !== undefined) return
    const reason = this.decide(error)
    this.phase = "draining"
    this.inbox.end(reason)
    this.endBy(limit, reason)
  }

  /** Nothing more is sent either; what was accepted is flushed, until `drain` has passed. */
  private finishSending(error: Failure): void {
    if (this.phase === "closing" || this.phase === "ended") return
    const reason = this.decide(error)
    this.phase = "closing"
    this.inbox.end(reason)
    this.outbox.close(reason)
    this.endBy(this.deadlines.limits.drain, reason)
  }

  private endBy(limit: number, reason: Failure): void {
    const at = this.timers.now() + limit
    this.deadlines.finishReading()
    this.deadlines.forceAt(at, reason)
    this.clockwork.lookBy(at)
  }

  /** Ends it now, for this reason. */
  endWith(error: Failure): void {
    this.decide(error)
    this.reading?.interruptUnsafe()
  }

  failWith(defect: unknown): void {
    this.endWith(defectOf(defect))
  }

  /** False when it is leaving already. */
  private startLeaving(): boolean {
    if (this.isLeaving) return false
    this.isLeaving = true
    const { whenLeaving } = this
    // in a task of its own, as `ending`
    if (whenLeaving !== undefined) this.turns.scheduleTask(() => Deferred.doneUnsafe(whenLeaving, Exit.void))
    return true
  }

  leave(reason: ConnectionError.Reason): void {
    if (!this.startLeaving()) return
    try {
      const frame = this.way.goodbye(reason)
      if (frame !== undefined) this.outbox.offerControl(frame)
    } catch (defect) {
      this.failWith(defect)
    }
  }

  drain(reason: ConnectionError.Reason): void {
    this.leave(reason)
    this.finishReceiving(ConnectionError.make(reason), this.deadlines.limits.drain)
  }

  /** The user's scope closes. */
  release(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    if (Deferred.isDoneUnsafe(this.whenClosed)) {
      this.goneTimer?.cancel()
      return Effect.void
    }
    if (Exit.isSuccess(exit)) return Effect.andThen(this.close, Effect.sync(() => this.goneTimer?.cancel()))
    if (!Cause.hasInterruptsOnly(exit.cause)) {
      this.decide(ConnectionError.make(new ConnectionError.Closed({ by: "local", code: failed })))
    }
    return Effect.andThen(Fiber.interrupt(this.reading!), Effect.sync(() => this.goneTimer?.cancel()))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // reading
  // -------------------------------------------------------------------------------------------------------------------

  /** Never waits: the control lane passes a full outbox. */
  private sendControl(message: Out): ConnectionError.Reason | undefined {
    const encoded = this.way.wire.encode(message)
    if (Result.isFailure(encoded)) return encoded.failure
    this.outbox.offerControl(encoded.success)
    return undefined
  }

  /** A heartbeat that cannot be encoded ends the connection. */
  ping(at: number): void {
    const { heartbeat } = this.shared
    if (heartbeat === undefined || this.phase !== "open") return
    const failure = this.sendControl(heartbeat.ping(this.pings.send(at)))
    if (failure !== undefined) return this.endWith(ConnectionError.make(failure))
    this.clockwork.lookBy(at + this.deadlines.pongLimit)
  }

  /** Whether a message is for the application; answers pings and matches pongs on the way. */
  private isData(read: (message: In) => Signal<Out> | undefined, message: In, at: number): boolean {
    const signal = read(message)
    if (signal === undefined) return true
    const { deadlines, pings } = this
    if (signal._tag === "Pong") {
      if (pings.answered(signal.token, at)) deadlines.provenAt = at
      return false
    }
    deadlines.provenAt = at
    if (signal.advice !== undefined) this.advice = signal.advice
    switch (signal._tag) {
      case "Ping":
        this.broken = pings.peerPinged(at, deadlines.limits.minPingEvery)
          ? new ConnectionError.TooManyPings({ minimum: deadlines.limits.minPingEvery })
          : this.sendControl(signal.answer)
        return false
      case "Leave":
        this.startLeaving()
        return false
      case "Data":
        return true
      case "End":
        this.broken = signal.reason
        this.peerEnded = true
        return false
      case "Violation":
        this.broken = signal.reason
        return false
    }
  }

  /** What of these messages is for the application: mostly all of them. */
  private applicationMessages(messages: ReadonlyArray<In>, at: number): ReadonlyArray<In> {
    const { deadlines, readSignal } = this
    if (readSignal === undefined) {
      deadlines.provenAt = at
      return messages
    }
    let kept: Array<In> | undefined
    for (let i = 0; i < messages.length; i++) {
      if (this.isData(readSignal, messages[i]!, at)) kept?.push(messages[i]!)
      else {
        kept ??= messages.slice(0, i)
        if (this.broken !== undefined) break
      }
    }
    const data = kept ?? messages
    if (data.length > 0 || messages.length === 0) deadlines.provenAt = at
    return data
  }

  /** Bytes came, whatever they are: before anything is decoded. */
  private hear(): number {
    const at = this.timers.now()
    this.deadlines.heardAt = at
    return at
  }

  /**
   * Hands over what one read brought, at once: one wake-up a read, not one a chunk or a message. `messages` are those that
   * it completed, `size` its bytes, `error` what the stream cannot go on after.
   */
  private received(
    messages: ReadonlyArray<In>,
    size: number,
    error: ConnectionError.CodecReason | undefined,
    at: number
  ): void {
    const { deadlines, decoder } = this
    const data = this.applicationMessages(messages, at)
    // what a message said came before what cannot be read
    this.broken ??= error
    const skipped = decoder.skipped.length
    if (skipped > 0) {
      this.skipped += skipped
      decoder.skipped = []
    }
    // what an earlier read left unfinished belongs to the messages that it is part of
    const bytes = this.pending + size
    this.pending = decoder.pending
    if (this.pending === 0) deadlines.frameSince = undefined
    else if (deadlines.frameSince === undefined || messages.length + skipped > 0) {
      deadlines.frameSince = at
      this.clockwork.lookBy(at + deadlines.limits.frame)
    }
    this.bytesIn += size
    if (data.length === 0) return
    this.messagesIn += data.length
    deadlines.received(at)
    this.inbox.offer(data, bytes - this.pending)
  }

  /**
   * Takes a read, to be looked at when the event loop has delivered all others; false when the reader has to wait for room
   * first. Then what each connection does is done for all of them: reading, their handlers, writing. Their peers are woken
   * less often, and the code stays in the caches of the processor.
   */
  private take(chunk: Uint8Array | string): boolean {
    // what came before, and was not taken, goes first
    if (!this.pulling) return false
    // only one is kept: no bound is passed by more than that
    this.run()
    // we are going away: what still comes is read, so that the peer's last writes do not become a reset, and dropped
    if (this.phase !== "open") {
      this.hear()
      return true
    }
    if (this.inbox.isFull) {
      this.pulling = false
      return false
    }
    this.chunk = chunk
    this.turns.scheduleTask(this)
    this.turns.relieve()
    return true
  }

  /**
   * Looks at what was taken.
   *
   * @internal
   */
  run(): void {
    const chunk = this.chunk
    if (chunk === undefined) return
    this.chunk = undefined
    const at = this.hear()
    if (this.phase !== "open") return
    try {
      const messages: Array<In> = []
      const error = this.decoder.append(chunk, messages)
      this.received(messages, sizeOf(chunk), error, at)
      if (this.broken !== undefined) this.endWith(ConnectionError.make(this.broken))
    } catch (defect) {
      this.failWith(defect)
    }
  }

  /** Pulls for ever. No generator: it would cost half a kilobyte for each connection. */
  private read(pull: Socket.Reader["pull"]): Effect.Effect<never, Failure> {
    const waiting = Effect.suspend(() => {
      this.pulling = true
      return pull
    })
    const pulling: Effect.Effect<never, Failure> = Effect.matchEffect(waiting, {
      onSuccess: (chunks) => {
        this.pulling = false
        this.run()
        const at = this.hear()
        if (this.phase !== "open") return pulling
        // one read ahead of a full inbox: the end of the stream, or a reset, may be all that is behind it
        if (this.inbox.isFull) return Effect.andThen(this.pause(chunks), pulling)
        this.decode(chunks, at)
        return this.broken === undefined ? pulling : Effect.fail(ConnectionError.make(this.broken))
      },
      onFailure: (cause) => this.readEnded(cause)
    })
    return pulling
  }

  private readEnded(cause: Socket.SocketError): Effect.Effect<never, Failure> {
    this.run()
    const error = ConnectionError.fromSocketError(cause)
    const isEnd = error.reason._tag === "Closed" && !this.messages
    const leftover = isEnd && this.phase === "open" ? this.decoder.end() : undefined
    const reason = leftover === undefined ? error : ConnectionError.make(leftover)
    if (!isEnd) return Effect.fail(reason)
    // end of stream: the peer said all it has to say, and may still be listening
    this.finishReceiving(reason, this.deadlines.limits.halfClose)
    return Effect.never
  }

  private decode(chunks: ReadonlyArray<Uint8Array | string>, at: number): void {
    const messages: Array<In> = []
    let size = 0
    let error: ConnectionError.CodecReason | undefined
    for (let i = 0; i < chunks.length && error === undefined; i++) {
      size += sizeOf(chunks[i]!)
      error = this.decoder.append(chunks[i]!, messages)
    }
    this.received(messages, size, error, at)
  }

  /** Reads nothing while nobody receives. */
  private pause(chunks: ReadonlyArray<Uint8Array | string>): Effect.Effect<void, Failure> {
    this.deadlines.pause()
    return Effect.andThen(
      this.inbox.awaitRoom(),
      Effect.suspend(() => {
        if (this.phase !== "open") return Effect.void
        const at = this.timers.now()
        this.deadlines.resume(at)
        this.decode(chunks, at)
        return this.broken === undefined ? Effect.void : Effect.fail(ConnectionError.make(this.broken))
      })
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // writing
  // -------------------------------------------------------------------------------------------------------------------

  /** There is something to write, or the end is near: at once where the transport takes it, else in a fiber that waits. */
  onWork(): void {
    if (this.writing !== undefined || this.phase === "ended") return
    try {
      if (this.writeNow() || !this.outbox.hasWork) return
      const done = this.outbox.isDrained
      if (done !== undefined && this.unsent === 0 && !this.hasLastWords) return this.endWith(done)
    } catch (defect) {
      return this.failWith(defect)
    }
    const fiber = Effect.runForkWith(this.context)(this.write)
    if (fiber.pollUnsafe() === undefined) {
      this.writing = fiber
      // what it wrote first may have ended it all
      if (this.state === "ended") fiber.interruptUnsafe()
    }
    fiber.addObserver((exit) => {
      this.writing = undefined
      if (this.state === "ended") return
      if (Exit.isFailure(exit)) this.endWith(reasonOf(exit))
      else if (this.outbox.hasWork) this.onWork()
    })
  }

  /** True when there is nothing left to do. */
  private writeNow(): boolean {
    const { deadlines, outbox, timers, transport } = this
    if (transport.writeNow === undefined || outbox.isClosed) return false
    while (this.left === undefined) {
      const batch = outbox.next()
      if (batch === undefined) return true
      const data = outbox.writingData
      const at = timers.now()
      if (!transport.writeNow(batch)) this.left = batch
      else {
        // what the kernel has taken as well needs no watching
        if (this.unsent > 0) this.beginWrite(at)
        deadlines.endWrite(at, data)
        outbox.wrote()
      }
    }
    return false
  }

  private beginWrite(at: number): void {
    const { clockwork, deadlines, timers, turns } = this
    if (deadlines.beginWrite(at) < deadlines.plannedAt) {
      turns.scheduleTask(() => clockwork.lookBy(deadlines.watchWrite(timers.now(), this.unsent)))
    }
  }

  /** Writes what there is, and says goodbye when that was all. */
  private get write(): Effect.Effect<void, Failure> {
    const { deadlines, outbox, timers, writer } = this
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const batch = this.left ?? outbox.next()
        this.left = undefined
        if (batch === undefined) {
          const done = outbox.isDrained
          if (done === undefined) return
          // a transport that is released drops what it holds: first the peer takes it, for as long as the drain lasts
          while (this.unsent > 0) yield* this.clock.sleep(takenPoll)
          yield* this.lastWords(done.reason)
          return yield* done
        }
        const data = outbox.writingData
        this.beginWrite(timers.now())
        yield* writer.writeAll(Arr.map(batch, detach))
        deadlines.endWrite(timers.now(), data)
        outbox.wrote()
      }
    }).pipe(Effect.catchTag("SocketError", (cause) => Effect.fail(ConnectionError.fromSocketError(cause))))
  }

  private get hasLastWords(): boolean {
    return this.messages || (this.shared.farewell !== undefined && !this.peerEnded)
  }

  /** What the peer is told last: the farewell of its protocol, and the close frame of a WebSocket. */
  private lastWords(reason: ConnectionError.Reason): Effect.Effect<void, Socket.SocketError> {
    this.said = true
    if (!this.hasLastWords) return Effect.void
    const farewell = this.peerEnded ? undefined : this.shared.farewell?.(reason)
    const encoded = farewell === undefined ? undefined : this.way.wire.encode(farewell)
    const { writer } = this
    const said = encoded !== undefined && Result.isSuccess(encoded) ? writer.write(encoded.success) : Effect.void
    return this.messages ? Effect.andThen(said, writer.write(closeEvent(reason))) : said
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the end
  // -------------------------------------------------------------------------------------------------------------------

  /** The one place that settles the end. */
  private settle(): Failure {
    const reason = this.reason!
    this.phase = "ended"
    this.endedAt = this.timers.now()
    this.inbox.end(reason)
    this.lost = this.outbox.end(reason)
    this.startLeaving()
    return reason
  }

  private finish(exit: Exit.Exit<never, Failure>): Effect.Effect<void> {
    // first of all: what is stopped from here on gives no reasons
    this.decide(reasonOf(exit))
    // and what was read before can be received
    this.run()
    this.clockwork.stop()
    return this.writing === undefined
      ? this.part()
      : Effect.andThen(Fiber.interrupt(this.writing), Effect.suspend(() => this.part()))
  }

  /** Says the last words, where there are any and nobody has, and lets the transport go. */
  private part(): Effect.Effect<void> {
    const { midFrame } = this.outbox
    const error = this.settle()
    const words = this.said || midFrame ? Effect.void : guarded(() => this.lastWords(error.reason))
    if (words === Effect.void) return this.letGo(error)
    // a write suspends while its socket is not connected, and this one may find it so
    return Effect.andThen(Effect.raceFirst(words, Effect.yieldNow), Effect.suspend(() => this.letGo(error)))
  }

  private letGo(error: Failure): Effect.Effect<void> {
    const { opener } = this
    if (!("detach" in opener)) {
      return Effect.onExit(Scope.close(opener, Exit.void), () => Effect.sync(() => this.end(error)))
    }
    try {
      opener.detach()
    } finally {
      this.end(error)
    }
    return Effect.void
  }

  private end(error: Failure): void {
    // a handler that still has something to receive finishes with it, but not for ever
    const { drain } = this.deadlines.limits
    const waits = this.inbox.messages > 0 && drain > 0
    // before anybody is told, who may call it off
    if (waits) this.goneTimer = this.timers.at(this.timers.now() + drain, () => this.notifyGone())
    Deferred.doneUnsafe(this.whenClosed, Exit.fail(error))
    if (!waits) this.notifyGone()
  }

  private notifyGone(): void {
    this.gone = true
    const watchers = this.goneWatchers ?? []
    this.goneWatchers = undefined
    for (const watcher of typeof watchers === "function" ? [watchers] : watchers) watcher()
  }

  get [TypeId](): Internals {
    return this
  }

  get overdue(): number {
    return 0
  }

  onEnded(watcher: () => void): void {
    this.onGone(watcher)
  }

  onGone(watcher: () => void): void {
    if (this.gone) watcher()
    else if (this.goneWatchers === undefined) this.goneWatchers = watcher
    else if (typeof this.goneWatchers === "function") this.goneWatchers = [this.goneWatchers, watcher]
    else this.goneWatchers.push(watcher)
  }

  get state(): Snapshot["state"] {
    return this.phase
  }

  get isResting(): boolean {
    return this.phase === "open" && this.reason === undefined && this.inbox.messages === 0 && this.pending === 0 &&
      this.chunk === undefined
  }

  get untouched(): number {
    return this.outbox.untouched
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what others do with it
  // -------------------------------------------------------------------------------------------------------------------

  get receiveAll(): Effect.Effect<NonEmptyReadonlyArray<In>, Failure> {
    return this.inbox.receiveAll
  }

  get kept(): number {
    return this.outbox.accepted - this.outbox.dropped
  }

  // what a codec throws is a defect, and nothing that a generator could catch
  sendNow(message: Out): Effect.Effect<void, Failure> {
    try {
      const { packer, wire } = this.way
      if (packer === undefined) {
        const encoded = wire.encode(message)
        return Result.isFailure(encoded)
          ? Effect.fail(ConnectionError.make(encoded.failure))
          : this.outbox.send([encoded.success])
      }
      const failure = packer.prepare(message)
      if (failure !== undefined) return Effect.fail(ConnectionError.make(failure))
      return this.outbox.pack(packer) ? Effect.void : this.outbox.send([packer.frame()])
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  readonly send = (message: Out): Effect.Effect<void, Failure> => new Sending(this, message)

  sendAllNow(messages: Iterable<Out>): Effect.Effect<void, Failure> {
    const { outbox } = this
    const { packer, wire } = this.way
    const frames: Array<Frame | Framed> = []
    let packed = 0
    let packedBytes = 0
    let complete = false
    try {
      for (const message of messages) {
        if (packer === undefined) {
          const encoded = wire.encode(message)
          if (Result.isFailure(encoded)) return Effect.fail(ConnectionError.make(encoded.failure))
          frames.push(encoded.success)
          continue
        }
        const failure = packer.prepare(message)
        if (failure !== undefined) return Effect.fail(ConnectionError.make(failure))
        if (frames.length > 0 || !outbox.pack(packer)) frames.push(packer.frame())
        else {
          packed++
          packedBytes += packer.size
        }
      }
      complete = true
    } catch (defect) {
      return Effect.die(defect)
    } finally {
      if (!complete && packed > 0) outbox.unpack(packed, packedBytes)
    }
    return frames.length === 0 && packed > 0 ? Effect.void : outbox.send(frames)
  }

  get sendAll(): (messages: Iterable<Out>) => Effect.Effect<void, Failure> {
    return (messages) => new SendingAll(this, messages)
  }

  get flush(): Effect.Effect<void, Failure> {
    return this.outbox.flush
  }

  get isWritable(): Effect.Effect<boolean> {
    return Effect.sync(() => this.outbox.isWritable)
  }

  get awaitWritable(): Effect.Effect<void> {
    return this.outbox.awaitWritable()
  }

  get close(): Effect.Effect<void> {
    return this.closing(() => ConnectionError.closedByUs)
  }

  get closeWith(): (reason: ConnectionError.Reason) => Effect.Effect<void> {
    return (reason) => this.closing(() => this.reason ?? ConnectionError.make(reason))
  }

  private closing(error: () => Failure): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.finishSending(error())
      return Deferred.isDoneUnsafe(this.whenClosed) ? Effect.void : Effect.ignore(Deferred.await(this.whenClosed))
    })
  }

  get drainWith(): (reason: ConnectionError.Reason) => Effect.Effect<void> {
    return (reason) => Effect.sync(() => this.drain(reason))
  }

  get leaving(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.isLeaving ? Effect.void : Deferred.await(this.whenLeaving ??= Deferred.makeUnsafe<void>())
    )
  }

  get ending(): Effect.Effect<never, Failure> {
    return Effect.suspend(() =>
      this.reason === undefined
        ? Deferred.await(this.whenEnding ??= Deferred.makeUnsafe<never, Failure>())
        : Effect.fail(this.reason)
    )
  }

  get closed(): Effect.Effect<never, Failure> {
    return Deferred.await(this.whenClosed)
  }

  get patch(): (changes: Policy.Patch) => Effect.Effect<void, Policy.InvalidPolicy> {
    return (changes) =>
      Effect.map(Effect.suspend(() => Policy.patch(this.current, changes)), (patched) => {
        this.current = patched
        this.deadlines.setLimits(limitsOf(patched))
        this.outbox.setBounds(boundsOf(patched))
        this.inbox.setBounds(patched.inboxMessages, patched.inboxBytes)
        this.clockwork.changed()
      })
  }

  get policy(): Effect.Effect<Policy.Policy> {
    return Effect.sync(() => this.current)
  }

  get snapshot(): Effect.Effect<Snapshot> {
    return Effect.sync(() => {
      const { deadlines, inbox, outbox, phase, transport } = this
      const at = this.endedAt ?? this.timers.now()
      return {
        id: this.id,
        state: phase,
        local: transport.local,
        remote: transport.remote,
        openedAt: this.openedAt,
        age: at - this.opened,
        quietFor: at - deadlines.heardAt,
        bytesIn: this.bytesIn,
        bytesOut: outbox.written,
        messagesIn: this.messagesIn,
        messagesOut: outbox.accepted,
        inbox: { messages: inbox.messages, bytes: inbox.bytes },
        outbox: { messages: outbox.messages, bytes: outbox.bytes },
        dropped: outbox.dropped,
        skipped: this.skipped,
        lost: this.lost,
        paused: phase === "open" && deadlines.readingSince === undefined,
        rtt: this.pings.rtt,
        reason: this.reason?.reason
      }
    })
  }

  get wire(): Wire<Out> {
    return this.way.wire
  }

  /** Puts a frame into the outbox without waiting; false for one that was dropped or refused. */
  readonly offerNow = (frame: Frame): boolean => {
    return this.outbox.offer(frame) === "accepted"
  }

  get offerFrame(): (frame: Frame) => Effect.Effect<boolean> {
    return (frame) => Effect.sync(() => this.offerNow(frame))
  }
}
