/** What is measured, and how. Every load gives figures round by round for each server. */
import type { Shape, Turn } from "./Fleet.ts"
import { Fleet, spareDescriptors } from "./Fleet.ts"
import type { ServerKind } from "./servers.ts"
import { cpuSeconds, descriptorLimit, sleep, startNode } from "./support/processes.ts"

/** The figures of one server under one load. */
export interface Measured {
  readonly load: string
  readonly server: string
  readonly unit: string
  /** One figure a round. */
  readonly rounds: Array<number>
  /** Shares of a core, beside each figure, where it was a turn. */
  readonly serverBusy?: Array<number>
  readonly loadBusy?: Array<number>
}

export interface Settings {
  readonly rounds: number
  readonly seconds: number
  readonly servers: ReadonlyArray<ServerKind>
  readonly note: (text: string) => void
  /** Says that a round is over; that of 0 is not counted. */
  readonly finished: (round: number) => void
  /** Where to leave CPU profiles of the servers. */
  readonly profile: string | undefined
}

export interface Load {
  readonly name: string
  readonly about: string
  /** Descriptors that one process needs. */
  readonly descriptors: number
  /** The servers it is for, by name; the others have nothing to do with it. */
  readonly servers: ReadonlyArray<string>
  readonly measure: (settings: Settings) => Promise<ReadonlyArray<Measured>>
}

const rotated = <A>(values: ReadonlyArray<A>, by: number): ReadonlyArray<A> =>
  values.map((_, i) => values[(i + by) % values.length]!)

/** One turn for each server in each round, in another order each round; the first round of all is not counted. */
const interleaved = async <A>(
  settings: Settings,
  turn: (fleet: Fleet) => Promise<A>,
  fleets: ReadonlyArray<Fleet>
): Promise<ReadonlyMap<Fleet, Array<A>>> => {
  const results = new Map<Fleet, Array<A>>(fleets.map((fleet) => [fleet, []]))
  for (let round = 0; round <= settings.rounds; round++) {
    for (const fleet of rotated(fleets, round)) {
      const result = await turn(fleet)
      if (round > 0) results.get(fleet)!.push(result)
    }
    settings.finished(round)
  }
  return results
}

const withFleets = async <A>(
  settings: Settings,
  shape: Shape,
  use: (fleets: ReadonlyArray<Fleet>) => Promise<A>,
  processes = 1
): Promise<A> => {
  const fleets: Array<Fleet> = []
  try {
    for (const kind of settings.servers) {
      const fleet = await Fleet.start(kind, shape, { processes, profile: settings.profile })
      fleets.push(fleet)
      await fleet.connect()
    }
    settings.note("connected")
    return await use(fleets)
  } finally {
    await Promise.all(fleets.map((fleet) => fleet.stop()))
  }
}

const rates = (load: string, unit: string, results: ReadonlyMap<Fleet, ReadonlyArray<Turn>>): ReadonlyArray<Measured> =>
  Array.from(results, ([{ kind }, turns]) => ({
    load,
    server: kind.name,
    unit,
    rounds: turns.map(({ rate }) => rate),
    serverBusy: turns.map(({ serverBusy }) => serverBusy),
    loadBusy: turns.map(({ loadBusy }) => loadBusy)
  }))

const streams = [
  "raw",
  "effect",
  "holdfast",
  "beside",
  "holdfast-fibers",
  "holdfast-metrics",
  "holdfast-batch",
  "serve",
  "go"
]
const webSockets = ["ws", "socket.io", "holdfast-ws"]

export const echo = (
  name: string,
  servers: ReadonlyArray<string>,
  shape: Shape,
  about: string,
  processes = 1
): Load => ({
  name,
  about,
  descriptors: shape.connections + spareDescriptors,
  servers,
  measure: (settings) =>
    withFleets(
      settings,
      shape,
      async (fleets) =>
        rates(name, "echo/s", await interleaved(settings, (fleet) => fleet.run(settings.seconds * 1000), fleets)),
      processes
    )
})

const small = 64
const many = 10_000
const warm = 100

const broadcast: Load = {
  name: "broadcast",
  about: `one message of 100 bytes to ${many} connections, deliveries in a second`,
  descriptors: many + spareDescriptors,
  servers: ["raw", "effect", "holdfast"],
  measure: (settings) =>
    withFleets(settings, { connections: many, inFlight: 1, size: small }, async (fleets) =>
      rates(
        "broadcast",
        "msg/s",
        await interleaved(settings, (fleet) => fleet.broadcast(settings.seconds * 1000, 100), fleets)
      ))
}

const accept: Load = {
  name: "accept",
  about: "connections that come, are echoed once, and leave; 64 at a time",
  descriptors: many,
  servers: streams,
  measure: (settings) =>
    withFleets(
      settings,
      { connections: 1, inFlight: 1, size: small },
      async (fleets) =>
        rates(
          "accept",
          "conn/s",
          await interleaved(settings, async (fleet) => {
            const turn = await fleet.churn(settings.seconds * 1000, 64)
            // what is being closed still costs the server something, which is not the next one's to pay
            await sleep(200)
            return turn
          }, fleets)
        )
    )
}

