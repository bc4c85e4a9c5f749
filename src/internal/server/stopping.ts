/** The stop of a server: the last accepts, goodbyes and last reads, answers, the end. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as ConnectionError from "../../ConnectionError.ts"
import { TypeId } from "../connection/handle/internals.ts"
import { lastWords } from "../endings/reports.ts"
import { afterTurns } from "../scheduling/turns.ts"
import { cutShort, drained, fibersOf } from "./draining.ts"
import type { Guest, Served, ServerState } from "./state.ts"

// turns of the event loop in which what has come before is accepted, shakes hands and is read
const turnsOfAccept = 3

/** Asks one connection to leave. What had reached it is received. */
const askToLeave = <C extends Served<never>>({ connection }: Guest<C>): Effect.Effect<void> => {
  if (connection === undefined) return Effect.void
  const internals = connection[TypeId]
  const reason = new ConnectionError.GoingAway({})
  return internals.stop === undefined ? connection.drainWith(reason) : Effect.sync(() => internals.stop!(reason))
}

/**
 * In order: accepts what the kernel has accepted, refuses what comes from then on, asks every connection to leave, waits for
 * them (`Policy.drain`), and ends those that are still there. `lastAccept` and `end` are of the accept loop.
 */
export const stop = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R>,
  lastAccept: Effect.Effect<void> | undefined,
  end: Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { admission, endReports, guests, refusals, turns } = server
    admission.leaving()
    if (lastAccept !== undefined) yield* lastAccept
    yield* afterTurns(turns, turnsOfAccept)
    // guests that come from now on are refused, and not waited for
    const present = Array.from(guests)
    admission.stop()
    for (const guest of present) yield* askToLeave(guest)
    if (!(yield* drained(server, present))) cutShort()
    yield* end
    refusals.flush()
    const cut = fibersOf(guests)
    for (const fiber of cut) fiber.interruptUnsafe()
    yield* Effect.timeoutOption(Fiber.awaitAll(cut), lastWords)
    yield* endReports
    yield* Fiber.awaitAll(cut)
  })
