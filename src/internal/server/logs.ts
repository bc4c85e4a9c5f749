/** What a server logs by itself, whether or not an application watches its events: what it would otherwise not learn. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import type { Reason } from "../../ConnectionError.ts"
import { explanationOf, sentence } from "../connection/handle/explanation.ts"
import type { Internals } from "../connection/handle/internals.ts"
import { logError, logLine, logWarning, plainly } from "../reasons/logs.ts"
import { oneLine } from "../reasons/text.ts"
import type { Event } from "./state.ts"

// the peer is told no text of these, which may be the application's
const untold: ReadonlySet<string> = new Set(
  [
    "HandshakeFailed",
    "InvalidMessage",
    "OpenFailed",
    "OutcomeUnknown",
    "UpgradeRefused",
    "AcquireTimeout"
  ] satisfies Array<
    Reason["_tag"]
  >
)

/** Whether an end is logged although nothing failed here. */
export const isLogged = (reason: Reason | undefined): boolean => reason !== undefined && untold.has(reason._tag)

const ended = (what: string, remote: string | undefined, reason: Reason | undefined): Effect.Effect<void> => {
  if (reason === undefined || !isLogged(reason)) return Effect.void
  const text = oneLine(`${what}${remote === undefined ? "" : ` (${remote})`}: ${reason.message}`)
  const cause = "cause" in reason ? Cause.fail(reason.cause) : Cause.empty
  return Effect.suspend(() => logLine("Info", text, plainly(cause)))
}

/** Every end with all that is known of it, for those who log at that level: nothing is made of it otherwise. */
export const loggedEnd = (internals: Internals): Effect.Effect<void> =>
  Effect.withFiber((fiber) =>
    LogLevel.isGreaterThan(fiber.getRef(References.MinimumLogLevel), "Debug")
      ? Effect.void
      : logLine("Debug", sentence(explanationOf(internals)))
  )

/** The log line of an event, if it has one. Defects are logged where they are found. */
export const logged = (event: Event): Effect.Effect<void> => {
  switch (event._tag) {
    case "Closed": {
      const { failure, snapshot: { id, reason, remote } } = event
      if (failure === undefined) return ended(`connection ${id} ended`, remote, reason)
      return Cause.hasDies(failure) ? Effect.void : logError(`the handler of connection ${id} failed`, failure)
    }
    case "Refused":
      return ended("a connection was refused", event.remote, event.reason)
    case "AcceptFailed":
      return logWarning(`accepting failed, next try in ${event.retryAfter} ms`, event.cause)
    case "MemoryTight": {
      const { held, limit } = event
      return logLine("Warn", `the connections hold ${held} of ${limit} bytes: some are not read, and new ones wait`)
    }
    default:
      return Effect.void
  }
}
