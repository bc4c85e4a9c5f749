import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, ConnectionPool, type Policy } from "../src/index.ts"
import { Pool } from "../src/internal/pool/pool.ts"
import { Turns } from "../src/internal/scheduling/turns.ts"
import { TestSocket } from "../src/testing/index.ts"
import { VirtualTime } from "../src/testing/internal/simulation/virtualTime.ts"
import { withLogs } from "./support/logs.ts"
import { long, often } from "./support/often.ts"

type Failure = ConnectionError.ConnectionError
type Conn = Connection.Connection<string>

/** Nothing ends a connection but what a test turns on. */
const quiet: Policy.Patch = { pingEvery: 0, silence: 0, writeStall: 0, frame: 0, halfClose: "5 seconds" }

const refused = ConnectionError.make(new ConnectionError.OpenFailed({ cause: "ECONNREFUSED" }))

const now = Effect.map(Clock.Clock, (clock) => clock.currentTimeMillisUnsafe())
const settle = Effect.repeat(Effect.yieldNow, { times: 60 })
/** The same for fibers that yield after so many operations. */
const settleAt = (ops: number) => Effect.repeat(Effect.yieldNow, { times: 20 + Math.ceil(600 / ops) })
const adjust = (duration: Duration.Input) => Effect.andThen(TestClock.adjust(duration), settle)
const started = { startImmediately: true } as const

interface Network {
  readonly peers: Array<TestSocket.Peer>
  readonly open: Effect.Effect<Conn, Failure, Scope.Scope>
  /** When each dial began. */
  readonly dials: Array<number>
  /** What happens to a dial before it reaches its peer. */
  answer: Effect.Effect<unknown, Failure>
  /** Connections that are open, and the most there ever were. */
  live: number
  peak: number
}

const network = (): Network => {
  const chat = Connection.make({ codec: Codec.lines(), policy: quiet })
  const self: Network = {
    peers: [],
    dials: [],
    answer: Effect.void,
    live: 0,
    peak: 0,
    open: Effect.gen(function*() {
      self.dials.push(yield* now)
      self.live++
      self.peak = Math.max(self.peak, self.live)
      yield* Effect.addFinalizer(() => Effect.sync(() => self.live--))
      yield* Effect.suspend(() => self.answer)
      const peer = yield* TestSocket.make()
      self.peers.push(peer)
      return yield* chat(peer.socket)
    })
  }
  return self
}

/** A pool with its network, in a scope of its own. */
const start = (options?: ConnectionPool.Options<string, string>, net = network()) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const pool = yield* Scope.provide(ConnectionPool.make(net.open, { jitter: 0, ...options }), scope)
    return { pool, net, scope }
  })

interface Hold {
  readonly fiber: Fiber.Fiber<void, Failure>
  readonly connection: Conn | undefined
  readonly release: Effect.Effect<void>
  readonly at: number | undefined
}

/** Borrows in a fiber, until told to give back. */
const hold = (pool: ConnectionPool.ConnectionPool<string>): Effect.Effect<Hold> =>
  Effect.gen(function*() {
    const gate = Latch.makeUnsafe(false)
    const self = { connection: undefined as Conn | undefined, at: undefined as number | undefined }
    const fiber = yield* Effect.forkChild(
      pool.use((connection) =>
        Effect.gen(function*() {
          self.connection = connection
          self.at = yield* now
          yield* gate.await
        })
      ),
      started
    )
    return Object.defineProperties({ fiber, release: Effect.andThen(gate.open, settle) }, {
      connection: { get: () => self.connection },
      at: { get: () => self.at }
    }) as unknown as Hold
  })

const holds = (pool: ConnectionPool.ConnectionPool<string>, count: number) =>
  Effect.forEach(Array.from({ length: count }), () => Effect.tap(hold(pool), settle))

const served = (all: ReadonlyArray<Hold>) => all.map(({ connection }) => connection !== undefined)

const outcome = (fiber: Fiber.Fiber<unknown, Failure>): string => {
  const exit = fiber.pollUnsafe()
  if (exit === undefined) return "waits"
  if (Exit.isSuccess(exit)) return "done"
  const reason = exit.cause.reasons[0]!
  return reason._tag === "Fail" ? reason.error.reason._tag : reason._tag
}

/** Borrows and gives back at once; which connection it was. */
const visit = (pool: ConnectionPool.ConnectionPool<string>) => pool.use((connection) => Effect.succeed(connection.id))

