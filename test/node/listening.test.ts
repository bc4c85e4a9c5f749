/** Where a listener listens: socket files and whose they are, ports that are shared, descriptors that are inherited. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { Dialer, HttpServer, Listener } from "../../src/node/index.ts"
import { nameBeside } from "../../src/node/internal/addresses/socketFile.ts"
import { client, echo, known, onLinux, portOf, run, serve, tempDir, until } from "./fixtures/kit.ts"

const answers = Effect.fnUntraced(function*(listener: { readonly url: string }, text = "hello") {
  const peer = yield* client(listener)
  peer.conn.write(text)
  yield* until("the echo", () => peer.text === text)
})

const refused = (url: string, options: Listener.ListenOptions) =>
  Effect.map(
    Effect.flip(Effect.scoped(Listener.make(url, options))),
    ({ message, reason }) => `${reason} ${message}`
  )

/** A listener that answers with its name, and what ends it. */
const named = Effect.fnUntraced(function*(url: string, name: string, options: Listener.ListenOptions = {}) {
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  yield* Scope.provide(
    Effect.gen(function*() {
      const listener = yield* Listener.make(url, options)
      yield* Effect.forkScoped(
        run(listener, (socket) =>
          Effect.gen(function*() {
            yield* socket.reader
            yield* (yield* socket.writer).write(name)
            yield* Effect.never
          }).pipe(Effect.scoped, Effect.ignore)),
        { startImmediately: true }
      )
    }),
    scope
  )
  return Scope.close(scope, Exit.void)
})

const whoAnswers = Effect.fnUntraced(function*(url: string) {
  const peer = yield* client({ url })
  yield* until("an answer", () => peer.text !== "")
  return peer.text
})

describe("the file of a Unix socket", () => {
  it.live("B111 stays when its listener was replaced by a successor, which took it over, and then closes", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      const url = `unix://${dir}/app.sock`
      const endOld = yield* named(url, "old")
      assert.match(yield* refused(url, {}), /^SocketFileInUse .*another process is listening/)
      assert.strictEqual(yield* whoAnswers(url), "old")
      const endNew = yield* named(url, "new", { reusePort: true })
      assert.strictEqual(yield* whoAnswers(url), "new")
      yield* endOld
      assert.strictEqual(yield* whoAnswers(url), "new")
      assert.deepStrictEqual(Fs.readdirSync(dir), ["app.sock"])
      yield* endNew
      assert.deepStrictEqual(Fs.readdirSync(dir), [])
    }))

  it.live.skipIf(process.getuid?.() !== 0)(
    "has the owner that was asked for, before a client can connect (needs root)",
    () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        for (const owner of [{ uid: 1, gid: 2 }, { gid: 3 }, { uid: 4 }]) {
          const path = `${dir}/${JSON.stringify(owner)}.sock`
          const url = `unix://${path}`
          yield* serve(url, echo, { owner, mode: 0o660 })
          const { gid, mode, uid } = Fs.statSync(path)
          assert.deepStrictEqual({ gid, uid, mode: mode & 0o777 }, { gid: 0, uid: 0, mode: 0o660, ...owner })
          yield* answers({ url })
        }
      })
  )

  it.live.skipIf(process.getuid?.() !== 0)(
    "cannot be given away by a process that may not (needs root)",
    () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        Fs.chmodSync(dir, 0o777)
        process.setegid!(12345)
        process.seteuid!(12345)
        const said = yield* Effect.ensuring(
          refused(`unix://${dir}/app.sock`, { owner: { uid: 1, gid: 7 } }),
          Effect.sync(() => {
            process.seteuid!(0)
            process.setegid!(0)
          })
        )
        assert.match(said, /^PermissionDenied .*may not give the socket file to the user 1 and the group 7; only root/)
        yield* until("nothing is left", () => Fs.readdirSync(dir).length === 0)
      })
  )

  it.live("B111 stays when it was removed by hand, and is another listener's by now", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      const url = `unix://${dir}/app.sock`
      const endOld = yield* named(url, "old")
      Fs.unlinkSync(`${dir}/app.sock`)
      yield* named(url, "new")
      yield* endOld
      assert.strictEqual(yield* whoAnswers(url), "new")
    }))

  it.live("B111 that of an HTTP server too", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      const scope = yield* Scope.make()
      const http = yield* Scope.provide(HttpServer.make(`unix://${dir}/app.sock`), scope)
      assert.strictEqual(http.url, `unix://${dir}/app.sock`)
      assert.deepInclude(http.http.address, { path: `${dir}/app.sock` })
      Fs.unlinkSync(`${dir}/app.sock`)
      yield* named(`unix://${dir}/app.sock`, "new")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* whoAnswers(`unix://${dir}/app.sock`), "new")
    }))

  it.live("of many that start at once one listener gets the file, and nothing else is left", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      const made = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => Effect.exit(Listener.make(`unix://${dir}/app.sock`)),
        { concurrency: "unbounded" }
      )
      assert.lengthOf(made.filter(Exit.isSuccess), 1)
      assert.deepStrictEqual(Fs.readdirSync(dir), ["app.sock"])
    }))

  it.live("has the mode that was asked for, and a name as long as can be", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      for (const mode of [0o600, 0o660, 0o777]) {
        const path = `${dir}/${mode}.sock`
        yield* Listener.make(`unix://${path}`, { mode })
        assert.strictEqual(Fs.statSync(path).mode & 0o777, mode)
      }
      const longest = onLinux ? 107 : 103
      for (const name of ["a", "ab", "a name of some length"]) {
        const folder = `${dir}/${"x".repeat(longest - name.length - dir.length - 2)}`
        Fs.mkdirSync(folder)
        yield* answers(yield* serve(`unix://${folder}/${name}`, echo))
        assert.deepStrictEqual(Fs.readdirSync(folder), [name])
      }
      const folder = `${dir}/${"y".repeat(longest - dir.length - 3)}`
      for (let i = 0; i < 200; i++) assert.notStrictEqual(nameBeside(`${folder}/a`), `${folder}/a`)
    }))
})

