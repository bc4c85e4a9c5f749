/** The table of metrics, in the docstring of the module and in the guide, as their definitions say. */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Metrics from "../../src/Metrics.ts"
import * as SystemMetrics from "../../src/node/SystemMetrics.ts"

type Definition = (typeof Metrics.definitions)[number]

const units = { "1": "", s: "seconds", By: "bytes" } as const

// a label with more values than that is described
const mostListed = 8

const labelOf = ({ label }: Definition): string => {
  if (label === undefined) return ""
  const { name, values } = label
  if (values.length <= mostListed) return `\`${name}\`: ${values.join(", ")}`
  return `\`${name}\`: ${name === "limit" ? "a limit, or a" : "the"} tag of a \`ConnectionError.Reason\``
}

const columns = (definition: Definition): string =>
  `\`${definition.name}\` | ${definition.kind} | ${units[definition.unit]} | ${labelOf(definition)}`

/** Puts rows in place of those under a header. */
const replaced = (text: string, header: string, rows: ReadonlyArray<string>): string => {
  const lines = text.split("\n")
  const first = lines.indexOf(header) + 2
  const isRow = (line: string) => /^(?: \* )?\|/.test(line)
  let end = first
  while (isRow(lines[end]!)) end++
  return [...lines.slice(0, first), ...rows, ...lines.slice(end)].join("\n")
}

/** Every file with a table, and what it should say. */
export const files: ReadonlyArray<{ readonly path: string; readonly rewritten: (text: string) => string }> = [
  ...[
    { path: "src/Metrics.ts", definitions: Metrics.definitions },
    { path: "src/node/SystemMetrics.ts", definitions: SystemMetrics.definitions }
  ].map(({ definitions, path }) => ({
    path,
    rewritten: (text: string) =>
      replaced(text, " * | metric | kind | unit | label |", definitions.map((row) => ` * | ${columns(row)} |`))
  })),
  {
    path: "src/guides/observability.md",
    rewritten: (text) =>
      replaced(
        text,
        "| metric | kind | unit | label | what it says |",
        [...Metrics.definitions, ...SystemMetrics.definitions].map((definition) =>
          `| ${columns(definition)} | ${definition.help} |`
        )
      )
  }
]

export const pathOf = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const { path, rewritten } of files) {
    writeFileSync(pathOf(path), rewritten(readFileSync(pathOf(path), "utf8")))
  }
}
