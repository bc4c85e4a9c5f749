/** What a history is: positions, what was missed since one, and why that is not known. */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import { inBrackets } from "../reasons/text.ts"

/**
 * A place between two messages of a history: after the message `offset`, before the next one.
 *
 * **Details**
 *
 * The first message of an epoch has the offset 1, and each one after it has the next number. Offset 0 is before all of them.
 * A position of another history, or one that a peer has made up, is told from a real one: it is never answered with messages.
 *
 * @category models
 * @since 0.1.0
 */
export interface Position {
  /** Which memory the history has: another one whenever messages may have been lost that no reader was told of. */
  readonly epoch: string
  /** How many messages of the epoch come before this place, whether they are kept or not. */
  readonly offset: number
}

/**
 * A message of a history, and the position after it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Message<out A> {
  readonly _tag: "Message"
  readonly position: Position
  readonly message: A
}

/**
 * Messages are missing here, or may be: what follows begins after `position`. Load afresh what depends on them.
 *
 * - `trimmed`: they were kept no longer. `missed` is how many.
 * - `epoch`: the position is of another memory, such as that of a process before its restart. How many are missing is not known.
 * - `unknown`: the position was never given out, or messages were lost on the way to the reader. `missed` is how many, where
 *   that is known.
 *
 * @category models
 * @since 0.1.0
 */
export interface Gone {
  readonly _tag: "Gone"
  readonly why: "trimmed" | "epoch" | "unknown"
  readonly position: Position
  readonly missed?: number | undefined
}

/**
 * Where a reader begins that had no position: without this, one that is cut off before its first message could not say from
 * where it missed what.
 *
 * @category models
 * @since 0.1.0
 */
export interface Start {
  readonly _tag: "Start"
  readonly position: Position
}

/**
 * What a reader is told. A plain object: JSON or MessagePack carry it as it is, see `eventSchema` for a checked one.
 *
 * @category models
 * @since 0.1.0
 */
export type Event<A> = Message<A> | Gone | Start

/**
 * What was missed: without a hole, in order. `position` is the one after the last of them, and there may be more after it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Missed<out A> {
  readonly _tag: "Missed"
  readonly messages: ReadonlyArray<Message<A>>
  readonly position: Position
}

/**
 * The ends of what a history keeps: the position before the oldest message, and the one after the newest.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ends {
  readonly oldest: Position
  readonly newest: Position
}

/**
 * Why a history did not do what it was asked.
 *
 * - `unreachable`: its engine does not answer. Whether a message was appended is not known.
 * - `size`: the message alone is more than the history keeps. It was not appended.
 * - `data`: a message cannot be encoded, or what is kept cannot be decoded.
 * - `behind`: more live messages came than `queue` of `join` holds, before the reader took them.
 *
 * @category errors
 * @since 0.1.0
 */
export class HistoryError extends Data.TaggedError("HistoryError")<{
  readonly reason: "unreachable" | "size" | "data" | "behind"
  /** What the client of the engine, or the codec, said. */
  readonly cause?: unknown
}> {
  override get message(): string {
    switch (this.reason) {
      case "unreachable":
        return `the engine of the history does not answer: see that it runs, and that this process reaches it${
          inBrackets(this.cause)
        }`
      case "size":
        return "a message is larger than all that the history keeps: append smaller ones, or raise `bytes`"
      case "data":
        return `a message of the history cannot be encoded or decoded: see that all use one codec${
          inBrackets(this.cause)
        }`
      case "behind":
        return "the reader is too slow for its live messages: end it, and let it come back with its position"
    }
  }
}

/**
 * What was said lately, by position.
 *
 * **When to use**
 *
 * `append` what goes to all readers, and let each read with `follow`. The other operations are what `follow` is made of: implement
 * them to put a history on an engine of your own.
 *
 * @category models
 * @since 0.1.0
 */
export interface History<A> {
  /** Adds a message, and gives the position after it. Interrupted, it may have added the message. */
  readonly append: (message: A) => Effect.Effect<Position, HistoryError>
  /**
   * What came after the position, the oldest first and at most `limit` messages (0 or more; default: all), or why that is not known. A
   * position may come from a peer as it is: one that makes no sense is `Gone`. No message after `newest` is nothing missed. What
   * another process has just appended comes a moment later: `awaitAfter` waits for it.
   */
  readonly since: (position: Position, limit?: number) => Effect.Effect<Missed<A> | Gone, HistoryError>
  readonly ends: Effect.Effect<Ends, HistoryError>
  /** Waits until there is something to read after the position, or it is `Gone`. May end early: look, and wait again. */
  readonly awaitAfter: (position: Position) => Effect.Effect<void, HistoryError>
}