describe("lending", () => {
  it.effect("B48 at capacity a borrower waits; a return and a loss wake exactly one each", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ max: 1 })
      const all = yield* holds(pool, 4)
      assert.deepStrictEqual(served(all), [true, false, false, false])
      assert.strictEqual((yield* pool.stats).waiting, 3)
      yield* all[0]!.release
      assert.deepStrictEqual(served(all), [true, true, false, false])
      assert.strictEqual(all[1]!.connection, all[0]!.connection)
      // returned, and no longer usable: its slot wakes one
      yield* all[1]!.connection!.close
      yield* all[1]!.release
      assert.deepStrictEqual(served(all), [true, true, true, false])
      assert.notStrictEqual(all[2]!.connection, all[1]!.connection)
      yield* all[2]!.release
      yield* all[3]!.release
      assert.deepStrictEqual(all.map(({ fiber }) => outcome(fiber)), ["done", "done", "done", "done"])
      assert.strictEqual(net.peak, 1)
      assert.deepStrictEqual(
        [(yield* pool.stats).inUse, (yield* pool.stats).idle, (yield* pool.stats).waiting],
        [0, 1, 0]
      )
    }))

  it.effect("B49 at the deadline: who waits, who holds, one more timeout, no slot lost", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1, acquire: "5 seconds" })
      const gate = Latch.makeUnsafe(false)
      const holder = yield* Effect.forkChild(Effect.withSpan(pool.use(() => gate.await), "load"), started)
      yield* adjust("1 second")
      const waiter = yield* Effect.forkChild(Effect.withSpan(visit(pool), "report"), started)
      yield* adjust("4999 millis")
      assert.strictEqual(outcome(waiter), "waits")
      yield* adjust("1 millis")
      const exit = yield* Fiber.await(waiter)
      const error = Result.getOrThrow(Result.flip(yield* Effect.result(exit)))
      assert.deepStrictEqual({ ...error.reason }, {
        ...new ConnectionError.AcquireTimeout({
          limit: 5000,
          by: `report (fiber #${waiter.id})`,
          waiting: 1,
          dialing: 0,
          holders: [{ by: `load (fiber #${holder.id})`, heldFor: 6000 }]
        })
      })
      assert.deepStrictEqual(yield* pool.stats.pipe(Effect.map((s) => [s.timeouts, s.waiting, s.inUse])), [1, 0, 1])
      yield* gate.open
      yield* settle
      assert.isNumber(yield* visit(pool))
    }))

  it.effect("B49 a deadline that is changed counts now for those who wait already", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1 })
      const [, waiter] = yield* holds(pool, 2)
      yield* adjust("500 millis")
      yield* pool.patch({ acquire: "1 second" })
      yield* adjust("499 millis")
      assert.strictEqual(outcome(waiter!.fiber), "waits")
      yield* adjust("1 millis")
      assert.strictEqual(outcome(waiter!.fiber), "AcquireTimeout")
    }))

  it.effect("B49 borrowers that give up never exhaust the pool", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ max: 2, waiters: 3 })
      const [a, b] = yield* holds(pool, 2)
      for (let round = 0; round < 20; round++) {
        const waiting = yield* holds(pool, 3)
        for (const { fiber } of waiting) yield* Fiber.interrupt(fiber)
        assert.strictEqual((yield* pool.stats).waiting, 0)
      }
      yield* a!.release
      yield* b!.release
      assert.deepStrictEqual(served(yield* holds(pool, 2)), [true, true])
      assert.strictEqual(net.dials.length, 2)
    }))

  it.effect("B49 nor do those that wait for a scoped lease", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1, acquire: "5 seconds" })
      const first = yield* hold(pool)
      const waiting = yield* Effect.forEach(
        Array.from({ length: 3 }),
        () => Effect.forkChild(Effect.scoped(pool.get), started)
      )
      yield* Fiber.interrupt(waiting[0]!)
      assert.strictEqual((yield* pool.stats).waiting, 2)
      // given up in the turn in which it was given
      yield* first.release.pipe(Effect.forkChild(started))
      yield* Fiber.interrupt(waiting[1]!)
      yield* settle
      assert.strictEqual(outcome(waiting[2]!), "done")
      assert.deepStrictEqual([(yield* pool.stats).waiting, (yield* pool.stats).inUse], [0, 0])
    }))

  it.effect("B50 a borrower that gives up leaves its dial to the next, or to nobody", () =>
    Effect.gen(function*() {
      const net = network()
      const gate = Latch.makeUnsafe(false)
      net.answer = gate.await
      const { pool } = yield* start({ max: 1 }, net)
      const [first, second] = yield* holds(pool, 2)
      assert.deepStrictEqual(net.dials, [0])
      yield* Fiber.interrupt(first!.fiber)
      assert.strictEqual((yield* pool.stats).dialing, 1)
      yield* gate.open
      yield* settle
      assert.deepStrictEqual(served([second!]), [true])
      yield* second!.release
      assert.deepStrictEqual(net.dials, [0])

      // nobody waits any more: it is kept
      yield* pool.use((connection) => connection.close)
      yield* settle
      gate.closeUnsafe()
      const [third] = yield* holds(pool, 1)
      yield* Fiber.interrupt(third!.fiber)
      yield* gate.open
      yield* settle
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.idle, stats.dialing, stats.open, stats.inUse], [1, 0, 1, 0])
      assert.deepStrictEqual(served(yield* holds(pool, 1)), [true])
      assert.strictEqual(net.dials.length, 2)
    }))

  it.effect("B51 more borrowers than connections, and every dial fails: each is told, nothing is open", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.andThen(Effect.sleep("1 second"), Effect.fail(refused))
      const { pool } = yield* start({ max: 3, dials: 3 }, net)
      const all = yield* holds(pool, 8)
      yield* adjust("1 second")
      assert.deepStrictEqual(all.map(({ fiber }) => outcome(fiber)).filter((o) => o === "OpenFailed").length, 3)
      yield* adjust("1 second")
      yield* adjust("1 second")
      assert.deepStrictEqual(all.map(({ fiber }) => outcome(fiber)), Array(8).fill("OpenFailed"))
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.open, stats.dialing, stats.waiting, net.live], [0, 0, 0, 0])
      // those who wait decide how often
      assert.isAtMost(stats.dialFailures, 9)
      assert.strictEqual(net.peak, 3)
    }))

  it.effect("B51 a failure is told to nobody whose dial is still on its way", () =>
    Effect.gen(function*() {
      const net = network()
      const gates = [Latch.makeUnsafe(false), Latch.makeUnsafe(false)]
      net.answer = Effect.suspend(() =>
        net.dials.length === 1
          ? Effect.andThen(gates[0]!.await, Effect.fail(refused))
          : gates[1]!.await
      )
      const { pool } = yield* start({ max: 2 }, net)
      const [first, second] = yield* holds(pool, 2)
      yield* Fiber.interrupt(first!.fiber)
      yield* gates[0]!.open
      yield* settle
      assert.strictEqual(outcome(second!.fiber), "waits")
      yield* gates[1]!.open
      yield* settle
      assert.deepStrictEqual(served([second!]), [true])
    }))

  it.effect("B51 dials that fail at once do not nest: 20,000 borrowers are told", () =>
    Effect.gen(function*() {
      const net = network()
      const gate = Latch.makeUnsafe(false)
      net.answer = Effect.andThen(gate.await, Effect.fail(refused))
      const { pool } = yield* start({ max: 1, waiters: 100_000 }, net)
      const all = yield* Effect.forEach(Array.from({ length: 20_000 }), () => Effect.forkChild(visit(pool), started))
      yield* gate.open
      for (const fiber of all) yield* Fiber.await(fiber)
      assert.deepStrictEqual(new Set(all.map(outcome)), new Set(["OpenFailed"]))
    }))

  it.effect("B52 the line does not grow under failing dials", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.fail(refused)
      const { pool } = yield* start({ max: 2 }, net)
      for (let i = 0; i < 200; i++) {
        const error = yield* Effect.flip(visit(pool))
        assert.strictEqual(error, refused)
        assert.strictEqual((yield* pool.stats).waiting, 0)
      }
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.dialFailures, stats.misses, stats.open], [200, 200, 0])
    }))

  it.effect("B53 first come, first served", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1 })
      const order: Array<number> = []
      const [holder] = yield* holds(pool, 1)
      for (let i = 0; i < 10; i++) {
        yield* Effect.forkChild(pool.use(() => Effect.sync(() => order.push(i))), started)
      }
      yield* holder!.release
      yield* settle
      assert.deepStrictEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    }))

  it.effect("B53 whoever gives up in the middle or at the end of the line leaves no gap", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1 })
      const [first, a, middle, b, last] = yield* holds(pool, 5)
      yield* Fiber.interrupt(middle!.fiber)
      yield* Fiber.interrupt(last!.fiber)
      const [c] = yield* holds(pool, 1)
      assert.strictEqual((yield* pool.stats).waiting, 3)
      yield* first!.release
      assert.deepStrictEqual(served([a!, b!, c!]), [true, false, false])
      yield* a!.release
      assert.deepStrictEqual(served([a!, b!, c!]), [true, true, false])
      yield* b!.release
      assert.deepStrictEqual(served([a!, b!, c!]), [true, true, true])
      yield* c!.release
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.waiting, s.inUse, s.idle]), [0, 0, 1])
    }))

  it.effect("B53 nobody passes: not in the turn of the return, not whoever just returned", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1 })
      const order: Array<string> = []
      const note = (name: string) => pool.use(() => Effect.sync(() => order.push(name)))
      const gate = Latch.makeUnsafe(false)
      // returns, and asks again without a pause
      yield* Effect.forkChild(Effect.andThen(pool.use(() => gate.await), note("again")), started)
      yield* settle
      yield* Effect.forkChild(note("waiter"), started)
      yield* gate.open
      yield* settle
      assert.deepStrictEqual(order, ["waiter", "again"])
    }))

  it.effect("B53 whoever waits has it in the turn of the return", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1 })
      let served = false
      yield* pool.use(() =>
        Effect.andThen(
          Effect.forkChild(pool.use(() => Effect.sync(() => served = true)), started),
          settle
        )
      )
      assert.isTrue(served)
    }))

  it.effect("B53 nobody passes who waits for a check: the one behind waits for it", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe(false)
      const { pool } = yield* start({
        max: 2,
        order: "fifo",
        checkAfter: "10 seconds",
        check: () => gate.await,
        checkTimeout: 0,
        acquire: 0
      })
      const [a, b] = yield* holds(pool, 2)
      const other = b!.connection
      yield* a!.release
      yield* adjust("10 seconds")
      yield* b!.release
      // the first is checked; the second was in use a moment ago
      const first = yield* hold(pool)
      yield* settle
      const second = yield* hold(pool)
      yield* settle
      assert.deepStrictEqual([first.connection, second.connection], [other, undefined])
      yield* gate.open
      yield* settle
      assert.strictEqual(second.connection, a!.connection)
    }))

  it.effect("B54 the idle order is as asked", () =>
    Effect.gen(function*() {
      for (const order of ["lifo", "fifo"] as const) {
        const { pool } = yield* start({ max: 3, order })
        const all = yield* holds(pool, 3)
        const ids = all.map(({ connection }) => connection!.id)
        for (const { release } of all) yield* release
        const again = yield* holds(pool, 3)
        assert.deepStrictEqual(
          again.map(({ connection }) => connection!.id),
          order === "lifo" ? ids.toReversed() : ids
        )
      }
    }))

  it.effect("B63 a bounded line: one more fails at once", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1, waiters: 2 })
      const all = yield* holds(pool, 3)
      const error = yield* Effect.flip(visit(pool))
      assert.deepStrictEqual({ ...error.reason }, { ...new ConnectionError.PoolFull({ waiting: 2, limit: 2 }) })
      assert.strictEqual((yield* pool.stats).rejected, 1)
      yield* all[0]!.release
      assert.strictEqual(outcome((yield* hold(pool)).fiber), "waits")
    }))

  it.effect("B63 with no line at all whatever can be opened is", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.sleep("1 second")
      const { pool } = yield* start({ max: 2, waiters: 0 }, net)
      const all = yield* holds(pool, 3)
      assert.deepStrictEqual(all.map(({ fiber }) => outcome(fiber)), ["waits", "waits", "PoolFull"])
      yield* adjust("1 second")
      assert.deepStrictEqual(served(all), [true, true, false])
    }))

  it.effect("B64 a lease ends once, and what comes back to a closed pool is closed", () =>
    Effect.gen(function*() {
      const { net, pool, scope } = yield* start({ max: 1 })
      const lease = yield* Scope.make()
      const connection = yield* Scope.provide(pool.get, lease)
      yield* Scope.close(lease, Exit.void)
      const [next] = yield* holds(pool, 1)
      assert.strictEqual(next!.connection, connection)
      // again: the lease of another one is not touched
      yield* Scope.close(lease, Exit.void)
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.inUse, s.idle]), [1, 0])
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), started)
      yield* settle
      assert.deepStrictEqual([net.live, outcome(closing)], [1, "waits"])
      yield* next!.release
      assert.deepStrictEqual([net.live, outcome(closing)], [0, "done"])
      assert.strictEqual((yield* connection.snapshot).state, "ended")
    }))

  it("B64 the lease of before returns nothing of the lease of now", () => {
    const closed: Array<string> = []
    const core = new Pool<string>({
      open: (take) =>
        Effect.sync(() => {
          const scope = Scope.makeUnsafe()
          Effect.runSync(Scope.addFinalizer(scope, Effect.sync(() => closed.push("closed"))))
          take("item", scope)
        }),
      isUsable: () => true,
      ended: () => Effect.never,
      check: undefined,
      onEvent: undefined,
      place: () => ({}),
      condemn: () => Effect.void
    }, {
      limits: {
        min: 1,
        max: 1,
        acquire: Infinity,
        waiters: 0,
        dials: 1,
        order: "lifo",
        idle: Infinity,
        maxAge: Infinity,
        jitter: 0,
        checkAfter: Infinity,
        checkEvery: Infinity,
        leak: Infinity,
        drain: 0
      },
      now: () => 0,
      random: () => 0,
      turns: new Turns({ scheduleTask: (task) => task(), flush: () => {} }),
      context: Context.empty()
    })
    const borrower = { id: 1, cache: { span: undefined } }
    core.balance()
    const item = core.take(borrower)!
    const before = item.lease
    core.release(item, before, true)
    core.release(item, before, true)
    assert.deepStrictEqual([core.gauges.idle, core.gauges.inUse], [1, 0])
    assert.strictEqual(core.take(borrower), item)
    core.release(item, before, false)
    assert.deepStrictEqual([core.gauges.idle, core.gauges.inUse, closed.length], [0, 1, 0])
    // and after the pool has closed what comes back is closed, once
    core.shut()
    core.release(item, item.lease, true)
    core.release(item, item.lease, true)
    assert.deepStrictEqual([core.gauges.open, core.gauges.inUse, closed.length], [0, 0, 1])
  })

  it.effect("B70 wait time is the time in line, without the dial", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.sleep("3 seconds")
      const { pool } = yield* start({ max: 1 }, net)
      const first = yield* hold(pool)
      yield* adjust("3 seconds")
      assert.strictEqual(first.at, 3000)
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.waitTime, s.dialTime, s.waits]), [0, 3000, 0])
      // in line for 2 s, then another dial
      const second = yield* hold(pool)
      yield* adjust("2 seconds")
      yield* first.connection!.close
      yield* first.release
      yield* adjust("3 seconds")
      assert.strictEqual(second.at, 8000)
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.waitTime, s.dialTime, s.waits]), [2000, 6000, 1])
      const third = yield* hold(pool)
      yield* adjust("500 millis")
      yield* second.release
      assert.strictEqual(third.at, 8500)
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.waitTime, s.hits, s.misses]), [2500, 0, 3])
    }))
})

