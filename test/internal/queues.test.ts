/** What waits in the queues of the library: a long queue costs the same for each, and leaves the event loop its turns. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scheduler } from "effect"
import type * as Scope from "effect/Scope"
import { Codec, Connection, ConnectionPool, Dispatcher } from "../../src/index.ts"
import { Gate } from "../../src/internal/scheduling/gate.ts"
import { Mutex, Permits } from "../../src/internal/scheduling/mutex.ts"
import { turnsOf } from "../../src/internal/scheduling/turns.ts"
import { TestSocket } from "../../src/testing/index.ts"
import { isLong, long } from "../support/often.ts"

const started = { startImmediately: true } as const

const turns = Effect.map(Scheduler.Scheduler, turnsOf)

const connect = Connection.make({
  codec: Codec.lines(),
  policy: { pingEvery: 0, silence: 0, writeStall: 0, frame: 0, outboxMessages: 2, drain: 0 }
})

/** Counts how many have ended, and how many at most in one turn of the event loop. */
class Ends {
  readonly all = Deferred.makeUnsafe<void>()
  readonly end: Effect.Effect<void>
  ended = 0
  mostInTurn = 0
  private before = 0

  constructor(n: number) {
    const count = () => {
      this.mostInTurn = Math.max(this.mostInTurn, this.ended - this.before)
      this.before = this.ended
    }
    this.end = Effect.sync(() => {
      if (++this.ended < n) return
      count()
      Deferred.doneUnsafe(this.all, Exit.void)
    })
    const tick = () => {
      count()
      if (this.ended < n) setImmediate(tick)
    }
    setImmediate(tick)
  }
}

/** What runs once its turn has come. */
const works: { readonly [how: string]: Effect.Effect<void> } = {
  "at once": Effect.void,
  "in a microtask": Effect.promise(() => Promise.resolve()),
  "after a yield": Effect.yieldNow
}

const dispatched = (
  submit: (dispatcher: Dispatcher.Dispatcher, task: Effect.Effect<void>, i: number) => Effect.Effect<unknown, unknown>
) =>
(n: number, work: Effect.Effect<void>, ends: Ends) =>
  Effect.gen(function*() {
    const dispatcher = yield* Dispatcher.make({ workers: 2, waiting: Infinity })
    const gate = yield* Deferred.make<void>()
    yield* dispatcher.submit(Deferred.await(gate))
    yield* dispatcher.submit(Deferred.await(gate))
    const task = Effect.andThen(work, ends.end)
    for (let i = 0; i < n; i++) yield* submit(dispatcher, task, i)
    yield* Deferred.succeed(gate, undefined)
    yield* Deferred.await(ends.all)
  })

const pool = ConnectionPool.make(
  Effect.flatMap(TestSocket.make(), ({ socket }) => connect(socket)),
  { max: 2, waiters: 2_000_000, acquire: 0, drain: 0 }
)

type Borrow = (
  pool: ConnectionPool.ConnectionPool<string, string>,
  work: Effect.Effect<void>
) => Effect.Effect<void, unknown>

const borrowed = (borrow: Borrow) => (n: number, work: Effect.Effect<void>, ends: Ends) =>
  Effect.gen(function*() {
    const connections = yield* pool
    const gate = yield* Deferred.make<void>()
    const hold = connections.use(() => Deferred.await(gate))
    yield* Effect.forkChild(hold, started)
    yield* Effect.forkChild(hold, started)
    const one = borrow(connections, Effect.andThen(work, ends.end))
    for (let i = 0; i < n; i++) yield* Effect.forkChild(one, started)
    yield* Deferred.succeed(gate, undefined)
    yield* Deferred.await(ends.all)
  })

