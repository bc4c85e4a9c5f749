import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber, Random, type Scope } from "effect"
import { Simulation, TestNetwork } from "../../src/testing/index.ts"

type World = Simulation.World
type Program = (world: World) => Effect.Effect<unknown, unknown, Scope.Scope>

const short = { storm: "1 minute", liveness: "1 minute" } as const
const run = (program: Program, options?: Partial<Simulation.Options>) =>
  Effect.runPromise(Simulation.run({ seed: "s", ...short, ...options }, program))
const failure = (program: Program, options?: Partial<Simulation.Options>): Promise<Simulation.SimulationFailed> =>
  Effect.runPromise(Effect.flip(Simulation.run({ seed: "s", ...short, ...options }, program)))

/** A server that echoes, and a client that dials again whenever its connection ends; it counts what came back. */
const echoes = (world: World) =>
  Effect.gen(function*() {
    const server = world.network.host("server")
    yield* world.process(
      "server",
      Effect.flatMap(server.listen(7), (listener) =>
        // an error of `accept` ends `run`
        Effect.forever(Effect.ignore(listener.run((socket) =>
          Effect.gen(function*() {
            const { pull } = yield* socket.reader
            const { writeAll } = yield* socket.writer
            while (true) yield* writeAll(yield* pull)
          }).pipe(Effect.scoped, Effect.ignore)
        ))))
    )
    const seen = { echoes: 0 }
    yield* world.process(
      "client",
      Effect.forever(Effect.gen(function*() {
        const socket = world.network.host("client").dial("server:7")
        yield* Effect.gen(function*() {
          // a first packet may vanish with its connection: dialling would wait for two minutes
          const { pull } = yield* Effect.timeout(socket.reader, "5 seconds")
          const { write } = yield* socket.writer
          while (true) {
            yield* write("x")
            yield* Effect.timeout(pull, "5 seconds")
            seen.echoes++
            yield* Effect.sleep(yield* Random.nextBetween(500, 1500))
          }
        }).pipe(Effect.scoped, Effect.ignore)
        yield* Effect.sleep("1 second")
      }))
    )
    return seen
  })

const program: Program = (world) =>
  Effect.gen(function*() {
    const seen = yield* echoes(world)
    yield* world.storm
    const before = seen.echoes
    yield* world.eventually("an echo comes back", Effect.sync(() => seen.echoes > before))
  })

