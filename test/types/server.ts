/** What `Server` and `Registry` infer, as a user's program sees it. Only compiled: here, and against the packed package. */
import { Context, Effect, type Layer, type Option, type Stream } from "effect"
import type * as Scope from "effect/Scope"
import type * as SocketServer from "effect/socket/SocketServer"
import { Connection, type ConnectionError, Heartbeat, Policy, Protocol, Registry, Server } from "holdfast"
import { expectTypeOf } from "vitest"
import { type Command, type Event, lines, type Message, tagged, twoWay, words } from "./connection.ts"

type Failure = ConnectionError.ConnectionError

class Users
  extends Context.Service<Users, { readonly find: (name: string) => Effect.Effect<{ readonly id: number }> }>()(
    "Users"
  )
{}
class Rooms extends Context.Service<Rooms, { readonly join: Effect.Effect<void> }>()("Rooms") {}

// a connection that is made in place
expectTypeOf(
  Server.run({
    open: Connection.make({ codec: lines }),
    handle: (connection, session) => {
      expectTypeOf(connection).toEqualTypeOf<Connection.Connection<string>>()
      expectTypeOf(session).toEqualTypeOf<void>()
      return Effect.ignore(connection.send("hello"))
    }
  })
).toEqualTypeOf<Effect.Effect<never, never, SocketServer.SocketServer>>()

// or before
const open = Connection.make({ codec: lines })
Server.run({
  open,
  handle: (connection) => {
    expectTypeOf(connection).toEqualTypeOf<Connection.Connection<string>>()
    return connection.close
  }
})

// of two directions, of the native protocol, and with pings that are no messages
Server.run({
  open: Connection.make({ codec: twoWay }),
  handle: (connection) => {
    expectTypeOf(connection).toEqualTypeOf<Connection.Connection<typeof Command.Type, typeof Event.Type>>()
    return connection.send({ _tag: "Bye", code: 2 })
  }
})
Server.run({
  open: Protocol.server({ codec: twoWay }),
  handle: (connection) => {
    expectTypeOf(connection).toEqualTypeOf<Connection.Connection<typeof Command.Type, typeof Event.Type>>()
    return connection.close
  }
})
Server.run({
  open: Connection.make({
    codec: tagged,
    heartbeat: Heartbeat.tagged("Ping", "Pong"),
    policy: { silence: "10 seconds", pingEvery: "3 seconds" }
  }),
  policy: Policy.lan,
  handle: (connection) => {
    expectTypeOf(connection.receive).toEqualTypeOf<
      Effect.Effect<{ readonly _tag: "Say"; readonly text: string }, Failure>
    >()
    expectTypeOf(connection.send).parameters.toEqualTypeOf<[message: typeof Message.Type]>()
    return connection.close
  }
})

// last words and refusals
Server.run({
  open: Connection.make({ codec: words, farewell: () => "bye", goodbye: () => "bye" }),
  refusal: () => "bye",
  handle: (connection) => {
    expectTypeOf(connection).toEqualTypeOf<Connection.Connection<"hello" | "bye">>()
    return connection.send("hello")
  }
})
Server.run({
  open: Connection.make({ codec: twoWay, farewell: () => ({ _tag: "Bye", code: 1 }) }),
  refusal: (reason) => ({ _tag: "Bye", code: reason._tag === "Refused" ? 1 : 2 }),
  handle: (connection) => connection.send({ _tag: "Joined", who: "ada" })
})
Server.run({
  open: Connection.make({ codec: twoWay }),
  refusal: () => ({ _tag: "Bye", code: 1 }),
  handle: (connection) => connection.close
})
Server.run({
  open: Connection.make({ codec: words }),
  // @ts-expect-error no word of the codec
  refusal: () => "by",
  handle: (connection) => connection.close
})
// @ts-expect-error no such field
Server.run({ open, policy: { maxConnection: 3 }, handle: (connection) => connection.close })

