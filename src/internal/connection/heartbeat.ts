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
const steadyStep = Effect.runSync(Schedule.toStep(steady))

const steadily = <In, Out>(c: Conversation<In, Out>): Cadence.Cadence<Beat> => (beat) =>
  Effect.map(
    steadyStep(c.clock.currentTimeMillisUnsafe(), beat) as Effect.Effect<[unknown, Duration.Duration]>,
    (next) => Duration.toMillis(next[1])
  )

/** What the schedule of pings is told. */
const beatOf = <In, Out>({ facts, pings, terms: { limits, policy }, timers }: Conversation<In, Out>): Beat => ({
  every: limits.pingEvery,
  jitter: policy.pingJitter,
  count: pings.sent,
  unanswered: pings.count,
  rtt: pings.rtt?.smoothed,
  quietFor: timers.now() - facts.heardAt
})

/** Pings at the times that the schedule says, at once when asked to, and fails when a ping cannot be encoded. */
const beating = <In, Out>(
  c: Conversation<In, Out>,
  ping: (token: number) => Out,
  cadence: Cadence.Cadence<Beat>
): Effect.Effect<never, Failure> => {
  const { facts, pings, timers, wakeUp } = c
  const sleeper = wakeUp.first

  /** Asks the schedule for the interval that begins now. */
  const interval = (beat: Beat): Effect.Effect<number> =>
    // off, whatever the schedule says
    Effect.map(beat.every === Infinity ? Effect.succeed(Infinity) : cadence(beat), (delay) => {
      // the first one is shorter, by the jitter
      facts.pingEvery = beat.count === 0 ? beat.every : delay
      sleeper.slack = facts.pingEvery / pingSlack
      return delay
    })

  /** The interval counts from the last ping, or from the beginning. */
  const plan: Effect.Effect<never, Failure> = Effect.suspend(() =>
    Effect.flatMap(interval(beatOf(c)), (delay) => {
      sleeper.at = Math.max(timers.now(), pings.lastAt + delay)
      return sleep
    })
  )

  /** Sends one, if the connection is open. */
  const send = (at: number): ConnectionError.Reason | undefined => {
    if (c.lifecycle._tag !== "Open") return undefined
    const failure = sendControl(c, ping(pings.send(at)))
    if (failure === undefined) wakeUp.secondBy(at + pongLimit(c))
    return failure
  }

  const beat = (): Effect.Effect<never, Failure> => {
    const at = timers.now()
    const planned = sleeper.at
    const { asked } = c
    c.asked = undefined
    if (asked === "plan") return plan
    c.work.heartbeat++
    if (asked === "ping") {
      const failure = send(at)
      return failure === undefined ? sleep : Effect.fail(ConnectionError.make(failure))
    }
    // both directions carried bytes since the last ping: each side knows the other is alive
    const quietSince = Math.min(facts.heardAt, facts.sentAt)
    // one that comes early is due all the same: put off to the time it had, it would come early again, and again
    const due = Math.max(at, planned)
    if (
      c.terms.policy.pingWhen === "quiet" && quietSince > pings.lastAt && quietSince + facts.pingEvery > due
    ) {
      sleeper.at = quietSince + facts.pingEvery
      return sleep
    }
    pingedLate(facts, Math.max(0, at - planned), at)
    const told = beatOf(c)
    const failure = send(at)
    if (failure !== undefined) return Effect.fail(ConnectionError.make(failure))
    // the cadence is the interval, whatever the round trip takes; after a stall it starts over
    return Effect.flatMap(interval({ ...told, count: told.count + 1 }), (delay) => {
      sleeper.at = planned + delay > at ? planned + delay : at + delay
      return sleep
    })
  }

  const sleep = Effect.flatMap(sleeper.sleep(wakeUp), beat)
  return plan
}

/** Wakes a heartbeat that sleeps before its time: for a ping now, or another plan. */
export const askHeartbeat = <In, Out>(c: Conversation<In, Out>, asked: "ping" | "plan"): void => {
  const sleeper = c.wakeUp.first
  if (!sleeper.isSleeping) return
  c.asked = asked
  sleeper.wake()
}

/** Parked where there is nothing to ping with; where pings are off, until a patch turns them on. */
export const heartbeat = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> => {
  const { heartbeat, pings } = c.shared
  if (heartbeat === undefined) return Effect.never
  return pings === undefined
    ? beating(c, heartbeat.ping, steadily(c))
    : Effect.flatMap(
      Cadence.make("the pings of a connection", pings, steady),
      (cadence) => beating(c, heartbeat.ping, cadence)
    )
}
