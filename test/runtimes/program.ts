/**
 * What has to work on every runtime, as one program: it prints a line of JSON for each case, and one for an error that no case caught.
 *
 * Arguments: a directory with `ca.pem`, `cert.pem` and `key.pem`, `other-cert.pem` and `other-key.pem` of another authority, the command's file, and how this runtime starts a file.
 */
import { Cause, Effect, Exit, Fiber, Layer, Schema, type Scope, Stream } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { Rpc, RpcClient, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Client, Codec, Connection, ConnectionPool, Heartbeat, type Policy, Protocol, Request, Server } from "holdfast"
import { Dialer, HttpClient as Kept, HttpServer, Listener } from "holdfast/node"
import { ClientProtocol, ServerProtocol } from "holdfast/rpc"
import { TestNetwork } from "holdfast/testing"
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { connect, type Socket } from "node:net"
import { promisify } from "node:util"

const [directory, command, ...start] = process.argv.slice(2) as [string, string, ...Array<string>]
const ca = readFileSync(`${directory}/ca.pem`, "utf8")
const cert = readFileSync(`${directory}/cert.pem`, "utf8")
const key = readFileSync(`${directory}/key.pem`, "utf8")

const otherCert = readFileSync(`${directory}/other-cert.pem`, "utf8")
const otherKey = readFileSync(`${directory}/other-key.pem`, "utf8")

const equal = (actual: unknown, expected: unknown, cause?: unknown): Effect.Effect<void> =>
  Effect.sync(() => {
    const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)]
    if (a !== b) throw new Error(`${a}, and not ${b}`, { cause })
  })

const isBun = "bun" in process.versions
const isDeno = "deno" in process.versions

const policy = { pingEvery: "5 seconds", silence: "15 seconds", drain: "2 seconds" } as const
const schemes = ["tcp", "unix", "tls", "ws", "wss"] as const
type Scheme = typeof schemes[number]

let sockets = 0
const listen = (scheme: Scheme) =>
  Listener.make(
    scheme === "unix" ? `unix://${directory}/${++sockets}.sock` : `${scheme}://127.0.0.1:0`,
    scheme === "tls" || scheme === "wss" ? { cert, key, policy } : { policy }
  )

const dial = (url: string) => Effect.orDie(Dialer.make(url, /^(tls|wss):/.test(url) ? { ca, policy } : { policy }))

const lines = Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong"), policy })

const echo = (connection: Connection.Connection<string>) =>
  Stream.runForEach(Connection.messages(connection), connection.send)

/** Runs a server in the scope; stops it in `stop`. */
const serve = (
  listener: Listener.Listener,
  handle: (connection: Connection.Connection<string>) => Effect.Effect<void, unknown> = echo,
  open: Connection.Open<string> = lines,
  onEvent: (event: Server.Event) => void = () => {}
) =>
  Effect.gen(function*() {
    const fiber = yield* Server.run({
      open,
      handle,
      policy,
      logs: false,
      onDrain: () => Effect.void,
      onEvent: (event) => Effect.sync(() => onEvent(event))
    }).pipe(
      Effect.provideService(SocketServer.SocketServer, listener),
      Effect.forkScoped({ startImmediately: true })
    )
    return { stop: Fiber.interrupt(fiber) }
  })

/** Looks at a condition until it holds. */
const until = (condition: () => boolean) => Effect.repeat(Effect.sleep("1 millis"), { while: () => !condition() })

const large = "héllo ".repeat(20_000)

const echoOver = (scheme: Scheme) =>
  Effect.gen(function*() {
    const listener = yield* listen(scheme)
    yield* serve(listener)
    const connection = yield* Effect.flatMap(dial(listener.url), lines)
    for (const text of ["hello", "", large]) {
      yield* connection.send(text)
      yield* equal(yield* connection.receive, text)
    }
    yield* connection.close
  })

/** Answers what it has received, though it is being stopped, and ends its connections in order. */
const drainOver = (scheme: Scheme) =>
  Effect.gen(function*() {
    const listener = yield* listen(scheme)
    let received = 0
    const server = yield* serve(listener, (connection) =>
      Stream.runForEach(Connection.messages(connection), (text) => {
        received++
        return Effect.andThen(Effect.sleep("20 millis"), connection.send(text))
      }))
    const connection = yield* Effect.flatMap(dial(listener.url), lines)
    yield* connection.sendAll(["a", "b", "c", "d", "e"])
    yield* until(() => received > 0)
    const stopping = yield* Effect.forkChild(server.stop, { startImmediately: true })
    yield* equal(yield* Stream.runCollect(Stream.take(Connection.messages(connection), 5)), ["a", "b", "c", "d", "e"])
    const { reason } = yield* Effect.flip(connection.receive)
    yield* equal(reason._tag, "Closed")
    yield* Fiber.join(stopping)
  })

