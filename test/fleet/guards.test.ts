/** Guards of a fleet, one at a time: what each alone prevents, on TestClock. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import type { ConnectionError } from "../../src/index.ts"
import { Memory } from "../../src/internal/backplane/memory.ts"
import { Guards } from "../../src/internal/fleet/lease.ts"
import { lease, node, type TestNode } from "./support/stage.ts"

/** Two nodes that know each other. */
const pair = Effect.gen(function*() {
  const memory = new Memory()
  const a = yield* node(memory, { name: "a" })
  const b = yield* node(memory, { name: "b" })
  yield* TestClock.adjust(lease / 3)
  return { a, b }
})

/** Begins a login, the answer to whose claim comes so many milliseconds late. */
const lateLogin = (at: TestNode, key: string, late: number) =>
  Effect.gen(function*() {
    at.link.late = late
    const login = yield* Effect.forkScoped(Effect.exit(at.login(key)))
    yield* TestClock.adjust(1)
    return login
  })

const refusal = (exit: Exit.Exit<unknown, ConnectionError.ConnectionError>) =>
  Exit.isFailure(exit) ? exit.cause.reasons.flatMap((fail) => fail._tag === "Fail" ? [fail.error.reason._tag] : []) : []

/** A word that a key was taken comes before the answer that it was claimed. */
const takenBefore = Effect.gen(function*() {
  const { a, b } = yield* pair
  const late = yield* lateLogin(a, "ada", 500)
  const newer = yield* b.login("ada")
  yield* TestClock.adjust(500)
  const older = yield* Fiber.join(late)
  yield* a.fleet.send("ada", "hello")
  return { older: refusal(older), received: newer.sent }
})

/** Of two claims of one node the newer one is answered first. */
const answeredFirst = Effect.gen(function*() {
  const { a, b } = yield* pair
  const late = yield* lateLogin(a, "ada", 500)
  const newer = yield* a.login("ada")
  yield* TestClock.adjust(500)
  const older = yield* Fiber.join(late)
  yield* b.fleet.send("ada", "hello")
  return { older: refusal(older), received: newer.sent }
})

/** And it has ended when the other one is answered. */
const endedBefore = Effect.gen(function*() {
  const { a, b } = yield* pair
  const late = yield* lateLogin(a, "ada", 500)
  const newer = yield* a.login("ada")
  yield* newer.logout
  yield* TestClock.adjust(500)
  const older = yield* Fiber.join(late)
  return { older: refusal(older), isNowhere: (yield* b.fleet.where("ada")) === undefined }
})

const without = (guard: keyof Guards) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Guards, (guards) => Effect.provideService(effect, Guards, { ...guards, [guard]: false }))

describe("the memory of revocations", () => {
  it.effect("an older login that is answered after its key was taken is refused", () =>
    Effect.gen(function*() {
      const expected = { older: ["Superseded"], received: ["hello"] }
      assert.deepStrictEqual(yield* takenBefore, expected)
      assert.deepStrictEqual(yield* without("revocations")(takenBefore), { older: [], received: [] })
    }))
})

describe("the order of tokens", () => {
  it.effect("of two logins on one node the newer one wins, in whatever order they are answered", () =>
    Effect.gen(function*() {
      const expected = { older: ["Superseded"], received: ["hello"] }
      assert.deepStrictEqual(yield* answeredFirst, expected)
      assert.deepStrictEqual(yield* without("tokens")(answeredFirst), { older: [], received: [] })
    }))

  it.effect("also where the newer one has ended: no connection is left that the directory does not know", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* endedBefore, { older: ["Superseded"], isNowhere: true })
      assert.deepStrictEqual(yield* without("tokens")(endedBefore), { older: [], isNowhere: true })
    }))

  it.effect("both are given back, also where that of the newer one waits for the engine", () =>
    Effect.gen(function*() {
      const { a, b } = yield* pair
      const late = yield* lateLogin(a, "ada", 500)
      const newer = yield* a.login("ada")
      a.link.set("silent")
      yield* newer.logout
      yield* TestClock.adjust(500)
      assert.deepStrictEqual(refusal(yield* Fiber.join(late)), ["Superseded"])
      a.link.set("up")
      yield* TestClock.adjust(lease / 2)
      assert.isUndefined(yield* b.fleet.where("ada"))
    }))
})
