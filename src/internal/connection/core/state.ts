/** What a connection knows: one value, changed synchronously, in one place for each field. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as ConnectionError from "../../../ConnectionError.ts"
import type { Beat, Signal } from "../../../Heartbeat.ts"
import type { Frame } from "../../codec/encoder.ts"
import type { Budget } from "../../memory/budget.ts"
import { Holding } from "../../memory/holding.ts"
import type { Gate } from "../../scheduling/gate.ts"
import type { Cadence } from "../../scheduling/scheduleSteps.ts"
import { Children, type Parent } from "../../scheduling/supervised.ts"
import type { Timer, Timers } from "../../scheduling/timers.ts"
import type { Task, Turns } from "../../scheduling/turns.ts"
import { WakeUp } from "../../scheduling/wakeUp.ts"
import type { ConnectionSpan } from "../../telemetry/spans.ts"
import { note, seen, type Story } from "../../telemetry/story.ts"
import type { Attachable, Pulled, Reading, Source } from "../../transport/accepted.ts"
import type { Transport } from "../../transport/transport.ts"
import type { Close } from "../../webSocket/closing.ts"
import type { StreamDecoder } from "../../webSocket/decoder.ts"
import { Facts, type Stopping } from "./facts.ts"
import { Inbox } from "./inbox.ts"
import type { InForce } from "./limits.ts"
import { Outbox, type PeerPing } from "./outbox.ts"
import type { Setup, WireFormat } from "./setup.ts"
import { Pings } from "./unansweredPings.ts"

type Failure = ConnectionError.ConnectionError

/**
 * The states, each with its facts:
 *
 *     Open ──> Draining ──> Closing ──> Ended
 *       └──────────────────────^
 *
 * - `Draining`: nothing more is received, answers still leave. `untilTold`: and when the receiver has got everything and
 *   is told the end, nothing more is sent either.
 * - `Closing`: nothing more is sent. `flushes`: but what was accepted is still written.
 */
export type Lifecycle =
  | { readonly _tag: "Open" }
  | { readonly _tag: "Draining"; readonly reason: Failure; readonly by: number; readonly untilTold: boolean }
  | { readonly _tag: "Closing"; readonly reason: Failure; readonly by: number; readonly flushes: boolean }
  | { readonly _tag: "Ended"; readonly reason: Failure; readonly at: number }

export const open: Lifecycle = { _tag: "Open" }

/** Why it ends, once that is decided: the first reason. */
export const reasonOf = (lifecycle: Lifecycle): Failure | undefined =>
  lifecycle._tag === "Open" ? undefined : lifecycle.reason

/** Nothing more is written but last words: its own fiber ends it, or has. */
export const isOver = (lifecycle: Lifecycle): boolean =>
  lifecycle._tag === "Ended" || (lifecycle._tag === "Closing" && !lifecycle.flushes)

/** A connection, as far as its deadlines see it. */
export interface Watched {
  readonly stopping: Stopping | undefined
  readonly inForce: InForce
  readonly lifecycle: Lifecycle
  readonly facts: Facts
  readonly pings: Pings
  /** Bytes of the unfinished frame. */
  readonly pending: number
  readonly inbox: { readonly hasMore: boolean }
  readonly outbox: { readonly written: number }
  readonly transport: Pick<Transport, "unsent" | "fault">
}

export const unsentOf = ({ transport }: Pick<Watched, "transport">): number => transport.unsent?.() ?? 0

/** A write begins. Returns by when it has to be looked at. */
export const beginWrite = ({ facts, inForce: { limits }, transport }: Watched, at: number): number => {
  facts.isWriting = true
  facts.stalledSince ??= at
  facts.hasWritten = true
  if (transport.unsent === undefined) return at + limits.writeStall
  return facts.isWatching ? Infinity : at
}

/** The turn in which a write began is over. Returns by when to look at it; most are done by now, and need no look. */
export const isStillWriting = (c: Watched, at: number): number => {
  const { facts, inForce: { limits }, transport } = c
  const showsProgress = transport.unsent !== undefined
  if (facts.isWriting || unsentOf(c) > 0) return showsProgress ? at : at + limits.writeStall
  facts.hasWritten = !showsProgress
  return Infinity
}

