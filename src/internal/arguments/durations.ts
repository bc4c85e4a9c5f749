/** Durations that an application gives, and that are no limits of a policy. */
import * as Duration from "effect/Duration"

/**
 * Milliseconds, zero or more. Throws, with the name, where a duration is negative or none: Effect takes `NaN` for no time at all,
 * which means "always" or "off" in most places.
 */
export const millisOf = (name: string, input: Duration.Input): number => {
  const duration = Duration.fromInput(input)
  if (duration._tag === "None" || Number.isNaN(input)) {
    throw new RangeError(`${name} must be a duration, and not ${String(input)}`)
  }
  const millis = Duration.toMillis(duration.value)
  if (millis < 0) throw new RangeError(`${name} must not be negative`)
  return millis
}
