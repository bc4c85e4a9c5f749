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
import type { Policy } from "../Policy.ts"
import type { Registry } from "../Registry.ts"
import type { Stats as ServerStats } from "../Server.ts"
import { inUrl, isLoopback, makeToken } from "./internal/admin/web/guard.ts"
import { serve } from "./internal/admin/web/serving.ts"

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
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The registry that the servers of the program use. */
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
  /** What a request has to know. Default: a random one, which is in the address of `Admin`. `"off"` on loopback alone. */
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
    const token = given === "off" ? undefined : given ?? makeToken()
    const bound = yield* Effect.mapError(
      serve(program, { place: { host, port }, elsewhere: whenTaken === "free", hosts: [host, ...hosts], token }),
      ({ cause }) =>
        new AdminError({ detail: `the admin API cannot listen on ${inUrl(host)}:${port}: ${String(cause)}` })
    )
    const query = token === undefined ? "" : `?token=${encodeURIComponent(Redacted.value(token))}`
    return { host, port: bound, address: Redacted.make(`http://${inUrl(host)}:${bound}/${query}`) }
  })

/**
 * Serves the admin API for as long as the layer lives, and logs its address.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<never, AdminError> =>
  Layer.effectDiscard(
    Effect.flatMap(make(options), ({ address }) => Effect.logInfo(`admin ${Redacted.value(address)}`))
  )
