/** What connections of one `make` have in common, and what each of them looks like. */
import type * as Result from "effect/Result"
import type { Codec } from "../Codec.ts"
import type * as ConnectionError from "../ConnectionError.ts"
import type { Heartbeat } from "../Heartbeat.ts"
import type * as Policy from "../Policy.ts"
import type { Limits } from "./deadlines.ts"
import type { Bounds, Frame } from "./outbox.ts"
import type { Packer } from "./packer.ts"

/**
 * What a connection looks like at one moment. Times are milliseconds of the `Clock`, sizes are bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly id: number
  /** `open`; `draining`: nothing more is received, replies still leave; `closing`: flushing; `ended`. */
  readonly state: "open" | "draining" | "closing" | "ended"
  readonly local: string | undefined
  readonly remote: string | undefined
  readonly openedAt: number
  /** How long the connection has lived, or lived. */
  readonly age: number
  /** How long ago the peer was last heard. */
  readonly quietFor: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly messagesIn: number
  readonly messagesOut: number
  /** Messages (and their bytes) read, and not received yet. */
  readonly inbox: { readonly messages: number; readonly bytes: number }
  /** Messages (and their bytes) accepted, and not written yet. */
  readonly outbox: { readonly messages: number; readonly bytes: number }
  /** Messages dropped by `overflow`. */
  readonly dropped: number
  /** Over-long frames that the codec was told to skip. */
  readonly skipped: number
  /** Accepted messages that had not been handed to the transport when the connection ended. */
  readonly lost: number
  /** Whether we have stopped reading because nobody receives. */
  readonly paused: boolean
  /** Round-trip times of pings, in milliseconds; `smoothed` as in RFC 6298 (one eighth of each new one). */
  readonly rtt: { readonly last: number; readonly smoothed: number } | undefined
  /** Why the connection ended, or is ending. */
  readonly reason: ConnectionError.Reason | undefined
}

/**
 * Turns messages into frames. Connections of one `make` over one kind of transport share theirs, so that a broadcast
 * encodes once for all of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Wire<in Out> {
  readonly encode: (message: Out) => Result.Result<Frame, ConnectionError.CodecReason>
}

/** What `make` computes once, for all connections of the same options. */
export interface Shared<In, Out> {
  readonly codec: Codec<In, Out>
  readonly transport: "stream" | "messages" | undefined
  readonly heartbeat: Heartbeat<In, Out> | undefined
  readonly farewell: ((reason: ConnectionError.Reason) => Out | undefined) | undefined
  readonly policy: Policy.Policy
  readonly limits: Limits
  readonly bounds: Bounds
  readonly stream: Way<Out>
  readonly messages: Way<Out>
}

/** What depends on whether the transport keeps messages apart. */
export interface Way<in Out> {
  readonly wire: Wire<Out>
  readonly packer: Packer<Out> | undefined
  readonly goodbye: (reason: ConnectionError.Reason) => Frame | undefined
}

export const boundsOf = (policy: Policy.Policy) => ({
  messages: policy.outboxMessages,
  bytes: policy.outboxBytes,
  overflow: policy.overflow,
  lowWater: policy.lowWater
})
