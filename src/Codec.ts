/**
 * How messages are written as bytes and read back.
 *
 * A codec has two halves that are put together with a pipe: the **framing** says where a frame ends in a stream of
 * bytes, the **payload** says what the bytes of a frame mean. A transport that keeps messages apart itself (WebSocket)
 * uses the payload half alone: text payloads travel as text messages, all others as binary ones.
 *
 * **Details**
 *
 * - Start with a framing (`lines`, `lengthPrefix`, `varint`, `delimiter`, `fixed`, `bytes`), then say what a frame
 *   holds (`text`, `json`, `msgpack`, `schema`, `map`).
 * - The size limit, 1 MiB unless told otherwise, is for the payload of one frame in bytes, without header or delimiter.
 *   It holds in both directions and is checked before anything is allocated; a frame of exactly the limit passes.
 * - A codec holds no state and can be shared. `decoder` makes the state of one connection.
 * - Nothing a peer sends and no message makes a codec throw: the error is a `CodecReason`. Options that make no sense
 *   throw a `RangeError` when the codec is made.
 *
 * **Gotchas**
 *
 * Frames are views of the chunk they came in whenever they lie in one chunk. A `Uint8Array` message that is kept for
 * long keeps that chunk in memory (64 KiB on Node): copy it with `slice()` first. A line can keep the text of its chunk
 * likewise. Nobody may write into a chunk once a decoder has it.
 *
 * **Example** (Typed JSON lines)
 *
 * ```ts
 * import * as Schema from "effect/Schema"
 * import { Codec } from "holdfast"
 *
 * const Message = Schema.Struct({ from: Schema.String, text: Schema.String })
 * const chat = Codec.lines().pipe(Codec.schema(Message))
 *
 * Codec.encode(chat, { from: "ada", text: "hello" }) // the bytes of {"from":"ada","text":"hello"}\n
 * ```
 *
 * @since 0.1.0
 */
import { decode as msgpackDecode, encode as msgpackEncode } from "@msgpack/msgpack"
import * as Pipeable from "effect/Pipeable"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import type { CodecReason } from "./ConnectionError.ts"
import { FrameTooLong, InvalidMessage } from "./ConnectionError.ts"
import * as Framings from "./internal/framing.ts"
import type { FrameDecoder, Framing, FramingOptions, LengthPrefixOptions } from "./internal/framing.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

export type {
  /** @since 0.1.0 */
  FrameDecoder,
  /** @since 0.1.0 */
  Framing,
  /** @since 0.1.0 */
  FramingOptions,
  /** @since 0.1.0 */
  LengthPrefixOptions
}

/**
 * The limit for the payload of a frame when nobody sets one: 1,048,576 bytes (1 MiB).
 *
 * @category models
 * @since 0.1.0
 */
export const defaultMaxFrame = 1024 * 1024

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
  /** Reads a frame. Takes both kinds, whatever `form` is: text stands for its UTF-8 bytes. */
  readonly decode: (frame: Uint8Array | string) => Result.Result<In, CodecReason>
  /** Writes a message as the payload of a frame, as text when `form` is `"text"`. */
  readonly encode: (message: Out) => Result.Result<Uint8Array | string, CodecReason>
}

/**
 * Writes messages of type `Out` and reads messages of type `In`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Codec<out In, in Out = In> extends Pipeable.Pipeable {
  readonly framing: Framing
  readonly payload: Payload<In, Out>
  /** The codec's own limit in bytes; the lower of this and the caller's holds. */
  readonly maxFrame: number | undefined
}

/**
 * Makes a codec of its two halves.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <In, Out = In>(options: {
  readonly framing: Framing
  readonly payload: Payload<In, Out>
  readonly maxFrame?: number | undefined
}): Codec<In, Out> => ({
  framing: options.framing,
  payload: options.payload,
  maxFrame: options.maxFrame === undefined ? undefined : Framings.integer("maxFrame", options.maxFrame, 1),
  pipe() {
    return Pipeable.pipeArguments(this, arguments)
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// the two payloads that cost nothing
// ---------------------------------------------------------------------------------------------------------------------

const bytesPayload: Payload<Uint8Array> = {
  form: "bytes",
  content: "bytes",
  decode: (frame) => Result.succeed(typeof frame === "string" ? Framings.utf8(frame) : frame),
  encode: Result.succeed
}

const textPayload: Payload<string> = {
  form: "text",
  content: "text",
  decode(frame) {
    const text = typeof frame === "string" ? frame : Framings.textOf(frame)
    return text === undefined ? Result.fail(Framings.notText()) : Result.succeed(text)
  },
  encode: (text) => wellFormed(text)
}

const wellFormed = (text: string) =>
  text.isWellFormed() ? Result.succeed(text) : invalid("encode", "UTF-8", "the text has half a surrogate pair")

// ---------------------------------------------------------------------------------------------------------------------
// constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Leaves the bytes as they come: each chunk is a message, a message is written as it is.
 *
 * **Gotchas**
 *
 * Nothing keeps messages apart: they arrive joined and split in any way. A chunk over the limit arrives in pieces.
 *
 * @category constructors
 * @since 0.1.0
 */
