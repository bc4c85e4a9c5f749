/** What the engines of a fleet infer, as a user's program sees them. Only compiled: here, and against the packed package. */
import { Effect, type Layer, type Scope } from "effect"
import { Backplane } from "holdfast"
import { NatsBackplane } from "holdfast/nats"
import { RedisBackplane } from "holdfast/redis"
import { expectTypeOf } from "vitest"

expectTypeOf(RedisBackplane.make()).toEqualTypeOf<Effect.Effect<Backplane.Engine>>()
expectTypeOf(RedisBackplane.layer({ url: Effect.succeed("redis://localhost"), timeout: "2 seconds" })).toEqualTypeOf<
  Layer.Layer<never>
>()
expectTypeOf(RedisBackplane.make({ client: { socket: { tls: true, ca: "" }, password: "secret" } })).toEqualTypeOf<
  Effect.Effect<Backplane.Engine>
>()
expectTypeOf(
  Effect.flatMap(RedisBackplane.make(), (engine) => engine.join({ node: "a", lease: 10_000 }))
).toEqualTypeOf<Effect.Effect<Backplane.Session, Backplane.BackplaneError, Scope.Scope>>()
// @ts-expect-error the protocol is chosen by the engine
RedisBackplane.make({ client: { RESP: 2 } })

export const layer = Backplane.layer(RedisBackplane.make())

expectTypeOf(NatsBackplane.make()).toEqualTypeOf<Effect.Effect<Backplane.Engine>>()
expectTypeOf(NatsBackplane.layer({ servers: ["nats://a", "tls://b"], client: { tls: { ca: "" } }, replicas: 3 }))
  .toEqualTypeOf<Layer.Layer<never>>()
// @ts-expect-error a fleet joins again by its own policy
NatsBackplane.make({ client: { reconnect: true } })
