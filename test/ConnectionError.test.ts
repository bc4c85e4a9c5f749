import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Schema } from "effect"
import { Socket } from "effect/socket"
import { ConnectionError } from "../src/index.ts"
import { closeEvent } from "../src/internal/endings/closeEvent.ts"
import { codesOf, isRetryableBy, reasonTags } from "../src/internal/endings/retry.ts"
import { closeOf, reasonOf } from "../src/internal/protocol/closes.ts"
import { plainly } from "../src/internal/reasons/logs.ts"
import { isPlain } from "../src/internal/reasons/text.ts"

const cause = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:7"), { code: "ECONNREFUSED" })

/** One of each reason there is, whether a new connection can help, and its message. */
const all: ReadonlyArray<readonly [ConnectionError.Reason, boolean, string]> = [
  [new ConnectionError.OpenFailed({ cause }), true, "could not open the connection: connect ECONNREFUSED 127.0.0.1:7"],
  [new ConnectionError.OpenTimeout({ limit: 10_000 }), true, "the connection did not open within 10 s"],
  [new ConnectionError.HandshakeTimeout({ limit: 1500 }), true, "the peer did not finish its handshake within 1500 ms"],
  [new ConnectionError.HandshakeFailed({ cause: "bad token" }), false, "the handshake failed: bad token"],
  [
    new ConnectionError.Refused({ limit: "maxConnections", allowed: 5 }),
    true,
    "the server's maxConnections (5) is reached"
  ],
  [new ConnectionError.Refused({ limit: "acceptRate" }), true, "the server's acceptRate is reached"],
  [new ConnectionError.Refused({ limit: "stopping" }), true, "the server is stopping"],
  [
    new ConnectionError.UpgradeRefused({ status: 401, statusText: "Who\u001b\r\nare you", headers: { a: "b" } }),
    false,
    "the peer refused the upgrade with 401 Who are you"
  ],
  ...[503, 500, 599, 408, 425, 429].map((status) =>
    [
      new ConnectionError.UpgradeRefused({ status, headers: {} }),
      true,
      `the peer refused the upgrade with ${status}`
    ] as const
  ),
  ...[200, 301, 302, 307, 400, 403, 404, 407, 409, 424, 426, 428, 430, 499].map((status) =>
    [
      new ConnectionError.UpgradeRefused({ status, headers: {} }),
      false,
      `the peer refused the upgrade with ${status}`
    ] as const
  ),
  [
    new ConnectionError.CertificateRefused({ by: "local", problem: "expired", cause: "certificate has expired" }),
    false,
    "we refused the certificate of the peer: it has expired (certificate has expired)"
  ],
  [
    new ConnectionError.CertificateRefused({
      by: "peer",
      problem: "missing",
      cause: { library: "SSL", reason: "required" }
    }),
    false,
    "the peer refused our certificate: none was shown (required)"
  ],
  [new ConnectionError.Closed({ by: "peer" }), true, "closed by the peer"],
  [
    new ConnectionError.Closed({ by: "peer", code: 4000, note: "bye" }),
    true,
    "closed by the peer (code 4000, the peer says: bye)"
  ],
  [new ConnectionError.Closed({ by: "local" }), false, "closed by us"],
  [new ConnectionError.Closed({ by: "peer", retryable: false }), false, "closed by the peer"],
  [new ConnectionError.Reset({ cause: "gone" }), true, "reset by the peer: gone"],
  [new ConnectionError.TransportFailed({ operation: "read", cause: "io" }), true, "the transport failed to read: io"],
  [new ConnectionError.SilenceTimeout({ limit: 60_000 }), true, "the peer sent nothing for 60 s"],
  [
    new ConnectionError.PongTimeout({ limit: 5000, unanswered: 2 }),
    true,
    "the peer left 2 ping(s) unanswered; the limit is 5 s"
  ],
  [new ConnectionError.WriteStalled({ limit: 10_000 }), true, "the peer took none of our bytes for 10 s"],
  [
    new ConnectionError.FrameTimeout({ limit: 60_000, received: 7 }),
    true,
    "a frame of which 7 bytes came was not complete after 60 s"
  ],
  [new ConnectionError.IdleTimeout({ limit: 1000 }), true, "no message in either direction for 1 s"],
  [new ConnectionError.MaxAge({ limit: 3_600_000 }), true, "the connection reached its maximum age of 3600 s"],
  [
    new ConnectionError.SlowConsumer({ messages: 3, bytes: 9 }),
    true,
    "the peer reads too slowly: 3 messages (9 bytes) were waiting for it"
  ],
  [new ConnectionError.TooManyPings({ minimum: 5000 }), false, "too many pings: the minimum interval is 5 s"],
  [
    new ConnectionError.RateExceeded({ limit: "messageRate", allowed: 100 }),
    true,
    "the peer sent more than 100 messages a second (messageRate)"
  ],
  [
    new ConnectionError.RateExceeded({ limit: "byteRate", allowed: 1000 }),
    true,
    "the peer sent more than 1000 bytes a second (byteRate)"
  ],
  [
    new ConnectionError.UnsupportedVersion({ lowest: 2, highest: 3, ours: "1" }),
    false,
    "the peer speaks version 2 to 3 of the protocol, and we 1"
  ],
  [new ConnectionError.ProtocolViolation({ detail: "data first" }), false, "protocol violation: data first"],
  [
    new ConnectionError.Offline({ messages: 3, bytes: 9 }),
    true,
    "there is no connection, and 3 messages (9 bytes) wait for one"
  ],
  [new ConnectionError.Superseded({ key: "ada" }), false, "superseded by a newer connection for \"ada\""],
  [new ConnectionError.DuplicateKey({ key: "ada" }), false, "there is a connection for \"ada\" already"],
  [
    new ConnectionError.Defect({ by: "heartbeat", cause: Cause.die(new Error("oh no")) }),
    false,
    "a defect in the heartbeat ended it: oh no"
  ],
  [new ConnectionError.Swept({}), true, "removed by a sweep of the registry"],
  [new ConnectionError.GoingAway({}), true, "this end is shutting down"],
  [
    new ConnectionError.FrameTooLong({ direction: "decode", size: 11, limit: 10 }),
    false,
    "a frame of 11 bytes is over the limit of 10 bytes"
  ],
  [
    new ConnectionError.InvalidLength({ direction: "decode", detail: "-1" }),
    false,
    "invalid frame length: -1"
  ],
  [new ConnectionError.Truncated({ leftover: 3 }), true, "the stream ended inside a frame; 3 bytes of it had come"],
  [
    new ConnectionError.InvalidMessage({
      direction: "decode",
      format: "JSON",
      detail: "not an object",
      path: ["a", "b"]
    }),
    false,
    "a frame is not valid JSON at a.b: not an object"
  ],
  [
    new ConnectionError.InvalidMessage({ direction: "encode", format: "JSON", detail: "a cycle" }),
    false,
    "a message cannot be written as JSON: a cycle"
  ],
  [
    new ConnectionError.OutboxFull({ messages: 1, bytes: 2 }),
    true,
    "the outbox is full (1 messages, 2 bytes are waiting)"
  ],
  [
    new ConnectionError.MessageTooLarge({ size: 11, limit: 10 }),
    false,
    "a message of 11 bytes is larger than the outbox may hold (10 bytes)"
  ],
  [
    new ConnectionError.AcquireTimeout({
      limit: 5000,
      by: "load (fiber #9)",
      waiting: 2,
      dialing: 0,
      holders: [4000, 3000, 2000, 1500].map((heldFor, i) => ({ by: `fiber #${i}`, heldFor }))
    }),
    true,
    "no connection for load (fiber #9) within 5 s: 2 waiting, 0 being opened, " +
    "4 in use by fiber #0 for 4 s, fiber #1 for 3 s, fiber #2 for 2 s, and 1 more"
  ],
  [
    new ConnectionError.AcquireTimeout({ limit: 5000, by: "fiber #9", waiting: 1, dialing: 1, holders: [] }),
    true,
    "no connection for fiber #9 within 5 s: 1 waiting, 1 being opened"
  ],
  [
    new ConnectionError.PoolFull({ waiting: 3, limit: 3 }),
    true,
    "all connections of the pool are in use, and 3 borrowers wait; the limit is 3"
  ],
  [new ConnectionError.RequestTimeout({ limit: 1500 }), false, "no response within 1500 ms"],
  [
    new ConnectionError.OutcomeUnknown({ cause: "reset by the peer" }),
    false,
    "it is unknown whether the request was carried out: reset by the peer"
  ]
]

