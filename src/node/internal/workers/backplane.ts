/** The engine that connects workers as nodes of a fleet, as a worker sees it: its parent does what it asks for. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Arrival, Claim, Engine, Holder, Member, Session, Token } from "../../../Backplane.ts"
import { BackplaneError } from "../../../Backplane.ts"
import { spawnIn } from "../../../internal/scheduling/supervised.ts"
import type { Calls } from "../addresses/calls.ts"

/** The name under which the parent answers. */
export const about = "backplane"

/** What the parent takes as one batch, in bytes. */
export const largest = 1_048_576

/** What a worker asks. `session` is a number of the worker. */
export type Asked =
  | { readonly op: "join"; readonly session: number; readonly node: string; readonly lease: number }
  | { readonly op: "renew"; readonly session: number; readonly isLeaving: boolean }
  | { readonly op: "nodes" | "take" | "leave"; readonly session: number }
  | { readonly op: "end"; readonly session: number }
  | {
    readonly op: "claim"
    readonly session: number
    readonly key: string
    readonly as: Token | undefined
    readonly over: Token | undefined
    readonly onlyIfFree: boolean | undefined
  }
  | { readonly op: "release"; readonly session: number; readonly key: string; readonly token: Token }
  | { readonly op: "find"; readonly session: number; readonly key: string }
  | { readonly op: "publish"; readonly session: number; readonly to: string; readonly batch: Uint8Array }

/** What the parent answers. */
export type Answered = { readonly value: unknown } | { readonly failed: BackplaneError["reason"] }

/** How a join is answered. */
export interface Joined {
  readonly epoch: number
  readonly age: number
}

let sessions = 0

/** Asks the parent at the other end of these calls. */
export const engineOver = (calls: Calls): Engine => {
  const ask = <A>(asked: Asked): Effect.Effect<A, BackplaneError> =>
    Effect.matchEffect(calls.ask(about, asked), {
      onFailure: (cause) => Effect.fail(new BackplaneError({ reason: "unreachable", cause })),
      onSuccess: (answer) => {
        const answered = answer as Answered
        return "failed" in answered
          ? Effect.fail(new BackplaneError({ reason: answered.failed }))
          : Effect.succeed(answered.value as A)
      }
    })

  return {
    name: "workers",
    largest,
    join: ({ lease, node }) =>
      Effect.gen(function*() {
        const session = ++sessions
        const scope = yield* Effect.scope
        yield* Effect.addFinalizer(() => Effect.sync(() => calls.post(about, { op: "end", session } satisfies Asked)))
        const { age, epoch } = yield* ask<Joined>({ op: "join", session, node, lease })

        type Arrivals = NonEmptyReadonlyArray<Arrival>
        let coming: Deferred.Deferred<Arrivals, BackplaneError> | undefined
        // one `take` that is interrupted leaves to the next one what comes for it
        const take: Session["take"] = Effect.gen(function*() {
          if (coming === undefined) {
            const next = coming = Deferred.makeUnsafe<Arrivals, BackplaneError>()
            const asking = ask<Arrivals>({ op: "take", session })
            yield* spawnIn(scope, "the inbox of a worker", asking, (exit) => void Deferred.doneUnsafe(next, exit), {
              startImmediately: true
            })
          }
          const arrivals = yield* Deferred.await(coming)
          coming = undefined
          return arrivals
        })

        return {
          epoch,
          age,
          renew: (isLeaving) => ask<void>({ op: "renew", session, isLeaving }),
          nodes: ask<ReadonlyArray<Member>>({ op: "nodes", session }),
          claim: (key, { as, onlyIfFree, over } = {}) =>
            ask<Claim>({ op: "claim", session, key, as, over, onlyIfFree }),
          release: (key, token) => ask<void>({ op: "release", session, key, token }),
          find: (key) => ask<Holder | undefined>({ op: "find", session, key }),
          publish: (to, batch) =>
            batch.length > largest
              ? Effect.fail(new BackplaneError({ reason: "size" }))
              : ask<"sent" | "nobody">({ op: "publish", session, to, batch }),
          take,
          leave: ask<void>({ op: "leave", session })
        }
      })
  }
}
