import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Hash,
  HashSet,
  Layer,
  Logger,
  Option,
  Ref,
  Result,
  Schedule,
  Schema,
  Scope
} from "effect"
import { TestClock } from "effect/testing"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import { Codec, Connection, ConnectionError, Registry } from "../src/index.ts"
import type { Policy } from "../src/index.ts"
import { type Internals, TypeId } from "../src/internal/connection/handle/internals.ts"
import * as History from "../src/internal/registry/history.ts"
import * as Membership from "../src/internal/registry/membership.ts"
import * as Names from "../src/internal/registry/names.ts"
import * as Trie from "../src/internal/registry/trie.ts"
import { TestSocket } from "../src/testing/index.ts"
import { long, often } from "./support/often.ts"

v8.setFlagsFromString("--expose-gc")
const gc: () => void = vm.runInNewContext("gc")

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

interface FakeOptions extends Partial<Connection.Snapshot> {
  readonly closeWith?: Line["closeWith"]
  readonly offerNow?: Internals["offerNow"]
  readonly offerFrame?: Line["offerFrame"]
  readonly wire?: Line["wire"]
}

/** A connection that costs next to nothing. */
const fake = (options?: FakeOptions) => {
  const id = options?.id ?? ++nextFake
  const reasons: Array<ConnectionError.Reason> = []
  const snapshot = { id, state: "open", age: 0, quietFor: 0, reason: undefined, ...options } as {
    -readonly [K in keyof Connection.Snapshot]: Connection.Snapshot[K]
  }
  const closeWith = (reason: ConnectionError.Reason) =>
    Effect.suspend(() => {
      reasons.push(reason)
      return options?.closeWith?.(reason) ?? Effect.void
    })
  const watchers: Array<(id: number) => void> = []
  const internals = {
    get state() {
      return snapshot.state
    },
    overdue: 0,
    offerNow: options?.offerNow,
    look: () => ({ ...snapshot }),
    onEnded: (watcher: (id: number) => void) => {
      watchers.push(watcher)
    }
  }
  const connection = {
    id,
    snapshot: Effect.sync(() => ({ ...snapshot })),
    closeWith,
    wire: options?.wire ?? wire,
    offerFrame: options?.offerFrame ?? (() => Effect.succeed(true)),
    [TypeId]: internals
  } as unknown as Line
  return {
    id,
    connection,
    reasons,
    snapshot,
    internals,
    watchers,
    end: () => {
      snapshot.state = "ended"
      for (const watcher of watchers.splice(0)) watcher(id)
    }
  }
}