describe("Simulation", () => {
  it("a program that comes back succeeds, whatever the storm was", async () => {
    const kinds = new Set<Simulation.FaultKind>()
    for (let seed = 1; seed <= 60; seed++) {
      const outcome = await run(program, { seed, faults: { every: "5 seconds" } })
      assert.strictEqual(outcome.seed, String(seed))
      assert.isAtLeast(outcome.time, 60_000)
      for (const { kind } of outcome.faults) kinds.add(kind)
    }
    assert.sameMembers([...kinds], [...Simulation.kinds], "every kind of fault has come up")
  })

  it("the same seed is the same run, also after another one, and another seed is another run", async () => {
    const [a, b, again] = [await run(program), await run(program, { seed: "t" }), await run(program)]
    assert.deepStrictEqual(a, again)
    assert.notStrictEqual(a.hash, b.hash)
  })

  it("the end of a trace is kept when asked for", async () => {
    const { trace } = await run(program, { network: { trace: 10 } })
    assert.strictEqual(trace.length, 10)
    assert.isEmpty((await run(program)).trace)
  })

  it("only the kinds asked for happen, only where they may, and never longer than allowed", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { faults, kinds } = await run(program, {
        seed,
        faults: {
          kinds: ["crash", "stall", "reset"],
          hostsOf: { crash: ["client"], stall: ["server"] },
          every: "2 seconds",
          longest: "10 seconds",
          longestStall: "1 second"
        }
      })
      for (const { kind, lasting, where } of faults) {
        assert.include(["crash", "stall", "reset"], kind)
        assert.include(kinds, kind)
        if (kind === "crash") assert.match(where, /^client /)
        if (kind === "stall") assert.match(where, /^server /)
        assert.isAtMost(lasting, kind === "stall" ? 1000 : 10_000)
      }
    }
  })

  it("after the storm every fault is over", async () => {
    let after: TestNetwork.Snapshot | undefined
    await run((world) =>
      Effect.gen(function*() {
        yield* echoes(world)
        yield* world.storm
        after = yield* world.network.snapshot
      }), { faults: { every: "1 second" } })
    assert.deepStrictEqual(after!.hosts.map(({ isUp }) => isUp), [true, true])
    assert.deepStrictEqual(after!.links.map(({ state }) => state), ["open", "open"])
  })

  it("a process begins anew after a crash, and what it acquired is released", async () => {
    const log: Array<string> = []
    await run((world) =>
      Effect.gen(function*() {
        const host = world.network.host("a")
        yield* world.process(
          "a",
          Effect.andThen(
            Effect.acquireRelease(Effect.sync(() => log.push("begins")), () => Effect.sync(() => log.push("ends"))),
            Effect.never
          )
        )
        yield* Effect.sleep(1000)
        yield* host.crash
        yield* Effect.sleep(5000)
        assert.deepStrictEqual(log, ["begins", "ends"])
        yield* host.restart
        yield* Effect.sleep(5000)
      })
    )
    assert.deepStrictEqual(log, ["begins", "ends", "begins", "ends"])
  })

  describe("fails", () => {
    it("with `failed` when the program fails: the message has the seed, the faults, the log and the network", async () => {
      const error = await failure(
        (world) =>
          Effect.gen(function*() {
            yield* echoes(world)
            yield* world.storm
            yield* Effect.log("it was a dark and stormy night")
            return yield* Effect.fail(new Error("no more tea"))
          }),
        { seed: 17, faults: { every: "2 seconds" } }
      )
      assert.strictEqual(error.kind, "failed")
      assert.strictEqual((error.cause as Error).message, "no more tea")
      const last = error.outcome.faults.at(-1)!
      for (
        const part of [
          "seed 17, after 1m",
          "no more tea",
          last.kind,
          `the last of ${error.outcome.faults.length}`,
          "it was a dark and stormy night",
          "server:7",
          "client"
        ]
      ) assert.include(error.message, part)
      assert.include(error.message, error.outcome.netstat)
    })

    it("with `failed` when somebody says so in the storm, even where failures are caught", async () => {
      const error = await failure((world) =>
        Effect.gen(function*() {
          yield* echoes(world)
          yield* Effect.forkScoped(Effect.ignoreCause(Effect.andThen(
            Effect.sleep("20 seconds"),
            Effect.sync(() => world.fail("the books do not balance"))
          )))
          yield* world.storm
        })
      )
      assert.strictEqual(error.kind, "failed")
      assert.include(error.message, "the books do not balance")
      assert.strictEqual(error.outcome.time, 20_000, "at once")
    })

    it("with `failed` when a process fails", async () => {
      const error = await failure((world) =>
        Effect.andThen(world.process("server", Effect.fail("out of paper")), world.storm)
      )
      assert.strictEqual(error.kind, "failed")
      assert.include(error.message, "a process of server failed")
      assert.include(error.message, "out of paper")
    })

    it("with `defect` when a fiber dies that nobody awaits", async () => {
      const error = await failure((world) =>
        Effect.andThen(Effect.forkScoped(Effect.die(new Error("bug"))), world.storm)
      )
      assert.strictEqual(error.kind, "defect")
      assert.include(error.message, "bug")
    })

    it("with `not converged` when the program does not come back in time: what it waits for", async () => {
      const error = await failure((world) =>
        Effect.gen(function*() {
          const seen = yield* echoes(world)
          yield* world.storm
          yield* world.network.link("client", "server").vanish
          yield* world.network.link("client", "server").partition
          const before = seen.echoes
          yield* world.eventually("an echo comes back", Effect.sync(() => seen.echoes > before))
        }), { faults: { kinds: [] } })
      assert.strictEqual(error.kind, "not converged")
      assert.include(error.message, "it did not end within 1m; it waits for: an echo comes back")
      assert.approximately(error.outcome.time, 120_000, 1000)
    })

    it("with `deadlock` when nobody sleeps and nobody is ready", async () => {
      const error = await failure(() => Effect.flatMap(Deferred.make<void>(), Deferred.await))
      assert.strictEqual(error.kind, "deadlock")
    })

    it("with `not converged` also after a storm that was interrupted", async () => {
      const { kind, outcome } = await failure((world) =>
        Effect.andThen(Effect.timeoutOption(world.storm, "10 seconds"), Effect.forever(Effect.sleep("1 second")))
      )
      assert.strictEqual(kind, "not converged")
      assert.strictEqual(outcome.time, 70_000)
    })

    it("a condition that was given up is no part of a later failure", async () => {
      const { kind, message } = await failure(({ eventually }) =>
        Effect.andThen(Effect.timeoutOption(eventually("pigs fly", Effect.succeed(false)), "1 second"), Effect.never)
      )
      assert.strictEqual(kind, "deadlock")
      assert.notInclude(message, "pigs fly")
    })

    it("with `livelock` when sleeps are so short that no time passes", async () => {
      const { kind } = await failure(() => Effect.forever(Effect.sleep("1 nanos")), { stepsAtOnce: 10_000 })
      assert.strictEqual(kind, "livelock")
    })

    it("with `failed` when none of the hosts that a storm may hit is there: which hosts there are", async () => {
      const program: Program = (world) => Effect.andThen(echoes(world), world.storm)
      for (const faults of [{ hosts: ["sever"] }, { hostsOf: { crash: ["sever"] } }]) {
        const { kind, message } = await failure(program, { faults })
        assert.strictEqual(kind, "failed")
        assert.include(message, "no fault can hit sever: the hosts of the network are server, client")
      }
    })

    it("with `livelock` when fibers go on and on without time passing", async () => {
      const error = await failure((world) =>
        Effect.gen(function*() {
          yield* Effect.forkScoped(Effect.forever(Effect.yieldNow))
          yield* world.storm
        }), { stepsAtOnce: 1000 })
      assert.strictEqual(error.kind, "livelock")
      const alone = await failure(() => Effect.forever(Effect.void, { disableYield: true }), { stepsAtOnce: 1000 })
      assert.strictEqual(alone.kind, "livelock", "a single fiber that never waits")
    })

    it("with `leak` when a fiber or a sleep is left after its scope", async () => {
      const error = await failure((world) => Effect.andThen(Effect.forkDetach(Effect.sleep("1 day")), world.storm))
      assert.strictEqual(error.kind, "leak")
      assert.include(error.message, "1 fibers and 1 sleeps")
    })

    it("with `not closed` when the scope does not end in time, or never", async () => {
      const slow = await failure(() => Effect.addFinalizer(() => Effect.sleep("1 hour")))
      assert.strictEqual(slow.kind, "not closed")
      const never = await failure(() => Effect.addFinalizer(() => Effect.never))
      assert.strictEqual(never.kind, "not closed")
    })

    it("with `real world` when the program awaits something that virtual time does not bring", async () => {
      const error = await failure(() => Effect.promise(() => Promise.resolve(1)))
      assert.strictEqual(error.kind, "real world")
    })

    it("the same seed fails the same way", async () => {
      const broken: Program = (world) =>
        Effect.gen(function*() {
          const seen = yield* echoes(world)
          yield* Effect.forkScoped(Effect.forever(Effect.gen(function*() {
            yield* Effect.sleep("1 second")
            if (seen.echoes === 20) world.fail("20 is too many")
          })))
          yield* world.storm
        })
      const [a, b] = [await failure(broken, { seed: 3 }), await failure(broken, { seed: 3 })]
      assert.strictEqual(a.message, b.message)
      assert.deepStrictEqual(a.outcome, b.outcome)
    })
  })

  it("an option that makes no sense is named, or would make a run without an end", async () => {
    const mistakes: ReadonlyArray<readonly [string, Partial<Simulation.Options>]> = [
      ["seed", { seed: Number.NaN }],
      ["storm", { storm: -1 }],
      ["storm", { storm: Infinity }],
      ["storm", { storm: Number.NaN }],
      ["liveness", { liveness: Infinity }],
      ["stepsAtOnce", { stepsAtOnce: 0 }],
      ["faults.every", { faults: { every: 0 } }],
      ["faults.every", { faults: { every: Number.NaN } }],
      ["faults.longest", { faults: { longest: Infinity } }],
      ["faults.longestStall", { faults: { longestStall: -1 } }],
      ["crsh", { faults: { kinds: ["crsh" as "crash"] } }],
      ["crsh", { faults: { hostsOf: { ["crsh" as "crash"]: ["server"] } } }],
      ["latency", { network: { latency: Number.NaN } }],
      ["trace", { network: { trace: -1 } }]
    ]
    for (const [name, options] of mistakes) {
      const exit = await Effect.runPromiseExit(Simulation.run({ seed: 1, ...options }, ({ storm }) => storm))
      assert.isTrue(Exit.isFailure(exit), name)
      assert.match(String(Exit.isFailure(exit) ? exit.cause : ""), new RegExp(`RangeError: .*${name}.*has to be`))
    }
  })

  it("time and chance of the program come from the run", async () => {
    const draws: Array<unknown> = []
    for (const seed of ["a", "a", "b"]) {
      await run(() =>
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(Effect.sleep("1 minute"))
          yield* Fiber.join(fiber)
          draws.push([yield* Random.next, yield* Clock.currentTimeMillis])
        }), { seed })
    }
    assert.deepStrictEqual(draws[0], draws[1])
    assert.notDeepEqual(draws[0], draws[2])
    assert.strictEqual((draws[0] as ReadonlyArray<unknown>)[1], 60_000)
  })

  it("its network is one of TestNetwork, with its snapshot", async () => {
    const { netstat } = await run((world) => Effect.andThen(echoes(world), Effect.sleep("5 seconds")))
    assert.include(netstat, "ESTABLISHED")
    assert.isFunction(TestNetwork.format)
  })
})