describe("what is lent works", () => {
  it.effect("B55 F10 a connection whose FIN is here is not lent, in the same turn", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ max: 2 })
      const first = yield* visit(pool)
      yield* net.peers[0]!.end
      yield* Effect.yieldNow
      const second = yield* visit(pool)
      assert.notStrictEqual(second, first)
      assert.strictEqual((yield* pool.stats).retired.stale, 1)
      assert.isTrue((yield* net.peers[0]!.finished) !== false)
    }))

  it.effect("B55 an idle connection that the peer resets leaves at once, and the minimum is refilled", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ min: 2, max: 2, refill: Schedule.spaced("1 second") })
      yield* settle
      assert.strictEqual((yield* pool.stats).idle, 2)
      yield* net.peers[0]!.reset
      yield* settle
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.idle, s.open, s.retired.stale]), [1, 1, 1])
      yield* adjust("999 millis")
      assert.deepStrictEqual(net.dials, [0, 0])
      yield* adjust("1 millis")
      assert.deepStrictEqual(net.dials, [0, 0, 1000])
      assert.strictEqual((yield* pool.stats).idle, 2)
    }))

  it.effect("B55 nor is one that ended while it was borrowed, whoever made it", () =>
    Effect.gen(function*() {
      const net = network()
      const open = Effect.map(net.open, (connection): Conn => Connection.wrap(connection, {}))
      const { pool } = yield* start({ max: 1 }, { ...net, open })
      const held = yield* hold(pool)
      yield* net.peers[0]!.reset
      yield* settle
      yield* held.release
      assert.deepStrictEqual([(yield* pool.stats).retired.stale, (yield* pool.stats).idle], [1, 0])
      assert.notStrictEqual(yield* visit(pool), held.connection!.id)
    }))

  it.effect("B55 nor is one kept that ended before anybody had it", () =>
    Effect.gen(function*() {
      const net = network()
      const { pool } = yield* start({ min: 1, max: 1, refill: Schedule.recurs(0) }, {
        ...net,
        open: Effect.tap(net.open, (connection) => connection.close)
      })
      yield* settle
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.open, s.retired.stale]), [0, 1])
    }))

  it.effect("B56 whatever comes unasked makes a connection unusable, a part of a message too", () =>
    Effect.gen(function*() {
      for (const unasked of ["late answer\n", "half a"]) {
        const { net, pool } = yield* start({ max: 1 })
        const first = yield* visit(pool)
        yield* net.peers[0]!.send(unasked)
        yield* settle
        const second = yield* visit(pool)
        assert.notStrictEqual(second, first)
        assert.strictEqual((yield* pool.stats).retired.stale, 1)
      }
    }))

  it.effect("B56 an answer that was not received does not wait for the next borrower", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ max: 1 })
      yield* pool.use(() => Effect.andThen(net.peers[0]!.send("answer\n"), settle))
      yield* settle
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.open, s.retired.stale]), [0, 1])
    }))

  it.effect("B56 after a failure or an interruption a connection is closed, unless the failure is known", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({
        max: 1,
        isReusable: (exit) => exit.cause.reasons.every((reason) => reason._tag === "Fail" && reason.error === "missing")
      })
      const first = yield* visit(pool)
      yield* Effect.flip(pool.use(() => Effect.fail("missing")))
      assert.strictEqual(yield* visit(pool), first)
      yield* Effect.flip(pool.use(() => Effect.fail("broken")))
      yield* settle
      const second = yield* visit(pool)
      assert.notStrictEqual(second, first)
      const held = yield* hold(pool)
      yield* Fiber.interrupt(held.fiber)
      yield* settle
      assert.notStrictEqual(yield* visit(pool), second)
      yield* Effect.exit(pool.use(() => Effect.die("bug")))
      yield* settle
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.retired.abandoned, s.inUse]), [3, 0])
      assert.strictEqual(net.live, 0)
    }))

  it.effect("B56 so is a scoped one whose scope ends with a failure", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ max: 1 })
      const get = Effect.map(pool.get, ({ id }) => id)
      const first = yield* Effect.scoped(get)
      assert.strictEqual(yield* Effect.scoped(get), first)
      yield* Effect.flip(Effect.scoped(Effect.andThen(get, Effect.fail("broken"))))
      yield* settle
      assert.deepStrictEqual([(yield* pool.stats).retired.abandoned, net.live], [1, 0])
      assert.notStrictEqual(yield* Effect.scoped(get), first)
    }))

  it.effect("B55 a connection that fails its check on borrowing is replaced, and the borrower does not notice", () =>
    Effect.gen(function*() {
      let healthy = true
      const { net, pool } = yield* start({
        max: 2,
        checkAfter: "10 seconds",
        check: () => Effect.suspend(() => healthy ? Effect.void : Effect.fail("no pong"))
      })
      const first = yield* visit(pool)
      yield* adjust("9999 millis")
      assert.strictEqual(yield* visit(pool), first)
      assert.strictEqual((yield* pool.stats).checks, 0)
      yield* adjust("10 seconds")
      assert.strictEqual(yield* visit(pool), first)
      assert.strictEqual((yield* pool.stats).checks, 1)
      healthy = false
      yield* adjust("10 seconds")
      assert.notStrictEqual(yield* visit(pool), first)
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.retired.unhealthy, s.open]), [1, 1])
      assert.strictEqual(net.dials.length, 2)
    }))

  it.effect("F14 a check that never returns costs its deadline, not the borrower", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1, checkAfter: 0, checkTimeout: "2 seconds", check: () => Effect.never })
      const first = yield* visit(pool)
      const second = yield* hold(pool)
      yield* adjust("1999 millis")
      assert.isUndefined(second.connection)
      yield* adjust("1 millis")
      assert.notStrictEqual(second.connection!.id, first)
      assert.strictEqual(second.at, 2000)
    }))

  it.effect("F14 nor does it outlast the borrower's own deadline; what it checked is not lost", () =>
    Effect.gen(function*() {
      const pong = Latch.makeUnsafe(false)
      const { pool } = yield* start({
        max: 1,
        acquire: "1 second",
        checkAfter: 0,
        checkTimeout: 0,
        check: () => pong.await
      })
      const first = yield* visit(pool)
      const second = yield* hold(pool)
      yield* adjust("999 millis")
      assert.strictEqual(outcome(second.fiber), "waits")
      yield* adjust("1 millis")
      assert.strictEqual(outcome(second.fiber), "AcquireTimeout")
      assert.strictEqual((yield* pool.stats).checking, 1)
      yield* pong.open
      yield* settle
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.checking, s.idle, s.inUse]), [0, 1, 0])
      assert.strictEqual(yield* visit(pool), first)
    }))

  it.effect("F14 an exhausted pool answers within the deadline", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1, acquire: "3 seconds" })
      yield* hold(pool)
      yield* settle
      const all = yield* holds(pool, 5)
      yield* adjust("3 seconds")
      assert.deepStrictEqual(all.map(({ fiber }) => outcome(fiber)), Array(5).fill("AcquireTimeout"))
    }))

  it.effect("B55 idle connections are checked as often as asked, and keep their place and their idle time", () =>
    Effect.gen(function*() {
      const at: Array<string> = []
      let first = 0
      const { pool } = yield* start({
        max: 2,
        idle: "50 seconds",
        checkAfter: 0,
        checkEvery: "20 seconds",
        check: (connection) => Effect.map(now, (time) => at.push(`${connection.id - first} at ${time}`))
      })
      const [a, b] = yield* holds(pool, 2)
      first = a!.connection!.id
      yield* a!.release
      yield* adjust("5 seconds")
      yield* b!.release
      yield* adjust("44999 millis")
      assert.deepStrictEqual(at, ["0 at 20000", "1 at 25000", "0 at 40000", "1 at 45000"])
      assert.strictEqual((yield* pool.stats).open, 2)
      yield* adjust("1 millis")
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.open, s.retired.idle]), [1, 1])
      yield* adjust("5 seconds")
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.open, s.retired.idle]), [0, 2])
    }))
})

