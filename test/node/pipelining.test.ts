import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Scope } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Diagnostics from "node:diagnostics_channel"
import { Registry } from "../../src/index.ts"
import { HttpServer } from "../../src/node/index.ts"
import { certificate, client, until } from "./fixtures/kit.ts"

/** A server whose handlers wait for `pass`, or take no time where the path says so. */
const start = Effect.fnUntraced(function*<In = never, Out = unknown>(
  options: HttpServer.Options<In, Out> = {},
  url = "http://127.0.0.1:0"
) {
  const scope = yield* Scope.make()
  const server = yield* Scope.provide(
    HttpServer.make(url, { ...options, policy: { drain: 1000, ...options.policy } }),
    scope
  )
  const gates: Array<Latch.Latch> = []
  const self = { now: 0, most: 0, begun: 0, interrupted: 0, isFree: false }
  const application = Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    self.begun++
    self.most = Math.max(self.most, ++self.now)
    const body = request.method === "POST" ? yield* Effect.orDie(request.text) : ""
    if (!self.isFree) {
      const gate = Latch.makeUnsafe(false)
      gates.push(gate)
      yield* gate.await
    }
    const headers = request.url === "/last" ? { connection: "close" } : {}
    return HttpServerResponse.text(`<${request.url}${body}>`, { headers })
  }).pipe(
    // as those of a router
    Effect.interruptible,
    Effect.onInterrupt(() => Effect.sync(() => self.interrupted++)),
    Effect.ensuring(Effect.sync(() => self.now--))
  )
  yield* Scope.provide(server.http.serve(application), scope)
  const stop = Scope.close(scope, Exit.void)
  yield* Effect.addFinalizer(() => stop)
  /** Lets the next handlers go on, in their order. */
  const pass = (count: number) => Effect.forEach(gates.splice(0, count), (gate) => gate.open, { discard: true })
  const free = Effect.suspend(() => {
    self.isFree = true
    return pass(gates.length)
  })
  return { self, gates, pass, free, stop, url: server.url.replace("https:", "tls:") }
})

const get = (path: number | string): string => `GET /${path} HTTP/1.1\r\nHost: a\r\n\r\n`
const all = (count: number, from = 0): string => Array.from({ length: count }, (_, i) => get(from + i)).join("")
const answers = (text: string): ReadonlyArray<string> => text.match(/<[^>]*>/g) ?? []
const inOrder = (count: number): ReadonlyArray<string> => Array.from({ length: count }, (_, i) => `</${i}>`)

