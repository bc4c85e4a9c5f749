/** One admin API for all workers: lists, figures, metrics and closes, with two workers in this process. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Codec, Connection, Metrics, Registry } from "holdfast"
import { TestSocket } from "holdfast/testing"
import { deserialize, serialize } from "node:v8"
import { type Call, Calls } from "../../src/node/internal/addresses/calls.ts"
import { actionsOf } from "../../src/node/internal/admin/actions.ts"
import { lasting, summed } from "../../src/node/internal/admin/merging/prometheus.ts"
import type { Change } from "../../src/node/internal/admin/schemas.ts"
import { answering } from "../../src/node/internal/admin/workers/answering.ts"
import { askAbout } from "../../src/node/internal/admin/workers/asking.ts"
import { Group } from "../../src/node/internal/admin/workers/group.ts"
import { merged } from "../../src/node/internal/admin/workers/merged.ts"
import { Process } from "../../src/node/internal/admin/workers/process.ts"

const place = "127.0.0.1:7900"

/** Two workers of one parent: connections with odd ids are the first one's. */
const two = Effect.gen(function*() {
  const group = new Group(2)
  const stops: Array<string> = []
  const context = yield* Effect.context<never>()
  const scope = yield* Effect.scope
  const workers = yield* Effect.forEach([1, 2], (number) =>
    Effect.gen(function*() {
      const channel = { isFrozen: false, held: [] as Array<() => void> }
      const pass = (to: () => Calls) => (call: Call) => {
        const copy = deserialize(serialize(call)) as Call
        if (channel.isFrozen) channel.held.push(() => to().hear(copy))
        else to().hear(copy)
      }
      const parent: Calls = new Calls(pass(() => worker))
      const worker: Calls = new Calls(pass(() => parent))
      const registry = yield* Registry.make<string>()
      const readers = { count: 0, over: yield* Deferred.make<void>() }
      const actions = actionsOf({ registry, drain: Effect.void }, context, readers, scope)
      worker.answer(askAbout(place), yield* answering(actions, context))
      const process = new Process({ number, pid: 1000 + number, slot: number % 2 }, place, parent, context)
      group.processes.add(process)
      return {
        registry,
        process,
        channel,
        thaws: () => {
          channel.isFrozen = false
          for (const passes of channel.held.splice(0)) passes()
        },
        dies: () => {
          worker.end()
          parent.end()
          group.leave(process)
        }
      }
    }))
  const connect = (names: Registry.Names = {}) =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const connection = yield* Connection.make(peer.socket, { codec: Codec.lines() })
      yield* workers[1 - connection.id % 2]!.registry.add(connection, names)
      return { connection, peer }
    })
  const actions = merged(
    group,
    { count: 0, over: yield* Deferred.make<void>() },
    Effect.sync(() => void stops.push("stop"))
  )
  return { group, actions, workers, connect, stops }
})