describe("reasons", () => {
  it("are all here", () => {
    const tags = new Set(all.map(([reason]) => reason._tag))
    assert.strictEqual(tags.size, ConnectionError.Reason.members.length)
  })

  for (const [reason, isRetryable, message] of all) {
    it(`${reason._tag} says ${JSON.stringify(message)}, and whether to try again`, () => {
      const error = ConnectionError.make(reason)
      assert.strictEqual(error.message, message)
      assert.strictEqual(reason.message, message)
      assert.strictEqual(error.isRetryable, isRetryable)
      assert.strictEqual(error.cause, reason)
      assert.instanceOf(error, Error)
    })

    it.effect(`${reason._tag} (${message}) survives JSON`, () =>
      Effect.gen(function*() {
        const codec = Schema.toCodecJson(ConnectionError.ConnectionError)
        const error = ConnectionError.make(reason)
        const json = JSON.stringify(yield* Schema.encodeEffect(codec)(error))
        const read = yield* Schema.decodeUnknownEffect(codec)(JSON.parse(json))
        assert.instanceOf(read, ConnectionError.ConnectionError)
        assert.strictEqual(read.reason._tag, reason._tag)
        assert.strictEqual(read.message, message)
        assert.strictEqual(read.isRetryable, isRetryable)
        // what an unknown cause was, apart from its message, is not kept
        if (!("cause" in reason) || typeof reason.cause === "string") {
          assert.deepEqual({ ...read.reason }, { ...reason })
        }
      }))
  }
})

