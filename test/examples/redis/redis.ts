/**
 * A Redis client: commands are pipelined over a pool of connections, and everything that can go wrong is a typed failure.
 *
 * What it shows: a ready codec (`Resp`), a pool with bounded waiting and health checks, requests with deadlines and retries, an
 * error of the application beside the error of the connection, and all of it as layers.
 */
import { Config, Context, Effect, Layer, Schema } from "effect"
import { Backoff, Connection, type ConnectionError, ConnectionPool, Request } from "holdfast"
import { Resp } from "holdfast/codecs"
import { Dialer } from "holdfast/node"

type Reply = Resp.Reply
type Command = Resp.Command

/** What a connection that was idle for long does before it is lent. */
export const ping = (connection: Connection.Connection<Reply, Command>): Effect.Effect<void, unknown> =>
  Effect.andThen(connection.send(["PING"]), connection.receive).pipe(
    Effect.filterOrFail((reply) => reply === "PONG", (reply) => `not a pong: ${String(reply)}`),
    Effect.asVoid
  )

/** Redis understood the command and refused it: a wrong type, an unknown command, out of memory. */
export class RedisError extends Schema.TaggedError<RedisError>()("RedisError", {
  command: Schema.String,
  message: Schema.String
}) {}

/** The connections: at most 4, and callers wait for one in a line of at most 1000, for at most 2 seconds. */
export class Pool extends Context.Service<Pool, ConnectionPool.ConnectionPool<Reply, Command>>()("redis/Pool") {
  static readonly layer = Layer.unwrap(Effect.gen(function*() {
    const url = yield* Config.String("REDIS_URL").pipe(Config.withDefault("tcp://127.0.0.1:6379"))
    // a URL that makes no sense is told here, and not at every dial
    yield* Dialer.make(url)
    const dial = Effect.orDie(Dialer.make(url))
    return ConnectionPool.layer(Pool, Effect.flatMap(dial, Connection.make({ codec: Resp.make() })), {
      max: 4,
      acquire: "2 seconds",
      waiters: 1000,
      // a connection that was idle for 30 s shows that it works before it is lent
      check: ping,
      // a Redis that restarts is back in a second or two
      retry: Backoff.exponential({ base: "50 millis", cap: "500 millis", attempts: 5 })
    })
  }))
}

/** What Redis refused, or why there is no answer. */
export type Failure = RedisError | ConnectionError.ConnectionError

/** What the program calls. */
export class Redis extends Context.Service<Redis, {
  readonly command: (command: Command, terms?: Request.Terms) => Effect.Effect<Exclude<Reply, Resp.Refusal>, Failure>
  readonly get: (key: string) => Effect.Effect<string | undefined, Failure>
  readonly set: (key: string, value: string) => Effect.Effect<void, Failure>
  readonly increment: (key: string) => Effect.Effect<number, Failure>
}>()("redis/Redis") {
  static readonly layer = Layer.effect(
    Redis,
    Effect.gen(function*() {
      const pool = yield* Pool
      // up to 32 commands on their way over each connection; 5 s for the answer, waiting for a connection included
      const requests = yield* Request.make(pool.get, { inFlight: 32, connections: 4, deadline: "5 seconds" })
      const command = Effect.fnUntraced(function*(command: Command, terms?: Request.Terms) {
        const reply = yield* requests.request(command, terms)
        if (reply instanceof Resp.Refusal) {
          return yield* new RedisError({ command: String(command[0]), message: reply.message })
        }
        return reply
      })
      // to ask or to set twice is as good as once, so it is sent again when its connection ends; to count is not
      const idempotent = { idempotent: true }
      return {
        command,
        get: (key) =>
          Effect.map(command(["GET", key], idempotent), (reply) => reply === null ? undefined : String(reply)),
        set: (key, value) => Effect.asVoid(command(["SET", key, value], idempotent)),
        increment: (key) => Effect.map(command(["INCR", key]), Number)
      }
    })
  )
}