describe("B117 pipelined requests", () => {
  for (const [url, options] of [["http://127.0.0.1:0", {}], ["https://127.0.0.1:0", certificate()]] as const) {
    it.live(`${url.slice(0, 5)}: of 1,000 no more than the limit are with the application, and all are answered in order`, () =>
      Effect.gen(function*() {
        const { free, pass, self, url: at } = yield* start({ ...options, policy: { maxConcurrentRequests: 7 } }, url)
        const peer = yield* client({ url: at })
        peer.conn.write(all(1000))
        yield* until("the first seven", () => self.begun === 7)
        for (let i = 1; i <= 20; i++) {
          yield* pass(1)
          yield* until("an answer, and the next request", () => answers(peer.text).length === i && self.begun === 7 + i)
          assert.strictEqual(self.now, 7)
        }
        yield* free
        yield* until("all answers", () => answers(peer.text).length === 1000)
        assert.deepStrictEqual(answers(peer.text), inOrder(1000))
        assert.strictEqual(self.most, 7)
        assert.isFalse(peer.ended)
        // and reads on
        peer.conn.write(get(1000))
        yield* until("one more", () => answers(peer.text).length === 1001)
      }))
  }

  it.live("B116 what a read brought is parsed a few requests at a time, and the bodies between them are whole", () =>
    Effect.gen(function*() {
      const { free, url } = yield* start()
      yield* free
      const peer = yield* client({ url })
      const turns: Array<number> = []
      let count = 0
      const counted = (): void => void count++
      Diagnostics.subscribe("http.server.request.start", counted)
      const next = (): void => {
        turns.push(count)
        count = 0
        turn = setImmediate(next)
      }
      let turn = setImmediate(next)
      const body = "b".repeat(100_000)
      const post = `POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`
      peer.conn.write(all(1000) + post + all(1000, 1000))
      yield* until("all answers", () => answers(peer.text).length === 2001)
      clearImmediate(turn)
      Diagnostics.unsubscribe("http.server.request.start", counted)
      const expected = [...inOrder(1000), `</body${body}>`, ...inOrder(2000).slice(1000)]
      assert.deepStrictEqual(answers(peer.text), expected)
      // of the first read as well
      assert.isBelow(Math.max(...turns), 600)
      assert.isBelow(turns.filter((started) => started > 100).length, 3)
    }))

  it.live("ten by default, and 0 is no limit", () =>
    Effect.gen(function*() {
      for (const [maxConcurrentRequests, most] of [[undefined, 10], [0, 200]] as const) {
        const { free, self, url } = yield* start(
          maxConcurrentRequests === undefined ? {} : { policy: { maxConcurrentRequests } }
        )
        const peer = yield* client({ url })
        peer.conn.write(all(200))
        yield* until("those that may", () => self.begun === most)
        yield* free
        yield* until("all answers", () => answers(peer.text).length === 200)
        assert.deepStrictEqual(answers(peer.text), inOrder(200))
        assert.strictEqual(self.most, most)
      }
    }))

  it.live("an answer that is there, behind one that is not, still counts: what waits is bounded", () =>
    Effect.gen(function*() {
      const { gates, pass, self, url } = yield* start({ policy: { maxConcurrentRequests: 3 } })
      const peer = yield* client({ url })
      peer.conn.write(all(9))
      yield* until("three", () => self.begun === 3)
      const [first] = gates.splice(0, 1)
      yield* pass(2)
      yield* until("two are done", () => self.now === 1)
      yield* Effect.sleep(50)
      assert.strictEqual(self.begun, 3)
      yield* first!.open
      yield* until("three answers", () => answers(peer.text).length === 3)
      yield* until("three more", () => self.begun === 6)
    }))

  it.live("nothing is read meanwhile, also where handlers read bodies, and the peer is held back", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { free, self, url } = yield* start({ registry, policy: { maxConcurrentRequests: 4 } })
      const peer = yield* client({ url })
      const body = "x".repeat(1000)
      const requests = 8000
      peer.conn.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n${body}`.repeat(requests))
      yield* until("four", () => self.begun === 4)
      yield* Effect.sleep(100)
      const [snapshot] = yield* registry.snapshots
      assert.isTrue(snapshot!.paused)
      // what one read takes, and the read in which the limit was reached
      assert.isAtMost(snapshot!.bytesIn, 2 * 65_536)
      assert.isAtMost(snapshot!.inbox.messages, 130)
      assert.isAbove(peer.conn.writableLength, 0)
      yield* free
      yield* until("everything was taken", () => peer.conn.writableLength === 0, 15_000)
      yield* until("all answers", () => self.begun === requests && self.now === 0, 15_000)
      assert.isAtMost(self.most, 4)
      assert.isFalse((yield* registry.snapshots)[0]!.paused)
    }))

  it.live("the requests behind a peer that leaves never run, and those that run are interrupted", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { pass, self, url } = yield* start({ registry, policy: { maxConcurrentRequests: 5 } })
      const peer = yield* client({ url })
      peer.conn.write(all(500))
      yield* until("five", () => self.begun === 5)
      peer.conn.resetAndDestroy()
      yield* until("it left", () => peer.closed)
      // an answer finds out
      yield* pass(1)
      yield* until("nothing is left", () => self.now === 0)
      assert.isAtMost(self.begun, 6)
      assert.strictEqual(self.interrupted, self.begun - 1)
      yield* Effect.sleep(50)
      assert.isAtMost(self.begun, 6)
      assert.strictEqual(yield* registry.size, 0)
    }))

  it.live("a stop answers what is with the application, in order; the last one says so, and none of the others runs", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { free, self, stop, url } = yield* start({ registry, policy: { maxConcurrentRequests: 5 } })
      const peer = yield* client({ url })
      // more than is read
      peer.conn.write(all(20_000))
      yield* until("five", () => self.begun === 5)
      const stopping = yield* Effect.forkChild(stop, { startImmediately: true })
      yield* until("it is to leave", () => Effect.runSync(registry.snapshots)[0]?.state !== "open")
      yield* free
      yield* until("the end", () => peer.ended)
      assert.deepStrictEqual(answers(peer.text), inOrder(5))
      assert.strictEqual(peer.text.split("Connection: close").length, 2)
      assert.isAbove(peer.text.indexOf("Connection: close"), peer.text.indexOf("</3>"))
      // no reset, which could take the last answers away
      peer.conn.write(get("more"))
      yield* Effect.sleep(50)
      assert.isFalse(peer.closed)
      peer.conn.end()
      yield* Fiber.join(stopping)
      assert.strictEqual(self.begun, 5)
      assert.isUndefined(peer.error)
    }))

  it.live("an answer that closes is the last; what is behind it never runs", () =>
    Effect.gen(function*() {
      const { free, self, url } = yield* start({ policy: { maxConcurrentRequests: 2 } })
      const peer = yield* client({ url })
      peer.conn.write(all(3) + get("last") + all(5000))
      yield* until("two", () => self.begun === 2)
      yield* free
      yield* until("the end", () => peer.ended)
      assert.deepStrictEqual(answers(peer.text), [...inOrder(3), "</last>"])
      assert.isUndefined(peer.error)
      // one more may have begun beside it
      assert.isAtMost(self.begun, 5)
    }))

  it.live("a request that arrives while nothing is read is not late, and then has its deadline", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const policy = { maxConcurrentRequests: 2, handshake: 300, frame: 300 }
      const { free, self, url } = yield* start({ registry, policy })
      const peer = yield* client({ url })
      const half = "GET /3 HTTP/1.1\r\nHo"
      peer.conn.write(all(3) + half)
      const late = yield* client({ url })
      late.conn.write(`${all(2)}POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345`)
      yield* until("two and two", () => self.begun === 4)
      yield* Effect.sleep(1000)
      assert.isFalse(peer.ended || late.ended)
      yield* free
      yield* until("their answers", () => answers(peer.text).length === 3 && answers(late.text).length === 2)
      // the one goes on, the other never does
      peer.conn.write("st: a\r\n\r\n")
      yield* until("the fourth", () => answers(peer.text).length === 4)
      yield* until("the end of the other", () => late.ended)
      assert.include(late.text, "408")
      assert.isFalse(peer.ended)
      const [entry] = yield* registry.history
      assert.strictEqual(entry!.snapshot.reason?._tag, "FrameTimeout")
      yield* Effect.sleep(500)
      assert.isFalse(peer.ended)
    }))
})

describe("B117 what is no request, behind requests that are", () => {
  const limits = { handshake: 80, frame: 100 }
  for (
    const [what, junk, reason] of [
      ["garbage", "\0\0\0 this is no HTTP\r\n\r\n", "ProtocolViolation"],
      [
        "a request behind one that is the last",
        `${get("last").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")}${get("x")}`,
        "ProtocolViolation"
      ],
      ["a head that is too long", `GET /${"x".repeat(100_000)} HTTP/1.1\r\n`, "FrameTooLong"],
      ["a request that is late", "GET / HTTP/1.1\r\n", "FrameTimeout"]
    ] as const
  ) {
    it.live(`${what}: those are answered, and the connection ends`, () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<never>()
        const { gates, pass, url } = yield* start({ registry, policy: limits })
        const peer = yield* client({ url })
        peer.conn.write(all(2) + junk)
        const count = junk.startsWith("GET /last") ? 3 : 2
        yield* until("they run", () => gates.length === count)
        yield* until("it leaves", () => Effect.runSync(registry.snapshots).some(({ state }) => state !== "open"))
        peer.conn.write("more\r\n\r\n".repeat(1000))
        for (let i = 1; i <= count; i++) {
          yield* pass(1)
          yield* until(`answer ${i}`, () => answers(peer.text).length === i)
        }
        yield* until("its end", () => peer.ended)
        assert.deepStrictEqual(answers(peer.text), [...inOrder(2), ...(count === 3 ? ["</last>"] : [])])
        assert.strictEqual(peer.text.match(/HTTP\/1\.1 /g)!.length, count)
        peer.conn.end()
        yield* until("it is gone", () => Effect.runSync(registry.size) === 0)
        assert.strictEqual((yield* registry.history)[0]!.snapshot.reason?._tag, reason)
      }))
  }

  it.live("a body that is late: the requests before it get no 408", () =>
    Effect.gen(function*() {
      const { gates, url } = yield* start({ policy: limits })
      const peer = yield* client({ url })
      peer.conn.write(`${get(0)}POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe`)
      yield* until("the first runs", () => gates.length === 1)
      yield* until("its end", () => peer.ended)
      assert.strictEqual(peer.text, "")
    }))
})