describe("messages", () => {
  const saying = (cause: unknown) => new ConnectionError.OpenFailed({ cause }).message

  it("are one line, whatever the cause or the peer wrote", () => {
    const text = "first\n  second\r\nthird\u2028fourth\u0000\u001b[31mred"
    const reasons = [
      new ConnectionError.OpenFailed({ cause: new Error(text) }),
      new ConnectionError.HandshakeFailed({ cause: text }),
      new ConnectionError.Reset({ cause: { message: text } }),
      new ConnectionError.TransportFailed({ operation: "write", cause: { error: new Error(text) } }),
      new ConnectionError.Closed({ by: "peer", code: 4000, note: text }),
      new ConnectionError.Superseded({ key: text }),
      new ConnectionError.DuplicateKey({ key: text }),
      new ConnectionError.InvalidLength({ direction: "decode", detail: text }),
      new ConnectionError.ProtocolViolation({ detail: text }),
      new ConnectionError.InvalidMessage({ direction: "decode", format: "JSON", detail: text, path: [text] })
    ]
    for (const { message } of reasons) {
      assert.match(message, /^[^\p{Cc}\u2028\u2029]+$/u)
      assert.include(message, "second")
      assert.isFalse(message.endsWith(" "))
    }
  })

  it("say what is known of a cause", () => {
    assert.isTrue(saying(new Error("no route")).endsWith(": no route"))
    assert.isTrue(saying("no route").endsWith(": no route"))
    assert.isTrue(saying(new AggregateError([new Error("v6 failed"), new Error("v4 failed")])).endsWith(": v6 failed"))
    assert.isTrue(saying(Object.assign(new Error(""), { code: "ECONNREFUSED" })).endsWith(": ECONNREFUSED"))
    assert.isTrue(saying({ error: new Error("inside an ErrorEvent") }).endsWith(": inside an ErrorEvent"))
    assert.isTrue(saying({ _tag: "BadCredentials" }).endsWith(": BadCredentials"))
    for (const nothing of ["", " ", {}, new Error(""), { message: "\n" }]) {
      assert.isTrue(saying(nothing).endsWith(": no detail given"))
    }
    assert.isTrue(saying(undefined).endsWith(": undefined"))
    assert.isTrue(saying(null).endsWith(": null"))
    assert.isTrue(saying(Symbol("odd")).endsWith(": Symbol(odd)"))
  })
})

