import { assert, describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Net from "node:net"
import { Client, Codec, Connection, ConnectionError, ConnectionPool, Policy } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { warnOf } from "../../src/node/internal/options.ts"
import { tcpOf } from "../../src/node/internal/stream/tcp.ts"
import {
  certificate,
  descriptors,
  echo,
  keepAliveTimers,
  known,
  onLinux,
  portOf,
  serve,
  tempDir,
  until
} from "./fixtures/kit.ts"

const refusal = (url: string, options?: Dialer.DialOptions): Effect.Effect<string> =>
  Dialer.make(url, options).pipe(
    Effect.flip,
    Effect.map((error) => `${error.reason}: ${error.message}`),
    Effect.orDie
  )

/** Why the reader could not be acquired. */
const opening = (url: string, options?: Dialer.DialOptions) =>
  Effect.gen(function*() {
    const socket = yield* Dialer.make(url, options)
    const { reason } = yield* Effect.flip(Effect.scoped(socket.reader))
    const cause = reason.cause as { readonly code?: string; readonly message?: string } | undefined
    return `${reason._tag}${"kind" in reason ? ` ${reason.kind}` : ""}: ${cause?.code ?? cause?.message}`
  })

/** One exchange. */
const ask = (socket: Socket.Socket, text: string) =>
  Effect.gen(function*() {
    const reader = yield* socket.reader
    const writer = yield* socket.writer
    yield* writer.write(text)
    let answer = ""
    while (answer.length < text.length) {
      for (const chunk of yield* reader.pull) {
        answer += typeof chunk === "string"
          ? chunk
          : Buffer.from(chunk).toString()
      }
    }
    return answer
  })

describe("dialing", () => {
  for (const scheme of ["tcp", "tls", "unix", "ws", "wss"]) {
    it.live(`${scheme}: talks, and knows both addresses`, () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        const remotes: Array<string | undefined> = []
        const { cert, key } = certificate()
        const listener = yield* serve(
          scheme === "unix" ? `unix://${dir}/app.sock` : `${scheme}://127.0.0.1:0`,
          (socket) => {
            remotes.push(known(socket).remote)
            return echo(socket)
          },
          { cert, key }
        )
        const socket = yield* Dialer.make(listener.url, { ca: cert })
        const transport = known(socket)
        assert.strictEqual(transport.messages, scheme === "ws" || scheme === "wss")
        assert.strictEqual(transport.local, undefined)
        assert.strictEqual(transport.unsent!(), 0)
        assert.strictEqual(yield* Effect.scoped(ask(socket, "hello")), "hello")
        if (scheme === "unix") {
          assert.deepStrictEqual([transport.local, transport.remote], [`unix:${dir}/app.sock`, `${dir}/app.sock`])
          return
        }
        assert.strictEqual(transport.remote, `127.0.0.1:${portOf(listener)}`)
        assert.strictEqual(transport.local, remotes[0])
      }))

    it.live(`${scheme}: a socket whose scope has closed is dialled anew`, () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        const { cert, key } = certificate()
        const url = scheme === "unix" ? `unix://${dir}/app.sock` : `${scheme}://127.0.0.1:0`
        const socket = yield* Dialer.make((yield* serve(url, echo, { cert, key })).url, { ca: cert })
        for (const word of ["once", "again"]) assert.strictEqual(yield* Effect.scoped(ask(socket, word)), word)
      }))

    it.live(`${scheme}: reaches nobody`, () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        const gone = yield* Effect.scoped(
          serve(scheme === "unix" ? `unix://${dir}/app.sock` : `${scheme}://127.0.0.1:0`, echo, certificate())
        )
        assert.strictEqual(
          (yield* opening(gone.url)).replace(
            "connect ECONNREFUSED 127.0.0.1:" + (scheme === "unix" ? "" : portOf(gone)),
            "ECONNREFUSED"
          ),
          `SocketOpenError Unknown: ${scheme === "unix" ? "ENOENT" : "ECONNREFUSED"}`
        )
      }))
  }

  it.live("two readers of one socket read a connection each, and the writer is that of the latest", () =>
    Effect.gen(function*() {
      const listener = yield* serve("tcp://127.0.0.1:0", echo)
      const socket = yield* Dialer.make(listener.url)
      const texts = ({ pull }: Socket.Reader) =>
        Effect.map(pull, (chunks) => Buffer.concat(chunks as ReadonlyArray<Uint8Array>).toString())
      const outer = yield* Effect.scope
      const older = yield* Scope.fork(outer)
      const first = yield* Scope.provide(socket.reader, older)
      const writer = yield* socket.writer
      yield* writer.write("one")
      assert.strictEqual(yield* texts(first), "one")
      const second = yield* socket.reader
      yield* writer.write("two")
      assert.strictEqual(yield* texts(second), "two")
      yield* Scope.close(older, Exit.void)
      yield* writer.write("three")
      assert.strictEqual(yield* texts(second), "three")
    }))

  it.live("a socket that is described anew is what it was", () =>
    Effect.gen(function*() {
      const listener = yield* serve("tcp://127.0.0.1:0", (socket) =>
        echo(Connection.describe(socket, { messages: false, remote: "accepted" })))
      const socket = Connection.describe(yield* Dialer.make(listener.url), { messages: false, remote: "dialled" })
      assert.strictEqual(known(socket).remote, "dialled")
      assert.strictEqual(yield* Effect.scoped(ask(socket, "hello")), "hello")
    }))

  for (const scheme of ["tls", "ws", "wss"]) {
    it.live(`${scheme}: gives up on a server that does not answer, and when interrupted`, () =>
      Effect.gen(function*() {
        const accepted: Array<Net.Socket> = []
        const server = yield* Effect.acquireRelease(
          Effect.callback<Net.Server>((resume) => {
            const server = Net.createServer((conn) => accepted.push(conn.on("error", () => {}).resume()))
            server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close())
        )
        const url = `${scheme}://127.0.0.1:${(server.address() as Net.AddressInfo).port}`
        assert.match(yield* opening(url, { policy: { open: "100 millis" } }), /^SocketOpenError Timeout/)
        yield* until("the server sees the end", () => accepted.length === 1 && accepted[0].destroyed)
        const socket = yield* Dialer.make(url)
        const fiber = yield* Effect.forkScoped(Effect.scoped(socket.reader))
        yield* until("the connection", () => accepted.length === 2)
        yield* Fiber.interrupt(fiber)
        assert.ok(Exit.hasInterrupts(yield* Fiber.await(fiber)))
        yield* until("the server sees the end", () => accepted[1].destroyed)
      }))
  }

  for (const scheme of ["tls", "wss"]) {
    it.live(`${scheme}: trusts only whom it should`, () =>
      Effect.gen(function*() {
        const server = certificate("ec")
        const other = certificate("other")
        const listener = yield* serve(`${scheme}://127.0.0.1:0`, echo, server)
        assert.match(
          yield* opening(listener.url),
          /^SocketOpenError Unknown: .*(DEPTH_ZERO_SELF_SIGNED_CERT|self-signed)/
        )
        assert.match(yield* opening(listener.url, { ca: other.cert }), /^SocketOpenError/)
        assert.match(
          yield* opening(listener.url, { ca: server.cert, servername: "elsewhere.test" }),
          /ERR_TLS_CERT_ALTNAME_INVALID|does not match/
        )
        for (
          const options of [
            { ca: server.cert, servername: "holdfast.test" },
            { ca: [other.cert, server.cert] },
            { rejectUnauthorized: false }
          ]
        ) {
          const socket = yield* Dialer.make(listener.url, options)
          assert.strictEqual(yield* Effect.scoped(ask(socket, "hello")), "hello")
        }
      }))

    it.live(`${scheme}: shows a client certificate where one is asked for`, () =>
      Effect.gen(function*() {
        const server = certificate("ec")
        const known = certificate("other")
        const listener = yield* serve(`${scheme}://127.0.0.1:0`, echo, { ...server, ca: known.cert })
        const welcome = yield* Dialer.make(listener.url, { ca: server.cert, ...known })
        assert.strictEqual(yield* Effect.scoped(ask(welcome, "hello")), "hello")
        for (const options of [{ ca: server.cert }, { ca: server.cert, ...certificate("rsa") }]) {
          const stranger = yield* Dialer.make(listener.url, options)
          const exit = yield* Effect.exit(Effect.scoped(ask(stranger, "hello")))
          assert.ok(Exit.isFailure(exit) && !Cause.hasDies(exit.cause))
        }
      }))
  }

  it.live("ws: hears why it was refused", () =>
    Effect.gen(function*() {
      const listener = yield* serve("ws://127.0.0.1:0/live", echo)
      assert.match(yield* opening(listener.url.replace("live", "dead")), /SocketOpenError Unknown: .*404/)
      assert.match(
        yield* opening(listener.url, { headers: { a: "b\nc" } }),
        /SocketOpenError Unknown: ERR_INVALID_CHAR/
      )
    }))

  it.live("ws: bounds what the server may send", () =>
    Effect.gen(function*() {
      const listener = yield* serve("ws://127.0.0.1:0", echo)
      const socket = yield* Dialer.make(listener.url, { policy: { maxFrame: 10 } })
      const error = yield* Effect.flip(Effect.scoped(ask(socket, "longer than that")))
      assert.strictEqual(error.reason._tag, "SocketReadError")
    }))

  it.live.skipIf(!onLinux)("sets keep-alive in the kernel", () =>
    Effect.gen(function*() {
      const { cert, key } = certificate()
      for (const scheme of ["tcp", "tls", "ws", "wss"]) {
        for (const on of [true, false]) {
          const listener = yield* serve(`${scheme}://127.0.0.1:0`, echo, { cert, key })
          const socket = yield* Dialer.make(listener.url, { ca: cert, ...(on ? {} : { policy: { keepAlive: 0 } }) })
          yield* Effect.scoped(Effect.gen(function*() {
            yield* ask(socket, "hello")
            const port = Number(known(socket).local!.split(":")[1])
            yield* until(`${scheme} ${on}`, () => keepAliveTimers(port).join() === String(on))
          }))
        }
      }
    }))

  it.live.skipIf(!onLinux)("gives every descriptor back", () =>
    Effect.gen(function*() {
      const { cert, key } = certificate()
      for (const scheme of ["tcp", "tls", "ws", "wss"]) {
        const listener = yield* serve(`${scheme}://127.0.0.1:0`, echo, { cert, key })
        const once = Effect.flatMap(Dialer.make(listener.url, { ca: cert }), (socket) =>
          Effect.scoped(ask(socket, "hello")))
        yield* once
        let last = -1
        yield* until("it is quiet", () =>
          last === (last = descriptors()))
        yield* Effect.all(Array.from({ length: 50 }, () => once), { concurrency: 10 })
        yield* until(`the descriptors of ${scheme} are back`, () => descriptors() <= last)
      }
    }))
})

