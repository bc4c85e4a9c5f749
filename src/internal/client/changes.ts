/** Tells readers where a client stands. A slow one holds a bounded number of states, and no connection that has ended. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ConnectionError } from "../../ConnectionError.ts"

/** Where a client with connections of type `C` stands; see `Client.State`. */
export type State<C> =
  & (
    | { readonly _tag: "Connecting"; readonly attempt: number }
    | { readonly _tag: "Connected"; readonly connection: C }
    | {
      readonly _tag: "Waiting"
      readonly attempt: number
      readonly delay: Duration.Duration
      readonly error: ConnectionError
      readonly lost: number
      readonly unknown: number
    }
    | { readonly _tag: "Closed"; readonly error: ConnectionError; readonly lost: number; readonly unknown: number }
  )
  & { readonly missed?: number | undefined }

/** One reader, from its first look on. */
class Reader<C> {
  private readonly states: States<C>
  private wake: (() => void) | undefined
  private waiting: Array<State<C>>
  private missed = 0

  constructor(states: States<C>) {
    this.states = states
    this.waiting = [states.current]
  }

  offer(state: State<C>): void {
    // of what does not fit, the newest state alone is worth telling
    if (this.waiting.length >= this.states.limit) {
      this.missed += this.waiting.length
      this.waiting = []
    }
    this.waiting.push(state)
    this.wake?.()
  }

  replace(state: State<C>, by: State<C>): void {
    const index = this.waiting.indexOf(state)
    if (index !== -1) this.waiting[index] = by
  }

  private readonly awaitNext: Effect.Effect<void> = Effect.callback((resume) => {
    this.wake = () => {
      this.wake = undefined
      resume(Effect.void)
    }
    return Effect.sync(() => {
      this.wake = undefined
    })
  })

  /** One at a time: what was pulled is held by the stream, and not replaced. */
  readonly pull: Effect.Effect<NonEmptyReadonlyArray<State<C>>, Cause.Done> = Effect.suspend(() => {
    const { missed } = this
    const state = this.waiting.shift()
    if (state === undefined) {
      if (this.states.isOver) return Cause.done()
      return Effect.andThen(this.awaitNext, this.pull)
    }
    this.missed = 0
    return Effect.succeed([missed > 0 ? { ...state, missed } : state])
  })
}

/** The present state of one client, and the readers of its states. */
export class States<C> {
  private readonly readers = new Set<Reader<C>>()
  private readonly remainsOf: (connection: C) => C
  /** How many states a reader holds at the most. */
  readonly limit: number
  current: State<C> = { _tag: "Connecting", attempt: 1 }

  /** `remainsOf` makes of a connection that has ended what is held in its place. */
  constructor(limit: number, remainsOf: (connection: C) => C) {
    // what is no number bounds as well
    this.limit = limit > 1 ? limit : 1
    this.remainsOf = remainsOf
  }

  get isOver(): boolean {
    return this.current._tag === "Closed"
  }

  /** The last thing that synchronous code does: readers run in the middle of it. */
  publish(next: State<C>): void {
    const { current } = this
    this.current = next
    if (this.readers.size === 0) return
    if (current._tag === "Connected") {
      const ended = { ...current, connection: this.remainsOf(current.connection) }
      for (const reader of this.readers) reader.replace(current, ended)
    }
    for (const reader of this.readers) reader.offer(next)
  }

  private readonly reading: Effect.Effect<Reader<C>, never, Scope.Scope> = Effect.acquireRelease(
    Effect.sync(() => {
      const reader = new Reader<C>(this)
      this.readers.add(reader)
      return reader
    }),
    (reader) => Effect.sync(() => this.readers.delete(reader))
  )

  /** The current state and every transition, up to `Closed`. Each run of it is a reader of its own. */
  get changes(): Stream.Stream<State<C>> {
    return Stream.unwrap(Effect.map(this.reading, ({ pull }) => Stream.fromPull(Effect.succeed(pull))))
  }
}
