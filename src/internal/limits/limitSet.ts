/** A set of limits: changed, read from data and from configuration, and checked for limits that contradict each other. */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import { type AtLeast, type Definition, definitionsOf, numberOf, parseDuration, written } from "./definition.ts"

/**
 * Some fields of a set of limits, with durations as people write them in code.
 *
 * @category models
 * @since 0.1.0
 */
export type PatchOf<Fields extends Schema.Struct.Fields> = {
  readonly [K in keyof Fields]?: Fields[K]["Type"] extends Duration.Duration ? Duration.Input | undefined
    : Fields[K]["Type"] | undefined
}

type Values = Readonly<Record<string, unknown>>

/**
 * How limits are changed that contradict each other.
 *
 * - `code`: a default follows what was given. Two that are given together are refused; one that is given after the other, on top
 *   of a set that has it, is taken: a program may mean it.
 * - `data`: a default follows, two given ones are refused.
 * - `exact`: nothing changes but what is named. Two that are named together are refused.
 * - `whole`: every limit is named, as `encode` writes them, and all are taken.
 *
 * A pair of which neither follows is refused in any case.
 */
type Mode = "code" | "data" | "exact" | "whole"

/** Two limits of which the first must not be more than the second. */
interface Pair {
  readonly low: Definition
  readonly high: Definition
  readonly follows: AtLeast["follows"]
  readonly times: number
}

/** A name as environment variables are written: `PING_EVERY`. */
const screaming = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()

const oneLine = (message: string): string => message.replace(/\n\s+at /g, " at ").replace(/\n\s*/g, "; ")

const pairsOf = (definitions: Readonly<Record<string, Definition>>): ReadonlyArray<Pair> =>
  Object.values(definitions).flatMap((high) =>
    [high.atLeast ?? []].flat().map(({ follows, limit, times = 1 }) => ({
      low: definitions[limit]!,
      high,
      follows,
      times
    }))
  )

/** Whether both limits are on, and the second is less than some times the first. */
const isBelow = ({ high, low }: Pair, values: Values, times: number): boolean => {
  const least = times * numberOf(low, values[low.name])
  const most = numberOf(high, values[high.name])
  return Number.isFinite(least) && Number.isFinite(most) && most < least
}

const multiplied = (value: unknown, factor: number): unknown =>
  Duration.isDuration(value)
    ? Duration.millis(Duration.toMillis(value) * factor)
    : Math.min(value as number * factor, Number.MAX_SAFE_INTEGER)

const inBoth = ({ apartFrom, name }: Definition, values: Values): string | undefined => {
  const others = values[apartFrom!] as ReadonlyArray<unknown>
  const twice = (values[name] as ReadonlyArray<unknown>).filter((entry) => others.includes(entry))
  return twice.length === 0 ? undefined : `${twice.join(", ")} is in ${apartFrom} and in ${name}`
}

// what was given for each set; the rest of it are defaults. Of a set that was made elsewhere everything was
const origins = new WeakMap<object, ReadonlySet<string>>()

/** Whether a limit of a set was given, and is no default. */
export const isGiven = (set: object, name: string): boolean => origins.get(set)?.has(name) ?? true

/**
 * What a module does with a set of limits whose fields are made with `limit`.
 *
 * `build` makes an instance of checked values.
 */
