/** Reading from a position on: first what was missed, then what comes, with nothing between them. */
import { isReadonlyArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import type { Event, Gone, History, HistoryError, Position } from "./log.ts"

export interface Reading {
  /** Where it goes on after a gap, and begins without a position. */
  readonly from: "oldest" | "newest"
  /** How many messages it takes at once. */
  readonly batch: number
}

/** Reads a history, one page after the other. One fiber uses it. */
export class Reader<A> {
  private readonly history: History<A>
  private readonly reading: Reading
  position: Position | undefined

  constructor(history: History<A>, position: Position | undefined, reading: Reading) {
    this.history = history
    this.position = position
    this.reading = reading
  }

  private begin(): Effect.Effect<ReadonlyArray<Event<A>>, HistoryError> {
    return Effect.map(this.history.ends, (ends) => {
      const position = ends[this.reading.from]
      this.position = position
      return [{ _tag: "Start", position }]
    })
  }

  private skip(gone: Gone, asked: Position): Effect.Effect<ReadonlyArray<Event<A>>, HistoryError> {
    if (this.reading.from === "oldest") {
      this.position = gone.position
      return Effect.succeed([gone])
    }
    return Effect.map(this.history.ends, ({ newest }) => {
      this.position = newest
      const told = { ...gone, position: newest }
      const isCounted = gone.why === "trimmed" && newest.epoch === asked.epoch
      return [isCounted ? { ...told, missed: newest.offset - asked.offset } : told]
    })
  }

  /** What comes next, as far as it is there: nothing where all was read. */
  readonly next: Effect.Effect<ReadonlyArray<Event<A>>, HistoryError> = Effect.suspend(() => {
    const { position } = this
    if (position === undefined) return this.begin()
    return Effect.flatMap(this.history.since(position, this.reading.batch), (replay) => {
      if (replay._tag === "Gone") return this.skip(replay, position)
      this.position = replay.position
      return Effect.succeed(replay.messages)
    })
  })

  /** The same, and waits for it. */
  readonly pull: Effect.Effect<NonEmptyReadonlyArray<Event<A>>, HistoryError> = Effect.suspend(() =>
    Effect.flatMap(this.next, (events) =>
      isReadonlyArrayNonEmpty(events)
        ? Effect.succeed(events)
        : Effect.andThen(this.history.awaitAfter(this.position!), this.pull))
  )
}
