/** The readers of the example see each message once and in order, or are told that they do not. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Scope } from "effect"
import { SocketServer } from "effect/socket"
import { History } from "holdfast"
import { Listener } from "holdfast/node"
import { read, serve, type Told } from "./room.ts"

describe("the example history", () => {
  it.live("a reader misses nothing over reconnects, and is told of a server that has forgotten", () =>
    Effect.gen(function*() {
      let port = 0
      const server = (room: History.History<string>) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const listener = yield* Scope.provide(Listener.make(`tcp://127.0.0.1:${port}`), scope)
          if ("port" in listener.address) port = listener.address.port
          const serving = Effect.provideService(serve(room), SocketServer.SocketServer, listener)
          yield* Effect.forkIn(serving, scope)
          return scope
        })
      const until = (what: string, condition: () => boolean) =>
        Effect.gen(function*() {
          const deadline = performance.now() + 10_000
          while (!condition()) {
            if (performance.now() > deadline) return yield* Effect.die(new Error(what))
            yield* Effect.sleep("5 millis")
          }
        })
      const first = yield* History.memory<string>()
      const scope = yield* server(first)
      const told: Told = { messages: 0, gaps: 0, connections: 0 }
      const events: Array<History.Event<string>> = []
      const { client, reading } = yield* read(
        `tcp://127.0.0.1:${port}`,
        told,
        (event) => Effect.sync(() => events.push(event))
      )
      yield* Effect.forkChild(reading)
      yield* until("a start", () => events.length === 1)
      for (let i = 1; i <= 100; i++) {
        yield* first.append(`${i}`)
        if (i % 20 === 0) {
          yield* client.reconnect
          yield* Effect.sleep("10 millis")
        }
      }
      yield* until("all messages", () => told.messages === 100)
      const seen = events.flatMap((event) => event._tag === "Message" ? [Number(event.message)] : [])
      assert.deepStrictEqual(seen, Array.from({ length: 100 }, (_, i) => i + 1))
      assert.isAtLeast(told.connections, 3)
      assert.strictEqual(told.gaps, 0)

      yield* Scope.close(scope, yield* Effect.exit(Effect.fail("the process ends")))
      const second = yield* History.memory<string>()
      yield* second.append("of another process")
      const later = yield* server(second)
      yield* until("what the other one has", () => told.messages === 101)
      assert.strictEqual(told.gaps, 1)
      yield* Scope.close(later, yield* Effect.exit(Effect.fail("the process ends")))
    }))
})
