/**
 * Deadlines: look which rule is broken, sleep until the next one could be, look again.
 *
 * The rules are a table: what each waits for, since when, and for how long.
 */
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"
import { afterTurns } from "../scheduling/turns.ts"
import type { rules as deadlineNames } from "../telemetry/definitions.ts"
import { askEvery } from "./core/facts.ts"
import { askAndDrain, leave } from "./core/lifecycle.ts"
import { type Conversation, type Lifecycle, reasonOf, unsentOf, type Watched } from "./core/state.ts"
import { lastRead } from "./stopping.ts"

type Deadline = typeof deadlineNames[number]
type Failure = ConnectionError.ConnectionError

// ---------------------------------------------------------------------------------------------------------------------
// the rules
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What the deadlines call for: end the connection, ask it to leave or drain it because of its age, begin its last
 * read because its server stops, look once more after pending input was processed, send a probe, or wait.
 */
export type Verdict =
  | { readonly _tag: "End"; readonly error: Failure }
  | { readonly _tag: "Leave" }
  | { readonly _tag: "Drain"; readonly reason: ConnectionError.Reason }
  | { readonly _tag: "LastRead" }
  | { readonly _tag: "Confirm" }
  | { readonly _tag: "Probe" }
  | { readonly _tag: "Wait"; readonly millis: number }

interface Rule {
  readonly name: string
  /** Since when it counts; undefined: nothing is waited for. */
  readonly since: (c: Watched) => number | undefined
  /** How long it may take. */
  readonly limit: (c: Watched) => number
  readonly broken: (c: Watched) => Verdict
  /**
   * A look that is later than half of this means that we were away ourselves, and `forgive` gives the peer another half of
   * its limit. Without them the rule is about us.
   */
  readonly patience?: (c: Watched) => number
  readonly forgive?: (c: Watched, at: number) => Verdict | undefined
}

const ended = (reason: ConnectionError.Reason): Verdict => ({ _tag: "End", error: ConnectionError.make(reason) })

/** How long a ping may be unanswered. */
export const pongLimit = ({ facts, inForce: { limits } }: Watched): number =>
  limits.pong + limits.misses * (limits.misses > 0 ? facts.pingEvery : 0)

/** A rule about what the peer sends: it holds while we read, and what a stall of ours broke is asked about first. */
const reading = (
  name: string,
  since: (c: Watched) => number | undefined,
  limit: (c: Watched) => number,
  reason: (c: Watched) => ConnectionError.Reason,
  patience = limit
): Rule => ({
  name,
  limit,
  patience,
  since: (c) => {
    const began = c.facts.readingSince === undefined ? undefined : since(c)
    return began === undefined ? undefined : Math.max(began, c.facts.forgivenAt - limit(c) / 2)
  },
  broken: (c) => ended(reason(c)),
  forgive: ({ facts }, at) => {
    facts.forgivenAt = at
    return { _tag: "Probe" }
  }
})

const ageLimit = ({ facts, inForce: { limits } }: Watched): number => Math.round(limits.maxAge * facts.ageFactor)

const aged = ({ inForce: { limits } }: Watched) => new ConnectionError.MaxAge({ limit: limits.maxAge })

