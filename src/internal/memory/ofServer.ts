/** The memory of a server: which budget its connections have, its figures, and who is told when it is tight. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { schedulingOf } from "../scheduling/timers.ts"
import { telemetryOf } from "../telemetry/telemetry.ts"
import { type Budget, budgetOf, CurrentBudget, type Watcher } from "./budget.ts"
import { processShare } from "./processShare.ts"

/** That of the context; else one of its own where `limit` says how much, or the one that the process shares. */
export const budgetIn = (context: Context.Context<never>, limit: number, patience: number): Budget | undefined =>
  Context.get(context, CurrentBudget) ?? budgetOf(limit, patience, schedulingOf(context).timers, processShare)

/** Has a budget among the figures, and tells of it, until the scope closes. */
export const watchBudget = (budget: Budget, watcher: Watcher): Effect.Effect<void, never, Scope.Scope> =>
  Effect.contextWith((context: Context.Context<Scope.Scope>) => {
    const unwatch = budget.watch(watcher)
    const forget = telemetryOf(context)?.budgets.use(budget)
    return Effect.addFinalizer(() =>
      Effect.sync(() => {
        unwatch()
        forget?.()
      })
    )
  })