/** What is logged at the level of an error or a warning, and a logger that collects it. */
const logged = () => {
  const entries: Array<string> = []
  const logger = Logger.make(({ cause, logLevel, message }) => {
    if (logLevel !== "Error" && logLevel !== "Warn") return
    const texts = (Array.isArray(message) ? message : [message]).map(String)
    entries.push(
      [...texts, ...cause.reasons.map((reason) => String(Cause.squash(Cause.fromReasons([reason]))))].join(": ")
    )
  })
  return { entries, layer: Logger.layer([logger]) }
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
      yield* settle
      // F23, B147: out of it with its end, and not removed once more when its scope closes
      assert.strictEqual(yield* registry.size, 1)
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

  it.effect("B97 takeover and a sweep end connections also after the scope of the registry has closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const registry = yield* Scope.provide(
        Registry.make<string>({ expired: ({ age }) => age > 1000 }),
        scope
      )
      const older = yield* opener()
      const newer = yield* opener()
      yield* older.add(registry, { key: "ada" })
      yield* Scope.close(scope, Exit.void)
      yield* newer.add(registry, { key: "ada" })
      yield* settle
      assert.strictEqual((yield* older.connection.snapshot).reason?._tag, "Superseded")
      assert.strictEqual(yield* registry.size, 1)
      yield* TestClock.adjust(1001)
      assert.strictEqual(yield* registry.sweep, 1)
      yield* settle
      assert.strictEqual((yield* newer.connection.snapshot).reason?._tag, "Swept")
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

  it.effect("B147 does not count a connection that has ended, though its scope is open", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const one = yield* opener()
      yield* one.add(registry)
      yield* one.connection.close
      yield* settle
      assert.deepStrictEqual(yield* registry.broadcast("late"), { delivered: 0, dropped: 0, failed: 0 })
    }))

  it.effect("B105 goes on after a connection whose encoder throws, and logs it once", () => {
    const { entries, layer } = logged()
    const broken: Connection.Wire<string> = {
      encode: () => {
        throw new Error("a bug of the codec")
      }
    }
    return Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const got: Array<number> = []
      const all = [
        fake(),
        fake({ wire: broken }),
        fake({
          offerFrame: () => {
            throw new Error("a bug of a wrapper")
          }
        }),
        fake({ offerFrame: () => Effect.die(new Error("another one")) }),
        fake({ offerFrame: () => Effect.interrupt }),
        fake({
          offerNow: () => {
            throw new Error("a bug of ours")
          }
        }),
        fake({ wire: broken }),
        fake({
          offerFrame: () =>
            Effect.sync(() => {
              got.push(1)
              return true
            })
        }),
        fake({ offerNow: () => got.push(2) > 0 }),
        fake({ offerFrame: () => Effect.succeed(false) })
      ]
      for (const { connection } of all) yield* registry.add(connection)
      assert.deepStrictEqual(yield* registry.broadcast("hello"), { delivered: 3, dropped: 1, failed: 6 })
      assert.deepStrictEqual(got, [1, 2])
      assert.deepStrictEqual(entries, [
        `a broadcast failed for 6 connections, the first of them connection ${all[1].id}: Error: a bug of the codec`
      ])
    }).pipe(Effect.provide(layer))
  })

  it.effect("B105 a real codec that throws fails for its own connections", () =>
    Effect.gen(function*() {
      const codec = Codec.lines().pipe(Codec.map<string, string, string>({
        decode: (text) => text,
        encode: () => {
          throw new Error("a bug of the codec")
        }
      }))
      const registry = yield* Registry.make<string>()
      const broken = yield* opener(lines(undefined, { codec }))
      const sound = yield* opener()
      yield* broken.add(registry)
      yield* sound.add(registry)
      assert.deepStrictEqual(yield* registry.broadcast("hello"), { delivered: 1, dropped: 0, failed: 1 })
      yield* settle
      assert.strictEqual(yield* sound.peer.text, "hello\n")
    }))

  it.effect("goes to those that were there when it began, whatever it changes", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const scope = yield* Scope.make()
      const late = fake()
      const last = fake()
      const first = fake({
        offerFrame: () =>
          Effect.gen(function*() {
            yield* Effect.orDie(Scope.provide(registry.add(late.connection), scope))
            last.end()
            return true
          })
      })
      yield* registry.add(first.connection)
      yield* registry.add(last.connection)
      assert.deepStrictEqual(yield* registry.broadcast("hello"), { delivered: 2, dropped: 0, failed: 0 })
      assert.deepStrictEqual((yield* registry.entries).map(({ connection }) => connection.id), [first.id, late.id])
      yield* Scope.close(scope, Exit.void)
    }))
})

