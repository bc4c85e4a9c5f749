/** Registers the figures of a collector as metrics of Effect. */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import type { Collector } from "./collector.ts"
import { type Definition, definitions, type Name } from "./definitions.ts"

const noop = (): void => {}

/** What OTLP exporters read the unit from; it is no label. */
const unitOf = ({ unit }: Definition): Record<string, string> => unit === "1" ? {} : { unit }

/** One series, read from the collector when it is asked for. */
const pulled = (
  collector: Collector,
  context: Context.Context<never>,
  name: Name,
  definition: Definition,
  value: string | undefined
): Metric.Registration => {
  const { help: description, kind, label } = definition
  const attributes = { ...unitOf(definition), ...(label === undefined ? {} : { [label.name]: value! }) }
  const hooks = { update: noop, modify: noop }
  return kind === "counter"
    ? Metric.registerUnsafe(Metric.counter(definition.name, { description, attributes, incremental: true }), context, {
      ...hooks,
      get: () => ({ count: collector.figure(name, value), incremental: true })
    })
    : Metric.registerUnsafe(Metric.gauge(definition.name, { description, attributes }), context, {
      ...hooks,
      get: () => ({ value: collector.figure(name, value) })
    })
}

const seconds = (definition: Definition): Metric.Histogram<number> =>
  Metric.histogram(definition.name, {
    description: definition.help,
    attributes: unitOf(definition),
    boundaries: definition.bounds!
  })

/** Registers all metrics. What is given back removes them. */
export const registered = (collector: Collector, context: Context.Context<never>): () => void => {
  const registrations: Array<Metric.Registration> = []
  const histograms = new Map<Name, Metric.Histogram<number>>()
  for (const [name, definition] of definitions) {
    if (definition.kind === "histogram") {
      const histogram = seconds(definition)
      histograms.set(name, histogram)
      // one of an earlier layer is not this one's
      Metric.removeUnsafe(histogram, context)
      histogram.valueUnsafe(context)
      continue
    }
    for (const value of definition.label?.values ?? [undefined]) {
      registrations.push(pulled(collector, context, name, definition, value))
    }
  }
  collector.onObserved((name, value) => histograms.get(name)!.updateUnsafe(value, context))
  return () => {
    collector.onObserved(undefined)
    for (const registration of registrations) registration.remove()
    for (const histogram of histograms.values()) Metric.removeUnsafe(histogram, context)
  }
}
