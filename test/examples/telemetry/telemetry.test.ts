/** The telemetry gateway on a simulated network: many devices, a slow store, and a storm. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Latch, Layer, Stream } from "effect"
import { Simulation } from "holdfast/testing"
import { it } from "holdfast/testing/vitest"
import { device, openWith } from "./device.ts"
import { gateway, Store, Work } from "./gateway.ts"
import type { Report } from "./protocol.ts"

/** A store in memory: one row for each device and time. */
const makeStore = (saving: Effect.Effect<void>) => {
  const rows = new Map<string, Report>()
  let busy = 0
  const most = { busy: 0, batch: 0 }
  const save = (device: number, reports: ReadonlyArray<Report>) =>
    Effect.gen(function*() {
      most.busy = Math.max(most.busy, ++busy)
      most.batch = Math.max(most.batch, reports.length)
      yield* saving
      for (const report of reports) rows.set(`${device} at ${report.at}`, report)
    }).pipe(Effect.ensuring(Effect.sync(() => busy--)))
  return { rows, most, layer: Layer.succeed(Store, { save }) }
}

const serve = ({ network }: Simulation.World, store: Layer.Layer<Store>) =>
  Layer.launch(gateway.pipe(Layer.provide([network.host("gateway").layerServer(7000), store, Work.layer])))

const dial = ({ network }: Simulation.World, host: string) => Effect.sync(() => network.host(host).dial("gateway:7000"))

const reportAll = (
  reporter: { readonly report: (at: number, values: ReadonlyArray<number>) => Effect.Effect<unknown, unknown> },
  count: number
) =>
  Effect.forEach(
    Array.from({ length: count }, (_, at) => at),
    (at) => reporter.report(at, [at, at / 2]),
    { concurrency: "unbounded" }
  )

it.simulate("40 devices: four batches at a time, and everything is stored", {
  seeds: 2,
  network: { latency: "20 millis" }
}, (world) =>
  Effect.gen(function*() {
    const store = makeStore(Effect.sleep("50 millis"))
    yield* Effect.forkScoped(serve(world, store.layer))
    yield* Effect.forEach(
      Array.from({ length: 40 }, (_, id) => id),
      (id) =>
        Effect.scoped(Effect.flatMap(device(id, dial(world, `device${id}`)), (reporter) => reportAll(reporter, 10))),
      { concurrency: "unbounded" }
    )
    assert.strictEqual(store.rows.size, 400)
    assert.deepStrictEqual(store.rows.get("32 at 7")?.values, [7, 3.5])
    assert.strictEqual(store.most.busy, 4)
    assert.isAbove(store.most.batch, 1)
  }))

const flooding = (world: Simulation.World) =>
  Effect.gen(function*() {
    const gate = Latch.makeUnsafe()
    const store = makeStore(gate.await)
    yield* Effect.forkScoped(serve(world, store.layer))
    const connection = yield* openWith(undefined, "1 minute")(yield* dial(world, "device"))
    yield* connection.send({ _tag: "Hello", device: 1 })
    const values = Array.from({ length: 1000 }, (_, i) => i)
    const flood = yield* Effect.forkChild(Effect.forEach(
      Array.from({ length: 1000 }, (_, id) => id),
      (id) => connection.send({ _tag: "Report", id, at: id, values }),
      { discard: true }
    ))
    yield* Effect.sleep("5 seconds")
    assert.isUndefined(flood.pollUnsafe(), "the device waits for room in its outbox")
    yield* gate.open
    yield* Fiber.join(flood)
    yield* world.eventually("all are stored", Effect.sync(() => store.rows.size === 1000))
    assert.isAtMost(store.most.batch, 65)
  })

it("a store that stands still holds a device back: the gateway keeps 64 reports of it", () =>
  Effect.runPromise(Simulation.run({ seed: 1 }, flooding)))

it.simulate(
  "whatever the network does, each report is stored",
  { seeds: 3, storm: "10 minutes", liveness: "2 hours" },
  (world) =>
    Effect.gen(function*() {
      const store = makeStore(Effect.sleep("50 millis"))
      yield* world.process("gateway", serve(world, store.layer))
      const reporting = yield* Effect.forEach([1, 2, 3], (id) =>
        Effect.gen(function*() {
          const reporter = yield* device(id, dial(world, `device${id}`))
          return yield* Effect.forkScoped(Effect.forEach(
            Array.from({ length: 30 }, (_, at) => at),
            (at) => Effect.andThen(Effect.sleep("20 seconds"), reporter.report(at, [at]))
          ))
        }))
      yield* world.storm
      yield* Fiber.joinAll(reporting)
      assert.strictEqual(store.rows.size, 90)
    })
)

it.simulate(
  "a device learns how long its network remembers a quiet connection",
  { seeds: 2, liveness: "20 hours" },
  (world) =>
    Effect.gen(function*() {
      const { network } = world
      const store = makeStore(Effect.void)
      yield* Effect.forkScoped(serve(world, store.layer))
      yield* network.link("device", "gateway").nat({ timeout: "3 minutes" })
      let [last, connections] = [0, 0]
      const { client } = yield* device(1, dial(world, "device"), {
        min: "1 minute",
        max: "10 minutes",
        onPing: (millis) => void (last = millis)
      })
      yield* Effect.forkScoped(Stream.runForEach(client.changes, ({ _tag }) =>
        Effect.sync(() => {
          if (_tag === "Connected") connections++
        })))
      yield* Effect.sleep("2 hours")
      assert.isAbove(connections, 1, "one connection was forgotten")
      const before = connections
      yield* Effect.sleep("12 hours")
      assert.strictEqual(connections, before)
      assert.isAbove(last, 60_000)
      assert.isBelow(last, 180_000)
    })
)
