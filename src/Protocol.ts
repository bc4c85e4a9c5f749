/**
 * The native protocol, for two ends that are both Holdfast, or speak what is written here.
 *
 * Use it where both ends are yours: beside messages it carries which versions there are, how often to ping, why a
 * connection is closed, whether to come back, and when and how spread. A text protocol has no room for these.
 *
 * ## Frames
 *
 * Over a byte stream a frame is `length` (4 bytes), and that many bytes: `type` (1 byte) and `body`. Over WebSocket each
 * binary message is `type` and `body`, without the length; a text message is a violation. Numbers are unsigned and
 * big-endian, durations are milliseconds, text is UTF-8 and runs to the end of the frame. Where there is no text, bytes
 * beyond the fields listed are ignored, so that later versions may add some.
 *
 * | type | name | body |
 * |---|---|---|
 * | 1 | HELLO | `magic` 2: "HF" (48 46); `lowest` 1, `highest` 1: the versions the client speaks; `pingEvery` 4: how often it would ping, 0 never; `silence` 4: how long it bears hearing nothing, 0 for ever |
 * | 2 | WELCOME | `version` 1: the one to speak; `pingEvery` 4: how often the client shall ping, 0 never; `minPingEvery` 4: pinging more often is punished, 0 never; `after` 4, `spread` 4: advice |
 * | 3 | PING | `token` 4: anything; `after` 4, `spread` 4: advice, zero from a client |
 * | 4 | PONG | `token` 4: that of the ping |
 * | 5 | DATA | the message, to the end of the frame |
 * | 6 | GOING_AWAY | `after` 4, `spread` 4: advice; text: why |
 * | 7 | CLOSE | `code` 1: see below; `flags` 1: bit 0 is set when the receiver should come back, the others are 0; `after` 4, `spread` 4: advice, zero from a client; text |
 *
 * Text has at most 500 bytes. An end takes DATA up to its own limit (`Policy.maxFrame`, 1 MiB unless set; the type and the
 * length do not count), and other frames of up to 1024 bytes in any case.
 *
 * ## Conversation
 *
 * 1. The client sends HELLO, and waits for the answer. Until it has that, it sends nothing else but CLOSE.
 * 2. The server answers WELCOME with the highest version that both speak, or CLOSE.
 * 3. Then either may send PING, PONG and DATA in any order. A PING is answered with a PONG at once, ahead of DATA.
 * 4. A server that goes away sends GOING_AWAY, and a PING behind it. It takes DATA until the PONG to that, or for a second, then
 *    no more; it finishes with what it has, and sends CLOSE. A client that has heard it sends no new DATA. Only a server
 *    sends it.
 * 5. Either end may send CLOSE at any time, as its last frame, and then ends its side of the stream (over WebSocket:
 *    sends a close frame). The other sends no CLOSE in return, and ends too.
 *
 * A violation is: another first frame than HELLO from a client, than WELCOME or CLOSE from a server; a second HELLO or
 * WELCOME; HELLO without its magic bytes, WELCOME with a version that was not offered (code 2); GOING_AWAY from a client;
 * a type not listed, a frame without a type, one shorter than its fields, or longer than the limit; DATA that is no
 * message. Its receiver answers CLOSE with code 3.
 *
 * **Limits in time**: each end has its own for the greeting (`Policy.handshake`), from the moment the transport is open
 * (that of a `Server` counts from the accept), and for silence (`Policy.silence`), which every received byte ends; it closes with code 8 or 9. A client pings every
 * `pingEvery` of the WELCOME, and may leave a ping out while bytes went both ways within that time. A server closes with
 * code 4 at the third PING in a row that comes sooner than `minPingEvery` after the one before. It pings at least twice
 * within the `silence` of the HELLO. Neither has to ping more often than ten times a second for the sake of the other.
 *
 * **Advice**: when the connection is lost, by whatever cause, come back once after `after` milliseconds and a random part
 * of `spread` milliseconds; then back off as usual. It holds until the next advice; both zero is no advice, and changes
 * nothing. A server renews it with every PING, so that even a crash finds its clients spread.
 *
 * ## Codes of CLOSE
 *
 * | code | name | meaning | text | come back |
 * |---|---|---|---|---|
 * | 0 | NORMAL | closed on purpose | why, or none | as the flag says |
 * | 1 | GOING_AWAY | the server stops, or the connection is old | why | yes |
 * | 2 | UNSUPPORTED_VERSION | no version in common | what the sender speaks, in decimal: `lowest-highest` | no |
 * | 3 | VIOLATION | the receiver broke the protocol | how | no, unless the stream ended inside a frame |
 * | 4 | TOO_MANY_PINGS | three pings in a row came too early | why | no |
 * | 5 | SUPERSEDED | a newer connection took the key of this one | the key | no |
 * | 6 | DUPLICATE | the key is taken | the key | no |
 * | 7 | REFUSED | a limit of the server | which one: `maxConnections`, `maxConnectionsPerAddress`, `maxWaiting`, `acceptRate` or `stopping` | yes |
 * | 8 | HANDSHAKE_FAILED | the greeting took too long, or the application's handshake failed | why | after a timeout |
 * | 9 | TIMEOUT | silence, a missing pong, a stalled write, a frame too slow, idleness | which | yes |
 * | 10 | SLOW_CONSUMER | too much was waiting for the receiver | how much | yes |
 * | 11 | FAILED | the sender could not go on | why | yes |
 *
 * Where flag and table differ, the flag decides. Codes 4 to 8 are a server's: from a client they mean only that it closes, and so
 * does a code that is not listed. A stream that ends without CLOSE,
 * or is reset, says nothing: come back by the last advice.
 *
 * ## An example
 *
 * A client that speaks version 1, would ping every 25 s and bears 60 s of silence; the server punishes pings that come sooner than every 5 s; advice is to come back within 20 s:
 *
 * ```text
 * client  00 00 00 0d  01  48 46  01  01  00 00 61 a8  00 00 ea 60                           HELLO
 * server  00 00 00 12  02  01  00 00 61 a8  00 00 13 88  00 00 00 00  00 00 4e 20            WELCOME
 * client  00 00 00 06  05  68 65 6c 6c 6f                                                    DATA "hello"
 * server  00 00 00 0d  03  00 00 00 01  00 00 00 00  00 00 4e 20                             PING 1
 * client  00 00 00 05  04  00 00 00 01                                                       PONG 1
 * server  00 00 00 0d  07  05  00  00 00 00 00  00 00 4e 20  6d 65                           CLOSE, SUPERSEDED, key "me"
 * ```
 *
 * **Example** (Both ends)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Client, Codec, Connection, Protocol, Server } from "holdfast"
 * import { Dialer, Listener } from "holdfast/node"
 *
 * const codec = Codec.lines()
 *
 * const server = Server.run({
 *   open: Protocol.server({ codec }),
 *   handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 * }).pipe(Effect.provide(Listener.layer("tcp://127.0.0.1:7000")))
 *
 * const dial = Effect.orDie(Dialer.make("tcp://127.0.0.1:7000"))
 * const client = Client.make(Effect.flatMap(dial, Protocol.client({ codec })))
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type * as Codec from "./Codec.ts"
import * as Connection from "./Connection.ts"
import type * as ConnectionError from "./ConnectionError.ts"
import { closeOf, noteOf, type Role } from "./internal/protocol/closes.ts"
import * as Frames from "./internal/protocol/frames.ts"
import { ControlFrame } from "./internal/protocol/frames.ts"
import { greetAsClient, greetAsServer } from "./internal/protocol/greeting.ts"
import { type Read, reader, type Written } from "./internal/protocol/reading.ts"
import * as Policy from "./Policy.ts"

export {
  /**
   * The versions of the protocol this module speaks.
   *
   * @category constants
   * @since 0.1.0
   */
  versions
} from "./internal/protocol/frames.ts"

