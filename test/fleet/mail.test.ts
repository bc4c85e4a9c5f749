/** What leaves a node for others: batches, the time that an engine has for them, and the bytes of frames. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import type { Session } from "../../src/internal/backplane/engine.ts"
import { Mail, type Passing } from "../../src/internal/fleet/post/mail.ts"
import * as Wire from "../../src/internal/fleet/post/wire.ts"

const answer = (id: number): Wire.Frame => ({ _tag: "Sent", id, told: "accepted" })

/** An engine that only takes batches; those for `slow` it keeps until it is told. */
const fake = Effect.sync(() => {
  const taken: Array<string> = []
  const kept: Array<Deferred.Deferred<"sent">> = []
  const publish: Session["publish"] = (node, bytes) => {
    const ids = Wire.split(bytes)!.frames.map(({ id }) => id)
    taken.push(`${node} ${ids.join(",")}`)
    if (node !== "slow") return Effect.succeed("sent")
    const answered = Deferred.makeUnsafe<"sent">()
    kept.push(answered)
    return Deferred.await(answered)
  }
  return { taken, kept, session: { publish } as unknown as Session }
})

describe("mail", () => {
  it.effect("batches that the engine keeps for too long have failed, to the millisecond, and what comes later goes out", () =>
    Effect.gen(function*() {
      const { kept, session, taken } = yield* fake
      const mail = new Mail("me", 1000)
      const carrying = yield* Effect.forkChild(mail.carry(session, 2000))
      const told: Array<string> = []
      const watch = (name: string) => (passing: Passing): void => void told.push(`${name} ${passing}`)
      mail.post("slow", answer(1), watch("1"))
      mail.post("quick", answer(2), watch("2"))
      yield* TestClock.adjust(1999)
      assert.deepStrictEqual(taken, ["slow 1", "quick 2"])
      assert.deepStrictEqual(told, ["1 leaving", "2 leaving", "2 sent"])
      mail.post("slow", answer(3), watch("3"))
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told.slice(3), ["1 failed", "3 leaving"])
      assert.deepStrictEqual(taken.slice(2), ["slow 3"])
      yield* Deferred.succeed(kept[1]!, "sent")
      yield* TestClock.adjust(10_000)
      assert.deepStrictEqual(told.slice(5), ["3 sent"])
      yield* Fiber.interrupt(carrying)
    }))

  it.effect("the end of a session fails what is with the engine", () =>
    Effect.gen(function*() {
      const { session } = yield* fake
      const mail = new Mail("me", 1000)
      const carrying = yield* Effect.forkChild(mail.carry(session, 2000))
      const told: Array<Passing> = []
      mail.post("slow", answer(1), (passing) => void told.push(passing))
      yield* TestClock.adjust(10)
      const exit = yield* Fiber.interrupt(carrying).pipe(Effect.exit)
      assert.isTrue(Exit.isSuccess(exit))
      assert.deepStrictEqual(told, ["leaving", "failed"])
    }))

  it.effect("a frame that comes alone leaves at once; several share a batch, also the next ones, and what is posted together", () =>
    Effect.gen(function*() {
      const { session, taken } = yield* fake
      const mail = new Mail("me", 1000)
      const carrying = yield* Effect.forkChild(mail.carry(session, 2000), { startImmediately: true })
      const post = (node: string, ...ids: ReadonlyArray<number>) => {
        for (const id of ids) mail.post(node, answer(id))
        return taken.splice(0)
      }
      const later = Effect.map(TestClock.adjust(1), () => taken.splice(0))
      assert.deepStrictEqual(post("quick", 1), ["quick 1"])
      assert.deepStrictEqual(yield* later, [])
      mail.together(() => assert.deepStrictEqual(post("quick", 2, 3), []))
      assert.deepStrictEqual(yield* later, ["quick 2,3"])
      // several came, so it waits for the end of the turn
      assert.deepStrictEqual(post("quick", 4, 5), [])
      assert.deepStrictEqual(yield* later, ["quick 4,5"])
      // until frames have come alone for a while
      for (let id = 6; id < 38; id++) {
        assert.deepStrictEqual(post("quick", id), [])
        assert.deepStrictEqual(yield* later, [`quick ${id}`])
      }
      assert.deepStrictEqual(post("quick", 38), ["quick 38"])
      yield* Fiber.interrupt(carrying)
    }))

  it("frames do not share memory: a large one, a small one, and a batch of both", () => {
    const large: Wire.Frame = { _tag: "Broadcast", id: 1, tag: "é", payload: new Uint8Array(100_000).fill(7) }
    const small: Wire.Frame = { _tag: "Send", id: 2, key: "k", payload: "text" }
    const [first, second, third] = [Wire.encode(large), Wire.encode(small), Wire.encode(large)]
    assert.deepStrictEqual(first, third)
    const batch = Wire.split(Wire.join("me", 3, 4, [first, second]))
    assert.deepStrictEqual(batch, { from: "me", run: 3, sequence: 4, frames: [large, small] })
    assert.deepStrictEqual(Wire.split(Wire.join("me", 3, 4, [second]))!.frames, [small])
  })
})