export const endWrite = ({ facts, transport }: Watched, at: number, isData: boolean): void => {
  facts.isWriting = false
  if (isData) {
    facts.sentAt = at
    facts.messageAt = at
  }
  if (transport.unsent === undefined) facts.stalledSince = undefined
}

/** The four children of a connection's own fiber, in the order in which they are forked. */
export const fiberNames = ["reader", "writer", "heartbeat", "deadlines"] as const
export type FiberName = typeof fiberNames[number]

/** What the fields of a connection call for: the functions over it, the same for all connections. */
export interface Acts {
  /** Takes a read by the short cut. */
  readonly take: <In, Out>(c: Conversation<In, Out>, chunk: Uint8Array | string) => boolean
  /** What the reader does with what it pulled. */
  readonly pulled: <In, Out>(c: Conversation<In, Out>, pulled: Pulled) => Effect.Effect<never, Failure>
  /** Handles a read that the short cut took in an event, and what there was no room for. */
  readonly handleArrived: <In, Out>(c: Conversation<In, Out>) => void
  /** There is room for what has come and is not decoded. */
  readonly hasRoom: <In, Out>(c: Conversation<In, Out>) => void
  /** The memory of all is used up, or is not any more. */
  readonly pause: <In, Out>(c: Conversation<In, Out>) => void
  readonly goOn: <In, Out>(c: Conversation<In, Out>) => void
  /** Its own fiber is to end it. */
  readonly stop: <In, Out>(c: Conversation<In, Out>) => void
  /** A turn is over in which something was sent. */
  readonly turnEnded: <In, Out>(c: Conversation<In, Out>) => void
  readonly end: <In, Out>(c: Conversation<In, Out>, error: Failure) => void
  /** A short cut of this fiber threw. */
  readonly died: <In, Out>(c: Conversation<In, Out>, name: FiberName, defect: unknown) => void
  /** Encodes the answer to a ping of the peer. */
  readonly pongOf: <In, Out>(c: Conversation<In, Out>, ping: PeerPing<Out>) => Frame | undefined
  readonly pingNow: <In, Out>(c: Conversation<In, Out>) => void
  /** What the heartbeat and the deadlines go on with when they have slept. */
  readonly beat: <In, Out>(c: Conversation<In, Out>) => Effect.Effect<never, Failure>
  readonly lookAgain: <In, Out>(c: Conversation<In, Out>) => Effect.Effect<never, Failure>
  readonly childEnded: <In, Out>(c: Conversation<In, Out>, index: number, exit: Exit.Exit<never, Failure>) => void
  /** Its own fiber has ended. */
  readonly ended: <In, Out>(c: Conversation<In, Out>, exit: Exit.Exit<void>) => void
}

/** Given the id of its connection: one function does for all connections of a registry. Must not throw. */
export type Watcher = (id: number) => void
/** Nearly always one. */
export type Watchers = Watcher | Array<Watcher> | undefined

/** What handles a connection. */
export interface Handler {
  readonly fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** The connection has ended; where messages still wait to be received then, `Policy.drain` later. Must not throw. */
  readonly connectionGone: () => void
}

/** What releases the transport: the scope that it was opened in, or itself. */
export type Opener = Scope.Closeable | Attachable

/** What a connection is made of. */
export interface Parts<in out In, in out Out> {
  readonly id: number
  readonly acts: Acts
  readonly context: Context.Context<never>
  readonly setup: Setup<In, Out>
  readonly transport: Transport
  /** Whether the transport keeps messages apart. */
  readonly messages: boolean
  readonly decoder: StreamDecoder<In>
  readonly way: WireFormat<Out>
  readonly writer: Socket.Writer
  readonly source: Source
  readonly opener: Opener
  readonly clock: Clock.Clock
  readonly turns: Turns
  readonly timers: Timers
  readonly budget: Budget | undefined
  /** How much of `maxAge` it lives. */
  readonly ageFactor: number
  readonly direct: boolean
}

/**
 * A connection from the moment its transport is open. Fields and no behaviour: the functions over it are in the files of
 * this folder, one for each fiber. A class, because there may be a hundred thousand of them, and an object literal of so
 * many fields costs twice as much to make.
 */