describe("what goes wrong in the code of others", () => {
  it.effect("B57 a defect in the dialler is an error of the borrower, and restores every counter", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.die(new Error("bug"))
      const { pool } = yield* start({ max: 1 }, net)
      const error = yield* Effect.flip(visit(pool))
      assert.strictEqual(error.message, "a defect in the open ended it: bug")
      net.answer = Effect.interrupt
      assert.strictEqual((yield* Effect.flip(visit(pool))).reason._tag, "OpenFailed")
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.open, stats.dialing, stats.waiting, stats.inUse, net.live], [0, 0, 0, 0, 0])
      net.answer = Effect.void
      assert.isNumber(yield* visit(pool))
    }))

  it.effect("B57 so is a dialler that throws, and a hook, a check or a rule that does changes nothing", () =>
    Effect.gen(function*() {
      const bug = (): never => {
        throw new Error("bug")
      }
      let broken = true
      const net = network()
      const { pool } = yield* start({
        max: 1,
        checkAfter: 0,
        check: () => broken ? bug() : Effect.void,
        onEvent: () => broken ? bug() : Effect.die("bug"),
        isReusable: bug
      }, { ...net, open: Effect.suspend(() => broken ? bug() : net.open) })
      assert.strictEqual((yield* Effect.flip(visit(pool))).reason._tag, "Defect")
      broken = false
      const first = yield* visit(pool)
      broken = true
      // the check throws, and so does the dial
      assert.strictEqual((yield* Effect.flip(visit(pool))).reason._tag, "Defect")
      broken = false
      const second = yield* visit(pool)
      assert.notStrictEqual(second, first)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(pool.use(() => Effect.fail("no")))))
      yield* settle
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.open, stats.dialing, stats.waiting, stats.inUse, stats.checking], [0, 0, 0, 0, 0])
    }))
})

describe("size and age", () => {
  it.effect("B58 50 users, never more than 10 open", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.sleep("10 millis")
      const { pool } = yield* start({ max: 10, dials: 10 }, net)
      const users = yield* Effect.forEach(
        Array.from({ length: 50 }, (_, i) => i),
        (i) =>
          Effect.forkChild(
            Effect.repeat(
              pool.use((connection) =>
                // some lose their connection
                Effect.andThen(Effect.sleep(1 + i % 7), i % 5 === 0 ? connection.close : Effect.void)
              ),
              { times: 20 }
            ),
            started
          )
      )
      yield* adjust("60 seconds")
      assert.deepStrictEqual(new Set(users.map(outcome)), new Set(["done"]))
      assert.strictEqual(net.peak, 10)
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.inUse, stats.waiting, stats.dialing], [0, 0, 0])
    }))

  it.effect("B58 a lower maximum closes idle connections at once and borrowed ones as they come back", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ max: 6 })
      const all = yield* holds(pool, 6)
      yield* all[0]!.release
      yield* all[1]!.release
      yield* pool.patch({ max: 3 })
      yield* settle
      assert.strictEqual(net.live, 4)
      const waiter = yield* hold(pool)
      yield* settle
      yield* all[2]!.release
      assert.strictEqual(net.live, 3)
      assert.isUndefined(waiter.connection)
      yield* all[3]!.release
      assert.strictEqual(waiter.connection, all[3]!.connection)
      assert.deepStrictEqual([net.live, (yield* pool.stats).retired.trimmed], [3, 3])
      // and a higher one serves who waits
      const more = yield* hold(pool)
      yield* settle
      assert.isUndefined(more.connection)
      yield* pool.patch({ max: 4 })
      yield* settle
      assert.isDefined(more.connection)
      const error = yield* Effect.flip(pool.patch({ max: 0 }))
      assert.include(error.message, "max must be a whole number, at least 1")
      assert.include((yield* Effect.flip(pool.patch({ min: 9 }))).message, "min (9) must not be more than max (4)")
    }))

  it.effect("B58 one that is closing already counts as gone for a lower maximum", () =>
    Effect.gen(function*() {
      const net = network()
      const slow = Effect.tap(net.open, () => Effect.addFinalizer(() => Effect.sleep("1 second")))
      const { pool } = yield* start({ max: 2 }, { ...net, open: slow })
      const [a, b] = yield* holds(pool, 2)
      yield* a!.connection!.close
      yield* a!.release
      yield* pool.patch({ max: 1 })
      yield* b!.release
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.closing, s.idle, s.retired.trimmed]), [1, 1, 0])
      yield* adjust("1 second")
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.closing, s.idle, s.open]), [0, 1, 1])
    }))

  it.effect("B59 what is too old is not lent, what is not is kept", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 2, maxAge: "1 minute", idle: 0 })
      const first = yield* visit(pool)
      yield* adjust("59999 millis")
      assert.strictEqual(yield* visit(pool), first)
      yield* adjust("1 millis")
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.open, s.retired.expired]), [0, 1])
      // borrowed when it comes of age: it is let finish, and whoever waits gets another one
      yield* pool.patch({ max: 1 })
      const second = yield* hold(pool)
      yield* adjust("30 seconds")
      const third = yield* hold(pool)
      yield* adjust("6 seconds")
      yield* second.release
      assert.strictEqual(third.connection, second.connection)
      yield* adjust("24 seconds")
      assert.strictEqual((yield* third.connection!.snapshot).state, "open")
      const fourth = yield* hold(pool)
      yield* third.release
      assert.isDefined(fourth.connection)
      assert.notStrictEqual(fourth.connection, third.connection)
    }))

  it.effect("B59 one that comes of age while it is handed over does not strand who waits", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1, maxAge: "1 minute", acquire: 0 })
      const first = yield* hold(pool)
      yield* settle
      const second = yield* hold(pool)
      const third = yield* hold(pool)
      // handed over at the last moment, used after it
      yield* TestClock.adjust("59999 millis")
      yield* Effect.andThen(first.release, TestClock.adjust("1 millis"))
      yield* settle
      assert.strictEqual(second.connection, first.connection)
      yield* second.release
      assert.isDefined(third.connection)
      assert.notStrictEqual(third.connection, second.connection)
    }))

  it.effect("B60 idle connections above the minimum close when they are due; one in use again is not", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ min: 1, max: 4, idle: "1 minute", maxAge: 0 })
      const all = yield* holds(pool, 4)
      for (const { release } of all) {
        yield* release
        yield* adjust("10 seconds")
      }
      // lent at 40 s, and again at 59 s: the one that was returned last
      const last = all[3]!.connection!.id
      assert.strictEqual(yield* visit(pool), last)
      yield* adjust("19999 millis")
      assert.strictEqual((yield* pool.stats).open, 4)
      yield* adjust("1 millis")
      assert.strictEqual((yield* pool.stats).open, 3)
      yield* adjust("10 seconds")
      assert.strictEqual((yield* pool.stats).open, 2)
      yield* adjust("9999 millis")
      assert.strictEqual((yield* pool.stats).open, 2)
      yield* adjust("1 millis")
      assert.strictEqual((yield* pool.stats).open, 1)
      assert.strictEqual(yield* visit(pool), last)
      yield* adjust("1 hour")
      const { dials, retired } = yield* pool.stats
      assert.deepStrictEqual([yield* visit(pool), dials, retired.idle], [last, 4, 3])
    }))

  it("B60 one timer for all, and none for what is not due", () => {
    let sleeps = 0
    const time = new VirtualTime()
    const counting = Effect.map(Clock.Clock, (clock): Clock.Clock => ({
      ...clock,
      sleep: (duration) => {
        sleeps++
        return clock.sleep(duration)
      }
    }))
    const net = network()
    const pool = time.run(Effect.gen(function*() {
      const clock = yield* counting
      const scope = yield* Scope.make()
      return yield* Scope.provide(ConnectionPool.make(net.open, { max: 50, idle: "1 minute", jitter: 0 }), scope).pipe(
        Effect.provideService(Clock.Clock, clock)
      )
    }))
    time.run(visit(pool))
    sleeps = 0
    for (let i = 0; i < 1000; i++) {
      time.run(visit(pool))
      time.advance(100)
    }
    // 100 s of traffic with a limit of 60 s: looked once, or twice
    assert.isAtMost(sleeps, 3)
    assert.strictEqual(net.dials.length, 1)
  })

  it.effect("B61 ages are spread over the window, and drawn once", () =>
    Effect.gen(function*() {
      const ended: Array<number> = []
      const { pool } = yield* start({
        max: 200,
        dials: 200,
        jitter: 0.5,
        idle: 0,
        maxAge: "100 seconds",
        onEvent: (event) => event._tag === "Retired" ? Effect.map(now, (at) => ended.push(at)) : Effect.void
      })
      const all = yield* holds(pool, 200)
      for (const { release } of all) yield* release
      // used all the time: a jitter that was drawn again and again would end all of them early
      for (let i = 0; i < 49; i++) {
        yield* adjust("1 second")
        yield* visit(pool)
      }
      yield* adjust("999 millis")
      assert.deepStrictEqual(ended, [])
      yield* adjust("50001 millis")
      assert.strictEqual(ended.length, 200)
      assert.isAtLeast(ended[0]!, 50_000)
      assert.isAtMost(ended.at(-1)!, 100_000)
      for (let from = 50_000; from < 100_000; from += 10_000) {
        const count = ended.filter((at) => at >= from && at < from + 10_000).length
        assert.isAtLeast(count, 20, `${from}`)
        assert.isAtMost(count, 60, `${from}`)
      }
    }).pipe(Random.withSeed("ages")))

  it.effect("B61 two draws for each connection, however often it is used and looked at", () =>
    Effect.gen(function*() {
      let draws = 0
      const random = { ...(yield* Random.Random), nextDoubleUnsafe: () => (draws++, 0.5) }
      const { pool } = yield* Effect.provideService(
        start({ max: 1, jitter: 0.5, maxAge: "1 minute", idle: "10 seconds" }),
        Random.Random,
        random
      )
      yield* visit(pool)
      // one is the connection's own, for its maximum age
      assert.strictEqual(draws, 3)
      for (let i = 0; i < 44; i++) {
        yield* visit(pool)
        yield* adjust("1 second")
      }
      yield* visit(pool)
      // three quarters of the minute
      yield* adjust("999 millis")
      assert.strictEqual((yield* pool.stats).open, 1)
      yield* adjust("1 millis")
      assert.deepStrictEqual([(yield* pool.stats).retired.expired, draws], [1, 3])
      // and of the ten seconds
      yield* visit(pool)
      yield* adjust("7499 millis")
      assert.strictEqual((yield* pool.stats).open, 1)
      yield* adjust("1 millis")
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.open, s.retired.idle]), [0, 1])
    }))

  it.effect("B62 all expire at once: the minimum is refilled, the maximum is kept", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.sleep("1 second")
      const { pool } = yield* start({ min: 5, max: 6, dials: 10, maxAge: "1 minute" }, net)
      yield* adjust("1 second")
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.idle, s.open]), [5, 5])
      yield* adjust("1 minute")
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.retired.expired, s.dialing]), [5, 5])
      const all = yield* holds(pool, 8)
      yield* adjust("1 second")
      assert.strictEqual(served(all).filter((it) => it).length, 6)
      assert.strictEqual(net.peak, 6)
      for (const { release } of all) yield* release
      assert.strictEqual((yield* pool.stats).idle, 6)
    }))

  it.effect("B62 a server that takes and drops is dialled as the schedule says", () =>
    Effect.gen(function*() {
      const net = network()
      const { pool } = yield* start({ min: 1, max: 3, refill: Schedule.exponential("1 second") }, {
        ...net,
        open: Effect.tap(net.open, () => Effect.suspend(() => net.peers.at(-1)!.end))
      })
      yield* settle
      yield* adjust("7 seconds")
      assert.deepStrictEqual(net.dials, [0, 1000, 3000, 7000])
      assert.strictEqual((yield* pool.stats).open, 0)
    }))

  it.effect("B62 a server that is gone is dialled as the schedule says", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.fail(refused)
      const { pool } = yield* start({ min: 3, max: 3, refill: Schedule.exponential("1 second") }, net)
      yield* settle
      yield* adjust("7 seconds")
      assert.deepStrictEqual(net.dials, [0, 1000, 3000, 7000])
      // whoever comes does not wait for that
      net.answer = Effect.void
      assert.isNumber(yield* visit(pool))
      assert.strictEqual((yield* pool.stats).idle, 1)
      yield* adjust("8 seconds")
      assert.strictEqual((yield* pool.stats).idle, 3)
    }))
})

