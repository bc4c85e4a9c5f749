/** The ways from one state of a connection to the next. The first reason is kept: everything afterwards reports it. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Exit from "effect/Exit"
import * as ConnectionError from "../../../ConnectionError.ts"
import { log } from "../../scheduling/supervised.ts"
import { note, seen } from "../../telemetry/story.ts"
import { close as closeOutbox, offerControl } from "./outbox.ts"
import { type Conversation, isOver, type Lifecycle, reasonOf, type Watcher, type Watchers } from "./state.ts"

type Failure = ConnectionError.ConnectionError

/** The reason there is, or this one, with what the peer advised. */
const decide = <In, Out>({ advice, lifecycle }: Conversation<In, Out>, error: Failure): Failure =>
  reasonOf(lifecycle) ?? (advice === undefined ? error : ConnectionError.make(error.reason, advice))

const enter = <In, Out>(c: Conversation<In, Out>, next: Exclude<Lifecycle, { readonly _tag: "Open" }>): void => {
  const { lifecycle, whenEnding } = c
  c.lifecycle = next
  if (next._tag === "Draining") note(c, "draining", next.reason.reason._tag)
  else if (next._tag === "Closing" && next.flushes) note(c, "closing", next.reason.reason._tag)
  if (lifecycle._tag !== "Open" || whenEnding === undefined) return
  // in a task of its own: what waits for it must not run in the middle of this
  c.turns.scheduleTask(() => Deferred.doneUnsafe(whenEnding, Exit.fail(next.reason)))
}

/** Nothing more is expected from the peer; the state that was entered ends at `by`. */
const finishReading = <In, Out>(c: Conversation<In, Out>, reason: Failure, by: number): void => {
  c.facts.readingSince = undefined
  c.facts.frameSince = undefined
  c.inbox.end(reason)
  c.acts.goOn(c)
  c.wakeUp.secondBy(by)
}

/**
 * Nothing more is received; answers still leave, until `limit` milliseconds have passed. `untilTold`: or until the receiver
 * has got everything and is told the end.
 */
export const drain = <In, Out>(c: Conversation<In, Out>, error: Failure, limit: number, untilTold = false): void => {
  if (c.lifecycle._tag !== "Open") return
  const reason = decide(c, error)
  const by = c.timers.now() + limit
  if (untilTold) c.inbox.onTold = () => close(c, reason)
  enter(c, { _tag: "Draining", reason, by, untilTold })
  finishReading(c, reason, by)
}

/** Nothing more is sent either; what was accepted is flushed, until `drain` of the policy has passed. */
export const close = <In, Out>(c: Conversation<In, Out>, error: Failure): void => {
  const { lifecycle } = c
  if (lifecycle._tag === "Closing" || lifecycle._tag === "Ended") return
  const reason = decide(c, error)
  const limit = c.timers.now() + c.inForce.limits.drain
  const by = lifecycle._tag === "Draining" ? Math.min(lifecycle.by, limit) : limit
  c.inbox.onTold = undefined
  enter(c, { _tag: "Closing", reason, by, flushes: true })
  closeOutbox(c.outbox, reason)
  finishReading(c, reason, by)
}

/** Ends it now: its own fiber is woken, and does the rest. */
export const end = <In, Out>(c: Conversation<In, Out>, error: Failure): void => {
  const { lifecycle } = c
  if (isOver(lifecycle)) return
  // what was read and not looked at is still received, unless nothing more was
  if (lifecycle._tag !== "Open") c.arrived = undefined
  c.inbox.onTold = undefined
  enter(c, { _tag: "Closing", reason: decide(c, error), by: c.timers.now(), flushes: false })
  c.acts.stop(c)
}

/** The reason of a mistake in a program, which is logged here, and nowhere else. */
export const defect = <In, Out>(
  c: Conversation<In, Out>,
  by: string,
  cause: Cause.Cause<unknown>
): ConnectionError.Defect => {
  const peer = c.transport.remote ?? "a peer without an address"
  note(c, "defect", by)
  log(c.context, `connection ${c.id} with ${peer} met a defect in its ${by}`, cause)
  return new ConnectionError.Defect({ by, cause })
}

/** What a part of the connection threw ends it. */
export const died = <In, Out>(c: Conversation<In, Out>, by: string, thrown: unknown): void => {
  const error = ConnectionError.make(defect(c, by, Cause.die(thrown)))
  seen(c, by)
  end(c, error)
}

/** Runs what no fiber of the connection would die of, in an event or in the fiber of a user: a throw ends the connection. */
export const guarded = <In, Out, A>(c: Conversation<In, Out>, by: string, run: () => A): A | undefined => {
  try {
    return run()
  } catch (thrown) {
    died(c, by, thrown)
    return undefined
  }
}

/** False when it is leaving already. */
export const startLeaving = <In, Out>(c: Conversation<In, Out>): boolean => {
  if (c.isLeaving) return false
  c.isLeaving = true
  const { whenLeaving } = c
  // in a task of its own, as `ending`
  if (whenLeaving !== undefined) c.turns.scheduleTask(() => Deferred.doneUnsafe(whenLeaving, Exit.void))
  return true
}

/** Asks the peer to finish, once. */
export const leave = <In, Out>(c: Conversation<In, Out>, reason: ConnectionError.Reason): void => {
  if (!startLeaving(c)) return
  note(c, "asked to leave", reason._tag)
  const frame = guarded(c, "goodbye", () => c.way.goodbye(reason))
  if (frame !== undefined) offerControl(c.outbox, frame)
}

/** Asks the peer to finish, and receives nothing new; answers still leave. */
export const askAndDrain = <In, Out>(c: Conversation<In, Out>, reason: ConnectionError.Reason): void => {
  leave(c, reason)
  drain(c, ConnectionError.make(reason), c.inForce.limits.drain)
}

export const callAll = (watchers: Watchers, id: number): void => {
  if (typeof watchers === "function") watchers(id)
  else for (const watcher of watchers ?? []) watcher(id)
}

export const withWatcher = (watchers: Watchers, watcher: Watcher): Watchers =>
  watchers === undefined ? watcher : typeof watchers === "function" ? [watchers, watcher] : [...watchers, watcher]
