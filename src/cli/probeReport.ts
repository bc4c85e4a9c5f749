/** What `holdfast probe` found out: as JSON, and as a table. */
import type { Name } from "./speech.ts"

/** Times in milliseconds, with microseconds; `null` is what could not be measured. This is also the JSON. */
export interface Report {
  readonly url: string
  readonly protocol: Name
  dial: {
    readonly count: number
    readonly failed: number
    readonly min: number | null
    readonly median: number | null
    readonly max: number | null
  }
  rtt: {
    readonly sent: number
    readonly received: number
    readonly lost: number
    readonly min: number | null
    readonly p50: number | null
    readonly p90: number | null
    readonly p99: number | null
    readonly max: number | null
    readonly jitter: number | null
    readonly problem: string | null
  }
  silence: {
    readonly limit: number | null
    readonly waited: number
    readonly patience: number
    readonly reason: string | null
    readonly said: string | null
  } | null
  advertised: {
    readonly pingEvery: number
    readonly minPingEvery: number
    readonly after: number
    readonly spread: number
  } | null
}

export const micros = (millis: number): number => Math.round(millis * 1000) / 1000

/** Exact, by nearest rank: the least sample that at least this part of all samples does not exceed. */
const percentile = (sorted: ReadonlyArray<number>, part: number): number | null =>
  sorted.length === 0 ? null : micros(sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)]!)

/** How much a round trip differs from the one before it, on average. */
const jitterOf = (samples: ReadonlyArray<number>): number | null => {
  if (samples.length < 2) return null
  let sum = 0
  for (let i = 1; i < samples.length; i++) sum += Math.abs(samples[i]! - samples[i - 1]!)
  return micros(sum / (samples.length - 1))
}

const ascending = (samples: ReadonlyArray<number>): ReadonlyArray<number> => samples.toSorted((a, b) => a - b)

export const dialOf = (samples: ReadonlyArray<number>, failed: number): Report["dial"] => {
  const sorted = ascending(samples)
  return {
    count: samples.length + failed,
    failed,
    min: percentile(sorted, 0),
    median: percentile(sorted, 0.5),
    max: percentile(sorted, 1)
  }
}

export const rttOf = (samples: ReadonlyArray<number>, sent: number, problem: string | null): Report["rtt"] => {
  const sorted = ascending(samples)
  return {
    sent,
    received: samples.length,
    lost: sent - samples.length,
    min: percentile(sorted, 0),
    p50: percentile(sorted, 0.5),
    p90: percentile(sorted, 0.9),
    p99: percentile(sorted, 0.99),
    max: percentile(sorted, 1),
    jitter: jitterOf(samples),
    problem
  }
}

const millis = (value: number | null): string =>
  value === null ? "" : `${value.toFixed(value < 10 ? 2 : value < 1000 ? 1 : 0)} ms`

export const seconds = (value: number): string => `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`

/** How a silence ended. */
const endOf = (reason: string | null): string =>
  reason === null || reason.startsWith("by ") ? `closed ${reason ?? ""}`.trimEnd() : `the connection ended: ${reason}`

const row = (name: string, cells: ReadonlyArray<string>, note: string): string =>
  `${name.padEnd(14)}${cells.map((cell) => cell.padStart(11)).join("")}   ${note}`.trimEnd()

export const table = ({ advertised, dial, protocol, rtt, silence, url }: Report): string => {
  const lines = [
    `${url} (${protocol})`,
    "",
    row("", ["min", "median", "p90", "p99", "max", "jitter"], ""),
    row(
      "dial",
      [millis(dial.min), millis(dial.median), "", "", millis(dial.max), ""],
      `${dial.count - dial.failed} of ${dial.count}`
    ),
    row(
      "round trip",
      [rtt.min, rtt.p50, rtt.p90, rtt.p99, rtt.max, rtt.jitter].map(millis),
      `${rtt.received} of ${rtt.sent}${rtt.lost > 0 ? `, ${rtt.lost} lost` : ""}`
    )
  ]
  if (rtt.problem !== null) lines.push(row("", [], rtt.problem))
  if (silence !== null) {
    lines.push(
      "",
      row(
        "silence limit",
        [],
        silence.limit === null
          ? silence.reason ?? `none within ${seconds(silence.waited)}`
          : `${seconds(silence.limit)}, then ${endOf(silence.reason)}`
      )
    )
    if (silence.said !== null) lines.push(row("", [], `its last words: ${silence.said}`))
  }
  if (advertised !== null) {
    const { after, minPingEvery, pingEvery, spread } = advertised
    const asks = [
      pingEvery > 0 ? `a ping every ${seconds(pingEvery)}` : "no pings",
      minPingEvery > 0 ? `never two within ${seconds(minPingEvery)}` : "",
      after + spread > 0 ? `coming back after ${seconds(after)}, spread over ${seconds(spread)}` : ""
    ]
    lines.push(row("it asks for", [], asks.filter((text) => text !== "").join("; ")))
  }
  return lines.join("\n")
}
