/** Hooks, dials and checks of a pool that use the pool itself, in the middle of whatever it does: see also `storms`. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, ConnectionPool, Request } from "../src/index.ts"
import { census } from "../src/internal/scheduling/supervised.ts"
import { TestSocket } from "../src/testing/index.ts"

const lines = Connection.make({ codec: Codec.lines(), policy: { pingEvery: 0, silence: 0 } })

const settle = Effect.forEach(Array.from({ length: 50 }), () => Effect.yieldNow, { discard: true })

/** Opens connections, and tells how many are open. */
const counted = () => {
  let live = 0
  const count = Effect.acquireRelease(Effect.sync(() => live++), () => Effect.sync(() => live--))
  const open = Effect.andThen(count, Effect.flatMap(TestSocket.make(), ({ socket }) => lines(socket)))
  return { open, left: () => live }
}

const fibers = (): number => Array.from(census().values()).reduce((sum, count) => sum + count, 0)

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

  it.effect("B57 that borrows while the pool of a key opens its first connection borrows from that pool", () =>
    Effect.gen(function*() {
      const { open, left } = counted()
      const scope = yield* Scope.make()
      let isNested = false
      const pools: ConnectionPool.Keyed<string, string> = yield* Scope.provide(
        ConnectionPool.keyed((_: string) => open, {
          min: 1,
          max: 1,
          onEvent: ({ _tag }) =>
            Effect.suspend(() => {
              if (_tag !== "Opened" || isNested) return Effect.void
              isNested = true
              return pools.use("a", () => Effect.void)
            })
        }),
        scope
      )
      yield* pools.use("a", () => Effect.void)
      yield* settle
      assert.strictEqual(left(), 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(left(), 0)
    }))

  it.effect("B57 that borrows while the pool of a key finds its last connections dead does not end that pool", () =>
    Effect.gen(function*() {
      const peers: Array<TestSocket.Peer> = []
      let isDown = false
      const open = Effect.suspend(() => {
        if (isDown) return ConnectionError.make(new ConnectionError.OpenFailed({ cause: "down" }))
        return Effect.flatMap(TestSocket.make(), (peer) => {
          peers.push(peer)
          return lines(peer.socket)
        })
      })
      let isNested = false
      const pools: ConnectionPool.Keyed<string, string> = yield* ConnectionPool.keyed((_: string) => open, {
        onEvent: ({ _tag }) =>
          Effect.suspend(() => {
            if (_tag !== "Retired" || isNested) return Effect.void
            isNested = true
            return Effect.exit(pools.use("a", () => Effect.void))
          })
      })
      yield* pools.use("a", () => pools.use("a", () => Effect.void))
      isDown = true
      // in one step: the pool has not seen it yet
      for (const peer of peers) yield* peer.send("unasked\n")
      yield* settle
      const error = yield* Effect.flip(pools.use("a", () => Effect.void))
      assert.strictEqual(error.reason._tag, "OpenFailed")
    }))
})

describe("the scope of a pool, closed from inside", () => {
  const close = (scope: Scope.Closeable) => Effect.andThen(Effect.sleep(1), Scope.close(scope, Exit.void))
  const places: Record<string, (scope: Scope.Closeable) => ConnectionPool.Options<string, string>> = {
    check: (scope) => ({ check: () => close(scope), checkAfter: 0, checkTimeout: 0 }),
    onEvent: (scope) => ({ onEvent: ({ _tag }) => _tag === "Returned" ? close(scope) : Effect.void }),
    dial: () => ({ dial: 0 })
  }
  for (const [place, options] of Object.entries(places)) {
    for (const kind of ["one", "by key"] as const) {
      it.effect(`B69 by its own ${place}, ends, and so does what closed it (${kind})`, () =>
        Effect.gen(function*() {
          const { left, open } = counted()
          const before = fibers()
          const scope = yield* Scope.make()
          let dials = 0
          const opens = Effect.suspend(() =>
            place === "dial" && dials++ > 0 ? Effect.andThen(close(scope), open) : open
          )
          const use = kind === "one"
            ? Effect.map(ConnectionPool.make(opens, options(scope)), (pool) => pool.use)
            : Effect.map(
              ConnectionPool.keyed((_: string) => opens, options(scope)),
              (pools) => <A, E>(f: (connection: Connection.Connection<string>) => Effect.Effect<A, E>) =>
                pools.use("a", f)
            )
          const borrow = yield* Scope.provide(use, scope)
          // the second one is checked, or dialled for
          const borrowing = borrow(() => place === "dial" ? borrow(() => Effect.void) : Effect.void)
          yield* Effect.forkChild(Effect.andThen(borrowing, borrowing))
          yield* TestClock.adjust(100)
          yield* TestClock.adjust("1 minute")
          yield* settle
          assert.strictEqual(left(), 0)
          assert.strictEqual(fibers(), before)
        }))
    }
  }

  it.effect("B69 that of requests, by their own dial, ends", () =>
    Effect.gen(function*() {
      const { left, open } = counted()
      const before = fibers()
      const scope = yield* Scope.make()
      const { request } = yield* Scope.provide(Request.make(Effect.andThen(close(scope), open)), scope)
      const asking = yield* Effect.forkChild(request("a"))
      yield* TestClock.adjust(100)
      yield* settle
      const error = yield* Effect.flip(Fiber.join(asking))
      assert.strictEqual(error.reason._tag, "Closed")
      assert.deepStrictEqual([left(), fibers()], [0, before])
    }))
})
