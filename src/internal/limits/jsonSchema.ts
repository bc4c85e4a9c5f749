/** What may stand in the data of a set of limits, as a JSON Schema: for editors and for checks before a deployment. */
import { type Definition, written } from "./definition.ts"
import { whatFor } from "./docs.ts"

type Definitions = Readonly<Record<string, Definition>>
type Json = { readonly [key: string]: unknown }

// as `parseDuration` and `parseBytes` read them
const durationText =
  "^ *(?:[0-9]+(?:\\.[0-9]+)? *(?:ms|s|m|h|d|millis?|seconds?|minutes?|hours?|days?|weeks?)? *)+$|^[Ii]nf(inity)?$"
const bytesText = "^ *[0-9]+(?:\\.[0-9]+)? *(?:[kKMGT]i?)?B? *$"

const typeOf = ({ choices, kind, minimum = 0 }: Definition): Json => {
  switch (kind) {
    case "duration":
      return { anyOf: [{ type: "string", pattern: durationText }, { type: "number", minimum: 0 }] }
    case "bytes":
      return { anyOf: [{ type: "string", pattern: bytesText }, { type: "integer", minimum }] }
    case "count":
      return { type: "integer", minimum }
    case "number":
      return { type: "number" }
    case "choice":
      return { enum: choices }
    case "switch":
      return { type: "boolean" }
    case "list":
      return {
        anyOf: [{ type: "string" }, { type: "array", items: { anyOf: [{ type: "string" }, { type: "integer" }] } }]
      }
  }
}

const plain = (definition: Definition): unknown =>
  definition.kind === "duration" || definition.kind === "bytes"
    ? written(definition, definition.default)
    : definition.default

/** The schema of an object with any of the limits, and with `extra` fields. */
export const jsonSchemaOf = (title: string, definitions: Definitions, extra: Json): Json => ({
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title,
  type: "object",
  additionalProperties: false,
  properties: {
    ...extra,
    ...Object.fromEntries(
      Object.values(definitions).map((definition) => [
        definition.name,
        { ...typeOf(definition), description: whatFor(definition, definitions), default: plain(definition) }
      ])
    )
  }
})
