import * as NodeSocket from "@effect/platform-node/NodeSocket"
import { assert, describe, expect, it, vi } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { WebSocket } from "ws"
import { Codec, Connection, Heartbeat, Registry, Server } from "../../src/index.ts"
import { Listener } from "../../src/node/index.ts"
import { parse } from "../../src/node/internal/addresses/address.ts"
import { explain } from "../../src/node/internal/addresses/listen.ts"
import {
  certificate,
  type Client,
  client,
  descriptors,
  echo,
  ending,
  keepAliveTimers,
  known,
  onLinux,
  portOf,
  run,
  serve,
  tempDir,
  until
} from "./fixtures/kit.ts"

const tls = () => certificate()

/** The message of a `ListenFailed`, with what changes from run to run taken out. */
const refusal = (url: string, options?: Listener.ListenOptions): Effect.Effect<string> =>
  Listener.make(url, options).pipe(
    Effect.scoped,
    Effect.flip,
    Effect.map((error) => `${error.reason}: ${error.message}`),
    Effect.orDie
  )

/** Reads one batch as text. */
const pullText = (reader: Socket.Reader) =>
  Effect.map(reader.pull, (batch) => batch.map((chunk) => Buffer.from(chunk as Uint8Array).toString()).join(""))

describe("addresses", () => {
  const schemes = ["tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://localhost:0", "tls://127.0.0.1:0", "unix"]
  for (const scheme of schemes) {
    it.live(`${scheme} answers a raw client`, () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        let seen: ReturnType<typeof known> | undefined
        const listener = yield* serve(
          scheme === "unix" ? `unix://${dir}/app.sock` : scheme,
          (socket) => {
            seen = known(socket)
            return echo(socket)
          },
          tls()
        )
        const peer = yield* client(listener)
        peer.conn.write("hello")
        yield* until("the echo", () => peer.text === "hello")
        assert.strictEqual(seen!.messages, false)
        if (scheme === "unix") {
          assert.strictEqual(listener.url, `unix://${dir}/app.sock`)
          assert.deepStrictEqual([seen!.local, seen!.remote], [`${dir}/app.sock`, `unix:${dir}/app.sock`])
          return
        }
        const port = portOf(listener)
        assert.ok(port > 0)
        assert.strictEqual(listener.url, scheme.replace(/:0$/, `:${port}`))
        const ip = peer.conn.remoteFamily === "IPv6" ? "[::1]" : "127.0.0.1"
        assert.strictEqual(seen!.local, `${ip}:${port}`)
        assert.strictEqual(seen!.remote, `${ip}:${peer.conn.localPort}`)
        assert.strictEqual(listener.address._tag, ip === "[::1]" ? "InetAddressV6" : "InetAddressV4")
      }))
  }

  it.live("shows an IPv4 client of an IPv6 listener by its IPv4 address", () =>
    Effect.gen(function*() {
      let remote: string | undefined
      const listener = yield* serve("tcp://[::]:0", (socket) => {
        remote = known(socket).remote
        return echo(socket)
      })
      const peer = yield* client({ url: `tcp://127.0.0.1:${portOf(listener)}` })
      yield* until("the connection", () => remote !== undefined)
      assert.strictEqual(remote, `127.0.0.1:${peer.conn.localPort}`)
    }))

  it.live("gives the port back when its scope closes", () =>
    Effect.gen(function*() {
      const first = yield* Listener.make("tcp://127.0.0.1:0").pipe(Effect.scoped)
      const second = yield* Listener.make(first.url)
      assert.strictEqual(second.url, first.url)
    }))

  it.live("is a layer", () =>
    Effect.gen(function*() {
      const server = yield* SocketServer.SocketServer
      assert.strictEqual(server.address._tag, "InetAddressV4")
    }).pipe(Effect.provide(Listener.layer("tcp://127.0.0.1:0"))))
})

