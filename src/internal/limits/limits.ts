/** Limits as data: how people write them, and how a set of them is checked, changed and read from configuration. */
import * as ByteSize from "effect/ByteSize"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"

// ---------------------------------------------------------------------------------------------------------------------
// reading durations and sizes as people write them
// ---------------------------------------------------------------------------------------------------------------------

const units: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const compact = /^(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)\s*)+$/
const compactPart = /(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)/g

/**
 * Reads a duration as people write it: `25s`, `1m 30s`, `500 ms`, `25 seconds`, `Infinity`, or a bare number of
 * milliseconds.
 */
export const parseDuration = (text: string): Option.Option<Duration.Duration> => {
  const trimmed = text.trim()
  if (/^\d+(?:\.\d+)?$/.test(trimmed)) return Option.some(Duration.millis(Number(trimmed)))
  if (!compact.test(trimmed)) {
    return Duration.fromInput((/^inf(inity)?$/i.test(trimmed) ? "Infinity" : trimmed) as Duration.Input)
  }
  let millis = 0
  for (const [, amount, unit] of trimmed.matchAll(compactPart)) millis += Number(amount) * units[unit!]!
  return Option.some(Duration.millis(millis))
}

/**
 * Reads a number of bytes as people write it: `1048576`, `1MiB`, `64 KiB`, `10 MB`.
 */
export const parseBytes = (text: string): Option.Option<number> => {
  const trimmed = text.trim()
  if (/^\d+$/.test(trimmed)) return Option.some(Number(trimmed))
  const spaced = trimmed.replace(/^([\d.]+)\s*([KMGT]i?)?B?$/i, (_, amount: string, unit: string | undefined) => {
    const prefix = unit === undefined ? "" : unit[0]!.toUpperCase() + (unit[1] === undefined ? "" : "i")
    return `${amount} ${prefix === "K" ? "k" : prefix}B`
  })
  return Option.flatMap(ByteSize.fromString(spaced), ByteSize.toNumber)
}

const readable = <A>(
  expected: string,
  parse: (text: string) => Option.Option<A>,
  fromNumber: (value: number) => A,
  print: (value: A) => string | number
) =>
  SchemaTransformation.transformEffect<A, string | number>({
    decode: (input, options) => {
      const read = typeof input === "number" ? Option.some(fromNumber(input)) : parse(input)
      return Option.isSome(read)
        ? Effect.succeed(read.value)
        : Effect.fail(new SchemaIssue.InvalidValue({ expected }, input, options))
    },
    encode: (value) => Effect.succeed(print(value))
  })

// what is finer than a millisecond has no unit here that people write
const printDuration = (duration: Duration.Duration): string | number => {
  const millis = Duration.toMillis(duration)
  return !Number.isFinite(millis) ? "Infinity" : Number.isInteger(millis) ? Duration.format(duration) : millis
}

const Text = Schema.Union([Schema.String, Schema.Finite])

export const limit = (name: string) =>
  Text.pipe(
    Schema.decodeTo(
      Schema.Duration.check(
        Schema.makeFilter((d: Duration.Duration) =>
          Duration.toMillis(d) < 0 ? `${name} must not be negative; 0 turns a limit off` : undefined
        )
      ),
      readable(
        `${name} as a duration such as "25s", "1m 30s" or a number of milliseconds`,
        parseDuration,
        Duration.millis,
        printDuration
      )
    )
  )

const whole = (name: string, minimum: number) =>
  Schema.makeFilter((n: number) =>
    !Number.isSafeInteger(n) || n < minimum ? `${name} must be a whole number, at least ${minimum}` : undefined
  )

export const bytes = (name: string) =>
  Text.pipe(
    Schema.decodeTo(
      Schema.Number.check(whole(name, 1)),
      readable(`${name} as bytes such as 65536, "64 KiB" or "1 MiB"`, parseBytes, (n) => n, (n) => n)
    )
  )

export const count = (name: string, minimum: number) => Schema.Number.check(whole(name, minimum))

export const fraction = (name: string) =>
  Schema.Number.check(
    Schema.makeFilter((n: number) => (n >= 0 && n <= 1 ? undefined : `${name} must be between 0 and 1`))
  )

/** Some fields of a set of limits, with durations as people write them in code. */
export type Patch<Fields extends Schema.Struct.Fields> = {
  readonly [K in keyof Fields]?: Fields[K]["Type"] extends Duration.Duration ? Duration.Input | undefined
    : Fields[K]["Type"] | undefined
}

export const oneLine = (message: string): string => message.replace(/\n\s+at /g, " at ").replace(/\n\s*/g, "; ")

/**
 * Checks a set of limits with some of its fields changed; says all that is wrong with them, each by its name. `names` are
 * the fields there are, and `durations` those of them that are durations.
 */
export const patcher = <A>(
  fields: Schema.Struct.Fields,
  names: object,
  durations: ReadonlySet<string>,
  build: (values: never) => A
) => {
  const construct = Schema.decodeUnknownResult(
    Schema.toType(Schema.Struct(fields)) as unknown as typeof Schema.Unknown,
    {
      errors: "all"
    }
  )
  return (from: object, patch: object): Result.Result<A, string> => {
    const input: Record<string, unknown> = { ...from }
    const wrong: Array<string> = []
    for (const [name, value] of Object.entries(patch)) {
      if (value === undefined) continue
      if (!Object.hasOwn(names, name)) wrong.push(`there is no field ${JSON.stringify(name)}`)
      else if (!durations.has(name)) input[name] = value
      else {
        const read = typeof value === "string" ? parseDuration(value) : Duration.fromInput(value as Duration.Input)
        // a duration made of NaN is zero, which would mean "off"
        if (Option.isNone(read) || Number.isNaN(value)) wrong.push(`${name} is not a duration: ${String(value)}`)
        else input[name] = read.value
      }
    }
    const checked = construct(input)
    if (Result.isFailure(checked)) wrong.push(oneLine(checked.failure.message))
    else if (wrong.length === 0) return Result.succeed(build(checked.success as never))
    return Result.fail(wrong.join("; "))
  }
}

/** Reads a set of limits from configuration; what is not set is as in `encoded`. */
export const configOf = <Fields extends Schema.Struct.Fields>(
  fields: Fields,
  encoded: object
): Config.Config<Schema.Struct.Type<Fields>> => {
  const defaults = encoded as Record<string, unknown>
  const withDefaults = Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [
      name,
      (field as unknown as typeof Schema.String).pipe(
        Schema.withDecodingDefaultKey(Effect.succeed(defaults[name] as string))
      )
    ])
  ) as unknown as Fields
  return Config.schema(
    Schema.Struct(withDefaults) as unknown as typeof Schema.Unknown
  ) as Config.Config<Schema.Struct.Type<Fields>>
}
