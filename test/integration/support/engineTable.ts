/** What every engine of a fleet has to do, as conversations of sessions: against a real server. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Backplane } from "../../../src/index.ts"

/** An engine and what is done to its server. */
export interface World {
  readonly engine: Backplane.Engine
  /** Makes the server forget all that it knows of this fleet. */
  readonly wipe: Effect.Effect<void>
}

/** Runs against a server of its own scope, with a fleet of its own. */
export type Worlds = (lease: number) => Effect.Effect<World, never, Scope.Scope>

const text = new TextEncoder()
const words = new TextDecoder()

/** Takes until as many batches have come; gaps are words as well. */
export const received = (session: Backplane.Session, count: number) =>
  Effect.gen(function*() {
    const found: Array<string> = []
    while (found.length < count) {
      for (const arrival of yield* session.take) {
        found.push(arrival._tag === "Batch" ? words.decode(arrival.bytes) : `gap of ${arrival.count}`)
      }
    }
    return found
  })

export const publish = (session: Backplane.Session, node: string, word: string) =>
  session.publish(node, text.encode(word))

const failing = <A>(effect: Effect.Effect<A, Backplane.BackplaneError>) =>
  Effect.match(effect, { onFailure: ({ reason }) => reason, onSuccess: () => "nothing failed" })

/** A directory that is followed lags by a moment. */
export const eventually = <A>(
  effect: Effect.Effect<A, Backplane.BackplaneError>,
  holds: (value: A) => boolean,
  within = 5000
): Effect.Effect<A, Backplane.BackplaneError> =>
  Effect.gen(function*() {
    const end = performance.now() + within
    while (true) {
      const value = yield* effect
      if (holds(value)) return value
      if (performance.now() > end) return assert.fail(`in vain: ${JSON.stringify(value)}`)
      yield* Effect.sleep(10)
    }
  })

/** Checks of the contract that wait for leases. */
export const takesLong = (check: string): boolean =>
  /^(?:a claim made again yields to a greater one whose|a lease that is renewed lasts|all sessions see one epoch|the end of a session is not|what is too much for an inbox)/
    .test(check)

const lease = 1000

