/** Durations and sizes as people write them: read from text, and written as text. */
import * as ByteSize from "effect/ByteSize"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const units: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const compact = /^(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)\s*)+$/
const compactPart = /(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)/g
const bare = /^\d+(?:\.\d+)?$/

/**
 * Reads a duration as people write it: `25s`, `1m 30s`, `500 ms`, `25 seconds`, `Infinity`, or a bare number of
 * milliseconds.
 */
export const parseDuration = (text: string): Option.Option<Duration.Duration> => {
  const trimmed = text.trim()
  if (bare.test(trimmed)) return Option.some(Duration.millis(Number(trimmed)))
  if (!compact.test(trimmed)) {
    return Duration.fromInput((/^inf(inity)?$/i.test(trimmed) ? "Infinity" : trimmed) as Duration.Input)
  }
  let millis = 0
  for (const [, amount, unit] of trimmed.matchAll(compactPart)) millis += Number(amount) * units[unit!]!
  return Option.some(Duration.millis(millis))
}

/** Whether a text is a number other than 0 without a unit: a person who writes it as a duration may mean seconds. */
export const lacksUnit = (text: string): boolean => bare.test(text.trim()) && Number(text) !== 0

/** What such a text lacks. */
export const needsUnit = (text: string): string => `a duration needs a unit, such as ${text.trim()}s`

/** Reads a number of bytes as people write it: `1048576`, `1MiB`, `64 KiB`, `10 MB`. */
export const parseBytes = (text: string): Option.Option<number> => {
  const trimmed = text.trim()
  if (/^\d+$/.test(trimmed)) return Option.some(Number(trimmed))
  const spaced = trimmed.replace(/^([\d.]+)\s*([KMGT]i?)?B?$/i, (_, amount: string, unit: string | undefined) => {
    const prefix = unit === undefined ? "" : unit[0]!.toUpperCase() + (unit[1] === undefined ? "" : "i")
    return `${amount} ${prefix === "K" ? "k" : prefix}B`
  })
  return Option.flatMap(ByteSize.fromString(spaced), ByteSize.toNumber)
}

/** A duration as JSON data. What is finer than a millisecond has no unit here that people write. */
export const printDuration = (duration: Duration.Duration): string | number => {
  const millis = Duration.toMillis(duration)
  return !Number.isFinite(millis) ? "Infinity" : Number.isInteger(millis) ? Duration.format(duration) : millis
}

/** A number of bytes with the largest unit that leaves it whole: `64 KiB`. */
export const printBytes = (bytes: number): string => {
  const prefixes = ["", "Ki", "Mi", "Gi"]
  let unit = 0
  while (unit < prefixes.length - 1 && bytes > 0 && bytes % 1024 === 0) {
    bytes /= 1024
    unit++
  }
  return `${bytes} ${prefixes[unit]}B`
}