export const bytes = (): Codec<Uint8Array> => make({ framing: Framings.bytes, payload: bytesPayload })

/**
 * Frames of `size` bytes each. A message of another size fails to encode with `InvalidLength`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fixed = (size: number, options: FramingOptions = {}): Codec<Uint8Array> =>
  make({ framing: Framings.fixed(size, options), payload: bytesPayload, maxFrame: options.maxFrame })

/**
 * Frames that end with a delimiter of one byte or more, which is not part of the message.
 *
 * A message that contains the delimiter, or that together with it would end early, fails to encode with
 * `InvalidMessage`. `FrameTooLong.size` is what had come when the delimiter was still missing.
 *
 * @category constructors
 * @since 0.1.0
 */
export const delimiter = (delimiter: Uint8Array | string, options: FramingOptions = {}): Codec<Uint8Array> =>
  make({
    framing: Framings.delimiter(typeof delimiter === "string" ? Framings.utf8(delimiter) : delimiter, options),
    payload: bytesPayload,
    maxFrame: options.maxFrame
  })

/**
 * Lines of UTF-8 text. Reads lines that end with `\n` or `\r\n`, also mixed; writes `\n`, or `\r\n` with `crlf`.
 *
 * An empty line is an empty message. The line end does not count for the limit. A message with a `\n` in it or a `\r`
 * at its end would not come back as it was and fails to encode with `InvalidMessage`. A byte order mark is kept.
 *
 * **Gotchas**
 *
 * A last line without its end is `Truncated`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const lines = (options: FramingOptions & { readonly crlf?: boolean | undefined } = {}): Codec<string> =>
  make({ framing: Framings.lines(options), payload: textPayload, maxFrame: options.maxFrame })

/**
 * Frames that start with their length, by default 4 bytes, big-endian, not counting themselves.
 *
 * **Details**
 *
 * The layout is that of Netty's `LengthFieldBasedFrameDecoder`: `offset` bytes, the length field of `bytes` bytes, then
 * `length + adjustment` bytes. The message is this frame without its first `strip` bytes. Lengths are unsigned.
 *
 * Encoding is the inverse: the frame is `strip` bytes of zero and the message, and the length field is then written at
 * `offset`. So where `strip` leaves header bytes in the message, they are written as the message has them, except those
 * of the length field, which are always set to the right length.
 *
 * | on the wire | options |
 * | --- | --- |
 * | length of the rest | none |
 * | length of the whole frame, itself included | `adjustment: -4` |
 * | 2 bytes of magic, then the length of the rest | `offset: 2`; with `strip: 0` the message keeps the magic |
 * | length, then 2 bytes it does not count, then the rest | `adjustment: 2` |
 *
 * A length that ends before its header, or leaves less than `strip` bytes, is `InvalidLength`, which ends the stream
 * also with `tooLong: "skip"`. Encoding fails with `InvalidLength` when the length would be negative or the message
 * does not hold the header bytes it should, and with `FrameTooLong` when the length does not fit in its field.
 *
 * **Gotchas**
 *
 * Above 2^53 the `size` in `FrameTooLong` is not exact.
 *
 * @category constructors
 * @since 0.1.0
 */
export const lengthPrefix = (options: LengthPrefixOptions = {}): Codec<Uint8Array> =>
  make({ framing: Framings.lengthPrefix(options), payload: bytesPayload, maxFrame: options.maxFrame })

