/** A pool whose hook borrows, closes, patches and throws, in the middle of whatever the pool does. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, ConnectionPool } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"
import { long, often } from "./support/often.ts"

type Pool = ConnectionPool.ConnectionPool<string>

const settle = Effect.forEach(Array.from({ length: 60 }), () => Effect.yieldNow, { discard: true })

const lines = Connection.make({ codec: Codec.lines(), policy: { pingEvery: 0, silence: 0 } })

/** Numbers that look random and are the same in every run (mulberry32). */
const numbers = (seed: number) => {
  let state = seed
  return (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** One pool and its borrowers, from a seed. Returns what was wrong. */
const storm = Effect.fnUntraced(function*(seed: number) {
  const draw = numbers(seed)
  const below = (limit: number) => Math.floor(draw() * limit)
  const wrong = new Set<string>()
  const peers: Array<TestSocket.Peer> = []
  const lent = new Set<number>()
  let live = 0
  const open = Effect.gen(function*() {
    live++
    yield* Effect.addFinalizer(() => Effect.sync(() => live--))
    if (draw() < 0.2) yield* Effect.sleep(below(100))
    if (draw() < 0.15) yield* ConnectionError.make(new ConnectionError.OpenFailed({ cause: "refused" }))
    if (draw() < 0.05) return yield* Effect.die("bug")
    const peer = yield* TestSocket.make()
    peers.push(peer)
    return yield* lines(peer.socket)
  })

  const borrow = (pool: Pool, millis: number, fails: boolean) =>
    pool.use((connection) => {
      if (lent.has(connection.id)) wrong.add("lent twice")
      lent.add(connection.id)
      return Effect.sleep(millis).pipe(
        Effect.andThen(fails ? Effect.fail("as told") : Effect.void),
        Effect.ensuring(Effect.sync(() => lent.delete(connection.id)))
      )
    })

  let made: Pool | undefined
  let depth = 0
  const onEvent = (event: ConnectionPool.Event<string>): Effect.Effect<unknown, unknown> => {
    const pool = made
    if (pool === undefined || depth > 3) return Effect.void
    const what = draw()
    depth++
    const act: Effect.Effect<unknown, unknown> = what < 0.1
      ? borrow(pool, 0, false)
      : what < 0.15
      ? pool.patch({ max: 1 + below(4) })
      : what < 0.17
      ? pool.close
      : what < 0.25 && "connection" in event
      ? event.connection.close
      : what < 0.3
      ? Effect.die("bug")
      : Effect.void
    return Effect.ensuring(act, Effect.sync(() => depth--))
  }

  const scope = yield* Scope.make()
  const check = () => draw() < 0.2 ? Effect.fail("broken") : draw() < 0.2 ? Effect.never : Effect.void
  const pool = made = yield* Scope.provide(
    ConnectionPool.make(open, {
      max: 1 + below(4),
      min: below(2),
      drain: draw() < 0.5 ? 0 : 1000,
      acquire: 500,
      idle: 200,
      maxAge: 300,
      leak: 50,
      dials: 1 + below(2),
      order: draw() < 0.5 ? "lifo" : "fifo",
      ...(draw() < 0.5 ? { check, checkAfter: 10, checkEvery: draw() < 0.5 ? 40 : 0, checkTimeout: 30 } : {}),
      onEvent
    }),
    scope
  )
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  for (let step = 0; step < 30; step++) {
    const what = draw()
    const peer = peers[below(peers.length)]
    if (what < 0.5) {
      fibers.push(yield* Effect.forkDetach(borrow(pool, draw() < 0.5 ? 0 : below(80), draw() < 0.2)))
    } else if (what < 0.6) fibers[below(fibers.length)]?.interruptUnsafe()
    else if (what < 0.65 && peer !== undefined) yield* peer.reset
    else if (what < 0.7 && peer !== undefined) yield* peer.send("unasked\n")
    else yield* TestClock.adjust(below(60))
    for (const [name, count] of Object.entries(yield* pool.stats)) {
      if (typeof count === "number" && count < 0) wrong.add(`${name} is ${count}`)
    }
  }
  yield* TestClock.adjust(3000)
  yield* settle
  if (fibers.some((fiber) => fiber.pollUnsafe() === undefined)) wrong.add("a borrower hangs")
  const rest = yield* pool.stats
  if (rest.inUse + rest.waiting + rest.dialing !== 0) wrong.add("something is lent, or waited for, by nobody")
  const closing = yield* Effect.forkDetach(Scope.close(scope, Exit.void))
  yield* TestClock.adjust(10_000)
  yield* settle
  if (closing.pollUnsafe() === undefined) wrong.add("closing hangs")
  const end = yield* pool.stats
  if (live + end.open + end.idle + end.inUse + end.checking + end.closing + end.waiting !== 0) {
    wrong.add("something is left")
  }
  return wrong
})

describe("a hook of a pool", () => {
  it.effect("B53 that gives back another connection when it hears that one was lent: the borrower gets no second one", () =>
    Effect.gen(function*() {
      const one = yield* Scope.make()
      const other = yield* Scope.make()
      let lends = 0
      const pool = yield* ConnectionPool.make(Effect.flatMap(TestSocket.make(), ({ socket }) => lines(socket)), {
        max: 2,
        onEvent: (event) =>
          Effect.suspend(() => event._tag === "Borrowed" && ++lends === 3 ? Scope.close(other, Exit.void) : Effect.void)
      })
      yield* Scope.provide(pool.get, one)
      yield* Scope.provide(pool.get, other)
      const waiter = yield* Effect.forkChild(pool.use(() => Effect.void), { startImmediately: true })
      yield* Scope.close(one, Exit.void)
      yield* Fiber.join(waiter)
      const { idle, inUse } = yield* pool.stats
      assert.deepStrictEqual([lends, inUse, idle], [3, 0, 2])
    }))

  const storms = often(150, 3000)
  it.effect(
    `B69 B71 ${storms} storms with hooks that do anything leave nothing lent, waiting or open`,
    () =>
      Effect.gen(function*() {
        yield* TestClock.adjust(0)
        for (let seed = 1; seed <= storms; seed++) {
          assert.deepStrictEqual([...(yield* storm(seed))], [], `seed ${seed}`)
        }
      }).pipe(Effect.provide(Logger.layer([]))),
    long(180_000)
  )
})
