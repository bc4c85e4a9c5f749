/**
 * The server's end of Effect's RPC, over a `Server`: heartbeats, deadlines, bounded queues, limits, a registry and a drain
 * for the handlers of an `RpcGroup`.
 *
 * Use it in place of `RpcServer.layerProtocolSocketServer` and `layerProtocolWebsocket` of Effect, whose clients it serves
 * too: on the wire nothing differs. The client's end is `ClientProtocol`.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type { FromClientEncoded, FromServerEncoded } from "effect/rpc/RpcMessage"
import { RpcSerialization } from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as SocketServer from "effect/socket/SocketServer"
import type * as Codec from "../Codec.ts"
import * as Connection from "../Connection.ts"
import { atLeast } from "../internal/arguments/atLeast.ts"
import * as Policy from "../Policy.ts"
import type { Names, Registry } from "../Registry.ts"
import * as Server from "../Server.ts"
import { Calls, type Deliver } from "./internal/calls.ts"
import { serverCodec } from "./internal/codec.ts"
import * as Heartbeats from "./internal/heartbeats.ts"

/**
 * What a client sends, as one connection receives it: the messages of one frame, which are nearly always one.
 *
 * @category models
 * @since 0.1.0
 */
export type Received = ReadonlyArray<FromClientEncoded>

/**
 * What a server does beside answering calls. The fields that are not described here are those of `Server.Options`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<Session = void, EH = never, RH = never> extends
  Pick<
    Server.Options<Received, FromServerEncoded, Session, never, EH, never, RH, never>,
    "acceptRetry" | "handshake" | "logs" | "onDrain" | "onEvent"
  >
{
  /**
   * The limits of the server and of each connection. Clients ping (Effect's every 5 s, ours every `pingEvery`), and the server
   * does not; a client that is silent for `silence` is gone. Default: `minPingEvery` is 2 s.
   */
  readonly policy?: Policy.Patch | undefined
  /** Where connections are registered. The client id that handlers are told (`client.id`) is the id of the connection. */
  readonly registry?: Pick<Registry<Received, FromServerEncoded, Session>, "add"> | undefined
  /** Key and tags for the registry. */
  readonly names?:
    | ((connection: Connection.Connection<Received, FromServerEncoded>, session: Session) => Names)
    | undefined
  /**
   * Headers of each request of a connection, behind those that the client sent, so that they count: what a middleware needs to
   * know of the connection, such as who it belongs to.
   */
  readonly headers?:
    | ((
      connection: Connection.Connection<Received, FromServerEncoded>,
      session: Session
    ) => Iterable<readonly [string, string]>)
    | undefined
  /**
   * How many calls of one connection may be unanswered; one more is answered with a defect that says so. Default 1024. What
   * clients of ours send in a burst is bounded by theirs. Notifications, and calls whose client does not wait (`discard`), run on
   * without being counted: `policy.messageRate` bounds how many come, and `concurrency` of the `RpcServer` how many run.
   */
  readonly requests?: number | undefined
  /**
   * Makes a connection of a socket in place of `Connection.make`, given the codec: `(codec) => Protocol.server({ codec })`
   * speaks the native protocol. `policy` is then the server's alone.
   */
  readonly open?:
    | ((
      codec: Codec.Codec<Received, FromServerEncoded>
    ) => Connection.Open<Received, FromServerEncoded>)
    | undefined
}

const refusalOf = (most: number, codecFor: RpcSerialization["Service"]["codecFor"]) => {
  const encode = Schema.encodeUnknownSync(codecFor(Schema.Exit(Schema.Never, Schema.Never, Schema.Defect())) as never)
  const exit = Exit.die(
    new Error(`this connection has ${most} unanswered requests, which is the limit: wait for answers`)
  )
  return (requestId: string | number): FromServerEncoded => ({ _tag: "Exit", requestId, exit: encode(exit) as never })
}

