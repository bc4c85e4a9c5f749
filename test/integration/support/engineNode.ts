/** A node of a fleet in a process of its own: holds a key, renews its lease, and says what becomes of it. */
import * as Effect from "effect/Effect"
import { NatsBackplane } from "../../../src/nats/index.ts"
import { RedisBackplane } from "../../../src/redis/index.ts"

const [name, address, lease] = process.argv.slice(2) as [string, string, string]

const program = Effect.gen(function*() {
  const engine = yield* name === "redis"
    ? RedisBackplane.make({ url: `redis://${address}` })
    : NatsBackplane.make({ servers: address })
  const session = yield* engine.join({ node: "child", lease: Number(lease) })
  yield* session.claim("key")
  console.log("joined")
  while (true) {
    yield* Effect.sleep(Number(lease) / 5)
    yield* session.renew(false)
  }
})

await Effect.runPromise(
  Effect.scoped(Effect.catch(program, (error) => Effect.sync(() => console.log(error.reason))))
)
