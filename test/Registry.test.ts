import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Logger, Option, Result, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, Registry } from "../src/index.ts"
import type { Policy } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"

type Line = Connection.Connection<string>

const lines = (policy?: Policy.Patch, more?: Partial<Connection.Options<string, string>>) =>
  Connection.make({ codec: Codec.lines(), policy: { pingJitter: 0, ...policy }, ...more })

const settle = Effect.forEach(Array.from({ length: 40 }), () => Effect.yieldNow, { discard: true })

/** Opens connections in scopes of their own, as a server does. */
const opener = (open: ReturnType<typeof lines> = lines()) =>
  Effect.gen(function*() {
    yield* TestClock.adjust(0)
    const peer = yield* TestSocket.make()
    const scope = yield* Scope.make()
    const connection = yield* Scope.provide(open(peer.socket), scope)
    return {
      peer,
      connection,
      add: (registry: Registry.Registry<string>, names?: Parameters<typeof registry.add>[1]) =>
        Scope.provide(registry.add(connection, names), scope),
      /** The connection ends first, and is removed after that. */
      end: Effect.andThen(connection.close, Scope.close(scope, Exit.void))
    }
  })

const ids = (connections: Iterable<Line>) => Array.from(connections, ({ id }) => id).sort((a, b) => a - b)

let nextFake = 1_000_000_000
const wire: Connection.Wire<string> = { encode: (message) => Result.succeed(message) }

/** A connection that costs next to nothing. */
const fake = (options?: Partial<Connection.Snapshot> & { readonly closeWith?: Line["closeWith"] }) => {
  const id = ++nextFake
  const reasons: Array<ConnectionError.Reason> = []
  const snapshot = { id, state: "open", age: 0, quietFor: 0, reason: undefined, ...options } as Connection.Snapshot
  const closeWith = (reason: ConnectionError.Reason) =>
    Effect.suspend(() => {
      reasons.push(reason)
      return options?.closeWith?.(reason) ?? Effect.void
    })
  const connection = {
    id,
    snapshot: Effect.sync(() => snapshot),
    closeWith,
    wire,
    offerFrame: () => Effect.succeed(true)
  } as unknown as Line
  return {
    id,
    connection,
    reasons,
    snapshot: snapshot as { -readonly [K in keyof Connection.Snapshot]: Connection.Snapshot[K] }
  }
}

const numbers = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

describe("looking up", () => {
  it.effect("by id, key and tag, until the scope closes", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const a = yield* opener()
      const b = yield* opener()
      yield* a.add(registry, { key: "ada", tags: ["room", "admins"] })
      yield* b.add(registry, { tags: ["room"] })
      assert.strictEqual(yield* registry.size, 2)
      assert.strictEqual(Option.getOrThrow(yield* registry.get(a.connection.id)), a.connection)
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), a.connection)
      assert.deepStrictEqual(ids(yield* registry.getTag("room")), [a.connection.id, b.connection.id])
      assert.deepStrictEqual(ids(yield* registry.getTag("admins")), [a.connection.id])
      assert.deepStrictEqual(yield* registry.getTag("nobody"), [])
      assert.isTrue(Option.isNone(yield* registry.getKey("nobody")))
      assert.deepStrictEqual((yield* registry.snapshots).map(({ id }) => id), [a.connection.id, b.connection.id])
      yield* a.end
      assert.isTrue(Option.isNone(yield* registry.get(a.connection.id)))
      assert.isTrue(Option.isNone(yield* registry.getKey("ada")))
      assert.deepStrictEqual(ids(yield* registry.getTag("room")), [b.connection.id])
      assert.deepStrictEqual(yield* registry.getTag("admins"), [])
    }))

  it.effect("tags are added and removed, also the same one at once, and nothing happens for one that is gone", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const a = yield* opener()
      yield* a.add(registry, { tags: ["x", "y"] })
      const { id } = a.connection
      yield* registry.tag(id, { add: ["z", "y"], remove: ["x", "y", "unknown"] })
      assert.deepStrictEqual(ids(yield* registry.getTag("x")), [])
      assert.deepStrictEqual(ids(yield* registry.getTag("y")), [id])
      assert.deepStrictEqual([...(yield* registry.entries)[0].tags].sort(), ["y", "z"])
      yield* a.end
      yield* registry.tag(id, { add: ["ghost"] })
      assert.deepStrictEqual(yield* registry.getTag("ghost"), [])
    }))

  it.effect("a connection that is added again has its new names only, and the first add no longer removes it", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const a = yield* opener()
      const first = yield* Scope.make()
      yield* Scope.provide(registry.add(a.connection, { key: "guest", tags: ["lobby"] }), first)
      yield* a.add(registry, { key: "ada", tags: ["room"] })
      yield* settle
      assert.strictEqual((yield* a.connection.snapshot).state, "open")
      assert.strictEqual(yield* registry.size, 1)
      assert.isTrue(Option.isNone(yield* registry.getKey("guest")))
      assert.deepStrictEqual(yield* registry.getTag("lobby"), [])
      // the same key again is not taken from anybody
      yield* a.add(registry, { key: "ada", tags: ["room"] })
      yield* settle
      assert.strictEqual((yield* a.connection.snapshot).state, "open")
      yield* Scope.close(first, Exit.void)
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), a.connection)
      assert.deepStrictEqual(yield* registry.history, [])
      yield* a.end
      assert.strictEqual(yield* registry.size, 0)
      assert.strictEqual((yield* registry.history).length, 1)
      assert.deepStrictEqual(yield* registry.broadcast("anybody?", { tag: "lobby" }), {
        delivered: 0,
        dropped: 0,
        failed: 0
      })
    }))
})

