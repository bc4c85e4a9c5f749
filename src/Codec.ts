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
 * What `Codec.decoder` gives are views of the chunk they came in whenever they lie in one chunk: a `Uint8Array` message that is
 * kept for long keeps that chunk in memory (64 KiB on Node). A connection copies small messages out of large chunks: one of
 * its messages keeps at most 4 KiB or four times its size, or a chunk of up to 16 KiB. A chunk must not change once a decoder
 * has it.
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
import {
  decode as msgpackDecode,
  decodeTimestampExtension,
  decodeTimestampToTimeSpec,
  Encoder,
  encodeTimestampExtension,
  EXT_TIMESTAMP,
  ExtensionCodec
} from "@msgpack/msgpack"
import * as Pipeable from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type { CodecReason } from "./ConnectionError.ts"
import { utf8 } from "./internal/bytes/utf8.ts"
import * as Halves from "./internal/codec/assembly.ts"
import type { Decoded, Decoder } from "./internal/codec/decoder.ts"
import type { Frame } from "./internal/codec/encoder.ts"
import type { FrameDecoder, Framing, FramingOptions } from "./internal/codec/framing.ts"
import { integer } from "./internal/codec/framing.ts"
import * as Bytes from "./internal/codec/framings/bytes.ts"
import * as Delimiter from "./internal/codec/framings/delimiter.ts"
import * as Fixed from "./internal/codec/framings/fixed.ts"
import type { LengthPrefixOptions } from "./internal/codec/framings/lengthPrefix.ts"
import * as LengthPrefix from "./internal/codec/framings/lengthPrefix.ts"
import * as Lines from "./internal/codec/framings/lines.ts"
import * as Varint from "./internal/codec/framings/varint.ts"
import { checkMsgpack, maxDepth } from "./internal/codec/msgpack.ts"
import type { Content, Payload } from "./internal/codec/payload.ts"
import * as Payloads from "./internal/codec/payload.ts"
import type { Scale } from "./internal/codec/room.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

export type {
  /** @since 0.1.0 */
  Content,
  /** @since 0.1.0 */
  Decoded,
  /** @since 0.1.0 */
  Decoder,
  /** @since 0.1.0 */
  Frame,
  /** @since 0.1.0 */
  FrameDecoder,
  /** @since 0.1.0 */
  Framing,
  /** @since 0.1.0 */
  FramingOptions,
  /** @since 0.1.0 */
  LengthPrefixOptions,
  /** @since 0.1.0 */
  Payload,
  /** @since 0.1.0 */
  Scale
}

/**
 * The limit for the payload of a frame where none is set: 1,048,576 bytes (1 MiB).
 *
 * @category models
 * @since 0.1.0
 */
export const defaultMaxFrame: number = Halves.defaultMaxFrame

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
 * A codec that knows the payload of the other end too, so that `flip` makes the codec of the other end. `schema(In, Out)`
 * and `make` with `flipped` return one; the framing is the same at both ends.
 *
 * @category models
 * @since 0.1.0
 */
export interface TwoWay<in out In, in out Out> extends Codec<In, Out> {
  /** What the other end reads and writes with. */
  readonly flipped: Payload<Out, In>
}

interface Parts<out In, in Out> {
  readonly framing: Framing
  readonly payload: Payload<In, Out>
  readonly maxFrame?: number | undefined
  readonly flipped?: Payload<unknown, never> | undefined
}