/** In the order in which they are looked at: the first broken one is the reason. */
export const rules: ReadonlyArray<Rule> = [
  {
    name: "end",
    since: ({ lifecycle }) => lifecycle._tag === "Draining" || lifecycle._tag === "Closing" ? lifecycle.by : undefined,
    limit: () => 0,
    broken: ({ lifecycle }) => ({ _tag: "End", error: (lifecycle as Exclude<Lifecycle, { _tag: "Open" }>).reason })
  },
  reading(
    "silence",
    ({ facts }) =>
      // a ping that left late could not be answered earlier: that time is no silence of the peer
      Math.max(facts.readingSince!, facts.heardAt >= facts.backAt ? facts.heardAt : facts.heardAt + facts.away),
    ({ inForce: { limits } }) => limits.silence,
    ({ inForce: { limits } }) => new ConnectionError.SilenceTimeout({ limit: limits.silence })
  ),
  reading(
    "pong",
    ({ facts, inbox, pings }) =>
      // the pong may be among the bytes that we have not decoded
      pings.oldestAt === undefined || inbox.hasMore
        ? undefined
        : Math.max(pings.oldestAt, facts.provenAt, facts.readingSince!),
    pongLimit,
    ({ pings, inForce: { limits } }) =>
      new ConnectionError.PongTimeout({ limit: limits.pong, unanswered: pings.count }),
    ({ inForce: { limits } }) => limits.pong
  ),
  reading(
    "frame",
    ({ facts }) => facts.frameSince === undefined ? undefined : Math.max(facts.frameSince, facts.resumedAt),
    ({ inForce: { limits } }) => limits.frame,
    ({ pending, inForce: { limits } }) => new ConnectionError.FrameTimeout({ limit: limits.frame, received: pending })
  ),
  // while paused there are messages to be received, so only a reading connection is idle
  reading(
    "idle",
    ({ facts }) => facts.messageAt,
    ({ inForce: { limits } }) => limits.idle,
    ({ inForce: { limits } }) => new ConnectionError.IdleTimeout({ limit: limits.idle })
  ),
  {
    name: "write",
    since: ({ facts }) => facts.stalledSince,
    limit: ({ inForce: { limits } }) => limits.writeStall,
    patience: ({ inForce: { limits } }) => limits.writeStall,
    broken: ({ inForce: { limits } }) => ended(new ConnectionError.WriteStalled({ limit: limits.writeStall })),
    forgive: ({ facts, inForce: { limits } }, at) => {
      facts.stalledSince = at - limits.writeStall / 2
      return undefined
    }
  },
  {
    name: "age",
    since: ({ facts, lifecycle }) => lifecycle._tag === "Open" && !facts.isAsked ? facts.openedAt : undefined,
    limit: ageLimit,
    broken: (c) => {
      c.facts.isAsked = true
      return c.inForce.limits.maxAgeGrace > 0 ? { _tag: "Leave" } : { _tag: "Drain", reason: aged(c) }
    }
  },
  {
    name: "stop",
    since: ({ lifecycle, stopping }) => lifecycle._tag === "Open" ? stopping?.until : undefined,
    limit: () => 0,
    broken: () => ({ _tag: "LastRead" })
  },
  {
    name: "grace",
    since: ({ facts, lifecycle }) => lifecycle._tag === "Open" && facts.isAsked ? facts.openedAt : undefined,
    limit: (c) => ageLimit(c) + c.inForce.limits.maxAgeGrace,
    broken: (c) => ({ _tag: "Drain", reason: aged(c) })
  }
]

/**
 * What has to be done at this time, and until when there is nothing to do.
 *
 * `late`: by how much the look comes later than it was planned. `isSure`: pending input was processed since the last look.
 */
export const due = (c: Watched, at: number, late: number, isSure: boolean): Verdict => {
  const isBusy = watchWrite(c, at)
  let next = Infinity
  for (const rule of rules) {
    let since = rule.since(c)
    if (since !== undefined && at >= since + rule.limit(c) && rule.forgive !== undefined) {
      if (late > rule.patience!(c) / 2) {
        const verdict = rule.forgive(c, at)
        if (verdict !== undefined) return verdict
        since = rule.since(c)
      } else if (!isSure) return { _tag: "Confirm" }
    }
    if (since === undefined) continue
    const left = since + rule.limit(c) - at
    if (left <= 0) {
      c.facts.rule = rule.name
      return rule.broken(c)
    }
    next = Math.min(next, left)
  }
  return { _tag: "Wait", millis: Math.min(next, watchAgain(c, isBusy)) }
}

const tagOf: Readonly<Record<string, ConnectionError.Reason["_tag"]>> = {
  silence: "SilenceTimeout",
  pong: "PongTimeout",
  frame: "FrameTimeout",
  idle: "IdleTimeout",
  write: "WriteStalled",
  age: "MaxAge",
  grace: "MaxAge"
}

/** Which deadline ended a connection, if one did; `drain`: a drain or a flush took as long as it may. */
export const deadlineOf = ({ facts: { rule } }: Watched, reason: ConnectionError.Reason): Deadline | undefined =>
  rule === "end"
    ? "drain"
    : rule === undefined || tagOf[rule] !== reason._tag
    ? undefined
    : rule === "grace"
    ? "age"
    : rule as Deadline

/** How many bytes the peer's side has taken, while it has some to take. */
const takenOf = (c: Watched): number | undefined => {
  const unsent = unsentOf(c)
  if (!c.facts.isWriting && unsent === 0) return undefined
  return c.transport.unsent === undefined ? 0 : c.outbox.written - unsent
}