describe("the end of a connection", () => {
  it.effect("B147 takes it out at once, and into the history once, while its scope is open", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const scope = yield* Scope.make()
      const one = fake()
      yield* Scope.provide(registry.add(one.connection, { key: "ada", tags: ["room"] }), scope)
      one.snapshot.age = 1234
      one.end()
      assert.strictEqual(yield* registry.size, 0)
      assert.isTrue(Option.isNone(yield* registry.get(one.id)))
      assert.isTrue(Option.isNone(yield* registry.getKey("ada")))
      assert.deepStrictEqual(yield* registry.getTag("room"), [])
      assert.deepStrictEqual(yield* registry.entries, [])
      assert.deepStrictEqual(yield* registry.snapshots, [])
      assert.deepStrictEqual(yield* registry.broadcast("late"), { delivered: 0, dropped: 0, failed: 0 })
      const expected = [{ key: "ada", tags: new Set(["room"]), snapshot: { ...one.snapshot } }]
      assert.deepStrictEqual(yield* registry.history, expected)
      yield* registry.tag(one.id, { add: ["ghost"] })
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* registry.history, expected)
      assert.strictEqual(yield* registry.overlooked, 0)
    }))

  it.effect("B147 a real one, reset by its peer, leaves its key to the next one under reject", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ duplicates: "reject" })
      const one = yield* opener()
      yield* one.add(registry, { key: "ada" })
      yield* one.peer.reset
      yield* settle
      assert.strictEqual(yield* registry.size, 0)
      assert.deepStrictEqual((yield* registry.history).map(({ snapshot }) => snapshot.reason?._tag), ["Reset"])
      const next = yield* opener()
      yield* next.add(registry, { key: "ada" })
      yield* one.end
      assert.strictEqual(Option.getOrThrow(yield* registry.getKey("ada")), next.connection)
      assert.strictEqual((yield* registry.history).length, 1)
    }))

  it.effect("B147 a wrapped connection leaves with the one inside", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const one = yield* opener()
      yield* registry.add(Connection.wrap(one.connection, { send: () => Effect.void }), { key: "ada" })
      yield* one.connection.close
      yield* settle
      assert.strictEqual(yield* registry.size, 0)
      assert.strictEqual((yield* registry.history).length, 1)
    }))

  it.effect("B147 added again and again, a connection is asked for its end once", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const one = fake()
      for (let i = 0; i < 100; i++) {
        yield* Effect.scoped(registry.add(one.connection, { key: `${i}` }))
        yield* Effect.scoped(Effect.andThen(registry.add(one.connection), registry.add(one.connection)))
      }
      assert.strictEqual(one.watchers.length, 1)
      assert.strictEqual((yield* registry.history).length, 200)
      yield* registry.add(one.connection, { key: "last" })
      one.end()
      assert.strictEqual(yield* registry.size, 0)
      assert.strictEqual((yield* registry.history).at(-1)?.key, "last")
      assert.strictEqual((yield* registry.history).length, 201)
    }))

  it.effect("B147 the end of one that was registered once is no news, and nothing of it is left", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const one = fake()
      yield* Effect.scoped(registry.add(one.connection))
      one.end()
      assert.strictEqual((yield* registry.history).length, 1)
      const home = yield* Membership.makeHome<Line, void>("takeover", 10, 0)
      const other = fake()
      yield* Effect.scoped(Membership.add(home, other.connection, {}, undefined))
      assert.strictEqual(HashSet.size(Ref.getUnsafe(home.ref).watched), 1)
      other.end()
      assert.strictEqual(HashSet.size(Ref.getUnsafe(home.ref).watched), 0)
    }))

  it.effect("a wrapper whose snapshot suspends, or throws, holds up nothing: the last look is at the connection itself", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const stuck = fake()
      const broken = fake()
      yield* registry.add(Object.assign({}, stuck.connection, { snapshot: Effect.never }))
      yield* registry.add(Object.assign({}, broken.connection, { snapshot: Effect.die(new Error("a bug")) }))
      stuck.end()
      broken.end()
      assert.strictEqual(yield* registry.size, 0)
      assert.deepStrictEqual((yield* registry.history).map(({ snapshot }) => snapshot.id), [stuck.id, broken.id])
    }))
})

