/**
 * `npm run bench`: Holdfast beside what people would use or write instead.
 *
 * Each server is a process of its own, and so is what loads it. In every round each server has one turn, in another
 * order each time, and ratios are taken within a round: what else the machine does slows all of them down alike.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import os from "node:os"
import { resolve } from "node:path"
import { parseArgs } from "node:util"
import { howLong, progress } from "../../src/cli/progress.ts"
import { draw, growth } from "./growth.ts"
import type { Load, Measured } from "./loads.ts"
import { impossible, loads } from "./loads.ts"
import { printProfiles } from "./profile.ts"
import { print } from "./report.ts"
import type { ServerKind } from "./servers.ts"
import { beside, missing, servers } from "./servers.ts"
import { descriptorLimit } from "./support/processes.ts"

const help = `Usage: npm run bench -- [options]

  --only PATTERN   the loads whose name matches this regular expression
  --servers A,B    these servers only
  --beside DIR     also Holdfast as it is in another checkout (git worktree add DIR COMMIT; npm ci in it), as "beside"
  --rounds N       counted turns of each server under each load (default 5; ratios need 5)
  --seconds S      length of a turn (default 1.5)
  --growth         50 to 19,000 connections instead of the usual loads
  --plot FILE      draw the growth as SVG (with --growth)
  --json FILE      write the figures of every round
  --profile DIR    write a CPU profile of every Node server to this directory, and sum it up
  --help           this text

Loads:
${[...loads, ...growth].map(({ about, name }) => `  ${name.padEnd(13)}  ${about}`).join("\n")}

Servers:
${servers.map(({ about, name }) => `  ${name.padEnd(15)}  ${about}`).join("\n")}
`

class Usage extends Error {}

const number = (flag: string, text: string, minimum: number): number => {
  const value = Number(text)
  if (!(value >= minimum && Number.isFinite(value))) throw new Usage(`--${flag} takes a number, at least ${minimum}`)
  return value
}

const options = () => {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: "" },
      servers: { type: "string", default: "" },
      beside: { type: "string" },
      rounds: { type: "string", default: "5" },
      seconds: { type: "string", default: "1.5" },
      growth: { type: "boolean", default: false },
      plot: { type: "string" },
      json: { type: "string" },
      profile: { type: "string" },
      help: { type: "boolean", default: false }
    }
  })
  const wanted = values.servers.split(",").map((name) => name.trim()).filter((name) => name !== "")
  const known = values.beside === undefined ? servers : [...servers, beside(resolve(values.beside))]
  for (const name of wanted) {
    if (!known.some((server) => server.name === name)) throw new Usage(`--servers: there is no ${name}`)
  }
  if (values.plot !== undefined && !values.growth) throw new Usage("--plot draws what --growth measures")
  return {
    ...values,
    rounds: Math.trunc(number("rounds", values.rounds, 1)),
    seconds: number("seconds", values.seconds, 0.1),
    pattern: new RegExp(values.only),
    chosen: wanted.length === 0 ? known : known.filter(({ name }) => wanted.includes(name) || name === "beside")
  }
}

const note = (text: string): void => progress.above(() => void process.stderr.write(`bench: ${text}\n`))

const available = (chosen: ReadonlyArray<ServerKind>): ReadonlyArray<ServerKind> =>
  chosen.filter((server) => {
    const why = missing(server)
    if (why !== undefined) note(`skipping the server ${server.name}: ${why}`)
    return why === undefined
  })

const machine = (): string => {
  const [first] = os.cpus()
  const memory = Math.round(os.totalmem() / 2 ** 30)
  return `Node ${process.version}, ${os.cpus().length} x ${first?.model.trim() ?? "unknown"}, ${memory} GB, ` +
    `ulimit -n ${descriptorLimit()}, load average ${os.loadavg()[0]!.toFixed(1)}`
}

const run = async (): Promise<number> => {
  const { chosen, growth: grows, json, pattern, plot, profile, rounds, seconds, ...rest } = options()
  if (rest.help) {
    console.log(help)
    return 0
  }
  const wanted = (grows ? growth : loads).filter(({ name }) => pattern.test(name))
  if (wanted.length === 0) throw new Usage("--only: no load has such a name")
  if (profile !== undefined) mkdirSync(profile, { recursive: true })
  const present = available(chosen)
  const measured: Array<Measured> = []
  const failures: Array<string> = []
  const before = machine()
  note(before)
  const began = performance.now()
  const far = { load: "", done: 0, round: 0 }
  const end = progress.follow(() => {
    const part = (far.done + far.round / (rounds + 1)) / wanted.length
    return `bench: load ${far.done + 1} of ${wanted.length} (${far.load}), round ${far.round} of ${rounds}, ` +
      howLong(performance.now() - began, part)
  })
  // the default of these ends the process without a word
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      end()
      process.kill(process.pid, signal)
    })
  }
  const measure = async (load: Load): Promise<void> => {
    const why = impossible(load)
    if (why !== undefined) return note(`skipping ${load.name}: ${why}`)
    const kinds = present.filter(({ name }) => load.servers.includes(name))
    if (kinds.length === 0 && load.servers.length > 0) return
    note(`${load.name}: ${load.about}`)
    const told = (text: string) => note(`  ${text}`)
    const finished = (round: number): void => {
      far.round = round
      told(round === 0 ? "warm" : `round ${round} of ${rounds}`)
    }
    try {
      measured.push(...(await load.measure({ rounds, seconds, servers: kinds, note: told, finished, profile })))
    } catch (error) {
      // the other loads still say something; the exit code says that this one did not
      failures.push(`${load.name}: ${(error as Error).message}`)
      note(failures.at(-1)!)
    }
  }
  for (const [done, load] of wanted.entries()) {
    Object.assign(far, { load: load.name, done, round: 0 })
    await measure(load)
  }
  end()
  if (json !== undefined) {
    const taken = { machine: before, rounds, seconds, measured, failures }
    writeFileSync(json, JSON.stringify(taken, null, 2))
  }
  console.log(before)
  if (measured.length > 0) console.log(`\n${print(measured, rounds)}`)
  if (plot !== undefined) writeFileSync(plot, draw(measured))
  if (profile !== undefined) console.log(`\n${printProfiles(profile)}`)
  for (const failure of failures) console.log(`\nFAILED ${failure}`)
  return failures.length === 0 ? 0 : 1
}

run().then(
  (code) => process.exit(code),
  (error: Error) => {
    const usage = error instanceof Usage || "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS")
    console.error(usage ? `bench: ${error.message} (see --help)` : error)
    process.exit(1)
  }
)