describe("fromSocketError", () => {
  const translate = (reason: Socket.SocketErrorReason) =>
    ConnectionError.fromSocketError(new Socket.SocketError({ reason })).reason
  const failed = (code?: string) => Object.assign(new Error(`failed with ${code}`), code === undefined ? {} : { code })

  it("a close is Closed by the peer; 1000 is not worth naming", () => {
    assert.deepStrictEqual(
      translate(new Socket.SocketCloseError({ code: 1000 })),
      new ConnectionError.Closed({ by: "peer" })
    )
    assert.deepStrictEqual(
      translate(new Socket.SocketCloseError({ code: 1001, closeReason: "" })),
      new ConnectionError.Closed({ by: "peer", code: 1001 })
    )
    assert.deepStrictEqual(
      translate(new Socket.SocketCloseError({ code: 4001, closeReason: "see you" })),
      new ConnectionError.Closed({ by: "peer", code: 4001, note: "see you" })
    )
  })

  it("B43 1006 and the codes of a reset are Reset, and not an end of stream", () => {
    assert.strictEqual(translate(new Socket.SocketCloseError({ code: 1006 }))._tag, "Reset")
    for (const code of ["ECONNRESET", "EPIPE", "ECONNABORTED"]) {
      assert.strictEqual(translate(new Socket.SocketReadError({ cause: failed(code) }))._tag, "Reset")
      assert.strictEqual(translate(new Socket.SocketWriteError({ cause: failed(code) }))._tag, "Reset")
    }
  })

  it("other failures name the operation", () => {
    for (const code of ["ETIMEDOUT", "EHOSTUNREACH", undefined]) {
      const read = translate(new Socket.SocketReadError({ cause: failed(code) }))
      const write = translate(new Socket.SocketWriteError({ cause: failed(code) }))
      assert.strictEqual(read.message, `the transport failed to read: failed with ${code}`)
      assert.strictEqual(write.message, `the transport failed to write: failed with ${code}`)
    }
    assert.strictEqual(translate(new Socket.SocketReadError({ cause: undefined }))._tag, "TransportFailed")
  })

  it("B130 a transport that knows the reason gives it as the cause, with its advice", () => {
    const cause = ConnectionError.make(
      new ConnectionError.UpgradeRefused({ status: 503, headers: {} }),
      { after: 3000, spread: 0 }
    )
    const error = new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })
    assert.strictEqual(ConnectionError.fromSocketError(error), cause)
  })

  it("what happens before it is open is OpenFailed, with its cause", () => {
    const open = translate(new Socket.SocketOpenError({ kind: "Unknown", cause: failed("ECONNREFUSED") }))
    assert.strictEqual(open.message, "could not open the connection: failed with ECONNREFUSED")
    const timeout = translate(new Socket.SocketOpenError({ kind: "Timeout", cause: undefined }))
    assert.strictEqual(timeout._tag, "OpenFailed")
    assert.match(timeout.message, /^could not open the connection: ./)
  })
})

/** The message of the reason itself. */
const said = Symbol("its message")
type Text = string | typeof said

/**
 * All that is said of each reason: whether a new connection can help, its message, what a WebSocket is told (RFC 6455,
 * 7.4.1), and the code, text and "come back" flag of the native CLOSE. Last the message of what that CLOSE gives its
 * receiver, where it is not `Closed` with this code and text.
 */
const told: ReadonlyArray<
  readonly [
    reason: ConnectionError.Reason,
    isRetryable: boolean,
    message: string,
    webSocket: readonly [code: number, text?: Text | undefined],
    native: readonly [code: number, text: Text, comesBack: boolean],
    heard?: Text
  ]