describe("policy", () => {
  it("B138 one that makes no sense throws, as everywhere, before anything runs", () => {
    const wrong = { maxFrame: 0, open: "whenever" as "1 second" }
    for (const make of [Dialer.make, Dialer.layer, Listener.make, Listener.layer]) {
      assert.throws(
        () => make("tcp://127.0.0.1:7000", { policy: wrong }),
        /^invalid policy: open is not a duration.*maxFrame/
      )
    }
  })

  it("B138 keep-alive is whole seconds, as the kernel has it", () => {
    const keepAlive = (patch: Policy.Patch) => {
      const tcp = tcpOf(Policy.make(patch))
      return tcp.keepAlive && [tcp.keepAliveInitialDelay, tcp.keepAliveInterval, tcp.keepAliveCount]
    }
    assert.deepStrictEqual(keepAlive({}), [30_000, 1000, 10])
    assert.deepStrictEqual(
      keepAlive({ keepAlive: "1500 millis", keepAliveInterval: 1, keepAliveCount: 3 }),
      [2000, 1000, 3]
    )
    assert.deepStrictEqual(
      keepAlive({ keepAlive: "365 days", keepAliveInterval: "365 days", keepAliveCount: 1000 }),
      [32_767_000, 32_767_000, 127]
    )
    assert.isFalse(keepAlive({ keepAlive: 0 }))
    assert.isFalse(keepAlive({ keepAlive: "Infinity" }))
  })

  it.effect("B138 a Node that leaves the probes to the kernel is told of once", () =>
    Effect.gen(function*() {
      const said: Array<string> = []
      const logger = Logger.layer([Logger.make(({ logLevel, message }) => void said.push(`${logLevel} ${message}`))])
      const warn = (patch: Policy.Patch, canSet: boolean) => Effect.provide(warnOf(Policy.make(patch), canSet), logger)
      yield* warn({}, false)
      yield* warn({ keepAlive: 0, keepAliveCount: 3 }, false)
      yield* warn({ keepAliveCount: 3 }, true)
      assert.deepStrictEqual(said, [])
      yield* warn({ keepAliveInterval: "5 seconds" }, false)
      yield* warn({ keepAliveCount: 3 }, false)
      assert.lengthOf(said, 1)
      assert.match(said[0]!, /^Warn keepAliveInterval and keepAliveCount need Node 24.19 or newer/)
    }))
})