const queues: {
  readonly [queue: string]: (
    n: number,
    work: Effect.Effect<void>,
    ends: Ends
  ) => Effect.Effect<void, unknown, Scope.Scope>
} = {
  "tasks of a dispatcher": dispatched((dispatcher, task) => dispatcher.submit(task)),
  "tasks of a dispatcher, with keys": dispatched((dispatcher, task, i) => dispatcher.submit(task, { key: i % 100 })),
  "callers of a dispatcher": dispatched((dispatcher, task) => Effect.forkChild(dispatcher.run(task), started)),
  "borrowers of a pool (use)": borrowed(({ use }, work) => use(() => work)),
  "borrowers of a pool (get)": borrowed(({ get }, work) => Effect.scoped(Effect.andThen(get, work))),
  "a mutex": (n, work, ends) =>
    Effect.gen(function*() {
      const mutex = new Mutex(yield* turns)
      const gate = yield* Deferred.make<void>()
      yield* Effect.forkChild(mutex.withPermit(Deferred.await(gate)), started)
      const one = mutex.withPermit(Effect.andThen(work, ends.end))
      for (let i = 0; i < n; i++) yield* Effect.forkChild(one, started)
      yield* Deferred.succeed(gate, undefined)
      yield* Deferred.await(ends.all)
    }),
  "three permits": (n, work, ends) =>
    Effect.gen(function*() {
      const permits = new Permits(yield* turns, 3)
      const gate = yield* Deferred.make<void>()
      for (let i = 0; i < 3; i++) yield* Effect.forkChild(permits.withPermit(Deferred.await(gate)), started)
      const one = permits.withPermit(Effect.andThen(work, ends.end))
      for (let i = 0; i < n; i++) yield* Effect.forkChild(one, started)
      yield* Deferred.succeed(gate, undefined)
      yield* Deferred.await(ends.all)
    })
}

/** Waits, so that all of them can be interrupted, the last one first. */
const waits: { readonly [what: string]: Effect.Effect<Effect.Effect<unknown, unknown>, unknown, Scope.Scope> } = {
  "a dispatcher": Effect.gen(function*() {
    const dispatcher = yield* Dispatcher.make({ workers: 1, waiting: Infinity })
    yield* dispatcher.submit(Effect.never)
    return dispatcher.run(Effect.void)
  }),
  "a pool": Effect.gen(function*() {
    const connections = yield* pool
    for (let i = 0; i < 2; i++) yield* Effect.forkChild(connections.use(() => Effect.never), started)
    return connections.use(() => Effect.void)
  }),
  "a mutex": Effect.gen(function*() {
    const mutex = new Mutex(yield* turns)
    yield* Effect.forkChild(mutex.withPermit(Effect.never), started)
    return mutex.withPermit(Effect.void)
  }),
  "a gate": Effect.map(turns, (turns) => new Gate(turns, false).await),
  "an outbox": Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const connection = yield* connect(peer.socket)
    yield* peer.window(0)
    for (let i = 0; i < 4; i++) yield* Effect.forkChild(connection.send("x"), started)
    yield* Effect.yieldNow
    return connection.send("x")
  })
}

const drain = (queue: string, n: number, work: Effect.Effect<void>): Effect.Effect<number, unknown> => {
  const ends = new Ends(n)
  return Effect.as(Effect.scoped(queues[queue]!(n, work, ends)), ends).pipe(Effect.map(({ mostInTurn }) => mostInTurn))
}

const cancel = (what: string, n: number): Effect.Effect<void, unknown> =>
  Effect.scoped(Effect.gen(function*() {
    const wait = yield* waits[what]!
    const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
    for (let i = 0; i < n; i++) fibers.push(yield* Effect.forkChild(wait, started))
    yield* Fiber.interruptAll(fibers.toReversed())
  }))

// microseconds for each of few: what costs less is young when it dies, and 24,000 of them live long enough to be copied, which was
// up to 10 us each
const least = 5

/**
 * Microseconds of the processor for each: the best of some rounds, because others collect garbage and work beside it. One below
 * `enough` ends them.
 */
const costOfEach = (n: number, run: Effect.Effect<unknown, unknown>, enough: number) =>
  Effect.gen(function*() {
    let best = Infinity
    for (let round = 0; round < 3 && best >= enough; round++) {
      const begun = process.cpuUsage()
      yield* run
      const { system, user } = process.cpuUsage(begun)
      best = Math.min(best, (user + system) / n)
    }
    return best
  })

