/**
 * NATS as the engine of a `Fleet`: nodes on many machines that share a NATS server, or a cluster of them, are one fleet.
 *
 * Needs the packages `@nats-io/transport-node` and `@nats-io/kv` beside this one, and a server of at least version 2.9 with
 * JetStream (`nats-server -js`).
 *
 * @since 0.1.0
 */
import type { NodeConnectionOptions } from "@nats-io/transport-node"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Backplane from "../Backplane.ts"
import { atLeast } from "../internal/arguments/atLeast.ts"
import { clientOf } from "./internal/dial.ts"
import { join, type Shared } from "./internal/session.ts"

/**
 * Where NATS is, and how it is used.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * `nats://[[user][:password]@][host][:port]`, or `tls://...` for a server that speaks TLS; a user without a password is a token.
   * Several are servers of one cluster: one of them is dialled, and where it is not there another one. Default
   * `nats://localhost:4222`.
   */
  readonly servers?: string | ReadonlyArray<string> | undefined
  /**
   * Options of the client: credentials (`user`, `pass`, `token`, `authenticator`) and TLS (`tls: { ca, cert, key }`). It is told
   * not to connect again by itself.
   */
  readonly client?: Omit<NodeConnectionOptions, "servers" | "port" | "reconnect" | "timeout"> | undefined
  /**
   * What the names of its subjects and buckets begin with: fleets with different ones do not know of each other. Default
   * `holdfast`.
   */
  readonly prefix?: string | undefined
  /** Whether the buckets outlive a restart of the server. Default `file`: they do. */
  readonly storage?: "file" | "memory" | undefined
  /** How many servers of a cluster have the buckets: 1, 3 or 5. Default 1. Counts when the buckets are made. */
  readonly replicas?: number | undefined
  /**
   * How long a connection may take to open, and how long it may leave a question without an answer before it counts as cut.
   * Default 5 seconds.
   */
  readonly timeout?: Duration.Input | undefined
  /** The largest batch, in bytes. Never more than `max_payload` of the server. Default 1 MiB, which is also NATS's. */
  readonly largest?: number | undefined
}

/**
 * Makes an engine out of a NATS server. It connects when a fleet joins.
 *
 * **When to use**
 *
 * Where NATS runs already, or where nothing does yet: of the two engines it answers in less time for less work.
 *
 * **Details**
 *
 * - Each node has one connection and one subject. There are three buckets: `<prefix>_directory`, whose revisions are the tokens,
 *   `<prefix>_leases`, whose maximum age is the lease, and `<prefix>_gone`, which has the newest login of each key that was given
 *   back, for a hundred leases. All nodes follow the leases.
 * - A claim is an update at the revision that was read, tried again where another one came first.
 * - A node for whose subject nobody has subscribed is told by the server (`no responders`): `publish` gives `nobody`.
 * - A connection that was cut is replaced once, at once: the inbox has a gap then, whose size is not known. When that fails, the
 *   fleet joins again by its own policy.
 * - The epoch begins when the bucket of the directory was made, and again where the server has less than a node has seen.
 * - The user of the server needs to publish to `<prefix>.to.>`, `$KV.<prefix>_directory.>`, `$KV.<prefix>_leases.>`, `$KV.<prefix>_gone.>`
 *   and `$JS.API.>`, and to subscribe to `<prefix>.to.>` and `_INBOX.>`.
 *
 * **Gotchas**
 *
 * - All nodes of a fleet have the same lease: the bucket has one maximum age, that of the node that joined last.
 * - In a cluster of servers, `replicas: 3` keeps the directory when one is lost. With 1, no node can claim while that one is
 *   away; messages still go.
 * - `storage: "memory"` with one replica forgets all when its server restarts: a new epoch.
 *
 * **Example** (Three servers with a user and TLS)
 *
 * ```ts
 * import { NatsBackplane } from "holdfast/nats"
 *
 * const engine = NatsBackplane.layer({
 *   servers: ["tls://fleet:secret@n1.example.com", "tls://n2.example.com", "tls://n3.example.com"],
 *   replicas: 3,
 *   prefix: "chat"
 * })
 * ```
 *
 * @category engines
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Backplane.Engine> =>
  Effect.sync(() => {
    const { largest = 1_048_576, prefix = "holdfast", replicas = 1, storage = "file", timeout = "5 seconds" } = options
    if (!/^[\w-]+$/.test(prefix)) throw new RangeError("prefix must be of the characters A-Z a-z 0-9 _ -")
    atLeast(1, "largest", largest)
    const millis = Duration.toMillis(timeout)
    if (!(millis > 0)) throw new RangeError("timeout must be more than 0")
    const shared: Shared = {
      client: Effect.succeed(clientOf(options.servers, options.client)),
      prefix,
      bucket: { storage, replicas } as Shared["bucket"],
      timeout: millis,
      largest,
      epoch: 0,
      revision: 0
    }
    return {
      name: "nats",
      get largest() {
        return shared.largest
      },
      join: (joining) => join(shared, joining)
    }
  })

/**
 * Provides NATS to the fleets that are made below.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<never> => Backplane.layer(make(options))
