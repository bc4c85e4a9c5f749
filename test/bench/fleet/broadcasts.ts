/** What a broadcast to a tag costs each node of a fleet, beside the same broadcast by the registry of that node alone. */
import { enoughRounds } from "../support/figures.ts"
import { type EngineName, withEngine } from "./setting.ts"
import { type Figure, ratioOf, type Settings } from "./table.ts"

const clients = 10_000
const nodesInAll = 3
const size = 100
// with four of them a collection of garbage decides a round: ratios of one run were 0.8 to 1.6
const turns = 12

export const broadcasts = (engine: EngineName, settings: Settings): Promise<ReadonlyArray<Figure>> =>
  withEngine(engine, settings, async (setting) => {
    const crowd = await setting.crowd()
    const nodes = await setting.nodes(nodesInAll)
    await crowd.call("enter", { count: clients, ports: nodes.map(({ port }) => port) })
    const cpu = () => Promise.all(nodes.map(({ call }) => call<number>("cpu")))
    /** Milliseconds of CPU of each node for one broadcast. */
    const cost = async (broadcast: () => Promise<unknown>): Promise<ReadonlyArray<number>> => {
      const before = await cpu()
      for (let i = 0; i < turns; i++) {
        await Promise.all([crowd.call("expect", { bytes: clients * (size + 4) }), broadcast()])
      }
      return (await cpu()).map((after, i) => (after - before[i]!) / 1000 / turns)
    }
    const here = () => Promise.all(nodes.map(({ call }) => call("here", { bytes: size })))
    const everywhere = async () => {
      const delivered = await nodes[0]!.call<number>("everywhere", { bytes: size })
      if (delivered !== clients) throw new Error(`a broadcast was delivered to ${delivered} of ${clients}`)
    }
    const local: Array<ReadonlyArray<number>> = []
    const all: Array<ReadonlyArray<number>> = []
    for (let round = 0; round <= settings.rounds; round++) {
      for (const isLocal of round % 2 === 0 ? [true, false] : [false, true]) {
        const costs = await cost(isLocal ? here : everywhere)
        // the first round warms up
        if (round > 0) (isLocal ? local : all).push(costs)
      }
      settings.finished(`broadcasts on ${engine}`, round)
    }
    const name = `${engine}: a broadcast to ${clients} on ${nodesInAll} nodes`
    const of = (costs: typeof local, node: number) => costs.map((each) => each[node]!)
    const figures = nodes.flatMap((_, i): ReadonlyArray<Figure> => [
      { what: `${name}, CPU of ${i === 0 ? "the one that asks" : `node ${i + 1}`}`, unit: "ms", rounds: of(all, i) },
      {
        what: `the same by the registry of ${i === 0 ? "the first" : `node ${i + 1}`} alone`,
        unit: "ms",
        rounds: of(local, i)
      }
    ])
    if (settings.rounds < enoughRounds) return figures
    return [
      ...figures,
      ...nodes.map((_, i): Figure => ({
        ...ratioOf(`${name}: part of node ${i + 1} of a local one`, of(all, i), of(local, i)),
        most: 1.2
      }))
    ]
  })
