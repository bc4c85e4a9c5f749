/**
 * The supervisor of a connection: one fiber, with a reader, a writer, a heartbeat and deadlines as its children.
 *
 * Version one had a single fiber, and called the rest in callbacks: it was smaller (9.4 KB of heap a connection on TCP, where
 * this one has 10.8), and supervision by hand had holes. A naive version with a generator and a timer for each of two fibers
 * cost 35 % more memory and 40 % more CPU while idle; fibers that wait with nothing on their stack, and one wake-up for a
 * ping and a look, are what brought that down.
 *
 * The first child to end, fail or die decides the reason, unless the state already has one. Then, in this order: the
 * children are interrupted and awaited, the last words are said, the transport is released, and watchers are told.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { closedByUs } from "../endings/fromCause.ts"
import { unexpected } from "../reasons/closeCodes.ts"
import * as Supervised from "../scheduling/supervised.ts"
import { seen, Story } from "../telemetry/story.ts"
import { telemetryOf } from "../telemetry/telemetry.ts"
import { callAll, close, defect, died, end, guarded, startLeaving } from "./core/lifecycle.ts"
import { AtServer } from "./core/limits.ts"
import { discard } from "./core/outbox.ts"
import { type Acts, type Conversation, fiberNames, isOver, reasonOf } from "./core/state.ts"
import { deadlineOf, deadlines, lookAgain } from "./deadlines.ts"
import { hasRoom } from "./fairness/budget.ts"
import { pause } from "./fairness/holds.ts"
import { askHeartbeat, beat, heartbeat, pongOf } from "./heartbeat.ts"
import { acceptArrived, goOn, handleArrived, pulled, reader, take } from "./reader.ts"
import { lastWords, turnEnded, writer } from "./writer.ts"

type Failure = ConnectionError.ConnectionError

/** Starts the conversation: its own fiber runs up to where it waits for the end. */
export const start = <In, Out>(c: Conversation<In, Out>): void => {
  c.holding?.begin(c.timers, c.turns)
  const four = c.children.fork([reader(c), writer(c), heartbeat(c), deadlines(c)])
  const conversation = Effect.flatMap(four, () => {
    c.wakeUp.release()
    return untilTheEnd(c)
  })
  // interruptible while it waits, and nowhere else
  c.fiber = Supervised.spawn(c.context, "connection", conversation, c, { uninterruptible: true })
  // each read comes here, in the event that brings it
  if (c.direct) guarded(c, "transport", () => c.source.offerTo(c))
}

/** An `Effect.suspend` of `finish` without a closure: the connection keeps it for as long as it lives. */
class Finishing<in out In, in out Out> extends Effectable.Class<void> {
  private readonly c: Conversation<In, Out>

  constructor(c: Conversation<In, Out>) {
    super()
    this.c = c
  }

  asEffect(): Effect.Effect<void> {
    return finish(this.c)
  }
}

/** Waits, and ends it: woken with what comes then, as a fiber has nothing on its stack while it waits. */
const untilTheEnd = <In, Out>(c: Conversation<In, Out>): Effect.Effect<void> =>
  Effect.interruptible(Effect.callback((resume) => {
    c.stop = resume
    // a child may have ended before it waited for anything
    if (isOver(c.lifecycle)) stop(c)
    return new Finishing(c)
  }))

const stop = <In, Out>(c: Conversation<In, Out>): void => c.stop?.(Effect.uninterruptible(new Finishing(c)))

const childEnded = <In, Out>(c: Conversation<In, Out>, index: number, exit: Exit.Exit<never, Failure>): void => {
  // interrupted by its own fiber, which is on its way to the end
  if (c.isStopping && !(Exit.isFailure(exit) && Cause.hasDies(exit.cause))) return
  const reason = reasonOfExit(c, fiberNames[index]!, exit)
  seen(c, fiberNames[index]!)
  end(c, reason)
}

const reasonOfExit = <In, Out>(c: Conversation<In, Out>, by: string, exit: Exit.Exit<never, Failure>): Failure => {
  if (Exit.isFailure(exit)) {
    for (const reason of exit.cause.reasons) if (reason._tag === "Fail") return reason.error
    if (Cause.hasDies(exit.cause)) return ConnectionError.make(defect(c, by, exit.cause))
  }
  return ConnectionError.make(new ConnectionError.Closed({ by: "local", note: `its ${by} was interrupted` }))
}

const finish = <In, Out>(c: Conversation<In, Out>): Effect.Effect<void> => {
  c.stop = undefined
  c.isStopping = true
  // no effect where the reason is known: its own fiber was interrupted
  if (reasonOf(c.lifecycle) === undefined) seen(c, "connection")
  end(c, closedByUs)
  acceptArrived(c)
  c.wakeUp.stop()
  const stopped = c.children.stop()
  // nearly always all of them end at once
  return stopped === Effect.void ? part(c) : Effect.flatMap(stopped, () => part(c))
}

