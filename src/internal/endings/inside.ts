/** What runs inside of something that waits for it, such as its dial or its check: there, to wait for that is to wait for itself. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** Something that an owner waits for, until it has ended. */
interface Stay {
  readonly owner: object
  isOver: boolean
}

const Stays = Context.Reference<ReadonlyArray<Stay>>("holdfast/endings/Stays", { defaultValue: () => [] })

/** Whether this fiber belongs to something that the owner waits for. */
export const isInside = (owner: object): Effect.Effect<boolean> =>
  Effect.withFiber(({ context }) =>
    Effect.succeed(Context.get(context, Stays).some((stay) => stay.owner === owner && !stay.isOver))
  )

/** Marks `effect` as what the owner waits for, with all fibers that it forks meanwhile. */
export const inside = <A, E, R>(owner: object, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const stay: Stay = { owner, isOver: false }
    return Effect.contextWith((context: Context.Context<never>) =>
      Effect.ensuring(
        Effect.provideService(effect, Stays, [...Context.get(context, Stays), stay]),
        Effect.sync(() => {
          stay.isOver = true
        })
      )
    )
  })
