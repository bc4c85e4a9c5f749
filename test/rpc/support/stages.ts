/** Both ends of a conversation in RPC, over any transport: by Effect's own socket protocol, and by `holdfast/rpc`. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import { RpcClient, RpcSerialization, RpcServer } from "effect/rpc"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import type { Policy } from "../../../src/index.ts"
import { Dialer, Listener } from "../../../src/node/index.ts"
import { ClientProtocol, ServerProtocol } from "../../../src/rpc/index.ts"
import { certificate, tempDir } from "../../node/fixtures/kit.ts"
import type { Stage } from "./cases.ts"
import { Calls, handlers, More, Record } from "./group.ts"

export type Scheme = "tcp" | "tls" | "unix" | "ws"
export type By = "effect" | "holdfast" | "a pool" | "native" | "ours to theirs" | "theirs to ours"

export const serializations: { readonly [name: string]: Layer.Layer<RpcSerialization.RpcSerialization> } = {
  ndjson: RpcSerialization.layerNdjson,
  json: RpcSerialization.layerJson,
  jsonRpc: RpcSerialization.layerJsonRpc(),
  ndJsonRpc: RpcSerialization.layerNdJsonRpc(),
  schemaBinary: RpcSerialization.layerSchemaBinary()
}

/** Those that say where a message ends: of the others Effect's own protocol knows it on a WebSocket alone. */
export const framed = ["ndjson", "ndJsonRpc", "schemaBinary"]

// large enough for the cases
export const policy: Policy.Patch = {
  maxFrame: 16 * 2 ** 20,
  outboxBytes: 32 * 2 ** 20,
  inboxBytes: 32 * 2 ** 20,
  maxDecoded: 64 * 2 ** 20
}

const listen = (scheme: Scheme) =>
  Effect.gen(function*() {
    const url = scheme === "unix" ? `unix://${yield* tempDir}/rpc.sock` : `${scheme}://127.0.0.1:0`
    return yield* Listener.make(url, scheme === "tls" ? certificate() : { policy })
  }).pipe(Effect.orDie)

export const dialTo = (url: string): Effect.Effect<Socket.Socket> =>
  Effect.orDie(Dialer.make(url, url.startsWith("tls") ? { ca: certificate().cert } : { policy }))

export interface Made extends Stage {
  readonly url: string
}

export const stageOf = (by: By, scheme: Scheme, serialization: string): Effect.Effect<Made, never, Scope.Scope> =>
  Effect.gen(function*() {
    const record = new Record()
    const listener = yield* listen(scheme)
    const theirs = by === "effect"
    const serialized = serializations[serialization]!
    const listening = Layer.succeed(SocketServer.SocketServer, listener)
    const spoken: Layer.Layer<
      RpcServer.Protocol,
      never,
      RpcSerialization.RpcSerialization | SocketServer.SocketServer
    > = theirs || by === "ours to theirs" ? RpcServer.layerProtocolSocketServer : ServerProtocol.layer({ policy })
    const server = RpcServer.layer(Calls).pipe(
      Layer.provide(handlers(record)),
      Layer.provide(spoken),
      Layer.provide(serialized),
      Layer.provide(listening)
    )
    const dial = dialTo(listener.url)
    const protocol: Layer.Layer<RpcClient.Protocol, never, RpcSerialization.RpcSerialization> =
      theirs || by === "theirs to ours"
        ? Layer.provide(RpcClient.layerProtocolSocket(), Layer.effect(Socket.Socket, dial))
        : by === "a pool"
        ? ClientProtocol.layerPool(dial, { policy, inFlight: 8 })
        : ClientProtocol.layer(dial, { policy })
    const context = yield* Layer.build(Layer.provideMerge(Layer.provide(protocol, serialized), server))
    const client = yield* Effect.provideContext(RpcClient.make(Calls), context)
    const more = yield* Effect.provideContext(RpcClient.make(More), context)
    return { client, more, record, key: `${by}-${scheme}-${serialization}`, url: listener.url }
  }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))