/** All children have ended. */
const part = <In, Out>(c: Conversation<In, Out>): Effect.Effect<void> => {
  const isMidFrame = c.outbox.rest !== undefined
  const error = settle(c)
  const words = isMidFrame ? Effect.void : sayLastWords(c, error)
  return words === Effect.void ? release(c) : Effect.flatMap(words, () => release(c))
}

/** The one place that settles the end. */
const settle = <In, Out>(c: Conversation<In, Out>): Failure => {
  const reason = reasonOf(c.lifecycle)!
  c.lifecycle = { _tag: "Ended", reason, at: c.timers.now() }
  c.inbox.end(reason)
  const lostBytes = c.outbox.bytes
  c.lost = discard(c.outbox, reason)
  c.holding?.end()
  if (lostBytes > 0) (c.story ??= new Story()).lostBytes = lostBytes
  startLeaving(c)
  return reason
}

const sayLastWords = <In, Out>(c: Conversation<In, Out>, { reason }: Failure): Effect.Effect<void> => {
  const words = lastWords(c, reason)
  if (words === Effect.void) return Effect.void
  // a write suspends while its socket is not connected, and this one may find it so
  return Effect.raceFirst(
    Effect.catchCause(words, (cause) => {
      if (Cause.hasDies(cause)) defect(c, "last words", cause)
      return Effect.void
    }),
    Effect.yieldNow
  )
}

const release = <In, Out>(c: Conversation<In, Out>): Effect.Effect<void> => {
  const { opener } = c
  return Effect.catchCause(
    "detach" in opener ? Effect.sync(() => opener.detach()) : Scope.close(opener, Exit.void),
    (cause) => {
      if (Cause.hasDies(cause)) defect(c, "transport", cause)
      return Effect.void
    }
  )
}

/** Tells what waits for the end. */
const tell = <In, Out>(c: Conversation<In, Out>, error: Failure): void => {
  telemetryOf(c.context)?.connections.end(c, {
    reason: error.reason._tag,
    rule: deadlineOf(c, error.reason),
    age: c.timers.now() - c.opened
  })
  c.span?.end(error, {
    reason: error.reason._tag,
    seen_by: c.story?.seenBy,
    received_bytes: c.bytesIn,
    sent_bytes: c.outbox.written,
    received_messages: c.messagesIn,
    sent_messages: c.outbox.accepted,
    lost_messages: c.lost
  })
  // a handler that still has something to receive finishes with it, but not for ever
  const { drain } = c.inForce.limits
  const waits = (c.inbox.messages > 0 || c.inbox.hasMore) && drain > 0
  // before anything is told, which may call it off
  if (waits) c.goneTimer = c.timers.after(drain, () => tellGone(c))
  const { endWatchers } = c
  c.endWatchers = undefined
  callAll(endWatchers, c.id)
  Deferred.doneUnsafe(c.whenClosed, Exit.fail(error))
  if (!waits) tellGone(c)
}

const tellGone = <In, Out>(c: Conversation<In, Out>): void => {
  c.isGone = true
  c.handler?.connectionGone()
}

/** Its own fiber has ended, and nothing of the connection is left: now its end is told. */
const ended = <In, Out>(c: Conversation<In, Out>, exit: Exit.Exit<void>): void => {
  if (c.lifecycle._tag === "Ended") return tell(c, c.lifecycle.reason)
  // a mistake of ours on the way to the end
  const error = Exit.isFailure(exit)
    ? ConnectionError.make(defect(c, "connection", exit.cause))
    : closedByUs
  end(c, error)
  tell(c, settle(c))
}

/** The scope of the user closes. */
export const releaseWith = <In, Out>(
  c: Conversation<In, Out>,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<void> => {
  const forget = (): Effect.Effect<void> => {
    c.goneTimer?.cancel()
    return Effect.void
  }
  if (Deferred.isDoneUnsafe(c.whenClosed)) return forget()
  seen(c, "scope")
  if (Exit.isSuccess(exit)) close(c, closedByUs)
  else if (Cause.hasInterruptsOnly(exit.cause)) end(c, Context.get(c.context, AtServer)?.lateness ?? closedByUs)
  else end(c, ConnectionError.make(new ConnectionError.Closed({ by: "local", code: unexpected })))
  return Effect.flatMap(Fiber.await(c.fiber!), forget)
}

/** What the parts of a connection call for. */
export const acts: Acts = {
  take,
  pulled,
  handleArrived,
  hasRoom,
  pause,
  goOn,
  turnEnded,
  end,
  stop,
  childEnded,
  ended,
  died,
  pongOf,
  pingNow: (c) => askHeartbeat(c, "ping"),
  beat,
  lookAgain
}