describe("DialFailed", () => {
  it.live("says what is wrong", () =>
    Effect.gen(function*() {
      const { cert, key } = certificate()
      expect([
        yield* refusal("localhost"),
        yield* refusal("tcp://localhost"),
        yield* refusal("tcp://localhost:0"),
        yield* refusal("tcp://localhost:99999"),
        yield* refusal("quic://localhost:1"),
        yield* refusal("wss://me:secret@localhost/live"),
        yield* refusal("unix://app.sock"),
        yield* refusal("tcp://localhost:1", { linger: "whenever" as "1 second" }),
        yield* refusal("tls://localhost:1", { cert }),
        yield* refusal("wss://localhost:1", { key }),
        yield* refusal("wss://localhost:1", { ca: "nobody" })
      ]).toMatchInlineSnapshot(`
        [
          "BadUrl: cannot dial localhost: it is not a URL; write tcp://, tls://, unix://, ws:// or wss:// and then the address",
          "BadUrl: cannot dial tcp://localhost: the port is missing",
          "BadUrl: cannot dial tcp://localhost:0: port 0 is for listening; nothing answers there",
          "BadUrl: cannot dial tcp://localhost:99999: the port 99999 is not a number from 1 to 65535",
          "BadUrl: cannot dial quic://localhost:1: the scheme quic:// is unknown; there are tcp, tls, unix, ws and wss",
          "BadUrl: cannot dial wss://***@localhost/live: it has a user name in it, which no transport here sends",
          "BadUrl: cannot dial unix://app.sock: the path has to be absolute, with three slashes: unix:///path/to.sock",
          "BadOption: cannot dial tcp://localhost:1: linger is not a duration: whenever",
          "BadTls: cannot dial tls://localhost:1: a client certificate is \`cert\` and \`key\`, and \`key\` is missing",
          "BadTls: cannot dial wss://localhost:1: a client certificate is \`cert\` and \`key\`, and \`cert\` is missing",
          "BadTls: cannot dial wss://localhost:1: \`ca\` cannot be read as a PEM certificate: error:0480006C:PEM routines::no start line",
        ]
      `)
      // a WebSocket URL may leave out port and path
      assert.strictEqual(known(yield* Dialer.make("wss://localhost")).remote, "localhost:443")
      assert.strictEqual(known(yield* Dialer.make("ws://localhost")).remote, "localhost:80")
    }))
})

