/** Histories in a real Redis: `npm run test:long`. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { Codec, History } from "holdfast"
import { createClient } from "redis"
import { afterAll, beforeAll } from "vitest"
import { RedisHistory } from "../../src/redis/index.ts"
import { isLong, long } from "../support/often.ts"
import { type Daemon, installed, redisServer } from "./support/engines.ts"
import { table } from "./support/historyTable.ts"

const runs = isLong && installed("redis-server") !== undefined

describe.skipIf(!runs)("RedisHistory (in test:long, and where redis-server is installed)", () => {
  const scope = Scope.makeUnsafe()
  let server: Daemon
  const clientOf = () => createClient({ url: `redis://127.0.0.1:${server.port}` }).on("error", () => {})
  let admin: ReturnType<typeof clientOf>
  beforeAll(async () => {
    server = await Effect.runPromise(
      Scope.provide(redisServer("--appendonly", "yes", "--appendfsync", "always"), scope)
    )
    admin = clientOf()
    await admin.connect()
  })
  afterAll(async () => {
    admin.destroy()
    await Effect.runPromise(Scope.close(scope, Exit.void))
  })

  const codec = Codec.lines()
  // one of as many processes as a test wants
  const processOf = (options: Partial<RedisHistory.Options> = {}) =>
    RedisHistory.make({ url: `redis://127.0.0.1:${server.port}`, timeout: "2 seconds", ...options })

  const said = (events: ReadonlyArray<History.Event<string>>) =>
    events.map((event) => {
      const { offset } = event.position
      return event._tag === "Message" ? `${offset} ${event.message}` : `${event._tag} ${offset}`
    })

  const collecting = (stream: Stream.Stream<History.Event<string>, History.HistoryError>) =>
    Effect.gen(function*() {
      const events: Array<History.Event<string>> = []
      const reading = Stream.runForEach(stream, (event) => Effect.sync(() => events.push(event)))
      const fiber = yield* Effect.forkChild(reading, { startImmediately: true })
      return { events, fiber }
    })

  const until = (what: string, condition: () => boolean) =>
    Effect.gen(function*() {
      const deadline = performance.now() + 15_000
      while (!condition()) {
        if (performance.now() > deadline) return yield* Effect.die(new Error(what))
        yield* Effect.sleep("10 millis")
      }
    })

  const cutAll = Effect.promise(async () => {
    for (const { id, name } of await admin.clientList()) {
      if (name === "cut") await admin.clientKill({ filter: "ID", id })
    }
  })

  // 2,000 readers that come back to a process that has just started ask one by one
  const patient = Effect.suspend(() => processOf({ timeout: "10 seconds" }))
  table((name, bounds) => Effect.flatMap(patient, (process) => process.history({ name, codec, ...bounds })))

  it.live("what one process appends, another one follows and is asked for", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* processOf(), yield* processOf()]
      const here = yield* a.history({ name: "shared", codec })
      const there = yield* b.history({ name: "shared", codec })
      const reader = yield* collecting(History.follow(there, undefined))
      yield* until("a start", () => reader.events.length === 1)
      const positions = yield* Effect.forEach(["a", "b", "c"], (message) => here.append(message))
      yield* until("three messages", () => reader.events.length === 4)
      assert.deepStrictEqual(said(reader.events), ["Start 0", "1 a", "2 b", "3 c"])
      // a process that has come later
      const late = yield* (yield* processOf()).history({ name: "shared", codec })
      const replay = yield* late.since(positions[0]!)
      assert.deepStrictEqual(replay._tag === "Missed" && said(replay.messages), ["2 b", "3 c"])
      const page = yield* late.since({ ...positions[0]!, offset: 0 }, 2)
      assert.deepStrictEqual(page._tag === "Missed" && said(page.messages), ["1 a", "2 b"])
      assert.deepStrictEqual(yield* late.since(positions[2]!), {
        _tag: "Missed",
        messages: [],
        position: positions[2]!
      })
    }), long(30_000))

  it.live(
    "B100 what another client publishes there, and a codec that throws, cut no connection",
    () =>
      Effect.gen(function*() {
        const connections = Effect.promise(async () =>
          (await admin.clientList()).filter(({ name }) => name === "poisoned").map(({ id }) => id)
        )
        const decode: typeof codec.payload.decode = (frame) => {
          if (String(frame) === "boom") throw new Error("boom")
          return codec.payload.decode(frame)
        }
        const a = yield* processOf({ client: { name: "poisoned" } })
        const here = yield* a.history({ name: "poisoned", codec: { ...codec, payload: { ...codec.payload, decode } } })
        const start = (yield* here.ends).newest
        const before = yield* connections
        yield* Effect.promise(() => admin.publish("{holdfast}:history:poisoned:live", "no message of a history"))
        yield* Effect.forEach(["a", "boom", "b"], (message) => here.append(message))
        const error = yield* Effect.flip(here.since(start))
        assert.strictEqual(error.reason, "data")
        const replay = yield* here.since({ ...start, offset: 2 })
        assert.deepStrictEqual(replay._tag === "Missed" && said(replay.messages), ["3 b"])
        assert.deepStrictEqual(yield* connections, before)
      }),
    long(30_000)
  )

  it.live("it is bounded by count, bytes and age, and says what is gone", () =>
    Effect.gen(function*() {
      const a = yield* processOf()
      const b = yield* processOf()
      const bounds = { count: 200, bytes: 100, age: "400 millis" } as const
      const here = yield* a.history({ name: "bounded", codec, ...bounds })
      for (let i = 1; i <= 30; i++) yield* here.append("12345678")
      const there = yield* b.history({ name: "bounded", codec, ...bounds })
      const { newest, oldest } = yield* there.ends
      assert.deepStrictEqual([oldest.offset, newest.offset], [19, 30])
      const gone = { _tag: "Gone", why: "trimmed", position: oldest, missed: 19 }
      assert.deepStrictEqual(yield* there.since({ ...newest, offset: 0 }), gone as History.Gone)
      for (const position of [{ ...newest, offset: 31 }, { ...newest, offset: -1 }, undefined, 7]) {
        const answer = yield* there.since(position as History.Position)
        assert.strictEqual(answer._tag === "Gone" && answer.why, "unknown")
      }
      const other = yield* there.since({ epoch: "other", offset: 20 })
      assert.strictEqual(other._tag === "Gone" && other.why, "epoch")
      assert.strictEqual((yield* Effect.flip(here.append("1".repeat(100)))).reason, "size")
      yield* Effect.sleep("500 millis")
      assert.strictEqual((yield* there.ends).oldest.offset, 30)
      const counted = yield* a.history({ name: "counted", codec, count: 100 })
      yield* Effect.forEach(Array.from({ length: 1000 }, String), (i) => counted.append(i), { concurrency: 50 })
      assert.strictEqual((yield* counted.ends).oldest.offset, 900)
      assert.strictEqual(yield* Effect.promise(() => admin.xLen("{holdfast}:history:counted:messages")), 100)
    }), long(30_000))

  it.live("a connection that is cut misses nothing", () =>
    Effect.gen(function*() {
      const a = yield* processOf()
      const b = yield* processOf({ client: { name: "cut" } })
      const here = yield* a.history({ name: "cut", codec })
      const there = yield* b.history({ name: "cut", codec })
      const reader = yield* collecting(History.follow(there, (yield* here.ends).newest))
      for (let round = 1; round <= 5; round++) {
        yield* cutAll
        for (let i = 0; i < 20; i++) yield* here.append(`${round} ${i}`)
        // it is there again, and cut once more
        yield* until(`all messages of round ${round}`, () => reader.events.length >= 20 * round)
      }
      assert.deepStrictEqual(
        reader.events.map(({ position }) => position.offset),
        Array.from({ length: 100 }, (_, i) => i + 1)
      )
    }), long(60_000))

  it.live("B103 a history that is closed takes nothing from another one of its name", () =>
    Effect.gen(function*() {
      const process = yield* processOf()
      const here = yield* process.history({ name: "twice", codec })
      const reader = yield* collecting(History.follow(here, (yield* here.ends).newest))
      yield* Effect.scoped(process.history({ name: "twice", codec }))
      yield* here.append("a")
      // the check would find it after ten seconds
      yield* Effect.timeout(until("a", () => reader.events.length === 1), "3 seconds")
    }), long(30_000))

  it.live("B100 a history that Redis refuses does not cut the connection of the others", () =>
    Effect.gen(function*() {
      const client = { name: "cut" }
      const process = yield* processOf({ check: "50 millis", client })
      const here = yield* process.history({ name: "whole", codec })
      yield* process.history({ name: "refused", codec })
      yield* Effect.promise(() => admin.set("{holdfast}:history:refused:log", "no hash"))
      const ids = Effect.promise(async () =>
        (await admin.clientList()).filter(({ name }) => name === "cut").map(({ id }) => id)
      )
      const before = yield* ids
      yield* Effect.sleep("300 millis")
      assert.deepStrictEqual(yield* ids, before)
      // nor the next one, which is asked what this one does not answer
      yield* cutAll
      const reader = yield* collecting(History.follow(here, (yield* here.ends).newest))
      yield* here.append("a")
      yield* until("a", () => reader.events.length === 1)
      yield* Effect.promise(() => admin.del("{holdfast}:history:refused:log"))
    }), long(30_000))

  it.live("a message that was not told is found by the check", () =>
    Effect.gen(function*() {
      const a = yield* processOf()
      const b = yield* processOf({ check: "200 millis" })
      const here = yield* a.history({ name: "checked", codec })
      const there = yield* b.history({ name: "checked", codec })
      const reader = yield* collecting(History.follow(there, (yield* here.ends).newest))
      yield* here.append("a")
      yield* until("a", () => reader.events.length === 1)
      yield* Effect.promise(async () => {
        // as if the channel had lost it
        const at = "{holdfast}:history:checked:"
        await admin.xAdd(`${at}messages`, "2-0", { m: "tb", t: `${Date.now()}` })
        await admin.hSet(`${at}log`, "newest", "2")
      })
      yield* until("b", () => reader.events.length === 2)
      assert.deepStrictEqual(said(reader.events), ["1 a", "2 b"])
    }), long(30_000))

  it.live(
    "a server that was killed and comes back is another epoch; with its files, or empty",
    () =>
      Effect.gen(function*() {
        const a = yield* processOf()
        const b = yield* processOf()
        const here = yield* a.history({ name: "killed", codec })
        const there = yield* b.history({ name: "killed", codec })
        const position = yield* here.append("a")
        const reader = yield* collecting(History.follow(there, { ...position, offset: 0 }))
        yield* until("a", () => reader.events.length === 1)
        yield* server.kill
        const error = yield* Effect.flip(here.append("nowhere"))
        assert.strictEqual(error.reason, "unreachable")
        yield* server.start
        yield* until("a gap and what is kept", () => reader.events.length >= 3)
        assert.deepStrictEqual(said(reader.events), ["1 a", "Gone 0", "1 a"])
        assert.notStrictEqual(reader.events[2]!.position.epoch, position.epoch)
        const stale = yield* there.since(position)
        assert.strictEqual(stale._tag === "Gone" && stale.why, "epoch")
        assert.strictEqual((yield* here.append("b")).offset, 2)
        yield* until("b", () => reader.events.length >= 4)

        yield* Effect.promise(async () => {
          if (!admin.isReady) await new Promise((resolve) => admin.once("ready", resolve))
          await admin.flushAll()
        })
        assert.strictEqual((yield* here.append("c")).offset, 1)
        yield* until("another gap", () => reader.events.length >= 6)
        assert.deepStrictEqual(said(reader.events).slice(3), ["2 b", "Gone 0", "1 c"])
        yield* Fiber.interrupt(reader.fiber)
      }),
    long(60_000)
  )

  it.live("a lost stream is another epoch as well", () =>
    Effect.gen(function*() {
      const here = yield* (yield* processOf()).history({ name: "evicted", codec })
      const position = yield* here.append("a")
      yield* here.append("b")
      yield* Effect.promise(() => admin.del("{holdfast}:history:evicted:messages"))
      const late = yield* (yield* processOf()).history({ name: "evicted", codec })
      const answer = yield* late.since(position)
      assert.strictEqual(answer._tag === "Gone" && answer.why, "epoch")
    }), long(30_000))

  it.live(
    "messages of bytes come back as they were; those of another codec are errors",
    () =>
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
      }),
    long(30_000)
  )
})
