/** A logger or a tracer of the application that throws costs its line or its span, and nothing of what it watches. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as SocketServer from "effect/socket/SocketServer"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import { Client, Codec, Connection, ConnectionPool, Server } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"

const bug = (): never => {
  throw new Error("bug")
}

const settle = Effect.forEach(Array.from({ length: 50 }), () => Effect.yieldNow, { discard: true })

const lines = Connection.make({ codec: Codec.lines(), policy: { pingEvery: 0, silence: 0 } })

/** What became of an effect by now. */
const outcome = <A, E>(fiber: Fiber.Fiber<A, E>): string => {
  const exit = fiber.pollUnsafe()
  if (exit === undefined) return "waits"
  if (Exit.isSuccess(exit)) return "done"
  return exit.cause.reasons.map((reason) => reason._tag === "Fail" ? String(reason.error) : reason._tag).join()
}

const brokenTracer = (breaks: keyof Tracer.Span | "span"): Layer.Layer<never> => {
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      return breaks === "span" ? bug() : Object.assign(span, { [breaks]: bug })
    }
  })
  return Layer.merge(Layer.succeed(Tracer.Tracer, tracer), Logger.layer([]))
}

const observers: ReadonlyArray<readonly [string, Layer.Layer<never>]> = [
  ["a logger that throws", Logger.layer([Logger.make(bug)])],
  ...(["span", "event", "attribute", "end"] as const).map((breaks) =>
    [`a tracer whose ${breaks} throws`, brokenTracer(breaks)] as const
  )
]

for (const [what, layer] of observers) {
  describe(`watched by ${what}`, () => {
    for (const how of ["dies", "fails", "returns"] as const) {
      it.effect(`B100 a server lets go of a connection whose handler ${how}, and tells its end`, () =>
        Effect.gen(function*() {
          const listener = yield* TestSocket.makeServer()
          const events: Array<string> = []
          const handler = { dies: Effect.die("bug"), fails: Effect.fail("no"), returns: Effect.void }[how]
          const server = Server.make({
            open: lines,
            handle: (connection) => Effect.andThen(connection.receive, handler),
            policy: { maxConnections: 1 },
            onEvent: (event) => Effect.sync(() => void events.push(event._tag))
          })
          const running = yield* Effect.forkDetach(
            Effect.provideService(server.run, SocketServer.SocketServer, listener.server),
            { startImmediately: true }
          )
          for (let turn = 0; turn < 2; turn++) {
            const peer = yield* listener.connect
            yield* settle
            yield* peer.send("now\n")
            yield* settle
            const released = yield* Effect.forkChild(peer.released, { startImmediately: true })
            yield* settle
            assert.strictEqual(outcome(released), "done")
          }
          assert.deepStrictEqual(events, ["Opened", "Closed", "Opened", "Closed"])
          assert.isUndefined(running.pollUnsafe())
          running.interruptUnsafe()
        }).pipe(Effect.provide(layer)))
    }

    it.effect("B100 a connection ends with its reason, and its watchers are told", () =>
      Effect.gen(function*() {
        const peer = yield* TestSocket.make()
        const connection = yield* lines(peer.socket)
        const receiving = yield* Effect.forkChild(connection.receive, { startImmediately: true })
        const closed = yield* Effect.forkChild(connection.closed, { startImmediately: true })
        yield* peer.reset
        yield* settle
        const reset = "ConnectionError: reset by the peer: read ECONNRESET"
        assert.deepStrictEqual([outcome(receiving), outcome(closed)], [reset, reset])
      }).pipe(Effect.scoped, Effect.provide(layer)))

    // an effect of the application in a span is Effect's matter, and dies of that tracer
    if (what !== "a logger that throws") return
    it.effect("B100 the defects of a pool and a client have their reasons", () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(ConnectionPool.make(Effect.die("bug")), scope)
        const borrower = yield* Effect.forkChild(pool.use(() => Effect.void), { startImmediately: true })
        const open = Effect.flatMap(TestSocket.make(), ({ socket }) => lines(socket))
        const onConnect = () => Effect.die("bug")
        const client = yield* Scope.provide(Client.make(open, { onConnect }), scope)
        const sender = yield* Effect.forkChild(client.send("x"), { startImmediately: true })
        yield* settle
        assert.deepStrictEqual([outcome(borrower), outcome(sender)], [
          "ConnectionError: a defect in the open ended it: bug",
          "ConnectionError: a defect in the onConnect ended it: bug"
        ])
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(outcome(closing), "done")
      }).pipe(Effect.provide(layer)))
  })
}