describe("as a layer", () => {
  const chat = Effect.flatMap(Socket.Socket, Connection.make({ codec: Codec.lines() }))

  it.live("dials afresh for each connection of a pool", () =>
    Effect.gen(function*() {
      const listener = yield* serve("tcp://127.0.0.1:0", echo)
      const there = Layer.orDie(Dialer.layer(listener.url))
      const open = Effect.provide(chat, there)
      class Pool extends Context.Service<Pool, ConnectionPool.ConnectionPool<string>>()("test/Pool") {
        static readonly layer = ConnectionPool.layer(Pool, open, { max: 3 })
      }
      const ask = (text: string) =>
        Pool.use((pool) =>
          pool.use((connection) =>
            Effect.gen(function*() {
              yield* connection.send(text)
              // all three are borrowed at once
              while ((yield* pool.stats).inUse < 3) yield* Effect.sleep(1)
              return yield* connection.receive
            })
          )
        )
      const answers = yield* Effect.provide(Effect.all(["a", "b", "c"].map(ask), { concurrency: 3 }), Pool.layer).pipe(
        // a layer that is provided around the program is shared by what is inside, unless it is fresh
        Effect.provide(there)
      )
      assert.deepStrictEqual(answers, ["a", "b", "c"])
    }))

  it.live("is one socket around a whole program, which a client dials again and again", () =>
    Effect.gen(function*() {
      const listener = yield* serve("tcp://127.0.0.1:0", echo)
      const program = Effect.gen(function*() {
        const client = yield* Client.make(chat, { policy: { retryBase: 1, retryJitter: "none" } })
        const first = yield* client.connection
        yield* client.send("a")
        assert.strictEqual(yield* client.receive, "a")
        yield* first.closeWith(new ConnectionError.Reset({ cause: "gone" }))
        yield* client.send("b")
        assert.strictEqual(yield* client.receive, "b")
        assert.notStrictEqual(yield* client.connection, first)
      })
      yield* Effect.provide(Effect.scoped(program), Dialer.layer(listener.url))
    }))

  it.live("a URL that makes no sense fails the layer", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(Dialer.layer("gopher://127.0.0.1"))))
      assert.strictEqual(error.reason, "BadUrl")
    }))
})
