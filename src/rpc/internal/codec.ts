/** The codec of an RPC serialization: bounded frames, and in each the messages that Effect's parser finds. */
import * as Result from "effect/Result"
import type { FromClientEncoded, FromServerEncoded } from "effect/rpc/RpcMessage"
import { constPing } from "effect/rpc/RpcMessage"
import { ndjson, type RpcSerialization } from "effect/rpc/RpcSerialization"
import * as Codec from "../../Codec.ts"
import type { CodecReason, InvalidMessage } from "../../ConnectionError.ts"
import { textOf, utf8 } from "../../internal/bytes/utf8.ts"
import { type Framing, notText, ours } from "../../internal/codec/framing.ts"
import { lengthPrefix } from "../../internal/codec/framings/lengthPrefix.ts"
import { lines } from "../../internal/codec/framings/lines.ts"
import { varint } from "../../internal/codec/framings/varint.ts"
import { isTooDeep, weigh } from "../../internal/codec/jsonDepth.ts"
import { guarded } from "../../internal/codec/payload.ts"
import { defaultMaxDecoded, type Scale, tooHeavy } from "../../internal/codec/room.ts"

type Serialization = RpcSerialization["Service"]

/** What a frame may hold: one message, or several (a JSON-RPC batch, lines in one message of a WebSocket). */
export type FromClient = ReadonlyArray<FromClientEncoded>
export type FromServer = ReadonlyArray<FromServerEncoded>

const schemaBinary = "application/vnd.effect.rpc+schema-binary"

// ---------------------------------------------------------------------------------------------------------------------
// what a peer may send
// ---------------------------------------------------------------------------------------------------------------------

type Fields = { readonly [key: string]: unknown }

const isId = (value: unknown): boolean => typeof value === "string" || typeof value === "number"

const isText = (value: unknown): boolean => value === undefined || typeof value === "string"

const isHeaders = (value: unknown): boolean =>
  value === undefined ||
  (Array.isArray(value) && value.every((header) =>
    Array.isArray(header) && header.length === 2 && typeof header[0] === "string" && typeof header[1] === "string"
  ))

const isRequest = (message: Fields): boolean =>
  isId(message["id"]) && typeof message["tag"] === "string" && isHeaders(message["headers"]) &&
  isText(message["traceId"]) && isText(message["spanId"])

/** Whether Effect's RPC server can take it: it trusts the envelope, and a peer decides what is in there. */
export const isFromClient = (message: Fields): boolean => {
  switch (message["_tag"]) {
    case "Request":
      return isRequest(message)
    case "Ack":
    case "Interrupt":
      return isId(message["requestId"])
    case "Ping":
    case "Eof":
      return true
    default:
      return false
  }
}

