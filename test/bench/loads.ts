/** What is measured. Every load gives figures round by round for each server. */
import { Fleet, spareDescriptors } from "./Fleet.ts"
import type { Load, Measured } from "./rounds.ts"
import { alone, echo, interleaved, rates, rotated, withFleets } from "./rounds.ts"
import { start } from "./start.ts"
import { cpuSeconds, sleep } from "./support/processes.ts"

const streams = [
  "raw",
  "effect",
  "holdfast",
  "beside",
  "holdfast-fibers",
  "holdfast-metrics",
  "holdfast-batch",
  "serve",
  "go",
  "c",
  "bun"
]
const peers = ["raw", "effect", "holdfast", "beside", "go", "c", "bun"]
const webSockets = ["ws", "socket.io", "holdfast-ws"]

const small = 64
const many = 10_000

const broadcast: Load = {
  name: "broadcast",
  about: `one message of 100 bytes to ${many} connections, deliveries in a second`,
  descriptors: many + spareDescriptors,
  servers: ["raw", "effect", "holdfast", "beside"],
  compared: ["raw", "effect", "holdfast", "beside"],
  measure: (settings) =>
    withFleets(settings, { connections: many, inFlight: 1, size: small }, async (fleets) =>
      rates(
        "broadcast",
        "msg/s",
        await interleaved(settings, (fleet, ms) => fleet.broadcast(ms, 100), fleets)
      ))
}

// milliseconds: some ten thousand connections until the compiler of V8 is done with all that one of them runs
const warmingAccepts = 4000

const accept: Load = {
  name: "accept",
  about: "connections that come, are echoed once, and leave; 64 at a time",
  descriptors: many,
  servers: streams,
  compared: peers,
  measure: (settings) =>
    withFleets(
      settings,
      { connections: 1, inFlight: 1, size: small },
      async (fleets) =>
        rates(
          "accept",
          "conn/s",
          await interleaved(
            settings,
            async (fleet, ms) => {
              const turn = await fleet.churn(ms, 64)
              // what is being closed still costs the server something, which is not the next one's to pay
              await sleep(200)
              return turn
            },
            fleets,
            warmingAccepts
          )
        )
    )
}

// the young generation of V8 grows with the first thousands of connections, by up to 70 MB that no connection holds: what is
// measured are those that come when it has grown. Fewer than thousands find room in what it has left, and seem to take none
const grown = 10_000
const idle = 15_000
// what an idle connection takes is nearly the same each time
const memoryRounds = 5

const memory: Load = {
  name: "memory",
  about: `bytes for each of ${
    idle - grown
  } idle connections beside ${grown}: heap after a collection, and of the process`,
  descriptors: idle + spareDescriptors,
  servers: [...streams, ...webSockets],
  compared: ["effect", "holdfast", "beside"],
  measure: async (settings) => {
    const figures = new Map<string, { heap: Array<number>; resident: Array<number> }>()
    for (let round = 0; round < Math.min(memoryRounds, settings.rounds); round++) {
      for (const kind of rotated(settings.servers, round)) {
        const fleet = await Fleet.start(kind, { connections: idle, inFlight: 1, size: small })
        try {
          await fleet.connect(grown)
          await sleep(500)
          const before = await fleet.memory()
          await fleet.connect()
          await sleep(500)
          const after = await fleet.memory()
          const { heap, resident } = figures.get(kind.name) ?? { heap: [], resident: [] }
          heap.push((after.heap - before.heap) / (idle - grown))
          resident.push((after.resident - before.resident) / (idle - grown))
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
      // the capacity is taken anew for each turn, right before it: the machine may be slower by then
      const results = await interleaved(settings, async (fleet, ms) => {
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

const echoes = [[1, 1], [50, 1], [50, 32], [1000, 1], [5000, 1]] as const

const tcp = (connections: number, inFlight: number): Load => {
  const name = `${connections}x${inFlight}`
  const about = `64 B, ${connections} connections, ${inFlight} in flight`
  const compared = inFlight > 1 ? [...peers, "holdfast-batch"] : peers
  const { compared: _, ...load } = echo(name, streams, { connections, inFlight, size: small }, about, compared)
  return connections === 1 ? load : { ...load, compared }
}

const webSocket = (connections: number, inFlight: number): Load =>
  echo(
    `ws ${connections}x${inFlight}`,
    webSockets,
    { connections, inFlight, size: small },
    `64 B over WebSocket, ${connections} connections, ${inFlight} in flight`,
    webSockets
  )

const calls = ["effect-rpc", "holdfast-rpc"]

export const loads: ReadonlyArray<Load> = [
  ...echoes.map(([connections, inFlight]) => tcp(connections, inFlight)),
  echo("16k 50x1", streams, { connections: 50, inFlight: 1, size: 16 * 1024 }, "16 KiB, 50 connections", peers),
  echo("1m 4x1", streams, { connections: 4, inFlight: 1, size: 1024 * 1024 }, "1 MiB, 4 connections", peers),
  webSocket(50, 1),
  webSocket(50, 32),
  webSocket(1000, 1),
  echo("rpc 50x1", calls, { connections: 50, inFlight: 1, size: small }, "RPC, 50 connections, one call each", calls),
  accept,
  broadcast,
  alone("pool", "pool", ["pool"], "borrowing from a pool of 8: one borrower, and 64", []),
  start,
  memory,
  latency,
  cpu,
  alone("in-memory", "memory", ["served", "bare"], "100,000 connections without a network, heap for each"),
  alone("decoder", "decoder", ["small", "large"], "the decoder of length-prefixed frames alone")
]
