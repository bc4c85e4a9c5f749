/** What the admin API does when it is asked. */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Connection } from "../../../Connection.ts"
import { Closed } from "../../../ConnectionError.ts"
import { oneLine } from "../../../internal/reasons/text.ts"
import * as Supervised from "../../../internal/scheduling/supervised.ts"
import * as Policy from "../../../Policy.ts"
import type { ExplainedEnd } from "../../../Registry.ts"
import { api, Checked } from "./api.ts"
import { changesOf, type Readers } from "./changes.ts"
import { dispatchersOf, figuresOf, poolsOf, serversOf } from "./figures.ts"
import { matching, page } from "./listing.ts"
import type { Program } from "./program.ts"
import * as S from "./schemas.ts"
import { type AnyEntry, detailOf, endedOf, policyOf, shown } from "./views.ts"

const entryOf = ({ registry }: Program, id: number): Effect.Effect<AnyEntry, S.NotFound> =>
  Effect.flatMap(registry.entries, (entries) => {
    const found = entries.find(({ connection }) => connection.id === id)
    return found === undefined
      ? Effect.fail(
        new S.NotFound({ message: `no connection ${id} is registered: it may have ended, see /api/ended?id=${id}` })
      )
      : Effect.succeed(found)
  })

const reasonOf = ({ code, comeBack, reason }: S.Closing): Closed =>
  new Closed({
    by: "local",
    ...(code === undefined ? {} : { code }),
    ...(reason === undefined ? {} : { note: oneLine(reason) }),
    ...(comeBack === undefined ? {} : { retryable: comeBack })
  })

/** In the background: a peer that takes nothing holds a close up for `Policy.drain`. */
const close = (scope: Scope.Scope, connections: ReadonlyArray<Connection<unknown, never>>, closing: S.Closing) =>
  Effect.as(
    Effect.forEach(
      connections,
      (connection) =>
        Supervised.background(
          scope,
          `closing connection ${connection.id} for the admin API`,
          Effect.suspend(() => connection.closeWith(reasonOf(closing)))
        ),
      { discard: true }
    ),
    { closed: connections.length }
  )

// a connection takes them when it opens
const fixed: ReadonlyArray<string> = ["open", "maxFrame"]

/** `changes` are fields of a policy, as its JSON has them. */
const patch = (
  connection: Connection<unknown, never>,
  changes: Readonly<Record<string, unknown>>
): Effect.Effect<void, S.Invalid> =>
  Effect.gen(function*() {
    const names = Object.keys(changes)
    const isFixed = names.find((name) => fixed.includes(name))
    if (isFixed !== undefined) {
      return yield* new S.Invalid({ message: `\`${isFixed}\` of a connection is fixed once it is open` })
    }
    const changed = yield* invalid(Policy.decode(changes))
    const patch = Object.fromEntries(
      names.flatMap((name) => name in changed ? [[name, Reflect.get(changed, name)]] : [])
    )
    yield* invalid(connection.patch(patch))
  })

const invalid = <A>(effect: Effect.Effect<A, Policy.InvalidPolicy>): Effect.Effect<A, S.Invalid> =>
  Effect.mapError(effect, ({ detail }) => new S.Invalid({ message: shown(detail) }))

const endedPage = (found: ReadonlyArray<ExplainedEnd>, { limit = 100, offset = 0 }: S.EndedQuery): S.EndedPage => {
  const byReason: Record<string, number> = {}
  for (const { explanation: { snapshot: { reason } } } of found) {
    if (reason !== undefined) byReason[reason._tag] = (byReason[reason._tag] ?? 0) + 1
  }
  return { total: found.length, byReason, offset, limit, ended: found.slice(offset, offset + limit).map(endedOf) }
}

const endedAtMost = (until: number | undefined) => ({ explanation: { snapshot: { age, openedAt } } }: ExplainedEnd) =>
  until === undefined || openedAt + age <= until

