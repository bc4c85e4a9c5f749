/**
 * Why a connection could not be opened, could not be used, or ended.
 *
 * One error class, `ConnectionError`, with a closed union of reasons. Each reason carries its facts (sizes in bytes,
 * times in milliseconds) and says whether trying again can help.
 *
 * **Example** (One reason is expected, the others are not)
 *
 * ```ts
 * const quietly = (connection: Connection.Connection<string>) =>
 *   Effect.catchTag(connection.receive, "ConnectionError", (error) => {
 *     switch (error.reason._tag) {
 *       case "Closed":
 *         return Effect.succeed("the other end has closed")
 *       default:
 *         return error.isRetryable ? Effect.succeed("try again") : Effect.fail(error)
 *     }
 *   })
 * ```
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"
import type * as Socket from "effect/socket/Socket"
import { certificateFacts, certificateRow } from "./internal/reasons/certificates.ts"
import { checkCode, isWorthRetrying, unexpected } from "./internal/reasons/closeCodes.ts"
import { mayPass } from "./internal/reasons/http.ts"
import { reason, withoutStack } from "./internal/reasons/reason.ts"
import * as Sentences from "./internal/reasons/sentences.ts"
import { causeText, isReset, oneLine, seconds } from "./internal/reasons/text.ts"

const Count = Schema.Number
const Millis = Schema.Number
const Bytes = Schema.Number
const Rate = Schema.Literals(Sentences.rates)

// ---------------------------------------------------------------------------------------------------------------------
// opening
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The transport could not be opened: refused, unreachable, a failed TLS handshake.
 *
 * @category opening
 * @since 0.1.0
 */
export class OpenFailed extends reason<OpenFailed>()("OpenFailed", { cause: Schema.Defect() }, {
  text: ({ cause }) => `could not open the connection: ${causeText(cause)}`,
  codes: { retry: true }
}) {}

/**
 * The connection did not open within `Policy.open`, or within the `dial` of a pool.
 *
 * @category opening
 * @since 0.1.0
 */
export class OpenTimeout extends reason<OpenTimeout>()("OpenTimeout", { limit: Millis }, {
  text: ({ limit }) => `the connection did not open within ${seconds(limit)}`,
  codes: { retry: true }
}) {}

/**
 * The peer did not finish its handshake within `Policy.handshake`.
 *
 * @category opening
 * @since 0.1.0
 */
export class HandshakeTimeout extends reason<HandshakeTimeout>()("HandshakeTimeout", { limit: Millis }, {
  text: ({ limit }) => `the peer did not finish its handshake within ${seconds(limit)}`,
  codes: { retry: true, webSocket: 1013, native: "HANDSHAKE_FAILED" }
}) {}

/**
 * The handshake ended with an error: bad credentials, a version this end does not speak.
 *
 * **Gotchas**
 *
 * - Not retryable: the same credentials would be refused again. Fail the handshake with a `ConnectionError` of another
 *   reason when trying again can help.
 * - The peer is told that the handshake failed, and no word of the cause, which may hold a secret. To tell it more, fail with
 *   `Closed`, by `local`, with a `code` and a `note`.
 *
 * @category opening
 * @since 0.1.0
 */
export class HandshakeFailed extends reason<HandshakeFailed>()("HandshakeFailed", { cause: Schema.Defect() }, {
  text: ({ cause }) => `the handshake failed: ${causeText(cause)}`,
  codes: { retry: false, webSocket: 1008, native: "HANDSHAKE_FAILED" },
  told: () => "the handshake failed",
  note: () => "",
  heard: Sentences.handshakeHeard
}) {}

const Limit = Schema.Literals(Sentences.refusals)

/**
 * The server did not take the connection because of one of its limits.
 *
 * @category opening
 * @since 0.1.0
 */
export class Refused extends reason<Refused>()("Refused", { limit: Limit, allowed: Schema.optionalKey(Count) }, {
  text: Sentences.refused,
  codes: { retry: true, webSocket: 1013, native: "REFUSED" },
  note: ({ limit }) => limit,
  heard: (note) => Schema.is(Limit)(note) ? { limit: note } : undefined
}) {}