/** The same for its client. What it would ignore passes: a later version may say more. */
export const isFromServer = (message: Fields): boolean => {
  switch (message["_tag"]) {
    case "Chunk": {
      const values = message["values"]
      return isId(message["requestId"]) &&
        (values instanceof Uint8Array || (Array.isArray(values) && values.length > 0))
    }
    case "Exit":
      return isId(message["requestId"]) && typeof message["exit"] === "object" && message["exit"] !== null
    case "Request":
      return isRequest(message)
    case "ClientProtocolError":
      // an error of our own end
      return false
    default:
      return typeof message["_tag"] === "string"
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// the codec
// ---------------------------------------------------------------------------------------------------------------------

/** The messages bring their line end with them. */
const linesAsTheyAre = (): Framing =>
  ours({
    ...lines({}),
    encode: (payload: Uint8Array) => Result.succeed(payload),
    encodedSize: (payload: Uint8Array) => payload.length,
    encodeInto: (payload: Uint8Array, target: Uint8Array, at: number) => target.set(payload, at),
    encodeText: (payload: string) => Result.succeed(utf8(payload))
  })

const asText = (frame: Uint8Array | string): Result.Result<string, InvalidMessage> => {
  const text = typeof frame === "string" ? frame : textOf(frame)
  return text === undefined ? Result.fail(notText()) : Result.succeed(text)
}

/** Why a text is not parsed, before it is. */
const problemOf = (text: string, scale: Scale | undefined): string | undefined => {
  if (isTooDeep(text)) return "it is too deep"
  const most = scale === undefined ? defaultMaxDecoded : scale.most
  const weight = weigh(text, most)
  if (weight > most) return tooHeavy(weight, most)
  if (scale !== undefined) scale.weight += weight
  return undefined
}

/** A header as an array of two texts, with its place; measured on Node 24. */
const headerWeight = 80

/** What binary messages weigh besides their bytes: each has few values, but for its headers. */
const weightOf = (messages: ReadonlyArray<unknown>): number => {
  let weight = 0
  for (const message of messages) {
    const headers = (message as Fields | null)?.["headers"]
    if (Array.isArray(headers)) weight += headers.length * headerWeight
  }
  return weight
}

/** What the parser of Effect's NDJSON does with a line: it makes itself, puts the line end back, and looks for it again. */
const oneLine = (text: string): ReadonlyArray<unknown> => text.length === 0 ? [] : [JSON.parse(text)]

/**
 * Makes the codec of a serialization, which all connections share. Frames with a framing of their own are those of Effect's
 * own socket protocols; all others go behind their length on a stream.
 */
const codecOf = <In, Out>(
  serialization: Serialization,
  isKnown: (message: Fields) => boolean
): Codec.Codec<ReadonlyArray<In>, Out> => {
  const { contentType, includesFraming } = serialization
  const encoder = serialization.makeUnsafe()
  let parser = serialization.makeUnsafe()
  const sample = encoder.encode(constPing)
  const isText = typeof sample === "string"
  const endsLines = isText && includesFraming && sample.endsWith("\n")

  const checked = (messages: ReadonlyArray<unknown>): Result.Result<ReadonlyArray<In>, string> => {
    for (const message of messages) {
      if (typeof message !== "object" || message === null || !isKnown(message as Fields)) {
        return Result.fail("it is no message of the RPC protocol")
      }
    }
    return Result.succeed(messages as ReadonlyArray<In>)
  }

  const isNdjson = serialization === ndjson
  const parsed = (text: string): ReadonlyArray<unknown> => {
    if (isNdjson && !text.includes("\n")) return oneLine(text)
    // one for each frame: nothing of one peer, such as a batch that is not answered, stays for another
    return serialization.makeUnsafe().decode(endsLines && !text.endsWith("\n") ? `${text}\n` : text)
  }

  const decodeText = (frame: Uint8Array | string, scale?: Scale): Result.Result<ReadonlyArray<In>, CodecReason> => {
    const text = asText(frame)
    if (Result.isFailure(text)) return Result.fail(text.failure)
    return guarded("decode", "RPC", () => {
      const problem = problemOf(text.success, scale)
      if (problem !== undefined) return Result.fail(problem)
      return checked(parsed(text.success))
    })
  }

  const decodeBytes = (frame: Uint8Array | string, scale?: Scale): Result.Result<ReadonlyArray<In>, CodecReason> =>
    guarded("decode", "RPC", () => {
      try {
        const messages = parser.decode(typeof frame === "string" ? utf8(frame) : frame)
        const weight = weightOf(messages)
        if (scale !== undefined) {
          if (weight > scale.most) return Result.fail(tooHeavy(weight, scale.most))
          scale.weight += weight
        }
        return checked(messages)
      } catch (error) {
        // it takes nothing after a failure
        parser = serialization.makeUnsafe()
        throw error
      }
    })

  return Codec.make<ReadonlyArray<In>, Out>({
    framing: endsLines
      ? linesAsTheyAre()
      : !isText && contentType === schemaBinary
      ? varint({}, false)
      : lengthPrefix({}),
    payload: {
      form: isText ? "text" : "bytes",
      content: "value",
      decode: isText ? decodeText : decodeBytes,
      encode: (message) =>
        guarded("encode", "RPC", () => {
          const encoded = encoder.encode(message)
          return encoded === undefined
            ? Result.fail("the serialization has no form for it")
            : Result.succeed(encoded)
        })
    }
  })
}

/** What a server reads and writes. */
export const serverCodec = (serialization: Serialization): Codec.Codec<FromClient, FromServerEncoded> =>
  codecOf(serialization, isFromClient)

/** What a client reads and writes. */
export const clientCodec = (serialization: Serialization): Codec.Codec<FromServer, FromClientEncoded> =>
  codecOf(serialization, isFromServer)
