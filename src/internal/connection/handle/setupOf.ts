/** Computes once what connections of the same options have in common. */
import * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import type { Codec } from "../../../Codec.ts"
import * as ConnectionError from "../../../ConnectionError.ts"
import { type Beat, type Heartbeat, webSocket } from "../../../Heartbeat.ts"
import * as Policy from "../../../Policy.ts"
import { encoderOf } from "../../codec/assembly.ts"
import type { Encoder } from "../../codec/encoder.ts"
import type { Compression } from "../../transport/compression.ts"
import type { WebSocketLink } from "../../transport/transport.ts"
import { frameOf, webSocketEncoderOf } from "../../webSocket/encoding.ts"
import { Opcode } from "../../webSocket/frames.ts"
import { inForce } from "../core/limits.ts"
import type { Setup, Wire, WireFormat } from "../core/setup.ts"
import { tokenPayload } from "../webSocket.ts"

/** See `Connection.Options`. */
interface Given<In, Out> {
  readonly codec: Codec<In, Out>
  readonly heartbeat?: Heartbeat<In, Out> | undefined
  readonly pings?: Schedule.Schedule<unknown, Beat, unknown> | undefined
  readonly policy?: Policy.Patch | undefined
  readonly goodbye?: Out | ((reason: ConnectionError.Reason) => Out) | undefined
  readonly farewell?: ((reason: ConnectionError.Reason) => Out | undefined) | undefined
  readonly transport?: "stream" | "messages" | undefined
}

export const setupOf = <In, Out>(options: Given<In, Out>): Setup<In, Out> => {
  const policy = Policy.make(options.policy)
  // by the frames of a WebSocket where the options name no other one
  const heartbeat = options.heartbeat === webSocket ? undefined : options.heartbeat
  const way = (
    encoder: Encoder<Out>,
    control?: WireFormat<Out>["control"],
    isClient = false
  ): WireFormat<Out> => {
    const wire: Wire<Out> = { encode: (message) => encoder.encode(message) }
    const ping: WireFormat<Out>["ping"] =
      heartbeat !== undefined && !(heartbeat.frames === true && control !== undefined)
        ? (token) => wire.encode(heartbeat.ping(token))
        : control === undefined
        ? undefined
        : (token) => Result.succeed(control(Opcode.ping, tokenPayload(token)))
    const shared = { encoder, wire, ping, ...(control === undefined ? {} : { control, isClient }) }
    const goodbye = options.goodbye as Out | ((reason: ConnectionError.Reason) => Out) | undefined
    if (goodbye === undefined) return { ...shared, goodbye: () => undefined }
    if (typeof goodbye === "function") {
      const encode = (reason: ConnectionError.Reason) =>
        wire.encode((goodbye as (reason: ConnectionError.Reason) => Out)(reason))
      return { ...shared, goodbye: (reason) => Result.getOrUndefined(encode(reason)) }
    }
    const encoded = wire.encode(goodbye)
    if (Result.isFailure(encoded)) throw ConnectionError.make(encoded.failure)
    return { ...shared, goodbye: () => encoded.success }
  }
  const { maxFrame } = policy
  const overWebSocket = ({ maskKey }: WebSocketLink, compression?: Compression): WireFormat<Out> =>
    way(
      webSocketEncoderOf(options.codec, maskKey, { maxFrame }, compression),
      (opcode, payload) => frameOf(opcode, payload, maskKey),
      maskKey !== undefined
    )
  const byMask = new Map<WebSocketLink["maskKey"], WireFormat<Out>>()
  // all links of a compression have one mask
  const byCompression = new WeakMap<Compression, WireFormat<Out>>()
  return {
    codec: options.codec,
    transport: options.transport,
    heartbeat,
    pings: options.pings,
    farewell: options.farewell,
    inForce: inForce(policy),
    stream: way(encoderOf(options.codec, { maxFrame, transport: "stream" })),
    messages: way(encoderOf(options.codec, { maxFrame, transport: "messages" })),
    webSocket(link, compression) {
      // what refers to earlier messages is of one connection
      if (compression !== undefined && compression.sentContext > 0) return overWebSocket(link, compression)
      const known = compression === undefined ? byMask.get(link.maskKey) : byCompression.get(compression)
      if (known !== undefined) return known
      const made = overWebSocket(link, compression)
      if (compression === undefined) byMask.set(link.maskKey, made)
      else byCompression.set(compression, made)
      return made
    }
  }
}