> = [
  [
    new ConnectionError.OpenFailed({ cause }),
    true,
    "could not open the connection: connect ECONNREFUSED 127.0.0.1:7",
    [1008, undefined],
    [11, "", true],
    "closed by the peer (code 11)"
  ],
  [
    new ConnectionError.OpenTimeout({ limit: 10_000 }),
    true,
    "the connection did not open within 10 s",
    [1008, said],
    [11, said, true]
  ],
  [
    new ConnectionError.HandshakeTimeout({ limit: 1500 }),
    true,
    "the peer did not finish its handshake within 1500 ms",
    [1013, said],
    [8, said, true]
  ],
  [
    new ConnectionError.HandshakeFailed({ cause: "bad\ntoken" }),
    false,
    "the handshake failed: bad token",
    [1008, "the handshake failed"],
    [8, "", false],
    "the handshake failed: the peer gives no reason"
  ],
  [
    new ConnectionError.Refused({ limit: "maxConnections", allowed: 5 }),
    true,
    "the server's maxConnections (5) is reached",
    [1013, said],
    [7, "maxConnections", true],
    "the server's maxConnections is reached"
  ],
  [
    new ConnectionError.Refused({ limit: "stopping" }),
    true,
    "the server is stopping",
    [1013, said],
    [7, "stopping", true],
    said
  ],
  [
    new ConnectionError.UpgradeRefused({ status: 401, statusText: "Un\nauthorized", headers: { a: "b" } }),
    false,
    "the peer refused the upgrade with 401 Un authorized",
    [1008, undefined],
    [11, "", true],
    "closed by the peer (code 11)"
  ],
  [
    new ConnectionError.UpgradeRefused({ status: 503, headers: {} }),
    true,
    "the peer refused the upgrade with 503",
    [1008, undefined],
    [11, "", true],
    "closed by the peer (code 11)"
  ],
  [
    new ConnectionError.Closed({ by: "peer" }),
    true,
    "closed by the peer",
    [1000],
    [0, "", true],
    said
  ],
  [
    new ConnectionError.Closed({ by: "peer", code: 4000, note: "bye" }),
    true,
    "closed by the peer (code 4000, the peer says: bye)",
    [1000],
    [0, "", true],
    "closed by the peer"
  ],
  [
    new ConnectionError.Closed({ by: "peer", retryable: false }),
    false,
    "closed by the peer",
    [1000],
    [0, "", false],
    said
  ],
  [
    new ConnectionError.Closed({ by: "local" }),
    false,
    "closed by us",
    [1000],
    [0, "", true],
    "closed by the peer"
  ],
  [
    new ConnectionError.Closed({ by: "local", code: 1011 }),
    false,
    "closed by us (code 1011)",
    [1011],
    [0, "", true],
    "closed by the peer"
  ],
  [
    new ConnectionError.Closed({ by: "local", note: "enough\nnow", retryable: false }),
    false,
    "closed by us (enough now)",
    [1000],
    [0, "enough\nnow", false],
    "closed by the peer (the peer says: enough now)"
  ],
  [
    new ConnectionError.Reset({ cause: "gone" }),
    true,
    "reset by the peer: gone",
    [1008, undefined],
    [11, "", true],
    "closed by the peer (code 11)"
  ],
  [
    new ConnectionError.TransportFailed({ operation: "read", cause: "io" }),
    true,
    "the transport failed to read: io",
    [1008, undefined],
    [11, "", true],
    "closed by the peer (code 11)"
  ],
  [
    new ConnectionError.SilenceTimeout({ limit: 60_000 }),
    true,
    "the peer sent nothing for 60 s",
    [1001, said],
    [9, said, true]
  ],
  [
    new ConnectionError.PongTimeout({ limit: 5000, unanswered: 2 }),
    true,
    "the peer left 2 ping(s) unanswered; the limit is 5 s",
    [1001, said],
    [9, said, true]
  ],
  [
    new ConnectionError.WriteStalled({ limit: 10_000 }),
    true,
    "the peer took none of our bytes for 10 s",
    [1001, said],
    [9, said, true]
  ],
  [
    new ConnectionError.FrameTimeout({ limit: 60_000, received: 7 }),
    true,
    "a frame of which 7 bytes came was not complete after 60 s",
    [1013, said],
    [9, said, true]
  ],
  [
    new ConnectionError.IdleTimeout({ limit: 1000 }),
    true,
    "no message in either direction for 1 s",
    [1001, said],
    [9, said, true]
  ],
  [
    new ConnectionError.MaxAge({ limit: 3_600_000 }),
    true,
    "the connection reached its maximum age of 3600 s",
    [1001, said],
    [1, said, true]
  ],
  [
    new ConnectionError.SlowConsumer({ messages: 3, bytes: 9 }),
    true,
    "the peer reads too slowly: 3 messages (9 bytes) were waiting for it",
    [1013, said],
    [10, said, true]
  ],
  [
    new ConnectionError.TooManyPings({ minimum: 5000 }),
    false,
    "too many pings: the minimum interval is 5 s",
    [1008, said],
    [4, said, false],
    said
  ],
  [
    new ConnectionError.RateExceeded({ limit: "messageRate", allowed: 100 }),
    true,
    "the peer sent more than 100 messages a second (messageRate)",
    [1013, said],
    [11, said, true],
    `closed by the peer (code 11, the peer says: the peer sent more than 100 messages a second (messageRate))`
  ],
  [
    new ConnectionError.UnsupportedVersion({ lowest: 2, highest: 3, ours: "1-1" }),
    false,
    "the peer speaks version 2 to 3 of the protocol, and we 1-1",
    [1008, said],
    [2, "1-1", false],
    "the peer speaks version 1 to 1 of the protocol, and we 1-1"
  ],
  [
    new ConnectionError.ProtocolViolation({ detail: "data first" }),
    false,
    "protocol violation: data first",
    [1008, said],
    [3, "data first", false],
    "protocol violation: the peer says: data first"
  ],
  [
    new ConnectionError.ProtocolViolation({ detail: "é".repeat(100) }),
    false,
    `protocol violation: ${"é".repeat(100)}`,
    [1008, `protocol violation: ${"é".repeat(51)}`],
    [3, `${"é".repeat(100)}`, false],
    `protocol violation: the peer says: ${"é".repeat(100)}`
  ],
  [
    new ConnectionError.Superseded({ key: "ada\n1" }),
    false,
    "superseded by a newer connection for \"ada 1\"",
    [1008, said],
    [5, "ada\n1", false],
    said
  ],
  [
    new ConnectionError.DuplicateKey({ key: "ada\n1" }),
    false,
    "there is a connection for \"ada 1\" already",
    [1008, said],
    [6, "ada\n1", false],
    said
  ],
  [
    new ConnectionError.Swept({}),
    true,
    "removed by a sweep of the registry",
    [1001, said],
    [1, said, true]
  ],
  [
    new ConnectionError.GoingAway({}),
    true,
    "this end is shutting down",
    [1001, said],
    [1, said, true]
  ],
  [
    new ConnectionError.Defect({ by: "heartbeat", cause: Cause.die(new Error("a secret")) }),
    false,
    "a defect in the heartbeat ended it: a secret",
    [1011],
    [11, "", true],
    "closed by the peer (code 11)"
  ],
  [
    new ConnectionError.FrameTooLong({ direction: "decode", size: 11, limit: 10 }),
    false,
    "a frame of 11 bytes is over the limit of 10 bytes",
    [1009, said],
    [3, said, false],
    "protocol violation: the peer says: a frame of 11 bytes is over the limit of 10 bytes"
  ],
  [
    new ConnectionError.FrameTooLong({ direction: "encode", size: 11, limit: 10 }),
    false,
    "a frame of 11 bytes is over the limit of 10 bytes",
    [1009, said],
    [11, said, true]
  ],
  [
    new ConnectionError.InvalidLength({ direction: "decode", detail: "-1" }),
    false,
    "invalid frame length: -1",
    [1007, said],
    [3, said, false],
    "protocol violation: the peer says: invalid frame length: -1"
  ],
  [
    new ConnectionError.InvalidLength({ direction: "encode", detail: "-1" }),
    false,
    "invalid frame length: -1",
    [1007, said],
    [11, said, true]
  ],
  [
    new ConnectionError.Truncated({ leftover: 3 }),
    true,
    "the stream ended inside a frame; 3 bytes of it had come",
    [1007, said],
    [3, said, true]
  ],
  [
    new ConnectionError.InvalidMessage({
      direction: "decode",
      format: "JSON",
      detail: "not an object",
      path: ["a", "b"]
    }),
    false,
    "a frame is not valid JSON at a.b: not an object",
    [1007, "a frame is not valid JSON"],
    [3, "a frame is not valid JSON", false],
    "protocol violation: the peer says: a frame is not valid JSON"
  ],
  [
    new ConnectionError.InvalidMessage({ direction: "decode", format: "Login", detail: "Expected \"hunter2\"" }),
    false,
    "a frame is not valid Login: Expected \"hunter2\"",
    [1007, "a frame is not valid"],
    [3, "a frame is not valid", false],
    "protocol violation: the peer says: a frame is not valid"
  ],
  [
    new ConnectionError.InvalidMessage({ direction: "encode", format: "JSON", detail: "a cycle" }),
    false,
    "a message cannot be written as JSON: a cycle",
    [1007, "a message cannot be written"],
    [11, "a message cannot be written", true]
  ],
  [
    new ConnectionError.OutboxFull({ messages: 1, bytes: 2 }),
    true,
    "the outbox is full (1 messages, 2 bytes are waiting)",
    [1008, said],
    [11, said, true]
  ],
  [
    new ConnectionError.MessageTooLarge({ size: 11, limit: 10 }),
    false,
    "a message of 11 bytes is larger than the outbox may hold (10 bytes)",
    [1008, said],
    [11, said, true]
  ],
  [
    new ConnectionError.Offline({ messages: 3, bytes: 9 }),
    true,
    "there is no connection, and 3 messages (9 bytes) wait for one",
    [1008, said],
    [11, said, true]
  ],
  [
    new ConnectionError.AcquireTimeout({
      limit: 5000,
      by: "fiber #9",
      waiting: 1,
      dialing: 1,
      holders: [{ by: "fiber #1", heldFor: 4000 }]
    }),
    true,
    "no connection for fiber #9 within 5 s: 1 waiting, 1 being opened, 1 in use by fiber #1 for 4 s",
    [1008, "no connection within 5 s"],
    [11, "no connection within 5 s", true]
  ],
  [
    new ConnectionError.PoolFull({ waiting: 3, limit: 3 }),
    true,
    "all connections of the pool are in use, and 3 borrowers wait; the limit is 3",
    [1008, said],
    [11, said, true]
  ],
  [
    new ConnectionError.RequestTimeout({ limit: 1500 }),
    false,
    "no response within 1500 ms",
    [1008, said],
    [11, said, true]
  ],
  [
    new ConnectionError.OutcomeUnknown({ cause: "reset by the peer" }),
    false,
    "it is unknown whether the request was carried out: reset by the peer",
    [1008, undefined],
    [11, "", true],
    "closed by the peer (code 11)"
  ],
  [
    new ConnectionError.CertificateRefused({ by: "local", problem: "expired", cause: "certificate has expired" }),
    false,
    "we refused the certificate of the peer: it has expired (certificate has expired)",
    [1008, undefined],
    [11, "", true],
    "closed by the peer (code 11)"
  ]
]