/**
 * Makes a codec of its two halves.
 *
 * **Details**
 *
 * Give `flipped`, the payload half of the other end, where the two ends write different messages: `flip` then works. Its
 * `decode` reads what `payload.encode` writes, and the other way round.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  <In, Out>(options: {
    readonly framing: Framing
    readonly payload: Payload<In, Out>
    readonly maxFrame?: number | undefined
    readonly flipped: Payload<Out, In>
  }): TwoWay<In, Out>
  <In, Out = In>(options: {
    readonly framing: Framing
    readonly payload: Payload<In, Out>
    readonly maxFrame?: number | undefined
  }): Codec<In, Out>
} = <In, Out>(options: Parts<In, Out>): TwoWay<In, Out> => ({
  framing: options.framing,
  payload: options.payload,
  maxFrame: options.maxFrame === undefined ? undefined : integer("maxFrame", options.maxFrame, 1),
  // a codec whose ends are alike has no such field
  ...(options.flipped === undefined ? undefined : { flipped: options.flipped }) as { flipped: Payload<Out, In> },
  pipe() {
    return Pipeable.pipeArguments(this, arguments)
  }
})

/** Stands for the other end of a codec that `map` has changed for this end alone. */
const lost: Payload<unknown, never> = {
  form: "bytes",
  content: "value",
  decode: (frame) => Result.succeed(frame),
  encode: (message) => message
}

/** The payload of the other end, where it is another one. */
const flippedOf = (codec: Codec<unknown, never>): Payload<unknown, never> | undefined =>
  (codec as Parts<unknown, never>).flipped

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
export const bytes = (): Codec<Uint8Array> => make({ framing: Bytes.bytes, payload: Payloads.bytes })

/**
 * Frames of `size` bytes each. A message of another size fails to encode with `InvalidLength`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fixed = (size: number, options: FramingOptions = {}): Codec<Uint8Array> =>
  make({ framing: Fixed.fixed(size, options), payload: Payloads.bytes, maxFrame: options.maxFrame })

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
    framing: Delimiter.delimiter(typeof delimiter === "string" ? utf8(delimiter) : delimiter, options),
    payload: Payloads.bytes,
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
  make({ framing: Lines.lines(options), payload: Payloads.text, maxFrame: options.maxFrame })

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
  make({ framing: LengthPrefix.lengthPrefix(options), payload: Payloads.bytes, maxFrame: options.maxFrame })

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
  make({ framing: Varint.varint(options), payload: Payloads.bytes, maxFrame: options.maxFrame })

// ---------------------------------------------------------------------------------------------------------------------
// combinators
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Sets the codec's own limit for the payload of a frame, in bytes, 1 or more, in place of one it had.
 *
 * @category combinators
 * @since 0.1.0
 */
export const withMaxFrame = (maxFrame: number) => <C extends Codec<unknown, never>>(self: C): C => ({
  ...self,
  ...withPayloads(self, self.payload, flippedOf(self)),
  maxFrame: integer("maxFrame", maxFrame, 1)
})

const withPayloads = <In, Out>(
  self: Codec<unknown, never>,
  payload: Payload<In, Out>,
  flipped: Payload<unknown, never> | undefined
): TwoWay<In, Out> =>
  make({ framing: self.framing, payload, maxFrame: self.maxFrame, flipped: flipped as Payload<Out, In> })

/** What is alike at both ends, on top of a codec whose ends may differ. */
const withPayload = <In, Out>(
  self: Codec<unknown, never>,
  change: (payload: Payload<unknown, never>) => Payload<In, Out>
): Codec<In, Out> => {
  const other = flippedOf(self)
  return withPayloads(self, change(self.payload), other === undefined || other === lost ? other : change(other))
}

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
(self: Codec<In, Out>): Codec<In2, Out2> =>
  withPayloads(self, mapped(self.payload, options), flippedOf(self) === undefined ? undefined : lost)

