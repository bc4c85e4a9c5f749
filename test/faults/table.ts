/** The table: what was seen of each fault, on the terminal, and in the guide about deadlines. */
import { readFileSync, writeFileSync } from "node:fs"
import { complaint, type Outcome, type Part, reasonsOf, type Row, type Way } from "./fault.ts"
import { keyOf } from "./support/Stage.ts"

export interface Judged {
  readonly row: Row
  readonly way: Way
  readonly outcome: Outcome | undefined
  readonly complaint: string | undefined
}

/** Why a part did not run, or how it failed. */
export interface Ran {
  readonly part: Part
  readonly seen: ReadonlyMap<string, Outcome>
  readonly skipped?: string | undefined
  readonly error?: string | undefined
}

export const judge = ({ part, seen }: Ran): ReadonlyArray<Judged> =>
  part.rows.flatMap((row) =>
    row.ways.map((way) => {
      const outcome = seen.get(keyOf(row, way))
      return { row, way, outcome, complaint: complaint(row, outcome) }
    })
  )

const head = ["fault", "over", "end", "reason", "seconds", "bound"]

const aligned = (lines: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((cells) => cells[column]!.length)))
  return lines.map((cells) => cells.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd()).join("\n")
}

const boundOf = ({ atMost, bound }: Row): string => bound === "" ? `${atMost} s` : `${atMost} s: ${bound}`

/** A line for each row and way. */
export const printed = (ran: ReadonlyArray<Ran>): string =>
  aligned([
    [...head, ""],
    ...ran.filter(({ skipped }) => skipped === undefined).flatMap(judge).map(({ complaint, outcome, row, way }) => [
      row.fault,
      way,
      row.end,
      outcome?.reason ?? "-",
      outcome?.seconds.toFixed(3) ?? "-",
      boundOf(row).replaceAll("`", ""),
      complaint === undefined ? "" : `FAILED: ${complaint}`
    ])
  ])

// ---------------------------------------------------------------------------------------------------------------------
// the guide
// ---------------------------------------------------------------------------------------------------------------------

const guideHead = ["fault", "over", "end", "what it sees", "seconds", "bound"]

const line = (cells: ReadonlyArray<string>): string => `| ${cells.join(" | ")} |`

/** What of a row stays the same from run to run. */
const lasting = (row: Row): ReadonlyArray<string> => [
  row.fault,
  row.ways.join(", "),
  row.end,
  reasonsOf(row).map((reason) => /^[A-Z]\w+$/.test(reason) ? `\`${reason}\`` : reason).join(" or ")
]

/** A tenth of a second is no news. */
const range = (seconds: ReadonlyArray<number>): string => {
  const [least, most] = [Math.min(...seconds), Math.max(...seconds)].map((value) => value.toFixed(1))
  return least === most ? least! : `${least} to ${most}`
}

const table = (parts: ReadonlyArray<Part>, seconds: (row: Row) => string): ReadonlyArray<string> => [
  line(guideHead),
  "|---|---|---|---|---|---|",
  ...parts.flatMap(({ rows }) => rows).map((row) => line([...lasting(row), seconds(row), boundOf(row)]))
]

const path = "src/guides/heartbeats-and-deadlines.md"
const guide = new URL(`../../${path}`, import.meta.url)
const marked = /(<!-- faults: written by npm run test:faults -- --write -->\n)([\s\S]*?)(\n<!-- end -->)/

const withoutSeconds = (text: string): string => text.replaceAll(/ \| [^|]* (\| [^|]* \|)$/gm, " | $1")

/** What the guide says otherwise than the rows; undefined when nothing. */
export const staleGuide = (parts: ReadonlyArray<Part>, text = readFileSync(guide, "utf8")): string | undefined => {
  const written = marked.exec(text)?.[2]
  if (written === undefined) return `${path} has no table of faults`
  const expected = table(parts, () => "").map(withoutSeconds)
  const found = written.split("\n").map(withoutSeconds)
  const missing = expected.find((row) => !found.includes(row))
  const extra = found.find((row) => !expected.includes(row))
  return missing !== undefined
    ? `${path} lacks: ${missing}`
    : extra === undefined
    ? undefined
    : `${path} has: ${extra}`
}

/** The seconds that the guide has for a row. */
const writtenSeconds = (text: string, row: Row): string | undefined => {
  const begin = `| ${lasting(row).join(" | ")} | `
  return text.split("\n").find((line) => line.startsWith(begin))?.slice(begin.length).split(" | ")[0]
}

/** Writes the table of the guide: new seconds for each row that was seen as expected. */
export const writeGuide = (parts: ReadonlyArray<Part>, ran: ReadonlyArray<Ran>): void => {
  const text = readFileSync(guide, "utf8")
  const judged = ran.flatMap(judge)
  const secondsOf = (row: Row): string => {
    const of = judged.filter((it) => it.row === row)
    return of.length > 0 && of.every(({ complaint }) => complaint === undefined)
      ? range(of.map(({ outcome }) => outcome!.seconds))
      : writtenSeconds(text, row) ?? "-"
  }
  const rows = table(parts, secondsOf).join("\n")
  writeFileSync(guide, text.replace(marked, (_, before: string, __, after: string) => `${before}${rows}${after}`))
}
