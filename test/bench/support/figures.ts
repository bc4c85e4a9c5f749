/** Figures of several rounds: their middle and their ends. */

/** Fewer rounds than these say nothing about a ratio on a machine that others use. */
export const enoughRounds = 5

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

const ascending = (values: Iterable<number>): Array<number> => [...values].sort((a, b) => a - b)

export const spread = (values: ReadonlyArray<number>): Spread => {
  const sorted = ascending(values)
  const middle = sorted.length >> 1
  return {
    median: sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2,
    min: sorted[0]!,
    max: sorted[sorted.length - 1]!
  }
}

/** Ratios round by round: what slows the machine down for a while slows both sides of a round down. */
export const ratios = (of: ReadonlyArray<number>, against: ReadonlyArray<number>): Spread | undefined => {
  const rounds = Math.min(of.length, against.length)
  if (rounds < enoughRounds) return undefined
  return spread(of.slice(0, rounds).map((value, round) => value / against[round]!))
}

export interface Percentiles {
  readonly p50: number
  readonly p99: number
  readonly p999: number
}

/** Exact, by sorting all samples. */
export const percentiles = (samples: Float64Array): Percentiles => {
  samples.sort()
  const at = (q: number) => samples[Math.min(samples.length - 1, Math.floor(samples.length * q))] ?? Number.NaN
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
}

/** Samples of which nobody knows how many there will be. */
export class Samples {
  private values = new Float64Array(1 << 16)
  private length = 0

  add(value: number): void {
    if (this.length === this.values.length) {
      const larger = new Float64Array(this.length * 2)
      larger.set(this.values)
      this.values = larger
    }
    this.values[this.length++] = value
  }

  take(): Float64Array {
    const taken = this.values.slice(0, this.length)
    this.length = 0
    return taken
  }
}

/** Three digits and a unit prefix: 1.23M, 456k, 7.89. */
export const short = (value: number): string => {
  if (!Number.isFinite(value)) return "-"
  const digits = (n: number) => (n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2))
  if (value >= 999_500) return `${digits(value / 1e6)}M`
  if (value >= 9_995) return `${digits(value / 1e3)}k`
  return value >= 1000 ? value.toFixed(0) : digits(value)
}

/** Seconds of CPU as microseconds, three digits of them. */
export const micros = (seconds: number): string => {
  const each = seconds * 1e6
  return each >= 100 ? each.toFixed(0) : each.toPrecision(3)
}
