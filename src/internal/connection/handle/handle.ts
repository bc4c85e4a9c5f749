/** A connection as its users and the library see it: each operation is one call into this folder. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../../ConnectionError.ts"
import * as Policy from "../../../Policy.ts"
import type { Frame } from "../../codec/encoder.ts"
import { closedByUs } from "../../endings/fromCause.ts"
import type { ConnectionSpan } from "../../telemetry/spans.ts"
import { note, seen } from "../../telemetry/story.ts"
import { askAndDrain, close, guarded, withWatcher } from "../core/lifecycle.ts"
import { type InForce, inForce } from "../core/limits.ts"
import * as Outbox from "../core/outbox.ts"
import { type Wire } from "../core/setup.ts"
import { type Snapshot } from "../core/snapshot.ts"
import { type Conversation, type Handler, reasonOf, type Watcher } from "../core/state.ts"
import { overdue } from "../deadlines.ts"
import { patchedRates } from "../fairness/holds.ts"
import { askHeartbeat } from "../heartbeat.ts"
import { patched, sendAll, type Sender, Sending, SendingAll, sendOne } from "../sender.ts"
import { stop } from "../stopping.ts"
import { explain, type Explanation } from "./explanation.ts"
import { reportsOf } from "./fiberReports.ts"
import { type ConnectionState, type FiberReport, type Internals, TypeId } from "./internals.ts"

type Failure = ConnectionError.ConnectionError

/** The states of a lifecycle, as users read them. */
export const states = { Open: "open", Draining: "draining", Closing: "closing", Ended: "ended" } as const

const haveOtherBounds = ({ policy: a }: InForce, { policy: b }: InForce): boolean =>
  a.outboxMessages !== b.outboxMessages || a.outboxBytes !== b.outboxBytes || a.lowWater !== b.lowWater ||
  a.inboxMessages !== b.inboxMessages || a.inboxBytes !== b.inboxBytes || a.overflow !== b.overflow

/** Getters on a prototype: a hundred thousand connections have one of each. */
export class Handle<in out In, in out Out> implements Internals, Sender<Out> {
  readonly id: number
  readonly receive: Effect.Effect<In, Failure>
  /** Not on the prototype, so that it can be taken off. */
  readonly send = (message: Out): Effect.Effect<void, Failure> => new Sending(this, message)
  private readonly c: Conversation<In, Out>

  constructor(c: Conversation<In, Out>) {
    this.c = c
    this.id = c.id
    this.receive = c.inbox.receive
  }

  // ---- receiving and sending ----------------------------------------------------------------------------------------

  get receiveAll(): Effect.Effect<NonEmptyReadonlyArray<In>, Failure> {
    return this.c.inbox.receiveAll
  }

  get kept(): number {
    const { accepted, dropped } = this.c.outbox
    return accepted - dropped
  }

  sendNow(message: Out): Effect.Effect<void, Failure> {
    return sendOne(this.c.outbox, this.c.way.encoder, message)
  }

  sendAllNow(messages: Iterable<Out>): Effect.Effect<void, Failure> {
    return sendAll(this.c.outbox, this.c.way.encoder, messages)
  }

  get sendAll(): (messages: Iterable<Out>) => Effect.Effect<void, Failure> {
    return (messages) => new SendingAll(this, messages)
  }

  get flush(): Effect.Effect<void, Failure> {
    return Outbox.flush(this.c.outbox)
  }

  get isWritable(): Effect.Effect<boolean> {
    return Effect.sync(() => Outbox.isWritable(this.c.outbox))
  }

  get awaitWritable(): Effect.Effect<void> {
    return Outbox.awaitWritable(this.c.outbox)
  }

  get wire(): Wire<Out> {
    return this.c.way.wire
  }

