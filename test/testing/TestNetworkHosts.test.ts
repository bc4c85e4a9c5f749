import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Layer, Stream } from "effect"
import { Socket, SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { TestNetwork } from "../../src/testing/index.ts"
import {
  accepting,
  bytes,
  causeCode,
  connected,
  failure,
  open,
  readAll,
  readBytes,
  settle,
  takes,
  waits
} from "./support/network.ts"

describe("TestNetwork hosts", () => {
  describe("crash", () => {
    it.effect("peers see silence; after the restart what they send is answered with a reset", () =>
      Effect.gen(function*() {
        const { client, network } = yield* connected({ latency: 10 })
        const reading = yield* Effect.forkChild(Effect.flip(client.pull))
        yield* network.host("server").crash
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(reading.pollUnsafe())
        yield* client.write("lost")
        yield* TestClock.adjust(1000)
        assert.isUndefined(reading.pollUnsafe())
        yield* network.host("server").restart
        // sent again 1400 ms after the first time; there and back
        yield* takes(400 + 20, Fiber.join(reading))
        assert.strictEqual(causeCode(yield* Fiber.join(reading)), "ECONNRESET")
      }))

    it.effect("its own sockets and servers fail, and it can neither dial nor listen", () =>
      Effect.gen(function*() {
        const { network, server } = yield* connected({ latency: 10 })
        const host = network.host("server")
        const other = yield* host.listen(8)
        const running = yield* Effect.forkChild(Effect.flip(other.run(() => Effect.void)))
        yield* settle
        yield* host.crash
        assert.deepStrictEqual(failure(yield* takes(0, Effect.flip(server.pull))), ["SocketReadError", "ENETDOWN"])
        const error = yield* takes(0, Fiber.join(running))
        assert.match(String(error.reason.cause), /ENETDOWN/)
        assert.match(String((yield* Effect.flip(host.listen(9))).reason.cause), /ENETDOWN/)
        assert.deepStrictEqual(
          failure(yield* takes(0, Effect.flip(open(host.dial("client:7"))))),
          ["SocketOpenError", "ENETDOWN"]
        )
        assert.deepInclude((yield* network.snapshot).hosts[0], { name: "server", isUp: false })
      }))

    it.effect("dials find nobody, until it is back and somebody runs the server again", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 10 })
        const host = network.host("server")
        const server = yield* host.listen(7)
        yield* host.crash
        assert.match(String((yield* Effect.flip(server.run(() => Effect.void))).reason.cause), /ENETDOWN/)
        const dialling = yield* Effect.forkScoped(open(network.host("client").dial("server:7")))
        yield* TestClock.adjust(2500)
        assert.isUndefined(dialling.pollUnsafe())
        yield* host.restart
        let handled = 0
        yield* Effect.forkScoped(server.run(() => Effect.sync(() => handled++)))
        yield* takes(500 + 20, Fiber.join(dialling))
        yield* TestClock.adjust(10)
        assert.strictEqual(handled, 1)
      }))

    it.effect("interrupts what runs on the host", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make()
        let interrupted = false
        const here = yield* Effect.forkChild(
          network.host("a").run(Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (interrupted = true))))
        )
        const there = yield* Effect.forkChild(network.host("b").run(Effect.sleep(5)))
        yield* settle
        yield* network.host("a").crash
        const exit = yield* takes(0, Fiber.await(here))
        assert.isTrue(Exit.hasInterrupts(exit))
        assert.isTrue(interrupted)
        yield* takes(5, Fiber.join(there))
        // on a host that is down nothing runs
        assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(network.host("a").run(Effect.never))))
      }))
  })

  describe("stall", () => {
    it.effect("hands nothing to the application while the kernel takes and acknowledges", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected({ latency: 10, receiveBuffer: 100, sendBuffer: 50 })
        yield* network.host("server").stall("5 seconds")
        const reading = yield* Effect.forkChild(server.pull)
        // the peer's kernel acknowledges: 100 bytes go through, 50 more fit here
        yield* takes(40, client.write(bytes(150)))
        yield* waits(1000, client.write(bytes(1)))
        assert.strictEqual((yield* network.snapshot).connections[0].server.receiveQueue, 100)
        assert.isTrue((yield* network.snapshot).hosts[0].isStalled)
        yield* takes(5000 - 1040, Fiber.join(reading))
        yield* TestClock.adjust(100)
        assert.isFalse((yield* network.snapshot).hosts[0].isStalled)
      }))

    it.effect("its writes and its end leave when it is over", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected({ latency: 10 })
        yield* network.host("client").stall("5 seconds")
        const writing = yield* Effect.forkChild(client.write("late"))
        yield* settle
        assert.strictEqual((yield* network.snapshot).connections[0].client.unsent, 4)
        yield* client.finish
        const [read, end] = yield* takes(5010, readAll(server))
        assert.strictEqual(read, "late")
        assert.deepStrictEqual(failure(end), ["SocketCloseError", 1000])
        yield* Fiber.join(writing)
      }))

    it.effect("a large write that had begun goes on afterwards, and a close waits", () =>
      Effect.gen(function*() {
        const { client, dial, network, server } = yield* connected({ latency: 10, sendBuffer: 10 })
        const [client2, server2] = yield* dial
        const writing = yield* Effect.forkChild(client.write(bytes(100)))
        yield* settle
        yield* network.host("client").stall("1 second")
        yield* client2.close
        yield* TestClock.adjust(999)
        // what the kernel had taken has left
        assert.strictEqual((yield* takes(0, readBytes(server, 10))).length, 10)
        yield* takes(1 + 20 * 8 + 10, readBytes(server, 90))
        yield* TestClock.adjust(20)
        assert.isDefined(writing.pollUnsafe())
        assert.deepStrictEqual(failure((yield* takes(0, readAll(server2)))[1]), ["SocketCloseError", 1000])
      }))

    it.effect("dialling and accepting wait", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 10 })
        const accepted = yield* accepting(network.host("server"), 7)
        yield* network.host("client").stall(1000)
        yield* takes(1020, open(network.host("client").dial("server:7")))
        yield* network.host("server").stall(1000)
        yield* TestClock.adjust(999)
        assert.strictEqual(accepted.count(), 0)
        yield* TestClock.adjust(1)
        yield* settle
        assert.strictEqual(accepted.count(), 1)
      }))

    it.effect("sleeps on the host's clock end when it is over, timers before sockets", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected()
        const host = network.host("server")
        const order: Array<string> = []
        yield* Effect.forkChild(Effect.andThen(server.pull, Effect.sync(() => order.push("read"))))
        yield* Effect.forkChild(host.run(Effect.gen(function*() {
          yield* Effect.sleep(3000)
          order.push("timer")
        })))
        const short = yield* Effect.forkChild(host.run(Effect.andThen(Effect.sleep(6000), Clock.currentTimeMillis)))
        yield* settle
        yield* host.stall("5 seconds")
        yield* client.write("x")
        yield* TestClock.adjust(4999)
        assert.deepStrictEqual(order, [])
        yield* TestClock.adjust(1)
        yield* settle
        assert.deepStrictEqual(order, ["timer", "read"])
        yield* takes(1000, Fiber.join(short))
      }))

    it.effect("sockets come in the order in which their packets came", () =>
      Effect.gen(function*() {
        const { client, dial, network, server } = yield* connected()
        const [client2, server2] = yield* dial
        const order: Array<string> = []
        const reads = (name: string, end: typeof server) =>
          Effect.forkChild(Effect.andThen(end.pull, Effect.sync(() => order.push(name))))
        yield* reads("first", server)
        yield* reads("second", server2)
        yield* settle
        yield* network.host("server").stall(1000)
        yield* client.write("x")
        yield* client2.write("x")
        yield* TestClock.adjust(1000)
        yield* settle
        assert.deepStrictEqual(order, ["first", "second"])
      }))

    it.effect("a longer one extends it, a shorter one changes nothing", () =>
      Effect.gen(function*() {
        const { client, network, server } = yield* connected()
        const host = network.host("server")
        yield* host.stall(1000)
        yield* host.stall(2000)
        yield* host.stall(10)
        yield* client.write("x")
        yield* takes(2000, server.pull)
      }))
  })

  it.effect("skew: the wall clock of one host is wrong, monotonic time is not", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make()
      const host = network.host("a")
      yield* TestClock.adjust("2 hours")
      yield* host.skew("-1 hour")
      const times = Effect.all([Clock.currentTimeMillis, Clock.currentTimeNanos, Clock.monotonicTimeNanos])
      const [millis, nanos, monotonic] = yield* host.run(times)
      const [realMillis, realNanos, realMonotonic] = yield* times
      assert.strictEqual(millis - realMillis, -3_600_000)
      assert.strictEqual(nanos - realNanos, -3_600_000_000_000n)
      assert.strictEqual(monotonic, realMonotonic)
      yield* host.skew(0)
      assert.strictEqual(host.clock.currentTimeMillisUnsafe(), realMillis)
    }))

  describe("as layers", () => {
    const program = Effect.gen(function*() {
      const server = yield* SocketServer.SocketServer
      yield* Effect.forkScoped(server.run((socket) =>
        Effect.gen(function*() {
          const { pull } = yield* socket.reader
          const { writeAll } = yield* socket.writer
          while (true) yield* writeAll(yield* pull)
        }).pipe(Effect.scoped, Effect.ignore)
      ))
      const socket = yield* Socket.Socket
      const { pull } = yield* socket.reader
      const { write } = yield* socket.writer
      yield* write("hello")
      return yield* readBytes({ pull }, 5)
    })

    it.effect("an application swaps them for the real ones", () =>
      Effect.gen(function*() {
        const network = Layer.mergeAll(
          TestNetwork.layerServer("server", 7000),
          TestNetwork.layerSocket("client", "server:7000")
        ).pipe(Layer.provide(TestNetwork.layer({ latency: 10 })))
        assert.strictEqual(yield* takes(40, Effect.provide(program, network)), "hello")
      }))

    it.effect("of a host that is at hand", () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ latency: 10 })
        const layer = Layer.merge(
          network.host("server").layerServer(7000),
          network.host("client").layerSocket("server:7000")
        )
        assert.strictEqual(yield* takes(40, Effect.provide(program, layer)), "hello")
      }))

    it.effect("work with the channels of effect/socket", () =>
      Effect.gen(function*() {
        const { link, network } = yield* connected()
        yield* link.reset
        const words = new TextEncoder().encode("through a channel")
        const channel = yield* Effect.forkScoped(
          Stream.make(words).pipe(
            Stream.pipeThroughChannel(Socket.toChannel(network.host("client").dial("server:7"))),
            Stream.runDrain,
            Effect.flip
          ),
          { startImmediately: true }
        )
        yield* settle
        yield* TestClock.adjust(1000)
        const [{ server }] = (yield* network.snapshot).connections
        assert.deepInclude(server, { state: "CLOSE_WAIT", receiveQueue: words.length })
        yield* link.reset
        assert.strictEqual(causeCode(yield* takes(0, Fiber.join(channel))), "ECONNRESET")
      }))
  })
})
