/**
 * What the process and the kernel tell beside connections: how late the event loop is, and what TCP lost before we saw it.
 *
 * | metric | kind | unit | label |
 * |---|---|---|---|
 * | `holdfast_event_loop_delay_seconds` | gauge | seconds | `at`: median, p99, longest |
 * | `holdfast_event_loop_active_seconds_total` | counter | seconds |  |
 * | `holdfast_listen_overflows_total` | counter |  |  |
 * | `holdfast_listen_drops_total` | counter |  |  |
 * | `holdfast_retransmitted_segments_total` | counter |  |  |
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { type Definition, prefix } from "../internal/telemetry/definitions.ts"
import { type KernelCounter, kernelCounter } from "./internal/system/counters.ts"
import { type Delay, eventLoopActive, eventLoopDelay } from "./internal/system/eventLoop.ts"

const kernel: ReadonlyArray<readonly [KernelCounter, Definition]> = [
  ["overflows", {
    name: `${prefix}listen_overflows_total`,
    kind: "counter",
    unit: "1",
    help: "Connections that found a full listen queue, in this network namespace."
  }],
  ["drops", {
    name: `${prefix}listen_drops_total`,
    kind: "counter",
    unit: "1",
    help: "SYNs that a listener dropped for any reason, in this network namespace."
  }],
  ["retransmits", {
    name: `${prefix}retransmitted_segments_total`,
    kind: "counter",
    unit: "1",
    help: "TCP segments that were sent again, in this network namespace."
  }]
]

const delays = ["median", "p99", "longest"] as const satisfies ReadonlyArray<keyof Delay>

const delay: Definition = {
  name: `${prefix}event_loop_delay_seconds`,
  kind: "gauge",
  unit: "s",
  help: "How late timers of the event loop were lately: the time since the last read, at least 10 s.",
  label: { name: "at", values: delays }
}

const active: Definition = {
  name: `${prefix}event_loop_active_seconds_total`,
  kind: "counter",
  unit: "s",
  help: "How long the event loop has worked; its rate is the share of a core."
}

/**
 * Every metric of the system: its name, kind, unit, help text, and the values of its label.
 *
 * @category models
 * @since 0.1.0
 */
export const definitions: ReadonlyArray<Definition> = [delay, active, ...kernel.map(([, definition]) => definition)]

/**
 * Turns the metrics of the system on.
 *
 * **When to use**
 *
 * Beside `Metrics.layer`, in the process of a server.
 *
 * **Details**
 *
 * The counters of the kernel are read from `/proc/net` when they are asked for; where the system has none (other than Linux,
 * some sandboxes) they are left out. They are those of the network namespace, so other processes are in them.
 *
 * The delay of the event loop is sampled every 20 ms, which costs one timer.
 *
 * **Example** (Both kinds of metrics)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { PrometheusMetrics } from "effect/observability"
 * import { Metrics } from "holdfast"
 * import { SystemMetrics } from "holdfast/node"
 *
 * const program = PrometheusMetrics.format().pipe(Effect.provide(Layer.mergeAll(Metrics.layer, SystemMetrics.layer)))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.effectDiscard(
  Effect.contextWith((context: Context.Context<never>) => {
    const registrations: Array<Metric.Registration> = []
    const hooks = { update: () => {}, modify: () => {} }
    const counts = ({ help: description, name, unit }: Definition, count: () => number): void => {
      const attributes = unit === "1" ? {} : { unit }
      registrations.push(Metric.registerUnsafe(
        Metric.counter(name, { description, attributes, incremental: true }),
        context,
        { ...hooks, get: () => ({ count: count(), incremental: true }) }
      ))
    }
    const { read, stop } = eventLoopDelay()
    for (const at of delays) {
      registrations.push(Metric.registerUnsafe(
        Metric.gauge(delay.name, { description: delay.help, attributes: { unit: delay.unit, at } }),
        context,
        { ...hooks, get: () => ({ value: read()[at] }) }
      ))
    }
    counts(active, eventLoopActive)
    for (const [counter, definition] of kernel) {
      let last = kernelCounter(counter)
      if (last !== undefined) counts(definition, () => last = kernelCounter(counter) ?? last!)
    }
    return Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const registration of registrations) registration.remove()
        stop()
      })
    )
  })
)
