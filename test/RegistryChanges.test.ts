import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Option, Scope, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, Registry, Server } from "../src/index.ts"
import type { Policy } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"

interface User {
  readonly name: string
}
type Users = Registry.Registry<string, string, User>

const open = Connection.make({ codec: Codec.lines(), policy: { pingJitter: 0 } })

const settle = Effect.forEach(Array.from({ length: 40 }), () => Effect.yieldNow, { discard: true })

/** A connection in a scope of its own, registered under a name. */
const join = Effect.fnUntraced(function*(
  registry: Users,
  name: string,
  names: Registry.Names = {},
  policy: Policy.Patch = {}
) {
  const peer = yield* TestSocket.make()
  const scope = yield* Scope.make()
  const connect = Connection.make({ codec: Codec.lines(), policy: { pingJitter: 0, ...policy } })
  const connection = yield* Scope.provide(connect(peer.socket), scope)
  yield* Scope.provide(registry.add(connection, { key: name, ...names }, { name }), scope)
  return { peer, connection, end: Effect.andThen(connection.close, Scope.close(scope, Exit.void)) }
})

/** Reads changes, and gives out what it has read so far, in words. */
const listen = Effect.fnUntraced(function*(registry: Users) {
  const seen: Array<string> = []
  const fiber = yield* Effect.forkScoped(
    Stream.runForEach(registry.changes, (change) =>
      Effect.sync(() => {
        seen.push(
          change._tag === "Current"
            ? `current ${change.entries.map(({ session }) => session.name).join()} missed ${change.missed}`
            : [
              change._tag,
              change.session.name,
              [...change.tags].join(),
              `first ${change.first.join()}`,
              `last ${change.last.join()}`,
              ...(change._tag === "Ended" ? [change.snapshot.state, change.isKeyFree ? "key free" : "key taken"] : []),
              ...(change._tag === "Added" && change.superseded !== undefined ? [`takes ${change.superseded}`] : []),
              ...(change._tag === "Tagged" ? [`+${change.added.join()} -${change.removed.join()}`] : [])
            ].join(" | ")
        )
      })),
    { startImmediately: true }
  )
  return { fiber, next: Effect.as(settle, seen).pipe(Effect.map((seen) => seen.splice(0))) }
})

