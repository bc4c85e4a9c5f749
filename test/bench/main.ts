/**
 * `npm run bench`: Holdfast beside what people would use or write instead.
 *
 * Each server is a process of its own, and so is what loads it. In every round each server has one turn, in another
 * order each time, and ratios are taken within a round: what else the machine does slows all of them down alike.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { howLong, progress } from "../../src/cli/progress.ts"
import { draw } from "./drawing.ts"
import { help, type Options, options, Usage, type Wanted } from "./options.ts"
import { printProfiles } from "./profile.ts"
import { print } from "./report.ts"
import type { Measured } from "./rounds.ts"
import { impossible } from "./rounds.ts"
import { absent, type ServerKind } from "./servers.ts"
import { descriptorLimit, endAll } from "./support/processes.ts"
import { listen, machine, saidOf } from "./table/machine.ts"
import { between, goalTable, peerTable, type Taken } from "./table/markdown.ts"

const note = (text: string): void => progress.above(() => void process.stderr.write(`bench: ${text}\n`))

/** A signal ends the process without its `exit` event: what it started ends before. */
const stopOnSignals = (): void => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    // npm passes on what the terminal has sent to both: the second one must not end it halfway
    process.on(signal, () => {
      progress.clear()
      endAll()
      process.removeAllListeners(signal)
      process.kill(process.pid, signal)
    })
  }
}

interface Results {
  readonly measured: Array<Measured>
  readonly failures: Array<string>
  readonly missing: Map<string, string>
}

/** The servers that can be measured here, each asked once. */
const present = async (kinds: ReadonlyArray<ServerKind>, { missing }: Results): Promise<ReadonlyArray<ServerKind>> => {
  const there: Array<ServerKind> = []
  for (const kind of kinds) {
    const why = missing.get(kind.name) ?? await kind.missing?.()
    if (why === undefined) there.push(kind)
    else if (!missing.has(kind.name)) {
      missing.set(kind.name, why)
      note(`skipping the server ${kind.name}: ${why}`)
    }
  }
  return there
}

const measure = async (
  { load, servers }: Wanted,
  { profile, rounds, seconds }: Options,
  results: Results,
  finished: (round: number) => void
): Promise<void> => {
  const why = impossible(load)
  if (why !== undefined) {
    results.missing.set(load.name, why)
    return note(`skipping ${load.name}: ${why}`)
  }
  const kinds = await present(servers, results)
  if (kinds.length === 0 && load.servers.length > 0) return
  note(`${load.name}: ${load.about}`)
  const told = (text: string): void => {
    // a terminal has the line that says how far it is
    if (!progress.isOn) note(`  ${text}`)
  }
  try {
    results.measured.push(...await load.measure({ rounds, seconds, servers: kinds, note: told, finished, profile }))
  } catch (error) {
    // the other loads still say something; the exit code says that this one did not
    results.failures.push(`${load.name}: ${(error as Error).message}`)
    note(results.failures.at(-1)!)
  }
}

const pathOf = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

const write = (path: string, name: string, text: string): void => {
  writeFileSync(pathOf(path), between(readFileSync(pathOf(path), "utf8"), name, text))
  note(`${path} has it`)
}

const drawing = "test/bench/growth.svg"

const run = async (): Promise<number> => {
  const asked = options(process.argv.slice(2))
  if (asked.help) {
    console.log(help)
    return 0
  }
  if (process.platform !== "linux") throw new Usage("it counts CPU by /proc, which Linux alone has: run it there")
  stopOnSignals()
  const { growth, json, profile, readme, rounds, seconds, wanted } = asked
  if (profile !== undefined) mkdirSync(profile, { recursive: true })
  const neighbours = listen()
  const on = `${machine()}, ulimit -n ${descriptorLimit()}`
  note(on)
  const results: Results = { measured: [], failures: [], missing: new Map() }
  const began = performance.now()
  const far = { load: "", done: 0, round: 0 }
  const end = progress.follow(() => {
    const part = (far.done + far.round / (rounds + 1)) / wanted.length
    return `bench: load ${far.done + 1} of ${wanted.length} (${far.load}), round ${far.round} of ${rounds}, ` +
      howLong(performance.now() - began, part)
  })
  for (const [done, each] of wanted.entries()) {
    Object.assign(far, { load: each.load.name, done, round: 0 })
    await measure(each, asked, results, (round) => {
      far.round = round
      if (!progress.isOn) note(`  ${round === 0 ? "warm" : `round ${round} of ${rounds}`}`)
    })
  }
  end()
  const { failures, measured } = results
  const taken: Taken = {
    machine: machine(),
    neighbours: saidOf(neighbours()),
    rounds,
    seconds,
    missing: [...Array.from(results.missing, ([name, why]) => `Without ${name}: ${why}`), absent]
  }
  if (json !== undefined) writeFileSync(json, JSON.stringify({ ...taken, measured, failures }, null, 2))
  if (measured.length > 0) {
    console.log(`${on}\n\n${print(measured, rounds)}`)
    if (!growth) console.log(`\n${goalTable(measured, taken)}\n\n${peerTable(measured)}`)
  }
  console.log(`\n${howLong(performance.now() - began, 0)}; ${taken.neighbours}`)
  if (profile !== undefined) console.log(`\n${printProfiles(profile)}`)
  for (const failure of failures) console.log(`\nFAILED ${failure}`)
  const plot = asked.plot ?? (growth && readme ? pathOf(drawing) : undefined)
  if (plot !== undefined) writeFileSync(plot, draw(measured))
  if (failures.length > 0 || measured.length === 0) {
    if (readme && !growth) note("README.md is as it was: not all could be measured")
    return 1
  }
  if (readme && !growth) {
    write("README.md", "bench", goalTable(measured, taken))
    write("src/guides/performance.md", "bench", peerTable(measured))
  }
  return 0
}

run().then(
  (code) => process.exit(code),
  (error: Error) => {
    console.error(error instanceof Usage ? `bench: ${error.message}` : error)
    process.exit(1)
  }
)
