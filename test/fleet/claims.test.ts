/** Claims: many at once, and what storms have found, on TestClock. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import type { Backplane } from "../../src/index.ts"
import { Memory } from "../../src/internal/backplane/memory.ts"
import { lease, node, type TestNode } from "./support/stage.ts"

const most = 128

type Login = Effect.Success<ReturnType<TestNode["login"]>>

describe("logins: many at once", () => {
  it.effect("wait for each other, and those that are given up meanwhile are not asked for", () =>
    Effect.gen(function*() {
      const memory = new Memory()
      const asked: Array<string> = []
      const engine: Backplane.Engine = {
        name: "slow",
        largest: memory.largest,
        join: (options) =>
          Effect.map(memory.join(options), (session): Backplane.Session => ({
            ...session,
            claim: (key, how) =>
              Effect.suspend(() => {
                asked.push(key)
                return Effect.delay(session.claim(key, how), 1000)
              })
          }))
      }
      const { fleet, login } = yield* node(engine, { name: "a" })
      yield* TestClock.adjust(lease / 3)
      const logins = yield* Effect.forEach(
        Array.from({ length: 3 * most }),
        (_, i) => Effect.forkChild(login(`user${i}`), { startImmediately: true })
      )
      yield* TestClock.adjust(999)
      assert.strictEqual(asked.length, most)
      yield* Fiber.interruptAll(logins.slice(most, 2 * most))
      yield* TestClock.adjust(1)
      assert.strictEqual(asked.length, 2 * most)
      assert.deepStrictEqual(asked[most], `user${2 * most}`)
      yield* TestClock.adjust(1000)
      assert.strictEqual((yield* fleet.state).served, 2 * most)
    }))
})

/** Three nodes that know each other. */
const three = Effect.gen(function*() {
  const memory = new Memory()
  const a = yield* node(memory, { name: "a" })
  const b = yield* node(memory, { name: "b" })
  const c = yield* node(memory, { name: "c" })
  yield* TestClock.adjust(lease / 3)
  return { a, b, c, memory }
})

