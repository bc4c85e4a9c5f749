/** Retry or not: what a server says of coming back, and what a client makes of it, on every protocol. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Client, Codec, Connection, ConnectionError, Heartbeat, Protocol, Registry, Server } from "../src/index.ts"
import type { Policy } from "../src/index.ts"
import { closeOf } from "../src/internal/protocol/closes.ts"
import { isWorthRetrying } from "../src/internal/reasons/closeCodes.ts"
import { webSocketCode } from "../src/internal/reasons/reason.ts"
import { TestNetwork } from "../src/testing/index.ts"

const calm: Policy.Patch = { pingJitter: 0, retryJitter: "none" }

/** The recipe of `Client.make` for a protocol whose transport carries no codes. */
const final = new Set(["Superseded", "DuplicateKey", "HandshakeFailed", "ProtocolViolation", "InvalidMessage"])
const withWord = (policy: Policy.Patch) =>
  Connection.make<string, string>({
    codec: Codec.lines(),
    policy,
    farewell: ({ _tag }) => final.has(_tag) ? `bye ${_tag}` : undefined,
    heartbeat: Heartbeat.make({
      ping: () => "ping",
      read: (line: string) =>
        line === "ping"
          ? { _tag: "Ping", answer: "pong" }
          : line === "pong"
          ? { _tag: "Pong", token: undefined }
          : line.startsWith("bye ")
          ? {
            _tag: "End",
            reason: new ConnectionError.Closed({ by: "peer", retryable: false, note: line.slice("bye ".length) })
          }
          : undefined
    })
  })

const codec = Codec.lines()

interface Way {
  readonly webSocket: boolean
  readonly server: (policy: Policy.Patch) => Connection.Open<string>
  readonly client: (policy: Policy.Patch) => Connection.Open<string>
}

const plain = (policy: Policy.Patch) => Connection.make({ codec, policy })
const native = {
  server: (policy: Policy.Patch) => Protocol.server({ codec, policy }),
  client: (policy: Policy.Patch) => Protocol.client({ codec, policy })
}

const ways: Readonly<Record<string, Way>> = {
  "WebSocket": { webSocket: true, server: plain, client: plain },
  "native": { webSocket: false, ...native },
  "native over WebSocket": { webSocket: true, ...native },
  "TCP with a last word": { webSocket: false, server: withWord, client: withWord }
}

/** A server on `server:7` whose connections all have the key "ada", and clients of it. */
const world = Effect.fnUntraced(function*(way: Way, options: {
  readonly policy?: Policy.Patch
  readonly duplicates?: "takeover" | "reject"
  readonly handshake?: Effect.Effect<void, unknown>
  readonly handle?: (
    connection: Connection.Connection<string>
  ) => Effect.Effect<unknown, ConnectionError.ConnectionError>
} = {}) {
  const network = yield* TestNetwork.make({ seed: "retry", latency: 10 })
  const { webSocket } = way
  const listener = yield* network.host("server").listen(7, { linger: "1 second", webSocket })
  const registry = yield* Registry.make<string>(
    options.duplicates === undefined ? {} : { duplicates: options.duplicates }
  )
  let accepted = 0
  yield* Server.run({
    open: (socket) => {
      accepted++
      return way.server({ ...calm, ...options.policy })(socket)
    },
    registry,
    names: () => options.duplicates === undefined ? {} : { key: "ada" },
    ...(options.handshake === undefined ? {} : { handshake: () => options.handshake! }),
    onEvent: () => Effect.void,
    handle: options.handle ?? ((c) => Stream.runForEach(Connection.messages(c), c.send))
  }).pipe(Effect.provideService(SocketServer.SocketServer, listener), Effect.forkScoped({ startImmediately: true }))
  const open = Effect.suspend(() =>
    way.client(calm)(network.host("client").dial("server:7", { linger: "1 second", webSocket }))
  )
  return { join: Client.make(open, { policy: calm }), registry, accepted: () => accepted }
})

const closedOf = (client: Client.Client<string>) =>
  Effect.map(client.state, (state) => {
    assert.strictEqual(state._tag, "Closed")
    return state._tag === "Closed" ? state.error : undefined!
  })

