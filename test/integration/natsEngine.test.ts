/** `holdfast/nats` against a real nats-server. */
import { assert, describe, it } from "@effect/vitest"
import { Kvm } from "@nats-io/kv"
import { connect, type NatsConnection } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll, beforeAll } from "vitest"
import { NatsBackplane } from "../../src/nats/index.ts"
import { BackplaneContract } from "../../src/testing/index.ts"
import { isLong } from "../support/often.ts"
import { cuttable, type Daemon, installed, natsServer } from "./support/engines.ts"
import { eventually, publish, received, table, takesLong } from "./support/engineTable.ts"

// none may end while the machine has other work, but where a check waits for that
const lease = isLong ? "2 seconds" : "10 seconds"

describe.skipIf(installed("nats-server") === undefined)(
  "the NATS engine (skipped where nats-server is missing)",
  { tags: ["long"] },
  () => {
    const scope = Scope.makeUnsafe()
    let server: Daemon
    let admin: NatsConnection
    beforeAll(async () => {
      server = await Effect.runPromise(Scope.provide(natsServer(), scope))
      admin = await connect({ servers: `127.0.0.1:${server.port}` })
    })
    afterAll(async () => {
      await admin.close()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    })

    let fleets = 0
    const world = Effect.suspend(() => {
      const prefix = `fleet${fleets++}`
      const make = NatsBackplane.make({ servers: `127.0.0.1:${server.port}`, prefix, storage: "memory" })
      const wipe = Effect.promise(async () => {
        const kvm = new Kvm(admin)
        for (const bucket of ["directory", "gone", "leases"]) await (await kvm.open(`${prefix}_${bucket}`)).destroy()
      })
      return Effect.map(make, (engine) => ({ engine, make, wipe, prefix }))
    })

    if (isLong) table(() => world)

    it.live.runIf(isLong)(
      "an inbox that is cut goes on after a gap; claims and the lease are as they were",
      () =>
        Effect.gen(function*() {
          const proxy = yield* cuttable(server.port)
          const engine = yield* NatsBackplane.make({ servers: `127.0.0.1:${proxy.port}`, prefix: `fleet${fleets++}` })
          const a = yield* engine.join({ node: "a", lease: 30_000 })
          const b = yield* engine.join({ node: "b", lease: 30_000 })
          yield* b.claim("key")
          // one that has lived for a moment is replaced at once
          yield* Effect.sleep(1000)
          yield* publish(a, "b", "before")
          assert.deepStrictEqual(yield* received(b, 1), ["before"])
          assert.strictEqual(proxy.cut(), 2)
          assert.deepStrictEqual(yield* received(b, 1), ["gap of undefined"])
          assert.deepStrictEqual(yield* received(a, 1), ["gap of undefined"])
          yield* eventually(publish(a, "b", "after"), (outcome) => outcome === "sent")
          assert.deepStrictEqual(yield* received(b, 1), ["after"])
          assert.strictEqual((yield* a.find("key"))?.node, "b")
          yield* b.renew(false)
          assert.strictEqual((yield* b.claim("key"))._tag, "Claimed")
        })
    )

    it.live("logins that wait for the keys of a node that has gone ask the server once whether it lives, and write", () =>
      Effect.gen(function*() {
        const { engine, prefix } = yield* world
        const reads: Array<string> = []
        admin.subscribe("$JS.API.STREAM.MSG.GET.*", {
          callback: (_, { subject }) => {
            const [, bucket] = subject.split(`.KV_${prefix}_`)
            if (bucket !== undefined) reads.push(bucket)
          }
        })
        const read = Effect.promise(async () => {
          await admin.flush()
          return reads.splice(0)
        })
        const a = yield* engine.join({ node: "a", lease: 10_000 })
        const b = yield* engine.join({ node: "b", lease: 10_000 })
        const keys = ["k1", "k2", "k3"]
        const taken = yield* Effect.forEach(keys, (key) => Effect.andThen(a.claim(key), b.claim(key)))
        yield* a.leave
        // the bucket of leases tells it
        yield* eventually(b.nodes, (nodes) => nodes.length === 1)
        yield* read
        for (const [i, claim] of taken.entries()) {
          if (claim._tag !== "Taken") return assert.fail("a holds it")
          const again = yield* b.claim(keys[i]!, { as: claim.token, over: claim.holder.token })
          assert.deepStrictEqual(again, { _tag: "Claimed", token: claim.token })
        }
        assert.deepStrictEqual(yield* read, ["leases"])
        // the next stay of that node is another one
        const next = yield* engine.join({ node: "a", lease: 10_000 })
        yield* next.claim("k4")
        assert.strictEqual((yield* b.claim("k4"))._tag, "Taken")
      }))

    it.live("a login that follows one whose key was held reads first: it writes nothing in vain", () =>
      Effect.gen(function*() {
        const { engine, prefix } = yield* world
        const asked: Array<string> = []
        for (const subject of [`$KV.${prefix}_directory.>`, `$JS.API.STREAM.MSG.GET.KV_${prefix}_directory`]) {
          admin.subscribe(subject, {
            callback: (_, message) => void asked.push(message.subject.startsWith("$KV") ? "write" : "read")
          })
        }
        const a = yield* engine.join({ node: "a", lease: 10_000 })
        const b = yield* engine.join({ node: "b", lease: 10_000 })
        const keys = ["k1", "k2", "k3"]
        yield* Effect.forEach(keys, (key) => a.claim(key))
        const of = (key: string) =>
          Effect.gen(function*() {
            yield* Effect.promise(() => admin.flush())
            asked.length = 0
            yield* b.claim(key)
            yield* Effect.promise(() => admin.flush())
            return asked.join()
          })
        assert.strictEqual(yield* of("k1"), "write,read,write")
        assert.strictEqual(yield* of("k2"), "read,write")
        assert.strictEqual(yield* of("free"), "read,write")
        assert.strictEqual(yield* of("another"), "write")
        assert.strictEqual(yield* of("k3"), "write,read,write")
      }))

    describe("keeps the contract", () => {
      for (const check of BackplaneContract.checks) {
        it.live.runIf(isLong || !takesLong(check.name))(check.name, () =>
          check.run({
            name: "nats",
            lease,
            open: Effect.map(world, ({ make, wipe }) => ({ connect: make, wipe }))
          }))
      }
    })
  }
)
