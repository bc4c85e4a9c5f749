/**
 * Looks at the connections of a running program and acts on them, over HTTP: an API with an OpenAPI document, metrics, and a page.
 *
 * For people who run the program. It listens on the loopback address and asks for a token; it is no part of what the program
 * serves, and its own connections are in no registry and no metric.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Stats as PoolStats } from "../ConnectionPool.ts"
import type { Stats as DispatcherStats } from "../Dispatcher.ts"
import { logLine } from "../internal/reasons/logs.ts"
import type { Policy } from "../Policy.ts"
import type { Registry } from "../Registry.ts"
import type { Stats as ServerStats } from "../Server.ts"
import { worker } from "./internal/addresses/worker.ts"
import { inUrl, isLoopback, makeToken } from "./internal/admin/web/guard.ts"

export {
  /**
   * The description of the API: its paths, and the schemas of what they take and answer.
   *
   * **When to use**
   *
   * For a program that uses the API: `HttpApiClient.make(Admin.Api, { baseUrl })`, with `Authorization: Bearer` on each request.
   *
   * @category models
   * @since 0.1.0
   */
  api as Api
} from "./internal/admin/api.ts"

/**
 * The admin server does not start: its address is not one of loopback and no token was given, or it cannot listen there.
 *
 * @category errors
 * @since 0.1.0
 */
export class AdminError extends Schema.TaggedError<AdminError>()("AdminError", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

/**
 * A registry of any messages and sessions, as far as it is looked at.
 *
 * @category models
 * @since 0.1.0
 */
export interface Watched
  extends Pick<Registry<unknown, never, unknown>, "entries" | "get" | "changes" | "ended" | "size">
{}

/**
 * A part of a program that says how it is: a `Server`, a `ConnectionPool`, a `Dispatcher`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Counting<out A> {
  readonly stats: Effect.Effect<A>
}

/**
 * What is shown, and where.
 *
 * **Gotchas**
 *
 * On Docker and Kubernetes 127.0.0.1 is that of the container: forward a port (`kubectl port-forward`), or give a `host` and a
 * `token`. It speaks plain HTTP: beyond loopback put TLS in front of it, and name the host that clients use in `hosts`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The registry that the servers of the program use. Connections that are in none are counted by metrics alone. */
  readonly registry: Watched
  /** Servers by a name of yours: `Server.make`. */
  readonly servers?: Readonly<Record<string, Counting<ServerStats>>> | undefined
  readonly pools?: Readonly<Record<string, Counting<PoolStats>>> | undefined
  readonly dispatchers?: Readonly<Record<string, Counting<DispatcherStats>>> | undefined
  /** Policies that new connections get, to be shown. That of a connection is shown with it. */
  readonly policies?: Readonly<Record<string, Policy>> | undefined
  /** Begins to stop the program, as its signal does. Without it a drain can be watched and not begun. */
  readonly drain?: Effect.Effect<void> | undefined
  /** Default `127.0.0.1`. Anything that is not loopback needs a `token`, and `hosts` where it is reached by a name. */
  readonly host?: string | undefined
  /** Default 7900. 0 takes a free one. */
  readonly port?: number | undefined
  /** What happens when the port is taken: `fail`, or listen on a free one. Default `free`. */
  readonly whenTaken?: "free" | "fail" | undefined
  /**
   * What a request has to know, in printable ASCII. Default: a random one, which is in `Admin.address`. `"off"` asks for none, on
   * loopback alone: every user and every program of the machine may then close connections.
   */
  readonly token?: Redacted.Redacted | "off" | undefined
  /** Names in `Host` beside IP addresses and `localhost`. Other names are refused: a page of another site made them up. */
  readonly hosts?: ReadonlyArray<string> | undefined
}

/**
 * An admin server that runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Admin {
  readonly host: string
  readonly port: number
  /** What a browser opens: it has the token in it, so show it to people who may have it. */
  readonly address: Redacted.Redacted
}

