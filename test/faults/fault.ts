/** What a fault is: rows of the table, each with what has to be seen, and the part that brings the fault about. */
import type { Need } from "./support/needs.ts"
import type { Stage } from "./support/Stage.ts"

/** Over what the two ends talk: lines over TCP, lines over WebSocket, the native protocol over TCP; TLS and HTTP have a row each. */
export type Way = "TCP" | "WebSocket" | "native" | "TLS" | "HTTP"

export const ways = ["TCP", "WebSocket", "native"] as const satisfies ReadonlyArray<Way>

export type UsualWay = (typeof ways)[number]

/** What one end has to make of a fault. */
export interface Row {
  readonly fault: string
  /** The end that is looked at. */
  readonly end: string
  readonly ways: ReadonlyArray<Way>
  /** The tag of a reason, or of several that are all right; or what is told of an end that lives. */
  readonly reason: string | ReadonlyArray<string>
  /** Seconds; a connection that ends sooner was killed although its peer lived. */
  readonly atLeast: number
  /** Seconds. */
  readonly atMost: number
  /** Seconds beyond `atMost` that a busy machine may take. */
  readonly late: number
  /** Where `atMost` comes from. */
  readonly bound: string
}

/** What was seen. */
export interface Outcome {
  readonly reason: string
  readonly seconds: number
}

export interface Part {
  readonly name: string
  readonly rows: ReadonlyArray<Row>
  readonly needs: ReadonlyArray<Need>
  /** What runs beside it: others of its kind, which wait most of the time, are busy for a moment, or are many; or none. */
  readonly load: "waits" | "busy" | "crowd" | "alone"
  readonly run: (stage: Stage) => Promise<void>
}

/** A busy machine looks, and is looked at, this many seconds late. */
export const lateness = 1

/** A row over the usual ways, without a least time. */
export const row = (
  given: Pick<Row, "fault" | "end" | "reason" | "bound" | "atMost"> & Partial<Row>
): Row => ({ ways, atLeast: 0, late: lateness, ...given })

const seconds = (value: number): string => value.toFixed(2)

export const reasonsOf = ({ reason }: Row): ReadonlyArray<string> => typeof reason === "string" ? [reason] : reason

/** What is wrong with an outcome; undefined when nothing is. */
export const complaint = (row: Row, outcome: Outcome | undefined): string | undefined => {
  if (outcome === undefined) return "nothing was seen"
  const reasons = reasonsOf(row)
  if (!reasons.includes(outcome.reason)) return `expected ${reasons.join(" or ")}`
  if (outcome.seconds > row.atMost + row.late) return `over the bound of ${seconds(row.atMost)} s`
  if (outcome.seconds < row.atLeast) return `sooner than ${seconds(row.atLeast)} s: killed while its peer lived`
  return undefined
}
