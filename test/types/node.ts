/** What `holdfast/node` and `holdfast/testing` give. Only compiled: here, and against the packed package. */
import { Effect, type Layer } from "effect"
import type * as HttpClientOfEffect from "effect/http/HttpClient"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import { Connection, type ConnectionError, Request, Server } from "holdfast"
import { Dialer, HttpClient, HttpServer, Listener } from "holdfast/node"
import { Simulation, TestNetwork, TestSocket } from "holdfast/testing"
import { expectTypeOf } from "vitest"
import { lines } from "./connection.ts"

expectTypeOf(Dialer.make("tcp://127.0.0.1:7000")).toEqualTypeOf<Effect.Effect<Socket.Socket, Dialer.DialFailed>>()
expectTypeOf(Dialer.layer("tcp://127.0.0.1:7000")).toEqualTypeOf<Layer.Layer<Socket.Socket, Dialer.DialFailed>>()
expectTypeOf(Listener.make("tcp://127.0.0.1:7000")).toEqualTypeOf<
  Effect.Effect<Listener.Listener, Listener.ListenFailed, Scope.Scope>
>()
expectTypeOf(Listener.layer("tcp://127.0.0.1:7000")).toEqualTypeOf<
  Layer.Layer<SocketServer.SocketServer, Listener.ListenFailed>
>()
expectTypeOf(HttpServer.make("http://127.0.0.1:7000")).toEqualTypeOf<
  Effect.Effect<HttpServer.HttpServer, Listener.ListenFailed, Scope.Scope>
>()
expectTypeOf(HttpClient.make()).toEqualTypeOf<
  Effect.Effect<HttpClientOfEffect.HttpClient, Dialer.DialFailed, Scope.Scope>
>()

// a whole program: what it needs is provided, and what can fail is told
const dial = Effect.orDie(Dialer.make("tcp://127.0.0.1:7000"))
expectTypeOf(Request.once(Effect.flatMap(dial, Connection.make({ codec: lines })), "hello")).toEqualTypeOf<
  Effect.Effect<string, ConnectionError.ConnectionError>
>()
expectTypeOf(
  Effect.provide(
    Server.run({ open: Connection.make({ codec: lines }), handle: (connection) => connection.close }),
    Listener.layer("tcp://127.0.0.1:7000")
  )
).toEqualTypeOf<Effect.Effect<never, Listener.ListenFailed>>()

expectTypeOf(TestSocket.make()).toEqualTypeOf<Effect.Effect<TestSocket.Peer>>()
expectTypeOf(TestSocket.makeServer()).toEqualTypeOf<Effect.Effect<TestSocket.Server>>()
expectTypeOf(TestNetwork.layer()).toEqualTypeOf<Layer.Layer<TestNetwork.TestNetwork>>()
expectTypeOf(TestNetwork.layerServer("a", 7000)).toEqualTypeOf<
  Layer.Layer<SocketServer.SocketServer, SocketServer.SocketServerError, TestNetwork.TestNetwork>
>()
expectTypeOf(Simulation.run).returns.toEqualTypeOf<Effect.Effect<Simulation.Outcome, Simulation.SimulationFailed>>()
