/** Dialling and greeting, marked: what runs in them cannot wait for the client that waits for them. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"

/** A try of a client, until its connection is in use or has failed. */
interface Greeting {
  readonly client: object
  isOver: boolean
}

const Greetings = Context.Reference<ReadonlyArray<Greeting>>("holdfast/client/Greetings", { defaultValue: () => [] })

const fromWithin = ConnectionError.make(new ConnectionError.Offline({ messages: 0, bytes: 0, within: "onConnect" }))

/** Fails where this fiber belongs to a try of the client, which waits for it. */
export const greets = (client: object): Effect.Effect<void, ConnectionError.ConnectionError> =>
  Effect.withFiber(({ context }) =>
    Context.get(context, Greetings).some((greeting) => greeting.client === client && !greeting.isOver)
      ? Effect.fail(fromWithin)
      : Effect.void
  )

/** Marks `dialling` as a try of the client, with all fibers that it forks meanwhile. */
export const inGreeting = <A, E, R>(client: object, dialling: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const greeting: Greeting = { client, isOver: false }
    return Effect.contextWith((context: Context.Context<never>) =>
      Effect.ensuring(
        Effect.provideService(dialling, Greetings, [...Context.get(context, Greetings), greeting]),
        Effect.sync(() => {
          greeting.isOver = true
        })
      )
    )
  })
