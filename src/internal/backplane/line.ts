/** The connection of a session to its engine, which is replaced once, at once, when it is cut. */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import * as Supervised from "../scheduling/supervised.ts"
import { BackplaneError } from "./engine.ts"
import { unreachable, within } from "./pulse.ts"

// a connection that lived for less is not replaced: a server that cuts each one would be dialled in a hot loop
const shortest = 1000

const reconnecting = Symbol()

/** A connection, for as long as its scope is open. */
export interface Link {
  /** Succeeds with the reason once it was cut. Fails where it hangs: then the engine may do later what it was asked. */
  readonly over: Effect.Effect<BackplaneError, BackplaneError>
}

/** What an engine does with its connections. */
export interface Engineering<C extends Link, J> {
  /** Of its fiber. */
  readonly name: string
  /** How long a connection and each of the steps below may take, in milliseconds. */
  readonly timeout: number
  readonly open: Effect.Effect<C, BackplaneError, Scope.Scope>
  /** Joins on the first connection. */
  readonly begin: (connection: C) => Effect.Effect<J, BackplaneError, Scope.Scope>
  /** Goes on with another one, or fails because that cannot be. */
  readonly resume: (connection: C, joined: J) => Effect.Effect<void, BackplaneError, Scope.Scope>
  /** Told once, when there will be no further connection. */
  readonly ended: (error: BackplaneError) => void
}

export class Line<C extends Link, J> {
  private readonly engineering: Engineering<C, J>
  private readonly settled = Latch.makeUnsafe(false)
  private state: C | BackplaneError | typeof reconnecting = reconnecting

  constructor(engineering: Engineering<C, J>) {
    this.engineering = engineering
  }

  private become(state: C | BackplaneError | typeof reconnecting): void {
    this.state = state
    if (state === reconnecting) this.settled.closeUnsafe()
    else this.settled.openUnsafe()
  }

  /** Runs with the connection; while that is replaced it waits for the new one. */
  use<A>(uses: (connection: C) => Effect.Effect<A, BackplaneError>): Effect.Effect<A, BackplaneError> {
    return Effect.suspend(() => {
      const { state } = this
      if (state === reconnecting) return Effect.andThen(this.settled.await, this.use(uses))
      return state instanceof BackplaneError ? Effect.fail(state) : uses(state)
    })
  }

  private over(error: BackplaneError): void {
    if (this.state instanceof BackplaneError) return
    this.become(error)
    this.engineering.ended(error)
  }

  private connections(joined: Deferred.Deferred<J, BackplaneError>): Effect.Effect<never, BackplaneError> {
    const { begin, open, resume, timeout } = this.engineering
    const bounded = within(timeout)
    return Effect.gen({ self: this }, function*() {
      let known: { readonly joined: J } | undefined
      while (true) {
        const from = yield* Clock.currentTimeMillis
        const error = yield* Effect.scoped(Effect.gen({ self: this }, function*() {
          const connection = yield* open
          if (known === undefined) known = { joined: yield* bounded(begin(connection)) }
          else yield* bounded(resume(connection, known.joined))
          this.become(connection)
          Deferred.doneUnsafe(joined, Effect.succeed(known.joined))
          const why = yield* connection.over
          this.become(reconnecting)
          return why
        }))
        if ((yield* Clock.currentTimeMillis) - from < shortest) return yield* Effect.fail(error)
      }
    })
  }

  /** Joins, and stays until the scope is closed. */
  get join(): Effect.Effect<J, BackplaneError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const joined = Deferred.makeUnsafe<J, BackplaneError>()
      yield* Supervised.spawnIn(yield* Effect.scope, this.engineering.name, this.connections(joined), (exit) => {
        const failed = exit._tag === "Failure" ? exit.cause.reasons.find((reason) => reason._tag === "Fail") : undefined
        const error = failed?.error ?? unreachable(exit._tag === "Failure" ? exit.cause : undefined)
        this.over(error)
        Deferred.doneUnsafe(joined, Effect.fail(error))
      })
      return yield* Deferred.await(joined)
    })
  }
}
