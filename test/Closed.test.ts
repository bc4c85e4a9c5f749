/** When `closed` comes: as soon as both ends have said that they are done, on every protocol, to the millisecond. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Scope, Stream } from "effect"
import type { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, type Policy, Protocol } from "../src/index.ts"
import { TestNetwork } from "../src/testing/index.ts"

type Line = Connection.Connection<string>

const policy: Policy.Patch = { pingEvery: 0, silence: 0, halfClose: "5 seconds", drain: "5 seconds" }
const codec = Codec.lines()

const ways = {
  TCP: { webSocket: false, server: Connection.make({ codec, policy }), client: Connection.make({ codec, policy }) },
  WebSocket: {
    webSocket: true,
    server: Connection.make({ codec, policy }),
    client: Connection.make({ codec, policy })
  },
  native: { webSocket: false, server: Protocol.server({ codec, policy }), client: Protocol.client({ codec, policy }) },
  "native over WebSocket": {
    webSocket: true,
    server: Protocol.server({ codec, policy }),
    client: Protocol.client({ codec, policy })
  }
}

const now = Effect.map(Clock.Clock, (clock) => clock.currentTimeMillisUnsafe())

/** Two ends 10 ms apart. Each receives until it is told the end, and is then done; `ended` is when `closed` came. */
const world = Effect.fnUntraced(function*(way: typeof ways[keyof typeof ways]) {
  const network = yield* TestNetwork.make({ seed: "closed", latency: 10, linger: "1 second" })
  const { webSocket } = way
  const ended: Record<string, number> = {}
  const end = Effect.fnUntraced(function*(name: string, open: Connection.Open<string>, socket: Socket.Socket) {
    const there = yield* Deferred.make<Line>()
    yield* Effect.gen(function*() {
      const c = yield* open(socket)
      yield* Effect.forkScoped(
        Effect.andThen(Effect.exit(c.closed), Effect.map(now, (at) => ended[name] = at)),
        { startImmediately: true }
      )
      yield* Deferred.succeed(there, c)
      yield* Effect.ignore(
        Stream.runForEach(Connection.messages(c), (message) => name === "server" ? c.send(message) : Effect.void)
      )
      // the finalizers of the scope come after what waits for the end
      yield* c.close
    }).pipe(Effect.scoped, Effect.ignore, Effect.forkScoped({ startImmediately: true }))
    return { there: Deferred.await(there) }
  })
  const listener = yield* network.host("server").listen(7, { webSocket })
  const accepted = yield* Deferred.make<Line>()
  const scope = yield* Effect.scope
  yield* listener.run((socket) =>
    Effect.flatMap(
      Scope.provide(end("server", way.server, socket), scope),
      ({ there }) => Effect.flatMap(there, (c) => Deferred.succeed(accepted, c))
    )
  ).pipe(Effect.forkScoped({ startImmediately: true }))
  const dialled = yield* end("client", way.client, network.host("client").dial("server:7", { webSocket }))
  yield* TestClock.adjust(100)
  const client = yield* dialled.there
  const server = yield* Deferred.await(accepted)
  assert.strictEqual(yield* now, 100)
  const open = Effect.map(network.snapshot, ({ connections }) => connections.length)
  return { client, server, ended, open, network }
})

describe("closed", () => {
  for (const [name, way] of Object.entries(ways)) {
    for (const side of ["client", "server"] as const) {
      const other = side === "client" ? "server" : "client"
      it.effect(`${name}: the ${side} closes: at once at its end, one way later at the other, and nothing is left`, () =>
        Effect.gen(function*() {
          const { ended, open, ...ends } = yield* world(way)
          yield* Effect.forkChild(ends.client.send("hello"))
          yield* TestClock.adjust(100)
          yield* Effect.forkChild(ends[side].close, { startImmediately: true })
          yield* TestClock.adjust(0)
          assert.deepStrictEqual(ended, { [side]: 200 })
          yield* TestClock.adjust(9)
          assert.deepStrictEqual(ended, { [side]: 200 })
          yield* TestClock.adjust(1)
          assert.deepStrictEqual(ended, { [side]: 200, [other]: 210 })
          yield* TestClock.adjust(30)
          assert.strictEqual(yield* open, 0)
        }))
    }

    it.effect(`${name}: both close at once`, () =>
      Effect.gen(function*() {
        const { client, ended, open, server } = yield* world(way)
        yield* Effect.forkChild(client.close, { startImmediately: true })
        yield* Effect.forkChild(server.close, { startImmediately: true })
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(ended, { client: 100, server: 100 })
        yield* TestClock.adjust(30)
        assert.strictEqual(yield* open, 0)
      }))

    it.effect(`${name}: a close that flushes ends when the rest is taken`, () =>
      Effect.gen(function*() {
        const { client, ended, network, open } = yield* world(way)
        yield* Effect.gen(function*() {
          yield* network.link("client", "server").partition
          yield* Effect.forkChild(client.send("x".repeat(200_000)), { startImmediately: true })
          yield* Effect.forkChild(client.close, { startImmediately: true })
          yield* TestClock.adjust(1000)
          assert.deepStrictEqual(ended, {})
        }).pipe(Effect.scoped)
        yield* TestClock.adjust(3000)
        assert.isAbove(ended["client"]!, 1100)
        assert.isBelow(ended["client"]!, 4100)
        assert.isBelow(ended["server"]!, 4100)
        assert.strictEqual(yield* open, 0)
      }))

    it.effect(`${name}: a server that drains ends as soon as its client has hung up`, () =>
      Effect.gen(function*() {
        const { client, ended, open, server } = yield* world(way)

        yield* Effect.forkChild(Effect.andThen(client.leaving, client.close), { startImmediately: true })
        yield* server.drainWith(new ConnectionError.GoingAway({}))
        yield* TestClock.adjust(60)
        assert.strictEqual(Object.keys(ended).length, 2)
        assert.strictEqual(yield* open, 0)
      }))
  }
})
