/** The ends of HTTP connections, as the admin API and the registry explain them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Latch, Redacted, Scope } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { ConnectionError, type Policy, Registry } from "../../src/index.ts"
import { Admin, HttpServer, Shutdown } from "../../src/node/index.ts"
import { client, portOf, until } from "./fixtures/kit.ts"

const application = (gate: Latch.Latch) =>
  Effect.gen(function*() {
    const { url } = yield* HttpServerRequest.HttpServerRequest
    // Effect's server runs what has no middleware uninterrupted
    if (url === "/slow") yield* Effect.interruptible(gate.await)
    return HttpServerResponse.text(url === "/large" ? "x".repeat(50_000_000) : "hello")
  })

const head = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`

/** A server with these limits, a client of it that has said this, and what the admin API tells of its end. */
const serving = Effect.fnUntraced(function*(policy: Policy.Patch, said: string, isFlowing = true) {
  const gate = Latch.makeUnsafe(false)
  const registry = yield* Registry.make<never, unknown>()
  const server = yield* HttpServer.make("http://127.0.0.1:0", { registry, policy: { drain: 300, ...policy } })
  yield* server.http.serve(application(gate))
  const admin = yield* Admin.make({ registry, port: 0 })
  const peer = yield* client({ url: `tcp://127.0.0.1:${portOf(server)}` }, { flowing: isFlowing })
  peer.conn.write(said)
  const { origin, search } = new URL(Redacted.value(admin.address))
  const look = Effect.promise(async (): Promise<any> => (await fetch(`${origin}/api/ended${search}`)).json())
  const ended = Effect.gen(function*() {
    for (let tries = 0; tries < 1000; tries++) {
      const { ended } = yield* look
      if (ended.length > 0) return ended[0]
      yield* Effect.sleep(5)
    }
    return yield* Effect.die(new Error("there is no end"))
  })
  return { ended, gate, peer, registry, server }
})

const entryOf = (registry: Registry.Registry<never, unknown>) =>
  Effect.map(registry.entries, ([entry]) => entry!.connection)

describe("the end of an HTTP connection is explained as that of any other", () => {
  it.live("a head that is none: the peer, seen by the reader, told 400; bytes and when it was heard", () =>
    Effect.gen(function*() {
      const before = Date.now()
      const { ended, peer } = yield* serving({}, "nonsense\r\n\r\n")
      yield* until("an answer", () => peer.text.includes("400 Bad Request"))
      peer.conn.end()
      const { bytesIn, end, lastHeardAt, lastWrittenAt, lostLoad, words } = yield* ended
      assert.deepInclude(end, { reason: "ProtocolViolation", who: "peer", seenBy: "reader", deadline: null })
      assert.deepInclude(end.told, { code: 400, comeBack: false })
      assert.isAbove(bytesIn, 0)
      assert.isAtLeast(lastHeardAt, before - 1)
      assert.isAtLeast(lastWrittenAt, before - 1)
      assert.deepStrictEqual(lostLoad, { messages: 0, bytes: 0 })
      assert.match(
        words,
        /^connection \d+ \(127\.0\.0\.1:\d+\) ended by the peer: .*\(seen by its reader\).*last heard/
      )
    }))

  it.live("a body that takes too long: its frame deadline, told 408, with the answer that was lost", () =>
    Effect.gen(function*() {
      const { ended } = yield* serving(
        { frame: 200, handshake: 100 },
        "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx"
      )
      const { end, lost } = yield* ended
      assert.strictEqual(lost, 1)
      assert.deepInclude(end, { reason: "FrameTimeout", who: "peer", seenBy: "deadlines", deadline: "frame" })
      assert.deepInclude(end.told, { code: 408 })
    }))

  it.live("an idle one: us, its idle deadline; nothing was said", () =>
    Effect.gen(function*() {
      const { ended, peer } = yield* serving({ idle: 100 }, head("/"))
      yield* until("an answer", () => peer.text.includes("hello"))
      const { age, end, lastHeardAt, lastWrittenAt, openedAt } = yield* ended
      assert.deepInclude(end, { reason: "IdleTimeout", who: "us", seenBy: "deadlines", deadline: "idle", told: null })
      // the request and its answer, and nothing since
      for (const at of [lastHeardAt, lastWrittenAt]) assert.isBelow(at, openedAt + age - 90)
    }))

  it.live("a peer that takes nothing: its write deadline, with the answer that was lost and its bytes", () =>
    Effect.gen(function*() {
      const { ended } = yield* serving({ writeStall: 200 }, head("/large"), false)
      const { end, lost, lostLoad } = yield* ended
      assert.deepInclude(end, { reason: "WriteStalled", who: "peer", seenBy: "deadlines", deadline: "write" })
      assert.deepInclude(end.facts, { limit: 200 })
      assert.strictEqual(lost, 1)
      assert.strictEqual(lostLoad.messages, 1)
      assert.isAbove(lostLoad.bytes, 1_000_000)
    }))

  it.live("one that is closed while it is answered: the caller, and the drain that ran out", () =>
    Effect.gen(function*() {
      const { ended, registry } = yield* serving({ drain: 100 }, head("/slow"))
      while ((yield* registry.size) === 0) yield* Effect.sleep(2)
      const connection = yield* entryOf(registry)
      while ((yield* connection.snapshot).messagesIn === 0) yield* Effect.sleep(2)
      yield* connection.closeWith(new ConnectionError.Closed({ by: "local", note: "enough" }))
      const { end, lostLoad, recent } = yield* ended
      assert.deepInclude(end, { reason: "Closed", who: "us", seenBy: "close", deadline: "drain" })
      assert.strictEqual(lostLoad.messages, 1)
      assert.deepStrictEqual(recent.map(({ detail, what }: any) => [what, detail]), [["closing", "Closed"]])
    }))

  it.live("one that a stop cuts, as its drain ran out: the process ends with 1, and with 0 where none was cut", () =>
    Effect.gen(function*() {
      for (const [path, code] of [["/slow", 1], ["/", 0]] as const) {
        const scope = yield* Scope.make()
        const { registry, server } = yield* Scope.provide(serving({ drain: 200 }, ""), scope)
        // it is there for longer than the server
        const peer = yield* client({ url: `tcp://127.0.0.1:${portOf(server)}` })
        peer.conn.write(head(path))
        const look = Effect.map(registry.snapshots, (all) => all.some(({ messagesIn }) => messagesIn > 0))
        while (!(yield* look)) yield* Effect.sleep(2)
        yield* Scope.close(scope, Exit.void)
        let told = -1
        Shutdown.teardown(Exit.interrupt(1), (exit) => told = exit)
        assert.strictEqual(told, code)
      }
    }))

  it.live("one that was asked to leave, and one that the peer resets", () =>
    Effect.gen(function*() {
      const asked = yield* serving({}, head("/"))
      yield* until("an answer", () => asked.peer.text.includes("hello"))
      yield* (yield* entryOf(asked.registry)).drainWith(new ConnectionError.GoingAway({}))
      const { end, recent } = yield* asked.ended
      assert.deepInclude(end, { reason: "GoingAway", who: "us", seenBy: "drain", deadline: null })
      assert.deepStrictEqual(recent.map(({ what }: any) => what), ["draining"])
      const reset = yield* serving({}, head("/"))
      yield* until("an answer", () => reset.peer.text.includes("hello"))
      reset.peer.conn.resetAndDestroy()
      assert.deepInclude((yield* reset.ended).end, { reason: "Reset", who: "network", seenBy: "reader", told: null })
    }))
})
