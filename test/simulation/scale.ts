/**
 * 100,000 connections in one process, each with its four fibers: what opening one costs, how much heap it takes, and what
 * a sweep of the registry costs. `npm run scale -- [connections]`.
 */
import { Effect, Exit, Scope } from "effect"
import { Codec, Connection, Heartbeat, Registry } from "../../src/index.ts"
import { TestSocket } from "../../src/testing/index.ts"
import { VirtualTime } from "../../src/testing/internal/simulation/virtualTime.ts"

export interface Row {
  readonly connections: number
  /** Microseconds each. */
  readonly open: number
  /** Bytes each; undefined without `--expose-gc`. */
  readonly heap: number | undefined
  /** Milliseconds for all. */
  readonly sweep: number
}

const heapUsed = (): number | undefined => {
  if (globalThis.gc === undefined) return undefined
  globalThis.gc()
  return process.memoryUsage().heapUsed
}

/** Opens connections up to each of these numbers, and measures there. */
export const measure = (steps: ReadonlyArray<number>): ReadonlyArray<Row> => {
  const time = new VirtualTime()
  const scope = Scope.makeUnsafe()
  const registry = time.run(
    Scope.provide(Registry.make<string>({ expired: Registry.quietFor("1 hour") }), scope)
  )
  const open = Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") })
  const add = Scope.provide(
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const connection = yield* open(peer.socket)
      yield* registry.add(connection, { tags: ["all"] })
    }),
    scope
  )
  const empty = heapUsed()
  const rows: Array<Row> = []
  let count = 0
  for (const step of steps) {
    const begin = performance.now()
    const added = step - count
    while (count < step) {
      // by the thousand, as an accept loop gets them
      const batch = Math.min(1000, step - count)
      time.run(Effect.repeat(add, { times: batch - 1 }))
      count += batch
    }
    const opened = performance.now()
    const heap = heapUsed()
    const sweeping = performance.now()
    const swept = time.run(registry.sweep)
    const sweep = performance.now() - sweeping
    if (swept !== 0) throw new Error(`${swept} connections were swept, and all are alive`)
    rows.push({
      connections: count,
      open: ((opened - begin) * 1000) / added,
      heap: heap === undefined || empty === undefined ? undefined : (heap - empty) / count,
      sweep
    })
  }
  if (time.run(registry.size) !== count) throw new Error("the registry does not hold all connections")
  time.run(Effect.forkDetach(Scope.close(scope, Exit.void)))
  time.advance(60_000)
  const left = time.run(registry.size)
  if (left > 0) throw new Error(`${left} connections are left after their scope`)
  return rows
}

export const print = (rows: ReadonlyArray<Row>): string =>
  [
    "connections  open each  heap each     sweep",
    ...rows.map(({ connections, heap, open, sweep }) =>
      [
        String(connections).padStart(11),
        `${open.toFixed(0)} µs`.padStart(11),
        (heap === undefined ? "-" : `${(heap / 1024).toFixed(1)} KiB`).padStart(11),
        `${sweep.toFixed(0)} ms`.padStart(10)
      ].join("")
    )
  ].join("\n")

if (import.meta.main) {
  // nobody reads the stacks of 100,000 closes
  Error.stackTraceLimit = 0
  const most = Number(process.argv[2] ?? 100_000)
  if (!Number.isInteger(most) || most < 4) {
    console.error(
      `scale: takes a whole number of connections, at least 4, for example 100000, not "${process.argv[2]}"`
    )
    process.exit(2)
  }
  console.log(print(measure([Math.floor(most / 4), Math.floor(most / 2), most])))
}