/**
 * The server did not upgrade the connection to a WebSocket, and answered with another status: it wants credentials, has no such
 * path, is full.
 *
 * **Details**
 *
 * All of it is what the peer said; `headers` have their names in lower case. Not retryable are answers that will stay
 * the same: every status but 408, 425, 429 and those from 500 on. Redirects are not followed. A `Retry-After` header is the earliest
 * time of the next try: the delay of the `Backoff` comes on top of it.
 *
 * **Gotchas**
 *
 * Where a client gets fresh credentials for every try, 401 may be worth another: `Policy.retryOn: [401]`.
 *
 * @category opening
 * @since 0.1.0
 */
export class UpgradeRefused extends reason<UpgradeRefused>()("UpgradeRefused", {
  status: Schema.Number,
  statusText: Schema.optionalKey(Schema.String),
  headers: Schema.Record(Schema.String, Schema.String)
}, {
  text: ({ status, statusText = "" }) => `the peer refused the upgrade with ${oneLine(`${status} ${statusText}`)}`,
  codes: { retry: mayPass },
  told: () => undefined
}) {}

/**
 * One end of a TLS connection does not accept the certificate of the other: `by` says which. With `local` we refused the
 * peer's, with `peer` it refused ours.
 *
 * **Details**
 *
 * `problem` is why: `untrusted` (no authority that is trusted here signed it), `expired`, `notYetValid`, `revoked`,
 * `wrongName` (it names another host), `missing` (one was asked for, and none was shown), or `other`. A peer that refuses says
 * it in an alert, which rarely tells more than that; `cause` is what Node and OpenSSL say.
 *
 * Not retryable: the same certificate would be refused again. `Policy.retryOn: ["CertificateRefused"]` is for clients that
 * wait until the certificate is renewed.
 *
 * **Gotchas**
 *
 * In TLS 1.3 a client is done before the server has looked at its certificate, so the refusal may come later: a fatal alert
 * before the first byte of the server, where it asked for a certificate, is this reason too. A server that closes without an
 * alert, as Node's own does, gives no reason: that is an end like any other. And silence cannot be told from consent.
 *
 * @category opening
 * @since 0.1.0
 */
export class CertificateRefused
  extends reason<CertificateRefused>()("CertificateRefused", certificateFacts, certificateRow)
{}

// ---------------------------------------------------------------------------------------------------------------------
// ending
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The connection was closed in an orderly way: a FIN, a WebSocket close frame, or our own `close`.
 *
 * **Details**
 *
 * `code` and `note` are the WebSocket close code and reason text where the transport has them. With `by: "local"` and a code
 * they are what the peer of a WebSocket is told: `closeWith(new Closed({ by: "local", code: 4001, note: "token expired" }))`.
 * A note without a code stays here.
 *
 * What a peer's code means for another try (RFC 6455, 7.4.1): 1000 ends the conversation, and 1002, 1003 and 1007 to 1010 say
 * that the same would be refused again. All others are worth another try, 3000 to 4999 too: `Policy.giveUpOn` names those
 * of an application that are not.
 *
 * **Gotchas**
 *
 * A code of ours is 1000 to 1003, 1007 to 1014 or 3000 to 4999; another one throws a `RangeError` here.
 *
 * @category ending
 * @since 0.1.0
 */
export class Closed extends reason<Closed>()("Closed", {
  by: Schema.Literals(["peer", "local"]),
  code: Schema.optionalKey(Schema.Number),
  note: Schema.optionalKey(Schema.String),
  /** What the peer said about coming back, where its protocol can say it. */
  retryable: Schema.optionalKey(Schema.Boolean)
}, {
  text: Sentences.closed,
  codes: {
    retry: ({ by, code, retryable }) => retryable ?? (by === "peer" && isWorthRetrying(code)),
    webSocket: ({ by, code }) => by === "local" && code !== undefined ? code : 1000,
    native: "NORMAL"
  },
  told: ({ by, code, note }) => by === "local" && code !== undefined ? note : undefined,
  // what the peer said is not said back to it
  note: ({ by, note }) => by === "local" ? note ?? "" : "",
  // a handler that returned or failed decides nothing about its client, unless it says so
  comeBack: ({ retryable }) => retryable ?? true
}) {
  constructor(facts: Parameters<typeof Closed.make>[0], options?: Schema.MakeOptions) {
    if (facts.by === "local") checkCode(facts.code)
    super(facts.by === "peer" && facts.note !== undefined ? { ...facts, note: oneLine(facts.note) } : facts, options)
  }
}