describe("what is said of a reason", () => {
  it("is said of every one", () => {
    assert.deepStrictEqual(
      [...new Set(told.map(([reason]) => reason._tag))].toSorted(),
      ConnectionError.Reason.members.map(({ identifier }) => identifier).toSorted()
    )
  })

  for (const [reason, isRetryable, message, webSocket, native, heard] of told) {
    const text = <A>(given: A): Exclude<A, typeof said> | string =>
      given === said ? message : given as Exclude<A, typeof said>

    it(`${reason._tag} (${message}): here, over WebSocket, and in the native protocol`, () => {
      assert.deepStrictEqual([reason.message, reason.isRetryable], [message, isRetryable])
      const event = closeEvent(reason)
      assert.deepStrictEqual([event.code, event.reason], [webSocket[0], text(webSocket[1])])
      const advice = { after: 0, spread: 0 }
      const close = closeOf(reason, advice)
      const [code, note, retry] = native
      assert.deepStrictEqual(close, { _tag: "Close", code, retry, advice, note: text(note) })
      const received = reasonOf(close, "1-1", 5000)
      assert.instanceOf(received, Error)
      assert.strictEqual(received.isRetryable, retry)
      assert.strictEqual(
        received.message,
        text(heard ?? `closed by the peer (code ${code}, the peer says: ${close.note})`)
      )
    })
  }
})