describe("dialling", () => {
  it.effect("B65 each try has its deadline, which does not extend the borrower's", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.never
      const { pool } = yield* start({
        max: 1,
        dial: "2 seconds",
        acquire: "5 seconds",
        retry: Schedule.spaced("1 second")
      }, net)
      const waiter = yield* hold(pool)
      yield* adjust("4999 millis")
      assert.strictEqual(outcome(waiter.fiber), "waits")
      assert.deepStrictEqual(net.dials, [0, 3000])
      yield* adjust("1 millis")
      assert.strictEqual(outcome(waiter.fiber), "AcquireTimeout")
      // nobody waits: the try that is under way is the last
      yield* adjust("1 minute")
      assert.deepStrictEqual(net.dials, [0, 3000])
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.dialing, s.open]), [0, 0])
      assert.strictEqual(net.live, 0)
    }))

  it.effect("B65 no sleep after the last try, and none for an error that is not worth one", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.fail(refused)
      const { pool } = yield* start(
        { max: 1, retry: Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 2 })) },
        net
      )
      const waiter = yield* hold(pool)
      yield* adjust("1999 millis")
      assert.strictEqual(outcome(waiter.fiber), "waits")
      yield* adjust("1 millis")
      assert.deepStrictEqual(net.dials, [0, 1000, 2000])
      assert.strictEqual(outcome(waiter.fiber), "OpenFailed")
      net.answer = Effect.fail(ConnectionError.make(new ConnectionError.HandshakeFailed({ cause: "password" })))
      const error = yield* Effect.flip(visit(pool))
      assert.strictEqual(error.reason._tag, "HandshakeFailed")
      assert.strictEqual(net.dials.length, 4)
    }))

  it.effect("B65 `retryOn` and `giveUpOn` judge otherwise than the error does", () =>
    Effect.gen(function*() {
      const net = network()
      const { pool } = yield* start({
        max: 1,
        retry: Schedule.spaced("1 second"),
        retryOn: ["HandshakeFailed", 4001],
        giveUpOn: ["OpenFailed", "4000-4099"]
      }, net)
      net.answer = Effect.fail(ConnectionError.make(new ConnectionError.HandshakeFailed({ cause: "password" })))
      const waiter = yield* hold(pool)
      yield* adjust("2999 millis")
      assert.deepStrictEqual(net.dials, [0, 1000, 2000])
      net.answer = Effect.void
      yield* adjust("1 millis")
      assert.deepStrictEqual([waiter.at, served([waiter])], [3000, [true]])
      yield* waiter.connection!.close
      yield* waiter.release
      const closed = ConnectionError.make(new ConnectionError.Closed({ by: "peer", code: 4001 }))
      for (const error of [refused, closed]) {
        net.answer = Effect.fail(error)
        assert.strictEqual(yield* Effect.flip(visit(pool)), error)
      }
      assert.strictEqual(net.dials.length, 6)
    }))

  it.effect("B65 no more dials at a time than asked", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.sleep("1 second")
      const { pool } = yield* start({ max: 8, dials: 2 }, net)
      const all = yield* holds(pool, 5)
      assert.deepStrictEqual(net.dials, [0, 0])
      yield* adjust("1 second")
      assert.deepStrictEqual(net.dials, [0, 0, 1000, 1000])
      yield* adjust("2 seconds")
      assert.deepStrictEqual(net.dials, [0, 0, 1000, 1000, 2000])
      assert.deepStrictEqual(served(all), Array(5).fill(true))
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.waits, s.waitTime]), [3, 2 * 1000 + 2000])
    }))
})

describe("closing", () => {
  it.effect("B69 idle ones are closed now, borrowed ones on return; twice is once", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ max: 3 })
      const [a, b, idle] = yield* holds(pool, 3)
      yield* idle!.release
      assert.deepStrictEqual([(yield* pool.stats).idle, net.live], [1, 3])
      const closing = yield* Effect.forkChild(pool.close, started)
      const again = yield* Effect.forkChild(pool.close, started)
      yield* settle
      assert.strictEqual((yield* Effect.flip(visit(pool))).reason._tag, "Closed")
      assert.deepStrictEqual([outcome(closing), net.live], ["waits", 2])
      yield* a!.release
      assert.deepStrictEqual([outcome(closing), net.live], ["waits", 1])
      yield* b!.release
      assert.deepStrictEqual([outcome(closing), outcome(again), net.live], ["done", "done", 0])
      yield* pool.close
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.open, stats.inUse, stats.idle, stats.waiting, stats.closing], [0, 0, 0, 0, 0])
      assert.deepStrictEqual(Object.values(stats).filter((value) => typeof value === "number" && value < 0), [])
    }))

  it.effect("B69 those who wait fail at once, and hold nothing up", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ max: 1 })
      const all = yield* holds(pool, 4)
      const closing = yield* Effect.forkChild(pool.close, started)
      yield* settle
      assert.deepStrictEqual(all.map(({ fiber }) => outcome(fiber)), ["waits", "Closed", "Closed", "Closed"])
      yield* all[0]!.release
      assert.deepStrictEqual([outcome(closing), net.live, (yield* pool.stats).waiting], ["done", 0, 0])
    }))

  it.effect("B69 whoever keeps a connection for longer than the drain loses it", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* start({ max: 1, drain: "3 seconds" })
      const holder = yield* hold(pool)
      yield* settle
      const closing = yield* Effect.forkChild(pool.close, started)
      yield* adjust("2999 millis")
      assert.deepStrictEqual([outcome(closing), net.live], ["waits", 1])
      yield* adjust("1 millis")
      assert.deepStrictEqual([outcome(closing), net.live], ["done", 0])
      yield* holder.release
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.inUse, s.open]), [0, 0])
    }))

  it.effect("B69 a dial under way is given up, and what it opens all the same is closed", () =>
    Effect.gen(function*() {
      const net = network()
      const gate = Latch.makeUnsafe(false)
      net.answer = Effect.uninterruptible(gate.await)
      const { pool } = yield* start({ max: 1, drain: 0 }, net)
      const waiter = yield* hold(pool)
      const closing = yield* Effect.forkChild(pool.close, started)
      yield* settle
      assert.strictEqual(outcome(waiter.fiber), "Closed")
      yield* gate.open
      yield* settle
      assert.deepStrictEqual([outcome(closing), net.live], ["done", 0])
    }))

  it.effect("B69 closing waits for no dial and for no check that can be interrupted", () =>
    Effect.gen(function*() {
      const net = network()
      const { pool } = yield* start({ max: 2, dial: 0, check: () => Effect.never, checkTimeout: 0, checkAfter: 0 }, net)
      yield* Effect.forkChild(visit(pool), started)
      yield* settle
      // the first is checked for somebody, the second is being opened
      net.answer = Effect.never
      yield* holds(pool, 2)
      assert.deepStrictEqual(yield* Effect.map(pool.stats, (s) => [s.checking, s.dialing]), [1, 1])
      yield* pool.close
      assert.deepStrictEqual(
        yield* Effect.map(pool.stats, (s) => [s.open, s.dialing, s.retired.closing, s.retired.unhealthy]),
        [0, 0, 1, 0]
      )
      assert.strictEqual(net.live, 0)
    }))

  it.effect("B69 a slot is free once its connection has closed, or after the drain", () =>
    Effect.gen(function*() {
      const net = network()
      const { pool } = yield* start({ max: 1, drain: "2 seconds" }, {
        ...net,
        // says goodbye, and hangs at it
        open: Effect.tap(net.open, () => Effect.addFinalizer(() => Effect.never))
      })
      const first = yield* hold(pool)
      yield* settle
      yield* first.connection!.close
      yield* first.release
      const second = yield* hold(pool)
      yield* adjust("1999 millis")
      assert.isUndefined(second.connection)
      assert.strictEqual((yield* pool.stats).closing, 1)
      yield* adjust("1 millis")
      assert.isDefined(second.connection)
    }))
})

