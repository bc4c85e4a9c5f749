/** Figures of the fleet as a table in Markdown, with what each should be. */
import { ratios, short, spread } from "../support/figures.ts"

export interface Settings {
  readonly rounds: number
  /** Another checkout, whose sends are measured in turns with those of this one. */
  readonly beside: string | undefined
  /** Where to leave CPU profiles of the nodes. */
  readonly profile: string | undefined
  /** Says how far it is; round 0 is not counted. */
  readonly finished: (what: string, round: number) => void
  readonly note: (text: string) => void
}

export interface Figure {
  readonly what: string
  readonly unit: "us" | "ms" | "s" | "x" | "%" | "bytes" | ""
  /** One figure a round. */
  readonly rounds: ReadonlyArray<number>
  /** The most that is wanted of the median. */
  readonly most?: number | undefined
}

/** A ratio round by round: what slows the machine down for a while slows both sides down. */
export const ratioOf = (what: string, of: ReadonlyArray<number>, against: ReadonlyArray<number>): Figure => {
  if (ratios(of, against) === undefined) throw new Error(`${what}: too few rounds for a ratio`)
  return { what, unit: "x", rounds: of.map((value, round) => value / against[round]!) }
}

const verdict = (median: number, most: number | undefined): string =>
  most === undefined ? "" : median <= most ? "reached" : "not reached"

const cell = (value: number, unit: Figure["unit"]): string => unit === "x" ? value.toFixed(2) : short(value)

export const table = (figures: ReadonlyArray<Figure>): string => {
  const rows = figures.map(({ most, rounds, unit, what }) => {
    const { max, median, min } = spread(rounds)
    const cells = [median, min, max].map((value) => cell(value, unit))
    const goal = most === undefined ? "" : `${most}`
    return [what, unit, ...cells, String(rounds.length), goal, verdict(median, most)]
  })
  const head = ["figure", "unit", "median", "lowest", "highest", "rounds", "at most", ""]
  const lines = [head, head.map((_, i) => (i < 2 || i === 7 ? "---" : "--:")), ...rows]
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n")
}
