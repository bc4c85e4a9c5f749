/** The limits of a policy as command-line flags, and the policy file they change. */
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import {
  aDuration,
  type Command,
  type Definition,
  definitionsOf,
  lacksUnit,
  needsUnit
} from "../internal/limits/definition.ts"
import { flagOf, helpOf } from "../internal/limits/docs.ts"
import * as Workers from "../node/Workers.ts"
import * as Policy from "../Policy.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { readFile } from "./files.ts"

/** Fields of a policy, as its JSON has them. */
type Fields = Readonly<Record<string, unknown>>

/** Those of all limits of a policy. */
export const definitions: Readonly<Record<string, Definition>> = definitionsOf(Policy.Policy.fields)

const metavars: Partial<Record<Definition["kind"], string>> = {
  duration: "DURATION",
  bytes: "BYTES",
  count: "N",
  list: "LIST"
}

/** A text as the JSON of a policy has it, or what a person is asked to write in its place. */
const read = (definition: Definition, text: string): Effect.Effect<Fields, string> => {
  // seconds in the mind of who writes it, milliseconds to us
  if (definition.kind === "duration" && lacksUnit(text)) {
    return Effect.fail(needsUnit(text))
  }
  if (definition.kind === "duration" && Option.isNone(Policy.parseDuration(text))) return Effect.fail(aDuration)
  const fields = { [definition.name]: definition.kind === "count" && text.trim() !== "" ? Number(text) : text }
  // checked here, so that the error names the flag, and not the field
  return Effect.as(
    Effect.mapError(Policy.decode(fields), ({ detail }) => detail.replace(/ at \["[^\]]*"\]$/, "")),
    fields
  )
}

const flag = (definition: Definition): Flag.Flag<Option.Option<Fields>> => {
  const name = flagOf(definition)
  const { choices } = definition
  const fields: Flag.Flag<Fields> = choices !== undefined
    ? Flag.map(Flag.Literals(name, choices), (value) => ({ [definition.name]: value }))
    : Flag.mapEffect(
      Flag.withMetavar(Flag.String(name), metavars[definition.kind]!),
      (text) =>
        Effect.mapError(
          read(definition, text),
          (expected) => new CliError.InvalidValue({ option: name, value: text, expected, kind: "flag" })
        )
    )
  return Flag.optional(Flag.withDescription(fields, helpOf(definition, definitions)))
}

/**
 * A flag for each limit that people set by hand on a command (or on any), by the name of its field, and `--policy` for the rest.
 * The definitions of `Policy` say which.
 */
export const policyFlags = (command?: Command): Record<string, Flag.Flag<Option.Option<unknown>>> => ({
  policy: Flag.String("policy").pipe(
    Flag.withMetavar("FILE.json"),
    Flag.withDescription("Limits as JSON: any field of a policy, and \"preset\": defaults, lan, mobile or realtime"),
    Flag.optional
  ),
  ...Object.fromEntries(
    Object.values(definitions)
      .filter(({ on }) => command === undefined ? on !== undefined : on?.includes(command))
      .map((definition) => [definition.name, flag(definition)])
  )
})

// shorter limits are for tests: a person who writes such a number means seconds
const shortest = 1000

/** A number that was meant as seconds, as far as one can guess. Delays that are shorter by themselves are left alone. */
const isSeconds = ({ default: otherwise, kind }: Definition, value: unknown): value is number | string =>
  kind === "duration" && (typeof value === "number" || typeof value === "string") && lacksUnit(String(value)) &&
  Number(value) < shortest &&
  !(Duration.isDuration(otherwise) && Duration.toMillis(otherwise) > 0 && Duration.toMillis(otherwise) < shortest)

const warn = (path: string, fields: Fields): Effect.Effect<void> =>
  Effect.forEach(Object.entries(fields), ([name, value]) => {
    const definition = definitions[name]
    if (definition === undefined || !isSeconds(definition, value)) return Effect.void
    const millis = Number(value)
    return Console.error(
      `holdfast: --policy ${path}: ${name} is ${millis} milliseconds there; write "${millis}s" for seconds, or "${millis}ms"`
    )
  }, { discard: true })

const readPolicy = Effect.fnUntraced(function*(path: string) {
  const text = yield* readFile("--policy", path)
  const json = yield* Effect.try({
    try: () => JSON.parse(text) as unknown,
    catch: (cause) => new CommandFailed({ message: `--policy ${path} is not JSON: ${(cause as Error).message}` })
  })
  // its own errors first, so that they are told as the file's
  yield* Effect.mapError(
    Policy.decode(json),
    (error) => new CommandFailed({ message: `--policy ${path}: ${error.detail}` })
  )
  // a parent has said it
  if (Workers.self() === undefined) yield* warn(path, json as Fields)
  return json as Fields
})

/** What is below the native protocol: a message travels behind its type, and what is no message may have 1024 bytes in any case. */
export const nativeBelow = (policy: Policy.Policy): Policy.Policy =>
  Policy.make({ maxFrame: Math.max(policy.maxFrame + 1, 1024) }, policy)

/** What a policy was made of. */
interface Sources {
  readonly policy: Policy.Policy
  readonly file: Fields
  readonly flags: Fields
}

/** The policy file, if any, changed by the flags; and what each of them said. */
export const sourcesOf = Effect.fnUntraced(function*(
  { policy, ...rest }: Readonly<Record<string, Option.Option<unknown>>>
): Effect.fn.Return<Sources, CommandFailed, FileSystem.FileSystem> {
  const file = Option.isSome(policy!) ? yield* readPolicy(String(policy.value)) : {}
  const flags = Object.assign({}, ...Object.values(rest).map(Option.getOrElse(() => ({})))) as Fields
  const made = yield* Effect.mapError(Policy.decode({ ...file, ...flags }), ({ detail }) =>
    new CommandFailed({
      // what a flag gave is named as the flag
      message: Object.keys(flags).reduce(
        (text, name) => text.replaceAll(new RegExp(`\\b${name}\\b`, "g"), `--${flagOf(definitions[name]!)}`),
        `invalid policy: ${detail}`
      )
    }))
  return { policy: made, file, flags }
})

/** The policy file, if any, changed by the flags. */
export const policyOf = (
  flags: Readonly<Record<string, Option.Option<unknown>>>
): Effect.Effect<Policy.Policy, CommandFailed, FileSystem.FileSystem> =>
  Effect.map(sourcesOf(flags), ({ policy }) => policy)
