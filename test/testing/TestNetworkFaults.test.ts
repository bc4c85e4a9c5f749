import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { TestNetwork } from "../../src/testing/index.ts"
import {
  accepting,
  bytes,
  causeCode,
  connected,
  during,
  failure,
  open,
  readAll,
  readBytes,
  settle,
  takes,
  text,
  waits
} from "./support/network.ts"

const states = (network: TestNetwork.Network) =>
  Effect.map(
    network.snapshot,
    ({ connections }) => connections.map(({ client, server }) => [client.state, server.state])
  )

describe("TestNetwork", () => {
  describe("partition", () => {
    it.effect("delays what was sent until it is sent again after the end", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 5 })
        const [, heal] = yield* during(link.partition)
        yield* client.write("late")
        yield* client.write(", and in order")
        const reading = yield* Effect.forkChild(readBytes(server, 18))
        // sent again 200, 600 and 1400 ms after the first time
        yield* TestClock.adjust(1000)
        yield* heal
        yield* TestClock.adjust(404)
        assert.isUndefined(reading.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* Fiber.join(reading), "late, and in order")
      }))

    it.effect("loses what is on its way when it begins", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 50 })
        yield* client.write("on its way")
        yield* TestClock.adjust(10)
        const [, heal] = yield* during(link.partition)
        yield* TestClock.adjust(45)
        yield* heal
        // sent at 0, lost at 50, sent again at 200
        yield* takes(250 - 55, readBytes(server, 10))
      }))

    it.effect("loses what leaves while it lasts, although it would arrive afterwards", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 50 })
        const [, heal] = yield* during(link.partition)
        yield* client.write("too early")
        yield* TestClock.adjust(10)
        yield* heal
        // sent again at 200
        yield* takes(250 - 10, readBytes(server, 9))
      }))

    it.effect("loses a first packet on its way", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 50 })
        yield* accepting(network.host("server"), 7)
        const opening = yield* Effect.forkScoped(open(network.host("client").dial("server:7")))
        yield* TestClock.adjust(10)
        const [, heal] = yield* during(network.link("client", "server").partition)
        yield* TestClock.adjust(50)
        yield* heal
        yield* takes(1100 - 60, Fiber.join(opening))
      }))

    it.effect("keeps the order of what was lost and what came through", () =>
      Effect.gen(function*() {
        for (let seed = 0; seed < 30; seed++) {
          const { client, link, server } = yield* connected({ seed, latency: { uniform: [0, 60] } })
          let written = ""
          yield* Effect.forkChild(Effect.gen(function*() {
            for (let i = 0; i < 40; i++) {
              yield* client.write(`${i},`)
              yield* Effect.sleep(10)
            }
          }))
          yield* Effect.forkChild(Effect.gen(function*() {
            for (let i = 0; i < 5; i++) {
              yield* Effect.sleep(30)
              yield* Effect.scoped(Effect.andThen(link.from("client").partition, Effect.sleep(20)))
            }
          }))
          for (let i = 0; i < 40; i++) written += `${i},`
          const reading = yield* Effect.forkChild(readBytes(server, written.length))
          yield* TestClock.adjust("5 minutes")
          assert.strictEqual(yield* Fiber.join(reading), written)
        }
      }))

    it.effect("keeps the order where much is on its way for longer than it takes to send again", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 5, bandwidth: 100_000 })
        const written = Array.from({ length: 12_000 }, (_, i) => `${i},`).join("")
        yield* Effect.forkChild(client.write(written))
        const reading = yield* Effect.forkChild(readBytes(server, written.length))
        yield* TestClock.adjust(20)
        yield* Effect.scoped(Effect.andThen(link.from("client").partition, TestClock.adjust(20)))
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(yield* Fiber.join(reading), written)
      }))

    it.effect("what was sent behind something that is not sent again is lost with it", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 5, bandwidth: 100_000 })
        const written = Array.from({ length: 4000 }, (_, i) => `${i},`).join("")
        yield* server.write("unread")
        yield* TestClock.adjust(10)
        yield* Effect.forkChild(client.write(written))
        let read = ""
        yield* Effect.forkChild(Effect.ignore(Effect.forever(Effect.flatMap(server.pull, (chunks) =>
          Effect.sync(() => {
            read += text(chunks)
          })))))
        yield* TestClock.adjust(20)
        yield* Effect.scoped(Effect.andThen(link.from("client").partition, TestClock.adjust(20)))
        // with something unread: what was lost is not sent again
        yield* client.drop
        yield* TestClock.adjust("1 minute")
        assert.isAbove(read.length, 0)
        assert.isBelow(read.length, written.length)
        assert.isTrue(written.startsWith(read))
      }))

    it.effect("ends with ETIMEDOUT once nothing was acknowledged for the user timeout; the peer is not told", () =>
      Effect.gen(function*() {
        const { client, link, network, server } = yield* connected({ latency: 5 }, {
          dial: { userTimeout: "30 seconds" }
        })
        yield* link.partition
        yield* client.write("never")
        const other = yield* Effect.forkChild(server.pull)
        const error = yield* takes(30_000, Effect.flip(client.pull))
        assert.deepStrictEqual(failure(error), ["SocketReadError", "ETIMEDOUT"])
        assert.deepStrictEqual(failure(yield* Effect.flip(client.write("x"))), ["SocketWriteError", "ETIMEDOUT"])
        yield* TestClock.adjust("1 day")
        assert.isUndefined(other.pollUnsafe())
        assert.deepStrictEqual(yield* states(network), [["CLOSED", "ESTABLISHED"]])
      }))

    it.effect("an idle connection survives it for ever", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 5 })
        const [, heal] = yield* during(link.partition)
        yield* TestClock.adjust("30 days")
        yield* heal
        yield* takes(5, Effect.andThen(client.write("x"), server.pull))
      }))

    it.effect("one way: answers arrive, questions do not, and the answering side gives up for want of acknowledgements", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 5, userTimeout: "1 minute" })
        yield* link.from("client").partition
        yield* server.write("answer")
        yield* takes(5, readBytes(client, 6))
        const error = yield* Effect.forkChild(Effect.flip(server.pull))
        yield* waits(59_000, Effect.andThen(client.write("question"), server.pull))
        yield* TestClock.adjust(2000)
        assert.strictEqual(causeCode(yield* Fiber.join(error)), "ETIMEDOUT")
      }))

    it.effect("a writer that waits for a reader of the other side times out, too", () =>
      Effect.gen(function*() {
        const { client, link } = yield* connected({
          latency: 5,
          sendBuffer: 10,
          receiveBuffer: 10,
          userTimeout: "1 minute"
        })
        const writing = yield* Effect.forkChild(Effect.flip(client.write(bytes(100))))
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(writing.pollUnsafe(), "a closed window is no loss")
        yield* link.partition
        yield* TestClock.adjust(59_999)
        assert.isUndefined(writing.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual(causeCode(yield* Fiber.join(writing)), "ETIMEDOUT")
      }))

    it.effect("partitions add up: the last one to end heals", () =>
      Effect.gen(function*() {
        const { client, link, network, server } = yield* connected()
        const [, one] = yield* during(link.partition)
        const [, two] = yield* during(network.link("client").partition)
        yield* one
        assert.strictEqual((yield* network.snapshot).links[0].state, "cut")
        yield* two
        yield* takes(0, Effect.andThen(client.write("x"), server.pull))
      }))

    it.effect("holds for hosts that talk only later, and for one host with everybody", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        yield* accepting(network.host("a"), 7)
        yield* accepting(network.host("b"), 7)
        yield* network.link("a").partition
        yield* waits(1000, open(network.host("c").dial("a:7")))
        yield* waits(1000, open(network.host("a").dial("b:7")))
        yield* takes(0, open(network.host("c").dial("b:7")))
        yield* network.link().partition
        yield* waits(1000, open(network.host("c").dial("b:7")))
      }))
  })

  describe("hold", () => {
    it.effect("stops packets at the far end, to be looked at and let through one by one", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 10 })
        const hold = yield* link.hold
        yield* client.write("one")
        yield* client.write("two")
        yield* client.write("three")
        yield* client.finish
        assert.deepStrictEqual(yield* hold.packets, [])
        yield* TestClock.adjust(10)
        assert.deepStrictEqual(
          (yield* hold.packets).map(({ from, kind, text }) => [from, kind, text]),
          [["client", "data", "one"], ["client", "data", "two"], ["client", "data", "three"], ["client", "fin", ""]]
        )
        yield* waits(1000, server.pull)
        assert.strictEqual(yield* hold.deliver(1), 1)
        assert.strictEqual(yield* takes(0, readBytes(server, 3)), "one")
        yield* waits(3_600_000, server.pull)
        yield* hold.release
        const [rest, end] = yield* takes(0, readAll(server))
        assert.strictEqual(rest, "twothree")
        assert.deepStrictEqual(failure(end), ["SocketCloseError", 1000])
        // it stops nothing any more
        yield* takes(10, Effect.andThen(server.write("x"), client.pull))
      }))

    it.effect("ends with its scope", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected()
        const [, release] = yield* during(link.hold)
        yield* client.write("held")
        yield* waits(1000, server.pull)
        yield* release
        yield* takes(0, readBytes(server, 4))
      }))

    it.effect("of several the first one catches, and the next one when that has ended", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected()
        const first = yield* link.hold
        const second = yield* link.hold
        yield* client.write("held")
        yield* settle
        assert.deepStrictEqual([(yield* first.packets).length, (yield* second.packets).length], [1, 0])
        yield* first.release
        assert.deepStrictEqual([(yield* first.packets).length, (yield* second.packets).length], [0, 1])
        yield* waits(1000, server.pull)
        yield* second.release
        yield* takes(0, readBytes(server, 4))
      }))

    it.effect("a handshake can be taken apart", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ seed: 1 })
        const accepted = yield* accepting(network.host("server"), 7)
        const hold = yield* network.link("client", "server").hold
        const opening = yield* Effect.forkScoped(open(network.host("client").dial("server:7")))
        const kinds: Array<string> = []
        for (let i = 0; i < 3; i++) {
          yield* settle
          kinds.push(...(yield* hold.packets).map(({ kind }) => kind))
          assert.strictEqual(opening.pollUnsafe() !== undefined, i === 2)
          assert.strictEqual(accepted.count(), 0)
          yield* hold.deliver(1)
        }
        yield* settle
        assert.deepStrictEqual(kinds, ["syn", "syn-ack", "ack"])
        assert.strictEqual(accepted.count(), 1)
      }))

    it.effect("holds acknowledgements as well", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ sendBuffer: 10, receiveBuffer: 10 })
        const hold = yield* link.from("server").hold
        yield* client.write(bytes(10))
        const writing = yield* Effect.forkChild(client.write(bytes(5)))
        yield* takes(0, readBytes(server, 10))
        yield* TestClock.adjust(1000)
        assert.isUndefined(writing.pollUnsafe())
        yield* hold.release
        yield* takes(0, readBytes(server, 5))
        assert.isDefined(writing.pollUnsafe())
      }))
  })

  it.effect("clog: a jam, after which everything comes at once, and nothing was lost", () =>
    Effect.gen(function*() {
      const { client, link, network, server } = yield* connected({ latency: 10, trace: Infinity })
      const [, clear] = yield* during(link.clog)
      for (let i = 0; i < 10; i++) yield* Effect.andThen(client.write(`${i}`), TestClock.adjust(100))
      assert.strictEqual((yield* network.snapshot).links[0].held, 10)
      yield* waits(1000, server.pull)
      yield* clear
      assert.strictEqual(yield* takes(0, readBytes(server, 10)), "0123456789")
      assert.isFalse((yield* network.trace).some(({ kind }) => kind === "lose"))
    }))

  describe("vanish", () => {
    it.effect("leaves both ends waiting: half-open, until somebody sends", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected()
        assert.strictEqual(yield* network.host("client").vanish, 1)
        yield* client.close
        const reading = yield* Effect.forkChild(Effect.flip(server.pull))
        yield* TestClock.adjust("1 day")
        assert.isUndefined(reading.pollUnsafe())
        yield* server.write("is anybody there?")
        yield* takes(924_000, Fiber.join(reading))
        assert.deepStrictEqual(failure(yield* Fiber.join(reading)), ["SocketReadError", "ETIMEDOUT"])
        assert.deepStrictEqual((yield* network.snapshot).connections, [])
      }))

    it.effect("concerns the connections there are: the host can open new ones", () =>
      Effect.gen(function*() {
        const { dial, network } = yield* connected()
        assert.strictEqual(yield* network.link("client", "server").vanish, 1)
        const [client, server] = yield* dial
        yield* takes(0, Effect.andThen(client.write("x"), server.pull))
        assert.deepStrictEqual(yield* states(network), [["GONE", "GONE"], ["ESTABLISHED", "ESTABLISHED"]])
        const { id } = (yield* network.snapshot).connections[1]
        assert.isTrue(yield* network.vanish(id))
        assert.isFalse(yield* network.vanish(99))
        yield* waits(1000, Effect.andThen(client.write("x"), server.pull))
      }))

    it.effect("a packet on its way does not arrive", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 10 })
        yield* client.write("x")
        yield* link.vanish
        yield* waits(1000, server.pull)
      }))
  })

  describe("reset", () => {
    it.effect("of a link breaks both ends now, and what was not read is lost", () =>
      Effect.gen(function*() {
        const { client, link, network, server } = yield* connected({ latency: 10 })
        yield* server.write("unread")
        const waiting = yield* Effect.forkChild(Effect.flip(server.pull))
        yield* TestClock.adjust(10)
        assert.strictEqual(yield* link.reset, 1)
        const [read, end] = yield* takes(0, readAll(client))
        assert.strictEqual(read, "")
        assert.deepStrictEqual(failure(end), ["SocketReadError", "ECONNRESET"])
        assert.deepStrictEqual(failure(yield* Fiber.join(waiting)), ["SocketReadError", "ECONNRESET"])
        assert.deepStrictEqual((yield* network.snapshot).connections, [])
      }))

    it.effect("of a host reaches the peer with the latency of the way", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected({ latency: 10 })
        yield* network.host("server").reset
        assert.strictEqual(causeCode(yield* takes(0, Effect.flip(server.pull))), "ECONNRESET")
        assert.strictEqual(causeCode(yield* takes(10, Effect.flip(client.pull))), "ECONNRESET")
      }))

    it.effect("fails a write that waits", () =>
      Effect.gen(function*() {
        const { client, network } = yield* connected({ sendBuffer: 10, receiveBuffer: 10 })
        const writing = yield* Effect.forkChild(Effect.flip(client.write(bytes(100))))
        yield* settle
        const { id } = (yield* network.snapshot).connections[0]
        assert.isTrue(yield* network.reset(id))
        assert.deepStrictEqual(failure(yield* takes(0, Fiber.join(writing))), ["SocketWriteError", "ECONNRESET"])
      }))

    it.effect("that is lost leaves the peer half-open; the next data meets another one", () =>
      Effect.gen(function*() {
        const { client, link, network, server } = yield* connected({ latency: 10 })
        const [, heal] = yield* during(link.partition)
        yield* network.host("server").reset
        yield* heal
        yield* waits(100_000, client.pull)
        yield* client.write("hello?")
        assert.strictEqual(causeCode(yield* takes(20, Effect.flip(client.pull))), "ECONNRESET")
        yield* server.close
      }))
  })

  it.effect("refuse: dials are answered with a reset, connections stay", () =>
    Effect.gen(function*() {
      const { client, network, server } = yield* connected()
      const dial = network.host("client").dial("server:7")
      const refused = yield* Scope.make()
      yield* Scope.provide(network.host("server").refuse(8), refused)
      yield* takes(0, open(dial))
      yield* Scope.provide(network.host("server").refuse(), refused)
      const error = yield* takes(0, Effect.flip(open(dial)))
      assert.deepStrictEqual(failure(error), ["SocketOpenError", "ECONNREFUSED"])
      yield* takes(0, Effect.andThen(client.write("x"), server.pull))
      yield* Scope.close(refused, Exit.void)
      yield* takes(0, open(dial))
    }))

  describe("inject", () => {
    const error = Object.assign(new Error("as told"), { code: "ETOLD" })

    it.effect("dial: so many fail, on one host", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        yield* accepting(network.host("server"), 7)
        yield* network.inject({ host: "client", operation: "dial", error, times: 2 })
        const dial = open(network.host("client").dial("server:7"))
        yield* takes(0, open(network.host("other").dial("server:7")))
        for (let i = 0; i < 2; i++) {
          assert.deepStrictEqual(failure(yield* takes(0, Effect.flip(dial))), ["SocketOpenError", "ETOLD"])
        }
        yield* takes(0, dial)
      }))

    it.effect("listen: the port cannot be had, once", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        yield* network.inject({ operation: "listen", error })
        const failed = yield* Effect.flip(network.host("server").listen(7))
        assert.deepStrictEqual([failed.reason._tag, failed.reason.cause], ["SocketServerOpenError", error])
        yield* network.host("server").listen(7)
      }))

    it.effect("accept: run fails, and the connection waits for the next run", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        const server = yield* network.host("server").listen(7)
        yield* network.inject({ operation: "accept", error })
        let handled = 0
        const run = server.run(() => Effect.sync(() => handled++))
        const running = yield* Effect.forkChild(Effect.flip(run))
        yield* takes(0, open(network.host("client").dial("server:7")))
        const failed = yield* takes(0, Fiber.join(running))
        assert.strictEqual(failed.reason._tag, "SocketServerUnknownError")
        assert.strictEqual(failed.reason.cause, error)
        assert.strictEqual(handled, 0)
        yield* Effect.forkScoped(run)
        yield* settle
        assert.strictEqual(handled, 1)
      }))

    it.effect("read: one that waits fails at once, and the peer gets a reset", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected()
        const reading = yield* Effect.forkChild(Effect.flip(client.pull))
        yield* settle
        yield* network.inject({ host: "client", operation: "read", error })
        assert.deepStrictEqual(failure(yield* takes(0, Fiber.join(reading))), ["SocketReadError", "ETOLD"])
        assert.deepStrictEqual(failure((yield* takes(0, readAll(server)))[1]), ["SocketReadError", "ECONNRESET"])
      }))

    it.effect("write: the connection is broken", () =>
      Effect.gen(function*() {
        const { client, network } = yield* connected()
        yield* network.inject({ operation: "write", error })
        assert.deepStrictEqual(failure(yield* Effect.flip(client.write("x"))), ["SocketWriteError", "ETOLD"])
        assert.deepStrictEqual(failure(yield* Effect.flip(client.pull)), ["SocketReadError", "ETOLD"])
      }))

    it.effect("ends with its scope", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected()
        yield* Effect.scoped(network.inject({ operation: "write", error }))
        yield* takes(0, Effect.andThen(client.write("x"), server.pull))
      }))
  })

  describe("address translation", () => {
    it.effect("forgets a silent connection without a word", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 5, userTimeout: "1 minute" })
        yield* link.nat({ timeout: "30 seconds" })
        // either direction keeps it alive
        for (let i = 0; i < 3; i++) {
          yield* takes(5, Effect.andThen(client.write("x"), server.pull))
          yield* TestClock.adjust(29_000)
          yield* takes(5, Effect.andThen(server.write("x"), client.pull))
          yield* TestClock.adjust(29_000)
        }
        yield* TestClock.adjust(1000)
        const reading = yield* Effect.forkChild(Effect.flip(server.pull))
        yield* client.write("lost")
        const error = yield* takes(60_000, Effect.flip(client.pull))
        assert.deepStrictEqual(failure(error), ["SocketReadError", "ETIMEDOUT"])
        assert.isUndefined(reading.pollUnsafe())
      }))

    it.effect("or answers with a reset, on either side", () =>
      Effect.gen(function*() {
        const { client, dial, link, server } = yield* connected({ latency: 5 })
        const [client2, server2] = yield* dial
        yield* link.nat({ timeout: "30 seconds", expired: "reset" })
        yield* TestClock.adjust(30_000)
        yield* client.write("x")
        assert.strictEqual(causeCode(yield* takes(10, Effect.flip(client.pull))), "ECONNRESET")
        yield* server2.write("x")
        assert.strictEqual(causeCode(yield* takes(10, Effect.flip(server2.pull))), "ECONNRESET")
        yield* waits(1000, client2.pull)
        yield* waits(1000, server.pull)
      }))

    it.effect("rebinding: the client is answered with a reset, the server sends into the void", () =>
      Effect.gen(function*() {
        const { client, dial, link, server } = yield* connected({ latency: 5, userTimeout: "1 minute" })
        const [client2, server2] = yield* dial
        assert.strictEqual(yield* link.rebind, 2)
        yield* client.write("x")
        assert.strictEqual(causeCode(yield* takes(10, Effect.flip(client.pull))), "ECONNRESET")
        yield* server2.write("x")
        assert.strictEqual(causeCode(yield* takes(60_000, Effect.flip(server2.pull))), "ETIMEDOUT")
        yield* waits(1000, client2.pull)
        yield* waits(1000, server.pull)
        const [client3, server3] = yield* dial
        yield* takes(5, Effect.andThen(client3.write("x"), server3.pull))
      }))
  })

  it.effect("options of a link end with their scope, and the last one says", () =>
    Effect.gen(function*() {
      const { client, link, server } = yield* connected({ latency: 10 })
      const [, slowAgain] = yield* during(link.configure({ latency: 20 }))
      const [, faster] = yield* during(link.from("client").configure({ latency: 15 }))
      const once = Effect.andThen(client.write("x"), server.pull)
      yield* takes(15, once)
      yield* faster
      yield* takes(20, once)
      yield* slowAgain
      yield* takes(10, once)
    }))

  it.effect("a link may have a name", () =>
    Effect.gen(function*() {
      const { client, network, server } = yield* connected()
      assert.strictEqual(network.link("client", "server").name, "client-server")
      assert.strictEqual(network.name("uplink", "client", "server").name, "uplink")
      yield* network.link("uplink").partition
      yield* waits(100, Effect.andThen(client.write("x"), server.pull))
    }))

  it.effect("a snapshot is printed as netstat would", () =>
    Effect.gen(function*() {
      const { client, link, network } = yield* connected({ latency: 10, sendBuffer: 10, receiveBuffer: 5 })
      yield* Effect.forkChild(client.write(bytes(20)))
      yield* Effect.forkChild(client.pull)
      yield* TestClock.adjust(50)
      yield* link.from("server").partition
      yield* network.host("server").stall("1 second")
      assert.strictEqual(
        TestNetwork.format(yield* network.snapshot),
        [
          "network at 1050 ms: 2 hosts, 1 connections",
          "",
          "hosts that are not well",
          "server stalled",
          "",
          "listeners",
          "server:7 0 of 511 queued",
          "",
          "links",
          "client -> server open, 0 packets of 0 bytes on their way, 0 held",
          "server -> client cut, 0 packets of 0 bytes on their way, 0 held",
          "",
          "connections",
          "id  local         peer          state        recv-q  send-q  unsent  waits",
          "1   client:49152  server:7      ESTABLISHED  0       10      5       reads, writes (1)",
          "1   server:7      client:49152  ESTABLISHED  5       0       0"
        ].join("\n")
      )
    }))
})
