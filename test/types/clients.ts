/** What `Client`, `ConnectionPool`, `Request` and `Dispatcher` infer. Only compiled: here, and against the packed package. */
import { Context, Effect, type Layer, type Stream } from "effect"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import { Client, Connection, type ConnectionError, ConnectionPool, Dispatcher, type Policy, Request } from "holdfast"
import { expectTypeOf } from "vitest"
import { type Command, type Event, lines, twoWay } from "./connection.ts"

type Failure = ConnectionError.ConnectionError
type Read = typeof Command.Type
type Written = typeof Event.Type

class Dial extends Context.Service<Dial, Socket.Socket>()("Dial") {}
class Token extends Context.Service<Token, string>()("Token") {}
class Down {
  readonly _tag = "Down"
}

// what dials needs a service and a scope: the service is needed of the client, and the scope is its own
const open = Effect.flatMap(Dial, Connection.make({ codec: twoWay }))
expectTypeOf(open).toEqualTypeOf<Effect.Effect<Connection.Connection<Read, Written>, Failure, Dial | Scope.Scope>>()

const client = Client.make(open, {
  policy: { retryBase: "1 second" },
  onConnect: (connection) => {
    expectTypeOf(connection).toEqualTypeOf<Connection.Connection<Read, Written>>()
    return Effect.flatMap(Token, (who) => connection.send({ _tag: "Joined", who }))
  },
  sizeOf: (message) => {
    expectTypeOf(message).toEqualTypeOf<Written>()
    return 1
  }
})
expectTypeOf(client).toEqualTypeOf<Effect.Effect<Client.Client<Read, Written>, never, Dial | Token | Scope.Scope>>()
expectTypeOf(Client.make([open, open])).toEqualTypeOf<
  Effect.Effect<Client.Client<Read, Written>, never, Dial | Scope.Scope>
>()
// a failure of a greeting ends its connection, and is no failure of the client
expectTypeOf(Client.make(open, { onConnect: () => Effect.fail(new Down()) })).toEqualTypeOf<
  Effect.Effect<Client.Client<Read, Written>, never, Dial | Scope.Scope>
>()
// @ts-expect-error no such field
Client.make(open, { policy: { retryBas: "1 second" } })
declare const kept: Client.Client<"in", "out">
expectTypeOf(kept.receive).toEqualTypeOf<Effect.Effect<"in", Failure>>()
expectTypeOf(kept.send).toEqualTypeOf<(message: "out") => Effect.Effect<void, Failure>>()
expectTypeOf(kept.state).toEqualTypeOf<Effect.Effect<Client.State<"in", "out">>>()
expectTypeOf(kept.changes).toEqualTypeOf<Stream.Stream<Client.State<"in", "out">>>()
expectTypeOf(kept.connection).toEqualTypeOf<Effect.Effect<Connection.Connection<"in", "out">, Failure>>()
expectTypeOf(kept.closed).toEqualTypeOf<Effect.Effect<never, Failure>>()
class Backend extends Context.Service<Backend, Client.Client<Read, Written>>()("Backend") {}
expectTypeOf(Client.layer(Backend, open)).toEqualTypeOf<Layer.Layer<Backend, never, Dial>>()

const pool = ConnectionPool.make(open, {
  max: 3,
  idle: "1 minute",
  check: (connection) => {
    expectTypeOf(connection).toEqualTypeOf<Connection.Connection<Read, Written>>()
    return connection.receive
  }
})
expectTypeOf(pool).toEqualTypeOf<
  Effect.Effect<ConnectionPool.ConnectionPool<Read, Written>, never, Dial | Scope.Scope>
>()
// @ts-expect-error no such limit
ConnectionPool.make(open, { maximum: 3 })
declare const borrowed: ConnectionPool.ConnectionPool<"in", "out">
expectTypeOf(borrowed.get).toEqualTypeOf<Effect.Effect<Connection.Connection<"in", "out">, Failure, Scope.Scope>>()
expectTypeOf(borrowed.use((connection) => Effect.as(Effect.andThen(Token, connection.receive), 1))).toEqualTypeOf<
  Effect.Effect<number, Failure, Token>