export class Conversation<in out In, in out Out> implements Parent<Failure>, Task, Reading<Failure> {
  readonly id: number
  readonly acts: Acts
  /** That of the fiber that opened it. */
  readonly context: Context.Context<never>
  readonly setup: Setup<In, Out>
  readonly transport: Transport
  readonly messages: boolean
  readonly way: WireFormat<Out>
  readonly decoder: StreamDecoder<In>
  readonly writer: Socket.Writer
  /** What its reader pulls from. */
  readonly source: Source
  readonly clock: Clock.Clock
  readonly turns: Turns
  readonly timers: Timers
  /** On the wall clock, and on the monotonic one. */
  readonly openedAt: number
  readonly opened: number
  readonly facts: Facts
  readonly pings: Pings
  readonly inbox: Inbox<In>
  readonly outbox: Outbox
  readonly wakeUp: WakeUp
  /** How often each fiber worked by itself, and how often its work was done by a short cut, in the event that called for it. */
  reads = 0
  directReads = 0
  writes = 0
  directWrites = 0
  beats = 0
  looks = 0
  readonly whenClosed = Deferred.makeUnsafe<never, Failure>()
  // made when a fiber waits for it
  whenLeaving: Deferred.Deferred<void> | undefined
  whenEnding: Deferred.Deferred<never, Failure> | undefined
  lifecycle: Lifecycle = open
  /** The policy as it is now: replaced as a whole. */
  inForce: InForce
  isLeaving = false
  /** What happened to it lately, once there is something to tell. */
  story: Story | undefined
  /** Where a tracer is there. */
  span: ConnectionSpan | undefined
  /** What the peer last asked of those it loses. */
  advice: ConnectionError.Advice | undefined

  // ---- fibers -------------------------------------------------------------------------------------------------------

  /** Its own. */
  fiber: Fiber.Fiber<void> | undefined
  readonly children: Children<Failure>
  /** That of a server. */
  handler: Handler | undefined
  /** Wakes its own fiber, which waits for the end, with what comes then. */
  stop: ((effect: Effect.Effect<void>) => void) | undefined
  isStopping = false
  readonly opener: Opener

  /** Whether reads and writes may take the short cuts past their fibers. */
  readonly direct: boolean

  // ---- reading ------------------------------------------------------------------------------------------------------

  /** The reader waits for more, and nothing was read that it has not got. */
  isPulling = false
  /** A write failed, and the reader may know why: it reads on, and drops what comes. */
  isLost = false
  /** Read by the short cut, and not accepted yet. */
  arrived: Uint8Array | string | undefined
  /** Bytes of the unfinished frame. */
  pending = 0
  /** Bytes behind a full inbox, which are not decoded. */
  undecoded = 0
  bytesIn = 0
  /** Told of the first bytes. */
  heardWatchers: Watchers
  messagesIn = 0
  skipped = 0
  readonly heed: ((message: In) => Signal<Out> | undefined) | undefined
  /** What a message showed to be wrong, or the peer's own word that it is over. */
  broken: ConnectionError.Reason | undefined
  hasPeerEnded = false
  /** What the close frame of a WebSocket said. */
  closeFrame: Close | undefined
  /** What was read in a turn of the event loop, and which turn that was. */
  turn = 0
  turnMessages = 0
  turnBytes = 0
  /** It goes on in the next turn with what has come. */
  goesOn = false
  /** Where the policy has rates: by when all that came would have come at each. */
  rates: { messages: number; bytes: number } | undefined
  /** The reader waits here for what keeps it from reading, beside the inbox. */
  hold: Gate | undefined
  /** Where its memory is counted. */
  readonly holding: Holding | undefined
  /** The reader waits for the memory of all, and may have its transport paused. */
  awaitsMemory = false
  isPaused = false

  // ---- writing ------------------------------------------------------------------------------------------------------

  /** Taken from the outbox, and more than the transport takes at once. */
  left: NonEmptyReadonlyArray<Frame> | undefined
  /** Wakes the writer, which stands by. */
  standBy: ((effect: Effect.Effect<never, Failure>) => void) | undefined
  hasLastWords = false
  lost = 0

