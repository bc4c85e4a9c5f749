/** The last minutes of each number that is drawn: a bounded number of points, one a second. */
import type { Rates } from "../../node/internal/admin/shown/rates.ts"

/** Five minutes. */
export const mostPoints = 300

// a program has some twenty reasons; the rest are drawn as one
const mostReasons = 24

export type Column = "open" | keyof Rates

type Points = Array<number | null>

export interface Series {
  /** Seconds on the wall clock. */
  readonly at: Array<number>
  readonly columns: Readonly<Record<Column, Points>>
  /** Ends in a second, by reason: of the reasons that were seen. */
  readonly reasons: Map<string, Points>
}

export const makeSeries = (): Series => ({
  at: [],
  columns: {
    open: [],
    opened: [],
    ended: [],
    refused: [],
    messagesIn: [],
    messagesOut: [],
    bytesIn: [],
    bytesOut: []
  },
  reasons: new Map()
})

const push = (points: Points, value: number | null): void => {
  points.push(value)
  if (points.length > mostPoints) points.shift()
}

/** Adds a point; `ends` are those since the last one. */
export const addPoint = (
  series: Series,
  point: {
    readonly at: number
    readonly open: number
    readonly rates: Rates
    readonly ends: ReadonlyMap<string, number>
  }
): void => {
  const { at, columns, reasons } = series
  const second = point.at / 1000
  // the clock of the server was set back: what was drawn would be drawn over
  const last = at.at(-1)
  if (last !== undefined && second <= last) return
  const seconds = last === undefined ? 1 : Math.min(second - last, 60)
  for (const reason of point.ends.keys()) {
    const name = reasons.has(reason) || reasons.size < mostReasons ? reason : "others"
    if (!reasons.has(name)) reasons.set(name, at.map(() => 0))
  }
  const ended = new Map<string, number>()
  for (const [reason, count] of point.ends) {
    const name = reasons.has(reason) ? reason : "others"
    ended.set(name, (ended.get(name) ?? 0) + count)
  }
  at.push(second)
  if (at.length > mostPoints) at.shift()
  push(columns.open, point.open)
  for (const name of Object.keys(point.rates) as Array<keyof Rates>) push(columns[name], point.rates[name])
  for (const [reason, points] of reasons) push(points, (ended.get(reason) ?? 0) / seconds)
}