/**
 * Frames that start with their length as an unsigned varint (7 bits a byte, lowest first), as Protocol Buffers writes
 * delimited messages.
 *
 * Reads varints of up to 10 bytes, also with needless zeros; one of more than 64 bits is `InvalidLength`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const varint = (options: FramingOptions = {}): Codec<Uint8Array> =>
  make({ framing: Framings.varint(options), payload: bytesPayload, maxFrame: options.maxFrame })

// ---------------------------------------------------------------------------------------------------------------------
// combinators
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Sets the codec's own limit for the payload of a frame, in bytes, 1 or more, in place of one it had.
 *
 * @category combinators
 * @since 0.1.0
 */
export const withMaxFrame = (maxFrame: number) => <In, Out>(self: Codec<In, Out>): Codec<In, Out> =>
  make({ framing: self.framing, payload: self.payload, maxFrame })

const withPayload = <In, Out, In2, Out2>(
  self: Codec<In, Out>,
  payload: Payload<In2, Out2>
): Codec<In2, Out2> => make({ framing: self.framing, payload, maxFrame: self.maxFrame })

const most = 200

/** One short line about anything that was thrown. */
const reasonOf = (error: unknown): string => {
  try {
    const text = error instanceof Error ? error.message : String(error)
    const line = text.split("\n", 1)[0]
    return line.length > most ? `${line.slice(0, most)}...` : line
  } catch {
    return "no detail given"
  }
}

const invalid = (direction: "decode" | "encode", format: string, detail: string) =>
  Result.fail(new InvalidMessage({ direction, format, detail }))

const attempt = <A>(direction: "decode" | "encode", format: string, f: () => A): Result.Result<A, InvalidMessage> => {
  try {
    return Result.succeed(f())
  } catch (error) {
    return invalid(direction, format, reasonOf(error))
  }
}

/** Puts two total functions on top of a payload. */
const over = <In, Out, In2, Out2>(
  inner: Payload<In, Out>,
  content: Content,
  decode: (value: In) => Result.Result<In2, CodecReason>,
  encode: (message: Out2) => Result.Result<Out, CodecReason>
): Payload<In2, Out2> => ({
  form: inner.form,
  content,
  decode(frame) {
    const value = inner.decode(frame)
    return Result.isFailure(value) ? Result.fail(value.failure) : decode(value.success)
  },
  encode(message) {
    const value = encode(message)
    return Result.isFailure(value) ? Result.fail(value.failure) : inner.encode(value.success)
  }
})

/**
 * What `map` and `mapResult` can be told.
 *
 * @category models
 * @since 0.1.0
 */
export interface MapOptions {
  /** The name of the format in errors. Default `"message"`. */
  readonly format?: string | undefined
  /**
   * What the new messages are. Needed only when `json`, or JSON through `schema`, shall follow: say `"bytes"` or
   * `"text"`. Default `"value"`.
   */
  readonly content?: Content | undefined
}

/**
 * Changes the messages with two functions that can fail. A failure is a short sentence that becomes the `detail` of an
 * `InvalidMessage`, or any `CodecReason` as it is.
 *
 * @category combinators
 * @since 0.1.0
 */
export const mapResult = <In, Out, In2, Out2 = In2>(
  options: MapOptions & {
    readonly decode: (value: In) => Result.Result<In2, string | CodecReason>
    readonly encode: (message: Out2) => Result.Result<Out, string | CodecReason>
  }
) =>
(self: Codec<In, Out>): Codec<In2, Out2> => {
  const format = options.format ?? "message"
  const run = <A>(direction: "decode" | "encode", f: () => Result.Result<A, string | CodecReason>) => {
    const result = Result.flatMap(attempt(direction, format, f), (inner) => inner)
    if (Result.isSuccess(result)) return Result.succeed(result.success)
    const failure = result.failure
    return typeof failure === "string" ? invalid(direction, format, failure) : Result.fail(failure)
  }
  return withPayload(
    self,
    over(
      self.payload,
      options.content ?? "value",
      (value) => run("decode", () => options.decode(value)),
      (message: Out2) => run("encode", () => options.encode(message))
    )
  )
}

