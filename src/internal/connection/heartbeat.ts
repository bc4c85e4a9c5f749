/** Heartbeat: follow the schedule of pings; ping, unless traffic both ways has said as much. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as ConnectionError from "../../ConnectionError.ts"
import { type Beat, steady } from "../../Heartbeat.ts"
import * as Cadence from "../scheduling/cadence.ts"
import { pingedLate, pongLimit } from "./deadlines.ts"
import { offerControl } from "./outbox.ts"
import type { Conversation } from "./state.ts"

type Failure = ConnectionError.ConnectionError

// a ping may come early by one part in so many of its interval, together with those of others
const pingSlack = 50

/** Sends a message ahead of all data, without waiting; or says why it cannot be encoded. */
export const sendControl = <In, Out>(c: Conversation<In, Out>, message: Out): ConnectionError.Reason | undefined => {
  const encoded = c.way.wire.encode(message)
  if (Result.isFailure(encoded)) return encoded.failure
  offerControl(c.outbox, encoded.success)
  return undefined
}

// the default keeps nothing between two steps: one for all connections
const steadyStep = Effect.runSync(Schedule.toStep(steady)) as (
  now: number,
  beat: Beat
) => Effect.Effect<[unknown, Duration.Duration]>

/** What the schedule of pings is told. */
const beatOf = <In, Out>({ facts, pings, terms: { limits, policy }, timers }: Conversation<In, Out>): Beat => ({
  every: limits.pingEvery,
  jitter: policy.pingJitter,
  count: pings.sent,
  unanswered: pings.missed,
  rtt: pings.rtt?.smoothed,
  quietFor: timers.now() - facts.heardAt
})

/** Asks the schedule for the interval that begins now. */
const interval = <In, Out>(c: Conversation<In, Out>, beat: Beat): Effect.Effect<number> => {
  const { cadence, clock } = c
  // off, whatever the schedule says
  if (beat.every === Infinity) return Effect.sync(() => planned(c, beat, Infinity))
  return cadence === undefined
    ? Effect.map(
      steadyStep(clock.currentTimeMillisUnsafe(), beat),
      ([, delay]) => planned(c, beat, Duration.toMillis(delay))
    )
    : Effect.map(cadence(beat), (delay) => planned(c, beat, delay))
}

const planned = <In, Out>({ facts, wakeUp }: Conversation<In, Out>, beat: Beat, delay: number): number => {
  // the first one is shorter, by the jitter
  facts.pingEvery = beat.count === 0 ? beat.every : delay
  wakeUp.first.slack = facts.pingEvery / pingSlack
  return delay
}

const sleepUntil = <In, Out>(c: Conversation<In, Out>, at: number): Effect.Effect<never, Failure> => {
  const { wakeUp } = c
  wakeUp.first.at = at
  return wakeUp.sleep(wakeUp.first)
}

/** The interval counts from the last ping, or from the beginning. */
const plan = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> =>
  Effect.flatMap(interval(c, beatOf(c)), (delay) => sleepUntil(c, Math.max(c.timers.now(), c.pings.lastAt + delay)))

/** Sends a ping, if the connection is open; fails when it cannot be encoded. */
const ping = <In, Out>(c: Conversation<In, Out>, at: number): Failure | undefined => {
  const { heartbeat } = c.shared
  if (c.lifecycle._tag !== "Open" || heartbeat === undefined) return undefined
  const failure = sendControl(c, heartbeat.ping(c.pings.send(at)))
  if (failure !== undefined) return ConnectionError.make(failure)
  c.wakeUp.secondBy(at + pongLimit(c))
  return undefined
}

/** A ping is due, or asked for. */
export const beat = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> => {
  const { asked, facts, pings, timers } = c
  const at = timers.now()
  const planned = c.wakeUp.first.at
  c.asked = undefined
  if (asked === "plan") return plan(c)
  c.work.heartbeat++
  if (asked === "ping") {
    const failure = ping(c, at)
    return failure === undefined ? sleepUntil(c, planned) : Effect.fail(failure)
  }
  // both directions carried bytes since the last ping: each side knows the other is alive
  const quietSince = Math.min(facts.heardAt, facts.sentAt)
  // one that comes early is due all the same: put off to the time it had, it would come early again, and again
  const due = Math.max(at, planned)
  if (c.terms.policy.pingWhen === "quiet" && quietSince > pings.lastAt && quietSince + facts.pingEvery > due) {
    return sleepUntil(c, quietSince + facts.pingEvery)
  }
  pingedLate(facts, Math.max(0, at - planned), at)
  const told = beatOf(c)
  const failure = ping(c, at)
  if (failure !== undefined) return Effect.fail(failure)
  // the cadence is the interval, whatever the round trip takes; after a stall it starts over
  return Effect.flatMap(
    interval(c, { ...told, count: told.count + 1 }),
    (delay) => sleepUntil(c, planned + delay > at ? planned + delay : at + delay)
  )
}

/** Wakes a heartbeat that sleeps before its time: for a ping now, or another plan. */
export const askHeartbeat = <In, Out>(c: Conversation<In, Out>, asked: "ping" | "plan"): void => {
  const { wakeUp } = c
  if (!wakeUp.first.isSleeping) return
  c.asked = asked
  wakeUp.wake(wakeUp.first)
}

/**
 * Pings at the times that the schedule says, at once when asked to, and fails when a ping cannot be encoded. Parked where
 * there is nothing to ping with; where pings are off, until a patch turns them on.
 */
export const heartbeat = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> => {
  const { heartbeat, pings } = c.shared
  if (heartbeat === undefined) return Effect.never
  if (pings === undefined) return Effect.suspend(() => plan(c))
  return Effect.flatMap(Cadence.make("the pings of a connection", pings, steady), (cadence) => {
    c.cadence = cadence
    return plan(c)
  })
}
