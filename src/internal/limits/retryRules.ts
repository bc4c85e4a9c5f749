/** The limits `retryOn` and `giveUpOn`: reasons and close codes that a policy judges otherwise than the reason does. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import { codesOf, reasonTags, type RetryRule } from "../endings/retry.ts"
import { type Common, define } from "./definition.ts"

/** As `Policy` has it: the tags are known, so that a mistake in one does not compile. */
type Rules = Schema.Codec<ReadonlyArray<RetryRule>, string | ReadonlyArray<string | number>>

// 16 bits, as in a WebSocket close frame
const largestCode = 65_535
const isCode = (code: number): boolean => Number.isSafeInteger(code) && code >= 0 && code <= largestCode

const wrong = (name: string, rule: unknown): string | undefined => {
  if (typeof rule === "number") {
    return isCode(rule)
      ? undefined
      : `${name}: ${rule} is no close code, which is a whole number from 0 to ${largestCode}`
  }
  const range = codesOf(rule as string)
  if (range === undefined) {
    return reasonTags.has(String(rule))
      ? undefined
      : `${name}: there is no reason "${String(rule)}"`
  }
  const [lowest, highest] = range
  return isCode(highest) && lowest <= highest
    ? undefined
    : `${name}: ${String(rule)} is no range of close codes, which goes up and is from 0 to ${largestCode}`
}

const Written = Schema.Array(Schema.Union([Schema.String, Schema.Number]))

/** A code may be written as text, as in `"Superseded,4001"`. */
const ruleOf = (rule: string | number): string | number =>
  typeof rule === "string" && /^\d+$/.test(rule.trim()) ? Number(rule) : typeof rule === "string" ? rule.trim() : rule

const rulesOf = (input: string | ReadonlyArray<string | number>): ReadonlyArray<string | number> =>
  typeof input !== "string"
    ? input.map(ruleOf)
    : input.trim() === "" || input.trim() === "none"
    ? []
    : input.split(",").map(ruleOf)

/**
 * A list of tags of reasons (`"HandshakeFailed"`), close codes (`4001`) and ranges of them (`"4000-4099"`); in data also
 * as text with commas. The empty list, which is the default, is written as `none`.
 */
export const retryRules = (name: string, options: Omit<Common, "zero"> = {}) => {
  const { says } = define(
    Schema.Union([Schema.String, Written]).pipe(Schema.decodeTo(
      Written.check(
        Schema.makeFilter((rules) => rules.flatMap((rule) => wrong(name, rule) ?? []).join("; ") || undefined)
      ),
      SchemaTransformation.transformEffect<ReadonlyArray<string | number>, string | ReadonlyArray<string | number>>({
        decode: (input) => Effect.succeed(rulesOf(input)),
        encode: (rules) => Effect.succeed(rules.length === 0 ? "none" : rules)
      })
    )),
    { name, kind: "list", ...options, default: [] }
  )
  return { says: says as unknown as (says: string, why?: string) => Rules }
}
