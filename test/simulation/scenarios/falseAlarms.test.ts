/** A living peer is not taken for a dead one, and leaving a dead one takes no longer than allowed: F3, F4, F5. */
import { Effect } from "effect"
import { TestNetwork } from "../../../src/testing/index.ts"
import { end, expect, now, outcome, port, scenario, serve, serveRaw } from "./kit.ts"

scenario("F3 a pong that waits in our buffer while we stall is not missed", {
  run: ({ Codec, Connection, Heartbeat, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 3, latency: "20 millis" })
      const heartbeat = Heartbeat.text("ping", "pong")
      const quiet = { pingEvery: 0, silence: 0 }
      const open = Connection.make({ codec: Codec.lines(), heartbeat, policy: quiet })
      yield* serve(Server, network.host("server"), { open, handle: () => Effect.never })
      const client = network.host("client")
      const connection = yield* client.run(Connection.make(client.dial(`server:${port}`), {
        codec: Codec.lines(),
        heartbeat,
        policy: { ...quiet, pingEvery: "10 seconds", pingJitter: 0, pong: "3 seconds" }
      }))
      // the ping of 10,040 has left; its pong comes at 10,080, and a garbage collector holds us until 15,050
      yield* Effect.sleep("10010 millis")
      yield* client.stall("5 seconds")
      yield* expect("the peer that answered in time", yield* end(connection, "1 minute"), undefined)
      // then it dies indeed, before the pong of 70,040 can come
      yield* network.host("server").vanish
      yield* expect("the peer that died later", yield* end(connection, "1 hour"), {
        at: 70_040 + 3000,
        result: "PongTimeout"
      })
    }),
  broken: {
    "a late timer is believed at once": {
      file: "src/internal/connection/deadlines.ts",
      find: "if (late > rule.patience!(c) / 2)",
      replace: "return rule.broken(c)\n      if (late > rule.patience!(c) / 2)",
      caughtBy: "the peer that answered in time"
    }
  }
})

scenario("F4 closing over a dead link ends", {
  run: ({ Codec, Connection }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 4, latency: "20 millis" })
      const client = network.host("client")
      // a byte stream whose end nobody acknowledges, and a WebSocket whose close frame nobody answers
      for (const [server, messages] of [["server", false], ["gateway", true]] as const) {
        yield* serveRaw(network.host(server), () => Effect.never, { messages })
        const connection = yield* Connection.make(client.dial(`${server}:${port}`, { messages }), {
          codec: Codec.lines(),
          policy: { drain: "5 seconds", writeStall: "1 minute" }
        })
        yield* network.link("client", server).partition
        // more than the 64 KiB that our kernel takes
        yield* connection.sendAll(Array.from({ length: 200 }, () => "x".repeat(1000)))
        yield* Effect.sleep("2 seconds")
        const closing = yield* now
        yield* expect("close ends with the drain", yield* outcome("1 hour", connection.close), {
          at: closing + 5000,
          result: undefined
        })
      }
    }),
  broken: {
    "close waits for the peer": {
      file: "src/internal/connection/core/lifecycle.ts",
      find: "const limit = c.timers.now() + c.inForce.limits.drain",
      replace: "const limit = Infinity",
      caughtBy: "close ends with the drain"
    }
  }
})

scenario("F5 a huge frame that comes slowly is no silence", {
  run: ({ Codec, Connection, Server }) =>
    Effect.gen(function*() {
      // 300,000 bytes at 3,000 a second: 100 s for a frame, where 30 s of silence are death
      const network = yield* TestNetwork.make({ seed: 5, latency: "20 millis", bandwidth: 3000 })
      const open = Connection.make({ codec: Codec.lengthPrefix(), policy: { silence: 0 } })
      yield* serve(Server, network.host("server"), {
        open,
        handle: (connection) => Effect.andThen(connection.send(new Uint8Array(300_000)), Effect.never)
      })
      const connection = yield* Connection.make(network.host("client").dial(`server:${port}`), {
        codec: Codec.lengthPrefix(),
        policy: { silence: "30 seconds", frame: "5 minutes" }
      })
      const received = Effect.map(connection.receive, (frame) => frame.length)
      // accepted at 60 ms, 100,001.3 ms on the link with its length, and 20 ms for the last byte
      yield* expect("the huge frame", yield* outcome("10 minutes", received), { at: 100_082, result: 300_000 })
    }),
  broken: {
    "only whole messages are signs of life": {
      file: "src/internal/connection/reader.ts",
      find: "facts, timers }: Conversation<In, Out>): number => facts.heardAt = timers.now()",
      replace:
        "facts, pending, timers }: Conversation<In, Out>) => pending > 0 ? timers.now() : facts.heardAt = timers.now()",
      caughtBy: "the huge frame"
    }
  }
})
