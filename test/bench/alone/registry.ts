/**
 * The registry alone, with 100,000 entries that have a key and two tags each: what adding and removing one costs, reading
 * all of them, a broadcast, a sweep, and the heap. `node --expose-gc test/bench/alone/registry.ts` prints all of it.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { performance } from "node:perf_hooks"
import type { Connection, Snapshot } from "../../../src/Connection.ts"
import { TypeId } from "../../../src/internal/connection/handle/internals.ts"
import * as Registry from "../../../src/Registry.ts"
import type { Measured } from "../rounds.ts"
import { onCommand } from "../support/commands.ts"

const connections = 100_000
const members = 100
// ids are those of a process that has served for a while
let nextId = 10_000_000

const wire = { encode: (message: string) => Result.succeed(message) }

interface Fake {
  readonly connection: Connection<string>
  readonly end: () => void
}

/** The least that a registry needs of a connection. */
const fake = (): Fake => {
  const id = nextId++
  const snapshot = { id, state: "open", age: 0, quietFor: 0 } as Snapshot
  let onEnded = (_id: number) => {}
  const connection = {
    id,
    snapshot: Effect.succeed(snapshot),
    closeWith: () => Effect.void,
    wire,
    offerFrame: () => Effect.succeed(true),
    [TypeId]: {
      state: "open",
      overdue: 0,
      look: () => snapshot,
      onEnded: (watcher: (id: number) => void) => {
        onEnded = watcher
      },
      offerNow: () => true
    }
  } as unknown as Connection<string>
  return { connection, end: () => onEnded(id) }
}

/** One tag for all of them, and one for a hundred that came at different times. */
const namesOf = ({ id }: Connection<string>) => ({
  key: `user ${id}`,
  tags: ["all", `room ${id % (connections / members)}`]
})

interface Filled {
  readonly registry: Registry.Registry<string>
  /** Bytes of heap for each entry, beside those of its connection and its scope. */
  readonly heap: number
}

const heap = (): number => {
  globalThis.gc?.()
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

const filled: Effect.Effect<Filled, unknown> = Effect.gen(function*() {
  const registry = yield* Scope.provide(
    Registry.make<string>({ expired: ({ quietFor }) => quietFor > 1_000_000 }),
    yield* Scope.make()
  )
  const fakes = Array.from({ length: connections }, fake)
  const scopes = fakes.map(() => Scope.makeUnsafe())
  const before = heap()
  for (let i = 0; i < connections; i++) {
    const { connection } = fakes[i]!
    yield* Scope.provide(registry.add(connection, namesOf(connection)), scopes[i]!)
  }
  const used = (heap() - before) / connections
  if (fakes.length + scopes.length !== 2 * connections) throw new Error("both have to be there until now")
  return { registry, heap: used }
})

/** How long one run takes, in microseconds: medians of so many rounds of so many runs. The first round is not counted. */
const each = <A, E>(rounds: number, runs: number, run: (i: number) => Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const times: Array<number> = []
    for (let round = 0; round <= rounds; round++) {
      const start = performance.now()
      for (let i = 0; i < runs; i++) yield* run(i)
      times.push(((performance.now() - start) * 1000) / runs)
    }
    return times.slice(1)
  })

const millis = (times: Effect.Effect<ReadonlyArray<number>, unknown>) =>
  Effect.map(times, (all) => all.map((micros) => micros / 1000))

interface Part {
  readonly name: string
  readonly unit: string
  readonly measure: (filled: Filled, rounds: number) => Effect.Effect<ReadonlyArray<number>, unknown>
}

const iterate = ({ registry }: Filled) =>
  Effect.map(registry.entries, (entries) => {
    let sum = 0
    for (const { connection } of entries) sum += connection.id
    return sum
  })

/** Adds one, which ends before its scope does, as those of a server. */
const addAndRemove = ({ registry }: Filled) =>
  Effect.suspend(() => {
    const scope = Scope.makeUnsafe()
    const { connection, end } = fake()
    return Effect.andThen(
      Scope.provide(registry.add(connection, namesOf(connection)), scope),
      Effect.suspend(() => {
        end()
        return Scope.close(scope, Exit.void)
      })
    )
  })

const parts: ReadonlyArray<Part> = [
  { name: "heap", unit: "B/entry", measure: ({ heap }) => Effect.succeed([heap]) },
  {
    name: "add and remove",
    unit: "us",
    measure: (filled, rounds) => each(rounds, 20_000, () => addAndRemove(filled))
  },
  {
    name: "entries",
    unit: "ms",
    measure: (filled, rounds) => millis(each(rounds, 1, () => Effect.andThen(addAndRemove(filled), iterate(filled))))
  },
  {
    name: "entries again",
    unit: "ms",
    measure: (filled, rounds) => millis(each(rounds, 10, () => iterate(filled)))
  },
  {
    name: "snapshots",
    unit: "ms",
    measure: ({ registry }, rounds) => millis(each(rounds, 1, () => registry.snapshots))
  },
  {
    name: "tag of 100",
    unit: "us",
    measure: ({ registry }, rounds) => each(rounds, 1000, (i) => registry.getTag(`room ${i}`))
  },
  {
    name: "broadcast",
    unit: "ms",
    measure: ({ registry }, rounds) => millis(each(rounds, 1, () => registry.broadcast("hello")))
  },
  {
    name: "sweep",
    unit: "ms",
    measure: ({ registry }, rounds) => millis(each(rounds, 1, () => registry.sweep))
  }
]

const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

for (const { measure, name, unit } of parts) {
  onCommand(name, async ({ rounds }: { readonly rounds: number }): Promise<Measured> => ({
    load: `registry of 100,000: ${name}`,
    server: "holdfast",
    unit,
    rounds: [...await Effect.runPromise(Effect.flatMap(filled, (registry) => measure(registry, rounds)))]
  }))
}

if (import.meta.main) {
  const registry = await Effect.runPromise(filled)
  for (const { measure, name, unit } of parts) {
    const times = await Effect.runPromise(measure(registry, 7))
    const best = Math.min(...times)
    console.log(`${name.padEnd(16)}${median(times).toFixed(1).padStart(8)} ${unit}, at best ${best.toFixed(1)}`)
  }
  process.exit(0)
}
