/** What the bytes of a frame mean. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import type { CodecReason } from "../../ConnectionError.ts"
import { InvalidMessage } from "../../ConnectionError.ts"
import { textOf, utf8 } from "../bytes/utf8.ts"
import { notText } from "./framing.ts"
import { isTooDeep, weigh } from "./jsonDepth.ts"
import { maxDepth } from "./msgpack.ts"
import { defaultMaxDecoded, type Scale, tooHeavy } from "./room.ts"

/**
 * What the messages of a codec are, as far as combinators care: raw bytes, plain text, JSON values, or something else.
 *
 * @category models
 * @since 0.1.0
 */
export type Content = "bytes" | "text" | "json" | "value"

/**
 * What the bytes of a frame mean. Both functions are total: they return their errors.
 *
 * @category models
 * @since 0.1.0
 */
export interface Payload<out In, in Out = In> {
  /** How a message travels where the transport knows text from binary, and what `encode` gives. */
  readonly form: "bytes" | "text"
  /** What the messages are; `json` and `schema` look at it. */
  readonly content: Content
  /**
   * Reads a frame. Takes both kinds, whatever `form` is: text stands for its UTF-8 bytes. A payload on top of another one hands
   * on the `scale`, with which the values of a message are weighed.
   */
  readonly decode: (frame: Uint8Array | string, scale?: Scale) => Result.Result<In, CodecReason>
  /** Writes a message as the payload of a frame, as text when `form` is `"text"`. */
  readonly encode: (message: Out) => Result.Result<Uint8Array | string, CodecReason>
}

type Direction = "decode" | "encode"

// ---------------------------------------------------------------------------------------------------------------------
// errors
// ---------------------------------------------------------------------------------------------------------------------

const most = 200

/** One short line about anything that was thrown. */
const detailOf = (error: unknown): string => {
  try {
    const text = error instanceof Error ? error.message : String(error)
    const line = text.split("\n", 1)[0]
    return line.length > most ? `${line.slice(0, most)}...` : line
  } catch {
    return "no detail given"
  }
}

const invalid = (direction: Direction, format: string, detail: string) =>
  Result.fail(new InvalidMessage({ direction, format, detail }))

