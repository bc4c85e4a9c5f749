import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Latch, Logger, Scheduler, Scope } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, Dispatcher, Server } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"
import { VirtualTime } from "../src/testing/internal/simulation/virtualTime.ts"
import { long, often } from "./support/often.ts"

/** Lets every fiber run until all of them wait; no time passes. */
const settle = Effect.forEach(Array.from({ length: 25 }), () => Effect.yieldNow, { discard: true })

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** A task that says when it starts, ends when its gate opens, and says when it is gone. */
const gated = (log: Array<string>, name: string) => {
  const gate = Latch.makeUnsafe(false)
  const task = Effect.gen(function*() {
    log.push(`+${name}`)
    yield* gate.await
    return name
  }).pipe(Effect.onExit((exit) => Effect.sync(() => log.push(`${Exit.isSuccess(exit) ? "-" : "x"}${name}`))))
  return { task, open: Effect.andThen(gate.open, settle) }
}

/** The tag of the reason with which a dispatcher refused. */
const reasonOf = <A, E>(exit: Exit.Exit<A, E>): string | undefined => {
  const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  return error instanceof Dispatcher.DispatcherError ? error.reason._tag : undefined
}

const busyOf = Effect.map(({ busy, waiting }: Dispatcher.Stats) => ({ busy, waiting }))

