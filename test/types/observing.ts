/** What `Metrics` infers, as a user's program sees it. Only compiled: here, and against the packed package. */
import { type Effect, type Layer, Metric } from "effect"
import { Connection, Metrics, type Registry } from "holdfast"
import { SystemMetrics } from "holdfast/node"
import { expectTypeOf } from "vitest"

expectTypeOf(Metrics.layer).toEqualTypeOf<Layer.Layer<never>>()
expectTypeOf(Metrics.definitions).toEqualTypeOf<ReadonlyArray<Metrics.Definition>>()
expectTypeOf(SystemMetrics.layer).toEqualTypeOf<Layer.Layer<never>>()
expectTypeOf(SystemMetrics.definitions).toEqualTypeOf<ReadonlyArray<Metrics.Definition>>()
expectTypeOf<Metrics.Definition["kind"]>().toEqualTypeOf<"counter" | "gauge" | "histogram">()
expectTypeOf(Metric.snapshot).toExtend<Effect.Effect<ReadonlyArray<Metric.Metric.Snapshot>>>()

declare const connection: Connection.Connection<string>
expectTypeOf(Connection.explain(connection)).toEqualTypeOf<Effect.Effect<Connection.Explanation>>()
expectTypeOf(Connection.inWords).toEqualTypeOf<(explanation: Connection.Explanation) => string>()
expectTypeOf<Connection.Explanation["who"]>().toEqualTypeOf<Connection.Who | undefined>()
expectTypeOf<Connection.Explanation["recent"]>().toEqualTypeOf<ReadonlyArray<Connection.Happening>>()
expectTypeOf<Connection.Explanation["deadlines"]>().toEqualTypeOf<ReadonlyArray<Connection.Remaining>>()
declare const registry: Registry.Registry<string>
expectTypeOf(registry.ended({ who: "network", deadline: "pong", reason: "PongTimeout", limit: 10 }))
  .toEqualTypeOf<Effect.Effect<ReadonlyArray<Registry.ExplainedEnd>>>()
// @ts-expect-error no reason of ours
registry.ended({ reason: "Made up" })