const connections = (program: Program, figures: Effect.Effect<S.Figures>, readers: Readers) =>
  HttpApiBuilder.group(api, "connections", (handlers) =>
    Effect.map(Effect.scope, (scope) =>
      handlers
        .handle("list", ({ query }) =>
          Effect.gen(function*() {
            return page(yield* program.registry.entries, query, yield* Clock.currentTimeMillis)
          }))
        .handle("inspect", ({ params: { id } }) => Effect.flatMap(entryOf(program, id), detailOf))
        .handle("close", ({ params: { id }, payload }) =>
          Effect.flatMap(entryOf(program, id), ({ connection }) => close(scope, [connection], payload)))
        .handle("closeMany", ({ payload: { ids, where, ...closing } }) =>
          Effect.gen(function*() {
            if ((ids === undefined) === (where === undefined)) {
              return yield* new S.Invalid({ message: "give `ids`, or `where` with a filter ({} is all connections)" })
            }
            const entries = yield* program.registry.entries
            const wanted = new Set(ids)
            const chosen = where === undefined
              ? entries.filter(({ connection }) =>
                wanted.has(connection.id)
              )
              : matching(entries, where).map(({ entry }) => entry)
            return yield* close(scope, chosen.map(({ connection }) => connection), closing)
          }))
        .handle("patch", ({ params: { id }, payload }) =>
          Effect.gen(function*() {
            const { connection } = yield* entryOf(program, id)
            yield* patch(connection, payload)
            return policyOf(yield* connection.policy)
          }))
        .handle("ended", ({ query: { limit, offset, until, ...query } }) =>
          Effect.map(
            program.registry.ended({ ...query, where: endedAtMost(until) }),
            (found) => endedPage(found, { limit: limit ?? 100, offset: offset ?? 0 })
          ))
        .handle("changes", () => Effect.succeed(changesOf(program, figures, readers)))))

const drainOf = (program: Program, begun: boolean): Effect.Effect<S.Drain> =>
  Effect.map(serversOf(program), (servers) => ({
    possible: program.drain !== undefined,
    begun: begun || servers.some(({ phase }) => phase === "stopping" || phase === "stopped"),
    servers
  }))

const ofProgram = (program: Program, figures: Effect.Effect<S.Figures>) =>
  HttpApiBuilder.group(api, "program", (handlers) =>
    Effect.map(Effect.scope, (scope) => {
      let begun = false
      return handlers
        .handle("figures", () => figures)
        .handle("servers", () => serversOf(program))
        .handle("pools", () => poolsOf(program))
        .handle("dispatchers", () => dispatchersOf(program))
        .handle("policies", () =>
          Effect.sync(() =>
            Object.entries(program.policies ?? {}).map(([name, policy]) => ({
              name: shown(name),
              policy: policyOf(policy)
            }))
          ))
        .handle("drained", () => drainOf(program, begun))
        .handle("drain", () =>
          Effect.gen(function*() {
            const { drain } = program
            if (drain === undefined) {
              return yield* new S.NotOffered({
                message: "this program gives the admin API no `drain`: stop it with a signal"
              })
            }
            if (!begun) {
              begun = true
              yield* Supervised.background(scope, "the drain that the admin API began", drain)
            }
            return yield* drainOf(program, begun)
          }))
    }))

const checked = HttpApiMiddleware.layerSchemaErrorTransform(
  Checked,
  ({ cause, kind }) => Effect.fail(new S.Invalid({ message: shown(`${kind}: ${oneLine(cause.message)}`) }))
)

/** The routes of the API. */
export const handlers = (program: Program, context: Context.Context<never>, readers: Readers) => {
  const figures = figuresOf(program, context)
  return HttpApiBuilder.layer(api).pipe(
    Layer.provide([connections(program, figures, readers), ofProgram(program, figures)]),
    Layer.provide(checked)
  )
}
