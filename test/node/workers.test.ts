/** When a worker is started again, how all are renewed, and how all stop: with processes that are none. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Queue, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Backoff, Policy } from "../../src/index.ts"
import { Workers } from "../../src/node/index.ts"
import { type Ended, type Process, type Settings, supervise } from "../../src/node/internal/workers/supervision.ts"

/** A process of the test: it gets ready and ends when it is told to. */
class Fake {
  readonly number: number
  readonly readied = Deferred.makeUnsafe<void>()
  readonly over = Deferred.makeUnsafe<Ended>()
  readonly told: Array<"stop" | "kill"> = []
  stopWithin = 10_000
  readonly process: Process

  constructor(number: number) {
    this.number = number
    this.process = {
      pid: 1000 + number,
      ready: Deferred.await(this.readied),
      ended: Deferred.await(this.over),
      stopWithin: () => this.stopWithin,
      stop: Effect.sync(() => void this.told.push("stop")),
      kill: Effect.sync(() => {
        this.told.push("kill")
        this.ends(null, "SIGKILL")
      })
    }
  }

  ready(): void {
    Deferred.doneUnsafe(this.readied, Exit.void)
  }

  ends(code: number | null, signal: string | null = null): void {
    Deferred.doneUnsafe(this.over, Exit.succeed({ code, signal }))
  }
}

/** Workers that run, each process in the order in which it was started. `isReady`: they get ready by themselves. */
const running = Effect.fnUntraced(function*(changes: Partial<Settings> = {}, isReady = true) {
  const started: Array<Fake> = []
  const done: Array<string> = []
  const renewals = yield* Queue.sliding<void>(1)
  const knobs = { isReady }
  const fiber = yield* Effect.forkScoped(supervise({
    count: 2,
    spawn: (number) =>
      Effect.sync(() => {
        const fake = new Fake(number)
        started.push(fake)
        if (knobs.isReady) fake.ready()
        return fake.process
      }),
    restart: Backoff.exponential({ jitter: "none" }),
    startWithin: 30_000,
    renewals,
    renewed: Effect.sync(() => void done.push("renewed")),
    stopping: Effect.sync(() => void done.push("stopping")),
    onCut: () => void done.push("cut"),
    ...changes
  }))
  // before the fiber is interrupted, which waits for them
  yield* Effect.addFinalizer(() => Effect.sync(() => started.forEach((fake) => fake.ends(0))))
  yield* TestClock.adjust(0)
  return { started, done, renewals, fiber, knobs, numbers: () => started.map(({ number }) => number) }
})

const lost = (worker: number, how: string, code: number) => ({ worker, how, code, pid: 1000 + worker })