describe("what is left behind", () => {
  /** A clock that knows how many sleep. */
  const watched = Effect.map(Clock.Clock, (clock) => {
    const self = {
      sleeping: 0,
      clock: {
        ...clock,
        sleep: (duration: Duration.Duration) =>
          Effect.ensuring(
            Effect.andThen(Effect.sync(() => self.sleeping++), clock.sleep(duration)),
            Effect.sync(() => self.sleeping--)
          )
      }
    }
    return self
  })

  it.effect("B69 no timer of a pool that was closed", () =>
    Effect.gen(function*() {
      const time = yield* watched
      const { pool } = yield* Effect.provideService(start({ max: 2 }), Clock.Clock, time.clock)
      yield* visit(pool)
      yield* settle
      assert.strictEqual(time.sleeping, 1)
      yield* pool.close
      yield* settle
      assert.strictEqual(time.sleeping, 0)
    }))

  it.effect("B66 no timer of a key that is gone", () =>
    Effect.gen(function*() {
      const time = yield* watched
      const net = network()
      const pool = yield* Effect.provideService(ConnectionPool.keyed(() => net.open), Clock.Clock, time.clock)
      yield* pool.use("a", () => Effect.void)
      yield* settle
      assert.strictEqual(time.sleeping, 1)
      yield* net.peers[0]!.reset
      yield* settle
      assert.deepStrictEqual([yield* pool.stats("a"), time.sleeping], [undefined, 0])
    }))
})

describe("who has what", () => {
  it.effect("a lease that is longer than asked is reported once, with who has it and since when", () =>
    Effect.gen(function*() {
      const events: Array<string> = []
      const { pool } = yield* start({
        max: 2,
        leak: "10 seconds",
        onEvent: (event) =>
          event._tag === "Leaked"
            ? Effect.map(now, (at) => events.push(`${event.by} at ${at}: ${event.heldFor}`))
            : Effect.void
      })
      const gate = Latch.makeUnsafe(false)
      const fiber = yield* Effect.forkChild(Effect.withSpan(pool.use(() => gate.await), "import"), started)
      yield* adjust("4 seconds")
      const other = yield* hold(pool)
      yield* settle
      const held = yield* pool.held
      assert.deepStrictEqual(held.map(({ by, heldFor }) => [by, heldFor]), [
        [`import (fiber #${fiber.id})`, 4000],
        [`fiber #${other.fiber.id}`, 0]
      ])
      yield* other.release
      yield* adjust("5999 millis")
      assert.deepStrictEqual(events, [])
      yield* adjust("1 millis")
      yield* adjust("1 minute")
      assert.deepStrictEqual(events, [`import (fiber #${fiber.id}) at 10000: 10000`])
      assert.strictEqual((yield* pool.stats).leaks, 1)
      yield* gate.open
    }))

  it.effect("a lease of an idle connection too, whatever else the pool sleeps for", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1, leak: "10 seconds" })
      yield* visit(pool)
      yield* adjust("1 second")
      yield* hold(pool)
      yield* adjust("9999 millis")
      assert.strictEqual((yield* pool.stats).leaks, 0)
      yield* adjust("1 millis")
      assert.strictEqual((yield* pool.stats).leaks, 1)
    }))

  it.effect("every event in its order", () =>
    Effect.gen(function*() {
      const events: Array<string> = []
      const net = network()
      const { pool } = yield* start({
        max: 1,
        acquire: "1 second",
        onEvent: (event) => Effect.sync(() => events.push(event._tag))
      }, net)
      const holder = yield* hold(pool)
      yield* Effect.forkChild(visit(pool), started)
      yield* adjust("1 second")
      yield* holder.release
      net.answer = Effect.fail(refused)
      yield* pool.use((connection) => connection.close)
      yield* settle
      yield* Effect.flip(visit(pool))
      assert.deepStrictEqual(events, [
        "Opened",
        "Borrowed",
        "TimedOut",
        "Returned",
        "Borrowed",
        "Returned",
        "Retired",
        "OpenFailed"
      ])
    }))
})

describe("the clock", () => {
  it.effect("is read once in a turn of the event loop, and not for each use", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let readings = 0
      const counting: Clock.Clock = Object.assign(Object.create(clock), {
        monotonicTimeNanosUnsafe: () => {
          readings++
          return clock.monotonicTimeNanosUnsafe()
        }
      })
      const { pool } = yield* Effect.provideService(start({ min: 1, max: 2 }), Clock.Clock, counting)
      yield* settle
      const used = pool.use(() => Effect.void)
      const before = readings
      for (let i = 0; i < 500; i++) yield* used
      assert.isBelow(readings - before, 10)
      // the next turn has a time of its own
      const first = yield* hold(pool)
      yield* adjust("3 seconds")
      yield* hold(pool)
      assert.deepStrictEqual((yield* pool.held).map(({ heldFor }) => heldFor), [3000, 0])
      yield* first.release
      yield* adjust("1 second")
      assert.deepStrictEqual((yield* pool.held).map(({ heldFor }) => heldFor), [1000])
    }))
})

describe("one pool for each key", () => {
  const startKeyed = (options?: ConnectionPool.KeyedOptions<string, string>) =>
    Effect.gen(function*() {
      const nets = new Map<string, Network>()
      const net = (key: string) => {
        const found = nets.get(key) ?? network()
        nets.set(key, found)
        return found
      }
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(
        ConnectionPool.keyed((key: string) => Effect.suspend(() => net(key).open), { jitter: 0, ...options }),
        scope
      )
      const of = (key: string) => ({ use: (f: never) => pool.use(key, f) }) as ConnectionPool.ConnectionPool<string>
      return { net, pool, of, scope }
    })

  it.effect("B66 the limit of a key counts its dials, and is that key's alone", () =>
    Effect.gen(function*() {
      const { net, of, pool } = yield* startKeyed({ max: 2 })
      net("a").answer = Effect.sleep("1 second")
      const a = yield* holds(of("a"), 3)
      const b = yield* holds(of("b"), 1)
      assert.strictEqual(net("a").dials.length, 2)
      assert.deepStrictEqual(served(b), [true])
      yield* adjust("1 second")
      assert.deepStrictEqual(served(a), [true, true, false])
      assert.strictEqual(net("a").peak, 2)
      assert.deepStrictEqual([(yield* pool.stats("a"))!.inUse, (yield* pool.stats("b"))!.inUse], [2, 1])
      assert.strictEqual((yield* pool.total).inUse, 3)
      assert.strictEqual((yield* pool.held).length, 3)
    }))

  it.effect("B66 the connection idle for longest makes room, whatever its key", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* startKeyed({ maxIdle: 3 })
      const visitKey = (key: string) => Effect.andThen(pool.use(key, () => Effect.void), adjust("1 second"))
      for (const key of ["a", "b", "c"]) yield* visitKey(key)
      // used again: no longer the oldest
      yield* visitKey("a")
      yield* visitKey("d")
      assert.deepStrictEqual(["a", "b", "c", "d"].map((key) => net(key).live), [1, 0, 1, 1])
      const total = yield* pool.total
      assert.deepStrictEqual([total.idle, total.retired.evicted, total.dials], [3, 1, 4])
      // a key without connections is forgotten, and begins again
      assert.isUndefined(yield* pool.stats("b"))
      yield* visitKey("b")
      assert.strictEqual((yield* pool.stats("b"))!.idle, 1)
      assert.strictEqual(net("b").dials.length, 2)
    }))

  it.effect("B66 keys come and go, one that cannot be reached leaves nothing behind", () =>
    Effect.gen(function*() {
      const { net, pool } = yield* startKeyed({ idle: "10 seconds" })
      net("dead").answer = Effect.fail(refused)
      assert.strictEqual((yield* Effect.flip(pool.use("dead", () => Effect.void))).reason._tag, "OpenFailed")
      yield* settle
      assert.isUndefined(yield* pool.stats("dead"))
      yield* pool.use("a", () => Effect.void)
      yield* adjust("10 seconds")
      assert.isUndefined(yield* pool.stats("a"))
      const total = yield* pool.total
      assert.deepStrictEqual([total.dialFailures, total.dials, total.open], [1, 1, 0])
    }))

  it.effect(
    "B66 at every yield point: a borrower is not told of the end of the connection that was its key's last",
    () =>
      Effect.gen(function*() {
        let opened = 0
        for (let ops = 3; ops <= 16; ops += often(3, 1)) {
          for (let turns = 0, done = false; !done; turns++) {
            const { net, pool, scope } = yield* startKeyed()
            yield* pool.use("a", () => Effect.void)
            yield* net("a").peers[0]!.reset
            for (let i = 0; i < turns; i++) yield* Effect.yieldNow
            done = (yield* pool.stats("a")) === undefined
            const fiber = yield* Effect.forkChild(pool.use("a", () => Effect.void), started).pipe(
              Effect.provideService(Scheduler.MaxOpsBeforeYield, ops)
            )
            assert.strictEqual((yield* Fiber.await(fiber))._tag, "Success", `${ops} ${turns}`)
            if (net("a").dials.length === 2) opened++
            yield* Scope.close(scope, Exit.void)
          }
        }
        assert.isAtLeast(opened, often(5, 14))
      }),
    long(60_000)
  )

  it.effect("B69 closing closes all keys", () =>
    Effect.gen(function*() {
      const { net, of, pool, scope } = yield* startKeyed()
      yield* pool.use("a", () => Effect.void)
      const [b] = yield* holds(of("b"), 1)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), started)
      yield* settle
      assert.deepStrictEqual([net("a").live, net("b").live], [0, 1])
      yield* b!.release
      assert.strictEqual(outcome(closing), "done")
      assert.strictEqual((yield* Effect.flip(pool.use("c", () => Effect.void))).reason._tag, "Closed")
      assert.strictEqual((yield* pool.total).open, 0)
    }))
})