const memory: Load = {
  name: "memory",
  about: `bytes for each of ${many} idle connections: heap after a collection, and of the process`,
  descriptors: many + spareDescriptors,
  servers: [...streams, ...webSockets],
  measure: async (settings) => {
    const figures = new Map<string, { heap: Array<number>; resident: Array<number> }>()
    for (let round = 0; round < settings.rounds; round++) {
      for (const kind of rotated(settings.servers, round)) {
        const fleet = await Fleet.start(kind, { connections: many, inFlight: 1, size: small })
        try {
          // what the first connections cost once, such as compiling, is not counted
          await fleet.connect(warm)
          await sleep(200)
          const before = await fleet.memory()
          await fleet.connect()
          await sleep(500)
          const after = await fleet.memory()
          const { heap, resident } = figures.get(kind.name) ?? { heap: [], resident: [] }
          heap.push((after.heap - before.heap) / (many - warm))
          resident.push((after.resident - before.resident) / (many - warm))
          figures.set(kind.name, { heap, resident })
        } finally {
          await fleet.stop()
        }
      }
      settings.finished(round + 1)
    }
    return Array.from(figures, ([server, { heap, resident }]) => [
      { load: "memory heap", server, unit: "B/conn", rounds: heap },
      { load: "memory rss", server, unit: "B/conn", rounds: resident }
    ]).flat()
  }
}

// two pings of a 25 s heartbeat
const idleSeconds = 50

const cpu: Load = {
  name: "cpu",
  about:
    `share of a core for ${many} idle connections with a 25 s heartbeat, over ${idleSeconds} s, all servers at once`,
  descriptors: many + spareDescriptors,
  servers: ["holdfast", "beside", "go", "ws", "holdfast-ws"],
  measure: (settings) =>
    withFleets(settings, { connections: many, inFlight: 1, size: small }, async (fleets) => {
      const before = fleets.map(({ server }) => cpuSeconds(server.pid))
      const start = performance.now()
      await sleep(idleSeconds * 1000)
      const seconds = (performance.now() - start) / 1000
      return fleets.map(({ kind, server }, i) => ({
        load: "cpu",
        server: kind.name,
        unit: "% of a core",
        rounds: [((cpuSeconds(server.pid) - before[i]!) / seconds) * 100]
      }))
    })
}

const latency: Load = {
  name: "latency",
  about: "open loop at 70 % of what each server itself did at 50x1, from when a request was due",
  descriptors: 50 + spareDescriptors,
  servers: streams,
  measure: (settings) =>
    withFleets(settings, { connections: 50, inFlight: 1, size: small }, async (fleets) => {
      const ms = settings.seconds * 1000
      // the capacity is taken anew for each turn, right before it: the machine may be slower by then
      const results = await interleaved(settings, async (fleet) => {
        const { rate } = await fleet.run(ms / 2)
        const turn = await fleet.openLoop(ms, rate * 0.7)
        return { ...turn, asked: rate * 0.7 }
      }, fleets)
      return Array.from(results, ([{ kind }, turns]): ReadonlyArray<Measured> => {
        const row = (load: string, unit: string, figure: (turn: (typeof turns)[number]) => number) => ({
          load: `latency ${load}`,
          server: kind.name,
          unit,
          rounds: turns.map(figure)
        })
        return [
          row("p50", "ms", (turn) => turn.latency!.p50),
          row("p99", "ms", (turn) => turn.latency!.p99),
          row("p99.9", "ms", (turn) => turn.latency!.p999),
          row("rate", "echo/s", (turn) => turn.rate),
          row("rate asked", "echo/s", (turn) => turn.asked)
        ]
      }).flat()
    })
}

/** A load without a network: a process of its own for each part of it. */
export const alone = (name: string, script: string, parts: ReadonlyArray<string>, about: string): Load => ({
  name,
  about,
  descriptors: spareDescriptors,
  servers: [],
  measure: async (settings) => {
    const measured: Array<Measured> = []
    for (const part of parts) {
      const child = await startNode(new URL(`./alone/${script}.ts`, import.meta.url), [], {
        title: `${name} ${part}`,
        listens: false,
        profile: settings.profile
      })
      try {
        measured.push(await child.call<Measured>(part, { rounds: settings.rounds, seconds: settings.seconds }))
      } finally {
        await child.stop()
      }
    }
    return measured
  }
})

const echoes = [[1, 1], [50, 1], [50, 32], [1000, 1], [5000, 1]] as const

export const loads: ReadonlyArray<Load> = [
  ...echoes.map(([connections, inFlight]) =>
    echo(
      `${connections}x${inFlight}`,
      streams,
      { connections, inFlight, size: small },
      `64 B, ${connections} connections, ${inFlight} in flight`
    )
  ),
  echo("16k 50x1", streams, { connections: 50, inFlight: 1, size: 16 * 1024 }, "16 KiB, 50 connections"),
  echo("1m 4x1", streams, { connections: 4, inFlight: 1, size: 1024 * 1024 }, "1 MiB, 4 connections"),
  ...([[50, 1], [50, 32], [1000, 1]] as const).map(([connections, inFlight]) =>
    echo(
      `ws ${connections}x${inFlight}`,
      webSockets,
      { connections, inFlight, size: small },
      `64 B over WebSocket, ${connections} connections, ${inFlight} in flight`
    )
  ),
  broadcast,
  accept,
  latency,
  memory,
  cpu,
  alone("in-memory", "memory", ["served", "bare"], "100,000 connections without a network, heap for each"),
  alone("decoder", "decoder", ["small", "large"], "the decoder of length-prefixed frames alone")
]

/** Why a load cannot run here, or `undefined`. */
export const impossible = (load: Load): string | undefined => {
  const limit = descriptorLimit()
  return load.descriptors <= limit
    ? undefined
    : `it needs ${load.descriptors} file descriptors a process, and ulimit -n is ${limit}`
}