describe("start", () => {
  it.effect("the first one is alone until it takes connections", () =>
    Effect.gen(function*() {
      const { knobs, numbers, started } = yield* running({ count: 3 }, false)
      yield* TestClock.adjust(29_999)
      assert.deepStrictEqual(numbers(), [1])
      knobs.isReady = true
      started[0]!.ready()
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(numbers(), [1, 2, 3])
    }))

  it.effect("what is wrong with the program ends all, once", () =>
    Effect.gen(function*() {
      const { fiber, numbers, started } = yield* running({}, false)
      started[0]!.ends(3)
      yield* TestClock.adjust(0)
      const exit = yield* Fiber.await(fiber)
      assert.deepStrictEqual(exit, Exit.fail(lost(1, "ended with code 3 before it took connections", 3)))
      assert.deepStrictEqual(numbers(), [1])
    }))

  it.effect("one that takes no connections is killed after its time", () =>
    Effect.gen(function*() {
      const { fiber, started } = yield* running({}, false)
      yield* TestClock.adjust(29_999)
      assert.deepStrictEqual(started[0]!.told, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(started[0]!.told[0], "kill")
      assert.match(String(yield* Fiber.await(fiber)), /takes no connections after 30s/)
    }))
})

describe("crash", () => {
  it.effect("it is started again after 200 ms, then each time after twice as long, and the others go on", () =>
    Effect.gen(function*() {
      const { numbers, started } = yield* running()
      let expected = [1, 2]
      for (const delay of [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]) {
        started.at(-1)!.ends(1)
        yield* TestClock.adjust(delay - 1)
        assert.deepStrictEqual(numbers(), expected, `before ${delay} ms`)
        yield* TestClock.adjust(1)
        expected = [...expected, 2]
        assert.deepStrictEqual(numbers(), expected, `after ${delay} ms`)
      }
      assert.deepStrictEqual(started[0]!.told, [])
    }))

  it.effect("a minute of life starts the delays over", () =>
    Effect.gen(function*() {
      const { numbers, started } = yield* running()
      for (const delay of [200, 400]) {
        started.at(-1)!.ends(null, "SIGSEGV")
        yield* TestClock.adjust(delay)
      }
      assert.strictEqual(numbers().length, 4)
      yield* TestClock.adjust(60_000)
      started.at(-1)!.ends(1)
      yield* TestClock.adjust(199)
      assert.strictEqual(numbers().length, 4)
      yield* TestClock.adjust(1)
      assert.strictEqual(numbers().length, 5)
    }))

  it.effect("a later one that ends before it takes connections is tried again, with the same delays", () =>
    Effect.gen(function*() {
      const { knobs, numbers, started } = yield* running()
      knobs.isReady = false
      started[0]!.ends(1)
      yield* TestClock.adjust(200)
      assert.deepStrictEqual(numbers(), [1, 2, 1])
      started[2]!.ends(1)
      yield* TestClock.adjust(399)
      assert.deepStrictEqual(numbers(), [1, 2, 1])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(numbers(), [1, 2, 1, 1])
    }))

  it.effect("a schedule that ends gives up, and stops the others", () =>
    Effect.gen(function*() {
      const { done, fiber, started } = yield* running({ restart: Schedule.recurs(0) })
      started[1]!.ends(null, "SIGKILL")
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(started[0]!.told, ["stop"])
      started[0]!.ends(0)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.fail(lost(2, "was ended by SIGKILL", 1)))
      // it was gone before
      assert.deepStrictEqual(done, ["stopping"])
    }))
})

