/** Histories in a real NATS: `npm run test:long`. */
import { assert, describe, it } from "@effect/vitest"
import { JetStreamApiError, type JetStreamManager, jetstreamManager } from "@nats-io/jetstream"
import { connect, errors, type NatsConnection } from "@nats-io/transport-node"
import { Effect, Exit, Fiber, Schedule, Scope } from "effect"
import { Codec, History } from "holdfast"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, beforeAll } from "vitest"
import { NatsHistory } from "../../src/nats/index.ts"
import { freePort } from "../support/freePort.ts"
import { isLong, long } from "../support/often.ts"
import { cuttable, type Daemon, installed, natsServer } from "./support/engines.ts"
import { collecting, eventually, said, table } from "./support/historyTable.ts"

const runs = isLong && installed("nats-server") !== undefined

const codec = Codec.lines()

/** Whether each server of a cluster has all of a stream. */
const isWhole = async (servers: Array<string>, name: string): Promise<boolean> => {
  const nats = await connect({ servers })
  try {
    const { cluster } = await (await jetstreamManager(nats)).streams.info(`holdfast_history_${name}`)
    return cluster?.leader !== undefined && cluster.replicas!.every(({ current, lag = 0 }) => current && lag === 0)
  } catch (error) {
    // there is no leader for a moment
    if (error instanceof JetStreamApiError || error instanceof errors.TimeoutError) return false
    throw error
  } finally {
    await nats.close()
  }
}