describe("duplicate keys", () => {
  it.effect("B97 takeover ends the older one as superseded, and its late cleanup removes nothing of the newer one", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const older = yield* opener()
      const newer = yield* opener()
      yield* older.add(registry, { key: "ada", tags: ["room"] })
      yield* newer.add(registry, { key: "ada", tags: ["room"] })
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), newer.connection)
      assert.deepStrictEqual(
        (yield* Effect.flip(older.connection.closed)).reason,
        new ConnectionError.Superseded({ key: "ada" })
      )
      yield* older.peer.released
      // F23: closed already, and only now removed
      assert.strictEqual(yield* registry.size, 2)
      yield* older.end
      assert.strictEqual(yield* registry.size, 1)
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), newer.connection)
      assert.deepStrictEqual(ids(yield* registry.getTag("room")), [newer.connection.id])
      assert.strictEqual((yield* newer.connection.snapshot).state, "open")
    }))

  it.effect("F23 when the newer one leaves first, the older one does not get its key back", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const older = yield* opener(lines({ drain: 5000 }))
      const newer = yield* opener()
      yield* older.add(registry, { key: "ada" })
      yield* older.peer.window(0)
      yield* older.connection.send("stuck")
      yield* newer.add(registry, { key: "ada" })
      yield* settle
      assert.strictEqual((yield* older.connection.snapshot).state, "closing")
      yield* newer.end
      assert.isTrue(Option.isNone(yield* registry.getKey("ada")))
      yield* TestClock.adjust(5000)
      yield* older.end
      assert.strictEqual(yield* registry.size, 0)
    }))

  it.effect("B97 takeover does not wait for an older one that is slow to close", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const older = fake({ closeWith: () => Effect.never })
      yield* registry.add(older.connection, { key: "ada" })
      const newer = yield* opener()
      yield* newer.add(registry, { key: "ada" })
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), newer.connection)
      yield* settle
      assert.deepStrictEqual(older.reasons, [new ConnectionError.Superseded({ key: "ada" })])
    }))

  it.effect("B97 reject keeps the older one, and fails the newer one with the key", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ duplicates: "reject" })
      const older = yield* opener()
      const newer = yield* opener()
      yield* older.add(registry, { key: "ada", tags: ["room"] })
      const error = yield* Effect.flip(newer.add(registry, { key: "ada", tags: ["room"] }))
      assert.deepStrictEqual(error.reason, new ConnectionError.DuplicateKey({ key: "ada" }))
      assert.isFalse(error.isRetryable)
      assert.strictEqual(yield* registry.size, 1)
      assert.deepStrictEqual(ids(yield* registry.getTag("room")), [older.connection.id])
      yield* newer.end
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), older.connection)
      assert.strictEqual((yield* older.connection.snapshot).state, "open")
      yield* older.end
      yield* (yield* opener()).add(registry, { key: "ada" })
    }))

  it.effect("B97 with reject, one that has ended or is closing does not keep its key from the next", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ duplicates: "reject" })
      const dead = yield* opener()
      yield* dead.add(registry, { key: "ada" })
      yield* dead.peer.reset
      yield* settle
      const next = yield* opener()
      yield* next.add(registry, { key: "ada" })
      yield* dead.end
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), next.connection)
      yield* next.peer.window(0)
      yield* next.connection.send("stuck")
      const closing = yield* Effect.forkChild(next.connection.close, { startImmediately: true })
      yield* settle
      const third = yield* opener()
      yield* third.add(registry, { key: "ada" })
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), third.connection)
      yield* TestClock.adjust(5000)
      yield* Fiber.join(closing)
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), third.connection)
    }))

  it.effect("with reject, of many at once one gets the key", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ duplicates: "reject" })
      const all = yield* Effect.forEach(Array.from({ length: 50 }), () =>
        Effect.gen(function*() {
          const { connection } = fake()
          return yield* Effect.forkChild(
            Effect.exit(Effect.andThen(Effect.yieldNow, registry.add(connection, { key: "k" })))
          )
        }))
      const exits = yield* Effect.forEach(all, Fiber.join)
      assert.strictEqual(exits.filter(Exit.isSuccess).length, 1)
      assert.strictEqual(yield* registry.size, 1)
    }))

  it.effect("F23 a connection that has ended is not registered and takes no key", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const alive = yield* opener()
      yield* alive.add(registry, { key: "ada" })
      const dead = yield* opener()
      yield* dead.peer.reset
      yield* settle
      yield* dead.add(registry, { key: "ada", tags: ["room"] })
      yield* settle
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), alive.connection)
      assert.strictEqual((yield* alive.connection.snapshot).state, "open")
      assert.deepStrictEqual(yield* registry.getTag("room"), [])
      yield* dead.end
      assert.strictEqual(yield* registry.size, 1)
    }))
})

