import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, Option, References, Scope, Tracer } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import {
  Backoff,
  Client,
  Codec,
  Connection,
  ConnectionError,
  Heartbeat,
  Registry,
  Request,
  Server
} from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"

const settle = Effect.repeat(Effect.yieldNow, { times: 60 })

const lines = Connection.make({ codec: Codec.lines(), policy: { pingEvery: 0, silence: 0 } })

/** With a tracer that keeps all spans. */
const withSpans = <A, E, R>(test: (spans: Array<Tracer.NativeSpan>) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    return Effect.provideService(Effect.andThen(TestClock.adjust(0), test(spans)), Tracer.Tracer, tracer)
  })

const parentOf = (span: Tracer.NativeSpan | undefined) =>
  Option.getOrUndefined(span!.parent) as Tracer.NativeSpan | undefined

const exitOf = (span: Tracer.NativeSpan | undefined) =>
  span?.status._tag === "Ended" ? span.status.exit._tag : undefined

describe("spans", () => {
  it.effect("a server's connection is a trace of its own, with its handshake, its leave, its end; its handler is inside", () =>
    withSpans((spans) =>
      Effect.gen(function*() {
        const listener = yield* TestSocket.makeServer({
          wrap: (socket) => Connection.describe(socket, { messages: false, remote: "192.0.2.1:5" })
        })
        const registry = yield* Registry.make<string>({})
        yield* Server.run({
          open: lines,
          registry,
          handshake: (connection) => connection.receive,
          handle: (connection) =>
            Effect.andThen(
              Effect.withSpan(connection.send("hello"), "greeting"),
              Effect.flatMap(connection.receiveAll, () => Effect.never)
            )
        }).pipe(
          Effect.provideService(SocketServer.SocketServer, listener.server),
          Effect.withSpan("program"),
          Effect.forkScoped
        )
        const peer = yield* listener.connect
        yield* settle
        yield* TestClock.adjust(40)
        yield* peer.send("hi\n")
        yield* settle
        const span = spans.find(({ name }) => name === "holdfast.connection")
        assert.strictEqual(exitOf(span), undefined)
        assert.isUndefined(parentOf(span))
        assert.strictEqual(span?.kind, "server")
        assert.strictEqual(parentOf(spans.find(({ name }) => name === "greeting")), span)
        const [entry] = yield* registry.entries
        yield* entry!.connection.drainWith(new ConnectionError.GoingAway({}))
        yield* TestClock.adjust(1000)
        yield* peer.end
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(exitOf(span), "Success")
        assert.deepInclude(Object.fromEntries(span!.attributes), {
          "network.peer.address": "192.0.2.1:5",
          "holdfast.reason": "GoingAway",
          "holdfast.seen_by": "drain",
          "holdfast.received_bytes": 3,
          "holdfast.sent_bytes": 6,
          "holdfast.lost_messages": 0
        })
        assert.deepStrictEqual(span?.events.map(([name, at, attributes]) => [name, Number(at) / 1e6, attributes]), [
          ["handshake", 40, { after: 40 }],
          ["asked to leave", 40, { detail: "GoingAway" }],
          ["draining", 40, { detail: "GoingAway" }],
          // its handler has ended
          ["closing", 40, { detail: "GoingAway" }]
        ])
      })
    ))

  it.effect("a client's dials are spans, one for each, and a connection is in that of its dial", () =>
    withSpans((spans) =>
      Effect.gen(function*() {
        let failures = 1
        const open = Effect.gen(function*() {
          if (failures-- > 0) return yield* ConnectionError.make(new ConnectionError.OpenFailed({ cause: "no" }))
          const peer = yield* TestSocket.make()
          return yield* lines(peer.socket)
        })
        yield* Client.make(open, { reconnect: Backoff.constant("1 second") })
        yield* TestClock.adjust("2 seconds")
        const dials = spans.filter(({ name }) => name === "holdfast.dial")
        assert.deepStrictEqual(dials.map(exitOf), ["Failure", "Success"])
        const connection = spans.find(({ name }) => name === "holdfast.connection")
        assert.strictEqual(connection?.kind, "client")
        assert.strictEqual(parentOf(connection), dials[1])
      })
    ))

  it.effect("a request is a span in that of its caller; a reset fails the span of the connection", () =>
    withSpans((spans) =>
      Effect.gen(function*() {
        const peer = yield* TestSocket.make()
        const requests = yield* Request.make(yield* lines(peer.socket))
        yield* Effect.forkScoped(Effect.withSpan(requests.request("what?"), "caller"))
        yield* settle
        yield* peer.send("that\n")
        yield* settle
        const request = spans.find(({ name }) => name === "holdfast.request")
        assert.strictEqual(exitOf(request), "Success")
        assert.strictEqual(parentOf(request)?.name, "caller")
        yield* peer.reset
        yield* settle
        assert.strictEqual(exitOf(spans.find(({ name }) => name === "holdfast.connection")), "Failure")
      })
    ))

  it.effect("what happens again and again does not make a span grow", () =>
    withSpans((spans) =>
      Effect.gen(function*() {
        const peer = yield* TestSocket.make()
        const pinging = Connection.make({
          codec: Codec.lines(),
          heartbeat: Heartbeat.text("ping", "pong"),
          policy: { pingEvery: "1 second", pong: 0, silence: 0, writeStall: 0 }
        })
        yield* pinging(peer.socket)
        yield* TestClock.adjust("90 seconds")
        assert.strictEqual(spans[0]!.events.length, 64)
      })
    ))

  it.effect("nothing is made where no tracer is there, or tracing is off", () =>
    withSpans((spans) =>
      Effect.gen(function*() {
        const peer = yield* TestSocket.make()
        const connection = yield* Effect.provideService(lines(peer.socket), References.TracerEnabled, false)
        yield* connection.close
        assert.deepStrictEqual(spans, [])
      })
    ))

  it.effect("logs of a handler say of which connection they are, without `logs: false`", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      for (const logs of [true, false]) {
        const seen: Array<Readonly<Record<string, unknown>>> = []
        const logger = Logger.make(({ fiber }) => {
          seen.push(fiber.getRef(References.CurrentLogAnnotations))
        })
        const listener = yield* TestSocket.makeServer({
          wrap: (socket) => Connection.describe(socket, { messages: false, remote: "192.0.2.1:5" })
        })
        const scope = yield* Scope.make()
        const registry = yield* Registry.make<string>({})
        yield* Server.run({
          logs,
          open: lines,
          registry,
          names: () => ({ key: "ada\u001b[31m" }),
          handle: (connection) => Effect.andThen(Effect.log("hello"), Effect.andThen(connection.receive, Effect.never))
        }).pipe(
          Effect.provideService(SocketServer.SocketServer, listener.server),
          Effect.provide(Logger.layer([logger])),
          Effect.forkIn(scope)
        )
        yield* listener.connect
        yield* settle
        const [entry] = yield* registry.entries
        const { id } = entry!.connection
        assert.deepStrictEqual(seen, [logs ? { connection: id, key: "ada [31m", remote: "192.0.2.1:5" } : {}])
      }
    }))
})