const reconnectOver = (scheme: Scheme) =>
  Effect.gen(function*() {
    const listener = yield* listen(scheme)
    let served = 0
    // the first connection is closed after its first message
    yield* serve(listener, (connection) =>
      ++served > 1 ? echo(connection) : Effect.andThen(connection.receive, connection.close))
    const retries = { retryBase: 10, retryCap: 50, retryJitter: "none", retryOn: [1000] } as const
    const client = yield* Client.make(Effect.flatMap(dial(listener.url), lines), { policy: retries })
    yield* client.send("first")
    yield* until(() =>
      served > 1
    )
    yield* client.connection
    yield* client.send("second")
    yield* equal(yield* client.receive, "second")
    yield* client.close
  })

const heartbeat = Effect.gen(function*() {
  const listener = yield* listen("tcp")
  const reasons: Array<string> = []
  const impatient = Connection.make({
    codec: Codec.lines(),
    heartbeat: Heartbeat.text("ping", "pong"),
    policy: { pingEvery: "50 millis", pong: "100 millis", silence: "5 seconds" }
  })
  yield* serve(listener, echo, impatient, (event) => {
    if (event._tag === "Closed") reasons.push(event.snapshot.reason?._tag ?? "none")
  })
  // it says nothing, and takes everything
  let heard = ""
  const silent = connect(Number(new URL(listener.url).port), "127.0.0.1")
  silent.setEncoding("utf8").on("data", (text: string) => heard += text).on("error", () => {})
  yield* Effect.addFinalizer(() => Effect.sync(() => silent.destroy()))
  yield* until(() => reasons.length > 0)
  yield* equal([heard.startsWith("ping\n"), reasons], [true, ["PongTimeout"]])
})

/** A Unix socket, and an address, on which nothing listens. */
const refused = Effect.gen(function*() {
  for (const url of [`unix://${directory}/none.sock`, "tcp://127.0.0.1:1", "ws://127.0.0.1:1", "wss://127.0.0.1:1"]) {
    const { reason } = yield* Effect.flip(Effect.flatMap(dial(url), lines))
    yield* equal(reason._tag, "OpenFailed")
  }
})

const untrusted = Effect.gen(function*() {
  for (const scheme of ["tls", "wss"] as const) {
    const listener = yield* listen(scheme)
    yield* serve(listener)
    const { reason } = yield* Effect.flip(Effect.flatMap(Effect.orDie(Dialer.make(listener.url, { policy })), lines))
    yield* equal([reason._tag, "problem" in reason ? reason.problem : ""], ["CertificateRefused", "untrusted"])
  }
})

/** A server that wants certificates takes a good one, and no other: its handler sees none of those that it refuses. */
const certificates = Effect.gen(function*() {
  for (const scheme of ["tls", "wss"] as const) {
    const listener = yield* Listener.make(`${scheme}://127.0.0.1:0`, { cert, key, ca, policy })
    const served: Array<unknown> = []
    yield* serve(listener, (connection) =>
      Effect.andThen(
        Effect.map(connection.snapshot, ({ identity }) => served.push(identity?.subject?.["CN"])),
        echo(connection)
      ))
    const ask = (own: { readonly cert?: string; readonly key?: string }) =>
      Effect.gen(function*() {
        const connection = yield* lines(yield* Effect.orDie(Dialer.make(listener.url, { ca, policy, ...own })))
        yield* connection.send("hello")
        return yield* connection.receive
      })
    yield* equal(yield* ask({ cert, key }), "hello")
    for (const own of [{}, { cert: otherCert, key: otherKey }]) {
      const { reason } = yield* Effect.flip(ask(own))
      const told = ["CertificateRefused", ...isBun || isDeno ? ["Closed", "OpenFailed", "TransportFailed"] : []]
      yield* equal(told.includes(reason._tag), true, reason)
    }
    yield* equal(served, [["localhost"]])
  }
})

const compressed = Effect.gen(function*() {
  const listener = yield* Listener.make("ws://127.0.0.1:0", { policy, deflate: true })
  yield* serve(listener)
  const connection = yield* Effect.flatMap(Effect.orDie(Dialer.make(listener.url, { policy, deflate: true })), lines)
  yield* connection.send(large)
  yield* equal(yield* connection.receive, large)
  const { bytesOut } = yield* connection.snapshot
  yield* equal(bytesOut < large.length / 10, true)
})