/**
 * Changes the messages with two functions. Whatever they throw becomes `InvalidMessage`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const map = <In, Out, In2, Out2 = In2>(
  options: MapOptions & { readonly decode: (value: In) => In2; readonly encode: (message: Out2) => Out }
): (self: Codec<In, Out>) => Codec<In2, Out2> =>
  mapResult<In, Out, In2, Out2>({
    format: options.format,
    content: options.content,
    decode: (value) => Result.succeed(options.decode(value)),
    encode: (message) => Result.succeed(options.encode(message))
  })

/**
 * Reads the bytes of a frame as UTF-8 text. Bytes that are none, and text with half a surrogate pair, are
 * `InvalidMessage`. A byte order mark is kept.
 *
 * @category combinators
 * @since 0.1.0
 */
export const text = (self: Codec<Uint8Array>): Codec<string> =>
  withPayload(
    self,
    self.payload === bytesPayload
      ? textPayload
      : over(self.payload, "text", textPayload.decode, (message: string) =>
        Result.map(wellFormed(message), Framings.utf8))
  )

const parse = (value: string) => attempt("decode", "JSON", (): unknown => JSON.parse(value))

const stringify = (message: unknown) =>
  Result.flatMap(
    attempt("encode", "JSON", () => JSON.stringify(message) as string | undefined),
    (
      json
    ) => (json === undefined ? invalid("encode", "JSON", `${typeof message} has no JSON form`) : Result.succeed(json))
  )

/**
 * Reads the text or the UTF-8 bytes of a frame as JSON. What is no JSON, and what has none (a `bigint`, a cycle,
 * `undefined`, a `toJSON` that throws), is `InvalidMessage`. The frame limit bounds size and depth.
 *
 * **Gotchas**
 *
 * After `map` say with its `content` option whether the messages are bytes or text; without it this throws a
 * `RangeError`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const json = (self: Codec<string> | Codec<Uint8Array>): Codec<unknown> => {
  switch (self.payload.content) {
    case "bytes":
      return json(text(self as Codec<Uint8Array>))
    case "text":
      return withPayload(self as Codec<string>, over((self as Codec<string>).payload, "json", parse, stringify))
    default:
      throw new RangeError(
        `Codec: json needs bytes or text, got ${self.payload.content}; see the content option of map`
      )
  }
}

/**
 * Reads the bytes of a frame as one MessagePack value, at most 100 levels deep.
 *
 * A frame of `n` bytes never makes more than `n` values: sizes a peer only announces allocate nothing. What is no
 * MessagePack, or has bytes left over, is `InvalidMessage`, and so is a message that has no such form (a `bigint`, a
 * function, a cycle). A `Date` travels as a timestamp.
 *
 * **Gotchas**
 *
 * `undefined` comes back as `null`, and integers beyond 2^53 are not exact. Bytes in a message are views of its frame.
 *
 * @category combinators
 * @since 0.1.0
 */
export const msgpack = (self: Codec<Uint8Array>): Codec<unknown> =>
  withPayload(
    self,
    over(
      self.payload,
      "value",
      (value) => {
        const problem = Framings.checkMsgpack(value)
        return problem === undefined
          ? attempt("decode", "MessagePack", () => msgpackDecode(value))
          : invalid("decode", "MessagePack", problem)
      },
      (message: unknown) =>
        attempt("encode", "MessagePack", () => msgpackEncode(message, { maxDepth: Framings.maxDepth }))
    )
  )

const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1()

/**
 * Reads messages with a schema. On a codec of bytes or text (fresh from a framing, or after `text`) this is JSON with a
 * schema; after `json`, `msgpack` or `map` the schema reads the values that are there.
 *
 * **Details**
 *
 * JSON goes through `Schema.toCodecJson`, so that dates, big integers, maps and bytes have a JSON form. Other values go
 * through the schema's own encoding. A mismatch is `InvalidMessage`; its `path` names the first field that is wrong.
 * Keys the schema does not know are dropped.
 *
 * **Gotchas**
 *
 * Schemas with effects that do not finish at once are refused with `InvalidMessage`, message by message.
 *
 * @category combinators
 * @since 0.1.0
 */
