/** Redis and NATS as engines of a fleet, while they, or nodes, are killed, frozen, silent, or come back empty. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import type { Backplane } from "../../src/index.ts"
import { NatsBackplane } from "../../src/nats/index.ts"
import { RedisBackplane } from "../../src/redis/index.ts"
import { freePort } from "../support/freePort.ts"
import { isLong, long } from "../support/often.ts"
import { type Daemon, daemon, installed, natsServer, redisServer } from "./support/engines.ts"
import { eventually, publish, received } from "./support/engineTable.ts"
import { certificate, tempDir, until } from "./support/kit.ts"

interface Kind {
  readonly program: string
  readonly server: Effect.Effect<Daemon, never, Scope.Scope>
  /** A server that takes no batch of more than a mebibyte. */
  readonly narrow: Effect.Effect<Daemon, never, Scope.Scope>
  readonly locked: Effect.Effect<Daemon, never, Scope.Scope>
  readonly make: (port: number, more?: { readonly largest?: number; readonly secret?: string }) => Effect.Effect<
    Backplane.Engine
  >
}

const kinds: Record<string, Kind> = {
  redis: {
    program: "redis-server",
    server: redisServer(),
    narrow: redisServer("--proto-max-bulk-len", "1mb"),
    locked: redisServer("--requirepass", "secret"),
    make: (port, { largest, secret = "" } = {}) =>
      RedisBackplane.make({
        url: `redis://${secret === "" ? "" : `:${secret}@`}127.0.0.1:${port}`,
        timeout: 1000,
        largest
      })
  },
  nats: {
    program: "nats-server",
    server: natsServer(),
    narrow: daemon("nats-server", (port, dir) => {
      Fs.writeFileSync(`${dir}/nats.conf`, "max_payload: 1048576\njetstream { max_mem: 64MB, max_file: 64MB }\n")
      return ["-a", "127.0.0.1", "-p", `${port}`, "-c", `${dir}/nats.conf`, "-sd", dir]
    }),
    locked: natsServer("--user", "fleet", "--pass", "secret"),
    make: (port, { largest, secret = "" } = {}) =>
      NatsBackplane.make({
        servers: `nats://${secret === "" ? "" : `fleet:${secret}@`}127.0.0.1:${port}`,
        timeout: 1000,
        largest
      })
  }
}