describe("retry or not", () => {
  for (const [name, way] of Object.entries(ways)) {
    it.effect(`B135 ${name}: two clients on one key are over after one exchange`, () =>
      Effect.gen(function*() {
        const { accepted, join, registry } = yield* world(way, { duplicates: "takeover" })
        const first = yield* join
        yield* TestClock.adjust(100)
        const second = yield* join
        // its dial, the end of the first one, and the way back
        yield* TestClock.adjust(60)
        const { isRetryable, reason } = yield* closedOf(first)
        assert.isFalse(isRetryable)
        assert.match(reason.message, /Superseded|superseded/)
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual((yield* second.state)._tag, "Connected")
        assert.strictEqual(accepted(), 2)
        assert.strictEqual(yield* registry.size, 1)
      }))

    it.effect(`B88 ${name}: a client whose credentials are refused does not come back`, () =>
      Effect.gen(function*() {
        const { accepted, join } = yield* world(way, { handshake: Effect.fail("bad token") })
        const client = yield* join
        yield* TestClock.adjust("10 minutes")
        assert.isFalse((yield* closedOf(client)).isRetryable)
        assert.strictEqual(accepted(), 1)
      }))

    it.effect(`B88 ${name}: a client whose message cannot be read does not come back`, () =>
      Effect.gen(function*() {
        const invalid = new ConnectionError.ProtocolViolation({ detail: "no such message" })
        const { accepted, join } = yield* world(way, {
          handle: (c) => Effect.andThen(c.receive, c.closeWith(invalid))
        })
        const client = yield* join
        yield* Effect.forkChild(client.send("?"))
        yield* TestClock.adjust("10 minutes")
        assert.isFalse((yield* closedOf(client)).isRetryable)
        assert.strictEqual(accepted(), 1)
      }))

    it.effect(`B88 ${name}: one that was too slow, or too late, comes back`, () =>
      Effect.gen(function*() {
        for (
          const reason of [
            new ConnectionError.SlowConsumer({ messages: 1, bytes: 1 }),
            new ConnectionError.HandshakeTimeout({ limit: 1 }),
            new ConnectionError.FrameTimeout({ limit: 1, received: 1 }),
            new ConnectionError.SilenceTimeout({ limit: 1 }),
            new ConnectionError.GoingAway({}),
            new ConnectionError.Refused({ limit: "maxConnections" })
          ]
        ) {
          let times = 0
          const { accepted, join } = yield* world(way, {
            handle: (c) => times++ === 0 ? c.closeWith(reason) : Effect.forever(c.receive)
          })
          const client = yield* join
          yield* TestClock.adjust("10 seconds")
          assert.strictEqual((yield* client.state)._tag, "Connected", reason._tag)
          assert.strictEqual(accepted(), 2, reason._tag)
        }
      }))
  }

  it("B88 a close frame says of coming back what a native CLOSE says", () => {
    const limit = 1000
    const reasons: ReadonlyArray<ConnectionError.Reason> = [
      new ConnectionError.HandshakeTimeout({ limit }),
      new ConnectionError.HandshakeFailed({ cause: "x" }),
      new ConnectionError.Refused({ limit: "stopping" }),
      new ConnectionError.SilenceTimeout({ limit }),
      new ConnectionError.PongTimeout({ limit, unanswered: 1 }),
      new ConnectionError.WriteStalled({ limit }),
      new ConnectionError.FrameTimeout({ limit, received: 1 }),
      new ConnectionError.IdleTimeout({ limit }),
      new ConnectionError.MaxAge({ limit }),
      new ConnectionError.SlowConsumer({ messages: 1, bytes: 1 }),
      new ConnectionError.TooManyPings({ minimum: limit }),
      new ConnectionError.UnsupportedVersion({ lowest: 2, highest: 3, ours: "1-1" }),
      new ConnectionError.ProtocolViolation({ detail: "x" }),
      new ConnectionError.Superseded({ key: "ada" }),
      new ConnectionError.DuplicateKey({ key: "ada" }),
      new ConnectionError.Swept({}),
      new ConnectionError.GoingAway({}),
      new ConnectionError.FrameTooLong({ direction: "decode", size: 2, limit: 1 }),
      new ConnectionError.InvalidLength({ direction: "decode", detail: "x" }),
      new ConnectionError.InvalidMessage({ direction: "decode", format: "JSON", detail: "x" })
    ]
    for (const reason of reasons) {
      assert.strictEqual(
        isWorthRetrying(webSocketCode(reason)),
        closeOf(reason, { after: 0, spread: 0 }).retry,
        reason._tag
      )
    }
  })
})
