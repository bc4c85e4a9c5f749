/** Reconnecting over real sockets: a server that is killed, peers that are none of ours, and nothing left afterwards. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import * as ChildProcess from "node:child_process"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { Client, Codec, Connection, ConnectionError, Heartbeat, type Policy, Protocol } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { bundled } from "../cli/support/bundle.ts"
import { freePort } from "../support/freePort.ts"
import { long, often } from "../support/often.ts"
import { certificate, portOf, serve, tempDir, until } from "./support/kit.ts"

const host = "127.0.0.1"
const root = fileURLToPath(new URL("../..", import.meta.url))

const quick = {
  open: "2 seconds",
  handshake: "300 millis",
  pingEvery: "50 millis",
  pingJitter: 0,
  halfClose: 0,
  drain: "500 millis",
  retryBase: "20 millis",
  retryCap: "100 millis"
} as const satisfies Policy.Patch

type Open = (socket: Socket.Socket) => Effect.Effect<
  Connection.Connection<string>,
  ConnectionError.ConnectionError,
  Scope.Scope
>

const lines = (policy: Policy.Patch = quick): Open =>
  Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong"), policy })
const native = (policy: Policy.Patch = quick): Open => Protocol.client({ codec: Codec.lines(), policy })

const connect = (url: string, open: Open, dial: Dialer.DialOptions = {}) =>
  Client.make(Effect.flatMap(Effect.orDie(Dialer.make(url, dial)), open), { policy: quick })

// ---------------------------------------------------------------------------------------------------------------------
// what is left
// ---------------------------------------------------------------------------------------------------------------------

/** What keeps this process alive, or would wake it: sockets, timers, children. */
const resources = (): ReadonlyArray<string> =>
  process.getActiveResourcesInfo().filter((name) => name !== "TTYWrap").toSorted()

/** Runs something, and waits until no more resources are there than before. */
const leavingNothing = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const before = resources()
    const result = yield* Effect.scoped(effect)
    // until() itself has a timer when it looks again, and none at its first look
    const extra = () => {
      const left = [...before]
      return resources().filter((name) => {
        const index = left.indexOf(name)
        if (index >= 0) left.splice(index, 1)
        return index < 0
      })
    }
    yield* until("nothing is left", () => extra().length === 0).pipe(
      Effect.catchDefect(() => Effect.die(new Error(`left behind: ${extra().join(", ")}`)))
    )
    return result
  })

// ---------------------------------------------------------------------------------------------------------------------
// the real server, in a process of its own
// ---------------------------------------------------------------------------------------------------------------------

interface Child {
  readonly process: ChildProcess.ChildProcess
  readonly stdout: () => string
  readonly exited: () => boolean
}

const spawn = (
  command: string,
  args: ReadonlyArray<string>,
  input?: "pipe"
): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = ChildProcess.spawn(command, args, {
        cwd: root,
        env: { ...process.env, NODE_OPTIONS: "", NO_COLOR: "1" },
        stdio: [input ?? "ignore", "pipe", "ignore"]
      })
      let stdout = ""
      let exited = false
      child.stdout!.setEncoding("utf8").on("data", (text: string) => {
        stdout += text
      })
      child.on("error", () => {
        exited = true
      })
      child.on("close", () => {
        exited = true
      })
      return { process: child, stdout: () => stdout, exited: () => exited }
    }),
    (child) => kill(child)
  )

const kill = (child: Child): Effect.Effect<void> =>
  Effect.andThen(
    Effect.sync(() => {
      if (!child.exited()) child.process.kill("SIGKILL")
    }),
    until("the end of a child", child.exited)
  )

const holdfast = (port: number, ...flags: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const child = yield* spawn(process.execPath, [
      bundled,
      "serve",
      "--no-admin",
      "--listen",
      `tcp://${host}:${port}`,
      ...flags
    ])
    yield* until("the server listens", () => child.stdout().includes("listening") || child.exited(), 30_000)
    assert.isFalse(child.exited(), "the server started")
    return child
  })