/**
 * The peer, or something in between, cut the connection with a reset (RST) instead of ending it.
 *
 * @category ending
 * @since 0.1.0
 */
export class Reset extends reason<Reset>()("Reset", { cause: Schema.Defect() }, {
  text: ({ cause }) => `reset by the peer: ${causeText(cause)}`,
  codes: { retry: true }
}) {}

/**
 * The transport broke while reading or writing, for another reason than a reset.
 *
 * @category ending
 * @since 0.1.0
 */
export class TransportFailed extends reason<TransportFailed>()("TransportFailed", {
  operation: Schema.Literals(["read", "write"]),
  cause: Schema.Defect()
}, {
  text: ({ cause, operation }) => `the transport failed to ${operation}: ${causeText(cause)}`,
  codes: { retry: true }
}) {}

/**
 * Not one byte came from the peer for `Policy.silence`, while we were ready to read.
 *
 * @category ending
 * @since 0.1.0
 */
export class SilenceTimeout extends reason<SilenceTimeout>()("SilenceTimeout", { limit: Millis }, {
  text: ({ limit }) => `the peer sent nothing for ${seconds(limit)}`,
  codes: { retry: true, webSocket: 1001, native: "TIMEOUT" }
}) {}

/**
 * Pings stayed unanswered for longer than `Policy.pong` and `Policy.misses` allow.
 *
 * @category ending
 * @since 0.1.0
 */
export class PongTimeout extends reason<PongTimeout>()("PongTimeout", { limit: Millis, unanswered: Count }, {
  text: ({ limit, unanswered }) => `the peer left ${unanswered} ping(s) unanswered; the limit is ${seconds(limit)}`,
  codes: { retry: true, webSocket: 1001, native: "TIMEOUT" }
}) {}

/**
 * The peer took none of our bytes for `Policy.writeStall` although some were waiting.
 *
 * @category ending
 * @since 0.1.0
 */
export class WriteStalled extends reason<WriteStalled>()("WriteStalled", { limit: Millis }, {
  text: ({ limit }) => `the peer took none of our bytes for ${seconds(limit)}`,
  codes: { retry: true, webSocket: 1001, native: "TIMEOUT" }
}) {}

/**
 * A frame was begun and not completed within `Policy.frame`, although bytes may have kept coming (slow-loris).
 *
 * @category ending
 * @since 0.1.0
 */
export class FrameTimeout extends reason<FrameTimeout>()("FrameTimeout", { limit: Millis, received: Bytes }, {
  text: ({ limit, received }) => `a frame of which ${received} bytes came was not complete after ${seconds(limit)}`,
  codes: { retry: true, webSocket: 1013, native: "TIMEOUT" }
}) {}

/**
 * No message went either way for `Policy.idle`; heartbeats do not count.
 *
 * @category ending
 * @since 0.1.0
 */
export class IdleTimeout extends reason<IdleTimeout>()("IdleTimeout", { limit: Millis }, {
  text: ({ limit }) => `no message in either direction for ${seconds(limit)}`,
  codes: { retry: true, webSocket: 1001, native: "TIMEOUT" }
}) {}

/**
 * The connection reached `Policy.maxAge` and its grace, and was rotated.
 *
 * @category ending
 * @since 0.1.0
 */
export class MaxAge extends reason<MaxAge>()("MaxAge", { limit: Millis }, {
  text: ({ limit }) => `the connection reached its maximum age of ${seconds(limit)}`,
  codes: { retry: true, webSocket: 1001, native: "GOING_AWAY" }
}) {}

