import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Random, Scope } from "effect"
import { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import { TestNetwork } from "../../src/testing/index.ts"
import {
  accepting,
  bytes,
  connected,
  during,
  failure,
  open,
  readAll,
  readBytes,
  settle,
  size,
  takes,
  text,
  waits
} from "./support/network.ts"

describe("TestNetwork", () => {
  describe("opening", () => {
    it.effect("takes one round trip for the client, and half a one more for the server", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ seed: 1, latency: 30 })
        const accepted = yield* accepting(network.host("server"), 7)
        yield* takes(60, open(network.host("client").dial("server:7")))
        yield* TestClock.adjust(29)
        assert.strictEqual(accepted.count(), 0)
        yield* TestClock.adjust(1)
        assert.strictEqual(accepted.count(), 1)
      }))

    it.effect("is refused after one round trip where nobody listens", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 30 })
        network.host("server")
        const error = yield* takes(60, Effect.flip(open(network.host("client").dial("server:7"))))
        assert.deepStrictEqual(failure(error), ["SocketOpenError", "ECONNREFUSED"])
      }))

    it.effect("fails at once where no such host exists, or the address makes no sense", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 30 })
        for (const address of ["nobody:7", "nonsense"]) {
          const error = yield* takes(0, Effect.flip(open(network.host("client").dial(address))))
          assert.deepStrictEqual(failure(error), ["SocketOpenError", "ENOTFOUND"])
        }
      }))

    it.effect("is tried again after 1, 2, 4, ... seconds, and given up after 127", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ trace: Infinity })
        yield* accepting(network.host("server"), 7)
        yield* network.link("client", "server").partition
        const error = yield* takes(127_000, Effect.flip(open(network.host("client").dial("server:7"))))
        assert.deepStrictEqual(failure(error), ["SocketOpenError", "ETIMEDOUT"])
        assert.deepStrictEqual((yield* network.snapshot).connections, [])
      }))

    it.effect("goes on at the next try once the way is free", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 10 })
        yield* accepting(network.host("server"), 7)
        const [, heal] = yield* during(network.link("client", "server").partition)
        yield* Effect.forkChild(Effect.andThen(Effect.sleep(1500), heal))
        yield* takes(3020, open(network.host("client").dial("server:7")))
      }))

    it.effect("a backlog that is full drops the first packet; the next try finds room", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 10 })
        const server = yield* network.host("server").listen(7, { backlog: 2 })
        const client = network.host("client")
        yield* takes(20, open(client.dial("server:7")))
        yield* takes(20, open(client.dial("server:7")))
        const third = yield* Effect.forkScoped(open(client.dial("server:7")))
        yield* TestClock.adjust(900)
        assert.deepStrictEqual((yield* network.snapshot).listeners, [{ address: "server:7", queued: 2, backlog: 2 }])
        assert.isUndefined(third.pollUnsafe())
        yield* Effect.forkScoped(server.run((socket) => Effect.andThen(Effect.scoped(socket.reader), Effect.never)))
        yield* TestClock.adjust(119)
        assert.isUndefined(third.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isDefined(third.pollUnsafe())
      }))

    it.effect("a connection that nobody accepts takes bytes; closing the listener resets it", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        const scope = yield* Scope.make()
        yield* Scope.provide(network.host("server").listen(7), scope)
        const client = yield* takes(0, open(network.host("client").dial("server:7")))
        yield* takes(0, client.write("hello"))
        yield* Scope.close(scope, Exit.void)
        const [, end] = yield* takes(0, readAll(client))
        assert.deepStrictEqual(failure(end), ["SocketReadError", "ECONNRESET"])
        const error = yield* takes(0, Effect.flip(open(network.host("client").dial("server:7"))))
        assert.deepStrictEqual(failure(error), ["SocketOpenError", "ECONNREFUSED"])
      }))

    it.effect("a port is listened on once", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        yield* network.host("server").listen(7)
        const error = yield* Effect.flip(network.host("server").listen(7))
        assert.strictEqual(error.reason._tag, "SocketServerOpenError")
        assert.match(String(error.reason.cause), /EADDRINUSE server:7/)
      }))

    it.effect("by name, by IP address, by URL, and by the address of the server", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        const { server } = yield* accepting(network.host("server"), 7)
        const client = network.host("client")
        const { address } = network.host("server")
        for (const way of ["server:7", `${address}:7`, "tcp://server:7", server.address]) {
          yield* takes(0, open(client.dial(way)))
        }
        assert.strictEqual((yield* network.snapshot).connections.length, 4)
      }))

    it.effect("an interrupted dial leaves nothing behind", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 10 })
        yield* accepting(network.host("server"), 7)
        // the first packet, its answer, and the third one are on their way
        for (const after of [5, 15, 25]) {
          const fiber = yield* Effect.forkChild(Effect.scoped(open(network.host("client").dial("server:7"))))
          yield* TestClock.adjust(after)
          yield* Fiber.interrupt(fiber)
          yield* TestClock.adjust(200_000)
        }
        // the last one was open: the server has it until it closes as well
        const ends = (yield* network.snapshot).connections.map(({ client, server }) => [client.state, server.state])
        assert.deepStrictEqual(ends, [["CLOSED", "CLOSE_WAIT"]])
      }))

    it.effect("a socket may be dialled again, and its writer goes with it", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ slicing: false })
        const accepted = yield* accepting(network.host("server"), 7)
        const socket = network.host("client").dial("server:7")
        const { write } = yield* socket.writer
        const waiting = yield* Effect.forkChild(write("one"))
        yield* Effect.scoped(Effect.andThen(
          socket.reader,
          Effect.gen(function*() {
            yield* Fiber.join(waiting)
            assert.strictEqual(text(yield* (yield* accepted.take).pull), "one")
          })
        ))
        yield* socket.reader
        yield* write("two")
        assert.strictEqual(text(yield* (yield* accepted.take).pull), "two")
      }))
  })

  describe("a conversation", () => {
    it.effect("without latency needs no time at all", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ slicing: false })
        const before = yield* Clock.currentTimeMillis
        yield* client.write("hello")
        assert.strictEqual(text(yield* server.pull), "hello")
        yield* server.write("you")
        assert.strictEqual(text(yield* client.pull), "you")
        assert.strictEqual(yield* Clock.currentTimeMillis, before)
      }))

    it.live("goes on the real clock as well", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 2 })
        const accepted = yield* accepting(network.host("server"), 7)
        const client = yield* open(network.host("client").dial("server:7"))
        const server = yield* accepted.take
        yield* client.write("hello")
        assert.strictEqual(yield* readBytes(server, 5), "hello")
      }).pipe(Effect.scoped, Effect.timeout("10 seconds")))

    it.effect("of one host with itself takes no time, unless its link says so", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 100 })
        const host = network.host("alone")
        yield* accepting(host, 7)
        yield* takes(0, open(host.dial("alone:7")))
        yield* network.link("alone", "alone").configure({ latency: 5 })
        yield* takes(10, open(host.dial("alone:7")))
      }))

    it.effect("what was written is copied: the writer may use its buffer again", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ latency: 10 })
        const buffer = bytes(3, 65)
        yield* client.write(buffer)
        buffer.fill(66)
        yield* TestClock.adjust(10)
        assert.strictEqual(yield* readBytes(server, 3), "AAA")
      }))

    it.effect("an interrupted write is sent nevertheless, an interrupted read loses nothing", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ sendBuffer: 4, receiveBuffer: 4, slicing: false })
        yield* waits(10, client.write("0123456789"))
        yield* waits(10, Effect.andThen(server.pull, Effect.never))
        const rest = yield* takes(0, readBytes(server, 6))
        assert.strictEqual(rest, "456789")
      }))
  })

  describe("latency", () => {
    it.effect("fixed, one way each", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ latency: 30 })
        yield* link.from("server").configure({ latency: 50 })
        yield* takes(30, Effect.andThen(client.write("x"), server.pull))
        yield* takes(50, Effect.andThen(server.write("x"), client.pull))
      }))

    it.effect("from a trace, over and over", () =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected()
        yield* link.from("client").configure({ latency: { trace: [10, "40 millis", 0] } })
        for (const expected of [10, 40, 0, 10]) {
          yield* takes(expected, Effect.andThen(client.write("x"), server.pull))
        }
      }))

    const times = (latency: TestNetwork.Latency, count: number) =>
      Effect.gen(function*() {
        const { client, link, server } = yield* connected({ slicing: false })
        yield* link.configure({ latency })
        const all: Array<number> = []
        for (let i = 0; i < count; i++) {
          const start = yield* Clock.currentTimeMillis
          yield* client.write("x")
          const reading = yield* Effect.forkChild(Effect.andThen(server.pull, Clock.currentTimeMillis))
          yield* TestClock.adjust(1000)
          all.push((yield* Fiber.join(reading)) - start)
        }
        return all
      })

    it.effect("uniform: every whole millisecond from one bound to the other", () =>
      Effect.gen(function*() {
        const all = yield* times({ uniform: [3, 7] }, 200)
        assert.deepStrictEqual([...new Set(all)].toSorted(), [3, 4, 5, 6, 7])
      }))

    it.effect("exponential: from the minimum, about the mean, never beyond the maximum", () =>
      Effect.gen(function*() {
        const all = yield* times({ exponential: 40, min: 10, max: 150 }, 300)
        assert.isAtLeast(Math.min(...all), 10)
        assert.isAtMost(Math.max(...all), 150)
        const mean = all.reduce((sum, one) => sum + one, 0) / all.length
        assert.isTrue(mean > 40 && mean < 55, `mean ${mean}`)
      }))

    it.effect("never lets bytes overtake each other", () =>
      Effect.gen(function*() {
        for (let seed = 0; seed < 20; seed++) {
          const { client, server } = yield* connected({ seed, latency: { uniform: [0, 100] } })
          let written = ""
          yield* Effect.forkChild(Effect.gen(function*() {
            for (let i = 0; i < 50; i++) {
              yield* client.write(`${i},`)
              yield* Effect.sleep(7)
            }
          }))
          for (let i = 0; i < 50; i++) written += `${i},`
          const reading = yield* Effect.forkChild(readBytes(server, written.length))
          yield* TestClock.adjust(1000)
          assert.strictEqual(yield* Fiber.join(reading), written)
        }
      }))
  })

  describe("bandwidth", () => {
    it.effect("turns length into time", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ latency: 10, bandwidth: 1000, receiveBuffer: 100_000 })
        yield* takes(10 + 3000, Effect.andThen(client.write(bytes(3000)), readBytes(server, 3000)))
      }))

    it.effect("is shared by the connections of a direction, and each direction has its own", () =>
      Effect.gen(function*() {
        const { client, dial, server } = yield* connected({ bandwidth: 1000 })
        const [client2, server2] = yield* dial
        yield* client.write(bytes(500))
        yield* client2.write(bytes(500))
        yield* server.write(bytes(800))
        const other = yield* Effect.forkChild(readBytes(server, 500))
        const back = yield* Effect.forkChild(readBytes(client, 800))
        yield* settle
        yield* takes(1000, readBytes(server2, 500))
        assert.isDefined(other.pollUnsafe())
        assert.isDefined(back.pollUnsafe())
      }))
  })

  describe("slicing", () => {
    const pieces = (seed: number, slicing: boolean) =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ seed, slicing })
        const reads: Array<string> = []
        for (let i = 0; i < 20; i++) {
          yield* client.write(`<message ${i}>`)
          yield* client.write(`<another ${i}>`)
          yield* TestClock.adjust(1)
          for (const piece of yield* server.pull) reads.push(text([piece]))
        }
        yield* client.finish
        const [rest] = yield* readAll(server)
        return [reads, reads.join("") + rest] as const
      })

    it.effect("cuts and merges writes, and loses and changes nothing", () =>
      Effect.gen(function*() {
        const written = Array.from({ length: 20 }, (_, i) => `<message ${i}><another ${i}>`).join("")
        for (let seed = 0; seed < 10; seed++) {
          const [reads, all] = yield* pieces(seed, true)
          assert.strictEqual(all, written)
          assert.isTrue(reads.some((read) => !read.startsWith("<")), "cut")
          assert.isTrue(reads.some((read) => /.></.test(read)), "merged")
        }
      }))

    it.effect("does not always give all that is there", () =>
      Effect.gen(function*() {
        let partly = 0
        for (let seed = 0; seed < 20; seed++) {
          const { client, network, server } = yield* connected({ seed })
          yield* client.write("x".repeat(100))
          yield* settle
          yield* server.pull
          if ((yield* network.snapshot).connections[0].server.receiveQueue > 0) partly++
        }
        assert.isTrue(partly > 0 && partly < 20, `${partly} of 20`)
      }))

    it.effect("without it, reads are what was written", () =>
      Effect.gen(function*() {
        const [reads] = yield* pieces(1, false)
        assert.deepStrictEqual(reads.slice(0, 4), ["<message 0>", "<another 0>", "<message 1>", "<another 1>"])
      }))

    it.effect("where latency varies, parts of one write come at different times", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ latency: { uniform: [0, 50] } })
        let apart = 0
        for (let i = 0; i < 100; i++) {
          yield* client.write(bytes(100))
          let last = 0
          let first = 0
          const reading = yield* Effect.forkChild(Effect.gen(function*() {
            for (let got = 0; got < 100;) {
              got += size(yield* server.pull)
              last = yield* Clock.currentTimeMillis
              first ||= last
            }
          }))
          yield* TestClock.adjust(50)
          yield* Fiber.join(reading)
          if (last > first) apart++
        }
        assert.isTrue(apart > 5, `${apart} of 100`)
      }))
  })

  describe("buffers", () => {
    it.effect("a reader that does not read lets through exactly both, and then the writer waits", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected({ latency: 10, sendBuffer: 1000, receiveBuffer: 500 })
        // 1000 at once, the other 500 when the first were acknowledged
        yield* takes(20, client.write(bytes(1500)))
        const more = yield* Effect.forkChild(client.write(bytes(1)))
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

    it.effect("a window and a round trip bound what goes through", () =>
      Effect.gen(function*() {
        // 1000 bytes in 100 ms
        const { client, server } = yield* connected({
          latency: 50,
          receiveBuffer: 1000,
          sendBuffer: 100_000,
          slicing: false
        })
        yield* client.write(bytes(10_000))
        yield* takes(50 + 9 * 100, readBytes(server, 10_000))
      }))

    it.effect("each end may have its own", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected(undefined, {
          listen: { sendBuffer: 10, receiveBuffer: 20 },
          dial: { sendBuffer: 30, receiveBuffer: 40 }
        })
        yield* takes(0, client.write(bytes(50)))
        yield* waits(1000, client.write(bytes(1)))
        yield* takes(0, server.write(bytes(50)))
        yield* waits(1000, server.write(bytes(1)))
      }))
  })

  describe("the end", () => {
    it.effect("releasing the writer half-closes: the peer reads the rest, answers, and ends", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected()
        yield* client.write("the rest")
        yield* client.finish
        const [read, end] = yield* takes(0, readAll(server))
        assert.strictEqual(read, "the rest")
        assert.deepStrictEqual(failure(end), ["SocketCloseError", 1000])
        yield* server.write("an answer")
        yield* server.close
        const [answer, last] = yield* takes(0, readAll(client))
        assert.strictEqual(answer, "an answer")
        assert.deepStrictEqual(failure(last), ["SocketCloseError", 1000])
        yield* client.close
        yield* settle
        assert.deepStrictEqual((yield* network.snapshot).connections, [])
      }))

    it.effect("FIN comes behind everything that was written", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ latency: 10, sendBuffer: 10, receiveBuffer: 10, slicing: false })
        const writing = yield* Effect.forkChild(client.write(bytes(55)))
        yield* settle
        yield* client.finish
        const reading = yield* Effect.forkChild(readAll(server))
        yield* TestClock.adjust(1000)
        const [read, end] = yield* Fiber.join(reading)
        yield* Fiber.join(writing)
        assert.strictEqual(read.length, 55)
        assert.deepStrictEqual(failure(end), ["SocketCloseError", 1000])
      }))

    it.effect("writing after our own end fails", () =>
      Effect.gen(function*() {
        const { client, network } = yield* connected()
        yield* client.finish
        yield* settle
        const { write } = yield* client.socket.writer
        assert.deepStrictEqual(failure(yield* Effect.flip(write("x"))), [
          "SocketWriteError",
          "ERR_STREAM_WRITE_AFTER_END"
        ])
        assert.strictEqual((yield* network.snapshot).connections[0].client.state, "FIN_WAIT")
        assert.strictEqual((yield* network.snapshot).connections[0].server.state, "CLOSE_WAIT")
      }))

    it.effect("without half-open, reading the end finishes our side as well", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected(undefined, { dial: { halfOpen: false } })
        yield* server.finish
        yield* takes(0, readAll(client))
        const error = yield* takes(0, Effect.flip(client.write("x")))
        assert.deepStrictEqual(failure(error), ["SocketWriteError", "EPIPE"])
        const [, end] = yield* takes(0, readAll(server))
        assert.deepStrictEqual(failure(end), ["SocketCloseError", 1000])
      }))

    it.effect("closing with unread data is a reset, and what was sent before it is lost", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ latency: 10 })
        yield* client.write("unread")
        yield* TestClock.adjust(10)
        yield* server.write("last words")
        yield* server.drop
        yield* TestClock.adjust(10)
        const [read, end] = yield* takes(0, readAll(client))
        assert.strictEqual(read, "")
        assert.deepStrictEqual(failure(end), ["SocketReadError", "ECONNRESET"])
        assert.deepStrictEqual(failure(yield* Effect.flip(client.write("more"))), ["SocketWriteError", "ECONNRESET"])
      }))

    it.effect("behind a FIN a reset takes nothing from the reader: it breaks the next write", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ latency: 10 })
        yield* client.write("unread")
        yield* TestClock.adjust(10)
        yield* server.write("last words")
        yield* server.close
        yield* TestClock.adjust(10)
        const [read, end] = yield* takes(0, readAll(client))
        assert.strictEqual(read, "last words")
        assert.deepStrictEqual(failure(end), ["SocketCloseError", 1000])
        assert.deepStrictEqual(failure(yield* Effect.flip(client.write("more"))), ["SocketWriteError", "EPIPE"])
      }))

    it.effect("data after the close is answered with a reset", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ latency: 10 })
        yield* server.close
        assert.deepStrictEqual(failure((yield* takes(10, readAll(client)))[1]), ["SocketCloseError", 1000])
        yield* client.write("too late")
        yield* TestClock.adjust(19)
        yield* client.write("and later")
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(failure(yield* Effect.flip(client.write("more"))), ["SocketWriteError", "EPIPE"])
      }))

    it.effect("closing the reader's scope fails a write that waits; what was handed over still leaves", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ sendBuffer: 10, receiveBuffer: 10, slicing: false })
        const writing = yield* Effect.forkChild(Effect.flip(client.write("x".repeat(100))))
        yield* settle
        yield* client.drop
        assert.strictEqual((yield* takes(0, Fiber.join(writing))).reason._tag, "SocketWriteError")
        assert.strictEqual((yield* takes(0, readAll(server)))[0].length, 100)
      }))

    it.effect("lingering discards what comes until the peer is done, and cuts it off in the end", () =>
      Effect.gen(function*() {
        const { client, dial, network, server } = yield* connected({ linger: "1 second" })
        yield* server.write("last words")
        yield* client.write("unread")
        yield* settle
        yield* server.close
        yield* client.write("more")
        const [read, end] = yield* takes(0, readAll(client))
        assert.strictEqual(read, "last words")
        assert.deepStrictEqual(failure(end), ["SocketCloseError", 1000])
        yield* client.close
        yield* settle
        assert.deepStrictEqual((yield* network.snapshot).connections, [])

        const [client2, server2] = yield* dial
        yield* server2.close
        yield* TestClock.adjust(999)
        yield* client2.write("still discarded")
        yield* TestClock.adjust(1)
        yield* client2.write("reset")
        yield* settle
        assert.deepStrictEqual(failure(yield* Effect.flip(client2.write("x"))), ["SocketWriteError", "EPIPE"])
      }))

    it.effect("closing the reader's scope fails a pull that waits", () =>
      Effect.gen(function*() {
        const { client } = yield* connected()
        const reading = yield* Effect.forkChild(Effect.flip(client.pull))
        yield* settle
        yield* client.close
        assert.deepStrictEqual(failure(yield* Fiber.join(reading)), ["SocketCloseError", 1006])
      }))

    it.effect("a peer that never ends is forgotten after 60 seconds", () =>
      Effect.gen(function*() {
        const { client, network } = yield* connected()
        yield* client.close
        yield* TestClock.adjust(59_999)
        assert.strictEqual((yield* network.snapshot).connections[0].client.state, "FIN_WAIT")
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* network.snapshot).connections[0].client.state, "CLOSED")
      }))

    it.effect("a close event destroys a stream: our read fails as it says, the peer reads the end", () =>
      Effect.gen(function*() {
        for (const [code, own] of [[1000, "SocketCloseError"], [1011, "SocketReadError"]] as const) {
          const { client, server } = yield* connected()
          const reading = yield* Effect.forkChild(Effect.flip(client.pull))
          yield* settle
          yield* client.write(new Socket.CloseEvent(code))
          assert.strictEqual((yield* takes(0, Fiber.join(reading))).reason._tag, own)
          assert.deepStrictEqual(failure((yield* takes(0, readAll(server)))[1]), ["SocketCloseError", 1000])
        }
      }))
  })

  describe("messages", () => {
    const messages = { listen: { messages: true }, dial: { messages: true } }

    it.effect("keep their borders, and text stays text", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ latency: { uniform: [0, 20] } }, messages)
        yield* client.writeAll(["one", bytes(3, 1), "", "two"])
        yield* TestClock.adjust(100)
        const all: Array<string | Uint8Array> = []
        while (all.length < 4) all.push(...(yield* server.pull))
        assert.deepStrictEqual(all, ["one", bytes(3, 1), "", "two"])
      }))

    it.effect("close with a code and a reason, which both ends see", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected(undefined, messages)
        yield* client.write("last")
        yield* client.write(new Socket.CloseEvent(4001, "enough"))
        const [read, end] = yield* takes(0, readAll(server))
        assert.strictEqual(read, "last")
        assert.deepInclude(end.reason, { _tag: "SocketCloseError", code: 4001, closeReason: "enough" })
        assert.deepStrictEqual(failure((yield* takes(0, readAll(client)))[1]), ["SocketCloseError", 4001])
        yield* client.close
        yield* server.close
        yield* settle
        assert.deepStrictEqual((yield* network.snapshot).connections, [])
      }))

    it.effect("releasing the writer is no end, releasing the reader is 1005", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected(undefined, messages)
        yield* client.finish
        yield* waits(1000, server.pull)
        yield* client.close
        assert.deepStrictEqual(failure((yield* takes(0, readAll(server)))[1]), ["SocketCloseError", 1005])
      }))

    it.effect("wait for room, one more than the buffers hold at the most", () =>
      Effect.gen(function*() {
        const { client, server } = yield* connected({ sendBuffer: 10, receiveBuffer: 10 }, messages)
        yield* takes(0, client.write("a".repeat(25)))
        yield* takes(0, client.write("b".repeat(10)))
        yield* waits(1000, client.write("c"))
        assert.deepStrictEqual(yield* takes(0, server.pull), ["a".repeat(25)])
      }))

    it.effect("have to be spoken at both ends; ws:// addresses say so", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        yield* accepting(network.host("server"), 80, { messages: true })
        yield* takes(0, open(network.host("client").dial("ws://server:80/live")))
        const error = yield* takes(0, Effect.flip(open(network.host("client").dial("server:80"))))
        assert.deepStrictEqual(failure(error), ["SocketOpenError", "ECONNREFUSED"])
      }))
  })

  describe("determinism", () => {
    const story = (options: TestNetwork.Options) =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected({
          latency: { uniform: [1, 80] },
          trace: Infinity,
          ...options
        })
        yield* Effect.forkChild(Effect.gen(function*() {
          for (let i = 0; i < 50; i++) yield* Effect.andThen(client.write(`message ${i}`), Effect.sleep(10))
        }))
        const pieces: Array<string> = []
        yield* Effect.forkScoped(Effect.forever(Effect.map(server.pull, (batch) => pieces.push(text(batch)))))
        yield* TestClock.adjust("10 seconds")
        return { hash: yield* network.fingerprint, trace: yield* network.trace, pieces, seed: network.seed }
      })

    it.effect("the same seed gives the same events and the same pieces", () =>
      Effect.gen(function*() {
        const [one, two] = [yield* story({ seed: 7 }), yield* story({ seed: 7 })]
        assert.isTrue(one.trace.length > 100)
        assert.deepStrictEqual(one, two)
      }))

    it.effect("different seeds differ", () =>
      Effect.gen(function*() {
        const hashes = new Set<string>()
        for (let seed = 0; seed < 20; seed++) hashes.add((yield* story({ seed })).hash)
        assert.strictEqual(hashes.size, 20)
      }))

    it.effect("without a seed it comes from Random", () =>
      Effect.gen(function*() {
        const drawn = story({ seed: undefined }).pipe(Random.withSeed("luck"))
        const one = yield* drawn
        assert.deepStrictEqual(one, yield* drawn)
        assert.deepStrictEqual(one, yield* story({ seed: one.seed }))
      }))

    it.effect("traffic elsewhere changes nothing here", () =>
      Effect.gen(function*() {
        const times = (noise: boolean) =>
          Effect.gen(function*() {
            const { client, network, server } = yield* connected({ latency: { uniform: [1, 80] } })
            if (noise) {
              const other = yield* accepting(network.host("elsewhere"), 7)
              const opening = yield* Effect.forkScoped(open(network.host("noise").dial("elsewhere:7")))
              yield* TestClock.adjust(1000)
              yield* (yield* Fiber.join(opening)).write(bytes(10_000))
              yield* other.take
            } else yield* TestClock.adjust(1000)
            const all: Array<number> = []
            for (let i = 0; i < 10; i++) {
              const start = yield* Clock.currentTimeMillis
              yield* client.write("x")
              const reading = yield* Effect.forkChild(Effect.andThen(server.pull, Clock.currentTimeMillis))
              yield* TestClock.adjust(100)
              all.push((yield* Fiber.join(reading)) - start)
            }
            return all
          })
        assert.deepStrictEqual(yield* times(false), yield* times(true))
      }))

    it.effect("the trace keeps as many events as it was told", () =>
      Effect.gen(function*() {
        const { trace } = yield* story({ trace: 5 })
        assert.strictEqual(trace.length, 5)
        assert.strictEqual(trace.at(-1)?.kind, "arrive")
      }))
  })

  it.effect("options that make no sense are named", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [TestNetwork.Options, RegExp]> = [
        [{ bandwidth: 0 }, /`bandwidth` is 0/],
        [{ sendBuffer: 0.5 }, /`sendBuffer` is 0.5/],
        [{ latency: -1 }, /`latency` is -1/],
        [{ latency: { uniform: [5, 1] } }, /`latency.uniform`/],
        [{ latency: { trace: [] } }, /`latency.trace` is empty/],
        [{ linger: "soon" as never }, /`linger` is soon/]
      ]
      for (const [options, expected] of cases) {
        const exit = yield* Effect.exit(Effect.scoped(TestNetwork.make(options)))
        assert.match(String(exit), expected)
      }
    }))
})