describe.skipIf(!runs)("NatsHistory (in test:long, and where nats-server is installed)", () => {
  const scope = Scope.makeUnsafe()
  let server: Daemon
  let admin: NatsConnection
  let jsm: JetStreamManager
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.provide(natsServer(), scope))
    admin = await connect({ servers: `127.0.0.1:${server.port}` })
    jsm = await jetstreamManager(admin)
  })
  afterAll(async () => {
    await admin.close()
    await Effect.runPromise(Scope.close(scope, Exit.void))
  })

  // one of as many processes as a test wants
  const processOf = (options: NatsHistory.Options = {}) =>
    NatsHistory.make({ servers: `127.0.0.1:${server.port}`, timeout: "2 seconds", ...options })

  table((name, bounds) => Effect.flatMap(processOf(), (process) => process.history({ name, codec, ...bounds })))

  const offsets = (events: ReadonlyArray<History.Event<string>>) => events.map(({ position }) => position.offset)

  const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

  const stored = (name: string) =>
    Effect.promise(async () => (await jsm.streams.info(`holdfast_history_${name}`)).state.messages)

  it.live("a connection that is cut misses nothing", () =>
    Effect.gen(function*() {
      const proxy = yield* cuttable(server.port)
      const a = yield* processOf()
      const b = yield* processOf({ servers: `127.0.0.1:${proxy.port}` })
      const here = yield* a.history({ name: "cut", codec })
      const there = yield* b.history({ name: "cut", codec })
      const reader = yield* collecting(History.follow(there, (yield* here.ends).newest))
      for (let round = 1; round <= 5; round++) {
        proxy.cut()
        for (let i = 0; i < 20; i++) yield* here.append(`${round} ${i}`)
        // it is there again, and cut once more
        yield* eventually(`all messages of round ${round}`, () => reader.events.length >= 20 * round)
      }
      assert.deepStrictEqual(offsets(reader.events), numbers(1, 100))
    }), long(60_000))

  it.live(
    "a process that was cut off for longer than messages are kept tells its readers how many are gone",
    () =>
      Effect.gen(function*() {
        const proxy = yield* cuttable(server.port)
        const a = yield* processOf()
        const b = yield* processOf({ servers: `127.0.0.1:${proxy.port}` })
        const here = yield* a.history({ name: "away", codec, count: 10 })
        const there = yield* b.history({ name: "away", codec, count: 10 })
        yield* here.append("a")
        const reader = yield* collecting(History.follow(there, undefined))
        yield* eventually("a", () => reader.events.length === 2)
        proxy.cut()
        yield* Effect.forEach(numbers(2, 50), (i) => here.append(`${i}`))
        yield* eventually("the rest", () => reader.events.length >= 13)
        assert.deepStrictEqual(said(reader.events), [
          "start 0",
          "1 a",
          "trimmed 39 -> 40",
          ...numbers(41, 50).map((i) => `${i} ${i}`)
        ])
      }),
    long(60_000)
  )

  it.live("a message whose answer is lost is appended once", () =>
    Effect.gen(function*() {
      const proxy = yield* cuttable(server.port)
      const name = "answer"
      const a = yield* processOf({ servers: `127.0.0.1:${proxy.port}`, timeout: "10 seconds" })
      const here = yield* a.history({ name, codec })
      for (let i = 1; i <= 3; i++) {
        proxy.mute()
        const appending = yield* Effect.forkChild(here.append(`${i}`))
        while ((yield* stored(name)) < i) yield* Effect.sleep("5 millis")
        proxy.cut()
        assert.strictEqual((yield* Fiber.join(appending)).offset, i)
      }
      const { newest } = yield* here.ends
      const found = yield* here.since({ ...newest, offset: 0 })
      assert.deepStrictEqual(found._tag === "Missed" && said(found.messages), numbers(1, 3).map((i) => `${i} ${i}`))
    }), long(60_000))

  it.live(
    "a server that was killed and comes back is another epoch: with its files, or empty",
    () =>
      Effect.gen(function*() {
        const [a, b] = [yield* processOf({ timeout: "20 seconds" }), yield* processOf()]
        const here = yield* a.history({ name: "killed", codec })
        const there = yield* b.history({ name: "killed", codec })
        const position = yield* here.append("a")
        const reader = yield* collecting(History.follow(there, { ...position, offset: 0 }))
        yield* eventually("a", () => reader.events.length === 1)
        yield* server.kill
        const error = yield* Effect.flip(there.append("nowhere"))
        assert.strictEqual(error.reason, "unreachable")
        yield* server.start
        yield* eventually("a gap and what is kept", () => reader.events.length >= 3)
        assert.deepStrictEqual(said(reader.events), ["1 a", "epoch ? -> 0", "1 a"])
        assert.notStrictEqual(reader.events[2]!.position.epoch, position.epoch)
        const stale = yield* there.since(position)
        assert.strictEqual(stale._tag === "Gone" && stale.why, "epoch")
        assert.strictEqual((yield* here.append("b")).offset, 2)
        yield* eventually("b", () => reader.events.length >= 4)

        yield* server.kill
        Fs.rmSync(server.dir, { recursive: true })
        Fs.mkdirSync(server.dir)
        yield* server.start
        assert.strictEqual((yield* here.append("c")).offset, 1)
        yield* eventually("another gap", () => reader.events.length >= 6)
        assert.deepStrictEqual(said(reader.events).slice(3), ["2 b", "epoch ? -> 0", "1 c"])
        yield* Fiber.interrupt(reader.fiber)
      }).pipe(Effect.ensuring(Effect.promise(async () => {
        await admin.close()
        admin = await connect({ servers: `127.0.0.1:${server.port}` })
        jsm = await jetstreamManager(admin)
      }))),
    long(60_000)
  )

  it.live(
    "a server that answers nothing: append and what has to ask say so; then nothing was missed",
    () =>
      Effect.gen(function*() {
        const [a, b] = [yield* processOf({ timeout: "500 millis" }), yield* processOf()]
        const here = yield* a.history({ name: "frozen", codec })
        const there = yield* b.history({ name: "frozen", codec })
        const reader = yield* collecting(History.follow(there, undefined))
        const position = yield* here.append("a")
        yield* server.freeze
        const began = performance.now()
        const errors = yield* Effect.all([
          Effect.flip(here.append("b")),
          Effect.flip(here.ends),
          Effect.flip(here.since({ ...position, offset: 7 }))
        ], { concurrency: 3 })
        assert.deepStrictEqual(errors.map(({ reason }) => reason), ["unreachable", "unreachable", "unreachable"])
        assert.isBelow(performance.now() - began, 2000)
        // what it knows needs no answer
        assert.deepStrictEqual(yield* here.since(position), { _tag: "Missed", messages: [], position })
        yield* server.thaw
        const { offset } = yield* here.append("c")
        yield* eventually("all", () => reader.events.some(({ position }) => position.offset === offset))
        const words = said(reader.events)
        // "b" may have been appended, once
        assert.include([2, 3], offset)
        assert.deepStrictEqual(words, ["start 0", "1 a", ...(offset === 3 ? ["2 b"] : []), `${offset} c`])
      }).pipe(Effect.ensuring(server.thaw)),
    long(60_000)
  )

  it.live(
    "a stream that is removed and made again is another epoch, for one that appends at once",
    () =>
      Effect.gen(function*() {
        const a = yield* processOf({ check: "200 millis" })
        const b = yield* processOf()
        const here = yield* a.history({ name: "removed", codec })
        const there = yield* b.history({ name: "removed", codec })
        const [first, second] = yield* Effect.forEach(["a", "b"], (message) => here.append(message))
        const reader = yield* collecting(History.follow(here, first))
        yield* eventually("b", () => reader.events.length === 1)
        yield* Effect.promise(() => jsm.streams.delete("holdfast_history_removed"))
        const position = yield* there.append("c")
        assert.strictEqual(position.offset, 1)
        assert.notStrictEqual(position.epoch, second!.epoch)
        yield* eventually("a gap", () => reader.events.length === 3)
        assert.deepStrictEqual(said(reader.events), ["2 b", "epoch ? -> 0", "1 c"])
        assert.deepStrictEqual(reader.events[2]!.position, position)
        // one that is not made again is made by the process that appends
        yield* Effect.promise(() => jsm.streams.delete("holdfast_history_removed"))
        const began = performance.now()
        const anew = yield* there.append("d")
        assert.isBelow(performance.now() - began, 1500)
        assert.strictEqual(anew.offset, 1)
        assert.notStrictEqual(anew.epoch, position.epoch)
      }),
    long(30_000)
  )

  it.live("a consumer that is removed is made again, and nothing was missed", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* processOf(), yield* processOf({ check: "200 millis" })]
      const here = yield* a.history({ name: "consumer", codec })
      const there = yield* b.history({ name: "consumer", codec })
      const reader = yield* collecting(History.follow(there, (yield* here.ends).newest))
      yield* here.append("a")
      yield* eventually("a", () => reader.events.length === 1)
      yield* Effect.promise(async () => {
        const stream = "holdfast_history_consumer"
        for await (const { name } of jsm.consumers.list(stream)) await jsm.consumers.delete(stream, name)
      })
      yield* here.append("b")
      yield* eventually("b", () => reader.events.length === 2)
      assert.deepStrictEqual(said(reader.events), ["1 a", "2 b"])
    }), long(30_000))

  it.live(
    "nothing is left on the server of a history that is closed, and its connection neither",
    () =>
      Effect.gen(function*() {
        const proxy = yield* cuttable(server.port)
        const process = Scope.makeUnsafe()
        const nats = yield* Scope.provide(processOf({ servers: `127.0.0.1:${proxy.port}` }), process)
        const consumers = (name: string) =>
          Effect.promise(async () => (await jsm.streams.info(`holdfast_history_${name}`)).state.consumer_count)
        yield* nats.history({ name: "stays", codec })
        yield* Effect.scoped(Effect.gen(function*() {
          const history = yield* nats.history({ name: "left", codec })
          yield* history.append("a")
          assert.strictEqual(yield* consumers("left"), 1)
        }))
        while ((yield* consumers("left")) > 0) yield* Effect.sleep("10 millis")
        assert.strictEqual(proxy.size(), 1)
        assert.strictEqual(yield* consumers("stays"), 1)
        yield* Scope.close(process, Exit.void)
        yield* eventually("no connection", () => proxy.size() === 0)
        while ((yield* consumers("stays")) > 0) yield* Effect.sleep("10 millis")
      }),
    long(30_000)
  )

  it.live("in a cluster the servers fail one after the other, and nothing is missing", () =>
    Effect.gen(function*() {
      const routes = [yield* Effect.promise(freePort), yield* Effect.promise(freePort), yield* Effect.promise(freePort)]
        .map((port) => `nats://127.0.0.1:${port}`)
      const servers = yield* Effect.forEach(routes, (route, i) =>
        natsServer("--cluster_name", "c", "-n", `s${i}`, "--cluster", route, "--routes", routes.join(",")))
      const options = {
        servers: servers.map(({ port }) =>
          `127.0.0.1:${port}`
        ),
        replicas: 3,
        timeout: "30 seconds"
      } as const
      const [a, b] = [yield* NatsHistory.make(options), yield* NatsHistory.make(options)]
      // until there is a leader
      const open = (nats: NatsHistory.Histories) => nats.history({ name: "clustered", codec })
      const here = yield* Effect.retry(open(a), { times: 30, schedule: Schedule.spaced("500 millis") })
      const there = yield* Effect.retry(open(b), { times: 30, schedule: Schedule.spaced("500 millis") })
      const reader = yield* collecting(History.follow(there, undefined))
      yield* eventually("a start", () => reader.events.length === 1)
      let appended = 0
      const append = Effect.suspend(() => here.append(`${++appended}`))
      for (const server of servers) {
        yield* Effect.forEach(numbers(1, 5), () => append)
        yield* server.kill
        yield* Effect.forEach(numbers(1, 5), () => append)
        yield* server.start
        yield* append
        yield* eventually("all", () => reader.events.length === appended + 1, 30_000)
        // it has what it missed before the next one fails
        yield* Effect.promise(() => isWhole(options.servers, "clustered")).pipe(
          Effect.repeat({ until: (is) => is, schedule: Schedule.spaced("50 millis") }),
          Effect.timeout("30 seconds")
        )
      }
      assert.deepStrictEqual(said(reader.events), ["start 0", ...numbers(1, 33).map((i) => `${i} ${i}`)])
    }), long(120_000))

  it.live("servers that could lose messages unseen are refused, and say what to do", () =>
    Effect.gen(function*() {
      const cluster = [
        "--cluster_name",
        "c",
        "--cluster",
        `nats://127.0.0.1:${yield* Effect.promise(freePort)}`,
        "-n",
        "one"
      ]
      const clustered = yield* natsServer(...cluster, "--routes", `nats://127.0.0.1:${yield* Effect.promise(freePort)}`)
      const servers = `127.0.0.1:${clustered.port}`
      const refusal = (options: NatsHistory.Options) =>
        Effect.flip(Effect.flatMap(
          NatsHistory.make({ servers, timeout: "1 second", ...options }),
          (nats) => nats.history({ name: "refused", codec })
        ))
      assert.include((yield* refusal({})).message, "`replicas: 3`")
      assert.include((yield* refusal({ replicas: 3, storage: "memory" })).message, "`storage: \"file\"`")
    }), long(30_000))

  it.live(
    "B100 a history that its user may not use is told so at once, and does not cut the connection of the others",
    () =>
      Effect.gen(function*() {
        const dir = yield* Effect.acquireRelease(
          Effect.promise(() => Fs.promises.mkdtemp(Path.join(Os.tmpdir(), "holdfast-nats-"))),
          (made) => Effect.promise(() => Fs.promises.rm(made, { recursive: true }))
        )
        const file = Path.join(dir, "nats.conf")
        const denied = ["holdfast.history.secret", "$JS.API.STREAM.INFO.holdfast_history_hidden"]
        const permissions = JSON.stringify({ publish: { allow: [">"], deny: denied } })
        Fs.writeFileSync(file, `authorization { users = [{ user: a, password: b, permissions: ${permissions} }] }`)
        const { port } = yield* natsServer("-c", file)
        const proxy = yield* cuttable(port)
        const process = yield* NatsHistory.make({
          servers: `nats://a:b@127.0.0.1:${proxy.port}`,
          timeout: "20 seconds",
          check: "50 millis"
        })
        const here = yield* process.history({ name: "whole", codec })
        const secret = yield* process.history({ name: "secret", codec })
        const reader = yield* collecting(History.follow(here, (yield* here.ends).newest))
        const before = proxy.dialled()
        const refusals = Effect.all([
          Effect.flip(secret.append("a")),
          Effect.flip(process.history({ name: "hidden", codec }))
        ])
        for (const { message } of yield* Effect.timeout(refusals, "10 seconds")) {
          assert.include(message, "Permissions Violation")
        }
        yield* here.append("a")
        yield* eventually("a", () => reader.events.length === 1)
        assert.strictEqual(proxy.dialled(), before)
      }),
    long(30_000)
  )

  it.live("a server that is not there, or refuses, is an error of the history", () =>
    Effect.gen(function*() {
      const gone = yield* NatsHistory.make({
        servers: `127.0.0.1:${yield* Effect.promise(freePort)}`,
        timeout: "300 millis"
      })
      assert.strictEqual((yield* Effect.flip(gone.history({ name: "nowhere", codec }))).reason, "unreachable")
      // three replicas, of one server
      const few = yield* processOf({ replicas: 3 })
      const error = yield* Effect.flip(few.history({ name: "few", codec }))
      assert.strictEqual(error.reason, "unreachable")
      assert.include(error.message, "replicas")
    }), long(30_000))

  it.live("messages of bytes come back as they were; those of another codec are errors", () =>
    Effect.gen(function*() {
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
      const [a, b] = [yield* processOf(), yield* processOf()]
      const here = yield* a.history({ name: "bytes", codec: Codec.lengthPrefix() })
      const { epoch } = yield* here.append(bytes)
      const late = yield* b.history({ name: "bytes", codec: Codec.lengthPrefix() })
      const replay = yield* late.since({ epoch, offset: 0 })
      assert.deepStrictEqual(replay._tag === "Missed" && Array.from(replay.messages[0]!.message), Array.from(bytes))
      const wrong = yield* b.history({ name: "bytes", codec: Codec.lines().pipe(Codec.json) })
      assert.strictEqual((yield* Effect.flip(wrong.since({ epoch, offset: 0 }))).reason, "data")
      assert.strictEqual((yield* Effect.flip(wrong.append(undefined))).reason, "data")
      // as large as the server takes
      const large = yield* a.history({ name: "large", codec: Codec.lengthPrefix(), bytes: 10_000_000 })
      assert.strictEqual((yield* large.append(new Uint8Array(1_048_576 - 256))).offset, 1)
      assert.strictEqual((yield* Effect.flip(large.append(new Uint8Array(1_048_577 - 256)))).reason, "size")
    }), long(30_000))
})