describe("changes", () => {
  it.effect("begin with what is there, and tell who comes, is tagged and goes, and the first and last of a tag", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const registry = yield* Registry.make<string, string, User>()
      const ada = yield* join(registry, "ada", { tags: ["lobby"] })
      const { next } = yield* listen(registry)
      assert.deepStrictEqual(yield* next, ["current ada missed 0"])

      const bob = yield* join(registry, "bob", { tags: ["lobby", "chess"] })
      assert.deepStrictEqual(yield* next, ["Added | bob | lobby,chess | first chess | last "])

      yield* registry.tag(ada.connection.id, { add: ["chess", "go"], remove: ["lobby"] })
      assert.deepStrictEqual(yield* next, ["Tagged | ada | chess,go | first go | last  | +chess,go -lobby"])
      yield* registry.tag(bob.connection.id, { remove: ["lobby"] })
      assert.deepStrictEqual(yield* next, ["Tagged | bob | chess | first  | last lobby | + -lobby"])
      yield* registry.tag(bob.connection.id, { add: ["chess"], remove: ["none"] })
      assert.deepStrictEqual(yield* next, [])

      yield* bob.end
      assert.deepStrictEqual(yield* next, ["Ended | bob | chess | first  | last  | ended | key free"])
      yield* ada.end
      assert.deepStrictEqual(yield* next, ["Ended | ada | chess,go | first  | last chess,go | ended | key free"])
    }))

  it.effect("tell a takeover: who took the key, and that the older one does not free it", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const registry = yield* Registry.make<string, string, User>()
      const old = yield* join(registry, "ada")
      const { next } = yield* listen(registry)
      yield* next
      yield* join(registry, "ada")
      assert.deepStrictEqual(yield* next, [
        `Added | ada |  | first  | last  | takes ${old.connection.id}`,
        "Ended | ada |  | first  | last  | ended | key taken"
      ])
    }))

  it.effect("tell one that is added again with its new names", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const registry = yield* Registry.make<string, string, User>()
      const ada = yield* join(registry, "ada", { tags: ["old"] })
      const { next } = yield* listen(registry)
      yield* next
      yield* registry.add(ada.connection, { key: "lovelace", tags: ["new"] }, { name: "lovelace" })
      assert.deepStrictEqual(yield* next, ["Added | lovelace | new | first new | last old"])
      // the scope of the first `add` no longer removes it
      yield* ada.end
      assert.deepStrictEqual(yield* next, ["Ended | lovelace | new | first  | last new | ended | key free"])
    }))

  it.effect("tell one that is unregistered while it lives, and its end no second time", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const registry = yield* Registry.make<string, string, User>()
      const { next } = yield* listen(registry)
      yield* next
      const peer = yield* TestSocket.make()
      const connection = yield* open(peer.socket)
      yield* Effect.scoped(registry.add(connection, undefined, { name: "ada" }))
      assert.deepStrictEqual(yield* next, [
        "Added | ada |  | first  | last ",
        "Ended | ada |  | first  | last  | open | key free"
      ])
      yield* connection.close
      assert.deepStrictEqual(yield* next, [])
    }))

  it.effect("B119 that nobody reads are bounded, hold no connection, and are told as the state of the next look", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const registry = yield* Registry.make<string, string, User>({ changes: 3 })
      const seen: Array<Registry.Change<string, string, User>> = []
      let stuck = true
      yield* Effect.forkScoped(
        Stream.runForEach(registry.changes, (change) =>
          Effect.suspend(() => {
            seen.push(change)
            return stuck ? Effect.never : Effect.void
          })).pipe(Effect.interruptible),
        { startImmediately: true }
      )
      yield* settle
      assert.deepStrictEqual(seen.map(({ _tag }) => _tag), ["Current"])
      // read by hand: one that is stuck in its first element
      const pulled: Array<string> = []
      const pull = yield* Stream.toPull(registry.changes)
      const take = Effect.map(pull, (changes) => {
        for (const change of changes) {
          pulled.push(change._tag === "Current" ? `current ${change.entries.length} ${change.missed}` : change._tag)
        }
      })
      yield* take
      const all = []
      for (const name of ["a", "b", "c"]) all.push(yield* join(registry, name))
      yield* take
      assert.deepStrictEqual(pulled.splice(0), ["current 0 0", "Added", "Added", "Added"])
      for (const name of ["d", "e", "f", "g", "h"]) all.push(yield* join(registry, name))
      yield* all[0]!.end
      yield* take
      assert.deepStrictEqual(pulled.splice(0), ["current 7 6"])
      yield* all[1]!.end
      yield* take
      assert.deepStrictEqual(pulled.splice(0), ["Ended"])
      stuck = false
    }))

  it.effect("end with the registry, and an end of the reader leaves nothing behind", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const scope = yield* Scope.make()
      const registry = yield* Scope.provide(Registry.make<string, string, User>(), scope)
      const { fiber, next } = yield* listen(registry)
      yield* next
      yield* Effect.asVoid(Stream.runHead(registry.changes))
      const ada = yield* join(registry, "ada")
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* next, ["Added | ada |  | first  | last "])
      yield* ada.end
      assert.deepStrictEqual(
        Array.from(yield* Stream.runCollect(registry.changes), ({ _tag }) => _tag),
        ["Current"]
      )
    }))
})

describe("offer", () => {
  it.effect("reaches the connection that has the key, and says what became of the message", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const registry = yield* Registry.make<string, string, User>()
      assert.strictEqual(yield* registry.offer("ada", "hello"), "offline")
      const ada = yield* join(registry, "ada", {}, { outboxMessages: 1, overflow: "fail", drain: "5 seconds" })
      assert.strictEqual(yield* registry.offer("ada", "hello"), "accepted")
      assert.strictEqual(yield* ada.peer.take, "hello\n")
      yield* ada.peer.window(0)
      const outcomes: Array<Registry.Offered> = []
      for (let i = 0; i < 50; i++) outcomes.push(yield* registry.offer("ada", "x".repeat(60_000)))
      assert.strictEqual(outcomes[0], "accepted")
      assert.strictEqual(outcomes.at(-1), "full")
      const refused = yield* Effect.flip(registry.offer("ada", "two\nlines"))
      assert.strictEqual(refused.reason._tag, "InvalidMessage")
      // what was accepted still leaves, and it says nothing more
      const closing = yield* Effect.forkScoped(ada.connection.close, { startImmediately: true })
      assert.strictEqual(yield* registry.size, 1)
      assert.strictEqual(yield* registry.offer("ada", "hello"), "offline")
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)
      assert.strictEqual(yield* registry.offer("ada", "hello"), "offline")
    }).pipe(Effect.scoped))
})