/**
 * The outbox reached its bound and `Policy.overflow` is `"close"`.
 *
 * @category ending
 * @since 0.1.0
 */
export class SlowConsumer extends reason<SlowConsumer>()("SlowConsumer", { messages: Count, bytes: Bytes }, {
  text: ({ bytes, messages }) => `the peer reads too slowly: ${messages} messages (${bytes} bytes) were waiting for it`,
  codes: { retry: true, webSocket: 1013, native: "SLOW_CONSUMER" }
}) {}

/**
 * The peer pinged more often than `Policy.minPingEvery` for the third time.
 *
 * @category ending
 * @since 0.1.0
 */
export class TooManyPings extends reason<TooManyPings>()("TooManyPings", { minimum: Millis }, {
  text: ({ minimum }) => `too many pings: the minimum interval is ${seconds(minimum)}`,
  codes: { retry: false, webSocket: 1008, native: "TOO_MANY_PINGS" },
  heard: (_, { minPingEvery }) => ({ minimum: minPingEvery })
}) {}

/**
 * The peer sent faster than `Policy.messageRate` or `Policy.byteRate` allows, and `Policy.overRate` is `"close"`. It may come back later, as after the
 * status 429 of HTTP.
 *
 * @category ending
 * @since 0.1.0
 */
export class RateExceeded extends reason<RateExceeded>()("RateExceeded", { limit: Rate, allowed: Count }, {
  text: Sentences.rateExceeded,
  codes: { retry: true, webSocket: 1013 }
}) {}

/**
 * The two ends have no version of the native protocol in common: the peer speaks `lowest` to `highest`.
 *
 * @category ending
 * @since 0.1.0
 */
export class UnsupportedVersion extends reason<UnsupportedVersion>()("UnsupportedVersion", {
  lowest: Schema.Number,
  highest: Schema.Number,
  ours: Schema.String
}, {
  text: Sentences.unsupportedVersion,
  codes: { retry: false, webSocket: 1008, native: "UNSUPPORTED_VERSION" },
  note: ({ ours }) => ours,
  heard: Sentences.versionsHeard
}) {}

/**
 * The peer sent what its protocol does not allow: an unknown frame, one at the wrong time, a WebSocket frame that RFC 6455 forbids.
 *
 * @category ending
 * @since 0.1.0
 */
export class ProtocolViolation extends reason<ProtocolViolation>()("ProtocolViolation", { detail: Schema.String }, {
  text: ({ detail }) => `protocol violation: ${oneLine(detail)}`,
  codes: { retry: false, webSocket: 1008, native: "VIOLATION" },
  note: ({ detail }) => detail,
  heard: (note) => ({ detail: `the peer says: ${note}` })
}) {}

/**
 * A newer connection took over this one's key (the same user or device came again).
 *
 * @category ending
 * @since 0.1.0
 */
export class Superseded extends reason<Superseded>()("Superseded", { key: Schema.String }, {
  text: ({ key }) => `superseded by a newer connection for ${JSON.stringify(oneLine(key))}`,
  codes: { retry: false, webSocket: 1008, native: "SUPERSEDED" },
  note: ({ key }) => key,
  heard: (note) => ({ key: oneLine(note) })
}) {}

/**
 * The key belongs to a living connection, and the registry rejects duplicates.
 *
 * @category ending
 * @since 0.1.0
 */
export class DuplicateKey extends reason<DuplicateKey>()("DuplicateKey", { key: Schema.String }, {
  text: ({ key }) => `there is a connection for ${JSON.stringify(oneLine(key))} already`,
  codes: { retry: false, webSocket: 1008, native: "DUPLICATE" },
  note: ({ key }) => key,
  heard: (note) => ({ key: oneLine(note) })
}) {}

/**
 * A sweep of the registry condemned the connection.
 *
 * @category ending
 * @since 0.1.0
 */
export class Swept extends reason<Swept>()("Swept", {}, {
  text: () => "removed by a sweep of the registry",
  codes: { retry: true, webSocket: 1001, native: "GOING_AWAY" }
}) {}

