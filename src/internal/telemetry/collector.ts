/** What sums up the figures of connections, servers, clients and pools, when it is asked. */
import { definitions, type Name, other } from "./definitions.ts"

/** Adds a figure to the sum of a metric, or of one value of its label. */
export type Add = (name: Name, value: number, label?: string) => void

/** What has figures: it says them when it is asked. Counters must not fall. */
export type Source = (add: Add) => void

const keyOf = (name: Name, label: string | undefined): string => {
  if (label === undefined) return name
  const values = definitions.get(name)?.label?.values
  return `${name}/${values === undefined || values.includes(label) ? label : other}`
}

/**
 * Sources and sums of one program, or of one part of it. Nothing is summed up before a figure is read; then all of them
 * are, once for all figures that are read together.
 */
export class Collector {
  private readonly sources = new Set<Source>()
  /** Counters of what is gone, and of what is told as it happens. */
  private readonly past = new Map<string, number>()
  private sums: Map<string, number> | undefined
  private readonly seen = new Set<string>()
  private observer: ((name: Name, value: number) => void) | undefined

  /** Asks a source from now on. What is given back takes its counters over, and asks it no more. */
  watch(source: Source): () => void {
    this.sources.add(source)
    return () => {
      if (!this.sources.delete(source)) return
      source((name, value, label) => {
        if (definitions.get(name)!.kind === "counter") this.count(name, value, label)
      })
    }
  }

  /** Counts what happened. */
  readonly count: Add = (name, value, label) => {
    const key = keyOf(name, label)
    this.past.set(key, (this.past.get(key) ?? 0) + value)
    this.sums = undefined
  }

  /** A value for a histogram. */
  observe(name: Name, value: number): void {
    this.observer?.(name, value)
  }

  onObserved(observer: ((name: Name, value: number) => void) | undefined): void {
    this.observer = observer
  }

  /** A figure now. The sums are those of this task; a figure that is read twice is looked up anew. */
  figure(name: Name, label?: string): number {
    const key = keyOf(name, label)
    if (this.sums === undefined || this.seen.has(key)) this.sum()
    this.seen.add(key)
    return this.sums!.get(key) ?? 0
  }

  private sum(): void {
    const sums = new Map(this.past)
    const add: Add = (name, value, label) => {
      const key = keyOf(name, label)
      sums.set(key, (sums.get(key) ?? 0) + value)
    }
    for (const source of this.sources) source(add)
    this.sums = sums
    this.seen.clear()
    // those that are read next may have changed
    void Promise.resolve().then(() => {
      if (this.sums === sums) this.sums = undefined
    })
  }
}