type Advice = ConnectionError.Advice

const noAdvice: Advice = { after: 0, spread: 0 }

/**
 * The options that both ends have.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in out In, in out Out> {
  /** What the messages are; of its two halves only the payload is used. */
  readonly codec: Codec.Codec<In, Out>
  readonly policy?: Policy.Patch | undefined
  /** As for `Connection.make`: needed only where the socket does not say that it keeps messages apart. */
  readonly transport?: "stream" | "messages" | undefined
}

/**
 * The options of a server's end.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions<in out In, in out Out> extends Options<In, Out> {
  /**
   * When and how spread clients that lose this server shall come back, in milliseconds, given how many connections this
   * `server` has. Asked with every ping: keep it cheap. Default: `spread` over `Policy.acceptRate`; without one, no advice.
   */
  readonly advise?: ((connections: number) => Advice) | undefined
}

/** Opens a connection that speaks frames and has not greeted. It does not ping yet: nothing may pass the greeting. */
const start = <In, Out>(role: Role, options: Options<In, Out>, policy: Policy.Policy, advise: () => Advice) => {
  const codec = Frames.codec(options.codec, Math.min(policy.maxFrame, options.codec.maxFrame ?? Infinity))
  return Connection.make<Read<In>, Written<Out>>({
    codec,
    heartbeat: {
      ping: (token) => new ControlFrame({ _tag: "Ping", token, advice: advise() }),
      reader: reader(role),
      hearsGoodbye: role === "server"
    },
    policy: Policy.make({
      maxFrame: codec.maxFrame,
      pingEvery: 0,
      // only a server punishes pings, as it said in its WELCOME: a client has no way to say what it bears
      minPingEvery: role === "client" ? 0 : policy.minPingEvery
    }, policy),
    transport: options.transport,
    goodbye: role === "server"
      ? (reason) => new ControlFrame({ _tag: "GoingAway", advice: advise(), note: noteOf(reason) })
      : undefined,
    farewell: (reason) => new ControlFrame(closeOf(reason, advise()))
  })
}