// sessions, names, a registry; what all of them need is needed of the server, and no scope
const registry: Effect.Effect<Registry.Registry<string>, never, Scope.Scope> = Registry.make<string>()
export const chat = Effect.flatMap(registry, (registry) => {
  const options = {
    open: Connection.make({ codec: lines }),
    registry
  }
  const server = Server.run({
    ...options,
    handshake: (connection) =>
      Effect.gen(function*() {
        expectTypeOf(connection).toEqualTypeOf<Connection.Connection<string>>()
        const user = yield* (yield* Users).find(yield* connection.receive)
        return { user, admin: false }
      }),
    names: (connection, session) => {
      expectTypeOf(connection).toEqualTypeOf<Connection.Connection<string>>()
      expectTypeOf(session).toEqualTypeOf<{ user: { readonly id: number }; admin: boolean }>()
      return { key: String(session.user.id), tags: ["lobby"] }
    },
    handle: Effect.fnUntraced(function*(connection, session) {
      expectTypeOf(connection).toEqualTypeOf<Connection.Connection<string>>()
      expectTypeOf(session).toEqualTypeOf<{ user: { readonly id: number }; admin: boolean }>()
      yield* Effect.addFinalizer(() => Effect.void)
      yield* (yield* Rooms).join
      return yield* Effect.fail("a failure of its own")
    })
  })
  expectTypeOf(server).toEqualTypeOf<Effect.Effect<never, never, SocketServer.SocketServer | Users | Rooms>>()
  return server
})
// the order in which TypeScript infers: a handshake without parameters may come later
Server.run({
  open,
  handle: (_, session) => {
    expectTypeOf(session).toEqualTypeOf<string>()
    return Effect.void
  },
  handshake: () => Effect.succeed("ada")
})

expectTypeOf(
  Server.layer({
    open: Connection.make({ codec: lines }),
    handle: (connection) => {
      expectTypeOf(connection).toEqualTypeOf<Connection.Connection<string>>()
      return Effect.flatMap(Rooms, ({ join }) => join)
    }
  })
).toEqualTypeOf<Layer.Layer<never, never, SocketServer.SocketServer | Rooms>>()

declare const strings: Registry.Registry<"in", "out">
declare const own: Connection.Connection<"in", "out">
expectTypeOf(Registry.make<"in", "out">()).toEqualTypeOf<
  Effect.Effect<Registry.Registry<"in", "out">, never, Scope.Scope>
>()
expectTypeOf(strings.add(own)).toEqualTypeOf<Effect.Effect<void, Failure, Scope.Scope>>()
expectTypeOf(strings.get(1)).toEqualTypeOf<Effect.Effect<Option.Option<Connection.Connection<"in", "out">>>>()
expectTypeOf(strings.broadcast).parameter(0).toEqualTypeOf<"out">()
class Clients extends Context.Service<Clients, Registry.Registry<string>>()("Clients") {}
expectTypeOf(Registry.layer(Clients)).toEqualTypeOf<Layer.Layer<Clients>>()

// sessions: the handshake's in the registry; a registry without sessions goes with any
interface User {
  readonly name: string
}
declare const users: Registry.Registry<string, string, User>
expectTypeOf(Registry.make<string, string, User>()).toEqualTypeOf<
  Effect.Effect<Registry.Registry<string, string, User>, never, Scope.Scope>
>()
expectTypeOf(users.entries).toEqualTypeOf<Effect.Effect<ReadonlyArray<Registry.Entry<string, string, User>>>>()
expectTypeOf(users.changes).toEqualTypeOf<Stream.Stream<Registry.Change<string, string, User>>>()
expectTypeOf(users.offer("ada", "hi")).toEqualTypeOf<Effect.Effect<Registry.Offered, Failure>>()
declare const line: Connection.Connection<string>
users.add(line, undefined, { name: "ada" })
users.add(line, { key: "ada" }, { name: "ada" })
// @ts-expect-error the session is missing
users.add(line, { key: "ada" })
strings.add(own, { tags: ["lobby"] })
for (const registry of [users, undefined]) {
  Server.run({
    open: Connection.make({ codec: lines }),
    registry,
    handshake: (connection) => Effect.map(connection.receive, (name) => ({ name })),
    names: (_, { name }) => ({ key: name }),
    handle: (_, { name }) => Effect.log(name)
  })
}
Server.run({
  open: Connection.make({ codec: lines }),
  registry: users,
  // @ts-expect-error another session than the registry's
  handshake: (connection) => Effect.map(connection.receive, (text) => text.length),
  handle: () => Effect.void
})
class People extends Context.Service<People, Registry.Registry<string, string, User>>()("People") {}
expectTypeOf(Registry.layer(People)).toEqualTypeOf<Layer.Layer<People>>()
const wrapped: typeof users = { ...users, add: (connection, names, session) => users.add(connection, names, session) }
expectTypeOf(wrapped).toEqualTypeOf(users)