describe("one immutable state", () => {
  it.effect("what was read before a change never changes under its reader", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const fakes = Array.from({ length: 100 }, () => fake())
      for (const { connection } of fakes) {
        yield* registry.add(connection, { key: `k${connection.id}`, tags: ["a", "b"] })
      }
      const entries = yield* registry.entries
      assert.strictEqual(yield* registry.entries, entries, "the same array for the same state")
      const room = yield* registry.getTag("a")
      const copy = entries.map(({ connection, key, tags }) => ({ id: connection.id, key, tags: [...tags] }))
      for (const one of fakes.slice(50)) one.end()
      for (const { connection } of fakes.slice(0, 50)) {
        yield* registry.tag(connection.id, { remove: ["a"], add: ["c"] })
        yield* registry.add(connection, { key: `k${connection.id}` })
      }
      for (let i = 0; i < 50; i++) yield* registry.add(fake().connection, { tags: ["a"] })
      assert.deepStrictEqual(
        entries.map(({ connection, key, tags }) => ({ id: connection.id, key, tags: [...tags] })),
        copy
      )
      assert.strictEqual(room.length, 100)
      assert.strictEqual((yield* registry.entries).length, 100)
      assert.strictEqual((yield* registry.getTag("a")).length, 50)
    }))

  it.effect("everything is in the order of registration, whatever the ids are", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const order = [70_000, 5, 1_000_000, 4, 33, 32]
      const fakes = order.map((id) => fake({ id }))
      for (const { connection } of fakes) yield* registry.add(connection, { tags: ["room"] })
      const orders = Effect.gen(function*() {
        const entries = (yield* registry.entries).map(({ connection }) => connection.id)
        assert.deepStrictEqual((yield* registry.getTag("room")).map(({ id }) => id), entries)
        assert.deepStrictEqual((yield* registry.snapshots).map(({ id }) => id), entries)
        return entries
      })
      assert.deepStrictEqual(yield* orders, order)
      // other tags change no place; another registration does
      yield* registry.tag(5, { remove: ["room"] })
      yield* registry.tag(5, { add: ["room", "more"] })
      assert.deepStrictEqual(yield* orders, order)
      yield* registry.add(fakes[1].connection, { tags: ["room"] })
      fakes[2].end()
      assert.deepStrictEqual(yield* orders, [70_000, 4, 33, 32, 5])
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

  it.effect("what it has forgotten takes no memory: it can be collected", () =>
    Effect.gen(function*() {
      const keep = 3
      const registry = yield* Registry.make<string>({ history: keep })
      const pass = Effect.gen(function*() {
        const one = yield* opener()
        yield* one.add(registry, { tags: ["all"] })
        yield* one.end
      })
      yield* pass
      const first = yield* Effect.map(registry.history, (history) => new WeakRef(history[0]!))
      assert.isDefined(first.deref())
      // it is cut when it is twice as long as what is kept
      for (let i = 0; i < 2 * keep; i++) yield* pass
      for (let i = 0; i < 20 && first.deref() !== undefined; i++) {
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        gc()
      }
      assert.isUndefined(first.deref())
      assert.strictEqual((yield* registry.history).length, keep)
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
  it.effect("options that make no sense are refused by name", () =>
    Effect.gen(function*() {
      const mistakes: ReadonlyArray<readonly [string, Registry.Options]> = [
        ["history", { history: -1 }],
        ["history", { history: Number.NaN }],
        ["changes", { changes: Number.NaN }],
        ["duplicates", { duplicates: "replace" as "reject" }]
      ]
      for (const [name, options] of mistakes) {
        const exit = yield* Effect.exit(Registry.make(options))
        assert.match(String(Exit.isFailure(exit) ? exit.cause : ""), new RegExp(`RangeError: ${name} must be`))
      }
    }))

  it("B34 a rule of no time is refused by name: it would close every connection", () => {
    for (const none of [Number.NaN, -1, "soon" as "1 second"]) {
      assert.throws(() => Registry.olderThan(none), RangeError, "olderThan")
      assert.throws(() => Registry.quietFor(none), RangeError, "quietFor")
    }
  })

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

  it.effect("is on by default, every 30 seconds: B101 finds a connection past its own policy in two looks", () => {
    const { entries, layer } = logged()
    return Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const gate = yield* Deferred.make<void>()
      const stuck = fake({ closeWith: () => Deferred.await(gate) })
      const other = fake()
      const recovered = fake()
      for (const { connection } of [stuck, other, recovered]) {
        yield* registry.add(connection, { key: `${connection.id}` })
      }
      stuck.internals.overdue = 5
      other.internals.overdue = 10_000
      recovered.internals.overdue = 7
      yield* TestClock.adjust(30_000)
      recovered.internals.overdue = 0
      yield* TestClock.adjust(29_999)
      assert.deepStrictEqual([stuck.reasons, other.reasons, yield* registry.overlooked], [[], [], 0])
      yield* TestClock.adjust(1)
      // B98: the first one hangs
      assert.deepStrictEqual([stuck.reasons, other.reasons], [
        [new ConnectionError.Swept({})],
        [new ConnectionError.Swept({})]
      ])
      assert.strictEqual(yield* registry.overlooked, 2)
      const text = (id: number, millis: number) =>
        `connection ${id} has outlived its policy by ${millis} ms, and nothing of its own ends it: the sweep closes it`
      assert.deepStrictEqual(entries, [text(stuck.id, 5), text(other.id, 10_000)])
      // it ends, and a look comes before its transport is released: no news
      other.snapshot.state = "ended"
      yield* TestClock.adjust(30_000)
      other.end()
      assert.strictEqual(yield* registry.overlooked, 2)
      // a first look again, and the ones that are closing are neither closed nor counted again
      recovered.internals.overdue = 7
      stuck.snapshot.state = "closing"
      yield* TestClock.adjust(30_000)
      assert.deepStrictEqual(recovered.reasons, [])
      yield* TestClock.adjust(30_000)
      assert.strictEqual(recovered.reasons.length, 1)
      assert.strictEqual(stuck.reasons.length, 1)
      assert.strictEqual(yield* registry.overlooked, 3)
      assert.strictEqual(entries.length, 3)
    }).pipe(Effect.provide(layer))
  })

  it.effect("a connection that is past its own policy at one look, and in the middle of its end at the next, is no news", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const one = fake()
      yield* registry.add(one.connection)
      one.internals.overdue = 1
      yield* TestClock.adjust(30_000)
      one.snapshot.state = "ended"
      yield* TestClock.adjust(30_000)
      one.end()
      yield* TestClock.adjust(60_000)
      assert.strictEqual(yield* registry.overlooked, 0)
      assert.strictEqual((yield* registry.history).length, 1)
    }))

  it.effect("a connection that is past its own policy and condemned by the rule is closed once", () => {
    const { layer } = logged()
    return Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ expired: Registry.olderThan("1 hour") })
      const one = fake()
      yield* registry.add(one.connection)
      one.internals.overdue = 1
      yield* TestClock.adjust(30_000)
      one.snapshot.age = 3_600_000
      yield* TestClock.adjust(29_999)
      assert.strictEqual(yield* registry.sweep, 1)
      assert.strictEqual(yield* registry.overlooked, 1)
      yield* settle
      assert.strictEqual(one.reasons.length, 1)
    }).pipe(Effect.provide(layer))
  })

  it.effect("the two looks are a second apart, however often it sweeps", () => {
    const { layer } = logged()
    return Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ every: Schedule.spaced("300 millis") })
      const one = fake()
      yield* registry.add(one.connection)
      one.internals.overdue = 1
      // seen at 300, and from then on at 600, 900, 1200 and 1500
      yield* TestClock.adjust(1499)
      assert.strictEqual(one.reasons.length, 0)
      assert.strictEqual(yield* registry.sweep, 1)
      yield* TestClock.adjust(1)
      assert.strictEqual(one.reasons.length, 1)
    }).pipe(Effect.provide(layer))
  })

  it.effect("a connection that has ended and has not told the registry is removed, logged and counted, once", () => {
    const { entries, layer } = logged()
    return Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const scope = yield* Scope.make()
      const one = fake()
      yield* Scope.provide(registry.add(one.connection, { key: "ada", tags: ["room"] }), scope)
      one.snapshot.state = "ended"
      // a first look may come between the end and the release of the transport
      yield* TestClock.adjust(30_000)
      assert.strictEqual(yield* registry.overlooked, 0)
      yield* TestClock.adjust(30_000)
      assert.strictEqual(yield* registry.size, 0)
      assert.isTrue(Option.isNone(yield* registry.getKey("ada")))
      assert.strictEqual(yield* registry.overlooked, 1)
      assert.deepStrictEqual(entries, [`connection ${one.id} has ended and was still registered: the sweep removes it`])
      assert.deepStrictEqual((yield* registry.history).map(({ key }) => key), ["ada"])
      one.end()
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust(60_000)
      assert.strictEqual((yield* registry.history).length, 1)
      assert.strictEqual(yield* registry.overlooked, 1)
      assert.deepStrictEqual(one.reasons, [])
    }).pipe(Effect.provide(layer))
  })

  it.effect("a rule that throws spares only what it throws for, and is logged once until it has worked", () => {
    const { entries, layer } = logged()
    return Effect.gen(function*() {
      const broken = new Set<number>()
      const registry = yield* Registry.make<string>({
        expired: ({ id }) => {
          if (broken.has(id)) throw new Error("a bug")
          return true
        }
      })
      const bad = fake()
      const good = fake()
      broken.add(bad.id)
      yield* registry.add(bad.connection)
      yield* registry.add(good.connection)
      yield* TestClock.adjust(30_000)
      assert.deepStrictEqual([bad.reasons.length, good.reasons.length], [0, 1])
      yield* TestClock.adjust(60_000)
      const text = "the rule `expired` of a registry throws: those connections are not swept: Error: a bug"
      assert.deepStrictEqual(entries, [text])
      broken.clear()
      yield* TestClock.adjust(30_000)
      assert.strictEqual(bad.reasons.length, 1)
      broken.add(bad.id)
      yield* TestClock.adjust(60_000)
      assert.deepStrictEqual(entries, [text, text])
    }).pipe(Effect.provide(layer))
  })

  /** When sweeps look at a connection, in milliseconds, for the first five minutes. */
  const sweepsUnder = (every: Schedule.Schedule<unknown, void, unknown>) =>
    Effect.gen(function*() {
      const at: Array<number> = []
      const clock = yield* TestClock.testClockWith(Effect.succeed)
      const registry = yield* Registry.make<string>({
        every,
        expired: () => {
          at.push(clock.currentTimeMillisUnsafe())
          return false
        }
      })
      yield* registry.add(fake().connection)
      yield* TestClock.adjust("150 seconds")
      return at
    })

  const often = Schedule.spaced("10 seconds")
  const thrown = new Error("a bug of a schedule")
  const schedules: Record<string, readonly [Schedule.Schedule<unknown, void, unknown>, ReadonlyArray<number>, string]> =
    {
      "ends": [
        Schedule.upTo(often, { times: 2 }),
        [10_000, 20_000, 50_000, 80_000, 110_000, 140_000],
        "the schedule of a registry's sweep has ended: the default goes on"
      ],
      "fails": [
        Schedule.modifyDelay(often, ({ attempt }) => attempt < 3 ? Effect.succeed("10 seconds") : Effect.fail("no")),
        [10_000, 20_000, 50_000, 80_000, 110_000, 140_000],
        "the schedule of a registry's sweep failed: the default goes on: no"
      ],
      "throws": [
        Schedule.modifyDelay(often, () => {
          throw thrown
        }),
        [30_000, 60_000, 90_000, 120_000, 150_000],
        "the schedule of a registry's sweep failed: the default goes on: Error: a bug of a schedule"
      ]
    }
  for (const [what, [every, expected, line]] of Object.entries(schedules)) {
    it.effect(`B102 a schedule that ${what}: the default goes on, and one line says so`, () => {
      const { entries, layer } = logged()
      return Effect.gen(function*() {
        assert.deepStrictEqual(yield* sweepsUnder(every), expected)
        assert.deepStrictEqual(entries, [line])
      }).pipe(Effect.provide(layer))
    })
  }

  it.effect("a schedule is asked again after each sweep, and one without a delay sweeps each millisecond", () =>
    Effect.gen(function*() {
      const growing = Schedule.exponential("10 seconds")
      assert.deepStrictEqual(yield* sweepsUnder(growing), [10_000, 30_000, 70_000, 150_000])
      const at = yield* Effect.scoped(Effect.gen(function*() {
        let sweeps = 0
        const registry = yield* Registry.make<string>({
          every: Schedule.forever,
          expired: () => {
            sweeps++
            return false
          }
        })
        yield* registry.add(fake().connection)
        yield* TestClock.adjust(10)
        return sweeps
      }))
      assert.strictEqual(at, 10)
    }))

  it.effect("B101 the sweeping fiber is killed: it starts again a second later, and one line says so", () => {
    const { entries, layer } = logged()
    return Effect.gen(function*() {
      const at: Array<number> = []
      const clock = yield* TestClock.testClockWith(Effect.succeed)
      const registry = yield* Registry.make<string>({
        expired: () => {
          at.push(clock.currentTimeMillisUnsafe())
          if (at.length === 2) Fiber.getCurrent()!.interruptUnsafe()
          return false
        }
      })
      yield* registry.add(fake().connection)
      yield* TestClock.adjust("150 seconds")
      assert.deepStrictEqual(at, [30_000, 60_000, 91_000, 121_000])
      assert.strictEqual(entries.length, 1)
      assert.match(entries[0], /^the sweep of a registry ended and is restarted/)
    }).pipe(Effect.provide(layer))
  })

  it.effect("ends with the scope of the registry, without a word", () => {
    const { entries, layer } = logged()
    return Effect.gen(function*() {
      let looks = 0
      const scope = yield* Scope.make()
      const hanging = fake({ age: 10, closeWith: () => Effect.never })
      const registry = yield* Scope.provide(
        Registry.make<string>({
          expired: () => {
            looks++
            return true
          }
        }),
        scope
      )
      yield* registry.add(hanging.connection)
      yield* TestClock.adjust(30_000)
      assert.strictEqual(looks, 1)
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(looks, 1)
      // it can still be read
      assert.strictEqual(yield* registry.size, 1)
      hanging.end()
      assert.strictEqual(yield* registry.size, 0)
      assert.deepStrictEqual(entries, [])
    }).pipe(Effect.provide(layer))
  })

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

