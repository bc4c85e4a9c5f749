/** What connections of one `make` have in common, and what each of them looks like. */
import type * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import type { Codec } from "../../../Codec.ts"
import type * as ConnectionError from "../../../ConnectionError.ts"
import type { Beat, Heartbeat } from "../../../Heartbeat.ts"
import { Policy } from "../../../Policy.ts"
import type { Encoder, Frame } from "../../codec/encoder.ts"
import { definitionsOf, numberOf } from "../../limits/definition.ts"

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
  /** Whether reading has stopped because the inbox is full. */
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

const of = definitionsOf(Policy.fields)

/** The limits that a connection compares with, as numbers: what is off is `Infinity`, for `minPingEvery` 0. */
const limitsOf = (policy: Policy) => ({
  open: numberOf(of.open, policy.open),
  handshake: numberOf(of.handshake, policy.handshake),
  pingEvery: numberOf(of.pingEvery, policy.pingEvery),
  pong: numberOf(of.pong, policy.pong),
  misses: policy.misses,
  minPingEvery: numberOf(of.minPingEvery, policy.minPingEvery),
  silence: numberOf(of.silence, policy.silence),
  writeStall: numberOf(of.writeStall, policy.writeStall),
  frame: numberOf(of.frame, policy.frame),
  idle: numberOf(of.idle, policy.idle),
  maxAge: numberOf(of.maxAge, policy.maxAge),
  maxAgeGrace: numberOf(of.maxAgeGrace, policy.maxAgeGrace),
  halfClose: numberOf(of.halfClose, policy.halfClose),
  drain: numberOf(of.drain, policy.drain),
  inboxMessages: policy.inboxMessages,
  inboxBytes: policy.inboxBytes,
  outboxMessages: policy.outboxMessages,
  outboxBytes: policy.outboxBytes
})

/** The limits of a policy that are asked for every message and every look at the clock. */
export interface Limits extends Readonly<ReturnType<typeof limitsOf>> {}

/** A policy, and its limits as numbers: the one value that changes when a connection is patched. */
export interface Terms {
  readonly policy: Policy
  readonly limits: Limits
}

export const termsOf = (policy: Policy): Terms => ({ policy, limits: limitsOf(policy) })

/** What `make` computes once, for all connections of the same options. */
export interface Shared<In, Out> {
  readonly codec: Codec<In, Out>
  readonly transport: "stream" | "messages" | undefined
  readonly heartbeat: Heartbeat<In, Out> | undefined
  /** When to ping; without one it is the policy that says so. */
  readonly pings: Schedule.Schedule<unknown, Beat, unknown> | undefined
  readonly farewell: ((reason: ConnectionError.Reason) => Out | undefined) | undefined
  readonly terms: Terms
  readonly stream: Way<Out>
  readonly messages: Way<Out>
}

/** What depends on whether the transport keeps messages apart. */
export interface Way<in Out> {
  readonly encoder: Encoder<Out>
  readonly wire: Wire<Out>
  readonly goodbye: (reason: ConnectionError.Reason) => Frame | undefined
}