  // ---- pinging ------------------------------------------------------------------------------------------------------

  /** What its heartbeat is woken for before its time: a ping now, or another plan. */
  asked: "ping" | "plan" | undefined
  /** Its own schedule of pings; without one the policy's interval. */
  cadence: Cadence<Beat> | undefined

  // ---- the end ------------------------------------------------------------------------------------------------------

  stopping: Stopping | undefined
  endWatchers: Watchers
  isGone = false
  goneTimer: Timer | undefined

  constructor(parts: Parts<In, Out>) {
    const { messages, setup, timers, transport, turns } = parts
    const opened = timers.now()
    this.id = parts.id
    this.acts = parts.acts
    this.context = parts.context
    this.setup = setup
    this.transport = transport
    this.messages = messages
    this.way = parts.way
    this.decoder = parts.decoder
    this.writer = parts.writer
    this.source = parts.source
    this.opener = parts.opener
    this.clock = parts.clock
    this.turns = turns
    this.timers = timers
    this.direct = parts.direct
    this.inForce = setup.inForce
    this.openedAt = parts.clock.currentTimeMillisUnsafe()
    this.opened = opened
    this.facts = new Facts(opened, parts.ageFactor, setup.inForce.limits.pingEvery)
    this.pings = new Pings(opened)
    this.wakeUp = new WakeUp(timers, this)
    this.outbox = new Outbox(turns, !messages && transport.unsent === undefined, this)
    this.inbox = new Inbox<In>(turns, this)
    this.children = new Children(fiberNames, this)
    this.holding = parts.budget === undefined ? undefined : new Holding(parts.budget, this)
    this.heed = setup.heartbeat?.reader()
  }

  // ---- what the parts tell it, done by `acts` -----------------------------------------------------------------------

  run(): void {
    this.acts.handleArrived(this)
  }

  failed(defect: unknown): void {
    this.acts.died(this, "reader", defect)
  }

  takes(chunk: Uint8Array | string): boolean {
    return this.acts.take(this, chunk)
  }

  pulled(pulled: Pulled): Effect.Effect<never, Failure> {
    return this.acts.pulled(this, pulled)
  }

  hasRoom(): void {
    if (this.awaitsMemory) this.holding!.count()
    if (this.inbox.hasMore) this.acts.hasRoom(this)
  }

  childEnded(index: number, exit: Exit.Exit<never, Failure>): void {
    this.acts.childEnded(this, index, exit)
  }

  fiberEnded(exit: Exit.Exit<void>): void {
    this.acts.ended(this, exit)
  }

  turnEnded(): void {
    this.acts.turnEnded(this)
  }

  pongOf(ping: PeerPing<unknown>): Frame | undefined {
    return this.acts.pongOf(this, ping as PeerPing<Out>)
  }

  drops(): void {
    note(this, "dropped")
  }

  get isAtControl(): boolean {
    return this.decoder.isAtControl === true
  }

  pongsLeft(): void {
    this.hold?.open()
  }

  pauseForMemory(): void {
    this.acts.pause(this)
  }

  memoryFreed(): void {
    this.acts.goOn(this)
  }

  holdsTooMuch(allowed: number): void {
    this.inbox.discard()
    this.arrived = undefined
    const { transport } = this
    this.acts.end(this, ConnectionError.make(new ConnectionError.Refused({ limit: "memory", allowed })))
    // the peer would have to take it first
    if (unsentOf(this) > 0) transport.drop?.()
  }

  writeFailed(defect: unknown): void {
    this.acts.died(this, "writer", defect)
  }

  tooSlow(error: Failure): void {
    seen(this, "outbox")
    this.acts.end(this, error)
  }

  firstWoke(): Effect.Effect<never, Failure> {
    return this.acts.beat(this)
  }

  secondWoke(): Effect.Effect<never, Failure> {
    return this.acts.lookAgain(this)
  }

  jumped(at: number): void {
    // one that is due in this moment pings anyway
    if (at < this.wakeUp.firstAt) this.acts.pingNow(this)
  }

  wakeUpFailed(defect: unknown): void {
    this.acts.died(this, "deadlines", defect)
  }
}
