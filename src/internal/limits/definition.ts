/** The definition of a limit: its schema, default, unit, what 0 means, and its flag, said in one place. */
import * as ByteSize from "effect/ByteSize"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"
import { seconds } from "../reasons/text.ts"

// ---------------------------------------------------------------------------------------------------------------------
// how people write durations and sizes
// ---------------------------------------------------------------------------------------------------------------------

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
export const needsUnit = (text: string): string =>
  `${text.trim()} what? a duration needs a unit, such as ${text.trim()}s`

/** What is written in place of a text that is no duration, where a person has to give the unit. */
export const aDuration = "a duration such as \"500ms\", \"25s\" or \"1m 30s\""

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

// ---------------------------------------------------------------------------------------------------------------------
// a definition, and the schema that it is attached to
// ---------------------------------------------------------------------------------------------------------------------

/** The commands that can show a limit as a flag. */
export type Command = "serve" | "connect"

/** What a limit has whatever its unit. */
export interface Common {
  /**
   * What 0 means: `off` and `no limit` turn the limit off; any other text completes the sentence "0 ..." and leaves 0 a
   * value like others.
   */
  readonly zero?: string
  /** The number that stands for a limit that is off. Default `Infinity`, that of an upper bound. */
  readonly off?: number
  /** The commands with a flag for it. */
  readonly on?: ReadonlyArray<Command>
  /** The name of its flag, where that is not its own in kebab case. */
  readonly flag?: string
  /** The limits of the same set that must not be more than this one. */
  readonly atLeast?: AtLeast | ReadonlyArray<AtLeast>
  /** The list of the same set that has no entry in common with this one. */
  readonly apartFrom?: string
}

/** Two limits that can contradict each other, as the larger one says it. */
export interface AtLeast {
  readonly limit: string
  /**
   * Which of the two follows the other where it is a default, and the other was given. Two of which only the `other` follows do not
   * contradict each other: both may be given.
   */
  readonly follows: "neither" | "this" | "both" | "other"
  /** How many times the smaller one the larger one becomes when one follows. Default 1. */
  readonly times?: number
}

/** All that is said of a limit. */
export interface Definition extends Common {
  readonly name: string
  readonly kind: "duration" | "bytes" | "count" | "number" | "choice" | "switch" | "list"
  /** What it limits: the help of its flag, and the beginning of its docstring and of its row in the guide. */
  readonly says: string
  /** Why one would want it, or why its default is what it is. For the docs. */
  readonly why: string | undefined
  /** The value that it has when none is given. */
  readonly default: unknown
  /** The least whole number that it can be. */
  readonly minimum?: number
  /** All that it can be. */
  readonly choices?: ReadonlyArray<string>
}

const key = "holdfast/limit"

/** The last part of a definition, which attaches it to its schema. */
export const define = <S extends Schema.Top>(schema: S, definition: Omit<Definition, "says" | "why">) => ({
  /** What it limits, and why one would want it or why its default is what it is. */
  says: (says: string, why?: string): S["Rebuild"] =>
    schema.annotate({ [key]: { ...definition, says, why } satisfies Definition, description: says } as {})
})

/** The definition that a maker of `limit` attached to a schema. */
export const definitionOf = (schema: Schema.Constraint): Definition =>
  Schema.resolveAnnotations(schema)![key] as Definition

/** The definitions of a set of limits, in the order in which they are written. */
export const definitionsOf = <Fields extends Schema.Struct.Fields>(
  fields: Fields
): { readonly [K in keyof Fields]: Definition } =>
  Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, definitionOf(field)])) as never

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

const Text = Schema.Union([Schema.String, Schema.Finite])

const isWhole = (value: number, minimum: number): boolean => Number.isSafeInteger(value) && value >= minimum

const whole = (name: string, minimum: number) =>
  Schema.makeFilter((n: number) =>
    isWhole(n, minimum) ? undefined : `${name} must be a whole number, at least ${minimum}`
  )

/** A duration, in data as text (`"25s"`) or milliseconds. Never negative. */
export const duration = (name: string, options: Common & { readonly default: string }) =>
  define(
    Text.pipe(Schema.decodeTo(
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
    )),
    { name, kind: "duration", ...options, default: Option.getOrThrow(parseDuration(options.default)) }
  )