describe("a text of a peer", () => {
  it("B133 has no control character, line break, line separator or bidi override", () => {
    const bidi = [0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069, 0x61C, 0x200E]
    const unseen = [0xAD, 0x200B, 0x200D, 0x2060, 0xFEFF, 0xFFF9, 0xE0041, 0xD800]
    for (const code of [0, 7, 9, 10, 13, 27, 0x7F, 0x80, 0x9B, 0x2028, 0x2029, ...bidi, ...unseen]) {
      const key = `a${String.fromCodePoint(code)}b`
      assert.strictEqual(new ConnectionError.DuplicateKey({ key }).message, "there is a connection for \"a b\" already")
    }
  })
})

describe("B133 what a peer says, in what a reason carries", () => {
  const evil = "a\x1b[31m\r\n\x9b2J\u202eb"
  const said = "a [31m 2J b"

  it("is kept without commands: notes, statuses, headers, details, paths", () => {
    const close = new Socket.SocketCloseError({ code: 4000, closeReason: evil })
    const closed = ConnectionError.fromSocketError(new Socket.SocketError({ reason: close })).reason
    const { headers, statusText } = new ConnectionError.UpgradeRefused({
      status: 400,
      statusText: evil,
      headers: { server: evil, [evil]: "" }
    })
    const invalid = new ConnectionError.InvalidMessage({
      direction: "decode",
      format: "JSON",
      detail: evil,
      path: [evil]
    })
    const native = reasonOf({ _tag: "Close", code: 0, retry: true, advice: { after: 0, spread: 0 }, note: evil }, "", 0)
    assert.deepStrictEqual(
      [
        closed._tag === "Closed" && closed.note,
        statusText,
        headers,
        invalid.detail,
        invalid.path,
        new ConnectionError.ProtocolViolation({ detail: evil }).detail,
        new ConnectionError.InvalidLength({ direction: "decode", detail: evil }).detail,
        native._tag === "Closed" && native.note
      ],
      [said, said, { server: said, [said]: "" }, said, [said], said, said, said]
    )
    assert.strictEqual(new ConnectionError.Closed({ by: "local", code: 4000, note: evil }).note, evil)
  })

  it("is logged without commands, however deep it is", () => {
    const forged = new Error(`${evil}\n    at forged (file.ts:1:1)`)
    const { reason } = ConnectionError.make(new ConnectionError.OpenFailed({ cause: forged }))
    const failed = Cause.combine(
      Cause.fail(new Error(evil, { cause: { deep: [evil] } })),
      Cause.combine(Cause.die(ConnectionError.make(reason)), Cause.fail(evil))
    )
    const cause = plainly(failed)
    const lines = Cause.pretty(cause).split("\n")
    for (const line of lines) assert.isTrue(isPlain(line), JSON.stringify(line))
    assert.isFalse(
      lines.some((line) => line.includes("forged") && line.trimStart().startsWith("at ")),
      lines.join("\n")
    )
    assert.isAbove(lines.filter((line) => line.includes(said)).length, 3)
    assert.isTrue(
      cause.reasons[1]?._tag === "Die" && cause.reasons[1].defect instanceof ConnectionError.ConnectionError
    )
  })

  it("nothing else of a log is changed", () => {
    const cause = Cause.fail(new Error("plain", { cause: new Error("as well") }))
    assert.strictEqual(plainly(cause), cause)
  })
})