describe("ListenFailed", () => {
  it.live("says what is wrong with a URL", () =>
    Effect.gen(function*() {
      const urls = [
        "",
        "localhost:7000",
        "http://localhost:7000",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:http",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:-1",
        "tcp://:7000",
        "tcp://::1:7000",
        "tcp://a:7000:7001",
        "tcp://127.0.0.1:7000/path",
        "ws://127.0.0.1/path",
        "ws://127.0.0.1:7000/path?a=b",
        "ws://127.0.0.1:7000/#top",
        "ws://ann:secret@127.0.0.1:7000",
        "unix://",
        "unix://run/app.sock",
        `unix:///${"x".repeat(200)}`
      ]
      const messages: Array<string> = []
      for (const url of urls) messages.push(yield* refusal(url))
      expect(messages.map((message) => message.replace(/x{20,}/, "xxx"))).toMatchInlineSnapshot(`
        [
          "BadUrl: cannot listen on : it is not a URL; write tcp://, tls://, unix://, ws:// or wss:// and then the address",
          "BadUrl: cannot listen on localhost:7000: it is not a URL; write tcp://, tls://, unix://, ws:// or wss:// and then the address",
          "BadUrl: cannot listen on http://localhost:7000: the scheme http:// is unknown; there are tcp, tls, unix, ws and wss",
          "BadUrl: cannot listen on tcp://127.0.0.1: the port is missing; port 0 picks a free one",
          "BadUrl: cannot listen on tcp://127.0.0.1:: the port is missing; port 0 picks a free one",
          "BadUrl: cannot listen on tcp://127.0.0.1:http: the port http is not a number from 0 to 65535",
          "BadUrl: cannot listen on tcp://127.0.0.1:65536: the port 65536 is not a number from 0 to 65535",
          "BadUrl: cannot listen on tcp://127.0.0.1:-1: the port -1 is not a number from 0 to 65535",
          "BadUrl: cannot listen on tcp://:7000: the host is missing; 127.0.0.1 is this machine only, 0.0.0.0 or [::] is every interface",
          "BadUrl: cannot listen on tcp://::1:7000: it is no host:port; an IPv6 address goes in brackets: [::1]:7000",
          "BadUrl: cannot listen on tcp://a:7000:7001: it is no host:port; an IPv6 address goes in brackets: [::1]:7000",
          "BadUrl: cannot listen on tcp://127.0.0.1:7000/path: tcp:// has no path; nothing can follow the port",
          "BadUrl: cannot listen on ws://127.0.0.1/path: the port is missing; port 0 picks a free one",
          "BadUrl: cannot listen on ws://127.0.0.1:7000/path?a=b: it has a query (?), which a listener ignores",
          "BadUrl: cannot listen on ws://127.0.0.1:7000/#top: it has a fragment (#), which is never sent",
          "BadUrl: cannot listen on ws://***@127.0.0.1:7000: it has a user name in it, which no transport here sends",
          "BadUrl: cannot listen on unix://: the path is missing; write unix:///path/to.sock",
          "BadUrl: cannot listen on unix://run/app.sock: the path has to be absolute, with three slashes: unix:///path/to.sock",
          "BadUrl: cannot listen on unix:///xxx: the path is longer than the 107 bytes a Unix socket can have",
        ]
      `)
    }))

  it.live("says what is wrong with an option", () =>
    Effect.gen(function*() {
      const url = "tcp://127.0.0.1:0"
      expect([
        yield* refusal(url, { maxPending: 0 }),
        yield* refusal(url, { backlog: -1 }),
        yield* refusal(url, { linger: "soon" as "1 second" })
      ]).toMatchInlineSnapshot(`
        [
          "BadOption: cannot listen on tcp://127.0.0.1:0: maxPending has to be a whole number of at least 1, it is 0",
          "BadOption: cannot listen on tcp://127.0.0.1:0: backlog has to be a whole number of at least 1, it is -1",
          "BadOption: cannot listen on tcp://127.0.0.1:0: linger is not a duration: soon",
        ]
      `)
    }))

  it.live("says what is wrong with certificates and keys", () =>
    Effect.gen(function*() {
      const url = "tls://127.0.0.1:0"
      const ec = certificate("ec")
      const rsa = certificate("rsa")
      const other = certificate("other")
      const encrypted = certificate("encrypted")
      const messages = [
        yield* refusal(url),
        yield* refusal("wss://127.0.0.1:0", { cert: ec.cert }),
        yield* refusal(url, { key: ec.key }),
        yield* refusal(url, { cert: "no certificate", key: ec.key }),
        yield* refusal(url, { cert: ec.cert, key: "no key" }),
        yield* refusal(url, { cert: ec.cert, key: other.key }),
        yield* refusal(url, { cert: ec.cert, key: rsa.key }),
        yield* refusal(url, { ...encrypted }),
        yield* refusal(url, { ...encrypted, passphrase: "wrong" }),
        yield* refusal(url, { ...ec, ca: "no authority" })
      ]
      // what OpenSSL makes of a wrong passphrase depends on chance
      expect(messages.map((text) => text.replace(/: error:.*/, ""))).toMatchInlineSnapshot(`
        [
          "BadTls: cannot listen on tls://127.0.0.1:0: tls:// needs the options \`cert\` and \`key\`, and both are missing",
          "BadTls: cannot listen on wss://127.0.0.1:0: wss:// needs the options \`cert\` and \`key\`, and \`key\` is missing",
          "BadTls: cannot listen on tls://127.0.0.1:0: tls:// needs the options \`cert\` and \`key\`, and \`cert\` is missing",
          "BadTls: cannot listen on tls://127.0.0.1:0: \`cert\` cannot be read as a PEM certificate",
          "BadTls: cannot listen on tls://127.0.0.1:0: \`key\` cannot be read as a PEM private key (an encrypted one needs its passphrase)",
          "BadTls: cannot listen on tls://127.0.0.1:0: \`key\` does not belong to \`cert\`: they are not the two halves of one pair",
          "BadTls: cannot listen on tls://127.0.0.1:0: \`key\` does not belong to \`cert\`: they are not the two halves of one pair",
          "BadTls: cannot listen on tls://127.0.0.1:0: \`key\` cannot be read as a PEM private key (an encrypted one needs its passphrase)",
          "BadTls: cannot listen on tls://127.0.0.1:0: \`key\` cannot be read as a PEM private key with this \`passphrase\`",
          "BadTls: cannot listen on tls://127.0.0.1:0: \`ca\` cannot be read as a PEM certificate",
        ]
      `)
      const ok = yield* Listener.make(url, {
        cert: Buffer.from(encrypted.cert),
        key: Redacted.make(encrypted.key),
        passphrase: Redacted.make("secret")
      }).pipe(Effect.exit)
      assert.ok(Exit.isSuccess(ok))
    }))

  it.live("says why the operating system refused", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      const holder = yield* Listener.make("tcp://127.0.0.1:0")
      yield* Listener.make(`unix://${dir}/held.sock`)
      Fs.writeFileSync(`${dir}/plain`, "precious")
      const messages = [
        yield* refusal(holder.url),
        yield* refusal("tcp://192.0.2.1:7000"),
        yield* refusal("tcp://holdfast.invalid:7000"),
        yield* refusal(`unix://${dir}/none/app.sock`),
        yield* refusal(`unix://${dir}/held.sock`),
        yield* refusal(`unix://${dir}/plain`)
      ]
      expect(messages.map((text) => text.replaceAll(dir, "DIR").replaceAll(String(portOf(holder)), "PORT")))
        .toMatchInlineSnapshot(`
          [
            "AddressInUse: cannot listen on tcp://127.0.0.1:PORT: port PORT is in use by another socket; stop it or choose another port",
            "AddressNotAvailable: cannot listen on tcp://192.0.2.1:7000: no network interface of this machine has this address",
            "HostNotFound: cannot listen on tcp://holdfast.invalid:7000: the host name does not resolve to an address",
            "AddressNotAvailable: cannot listen on unix://DIR/none/app.sock: the directory of the socket file does not exist",
            "SocketFileInUse: cannot listen on unix://DIR/held.sock: another process is listening on this socket file",
            "SocketFileInUse: cannot listen on unix://DIR/plain: there is a file of this name, and it is no socket; remove it or choose another path",
          ]
        `)
      assert.strictEqual(Fs.readFileSync(`${dir}/plain`, "utf8"), "precious")
      // tests run as root, to whom nothing is forbidden
      const denied = (url: string) => {
        const address = parse(url, "listen")
        assert.ok(address._tag === "Success")
        const refusal = explain(address.success, Object.assign(new Error(), { code: "EACCES" }))
        return new Listener.ListenFailed({ url, ...refusal }).message
      }
      expect([denied("tcp://0.0.0.0:80"), denied("unix:///run/app.sock")]).toMatchInlineSnapshot(`
        [
          "cannot listen on tcp://0.0.0.0:80: no permission to use port 80; ports below 1024 need a privilege",
          "cannot listen on unix:///run/app.sock: no permission to make the socket file; check who owns its directory",
        ]
      `)
    }))
})

