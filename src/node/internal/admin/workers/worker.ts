/** A worker whose program is looked at: its parent serves the page, of all workers. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Worker } from "../../addresses/worker.ts"
import { actionsOf } from "../actions.ts"
import type { Readers } from "../changes.ts"
import type { Program } from "../program.ts"
import { answering } from "./answering.ts"
import { askAbout, type Last, nameOf, overAbout, type Place, serveAbout, type Served } from "./asking.ts"

/** Asks the parent to serve, and answers it until the scope closes. */
export const serveAbove = (
  worker: Worker,
  program: Program,
  place: Place
): Effect.Effect<Served, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { calls } = worker
    const name = nameOf(place)
    const readers: Readers = { count: 0, over: yield* Deferred.make<void>() }
    const actions = actionsOf(program, yield* Effect.context<never>(), readers, yield* Effect.scope)
    calls.answer(askAbout(name), yield* answering(actions, yield* Effect.context<never>()))
    // what it counted counts on
    yield* Effect.addFinalizer(() =>
      Effect.all({ figures: actions.figures, metrics: actions.metrics, servers: actions.servers }).pipe(
        Effect.map(({ figures: { totals }, metrics, servers }) =>
          calls.post(overAbout, { place: name, totals, metrics, servers } satisfies Last)
        )
      )
    )
    return yield* Effect.match(calls.ask(serveAbout, place), {
      onFailure: ({ message }): Served => ({ failed: message }),
      onSuccess: (served) => served as Served
    })
  })