/** Runs what may throw. What it throws, and a failure that is a sentence, is the detail of an `InvalidMessage`. */
export const guarded = <A>(
  direction: Direction,
  format: string,
  f: () => Result.Result<A, string | CodecReason>
): Result.Result<A, CodecReason> => {
  try {
    const result = f()
    if (Result.isSuccess(result)) return result as Result.Success<A, never>
    const failure = result.failure
    return typeof failure === "string" ? invalid(direction, format, failure) : Result.fail(failure)
  } catch (error) {
    return invalid(direction, format, detailOf(error))
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// payloads
// ---------------------------------------------------------------------------------------------------------------------

export const bytes: Payload<Uint8Array> = {
  form: "bytes",
  content: "bytes",
  decode: (frame) => Result.succeed(typeof frame === "string" ? utf8(frame) : frame),
  encode: Result.succeed
}

const wellFormed = (text: string) =>
  text.isWellFormed() ? Result.succeed(text) : invalid("encode", "UTF-8", "the text has half a surrogate pair")

export const text: Payload<string> = {
  form: "text",
  content: "text",
  decode(frame) {
    const text = typeof frame === "string" ? frame : textOf(frame)
    return text === undefined ? Result.fail(notText()) : Result.succeed(text)
  },
  encode: wellFormed
}

/** Puts two total functions on top of a payload. */
export const over = <In, Out, In2, Out2>(
  inner: Payload<In, Out>,
  content: Content,
  decode: (value: In, scale?: Scale) => Result.Result<In2, CodecReason>,
  encode: (message: Out2) => Result.Result<Out, CodecReason>
): Payload<In2, Out2> => ({
  form: inner.form,
  content,
  decode(frame, scale) {
    const value = inner.decode(frame, scale)
    return Result.isFailure(value) ? Result.fail(value.failure) : decode(value.success, scale)
  },
  encode(message) {
    const value = encode(message)
    return Result.isFailure(value) ? Result.fail(value.failure) : inner.encode(value.success)
  }
})

export const asText = (inner: Payload<Uint8Array>): Payload<string> =>
  inner === bytes
    ? text
    : over(inner, "text", (frame) => text.decode(frame), (message: string) => Result.map(wellFormed(message), utf8))

const tooDeep = () => Result.fail(`it is more than ${maxDepth} levels deep`)

export const asJson = (inner: Payload<string> | Payload<Uint8Array>): Payload<unknown> => {
  if (inner.content !== "bytes" && inner.content !== "text") {
    throw new RangeError(`Codec: json needs bytes or text, got ${inner.content}; see the content option of map`)
  }
  return over(
    inner.content === "bytes" ? asText(inner as Payload<Uint8Array>) : inner as Payload<string>,
    "json",
    (value, scale) =>
      guarded("decode", "JSON", () => {
        if (isTooDeep(value)) return tooDeep()
        const most = scale === undefined ? defaultMaxDecoded : scale.most
        const weight = weigh(value, most)
        if (weight > most) return Result.fail(tooHeavy(weight, most))
        if (scale !== undefined) scale.weight += weight
        return Result.succeed<unknown>(JSON.parse(value))
      }),
    (message: unknown) =>
      guarded("encode", "JSON", () => {
        const json = JSON.stringify(message) as string | undefined
        if (json === undefined) return Result.fail(`${typeof message} has no JSON form`)
        // what could not be read is not written
        return isTooDeep(json) ? tooDeep() : Result.succeed(json)
      })
  )
}

const issueOf = (issue: SchemaIssue.Issue) => SchemaIssue.makeFormatterStandardSchemaV1()(issue).issues[0]

/** Both directions of one schema, over the values of a payload. */
const bothWays = <A>(isJson: boolean, schema: Schema.ConstraintCodec<A, unknown>) => {
  const target: Schema.ConstraintCodec<A, unknown> = isJson ? Schema.toCodecJson(schema) : schema
  const decode = SchemaParser.decodeUnknownResult(target)
  const encode = SchemaParser.encodeUnknownResult(target)
  const decodePlain = SchemaParser.decodeUnknownResult(schema)
  const identifier = schema.ast.annotations?.["identifier"]
  const format = typeof identifier === "string" ? identifier : "message"

  const mismatch = (direction: Direction, value: unknown, found: SchemaIssue.Issue) => {
    const issue = issueOf(found)
    const path = issue?.path ?? []
    let detail = issue?.message ?? "it does not match the schema"
    if (direction === "decode" && target !== schema) {
      // the JSON form of a number admits "NaN": what the schema itself expected says more
      const plain = decodePlain(value)
      const first = Result.isFailure(plain) ? issueOf(plain.failure) : undefined
      if (first !== undefined && String(first.path) === String(path)) detail = first.message
    }
    return Result.fail(new InvalidMessage({ direction, format, detail: detailOf(detail), path: path.map(String) }))
  }

  const run = <B>(
    direction: Direction,
    value: unknown,
    parse: (value: unknown) => Result.Result<B, SchemaIssue.Issue>
  ): Result.Result<B, CodecReason> =>
    guarded(direction, format, () => {
      const result = parse(value)
      return Result.isFailure(result)
        ? mismatch(direction, value, result.failure)
        : result as Result.Success<B, never>
    })

  return {
    decode: (value: unknown) => run("decode", value, decode),
    encode: (message: A) => run("encode", message, encode)
  }
}

/** Reads with one schema and writes with another, or with the same. */
export const asSchema = <A, B>(
  inner: Payload<unknown, never>,
  reads: Schema.ConstraintCodec<A, unknown>,
  writes: Schema.ConstraintCodec<B, unknown>
): Payload<A, B> => {
  const isPlain = inner.content === "bytes" || inner.content === "text"
  const values = (isPlain ? asJson(inner as Payload<string> | Payload<Uint8Array>) : inner) as Payload<unknown>
  const isJson = values.content === "json"
  const read = bothWays(isJson, reads)
  const isOne = (reads as unknown) === writes
  const write = isOne ? read as unknown as ReturnType<typeof bothWays<B>> : bothWays(isJson, writes)
  return over(values, "value", read.decode, write.encode)
}