describe.skipIf(!onLinux)("an abstract name (Linux)", () => {
  it.live("has no file, is had by one listener, and is free when that closes", () =>
    Effect.gen(function*() {
      const name = `holdfast-${process.pid}-${Date.now()}`
      const end = yield* named(`unix://@${name}`, "one")
      assert.match(yield* refused(`unix://@${name}`, {}), /^AddressInUse .*another process has this name/)
      const listing = Fs.readFileSync("/proc/net/unix", "utf8")
      assert.include(listing, ` @${name}\n`)
      assert.strictEqual(yield* whoAnswers(`unix://\0${name}`), "one")
      yield* end
      const listener = yield* serve(`unix:@${name}`, echo)
      assert.strictEqual(listener.url, `unix://@${name}`)
      assert.deepInclude(listener.address, { path: `@${name}` })
    }))

  it.live("is dialled, and what is told of both ends has it", () =>
    Effect.gen(function*() {
      const url = `unix://@holdfast dial ${process.pid}`
      const listener = yield* Listener.make(url, { policy: { handshake: "1 second" } })
      const seen: Array<string | undefined> = []
      yield* Effect.forkScoped(
        listener.run((socket) =>
          Effect.andThen(Effect.sync(() => seen.push(known(socket)?.local, known(socket)?.remote)), echo(socket))
        ),
        { startImmediately: true }
      )
      const socket = yield* Dialer.make(url)
      const reader = yield* socket.reader
      yield* (yield* socket.writer).write("hello")
      assert.strictEqual(String((yield* reader.pull)[0]), "hello")
      const name = url.slice("unix://".length)
      seen.push(known(socket)?.remote)
      assert.deepStrictEqual(seen, [name, `unix:${name}`, name])
      const nobody = yield* Dialer.make(`${url}?`)
      const { reason } = yield* Effect.flip(nobody.reader)
      assert.match(String(reason.cause), /ECONNREFUSED/)
    }))

  it.live("serves HTTP", () =>
    Effect.gen(function*() {
      const http = yield* HttpServer.make(`unix:@holdfast-http-${process.pid}`)
      assert.strictEqual(http.url, `unix://@holdfast-http-${process.pid}`)
      const peer = yield* client({ url: `unix://\0holdfast-http-${process.pid}` })
      peer.conn.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      assert.isTrue(peer.conn.connecting || peer.connected)
    }))

  it.live("makes sense, and has no options of a file", () =>
    Effect.gen(function*() {
      assert.match(yield* refused("unix:@", {}), /^BadUrl .*the name is missing/)
      assert.match(yield* refused("unix://@a\0b", {}), /^BadUrl .*zero byte/)
      assert.match(yield* refused(`unix://@${"x".repeat(107)}`, {}), /^BadUrl .*longer than the 107 bytes/)
      yield* Effect.scoped(Listener.make(`unix://@${"x".repeat(106)}`))
      assert.match(yield* refused("unix://@a", { mode: 0o600 }), /^BadOption .*mode is that of a socket file/)
      assert.match(yield* refused("unix://@a", { owner: { uid: 1 } }), /^BadOption .*owner is that of a socket file/)
      assert.match(yield* refused("unix://@a", { reusePort: true }), /^BadOption .*not for an abstract name/)
      assert.match(yield* refused("unix:///a", { owner: { uid: 1.5 } }), /^BadOption .*owner has a uid and a gid/)
    }))
})