export const schema =
  <S extends Schema.ConstraintCodec<unknown, unknown>>(schema: S) =>
  (self: Codec<unknown> | Codec<string> | Codec<Uint8Array>): Codec<S["Type"]> => {
    const content = self.payload.content
    const values = content === "bytes" || content === "text"
      ? json(self as Codec<string> | Codec<Uint8Array>)
      : (self as Codec<unknown>)
    const target: Schema.ConstraintCodec<S["Type"], unknown> = values.payload.content === "json"
      ? Schema.toCodecJson(schema)
      : schema
    const decode = SchemaParser.decodeUnknownResult(target)
    const encode = SchemaParser.encodeUnknownResult(target)
    const decodePlain = SchemaParser.decodeUnknownResult(schema)
    const identifier = schema.ast.annotations?.["identifier"]
    const format = typeof identifier === "string" ? identifier : "message"

    /** The JSON form of a number admits "NaN": what the schema itself expected says more. */
    const plainDetail = (value: unknown, path: string): string | undefined => {
      const plain = decodePlain(value)
      const first = Result.isFailure(plain) ? issuesOf(plain.failure).issues[0] : undefined
      return first !== undefined && String(first.path) === path ? first.message : undefined
    }

    const run = (direction: "decode" | "encode", value: unknown): Result.Result<S["Type"], CodecReason> => {
      try {
        const result = (direction === "decode" ? decode : encode)(value)
        if (Result.isSuccess(result)) return Result.succeed(result.success)
        const first = issuesOf(result.failure).issues[0]
        const path = first?.path ?? []
        const plain = direction === "decode" ? plainDetail(value, String(path)) : undefined
        const detail = reasonOf(plain ?? first?.message ?? "it does not match the schema")
        return Result.fail(new InvalidMessage({ direction, format, detail, path: path.map(String) }))
      } catch (error) {
        return invalid(direction, format, reasonOf(error))
      }
    }

    return withPayload(
      values,
      over(
        values.payload,
        "value",
        (value) => run("decode", value),
        (message: S["Type"]) => run("encode", message)
      )
    )
  }

// ---------------------------------------------------------------------------------------------------------------------
// running a codec
// ---------------------------------------------------------------------------------------------------------------------

/**
 * How a codec is run.
 *
 * @category running
 * @since 0.1.0
 */
export interface Options {
  /** The limit for the payload of a frame, in bytes. Default 1 MiB. The lower of this and the codec's own holds. */
  readonly maxFrame?: number | undefined
  /** `"messages"` when the transport keeps messages apart: framing is left out. Default `"stream"`. */
  readonly transport?: "stream" | "messages" | undefined
}

/**
 * What one chunk brought.
 *
 * @category running
 * @since 0.1.0
 */
export interface Decoded<out In> {
  /** The complete messages, in order, including those before an error. */
  readonly messages: ReadonlyArray<In>
  /**
   * The over-long frames that were passed over, once each (`tooLong: "skip"`). Next to an `InvalidMessage` also those
   * that came after it in the same chunk.
   */
  readonly skipped: ReadonlyArray<FrameTooLong>
  /** What the stream cannot go on after. */
  readonly error: CodecReason | undefined
}

/**
 * Reads one connection's bytes. Holds state: make one per connection.
 *
 * @category running
 * @since 0.1.0
 */
export interface Decoder<out In> {
  /**
   * Reads a chunk, or one whole frame where the transport keeps messages apart. After an error every call returns that
   * same error. The chunk belongs to the decoder from now on.
   */
  readonly write: (chunk: Uint8Array | string) => Decoded<In>
  /** Ends the stream: `Truncated` when it ended inside a frame, the error when there was one. */
  readonly end: () => CodecReason | undefined
  /** Bytes that have come of the unfinished frame, header and skipped bytes included; 0 between frames. */
  readonly pending: number
}

const limitOf = (codec: Codec<unknown, never>, options: Options): number => {
  const asked = options.maxFrame === undefined ? undefined : Framings.integer("maxFrame", options.maxFrame, 1)
  return Math.min(asked ?? codec.maxFrame ?? defaultMaxFrame, codec.maxFrame ?? Infinity)
}

/** The bytes a frame has over the limit, or 0; text counts as UTF-8, and is counted only when it may be too long. */
const sizeOver = (frame: Uint8Array | string, limit: number): number => {
  if (typeof frame !== "string") return frame.length > limit ? frame.length : 0
  if (frame.length * 3 <= limit) return 0
  const size = Framings.utf8Size(frame)
  return size > limit ? size : 0
}

const nothing: Decoded<never> = { messages: [], skipped: [], error: undefined }

/** Reads chunks and adds the frames they complete. */
type Read = (
  chunk: Uint8Array | string,
  frames: Array<unknown>,
  skipped: Array<FrameTooLong>
) => CodecReason | undefined