export const limitSet = <Fields extends Schema.Struct.Fields, A extends object>(
  fields: Fields,
  build: (values: never) => A
) => {
  const definitions: Readonly<Record<string, Definition>> = definitionsOf(fields)
  const pairs = pairsOf(definitions)
  const lists = Object.values(definitions).filter(({ apartFrom }) => apartFrom !== undefined)
  const some = Schema.Struct(
    Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, Schema.optionalKey(field)]))
  ) as unknown as Schema.Codec<Values, Values>
  const variables = Schema.Struct(
    Object.fromEntries(Object.entries(fields).map(([name, field]) => [screaming(name), Schema.optionalKey(field)]))
  ) as unknown as Schema.Codec<Values, Values>
  const ofVariables = (given: Values): Values =>
    Object.fromEntries(
      Object.keys(fields).filter((name) => screaming(name) in given).map((name) => [name, given[screaming(name)]])
    )
  const check = Schema.decodeUnknownResult(Schema.toType(some), { errors: "all" })
  const decode = Schema.decodeUnknownResult(some, { errors: "all", onExcessProperty: "error" })
  const everything: ReadonlySet<string> = new Set(Object.keys(definitions))

  const record = (set: A, given: ReadonlySet<string>): A => {
    origins.set(set, given)
    return set
  }

  /** Changes some limits of a set, all of them right by themselves. */
  const settle = (from: A, given: Values, mode: Mode): Result.Result<A, string> => {
    const names = new Set([...(origins.get(from) ?? everything), ...Object.keys(given)])
    const values: Record<string, unknown> = { ...from, ...given }
    const wrong: Array<string> = []
    const isDefault = ({ name }: Definition): boolean => mode !== "exact" && !names.has(name)
    const isRefused = ({ follows, high, low }: Pair): boolean => {
      const both = [low.name, high.name]
      if (follows === "other") return false
      return follows === "neither" ||
        ((mode === "exact" || mode === "code") && both.every((name) => name in given)) ||
        (mode === "data" && both.every((name) => names.has(name)) && both.some((name) => name in given))
    }
    for (const pair of pairs) {
      const { follows, high, low, times } = pair
      if (!isBelow(pair, values, times)) continue
      if ((follows === "this" || follows === "both") && isDefault(high)) {
        values[high.name] = multiplied(values[low.name], times)
      } else if ((follows === "other" || follows === "both") && isDefault(low)) {
        values[low.name] = multiplied(values[high.name], 1 / times)
      } else if (isBelow(pair, values, 1) && isRefused(pair)) {
        const [least, most] = [low, high].map((it) => `${it.name} (${written(it, values[it.name])})`)
        wrong.push(`${least} must not be more than ${most}`)
      }
    }
    for (const list of lists) {
      const twice = inBoth(list, values)
      if (twice !== undefined) wrong.push(twice)
    }
    if (wrong.length > 0) return Result.fail(wrong.join("; "))
    return Result.succeed(record(build(values as never), names))
  }

  /** Names what is wrong with a patch, or returns its values. */
  const valuesOf = (patch: object): Result.Result<Values, string> => {
    const given: Record<string, unknown> = {}
    const wrong: Array<string> = []
    for (const [name, value] of Object.entries(patch)) {
      if (value === undefined) continue
      const definition = Object.hasOwn(definitions, name) ? definitions[name] : undefined
      if (definition === undefined) wrong.push(`there is no field ${JSON.stringify(name)}`)
      else if (definition.kind !== "duration") given[name] = value
      else {
        const read = typeof value === "string" ? parseDuration(value) : Duration.fromInput(value as Duration.Input)
        // a duration made of NaN is zero, which would mean "off"
        if (Option.isNone(read) || Number.isNaN(value)) wrong.push(`${name} is not a duration: ${String(value)}`)
        else given[name] = read.value
      }
    }
    const checked = check(given)
    if (Result.isFailure(checked)) wrong.push(oneLine(checked.failure.message))
    else if (wrong.length === 0) return Result.succeed(checked.success)
    return Result.fail(wrong.join("; "))
  }

  const defaults = record(
    build(Object.fromEntries(Object.values(definitions).map(({ default: value, name }) => [name, value])) as never),
    new Set()
  )

  return {
    defaults,
    /** Changes some limits of a set in code; says all that is wrong, each by its name. */
    change: (from: A, patch: object, mode: Mode): Result.Result<A, string> =>
      Result.flatMap(valuesOf(patch), (given) => settle(from, given, mode)),
    /** The same of a preset, whose limits are defaults. */
    preset: (patch: PatchOf<Fields>): A => {
      const set = Result.flatMap(valuesOf(patch), (given) => settle(defaults, given, "exact"))
      return record(Result.getOrThrowWith(set, (wrong) => new Error(wrong)), new Set())
    },
    /** Reads data: an object with any of the fields. One with all of them, as `encode` writes it, is taken as it is. */
    read: (from: A, input: object): Result.Result<A, string> => {
      const read = decode(input)
      if (Result.isSuccess(read)) {
        return settle(from, read.success, Object.keys(read.success).length < everything.size ? "data" : "whole")
      }
      return Result.fail(
        oneLine(read.failure.message)
          .replace(/Expected no excess property at \["([^"]*)"\]/g, "there is no field \"$1\"")
      )
    },
    /** Reads configuration; what is not set is as in `from`. With a prefix, variables: `PREFIX_PING_EVERY`. */
    config: (from: A, prefix: string | undefined): Config.Config<A> =>
      (prefix === undefined
        ? Config.schema(some)
        // a provider of variables finds what is below a name by its words
        : Config.map(Config.schema(variables, prefix.split("_").filter((word) => word !== "")), ofVariables)).pipe(
          Config.mapEffect((given) =>
            Effect.mapError(
              Effect.fromResult(settle(from, given, "data")),
              (message) =>
                new Config.ConfigError(new Schema.SchemaError(new SchemaIssue.InvalidValue({ message }, given)))
            )
          ),
          // below a name of which nothing is set there is not even an object to read
          Config.withDefault(from)
        )
  }
}
