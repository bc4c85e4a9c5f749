/** `holdfast/redis` against a real Redis. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { createClient } from "redis"
import { afterAll, beforeAll } from "vitest"
import { RedisBackplane } from "../../src/redis/index.ts"
import { BackplaneContract } from "../../src/testing/index.ts"
import { isLong } from "../support/often.ts"
import { type Daemon, installed, redisServer } from "./support/engines.ts"
import { eventually, publish, received, table, takesLong } from "./support/engineTable.ts"

// none may end while the machine has other work, but where a check waits for that
const lease = isLong ? "2 seconds" : "10 seconds"

describe.skipIf(installed("redis-server") === undefined)(
  "the Redis engine (skipped where redis-server is missing)",
  { tags: ["long"] },
  () => {
    const scope = Scope.makeUnsafe()
    let server: Daemon
    let admin: ReturnType<typeof createClient>
    beforeAll(async () => {
      server = await Effect.runPromise(Scope.provide(redisServer(), scope))
      admin = createClient({ url: `redis://127.0.0.1:${server.port}` })
      await admin.connect()
    })
    afterAll(async () => {
      admin.destroy()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    })

    let fleets = 0
    const world = Effect.gen(function*() {
      const prefix = `fleet${fleets++}`
      const make = RedisBackplane.make({
        url: `redis://127.0.0.1:${server.port}`,
        prefix,
        client: { name: prefix }
      })
      const engine = yield* make
      const wipe = Effect.promise(async () => {
        for (const key of await admin.keys(`{${prefix}}:*`)) await admin.del(key)
      })
      return { engine, make, wipe, prefix }
    })

    if (isLong) table(() => world)

    describe("keeps the contract", () => {
      for (const check of BackplaneContract.checks) {
        it.live.runIf(isLong || !takesLong(check.name))(
          check.name,
          () =>
            check.run({ name: "redis", lease, open: Effect.map(world, ({ make, wipe }) => ({ connect: make, wipe })) })
        )
      }
    })

    it.live.runIf(isLong)(
      "an inbox that is cut goes on after a gap; claims and the lease are as they were",
      () =>
        Effect.gen(function*() {
          const { engine, prefix } = yield* world
          const a = yield* engine.join({ node: "a", lease: 30_000 })
          const b = yield* engine.join({ node: "b", lease: 30_000 })
          yield* b.claim("key")
          // one that has lived for a moment is replaced at once
          yield* Effect.sleep(1000)
          yield* publish(a, "b", "before")
          yield* Effect.promise(async () => {
            const clients = (await admin.clientList()).filter(({ name }) => name === prefix)
            assert.strictEqual(clients.length, 2)
            for (const { id } of clients) await admin.clientKill({ filter: "ID", id })
          })
          assert.deepStrictEqual(yield* received(b, 2), ["before", "gap of undefined"])
          assert.deepStrictEqual(yield* received(a, 1), ["gap of undefined"])
          yield* eventually(publish(a, "b", "after"), (outcome) => outcome === "sent")
          assert.deepStrictEqual(yield* received(b, 1), ["after"])
          assert.strictEqual((yield* a.find("key"))?.node, "b")
          yield* b.renew(false)
        })
    )
  }
)
