/** Requests over connections that are not their own: what is left of a request that gave up reaches no other one. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Client, Codec, Connection, ConnectionError, Request } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"
import { reasonOf, settle, start } from "./support/storms.ts"

const lines = Connection.make({ codec: Codec.lines(), policy: { pingEvery: 0, silence: 0 } })

const correlate = {
  request: (message: string, id: number) => `${id} ${message}`,
  response: (message: string) => Number(message.split(" ")[0])
}

/** A client, and the peers of its connections. */
const clientOf = Effect.gen(function*() {
  const peers: Array<TestSocket.Peer> = []
  const open = Effect.flatMap(TestSocket.make(), (peer) => {
    peers.push(peer)
    return lines(peer.socket)
  })
  const client = yield* Client.make(open, { policy: { retryJitter: "none", retryBase: 100 } })
  return { client, peers }
})

describe("a request that gave up", () => {
  it.effect("B68 over one connection, in order: the late answer reaches no other request", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const connection = yield* lines(peer.socket)
      const { request } = yield* Request.make(connection)
      const late = yield* start(Effect.exit(request("a", { deadline: 10 })))
      yield* TestClock.adjust(10)
      assert.strictEqual(reasonOf(yield* Fiber.join(late)), "RequestTimeout")
      const next = yield* start(Effect.exit(request("b", { deadline: 1000 })))
      yield* peer.send("re a\n")
      yield* settle
      assert.strictEqual(reasonOf(yield* Fiber.join(next)), "Closed")
      assert.strictEqual(yield* peer.text, "a\n")
    }))

  it.effect("B68 over a client, in order: the client comes back with another connection", () =>
    Effect.gen(function*() {
      const { client, peers } = yield* clientOf
      const { request } = yield* Request.make(client.connection)
      const late = yield* start(Effect.exit(request("a", { deadline: 10 })))
      yield* TestClock.adjust(10)
      assert.strictEqual(reasonOf(yield* Fiber.join(late)), "RequestTimeout")
      const next = yield* start(request("b", { deadline: 1000 }))
      yield* peers[0]!.send("re a\n")
      yield* TestClock.adjust(100)
      yield* peers[1]!.send("re b\n")
      assert.strictEqual(yield* Fiber.join(next), "re b")
    }))

  it.effect("B68 over one connection, with ids: the connection goes on", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const connection = yield* lines(peer.socket)
      const { request } = yield* Request.make(connection, { correlate })
      const late = yield* start(Effect.exit(request("a", { deadline: 10 })))
      yield* TestClock.adjust(10)
      yield* Fiber.join(late)
      const next = yield* start(request("b", { deadline: 1000 }))
      yield* settle
      yield* peer.send("1 re a\n2 re b\n")
      assert.strictEqual(yield* Fiber.join(next), "2 re b")
    }))

  for (const ids of [true, false]) {
    it.effect(`B68 because its scope closed: the client lives on (${ids ? "with ids" : "in order"})`, () =>
      Effect.gen(function*() {
        const { client } = yield* clientOf
        const scope = yield* Scope.make()
        const requests = yield* Scope.provide(Request.make(client.connection, ids ? { correlate } : {}), scope)
        const asking = yield* start(Effect.exit(requests.request("a")))
        yield* settle
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.join(asking)
        yield* TestClock.adjust(100)
        assert.strictEqual((yield* client.state)._tag, "Connected")
      }))
  }
})

describe("a request that is sent again", () => {
  it.effect("B68 and whose next connection does not open: its outcome is unknown, as the peer has seen it", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      let dials = 0
      const open = Effect.suspend(() =>
        dials++ === 0 ? lines(peer.socket) : ConnectionError.make(new ConnectionError.OpenFailed({ cause: "down" }))
      )
      const { request } = yield* Request.make(open)
      const asking = yield* start(Effect.exit(request("a", { idempotent: true })))
      yield* settle
      assert.strictEqual(yield* peer.text, "a\n")
      yield* peer.reset
      assert.strictEqual(reasonOf(yield* Fiber.join(asking)), "OutcomeUnknown")
    }))
})
