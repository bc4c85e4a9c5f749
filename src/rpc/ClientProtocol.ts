/**
 * The client's end of Effect's RPC, over a `Client` or a `ConnectionPool`: heartbeats, deadlines, bounded queues, reconnects
 * by a policy, and for each call that fails the answer to "was it executed?".
 *
 * Use it in place of `RpcClient.layerProtocolSocket` of Effect, whose servers it speaks to as well: on the wire nothing
 * differs. The server's end is `ServerProtocol`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RpcClient from "effect/rpc/RpcClient"
import { RpcClientDefect, RpcClientError } from "effect/rpc/RpcClientError"
import type { FromClientEncoded, FromServerEncoded } from "effect/rpc/RpcMessage"
import { RpcSerialization } from "effect/rpc/RpcSerialization"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as Client from "../Client.ts"
import type * as Codec from "../Codec.ts"
import * as Connection from "../Connection.ts"
import * as ConnectionError from "../ConnectionError.ts"
import * as ConnectionPool from "../ConnectionPool.ts"
import { atLeast } from "../internal/arguments/atLeast.ts"
import { turnsOf } from "../internal/scheduling/turns.ts"
import * as Policy from "../Policy.ts"
import { Attempts } from "./internal/attempts.ts"
import { clientCodec } from "./internal/codec.ts"
import * as Heartbeats from "./internal/heartbeats.ts"

type Failure = ConnectionError.ConnectionError

/**
 * What a server sends, as one connection receives it: the messages of one frame, which are nearly always one.
 *
 * @category models
 * @since 0.1.0
 */
export type Received = ReadonlyArray<FromServerEncoded>

/**
 * How calls are sent, and when they are sent again.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How often a call is sent again when its connection ended and no server can have seen it. Default 3. */
  readonly retries?: number | undefined
  /**
   * Which calls may be executed twice, by the tag of their `Rpc`: they are sent again, up to `retries` times, also where a server
   * may have seen them. A stream is sent again only until its first element has come. Default: none.
   */
  readonly idempotent?: ((tag: string) => boolean) | undefined
  /**
   * How many calls may wait for a connection; one more fails with `Offline`. Default: `Policy.offlineMessages`, 1024; and 0, which lets
   * none wait, where `Policy.whenOffline` is `"fail"`.
   */
  readonly waiting?: number | undefined
  /** Of a pool: how many calls share a connection before another one is borrowed. Default 32. */
  readonly inFlight?: number | undefined
}

/**
 * How connections are opened: what `open` and the layers have besides.
 *
 * @category models
 * @since 0.1.0
 */
