/** What a message to a key of another node costs its sender, beside what the engine's own client costs in a process like it. */
import { enoughRounds } from "../support/figures.ts"
import type { Started } from "../support/processes.ts"
import type { Cost } from "./processes/node.ts"
import { cpuNanos, type EngineName, withEngine } from "./setting.ts"
import { type Figure, ratioOf, type Settings } from "./table.ts"

const alone = { count: 1600, atOnce: 1 }
const many = { count: 4000, atOnce: 32 }

// a turn is done in so many parts, between those of the others, there and back: a machine that others use may be three times
// slower for half a second, which was longer than a turn
const parts = 4

// while the first 10,000 run alone V8 compiles their code: a send has more of it than a raw round trip, so it takes longer
const warmRounds = 8

/** The most that a send may take of what the raw round trip does. */
const mostOf: Record<EngineName, number> = { redis: 2, nats: 1.3 }

interface Turn {
  readonly name: string
  readonly run: () => Promise<Cost>
}

interface Measured extends Cost {
  /** CPU of the engine. */
  readonly engine: number
}

const mean = (costs: ReadonlyArray<Measured>): Measured => {
  const of = (what: keyof Measured) => costs.reduce((sum, cost) => sum + cost[what], 0) / costs.length
  return { micros: of("micros"), cpu: of("cpu"), engine: of("engine") }
}

/** Two nodes, of which the first sends to the client of the second. */
const pair = async (nodes: ReadonlyArray<Started>, crowd: Started): Promise<readonly [Started, string]> => {
  const [first, second] = nodes as [Started, Started]
  const key = `user${await crowd.call<number>("size")}`
  await crowd.call("enter", { count: 1, ports: [second.port] })
  await second.call("join", { node: "b" })
  await first.call("join", { node: "a" })
  return [first, key]
}

export const sends = (engine: EngineName, settings: Settings): Promise<ReadonlyArray<Figure>> =>
  withEngine(engine, settings, async (setting) => {
    const crowd = await setting.crowd()
    const nodes = await setting.nodes(2)
    const [first, key] = await pair(nodes, crowd)
    // processes of their own: the client of Redis gives each command a timer of 5 s that runs out long after the answer has
    // come, and makes an error with a stack then: a tenth of the CPU of what was measured at that moment
    const [raw, answering] = (await setting.nodes(2)) as [Started, Started]
    await answering.call("answer raw")
    await raw.call("prepare raw")
    await raw.call("prepare echo", { port: await answering.call<number>("answer echo") })
    const others = settings.beside === undefined ? undefined : await setting.nodes(2, settings.beside)
    const beside = others === undefined ? undefined : await pair(others, crowd)
    const turn = (name: string, node: Started, order: object): Turn => ({
      name,
      run: () => node.call<Cost>(name.replace(/ of .*| \d.*/, ""), order)
    })
    const groups = [alone, many].map((all) => {
      const steps = { ...all, count: all.count / parts }
      const flight = all.atOnce === 1 ? "" : ` ${all.atOnce} in flight`
      const turns: Array<Turn> = [
        turn(`raw trip${flight}`, raw, steps),
        turn(`send${flight}`, first, { ...steps, key }),
        turn(`raw publish${flight}`, raw, steps),
        turn(`publish${flight}`, first, steps)
      ]
      // no way of sending that waits for an answer costs less: the process sleeps, and is woken once
      if (all === alone) turns.unshift(turn("bare echo", raw, steps))
      if (beside !== undefined) {
        turns.push(
          turn(`send of the other checkout${flight}`, beside[0], { ...steps, key: beside[1] }),
          turn(`publish of the other checkout${flight}`, beside[0], steps)
        )
      }
      return { count: steps.count, turns }
    })
    const costs = new Map(groups.flatMap(({ turns }) => turns.map(({ name }) => [name, new Array<Measured>()])))
    for (let round = 1 - warmRounds; round <= settings.rounds; round++) {
      for (const { count, turns } of groups) {
        const found = new Map(turns.map(({ name }) => [name, new Array<Measured>()]))
        for (let part = 0; part < parts; part++) {
          for (const { name, run } of part % 2 === round % 2 ? turns : turns.toReversed()) {
            const before = cpuNanos(setting.engine.pid)
            const cost = await run()
            found.get(name)!.push({ ...cost, engine: (cpuNanos(setting.engine.pid) - before) / 1000 / count })
          }
        }
        if (round <= 0) continue
        for (const [name, measured] of found) costs.get(name)!.push(mean(measured))
      }
      settings.finished(`sends on ${engine}`, Math.max(0, round))
    }
    const of = (name: string, what: "micros" | "cpu" | "engine") => costs.get(name)!.map((cost) => cost[what])
    const goals: Record<string, number> = { send: 30, publish: 12 }
    const figures: Array<Figure> = []
    for (const name of costs.keys()) {
      const goal = goals[name.replace(/ \d.*/, "")]
      figures.push({ what: `${engine}: ${name}`, unit: "us", rounds: of(name, "micros") })
      figures.push({ what: `${engine}: ${name}, CPU of the sender`, unit: "us", rounds: of(name, "cpu"), most: goal })
      figures.push({ what: `${engine}: ${name}, CPU of the engine`, unit: "us", rounds: of(name, "engine") })
    }
    if (settings.rounds < enoughRounds) return figures
    for (const flight of ["", ` ${many.atOnce} in flight`]) {
      const most = flight === "" ? mostOf[engine] : undefined
      const [trip, send] = [`raw trip${flight}`, `send${flight}`]
      figures.push(
        { ...ratioOf(`${engine}: ${send} of ${trip}`, of(send, "micros"), of(trip, "micros")), most },
        ratioOf(`${engine}: ${send} of ${trip}, CPU of the sender`, of(send, "cpu"), of(trip, "cpu"))
      )
      for (const what of settings.beside === undefined ? [] : ["send", "publish"]) {
        const [now, then] = [`${what}${flight}`, `${what} of the other checkout${flight}`]
        figures.push(
          ratioOf(`${engine}: ${now} of the other checkout`, of(now, "micros"), of(then, "micros")),
          ratioOf(`${engine}: ${now} of the other checkout, CPU of the sender`, of(now, "cpu"), of(then, "cpu"))
        )
      }
    }
    return figures
  })
