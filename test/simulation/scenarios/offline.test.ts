/** What happens between two connections of a client: F13, F18. */
import { Effect, Exit, Fiber, Option, Scope } from "effect"
import { TestNetwork } from "../../../src/testing/index.ts"
import { expect, outcome, port, scenario, serve, statesOf } from "./kit.ts"

scenario("F13 a reconnect that is quicker than the recovery at either end", {
  run: ({ Client, Codec, Connection, Registry, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 13, latency: "20 millis" })
      const registry = yield* Registry.make<string>({ duplicates: "reject" })
      const chat = Connection.make({ codec: Codec.lines() })
      const names: Array<string> = []
      const orders: Array<string> = []
      yield* serve(Server, network.host("server"), {
        open: chat,
        registry,
        // one connection a user; a refused one is told so by its end
        handshake: (connection) =>
          Effect.gen(function*() {
            yield* connection.send("who are you?")
            const name = yield* connection.receive
            names.push(name)
            return name
          }),
        names: (_, key) => ({ key }),
        handle: (connection) =>
          connection.send("welcome").pipe(
            Effect.andThen(Effect.forever(Effect.map(connection.receive, (order) => orders.push(order)))),
            // saves what the user had, which takes a while; until then the connection is registered
            Effect.ensuring(Effect.sleep("3 seconds"))
          )
      })
      const client = yield* Client.make(
        Effect.suspend(() => chat(network.host("client").dial(`server:${port}`))),
        {
          policy: { retryBase: "10 millis", retryJitter: "none" },
          onConnect: (connection) =>
            Effect.gen(function*() {
              yield* connection.receive
              yield* connection.send("alice")
              yield* connection.receive
            })
        }
      )
      const states = yield* statesOf(client)
      yield* Effect.sleep("30 seconds")
      yield* network.link("client", "server").reset
      // while nobody is connected: it goes to the next connection, behind its handshake
      yield* Effect.sleep("5 millis")
      yield* client.send("order 1")
      yield* Effect.sleep("10 seconds")
      yield* expect("what comes first on every connection", [...new Set(names)], ["alice"])
      yield* expect("the states of the client", states, [
        "Connecting 0",
        "Connected 120",
        "Waiting Reset 30000",
        "Connecting 30010",
        // dialled, asked, answered and welcomed: three round trips, while the server still saves the old session
        "Connected 30130"
      ])
      yield* expect("the orders that the server got", orders, ["order 1"])
      // the late end of the old session is over
      const { connection } = (yield* registry.entries)[0]!
      yield* expect("who has the key", Option.getOrUndefined(yield* registry.getKey("alice"))?.id, connection.id)
      yield* expect("whether it is alive", (yield* connection.snapshot).state, "open")
    }),
  broken: {
    "a connection that has ended keeps its key": {
      file: "src/internal/registry/membership.ts",
      find: "connection,\n      key: names.key",
      replace: `connection: Object.create(connection, {
        [TypeId]: { value: { state: "open", onEnded: () => {}, look: () => connection[TypeId].look() } }
      }),
      key: names.key`,
      caughtBy: "the states of the client"
    },
    "others may send before the handshake is done": {
      file: "src/internal/client/session.ts",
      find: "yield* greet(cells, connection, options)",
      replace: `cells.current = connection
        cells.publish({ _tag: "Connected", connection })
        yield* greet(cells, connection, options)`,
      caughtBy: "what comes first on every connection"
    }
  }
})

scenario("F18 a send made while offline settles", {
  run: ({ Client, Codec, Connection, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 18, latency: "20 millis" })
      const chat = Connection.make({ codec: Codec.lines() })
      const received: Array<string> = []
      yield* serve(Server, network.host("server"), {
        open: chat,
        handle: (connection) => Effect.forever(Effect.map(connection.receive, (line) => received.push(line)))
      })
      const dial = Effect.suspend(() => chat(network.host("client").dial(`server:${port}`)))
      const policy = { retryBase: "1 second", retryJitter: "none" } as const
      const patient = yield* Client.make(dial, { policy })
      const short = yield* Client.make(dial, { policy: { ...policy, retryAttempts: 3 } })
      const closing = yield* Client.make(dial, { policy })
      const full = yield* Client.make(dial, { policy: { ...policy, offlineMessages: 1 } })
      const send = (client: typeof patient) =>
        Effect.forkScoped(outcome("1 minute", client.send("hello")), { startImmediately: true })

      yield* Effect.sleep("10 seconds")
      // the process behind the port is gone for 15 s
      yield* network.host("server").reset
      const down = yield* Scope.make()
      yield* Scope.provide(network.host("server").refuse(port), down)
      yield* Effect.sleep("2 seconds")
      const sends = [
        yield* send(patient),
        yield* send(short),
        yield* send(closing),
        yield* send(full),
        yield* send(full)
      ]
      yield* Effect.sleep("3 seconds")
      yield* Effect.forkScoped(closing.close)
      yield* Effect.sleep("10 seconds")
      yield* Scope.close(down, Exit.void)
      yield* expect("how the sends settle", yield* Fiber.joinAll(sends), [
        // lost at 10,020. Dialled, refused one round trip later, and dialled again after 1, 2, 4 and 8 s
        { at: 25_180, result: undefined },
        // the third try after the first was refused
        { at: 17_140, result: "OpenFailed" },
        { at: 15_000, result: "Closed" },
        { at: 25_180, result: undefined },
        { at: 12_000, result: "Offline" }
      ])
      yield* Effect.sleep("1 second")
      yield* expect("what the server received", received, ["hello", "hello"])
    }),
  broken: {
    "who waits is not told that it is over": {
      file: "src/internal/client/state.ts",
      find: "this.end = error\n",
      replace: "",
      caughtBy: "how the sends settle"
    },
    "the buffer has no bound": {
      file: "src/internal/client/sending.ts",
      find: "> policy.offlineMessages",
      replace: "> 1_000_000",
      caughtBy: "how the sends settle"
    }
  }
})
