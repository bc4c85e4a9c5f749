/** What a message to a key of another node costs its sender, beside what the engine's own client costs in the same process. */
import { enoughRounds } from "../support/figures.ts"
import type { Started } from "../support/processes.ts"
import type { Cost } from "./processes/node.ts"
import { cpuNanos, type EngineName, withEngine } from "./setting.ts"
import { type Figure, ratioOf, type Settings } from "./table.ts"

const alone = { count: 400, atOnce: 1 }
const many = { count: 4000, atOnce: 32 }

/** The most that a send may take of what the raw round trip does. */
const mostOf: Record<EngineName, number> = { redis: 2, nats: 1.3 }

interface Turn {
  readonly name: string
  readonly run: () => Promise<Cost>
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
    await nodes[1]!.call("answer raw")
    await first.call("prepare raw")
    const others = settings.beside === undefined ? undefined : await setting.nodes(2, settings.beside)
    const beside = others === undefined ? undefined : await pair(others, crowd)
    const turn = (name: string, node: Started, order: object): Turn => ({
      name,
      run: () => node.call<Cost>(name.replace(/ of .*| \d.*/, ""), order)
    })
    const turns: Array<Turn> = []
    for (const steps of [alone, many]) {
      const flight = steps.atOnce === 1 ? "" : ` ${steps.atOnce} in flight`
      turns.push(
        turn(`raw trip${flight}`, first, steps),
        turn(`send${flight}`, first, { ...steps, key }),
        turn(`raw publish${flight}`, first, steps),
        turn(`publish${flight}`, first, steps)
      )
      if (beside !== undefined) {
        turns.push(
          turn(`send of the other checkout${flight}`, beside[0], { ...steps, key: beside[1] }),
          turn(`publish of the other checkout${flight}`, beside[0], steps)
        )
      }
    }
    const costs = new Map(turns.map(({ name }) => [name, new Array<Cost & { readonly engine: number }>()]))
    for (let round = 0; round <= settings.rounds; round++) {
      for (const [i] of turns.entries()) {
        const { name, run } = turns[(i + round) % turns.length]!
        const before = cpuNanos(setting.engine.pid)
        const cost = await run()
        const count = name.includes("in flight") ? many.count : alone.count
        // the first round warms up
        if (round > 0) {
          costs.get(name)!.push({ ...cost, engine: (cpuNanos(setting.engine.pid) - before) / 1000 / count })
        }
      }
      settings.finished(`sends on ${engine}`, round)
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
