/** The admin API of `serve`: its flags, and its start once the server listens. */
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { background } from "../internal/scheduling/supervised.ts"
import * as Metrics from "../Metrics.ts"
import type * as Admin from "../node/Admin.ts"
import { isLoopback } from "../node/internal/admin/web/guard.ts"
import * as Workers from "../node/Workers.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { stop } from "./hangUp.ts"

const variable = "HOLDFAST_ADMIN_TOKEN"

export const adminFlags = {
  admin: Flag.String("admin").pipe(
    Flag.withMetavar("HOST:PORT"),
    Flag.withDescription(
      "Where the admin API and its page are served; the port alone is one of 127.0.0.1, and where it is taken a free one is used " +
        "(default 127.0.0.1:7900)"
    ),
    Flag.withDefault("127.0.0.1:7900")
  ),
  adminToken: Flag.Redacted("admin-token").pipe(
    Flag.withMetavar("TOKEN"),
    Flag.withDescription(
      `What a request to the admin API has to know; better in the environment as ${variable}, where others of this machine do not ` +
        "see it; off asks for none, on loopback alone (default a random one, which is logged)"
    ),
    Flag.optional
  ),
  noAdmin: Flag.Boolean("no-admin").pipe(
    Flag.withoutNegation,
    Flag.withDescription("Serve no admin API, and count no metrics (default off)"),
    Flag.withDefault(false)
  )
}

/** Where it listens, and what asks for it. */
export interface Plan {
  readonly host: string
  readonly port: number
  readonly token: Redacted.Redacted | "off" | undefined
  readonly log: "pretty" | "json"
}

const placeOf = (text: string): Effect.Effect<{ readonly host: string; readonly port: number }, CommandFailed> => {
  const match = /^(?:(\[[0-9a-f:.]+\]|[^:\s[\]/]+):)?(\d{1,5})$/i.exec(text.trim().replace(/^http:\/\/|\/$/g, ""))
  const port = Number(match?.[2])
  return match === null || port > 65_535
    ? Effect.fail(
      new CommandFailed({ message: `--admin must be HOST:PORT or PORT, such as 127.0.0.1:7900, not "${text}"` })
    )
    : Effect.succeed({ host: (match[1] ?? "127.0.0.1").replace(/^\[|\]$/g, ""), port })
}

/** What the flags ask for; undefined: no admin API. */
export const adminOf = Effect.fnUntraced(function*(
  { admin, adminToken, log, noAdmin }: {
    readonly log: "pretty" | "json"
    readonly admin: string
    readonly adminToken: Option.Option<Redacted.Redacted>
    readonly noAdmin: boolean
  }
) {
  if (noAdmin) return undefined
  const { host, port } = yield* placeOf(admin)
  const given = Option.isSome(adminToken) ? Redacted.value(adminToken.value) : process.env[variable]
  const token = given === undefined || given === "" ? undefined : given === "off" ? "off" : Redacted.make(given)
  if (!isLoopback(host) && (token === undefined || token === "off")) {
    return yield* new CommandFailed({
      message:
        `--admin ${admin} can be reached from other machines, so it needs a token: set ${variable}, or --admin-token`
    })
  }
  if (typeof token === "object" && !/^[\x21-\x7e]+$/.test(Redacted.value(token))) {
    return yield* new CommandFailed({ message: "--admin-token must be printable ASCII without spaces" })
  }
  return { host, log, port, token } satisfies Plan
})

/** What an admin API shows of metrics is counted from the start. */
export const measured = (plan: Plan | undefined) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  plan === undefined ? effect : Effect.provide(effect, Metrics.layer)

/** Loaded once the server listens: it takes longer to load than all else. */
const start = ({ host, log, port, token }: Plan, options: Admin.Options) =>
  Effect.gen(function*() {
    const { Admin, SystemMetrics } = yield* Effect.promise(() => import("./adminParts.ts"))
    yield* Layer.build(SystemMetrics.layer)
    const admin = yield* Admin.make({
      ...options,
      host,
      port,
      token,
      drain: stop
    })
    // that of all workers is said once
    if (Workers.self()?.isFirst === false) return
    const address = Redacted.value(admin.address)
    // a token that was given is known, and is not to be found in a log
    const told = typeof token === "object" ? address.replace(/\?.*/, "") : address
    yield* Effect.annotateLogs(Effect.logInfo(`admin ${told}`), log === "json" ? { event: "admin", address: told } : {})
  }).pipe(Effect.catchTag("AdminError", ({ message }) => Effect.logWarning(message)))

/** Runs a server, with an admin API beside it until the server has stopped. */
export const withAdmin = <A, E, R>(
  plan: Plan | undefined,
  options: Admin.Options,
  run: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  plan === undefined ? run : Effect.scoped(Effect.gen(function*() {
    const scope = yield* Effect.scope
    yield* background(scope, "the start of the admin API", Scope.provide(start(plan, options), scope))
    return yield* run
  }))