export interface OpenOptions {
  /** The limits of each connection, and of the `Client`. */
  readonly policy?: Policy.Patch | undefined
  /** As for `Connection.make`: needed where a socket does not say that it keeps messages apart (browsers). */
  readonly transport?: "stream" | "messages" | undefined
  /**
   * Makes a connection of a socket in place of `Connection.make`, given the codec: `(codec) => Protocol.client({ codec })`
   * speaks the native protocol. It then has a policy of its own.
   */
  readonly open?:
    | ((codec: Codec.Codec<Received, FromClientEncoded>) => Connection.Open<Received, FromClientEncoded>)
    | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Why a call has no answer: the error of its connection.
 *
 * **Details**
 *
 * Effect's `RpcClientError` has a closed union of reasons. This one is in the `cause` of its `RpcClientDefect`.
 *
 * @category errors
 * @since 0.1.0
 */
export const reasonOf = (error: RpcClientError): Option.Option<ConnectionError.ConnectionError> => {
  const { reason } = error
  return reason._tag === "RpcClientDefect" && reason.cause instanceof ConnectionError.ConnectionError
    ? Option.some(reason.cause)
    : Option.none()
}

/**
 * Whether a call that failed was executed: `"no"`, the server has not seen it and it can be made again; `"unknown"`, the
 * connection ended after the server may have seen it.
 *
 * **When to use**
 *
 * Where a call that is made twice does harm, to tell the failures after which it can be made again.
 *
 * **Example** (Make it again where that is safe)
 *
 * ```ts
 * import { Effect } from "effect"
 * import type { RpcClientError } from "effect/rpc"
 * import { ClientProtocol } from "holdfast/rpc"
 *
 * declare const pay: Effect.Effect<void, RpcClientError.RpcClientError>
 *
 * const safely = Effect.retry(pay, { times: 5, while: (error) => ClientProtocol.wasExecuted(error) === "no" })
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export const wasExecuted = (error: RpcClientError): "no" | "unknown" => {
  const reason = reasonOf(error)
  if (Option.isNone(reason)) return "unknown"
  switch (reason.value.reason._tag) {
    case "OutcomeUnknown":
    case "RequestTimeout":
    case "Defect":
      return "unknown"
    default:
      return "no"
  }
}

const failed = (error: Failure): RpcClientError =>
  new RpcClientError({ reason: new RpcClientDefect({ message: error.message, cause: error }) })

// ---------------------------------------------------------------------------------------------------------------------
// the protocol
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Makes connections of sockets that speak RPC, for a `Client` or a `ConnectionPool`.
 *
 * **Details**
 *
 * It pings as the protocol does, or with frames where the transport is a WebSocket of ours, and leaves when a server of ours
 * asks it to.
 *
 * @category constructors
 * @since 0.1.0
 */
export const open = (
  options: OpenOptions = {}
): Effect.Effect<Connection.Open<Received, FromClientEncoded>, never, RpcSerialization> =>
  Effect.map(RpcSerialization, (serialization) => {
    const codec = clientCodec(serialization)
    return options.open === undefined
      ? Connection.make<Received, FromClientEncoded>({
        codec,
        heartbeat: Heartbeats.ofClient,
        policy: options.policy,
        transport: options.transport
      })
      : options.open(codec)
  })

/**
 * Makes the protocol that RPC clients speak, over a `Client` or a `ConnectionPool` whose connections are of `open`.
 *
 * **Details**
 *
 * - A call goes to one connection. While there is none, calls wait: for the next one of a `Client`, or for `acquire` of a pool.
 * - When a connection ends, its calls that the server cannot have seen go to the next one. All others fail with
 *   `RpcClientError`, each with its reason (`reasonOf`, `wasExecuted`): `OutcomeUnknown`, or the reason of a client that has
 *   closed, of a pool that gave no connection, of the codec.
 * - Calls over a `Client` share its one connection. Over a pool up to `inFlight` share one, and it is given back when none is left.
 * - A caller that does not take the elements of its stream holds back that stream, and no other call.
 *
 * **Gotchas**
 *
 * No other code may send or receive on these connections. `Policy.overflow` is `"wait"` for them: a dropped call has no answer.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  source:
    | Client.Client<Received, FromClientEncoded>
    | ConnectionPool.ConnectionPool<Received, FromClientEncoded>,
  options: Options = {}
): Effect.fn.Return<RpcClient.Protocol["Service"], never, RpcSerialization | Scope.Scope> {
  const serialization = yield* RpcSerialization
  const context = yield* Effect.context<never>()
  const turns = turnsOf(yield* Scheduler.Scheduler)
  const { idempotent = () => false } = options
  const inFlight = atLeast(1, "inFlight", options.inFlight ?? 32)
  const retries = atLeast(0, "retries", options.retries ?? 3)
  const waiting = atLeast(0, "waiting", options.waiting ?? Policy.defaults.offlineMessages)
  return yield* RpcClient.Protocol.make((deliver, clientIds) =>
    Effect.gen(function*() {
      const attempts = new Attempts(
        "connection" in source
          ? { open: source.connection, inFlight: Infinity }
          : { open: source.get, inFlight },
        {
          context,
          turns,
          deliver,
          defect: (response) => Effect.forEach(Array.from(clientIds), (id) => deliver(id, response), { discard: true })
        },
        { retries, idempotent, waiting }
      )
      yield* Effect.addFinalizer(() => attempts.close)
      return {
        send: (clientId, message) => Effect.mapError(attempts.send(clientId, message), failed),
        supportsAck: true,
        supportsTransferables: false,
        codecFor: serialization.codecFor
      }
    })
  )
})

/**
 * Provides the protocol of RPC clients over a `Client`, which dials as its policy says.
 *
 * **Example** (A client that comes back)
 *
 * ```ts
 * import { Effect, Layer, Schema } from "effect"
 * import { Rpc, RpcClient, RpcGroup, RpcSerialization } from "effect/rpc"
 * import { Dialer } from "holdfast/node"
 * import { ClientProtocol } from "holdfast/rpc"
 *
 * const Greet = Rpc.make("Greet", { payload: { name: Schema.String }, success: Schema.String })
 * const Greeter = RpcGroup.make(Greet)
 *
 * // a fresh socket for every try; a URL that makes no sense is a mistake in the program
 * const dial = Effect.orDie(Dialer.make("tcp://127.0.0.1:7000"))
 *
 * const Live = ClientProtocol.layer(dial, { idempotent: (tag) => tag === "Greet" }).pipe(
 *   Layer.provide(RpcSerialization.layerNdjson)
 * )
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* RpcClient.make(Greeter)
 *   return yield* client.Greet({ name: "Ada" })
 * }).pipe(Effect.scoped, Effect.provide(Live))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <R = never, EC = never, RC = never>(
  dial: Effect.Effect<Socket.Socket, never, R>,
  options:
    & Options
    & OpenOptions
    & Omit<Client.Options<Received, FromClientEncoded, EC, RC>, "policy" | "sizeOf"> = {}
): Layer.Layer<RpcClient.Protocol, never, RpcSerialization | Exclude<R | RC, Scope.Scope>> =>
  Layer.effect(
    RpcClient.Protocol,
    Effect.gen(function*() {
      const opening = yield* open(options)
      const client = yield* Client.make(Effect.flatMap(dial, opening), options)
      const { offlineMessages, whenOffline } = Policy.make(options.policy)
      const waiting = options.waiting ?? (whenOffline === "fail" ? 0 : offlineMessages)
      return yield* make(client, { ...options, waiting })
    })
  ) as Layer.Layer<RpcClient.Protocol, never, RpcSerialization | Exclude<R | RC, Scope.Scope>>

/**
 * Provides the protocol of RPC clients over a `ConnectionPool`: several connections, for calls that are large or many.
 *
 * **Example** (Up to four connections)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { RpcSerialization } from "effect/rpc"
 * import { Dialer } from "holdfast/node"
 * import { ClientProtocol } from "holdfast/rpc"
 *
 * const dial = Effect.orDie(Dialer.make("tcp://127.0.0.1:7000"))
 *
 * const Live = ClientProtocol.layerPool(dial, { pool: { max: 4, acquire: "2 seconds" } }).pipe(
 *   Layer.provide(RpcSerialization.layerNdjson)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerPool = <R = never, RC = never, RE = never>(
  dial: Effect.Effect<Socket.Socket, never, R>,
  options: Options & OpenOptions & {
    /** The limits of the pool, and what it does apart from them. */
    readonly pool?: ConnectionPool.Options<Received, FromClientEncoded, RC, RE> | undefined
  } = {}
): Layer.Layer<RpcClient.Protocol, never, RpcSerialization | Exclude<R | RC | RE, Scope.Scope>> =>
  Layer.effect(
    RpcClient.Protocol,
    Effect.gen(function*() {
      const opening = yield* open(options)
      return yield* make(yield* ConnectionPool.make(Effect.flatMap(dial, opening), options.pool ?? {}), options)
    })
  ) as Layer.Layer<RpcClient.Protocol, never, RpcSerialization | Exclude<R | RC | RE, Scope.Scope>>