describe("Dispatcher", () => {
  describe("bounds", () => {
    it.effect("B96 full means overload at once when nothing may wait", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 2, waiting: 0 })
        const [a, b, c] = [gated(log, "a"), gated(log, "b"), gated(log, "c")]
        const first = yield* fork(dispatcher.run(a.task))
        yield* fork(dispatcher.run(b.task))
        const error = yield* Effect.flip(dispatcher.run(c.task))
        assert.deepStrictEqual(error.reason, new Dispatcher.Overloaded({ workers: 2, waiting: 0 }))
        assert.strictEqual(
          error.message,
          "all 2 workers are busy and 0 tasks wait, which is the limit: try later, or raise `workers` or `waiting`"
        )
        assert.isTrue(error.isRetryable)
        assert.deepStrictEqual(log, ["+a", "+b"])
        yield* a.open
        assert.strictEqual(yield* Fiber.join(first), "a")
        yield* fork(dispatcher.run(c.task))
        assert.deepStrictEqual(log, ["+a", "+b", "-a", "+c"])
        assert.deepStrictEqual(yield* dispatcher.stats, {
          workers: 2,
          busy: 2,
          waiting: 0,
          succeeded: 1,
          failed: 0,
          interrupted: 0,
          refused: 1
        })
      }))

    it.effect("B96 with bounded waiting, one more than may wait is refused", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1, waiting: 2 })
        const tasks = ["a", "b", "c", "d"].map((name) => gated(log, name))
        for (const { task } of tasks.slice(0, 3)) yield* fork(dispatcher.run(task))
        assert.strictEqual(reasonOf(yield* Effect.exit(dispatcher.run(tasks[3]!.task))), "Overloaded")
        assert.strictEqual(reasonOf(yield* Effect.exit(dispatcher.submit(tasks[3]!.task))), "Overloaded")
        yield* tasks[0]!.open
        yield* fork(dispatcher.run(tasks[3]!.task))
        assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 1, waiting: 2 })
        for (const { open } of tasks) yield* open
        assert.deepStrictEqual(log, ["+a", "-a", "+b", "-b", "+c", "-c", "+d", "-d"])
      }))

    it.effect("B96 with a key that is busy, a task waits although there are workers, and is refused when it may not", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 2, waiting: 0 })
        yield* fork(dispatcher.run(gated(log, "a").task, { key: 1 }))
        assert.strictEqual(reasonOf(yield* Effect.exit(dispatcher.run(Effect.void, { key: 1 }))), "Overloaded")
        yield* dispatcher.run(Effect.void, { key: 2 })
      }))

    it.effect("without a bound on waiting nothing is refused", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1, waiting: Infinity })
        const first = gated(log, "a")
        yield* fork(dispatcher.run(first.task))
        let ran = 0
        const rest = yield* Effect.forEach(
          Array.from({ length: 5000 }),
          () => fork(dispatcher.run(Effect.sync(() => ran++)))
        )
        assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 1, waiting: 5000 })
        yield* first.open
        yield* Fiber.joinAll(rest)
        assert.strictEqual(ran, 5000)
        assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 0, waiting: 0 })
      }))

    it("sizes that make no sense throw before anything runs", () => {
      const invalid = [
        [{ workers: 0 }, "`workers` must be a whole number, at least 1; it is 0"],
        [{ workers: 1.5 }, "`workers` must be a whole number, at least 1; it is 1.5"],
        [{ workers: Infinity }, "`workers` must be a whole number, at least 1; it is Infinity"],
        // as JavaScript may
        [{ workers: "3" as unknown as number }, "`workers` must be a whole number, at least 1; it is \"3\""],
        [{} as Dispatcher.Options, "`workers` must be a whole number, at least 1; it is undefined"],
        [{ workers: 1, waiting: -1 }, "`waiting` must be a whole number, at least 0, or Infinity; it is -1"],
        [{ workers: 1, waiting: Number.NaN }, "`waiting` must be a whole number, at least 0, or Infinity; it is NaN"]
      ] as const
      for (const [options, message] of invalid) {
        try {
          Dispatcher.make(options)
          assert.fail("it did not throw")
        } catch (error) {
          assert.instanceOf(error, Dispatcher.DispatcherError)
          assert.strictEqual(error.message, message)
          assert.isFalse(error.isRetryable)
        }
      }
    })
  })

  describe("workers", () => {
    it.effect("B101 a task whose fiber is killed frees its worker, and its caller sees the interruption", () =>
      Effect.gen(function*() {
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        let task: Fiber.Fiber<unknown, unknown> | undefined
        const hangs = Effect.withFiber<never>((fiber) => {
          task = fiber
          return Effect.never
        })
        for (const ask of [dispatcher.run(hangs), dispatcher.submit(hangs)]) {
          const caller = yield* Effect.forkChild(ask, { startImmediately: true })
          const next = yield* Effect.forkChild(dispatcher.run(Effect.succeed("next")), { startImmediately: true })
          task!.interruptUnsafe()
          assert.strictEqual(yield* Fiber.join(next), "next")
          assert.isDefined(caller.pollUnsafe())
        }
        assert.deepInclude(yield* dispatcher.stats, { busy: 0, waiting: 0, succeeded: 2, interrupted: 2, failed: 0 })
      }))

    it.effect("B96 a failing task never loses a worker: failure, defect, interruption, a throw", () =>
      Effect.gen(function*() {
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        const ways: ReadonlyArray<Effect.Effect<unknown, string>> = [
          Effect.fail("no"),
          Effect.die("no"),
          Effect.interrupt,
          Effect.suspend(() => {
            throw new Error("no")
          }),
          Effect.andThen(Effect.yieldNow, Effect.fail("late")),
          Effect.andThen(Effect.yieldNow, Effect.die("late")),
          Effect.andThen(Effect.yieldNow, Effect.interrupt)
        ]
        for (const way of ways) {
          const exits = yield* Effect.all([Effect.exit(way), Effect.exit(dispatcher.run(way))])
          // what it ends with is what its caller gets
          assert.deepStrictEqual(
            ...exits.map((exit) => Exit.isFailure(exit) ? exit.cause.reasons.map((r) => r._tag) : []) as [
              Array<string>,
              Array<string>
            ]
          )
          assert.strictEqual(yield* dispatcher.run(Effect.succeed("next")), "next")
        }
        assert.deepStrictEqual(yield* dispatcher.stats, {
          workers: 1,
          busy: 0,
          waiting: 0,
          succeeded: ways.length,
          failed: 5,
          interrupted: 2,
          refused: 0
        })
      }))

    it.effect("B96 a worker that is free wakes who waits, first come, first served", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 2 })
        const tasks = ["a", "b", "c", "d", "e"].map((name) => gated(log, name))
        for (const { task } of tasks) yield* fork(dispatcher.run(task))
        assert.deepStrictEqual(log, ["+a", "+b"])
        yield* tasks[1]!.open
        yield* tasks[0]!.open
        yield* tasks[2]!.open
        assert.deepStrictEqual(log, ["+a", "+b", "-b", "+c", "-a", "+d", "-c", "+e"])
      }))

    it.effect("B96 resize wakes those who wait; with fewer workers those who are busy finish first", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        const tasks = ["a", "b", "c", "d", "e"].map((name) => gated(log, name))
        for (const { task } of tasks) yield* fork(dispatcher.run(task))
        yield* dispatcher.resize(3)
        assert.deepStrictEqual(log, ["+a", "+b", "+c"])
        yield* dispatcher.resize(1)
        assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 3, waiting: 2 })
        yield* tasks[0]!.open
        yield* tasks[1]!.open
        assert.deepStrictEqual(log, ["+a", "+b", "+c", "-a", "-b"])
        yield* tasks[2]!.open
        assert.deepStrictEqual(log.slice(5), ["-c", "+d"])
        const error = yield* Effect.flip(dispatcher.resize(0))
        assert.deepStrictEqual(error.reason, new Dispatcher.InvalidSize({ field: "workers", value: 0 }))
        assert.strictEqual((yield* dispatcher.stats).workers, 1)
      }))

    it.effect("a caller that is interrupted gives its place back, or stops its task and waits for that", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        const releasing = Latch.makeUnsafe(false)
        const [a, b, c] = [gated(log, "a"), gated(log, "b"), gated(log, "c")]
        const first = yield* fork(dispatcher.run(Effect.ensuring(a.task, releasing.await)))
        const second = yield* fork(dispatcher.run(b.task))
        yield* fork(dispatcher.run(c.task))
        yield* Fiber.interrupt(second)
        assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 1, waiting: 1 })
        const interrupting = yield* fork(Fiber.interrupt(first))
        yield* settle
        // its finalizer is still at work
        assert.deepStrictEqual(log, ["+a", "xa"])
        assert.isUndefined(interrupting.pollUnsafe())
        yield* releasing.open
        yield* Fiber.join(interrupting)
        yield* settle
        assert.deepStrictEqual(log, ["+a", "xa", "+c"])
        assert.strictEqual((yield* dispatcher.stats).interrupted, 2)
      }))

    it.effect("a task may be interrupted where its caller may", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        const [a, b] = [gated(log, "a"), gated(log, "b")]
        const protectedCaller = yield* fork(Effect.uninterruptible(dispatcher.run(a.task)))
        const waiting = yield* fork(Effect.uninterruptible(dispatcher.run(b.task)))
        const interrupting = yield* fork(Fiber.interruptAll([protectedCaller, waiting]))
        yield* settle
        assert.deepStrictEqual(log, ["+a"])
        yield* a.open
        yield* b.open
        yield* Fiber.join(interrupting)
        assert.deepStrictEqual(log, ["+a", "-a", "+b", "-b"])
        // nor may the end of the dispatcher stop it
        const scope = yield* Scope.make()
        const ending = yield* Scope.provide(Dispatcher.make({ workers: 1 }), scope)
        const c = gated(log, "c")
        const caller = yield* fork(Effect.uninterruptible(ending.run(c.task)))
        const closing = yield* fork(Scope.close(scope, Exit.void))
        yield* settle
        assert.isUndefined(closing.pollUnsafe())
        yield* c.open
        yield* Fiber.join(closing)
        assert.strictEqual(yield* Fiber.join(caller), "c")
      }))

    it.effect("tasks run with the services of their callers", () =>
      Effect.gen(function*() {
        const Name = Context.Reference<string>("test/Name", { defaultValue: () => "nobody" })
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        const told = Effect.map(Name, (name) => void log.push(name))
        yield* Effect.provideService(dispatcher.run(told), Name, "ann")
        yield* Effect.provideService(dispatcher.submit(told), Name, "ben")
        yield* dispatcher.run(told)
        assert.deepStrictEqual(log, ["ann", "ben", "nobody"])
      }))

    it.effect("a long queue of short tasks lets others have their turn, and takes no stack", () =>
      Effect.gen(function*() {
        const dispatcher = yield* Dispatcher.make({ workers: 1, waiting: Infinity })
        const gate = Latch.makeUnsafe(false)
        yield* dispatcher.submit(gate.await)
        let ran = 0
        for (let i = 0; i < 20_000; i++) yield* dispatcher.submit(Effect.sync(() => ran++))
        yield* gate.open
        const turns: Array<number> = []
        for (let at = 0; at < 20_000; at = ran) {
          yield* Effect.yieldNow
          turns.push(ran)
        }
        const most = Math.max(...turns.map((at, i) => at - (turns[i - 1] ?? 0)))
        assert.isAtMost(most, 128)
        assert.strictEqual((yield* dispatcher.stats).succeeded, 20_001)
      }))
  })

  describe("submit", () => {
    it.effect("returns before the task has ended, and logs its failure", () =>
      Effect.gen(function*() {
        const logged: Array<string> = []
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        const [a] = [gated(log, "a")]
        yield* Effect.gen(function*() {
          yield* dispatcher.submit(a.task)
          yield* dispatcher.submit(Effect.fail("no"))
          yield* dispatcher.submit(Effect.interrupt)
          assert.deepStrictEqual(log, ["+a"])
          yield* a.open
        }).pipe(
          Effect.provide(
            Logger.layer([Logger.make(({ message }) => logged.push(String((message as Array<unknown>)[0])))])
          )
        )
        assert.deepStrictEqual(logged, ["a task submitted to a dispatcher failed"])
        const { failed, interrupted, succeeded } = yield* dispatcher.stats
        assert.deepStrictEqual({ failed, interrupted, succeeded }, { failed: 1, interrupted: 1, succeeded: 1 })
      }))

    it.effect("B96 a nested submit with one worker runs later", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        yield* dispatcher.run(Effect.gen(function*() {
          yield* dispatcher.submit(Effect.sync(() => log.push("inner")))
          log.push("outer")
        }))
        yield* settle
        assert.deepStrictEqual(log, ["outer", "inner"])
      }))
  })

  describe("nesting", () => {
    it.effect("B96 a nested run is detected, with one worker and with many, also around other dispatchers", () =>
      Effect.gen(function*() {
        const one = yield* Dispatcher.make({ workers: 1 })
        const many = yield* Dispatcher.make({ workers: 8 })
        for (const dispatcher of [one, many]) {
          const error = yield* Effect.flip(dispatcher.run(dispatcher.run(Effect.void)))
          assert.strictEqual(error.reason._tag, "Nested")
          assert.isFalse(error.isRetryable)
          assert.include(error.message, "`submit`")
        }
        assert.strictEqual(yield* one.run(many.run(Effect.succeed("through"))), "through")
        assert.strictEqual(reasonOf(yield* Effect.exit(one.run(many.run(one.run(Effect.void))))), "Nested")
        const parallel = one.run(Effect.all([one.run(Effect.void), Effect.void], { concurrency: 2 }))
        assert.strictEqual(reasonOf(yield* Effect.exit(parallel)), "Nested")
      }))

    it.effect("what a task leaves behind may wait for the dispatcher once the task has ended", () =>
      Effect.gen(function*() {
        const gate = Latch.makeUnsafe(false)
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        const left = yield* dispatcher.run(
          Effect.forkDetach(Effect.andThen(gate.await, dispatcher.run(Effect.succeed("later"))))
        )
        yield* gate.open
        assert.strictEqual(yield* Fiber.join(left), "later")
      }))
  })

  describe("keys", () => {
    it.effect("tasks of one key run one after the other in their order, and others beside them", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 3 })
        const tasks = ["a1", "a2", "b1", "a3", "c1"].map((name) => ({ key: name[0], ...gated(log, name) }))
        for (const { key, task } of tasks) yield* fork(dispatcher.run(task, { key }))
        assert.deepStrictEqual(log, ["+a1", "+b1", "+c1"])
        for (const { open } of tasks) yield* open
        assert.deepStrictEqual(log.filter((entry) => entry.includes("a")), ["+a1", "-a1", "+a2", "-a2", "+a3", "-a3"])
        assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 0, waiting: 0 })
      }))

    it.effect("a key with much to do takes turns with the others", () =>
      Effect.gen(function*() {
        const order: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        const gate = Latch.makeUnsafe(false)
        yield* dispatcher.submit(gate.await)
        for (const name of ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]) {
          yield* dispatcher.submit(Effect.sync(() => order.push(name)), { key: name[0] })
        }
        yield* gate.open
        yield* settle
        assert.deepStrictEqual(order, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"])
      }))

    it.effect("a failed or interrupted task passes its key on, wherever it was", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const dispatcher = yield* Dispatcher.make({ workers: 1 })
        const gate = Latch.makeUnsafe(false)
        yield* dispatcher.submit(gate.await)
        const fibers = yield* Effect.forEach(
          ["a1", "a2", "a3", "a4", "a5"],
          (name) =>
            fork(dispatcher.run(
              Effect.suspend(() => {
                log.push(name)
                return name === "a4" ? Effect.fail("no") : Effect.void
              }),
              { key: "a" }
            ))
        )
        // the head of its key, and one in the middle
        yield* Fiber.interrupt(fibers[0]!)
        yield* Fiber.interrupt(fibers[2]!)
        assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 1, waiting: 3 })
        yield* gate.open
        yield* settle
        assert.deepStrictEqual(log, ["a2", "a4", "a5"])
        assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 0, waiting: 0 })
      }))
  })

  describe("the end of the scope", () => {
    it.effect("B96 release wakes the waiters, stops what runs and waits for it", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const scope = yield* Scope.make()
        const dispatcher = yield* Scope.provide(Dispatcher.make({ workers: 1 }), scope)
        const releasing = Latch.makeUnsafe(false)
        const [a, b, c] = [gated(log, "a"), gated(log, "b"), gated(log, "c")]
        const first = yield* fork(Effect.exit(dispatcher.run(Effect.ensuring(a.task, releasing.await))))
        const second = yield* fork(Effect.exit(dispatcher.run(b.task, { key: 1 })))
        const third = yield* fork(Effect.exit(dispatcher.run(c.task, { key: 1 })))
        yield* dispatcher.submit(c.task, { key: 2 })
        const closing = yield* fork(Scope.close(scope, Exit.void))
        yield* settle
        assert.strictEqual(reasonOf(yield* Fiber.join(second)), "Stopped")
        assert.strictEqual(reasonOf(yield* Fiber.join(third)), "Stopped")
        assert.isUndefined(closing.pollUnsafe())
        yield* releasing.open
        yield* Fiber.join(closing)
        assert.strictEqual(reasonOf(yield* Fiber.join(first)), "Stopped")
        assert.strictEqual(reasonOf(yield* Effect.exit(dispatcher.run(Effect.void))), "Stopped")
        assert.strictEqual(reasonOf(yield* Effect.exit(dispatcher.submit(Effect.void))), "Stopped")
        assert.deepStrictEqual(log, ["+a", "xa"])
        assert.deepStrictEqual(yield* dispatcher.stats, {
          workers: 1,
          busy: 0,
          waiting: 0,
          succeeded: 0,
          failed: 0,
          interrupted: 4,
          refused: 0
        })
      }))

    it.effect("B96 purge ends with the scope: nothing starts afterwards", () =>
      Effect.gen(function*() {
        let ran = 0
        const scope = yield* Scope.make()
        const dispatcher = yield* Scope.provide(Dispatcher.make({ workers: 1, waiting: Infinity }), scope)
        const gate = Latch.makeUnsafe(false)
        yield* dispatcher.submit(gate.await)
        for (let i = 0; i < 1000; i++) yield* dispatcher.submit(Effect.sync(() => ran++))
        yield* gate.open
        // part of the queue has had its turn, the rest is scheduled
        const before = ran
        yield* Scope.close(scope, Exit.void)
        yield* settle
        assert.isBelow(before, 1000)
        assert.strictEqual(ran, before)
        assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 0, waiting: 0 })
      }))

    for (const how of ["itself", "in a fiber that it waits for", "by a task of another dispatcher"] as const) {
      it.effect(`B96 a task that ends the dispatcher it runs on, ${how}, does not wait for itself`, () =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const dispatcher = yield* Scope.provide(Dispatcher.make({ workers: 2 }), scope)
          const other = yield* Dispatcher.make({ workers: 1 })
          const close = Scope.close(scope, Exit.void)
          const beside = yield* Effect.forkChild(Effect.exit(dispatcher.run(Effect.never)), { startImmediately: true })
          const closing = yield* Effect.forkDetach(
            dispatcher.run(
              {
                itself: close,
                "in a fiber that it waits for": Effect.timeoutOption(close, 1000),
                "by a task of another dispatcher": Effect.orDie(other.run(close))
              }[how]
            )
          )
          yield* TestClock.adjust(5000)
          assert.isTrue(closing.pollUnsafe() !== undefined && Exit.isSuccess(closing.pollUnsafe()!))
          assert.isTrue(Exit.isFailure(yield* Fiber.join(beside)))
        }))
    }
  })

  describe("interruption", () => {
    it.effect("B96 interrupted at any yield point, no worker and no place is lost", () =>
      Effect.gen(function*() {
        for (let ops = 3; ops <= 64; ops += often(3, 1)) {
          yield* Effect.gen(function*() {
            const dispatcher = yield* Dispatcher.make({ workers: 2, waiting: 16 })
            let running = 0
            let most = 0
            const task = Effect.acquireUseRelease(
              Effect.sync(() => most = Math.max(most, ++running)),
              () => Effect.andThen(Effect.yieldNow, Effect.yieldNow),
              () => Effect.sync(() => running--)
            )
            for (let after = 0; after < 12; after++) {
              const fibers = yield* Effect.forEach(
                [1, 2, 3, 4, 5, 6],
                (i) => Effect.forkChild(dispatcher.run(task, i % 2 === 0 ? { key: "even" } : {}))
              )
              for (let i = 0; i < after; i++) yield* Effect.yieldNow
              yield* Fiber.interruptAll(fibers.filter((_, i) => i !== 3))
              // the one that nobody interrupts ends by itself
              yield* Fiber.join(fibers[3]!)
              assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 0, waiting: 0 }, `${ops} ${after}`)
              assert.strictEqual(running, 0)
            }
            assert.isAtMost(most, 2)
            // both workers are there
            const gate = yield* Deferred.make<void>()
            const all = yield* fork(Effect.all(
              [dispatcher.run(Deferred.await(gate)), dispatcher.run(Deferred.succeed(gate, undefined))],
              { concurrency: 2 }
            ))
            yield* Fiber.join(all)
            const { failed, refused } = yield* dispatcher.stats
            assert.deepStrictEqual({ failed, refused }, { failed: 0, refused: 0 })
          }).pipe(Effect.scoped, Effect.provideService(Scheduler.MaxOpsBeforeYield, ops))
        }
      }), long(60_000))
  })
})

