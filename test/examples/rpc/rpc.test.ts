/** RPC over a server that is replaced, and over one that dies. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { until } from "../../integration/support/kit.ts"
import * as Client from "./client.ts"
import { type Ledger, start } from "./server.ts"

it.live("a server that is replaced answers what it has, and no call is lost or executed twice", () =>
  Effect.gen(function*() {
    const ledger: Ledger = { billed: [] }
    const first = yield* start("tcp://127.0.0.1:0", "one", ledger)
    const client = yield* Client.make(first.url)
    const bills = yield* Effect.forkChild(
      Effect.forEach(Array.from({ length: 40 }, (_, i) => i), client.bill, { concurrency: 10 })
    )
    const counted = yield* Effect.forkChild(Stream.runCollect(client.count(6)))
    yield* until("the first are answered", () => ledger.billed.length >= 10)
    yield* start(first.url, "two", ledger)
    yield* first.stop
    const by = (yield* Fiber.join(bills)).map(({ by }) => by)
    assert.deepStrictEqual(new Set(by), new Set(["one", "two"]))
    assert.strictEqual(new Set(ledger.billed).size, 40)
    assert.strictEqual(ledger.billed.length, 40)
    assert.deepStrictEqual(yield* Fiber.join(counted), [1, 2, 3, 4, 5, 6])
  }))