describe("limits", () => {
  it("are data: read, written, and wrong ones named", () => {
    const read = (input: unknown) => Effect.runSync(Effect.result(ConnectionPool.decode(input)))
    const limits = Result.getOrThrow(read({ max: 20, acquire: "2s", order: "fifo" }))
    assert.deepStrictEqual(ConnectionPool.encode(limits), {
      ...ConnectionPool.encode(ConnectionPool.defaults),
      max: 20,
      acquire: "2s",
      order: "fifo"
    })
    const wrong = (input: unknown) => Result.getOrThrow(Result.flip(read(input))).message
    assert.include(wrong({ max: -1 }), "max must be a whole number, at least 1")
    assert.include(wrong({ maximum: 1 }), "maximum")
    assert.include(wrong({ min: 10 }), "min (10) must not be more than max (8)")
    assert.include(wrong([]), "expected an object")
    assert.throws(() => ConnectionPool.limits({ idle: -1 }), /idle/)
  })

  it.effect("of a pool that make no sense are a defect that names them", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Effect.scoped(ConnectionPool.make(network().open, { jitter: 2 })))
      assert.include(String(exit), "jitter must be between 0 and 1")
    }))
})

describe("interruption", () => {
  const ways = ["idle", "scoped", "checked", "contended", "contended and scoped", "dialled", "expired"] as const

  for (const way of ways) {
    it.effect(
      `B71 at every yield point of acquiring, using and returning no lease is left: ${way}`,
      () =>
        Effect.gen(function*() {
          let interrupted = 0
          for (let ops = 3; ops <= 64; ops += often(3, 1)) {
            let turns = 0
            while (true) {
              let done = false
              const net = network()
              // the fibers of the pool have the same budget
              const { pool, scope } = yield* Effect.gen(function*() {
                const { pool, scope } = yield* start({
                  max: 1,
                  checkAfter: way === "checked" ? 0 : "1 minute",
                  check: () => Effect.yieldNow,
                  maxAge: way === "expired" ? 1 : 0
                }, net)
                if (way !== "dialled") yield* visit(pool)
                if (way === "expired") yield* TestClock.adjust(1)
                const other = way.startsWith("contended") ? yield* hold(pool) : undefined
                const fiber = yield* Effect.forkChild(
                  way.endsWith("scoped")
                    ? Effect.scoped(Effect.flatMap(pool.get, () => Effect.yieldNow))
                    : pool.use(() => Effect.yieldNow),
                  started
                )
                if (other !== undefined) yield* Effect.forkChild(other.release, started)
                for (let i = 0; i < turns; i++) yield* Effect.yieldNow
                done = fiber.pollUnsafe() !== undefined
                if (!done) interrupted++
                yield* Fiber.interrupt(fiber)
                return { pool, scope }
              }).pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, ops))
              yield* settleAt(ops)
              const stats = yield* pool.stats
              assert.deepStrictEqual(
                [stats.inUse, stats.waiting, stats.dialing, stats.checking, stats.closing],
                [0, 0, 0, 0, 0],
                `${ops} ${turns}`
              )
              // and the only slot is there
              assert.isNumber(yield* visit(pool))
              yield* Scope.close(scope, Exit.void)
              assert.strictEqual(net.live, 0)
              if (done) break
              turns++
            }
          }
          assert.isAtLeast(interrupted, often(20, 60))
        }),
      long(60_000)
    )
  }
})