describe("Unix socket files", () => {
  it.live("are gone after the listener closed", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      const path = `${dir}/app.sock`
      yield* Effect.scoped(Effect.andThen(
        Listener.make(`unix://${path}`),
        Effect.sync(() => assert.ok(Fs.existsSync(path)))
      ))
      assert.ok(!Fs.existsSync(path))
    }))

  it.live("left behind by a crashed process are replaced", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      const path = `${dir}/app.sock`
      const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`
      const { signal } = ChildProcess.spawnSync(process.execPath, ["-e", script])
      assert.strictEqual(signal, "SIGKILL")
      assert.ok(Fs.existsSync(path))
      const listener = yield* serve(`unix://${path}`, echo)
      const peer = yield* client(listener)
      peer.conn.write("back")
      yield* until("the echo", () => peer.text === "back")
    }))
})

describe("the ends of a connection", () => {
  for (const scheme of ["tcp", "tls", "unix"]) {
    it.live(`${scheme}: a peer that has finished sending still gets its answers`, () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        const listener = yield* serve(
          scheme === "unix" ? `unix://${dir}/app.sock` : `${scheme}://127.0.0.1:0`,
          (socket) =>
            Effect.gen(function*() {
              const reader = yield* socket.reader
              const writer = yield* socket.writer
              let request = ""
              const end = yield* Effect.flip(Effect.forever(Effect.map(pullText(reader), (text) => request += text)))
              // Node ends our side a tick after the peer's, unless told not to
              yield* Effect.sleep("20 millis")
              yield* writer.write(`${request} then ${ending(end)}`)
            }).pipe(Effect.scoped),
          tls()
        )
        const peer = yield* client(listener)
        peer.conn.end("question")
        yield* until("the answer", () => peer.ended)
        assert.strictEqual(peer.text, "question then SocketCloseError 1000")
        assert.strictEqual(peer.error, undefined)
      }))

    it.live(`${scheme}: closing while the peer is still sending takes none of our bytes away`, () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        const answer = "x".repeat(100_000)
        const listener = yield* serve(
          scheme === "unix" ? `unix://${dir}/app.sock` : `${scheme}://127.0.0.1:0`,
          (socket) =>
            Effect.gen(function*() {
              const reader = yield* socket.reader
              const writer = yield* socket.writer
              yield* reader.pull
              yield* writer.write(answer)
            }).pipe(Effect.scoped),
          // a busy machine takes its time for 4 MiB
          { ...tls(), linger: "20 seconds" }
        )
        const peer = yield* client(listener)
        // keeps sending until it has heard our end, and reads late: an RST would empty its receive buffer
        peer.conn.pause()
        const chunk = Buffer.alloc(64 * 1024)
        let sent = 0
        const push = () => {
          if (peer.ended || peer.closed) return void peer.conn.end()
          sent += chunk.length
          if (sent > 4 * 1024 * 1024) peer.conn.resume()
          peer.conn.write(chunk, (error) => error === null || error === undefined ? push() : undefined)
        }
        push()
        yield* until("the end", () => peer.ended || peer.closed)
        assert.strictEqual(peer.error, undefined)
        assert.strictEqual(peer.bytes, answer.length)
        yield* until("the close", () => peer.closed)
        assert.strictEqual(peer.error, undefined)
      }))
  }

  it.live("a peer that never ends its side is cut off after `linger`", () =>
    Effect.gen(function*() {
      let conn: Net.Socket | undefined
      const listener = yield* Listener.make("tcp://127.0.0.1:0", { linger: "150 millis" })
      yield* Effect.forkScoped(run(listener, (socket) =>
        Effect.gen(function*() {
          conn = yield* NodeSocket.NetSocket
          yield* socket.reader
        }).pipe(Effect.scoped)))
      const peer = yield* client(listener)
      yield* until("our end", () => peer.ended)
      const start = performance.now()
      assert.strictEqual(conn!.destroyed, false)
      yield* until("the cut", () => conn!.destroyed)
      assert.ok(performance.now() - start > 100)
      assert.ok(performance.now() - start < 1000)
    }))

  it.live("closing the listener waits for lingering connections, and only for those", () =>
    Effect.gen(function*() {
      const outer = yield* Effect.scope
      const scope = yield* Scope.make()
      const listener = yield* Listener.make("tcp://127.0.0.1:0", { linger: "200 millis" }).pipe(Scope.provide(scope))
      let number = 0
      yield* Effect.forkIn(
        listener.run((socket) =>
          number++ === 0
            ? Effect.asVoid(Effect.scoped(socket.reader))
            : Effect.asVoid(Effect.forkIn(echo(socket), outer))
        ),
        scope
      )
      const lingering = yield* client(listener)
      yield* until("the end", () => lingering.ended)
      const living = yield* client(listener)
      living.conn.write("a")
      yield* until("the echo", () => living.text === "a")
      const start = performance.now()
      yield* Scope.close(scope, Exit.void)
      assert.ok(performance.now() - start > 100, "waits for the lingering one")
      assert.ok(performance.now() - start < 1000, "but not for the other")
      living.conn.write("b")
      yield* until("the echo", () => living.text === "ab")
      const late = yield* client(listener)
      yield* until("the refusal", () => late.error?.code === "ECONNREFUSED")
    }))
})

