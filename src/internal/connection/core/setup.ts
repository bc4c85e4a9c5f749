/** What connections of one `make` have in common. */
import type * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import type { Codec } from "../../../Codec.ts"
import type * as ConnectionError from "../../../ConnectionError.ts"
import type { Beat, Heartbeat } from "../../../Heartbeat.ts"
import type { Encoder, Frame } from "../../codec/encoder.ts"
import type { Compression } from "../../transport/compression.ts"
import type { WebSocketLink } from "../../transport/transport.ts"
import type { InForce } from "./limits.ts"

/**
 * Turns messages into frames. Connections of one `make` over one kind of transport share theirs, so that a broadcast
 * encodes once for all of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Wire<in Out> {
  /** Writes a message as a frame, which any connection of the same wire can send. */
  readonly encode: (message: Out) => Result.Result<Frame, ConnectionError.CodecReason>
}

/** What `make` computes once, for all connections of the same options. */
export interface Setup<In, Out> {
  readonly codec: Codec<In, Out>
  readonly transport: "stream" | "messages" | undefined
  readonly heartbeat: Heartbeat<In, Out> | undefined
  /** When to ping; without one it is the policy that says so. */
  readonly pings: Schedule.Schedule<unknown, Beat, unknown> | undefined
  readonly farewell: ((reason: ConnectionError.Reason) => Out | undefined) | undefined
  readonly inForce: InForce
  readonly stream: WireFormat<Out>
  readonly messages: WireFormat<Out>
  /** For a WebSocket whose frames the connection writes. */
  readonly webSocket: (link: WebSocketLink, compression: Compression | undefined) => WireFormat<Out>
}

/** What depends on whether the transport keeps messages apart. */
export interface WireFormat<in Out> {
  readonly encoder: Encoder<Out>
  readonly wire: Wire<Out>
  readonly goodbye: (reason: ConnectionError.Reason) => Frame | undefined
  /** A ping with this token; without it there is nothing to ping with. */
  readonly ping: ((token: number) => Result.Result<Frame, ConnectionError.CodecReason>) | undefined
  /** The control frames of a WebSocket. */
  readonly control?: (opcode: number, payload: Uint8Array) => Uint8Array
  /** It is a client's end of a WebSocket. */
  readonly isClient?: boolean
}
