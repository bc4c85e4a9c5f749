/** Where connections, servers, clients and pools find what collects their figures, if anything does. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { Budgets } from "./budgets.ts"
import { Collector, type Source } from "./collector.ts"
import { Connections } from "./connections.ts"
import type { Name } from "./definitions.ts"

export class Telemetry {
  readonly collector = new Collector()
  readonly connections = new Connections(this.collector)
  readonly budgets = new Budgets(this.collector)
}

/** The telemetry of what runs here. Without it nothing is counted that is not counted anyway. */
export const CurrentTelemetry = Context.Reference<Telemetry | undefined>("holdfast/Telemetry", {
  defaultValue: () => undefined
})

export const telemetryOf = (context: Context.Context<never>): Telemetry | undefined =>
  Context.get(context, CurrentTelemetry)

/** A pong came: how long it took, in milliseconds. */
export const roundTrip = (context: Context.Context<never>, millis: number): void =>
  telemetryOf(context)?.collector.observe("round_trip_seconds", millis / 1000)

/** Asks a source until the scope closes, and then keeps its counters. */
export const watched = (source: Source): Effect.Effect<void, never, Scope.Scope> =>
  Effect.contextWith((context: Context.Context<Scope.Scope>) => {
    const telemetry = telemetryOf(context)
    if (telemetry === undefined) return Effect.void
    const forget = telemetry.collector.watch(source)
    return Effect.addFinalizer(() => Effect.sync(forget))
  })

/** Counts how an effect ends, and how long it took where it succeeded. Without telemetry it is that effect. */
export const timed = (
  telemetry: Telemetry | undefined,
  now: () => number,
  names: { readonly counter: Name; readonly histogram: Name; readonly success: string }
) =>
<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  if (telemetry === undefined) return effect
  const { collector } = telemetry
  return Effect.suspend(() => {
    const began = now()
    return Effect.onExit(effect, (exit) =>
      Effect.sync(() => {
        const outcome = Exit.isSuccess(exit) ? names.success : Exit.hasInterrupts(exit) ? "interrupted" : "failed"
        collector.count(names.counter, 1, outcome)
        if (Exit.isSuccess(exit)) collector.observe(names.histogram, (now() - began) / 1000)
      }))
  })
}