describe("Dispatcher.messages", () => {
  const lines = Connection.make({ codec: Codec.lines(), policy: { silence: 0, inboxMessages: 4, drain: 0 } })

  /** A server over fake peers, whose connections end with the test. */
  const serve = Effect.fnUntraced(function*<E>(
    handle: (connection: Connection.Connection<string>, session: string) => Effect.Effect<unknown, E>
  ) {
    yield* TestClock.adjust(0)
    const listener = yield* TestSocket.makeServer()
    const events: Array<Server.Event> = []
    const running = yield* Server.run({
      open: lines,
      handshake: () => Effect.succeed("session"),
      handle,
      policy: { drain: 0 },
      onEvent: (event) => Effect.sync(() => events.push(event))
    }).pipe(
      Effect.provideService(SocketServer.SocketServer, listener.server),
      Effect.forkDetach({ startImmediately: true })
    )
    yield* Effect.addFinalizer(() => Effect.sync(() => running.interruptUnsafe()))
    return { connect: Effect.tap(listener.connect, settle), events }
  })

  it.effect("messages are handled in their order, one at a time, and get the session", () =>
    Effect.gen(function*() {
      const dispatcher = yield* Dispatcher.make({ workers: 3, waiting: 0 })
      const log: Array<string> = []
      const server = yield* serve(
        (connection, session) =>
          Dispatcher.messages(dispatcher, connection, (message) =>
            Effect.gen(function*() {
              log.push(`+${message}`)
              yield* Effect.sleep("10 millis")
              log.push(`-${message}`)
              yield* connection.send(`${session} ${message}`)
            }))
      )
      const peer = yield* server.connect
      yield* peer.send("a\nb\nc\n")
      yield* settle
      yield* TestClock.adjust("30 millis")
      assert.deepStrictEqual(log, ["+a", "-a", "+b", "-b", "+c", "-c"])
      assert.strictEqual(yield* peer.text, "session a\nsession b\nsession c\n")
    }))

  it.effect("batches are handled as they came, one turn each", () =>
    Effect.gen(function*() {
      const dispatcher = yield* Dispatcher.make({ workers: 1 })
      const log: Array<ReadonlyArray<string>> = []
      const server = yield* serve(
        (connection) =>
          Dispatcher.batches(dispatcher, connection, (batch) => {
            log.push(batch)
            return connection.sendAll(batch)
          })
      )
      const peer = yield* server.connect
      yield* peer.send("a\nb\nc\n")
      yield* settle
      yield* peer.send("d\n")
      yield* settle
      assert.deepStrictEqual(log, [["a", "b", "c"], ["d"]])
      assert.strictEqual((yield* dispatcher.stats).succeeded, 2)
    }))

  it.effect("B96 an idle connection occupies no worker, and one that waits for a worker stops being read", () =>
    Effect.gen(function*() {
      const dispatcher = yield* Dispatcher.make({ workers: 1, waiting: 0 })
      const gate = Latch.makeUnsafe(false)
      const connections: Array<Connection.Connection<string>> = []
      const server = yield* serve((connection) => {
        connections.push(connection)
        return Dispatcher.messages(
          dispatcher,
          connection,
          (message) => message === "hold" ? gate.await : connection.send(message)
        )
      })
      const [holder, waiter] = yield* Effect.all([server.connect, server.connect, server.connect])
      assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 0, waiting: 0 })
      yield* holder!.send("hold\n")
      yield* settle
      for (let i = 0; i < 10; i++) {
        yield* waiter!.send(`${i}\n`)
        yield* settle
      }
      assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 1, waiting: 1 })
      // one waits for the worker, four wait in the inbox, and nothing more is read
      const { inbox, messagesIn, paused } = yield* connections[1]!.snapshot
      assert.deepStrictEqual({ messages: inbox.messages, messagesIn, paused }, {
        messages: 4,
        messagesIn: 5,
        paused: true
      })
      yield* gate.open
      yield* settle
      assert.strictEqual(yield* waiter!.text, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n")
      assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 0, waiting: 0 })
    }))

  it.effect("B96 a failing handler closes its connection, and its worker goes on with the others", () =>
    Effect.gen(function*() {
      const dispatcher = yield* Dispatcher.make({ workers: 1 })
      const server = yield* serve(
        (connection) =>
          Dispatcher.messages(dispatcher, connection, (message): Effect.Effect<unknown, unknown> =>
            message === "fail"
              ? Effect.fail("as told")
              : message === "die"
              ? Effect.die("as told")
              : message === "wait"
              ? Effect.never
              : connection.send(message))
      )
      for (const message of ["fail", "die", "wait"]) {
        const bad = yield* server.connect
        const good = yield* server.connect
        yield* bad.send(`${message}\n`)
        yield* settle
        // its task ends with its connection
        if (message === "wait") yield* bad.reset
        yield* settle
        yield* good.send("hello\n")
        yield* settle
        assert.strictEqual(yield* good.text, "hello\n", message)
        yield* bad.released
      }
      const closed = server.events.filter((event) => event._tag === "Closed")
      assert.deepStrictEqual(closed.map(({ failure }) => failure?.reasons.map((r) => r._tag)), [
        ["Fail"],
        ["Die"],
        undefined
      ])
      assert.deepStrictEqual(yield* busyOf(dispatcher.stats), { busy: 0, waiting: 0 })
    }))

  const peers = often(2000, 10_000)
  it(`B96 ${peers} connections share 4 workers and none starves`, long(120_000), () => {
    const quiet = Connection.make({
      codec: Codec.lines(),
      policy: { silence: 0, frame: 0, writeStall: 0, drain: 0 }
    })
    const time = new VirtualTime()
    const rounds = 2
    const greedy = 200
    // when each message was handled, by the connection and its number
    const handledAt = new Map<string, number>()
    let busiest = 0
    let busy = 0
    const { clients, scope } = time.run(Effect.gen(function*() {
      const scope = yield* Scope.make()
      const dispatcher = yield* Scope.provide(Dispatcher.make({ workers: 4, waiting: 0 }), scope)
      const listener = yield* TestSocket.makeServer()
      yield* Server.run({
        open: quiet,
        handle: (connection) =>
          Dispatcher.messages(dispatcher, connection, (message) =>
            Effect.gen(function*() {
              busiest = Math.max(busiest, ++busy)
              yield* Effect.sleep("1 millis")
              busy--
              handledAt.set(message, time.now())
            })),
        policy: { drain: 0 }
      }).pipe(
        Effect.provideService(SocketServer.SocketServer, listener.server),
        Effect.forkDetach({ startImmediately: true })
      )
      const clients = yield* Effect.forEach(Array.from({ length: peers }), () => listener.connect)
      return { clients, scope }
    }))
    // the first of them sends 200 messages before anybody else sends one
    time.run(clients[0]!.send(Array.from({ length: greedy }, (_, k) => `0 ${k}\n`).join("")))
    time.run(Effect.forEach(clients.slice(1), (peer, i) => peer.send(`${i + 1} 0\n${i + 1} 1\n`), { discard: true }))
    time.advance(1_000_000)
    time.run(Scope.close(scope, Exit.void))
    assert.strictEqual(busiest, 4)
    assert.strictEqual(handledAt.size, (peers - 1) * rounds + greedy)
    // everybody's first message is handled in the first round of them all, everybody's second in the second
    const slowest = (round: number) =>
      Math.max(...Array.from({ length: peers }, (_, i) => handledAt.get(`${i} ${round}`)!))
    assert.strictEqual(slowest(0), peers / 4)
    assert.isAtMost(slowest(1), 2 * peers / 4 + 1)
  })
})