describe("isRetryableBy", () => {
  const closed = (code?: number) =>
    ConnectionError.make(new ConnectionError.Closed({ by: "peer", ...(code === undefined ? {} : { code }) }))
  const refused = ConnectionError.make(new ConnectionError.HandshakeFailed({ cause: "bad token" }))
  const ours = ConnectionError.make(new ConnectionError.Closed({ by: "local", code: 4001 }))

  it("asks giveUpOn first, then retryOn, then the reason", () => {
    const plain = isRetryableBy({ retryOn: [], giveUpOn: [] })
    assert.deepStrictEqual([closed(), closed(4001), refused, ours].map(plain), [true, true, false, false])
    const changed = isRetryableBy({ retryOn: ["HandshakeFailed", 4001], giveUpOn: ["4002-4004", "Refused"] })
    assert.deepStrictEqual([refused, ours, closed(4001), closed(4005), closed()].map(changed), [
      true,
      true,
      true,
      true,
      true
    ])
    assert.deepStrictEqual([closed(4002), closed(4003), closed(4004)].map(changed), [false, false, false])
    assert.isFalse(changed(ConnectionError.make(new ConnectionError.Refused({ limit: "stopping" }))))
    const both = isRetryableBy({ retryOn: ["HandshakeFailed"], giveUpOn: ["HandshakeFailed"] })
    assert.isFalse(both(refused))
  })

  it("reads codes and ranges of codes, and knows every tag", () => {
    assert.deepStrictEqual(
      [4001, "4001", "4000-4099", "4001-", "Closed", "", -1, 1.5].map(codesOf),
      [[4001, 4001], [4001, 4001], [4000, 4099], undefined, undefined, undefined, undefined, undefined]
    )
    assert.deepStrictEqual([...reasonTags].toSorted(), [...new Set(told.map(([reason]) => reason._tag))].toSorted())
  })
})