/** What the runtime has for pages, as the other end. */
const itsOwn = Effect.gen(function*() {
  const listener = yield* listen("ws")
  yield* serve(listener)
  const answer = yield* Effect.callback<unknown, Error>((resume) => {
    const socket = new WebSocket(listener.url)
    socket.addEventListener("open", () => socket.send("hello"))
    socket.addEventListener("message", ({ data }) => {
      resume(Effect.succeed(data))
      socket.close(1000)
    })
    socket.addEventListener("error", () => resume(Effect.fail(new Error("the WebSocket failed"))))
  })
  yield* equal(answer, "hello")
})

/** A raw client, and how its connection ends at the server. */
const endOf = (
  limits: Policy.Patch,
  handle: (connection: Connection.Connection<string>) => Effect.Effect<void, unknown>,
  act: (client: Socket) => unknown
) =>
  Effect.gen(function*() {
    const listener = yield* listen("tcp")
    const reasons: Array<string> = []
    const open = Connection.make({ codec: Codec.lines(), policy: { ...policy, pingEvery: 0, ...limits } })
    yield* serve(listener, handle, open, (event) => {
      if (event._tag === "Closed") reasons.push(event.snapshot.reason?._tag ?? "none")
    })
    const client = connect(Number(new URL(listener.url).port), "127.0.0.1", () => act(client))
    client.on("error", () => {})
    yield* Effect.addFinalizer(() => Effect.sync(() => client.destroy()))
    yield* until(() => reasons.length > 0)
    return reasons[0]
  })

/** A peer that takes nothing: what is written waits in bounded queues, and then the connection ends. */
const stalled = Effect.gen(function*() {
  let sent = 0
  const end = yield* endOf(
    { writeStall: "300 millis", outboxBytes: 2 ** 20 },
    (connection) => Effect.forever(Effect.andThen(connection.send(large), Effect.sync(() => sent++))),
    (client) => client.pause()
  )
  yield* equal(end, "WriteStalled")
  // the kernel holds some megabytes of it
  yield* equal(sent * large.length < 64 * 2 ** 20, true)
})

const reset = Effect.gen(function*() {
  yield* equal(yield* endOf({}, echo, (client) => client.resetAndDestroy()), "Reset")
})

const http = Effect.gen(function*() {
  const server = yield* HttpServer.make("http://127.0.0.1:0", {})
  yield* server.http.serve(Effect.succeed(HttpServerResponse.text("hello")))
  const context = yield* Layer.build(isBun ? FetchHttpClient.layer : Kept.layer())
  // refused with what to do, before anything is sent
  if (isBun) yield* equal((yield* Effect.flip(Layer.build(Kept.layer()))).detail.includes("FetchHttpClient"), true)
  const get = Effect.flatMap(HttpClient.get(server.url), (response) => response.text)
  const both = Effect.all([get, get, get])
  yield* equal(yield* Effect.provideContext(both, context), ["hello", "hello", "hello"])
})

const native = Effect.gen(function*() {
  const listener = yield* listen("tcp")
  yield* serve(listener, echo, Protocol.server({ codec: Codec.lines(), policy }))
  const connection = yield* Effect.flatMap(dial(listener.url), Protocol.client({ codec: Codec.lines(), policy }))
  yield* connection.send("hello")
  yield* equal(yield* connection.receive, "hello")
})

const requests = Effect.gen(function*() {
  const listener = yield* listen("tcp")
  yield* serve(listener)
  const pool = yield* ConnectionPool.make(Effect.flatMap(dial(listener.url), lines), { max: 2 })
  const { request } = yield* Request.make(pool.get, { inFlight: 8 })
  const asked = Array.from({ length: 50 }, (_, i) => `${i}`)
  yield* equal(yield* Effect.forEach(asked, (text) => request(text), { concurrency: 16 }), asked)
})

const Double = Rpc.make("Double", { payload: { n: Schema.Finite }, success: Schema.Finite })
const Count = Rpc.make("Count", { payload: { to: Schema.Finite }, success: Schema.Finite, stream: true })
const Calls = RpcGroup.make(Double, Count)

