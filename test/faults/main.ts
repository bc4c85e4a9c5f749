/**
 * `npm run test:faults`: what people see who pull a cable, against the real command.
 *
 * Servers and clients are processes of their own, where needed on hosts of their own (network namespaces). The table that it prints
 * says of each fault what each end made of it, and how soon; the guide about deadlines has the same.
 */
import { parseArgs } from "node:util"
import type { Part } from "./fault.ts"
import { parts } from "./parts/index.ts"
import { cleanUp } from "./support/cleanUp.ts"
import { build, type Built, Stage } from "./support/Stage.ts"
import { judge, printed, type Ran, staleGuide, writeGuide } from "./table.ts"

const help = `Usage: npm run test:faults -- [options]

  --only PATTERN   the parts whose name matches this regular expression
  --list           the parts, their rows, and what this machine lacks for them
  --write          write the table of src/guides/heartbeats-and-deadlines.md, with new seconds for each row that was seen as expected
  --help           this text

It ends with 1 when a reason is not the expected one, or seconds are over the bound or so few that a live peer was killed.
A part for which the machine lacks something is skipped.`

const note = (text: string): void => void process.stderr.write(`faults: ${text}\n`)

const lacking = (part: Part): string | undefined => {
  const missing = part.needs.filter((need) => !need.has()).map(({ name }) => name)
  return missing.length === 0 ? undefined : `this machine lacks ${missing.join(" and ")}`
}

/** What `n` of them wait for: it resolves when all have come. */
const barrier = (n: number) => {
  const { promise, resolve } = Promise.withResolvers<void>()
  let missing = n
  return () => {
    if (--missing === 0) resolve()
    return promise
  }
}

/** How long a part may take, whatever it waits for. */
const most = 150_000

const runPart = async (part: Part, built: Built, arrive: () => Promise<void>): Promise<Ran> => {
  const skipped = lacking(part)
  if (skipped !== undefined) {
    void arrive()
    note(`skipped ${part.name}: ${skipped}`)
    return { part, seen: new Map(), skipped }
  }
  let arrived: Promise<void> | undefined
  const stage = new Stage(built, () => arrived ??= arrive())
  const since = performance.now()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it was not over after ${most / 1000} s`)), most)
  })
  let error: string | undefined
  try {
    await Promise.race([part.run(stage), late])
  } catch (cause) {
    error = (cause as Error).message
  } finally {
    clearTimeout(timer)
    // whatever became of it, the others go on
    void stage.ready()
    await stage.end()
  }
  note(
    `${error === undefined ? "ran" : "FAILED"} ${part.name} in ${((performance.now() - since) / 1000).toFixed(1)} s${
      error === undefined ? "" : `: ${error}`
    }`
  )
  return { part, seen: stage.seen, error }
}

const together = (chosen: ReadonlyArray<Part>, built: Built): Promise<ReadonlyArray<Ran>> => {
  const arrive = barrier(chosen.length)
  return Promise.all(chosen.map((part) => runPart(part, built, arrive)))
}

/** Whether it failed as a busy machine makes it fail: late, or not at all. A wrong reason or a killed peer has no second try. */
const isLate = (ran: Ran): boolean => {
  const wrong = judge(ran).filter(({ complaint }) => complaint !== undefined)
  return wrong.every(({ complaint, outcome }) => outcome === undefined || complaint!.startsWith("over the bound")) &&
    (wrong.length > 0 || ran.error !== undefined) && ran.skipped === undefined
}

/** So many parts that wait are beside each other: each is half a dozen processes. */
const beside = 8

/** Parts that run at the same time. */
const groups = (chosen: ReadonlyArray<Part>): ReadonlyArray<ReadonlyArray<Part>> => {
  const of = (load: Part["load"]) => chosen.filter((part) => part.load === load)
  const waiting = of("waits")
  const batches = Array.from(
    { length: Math.ceil(waiting.length / beside) },
    (_, i) => waiting.slice(i * beside, (i + 1) * beside)
  )
  return [...batches, of("busy"), of("crowd"), ...of("alone").map((part) => [part])]
}

const runAll = async (chosen: ReadonlyArray<Part>, built: Built): Promise<ReadonlyArray<Ran>> => {
  const ran: Array<Ran> = []
  for (const group of groups(chosen)) ran.push(...await together(group, built))
  // by itself, nothing but its own ends makes it late
  for (const late of ran.filter(isLate)) {
    note(`once more, by itself: ${late.part.name}`)
    const [again] = await together([late.part], built)
    ran.splice(ran.indexOf(late), 1, again!)
  }
  return ran.toSorted((a, b) => chosen.indexOf(a.part) - chosen.indexOf(b.part))
}

const list = (chosen: ReadonlyArray<Part>): void => {
  for (const part of chosen) {
    const missing = lacking(part)
    console.log(`${part.name}${missing === undefined ? "" : ` (skipped: ${missing})`}`)
    for (const { atMost, bound, end, reason, ways } of part.rows) {
      console.log(
        `  ${end}: ${String(reason)} within ${atMost} s${bound === "" ? "" : ` (${bound})`}, over ${ways.join(", ")}`
      )
    }
  }
}

const main = async (): Promise<number> => {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: "" },
      list: { type: "boolean", default: false },
      write: { type: "boolean", default: false },
      help: { type: "boolean", default: false }
    }
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  const pattern = new RegExp(values.only)
  const chosen = parts.filter(({ name }) => pattern.test(name))
  if (chosen.length === 0) throw new Error("--only: no part has such a name; see --list")
  if (values.list) {
    list(chosen)
    return 0
  }
  const since = performance.now()
  const ran = await runAll(chosen, await build())
  console.log(`\n${printed(ran)}\n`)
  const judged = ran.filter(({ skipped }) => skipped === undefined).flatMap(judge)
  const skipped = ran.filter(({ skipped }) => skipped !== undefined)
  for (const { part, skipped: why } of skipped) console.log(`skipped ${part.name}: ${why}`)
  const wrong = judged.filter(({ complaint }) => complaint !== undefined).length
  const broken = ran.filter(({ error }) => error !== undefined).length
  if (values.write) writeGuide(parts, ran)
  const stale = staleGuide(parts)
  if (stale !== undefined) console.log(`${stale}\n(npm run test:faults -- --write)`)
  console.log(
    `${judged.length - wrong} as expected, ${wrong} not, ${broken} parts failed, ${skipped.length} skipped, ` +
      `in ${Math.round((performance.now() - since) / 1000)} s`
  )
  return wrong + broken === 0 && stale === undefined ? 0 : 1
}

main().catch((error: unknown) => {
  note(error instanceof Error ? error.message : String(error))
  return 1
}).then((code) => {
  cleanUp()
  process.exit(code)
})
