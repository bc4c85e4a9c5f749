/** What a test logs, one line each: the level, the first part of the message, and what the defect said. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"

const textOf = (part: unknown): string => {
  if (!Cause.isCause(part)) return String(part)
  const squashed = Cause.squash(part)
  return squashed instanceof Error ? squashed.message : String(squashed)
}

export const withLogs = <A, E, R>(
  test: (lines: Array<string>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make(({ cause, logLevel, message }) => {
      const parts = Array.isArray(message) ? message : [message]
      const causes = cause.reasons.length > 0 ? [cause] : []
      lines.push(`${logLevel} ${[...parts, ...causes].map(textOf).join(": ")}`)
    })
    return Effect.provide(test(lines), Logger.layer([logger]))
  })