/** A number of bytes, in data also as text (`"64 KiB"`). At least 1, unless 0 turns it off. */
export const bytes = (name: string, options: Common & { readonly default: string; readonly minimum?: number }) =>
  define(
    Text.pipe(Schema.decodeTo(
      Schema.Number.check(whole(name, options.minimum ?? 1)),
      readable(`${name} as bytes such as 65536, "64 KiB" or "1 MiB"`, parseBytes, (n) => n, (n) => n)
    )),
    { name, kind: "bytes", minimum: 1, ...options, default: Option.getOrThrow(parseBytes(options.default)) }
  )

/** A whole number, at least `minimum`. */
export const count = (name: string, options: Common & { readonly default: number; readonly minimum: number }) =>
  define(Schema.Number.check(whole(name, options.minimum)), { name, kind: "count", ...options })

const number = (
  name: string,
  isRight: (n: number) => boolean,
  expected: string,
  options: Common & { default: number }
) =>
  define(
    Schema.Number.check(Schema.makeFilter((n: number) => isRight(n) ? undefined : `${name} must be ${expected}`)),
    { name, kind: "number", ...options }
  )

/** A number between 0 and 1. */
export const fraction = (name: string, options: Common & { readonly default: number }) =>
  number(name, (n) => n >= 0 && n <= 1, "between 0 and 1", options)

/** A number that something is multiplied with. At least 1. */
export const factor = (name: string, options: Common & { readonly default: number }) =>
  number(name, (n) => n >= 1, "at least 1", options)

/** One of some words. */
export const choice = <const L extends ReadonlyArray<string>>(
  name: string,
  choices: L,
  options: Common & { readonly default: L[number] }
) => define(Schema.Literals(choices), { name, kind: "choice", choices, ...options })

/** On or off. */
export const toggle = (name: string, options: Common & { readonly default: boolean }) =>
  define(Schema.Boolean, { name, kind: "switch", ...options })

const isOffAtZero = ({ zero }: Definition): boolean => zero === "off" || zero === "no limit"

/** Whether a value turns its limit off. */
export const isOff = (definition: Definition, value: unknown): boolean => {
  const number = Duration.isDuration(value) ? Duration.toMillis(value) : value
  return isOffAtZero(definition) && (number === 0 || number === Infinity)
}

/** What 0 means, as a sentence; empty where it means nothing special. */
export const zeroOf = (definition: Definition): string =>
  definition.zero === undefined ? "" : `0 ${isOffAtZero(definition) ? "is " : ""}${definition.zero}`

/** A limit as the number that is compared with: milliseconds, bytes or a count. What is off is `Infinity`. */
export const numberOf = (definition: Definition, value: unknown): number =>
  isOff(definition, value)
    ? definition.off ?? Infinity
    : Duration.isDuration(value)
    ? Duration.toMillis(value)
    : value as number

/** Limits with durations as numbers. */
export type Numbers<Fields extends Schema.Struct.Fields> = {
  readonly [K in keyof Fields]: Fields[K]["Type"] extends Duration.Duration ? number : Fields[K]["Type"]
}

/** Reads all limits of a set: durations in milliseconds, and what is off is `Infinity`. */
export const numbersOf = <Fields extends Schema.Struct.Fields>(fields: Fields) => {
  const definitions = Object.values(definitionsOf(fields)) as ReadonlyArray<Definition>
  return (values: Schema.Struct.Type<Fields>): Numbers<Fields> =>
    Object.fromEntries(definitions.map((definition) => {
      const value: unknown = values[definition.name as keyof typeof values]
      const isNumber = typeof value === "number" || Duration.isDuration(value)
      return [definition.name, isNumber ? numberOf(definition, value) : value]
    })) as Numbers<Fields>
}

/** What is wrong with a whole number, in the words of options. */
export const wrongCount = ({ minimum = 0, name }: Definition, value: number): string | undefined =>
  isWhole(value, minimum) ? undefined : `${name} has to be a whole number of at least ${minimum}, it is ${value}`

/** A value of a limit as a person writes it. */
export const written = ({ kind }: Definition, value: unknown): string => {
  switch (kind) {
    case "duration": {
      const printed = printDuration(value as Duration.Duration)
      return typeof printed === "string" ? printed : seconds(printed)
    }
    case "bytes":
      return printBytes(value as number)
    case "list":
      return (value as ReadonlyArray<unknown>).join(",") || "none"
    default:
      return String(value)
  }
}
