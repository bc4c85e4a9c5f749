/** What the library needs of a connection and its users do not: one symbol, so that a wrapped connection has it too. */
import type { Frame } from "../outbox.ts"

export const TypeId = "~holdfast/Connection"

/** The states of a connection, from its opening to its end. */
export type State = "open" | "draining" | "closing" | "ended"

export interface Internals {
  /** The state alone, without the cost of a snapshot. */
  readonly state: State
  /**
   * Whether the connection is open and nothing lies between two messages: none is waiting to be received, and none has
   * begun to arrive. A pool asks before every use.
   */
  readonly isResting: boolean
  /**
   * After the end: how many of the messages accepted last no write had begun with, so that the peer cannot have seen any
   * of them. `Snapshot.lost` counts also those in the write that was under way.
   */
  readonly untouched: number
  /**
   * By how many milliseconds the connection has outlived what its policy allows, or 0. More than 0 twice in a row, a second
   * or more apart, means that its own deadlines are not watched any more.
   */
  readonly overdue: number
  /** `offerFrame` without an effect for each connection of a broadcast; undefined where `offerFrame` was replaced. */
  readonly offerNow: ((frame: Frame) => boolean) | undefined
  /** Calls back when the connection has ended, once its transport is released; at once where it has. Must not throw. */
  readonly onEnded: (watcher: () => void) => void
  /**
   * Calls back once the connection has ended; where messages still wait to be received then, `Policy.drain` later. A server
   * stops its handler with it; one callback costs less than the fibers of a race.
   */
  readonly onGone: (watcher: () => void) => void
}
