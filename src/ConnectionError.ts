/**
 * Why a connection could not be opened, could not be used, or ended.
 *
 * One error class, `ConnectionError`, with a closed union of reasons. Each reason carries its facts (sizes in bytes,
 * times in milliseconds) and says whether trying again can help.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"
import type * as Socket from "effect/socket/Socket"

const Count = Schema.Number
const Millis = Schema.Number
const Bytes = Schema.Number

const seconds = (millis: number): string => millis % 1000 === 0 ? `${millis / 1000} s` : `${millis} ms`

/** A message is one line of a log, whoever wrote parts of it: a peer chooses the reason text of a close frame. */
const oneLine = (text: string): string => text.replace(/[\s\p{Cc}\u2028\u2029]+/gu, " ").trim()

/** The text of whatever caused a failure, with the operating system's code when there is one. */
const causeText = (cause: unknown): string => {
  if (typeof cause !== "object" || cause === null) return oneLine(String(cause)) || "no detail given"
  // Node wraps the errors of several addresses (Happy Eyeballs) in an AggregateError without a message
  if ("errors" in cause && Array.isArray(cause.errors) && cause.errors.length > 0) return causeText(cause.errors[0])
  if ("message" in cause && typeof cause.message === "string" && oneLine(cause.message) !== "") {
    return oneLine(cause.message)
  }
  if ("code" in cause && typeof cause.code === "string") return cause.code
  // a WebSocket `ErrorEvent` keeps the error inside
  if ("error" in cause && cause.error !== undefined) return causeText(cause.error)
  // a tagged error says what it is by its name
  if ("_tag" in cause && typeof cause._tag === "string") return cause._tag
  return "no detail given"
}

