/** The order of messages to one key, as a conversation with a node that the test plays. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import type { Backplane } from "../../src/index.ts"
import { Memory } from "../../src/internal/backplane/memory.ts"
import * as Wire from "../../src/internal/fleet/post/wire.ts"
import { lease, node } from "./support/stage.ts"

/** Node a, and the session of b, which has the key ada. `nobody` says how many of the next batches to b find no inbox. */
const conversation = Effect.gen(function*() {
  const memory = new Memory()
  const trouble = { nobody: 0, takes: 0 }
  const engine: Backplane.Engine = {
    ...memory,
    largest: memory.largest,
    join: (options) =>
      Effect.map(memory.join(options), (session): Backplane.Session => ({
        ...session,
        publish: (to, batch) =>
          Effect.suspend(() => {
            const isLost = to === "b" && trouble.nobody > 0
            if (isLost) trouble.nobody--
            const published = isLost ? Effect.succeed("nobody" as const) : session.publish(to, batch)
            return trouble.takes === 0 ? published : Effect.delay(published, trouble.takes)
          })
      }))
  }
  const b = yield* memory.join({ node: "b", lease: 60_000 })
  yield* b.claim("ada")
  const { fleet } = yield* node(engine, { name: "a", answerWithin: "1 minute" })
  yield* TestClock.adjust(lease / 3)
  let sequence = 0
  return {
    trouble,
    send: (text: string) => Effect.forkChild(fleet.send("ada", text), { startImmediately: true }),
    /** What b hears by now, as messages. */
    hears: Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const heard: Array<{ readonly id: number; readonly text: string }> = []
      const taking = yield* Effect.forkChild(b.take, { startImmediately: true })
      const arrivals = taking.pollUnsafe() === undefined ? [] : yield* Fiber.join(taking)
      yield* Fiber.interrupt(taking)
      for (const arrival of arrivals) {
        if (arrival._tag === "Gap") continue
        for (const frame of Wire.split(arrival.bytes)!.frames) {
          if (frame._tag === "Send") {
            heard.push({ id: frame.id, text: Buffer.from(frame.payload as Uint8Array).toString().slice(-1) })
          }
        }
      }
      return heard
    }),
    /** b answers. */
    says: (id: number, told: Wire.Told) =>
      Effect.andThen(
        b.publish(fleet.node, Wire.join("b", 1, sequence++, [Wire.encode({ _tag: "Sent", id, told })])),
        TestClock.adjust(0)
      )
  }
})

const textsOf = (heard: ReadonlyArray<{ readonly text: string }>) => heard.map(({ text }) => text)

describe("messages to one key", () => {
  it.effect("one whose node had no inbox goes again before those that came after it", () =>
    Effect.gen(function*() {
      const { hears, says, send, trouble } = yield* conversation
      trouble.takes = 10
      trouble.nobody = 1
      const one = yield* send("1")
      const two = yield* send("2")
      yield* TestClock.adjust(10)
      trouble.takes = 0
      yield* TestClock.adjust(300)
      const heard = yield* hears
      assert.deepStrictEqual(textsOf(heard), ["1", "2"])
      for (const { id } of heard) yield* says(id, "accepted")
      assert.deepStrictEqual([yield* Fiber.join(one), yield* Fiber.join(two)], ["accepted", "accepted"])
    }))

  it.effect("one that the node of the key refused is not sent again behind one that it has accepted since", () =>
    Effect.gen(function*() {
      const { hears, says, send } = yield* conversation
      const one = yield* send("1")
      const first = yield* hears
      const two = yield* send("2")
      const second = yield* hears
      assert.deepStrictEqual(textsOf([...first, ...second]), ["1", "2"])
      // its key came to b between the two
      yield* says(first[0]!.id, "moved")
      yield* says(second[0]!.id, "accepted")
      assert.strictEqual(yield* Fiber.join(two), "accepted")
      yield* TestClock.adjust(300)
      assert.deepStrictEqual(yield* hears, [])
      // it was not taken, and there is no way to take it in order
      assert.strictEqual(yield* Fiber.join(one), "offline")
    }))
})
