/**
 * Protocol Buffers in length-delimited frames: each message behind its length as a varint, as `writeDelimitedTo` of Google's
 * libraries writes them. What a message holds is the matter of a library that you bring.
 *
 * @see https://protobuf.dev/programming-guides/techniques/#streaming
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"

/**
 * A message type of a library: `protobufjs` and `ts-proto` have types of this form; for `@bufbuild/protobuf` give
 * `{ encode: (message) => toBinary(schema, message), decode: (bytes) => fromBinary(schema, bytes) }`.
 *
 * @category models
 * @since 0.1.0
 */
export interface MessageType<out In, in Out = In> {
  /** Reads a message; what it throws is `InvalidMessage`. */
  readonly decode: (bytes: Uint8Array) => In
  /** Writes a message: its bytes, or a writer that gives them. */
  readonly encode: (message: Out) => Uint8Array | {
    /** Gives the bytes. */
    readonly finish: () => Uint8Array
  }
}

/**
 * Makes the codec of a message type.
 *
 * **Details**
 *
 * What the library throws is `InvalidMessage`. A message is bounded by `maxFrame` before anything is allocated for it.
 *
 * **Gotchas**
 *
 * What the values of a message weigh in memory is known to the library alone: give untrusted peers a low `maxFrame`.
 *
 * **Example** (Messages of a generated type)
 *
 * ```ts
 * import { Connection } from "holdfast"
 * import { Protobuf } from "holdfast/codecs"
 *
 * declare const Reading: Protobuf.MessageType<{ readonly celsius: number }>
 *
 * const readings = Connection.make({ codec: Protobuf.make(Reading, { maxFrame: 16 * 1024 }) })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <In, Out = In>(
  type: MessageType<In, Out>,
  options: Codec.FramingOptions = {}
): Codec.Codec<In, Out> =>
  Codec.varint(options).pipe(
    Codec.mapResult<Uint8Array, Uint8Array, In, Out>({
      format: "Protocol Buffers",
      decode: (bytes) => Result.succeed(type.decode(bytes)),
      encode: (message) => {
        const encoded = type.encode(message)
        const bytes: unknown = encoded instanceof Uint8Array ? encoded : encoded.finish()
        return bytes instanceof Uint8Array ? Result.succeed(bytes) : Result.fail("the library gave no bytes")
      }
    })
  )
