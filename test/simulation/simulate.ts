/** `npm run simulate`: the swarm, for as many seeds as somebody has time for. `support/pool.ts` runs them. */
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import { progress } from "../../src/cli/progress.ts"
import { kinds, type Sabotage } from "./support/kinds.ts"
import type { Job, Result } from "./support/pool.ts"
import { Tally } from "./support/tally.ts"

const help = `Runs clients and a server through a storm of faults in virtual time, once for each seed.

Usage: npm run simulate -- [options]

  --seeds N     how many seeds (default 1000)
  --from K      the first one (default 1); the others are K + 1, K + 2, ...
  --seed S      this seed alone, in this process, with everything that is known about it
  --clients N   clients of the one server, 1 to 1000 (default 20)
  --hours H     virtual hours of storm, 0.01 to 1000 (default 1)
  --workers N   threads (default: one for each core, here ${availableParallelism()})
  --break HOW   break the runtime on purpose, to see that it is found: ${kinds.join(", ")}
  --json        one line of JSON for each seed, and a last one with the totals
  --help        this text

A seed that fails is printed with the command that shows it again. Ctrl-C prints the summary so far.
The exit code is 1 when a seed failed, 2 when an option makes no sense, 130 after Ctrl-C.`

class Misuse extends Error {}

const number = (name: string, text: string | undefined, otherwise: number, least: number, most: number): number => {
  if (text === undefined) return otherwise
  const value = text.trim() === "" ? Number.NaN : Number(text)
  if (value >= least && value <= most) return value
  throw new Misuse(
    `--${name} takes a number from ${least} to ${most}, for example --${name} ${otherwise}, not "${text}"`
  )
}

const whole = (name: string, text: string | undefined, otherwise: number, least: number, most: number): number => {
  const value = number(name, text, otherwise, least, most)
  if (Number.isInteger(value)) return value
  throw new Misuse(`--${name} takes a whole number, for example --${name} ${otherwise}, not "${text}"`)
}

const string = { type: "string" } as const
const boolean = { type: "boolean" } as const

const parse = (args: ReadonlyArray<string>) => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seeds: string,
      from: string,
      seed: string,
      clients: string,
      hours: string,
      workers: string,
      break: string,
      json: boolean,
      help: boolean
    }
  })
  if (values.seed !== undefined && (values.seeds !== undefined || values.from !== undefined)) {
    throw new Misuse("--seed is one seed alone: leave out --seeds and --from")
  }
  if (values.seed === "") throw new Misuse("--seed takes a number or a text, for example --seed 42")
  const sabotage = values.break as Sabotage | undefined
  if (sabotage !== undefined && !kinds.includes(sabotage)) {
    throw new Misuse(`--break takes one of ${kinds.join(", ")}, not "${sabotage}"`)
  }
  const clients = whole("clients", values.clients, 20, 1, 1000)
  const hours = number("hours", values.hours, 1, 0.01, 1000)
  return {
    clients,
    hours,
    sabotage,
    seed: values.seed,
    seeds: whole("seeds", values.seeds, 1000, 1, 1e9),
    from: whole("from", values.from, 1, 0, 1e9),
    workers: whole("workers", values.workers, availableParallelism(), 1, 256),
    json: values.json === true,
    help: values.help === true,
    replay: (seed: string) =>
      `npm run simulate -- --seed ${seed}${clients === 20 ? "" : ` --clients ${clients}`}${
        hours === 1 ? "" : ` --hours ${hours}`
      }${sabotage === undefined ? "" : ` --break ${sabotage}`}`
  }
}

type Settings = ReturnType<typeof parse>

/** Whoever reads what is printed may leave first, as `head` does. */
const print = (line: string) => process.stdout.write(`${line}\n`)

const job = ({ clients, hours, sabotage }: Settings, seed: string): Job => ({
  seed,
  clients,
  minutes: hours * 60,
  sabotage
})

const one = async (settings: Settings, seed: string): Promise<number> => {
  const { runJob } = await import("./support/pool.ts")
  const result = await runJob(job(settings, seed))
  if (settings.json) print(JSON.stringify(result))
  else if (result.failure !== undefined) print(result.failure.message)
  else {
    const { cpu, faults, hash, steps, time, totals } = result
    print(`seed ${seed}: everything held`)
    print(
      `  ${(time / 60_000).toFixed(1)} virtual minutes, ${faults} faults, ${steps} steps, ${cpu.toFixed(0)} ms of CPU`
    )
    print(`  hash ${hash}`)
    for (const [name, count] of Object.entries(totals ?? {})) print(`  ${name} ${count}`)
  }
  return result.failure === undefined ? 0 : 1
}

function* jobs(settings: Settings): Generator<Job> {
  for (let i = 0; i < settings.seeds; i++) yield job(settings, String(settings.from + i))
}

const many = async (settings: Settings): Promise<number> => {
  // not before there is something to run: a mistake is told at once
  const { runAll } = await import("./support/pool.ts")
  const tally = new Tally(settings.seeds)
  const stop = new AbortController()
  const end = progress.follow(() => tally.progress())
  const interrupt = () => stop.abort()
  process.on("SIGINT", interrupt)
  await runAll(jobs(settings), Math.min(settings.workers, settings.seeds), (result: Result) => {
    tally.add(result)
    const { failure, seed } = result
    if (settings.json) return progress.above(() => print(JSON.stringify({ ...result, failure: failure ?? null })))
    if (failure === undefined) return
    progress.above(() => {
      print(`seed ${seed}: ${failure.kind}: ${failure.detail.split("\n")[0]}`)
      print(`  to see it: ${settings.replay(seed)}`)
    })
  }, stop.signal)
  process.off("SIGINT", interrupt)
  end()
  const stopped = stop.signal.aborted
  if (settings.json) print(JSON.stringify(tally.totals(stopped)))
  else for (const line of tally.summary(stopped, settings.replay)) print(line)
  return tally.failed.length > 0 ? 1 : stopped ? 130 : 0
}

const main = async (): Promise<number> => {
  let settings: Settings
  try {
    settings = parse(process.argv.slice(2))
  } catch (error) {
    const isMisuse = error instanceof Misuse ||
      String((error as { readonly code?: unknown }).code).startsWith("ERR_PARSE")
    if (!isMisuse) throw error
    console.error(`simulate: ${(error as Error).message}\nTry: npm run simulate -- --help`)
    return 2
  }
  if (settings.help) {
    print(help)
    return 0
  }
  return settings.seed === undefined ? many(settings) : one(settings, settings.seed)
}

process.stdout.on("error", () => process.exit(1))
process.exitCode = await main()