const rpc = Effect.gen(function*() {
  const listener = yield* listen("ws")
  const served = RpcServer.layer(Calls).pipe(
    Layer.provide(Calls.toLayer({
      Double: ({ n }) => Effect.succeed(2 * n),
      Count: ({ to }) => Stream.range(1, to)
    })),
    Layer.provide(ServerProtocol.layer({ policy, logs: false })),
    Layer.provide(Layer.succeed(SocketServer.SocketServer, listener))
  )
  const asking = ClientProtocol.layer(dial(listener.url), { policy })
  const context = yield* Layer.build(
    Layer.provide(Layer.provideMerge(asking, served), RpcSerialization.layerNdjson)
  )
  const client = yield* Effect.provideContext(RpcClient.make(Calls), context)
  yield* equal(yield* client.Double({ n: 21 }), 42)
  yield* equal((yield* Stream.runCollect(client.Count({ to: 200 }))).length, 200)
})

/** An hour of two hosts, one of which is cut off, in virtual time. */
const simulation = Effect.gen(function*() {
  const began = performance.now()
  const running = yield* Effect.forkChild(Effect.scoped(Effect.gen(function*() {
    const network = yield* TestNetwork.make({ seed: "1", latency: "20 millis" })
    const server = yield* network.host("server").listen(7000)
    yield* Server.run({ open: Connection.make({ codec: Codec.lines() }), handle: echo, logs: false }).pipe(
      Effect.provideService(SocketServer.SocketServer, server),
      Effect.forkScoped
    )
    const socket = network.host("client").dial("server:7000")
    const connection = yield* Connection.make(socket, { codec: Codec.lines(), policy: { silence: "30 minutes" } })
    yield* connection.send("hello")
    const echoed = yield* connection.receive
    yield* Effect.asVoid(network.link("client", "server").partition)
    return [echoed, (yield* Effect.flip(connection.closed)).reason._tag]
  })))
  yield* TestClock.adjust("1 hour")
  yield* equal(yield* Fiber.join(running), ["hello", "SilenceTimeout"])
  yield* equal(performance.now() - began < 5000, true)
}).pipe(Effect.provide(TestClock.layer()))

const run = promisify(execFile)

const help = Effect.gen(function*() {
  const { stdout } = yield* Effect.promise(() => run(process.execPath, [...start, command, "--help"]))
  yield* equal(["serve", "connect", "probe", "policy", "top"].filter((name) => !stdout.includes(name)), [])
})

/** The command serves, and stops in order when it is asked to. */
const served = Effect.gen(function*() {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [...start, command, "serve", "--listen", "tcp://127.0.0.1:0", "--no-admin"])
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const exited = once(child, "exit")
  const said = yield* Effect.promise(() => once(child.stdout, "data"))
  const url = /listening (\S+)/.exec(String(said[0]))![1]!
  const connection = yield* Effect.flatMap(dial(url), Connection.make({ codec: Codec.lines(), policy }))
  yield* connection.send("hello")
  yield* equal(yield* connection.receive, "hello")
  // Deno's own `kill` does not tell how it exited
  process.kill(child.pid!, "SIGTERM")
  yield* equal((yield* Effect.flip(connection.receive)).reason._tag, "Closed")
  yield* equal((yield* Effect.promise(() => exited))[0], 0)
})

const cases: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown, Scope.Scope>]> = [
  ...schemes.map((scheme) => [`echo over ${scheme}`, echoOver(scheme)] as const),
  ...schemes.map((scheme) => [`drain over ${scheme}`, drainOver(scheme)] as const),
  ...schemes.map((scheme) => [`reconnect over ${scheme}`, reconnectOver(scheme)] as const),
  ["heartbeat timeout", heartbeat],
  ["refused dials", refused],
  ["untrusted certificates", untrusted],
  ["native protocol", native],
  ["pool and requests", requests],
  ["rpc", rpc],
  ["simulation", simulation],
  ["certificates of clients", certificates],
  ["compressed WebSocket", compressed],
  ["the runtime's own WebSocket", itsOwn],
  ["a peer that takes nothing", stalled],
  ["a reset", reset],
  ["http", http],
  ["command", help],
  ["serve", served]
]

const told = (name: string, detail: string, millis = 0) => console.log(JSON.stringify({ name, millis, detail }))
process.on("unhandledRejection", (error) => told("unhandled rejection", String(error)))
process.on("uncaughtException", (error) => told("uncaught exception", String(error.stack)))

const wanted = process.env.ONLY
for (const [name, effect] of cases) {
  if (wanted !== undefined && !name.includes(wanted)) continue
  const began = performance.now()
  const exit = await Effect.runPromiseExit(Effect.scoped(effect).pipe(Effect.timeout("30 seconds")))
  told(name, Exit.isSuccess(exit) ? "ok" : Cause.pretty(exit.cause), Math.round(performance.now() - began))
}
process.exit(0)