describe("broadcast", () => {
  it.effect("encodes once for all connections of one make, and counts what was delivered", () =>
    Effect.gen(function*() {
      let encoded = 0
      const codec = Codec.lines().pipe(Codec.map<string, string, string>({
        decode: (text) => text,
        encode: (text) => {
          encoded++
          return text
        }
      }))
      const registry = yield* Registry.make<string>()
      const open = lines(undefined, { codec })
      const all = yield* Effect.forEach(Array.from({ length: 20 }), () => opener(open))
      for (const one of all) yield* one.add(registry, { tags: one === all[0] ? [] : ["room"] })
      encoded = 0
      assert.deepStrictEqual(yield* registry.broadcast("hi"), { delivered: 20, dropped: 0, failed: 0 })
      assert.strictEqual(encoded, 1)
      const except = all[1].connection.id
      assert.deepStrictEqual(
        yield* registry.broadcast("room only", { tag: "room", except }),
        { delivered: 18, dropped: 0, failed: 0 }
      )
      assert.strictEqual(encoded, 2)
      yield* settle
      assert.strictEqual(yield* all[0].peer.text, "hi\n")
      assert.strictEqual(yield* all[1].peer.text, "hi\n")
      for (const { peer } of all.slice(2)) assert.strictEqual(yield* peer.text, "hi\nroom only\n")
      assert.deepStrictEqual(yield* registry.broadcast("?", { tag: "nobody" }), { delivered: 0, dropped: 0, failed: 0 })
      assert.strictEqual(encoded, 2)
    }))

  it.effect("a message that cannot be encoded fails for each, and the connections live on", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const all = yield* Effect.forEach([1, 2], () => opener(lines({ maxFrame: 10 })))
      for (const one of all) yield* one.add(registry)
      assert.deepStrictEqual(
        yield* registry.broadcast("longer than ten bytes"),
        { delivered: 0, dropped: 0, failed: 2 }
      )
      assert.deepStrictEqual(yield* registry.broadcast("short"), { delivered: 2, dropped: 0, failed: 0 })
    }))

  for (const overflow of ["wait", "fail", "drop-newest", "drop-oldest", "close"] as const) {
    it.effect(`never waits for a full outbox under ${overflow}`, () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const full = yield* opener(lines({ outboxMessages: 2, overflow, drain: 0 }))
        const free = yield* opener()
        yield* full.add(registry)
        yield* free.add(registry)
        yield* full.peer.window(0)
        const results: Array<Registry.Broadcast> = []
        for (let i = 0; i < 4; i++) {
          results.push(yield* registry.broadcast(`${i}`))
          yield* settle
        }
        // one is being written, two wait
        const taken = overflow === "drop-oldest" ? 2 : 1
        assert.deepStrictEqual(results.map(({ delivered }) => delivered), [2, 2, 2, taken])
        assert.deepStrictEqual(results.map(({ dropped }) => dropped), [0, 0, 0, 2 - taken])
        assert.strictEqual(yield* free.peer.text, "0\n1\n2\n3\n")
        const { reason } = yield* full.connection.snapshot
        assert.strictEqual(reason?._tag, overflow === "close" ? "SlowConsumer" : undefined)
      }))
  }

  it.effect("counts a connection that has ended and is not removed yet as dropped", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const one = yield* opener()
      yield* one.add(registry)
      yield* one.connection.close
      assert.deepStrictEqual(yield* registry.broadcast("late"), { delivered: 0, dropped: 1, failed: 0 })
    }))
})