/**
 * This end is shutting down and drained the connection.
 *
 * @category ending
 * @since 0.1.0
 */
export class GoingAway extends reason<GoingAway>()("GoingAway", {}, {
  text: () => "this end is shutting down",
  codes: { retry: true, webSocket: 1001, native: "GOING_AWAY" }
}) {}

/**
 * Something threw that must not throw: a callback of the application (a codec, a heartbeat, a hook, a handler of a
 * request), a transport, or this library. Neither the network nor the peer is at fault, and the same
 * code would throw again.
 *
 * **Details**
 *
 * `by` names what threw: the fiber of a connection (`reader`, `writer`, `heartbeat`, `deadlines`), or the callback. `cause`
 * is the whole `Cause`, with every defect and its stack. It is logged once, as an error, where it happened. The peer is
 * told that the connection failed (WebSocket 1011, native code 11), and no text of it.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Defect extends reason<Defect>()("Defect", {
  by: Schema.String,
  cause: Schema.Cause(Schema.Unknown, Schema.Defect())
}, {
  text: ({ by, cause }) => `a defect in the ${oneLine(by)} ended it: ${causeText(Cause.squash(cause))}`,
  codes: { retry: false, webSocket: unexpected, native: "FAILED" }
}) {}

// ---------------------------------------------------------------------------------------------------------------------
// bytes that do not follow the codec
// ---------------------------------------------------------------------------------------------------------------------

const Direction = Schema.Literals(["decode", "encode"])

// a message of our own that could not be written is not the peer's doing
const byDirection = ({ direction }: { direction: string }) => direction === "decode" ? "VIOLATION" : "FAILED"

/**
 * A frame is longer than the limit. Found before anything is allocated for it.
 *
 * `size` is the whole announced size in bytes, or what had arrived when a delimiter was still missing.
 *
 * @category codec
 * @since 0.1.0
 */
export class FrameTooLong extends reason<FrameTooLong>()("FrameTooLong", {
  direction: Direction,
  size: Bytes,
  limit: Bytes
}, {
  text: ({ limit, size }) => `a frame of ${size} bytes is over the limit of ${limit} bytes`,
  codes: { retry: false, webSocket: 1009, native: byDirection }
}) {}

/**
 * A length prefix that no frame can have: negative, or ending before its own header does.
 *
 * @category codec
 * @since 0.1.0
 */
export class InvalidLength extends reason<InvalidLength>()("InvalidLength", {
  direction: Direction,
  detail: Schema.String
}, {
  text: ({ detail }) => `invalid frame length: ${oneLine(detail)}`,
  codes: { retry: false, webSocket: 1007, native: byDirection }
}) {}

/**
 * The stream ended inside a frame.
 *
 * @category codec
 * @since 0.1.0
 */
export class Truncated extends reason<Truncated>()("Truncated", { leftover: Bytes }, {
  text: ({ leftover }) => `the stream ended inside a frame; ${leftover} bytes of it had come`,
  codes: { retry: true, webSocket: 1007, native: "VIOLATION" }
}) {}

/**
 * The bytes of a frame are no message, or a message cannot be written as bytes.
 *
 * `path` names the field for a schema mismatch.
 *
 * @category codec
 * @since 0.1.0
 */
export class InvalidMessage extends reason<InvalidMessage>()("InvalidMessage", {
  direction: Direction,
  format: Schema.String,
  detail: Schema.String,
  path: Schema.optionalKey(Schema.Array(Schema.String))
}, {
  text: Sentences.invalidMessage,
  codes: { retry: false, webSocket: 1007, native: byDirection },
  told: Sentences.invalidMessageTold
}) {}

/**
 * What a codec can find wrong.
 *
 * @category codec
 * @since 0.1.0
 */
export const CodecReason = Schema.Union([FrameTooLong, InvalidLength, Truncated, InvalidMessage])

/**
 * @category codec
 * @since 0.1.0
 */
export type CodecReason = typeof CodecReason.Type

