/** What the admin API answers for all workers of a parent: each is asked, and what they say is one answer. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Actions } from "../actions.ts"
import { type Readers, withFigures } from "../changes.ts"
import * as Sums from "../merging/sums.ts"
import * as S from "../schemas.ts"
import { followed } from "./following.ts"
import type { Group } from "./group.ts"

const withSilent = <A>(answer: A, silent: ReadonlyArray<number>) => silent.length === 0 ? answer : { ...answer, silent }

/** `stop` stops the parent, and all workers with it. */
export const merged = (group: Group, readers: Readers, stop: Effect.Effect<void>): Actions => {
  const counted = Effect.map(
    Effect.all({ figures: group.figures, servers: group.servers }),
    (counted): S.Change => ({ _tag: "Figures", ...counted })
  )
  return {
    list: (query) =>
      Effect.gen(function*() {
        const { limit = 100, offset = 0 } = query
        const { silent, told } = yield* group.all<S.Page>({
          op: "list",
          query: { ...query, offset: 0, limit: offset + limit }
        })
        const page = Sums.pageOf(told, query, yield* Clock.currentTimeMillis)
        return withSilent({ ...page, connections: page.connections.map(group.named) }, silent)
      }),
    inspect: (id) => Effect.map(group.one<S.Detail, never>(id, { op: "inspect", id }), group.named),
    close: (id, closing) => group.one<S.Closed, never>(id, { op: "close", id, closing }),
    patch: (id, changes) => group.one<Record<string, unknown>, S.Invalid>(id, { op: "patch", id, changes }),
    closeMany: (closing) =>
      Effect.gen(function*() {
        if ((closing.ids === undefined) === (closing.where === undefined)) {
          return yield* new S.Invalid({ message: "give `ids`, or `where` with a filter ({} is all connections)" })
        }
        const { silent, told } = yield* group.all<S.Closed>({ op: "closeMany", closing })
        return withSilent({ closed: told.reduce((sum, { closed }) => sum + closed, 0) }, silent)
      }),
    ended: (query) =>
      Effect.gen(function*() {
        const { limit = 100, offset = 0 } = query
        const { silent, told } = yield* group.all<S.EndedPage>({
          op: "ended",
          query: { ...query, offset: 0, limit: offset + limit }
        })
        const page = Sums.endedOf(told, query)
        return withSilent({ ...page, ended: page.ended.map(group.named) }, silent)
      }),
    changes: withFigures(followed(group), counted, readers),
    figures: group.figures,
    servers: group.servers,
    pools: Effect.map(group.all<ReadonlyArray<S.Pool>>({ op: "pools" }), ({ told }) => Sums.poolsOf(told.flat())),
    dispatchers: Effect.map(
      group.all<ReadonlyArray<S.Dispatcher>>({ op: "dispatchers" }),
      ({ told }) => Sums.dispatchersOf(told.flat())
    ),
    policies: Effect.map(
      group.all<ReadonlyArray<S.NamedPolicy>>({ op: "policies" }),
      ({ told }) => Sums.policiesOf(told.flat())
    ),
    drained: group.drained,
    drain: Effect.gen(function*() {
      const drain = yield* group.drained
      if (!drain.possible && !drain.begun) {
        return yield* new S.NotOffered({
          message: "this program gives the admin API no `drain`: stop it with a signal"
        })
      }
      if (!group.isStopping) {
        group.isStopping = true
        yield* stop
      }
      return { ...drain, begun: true }
    }),
    metrics: group.metrics
  }
}