/** After the greeting only DATA comes out of it: the reader answers every other frame, or ends the connection. */
const greeted = <In, Out>(connection: Connection.Connection<Read<In>, Written<Out>>) =>
  connection as unknown as Connection.Connection<In, Out>

/**
 * Opens the client's end of the native protocol over a socket.
 *
 * **Details**
 *
 * What it returns is used like the function of `Connection.make`. It fails, beyond what that fails with, with
 * `UnsupportedVersion`, `ProtocolViolation`, `HandshakeTimeout` (`Policy.handshake`), and with what the server's CLOSE
 * says: `Superseded`, `DuplicateKey`, `HandshakeFailed`, `TooManyPings` and `Refused` as such, anything else as `Closed`
 * with its code, and `isRetryable` as its flag.
 *
 * The server sets the ping interval: longer than `Policy.pingEvery` where pinging more often would be punished, shorter
 * where it would take our silence for death, but not under 100 ms unless `Policy.pingEvery` is. `Policy.minPingEvery` is
 * for servers.
 *
 * **Gotchas**
 *
 * An interval changed later, with `Connection.patch`, is not negotiated: the server may punish it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const client = <In, Out>(
  options: Options<In, Out>
): Connection.Open<In, Out> => {
  const policy = Policy.make(options.policy)
  const open = start("client", options, policy, () => noAdvice)
  const greet = greetAsClient(policy)
  return (socket) =>
    Effect.flatMap(open(socket), (connection) => Effect.as(greet(connection), greeted<In, Out>(connection)))
}

/**
 * Opens the server's end of the native protocol over a socket.
 *
 * **Details**
 *
 * What it returns is used like the function of `Connection.make`: as `open` of a `Server`. A client that would ping more
 * often than `Policy.minPingEvery` is told an interval a tenth longer, since the network may bring two pings closer
 * together, and ends with `TooManyPings` when it does not obey.
 *
 * **Gotchas**
 *
 * `Policy.minPingEvery` has to be well under half of `Policy.silence`, or a quiet client that obeys is taken for dead. Its default
 * is.
 *
 * @category constructors
 * @since 0.1.0
 */
export const server = <In, Out>(
  options: ServerOptions<In, Out>
): Connection.Open<In, Out> => {
  const policy = Policy.make(options.policy)
  let connections = 0
  const given = options.advise ?? ((connections: number) => spread(connections, policy.acceptRate))
  const advise = () => given(connections)
  const open = start("server", options, policy, advise)
  const greet = greetAsServer(policy, advise)
  return Effect.fnUntraced(function*(socket: Socket.Socket) {
    let counted = false
    // before the connection is opened, so that it counts until its CLOSE is out
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (counted) connections--
      })
    )
    const connection = yield* open(socket)
    yield* greet(connection, () => {
      counted = true
      connections++
    })
    return greeted<In, Out>(connection)
  })
}

/**
 * Advice that lets this many connections come back at this rate: 20,000 connections at 1,000 a second come back spread
 * over 20 s. A rate of 0 is no advice.
 *
 * @category advice
 * @since 0.1.0
 */
export const spread = (connections: number, perSecond: number): Advice =>
  perSecond > 0 ? { after: 0, spread: Math.ceil((connections / perSecond) * 1000) } : noAdvice