describe("history", () => {
  it.effect("keeps the last ones, oldest first, with their names and reasons", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ history: 3 })
      for (let i = 0; i < 20; i++) {
        const one = yield* opener()
        yield* one.add(registry, { key: `k${i}`, tags: [`t${i}`] })
        yield* one.connection.closeWith(new ConnectionError.Superseded({ key: `${i}` }))
        yield* one.end
        const kept = yield* registry.history
        const first = Math.max(0, i - 2)
        assert.deepStrictEqual(
          kept.map(({ key, snapshot, tags }) => [key, [...tags], snapshot.state, snapshot.reason?.message]),
          Array.from({ length: i - first + 1 }, (_, j) => [
            `k${first + j}`,
            [`t${first + j}`],
            "ended",
            `superseded by a newer connection for "${first + j}"`
          ])
        )
      }
    }))

  it.effect("0 keeps none", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ history: 0 })
      const one = yield* opener()
      yield* one.add(registry)
      yield* one.end
      assert.deepStrictEqual(yield* registry.history, [])
    }))
})

describe("sweeping", () => {
  it.effect("closes what the rule condemns, with Swept, and leaves the rest", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ expired: Registry.quietFor("90 seconds") })
      const quiet = yield* opener(lines({ silence: 0 }))
      const lively = yield* opener(lines({ silence: 0 }))
      yield* quiet.add(registry)
      yield* lively.add(registry)
      yield* TestClock.adjust("60 seconds")
      yield* lively.peer.send("here\n")
      yield* TestClock.adjust(29_999)
      assert.strictEqual((yield* quiet.connection.snapshot).state, "open")
      yield* TestClock.adjust(1)
      assert.deepStrictEqual((yield* Effect.flip(quiet.connection.closed)).reason, new ConnectionError.Swept({}))
      assert.strictEqual((yield* quiet.connection.snapshot).age, 90_000)
      assert.strictEqual((yield* lively.connection.snapshot).state, "open")
      yield* quiet.peer.released
    }))

  it.effect("F21 a limit of 90 s and a sweep every 60 s find a connection less than 150 s old, and none before 90 s", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({
        expired: Registry.olderThan("90 seconds"),
        every: Schedule.spaced("60 seconds")
      })
      const ages = new Map<number, number>()
      // opened at every second of one interval, just before and just after a sweep among them
      for (let second = 0; second < 60; second++) {
        const one = yield* opener(lines({ silence: 0 }))
        yield* one.add(registry)
        yield* Effect.forkChild(
          Effect.catch(one.connection.closed, () =>
            Effect.map(one.connection.snapshot, ({ age }) => {
              ages.set(second, age)
            }))
        )
        yield* TestClock.adjust("1 second")
      }
      yield* TestClock.adjust("5 minutes")
      // the sweeps are at 120 s and 180 s: who came at 30 s is just old enough for the first, who came at 31 s is not
      for (let second = 0; second < 60; second++) {
        assert.strictEqual(ages.get(second), (second <= 30 ? 120_000 : 180_000) - second * 1000)
      }
      assert.strictEqual(Math.min(...ages.values()), 90_000)
      assert.strictEqual(Math.max(...ages.values()), 149_000)
    }))

  it.effect("B98 one close that hangs holds up neither the others nor the next sweep", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ expired: Registry.olderThan("10 seconds") })
      const gate = yield* Deferred.make<void>()
      const hanging = fake({ age: 10_000, closeWith: () => Deferred.await(gate) })
      const others = [fake({ age: 10_000 }), fake({ age: 9_999 }), fake({ age: 20_000 })]
      yield* registry.add(hanging.connection)
      for (const other of others) yield* registry.add(other.connection)
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual([hanging, ...others].map(({ reasons }) => reasons.length), [1, 1, 0, 1])
      others[1].snapshot.age = 10_000
      // and nothing is held: the registry answers and changes
      assert.strictEqual(yield* registry.size, 4)
      const late = fake({ age: 30_000 })
      yield* registry.add(late.connection)
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(others[1].reasons.length, 1)
      assert.strictEqual(late.reasons.length, 1)
    }))

  it.effect("B98 a real connection whose peer takes nothing is swept within its drain limit, and once", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({
        expired: Registry.olderThan("10 seconds"),
        every: Schedule.spaced("1 second")
      })
      const stuck = yield* opener(lines({ silence: 0, writeStall: 0 }))
      yield* stuck.add(registry)
      yield* stuck.peer.window(0)
      yield* stuck.connection.send("never taken")
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.strictEqual((yield* stuck.connection.snapshot).state, "closing")
      // closing already: neither counted nor closed again
      assert.strictEqual(yield* registry.sweep, 0)
      yield* TestClock.adjust(4_999)
      assert.strictEqual((yield* stuck.connection.snapshot).state, "closing")
      yield* TestClock.adjust(1)
      yield* stuck.peer.released
      assert.strictEqual(yield* registry.sweep, 0)
    }))

  it.effect("a sweep by hand tells how many it closed; without a rule there is none", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ expired: ({ quietFor }) => quietFor > 5 })
      for (const quietFor of [1, 6, 7]) yield* registry.add(fake({ quietFor }).connection)
      assert.strictEqual(yield* registry.sweep, 2)
      const calm = yield* Registry.make<string>()
      yield* calm.add(fake({ quietFor: 100_000 }).connection)
      assert.strictEqual(yield* calm.sweep, 0)
    }))

  it.effect("a rule that throws does not end the sweeping", () =>
    Effect.gen(function*() {
      let broken = true
      const registry = yield* Registry.make<string>({
        expired: () => {
          if (broken) throw new Error("a bug")
          return true
        }
      })
      const one = fake()
      yield* registry.add(one.connection)
      yield* TestClock.adjust("30 seconds")
      broken = false
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(one.reasons.length, 1)
    }).pipe(Effect.provide(Logger.layer([]))))

  it.live("B99 the cost of a sweep grows with the number of connections and not faster", () =>
    Effect.gen(function*() {
      let looks = 0
      const registry = yield* Registry.make<string>({
        every: Schedule.spaced("1 day"),
        expired: (snapshot) => {
          looks++
          return snapshot.quietFor > 60_000
        }
      })
      const cpu = () => {
        const { system, user } = process.cpuUsage()
        return user + system
      }
      /** The best of many, in microseconds of this process, whatever else the machine does. */
      const costOf = Effect.fnUntraced(function*(connections: number) {
        for (let i = yield* registry.size; i < connections; i++) {
          yield* registry.add(fake().connection, { key: `k${i}` })
        }
        let best = Infinity
        for (let i = 0; i < 20; i++) {
          looks = 0
          const since = cpu()
          assert.strictEqual(yield* registry.sweep, 0)
          best = Math.min(best, cpu() - since)
          assert.strictEqual(looks, connections)
        }
        return best
      })
      yield* costOf(500)
      const small = yield* costOf(2_000)
      const large = yield* costOf(20_000)
      // ten times as many: 100 times the cost would be a square
      assert.isBelow(large / small, 50, `2,000: ${small} µs, 20,000: ${large} µs`)
    }), 120_000)
})