export const table = (worlds: Worlds): void => {
  const test = (
    title: string,
    run: (world: World) => Effect.Effect<void, Backplane.BackplaneError, Scope.Scope>,
    lasts = 30_000
  ) => it.live(title, () => Effect.flatMap(worlds(lasts), run))

  test("nodes are those with a lease, and say that they leave; a lease that was left frees its keys", ({ engine }) =>
    Effect.gen(function*() {
      const a = yield* engine.join({ node: "a", lease: 30_000 })
      const b = yield* engine.join({ node: "b", lease: 30_000 })
      yield* b.claim("key")
      yield* b.renew(true)
      const named = (session: Backplane.Session) =>
        Effect.map(session.nodes, (members) => members.map(({ isLeaving, node }) => `${node} ${isLeaving}`).toSorted())
      yield* eventually(named(a), (names) => names.join() === "a false,b true")
      yield* b.leave
      yield* eventually(named(a), (names) => names.join() === "a false")
      yield* eventually(a.find("key"), (holder) => holder === undefined)
      assert.strictEqual(yield* failing(b.claim("key")), "lease")
      assert.strictEqual(yield* failing(b.renew(false)), "lease")
      yield* b.leave
      // one of that name that comes back holds nothing of it
      const again = yield* engine.join({ node: "b", lease: 30_000 })
      yield* eventually(named(again), (names) => names.join() === "a false,b false")
      assert.isUndefined(yield* again.find("key"))
      assert.isUndefined(yield* a.find("key"))
    }))

  test("an inbox has what is published to its node, in the order of each sender, also to itself", ({ engine }) =>
    Effect.gen(function*() {
      const a = yield* engine.join({ node: "a", lease: 30_000 })
      const b = yield* engine.join({ node: "b", lease: 30_000 })
      const waiting = yield* Effect.forkChild(received(b, 401))
      const sends = [a, b].map((session, i) =>
        Effect.all(Array.from({ length: 200 }, (_, n) => publish(session, "b", `${i} ${n}`)), {
          concurrency: "unbounded"
        })
      )
      const outcomes = yield* Effect.all(sends, { concurrency: "unbounded" })
      assert.deepStrictEqual([...new Set(outcomes.flat())], ["sent"])
      yield* publish(a, "b", "")
      const all = yield* Fiber.join(waiting)
      assert.strictEqual(all.at(-1), "", "an empty batch is one")
      for (const sender of ["0", "1"]) {
        assert.deepStrictEqual(
          all.filter((word) => word.startsWith(`${sender} `)),
          Array.from({ length: 200 }, (_, n) => `${sender} ${n}`)
        )
      }
      assert.strictEqual(yield* publish(a, "nowhere", "x"), "nobody")
    }))

  test("the largest batch arrives as it is, and a larger one is refused", ({ engine }) =>
    Effect.gen(function*() {
      const a = yield* engine.join({ node: "a", lease: 30_000 })
      const batch = new Uint8Array(engine.largest).map((_, i) => i * 31)
      assert.strictEqual(yield* a.publish("a", batch), "sent")
      const [arrival] = yield* a.take
      assert(arrival._tag === "Batch")
      assert.isTrue(Buffer.from(arrival.bytes).equals(batch))
      assert.strictEqual(yield* failing(a.publish("a", new Uint8Array(engine.largest + 1))), "size")
      yield* publish(a, "a", "still there")
      assert.deepStrictEqual(yield* received(a, 1), ["still there"])
    }))

  test("an inbox ends with its scope, and the lease does not", ({ engine }) =>
    Effect.gen(function*() {
      const a = yield* engine.join({ node: "a", lease: 30_000 })
      const scope = yield* Scope.make()
      const b = yield* Scope.provide(engine.join({ node: "b", lease: 30_000 }), scope)
      yield* b.claim("key")
      yield* Scope.close(scope, Exit.void)
      yield* eventually(publish(a, "b", "x"), (outcome) => outcome === "nobody")
      yield* eventually(a.find("key"), (holder) => holder?.node === "b")
      // it comes back within its lease
      const again = yield* engine.join({ node: "b", lease: 30_000 })
      assert.strictEqual(again.epoch, a.epoch)
      assert.strictEqual(yield* publish(a, "b", "y"), "sent")
      assert.deepStrictEqual(yield* received(again, 1), ["y"])
    }))

  test("an inbox that is not taken keeps a bounded number of batches, and tells how many it lost", ({ engine }) =>
    Effect.gen(function*() {
      const a = yield* engine.join({ node: "a", lease: 30_000 })
      const b = yield* engine.join({ node: "b", lease: 30_000 })
      for (let i = 0; i < 30; i++) {
        yield* Effect.all(Array.from({ length: 50 }, (_, n) => publish(a, "b", `${50 * i + n}`)), {
          concurrency: "unbounded"
        })
      }
      // what is published to this node comes behind it
      yield* publish(b, "a", "after")
      yield* received(a, 1)
      yield* Effect.sleep(100)
      const words = yield* received(b, 1)
      const last = words.at(-1)!
      const lost = Number(/^gap of (\d+)$/.exec(last)![1])
      assert.strictEqual(words.length - 1 + lost, 1500)
      assert.deepStrictEqual(words.slice(0, -1), Array.from({ length: words.length - 1 }, (_, n) => `${n}`))
      yield* publish(a, "b", "next")
      assert.deepStrictEqual(yield* received(b, 1), ["next"])
    }))

  test(
    "a lease that is not renewed ends: its node is told, its keys are free, and stay so",
    ({ engine }) =>
      Effect.gen(function*() {
        const a = yield* engine.join({ node: "a", lease })
        const b = yield* engine.join({ node: "b", lease })
        yield* b.claim("key")
        const renewing = yield* Effect.forkChild(
          Effect.forever(Effect.andThen(Effect.sleep(200), a.renew(false)))
        )
        const began = performance.now()
        yield* Effect.sleep(600)
        yield* b.renew(false)
        yield* Effect.sleep(600)
        assert.strictEqual((yield* a.find("key"))?.node, "b", "a renewed lease lasts")
        yield* eventually(a.find("key"), (holder) => holder === undefined)
        assert.isAtLeast(performance.now() - began, 1550)
        assert.isBelow(performance.now() - began, 2800)
        assert.strictEqual(yield* failing(b.renew(false)), "lease")
        assert.strictEqual(yield* failing(b.claim("key")), "lease")
        yield* eventually(a.nodes, (members) => members.map(({ node }) => node).join() === "a")
        const claim = yield* a.claim("key")
        assert(claim._tag === "Claimed")
        yield* Fiber.interrupt(renewing)
      }),
    lease
  )

  test("a server that has forgotten all has another epoch, and says so", ({ engine, wipe }) =>
    Effect.gen(function*() {
      const a = yield* engine.join({ node: "a", lease: 30_000 })
      const claim = yield* a.claim("key")
      assert(claim._tag === "Claimed")
      assert.isAtLeast(a.age, 0)
      yield* wipe
      assert.include(["epoch", "lease"], yield* failing(a.renew(false)))
      assert.include(["epoch", "lease"], yield* failing(a.claim("key")))
      const b = yield* engine.join({ node: "b", lease: 30_000 })
      assert.isAbove(b.epoch, a.epoch)
      assert.isBelow(b.age, 10_000)
      assert.isUndefined(yield* b.find("key"))
      assert.deepInclude(yield* b.claim("key", { as: claim.token }), { _tag: "Claimed", token: claim.token })
      const next = yield* b.claim("key")
      assert(next._tag === "Claimed")
      assert.isTrue(Backplane.isNewer(next.token, claim.token))
    }))
}
