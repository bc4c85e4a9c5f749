/** Prints what was measured: figures, ratios to the floor of each load, targets. */
import type { Measured } from "./rounds.ts"
import type { Spread } from "./support/figures.ts"
import { enoughRounds, micros, ratios, short, spread } from "./support/figures.ts"
import { judge, said } from "./table/goals.ts"

/** Columns as wide as they have to be; the first is text, the others are figures. */
const table = (rows: ReadonlyArray<ReadonlyArray<string>>, texts: number): string => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows
    .map((row) =>
      row.map((cell, i) => (i < texts ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ").trimEnd()
    )
    .join("\n")
}

const cells = (value: Spread | undefined, format: (n: number) => string): ReadonlyArray<string> =>
  value === undefined ? ["-", "-", "-"] : [format(value.median), format(value.min), format(value.max)]

const percent = (values: ReadonlyArray<number> | undefined): string => {
  const known = values?.filter((value) => !Number.isNaN(value)) ?? []
  return known.length === 0 ? "-" : `${Math.round(spread(known).median * 100)}%`
}

/** What one of them cost the server: microseconds of CPU. It is less in the hands of other machines' load than a rate. */
const costOf = ({ cost }: Measured): string => {
  const each = cost?.filter(Number.isFinite) ?? []
  return each.length === 0 ? "-" : micros(spread(each).median)
}

const ratio = (value: number): string => value.toFixed(2)

/** The floor of a family: `ws` beside WebSocket servers, else what was written by hand. */
const floorOf = (rows: ReadonlyArray<Measured>, load: string): Measured | undefined =>
  rows.find((row) => row.load === load && row.server === "raw") ??
    rows.find((row) => row.load === load && row.server === "ws")

/** Whether the figures are enough for ratios. Memory in one process and idle CPU are figures, not rounds. */
export const isEnough = (rounds: number): boolean => rounds >= enoughRounds

export const print = (measured: ReadonlyArray<Measured>, rounds: number): string => {
  const known = measured.filter((row) => row.rounds.some((value) => !Number.isNaN(value)))
  const enough = isEnough(rounds)
  const head = ["load", "server", "unit", "median", "min", "max", "cpu", "us each", "load cpu"]
  const rows = known.map((row) => {
    const base = [
      row.load,
      row.server,
      row.unit,
      ...cells(spread(row.rounds), short),
      percent(row.serverBusy),
      costOf(row),
      percent(row.loadBusy)
    ]
    if (!enough) return base
    const floor = floorOf(known, row.load)
    const value = floor === undefined || floor === row ? undefined : ratios(row.rounds, floor.rounds)
    return [
      ...base,
      value === undefined ? "" : `to ${floor!.server}`,
      ...cells(value, ratio).map((c) => (c === "-" ? "" : c))
    ]
  })
  const figures = table([enough ? [...head, "ratio", "median", "min", "max"] : head, ...rows], 3)
  if (!enough) {
    return `${figures}\n\n${rounds} rounds are too few for a ratio: figures only. Ratios and targets need ${enoughRounds}.`
  }
  const verdicts = judge(known)
  if (verdicts.length === 0) return figures
  const judged = table([
    ["goal", "", "median", "min", "max"],
    ...verdicts.map(({ goal, measured, reached }) => [
      `${goal.load}: ${goal.of}${goal.against === undefined ? "" : ` / ${goal.against}`} ${said(goal)}`,
      reached === undefined ? "too noisy to say" : reached ? "reached" : "not reached",
      ...cells(measured, (n) => (n < 100 ? ratio(n) : short(n)))
    ])
  ], 2)
  return `${figures}\n\n${judged}`
}
