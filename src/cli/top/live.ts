/** The view of `top` on a terminal: keys and what the server says, one after the other. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { background } from "../../internal/scheduling/supervised.ts"
import { ratesBetween } from "../../node/internal/admin/shown/rates.ts"
import type { CommandFailed } from "../CommandFailed.ts"
import { Gone, Unreachable } from "./ask.ts"
import type { Api, Seen } from "./ask.ts"
import { draw } from "./draw.ts"
import * as Screen from "./screen.ts"
import { press, queryOf, settled } from "./state.ts"
import type { Key, Sort, State } from "./state.ts"

type Event =
  | { readonly _tag: "Key"; readonly key: Key }
  | { readonly _tag: "Drawn" }
  | { readonly _tag: "Over"; readonly why: CommandFailed | undefined }

export interface Start {
  readonly interval: number
  readonly sort: Sort
  readonly order: "asc" | "desc"
  readonly filter: string
}

/** Until `q`, or until the server refuses. A server that is gone may come back. */
export const live = (api: Api, first: Seen, { interval, ...start }: Start): Effect.Effect<void, CommandFailed> =>
  Effect.scoped(Effect.gen(function*() {
    const scope = yield* Effect.scope
    const events = yield* Queue.unbounded<Event>()
    const wake = yield* Queue.sliding<void>(1)
    const tell = (event: Event): void => void Queue.offerUnsafe(events, event)
    const screen = yield* Screen.open({
      key: (key) => tell({ _tag: "Key", key }),
      resized: () => {
        state = settled({ ...state, size: screen.size() })
        Queue.offerUnsafe(wake, undefined)
        tell({ _tag: "Drawn" })
      },
      lost: () => tell({ _tag: "Over", why: undefined })
    })
    let figures = first.figures
    let state: State = {
      ...start,
      address: api.address,
      size: screen.size(),
      typed: undefined,
      seen: { ...first, rates: ratesBetween(undefined, figures) },
      at: 0,
      top: 0,
      inspected: undefined,
      closing: undefined,
      said: "",
      problem: undefined
    }

    const take = (seen: Seen): void => {
      // figures that are read twice within a moment are the same
      const isNew = seen.figures.at !== figures.at
      const rates = isNew || state.seen === undefined ? ratesBetween(figures, seen.figures) : state.seen.rates
      figures = seen.figures
      state = settled({ ...state, seen: { ...seen, rates }, problem: undefined })
    }

    const inspect = Effect.gen(function*() {
      const { inspected } = state
      if (inspected === undefined || inspected.gone) return
      const known = yield* api.inspect(inspected.id).pipe(
        Effect.map((detail) => ({ id: inspected.id, detail, gone: false })),
        Effect.catch((error) =>
          error instanceof Gone
            ? Effect.succeed({ id: inspected.id, detail: undefined, gone: true })
            : Effect.fail(error)
        )
      )
      if (state.inspected?.id === known.id) state = { ...state, inspected: known }
    })

    const readOnce = Effect.gen(function*() {
      const query = queryOf(state)
      take(yield* api.look(query))
      yield* inspect
    }).pipe(Effect.catch((error) => {
      if (!(error instanceof Unreachable)) return Effect.sync(() => tell({ _tag: "Over", why: error }))
      state = { ...state, problem: `${api.address} does not answer: trying again` }
      return Effect.void
    }))

    const reading = Effect.gen(function*() {
      while (true) {
        const began = yield* Clock.currentTimeMillis
        yield* readOnce
        tell({ _tag: "Drawn" })
        const left = Math.max(0, interval - ((yield* Clock.currentTimeMillis) - began))
        yield* Effect.timeoutOption(Queue.take(wake), left)
      }
    })

    const close = (id: number) =>
      api.close(id, { reason: "closed by holdfast top" }).pipe(
        Effect.match({
          onSuccess: () => `connection ${id} is asked to close`,
          onFailure: ({ message }) => message
        }),
        Effect.map((said) => {
          state = { ...state, said }
          Queue.offerUnsafe(wake, undefined)
          tell({ _tag: "Drawn" })
        })
      )

    yield* background(scope, "reading of the admin API", reading)
    screen.show(draw(state))
    while (true) {
      const event = yield* Queue.take(events)
      if (event._tag === "Over") return event.why === undefined ? undefined : yield* event.why
      if (event._tag === "Key") {
        const [next, action] = press(state, event.key)
        state = next
        if (action?._tag === "Quit") return
        if (action?._tag === "Read") Queue.offerUnsafe(wake, undefined)
        if (action?._tag === "Close") yield* background(scope, "a close", close(action.id))
      }
      screen.show(draw(state))
    }
  }))