describe("layer", () => {
  it.effect("services share the registry, which ends with the layer", () => {
    class Clients extends Context.Service<Clients, Registry.Registry<string>>()("test/Clients") {}
    class Size extends Context.Service<Size, Effect.Effect<number>>()("test/Size") {}
    let sweeps = 0
    const clients = Registry.layer(Clients, {
      expired: () => {
        sweeps++
        return false
      }
    })
    const size = Layer.effect(Size, Effect.map(Clients, (registry) => registry.size))
    return Effect.gen(function*() {
      yield* Effect.gen(function*() {
        yield* (yield* Clients).add(fake().connection)
        assert.strictEqual(yield* yield* Size, 1)
        yield* TestClock.adjust(30_000)
      }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(size, clients)))
      assert.strictEqual(sweeps, 1)
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(sweeps, 1)
    })
  })
})

describe("the maps below", () => {
  interface Item {
    readonly number: number
    readonly text: string
  }
  const items = Trie.keyedBy(({ number }: Item) => number)

  /** Every node of a trie. */
  const nodesOf = (trie: Trie.Trie<Item>): ReadonlySet<object> => {
    const found = new Set<object>()
    const visit = (node: unknown): void => {
      if (typeof node !== "object" || node === null || !("parts" in node)) return
      found.add(node)
      for (const part of node.parts as ReadonlyArray<unknown>) visit(part)
    }
    visit(trie)
    return found
  }

  // neighbours, those of other nodes, and those beyond 32 bits
  const scales = [1, 31, 32, 1024, 100_003, 2 ** 31, 2 ** 45]
  const steps = Schema.Array(Schema.Struct({
    remove: Schema.Boolean,
    scale: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: scales.length - 1 })),
    number: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 }))
  })).check(Schema.isMaxLength(150))

  it.effect.prop(
    "a trie is a sorted Map, and every older one stays as it was",
    [steps],
    ([steps]) =>
      Effect.sync(() => {
        const model = new Map<number, Item>()
        const versions: Array<readonly [Trie.Trie<Item>, ReadonlyArray<Item>]> = []
        let trie: Trie.Trie<Item> = undefined
        steps.forEach(({ number, remove, scale }, i) => {
          const key = number * scales[scale]
          if (remove) {
            const before = trie
            trie = items.remove(trie, key)
            if (!model.delete(key)) assert.strictEqual(trie, before)
          } else {
            const item = { number: key, text: `${i}` }
            trie = items.set(trie, item)
            model.set(key, item)
          }
          assert.strictEqual(items.get(trie, key), model.get(key))
          assert.isUndefined(items.get(trie, key + 2 ** 51))
          versions.push([trie, [...model.values()].toSorted((a, b) => a.number - b.number)])
        })
        for (const [trie, expected] of versions) {
          assert.deepStrictEqual(Trie.toArray(trie), expected)
          assert.deepStrictEqual([...Trie.values(trie)], expected)
          for (const item of expected) assert.strictEqual(items.get(trie, item.number), item)
          for (const node of nodesOf(trie)) assert.isAtLeast((node as { parts: Array<unknown> }).parts.length, 2)
        }
      }),
    { arbitrary: { runs: 300 } }
  )

  const seed = 12345
  /** Names of one hash, found among many. */
  const colliding = (): ReadonlyArray<string> => {
    const byHash = new Map<number, string>()
    const found: Array<string> = []
    for (let i = 0; found.length < 6; i++) {
      const name = `room ${i}`
      const other = byHash.get(Names.hashOf(seed, name))
      if (other !== undefined) found.push(other, name)
      byHash.set(Names.hashOf(seed, name), name)
    }
    return found
  }
  const collisions = colliding()
  const names = Schema.Array(Schema.Struct({
    remove: Schema.Boolean,
    name: Schema.Literals(["", "a", "ab", "b", "x".repeat(1000), ...collisions])
  })).check(Schema.isMaxLength(60))

  it.effect.prop("names are a Map, also those of one hash", [names], ([steps]) =>
    Effect.sync(() => {
      const model = new Map<string, number>()
      const versions: Array<readonly [Names.NameMap<number>, ReadonlyMap<string, number>]> = []
      let map: Names.NameMap<number> = Names.empty(seed)
      steps.forEach(({ name, remove }, i) => {
        map = remove ? Names.remove(map, name) : Names.set(map, name, i)
        if (remove) model.delete(name)
        else model.set(name, i)
        versions.push([map, new Map(model)])
      })
      for (const [map, model] of versions) {
        for (const { name } of steps) assert.strictEqual(Names.get(map, name), model.get(name))
      }
      for (const { name } of steps) map = Names.remove(map, name)
      assert.isUndefined(map.root)
    }), { arbitrary: { runs: 300 } })

  it("peers cannot choose names of one hash: those of effect/Hash and those of another seed spread", () => {
    const starts = ["ppa", "p2c", "2ra", "20c"]
    const ends = ["foj", "f1t", "9ou", "91k"]
    const names = starts.flatMap((a) => starts.flatMap((b) => ends.map((c) => a + b + c)))
    assert.strictEqual(new Set(names.map(Hash.string)).size, 1)
    assert.isAtLeast(new Set(names.map((name) => Names.hashOf(seed, name))).size, names.length - 2)
    for (let i = 0; i < collisions.length; i += 2) {
      assert.strictEqual(Names.hashOf(seed, collisions[i]), Names.hashOf(seed, collisions[i + 1]))
      assert.notStrictEqual(Names.hashOf(seed + 1, collisions[i]), Names.hashOf(seed + 1, collisions[i + 1]))
    }
  })

  it("a history keeps the last ones in at most twice the room", () => {
    for (const keep of [0, 1, 2, 7]) {
      let history: History.History<number> = History.empty
      for (let i = 0; i < 50; i++) {
        const before = [history, History.lastOf(history, keep)] as const
        history = History.append(history, i, keep)
        assert.deepStrictEqual(
          History.lastOf(history, keep),
          Array.from({ length: Math.min(keep, i + 1) }, (_, j) => i + 1 - Math.min(keep, i + 1) + j)
        )
        assert.deepStrictEqual(History.lastOf(before[0], keep), before[1])
        assert.isAtMost(history.length, Math.max(0, keep * 2 - 1))
      }
    }
  })

  it("100,000 numbers in a row take one node for 31, and a change replaces five at most", () => {
    const first = 10_000_000
    let trie: Trie.Trie<Item> = undefined
    for (let i = 0; i < 100_000; i++) trie = items.set(trie, { number: first + i, text: "" })
    const before = nodesOf(trie)
    assert.isAtMost(before.size, 100_000 / 31 + 5)
    const fresh = (changed: Trie.Trie<Item>) => [...nodesOf(changed)].filter((node) => !before.has(node)).length
    for (const at of [0, 1, 31, 32, 50_000, 99_999]) {
      assert.isAtMost(fresh(items.set(trie, { number: first + at, text: "other" })), 5)
      assert.isAtMost(fresh(items.remove(trie, first + at)), 5)
    }
    assert.isAtMost(fresh(items.set(trie, { number: first + 100_000, text: "" })), 5)
    // one that stands alone has no node
    assert.strictEqual(nodesOf(items.set(undefined, { number: 5, text: "" })).size, 0)
    let sparse: Trie.Trie<Item> = undefined
    for (let i = 0; i < 100; i++) sparse = items.set(sparse, { number: first + i * 1000, text: "" })
    assert.isAtMost(nodesOf(sparse).size, 10)
  })

  it.live(
    `with ${
      often(20_000, 100_000)
    } entries, adding and removing one takes microseconds, and reading all of them milliseconds`,
    () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>({ every: Schedule.spaced("1 day") })
        const add = (tag: number) =>
          Effect.suspend(() => {
            const { connection } = fake()
            return registry.add(connection, { key: `k${connection.id}`, tags: ["all", `room ${tag}`] })
          })
        for (let i = 0; i < often(20_000, 100_000); i++) yield* add(i % 1000)
        const bestOf = Effect.fnUntraced(function*(run: Effect.Effect<unknown, unknown>) {
          let best = Infinity
          for (let i = 0; i < 5; i++) {
            const { system, user } = process.cpuUsage()
            yield* run
            const after = process.cpuUsage()
            best = Math.min(best, after.user + after.system - user - system)
          }
          return best
        })
        // 12 and 9 ms on a quiet core: the bench measures, this only sees another order of growth
        const changes = yield* bestOf(Effect.repeat(Effect.scoped(add(7)), { times: 1999 }))
        assert.isBelow(changes / 2000, 150)
        assert.isBelow(yield* bestOf(Effect.andThen(Effect.scoped(add(7)), registry.entries)), often(40_000, 200_000))
      }),
    long(120_000)
  )
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
