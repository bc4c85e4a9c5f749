/** What Holdfast is held to, and whether it gets there. */
import type { Measured } from "./loads.ts"
import type { Spread } from "./support/figures.ts"
import { ratios, short, spread } from "./support/figures.ts"

interface Target {
  readonly load: string
  readonly of: string
  /** A server whose figure of the same round is the measure; without one, `at` is a figure. */
  readonly against?: string
  readonly sense: "at least" | "above" | "at most"
  readonly at: number
  readonly unit?: string
}

const atLeast = (load: string, of: string, against: string, at: number): Target => ({
  load,
  of,
  against,
  sense: "at least",
  at
})
const ahead = (load: string, of: string, against: string): Target => ({ load, of, against, sense: "above", at: 1 })
const figure = (load: string, of: string, sense: Target["sense"], at: number, unit: string): Target => ({
  load,
  of,
  sense,
  at,
  unit
})

const targets: ReadonlyArray<Target> = [
  ...["50x1", "1000x1", "5000x1"].flatMap((load) => [
    atLeast(load, "holdfast", "raw", 0.85),
    ahead(load, "holdfast", "effect")
  ]),
  atLeast("50x32", "holdfast", "raw", 0.65),
  atLeast("50x32", "holdfast", "raw", 0.75),
  atLeast("50x32", "holdfast-batch", "raw", 0.9),
  atLeast("50x32", "serve", "raw", 0.9),
  ...["16k 50x1", "1m 4x1"].flatMap((load) => [
    atLeast(load, "holdfast", "raw", 0.95),
    atLeast(load, "holdfast-batch", "raw", 0.95)
  ]),
  atLeast("50x32", "holdfast", "go", 4),
  ...["1x1", "50x1", "1000x1", "5000x1", "16k 50x1", "1m 4x1"].map((load) => atLeast(load, "holdfast", "go", 0.85)),
  ...["ws 50x1", "ws 50x32", "ws 1000x1"].flatMap((load) => [
    atLeast(load, "holdfast-ws", "ws", 0.85),
    atLeast(load, "holdfast-ws", "socket.io", 2)
  ]),
  atLeast("accept", "holdfast", "raw", 0.6),
  ahead("accept", "holdfast", "effect"),
  { load: "memory rss", of: "holdfast", against: "effect", sense: "at most", at: 1 },
  atLeast("broadcast", "holdfast", "raw", 0.8),
  figure("cpu", "holdfast", "at most", 3, "% of a core"),
  figure("in-memory served", "holdfast", "at most", 9 * 1024, "B/conn"),
  figure("decoder 64 B", "holdfast", "at least", 3_000_000, "frame/s"),
  figure("decoder 1 MiB", "holdfast", "at least", 2_000_000_000, "B/s")
]

export interface Verdict {
  readonly target: string
  readonly measured: Spread
  readonly reached: boolean
}

const meets = (sense: Target["sense"], value: number, at: number): boolean =>
  sense === "at least" ? value >= at : sense === "above" ? value > at : value <= at

/** The targets about which these figures say anything. The median decides. */
export const judge = (measured: ReadonlyArray<Measured>): ReadonlyArray<Verdict> => {
  const find = (load: string, server: string) =>
    measured.find((row) => row.load === load && row.server === server)?.rounds
  return targets.flatMap((target) => {
    const of = find(target.load, target.of)
    const against = target.against === undefined ? undefined : find(target.load, target.against)
    if (of === undefined || (target.against !== undefined && against === undefined)) return []
    const value = against === undefined ? spread(of) : ratios(of, against)
    if (value === undefined) return []
    const subject = target.against === undefined ? target.of : `${target.of} / ${target.against}`
    return [{
      target: `${target.load}: ${subject} ${target.sense} ${short(target.at)}${
        target.unit === undefined ? "" : ` ${target.unit}`
      }`,
      measured: value,
      reached: meets(target.sense, value.median, target.at)
    }]
  })
}