/** A running server of users, whose `add` is what a test gives it. */
const serve = Effect.fnUntraced(function*(
  wrap: (registry: Users) => Users,
  policy: Policy.Patch,
  handshake?: (connection: Connection.Connection<string>) => Effect.Effect<User>
) {
  yield* TestClock.adjust(0)
  const registry = yield* Registry.make<string, string, User>()
  const listener = yield* TestSocket.makeServer()
  const refused: Array<string> = []
  let handled = 0
  yield* Effect.forkScoped(
    Server.run({
      open,
      handshake: handshake ?? (() => Effect.succeed({ name: "ada" })),
      registry: wrap(registry),
      names: (_, user) => ({ key: user.name }),
      policy,
      onEvent: (event) =>
        Effect.sync(() => {
          if (event._tag === "Refused") refused.push(event.reason._tag)
        }),
      handle: (connection) => {
        handled++
        return connection.leaving
      }
    }).pipe(Effect.provideService(SocketServer.SocketServer, listener.server)),
    { startImmediately: true }
  )
  return { registry, listener, refused, handled: () => handled }
})

describe("the session", () => {
  it.effect("that the handshake returned is in the registry", () =>
    Effect.gen(function*() {
      const { listener, registry } = yield* serve(
        (registry) => registry,
        {},
        (connection) => Effect.map(Effect.orDie(connection.receive), (name) => ({ name }))
      )
      const peer = yield* listener.connect
      yield* peer.send("grace\n")
      yield* settle
      const [entry] = yield* registry.entries
      assert.deepStrictEqual([entry!.key, entry!.session], ["grace", { name: "grace" }])
    }))
})

describe("B139 registration is under the deadline of the handshake", () => {
  /** The registry of an application, which asks a database first, and takes its time. */
  const asking = (delay: number) => (registry: Users): Users => ({
    ...registry,
    add: (connection, names, session) => Effect.andThen(Effect.sleep(delay), registry.add(connection, names, session))
  })

  it.effect("a registry that hangs: refused at the limit, to the millisecond, and not registered", () =>
    Effect.gen(function*() {
      const { handled, listener, refused, registry } = yield* serve(asking(60_000), { handshake: "3 seconds" })
      const peer = yield* listener.connect
      yield* settle
      yield* TestClock.adjust(2999)
      yield* settle
      assert.deepStrictEqual(refused, [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual([refused, handled(), yield* registry.size], [["HandshakeTimeout"], 0, 0])
      yield* peer.released
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(yield* registry.size, 0)
    }))

  it.effect("the limit counts from the accept: handshake and registration share it", () =>
    Effect.gen(function*() {
      const slow = () => Effect.as(Effect.sleep(2000), { name: "ada" })
      const { listener, refused } = yield* serve(asking(2000), { handshake: "3 seconds" }, slow)
      yield* listener.connect
      yield* settle
      yield* TestClock.adjust(2999)
      yield* settle
      assert.deepStrictEqual(refused, [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(refused, ["HandshakeTimeout"])
    }))

  it.effect("a registry that is slow and in time: handled, and registered until it ends", () =>
    Effect.gen(function*() {
      const { handled, listener, refused, registry } = yield* serve(asking(2999), { handshake: "3 seconds" })
      const peer = yield* listener.connect
      yield* settle
      yield* TestClock.adjust(2999)
      yield* settle
      assert.deepStrictEqual([refused, handled(), yield* registry.size], [[], 1, 1])
      yield* TestClock.adjust("30 seconds")
      assert.isTrue(Option.isSome(yield* registry.getKey("ada")))
      yield* peer.end
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* registry.size, 0)
    }))

  it.effect("a registry that refuses says so to the server, and one that dies is a defect of the registry", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push(String(message)))
    const failing = (failure: Effect.Effect<never, ConnectionError.ConnectionError>) => (registry: Users): Users => ({
      ...registry,
      add: () => failure
    })
    return Effect.gen(function*() {
      const banned = ConnectionError.make(new ConnectionError.HandshakeFailed({ cause: "banned" }))
      const one = yield* serve(failing(Effect.fail(banned)), {})
      yield* one.listener.connect
      yield* settle
      assert.deepStrictEqual([one.refused, one.handled()], [["HandshakeFailed"], 0])
      const two = yield* serve(failing(Effect.die("a bug")), {})
      yield* two.listener.connect
      yield* settle
      assert.deepStrictEqual([two.refused, two.handled()], [["Defect"], 0])
      assert.isTrue(lines.some((line) => line.includes("registry")))
    }).pipe(Effect.provide(Logger.layer([logger])))
  })
})
