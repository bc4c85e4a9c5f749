/** What `holdfast/node` and `holdfast/testing` give. Only compiled: here, and against the packed package. */
import { Context, Effect, type Layer } from "effect"
import type * as HttpClientOfEffect from "effect/http/HttpClient"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import { Connection, type ConnectionError, type Registry, Request, Server } from "holdfast"
import { Dialer, HttpClient, HttpServer, Listener, Upgrade } from "holdfast/node"
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
declare const registries: {
  readonly any: Registry.Registry<string>
  readonly none: Registry.Registry<string, string, undefined>
  readonly nothing: Registry.Registry<never, "out", void>
  readonly some: Registry.Registry<string, string, { readonly name: string } | undefined>
  readonly users: Registry.Registry<string, string, { readonly name: string }>
}
HttpServer.make("http://127.0.0.1:7000", { registry: registries.any })
HttpServer.make("http://127.0.0.1:7000", { registry: registries.none })
HttpServer.make("http://127.0.0.1:7000", { registry: registries.nothing })
HttpServer.make("http://127.0.0.1:7000", { registry: registries.some })
// @ts-expect-error an HTTP connection has no session
HttpServer.make("http://127.0.0.1:7000", { registry: registries.users })
expectTypeOf(HttpServer.make("http://127.0.0.1:7000")).toEqualTypeOf<
  Effect.Effect<HttpServer.HttpServer, Listener.ListenFailed, Scope.Scope>
>()
expectTypeOf(HttpClient.make()).toEqualTypeOf<
  Effect.Effect<HttpClientOfEffect.HttpClient, Dialer.DialFailed, Scope.Scope>
>()

// what a hook finds out is the session of handlers and of routes, and what it needs is needed by the listener
class Users extends Context.Service<Users, { readonly of: (token: string) => Effect.Effect<string> }>()("Users") {}
const login = Upgrade.make((request) =>
  Effect.gen(function*() {
    const token = request.headers["authorization"]
    if (token === undefined) return yield* new Upgrade.Refused({ status: 401 })
    yield* Effect.addFinalizer(() => Effect.void)
    return { name: yield* (yield* Users).of(token) }
  })
)
expectTypeOf(login).toEqualTypeOf<Upgrade.Upgrade<{ name: string }, Users>>()
expectTypeOf(Upgrade.make(() => Effect.void)).toEqualTypeOf<Upgrade.Upgrade<void>>()
expectTypeOf(Listener.layer("ws://127.0.0.1:7000", { upgrade: login })).toEqualTypeOf<
  Layer.Layer<SocketServer.SocketServer, Listener.ListenFailed, Users>
>()
expectTypeOf(Listener.make("ws://127.0.0.1:7000", { paths: { "/a": login, "/b": Upgrade.open } })).toEqualTypeOf<
  Effect.Effect<Listener.Listener, Listener.ListenFailed, Scope.Scope | Users>
>()
expectTypeOf(Listener.make("ws://127.0.0.1:7000", { origins: "any", subprotocols: ["a"] })).toEqualTypeOf<
  Effect.Effect<Listener.Listener, Listener.ListenFailed, Scope.Scope>
>()
expectTypeOf(HttpServer.make("http://127.0.0.1:7000", { webSocket: "/live", upgrade: login })).toEqualTypeOf<
  Effect.Effect<HttpServer.HttpServer, Listener.ListenFailed, Scope.Scope | Users>
>()
expectTypeOf(Server.run({
  open: Connection.make({ codec: lines }),
  handshake: () => login.session,
  handle: (connection, user) => connection.send(user.name)
})).toEqualTypeOf<Effect.Effect<never, never, SocketServer.SocketServer>>()
expectTypeOf(login.route((user) => Effect.succeed(HttpServerResponse.text(user.name)))).toEqualTypeOf<
  Effect.Effect<HttpServerResponse.HttpServerResponse, never, Users | HttpServerRequest.HttpServerRequest>
>()
// @ts-expect-error a hook fails with nothing but `Refused`
Upgrade.make(() => Effect.fail(new Error("no")))
// @ts-expect-error a path starts with a slash
void Listener.make("ws://127.0.0.1:7000", { paths: { "a": login } })

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