describe("run", () => {
  it.live("serves what came before it, and reads nothing until the reader is acquired", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make("tcp://127.0.0.1:0")
      const peer = yield* client(listener)
      peer.conn.write("early")
      yield* until("the connection", () => peer.connected)
      const gate = yield* Deferred.make<void>()
      let conn: Net.Socket | undefined
      yield* Effect.forkScoped(run(listener, (socket) =>
        Effect.gen(function*() {
          conn = yield* NodeSocket.NetSocket
          yield* Deferred.await(gate)
          yield* echo(socket)
        })))
      yield* until("the hand-over", () => conn !== undefined)
      // the kernel takes what it has room for, and the client notices
      const block = Buffer.alloc(1024 * 1024)
      let waiting = 0
      while (peer.conn.writableLength === 0 || waiting < 64) {
        peer.conn.write(block)
        waiting++
      }
      yield* until("the client's kernel is full", () => peer.conn.writableLength > 1024 * 1024)
      assert.strictEqual(conn!.bytesRead, 0)
      yield* Deferred.succeed(gate, undefined)
      yield* until("the echo", () => peer.bytes === 5 + waiting * block.length)
      assert.ok(peer.text.startsWith("early"))
    }))

  it.live("fails when accepting fails, and can be called again", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make("tcp://127.0.0.1:0")
      const scope = yield* Effect.scope
      const handler = (socket: Socket.Socket) => Effect.forkIn(echo(socket), scope)
      const first = yield* Effect.forkScoped(listener.run(handler), { startImmediately: true })
      const before = yield* client(listener)
      before.conn.write("a")
      yield* until("the echo", () => before.text === "a")

      failAccept(listener)
      const error = yield* Effect.flip(Fiber.join(first))
      assert.strictEqual(error._tag, "SocketServerError")
      assert.strictEqual(error.reason._tag, "SocketServerUnknownError")
      assert.strictEqual((error.reason.cause as NodeJS.ErrnoException).code, "EMFILE")

      const between = yield* client(listener)
      between.conn.write("c")
      yield* until("the connection", () => between.connected)
      before.conn.write("b")
      yield* until("the echo on the old connection", () => before.text === "ab")
      assert.strictEqual(between.text, "")
      yield* Effect.forkScoped(listener.run(handler))
      yield* until("the echo on the one that waited", () => between.text === "c")
    }))

  it.live("interrupted, leaves its connections alive and lets new ones wait", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make("tcp://127.0.0.1:0", { maxPending: 2 })
      const scope = yield* Effect.scope
      const handler = (socket: Socket.Socket) => Effect.forkIn(echo(socket), scope)
      const first = yield* Effect.forkScoped(listener.run(handler), { startImmediately: true })
      const before = yield* client(listener)
      before.conn.write("a")
      yield* until("the echo", () => before.text === "a")
      yield* Fiber.interrupt(first)
      const waiting = [yield* client(listener), yield* client(listener)]
      for (const peer of waiting) peer.conn.write("w")
      yield* until("both are connected", () => waiting.every((peer) => peer.connected))
      const over = yield* client(listener)
      yield* until("one too many", () => over.closed || over.ended)
      before.conn.write("b")
      yield* until("the echo", () => before.text === "ab")
      assert.deepStrictEqual(waiting.map((peer) => peer.text + peer.ended), ["false", "false"])
      yield* Effect.forkScoped(listener.run(handler))
      yield* until("they are served", () => waiting.every((peer) => peer.text === "w"))
    }))

  it.live("destroys the connection of a handler that failed or died before it read", () =>
    Effect.gen(function*() {
      let number = 0
      const listener = yield* serve("tcp://127.0.0.1:0", () => number++ === 0 ? Effect.fail("no") : Effect.die("no"))
      const failed = yield* client(listener)
      yield* until("the first is closed", () => failed.ended || failed.closed, 1000)
      const died = yield* client(listener)
      yield* until("the second is closed", () => died.ended || died.closed, 1000)
    }))

  it.live("destroys a connection that nobody wants, and keeps one that is read after its handler ended", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      let number = 0
      const gate = yield* Deferred.make<void>()
      const listener = yield* serve(
        "tcp://127.0.0.1:0",
        (socket) =>
          number++ === 0
            ? Effect.void
            : Effect.forkIn(Effect.andThen(Deferred.await(gate), echo(socket)), scope),
        { policy: { handshake: "300 millis" } }
      )
      const unwanted = yield* client(listener)
      yield* until("the connection", () => unwanted.connected)
      const start = performance.now()
      const wanted = yield* client(listener)
      wanted.conn.write("a")
      yield* until("the connection", () => number === 2)
      yield* Deferred.succeed(gate, undefined)
      yield* until("the echo", () => wanted.text === "a")
      yield* until("the unwanted one is gone", () => unwanted.ended || unwanted.closed)
      assert.ok(performance.now() - start > 200)
      yield* Effect.sleep("300 millis")
      wanted.conn.write("b")
      yield* until("the wanted one lives", () => wanted.text === "ab")
    }))

  it.live("gives a late reader an error, not a dead connection", () =>
    Effect.gen(function*() {
      const failed = yield* Deferred.make<string>()
      const listener = yield* serve("tcp://127.0.0.1:0", (socket) =>
        Effect.gen(function*() {
          yield* Effect.scoped(socket.reader)
          const again = yield* Effect.flip(Effect.scoped(socket.reader))
          yield* Deferred.succeed(
            failed,
            `${again.reason._tag}: ${String((again.reason as { cause?: unknown }).cause)}`
          )
        }))
      yield* client(listener)
      assert.strictEqual(
        yield* Deferred.await(failed),
        "SocketOpenError: Error: the connection was read before"
      )
    }))
})