/** Sees whether the peer takes our bytes; true while it has some to take. */
const watchWrite = (c: Watched, at: number): boolean => {
  const { facts } = c
  const taken = takenOf(c)
  // any change: what frames cost on the wire is not known here, and may make it fall
  if (taken === undefined) facts.stalledSince = undefined
  else if (facts.stalledSince === undefined || taken !== facts.taken) facts.stalledSince = at
  if (taken !== undefined) facts.taken = taken
  return taken !== undefined
}

/** When to look again at what begins without a deadline that is known beforehand. */
const watchAgain = ({ facts, inForce: { limits }, transport }: Watched, isBusy: boolean): number => {
  const { hasWritten } = facts
  const showsProgress = transport.unsent !== undefined
  facts.hasWritten = false
  facts.isWatching = showsProgress && (isBusy || hasWritten)
  const write = facts.isWatching
    // progress inside a write is only seen by looking: a stall is found up to a quarter of the limit late
    ? limits.writeStall / 4
    // a connection that writes all the time is looked at in time, and not woken by each write
    : !showsProgress && !isBusy && hasWritten
    ? limits.writeStall
    : Infinity
  const read = facts.readingSince === undefined
    ? Math.min(
      limits.silence,
      limits.pong,
      limits.frame,
      limits.idle,
      transport.fault === undefined ? Infinity : askEvery
    )
    : Infinity
  return Math.min(write, read)
}

/**
 * By how many milliseconds a connection has outlived the worst case of its policy, or 0: each rule is found within its
 * limit and half of it (after a stall of ours), and a second.
 */
export const overdue = (c: Watched, at: number): number => {
  let most = 0
  // since the last look at the writes
  const isMoving = takenOf(c) !== c.facts.taken
  for (const rule of rules) {
    const since = rule.since(c)
    if (since === undefined || (rule.name === "write" && isMoving)) continue
    const limit = rule.limit(c)
    most = Math.max(most, at - since - 1.5 * limit - 1_000)
  }
  return Number.isNaN(most) ? 0 : most
}

// ---------------------------------------------------------------------------------------------------------------------
// the fiber
// ---------------------------------------------------------------------------------------------------------------------

/** Looks, sleeps until the next rule could be broken, and looks again. A broken rule is what it fails with. */
export const deadlines = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> =>
  Effect.suspend(() => lookAgain(c))

/** What the fiber goes on with when it has slept. */
export const lookAgain = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> => look(c, false)

/** While nothing is read, a peer that is gone shows only where the transport is asked. */
const faultOf = <In, Out>({ facts, lifecycle, transport }: Conversation<In, Out>): Failure | undefined => {
  if (facts.readingSince !== undefined || lifecycle._tag !== "Open") return undefined
  const fault = transport.fault?.()
  return fault === undefined ? undefined : ConnectionError.fromSocketError(fault)
}

const look = <In, Out>(c: Conversation<In, Out>, isConfirmed: boolean): Effect.Effect<never, Failure> => {
  const { timers, turns, wakeUp } = c
  c.looks++
  for (let isSure = isConfirmed;; isSure = false) {
    const at = timers.now()
    // a stall of ours that began before is seen by the wake-up that it delayed
    const late = wakeUp.secondAt === -Infinity ? 0 : Math.max(at - wakeUp.secondAt, timers.late)
    const fault = faultOf(c)
    if (fault !== undefined) return Effect.fail(fault)
    const verdict = due(c, at, late, isSure)
    switch (verdict._tag) {
      case "End": {
        const ending = Effect.fail(verdict.error)
        // it ends in any case: what the transport takes at once still leaves
        return verdict.error === reasonOf(c.lifecycle) ? Effect.andThen(afterTurns(turns, 1), ending) : ending
      }
      case "Leave":
        leave(c, aged(c))
        continue
      case "Drain":
        askAndDrain(c, verdict.reason)
        continue
      case "LastRead":
        lastRead(c)
        continue
      case "Probe":
        wakeUp.secondAt = at
        c.acts.pingNow(c)
        continue
      case "Confirm":
        // a timer runs before the input that is waiting: let the event loop deliver that first
        return Effect.flatMap(afterTurns(turns, 3), () => look(c, true))
      case "Wait":
        return wakeUp.sleepSecond(at + verdict.millis)
    }
  }
}
