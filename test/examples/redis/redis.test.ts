/** The Redis client against a real Redis, where the machine has one, and against a tiny fake. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Fiber, Layer, Result, type Scope } from "effect"
import { SocketServer } from "effect/socket"
import { Codec, Connection, Server } from "holdfast"
import { Resp } from "holdfast/codecs"
import { Listener } from "holdfast/node"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { existsSync } from "node:fs"
import { tempDir, until } from "../../integration/support/kit.ts"
import { type Failure, Pool, Redis } from "./redis.ts"

/** A Redis somewhere. `restart` brings it back after the command SHUTDOWN. */
interface Backend {
  readonly url: string
  readonly restart: Effect.Effect<void>
}

const resp = Resp.make()

/** A command has the form of a reply; what this end writes is the text of a reply. */
const fakeCodec = Codec.make<Resp.Reply, string>({
  framing: resp.framing,
  payload: { form: "text", content: "text", decode: resp.payload.decode, encode: Result.succeed }
})

const fake: Effect.Effect<Backend, unknown, Scope.Scope> = Effect.gen(function*() {
  const values = new Map<string, string>()
  const answer = ([name, key, value]: ReadonlyArray<string>): string => {
    switch (name) {
      case "GET":
        return values.has(key) ? `$${values.get(key)!.length}\r\n${values.get(key)}\r\n` : "$-1\r\n"
      case "SET":
        values.set(key, value)
        return "+OK\r\n"
      case "INCR":
        if (Number.isNaN(Number(values.get(key) ?? 0))) return "-ERR value is not an integer or out of range\r\n"
        values.set(key, `${Number(values.get(key) ?? 0) + 1}`)
        return `:${values.get(key)}\r\n`
      default:
        return `-ERR unknown command '${name}'\r\n`
    }
  }
  const listener = yield* Listener.make("tcp://127.0.0.1:0")
  yield* Effect.forkScoped(
    Server.run({
      open: Connection.make({ codec: fakeCodec, policy: { halfClose: 0, drain: 0 } }),
      handle: (connection) =>
        Effect.gen(function*() {
          while (true) {
            const command = (yield* connection.receive) as ReadonlyArray<string>
            if (command[0] === "BLPOP") return yield* Effect.never
            if (command[0] === "SHUTDOWN") return
            yield* connection.send(answer(command))
          }
        })
    }).pipe(Effect.provideService(SocketServer.SocketServer, listener))
  )
  return { url: listener.url, restart: Effect.void }
})

const real: Effect.Effect<Backend, unknown, Scope.Scope> = Effect.gen(function*() {
  const dir = yield* tempDir
  const path = `${dir}/redis.sock`
  const args = ["--port", "0", "--unixsocket", path, "--dir", dir, "--save", "", "--appendonly", "no"]
  let child: ReturnType<typeof spawn>
  const restart = Effect.suspend(() => {
    child = spawn("redis-server", args, { stdio: "ignore" })
    return until("redis-server listens", () => existsSync(path))
  })
  yield* Effect.acquireRelease(restart, () =>
    Effect.promise(async () => {
      if (child.exitCode !== null) return
      child.kill("SIGKILL")
      await once(child, "exit")
    }))
  return { url: `unix://${path}`, restart: Effect.andThen(until("it is gone", () => child.exitCode !== null), restart) }
})

const withRedis = <A, E>(
  backend: Effect.Effect<Backend, unknown, Scope.Scope>,
  test: (redis: Redis["Service"], backend: Backend) => Effect.Effect<A, E, Pool | Scope.Scope>
) =>
  Effect.gen(function*() {
    const started = yield* backend
    const env = ConfigProvider.layer(ConfigProvider.fromUnknown({ REDIS_URL: started.url }))
    const layer = Redis.layer.pipe(Layer.provideMerge(Pool.layer), Layer.provide(env))
    return yield* Effect.provide(Effect.flatMap(Redis, (redis) => test(redis, started)), layer)
  })

const tagOf = (failure: Failure) => failure._tag === "RedisError" ? failure._tag : failure.reason._tag

const isInstalled = spawnSync("redis-server", ["--version"]).status === 0

const backends = [["a fake", fake] as const, ...(isInstalled ? [["a real Redis", real] as const] : [])]

describe.each(backends)("the Redis client, against %s", (_, backend) => {
  it.live("reads and writes, a thousand commands at a time over four connections", () =>
    withRedis(backend, (redis) =>
      Effect.gen(function*() {
        assert.isUndefined(yield* redis.get("greeting"))
        yield* redis.set("greeting", "hello")
        assert.strictEqual(yield* redis.get("greeting"), "hello")
        const counts = yield* Effect.all(Array.from({ length: 1000 }, () => redis.increment("count")), {
          concurrency: "unbounded"
        })
        assert.strictEqual(new Set(counts).size, 1000)
        const { open } = yield* Pool.use((pool) => pool.stats)
        assert.isAtMost(open, 4)
      })))

  it.live("tells what Redis refuses, and the connection goes on", () =>
    withRedis(backend, (redis) =>
      Effect.gen(function*() {
        yield* redis.set("greeting", "hello")
        const refused = yield* Effect.flip(redis.increment("greeting"))
        assert.strictEqual(tagOf(refused), "RedisError")
        assert.include(refused.message, "not an integer")
        assert.strictEqual(yield* redis.get("greeting"), "hello")
        assert.strictEqual((yield* Pool.use((pool) => pool.stats)).dials, 1)
      })))

  it.live("says of a command whether Redis may have seen it, and is there again after a restart", () =>
    withRedis(backend, (redis, { restart }) =>
      Effect.gen(function*() {
        const blocked = yield* Effect.flip(redis.command(["BLPOP", "empty", "0"], { deadline: "100 millis" }))
        assert.strictEqual(tagOf(blocked), "RequestTimeout")
        // all three on their way over one connection
        const [stopped, counted, asked] = [
          yield* Effect.forkChild(Effect.flip(redis.command(["SHUTDOWN", "NOSAVE"])), { startImmediately: true }),
          yield* Effect.forkChild(Effect.flip(redis.increment("count")), { startImmediately: true }),
          yield* Effect.forkChild(redis.get("greeting"), { startImmediately: true })
        ]
        yield* restart
        assert.strictEqual(tagOf(yield* Fiber.join(stopped)), "OutcomeUnknown")
        assert.strictEqual(tagOf(yield* Fiber.join(counted)), "OutcomeUnknown")
        assert.isUndefined(yield* Fiber.join(asked))
      })))

  it.live("makes callers wait in a line with an end", () =>
    withRedis(backend, (redis) =>
      Effect.gen(function*() {
        const pool = yield* Pool
        yield* pool.patch({ acquire: "50 millis" })
        for (let i = 0; i < 4; i++) yield* pool.get
        assert.strictEqual(tagOf(yield* Effect.flip(redis.get("greeting"))), "AcquireTimeout")
        yield* pool.patch({ waiters: 0 })
        assert.strictEqual(tagOf(yield* Effect.flip(redis.get("greeting"))), "PoolFull")
      }).pipe(Effect.scoped)))
})