describe("a server that is killed with SIGKILL under traffic, and started again", () => {
  for (
    const [protocol, open, kills] of [["lines", lines(), often(5, 12)], ["native", native(), often(5, 12)]] as const
  ) {
    it.live(
      `${protocol}: ${kills} times; the client ends connected and no echo is lost, doubled or out of order`,
      () =>
        leavingNothing(Effect.gen(function*() {
          const port = yield* Effect.promise(freePort)
          let server = yield* holdfast(port, "--protocol", protocol)
          const client = yield* connect(`tcp://${host}:${port}`, open)
          let connections = 0
          let flushed = 0
          const told: Array<number> = []
          const answered = new Set<number>()
          yield* Effect.forkScoped(Stream.runForEach(client.changes, ({ _tag }) =>
            Effect.sync(() => {
              if (_tag === "Connected") connections++
            })))
          // numbers in order, each sent once; its echo is the acknowledgement
          const sender = yield* Effect.forkScoped(Effect.gen(function*() {
            for (let n = 0;; n++) {
              yield* client.send(String(n))
              if ((yield* Effect.exit(client.flush))._tag === "Success") flushed++
              yield* Effect.sleep(1)
            }
          }))
          yield* Effect.forkScoped(Effect.forever(Effect.map(client.receive, (text) => {
            told.push(Number(text))
            answered.add(connections)
          })))
          const progress = (what: string) => {
            const since = told.length
            return until(what, () => told.length >= since + 20, 30_000)
          }
          for (let n = 0; n < kills; n++) {
            yield* progress(`echoes before kill ${n + 1}`)
            yield* kill(server)
            server = yield* holdfast(port, "--protocol", protocol)
          }
          yield* progress("echoes after the last restart")
          yield* Fiber.interrupt(sender)
          assert.strictEqual((yield* client.state)._tag, "Connected")
          // a process that dies lets go of its connections before its listening socket: one that comes back at once is accepted, and reset
          assert.strictEqual(answered.size, kills + 1)
          assert.isAtMost(connections, 2 * kills + 1)
          // at most once and in order; a kill may lose what was on its way, and nothing else is missing
          let gaps = told[0] === 0 ? 0 : 1
          for (let i = 1; i < told.length; i++) {
            assert.isAbove(told[i]!, told[i - 1]!)
            if (told[i] !== told[i - 1]! + 1) gaps++
          }
          assert.isAtMost(gaps, kills)
          assert.isAtLeast(flushed, told.length - 1)
          yield* client.close
        })),
      long(300_000)
    )
  }
})