describe("model", () => {
  it.effect("random adds, removes, takeovers and tags agree with plain Maps", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 100; seed++) {
        const draw = numbers(seed)
        const duplicates = seed % 2 === 0 ? "takeover" : "reject"
        const registry = yield* Registry.make<string>({ duplicates, history: 5 })
        const live = new Map<number, { key: string | undefined; tags: Set<string>; scope: Scope.Closeable }>()
        const owner = new Map<string, number>()
        const ended: Array<number> = []
        const some = () => [...live.keys()][draw(live.size)]
        const tags = () => Array.from({ length: draw(3) }, () => `t${draw(4)}`)
        for (let step = 0; step < 60; step++) {
          const what = live.size === 0 ? 0 : draw(4)
          if (what <= 1) {
            // a new one, or an old one under a new name
            const again = live.size > 0 && draw(5) === 0 ? some() : undefined
            const connection = again === undefined
              ? fake().connection
              : Option.getOrThrow(yield* registry.get(again))
            const names = { key: draw(3) === 0 ? undefined : `k${draw(5)}`, tags: tags() }
            const scope = yield* Scope.make()
            const exit = yield* Effect.exit(Scope.provide(registry.add(connection, names), scope))
            const holder = names.key === undefined ? undefined : owner.get(names.key)
            if (duplicates === "reject" && holder !== undefined && holder !== connection.id) {
              assert.isTrue(Exit.isFailure(exit), `seed ${seed}`)
              continue
            }
            assert.isTrue(Exit.isSuccess(exit), `seed ${seed}`)
            const before = live.get(connection.id)
            if (before?.key !== undefined && owner.get(before.key) === connection.id) owner.delete(before.key)
            if (names.key !== undefined) owner.set(names.key, connection.id)
            live.set(connection.id, { key: names.key, tags: new Set(names.tags), scope })
          } else if (what === 2) {
            const id = some()
            const { key, scope } = live.get(id)!
            yield* Scope.close(scope, Exit.void)
            live.delete(id)
            if (key !== undefined && owner.get(key) === id) owner.delete(key)
            ended.push(id)
          } else {
            const id = some()
            const change = { add: tags(), remove: tags() }
            yield* registry.tag(id, change)
            const entry = live.get(id)!
            for (const tag of change.remove) entry.tags.delete(tag)
            for (const tag of change.add) entry.tags.add(tag)
          }
          assert.strictEqual(yield* registry.size, live.size, `seed ${seed}`)
          for (let k = 0; k < 5; k++) {
            const found = Option.map(yield* registry.getKey(`k${k}`), ({ id }) => id)
            assert.strictEqual(Option.getOrUndefined(found), owner.get(`k${k}`), `seed ${seed}`)
          }
          for (let t = 0; t < 4; t++) {
            const expected = [...live].filter(([, { tags }]) => tags.has(`t${t}`)).map(([id]) => id)
            assert.deepStrictEqual(ids(yield* registry.getTag(`t${t}`)), expected.sort((a, b) => a - b), `seed ${seed}`)
            const { delivered } = yield* registry.broadcast("x", { tag: `t${t}` })
            assert.strictEqual(delivered, expected.length)
          }
        }
        assert.deepStrictEqual((yield* registry.history).map(({ snapshot }) => snapshot.id), ended.slice(-5))
      }
    }), 120_000)
})