// ---------------------------------------------------------------------------------------------------------------------
// one send
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The outbox is at its bound and `Policy.overflow` is `"fail"`. The connection lives on.
 *
 * @category sending
 * @since 0.1.0
 */
export class OutboxFull extends reason<OutboxFull>()("OutboxFull", { messages: Count, bytes: Bytes }, {
  text: ({ bytes, messages }) => `the outbox is full (${messages} messages, ${bytes} bytes are waiting)`,
  codes: { retry: true }
}) {}

/**
 * One message alone is larger than the outbox may hold (`Policy.outboxBytes`). The connection lives on.
 *
 * @category sending
 * @since 0.1.0
 */
export class MessageTooLarge extends reason<MessageTooLarge>()("MessageTooLarge", { size: Bytes, limit: Bytes }, {
  text: ({ limit, size }) => `a message of ${size} bytes is larger than the outbox may hold (${limit} bytes)`,
  codes: { retry: false }
}) {}

/**
 * A client has no connection, and may keep no more messages waiting for one (`Policy.whenOffline`, `offlineMessages`,
 * `offlineBytes`). The message was not sent.
 *
 * `within` is there where the client was used by its own `onConnect` (or `open`), which it waits for. That is a mistake in the
 * program, and not retryable: use the connection that `onConnect` is given.
 *
 * @category sending
 * @since 0.1.0
 */
export class Offline extends reason<Offline>()("Offline", { messages: Count, bytes: Bytes, within: Sentences.Within }, {
  text: Sentences.offline,
  codes: { retry: ({ within }) => within === undefined }
}) {}

// ---------------------------------------------------------------------------------------------------------------------
// a pool, and requests
// ---------------------------------------------------------------------------------------------------------------------

/**
 * No connection of a pool became free within its `acquire`.
 *
 * `by` is who waited: the name of its span, if it has one, and its fiber. `holders` have the connections, the longest
 * first. `waiting` and `dialing` are how many borrowers waited and how many connections were being opened.
 *
 * @category pool
 * @since 0.1.0
 */
export class AcquireTimeout extends reason<AcquireTimeout>()("AcquireTimeout", {
  limit: Millis,
  by: Schema.String,
  waiting: Count,
  dialing: Count,
  holders: Schema.Array(Schema.Struct({ by: Schema.String, heldFor: Millis }))
}, {
  text: Sentences.acquireTimeout,
  codes: { retry: true },
  told: ({ limit }) => `no connection within ${seconds(limit)}`
}) {}

/**
 * As many borrowers as its `waiters` allows wait for a connection of the pool already. Told at once.
 *
 * @category pool
 * @since 0.1.0
 */
export class PoolFull extends reason<PoolFull>()("PoolFull", { waiting: Count, limit: Count }, {
  text: Sentences.poolFull,
  codes: { retry: true }
}) {}

/**
 * A request had no response within its deadline. Whether the peer has acted on it, only the peer knows, so it is not
 * retryable.
 *
 * @category requests
 * @since 0.1.0
 */
export class RequestTimeout extends reason<RequestTimeout>()("RequestTimeout", { limit: Millis }, {
  text: ({ limit }) => `no response within ${seconds(limit)}`,
  codes: { retry: false }
}) {}

/**
 * The connection ended after a request was given to it and before its response came: the peer may have acted on it, or
 * never have seen it. `cause` is why the connection ended.
 *
 * **Gotchas**
 *
 * Not retryable, as the same request sent again may be done twice. What may be done twice is declared `idempotent`, and
 * never gets to see this.
 *
 * @category requests
 * @since 0.1.0
 */
export class OutcomeUnknown extends reason<OutcomeUnknown>()("OutcomeUnknown", { cause: Schema.Defect() }, {
  text: ({ cause }) => `it is unknown whether the request was carried out: ${causeText(cause)}`,
  codes: { retry: false }
}) {}

// ---------------------------------------------------------------------------------------------------------------------
// the error
// ---------------------------------------------------------------------------------------------------------------------

