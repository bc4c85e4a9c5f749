/** Heartbeat: follow the schedule of pings; ping, unless traffic both ways has said as much. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as ConnectionError from "../../ConnectionError.ts"
import { type Beat, steady } from "../../Heartbeat.ts"
import type { Frame } from "../codec/encoder.ts"
import * as Cadence from "../scheduling/scheduleSteps.ts"
import { note } from "../telemetry/story.ts"
import { Opcode } from "../webSocket/frames.ts"
import { pingedLate } from "./core/facts.ts"
import { offerControl, type PeerPing } from "./core/outbox.ts"
import type { Conversation } from "./core/state.ts"
import { pongLimit } from "./deadlines.ts"

type Failure = ConnectionError.ConnectionError

// a ping may come early by one part in so many of its interval, together with those of others
const pingSlack = 50

/** Encodes the answer to a ping of the peer, which leaves ahead of all data; one that cannot be encoded ends the connection. */
export const pongOf = <In, Out>(c: Conversation<In, Out>, ping: PeerPing<Out>): Frame | undefined => {
  if ("payload" in ping) return c.way.control!(Opcode.pong, ping.payload)
  const encoded = c.way.wire.encode(ping.answer)
  if (Result.isSuccess(encoded)) return encoded.success
  c.broken ??= encoded.failure
  return undefined
}

type Step = (now: number, beat: Beat) => Effect.Effect<readonly [unknown, Duration.Duration]>

// the default keeps nothing between two steps: one for all connections that draw from the same random numbers
const steadySteps = new WeakMap<object, Step>()

const steadyStep = ({ context }: { readonly context: Context.Context<never> }): Step => {
  const random = Context.get(context, Random.Random)
  let step = steadySteps.get(random)
  if (step === undefined) {
    step = Effect.runSync(Effect.provideService(Schedule.toStep(steady), Random.Random, random)) as unknown as Step
    steadySteps.set(random, step)
  }
  return step
}

/** What the schedule of pings is told, and asked for: the interval after so many pings. */
const beatOf = <In, Out>(c: Conversation<In, Out>, count: number): Beat => {
  const { facts, pings, inForce: { limits, policy }, timers } = c
  return {
    every: limits.pingEvery,
    jitter: policy.pingJitter,
    count,
    unanswered: pings.missed,
    rtt: pings.rtt?.smoothed,
    quietFor: timers.now() - facts.heardAt
  }
}

type GoOn = (delay: number) => Effect.Effect<never, Failure>

/** Asks the schedule for the interval that begins now, and goes on with it: at once, where the answer is there at once. */
const ask = <In, Out>(c: Conversation<In, Out>, beat: Beat, goOn: GoOn): Effect.Effect<never, Failure> => {
  const { cadence, clock } = c
  // off, whatever the schedule says
  if (beat.every === Infinity) return goOn(planned(c, beat, Infinity))
  if (cadence !== undefined) return Effect.flatMap(cadence(beat), (delay) => goOn(planned(c, beat, delay)))
  const step = steadyStep(c)(clock.currentTimeMillisUnsafe(), beat)
  const go = (next: readonly [unknown, Duration.Duration]) => goOn(planned(c, beat, Duration.toMillis(next[1])))
  const known = Exit.isExit(step) && Exit.isSuccess(step) ? step.value : undefined
  return known === undefined ? Effect.flatMap(step, go) : go(known as readonly [unknown, Duration.Duration])
}

const planned = <In, Out>({ facts, wakeUp }: Conversation<In, Out>, beat: Beat, delay: number): number => {
  // the first one is shorter, by the jitter
  facts.pingEvery = beat.count === 0 ? beat.every : delay
  wakeUp.slack = facts.pingEvery / pingSlack
  return delay
}

const sleepUntil = <In, Out>({ wakeUp }: Conversation<In, Out>, at: number): Effect.Effect<never, Failure> =>
  wakeUp.sleepFirst(at)

/** The interval counts from the last ping, or from the beginning. */
const plan = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> =>
  ask(c, beatOf(c, c.pings.sent), (delay) => sleepUntil(c, Math.max(c.timers.now(), c.pings.lastAt + delay)))

/** Sends a ping, if the connection is open; fails when it cannot be encoded. */
const ping = <In, Out>(c: Conversation<In, Out>, at: number): Failure | undefined => {
  const { way } = c
  if (c.lifecycle._tag !== "Open" || way.ping === undefined) return undefined
  if (c.pings.oldestAt !== undefined) note(c, "unanswered", `${c.pings.count}`)
  const encoded = way.ping(c.pings.send(at))
  if (Result.isFailure(encoded)) return ConnectionError.make(encoded.failure)
  offerControl(c.outbox, encoded.success)
  c.wakeUp.secondBy(at + pongLimit(c))
  return undefined
}

/** A ping is due, or asked for. */
export const beat = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> => {
  const { asked, facts, pings, timers } = c
  const at = timers.now()
  const planned = c.wakeUp.firstAt
  c.asked = undefined
  if (asked === "plan") return plan(c)
  c.beats++
  if (asked === "ping") {
    const failure = ping(c, at)
    return failure === undefined ? sleepUntil(c, planned) : Effect.fail(failure)
  }
  // both directions carried bytes since the last ping: each side knows the other is alive
  const quietSince = Math.min(facts.heardAt, facts.sentAt)
  // one that comes early is due all the same: put off to the time it had, it would come early again, and again
  const due = Math.max(at, planned)
  if (c.inForce.policy.pingWhen === "quiet" && quietSince > pings.lastAt && quietSince + facts.pingEvery > due) {
    return sleepUntil(c, quietSince + facts.pingEvery)
  }
  const late = Math.max(0, at - planned)
  if (late >= 1000) note(c, "stall", `${Math.round(late)}`)
  pingedLate(facts, late, at)
  const next = beatOf(c, pings.sent + 1)
  const failure = ping(c, at)
  if (failure !== undefined) return Effect.fail(failure)
  // the cadence is the interval, whatever the round trip takes; after a stall it starts over
  return ask(c, next, (delay) => sleepUntil(c, planned + delay > at ? planned + delay : at + delay))
}

/** Wakes a heartbeat that sleeps before its time: for a ping now, or another plan. */
export const askHeartbeat = <In, Out>(c: Conversation<In, Out>, asked: "ping" | "plan"): void => {
  if (!c.wakeUp.isFirstSleeping) return
  c.asked = asked
  c.wakeUp.wakeFirst()
}

/**
 * Pings at the times that the schedule says, at once when asked to, and fails when a ping cannot be encoded. Parked where
 * there is nothing to ping with; where pings are off, until a patch turns them on.
 */
export const heartbeat = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> => {
  const { pings } = c.setup
  if (c.way.ping === undefined) return Effect.never
  if (pings === undefined) return Effect.suspend(() => plan(c))
  return Effect.flatMap(Cadence.make("the pings of a connection", pings, steady), (cadence) => {
    c.cadence = cadence
    return plan(c)
  })
}
