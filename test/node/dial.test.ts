import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, type Scope } from "effect"
import type * as Socket from "effect/socket/Socket"
import { TestClock } from "effect/testing"
import * as Crypto from "node:crypto"
import * as Net from "node:net"
import { Client, Codec, Connection, ConnectionError, type Policy } from "../../src/index.ts"
import { Dialer } from "../../src/node/index.ts"
import { check, evaluate } from "../../src/node/internal/webSocket/asking.ts"
import { type Target, upgrade, type Upgraded } from "../../src/node/internal/webSocket/dial.ts"
import { retryAfter } from "../../src/node/internal/webSocket/refusal.ts"
import { until } from "./fixtures/kit.ts"

/** A server that is written by hand: each connection is a request, and what to answer to its head. */
interface Peer {
  readonly url: string
  readonly port: number
  readonly heads: Array<string>
  readonly conns: Array<Net.Socket>
}

const serving = (
  answer: (head: string, conn: Net.Socket) => string | undefined
): Effect.Effect<Peer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Peer & { readonly server: Net.Server }>((resume) => {
      const heads: Array<string> = []
      const conns: Array<Net.Socket> = []
      const server = Net.createServer((conn) => {
        conns.push(conn)
        let head = ""
        conn.on("error", () => {})
        conn.on("data", (chunk) => {
          head += chunk.toString("latin1")
          if (!head.includes("\r\n\r\n")) return
          heads.push(head)
          const text = answer(head, conn)
          head = ""
          if (text !== undefined) conn.write(text, "latin1")
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as Net.AddressInfo
        resume(Effect.succeed({ url: `ws://127.0.0.1:${port}/live?a=b`, port, heads, conns, server }))
      })
    }),
    ({ conns, server }) =>
      Effect.sync(() => {
        for (const conn of conns) conn.destroy()
        server.close()
      })
  )

const keyOf = (head: string): string => /^sec-websocket-key: (.*)\r$/im.exec(head)![1]!
const acceptOf = (head: string): string =>
  Crypto.createHash("sha1").update(`${keyOf(head)}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64")

/** A 101, with what a test has different. */
const switching = (head: string, headers: Readonly<Record<string, string | undefined>> = {}): string => {
  const all = { Upgrade: "websocket", Connection: "Upgrade", "Sec-WebSocket-Accept": acceptOf(head), ...headers }
  const lines = Object.entries(all).flatMap(([name, value]) => value === undefined ? [] : [`${name}: ${value}\r\n`])
  return `HTTP/1.1 101 Switching Protocols\r\n${lines.join("")}\r\n`
}

const connected = (peer: Peer): Effect.Effect<Net.Socket, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Net.Socket>((resume) => {
      const conn = Net.connect(peer.port, "127.0.0.1", () => resume(Effect.succeed(conn)))
      conn.on("error", () => {})
    }),
    (conn) => Effect.sync(() => conn.destroy())
  )

const target = (over: Partial<Target> = {}): Target => ({
  host: "h.example:81",
  path: "/live?a=b",
  headers: {},
  protocols: [],
  ...over
})

const dialled = (peer: Peer, over: Partial<Target> = {}) =>
  Effect.flatMap(
    connected(peer),
    (conn) => Effect.map(Effect.result(upgrade(conn, target(over))), (result) => ({ conn, result }))
  )

const errorOf = (error: Socket.SocketError) => ConnectionError.fromSocketError(error)

/** The error of a dial that must fail, once its connection is destroyed. */
const refused = Effect.fnUntraced(function*(peer: Peer, over: Partial<Target> = {}) {
  const { conn, result } = yield* dialled(peer, over)
  assert.strictEqual(result._tag, "Failure")
  assert.isTrue(conn.destroyed)
  return errorOf((result as { readonly failure: Socket.SocketError }).failure)
})

describe("the upgrade of a dialler", () => {
  it.live("B130 asks as RFC 6455 says, and gives the stream with what came behind the 101", () =>
    Effect.gen(function*() {
      const peer = yield* serving((head) =>
        `${switching(head, { "Sec-WebSocket-Protocol": "b", "X-A": "1" })}\x81\x01x`
      )
      const { result } = yield* dialled(peer, { headers: { authorization: "Bearer t" }, protocols: ["a", "b"] })
      const { conn, head, headers, protocol } = (result as { readonly success: Upgraded }).success
      assert.deepStrictEqual([protocol, headers["x-a"]], ["b", "1"])
      assert.strictEqual(head.toString("latin1"), "\x81\x01x")
      const lines = peer.heads[0]!.toLowerCase().split("\r\n")
      assert.strictEqual(lines[0], "get /live?a=b http/1.1")
      for (
        const line of [
          "host: h.example:81",
          "authorization: bearer t",
          "connection: upgrade",
          "upgrade: websocket",
          "sec-websocket-version: 13",
          "sec-websocket-protocol: a, b"
        ]
      ) assert.include(lines, line)
      assert.strictEqual(Buffer.from(keyOf(peer.heads[0]!), "base64").length, 16)
      // nothing was read from it meanwhile
      peer.conns[0]!.write("more")
      yield* until("what comes next", () => conn.readableLength === 4)
      // it is the caller's: what breaks it is no exception
      conn.destroy(new Error("broken"))
      yield* Effect.sleep(5)
    }))

  it.live("every try has a key of its own", () =>
    Effect.gen(function*() {
      const peer = yield* serving((head) => switching(head))
      yield* dialled(peer)
      yield* dialled(peer)
      assert.notStrictEqual(keyOf(peer.heads[0]!), keyOf(peer.heads[1]!))
    }))

  const unsound: ReadonlyArray<readonly [what: string, headers: Readonly<Record<string, string | undefined>>, RegExp]> =
    [
      ["another key", { "Sec-WebSocket-Accept": "AAAAAAAAAAAAAAAAAAAAAAAAAAA=" }, /another key/],
      ["no key", { "Sec-WebSocket-Accept": undefined }, /another key/],
      ["another protocol than WebSocket", { Upgrade: "h2c" }, /something else/],
      ["no upgrade", { Upgrade: undefined, Connection: undefined }, /101/],
      ["a subprotocol that was not offered", { "Sec-WebSocket-Protocol": "c" }, /not offered/],
      ["two subprotocols", { "Sec-WebSocket-Protocol": "a, b" }, /not offered/],
      ["an extension", { "Sec-WebSocket-Extensions": "permessage-deflate" }, /extension/]
    ]
  for (const [what, headers, expected] of unsound) {
    it.live(`B130 a 101 with ${what} is a violation, and not tried again`, () =>
      Effect.gen(function*() {
        const error = yield* refused(yield* serving((head) => switching(head, headers)), { protocols: ["a", "b"] })
        assert.deepStrictEqual([error.reason._tag, error.isRetryable], ["ProtocolViolation", false])
        assert.match(error.message, expected)
      }))
  }

  it.live("B130 any other status is `UpgradeRefused`, with the words and headers of the peer", () =>
    Effect.gen(function*() {
      const peer = yield* serving(() =>
        "HTTP/1.1 401 Not\x07you\r\nWWW-Authenticate: Bearer\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n" +
        "Retry-After: 7\r\nContent-Length: 999999\r\n\r\n"
      )
      const { advice, isRetryable, reason } = yield* refused(peer)
      assert.strictEqual(reason._tag, "UpgradeRefused")
      if (reason._tag !== "UpgradeRefused") return
      assert.deepStrictEqual([reason.status, isRetryable, advice], [401, false, { after: 7000, spread: 0 }])
      assert.strictEqual(reason.headers["www-authenticate"], "Bearer")
      assert.strictEqual(reason.headers["set-cookie"], "a=1, b=2")
      assert.strictEqual(reason.message, "the peer refused the upgrade with 401 Not you")
    }))

  it.live("B130 of which 5xx, 408, 425 and 429 are worth another try, and a redirect is not followed", () =>
    Effect.gen(function*() {
      for (
        const status of [200, 204, 301, 302, 307, 308, 400, 401, 403, 404, 408, 425, 426, 429, 500, 502, 503, 504, 599]
      ) {
        const peer = yield* serving(() => `HTTP/1.1 ${status} X\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n`)
        const error = yield* refused(peer)
        assert.strictEqual(error.reason._tag, "UpgradeRefused")
        assert.strictEqual(error.isRetryable, status >= 500 || [408, 425, 429].includes(status), `${status}`)
        assert.lengthOf(peer.heads, 1)
      }
    }))

  it.live("interim answers are passed over", () =>
    Effect.gen(function*() {
      const peer = yield* serving((head) => `HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${switching(head)}`)
      assert.strictEqual((yield* dialled(peer)).result._tag, "Success")
    }))

  it.live("no HTTP, too large a head, and an end before the answer are `OpenFailed`", () =>
    Effect.gen(function*() {
      const answers: ReadonlyArray<(conn: Net.Socket) => string | undefined> = [
        () => "220 mail.example ESMTP\r\n",
        () => `HTTP/1.1 101 X\r\nX: ${"x".repeat(100_000)}\r\n\r\n`,
        (conn) => void conn.end(),
        (conn) => void conn.resetAndDestroy()
      ]
      for (const answer of answers) {
        const error = yield* refused(yield* serving((_, conn) => answer(conn)))
        assert.deepStrictEqual([error.reason._tag, error.isRetryable], ["OpenFailed", true])
      }
    }))

  it.live("an interruption destroys the connection", () =>
    Effect.gen(function*() {
      const peer = yield* serving(() => undefined)
      const conn = yield* connected(peer)
      const fiber = yield* Effect.forkChild(upgrade(conn, target()), { startImmediately: true })
      yield* until("the request", () => peer.heads.length === 1)
      yield* Fiber.interrupt(fiber)
      assert.isTrue(conn.destroyed)
    }))

  it.live("a header that cannot be sent fails, and does not throw", () =>
    Effect.gen(function*() {
      const error = yield* refused(yield* serving((head) => switching(head)), { headers: { a: "b\r\nc: d" } })
      assert.strictEqual(error.reason._tag, "OpenFailed")
    }))
})

describe("Retry-After", () => {
  const now = Date.parse("2030-01-01T00:00:00Z")
  const cases: ReadonlyArray<
    readonly [said: string | undefined, date: string | undefined, millis: number | undefined]
  > = [
    [undefined, undefined, undefined],
    ["3", undefined, 3000],
    [" 0 ", undefined, 0],
    ["Tue, 01 Jan 2030 00:00:05 GMT", undefined, 5000],
    ["Tuesday, 01-Jan-30 00:00:05 GMT", undefined, 5000],
    ["Tue Jan  1 00:00:05 2030", undefined, 5000],
    ["Mon, 31 Dec 2029 00:00:00 GMT", undefined, 0],
    // the server's clock is an hour ahead: it means ten seconds
    ["Tue, 01 Jan 2030 01:00:10 GMT", "Tue, 01 Jan 2030 01:00:00 GMT", 10_000],
    ["Tue, 01 Jan 2030 00:00:05 GMT", "nonsense", 5000],
    ["3.5", undefined, undefined],
    ["-3", undefined, undefined],
    ["soon", undefined, undefined],
    ["2030", undefined, 2_030_000],
    ["2030-01-01", undefined, undefined],
    ["", undefined, undefined]
  ]
  it("B130 is read as seconds and as a date", () => {
    for (const [said, date, millis] of cases) {
      const headers = {
        ...(said === undefined ? {} : { "retry-after": said }),
        ...(date === undefined ? {} : { date })
      }
      assert.strictEqual(retryAfter(headers, now), millis, said)
    }
  })
})

describe("what a dialler asks with", () => {
  it.effect("headers, cookies and subprotocols are values, or effects that run for every try", () =>
    Effect.gen(function*() {
      let tries = 0
      const given = {
        headers: Effect.sync(() => ({ Authorization: `Bearer ${++tries}`, Cookie: "old=1" })),
        cookies: { "a": "b c", d: "e" },
        protocols: "chat"
      }
      for (const token of [1, 2]) {
        assert.deepStrictEqual(yield* evaluate(given), {
          headers: { authorization: `Bearer ${token}`, cookie: "old=1; a=b%20c; d=e" },
          protocols: ["chat"]
        })
      }
      assert.deepStrictEqual(yield* evaluate({}), { headers: {}, protocols: [] })
    }))

  it("what belongs to the upgrade itself is refused when it is given", () => {
    for (
      const given of [
        { headers: { Upgrade: "h2c" } },
        { headers: { "sec-websocket-key": "x" } },
        { headers: { "Content-Length": "1" } },
        { protocols: ["a", "a"] },
        { protocols: "a b" },
        { cookies: { "a b": "c" } }
      ]
    ) assert.strictEqual(check(given)._tag, "Failure", JSON.stringify(given))
    assert.strictEqual(check({ headers: { Host: "h", Origin: "https://o" } })._tag, "Success")
  })

  it.effect("a failure is `OpenFailed`, and a `ConnectionError` is the reason itself", () =>
    Effect.gen(function*() {
      const failing = (error: unknown) => Effect.map(Effect.flip(evaluate({ headers: Effect.fail(error) })), errorOf)
      const plain = yield* failing(new Error("no token"))
      assert.deepStrictEqual([plain.reason._tag, plain.isRetryable], ["OpenFailed", true])
      const revoked = ConnectionError.make(new ConnectionError.HandshakeFailed({ cause: "revoked" }))
      assert.strictEqual(yield* failing(revoked), revoked)
    }))
})

describe("a client", () => {
  const connecting = (peer: Peer, options: Dialer.DialOptions = {}, policy: Policy.Patch = {}) =>
    Client.make(
      Effect.flatMap(Effect.orDie(Dialer.make(peer.url, options)), Connection.make({ codec: Codec.lines() })),
      { policy }
    )

  /** The wait that the client is in, or comes to. */
  const waiting = Effect.fnUntraced(function*(self: Client.Client<string>, attempt: number) {
    for (let i = 0; i < 1000; i++) {
      const state = yield* self.state
      if (state._tag === "Waiting" && state.attempt === attempt) return state
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 2)))
    }
    return yield* Effect.die(new Error(`there was no wait before try ${attempt}`))
  })

  it.live("B130 an upgrade answered with 401: closed, after one try", () =>
    Effect.gen(function*() {
      const peer = yield* serving(() => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nX-Why: token\r\n\r\n")
      const error = yield* Effect.flip((yield* connecting(peer)).closed)
      assert.isTrue(error.reason._tag === "UpgradeRefused" && error.reason.headers["x-why"] === "token")
      assert.strictEqual(error.message, "the peer refused the upgrade with 401 Unauthorized")
      assert.lengthOf(peer.heads, 1)
    }))

  it.effect("B130 answered with 503 and `Retry-After: 3`: not before 3 s, and each time with fresh credentials", () =>
    Effect.gen(function*() {
      const peer = yield* serving((head) =>
        head.includes("t3") ? switching(head) : "HTTP/1.1 503 X\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n"
      )
      let tries = 0
      const headers = Effect.sync(() => ({ Authorization: `t${++tries}` }))
      const policy = { retryJitter: "equal", retryBase: 1000 } as const
      const self = yield* connecting(peer, { headers, cookies: { c: "1" } }, policy)
      const delays: Array<number> = []
      for (const attempt of [2, 3]) {
        const { delay } = yield* waiting(self, attempt)
        const millis = Duration.toMillis(delay)
        delays.push(millis)
        assert.lengthOf(peer.heads, attempt - 1)
        yield* TestClock.adjust(Math.floor(millis) - 1)
        assert.strictEqual((yield* self.state)._tag, "Waiting")
        yield* TestClock.adjust(2)
        yield* until("the next try", () => peer.heads.length === attempt)
      }
      // the delays of the backoff, half of them at random, on top of 3 s
      assert.isTrue(delays[0]! >= 3500 && delays[0]! <= 4000, `${delays[0]}`)
      assert.isTrue(delays[1]! >= 4000 && delays[1]! <= 5000, `${delays[1]}`)
      yield* self.connection
      assert.deepStrictEqual(peer.heads.map((head) => /^authorization: (.*)\r$/im.exec(head)![1]), ["t1", "t2", "t3"])
      assert.isTrue(peer.heads.every((head) => /^cookie: c=1\r$/im.test(head)))
    }))

  it.live("B130 a policy may judge a status otherwise", () =>
    Effect.gen(function*() {
      let tries = 0
      const peer = yield* serving(() => `HTTP/1.1 ${++tries === 1 ? 401 : 503} X\r\nContent-Length: 0\r\n\r\n`)
      const policy = { retryOn: [401], giveUpOn: ["500-599"], retryBase: 1 } as const
      const error = yield* Effect.flip((yield* connecting(peer, {}, policy)).closed)
      assert.strictEqual(error.message, "the peer refused the upgrade with 503 X")
      assert.lengthOf(peer.heads, 2)
    }))

  it.live("B148 headers that hang are under the limit of opening, and are interrupted", () =>
    Effect.gen(function*() {
      let interrupted = false
      const headers = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted = true))
      const peer = yield* serving((head) => switching(head))
      const socket = yield* Dialer.make(peer.url, { headers, policy: { open: 20 } })
      const error = yield* Effect.flip(Effect.scoped(socket.reader))
      assert.isTrue(error.reason._tag === "SocketOpenError" && error.reason.kind === "Timeout")
      assert.isTrue(interrupted)
      assert.lengthOf(peer.conns, 0)
    }))

  it.live("a dial is interrupted at once, and leaves no connection behind", () =>
    Effect.gen(function*() {
      const peer = yield* serving(() => undefined)
      const socket = yield* Dialer.make(peer.url)
      const fiber = yield* Effect.forkChild(Effect.scoped(socket.reader), { startImmediately: true })
      yield* until("the request", () => peer.heads.length === 1)
      yield* Fiber.interrupt(fiber)
      yield* until("the end of the connection", () => peer.conns[0]!.destroyed)
    }))
})