/** Listens on a descriptor in a process of its own: its URL, or what is wrong. */
const inherits = Effect.fnUntraced(function*(fd: number, url: string) {
  const child = ChildProcess.spawn(process.execPath, [
    "--conditions=holdfast-source",
    fileURLToPath(new URL("fixtures/inherited.ts", import.meta.url)),
    url
  ], { stdio: ["pipe", "pipe", "inherit", fd], env: { ...process.env, NODE_OPTIONS: "", NODE_NO_WARNINGS: "1" } })
  yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
  let said = ""
  child.stdout!.on("data", (data) => said += data)
  yield* until("the child says something", () => said.endsWith("\n"), 10_000)
  return said.trim()
})

describe("options of a listener", () => {
  it.live.skipIf(!onLinux)(
    "B111 reusePort: a successor listens before the old one has gone, and no client is reset",
    () =>
      Effect.gen(function*() {
        const reusePort = { reusePort: true, linger: "300 millis", backlog: 1024 } as const
        const scope = yield* Scope.make()
        const old = yield* Scope.provide(Listener.make("tcp://127.0.0.1:0", reusePort), scope)
        yield* Scope.provide(Effect.forkScoped(old.run(echo), { startImmediately: true }), scope)
        assert.match(yield* refused(old.url, {}), /^AddressInUse/)
        yield* serve(old.url, echo, reusePort)
        const peers = yield* Effect.forEach(Array.from({ length: 400 }), () => client(old))
        for (const { conn } of peers) conn.write("hello")
        yield* Scope.close(scope, Exit.void)
        yield* until(
          "each is answered or refused",
          () => peers.every(({ closed, ended, text }) => ended || closed || text === "hello")
        )
        assert.deepStrictEqual(peers.flatMap(({ error }) => error?.code ?? []), [])
        assert.isAbove(peers.filter(({ text }) => text === "hello").length, 50)
      })
  )

  it.live("ipv6Only leaves IPv4 to another listener", () =>
    Effect.gen(function*() {
      const six = yield* serve("tcp://[::]:0", echo, { ipv6Only: true })
      const four = yield* serve(`tcp://0.0.0.0:${portOf(six)}`, echo)
      yield* answers({ url: `tcp://[::1]:${portOf(six)}` })
      yield* answers({ url: `tcp://127.0.0.1:${portOf(four)}` })
    }))

  it.live.skipIf(!onLinux)("fd: a descriptor that was inherited", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      for (const where of [{ host: "127.0.0.1", port: 0 }, { path: `${dir}/app.sock` }]) {
        const server = Net.createServer()
        yield* Effect.promise(() => new Promise<void>((resolve) => server.listen(where, resolve)))
        yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))
        const { fd } = (server as unknown as { readonly _handle: { readonly fd: number } })._handle
        if ("path" in where) assert.match(yield* inherits(fd, "tcp://127.0.0.1:0"), /cannot listen .* is no TCP socket/)
        const url = yield* inherits(fd, "path" in where ? `unix://${where.path}` : "tcp://127.0.0.1:0")
        const address = server.address()
        assert.strictEqual(
          url,
          typeof address === "string" ? `unix://${address}` : `tcp://127.0.0.1:${address!.port}`
        )
        // what this process accepts of it is nothing
        server.on("connection", (conn) => conn.destroy())
        yield* Effect.sync(() => server.close())
        if (!("path" in where)) yield* answers({ url })
      }
    }))

  it.live("say what is wrong", () =>
    Effect.gen(function*() {
      assert.match(
        yield* refused("tcp://127.0.0.1:0", { fd: 9999 }),
        /^Unknown .*descriptor 9999 is no socket that can listen/
      )
      assert.match(yield* refused("tcp://127.0.0.1:0", { fd: -1 }), /^BadOption .*fd is no file descriptor: -1/)
      assert.match(yield* refused("tcp://127.0.0.1:0", { mode: 0o600 }), /^BadOption .*only unix:\/\/ makes/)
      assert.match(yield* refused("unix:///tmp/a.sock", { mode: 0o1000 }), /^BadOption .*mode has to be from 0/)
      assert.match(
        yield* refused("tcp://127.0.0.1:0", { ipv6Only: true }),
        /^BadOption .*ipv6Only is for an IPv6 address/
      )
    }))
})
