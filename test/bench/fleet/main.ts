/**
 * `npm run bench:fleet`: what a fleet and workers cost, beside what they are made of.
 *
 * Nodes, clients and engines are processes of this machine, which start and end with it. What is compared is measured in
 * turns within each round.
 */
import { readFileSync, writeFileSync } from "node:fs"
import os from "node:os"
import { resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { howLong, progress } from "../../../src/cli/progress.ts"
import { enoughRounds } from "../support/figures.ts"
import { between } from "../table/markdown.ts"
import { broadcasts } from "./broadcasts.ts"
import { logins } from "./logins.ts"
import { million } from "./million.ts"
import { resume } from "./resume.ts"
import { sends } from "./sends.ts"
import { type EngineName, engineNames, missing } from "./setting.ts"
import { type Figure, type Settings, table } from "./table.ts"
import { withoutCores, workers } from "./workers.ts"

interface Part {
  readonly name: string
  readonly missing: string | undefined
  readonly measure: (settings: Settings) => Promise<ReadonlyArray<Figure>>
}

const onEngine = (what: string, measure: (engine: EngineName, settings: Settings) => Promise<ReadonlyArray<Figure>>) =>
  engineNames.map((engine): Part => ({
    name: `${what}-${engine}`,
    missing: missing(engine),
    measure: (settings) => measure(engine, settings)
  }))

const parts: ReadonlyArray<Part> = [
  ...onEngine("sends", sends),
  ...onEngine("broadcasts", broadcasts),
  ...onEngine("logins", logins),
  { name: "resume", missing: undefined, measure: resume },
  { name: "workers", missing: withoutCores(), measure: workers }
]

const help = `Usage: npm run bench:fleet -- [options]

What a fleet costs: redis-server and nats-server are started on free ports of this machine. Takes about five minutes.

  --only PATTERN   the parts whose name matches this regular expression
  --rounds N       counted rounds (default 5; a ratio needs ${enoughRounds})
  --beside DIR     sends also with the code of another checkout (git worktree add DIR COMMIT; npm ci in it), in turns
  --profile DIR    write a CPU profile of each node to this directory
  --write          write the figures, and what follows of them, into src/guides/how-far-this-goes.md
  --json FILE      write the figures of every round
  --help           this text

Parts:
  sends-*       a message to a key of another node, against a round trip of the engine's own client: time, CPU of the sender
  broadcasts-*  to a tag of 10,000 clients on three nodes: CPU of each node, against its registry alone
  logins-*      10,000 clients whose node dies, until each is logged in on one of two others
  resume        2,000 clients with 50 messages missed each (virtual time)
  workers       serve --workers 2 against serve, when each process has had 300,000 messages: CPU of a message; and how 1,000
                connections are spread
`

class Usage extends Error {}

const options = () => {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: "" },
      rounds: { type: "string", default: "5" },
      beside: { type: "string" },
      profile: { type: "string" },
      write: { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", default: false }
    }
  })
  const rounds = Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) throw new Usage("--rounds takes a whole number, at least 1")
  const pattern = new RegExp(values.only)
  const wanted = parts.filter(({ name }) => pattern.test(name))
  if (values.write && (wanted.length < parts.length || rounds < enoughRounds)) {
    throw new Usage(`--write takes all parts, and ${enoughRounds} rounds`)
  }
  if (wanted.length === 0) {
    throw new Usage(`--only: no part has such a name: ${parts.map(({ name }) => name).join(", ")}`)
  }
  return { ...values, rounds, wanted, beside: values.beside === undefined ? undefined : resolve(values.beside) }
}

const guide = fileURLToPath(new URL("../../../src/guides/how-far-this-goes.md", import.meta.url))

const note = (text: string): void => progress.above(() => void process.stderr.write(`bench:fleet: ${text}\n`))

const load = (): string => os.loadavg()[0]!.toFixed(1)

const machine = (): string => {
  const [first] = os.cpus()
  return `${new Date().toISOString().slice(0, 16)}Z, Node ${process.version}, ` +
    `${os.availableParallelism()} x ${first?.model.trim() ?? "unknown"}, ${Math.round(os.totalmem() / 2 ** 30)} GB, ` +
    `Linux ${os.release()}`
}

const run = async (): Promise<number> => {
  const { beside, help: isHelp, json, profile, rounds, wanted, write } = options()
  if (isHelp) {
    console.log(help)
    return 0
  }
  const before = load()
  const began = performance.now()
  const far = { part: 0, round: 0, name: "" }
  const end = progress.follow(() =>
    `bench:fleet: ${far.name}, part ${far.part + 1} of ${wanted.length}, round ${far.round} of ${rounds}, ` +
    howLong(performance.now() - began, (far.part + far.round / (rounds + 1)) / wanted.length)
  )
  const figures: Array<Figure> = []
  const failures: Array<string> = []
  for (const [part, { measure, missing, name }] of wanted.entries()) {
    Object.assign(far, { part, name, round: 0 })
    if (missing !== undefined) {
      failures.push(`${name} was not measured: ${missing}`)
      note(failures.at(-1)!)
      continue
    }
    note(name)
    const finished = (what: string, round: number): void => {
      far.round = round
      note(`  ${what}, ${round === 0 ? "warm" : `round ${round}`}`)
    }
    try {
      figures.push(...(await measure({ rounds, beside, profile, finished, note: (text) => note(`  ${text}`) })))
    } catch (error) {
      // the other parts still say something; the exit code says that this one did not
      failures.push(`${name} failed: ${(error as Error).message}`)
      note(failures.at(-1)!)
    }
  }
  end()
  const taken = `${machine()}; load average ${before} before, ${load()} after`
  if (json !== undefined) writeFileSync(json, JSON.stringify({ taken, rounds, figures, failures }, null, 2))
  console.log(`${taken}\n`)
  if (figures.length > 0) console.log(table(figures))
  if (write && failures.length === 0) {
    const page = between(readFileSync(guide, "utf8"), "fleet", `${taken}:\n\n${table(figures)}`)
    writeFileSync(guide, between(page, "million", million(figures)))
    note(`written: ${guide}`)
  }
  if (rounds < enoughRounds) console.log(`\n${rounds} rounds are too few for a ratio: it takes ${enoughRounds}.`)
  for (const failure of failures) console.log(`\nFAILED ${failure}`)
  return failures.length === 0 ? 0 : 1
}

// `exit` ends all that was started; it does not happen when a signal ends a process
for (const [signal, number] of [["SIGINT", 2], ["SIGTERM", 15], ["SIGHUP", 1]] as const) {
  process.once(signal, () => process.exit(128 + number))
}

run().then(
  (code) => process.exit(code),
  (error: Error) => {
    const isUsage = error instanceof Usage || error instanceof SyntaxError ||
      ("code" in error && String(error.code).startsWith("ERR_PARSE_ARGS"))
    console.error(isUsage ? `bench:fleet: ${error.message} (see --help)` : error)
    process.exit(1)
  }
)