describe("merge", () => {
  it.live("runs all listeners, fails with any of them, and can be run again", () =>
    Effect.gen(function*() {
      const listeners = [
        yield* Listener.make("tcp://127.0.0.1:0"),
        yield* Listener.make("tcp://127.0.0.1:0")
      ] as const
      const merged = Listener.merge(listeners)
      assert.strictEqual(merged.url, listeners[0].url)
      assert.strictEqual(merged.address, listeners[0].address)
      const scope = yield* Effect.scope
      const start = Effect.forkScoped(merged.run((socket) => Effect.forkIn(echo(socket), scope)), {
        startImmediately: true
      })
      const peers: Array<Client> = []
      const join = Effect.gen(function*() {
        for (const listener of listeners) {
          const peer = yield* client(listener)
          peer.conn.write("a")
          peers.push(peer)
        }
      })
      yield* join
      for (const failing of listeners) {
        const running = yield* start
        yield* until("every echo", () => peers.every((peer) => peer.text === "a"))
        failAccept(failing)
        const { reason } = yield* Effect.flip(Fiber.join(running))
        assert.ok(reason._tag === "SocketServerUnknownError")
        assert.strictEqual((reason.cause as NodeJS.ErrnoException).code, "EMFILE")
        yield* join
        const late = peers.slice(-2)
        yield* until("the connections", () => late.every((peer) => peer.connected))
        yield* Effect.sleep("20 millis")
        assert.deepStrictEqual(late.map((peer) => peer.text), ["", ""])
      }
      yield* start
      yield* until("every echo", () => peers.every((peer) => peer.text === "a"))
      assert.strictEqual(peers.length, 6)
    }))
})

/** What a listener sees when accepting fails. */
const failAccept = (listener: Listener.Listener): void => {
  const port = portOf(listener)
  const handles = (process as unknown as { readonly _getActiveHandles: () => ReadonlyArray<unknown> })
    ._getActiveHandles()
  const server = handles.find((handle): handle is Net.Server =>
    handle instanceof Net.Server && (handle.address() as Net.AddressInfo | null)?.port === port
  )
  server!.emit("error", Object.assign(new Error("accept EMFILE"), { code: "EMFILE" }))
}

