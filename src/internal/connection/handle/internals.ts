/** What the library needs of a connection and its users do not: one symbol, so that a wrapped connection has it too. */
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as ConnectionError from "../../../ConnectionError.ts"
import type { Frame } from "../../codec/encoder.ts"
import type { ConnectionSpan } from "../../telemetry/spans.ts"
import type { Snapshot } from "../core/snapshot.ts"
import type { Handler, Watcher } from "../core/state.ts"
import type { Explanation } from "./explanation.ts"

export const TypeId = "~holdfast/Connection"

let lastId = 0
let step = 1

/** The next id: of a connection, or of what is shown beside connections without being one (HTTP). */
export const takeId = (): number => lastId += step

/** From now on each id is a multiple of `every`, plus `first`: several processes have none in common. */
export const spreadIds = (first: number, every: number): void => {
  lastId = Math.max(0, Math.ceil(lastId / every)) * every + first
  step = every
}

/** The states of a connection, from its opening to its end. */
export type ConnectionState = "open" | "draining" | "closing" | "ended"

/**
 * What one fiber of a connection does.
 *
 * @category models
 * @since 0.1.0
 */
export interface FiberReport {
  /** `connection`: its own fiber, the parent of the four; `handler`: that of a `Server`. */
  readonly name: "connection" | "reader" | "writer" | "heartbeat" | "deadlines" | "handler"
  readonly fiber: Fiber.Fiber<unknown, unknown>
  /**
   * `waiting`: for the next read, something to write, its next ping or look. `paused`: reads nothing, because nothing is
   * received. `parked`: has nothing to wait for, such as a heartbeat that is off. `working`: none of these.
   */
  readonly state: "waiting" | "working" | "paused" | "parked" | "ended"
  readonly exit: Exit.Exit<unknown, unknown> | undefined
  /** How often the fiber itself worked: reads, writes, pings, looks at the deadlines. */
  readonly worked: number
  /** How often its work was done by a short cut, in the event that called for it, while the fiber stood by. */
  readonly direct: number
}

export interface Internals {
  /** The state alone, without the cost of a snapshot. */
  readonly state: ConnectionState
  /** The same of the reason, once there is one. */
  readonly reason: ConnectionError.Reason | undefined
  /**
   * Whether the connection is open and nothing lies between two messages: none is waiting to be received, and none has
   * begun to arrive. A pool asks before every use.
   */
  readonly isResting: boolean
  /** Whether bytes of further messages wait to be decoded, until those before them are received: the inbox is full. */
  readonly hasUndecoded?: boolean | undefined
  /**
   * There as long as nothing shows that the peer is: on a plain stream, where the kernel connects before the server knows, no
   * byte came; a WebSocket has its 101. Pings, where there is something to ping with, and calls back in a task of its own once a
   * byte has come.
   */
  readonly untilHeard?: ((watcher: () => void) => void) | undefined
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
  readonly onEnded: (watcher: Watcher) => void
  /**
   * A server stops: says goodbye, reads what had reached us by then, or comes within `Policy.stopGrace`, and drains. Undefined
   * where `drainWith` was replaced, which takes its place.
   */
  readonly stop: ((reason: ConnectionError.Reason) => void) | undefined
  /** What a snapshot is made of, without an effect: how the connection looks now. */
  readonly look: () => Snapshot
  /** The same, with all else that is known of it. */
  readonly explain?: (() => Explanation) | undefined
  /** Where a tracer is there. */
  readonly span?: ConnectionSpan | undefined
  /** A server stops its handler when the connection is gone: one call costs less than the fibers of a race. */
  readonly handledBy: (handler: Handler) => void
  readonly fibers: ReadonlyArray<FiberReport>
}
