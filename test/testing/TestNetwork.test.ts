import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { TestNetwork } from "../../src/testing/index.ts"
import { accepting, bytes, causeCode, open, readAll, text } from "./support/network.ts"

describe("TestNetwork", () => {
  describe("opening", () => {
    it.effect("takes one round trip for the client, and half a one more for the server", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ seed: 1, latency: 30 })
        const accepted = yield* accepting(network.host("server"), 7)
        const client = yield* Effect.forkChild(open(network.host("client").dial("server:7")))
        yield* TestClock.adjust(59)
        assert.isUndefined(client.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isDefined(client.pollUnsafe())
        assert.strictEqual(accepted.count(), 0)
        yield* TestClock.adjust(29)
        assert.strictEqual(accepted.count(), 0)
        yield* TestClock.adjust(1)
        assert.strictEqual(accepted.count(), 1)
      }))

    it.effect("is refused after one round trip where nobody listens", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 30 })
        network.host("server")
        const client = yield* Effect.forkChild(Effect.flip(open(network.host("client").dial("server:7"))))
        yield* TestClock.adjust(59)
        assert.isUndefined(client.pollUnsafe())
        yield* TestClock.adjust(1)
        const error = yield* Fiber.join(client)
        assert.strictEqual(error.reason._tag, "SocketOpenError")
        assert.strictEqual(causeCode(error), "ECONNREFUSED")
      }))
  })

  describe("a conversation", () => {
    it.effect("without latency needs no time at all", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ slicing: false })
        const accepted = yield* accepting(network.host("server"), 7)
        const client = yield* open(network.host("client").dial("server:7"))
        const server = yield* accepted.take
        yield* client.write("hello")
        assert.strictEqual(text(yield* server.pull), "hello")
        yield* server.write("you")
        assert.strictEqual(text(yield* client.pull), "you")
        assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      }))
  })

  describe("a reader that does not read", () => {
    it.effect("lets through exactly both buffers, and then the writer waits", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 10, sendBuffer: 1000, receiveBuffer: 500 })
        const accepted = yield* accepting(network.host("server"), 7)
        const client = yield* Effect.forkScoped(open(network.host("client").dial("server:7")))
        yield* TestClock.adjust(100)
        const { write } = yield* Fiber.join(client)
        const server = yield* accepted.take
        const first = yield* Effect.forkChild(write(bytes(1500)))
        yield* TestClock.adjust(100)
        assert.isDefined(first.pollUnsafe())
        const more = yield* Effect.forkChild(write(bytes(1)))
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(more.pollUnsafe())
        const [connection] = (yield* network.snapshot).connections
        assert.deepInclude(connection.client, { sendQueue: 1000, unsent: 1, writing: 1 })
        assert.deepInclude(connection.server, { receiveQueue: 500 })
        yield* server.pull
        // the window update, what it lets go, and the acknowledgement of that
        yield* TestClock.adjust(29)
        assert.isUndefined(more.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isDefined(more.pollUnsafe())
      }))
  })

  describe("the end", () => {
    it.effect("releasing the writer half-closes: the peer reads the rest, answers, and ends", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ seed: 3 })
        const accepted = yield* accepting(network.host("server"), 7)
        const client = yield* open(network.host("client").dial("server:7"))
        const server = yield* accepted.take
        yield* client.write("the rest")
        yield* client.finish
        const [read, end] = yield* readAll(server)
        assert.strictEqual(read, "the rest")
        assert.deepInclude(end.reason, { _tag: "SocketCloseError", code: 1000 })
        yield* server.write("an answer")
        yield* server.close
        const [answer, last] = yield* readAll(client)
        assert.strictEqual(answer, "an answer")
        assert.deepInclude(last.reason, { _tag: "SocketCloseError", code: 1000 })
        yield* client.close
        assert.deepStrictEqual((yield* network.snapshot).connections, [])
      }))

    it.effect("closing with unread data is a reset", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ seed: 3 })
        const accepted = yield* accepting(network.host("server"), 7)
        const client = yield* open(network.host("client").dial("server:7"))
        const server = yield* accepted.take
        yield* client.write("unread")
        yield* TestClock.adjust(0)
        yield* server.close
        const [, end] = yield* readAll(client)
        assert.strictEqual(end.reason._tag, "SocketReadError")
        assert.strictEqual(causeCode(end), "ECONNRESET")
        const failed = yield* Effect.flip(client.write("more"))
        assert.strictEqual(failed.reason._tag, "SocketWriteError")
      }))
  })

  describe("a partition", () => {
    it.effect("delays what was sent until a retransmission after its end", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 5 })
        const accepted = yield* accepting(network.host("server"), 7)
        const opening = yield* Effect.forkScoped(open(network.host("client").dial("server:7")))
        yield* TestClock.adjust(100)
        const client = yield* Fiber.join(opening)
        const server = yield* accepted.take
        const scope = yield* Scope.make()
        yield* Scope.provide(network.link("client", "server").partition, scope)
        yield* client.write("late")
        const reading = yield* Effect.forkChild(server.pull)
        // sent again 200, 600 and 1400 ms after the first time
        yield* TestClock.adjust(1000)
        yield* Scope.close(scope, Exit.void)
        yield* TestClock.adjust(404)
        assert.isUndefined(reading.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isDefined(reading.pollUnsafe())
      }))

    it.effect("ends with ETIMEDOUT once nothing was acknowledged for the user timeout", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 5, userTimeout: "30 seconds" })
        const accepted = yield* accepting(network.host("server"), 7)
        const opening = yield* Effect.forkScoped(open(network.host("client").dial("server:7")))
        yield* TestClock.adjust(100)
        const client = yield* Fiber.join(opening)
        const server = yield* accepted.take
        yield* network.link("client", "server").partition
        yield* client.write("never")
        const reading = yield* Effect.forkChild(Effect.flip(client.pull))
        const other = yield* Effect.forkChild(server.pull)
        yield* TestClock.adjust(29_999)
        assert.isUndefined(reading.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual(causeCode(yield* Fiber.join(reading)), "ETIMEDOUT")
        assert.isUndefined(other.pollUnsafe())
      }))
  })

  describe("vanish", () => {
    it.effect("leaves both ends waiting", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        const accepted = yield* accepting(network.host("server"), 7)
        const client = yield* open(network.host("client").dial("server:7"))
        const server = yield* accepted.take
        assert.strictEqual(yield* network.host("client").vanish, 1)
        yield* client.close
        const reading = yield* Effect.forkChild(server.pull)
        yield* TestClock.adjust("1 day")
        assert.isUndefined(reading.pollUnsafe())
        yield* server.write("is anybody there?")
        yield* TestClock.adjust("923 seconds")
        assert.isUndefined(reading.pollUnsafe())
        yield* TestClock.adjust("1 second")
        assert.strictEqual(causeCode(yield* Effect.flip(Fiber.join(reading))), "ETIMEDOUT")
      }))
  })
})