// each was one storm of several thousand
describe("a login whose answer was lost, and one that waits", () => {
  it.effect("a node that holds a key by a claim it did not hear of still learns that another node wants it", () =>
    Effect.gen(function*() {
      const { a, b, c } = yield* three
      const older = yield* a.login("ada")
      for (const { fleet } of [b, c]) assert.strictEqual(yield* fleet.send("ada", "one"), "accepted")
      // it is done, and the node is not told, and cannot ask
      a.link.late = lease
      const lost = yield* Effect.forkChild(Effect.exit(a.login("ada")), { startImmediately: true })
      yield* TestClock.adjust(1)
      a.link.lateFind = lease
      // nor does it hear who takes the key
      b.link.losing = 1
      const newer = yield* Effect.forkChild(b.login("ada"), { startImmediately: true })
      yield* TestClock.adjust(lease / 3)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(lost)))
      // what it hears next tells of the gap: it claims again
      yield* Effect.forkChild(b.fleet.broadcast("all"), { startImmediately: true })
      yield* TestClock.adjust(lease)
      const { sent } = yield* Fiber.join(newer)
      assert.strictEqual(yield* c.fleet.send("ada", "two"), "accepted")
      assert.deepStrictEqual(sent.slice(-1), ["two"])
      assert.notInclude(older.sent, "two")
      assert.isFalse(older.isOpen())
    }))

  it.effect("a connection that was not served meanwhile does not get the key by a newer claim of its node", () =>
    Effect.gen(function*() {
      const { a, b, c } = yield* three
      const older = yield* a.login("ada")
      a.link.set("down")
      yield* TestClock.adjust(2 * lease)
      const newer = yield* b.login("ada")
      b.link.set("down")
      yield* TestClock.adjust(2 * lease)
      // its first claim is a new login's, whose answer is lost
      a.link.late = lease
      const lost = yield* Effect.forkChild(Effect.exit(a.login("ada")), { startImmediately: true })
      a.link.set("up")
      yield* TestClock.adjust(lease)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(lost)))
      yield* TestClock.adjust(lease)
      yield* Effect.forkChild(c.fleet.send("ada", "hello"), { startImmediately: true })
      yield* TestClock.adjust(lease)
      assert.deepStrictEqual(older.sent, [])
      assert.isFalse(older.isOpen())
      assert.isTrue(newer.isOpen())
    }))

  it.effect("a login that waits for a lease does not take the key of a node that has claimed it again at an empty engine", () =>
    Effect.gen(function*() {
      const { a, b, c, memory } = yield* three
      const older = yield* a.login("ada")
      assert.strictEqual(yield* c.fleet.send("ada", "one"), "accepted")
      b.link.losing = 1
      const waiting = yield* Effect.forkChild(Effect.exit(b.login("ada")), { startImmediately: true })
      yield* TestClock.adjust(lease / 2)
      memory.wipe()
      // the holder notices first, and claims again
      yield* Effect.ignore(a.fleet.where("bob"))
      yield* TestClock.adjust(lease)
      // it may be refused; where it is let in, nothing reaches the older one from then on
      const login = yield* Fiber.join(waiting)
      yield* Effect.forkChild(c.fleet.send("ada", "two"), { startImmediately: true })
      yield* TestClock.adjust(lease)
      assert.strictEqual(older.sent.includes("two"), Exit.isFailure(login))
      const [here, there] = [yield* a.fleet.where("ada"), yield* c.fleet.where("ada")]
      assert.strictEqual(here?.node, there?.node)
      assert.strictEqual(here?.isHere, older.isOpen())
    }))

  it.effect("an older claim that is done after a newer one was given back is given back as well", () =>
    Effect.gen(function*() {
      const { a, b } = yield* three
      yield* b.login("ada")
      // it lets go, and its word is lost: the first login waits for the lease
      b.link.losing = 1
      const first = yield* Effect.forkChild(Effect.exit(a.login("ada")), { startImmediately: true })
      yield* TestClock.adjust(lease - 500)
      const second = yield* a.login("ada")
      a.link.lateRelease = 1000
      yield* second.logout
      yield* TestClock.adjust(lease)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(first)))
      assert.isUndefined(yield* b.fleet.where("ada"))
    }))
})

describe("a connection whose node was cut off, when a newer login came and went meanwhile", () => {
  /** Node b has a newer login of the key while a is cut off; then something happens to it, and a is back. */
  const back = <E>(after: (newer: Login, b: TestNode) => Effect.Effect<void, E>) =>
    Effect.gen(function*() {
      const { a, b, c } = yield* three
      const older = yield* a.login("ada")
      a.link.set("down")
      yield* TestClock.adjust(2 * lease)
      const newer = yield* b.login("ada")
      assert.strictEqual(yield* c.fleet.send("ada", "one"), "accepted")
      assert.deepStrictEqual(newer.sent, ["one"])
      yield* after(newer, b)
      yield* TestClock.adjust(lease)
      a.link.set("up")
      yield* TestClock.adjust(lease)
      assert.strictEqual(yield* c.fleet.send("ada", "two"), "offline")
      assert.deepStrictEqual(older.sent, [])
      assert.deepStrictEqual(older.reasons.map(({ _tag }) => _tag), ["Superseded"])
      // a new login is newer than all
      const newest = yield* a.login("ada")
      assert.strictEqual(yield* c.fleet.send("ada", "three"), "accepted")
      assert.deepStrictEqual(newest.sent, ["three"])
    })

  it.effect("is ended: the newer one has logged out", () => back((newer) => newer.logout))

  it.effect("is ended: the node of the newer one has left", () => back((_, b) => b.stop))

  it.effect("is ended: the newer one has come again, and logged out", () =>
    back((newer, b) =>
      Effect.gen(function*() {
        yield* newer.logout
        yield* TestClock.adjust(1)
        const again = yield* b.login("ada")
        yield* again.logout
      })
    ))
})