const causeCode = (cause: unknown): string | undefined => {
  if (typeof cause !== "object" || cause === null) return undefined
  if ("code" in cause && typeof cause.code === "string") return cause.code
  return "error" in cause ? causeCode(cause.error) : undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// opening
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The transport could not be opened: refused, unreachable, a failed TLS handshake.
 *
 * @category opening
 * @since 0.1.0
 */
export class OpenFailed extends Schema.TaggedError<OpenFailed>()("OpenFailed", { cause: Schema.Defect() }) {
  override get message() {
    return `could not open the connection: ${causeText(this.cause)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The connection did not open within `Policy.open`, or within the `dial` of a pool.
 *
 * @category opening
 * @since 0.1.0
 */
export class OpenTimeout extends Schema.TaggedError<OpenTimeout>()("OpenTimeout", { limit: Millis }) {
  override get message() {
    return `the connection did not open within ${seconds(this.limit)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The peer did not finish its handshake within `Policy.handshake`.
 *
 * @category opening
 * @since 0.1.0
 */
export class HandshakeTimeout extends Schema.TaggedError<HandshakeTimeout>()("HandshakeTimeout", { limit: Millis }) {
  override get message() {
    return `the peer did not finish its handshake within ${seconds(this.limit)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The handshake ended with an error: bad credentials, a version nobody here speaks.
 *
 * **Gotchas**
 *
 * Not retryable: the same credentials would be refused again. Fail the handshake with a `ConnectionError` of another
 * reason when trying again can help.
 *
 * @category opening
 * @since 0.1.0
 */
export class HandshakeFailed
  extends Schema.TaggedError<HandshakeFailed>()("HandshakeFailed", { cause: Schema.Defect() })
{
  override get message() {
    return `the handshake failed: ${causeText(this.cause)}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The server did not take the connection because of one of its limits.
 *
 * @category opening
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedError<Refused>()("Refused", {
  limit: Schema.Literals(["maxConnections", "maxConnectionsPerAddress", "maxWaiting", "acceptRate", "stopping"]),
  allowed: Schema.optionalKey(Count)
}) {
  override get message() {
    return this.limit === "stopping"
      ? "the server is stopping"
      : `the server's ${this.limit}${this.allowed === undefined ? "" : ` (${this.allowed})`} is reached`
  }
  get isRetryable() {
    return true
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// ending
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The connection was closed in an orderly way: a FIN, a WebSocket close frame, or our own `close`.
 *
 * `code` and `note` are the WebSocket close code and reason text where the transport has them.
 *
 * @category ending
 * @since 0.1.0
 */
export class Closed extends Schema.TaggedError<Closed>()("Closed", {
  by: Schema.Literals(["peer", "local"]),
  code: Schema.optionalKey(Schema.Number),
  note: Schema.optionalKey(Schema.String),
  /** What the peer said about coming back, where its protocol can say it. */
  retryable: Schema.optionalKey(Schema.Boolean)
}) {
  override get message() {
    const detail = [this.code === undefined ? "" : `code ${this.code}`, oneLine(this.note ?? "")].filter((s) =>
      s !== ""
    )
    return `closed by ${this.by === "peer" ? "the peer" : "us"}${detail.length > 0 ? ` (${detail.join(", ")})` : ""}`
  }
  get isRetryable() {
    return this.retryable ?? this.by === "peer"
  }
}

/**
 * The peer, or something in between, cut the connection with a reset (RST) instead of ending it.
 *
 * @category ending
 * @since 0.1.0
 */
export class Reset extends Schema.TaggedError<Reset>()("Reset", { cause: Schema.Defect() }) {
  override get message() {
    return `reset by the peer: ${causeText(this.cause)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The transport broke while reading or writing, for another reason than a reset.
 *
 * @category ending
 * @since 0.1.0
 */
export class TransportFailed extends Schema.TaggedError<TransportFailed>()("TransportFailed", {
  operation: Schema.Literals(["read", "write"]),
  cause: Schema.Defect()
}) {
  override get message() {
    return `the transport failed to ${this.operation}: ${causeText(this.cause)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * Not one byte came from the peer for `Policy.silence`, while we were ready to read.
 *
 * @category ending
 * @since 0.1.0
 */
export class SilenceTimeout extends Schema.TaggedError<SilenceTimeout>()("SilenceTimeout", { limit: Millis }) {
  override get message() {
    return `the peer sent nothing for ${seconds(this.limit)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * Pings stayed unanswered for longer than `Policy.pong` and `Policy.misses` allow.
 *
 * @category ending
 * @since 0.1.0
 */
export class PongTimeout extends Schema.TaggedError<PongTimeout>()("PongTimeout", {
  limit: Millis,
  unanswered: Count
}) {
  override get message() {
    return `the peer left ${this.unanswered} ping(s) unanswered; the limit is ${seconds(this.limit)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The peer took none of our bytes for `Policy.writeStall` although some were waiting.
 *
 * @category ending
 * @since 0.1.0
 */
export class WriteStalled extends Schema.TaggedError<WriteStalled>()("WriteStalled", { limit: Millis }) {
  override get message() {
    return `the peer took none of our bytes for ${seconds(this.limit)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * A frame was begun and not completed within `Policy.frame`, although bytes may have kept coming (slow-loris).
 *
 * @category ending
 * @since 0.1.0
 */
export class FrameTimeout extends Schema.TaggedError<FrameTimeout>()("FrameTimeout", {
  limit: Millis,
  received: Bytes
}) {
  override get message() {
    return `a frame of which ${this.received} bytes came was not complete after ${seconds(this.limit)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * No message went either way for `Policy.idle`; heartbeats do not count.
 *
 * @category ending
 * @since 0.1.0
 */
export class IdleTimeout extends Schema.TaggedError<IdleTimeout>()("IdleTimeout", { limit: Millis }) {
  override get message() {
    return `no message in either direction for ${seconds(this.limit)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The connection reached `Policy.maxAge` and its grace, and was rotated.
 *
 * @category ending
 * @since 0.1.0
 */
export class MaxAge extends Schema.TaggedError<MaxAge>()("MaxAge", { limit: Millis }) {
  override get message() {
    return `the connection reached its maximum age of ${seconds(this.limit)}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The outbox reached its bound and `Policy.overflow` is `"close"`.
 *
 * @category ending
 * @since 0.1.0
 */
export class SlowConsumer extends Schema.TaggedError<SlowConsumer>()("SlowConsumer", {
  messages: Count,
  bytes: Bytes
}) {
  override get message() {
    return `the peer reads too slowly: ${this.messages} messages (${this.bytes} bytes) were waiting for it`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The peer pinged more often than `Policy.minPingEvery` for the third time.
 *
 * @category ending
 * @since 0.1.0
 */
export class TooManyPings extends Schema.TaggedError<TooManyPings>()("TooManyPings", { minimum: Millis }) {
  override get message() {
    return `too many pings: the minimum interval is ${seconds(this.minimum)}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The two ends have no version of the native protocol in common: the peer speaks `lowest` to `highest`.
 *
 * @category ending
 * @since 0.1.0
 */
export class UnsupportedVersion extends Schema.TaggedError<UnsupportedVersion>()("UnsupportedVersion", {
  lowest: Schema.Number,
  highest: Schema.Number,
  ours: Schema.String
}) {
  override get message() {
    return `the peer speaks version ${this.lowest} to ${this.highest} of the protocol, and we ${this.ours}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The peer sent what the native protocol does not allow: an unknown frame, or one at the wrong time.
 *
 * @category ending
 * @since 0.1.0
 */
export class ProtocolViolation extends Schema.TaggedError<ProtocolViolation>()("ProtocolViolation", {
  detail: Schema.String
}) {
  override get message() {
    return `protocol violation: ${oneLine(this.detail)}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * A newer connection took over this one's key (the same user or device came again).
 *
 * @category ending
 * @since 0.1.0
 */
export class Superseded extends Schema.TaggedError<Superseded>()("Superseded", { key: Schema.String }) {
  override get message() {
    return `superseded by a newer connection for ${JSON.stringify(oneLine(this.key))}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The key belongs to a living connection, and the registry rejects duplicates.
 *
 * @category ending
 * @since 0.1.0
 */
export class DuplicateKey extends Schema.TaggedError<DuplicateKey>()("DuplicateKey", { key: Schema.String }) {
  override get message() {
    return `there is a connection for ${JSON.stringify(oneLine(this.key))} already`
  }
  get isRetryable() {
    return false
  }
}

/**
 * A sweep of the registry condemned the connection.
 *
 * @category ending
 * @since 0.1.0
 */
export class Swept extends Schema.TaggedError<Swept>()("Swept", {}) {
  override get message() {
    return "removed by a sweep of the registry"
  }
  get isRetryable() {
    return true
  }
}

/**
 * This end is shutting down and drained the connection.
 *
 * @category ending
 * @since 0.1.0
 */
export class GoingAway extends Schema.TaggedError<GoingAway>()("GoingAway", {}) {
  override get message() {
    return "this end is shutting down"
  }
  get isRetryable() {
    return true
  }
}

/**
 * Something threw that must not throw: a callback of the application (a codec, a heartbeat, a hook, a handler of a
 * request), a transport, or this library. It is nobody's network and not the peer's fault, and the same code would throw
 * again.
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
export class Defect extends Schema.TaggedError<Defect>()("Defect", {
  by: Schema.String,
  cause: Schema.Cause(Schema.Unknown, Schema.Defect())
}) {
  override get message() {
    return `a defect in the ${oneLine(this.by)} ended it: ${causeText(Cause.squash(this.cause))}`
  }
  get isRetryable() {
    return false
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// bytes that do not follow the codec
// ---------------------------------------------------------------------------------------------------------------------

const Direction = Schema.Literals(["decode", "encode"])

/**
 * A frame is longer than the limit. Found before anything is allocated for it.
 *
 * `size` is the whole announced size in bytes, or what had arrived when a delimiter was still missing.
 *
 * @category codec
 * @since 0.1.0
 */
export class FrameTooLong extends Schema.TaggedError<FrameTooLong>()("FrameTooLong", {
  direction: Direction,
  size: Bytes,
  limit: Bytes
}) {
  override get message() {
    return `a frame of ${this.size} bytes is over the limit of ${this.limit} bytes`
  }
  get isRetryable() {
    return false
  }
}

/**
 * A length prefix that no frame can have: negative, or ending before its own header does.
 *
 * @category codec
 * @since 0.1.0
 */
export class InvalidLength extends Schema.TaggedError<InvalidLength>()("InvalidLength", {
  direction: Direction,
  detail: Schema.String
}) {
  override get message() {
    return `invalid frame length: ${oneLine(this.detail)}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The stream ended inside a frame.
 *
 * @category codec
 * @since 0.1.0
 */
export class Truncated extends Schema.TaggedError<Truncated>()("Truncated", { leftover: Bytes }) {
  override get message() {
    return `the stream ended inside a frame; ${this.leftover} bytes of it had come`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The bytes of a frame are no message, or a message cannot be written as bytes.
 *
 * `path` names the field for a schema mismatch.
 *
 * @category codec
 * @since 0.1.0
 */
export class InvalidMessage extends Schema.TaggedError<InvalidMessage>()("InvalidMessage", {
  direction: Direction,
  format: Schema.String,
  detail: Schema.String,
  path: Schema.optionalKey(Schema.Array(Schema.String))
}) {
  override get message() {
    const at = this.path === undefined || this.path.length === 0 ? "" : ` at ${oneLine(this.path.join("."))}`
    return this.direction === "decode"
      ? `a frame is not valid ${this.format}${at}: ${oneLine(this.detail)}`
      : `a message cannot be written as ${this.format}${at}: ${oneLine(this.detail)}`
  }
  get isRetryable() {
    return false
  }
}

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
export class OutboxFull extends Schema.TaggedError<OutboxFull>()("OutboxFull", {
  messages: Count,
  bytes: Bytes
}) {
  override get message() {
    return `the outbox is full (${this.messages} messages, ${this.bytes} bytes are waiting)`
  }
  get isRetryable() {
    return true
  }
}

/**
 * One message alone is larger than the outbox may hold (`Policy.outboxBytes`). The connection lives on.
 *
 * @category sending
 * @since 0.1.0
 */
export class MessageTooLarge extends Schema.TaggedError<MessageTooLarge>()("MessageTooLarge", {
  size: Bytes,
  limit: Bytes
}) {
  override get message() {
    return `a message of ${this.size} bytes is larger than the outbox may hold (${this.limit} bytes)`
  }
  get isRetryable() {
    return false
  }
}

/**
 * A client has no connection, and may keep no more messages waiting for one (`Policy.whenOffline`, `offlineMessages`,
 * `offlineBytes`). The message was not sent.
 *
 * @category sending
 * @since 0.1.0
 */
export class Offline extends Schema.TaggedError<Offline>()("Offline", {
  messages: Count,
  bytes: Bytes
}) {
  override get message() {
    return `there is no connection, and ${this.messages} messages (${this.bytes} bytes) wait for one`
  }
  get isRetryable() {
    return true
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// a pool, and requests
// ---------------------------------------------------------------------------------------------------------------------

/** The first few, so that a message stays one line that can be read. */
const list = <A>(all: ReadonlyArray<A>, show: (a: A) => string): string =>
  all.slice(0, 3).map(show).join(", ") + (all.length > 3 ? `, and ${all.length - 3} more` : "")

/**
 * No connection of a pool became free within its `acquire`.
 *
 * `by` is who waited: the name of its span, if it has one, and its fiber. `holders` have the connections, the longest
 * first. `waiting` and `dialing` are how many borrowers waited and how many connections were being opened.
 *
 * @category pool
 * @since 0.1.0
 */
export class AcquireTimeout extends Schema.TaggedError<AcquireTimeout>()("AcquireTimeout", {
  limit: Millis,
  by: Schema.String,
  waiting: Count,
  dialing: Count,
  holders: Schema.Array(Schema.Struct({ by: Schema.String, heldFor: Millis }))
}) {
  override get message() {
    const held = this.holders.length === 0
      ? ""
      : `, ${this.holders.length} in use by ${
        list(this.holders, ({ by, heldFor }) => `${oneLine(by)} for ${seconds(Math.round(heldFor))}`)
      }`
    return `no connection for ${oneLine(this.by)} within ${seconds(this.limit)}: ${this.waiting} waiting, ` +
      `${this.dialing} being opened${held}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * As many borrowers as its `waiters` allows wait for a connection of the pool already. Told at once.
 *
 * @category pool
 * @since 0.1.0
 */
export class PoolFull extends Schema.TaggedError<PoolFull>()("PoolFull", { waiting: Count, limit: Count }) {
  override get message() {
    return `all connections of the pool are in use, and ${this.waiting} borrowers wait; the limit is ${this.limit}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * A request had no response within its deadline. Whether the peer has acted on it, only the peer knows, so it is not
 * retryable.
 *
 * @category requests
 * @since 0.1.0
 */
export class RequestTimeout extends Schema.TaggedError<RequestTimeout>()("RequestTimeout", { limit: Millis }) {
  override get message() {
    return `no response within ${seconds(this.limit)}`
  }
  get isRetryable() {
    return false
  }
}

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
export class OutcomeUnknown extends Schema.TaggedError<OutcomeUnknown>()("OutcomeUnknown", {
  cause: Schema.Defect()
}) {
  override get message() {
    return `it is unknown whether the request was carried out: ${causeText(this.cause)}`
  }
  get isRetryable() {
    return false
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// the error
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Every reason there is. Match on `_tag`; the union is closed.
 *
 * @category models
 * @since 0.1.0
 */
export const Reason = Schema.Union([
  OpenFailed,
  OpenTimeout,
  HandshakeTimeout,
  HandshakeFailed,
  Refused,
  Closed,
  Reset,
  TransportFailed,
  SilenceTimeout,
  PongTimeout,
  WriteStalled,
  FrameTimeout,
  IdleTimeout,
  MaxAge,
  SlowConsumer,
  TooManyPings,
  UnsupportedVersion,
  ProtocolViolation,
  Superseded,
  DuplicateKey,
  Swept,
  GoingAway,
  Defect,
  FrameTooLong,
  InvalidLength,
  Truncated,
  InvalidMessage,
  OutboxFull,
  MessageTooLarge,
  Offline,
  AcquireTimeout,
  PoolFull,
  RequestTimeout,
  OutcomeUnknown
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

const resetCodes = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"])

const broken = (operation: "read" | "write", cause: unknown): Reason =>
  resetCodes.has(causeCode(cause) ?? "") ? new Reset({ cause }) : new TransportFailed({ operation, cause })

/** A stack here would be that of an event, and cost more than anything else when a connection ends. */
const withoutStack = <A>(make: () => A): A => {
  const errors = Error as { stackTraceLimit?: number | undefined }
  const limit = errors.stackTraceLimit
  // not an assignment, which throws where intrinsics are frozen
  Reflect.set(errors, "stackTraceLimit", 0)
  try {
    return make()
  } finally {
    Reflect.set(errors, "stackTraceLimit", limit)
  }
}

/**
 * Translates the vocabulary of `effect/socket` into ours.
 *
 * A WebSocket that closes with 1006 (RFC 6455, 7.1.5: no close frame came) is a `Reset`.
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

/**
 * The end that `close` makes.
 *
 * @internal
 */
export const closedByUs = withoutStack(() => make(new Closed({ by: "local" })))

/**
 * What the exit of something means that fails with a `ConnectionError`: that error; a `Defect` by `by` where it died; or,
 * interrupted, an end of ours. Who makes a `Defect` of a cause logs it.
 *
 * @internal
 */
export const fromCause = (by: string, cause: Cause.Cause<ConnectionError>): ConnectionError => {
  for (const reason of cause.reasons) if (reason._tag === "Fail") return reason.error
  return Cause.hasDies(cause) ? make(new Defect({ by, cause })) : closedByUs
}

const translate = ({ reason }: Socket.SocketError): ConnectionError => {
  switch (reason._tag) {
    case "SocketCloseError":
      if (reason.code === 1006) return make(new Reset({ cause: "the transport closed without an end of stream" }))
      return make(
        new Closed({
          by: "peer",
          ...(reason.code === 1000 ? {} : { code: reason.code }),
          ...(reason.closeReason ? { note: reason.closeReason } : {})
        })
      )
    case "SocketOpenError":
    case "SocketUpgradeError":
      return make(new OpenFailed({ cause: reason.cause ?? reason.message }))
    case "SocketReadError":
      return make(broken("read", reason.cause))
    case "SocketWriteError":
      return make(broken("write", reason.cause))
  }
}