const mapped = <In, Out, In2, Out2>(
  payload: Payload<In, Out>,
  options: MapOptions & {
    readonly decode: (value: In) => Result.Result<In2, string | CodecReason>
    readonly encode: (message: Out2) => Result.Result<Out, string | CodecReason>
  }
): Payload<In2, Out2> => {
  const format = options.format ?? "message"
  return Payloads.over(
    payload,
    options.content ?? "value",
    (value) => Payloads.guarded("decode", format, () => options.decode(value)),
    (message: Out2) => Payloads.guarded("encode", format, () => options.encode(message))
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
  withPayload(self, (payload) => Payloads.asText(payload as Payload<Uint8Array>))

/**
 * Reads the text or the UTF-8 bytes of a frame as JSON. What is no JSON, and what has none (a `bigint`, a cycle,
 * `undefined`, a `toJSON` that throws), is `InvalidMessage`, and so are
 * arrays and objects that lie in each other more than 100 deep, in both directions. So is a text whose values would take more
 * memory than `Policy.maxDecoded` (4 MiB where there is no policy); it is not parsed.
 *
 * **Gotchas**
 *
 * After `map` say with its `content` option whether the messages are bytes or text; without it this throws a
 * `RangeError`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const json = (self: Codec<string> | Codec<Uint8Array>): Codec<unknown> =>
  withPayload(self, (payload) => Payloads.asJson(payload as Payload<string> | Payload<Uint8Array>))

/** What an object is written as that is no map, or why it is not; `null` where it is a map. */
const encodeOther = (value: unknown): Uint8Array | null => {
  if (value instanceof Map || value instanceof Set) throw new Error("a Map or a Set has no such form")
  if (Predicate.isDate(value) && Number.isNaN(value.getTime())) throw new Error("a Date that is no time")
  return encodeTimestampExtension(value)
}

const decodeTime = (bytes: Uint8Array): Date => {
  const time = decodeTimestampExtension(bytes)
  if (Number.isNaN(time.getTime()) || decodeTimestampToTimeSpec(bytes).nsec >= 1e9) {
    throw new Error("a timestamp that is no time")
  }
  return time
}

// made where it is used: a program without MessagePack has nothing of the library
let made: ExtensionCodec | undefined

/** Dates as timestamps, where they are times: the library writes 1970 for one that is none, and an empty map for a `Map`. */
const extensions = (): ExtensionCodec => {
  if (made === undefined) {
    made = new ExtensionCodec()
    made.register({ type: EXT_TIMESTAMP, encode: encodeOther, decode: decodeTime })
  }
  return made
}

// a new one has 2 KiB to clear, and one that has written much keeps its memory
const mostKept = 65_536
let writer: Encoder | undefined

const msgpackEncode = (message: unknown): Uint8Array => {
  const encoder = writer ?? new Encoder({ extensionCodec: extensions(), maxDepth })
  // one that throws is not used again
  writer = undefined
  const value = encoder.encode(message)
  if (value.length <= mostKept) writer = encoder
  return value
}

/**
 * Reads the bytes of a frame as one MessagePack value, at most 100 levels deep.
 *
 * A frame of `n` bytes never makes more than `n` values: sizes a peer only announces allocate nothing. A message whose values
 * would take more memory than `Policy.maxDecoded` (4 MiB where there is no policy) is not decoded. Such a message, what is
 * no MessagePack, has bytes left over, or holds a string that is not UTF-8, is `InvalidMessage`, and so is a message that
 * has no such form (a `bigint`, a function, a cycle, a `Map`, a `Date` that is no time), or that could not be read (the key
 * `__proto__`). A `Date` travels as a timestamp.
 *
 * **Gotchas**
 *
 * `undefined` comes back as `null`, and integers beyond 2^53 are not exact. A string with half a surrogate pair fails
 * to encode, but from 51 characters on the half is replaced by U+FFFD. Bytes in a message are views of its frame.
 *
 * @category combinators
 * @since 0.1.0
 */
export const msgpack = (self: Codec<Uint8Array>): Codec<unknown> =>
  withPayload(self, (payload) =>
    Payloads.over<Uint8Array, Uint8Array, unknown, unknown>(
      payload as Payload<Uint8Array>,
      "value",
      (value, scale) =>
        Payloads.guarded("decode", "MessagePack", () => {
          const problem = checkMsgpack(value, scale)
          return problem === undefined
            ? Result.succeed(msgpackDecode(value, { extensionCodec: extensions() }))
            : Result.fail(problem)
        }),
      (message) =>
        Payloads.guarded("encode", "MessagePack", () => {
          const value = msgpackEncode(message)
          // what could not be read is not written
          const problem = checkMsgpack(value)
          return problem === undefined ? Result.succeed(value) : Result.fail(problem)
        })
    ))

/**
 * Reads and writes messages with a schema, or reads with one and writes with another. On a codec of bytes or text (fresh
 * from a framing, or after `text`) this is JSON with a schema; after `json`, `msgpack` or `map` the schema reads the values
 * that are there, and what it encodes to has to be what that codec writes.
 *
 * **Details**
 *
 * JSON goes through `Schema.toCodecJson`, so that dates, big integers, maps and bytes have a JSON form. Other values go
 * through the schema's own encoding. A mismatch is `InvalidMessage`; its `path` names the first field that is wrong.
 * Keys the schema does not know are dropped.
 *
 * With two schemas, the first says what this end reads and the second what it writes; `flip` makes the codec of the other
 * end.
 *
 * **Gotchas**
 *
 * Schemas with effects that do not finish at once are refused with `InvalidMessage`, message by message.
 *
 * **Example** (A server and its clients)
 *
 * ```ts
 * import * as Schema from "effect/Schema"
 * import { Codec } from "holdfast"
 *
 * const Command = Schema.TaggedUnion({ Join: { room: Schema.String }, Say: { text: Schema.String } })
 * const Event = Schema.TaggedUnion({ Joined: { who: Schema.String }, Said: { who: Schema.String, text: Schema.String } })
 *
 * const server = Codec.lines().pipe(Codec.schema(Command, Event)) // reads commands, writes events
 * const client = Codec.flip(server) // reads events, writes commands
 *
 * Codec.encode(client, { _tag: "Join", room: "tea" })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const schema: {
  <S extends Schema.ConstraintCodec<unknown, unknown>>(
    schema: S
  ): (self: Codec<unknown, S["Encoded"]> | Codec<string> | Codec<Uint8Array>) => Codec<S["Type"]>
  <In extends Schema.ConstraintCodec<unknown, unknown>, Out extends Schema.ConstraintCodec<unknown, unknown>>(
    reads: In,
    writes: Out
  ): (
    self: Codec<unknown, In["Encoded"] | Out["Encoded"]> | Codec<string> | Codec<Uint8Array>
  ) => TwoWay<In["Type"], Out["Type"]>
} = <A, B>(reads: Schema.ConstraintCodec<A, unknown>, writes?: Schema.ConstraintCodec<B, unknown>) =>
(
  self: Codec<unknown, never>
): never => {
  if (writes === undefined) return withPayload(self, (payload) => Payloads.asSchema(payload, reads, reads)) as never
  const other = flippedOf(self) ?? self.payload
  return withPayloads(
    self,
    Payloads.asSchema(self.payload, reads, writes),
    other === lost ? lost : Payloads.asSchema(other, writes, reads)
  ) as never
}

/**
 * The codec of the other end: it reads what this one writes, and writes what this one reads.
 *
 * **When to use**
 *
 * Where the two ends of a protocol send different messages: define the codec of one end with `schema(In, Out)`, and flip it
 * for the other. A flip of a flip is the codec it began with.
 *
 * **Details**
 *
 * - A codec whose two types are the same (`lines`, `json`, `msgpack`, `schema` with one schema) serves both ends already:
 *   its flip is itself.
 * - A codec with two types is flipped only when it is a `TwoWay`: any other is a type error, since its functions read one
 *   type and write the other, and none does the opposite.
 *
 * **Gotchas**
 *
 * Call it with the codec, `Codec.flip(server)`: as a step of a pipe it loses the types.
 *
 * `map` and `mapResult` have functions for one end: flip first, then map at each end. After `map`, a codec made with two
 * schemas throws a `RangeError` here. A `map` to one type for both directions on any other codec counts as the same at
 * both ends.
 *
 * @category combinators
 * @since 0.1.0
 */
export const flip: {
  <In, Out>(self: Codec<In, Out> & ([In, Out] extends [Out, In] ? unknown : never)): Codec<In, Out>
  <In, Out>(self: TwoWay<In, Out>): TwoWay<Out, In>
} = (self: Codec<unknown, never>): never => {
  const other = flippedOf(self)
  if (other === undefined) return self as never
  if (other === lost) throw new RangeError("Codec: map came after schema(In, Out); flip first, then map at each end")
  return withPayloads(self, other, self.payload) as never
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
  /**
   * The most memory that one message may take when it is decoded, in bytes, as `json` and `msgpack` count it. Default 4 MiB, or
   * four times `maxFrame` where that is more.
   */
  readonly maxDecoded?: number | undefined
  /** `"messages"` when the transport keeps messages apart: framing is left out. Default `"stream"`. */
  readonly transport?: "stream" | "messages" | undefined
}

/**
 * Makes a decoder for one connection, or for bytes from anywhere.
 *
 * **Gotchas**
 *
 * Where the transport keeps messages apart, `tooLong: "skip"` passes over an over-long message, and a text message
 * given to a codec of bytes counts as its UTF-8 bytes. A connection over a WebSocket that reads the frames itself reports it when
 * all of it has passed, whatever `report` says: nothing announces the size of a message in fragments.
 *
 * @category running
 * @since 0.1.0
 */
export const decoder = <In, Out>(codec: Codec<In, Out>, options: Options = {}): Decoder<In> =>
  Halves.decoderOf(codec, options)

/**
 * Makes the function that writes messages of a codec: wire bytes on a stream; on a transport that keeps messages apart,
 * text for text payloads and bytes for others. A payload over the limit fails with `FrameTooLong`.
 *
 * @category running
 * @since 0.1.0
 */
export const encoder = <In, Out>(
  codec: Codec<In, Out>,
  options: Options = {}
): (message: Out) => Result.Result<Uint8Array | string, CodecReason> => {
  const made = Halves.encoderOf(codec, options)
  return (message) => made.encode(message)
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

/**
 * The payload half alone, with the size limit of the codec: for a message that travels by another road, such as the body of
 * an HTTP request, a queue or a file.
 *
 * **Details**
 *
 * `encode` gives text where `form` is `"text"` (`lines`, `text`, `json`, and `schema` as JSON) and bytes otherwise. `decode` takes
 * both: text counts as its UTF-8 bytes. The limit is the lower of `maxFrame` and the codec's own, 1 MiB where neither is
 * set; a payload over it is `FrameTooLong` in both directions, before it is decoded.
 *
 * **Gotchas**
 *
 * There is no framing: what `lines` refuses in a line passes here, and bytes that hold several messages are not taken apart.
 *
 * **Example** (A message as the body of a request)
 *
 * ```ts
 * import * as Result from "effect/Result"
 * import * as Schema from "effect/Schema"
 * import { Codec } from "holdfast"
 *
 * const Order = Schema.Struct({ item: Schema.String, count: Schema.Number })
 * const orders = Codec.lengthPrefix().pipe(Codec.json, Codec.schema(Order))
 * const body = Codec.payload(orders, { maxFrame: 64 * 1024 })
 *
 * const text = Result.getOrThrow(body.encode({ item: "tea", count: 2 })) // the JSON text, without a length
 * const order = Result.getOrThrow(body.decode(text)) // { item: "tea", count: 2 }
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const payload = <In, Out>(
  codec: Codec<In, Out>,
  options: Pick<Options, "maxDecoded" | "maxFrame"> = {}
): Payload<In, Out> => Halves.payloadOf(codec, options)