const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
const upgrade = `GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${key}\r\n`

describe("bounds on strangers", () => {
  for (const scheme of ["tls", "ws", "wss"]) {
    it.live(`${scheme}: a handshake is cut after Policy.handshake, whether silent or trickling`, () =>
      Effect.gen(function*() {
        const listener = yield* serve(`${scheme}://127.0.0.1:0`, echo, {
          ...tls(),
          policy: { handshake: "250 millis" }
        })
        const silent = yield* client(listener, { plain: true })
        const slow = yield* client(listener, { plain: true })
        yield* until("both connect", () => silent.connected && slow.connected)
        const start = performance.now()
        // the start of a TLS record, and of a request
        const trickle = scheme === "ws"
          ? Buffer.from("GET / HTTP/1.1\r\nHost: a\r\nX: ")
          : Buffer.from([22, 3, 1, 2, 0])
        let at = 0
        const timer = setInterval(
          () => slow.conn.write(trickle.subarray(at % trickle.length, at++ % trickle.length + 1)),
          20
        )
        yield* until("both are cut", () => silent.closed || silent.ended, 2000)
        yield* until("both are cut", () => slow.closed || slow.ended || slow.error !== undefined, 2000)
        clearInterval(timer)
        assert.ok(performance.now() - start > 150)
      }))

    it.live(`${scheme}: more handshakes than maxPending are refused at once`, () =>
      Effect.gen(function*() {
        const listener = yield* serve(`${scheme}://127.0.0.1:0`, echo, { ...tls(), maxPending: 3 })
        const three = [
          yield* client(listener, { plain: true }),
          yield* client(listener, { plain: true }),
          yield* client(listener, { plain: true })
        ]
        yield* until("three connect", () => three.every((peer) => peer.connected))
        const fourth = yield* client(listener, { plain: true })
        yield* until("the fourth is refused", () => fourth.ended || fourth.closed, 1000)
        assert.ok(three.every((peer) => !peer.ended && !peer.closed))
        three[0].conn.destroy()
        // the place is free once our side has seen the end
        yield* Effect.promise(async () => {
          for (let i = 0; i < 100; i++) {
            if (await speaks(listener)) return
          }
          throw new Error("the place never became free")
        })
      }))
  }

  const random = (size: number) => Buffer.from(Array.from({ length: size }, (_, i) => (i * 7919 + size * 31) & 0xff))
  const garbage: ReadonlyArray<readonly [string, string | Buffer]> = [
    ["nothing", ""],
    ["random bytes", random(5000)],
    ["zeros", Buffer.alloc(100_000)],
    ["a TLS record that lies", Buffer.from([22, 3, 1, 255, 255, 1, 2, 3])],
    ["half a request", "GET / HT"],
    ["half a header", "GET / HTTP/1.1\r\nHost: a\r\nUpg"],
    ["a header without end", `GET / HTTP/1.1\r\nX: ${"x".repeat(40_000)}`],
    ["CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["two requests", "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["a body too many", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\nabc"],
    ["bad chunks", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
    ["an upgrade to something else", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"],
    ["an upgrade without key", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
    ["an upgrade by POST", upgrade.replace("GET", "POST")],
    ["bad protocols", upgrade.replace("Host: a", "Host: a\r\nSec-WebSocket-Protocol: ,,=")],
    ["an upgrade and random bytes", Buffer.concat([Buffer.from(upgrade), random(3000)])],
    ["an upgrade and a reserved opcode", Buffer.concat([Buffer.from(upgrade), Buffer.from([0x83, 0x80, 0, 0, 0, 0])])],
    ["an upgrade and an unmasked frame", Buffer.concat([Buffer.from(upgrade), Buffer.from([0x81, 1, 65])])],
    [
      "an upgrade and a frame of 2^63 bytes",
      Buffer.concat([Buffer.from(upgrade), Buffer.from([0x82, 255, 127, 255, 255, 255, 255, 255, 255, 255])])
    ],
    [
      "an upgrade and a bad close code",
      Buffer.concat([Buffer.from(upgrade), Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0, 1])])
    ],
    ["an upgrade and half a frame", Buffer.concat([Buffer.from(upgrade), Buffer.from([0x82, 0xfe, 10])])]
  ]
  for (const scheme of ["tcp", "tls", "ws", "wss"]) {
    it.live(`${scheme}: garbage of every kind, then a FIN or a reset, harms nobody else`, () =>
      Effect.gen(function*() {
        const listener = yield* serve(`${scheme}://127.0.0.1:0`, echo, {
          ...tls(),
          policy: { handshake: "300 millis" },
          linger: "100 millis"
        })
        const before = onLinux ? descriptors() : 0
        yield* Effect.scoped(Effect.gen(function*() {
          for (const [, bytes] of garbage) {
            for (const end of ["fin", "reset", "stay"] as const) {
              for (const plain of scheme === "tls" || scheme === "wss" ? [true, false] : [true]) {
                const peer = yield* client(listener, { plain })
                const go = () => {
                  peer.conn.write(bytes)
                  if (end === "fin") peer.conn.end()
                  if (end === "reset") setImmediate(() => plain ? peer.conn.resetAndDestroy() : peer.conn.destroy())
                }
                if (peer.connected) go()
                else peer.conn.once(plain ? "connect" : "secureConnect", go)
              }
            }
          }
          assert.ok(yield* Effect.promise(() => speaks(listener)))
          yield* Effect.sleep("50 millis")
        }))
        if (onLinux) yield* until("all descriptors are given back", () => descriptors() <= before)
        assert.ok(yield* Effect.promise(() => speaks(listener)))
      }))
  }
})

describe("connections that nobody took yet", () => {
  for (const scheme of ["tcp", "tls", "ws", "wss"]) {
    it.live(`${scheme}: may send garbage and reset, and are destroyed with the listener`, () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const listener = yield* Scope.provide(Listener.make(`${scheme}://127.0.0.1:0`, tls()), scope)
        const open = Effect.gen(function*() {
          const peer = yield* client(listener)
          yield* until("it is connected", () => peer.connected)
          if (scheme === "ws" || scheme === "wss") {
            peer.conn.write(upgrade)
            yield* until("the upgrade", () => peer.text.includes("101 Switching"))
          }
          return peer
        })
        const quiet = yield* open
        for (const reset of [true, false]) {
          const rude = yield* open
          rude.conn.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]))
          yield* Effect.sleep("10 millis")
          if (reset && scheme in { tcp: 1, ws: 1 }) rude.conn.resetAndDestroy()
          else rude.conn.destroy()
        }
        yield* Effect.sleep("20 millis")
        assert.ok(!quiet.ended && !quiet.closed)
        yield* Scope.close(scope, Exit.void)
        yield* until("the end", () => quiet.ended || quiet.closed, 1000)
      }))
  }
})