describe("supervision", () => {
  const bug = (): never => {
    throw new Error("bug")
  }
  /** The reason a connection ended with. */
  const reasonOf = (connection: Conn) => Effect.map(connection.snapshot, ({ reason }) => reason?._tag)
  const busy = (pool: ConnectionPool.ConnectionPool<string>) =>
    Effect.map(pool.stats, (s) => [s.inUse, s.waiting, s.dialing, s.checking, s.closing])
  const none = [0, 0, 0, 0, 0]

  it.effect("B100 an open that throws is a Defect of its borrower, logged once, and is not tried again", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const net = network()
        net.answer = Effect.sync(bug)
        const { pool } = yield* start({ max: 1, retry: Schedule.spaced("1 second") }, net)
        const error = yield* Effect.flip(visit(pool))
        assert.deepInclude(error.reason, { _tag: "Defect", by: "open" })
        assert.isFalse(error.isRetryable)
        assert.deepStrictEqual([net.dials.length, logged], [1, ["Error a defect in open: bug"]])
        // one that a connection had already is passed on, and not logged again
        net.answer = Effect.fail(error)
        assert.strictEqual(yield* Effect.flip(visit(pool)), error)
        assert.deepStrictEqual([yield* busy(pool), logged.length], [none, 1])
      })
    ))

  it.effect("B100 a check that throws ends its connection with Defect, and the borrower gets another one", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { net, pool } = yield* start({ max: 1, checkAfter: 0, check: bug })
        let first: Conn | undefined
        yield* pool.use((connection) => Effect.sync(() => first = connection))
        assert.notStrictEqual(yield* visit(pool), first!.id)
        assert.strictEqual(yield* reasonOf(first!), "Defect")
        assert.deepStrictEqual(logged, [`Error a defect in check of connection ${first!.id}: bug`])
        assert.deepStrictEqual([yield* busy(pool), net.live, (yield* pool.stats).retired.unhealthy], [none, 1, 1])
      })
    ))

  it.effect("B100 an isReusable that throws: the borrower's own failure, and its connection ends with Defect", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { net, pool } = yield* start({ max: 1, isReusable: bug })
        const seen: Array<Conn> = []
        const borrow = (connection: Conn) => {
          seen.push(connection)
          return Effect.fail("mine")
        }
        assert.strictEqual(yield* Effect.flip(pool.use(borrow)), "mine")
        assert.strictEqual(yield* Effect.flip(Effect.scoped(Effect.flatMap(pool.get, borrow))), "mine")
        yield* settle
        for (const connection of seen) assert.strictEqual(yield* reasonOf(connection), "Defect")
        assert.deepStrictEqual(
          logged,
          seen.map(({ id }) => `Error a defect in isReusable of connection ${id}: bug`)
        )
        assert.deepStrictEqual([yield* busy(pool), net.live, (yield* pool.stats).retired.abandoned], [none, 0, 2])
        assert.isNumber(yield* visit(pool))
      })
    ))

  it.effect("B100 a retry that dies is a Defect of the borrower its dial was for", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const net = network()
        net.answer = Effect.fail(refused)
        const { pool } = yield* start(
          { max: 1, retry: Schedule.fromStep(Effect.succeed(() => Effect.die("bug"))) },
          net
        )
        assert.deepInclude((yield* Effect.flip(visit(pool))).reason, { _tag: "Defect", by: "retry" })
        assert.deepStrictEqual([logged, yield* busy(pool)], [["Error a defect in retry: bug"], none])
        net.answer = Effect.void
        assert.isNumber(yield* visit(pool))
      })
    ))

  it.effect("B100 an onEvent that throws, and a release that dies, are logged and free what they held", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { pool } = yield* start({
          max: 1,
          onEvent: (event) => event._tag === "Returned" ? bug() : Effect.void
        })
        yield* visit(pool)
        assert.deepStrictEqual(logged.splice(0), ["Error onEvent of a pool failed: bug"])
        const net = network()
        const open = Effect.tap(net.open, () => Effect.addFinalizer(() => Effect.die("no")))
        const dying = yield* start({ max: 1 }, { ...net, open })
        const first = yield* dying.pool.use((connection) => Effect.as(connection.close, connection.id))
        assert.notStrictEqual(yield* visit(dying.pool), first)
        assert.deepStrictEqual(logged, [
          `Error a defect in release of connection ${first}: no`
        ])
      })
    ))

  for (const tag of ["Opened", "Borrowed", "Returned", "Retired"] as const) {
    it.effect(`B69 a hook that closes the pool when it hears of ${tag}, without a drain, leaves every count at 0`, () =>
      Effect.gen(function*() {
        let closing: Effect.Effect<void> = Effect.void
        const { net, pool } = yield* start({
          max: 2,
          drain: 0,
          onEvent: (event) => event._tag === tag ? Effect.suspend(() => closing) : Effect.void
        })
        closing = pool.close
        yield* Effect.exit(pool.use((connection) => tag === "Retired" ? connection.close : Effect.void))
        yield* settle
        const { closing: leaving, dialing, idle, inUse, open } = yield* pool.stats
        assert.deepStrictEqual({ open, idle, inUse, dialing, leaving }, {
          open: 0,
          idle: 0,
          inUse: 0,
          dialing: 0,
          leaving: 0
        })
        assert.strictEqual(net.live, 0)
      }))
  }

  it.effect("B101 the sweeper, killed, begins again a second later, and one log line says so", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        let sweeper: Fiber.Fiber<unknown, unknown> | undefined
        const sweep = Schedule.fromStep(
          Effect.succeed((_: number, due: number) =>
            Effect.withFiber((fiber) => {
              sweeper = fiber
              return Effect.succeed<[number, Duration.Duration]>([due, Duration.millis(due)])
            })
          )
        )
        const { pool } = yield* start({ max: 1, acquire: "10 seconds", sweep })
        const [, waiter] = yield* holds(pool, 2)
        yield* adjust("2 seconds")
        sweeper!.interruptUnsafe()
        yield* settle
        assert.deepStrictEqual(logged, [
          "Error the sweep of a pool ended and is restarted: All fibers interrupted without error"
        ])
        yield* adjust("7999 millis")
        assert.strictEqual(outcome(waiter!.fiber), "waits")
        yield* adjust("1 millis")
        assert.strictEqual(outcome(waiter!.fiber), "AcquireTimeout")
        assert.strictEqual(logged.length, 1)
      })
    ))

  it.effect("B101 a pool that closes takes its sweeper with it, also one that was about to begin again", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const sweepers: Array<Fiber.Fiber<unknown, unknown>> = []
        const sweep = Schedule.fromStep(Effect.succeed((_: number, due: number) =>
          Effect.withFiber((fiber) => {
            sweepers.push(fiber)
            return Effect.succeed<[number, Duration.Duration]>([due, Duration.infinity])
          })
        ))
        for (const kills of [false, true]) {
          const { pool } = yield* start({ max: 1, sweep })
          yield* settle
          if (kills) sweepers.at(-1)!.interruptUnsafe()
          yield* settle
          yield* pool.close
          const { length } = sweepers
          yield* adjust("1 minute")
          assert.deepStrictEqual([sweepers.length, sweepers.at(-1)!.pollUnsafe() !== undefined], [length, true])
        }
        assert.strictEqual(logged.length, 1)
      })
    ))

  it.effect("B101 a watcher that is killed, or dies, takes its connection out of the pool", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        for (const way of ["interrupted", "dies"]) {
          const net = network()
          let watcher: Fiber.Fiber<unknown, unknown> | undefined
          const end = Latch.makeUnsafe(false)
          const open = Effect.map(net.open, (connection) =>
            Connection.wrap(connection, {
              ending: Effect.withFiber((fiber) => {
                watcher = fiber
                return Effect.andThen(end.await, Effect.die("bug"))
              })
            }))
          const { pool } = yield* start({ max: 1 }, { ...net, open })
          const first = yield* visit(pool)
          const held = yield* hold(pool)
          if (way === "dies") yield* end.open
          else watcher!.interruptUnsafe()
          yield* settle
          yield* held.release
          assert.deepStrictEqual(
            [(yield* pool.stats).retired.stale, (yield* pool.stats).open, yield* busy(pool)],
            [1, 0, none],
            way
          )
          assert.deepStrictEqual(
            logged,
            way === "dies" ? [`Error a defect in ending of connection ${first}: bug`] : []
          )
        }
      })
    ))

  it.effect("B101 a dial and a check that are killed free their slot, and their borrower goes on", () =>
    Effect.gen(function*() {
      const net = network()
      let running: Fiber.Fiber<unknown, unknown> | undefined
      const hangs = Effect.withFiber((fiber) => {
        running = fiber
        return Effect.never
      })
      net.answer = hangs
      const { pool } = yield* start({ max: 1, checkAfter: 0, check: () => hangs }, net)
      const waiter = yield* hold(pool)
      running!.interruptUnsafe()
      yield* settle
      assert.deepStrictEqual([outcome(waiter.fiber), yield* busy(pool), net.live], ["OpenFailed", none, 0])
      net.answer = Effect.void
      const first = yield* visit(pool)
      const checked = yield* hold(pool)
      assert.isUndefined(checked.connection)
      running!.interruptUnsafe()
      yield* settle
      assert.notStrictEqual(checked.connection!.id, first)
      yield* checked.release
      assert.deepStrictEqual([yield* busy(pool), net.live], [none, 1])
    }))

  it.effect("B102 a sweep of one's own says when to look; one that ends, or dies, is replaced, and logs once", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const closedAt = (sweep: Schedule.Schedule<unknown, number>) =>
          Effect.gen(function*() {
            const { pool } = yield* start({ max: 1, idle: 3500, sweep })
            yield* visit(pool)
            const began = yield* now
            for (let i = 0; i < 10_000; i++) {
              if ((yield* pool.stats).retired.idle === 1) return (yield* now) - began
              yield* TestClock.adjust(1)
            }
            return undefined
          })
        // on the second; what becomes due in between does not begin the rest anew
        assert.strictEqual(yield* closedAt(Schedule.spaced("1 second")), 4000)
        assert.deepStrictEqual(logged, [])
        const steps: Array<number> = []
        const dying = Schedule.fromStep(Effect.succeed((_: number, due: number) => {
          steps.push(due)
          return steps.length > 2 ? Effect.die("bug") : Effect.succeed([due, Duration.seconds(1)])
        })) as Schedule.Schedule<unknown, number>
        assert.strictEqual(yield* closedAt(dying), 3500)
        // when it began, nothing was due; the connection, a second and two seconds later
        assert.deepStrictEqual(steps, [Infinity, 2500, 1500])
        assert.deepStrictEqual(logged.splice(0), [
          "Error the schedule of the sweep of a pool failed: the default goes on: bug"
        ])
        assert.strictEqual(yield* closedAt(Schedule.recurs(1)), 3500)
        assert.deepStrictEqual(logged, ["Warn the schedule of the sweep of a pool has ended: the default goes on"])
      })
    ))

  it.effect("B102 a rest is not begun again by what wakes the pool, and what comes due while the schedule thinks is seen", () =>
    Effect.gen(function*() {
      const { pool } = yield* start({ max: 1, idle: 1500, sweep: Schedule.spaced("1 second") })
      yield* visit(pool)
      // each patch is a look, and none of them comes when the connection is due
      for (let at = 300; at <= 1200; at += 300) {
        yield* adjust(300)
        yield* pool.patch({ acquire: 5000 })
      }
      yield* adjust(799)
      assert.strictEqual((yield* pool.stats).retired.idle, 0)
      yield* adjust(1)
      assert.strictEqual((yield* pool.stats).retired.idle, 1)

      let thinking = false
      const slow = Schedule.fromStep(Effect.succeed((_: number, due: number) => {
        thinking = true
        return Effect.map(Effect.sleep(100), () => {
          thinking = false
          return [due, Duration.millis(due)] as [number, Duration.Duration]
        })
      }))
      const other = yield* start({ max: 1, acquire: 1000, leak: 500, sweep: slow })
      const held = yield* hold(other.pool)
      yield* adjust(500)
      // after a look, asking for the next rest
      assert.strictEqual(thinking, true)
      const waiter = yield* hold(other.pool)
      yield* adjust(999)
      assert.strictEqual(outcome(waiter.fiber), "waits")
      yield* adjust(101)
      assert.strictEqual(outcome(waiter.fiber), "AcquireTimeout")
      yield* held.release
    }))

  it.effect("B102 a refill that dies is replaced by the default, and logs once; one that ends means it", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const net = network()
        net.answer = Effect.fail(refused)
        const dying = Schedule.fromStep(Effect.succeed(() => Effect.die("bug"))) as Schedule.Schedule<unknown, Failure>
        yield* start({ min: 1, max: 1, refill: dying }, net).pipe(
          Effect.provideService(Random.Random, {
            nextDoubleUnsafe: () => 0.5,
            nextIntUnsafe: () => 0
          })
        )
        yield* settle
        yield* adjust("1 second")
        // half of 200, 400, 800 ms
        assert.deepStrictEqual(net.dials, [0, 100, 300, 700])
        assert.deepStrictEqual(logged.splice(0), [
          "Error the schedule of the refill of a pool failed: the default goes on: bug"
        ])
        const ends = network()
        ends.answer = Effect.fail(refused)
        const { pool } = yield* start({ min: 1, max: 1, refill: Schedule.recurs(1) }, ends)
        yield* settle
        yield* adjust("1 hour")
        assert.strictEqual(ends.dials.length, 2)
        ends.answer = Effect.void
        assert.isNumber(yield* visit(pool))
        assert.deepStrictEqual(logged, [])
      })
    ))

  it.effect("B103 a wrapped connection: a late answer to the first borrower never reaches the second one", () =>
    Effect.gen(function*() {
      const net = network()
      const open = Effect.map(
        net.open,
        (connection) => Connection.wrap(connection, { send: (message) => connection.send(`> ${message}`) })
      )
      const { pool } = yield* start({ max: 1, isReusable: () => true }, { ...net, open })
      const ask = pool.use((connection) =>
        Effect.andThen(connection.send("q"), Effect.timeout(connection.receive, 1000))
      )
      const first = yield* Effect.forkChild(Effect.flip(ask), started)
      yield* adjust(1000)
      assert.strictEqual((yield* Fiber.join(first))._tag, "TimeoutError")
      yield* net.peers[0]!.send("late\n")
      yield* settle
      const second = yield* Effect.forkChild(ask, started)
      yield* settle
      assert.strictEqual(yield* net.peers[1]!.text, "> q\n")
      yield* net.peers[1]!.send("own\n")
      yield* settle
      assert.strictEqual(yield* Fiber.join(second), "own")
      assert.deepStrictEqual([(yield* pool.stats).retired.stale, net.peak], [1, 1])
    }))
})