describe("every transport comes back", () => {
  for (const scheme of ["tcp", "tls", "unix", "ws"] as const) {
    it.live(scheme, () =>
      leavingNothing(Effect.gen(function*() {
        const url = scheme === "unix" ? `unix://${yield* tempDir}/app.sock` : `${scheme}://${host}:0`
        const listener = yield* Listener.make(url, {
          linger: "100 millis",
          ...(scheme === "tls" ? certificate() : {})
        })
        const served = yield* serve(listener, { codec: Codec.lines(), policy: quick })
        const client = yield* connect(listener.url, lines({ ...quick, pingEvery: 0 }), {
          linger: "100 millis",
          ...(scheme === "tls" ? { ca: certificate().cert } : {})
        })
        for (let round = 0; round < 3; round++) {
          yield* client.send(`hello ${round}`)
          assert.strictEqual(yield* client.receive, `hello ${round}`)
          assert.strictEqual(served.connections.length, round + 1)
          const connection = served.connections[round]!
          yield* connection.closeWith(new ConnectionError.GoingAway({}))
          yield* until("the client is back", () => served.connections.length === round + 2)
        }
        yield* client.close
      })))
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// peers that are none of ours
// ---------------------------------------------------------------------------------------------------------------------

const listening = (onConnection: (conn: Net.Socket) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() =>
        new Promise<{ server: Net.Server; conns: Set<Net.Socket> }>((resolve) => {
          const conns = new Set<Net.Socket>()
          const server = Net.createServer((conn) => {
            conns.add(conn)
            conn.on("error", () => {})
            onConnection(conn)
          })
          server.listen(0, host, () => resolve({ server, conns }))
        })
      ),
      ({ conns, server }) =>
        Effect.promise(() =>
          new Promise<void>((resolve) => {
            for (const conn of conns) conn.destroy()
            server.close(() => resolve())
          })
        )
    ),
    ({ server }) => `tcp://${host}:${(server.address() as Net.AddressInfo).port}`
  )

/** The first state after which the client waits or is closed. */
const verdict = <A>(client: Client.Client<A>) =>
  Effect.map(
    Stream.runHead(Stream.filter(client.changes, ({ _tag }) => _tag === "Waiting" || _tag === "Closed")),
    (state) => {
      assert.ok(state._tag === "Some" && (state.value._tag === "Waiting" || state.value._tag === "Closed"))
      return [state.value._tag, state.value.error.reason._tag] as const
    }
  )

describe("a peer that is none of ours: the state and the reason say which", () => {
  const silent = (conn: Net.Socket) => void conn.resume()
  const shut = (conn: Net.Socket) => void conn.resume().end()
  const cut = (conn: Net.Socket) => void conn.resetAndDestroy()
  const binary = (conn: Net.Socket) => void conn.resume().write(Uint8Array.of(0xff, 0xfe, 0x0a, 1, 2, 3, 10))
  const http = (conn: Net.Socket) => void conn.resume().write("HTTP/1.1 400 Bad Request\r\n\r\n")
  const impatient = { ...quick, silence: "200 millis" } as const
  const cases: ReadonlyArray<
    readonly [what: string, how: (conn: Net.Socket) => void, Open, expected: readonly [string, ReadonlyArray<string>]]
  > = [
    ["says nothing (lines)", silent, lines(impatient), ["Waiting", ["SilenceTimeout"]]],
    ["says nothing (native)", silent, native(), ["Waiting", ["HandshakeTimeout"]]],
    ["closes at once (lines)", shut, lines(), ["Waiting", ["Closed"]]],
    ["closes at once (native)", shut, native(), ["Waiting", ["Closed"]]],
    // a connection may also be cut while it opens
    ["resets at once (native)", cut, native(), ["Waiting", ["Reset", "OpenFailed"]]],
    ["sends garbage (lines)", binary, lines(), ["Closed", ["InvalidMessage"]]],
    ["sends garbage (native)", binary, native(), ["Closed", ["FrameTooLong"]]],
    ["speaks HTTP (native)", http, native(), ["Closed", ["FrameTooLong"]]]
  ]
  for (const [what, how, open, [state, reasons]] of cases) {
    it.live(what, () =>
      leavingNothing(Effect.gen(function*() {
        const client = yield* connect(yield* listening(how), open)
        const [tag, reason] = yield* verdict(client)
        assert.strictEqual(tag, state)
        assert.include(reasons, reason)
        yield* client.close
      })))
  }

  it.live("B79 one that accepts and closes is not dialled in a hot loop", () =>
    leavingNothing(Effect.gen(function*() {
      let dials = 0
      const url = yield* listening((conn) => {
        dials++
        shut(conn)
      })
      const client = yield* connect(url, lines())
      const delays = yield* Stream.runCollect(Stream.take(
        Stream.filter(client.changes, (state) => state._tag === "Waiting"),
        4
      ))
      assert.deepStrictEqual(delays.map((state) => state._tag === "Waiting" ? state.attempt : 0), [2, 3, 4, 5])
      for (const [i, state] of delays.entries()) {
        assert.isAtMost(state._tag === "Waiting" ? Duration.toMillis(state.delay) : 0, 20 * 2 ** i)
      }
      assert.isAtLeast(dials, 4)
      yield* client.close
    })))

  const nc = ChildProcess.spawnSync("nc", ["-h"], { encoding: "utf8" })
  it.live.skipIf(nc.error !== undefined || !/OpenBSD/.test(nc.stdout + nc.stderr))(
    "nc -l, which says nothing",
    () =>
      leavingNothing(Effect.gen(function*() {
        const port = yield* Effect.promise(freePort)
        yield* spawn("nc", ["-l", host, String(port)], "pipe")
        const client = yield* connect(`tcp://${host}:${port}`, native())
        const reasons = yield* Stream.runCollect(client.changes.pipe(
          Stream.filter((state) => state._tag === "Waiting"),
          Stream.map((state) => state._tag === "Waiting" ? state.error.reason._tag : ""),
          // nc takes a moment to listen
          Stream.dropWhile((reason) => reason === "OpenFailed"),
          Stream.take(1)
        ))
        assert.deepStrictEqual(reasons, ["HandshakeTimeout"])
        yield* client.close
      }))
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// a client that is none of ours
// ---------------------------------------------------------------------------------------------------------------------

const python = ["python3", "python"].find((name) => ChildProcess.spawnSync(name, ["-c", ""]).status === 0)

describe.skipIf(python === undefined)("a client of the native protocol in Python, from its documentation", () => {
  const program = "test/integration/support/native_client.py"
  const nativeServer = Effect.gen(function*() {
    const listener = yield* Listener.make(`tcp://${host}:0`)
    return { listener, connections: [] as Array<Connection.Connection<string>> }
  })
  const run = (lowest: number, highest: number) =>
    Effect.gen(function*() {
      const { connections, listener } = yield* nativeServer
      const open = Protocol.server({
        codec: Codec.lines(),
        policy: { ...quick, acceptRate: 10, pingEvery: "30 millis", pingWhen: "always", minPingEvery: "1 second" }
      })
      const reasons: Array<string> = []
      yield* Effect.forkScoped(listener.run((socket) =>
        Effect.scoped(Effect.gen(function*() {
          const connection = yield* open(socket)
          connections.push(connection)
          while (true) yield* connection.sendAll(yield* connection.receiveAll)
        })).pipe(Effect.catch((error) => Effect.sync(() => void reasons.push(error.reason._tag))))
      ))
      const child = yield* spawn(
        python!,
        [program, host, String(portOf(listener)), String(lowest), String(highest)],
        "pipe"
      )
      const says = (line: string) => until(`"${line}"`, () => child.stdout().split("\n").includes(line), 15_000)
      return { child, connections, reasons, says, write: (text: string) => child.process.stdin!.write(text) }
    })

  it.live(
    "greets, is echoed, answers pings, and is told why it is closed",
    () =>
      leavingNothing(Effect.gen(function*() {
        const { child, connections, reasons, says, write } = yield* run(1, 7)
        yield* says("welcome 1 25000 1000 0 100")
        write("hello\nwörld\n")
        yield* says("data hello")
        yield* says("data wörld")
        yield* says("ping 2")
        yield* until("a pong came back", () => Effect.runSync(connections[0]!.snapshot).rtt !== undefined)
        yield* connections[0]!.drainWith(new ConnectionError.GoingAway({}))
        yield* says("away 0 100 this end is shutting down")
        yield* says("close 1 1 0 100 this end is shutting down")
        yield* says("end")
        yield* until("it ends", child.exited)
        assert.deepStrictEqual(reasons, ["GoingAway"])
      })),
    30_000
  )

  it.live("is superseded", () =>
    leavingNothing(Effect.gen(function*() {
      const { connections, says } = yield* run(1, 1)
      yield* says("ping 1")
      yield* connections[0]!.closeWith(new ConnectionError.Superseded({ key: "ada" }))
      yield* says("close 5 0 0 100 ada")
      yield* says("end")
    })), 30_000)

  it.live("speaks another version", () =>
    leavingNothing(Effect.gen(function*() {
      const { reasons, says } = yield* run(2, 3)
      yield* says("close 2 0 0 0 1-1")
      yield* says("end")
      assert.deepStrictEqual(reasons, ["UnsupportedVersion"])
    })), 30_000)

  it.live("closes, and the server knows", () =>
    leavingNothing(Effect.gen(function*() {
      const { reasons, says, write } = yield* run(1, 1)
      yield* says("ping 1")
      write("quit\n")
      yield* says("end")
      assert.deepStrictEqual(reasons, ["Closed"])
    })), 30_000)

  it.live("breaks the protocol, and is told how", () =>
    leavingNothing(Effect.gen(function*() {
      const { reasons, says, write } = yield* run(1, 1)
      yield* says("ping 1")
      write(`${"x".repeat(1024 * 1024 + 1)}\n`)
      yield* says("close 3 0 0 100 a frame of 1048578 bytes is over the limit of 1048577 bytes")
      assert.deepStrictEqual(reasons, ["FrameTooLong"])
    })), 30_000)
})