/** Whether a listener that echoes does so for a newcomer. */
const speaks = (listener: Listener.Listener): Promise<boolean> =>
  new Promise((resolve) => {
    if (/^wss?:/.test(listener.url)) {
      const ws = new WebSocket(listener.url, { rejectUnauthorized: false })
      ws.on("open", () => ws.send("hello"))
      ws.on("message", (data) => {
        resolve(String(data) === "hello")
        ws.close()
      })
      ws.on("error", () => resolve(false))
      return
    }
    Effect.runFork(Effect.scoped(Effect.gen(function*() {
      const peer = yield* client(listener)
      peer.conn.write("hello")
      yield* until("an answer", () => peer.text === "hello" || peer.closed || peer.ended)
      resolve(peer.text === "hello")
      peer.conn.end()
      yield* until("the end", () => peer.closed)
    })))
  })

describe("a socket that wraps an accepted one", () => {
  const wrappers = {
    "as its prototype": (socket: Socket.Socket, reader: Socket.Socket["reader"]): Socket.Socket =>
      Object.create(socket, { reader: { value: reader } }),
    "as a proxy": (socket: Socket.Socket, reader: Socket.Socket["reader"]): Socket.Socket =>
      new Proxy(socket, { get: (target, name) => name === "reader" ? reader : Reflect.get(target, name) }),
    "by its parts": (socket: Socket.Socket, reader: Socket.Socket["reader"]): Socket.Socket =>
      Socket.make({ reader, writer: socket.writer })
  }
  for (const [how, wrap] of Object.entries(wrappers)) {
    it.live(`${how}: a connection acquires the reader of the wrapper, and talks`, () =>
      Effect.gen(function*() {
        const open = Connection.make({ codec: Codec.lines() })
        const listener = yield* Listener.make("tcp://127.0.0.1:0")
        let acquired = 0
        yield* Server.run({
          open: (socket: Socket.Socket) =>
            open(wrap(
              socket,
              Effect.tap(socket.reader, () =>
                Effect.sync(() => {
                  acquired++
                }))
            )),
          handle: ({ receive, send }) => Effect.forever(Effect.flatMap(receive, send))
        }).pipe(Effect.provideService(SocketServer.SocketServer, listener), Effect.forkScoped)
        const peer = yield* client(listener)
        peer.conn.write("hello\n")
        yield* until("the echo", () => peer.text === "hello\n")
        assert.strictEqual(acquired, 1)
      }))
  }
})

describe("what a connection costs", () => {
  it.live("six fibers with a server: its handler's, its own, and the four under that", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make("tcp://127.0.0.1:0")
      const registry = yield* Registry.make<string>()
      let served = 0
      const handle = ({ receive }: Connection.Connection<string>) =>
        Effect.suspend(() => {
          served++
          return receive
        })
      const open = Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") })
      yield* Server.run({ open, handle, registry }).pipe(
        Effect.provideService(SocketServer.SocketServer, listener),
        Effect.forkScoped
      )
      const come = (count: number) =>
        Effect.gen(function*() {
          const all = served + count
          yield* Effect.replicateEffect(client(listener), count)
          yield* until("all are served", () => served === all)
          return Effect.runFork(Effect.void).id
        })
      const before = yield* come(1)
      const many = 50
      // this one counts as well, and the clock may have slept
      const fibers = (yield* come(many)) - before - 1
      assert.isAtLeast(fibers, many * 6)
      assert.isAtMost(fibers, many * 6.4)
    }))
})

