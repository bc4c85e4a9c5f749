/** What the admin API can be asked, and how a program answers it. */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Connection } from "../../../Connection.ts"
import { Closed } from "../../../ConnectionError.ts"
import { oneLine } from "../../../internal/reasons/text.ts"
import * as Supervised from "../../../internal/scheduling/supervised.ts"
import * as Policy from "../../../Policy.ts"
import type { ExplainedEnd } from "../../../Registry.ts"
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

type JsonPolicy = Readonly<Record<string, unknown>>

/** Everything that the admin API can be asked. */
export interface Actions {
  readonly list: (query: S.Query) => Effect.Effect<S.Page>
  readonly inspect: (id: number) => Effect.Effect<S.Detail, S.NotFound | S.NoAnswer>
  readonly close: (id: number, closing: S.Closing) => Effect.Effect<S.Closed, S.NotFound | S.NoAnswer>
  readonly closeMany: (closing: S.ClosingMany) => Effect.Effect<S.Closed, S.Invalid>
  readonly patch: (id: number, changes: JsonPolicy) => Effect.Effect<JsonPolicy, S.NotFound | S.Invalid | S.NoAnswer>
  readonly ended: (query: S.EndedQuery) => Effect.Effect<S.EndedPage>
  readonly changes: Stream.Stream<S.Change>
  readonly figures: Effect.Effect<S.Figures>
  readonly servers: Effect.Effect<ReadonlyArray<S.Server>>
  readonly pools: Effect.Effect<ReadonlyArray<S.Pool>>
  readonly dispatchers: Effect.Effect<ReadonlyArray<S.Dispatcher>>
  readonly policies: Effect.Effect<ReadonlyArray<S.NamedPolicy>>
  readonly drained: Effect.Effect<S.Drain>
  readonly drain: Effect.Effect<S.Drain, S.NotOffered>
  /** The metrics as Prometheus reads them. */
  readonly metrics: Effect.Effect<string>
}

const drainOf = (program: Program, begun: boolean): Effect.Effect<S.Drain> =>
  Effect.map(serversOf(program), (servers) => ({
    possible: program.drain !== undefined,
    begun: begun || servers.some(({ phase }) => phase === "stopping" || phase === "stopped"),
    servers
  }))

/** Those of the program of this process. What goes on behind an answer ends with the scope. */
export const actionsOf = (
  program: Program,
  context: Context.Context<never>,
  readers: Readers,
  scope: Scope.Scope
): Actions => {
  const figures = figuresOf(program, context)
  let begun = false
  return {
    list: (query) =>
      Effect.gen(function*() {
        return page(yield* program.registry.entries, query, yield* Clock.currentTimeMillis)
      }),
    inspect: (id) => Effect.flatMap(entryOf(program, id), detailOf),
    close: (id, closing) =>
      Effect.flatMap(entryOf(program, id), ({ connection }) => close(scope, [connection], closing)),
    closeMany: ({ ids, where, ...closing }) =>
      Effect.gen(function*() {
        if ((ids === undefined) === (where === undefined)) {
          return yield* new S.Invalid({ message: "give `ids`, or `where` with a filter ({} is all connections)" })
        }
        const entries = yield* program.registry.entries
        const wanted = new Set(ids)
        const chosen = where === undefined
          ? entries.filter(({ connection }) => wanted.has(connection.id))
          : matching(entries, where).map(({ entry }) => entry)
        return yield* close(scope, chosen.map(({ connection }) => connection), closing)
      }),
    patch: (id, changes) =>
      Effect.gen(function*() {
        const { connection } = yield* entryOf(program, id)
        yield* patch(connection, changes)
        return policyOf(yield* connection.policy)
      }),
    ended: ({ limit, offset, until, ...query }) =>
      Effect.map(
        program.registry.ended({ ...query, where: endedAtMost(until) }),
        (found) => endedPage(found, { limit: limit ?? 100, offset: offset ?? 0 })
      ),
    changes: changesOf(program, figures, readers),
    figures,
    servers: serversOf(program),
    pools: poolsOf(program),
    dispatchers: dispatchersOf(program),
    policies: Effect.sync(() =>
      Object.entries(program.policies ?? {}).map(([name, policy]) => ({ name: shown(name), policy: policyOf(policy) }))
    ),
    drained: Effect.suspend(() => drainOf(program, begun)),
    drain: Effect.gen(function*() {
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
    }),
    metrics: Effect.provideContext(PrometheusMetrics.format(), context)
  }
}