>()
expectTypeOf(borrowed.use(() => Effect.fail(new Down()))).toEqualTypeOf<Effect.Effect<never, Down | Failure>>()
expectTypeOf(borrowed.patch).toEqualTypeOf<
  (changes: ConnectionPool.Patch) => Effect.Effect<void, Policy.InvalidPolicy>
>()
expectTypeOf(borrowed.held).toEqualTypeOf<Effect.Effect<ReadonlyArray<ConnectionPool.Lease<"in", "out">>>>()
class Pool extends Context.Service<Pool, ConnectionPool.ConnectionPool<Read, Written>>()("Pool") {}
expectTypeOf(ConnectionPool.layer(Pool, open)).toEqualTypeOf<Layer.Layer<Pool, never, Dial>>()
const keyed = ConnectionPool.keyed((_key: "a" | "b") => open)
expectTypeOf(keyed).toEqualTypeOf<
  Effect.Effect<ConnectionPool.Keyed<"a" | "b", Read, Written>, never, Dial | Scope.Scope>
>()
class Pools extends Context.Service<Pools, ConnectionPool.Keyed<"a" | "b", Read, Written>>()("Pools") {}
expectTypeOf(ConnectionPool.layerKeyed(Pools, () => open)).toEqualTypeOf<Layer.Layer<Pools, never, Dial>>()

expectTypeOf(Request.make(open)).toEqualTypeOf<
  Effect.Effect<Request.Requests<Read, Written>, never, Dial | Scope.Scope>
>()
declare const asked: Request.Requests<"in", "out">
expectTypeOf(asked.request).toEqualTypeOf<
  (message: "out", terms?: Request.Terms) => Effect.Effect<"in", Failure>
>()
expectTypeOf(Request.once(open, { _tag: "Bye", code: 1 })).toEqualTypeOf<Effect.Effect<Read, Failure, Dial>>()
// @ts-expect-error what this end reads
Request.once(open, { _tag: "Quit" })
declare const one: Connection.Connection<Read, Written>
expectTypeOf(
  Request.duplex(one, { correlate: { request: (message) => message, response: () => undefined } })
).toEqualTypeOf<Effect.Effect<Request.Duplex<Read, Written>, never, Scope.Scope>>()
class Questions extends Context.Service<Questions, Request.Requests<Read, Written>>()("Questions") {}
expectTypeOf(Request.layer(Questions, open)).toEqualTypeOf<Layer.Layer<Questions, never, Dial>>()

expectTypeOf(Dispatcher.make({ workers: 2 })).toEqualTypeOf<
  Effect.Effect<Dispatcher.Dispatcher, never, Scope.Scope>
>()
declare const dispatcher: Dispatcher.Dispatcher
declare const connection: Connection.Connection<"in", "out">
expectTypeOf(dispatcher.run(Effect.as(Token, 1))).toEqualTypeOf<
  Effect.Effect<number, Dispatcher.DispatcherError, Token>
>()
expectTypeOf(dispatcher.submit(Effect.fail(new Down()))).toEqualTypeOf<
  Effect.Effect<void, Dispatcher.DispatcherError>
>()
expectTypeOf(
  Dispatcher.messages(dispatcher, connection, (message) => {
    expectTypeOf(message).toEqualTypeOf<"in">()
    return Effect.andThen(Token, Effect.fail(new Down()))
  })
).toEqualTypeOf<Effect.Effect<never, Down | Failure | Dispatcher.DispatcherError, Token>>()
class Work extends Context.Service<Work, Dispatcher.Dispatcher>()("Work") {}
expectTypeOf(Dispatcher.layer(Work, { workers: 2 })).toEqualTypeOf<Layer.Layer<Work>>()

// a connection that is made in place here too
expectTypeOf(Client.make(Effect.flatMap(Dial, Connection.make({ codec: lines })))).toEqualTypeOf<
  Effect.Effect<Client.Client<string>, never, Dial | Scope.Scope>
>()