describe("a large frame", () => {
  for (const listens of [false, true]) {
    it.live(`is joined, and what it was read into is ${listens ? "kept for who listens as well" : "given back"}`, () =>
      Effect.gen(function*() {
        const size = 1024 * 1024
        const read: Array<Uint8Array> = []
        const open = Connection.make({ codec: Codec.lengthPrefix() })
        const transfer = vi.spyOn(ArrayBuffer.prototype, "transfer")
        yield* Effect.addFinalizer(() => Effect.sync(() => transfer.mockRestore()))
        const listener = yield* Listener.make("tcp://127.0.0.1:0")
        yield* Server.run({
          open: (socket: Socket.Socket) =>
            Effect.gen(function*() {
              const conn = yield* Effect.serviceOption(NodeSocket.NetSocket)
              if (listens) Option.getOrThrow(conn).on("data", (chunk) => read.push(chunk as Buffer))
              return yield* open(socket)
            }),
          handle: (connection: Connection.Connection<Uint8Array>) =>
            Effect.gen(function*() {
              while (true) yield* connection.send(yield* connection.receive)
            })
        }).pipe(Effect.provideService(SocketServer.SocketServer, listener), Effect.forkScoped)
        const peer = yield* client(listener)
        const echoed: Array<Uint8Array> = []
        peer.conn.on("data", (chunk) => echoed.push(chunk as Buffer))
        const frame = Buffer.alloc(4 + size, "abcdefg")
        frame.writeUInt32BE(size)
        peer.conn.write(frame)
        yield* until("the echo", () => peer.bytes === frame.length)
        assert.isTrue(Buffer.concat(echoed).equals(frame))
        if (listens) {
          expect(transfer).not.toHaveBeenCalled()
          assert.isTrue(Buffer.concat(read).equals(frame))
        } else assert.isAbove(transfer.mock.calls.length, 8)
      }))
  }
})

describe.skipIf(!onLinux)("the kernel", () => {
  for (const scheme of ["tcp", "tls", "ws", "wss", "unix"]) {
    it.live(`${scheme}: has every descriptor back after 200 connections`, () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        const listener = yield* serve(
          scheme === "unix" ? `unix://${dir}/app.sock` : `${scheme}://127.0.0.1:0`,
          echo,
          { ...tls(), linger: "200 millis" }
        )
        // the first connection loads what is loaded lazily
        assert.ok(yield* Effect.promise(() => speaks(listener)))
        let last = -1
        yield* until("it is quiet", () => last === (last = descriptors()))
        const before = last
        for (let round = 0; round < 10; round++) {
          const served = yield* Effect.promise(() => Promise.all(Array.from({ length: 20 }, () => speaks(listener))))
          assert.ok(served.every((ok) => ok))
        }
        yield* until("the descriptors are back", () => descriptors() <= before)
      }))
  }

  it.live("keeps connections alive, if told so", () =>
    Effect.gen(function*() {
      for (const scheme of ["tcp", "tls"]) {
        for (const on of [true, false]) {
          const listener = yield* serve(`${scheme}://127.0.0.1:0`, echo, {
            ...tls(),
            ...(on ? {} : { policy: { keepAlive: 0 } })
          })
          const peer = yield* client(listener)
          peer.conn.write("a")
          yield* until("the echo", () => peer.text === "a")
          yield* until(
            `${scheme} ${on}`,
            () => keepAliveTimers(portOf(listener)).join() === String(on)
          )
        }
      }
    }))
})

describe("unsent", () => {
  for (const scheme of ["tcp", "tls", "unix"]) {
    it.live(`${scheme}: shrinks while one large write trickles out, and is 0 at its end`, () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        const size = 16 * 1024 * 1024
        let unsent: (() => number) | undefined
        let conn: Net.Socket | undefined
        const listener = yield* Listener.make(
          scheme === "unix" ? `unix://${dir}/app.sock` : `${scheme}://127.0.0.1:0`,
          tls()
        )
        yield* Effect.forkScoped(run(listener, (socket) =>
          Effect.gen(function*() {
            conn = yield* NodeSocket.NetSocket
            const transport = known(socket)
            unsent = () => transport.unsent!()
            yield* socket.reader
            const writer = yield* socket.writer
            yield* writer.write(Buffer.alloc(size))
            yield* Effect.never
          }).pipe(Effect.scoped, Effect.ignore)))
        const peer = yield* client(listener, { flowing: false })
        yield* until("the write is stuck", () => unsent !== undefined && unsent() > 0)
        yield* Effect.sleep("50 millis")
        const stuck = unsent!()
        assert.strictEqual(conn!.writableLength, size)
        assert.ok(stuck > 0 && stuck < size * 1.01)
        const steps = new Set<number>([stuck])
        const watch = setInterval(() => conn!.writableLength === size && steps.add(unsent!()), 1)
        let bytes = 0
        peer.conn.on("data", (chunk) => {
          bytes += chunk.length
          // a slow reader
          if (bytes % (1024 * 1024) < chunk.length) {
            peer.conn.pause()
            setTimeout(() => peer.conn.resume(), 5)
          }
        })
        yield* until("all is read", () => bytes === size, 10_000)
        clearInterval(watch)
        yield* until("nothing is unsent", () => unsent!() === 0)
        const seen = [...steps]
        assert.ok(seen.length >= 3, `steps: ${seen}`)
        assert.deepStrictEqual(seen, [...seen].sort((a, b) => b - a))
      }))
  }
})
