/** The Redis client as a program: it counts over a pool, while its Redis is restarted every 5 s. */
import { ConfigProvider, Console, Effect, Layer, Schedule } from "effect"
import { run } from "../support/run.ts"
import { backend, installed, started, temporary } from "../support/servers.ts"
import { Pool, Redis } from "./redis.ts"

/** The Redis of `REDIS_URL`, or one of our own, on a socket file. */
const redisServer = backend(
  "REDIS_URL",
  Effect.gen(function*() {
    const path = yield* installed("redis-server", "redis-server", ". Or set REDIS_URL=tcp://HOST:6379")
    const folder = yield* temporary
    const socket = `${folder}/redis.sock`
    const args = ["--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", "--appendonly", "no"]
    return { url: `unix://${socket}`, server: started(path, args, [socket]) }
  })
)

const counting = Effect.gen(function*() {
  const redis = yield* Redis
  const pool = yield* Pool
  const failures = new Map<string, number>()
  let answered = 0

  // 200 fibers share four connections
  const count = redis.increment("count").pipe(
    Effect.tap(() => Effect.sync(() => answered++)),
    Effect.catch((error) => {
      const tag = error._tag === "RedisError" ? error.message : error.reason._tag
      failures.set(tag, (failures.get(tag) ?? 0) + 1)
      return Effect.void
    }),
    Effect.andThen(Effect.sleep("20 millis"))
  )
  yield* Effect.forkScoped(Effect.forEach(Array.from({ length: 200 }), () => Effect.forever(count), {
    concurrency: "unbounded",
    discard: true
  }))

  let before = 0
  const line = Effect.gen(function*() {
    const { dials, inUse, open } = yield* pool.stats
    const failed = Array.from(failures, ([tag, times]) => `${tag} ${times}`).join(", ") || "none"
    yield* Console.log(
      `${
        answered - before
      } answers in a second, ${open} connections (${inUse} in use, ${dials} dials), failures: ${failed}`
    )
    before = answered
  })
  yield* Effect.repeat(Effect.delay(line, "1 second"), Schedule.forever)
})

const program = Effect.gen(function*() {
  const { restarting, url } = yield* redisServer
  yield* Console.log(`a Redis on ${url}, 200 fibers, 4 connections\nCtrl-C stops it.`)
  const env = ConfigProvider.layer(ConfigProvider.fromUnknown({ REDIS_URL: url }))
  const redis = Redis.layer.pipe(Layer.provideMerge(Pool.layer), Layer.provide(env))
  yield* Effect.raceFirst(restarting, Effect.scoped(counting)).pipe(Effect.provide(redis))
})

run(Effect.scoped(program))
