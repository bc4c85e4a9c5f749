/** `holdfast policy`: the limits that a file and flags come to, what each of them does, and the schema of such a file. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { isOff, written } from "../internal/limits/definition.ts"
import { flagOf, whatFor } from "../internal/limits/docs.ts"
import { jsonSchemaOf } from "../internal/limits/jsonSchema.ts"
import * as Policy from "../Policy.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { definitions, policyFlags, sourcesOf } from "./policyFlags.ts"

const presets = Object.entries(Policy).flatMap(([name, value]) => value instanceof Policy.Policy ? [name] : [])

const schema = jsonSchemaOf("A policy of Holdfast", definitions, {
  // for editors, which read it
  $schema: { type: "string", description: "Where the schema of this file is." },
  preset: {
    enum: presets,
    description: "What the other fields change.",
    default: "defaults"
  }
})

type Sources = Effect.Success<ReturnType<typeof sourcesOf>>

/** A row for each limit: its value, where that is from, and what it does. */
const explained = ({ file, flags, policy }: Sources): string => {
  const preset = Object.hasOwn(file, "preset") ? `preset ${String(file["preset"])}` : "default"
  const rows = Object.entries(definitions).map(([name, definition]) => {
    const value = policy[name as keyof typeof policy]
    const text = isOff(definition, value) ? definition.zero! : written(definition, value)
    const from = Object.hasOwn(flags, name) ? `--${flagOf(definition)}` : Object.hasOwn(file, name) ? "file" : preset
    // the docs mark code, a terminal does not
    return [name, text, from, whatFor(definition, definitions).replaceAll("`", "")] as const
  })
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) => row.map((text, column) => text.padEnd(widths[column] ?? 0)).join("  ").trimEnd()).join("\n")
}

export const policy = Command.make(
  "policy",
  {
    schema: Flag.Boolean("schema").pipe(
      Flag.withoutNegation,
      Flag.withDescription("Print the JSON Schema of a policy file, for an editor or a check"),
      Flag.withDefault(false)
    ),
    explain: Flag.Boolean("explain").pipe(
      Flag.withoutNegation,
      Flag.withDescription("Print every limit: its value, where that is from, and what it does"),
      Flag.withDefault(false)
    ),
    ...policyFlags()
  },
  Effect.fnUntraced(function*({ explain, schema: isSchema, ...limits }) {
    if (isSchema && explain) return yield* new CommandFailed({ message: "--schema and --explain: one at a time" })
    if (isSchema) return yield* Console.log(JSON.stringify(schema, null, 2))
    const sources = yield* sourcesOf(limits)
    yield* Console.log(explain ? explained(sources) : JSON.stringify(Policy.encode(sources.policy), null, 2))
  })
).pipe(
  Command.withDescription(
    "Prints the limits that a policy file and flags come to, as the JSON that --policy reads. A wrong one is told, with exit code 1: a check " +
      "before a deployment."
  ),
  Command.withShortDescription("Check and explain limits"),
  Command.withExamples([
    { command: "holdfast policy --policy limits.json", description: "Check a file, and print all that it comes to" },
    { command: "holdfast policy --silence 30s --explain", description: "What a limit does, and what follows it" },
    {
      command: "holdfast policy --schema > policy.schema.json",
      description: "For an editor: { \"$schema\": \"./policy.schema.json\" }"
    }
  ])
)