/**
 * Makes the protocol that an `RpcServer` speaks. It accepts connections while `RpcServer.make` runs.
 *
 * **Details**
 *
 * - What `Server.run` does for connections it does here: limits of accepting, deadlines, bounded inbox and outbox, ends with
 *   a reason, one log line where one is due. A client that does not read holds back its own streams and answers.
 * - The end of a connection interrupts its calls, as with Effect's own protocols.
 * - When the RPC server is interrupted it drains: it accepts no more, asks every client to leave (a client of ours then sends its
 *   next calls elsewhere), and ends each connection once its calls are answered, `Policy.drain` after it began at the latest.
 *   Streams flow on meanwhile, and are cut then.
 * - What a peer sends that is no message of the protocol ends its connection with `InvalidMessage` or `ProtocolViolation`.
 *
 * **Gotchas**
 *
 * `Policy.maxFrame` (1 MiB) bounds one message, and `outboxBytes` (2 MiB) what waits for a client: a call whose answer is larger
 * fails with a defect that says so. Each request of a JSON-RPC batch gets an answer of its own.
 *
 * A policy that makes no sense throws its `InvalidPolicy` here, before anything runs, and `requests` below 1 a `RangeError`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Session = void, EH = never, RH = never>(
  options: Options<Session, EH, RH> = {}
): Effect.Effect<
  RpcServer.Protocol["Service"],
  never,
  RpcSerialization | SocketServer.SocketServer | Exclude<RH, Scope.Scope> | Scope.Scope
> => {
  const { headers, handshake, open } = options
  const requests = atLeast(1, "requests", options.requests ?? 1024)
  const serverPolicy: Policy.Patch = { minPingEvery: "2 seconds", ...options.policy }
  // clients ping: a ping of ours would be a message that theirs do not answer
  const policy: Policy.Patch = { ...serverPolicy, pingEvery: 0 }
  Policy.make(policy)
  return Effect.gen(function*() {
    const serialization = yield* RpcSerialization
    const context = yield* Effect.context<SocketServer.SocketServer | Exclude<RH, Scope.Scope> | Scope.Scope>()
    const disconnects = yield* Queue.make<number>()
    const clients = new Map<number, Calls>()
    const codec = serverCodec(serialization)
    const refusal = refusalOf(requests, serialization.codecFor)
    // one RPC server at a time
    const running = yield* Semaphore.make(1)

    const serve = (deliver: Deliver) =>
      Server.run<Received, FromServerEncoded, Session, unknown, EH, never, RH, Scope.Scope>({
        acceptRetry: options.acceptRetry,
        logs: options.logs,
        onDrain: options.onDrain,
        onEvent: options.onEvent,
        registry: options.registry,
        names: options.names,
        policy: open === undefined ? policy : serverPolicy,
        open: open === undefined
          ? Connection.make({
            codec,
            heartbeat: Heartbeats.ofServer,
            policy,
            goodbye: Heartbeats.leave(codec.payload.form === "text")
          })
          : open(codec),
        handshake: handshake as NonNullable<typeof handshake>,
        handle: (connection, session) =>
          Effect.suspend(() => {
            const added = Array.from(
              headers?.(connection, session) ?? [],
              ([name, value]): [string, string] => [name, value]
            )
            const calls = new Calls(connection, deliver, requests, added, refusal)
            clients.set(connection.id, calls)
            return Effect.ensuring(
              calls.run,
              Effect.sync(() => {
                clients.delete(connection.id)
                Queue.offerUnsafe(disconnects, connection.id)
              })
            )
          })
      })

    return {
      run: (deliver) =>
        running.withPermits(1)(
          Effect.provideContext(
            serve(deliver),
            context as Context.Context<SocketServer.SocketServer | Exclude<RH, Scope.Scope>>
          )
        ),
      disconnects,
      send: (clientId, response) => clients.get(clientId)?.send(response) ?? Effect.void,
      end: (clientId) => Effect.sync(() => clients.get(clientId)?.end()),
      clientIds: Effect.sync(() => new Set(clients.keys())),
      initialMessage: Effect.succeedNone,
      supportsAck: true,
      supportsTransferables: false,
      supportsSpanPropagation: true,
      supportsNotifications: true,
      codecFor: serialization.codecFor
    }
  })
}

/**
 * Provides the protocol of an `RpcServer`, over the `SocketServer` that is there: a `Listener`, or one of Effect's.
 *
 * **Example** (An RPC server that drains)
 *
 * ```ts
 * import { Effect, Layer, Schema } from "effect"
 * import { Rpc, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
 * import { Listener } from "holdfast/node"
 * import { ServerProtocol } from "holdfast/rpc"
 *
 * const Greet = Rpc.make("Greet", { payload: { name: Schema.String }, success: Schema.String })
 * const Greeter = RpcGroup.make(Greet)
 *
 * const GreeterLive = Greeter.toLayer({ Greet: ({ name }) => Effect.succeed(`hello, ${name}`) })
 *
 * const Live = RpcServer.layer(Greeter).pipe(
 *   Layer.provide(GreeterLive),
 *   Layer.provide(ServerProtocol.layer({ policy: { drain: "20 seconds" } })),
 *   Layer.provide(RpcSerialization.layerNdjson),
 *   Layer.provide(Listener.layer("tcp://127.0.0.1:7000"))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <Session = void, EH = never, RH = never>(
  options: Options<Session, EH, RH> = {}
): Layer.Layer<RpcServer.Protocol, never, RpcSerialization | SocketServer.SocketServer | Exclude<RH, Scope.Scope>> =>
  Layer.effect(RpcServer.Protocol, make(options)) as Layer.Layer<
    RpcServer.Protocol,
    never,
    RpcSerialization | SocketServer.SocketServer | Exclude<RH, Scope.Scope>
  >
