/**
 * Writes what the docs say of limits out of their definitions: the tables of the guides, and the first paragraph of each
 * docstring. `npm run limits` does it; a test compares.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { ConnectionPool, Policy } from "../../src/index.ts"
import { type Definition, definitionsOf } from "../../src/internal/limits/definition.ts"
import { docOf, whatFor } from "../../src/internal/limits/docs.ts"
import { definitions as ofSockets } from "../../src/node/internal/options.ts"

type Definitions = Readonly<Record<string, Definition>>

const policy = definitionsOf(Policy.Policy.fields)
const pool = definitionsOf(ConnectionPool.Limits.fields)
const sockets: Definitions = ofSockets

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n").replaceAll("| --- ", "|---")
    .replaceAll("--- |", "---|")

const tables: Readonly<Record<string, () => string>> = {
  policy: () => {
    const printed = Policy.encode(Policy.defaults) as Readonly<Record<string, unknown>>
    return table(
      ["field", "default", "what, what 0 means, and the flag of the command"],
      Object.entries<Definition>(policy).map((
        [name, it]
      ) => [`\`${name}\``, String(printed[name]), whatFor(it, policy)])
    )
  },
  pool: () => {
    const printed = ConnectionPool.encode(ConnectionPool.defaults) as Readonly<Record<string, unknown>>
    return table(
      ["limit", "unit", "default", "what, and what 0 means"],
      Object.entries<Definition>(pool).map((
        [name, it]
      ) => [`\`${name}\``, it.kind, String(printed[name]), whatFor(it, pool)])
    )
  }
}

/** A page with each table of limits, between its two markers, as the definitions say. */
export const withTables = (page: string): string =>
  Object.entries(tables).reduce(
    (text, [name, rows]) =>
      text.replace(
        new RegExp(`(<!-- limits of a ${name}: .*-->\n)[\\s\\S]*?(\n<!-- end -->)`),
        (_, before: string, after: string) => `${before}${rows()}${after}`
      ),
    page
  )

const width = 120

/** A paragraph of a docstring, in lines that fit. */
const wrapped = (text: string): string => {
  const lines: Array<string> = []
  let line = "   *"
  // a number stays with its unit
  for (const word of text.split(/ (?!(?:ms|s|m|h|d|B|KiB|MiB|GiB)\b)/)) {
    if (line.length + 1 + word.length > width) {
      lines.push(line)
      line = "   *"
    }
    line += ` ${word}`
  }
  return [...lines, line].join("\n")
}

/** The docstring of a field of a set that is made with a maker, or of an option of an interface. */
const makers = "bytes|choice|count|duration|factor|fraction|retryRules|toggle"
const docstring = new RegExp(
  `  /\\*\\*((?:(?!\\*/)[\\s\\S])*?)\\*/\n(?=  (?:readonly )?(\\w+)(?:: (?:${makers})\\(|\\?: ))`,
  "g"
)

const blank = "\n   *\n"

/** A source whose docstrings of limits begin as the definitions say; what follows their first paragraph stays. */
export const withDocs = (source: string, definitions: Definitions): string =>
  source.replace(docstring, (whole, text: string, name: string) => {
    const definition = Object.hasOwn(definitions, name) ? definitions[name] : undefined
    if (definition === undefined) return whole
    const first = docOf(definition, definitions)
    const [, ...rest] = text.trimEnd().split(blank)
    const single = `  /** ${first} */\n`
    if (rest.length === 0 && single.length <= width + 1) return single
    return `  /**\n${[wrapped(first), ...rest].join(blank)}\n   */\n`
  })

/** Every file that says something of a limit, and what it should say. */
export const files: ReadonlyArray<{ readonly path: string; readonly rewritten: (text: string) => string }> = [
  { path: "src/guides/limits.md", rewritten: withTables },
  { path: "src/guides/pools-and-requests.md", rewritten: withTables },
  { path: "src/Policy.ts", rewritten: (text) => withDocs(text, policy) },
  { path: "src/ConnectionPool.ts", rewritten: (text) => withDocs(text, pool) },
  ...["Dialer", "Listener", "HttpServer"].map((name) => ({
    path: `src/node/${name}.ts`,
    rewritten: (text: string) => withDocs(text, sockets)
  }))
]

export const pathOf = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const { path, rewritten } of files) {
    const text = readFileSync(pathOf(path), "utf8")
    writeFileSync(pathOf(path), rewritten(text))
  }
}