  get offerFrame(): (frame: Frame) => Effect.Effect<boolean> {
    return (frame) => Effect.sync(() => this.offerNow(frame))
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  get close(): Effect.Effect<void> {
    return this.closing(() => closedByUs)
  }

  get closeWith(): (reason: ConnectionError.Reason) => Effect.Effect<void> {
    return (reason) => this.closing(() => reasonOf(this.c.lifecycle) ?? ConnectionError.make(reason))
  }

  private closing(error: () => Failure): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { c } = this
      seen(c, "close")
      close(c, error())
      return Deferred.isDoneUnsafe(c.whenClosed) ? Effect.void : Effect.ignore(Deferred.await(c.whenClosed))
    })
  }

  get drainWith(): (reason: ConnectionError.Reason) => Effect.Effect<void> {
    return (reason) =>
      Effect.sync(() => {
        seen(this.c, "drain")
        askAndDrain(this.c, reason)
      })
  }

  get leaving(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.c.isLeaving ? Effect.void : Deferred.await(this.c.whenLeaving ??= Deferred.makeUnsafe<void>())
    )
  }

  get ending(): Effect.Effect<never, Failure> {
    return Effect.suspend(() => {
      const reason = reasonOf(this.c.lifecycle)
      return reason === undefined
        ? Deferred.await(this.c.whenEnding ??= Deferred.makeUnsafe<never, Failure>())
        : Effect.fail(reason)
    })
  }

  get closed(): Effect.Effect<never, Failure> {
    return Deferred.await(this.c.whenClosed)
  }

  // ---- its policy, and how it is ------------------------------------------------------------------------------------

  get patch(): (changes: Policy.Patch) => Effect.Effect<void, Policy.InvalidPolicy> {
    return (changes) =>
      Effect.map(Effect.suspend(() => Policy.patch(this.c.inForce.policy, changes)), (policy) => {
        const { c } = this
        const before = c.inForce
        note(c, "patched")
        c.inForce = inForce(policy)
        if (haveOtherBounds(before, c.inForce)) {
          patched(c.outbox)
          c.inbox.patched()
        }
        patchedRates(c)
        if (c.inForce.limits.pingEvery !== before.limits.pingEvery) askHeartbeat(c, "plan")
        c.wakeUp.secondBy(c.timers.now())
      })
  }

  get policy(): Effect.Effect<Policy.Policy> {
    return Effect.sync(() => this.c.inForce.policy)
  }

  get snapshot(): Effect.Effect<Snapshot> {
    return Effect.sync(() => this.look())
  }

  // ---- what the library needs ---------------------------------------------------------------------------------------

  get [TypeId](): Internals {
    return this
  }

  get state(): ConnectionState {
    return states[this.c.lifecycle._tag]
  }

  get reason(): ConnectionError.Reason | undefined {
    return reasonOf(this.c.lifecycle)?.reason
  }

  get isResting(): boolean {
    const { inbox, lifecycle, pending, arrived } = this.c
    return lifecycle._tag === "Open" && inbox.messages === 0 && pending === 0 && arrived === undefined && !inbox.hasMore
  }

  get hasUndecoded(): boolean {
    return this.c.inbox.hasMore
  }

  get untilHeard(): ((watcher: () => void) => void) | undefined {
    const { c } = this
    if (c.bytesIn > 0 || c.messages || c.way.control !== undefined) return undefined
    return (watcher) => {
      c.heardWatchers = withWatcher(c.heardWatchers, watcher)
      askHeartbeat(c, "ping")
    }
  }

  get untouched(): number {
    return this.c.outbox.untouched
  }

  look(): Snapshot {
    const { c } = this
    const { facts, inbox, lifecycle, outbox } = c
    const at = lifecycle._tag === "Ended" ? lifecycle.at : c.timers.now()
    const { identity } = c.transport
    const snapshot: Snapshot = {
      id: c.id,
      state: states[lifecycle._tag],
      local: c.transport.local,
      remote: c.transport.remote,
      openedAt: c.openedAt,
      age: at - c.opened,
      quietFor: at - facts.heardAt,
      bytesIn: c.bytesIn,
      bytesOut: outbox.written,
      messagesIn: c.messagesIn,
      messagesOut: outbox.accepted,
      inbox: { messages: inbox.messages, bytes: inbox.bytes + c.undecoded },
      outbox: { messages: outbox.messages, bytes: outbox.bytes },
      dropped: outbox.dropped,
      skipped: c.skipped,
      lost: c.lost,
      paused: lifecycle._tag === "Open" && facts.readingSince === undefined,
      rtt: c.pings.rtt,
      reason: reasonOf(lifecycle)?.reason
    }
    return identity === undefined ? snapshot : { ...snapshot, identity }
  }

  explain(): Explanation {
    return explain(this.c, this.look())
  }

  get span(): ConnectionSpan | undefined {
    return this.c.span
  }

  get overdue(): number {
    return guarded(this.c, "transport", () => overdue(this.c, this.c.timers.now())) ?? 0
  }

  offerNow(frame: Frame): boolean {
    return Outbox.offer(this.c.outbox, frame) === "accepted"
  }

  onEnded(watcher: Watcher): void {
    const { c } = this
    if (Deferred.isDoneUnsafe(c.whenClosed)) watcher(c.id)
    else c.endWatchers = withWatcher(c.endWatchers, watcher)
  }

  stop(reason: ConnectionError.Reason): void {
    stop(this.c, reason)
  }

  handledBy(handler: Handler): void {
    this.c.handler = handler
    if (this.c.isGone) handler.connectionGone()
  }

  get fibers(): ReadonlyArray<FiberReport> {
    return reportsOf(this.c)
  }
}
