/**
 * What borrowing and returning costs, next to Effect's `Pool`, `generic-pool` and `tarn`: in one process, interleaved.
 *
 * `uncontended`: one borrower, again and again. `contended`: 64 borrowers on 8, each holds for one turn of the event loop.
 * The borrowers are fibers. `(promises)` is the same pool used by async functions: no fiber is suspended there, which alone
 * costs more than all that a pool does. What that is `semaphore alone` shows, which keeps a count and nothing else.
 *
 * Ours lends real connections, and asks before each use and after it whether they are alive and at rest; the others lend
 * an object and ask nothing.
 */
import * as Effect from "effect/Effect"
import * as EffectPool from "effect/Pool"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { createPool } from "generic-pool"
import { Pool as Tarn } from "tarn"
import { Codec, Connection, ConnectionPool } from "../../../src/index.ts"
import { TestSocket } from "../../../src/testing/index.ts"
import type { Measured } from "../rounds.ts"
import { onCommand } from "../support/commands.ts"

const size = 8
const users = 64
const alone = 50_000
const each = 250

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const turnEffect = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

interface Contender {
  readonly name: string
  readonly uncontended: () => Promise<void>
  readonly contended: () => Promise<void>
}

/** An effect that borrows again and again, alone and in a crowd. */
const effects = (name: string, use: (hold: Effect.Effect<void>) => Effect.Effect<void, unknown>): Contender => {
  const again = (times: number, effect: Effect.Effect<void, unknown>) =>
    Effect.gen(function*() {
      for (let i = 0; i < times; i++) yield* effect
    })
  const short = use(Effect.void)
  const long = use(turnEffect)
  return {
    name,
    uncontended: () => Effect.runPromise(again(alone, short)),
    contended: () =>
      Effect.runPromise(
        Effect.forEach(Array.from({ length: users }), () => again(each, long), {
          concurrency: "unbounded",
          discard: true
        })
      )
  }
}

const promises = (
  name: string,
  acquire: () => Promise<object>,
  release: (resource: object) => unknown
): Contender => ({
  name,
  uncontended: async () => {
    for (let i = 0; i < alone; i++) release(await acquire())
  },
  contended: async () => {
    const user = async () => {
      for (let i = 0; i < each; i++) {
        const resource = await acquire()
        await turn()
        release(resource)
      }
    }
    await Promise.all(Array.from({ length: users }, user))
  }
})

const scope = Effect.runSync(Scope.make())
const chat = Connection.make({ codec: Codec.lines() })
const ours = await Effect.runPromise(Scope.provide(
  ConnectionPool.make(Effect.flatMap(TestSocket.make(), (peer) => chat(peer.socket)), { min: size, max: size }),
  scope
))
const theirs = await Effect.runPromise(
  Scope.provide(EffectPool.make({ acquire: Effect.sync(() => ({})), size }), scope)
)
const generic = createPool<object>({ create: async () => ({}), destroy: async () => {} }, { min: size, max: size })
const tarn = new Tarn<object>({ create: async () => ({}), destroy: () => {}, min: size, max: size })

const permits = Semaphore.makeUnsafe(size)

const genericAcquire = async () => generic.acquire()
const genericRelease = (resource: object) => generic.release(resource)
const tarnAcquire = () => tarn.acquire().promise
const tarnRelease = (resource: object) => tarn.release(resource)

const adapted =
  (acquire: () => Promise<object>, release: (resource: object) => unknown) => (hold: Effect.Effect<void>) =>
    Effect.acquireUseRelease(
      Effect.promise(acquire),
      () => hold,
      (resource) => Effect.asVoid(Effect.sync(() => release(resource)))
    )

const contenders: ReadonlyArray<Contender> = [
  effects("holdfast", (hold) => ours.use(() => hold)),
  effects("effect Pool", (hold) => EffectPool.use(theirs, () => hold)),
  effects("semaphore alone", (hold) => permits.withPermit(hold)),
  effects("generic-pool", adapted(genericAcquire, genericRelease)),
  effects("tarn", adapted(tarnAcquire, tarnRelease)),
  promises("generic-pool (promises)", genericAcquire, genericRelease),
  promises("tarn (promises)", tarnAcquire, tarnRelease)
]

const loads = ["uncontended", "contended"] as const

const measure = async (load: (typeof loads)[number], rounds: number): Promise<ReadonlyArray<Measured>> => {
  const rows = contenders.map(({ name }) => ({
    load: `pool ${load}`,
    server: name,
    unit: "use/s",
    rounds: new Array<number>(),
    cost: new Array<number>()
  }))
  const count = load === "uncontended" ? alone : users * each
  // the first round warms up
  for (let round = 0; round <= rounds; round++) {
    for (let i = 0; i < contenders.length; i++) {
      const turn = (i + round) % contenders.length
      const used = process.cpuUsage()
      const start = performance.now()
      await contenders[turn]![load]()
      const seconds = (performance.now() - start) / 1000
      const { system, user } = process.cpuUsage(used)
      if (round === 0) continue
      rows[turn]!.rounds.push(count / seconds)
      rows[turn]!.cost.push((system + user) / 1e6 / count)
    }
  }
  return rows
}

onCommand("pool", async ({ rounds }: { readonly rounds: number }) => {
  const measured: Array<Measured> = []
  for (const load of loads) measured.push(...await measure(load, rounds))
  return measured
})