describe("queues", () => {
  for (const queue of Object.keys(queues)) {
    for (const [how, work] of Object.entries(works)) {
      it.live(`B146 ${queue}: a long queue whose tasks end ${how} leaves the event loop its turns`, () =>
        Effect.gen(function*() {
          // 64 for a queue; a pool has four rounds of tasks in a turn
          assert.isAtMost(yield* drain(queue, 1000, work), 260)
        }))
    }
  }

  it.live("a mutex: one at a time, in order; what gives up, even when its turn has just come, is passed over", () =>
    Effect.gen(function*() {
      const mutex = new Mutex(yield* turns)
      const log: Array<string> = []
      const gates = new Map<string, Deferred.Deferred<void>>()
      const enter = (name: string) => {
        const gate = Deferred.makeUnsafe<void>()
        gates.set(name, gate)
        return Effect.forkChild(
          mutex.withPermit(Effect.andThen(Effect.sync(() => log.push(name)), Deferred.await(gate))),
          started
        )
      }
      const leave = (name: string) => Deferred.succeed(gates.get(name)!, undefined)
      yield* enter("a")
      const b = yield* enter("b")
      const c = yield* enter("c")
      const d = yield* enter("d")
      assert.deepStrictEqual(log, ["a"])
      yield* Fiber.interrupt(b)
      // its turn has come, and it has not been told
      Deferred.doneUnsafe(gates.get("a")!, Exit.void)
      yield* Fiber.interrupt(c)
      yield* Effect.yieldNow
      yield* Effect.yieldNow
      assert.deepStrictEqual(log, ["a", "d"])
      yield* leave("d")
      yield* Fiber.join(d)
      const e = yield* enter("e")
      assert.deepStrictEqual(log, ["a", "d", "e"], "it is free again")
      // interrupted while it has its turn
      yield* Fiber.interrupt(e)
      yield* enter("f")
      assert.deepStrictEqual(log, ["a", "d", "e", "f"])
    }))

  it.live("two permits: two at a time, and the next one when either ends", () =>
    Effect.gen(function*() {
      const permits = new Permits(yield* turns, 2)
      const log: Array<number> = []
      const gates = Array.from({ length: 5 }, () => Deferred.makeUnsafe<void>())
      const fibers = yield* Effect.forEach(gates, (gate, i) =>
        Effect.forkChild(
          permits.withPermit(Effect.andThen(Effect.sync(() => log.push(i)), Deferred.await(gate))),
          started
        ))
      assert.deepStrictEqual(log, [0, 1])
      yield* Deferred.succeed(gates[1]!, undefined)
      yield* Fiber.join(fibers[1]!)
      yield* Effect.yieldNow
      assert.deepStrictEqual(log, [0, 1, 2])
      for (const gate of gates) yield* Deferred.succeed(gate, undefined)
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(log, [0, 1, 2, 3, 4])
    }))

  // seconds of the processor each
  describe.runIf(isLong)("B146 24,000 cost for each what 4,000 cost", () => {
    const isLinear = (what: string, run: (n: number) => Effect.Effect<unknown, unknown>) =>
      Effect.gen(function*() {
        yield* run(4_000)
        const few = yield* costOfEach(4_000, run(4_000), 0)
        const many = yield* costOfEach(24_000, run(24_000), 3 * Math.max(few, least))
        console.log(`${what}: ${few.toFixed(1)} us each of 4,000, ${many.toFixed(1)} us each of 24,000`)
        assert.isBelow(many / Math.max(few, least), 3)
      })
    for (const queue of Object.keys(queues)) {
      for (const [how, work] of Object.entries(works)) {
        it.live(`${queue}, ${how}`, () => isLinear(`${queue}, ${how}`, (n) => drain(queue, n, work)), long(120_000))
      }
    }
    for (const what of Object.keys(waits)) {
      it.live(`giving up ${what}`, () => isLinear(`giving up ${what}`, (n) => cancel(what, n)), long(120_000))
    }
  })
})
