/** A peer that died is noticed in time, whatever we do ourselves meanwhile, and a living one hears us: F1, F2, F17, F19. */
import { Effect } from "effect"
import { TestNetwork } from "../../../src/testing/index.ts"
import { end, expect, port, scenario, serve, serveRaw, sink } from "./kit.ts"

scenario("F1 a keep-alive timer that writes reset does not hide a dead peer", {
  run: ({ Codec, Connection }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: "20 millis" })
      // a price feed: a line every 10 s. Its reader sends something every 5 s, and then the link breaks
      yield* serveRaw(network.host("server"), (peer) =>
        Effect.all([
          sink(peer),
          Effect.forever(Effect.andThen(peer.write("tick\n"), Effect.sleep("10 seconds")))
        ], { concurrency: "unbounded" }))
      const connection = yield* Connection.make(network.host("client").dial(`server:${port}`), {
        codec: Codec.lines(),
        policy: { silence: "60 seconds" }
      })
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(connection.send("got it"), Effect.sleep("5 seconds"))))
      yield* Effect.sleep("95 seconds")
      yield* network.link("client", "server").partition
      // accepted at 60 ms, so the last tick left at 90,060 and came 20 ms later. Our writes go on succeeding
      yield* expect("the dead peer is noticed", yield* end(connection, "1 hour"), {
        at: 150_080,
        result: "SilenceTimeout"
      })
    }),
  broken: {
    "a write counts as a sign of life": {
      file: "src/internal/connection/core/state.ts",
      find: "    facts.sentAt = at\n",
      replace: "    facts.sentAt = at\n    facts.heardAt = at\n",
      caughtBy: "the dead peer is noticed"
    }
  }
})

scenario("F2 a timeout longer than the tick is not re-armed by every tick", {
  run: ({ Codec, Connection, Heartbeat, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 2, latency: "20 millis" })
      const heartbeat = Heartbeat.text("ping", "pong")
      const quiet = { pingEvery: 0, silence: 0 }
      const open = Connection.make({ codec: Codec.lines(), heartbeat, policy: quiet })
      yield* serve(Server, network.host("server"), { open, handle: () => Effect.never })
      const connection = yield* Connection.make(network.host("client").dial(`server:${port}`), {
        codec: Codec.lines(),
        heartbeat,
        policy: { ...quiet, pingEvery: "10 seconds", pingJitter: 0, pong: "35 seconds" }
      })
      // pings leave at 40 ms past every tenth second; the one of 100,040 is answered
      yield* Effect.sleep("105 seconds")
      yield* network.host("server").vanish
      yield* expect("the dead peer is noticed", yield* end(connection, "1 hour"), {
        at: 110_040 + 35_000,
        result: "PongTimeout"
      })
    }),
  broken: {
    "the newest ping is waited for, not the oldest": {
      file: "src/internal/connection/core/unansweredPings.ts",
      find: "if (this.oldestAt === undefined) this.oldestAt = now",
      replace: "if (this.oldestAt !== now) this.oldestAt = now",
      caughtBy: "the dead peer is noticed"
    }
  }
})

scenario("F17 traffic from the server alone does not suppress the pings of a client", {
  run: ({ Codec, Connection, Heartbeat, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 17, latency: "20 millis" })
      const heartbeat = Heartbeat.text("ping", "pong")
      // a server that sends a quote every second, and drops those it has not heard for a minute
      const open = Connection.make({ codec: Codec.lines(), heartbeat, policy: { pingEvery: 0, silence: "60 seconds" } })
      yield* serve(Server, network.host("server"), {
        open,
        handle: (connection) => Effect.forever(Effect.andThen(connection.send("quote"), Effect.sleep("1 second")))
      })
      const connection = yield* Connection.make(network.host("client").dial(`server:${port}`), {
        codec: Codec.lines(),
        heartbeat
      })
      yield* Effect.forkScoped(Effect.ignore(Effect.forever(connection.receiveAll)))
      yield* expect("a client that only listens", yield* end(connection, "10 minutes"), undefined)
    }),
  broken: {
    "inbound traffic counts as ours": {
      file: "src/internal/connection/heartbeat.ts",
      find: "Math.min(facts.heardAt, facts.sentAt)",
      replace: "facts.heardAt",
      caughtBy: "a client that only listens"
    }
  }
})

scenario("F19 a ping that was sent is no sign of life", {
  run: ({ Codec, Connection, Heartbeat }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 19, latency: "20 millis" })
      // a router that forgets a quiet connection after 5 minutes and tells nobody; our first ping comes too late for it
      yield* network.link("client", "server").nat({ timeout: "5 minutes" })
      yield* serveRaw(network.host("server"), (peer) => Effect.andThen(peer.write("welcome\n"), sink(peer)))
      const connection = yield* Connection.make(network.host("client").dial(`server:${port}`), {
        codec: Codec.lines(),
        heartbeat: Heartbeat.text("ping", "pong"),
        policy: { pingEvery: "6 minutes", pingJitter: 0, silence: "10 minutes" }
      })
      yield* expect("the dead link is noticed", yield* end(connection, "1 hour"), {
        at: 80 + 600_000,
        result: "SilenceTimeout"
      })
    }),
  broken: {
    "liveness is refreshed when a ping is sent": {
      file: "src/internal/connection/core/facts.ts",
      find: "  facts.backAt = at\n",
      replace: "  facts.backAt = at\n  facts.heardAt = at\n",
      caughtBy: "the dead link is noticed"
    }
  }
})