const certificates = [CertificateRefused] as const
const opening = [OpenFailed, OpenTimeout, HandshakeTimeout, HandshakeFailed, Refused, UpgradeRefused] as const
const transport = [Closed, Reset, TransportFailed] as const
const deadlines = [SilenceTimeout, PongTimeout, WriteStalled, FrameTimeout, IdleTimeout, MaxAge] as const
const bounds = [SlowConsumer, TooManyPings, RateExceeded] as const
const decisions = [UnsupportedVersion, ProtocolViolation, Superseded, DuplicateKey, Swept, GoingAway, Defect] as const
const sending = [OutboxFull, MessageTooLarge, Offline] as const
const lending = [AcquireTimeout, PoolFull, RequestTimeout, OutcomeUnknown] as const

/**
 * Every reason there is. Match on `_tag`; the union is closed.
 *
 * @category models
 * @since 0.1.0
 */
export const Reason = Schema.Union([
  ...opening,
  ...certificates,
  ...transport,
  ...deadlines,
  ...bounds,
  ...decisions,
  ...CodecReason.members,
  ...sending,
  ...lending
])

/**
 * @category models
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * What the peer asked of those it loses: come back `after` milliseconds, plus a random part of `spread` milliseconds,
 * so that all of them do not come back at once.
 *
 * @category models
 * @since 0.1.0
 */
export const Advice = Schema.Struct({ after: Millis, spread: Millis })

/**
 * @category models
 * @since 0.1.0
 */
export type Advice = typeof Advice.Type

/**
 * The one error of this library: why a connection could not be opened, could not be used, or ended.
 *
 * **Details**
 *
 * After a connection has ended, `receive`, `send`, `flush` and `closed` all fail with the very same `ConnectionError`:
 * the reason is sticky. `reason.message` is a sentence a person can act on, and `isRetryable` says whether opening
 * again can help; when to do so is for a `Schedule` to say.
 *
 * @category models
 * @since 0.1.0
 */
export class ConnectionError extends Schema.TaggedError<ConnectionError>()("ConnectionError", {
  reason: Reason,
  /** What the peer last advised about coming back, where the protocol can say it. */
  advice: Schema.optionalKey(Advice)
}) {
  override readonly cause = this.reason
  override get message(): string {
    return this.reason.message
  }
  /** Whether opening a new connection can help. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
}

/**
 * Makes a `ConnectionError` of a reason.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (reason: Reason, advice?: Advice): ConnectionError =>
  new ConnectionError(advice === undefined ? { reason } : { reason, advice })

const broken = (operation: "read" | "write", cause: unknown): Reason =>
  isReset(cause) ? new Reset({ cause }) : new TransportFailed({ operation, cause })

/**
 * Translates the vocabulary of `effect/socket` into ours.
 *
 * A WebSocket that closes with 1006 (RFC 6455, 7.1.5: no close frame came) is a `Reset`. An error whose cause is a
 * `ConnectionError` is that error.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromSocketError = (error: Socket.SocketError): ConnectionError =>
  error.reason._tag === "SocketCloseError" && error.reason.code === 1000 && !error.reason.closeReason
    ? closedByPeer
    : withoutStack(() => translate(error))

// the two most frequent ends have nothing to tell one connection's from another's, and making an error costs more than
// everything else that happens then
const closedByPeer = withoutStack(() => make(new Closed({ by: "peer" })))

const translate = ({ reason }: Socket.SocketError): ConnectionError => {
  // a transport that knows why says so
  if (reason.cause instanceof ConnectionError) return reason.cause
  switch (reason._tag) {
    case "SocketCloseError": {
      const { closeReason: note, code } = reason
      if (code === 1006) return make(new Reset({ cause: "the transport closed without an end of stream" }))
      return make(new Closed({ by: "peer", ...(code === 1000 ? {} : { code }), ...(note ? { note } : {}) }))
    }
    case "SocketOpenError":
    case "SocketUpgradeError":
      return make(new OpenFailed({ cause: reason.cause ?? reason.message }))
    default:
      return make(broken(reason._tag === "SocketReadError" ? "read" : "write", reason.cause))
  }
}
