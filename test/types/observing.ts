/** What `Metrics` infers, as a user's program sees it. Only compiled: here, and against the packed package. */
import { type Effect, type Layer, Metric } from "effect"
import { Metrics } from "holdfast"
import { SystemMetrics } from "holdfast/node"
import { expectTypeOf } from "vitest"

expectTypeOf(Metrics.layer).toEqualTypeOf<Layer.Layer<never>>()
expectTypeOf(Metrics.definitions).toEqualTypeOf<ReadonlyArray<Metrics.Definition>>()
expectTypeOf(SystemMetrics.layer).toEqualTypeOf<Layer.Layer<never>>()
expectTypeOf(SystemMetrics.definitions).toEqualTypeOf<ReadonlyArray<Metrics.Definition>>()
expectTypeOf<Metrics.Definition["kind"]>().toEqualTypeOf<"counter" | "gauge" | "histogram">()
expectTypeOf(Metric.snapshot).toExtend<Effect.Effect<ReadonlyArray<Metric.Metric.Snapshot>>>()
