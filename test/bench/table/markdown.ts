/** The tables of the README and of its guide, out of what was measured. */
import type { Measured } from "../rounds.ts"
import type { Spread } from "../support/figures.ts"
import { enoughRounds, micros, short, spread } from "../support/figures.ts"
import { againstEffect, judge, loudest, said, type Verdict } from "./goals.ts"

/** What is measured besides the figures. */
export interface Taken {
  readonly machine: string
  readonly neighbours: string
  readonly rounds: number
  readonly seconds: number
  /** One sentence for each server that is not there. */
  readonly missing: ReadonlyArray<string>
}

export const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [`| ${head.join(" | ")} |`, `|${head.map(() => "---").join("|")}|`, ...rows.map((row) => `| ${row.join(" | ")} |`)]
    .join("\n")

const ratio = (value: number): string => value.toFixed(2)

const withEnds = (value: Spread | undefined, format: (value: number) => string): string =>
  value === undefined ? "-" : `${format(value.median)} (${format(value.min)} to ${format(value.max)})`

const percent = (part: number): string => Number.isNaN(part) ? "-" : `${Math.round(part * 100)} %`

const peers: Readonly<Record<string, string>> = {
  raw: "raw `node:net`",
  ws: "`ws`",
  "effect-rpc": "Effect's socket protocol",
  "effect Pool": "Effect's `Pool`",
  effect: "Effect's bare socket",
  "generic-pool": "`generic-pool`",
  tarn: "`tarn`"
}

const outcome = ({ measured, reached }: Verdict): string =>
  reached === undefined ? (measured === undefined ? "too few rounds" : "too noisy") : reached ? "yes" : "no"

const row = (verdict: Verdict): ReadonlyArray<string> => {
  const { byRate, goal, measured, noise } = verdict
  return [
    goal.title!,
    goal.against === undefined ? "" : peers[goal.against] ?? goal.against,
    goal.against === undefined
      ? withEnds(measured, short) + (measured === undefined ? "" : ` ${goal.unit}`)
      : withEnds(measured, ratio),
    said(goal),
    outcome(verdict),
    byRate === undefined ? "" : ratio(byRate.median),
    measured === undefined ? "" : percent(noise)
  ]
}

const notes = ({ machine, missing, neighbours, rounds, seconds }: Taken): string =>
  [
    `${machine}; ${rounds} rounds of ${seconds} s; ${neighbours}.`,
    `The last column is how far apart the peer's own rounds are (their middle half, of the median): above ${
      percent(loudest)
    } a ratio says nothing.`,
    ...missing.map((why) => `${why}.`)
  ].join("\n")

/** Ratios, goals, and whether they are reached. */
export const goalTable = (measured: ReadonlyArray<Measured>, taken: Taken): string => {
  const verdicts = judge(measured).filter(({ goal }) => goal.title !== undefined)
  const least = againstEffect(measured)
  const rows = verdicts.map(row)
  if (least !== undefined) {
    rows.push([
      `each of ${least.loads} loads over TCP, the nearest is ${least.load}`,
      peers["effect"]!,
      withEnds(least.ratio, ratio),
      "above 1.00",
      least.ratio.median > 1 ? "yes" : "no",
      "",
      ""
    ])
  }
  const few = taken.rounds < enoughRounds
    ? `\n\nToo few rounds for a ratio (${taken.rounds}): it takes ${enoughRounds}.`
    : ""
  return `${table(["load", "beside", "ratio", "goal", "reached", "by rate", "noise"], rows)}${few}\n\n${notes(taken)}`
}

const columns: ReadonlyArray<readonly [server: string, title: string]> = [
  ["raw", "raw `node:net`"],
  ["effect", "Effect's bare socket"],
  ["holdfast", "Holdfast"],
  ["holdfast-batch", "`receiveAll`, `sendAll`"],
  ["go", "Go"],
  ["c", "C, epoll"],
  ["bun", "Bun, raw"],
  ["ws", "`ws`"],
  ["socket.io", "socket.io"],
  ["holdfast-ws", "Holdfast, WebSocket"],
  ["effect-rpc", "Effect's RPC"],
  ["holdfast-rpc", "`holdfast/rpc`"]
]

const families: ReadonlyArray<ReadonlyArray<string>> = [
  ["raw", "effect", "holdfast", "holdfast-batch", "go", "c", "bun"],
  ["ws", "socket.io", "holdfast-ws"],
  ["effect-rpc", "holdfast-rpc"]
]

const costOf = (of: Measured | undefined): string =>
  of?.cost === undefined || of.cost.length === 0 ? "-" : micros(spread(of.cost).median)

/** Microseconds of the server's CPU for each message, of everything that was measured beside Holdfast. */
export const peerTable = (measured: ReadonlyArray<Measured>): string =>
  families.flatMap((family) => {
    const rows = measured.filter(({ cost, server }) => cost !== undefined && family.includes(server))
    const loads = [...new Set(rows.map(({ load }) => load))].filter((load) => !load.startsWith("pool "))
    const present = columns.filter(([name]) => rows.some(({ load, server }) => server === name && loads.includes(load)))
    if (loads.length === 0) return []
    const cells = loads.map((load) => [
      load,
      ...present.map(([name]) => costOf(rows.find((row) => row.load === load && row.server === name)))
    ])
    return [table(["us of CPU for each", ...present.map(([, title]) => title)], cells)]
  }).join("\n\n")

/** A page with this text between its two markers of a name. */
export const between = (page: string, name: string, text: string): string => {
  const marks = new RegExp(`(<!-- ${name}: [^>]*-->\n)[\\s\\S]*?(<!-- end -->)`)
  if (!marks.test(page)) throw new Error(`the page has no place for ${name}`)
  return page.replace(marks, (_, before: string, after: string) => `${before}\n${text}\n\n${after}`)
}
