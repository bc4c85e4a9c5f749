/**
 * The second line of defence: closes connections that did not end themselves in time, and connections that a rule condemns.
 *
 * A connection ends itself and tells the registry. A connection that should have and has not is a bug. Two looks have to
 * find it: the first may come in the middle of an end, or after a stall, before the fibers of the connection have run.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import type { Snapshot } from "../connection/core/snapshot.ts"
import { TypeId } from "../connection/handle/internals.ts"
import { logError, logLine } from "../reasons/logs.ts"
import * as Cadence from "../scheduling/scheduleSteps.ts"
import * as Supervised from "../scheduling/supervised.ts"
import { close, forget, type Home } from "./membership.ts"
import * as State from "./state.ts"
import * as Trie from "./trie.ts"

export type SweepRule = (snapshot: Snapshot) => boolean

// at least so far apart are the two looks, in milliseconds: a connection that is about to end has ended by then
const confirmAfter = 1000

const defaultCadence = Schedule.spaced("30 seconds")

/** What two looks found: `ended` is to be removed, `overdue` is to be closed. */
interface Findings<C extends State.Member, S> {
  readonly ended: ReadonlyArray<State.Entry<C, S>>
  readonly overdue: ReadonlyArray<State.Entry<C, S>>
}

/** Why a connection should not be registered any more. */
const wrongWith = ({ connection }: State.Entry<State.Member, unknown>): State.Suspect["why"] | undefined => {
  const internals = connection[TypeId]
  if (internals.state === "ended") return "ended"
  return internals.overdue > 0 ? "overdue" : undefined
}

/** Looks at every connection; `now` is milliseconds of the monotonic clock. A connection that recovered is suspect no more. */
const look = <C extends State.Member, S>(
  state: State.State<C, S>,
  now: number
): readonly [Findings<C, S>, State.State<C, S>] => {
  const findings: Record<State.Suspect["why"], Array<State.Entry<C, S>>> = { ended: [], overdue: [] }
  const suspects = new Map<number, State.Suspect>()
  for (const entry of Trie.values(state.inOrder)) {
    const why = wrongWith(entry)
    if (why === undefined) continue
    const { id } = entry.connection
    const last = state.suspects.get(id)
    const before = last?.why === why ? last : undefined
    const since = before?.since ?? now
    const isSettled = now - since >= confirmAfter
    if (isSettled && before?.isSettled !== true) findings[why].push(entry)
    suspects.set(id, { why, since, isSettled })
  }
  if (suspects.size === 0 && state.suspects.size === 0) return [findings, state]
  const { ended, overdue } = findings
  return [findings, { ...state, suspects, overlooked: state.overlooked + ended.length + overdue.length }]
}

/** Removes connections that have ended, and closes overdue ones. Returns the ids of the connections that it closes. */
const rescue = <C extends State.Member, S>(home: Home<C, S>): Effect.Effect<ReadonlySet<number>> =>
  Effect.gen(function*() {
    const now = Number(yield* Clock.monotonicTimeNanos) / 1_000_000
    const { ended, overdue } = yield* Ref.modify(home.ref, (state) => look(state, now))
    for (const entry of ended) {
      const registered = State.entryOf(Ref.getUnsafe(home.ref), entry.connection.id)
      if (registered === entry) forget(home, entry)
    }
    for (const { connection } of ended) {
      yield* logLine("Error", `connection ${connection.id} has ended and was still registered: the sweep removes it`)
    }
    for (const entry of overdue) {
      const { id, [TypeId]: internals } = entry.connection
      const millis = Math.round(internals.overdue)
      yield* logLine(
        "Error",
        `connection ${id} has outlived its policy by ${millis} ms, and nothing of its own ends it: the sweep closes it`
      )
      yield* close(home, entry.connection, "swept", new ConnectionError.Swept({}))
    }
    return new Set(overdue.map(({ connection }) => connection.id))
  })

/** What the rule says of a connection. A throw counts for this connection alone. */
const judge = (seen: Exit.Exit<Snapshot>, rule: SweepRule): Exit.Exit<boolean> => {
  if (Exit.isFailure(seen)) return Exit.failCause(seen.cause)
  try {
    return Exit.succeed(rule(seen.value))
  } catch (defect) {
    return Exit.die(defect)
  }
}

/** Closes what the rule condemns and returns how many. A throw is logged, unless the sweep before had one. */
const enforce = <C extends State.Member, S>(
  home: Home<C, S>,
  rule: SweepRule,
  but: ReadonlySet<number>
): Effect.Effect<number> =>
  Effect.gen(function*() {
    const before = yield* Ref.get(home.ref)
    let closed = 0
    let broken: Cause.Cause<never> | undefined
    for (const entry of Trie.values(before.inOrder)) {
      const { id, [TypeId]: internals } = entry.connection
      if (!State.isLiving(internals.state) || but.has(id)) continue
      const exit = judge(yield* Effect.exit(entry.connection.snapshot), rule)
      if (Exit.isFailure(exit)) broken ??= exit.cause
      else if (exit.value) {
        closed++
        yield* close(home, entry.connection, "swept", new ConnectionError.Swept({}))
      }
    }
    const isRuleBroken = broken !== undefined
    if (broken !== undefined && !before.isRuleBroken) {
      yield* logError("the rule `expired` of a registry throws: those connections are not swept", broken)
    }
    if (isRuleBroken !== before.isRuleBroken) yield* Ref.update(home.ref, (state) => ({ ...state, isRuleBroken }))
    return closed
  })

/** One sweep. Returns how many connections it closes. */
export const sweep = <C extends State.Member, S>(
  home: Home<C, S>,
  rule: SweepRule | undefined
): Effect.Effect<number> =>
  Effect.flatMap(rescue(home), (rescued) =>
    rule === undefined
      ? Effect.succeed(rescued.size)
      : Effect.map(enforce(home, rule, rescued), (closed) => closed + rescued.size))

/** Sweeps for as long as the scope is open, even when the schedule ends, a sweep fails or the fiber is interrupted. */
export const keepSweeping = (
  sweep: Effect.Effect<unknown>,
  every: Schedule.Schedule<unknown, void, unknown> = defaultCadence
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(Cadence.make("a registry's sweep", every, defaultCadence), (next) => {
    const once = Effect.andThen(Effect.flatMap(next(undefined), Effect.sleep), sweep)
    return Supervised.restarted("the sweep of a registry", Effect.forever(once))
  })
