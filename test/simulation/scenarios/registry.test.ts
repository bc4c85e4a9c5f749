/** The registry finds the silent ones in time, and forgets nobody else: F21, F23. */
import { Effect, Option, Schedule } from "effect"
import { TestNetwork } from "../../../src/testing/index.ts"
import { expect, now, openRaw, port, scenario, serve, sink } from "./kit.ts"

scenario("F21 the documented worst case of a sweep is the measured one", {
  run: ({ Codec, Connection, Registry, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 21, sendBuffer: 1024 })
      const registry = yield* Registry.make<string>({
        every: Schedule.spaced("60 seconds"),
        expired: Registry.quietFor("90 seconds")
      })
      const open = Connection.make({ codec: Codec.lines(), policy: { silence: 0, writeStall: 0, drain: "5 seconds" } })
      const found: Array<number> = []
      yield* serve(Server, network.host("server"), {
        open,
        registry,
        handle: (connection) =>
          Effect.gen(function*() {
            yield* Effect.forkDetach(Effect.catch(connection.ending, () =>
              Effect.map(connection.snapshot, ({ quietFor, reason }) => {
                if (reason?._tag === "Swept") found.push(quietFor)
              })))
            yield* connection.receive
            // to somebody who is gone by then: closing has something to flush, and takes the whole drain
            yield* Effect.sleep("1 second")
            yield* connection.send("x".repeat(4000))
            yield* Effect.never
          })
      })
      // for a minute and a half somebody calls each second, one millisecond after it, and is never heard of again
      yield* Effect.sleep("1 millis")
      for (let i = 0; i < 90; i++) {
        const phone = network.host(`phone ${i}`)
        const peer = yield* openRaw(phone.dial(`server:${port}`))
        yield* peer.write("hello\n")
        yield* Effect.sleep("500 millis")
        yield* phone.vanish
        yield* Effect.sleep("500 millis")
      }
      yield* Effect.sleep("10 minutes")
      yield* expect("how many were found", found.length, 90)
      // 90 s, and then up to one interval: silent for 89,999 ms at one sweep, and for 60 s more at the next
      yield* expect("the longest silence", Math.max(...found), 149_999)
      yield* expect("the shortest", Math.min(...found), 90_999)
    }),
  broken: {
    "a sweep waits for every close": {
      file: "src/internal/registry/sweep.ts",
      find: "closed++\n        yield* close(home, entry.connection, \"swept\", new ConnectionError.Swept({}))",
      replace: "closed++\n        yield* entry.connection.closeWith(new ConnectionError.Swept({}))",
      caughtBy: "the longest silence"
    }
  }
})

scenario("F23 the late end of an old connection does not remove the new one from the registry", {
  run: ({ Codec, Connection, Registry, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 23, latency: "20 millis" })
      const registry = yield* Registry.make<string>()
      const ended: Array<string> = []
      yield* serve(Server, network.host("server"), {
        open: Connection.make({ codec: Codec.lines(), policy: { drain: "5 seconds", silence: 0, writeStall: 0 } }),
        registry,
        handshake: (connection) => connection.receive,
        names: (_, name) => ({ key: name }),
        handle: (connection) => Effect.andThen(connection.send("x".repeat(200_000)), Effect.never),
        onEvent: (event) =>
          Effect.map(now, (at) => {
            if (event._tag === "Closed") ended.push(`${event.snapshot.reason?._tag} ${at}`)
          })
      })
      const call = Effect.fnUntraced(function*(host: string) {
        const peer = yield* openRaw(network.host(host).dial(`server:${port}`))
        yield* peer.write("alice\n")
        return peer
      })
      // alice leaves her house: the old connection is dead, and full of what she never got
      yield* call("wifi")
      yield* Effect.sleep("10 seconds")
      yield* network.host("wifi").vanish
      yield* Effect.sleep("10 seconds")
      yield* Effect.forkScoped(sink(yield* call("mobile")))
      yield* Effect.sleep("1 minute")
      // told to end 20 ms after the second hello, it takes the whole drain to do so
      yield* expect("how the old connection ended", ended, ["Superseded 25100"])
      const holder = Option.getOrUndefined(yield* registry.getKey("alice"))
      const remote = holder === undefined ? undefined : (yield* holder.snapshot).remote
      yield* expect("who has the key", remote?.replace(/:\d+$/, ""), "mobile")
      yield* expect("how many are registered", yield* registry.size, 1)
    }),
  broken: {
    "whoever goes takes the key along": {
      file: "src/internal/registry/state.ts",
      find: ") === connection.id",
      replace: ") !== undefined",
      caughtBy: "who has the key"
    }
  }
})