describe("one admin API for two workers", () => {
  it.effect("connections of both are one list, sorted and paged, each with its worker", () =>
    Effect.gen(function*() {
      const { actions, connect } = yield* two
      const all = [yield* connect({ key: "ada" }), yield* connect({ key: "bob" }), yield* connect(), yield* connect()]
      const ids = all.map(({ connection: { id } }) => id)
      const listed = yield* actions.list({})
      assert.deepStrictEqual(listed.connections.map(({ id }) => id), ids)
      assert.deepStrictEqual(listed.connections.map(({ worker }) => worker), ids.map((id) => id % 2 === 1 ? 1 : 2))
      const page = yield* actions.list({ sort: "id", order: "desc", offset: 1, limit: 2 })
      assert.deepStrictEqual([page.total, page.offset, page.limit, page.silent], [4, 1, 2, undefined])
      assert.deepStrictEqual(page.connections.map(({ id }) => id), ids.toReversed().slice(1, 3))
      // those without a key come last in either order
      for (const order of ["asc", "desc"] as const) {
        const keys = (yield* actions.list({ sort: "key", order })).connections.map(({ key }) => key)
        assert.deepStrictEqual(keys, [...(order === "asc" ? ["ada", "bob"] : ["bob", "ada"]), null, null])
      }
      assert.strictEqual((yield* actions.list({ key: "bob" })).total, 1)
    }))

  it.effect("one is inspected, patched and closed by the worker that has it, many by all", () =>
    Effect.gen(function*() {
      const { actions, connect } = yield* two
      const all = [yield* connect(), yield* connect(), yield* connect(), yield* connect()]
      for (const { connection: { id } } of all.slice(0, 2)) {
        const detail = yield* actions.inspect(id)
        assert.deepStrictEqual([detail.id, detail.worker], [id, id % 2 === 1 ? 1 : 2])
        const policy = yield* actions.patch(id, { silence: "7 seconds" })
        assert.strictEqual(policy["silence"], (yield* actions.inspect(id)).policy["silence"])
      }
      const [first, ...others] = all.map(({ connection: { id } }) => id)
      assert.deepStrictEqual(yield* actions.close(first!, { reason: "enough" }), { closed: 1 })
      assert.deepStrictEqual(yield* actions.closeMany({ ids: others }), { closed: 3 })
      yield* TestClock.adjust(0)
      const ended = yield* actions.ended({})
      assert.deepStrictEqual([ended.total, ended.byReason], [4, { Closed: 4 }])
      assert.strictEqual(new Set(ended.ended.map(({ worker }) => worker)).size, 2)
      assert.strictEqual((yield* Effect.flip(actions.inspect(first!)))._tag, "NotFound")
      assert.strictEqual((yield* Effect.flip(actions.closeMany({})))._tag, "Invalid")
      assert.strictEqual((yield* Effect.flip(actions.patch(first!, { silence: "no" })))._tag, "NotFound")
    }))

  it.effect("figures and metrics are sums, and do not fall when a worker dies", () =>
    Effect.gen(function*() {
      const { actions, connect, workers } = yield* two
      yield* connect()
      yield* connect()
      yield* connect()
      const before = yield* actions.figures
      assert.deepStrictEqual([before.registered, before.connections.open], [3, 3])
      assert.deepStrictEqual(before.workers?.map(({ number, process, state }) => [number, process, state]), [
        [1, 1001, "answers"],
        [2, 1002, "answers"]
      ])
      assert.strictEqual(before.workers!.reduce((sum, { open }) => sum + open, 0), 3)
      const opened = /^holdfast_connections_opened_total (\d+)$/m
      const counted = Number(opened.exec(yield* actions.metrics)![1])
      // both count in the metrics of this process
      assert.strictEqual(counted, 2 * before.totals!.opened / 2)
      workers[0]!.dies()
      const after = yield* actions.figures
      assert.deepStrictEqual(after.totals!.opened, before.totals!.opened)
      assert.deepStrictEqual(after.workers?.map(({ number }) => number), [2])
      assert.strictEqual(Number(opened.exec(yield* actions.metrics)![1]), counted)
      assert.isBelow(after.registered, 3)
    }).pipe(Effect.provide(Metrics.layer)))

  it.effect("a worker that does not answer within 2 s is named, waited for once, and heard again when it answers", () =>
    Effect.gen(function*() {
      const { actions, connect, workers } = yield* two
      const all = [yield* connect(), yield* connect()]
      yield* actions.figures
      workers[1]!.channel.isFrozen = true
      const listing = yield* Effect.forkChild(actions.list({}))
      yield* TestClock.adjust(1999)
      assert.isUndefined(listing.pollUnsafe())
      yield* TestClock.adjust(1)
      const listed = yield* Fiber.join(listing)
      assert.deepStrictEqual([listed.total, listed.silent], [1, [2]])
      // not waited for again
      assert.deepStrictEqual((yield* actions.ended({})).silent, [2])
      const { registered, workers: told } = yield* actions.figures
      assert.deepStrictEqual([registered, told!.map(({ state }) => state)], [2, ["answers", "silent"]])
      const even = all.find(({ connection: { id } }) => id % 2 === 0)!.connection.id
      const error = yield* Effect.flip(actions.close(even, {}))
      assert.deepStrictEqual([error._tag, error.message], [
        "NoAnswer",
        "worker 2 (process 1002) does not answer: it hangs, or is very busy"
      ])
      workers[1]!.thaws()
      yield* TestClock.adjust(0)
      assert.deepStrictEqual((yield* actions.list({})).silent, undefined)
      assert.strictEqual((yield* actions.list({})).total, 2)
    }))

  it.effect("changes of both are one stream, with figures every second, and a worker that dies is told", () =>
    Effect.gen(function*() {
      const { actions, connect, workers } = yield* two
      const seen = yield* Queue.unbounded<Change>()
      yield* Effect.forkChild(Stream.runForEach(actions.changes, (change) => Queue.offer(seen, change)))
      /** So many, once they have passed through all processes. */
      const next = Effect.fnUntraced(function*(count: number) {
        for (let turns = 0; turns < 50 && (yield* Queue.size(seen)) < count; turns++) yield* TestClock.adjust(0)
        return (yield* Queue.clear(seen)).toSorted((one, other) => one._tag < other._tag ? -1 : 1)
      })
      const tags = (changes: ReadonlyArray<Change>) => changes.map(({ _tag }) => _tag)
      assert.deepStrictEqual(tags(yield* next(3)), ["Current", "Current", "Figures"])
      const one = yield* connect()
      const other = yield* connect()
      const added = yield* next(2)
      const workersOf = added.map((change) => change._tag === "Added" ? change.connection?.worker : undefined)
      assert.deepStrictEqual(workersOf.toSorted(), [1, 2])
      yield* actions.close(one.connection.id, {})
      yield* actions.close(other.connection.id, {})
      assert.deepStrictEqual(tags(yield* next(2)), ["Ended", "Ended"])
      yield* TestClock.adjust(999)
      assert.deepStrictEqual(yield* next(0), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(tags(yield* next(1)), ["Figures"])
      workers[0]!.dies()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(tags(yield* next(2)), ["Current", "Figures"])
    }))

  it.effect("a drain stops the parent, once", () =>
    Effect.gen(function*() {
      const { actions, stops } = yield* two
      assert.deepStrictEqual(yield* actions.drained, { possible: true, begun: false, servers: [] })
      assert.isTrue((yield* actions.drain).begun)
      assert.isTrue((yield* actions.drain).begun)
      assert.deepStrictEqual(stops, ["stop"])
      assert.isTrue((yield* actions.drained).begun)
    }))
})

describe("metrics of several processes", () => {
  const text = (count: number) =>
    [
      "# HELP a_total What is counted.",
      "# TYPE a_total counter",
      `a_total{kind="x y"} ${count}`,
      "# TYPE b gauge",
      `b ${count}`,
      "# TYPE holdfast_outbox_largest_bytes gauge",
      `holdfast_outbox_largest_bytes ${count}`,
      "# TYPE holdfast_event_loop_delay_seconds gauge",
      `holdfast_event_loop_delay_seconds{at="p99"} ${count}`,
      "# TYPE c histogram",
      `c_bucket{le="+Inf"} ${count}`,
      `c_sum ${count}`,
      "# TYPE d summary",
      `d{quantile="0.5"} ${count}`,
      ""
    ].join("\n")

  it("counters, gauges and histograms are summed; the largest is the largest; delays and summaries have a worker", () => {
    assert.deepStrictEqual(summed([{ number: 1, text: text(1) }, { number: 2, text: text(2) }]).split("\n"), [
      "# HELP a_total What is counted.",
      "# TYPE a_total counter",
      "a_total{kind=\"x y\"} 3",
      "# TYPE b gauge",
      "b 3",
      "# TYPE holdfast_outbox_largest_bytes gauge",
      "holdfast_outbox_largest_bytes 2",
      "# TYPE holdfast_event_loop_delay_seconds gauge",
      "holdfast_event_loop_delay_seconds{at=\"p99\",worker=\"1\"} 1",
      "holdfast_event_loop_delay_seconds{at=\"p99\",worker=\"2\"} 2",
      "# TYPE c histogram",
      "c_bucket{le=\"+Inf\"} 3",
      "c_sum 3",
      "# TYPE d summary",
      "d{quantile=\"0.5\",worker=\"1\"} 1",
      "d{quantile=\"0.5\",worker=\"2\"} 2",
      ""
    ])
  })

  it("of a process that is gone its counters and histograms are left", () => {
    const left = lasting(text(1))
    assert.deepStrictEqual(left.match(/^# TYPE \w+/gm), ["# TYPE a_total", "# TYPE c"])
    assert.match(
      summed([{ number: undefined, text: left }, { number: 2, text: text(2) }]),
      /^a_total\{kind="x y"\} 3$/m
    )
    assert.strictEqual(summed([]), "")
  })
})