describe("renewal", () => {
  it.effect("each new one takes connections before its old one is asked to stop", () =>
    Effect.gen(function*() {
      const { done, knobs, numbers, renewals, started } = yield* running()
      knobs.isReady = false
      Queue.offerUnsafe(renewals, undefined)
      yield* TestClock.adjust(5000)
      assert.deepStrictEqual(numbers(), [1, 2, 1])
      assert.deepStrictEqual(started[0]!.told, [])
      started[2]!.ready()
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(started[0]!.told, ["stop"])
      assert.deepStrictEqual(numbers(), [1, 2, 1, 2])
      assert.deepStrictEqual(started[1]!.told, [])
      started[3]!.ready()
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(started[1]!.told, ["stop"])
      assert.deepStrictEqual(done, ["renewed"])
      // an old one that drains for too long
      started[0]!.ends(0)
      yield* TestClock.adjust(10_000)
      assert.deepStrictEqual(started.slice(0, 2).map(({ told }) => told), [["stop"], ["stop", "kill"]])
      assert.strictEqual(started.length, 4)
    }))

  it.effect("B90 a new one has the time to drain that its own policy gives it, and the old ones have theirs", () =>
    Effect.gen(function*() {
      const { fiber, knobs, renewals, started } = yield* running({ count: 1 })
      knobs.isReady = false
      Queue.offerUnsafe(renewals, undefined)
      yield* TestClock.adjust(0)
      started[1]!.stopWithin = 60_000
      started[1]!.ready()
      yield* TestClock.adjust(10_000)
      assert.deepStrictEqual(started.map(({ told }) => told), [["stop", "kill"], []])
      yield* Effect.forkScoped(Fiber.interrupt(fiber))
      yield* TestClock.adjust(59_999)
      assert.deepStrictEqual(started[1]!.told, ["stop"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(started[1]!.told, ["stop", "kill"])
    }))

  it.effect("a new one that cannot start ends it, and the old ones go on", () =>
    Effect.gen(function*() {
      const { done, knobs, numbers, renewals, started } = yield* running()
      knobs.isReady = false
      Queue.offerUnsafe(renewals, undefined)
      yield* TestClock.adjust(0)
      started[2]!.ends(1)
      yield* TestClock.adjust(100_000)
      assert.deepStrictEqual(numbers(), [1, 2, 1])
      assert.deepStrictEqual(started.slice(0, 2).map(({ told }) => told), [[], []])
      assert.deepStrictEqual(done, [])
    }))

  it.effect("one that waits for its next start is started at once", () =>
    Effect.gen(function*() {
      const { done, numbers, renewals, started } = yield* running({ count: 1 })
      for (const delay of [200, 400, 800, 1600]) {
        started.at(-1)!.ends(1)
        yield* TestClock.adjust(delay)
      }
      started.at(-1)!.ends(1)
      yield* TestClock.adjust(1)
      assert.strictEqual(numbers().length, 5)
      Queue.offerUnsafe(renewals, undefined)
      yield* TestClock.adjust(0)
      assert.strictEqual(numbers().length, 6)
      assert.deepStrictEqual(done, ["renewed"])
    }))
})

describe("stop", () => {
  it.effect("all are asked after the listening has ended, and waited for", () =>
    Effect.gen(function*() {
      const { done, fiber, started } = yield* running()
      const stopping = yield* Effect.forkScoped(Fiber.interrupt(fiber))
      yield* TestClock.adjust(9999)
      assert.deepStrictEqual(started.map(({ told }) => told), [["stop"], ["stop"]])
      assert.isUndefined(stopping.pollUnsafe())
      for (const fake of started) fake.ends(0)
      yield* TestClock.adjust(0)
      assert.isDefined(stopping.pollUnsafe())
      assert.deepStrictEqual(done, ["stopping"])
    }))

  it.effect("one that cut its connections makes it a failure", () =>
    Effect.gen(function*() {
      const { done, fiber, started } = yield* running()
      yield* Effect.forkScoped(Fiber.interrupt(fiber))
      yield* TestClock.adjust(0)
      started[0]!.ends(0)
      started[1]!.ends(1)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(done, ["stopping", "cut"])
    }))

  it.effect("one that a signal to all ended before it took connections has cut none", () =>
    Effect.gen(function*() {
      const { done, fiber, knobs, started } = yield* running({}, false)
      knobs.isReady = false
      started[0]!.ready()
      yield* TestClock.adjust(0)
      assert.strictEqual(started.length, 2)
      const stopping = yield* Effect.forkScoped(Fiber.interrupt(fiber))
      yield* TestClock.adjust(0)
      started[1]!.ends(null, "SIGINT")
      started[0]!.ends(0)
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(done, ["stopping"])
    }))

  it.effect("one that does not end in time is killed", () =>
    Effect.gen(function*() {
      const { done, fiber, started } = yield* running()
      const stopping = yield* Effect.forkScoped(Fiber.interrupt(fiber))
      yield* TestClock.adjust(9999)
      started[0]!.ends(0)
      assert.deepStrictEqual(done, ["stopping"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(done, ["stopping", "cut"])
      assert.deepStrictEqual(started[1]!.told, ["stop", "kill"])
      assert.isDefined(stopping.pollUnsafe())
    }))
})

describe("limits", () => {
  it("those of a whole server are divided, rounded up; 0 keeps its meaning", () => {
    const whole = Policy.make({ maxConnections: 10_001, acceptRate: 1000, maxConnectionsPerAddress: 7 })
    const part = Workers.divide(whole, 3)
    assert.deepStrictEqual(part, Policy.make({ maxConnections: 3334, acceptRate: 334 }, whole))
    assert.strictEqual(Workers.divide(Policy.make({ memory: 100 * 1024 * 1024 }), 8).memory, 100 * 1024 * 1024 / 8)
    assert.strictEqual(Workers.divide(Policy.make({ maxConnections: 0 }), 2).maxConnections, 0)
    // this process is no worker
    assert.isUndefined(Workers.self())
    assert.deepStrictEqual(Workers.share(whole), whole)
  })

  it("a number of workers that is none is a mistake", () => {
    for (const workers of [0, -1, 1.5, NaN, 1025]) {
      assert.throws(() => Workers.run({ workers }), /workers must be a whole number from 1 to 1024/)
    }
  })
})