const slow = (title: string, program: string, run: () => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live.skipIf(installed(program) === undefined)(title, run, long(60_000))

const lease = 1500

/** Renews until it is told that there is nothing to renew. */
const renewing = (session: Backplane.Session) =>
  Effect.forkChild(Effect.forever(Effect.andThen(Effect.sleep(lease / 5), session.renew(false))))

const failing = <A>(effect: Effect.Effect<A, Backplane.BackplaneError>) =>
  Effect.match(effect, { onFailure: ({ reason }) => reason, onSuccess: () => "nothing failed" })

const bounded = <A, E, R>(effect: Effect.Effect<A, E, R>, millis: number) =>
  Effect.gen(function*() {
    const began = performance.now()
    const exit = yield* Effect.exit(Effect.timeout(effect, millis * 4))
    const took = performance.now() - began
    assert.isBelow(took, millis, JSON.stringify(exit))
    return yield* exit
  })

/** A node in a process of its own, which has joined. */
const child = (name: string, port: number) =>
  Effect.gen(function*() {
    const path = fileURLToPath(new URL("support/engineNode.ts", import.meta.url))
    const process_ = yield* Effect.acquireRelease(
      Effect.sync(() =>
        ChildProcess.spawn(
          process.execPath,
          ["--conditions=holdfast-source", path, name, `127.0.0.1:${port}`, `${lease}`],
          { stdio: ["ignore", "pipe", "inherit"] }
        )
      ),
      (process_) => Effect.sync(() => process_.kill("SIGKILL"))
    )
    let said = ""
    process_.stdout.setEncoding("utf8").on("data", (text: string) => said += text)
    yield* until("the child joins", () => said.includes("joined"), 20_000)
    return { process: process_, said: () => said }
  })

for (const [name, kind] of Object.entries(kinds)) {
  describe.runIf(isLong)(`faults of the engine (${name}; skipped where ${kind.program} is missing)`, () => {
    slow(
      "a node that is frozen for longer than its lease has lost its keys, and is told",
      kind.program,
      () =>
        Effect.gen(function*() {
          const { port } = yield* kind.server
          const engine = yield* kind.make(port)
          const a = yield* engine.join({ node: "a", lease })
          const keeping = yield* renewing(a)
          const frozen = yield* child(name, port)
          yield* eventually(a.find("key"), (holder) => holder?.node === "child")
          const began = performance.now()
          frozen.process.kill("SIGSTOP")
          yield* eventually(a.find("key"), (holder) => holder === undefined)
          assert.isBelow(performance.now() - began, lease + 1500)
          const claim = yield* a.claim("key")
          assert(claim._tag === "Claimed")
          frozen.process.kill("SIGCONT")
          yield* until("the node is told", () => frozen.said().includes("lease"))
          assert.deepStrictEqual(yield* a.find("key"), { node: "a", token: claim.token })
          yield* Fiber.interrupt(keeping)
        })
    )

    slow(
      "a node that is killed is not published to, and its keys are free after the lease",
      kind.program,
      () =>
        Effect.gen(function*() {
          const { port } = yield* kind.server
          const engine = yield* kind.make(port)
          const a = yield* engine.join({ node: "a", lease })
          const keeping = yield* renewing(a)
          const killed = yield* child(name, port)
          assert.strictEqual(yield* publish(a, "child", "x"), "sent")
          const exited = once(killed.process, "exit")
          killed.process.kill("SIGKILL")
          yield* Effect.promise(() => exited)
          const began = performance.now()
          yield* eventually(publish(a, "child", "x"), (outcome) => outcome === "nobody")
          yield* eventually(a.find("key"), (holder) => holder === undefined)
          assert.isBelow(performance.now() - began, lease + 1500)
          const members = yield* a.nodes
          assert.deepStrictEqual(members.map(({ node }) => node), ["a"])
          yield* Fiber.interrupt(keeping)
        })
    )

    slow(
      "an engine that is killed and comes back empty has another epoch; all claim again",
      kind.program,
      () =>
        Effect.gen(function*() {
          const server = yield* kind.server
          const engine = yield* kind.make(server.port)
          const scope = yield* Scope.make()
          const a = yield* Scope.provide(engine.join({ node: "a", lease: 30_000 }), scope)
          const claim = yield* a.claim("key")
          assert(claim._tag === "Claimed")
          yield* server.kill
          assert.strictEqual(yield* bounded(failing(a.take), 3000), "unreachable")
          assert.strictEqual(yield* bounded(failing(a.renew(false)), 3000), "unreachable")
          assert.strictEqual(yield* bounded(failing(publish(a, "a", "x")), 3000), "unreachable")
          assert.strictEqual(
            yield* bounded(failing(Effect.scoped(engine.join({ node: "a", lease: 30_000 }))), 3000),
            "unreachable"
          )
          yield* Scope.close(scope, Exit.void)
          Fs.rmSync(server.dir, { recursive: true })
          Fs.mkdirSync(server.dir)
          yield* server.start
          const again = yield* engine.join({ node: "a", lease: 30_000 })
          assert.isAbove(again.epoch, a.epoch)
          assert.isBelow(again.age, 10_000)
          assert.isUndefined(yield* again.find("key"))
          assert.deepInclude(yield* again.claim("key", { as: claim.token }), { _tag: "Claimed", token: claim.token })
          yield* publish(again, "a", "back")
          assert.deepStrictEqual(yield* received(again, 1), ["back"])
        })
    )

    slow(
      "an engine that is frozen holds nothing up for longer than the timeout",
      kind.program,
      () =>
        Effect.gen(function*() {
          const server = yield* kind.server
          const engine = yield* kind.make(server.port)
          const a = yield* engine.join({ node: "a", lease: 30_000 })
          yield* Effect.addFinalizer(() => server.thaw)
          yield* server.freeze
          const told = yield* bounded(
            Effect.all([a.claim("key"), a.find("key"), a.renew(false), publish(a, "a", "x"), a.take].map(failing), {
              concurrency: "unbounded"
            }),
            3000
          )
          assert.deepStrictEqual(told, Array.from({ length: 5 }, () => "unreachable"))
          const joining = Effect.scoped(engine.join({ node: "b", lease: 30_000 }))
          assert.strictEqual(yield* bounded(failing(joining), 3000), "unreachable")
          yield* server.thaw
          const b = yield* engine.join({ node: "b", lease: 30_000 })
          // the other one is claimed by `a` or by nobody: what was asked of a frozen engine is not known
          assert.strictEqual((yield* b.claim("another"))._tag, "Claimed")
        })
    )

    slow(
      "a server that accepts and says nothing costs the timeout, and no connection stays open",
      kind.program,
      () =>
        Effect.gen(function*() {
          const sockets = new Set<Net.Socket>()
          const server = yield* Effect.acquireRelease(
            Effect.promise(async () => {
              const server = Net.createServer((socket) => {
                sockets.add(socket)
                socket.on("error", () => {}).on("close", () => sockets.delete(socket)).resume()
              })
              await once(server.listen(0, "127.0.0.1"), "listening")
              return server
            }),
            (server) => Effect.sync(() => server.close())
          )
          const engine = yield* kind.make((server.address() as Net.AddressInfo).port)
          const joining = Effect.scoped(engine.join({ node: "a", lease: 30_000 }))
          assert.strictEqual(yield* bounded(failing(joining), 3000), "unreachable")
          yield* until("the connection is closed", () => sockets.size === 0)
          // nor where it is given up in between
          const fiber = yield* Effect.forkChild(joining)
          yield* until("it is dialled", () => sockets.size === 1)
          yield* Fiber.interrupt(fiber)
          yield* until("the connection is closed", () => sockets.size === 0)
        })
    )

    slow(
      "a batch over the limit of the server fails as such, and costs nothing else",
      kind.program,
      () =>
        Effect.gen(function*() {
          const { port } = yield* kind.narrow
          const engine = yield* kind.make(port, { largest: 8 * 1_048_576 })
          const a = yield* engine.join({ node: "a", lease: 30_000 })
          assert.strictEqual(engine.largest, 1_048_576)
          assert.strictEqual(yield* failing(a.publish("a", new Uint8Array(1_048_577))), "size")
          assert.strictEqual(yield* a.publish("a", new Uint8Array(1_048_576)), "sent")
          const [first] = yield* a.take
          assert(first._tag === "Batch" && first.bytes.length === 1_048_576)
          yield* publish(a, "a", "next")
          assert.deepStrictEqual(yield* received(a, 1), ["next"])
        })
    )

    slow("a password is asked for, and a wrong one is said", kind.program, () =>
      Effect.gen(function*() {
        const { port } = yield* kind.locked
        const join = (secret: string) =>
          Effect.flatMap(kind.make(port, { secret }), (engine) =>
            Effect.scoped(engine.join({ node: "a", lease: 30_000 })))
        for (const secret of ["wrong", ""]) {
          const error = yield* Effect.flip(join(secret))
          assert.strictEqual(error.reason, "unreachable")
          assert.match(error.message, /WRONGPASS|NOAUTH|Authorization Violation/i)
        }
        assert.isAbove((yield* join("secret")).epoch, 0)
      }))
  })
}

describe.runIf(isLong)("engines over TLS", () => {
  const { cert, key } = certificate()
  const files = Effect.map(tempDir, (dir) => {
    Fs.writeFileSync(`${dir}/cert.pem`, cert)
    Fs.writeFileSync(`${dir}/key.pem`, key)
    return dir
  })

  slow("Redis", "redis-server", () =>
    Effect.gen(function*() {
      const dir = yield* files
      const port = yield* Effect.promise(freePort)
      const tls = ["--tls-cert-file", `${dir}/cert.pem`, "--tls-key-file", `${dir}/key.pem`, "--tls-auth-clients", "no"]
      yield* redisServer("--tls-port", `${port}`, "--tls-ca-cert-file", `${dir}/cert.pem`, ...tls)
      const url = `rediss://localhost:${port}`
      const engine = yield* RedisBackplane.make({ url, client: { socket: { tls: true, ca: cert } } })
      const a = yield* engine.join({ node: "a", lease: 30_000 })
      assert.strictEqual(yield* publish(a, "a", "x"), "sent")
      const strangers = yield* RedisBackplane.make({ url })
      assert.match((yield* Effect.flip(Effect.scoped(strangers.join({ node: "b", lease })))).message, /certificate/)
    }))

  slow("NATS", "nats-server", () =>
    Effect.gen(function*() {
      const dir = yield* files
      const { port } = yield* natsServer("--tls", "--tlscert", `${dir}/cert.pem`, "--tlskey", `${dir}/key.pem`)
      const servers = `tls://localhost:${port}`
      const engine = yield* NatsBackplane.make({ servers, client: { tls: { ca: cert } } })
      const a = yield* engine.join({ node: "a", lease: 30_000 })
      assert.strictEqual(yield* publish(a, "a", "x"), "sent")
      const strangers = yield* NatsBackplane.make({ servers })
      assert.match((yield* Effect.flip(Effect.scoped(strangers.join({ node: "b", lease })))).message, /certificate/)
    }))
})
