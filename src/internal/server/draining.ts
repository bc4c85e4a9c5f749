/** How far a server is with its stop: counted, told every second, and waited for. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { limitOf } from "../connection/core/limits.ts"
import { explanationOf } from "../connection/handle/explanation.ts"
import { TypeId } from "../connection/handle/internals.ts"
import type { Add } from "../telemetry/collector.ts"
import type { Guest, Left, Served, ServerState, Stats } from "./state.ts"

// a drain that takes longer tells how it goes on: milliseconds
const tellEvery = 1000

const none: Left = { opening: 0, open: 0, draining: 0, closing: 0, ended: 0 }

/** Counts guests by the state of their connection. */
const leftOf = <C extends Served<never>>(guests: Iterable<Guest<C>>): Left => {
  const counts = { ...none }
  for (const { connection } of guests) counts[connection === undefined ? "opening" : connection[TypeId].state]++
  return counts
}

export const fibersOf = <C>(guests: Iterable<Guest<C>>): Array<Fiber.Fiber<unknown, unknown>> => {
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  for (const { fiber } of guests) if (fiber !== undefined) fibers.push(fiber)
  return fibers
}

/** Whether a connection was ended by its own drain, which has the same limit, or another one. */
const ranOut = <C extends Served<never>>({ connection }: Guest<C>): boolean =>
  connection !== undefined && explanationOf(connection[TypeId]).deadline === "drain"

/** Waits for guests to end, for `Policy.drain` at most; false when one was cut, here or by its own drain. */
export const drained = <C extends Served<Out>, Out, Session, R>(
  { guests, now, policy, progress }: ServerState<C, Out, Session, R>,
  present: ReadonlyArray<Guest<C>>
): Effect.Effect<boolean> => {
  const limit = limitOf(policy, "drain")
  const began = now()
  const wait: Effect.Effect<boolean> = Effect.suspend(() => {
    const after = now() - began
    if (after >= limit) return Effect.succeed(false)
    // the same fibers as before, less those that have ended
    const left = present.filter((guest) => guests.has(guest))
    return Effect.flatMap(
      Effect.timeoutOption(Fiber.awaitAll(fibersOf(left)), Math.min(tellEvery, limit - after)),
      (ended) => {
        const after = now() - began
        if (Option.isSome(ended)) return Effect.succeed(after < limit && !present.some(ranOut))
        const states = leftOf(guests)
        if (after < limit) progress({ left: guests.size, states, after: Math.round(after), limit })
        return wait
      }
    )
  })
  return limit > 0 ? wait : Effect.succeed(true)
}

/** What can be told of a server now; undefined: of one that has not run. */
export const statsOf = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R> | undefined
): Stats => {
  if (server === undefined) return { phase: "idle", connections: none, waiting: 0, opened: 0, refused: {} }
  const { admission, guests, opened, refusals } = server
  return {
    phase: !admission.isLeaving ? "serving" : admission.isStopping && guests.size === 0 ? "stopped" : "stopping",
    connections: leftOf(guests),
    waiting: admission.size,
    opened: opened.count,
    refused: refusals.counts
  }
}

/** What metrics tell of a server. */
export const figures = <C extends Served<Out>, Out, Session, R>(
  { admission, counts, opened, refusals }: ServerState<C, Out, Session, R>,
  add: Add
): void => {
  let refused = 0
  for (const [limit, count] of Object.entries(refusals.counts)) {
    refused += count
    add("server_refused_total", count, limit)
  }
  add("server_accepted_total", opened.count + refused)
  add("server_handled_total", opened.count)
  add("server_opening", counts.opening)
  add("server_waiting", admission.size)
  add("server_accept_failures_total", counts.failed)
}

// ---------------------------------------------------------------------------------------------------------------------
// what the exit code of a process tells
// ---------------------------------------------------------------------------------------------------------------------

let isCutShort = false

/** A server begins: the process goes on, whatever became of a server before. */
export const begin = (): void => {
  isCutShort = false
}

/** A drain took as long as it may, and connections were ended that were still there. */
export const cutShort = (): void => {
  isCutShort = true
}

/** Whether that became of a server since the last one began. */
export const wasCutShort = (): boolean => isCutShort