/**
 * Serves the admin API until the scope closes.
 *
 * **When to use**
 *
 * To look at the connections of a running program and to act on them: list and inspect them, close them, change their limits,
 * see why others ended, and watch a drain. `layer` does the same and logs the address; `holdfast serve` has it built in.
 *
 * **Details**
 *
 * | path | what it does |
 * |---|---|
 * | `GET /api/connections` | lists: filter, `sort`, `order`, `offset`, `limit` (100, at most 1,000) |
 * | `GET /api/connections/:id` | all that is known of one: fibers, deadlines with what is left of each, queues, policy, recent events |
 * | `POST /api/connections/:id/close` | closes it: `{ reason, code, comeBack }`; the peer reads the reason where there is a `code` |
 * | `POST /api/connections/close` | closes many, by `ids` or `where` |
 * | `PATCH /api/connections/:id/policy` | changes limits of a live connection, as `Connection.patch` does |
 * | `GET /api/ended` | those that have ended, by `reason`, `who`, `deadline`, `key`, `tag`, `remote`, `since`, `until` |
 * | `GET /api/changes` | what changes, as server-sent events, and figures every second |
 * | `GET /api/figures`, `/api/servers`, `/api/pools`, `/api/dispatchers`, `/api/policies` | what is counted and in force |
 * | `GET /api/drain`, `POST /api/drain` | how far a drain is, and its begin |
 * | `GET /metrics`, `/openapi.json` | metrics for Prometheus, and the description of the API |
 *
 * Every request needs the token: in `Authorization: Bearer`, in `?token=` once, or in the cookie that this sets. Requests for a
 * host that is neither an IP address, nor `localhost`, nor one of `hosts` are refused, and so are those of pages of another site.
 *
 * It is bounded: 64 connections, bodies of 64 KiB, 10 s for a request to arrive and 30 s for its answer; a reader of changes that
 * takes nothing for 30 s is ended, and a slow one misses changes and is told how many. Its connections are in no registry and no
 * metric. It shows no content of messages, no session and no header, and there is no way to ask for them. Texts that a peer may
 * have chosen are shown with escapes for what is not printed, and cut at 256 characters.
 *
 * In a worker of `Workers.run` its parent listens, and serves one API for all workers that name the same `host` and `port`: lists,
 * figures and metrics are those of all, and what is done to a connection is done by the worker that has it. `drain` stops all
 * of them. The last digits of an id say which process it is from.
 *
 * **Gotchas**
 *
 * Figures of traffic and `/metrics` need `Metrics.layer` around the program. A port that is taken is replaced by a free one: read
 * `Admin.address`.
 *
 * **Example** (A server that can be looked at, and stopped)
 *
 * ```ts
 * import { Deferred, Effect, Layer, Redacted, Stream } from "effect"
 * import { Codec, Connection, Metrics, Registry, Server } from "holdfast"
 * import { Admin, Listener } from "holdfast/node"
 *
 * const program = Effect.gen(function*() {
 *   const registry = yield* Registry.make<string>()
 *   const stop = yield* Deferred.make<void>()
 *   const chat = Server.make({
 *     registry,
 *     open: Connection.make({ codec: Codec.lines() }),
 *     handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 *   })
 *   const admin = yield* Admin.make({
 *     registry,
 *     servers: { chat },
 *     drain: Effect.asVoid(Deferred.succeed(stop, undefined))
 *   })
 *   yield* Effect.log(`open ${Redacted.value(admin.address)}`)
 *   yield* Effect.raceFirst(chat.run, Deferred.await(stop))
 * }).pipe(
 *   Effect.scoped,
 *   Effect.provide(Layer.merge(Listener.layer("tcp://127.0.0.1:7000"), Metrics.layer))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<Admin, AdminError, Scope.Scope> =>
  Effect.gen(function*() {
    const { host = "127.0.0.1", hosts = [], port = 7900, token: given, whenTaken = "free", ...program } = options
    if (!isLoopback(host) && (given === undefined || given === "off")) {
      return yield* new AdminError({
        detail: `the admin API on ${host} can be reached from other machines: give it a token, or listen on 127.0.0.1`
      })
    }
    if (given !== undefined && given !== "off" && !/^[\x21-\x7e]+$/.test(Redacted.value(given))) {
      return yield* new AdminError({ detail: "the admin token must be printable ASCII without spaces, and not empty" })
    }
    const shown = (bound: number, token: string | undefined): Admin => {
      const query = token === undefined ? "" : `?token=${encodeURIComponent(token)}`
      return { host, port: bound, address: Redacted.make(`http://${inUrl(host)}:${bound}/${query}`) }
    }
    const refused = (cause: string) =>
      new AdminError({ detail: `the admin API cannot listen on ${inUrl(host)}:${port}: ${cause}` })
    const own = worker()
    if (own !== undefined) {
      const { serveAbove } = yield* Effect.promise(() => import("./internal/admin/workers/worker.ts"))
      const served = yield* serveAbove(own, program, {
        host,
        port,
        hosts,
        elsewhere: whenTaken === "free",
        token: given === "off" ? "none" : given === undefined ? "any" : { is: Redacted.value(given) }
      })
      return "failed" in served ? yield* refused(served.failed) : shown(served.port, served.token)
    }
    const token = given === "off" ? undefined : given ?? makeToken()
    const context = yield* Effect.context<never>()
    // loaded by programs that serve it alone: an HTTP server and its router take as long to load as all else
    const [{ serve }, { actionsOf }] = yield* Effect.promise(() =>
      Promise.all([import("./internal/admin/web/serving.ts"), import("./internal/admin/actions.ts")])
    )
    const bound = yield* Effect.mapError(
      serve((readers, scope) => actionsOf(program, context, readers, scope), {
        place: { host, port },
        elsewhere: whenTaken === "free",
        hosts: [host, ...hosts],
        token
      }),
      ({ cause }) => refused(String(cause))
    )
    return shown(bound, token === undefined ? undefined : Redacted.value(token))
  })

/** A token that was given is known, and is not to be found in a log. */
const told = (address: Redacted.Redacted, token: Options["token"]): string =>
  typeof token === "object" ? Redacted.value(address).replace(/\?.*/, "") : Redacted.value(address)

/**
 * Serves the admin API for as long as the layer lives, and logs its address: with a token that it made, without one that was
 * given.
 *
 * **Example** (Ten lines around a program that has a registry)
 *
 * ```ts
 * import { Context, Effect, Layer, Stream } from "effect"
 * import { Codec, Connection, Metrics, Registry, Server } from "holdfast"
 * import { Admin, Listener } from "holdfast/node"
 *
 * class Clients extends Context.Service<Clients, Registry.Registry<string>>()("app/Clients") {}
 *
 * const chat = Clients.use((registry) =>
 *   Server.run({
 *     registry,
 *     open: Connection.make({ codec: Codec.lines() }),
 *     handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 *   })
 * )
 *
 * const admin = Layer.unwrap(Clients.use((registry) => Effect.succeed(Admin.layer({ registry }))))
 *
 * const program = chat.pipe(
 *   Effect.provide(Listener.layer("tcp://127.0.0.1:7000")),
 *   Effect.provide(admin.pipe(Layer.provideMerge(Registry.layer(Clients)), Layer.provideMerge(Metrics.layer)))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<never, AdminError> =>
  Layer.effectDiscard(
    Effect.flatMap(make(options), ({ address }) => logLine("Info", `admin ${told(address, options.token)}`))
  )