const readMessages = (framing: Framing, limit: number): Read => (chunk, frames, skipped) => {
  const size = sizeOver(chunk, limit)
  if (size === 0) frames.push(chunk)
  else {
    const error = new FrameTooLong({ direction: "decode", size, limit })
    if (!framing.skips) return error
    skipped.push(error)
  }
  return undefined
}

const readStream = (frames: FrameDecoder, text: boolean): Read => {
  const write = text && frames.writeText !== undefined ? frames.writeText : frames.write
  return (chunk, found, skipped) =>
    write(typeof chunk === "string" ? Framings.utf8(chunk) : chunk, found as Array<never>, skipped)
}

/**
 * Makes a decoder for one connection, or for bytes from anywhere.
 *
 * **Gotchas**
 *
 * Where the transport keeps messages apart, `tooLong: "skip"` passes over an over-long message, and a text message
 * given to a codec of bytes counts as its UTF-8 bytes.
 *
 * @category running
 * @since 0.1.0
 */
export const decoder = <In, Out>(codec: Codec<In, Out>, options: Options = {}): Decoder<In> => {
  const limit = limitOf(codec, options)
  const payload = codec.payload
  const stream = options.transport === "messages" ? undefined : codec.framing.decoder(limit)
  const read = stream === undefined ? readMessages(codec.framing, limit) : readStream(stream, payload.form === "text")
  // frames of bytes, and lines of text, are the messages themselves: nothing is allocated for each
  const known: unknown = payload
  const direct = stream !== undefined &&
    (known === bytesPayload || (known === textPayload && stream.writeText !== undefined))
  // plain `let`s: one connection owns them
  let dead: Decoded<In> | undefined
  let frames: Array<unknown> = []
  let skipped: Array<FrameTooLong> = []

  const decodeAll = (messages: Array<In>): CodecReason | undefined => {
    for (const frame of frames) {
      const message = payload.decode(frame as Uint8Array | string)
      if (Result.isFailure(message)) return message.failure
      messages.push(message.success)
    }
    return undefined
  }

  return {
    get pending() {
      return dead === undefined && stream !== undefined ? stream.pending : 0
    },
    end: () => dead === undefined ? Framings.truncated(stream?.pending ?? 0) : dead.error,
    write(chunk) {
      if (dead !== undefined) return dead
      const failure = read(chunk, frames, skipped)
      if (frames.length === 0 && skipped.length === 0 && failure === undefined) return nothing
      const messages: Array<In> = direct ? (frames as Array<In>) : []
      const error = (direct ? undefined : decodeAll(messages)) ?? failure
      const decoded: Decoded<In> = { messages, skipped, error }
      if (error !== undefined) dead = { messages: [], skipped: [], error }
      frames = []
      skipped = []
      return decoded
    }
  }
}

/**
 * Makes the function that writes messages of a codec: wire bytes on a stream; on a transport that keeps messages apart,
 * text for text payloads and bytes for others. Holds no state. A payload over the limit fails with `FrameTooLong`.
 *
 * @category running
 * @since 0.1.0
 */
export const encoder = <In, Out>(
  codec: Codec<In, Out>,
  options: Options = {}
): (message: Out) => Result.Result<Uint8Array | string, CodecReason> => {
  const limit = limitOf(codec, options)
  const { framing, payload } = codec
  const wire = options.transport === "messages"
    ? undefined
    : (frame: Uint8Array | string) =>
      typeof frame !== "string"
        ? framing.encode(frame)
        : framing.encodeText === undefined
        ? framing.encode(Framings.utf8(frame))
        : framing.encodeText(frame)
  return (message) => {
    const frame = payload.encode(message)
    if (Result.isFailure(frame)) return frame
    const size = sizeOver(frame.success, limit)
    if (size > 0) return Result.fail(new FrameTooLong({ direction: "encode", size, limit }))
    return wire === undefined ? frame : wire(frame.success)
  }
}

/**
 * Writes one message as the bytes of a stream. Use `encoder` for many.
 *
 * @category running
 * @since 0.1.0
 */
export const encode = <In, Out>(
  codec: Codec<In, Out>,
  message: Out,
  options: { readonly maxFrame?: number | undefined } = {}
): Result.Result<Uint8Array, CodecReason> =>
  // on a stream every framing gives bytes
  encoder(codec, { maxFrame: options.maxFrame })(message) as Result.Result<Uint8Array, CodecReason>
