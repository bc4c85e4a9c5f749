/** One death is one reconnect, paced, and nothing of the old connection touches the new one: F6, F7, F8, F9. */
import { Effect, Exit, Scope } from "effect"
import { TestNetwork } from "../../../src/testing/index.ts"
import { expect, now, type Peer, port, scenario, serve, serveRaw, sink, statesOf } from "./kit.ts"

scenario("F6 a heartbeat of the previous connection leaves the next one alone", {
  run: ({ Client, Codec, Connection, Heartbeat, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 6, latency: "20 millis" })
      const heartbeat = Heartbeat.text("ping", "pong")
      const quiet = { pingEvery: 0, silence: 0 }
      const open = Connection.make({ codec: Codec.lines(), heartbeat, policy: quiet })
      yield* serve(Server, network.host("server"), { open, handle: () => Effect.never })
      const chat = Connection.make({
        codec: Codec.lines(),
        heartbeat,
        policy: { ...quiet, pingEvery: "25 seconds", pingJitter: 0, pong: "5 seconds" }
      })
      const dial = Effect.suspend(() => chat(network.host("client").dial(`server:${port}`)))
      const states = yield* statesOf(yield* Client.make(dial, { policy: { retryJitter: "none" } }))
      // the ping of 75,040 is not answered, and is still outstanding when the next connection opens
      yield* Effect.sleep("60 seconds")
      yield* network.host("client").vanish
      yield* Effect.sleep("15 minutes")
      yield* expect("the states of the client", states, [
        "Connecting 0",
        "Connected 40",
        "Waiting PongTimeout 80040",
        "Connecting 80240",
        "Connected 80280"
      ])
    }),
  broken: {
    "the connections of a client share their pings": {
      file: "src/internal/connection/core/state.ts",
      find: "new Pings(opened)",
      replace: "((shared as { sent?: Pings }).sent ??= new Pings(opened))",
      caughtBy: "the states of the client"
    }
  }
})

scenario("F7 a late close of the old socket starts no second reconnect", {
  run: ({ Client, Codec, Connection, Heartbeat }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 7, latency: "20 millis" })
      const chat = Connection.make({
        codec: Codec.lines(),
        heartbeat: Heartbeat.text("ping", "pong"),
        policy: { pingEvery: "25 seconds", pingJitter: 0, pong: "5 seconds", silence: 0 }
      })
      // two servers that answer every ping. The first one ends its connection at 40 s, when its link is jammed
      const answering = (peer: Peer) => Effect.forever(Effect.andThen(peer.pull, peer.write("pong\n")))
      yield* serveRaw(network.host("b"), answering)
      yield* serveRaw(network.host("a"), (peer) =>
        Effect.raceFirst(answering(peer), Effect.andThen(Effect.sleep("40 seconds"), peer.finish)).pipe(
          Effect.andThen(sink(peer))
        ))
      const dials: Array<string> = []
      const dial = (host: string) =>
        Effect.gen(function*() {
          dials.push(`${host} ${yield* now}`)
          return yield* chat(network.host("client").dial(`${host}:${port}`))
        })
      const client = yield* Client.make([dial("a"), dial("b")], { policy: { retryJitter: "none" } })
      const states = yield* statesOf(client)
      yield* Effect.sleep("30 seconds")
      const jam = yield* Scope.make()
      yield* Scope.provide(network.link("client", "a").clog, jam)
      // the ping of 50,040 is missed at 55,040; the end of a's side arrives when b has been in use for a minute
      yield* Effect.sleep("90 seconds")
      yield* Scope.close(jam, Exit.void)
      yield* Effect.sleep("10 minutes")
      yield* expect("the dials", dials, ["a 0", "b 55240"])
      yield* expect("the states of the client", states, [
        "Connecting 0",
        "Connected 40",
        "Waiting PongTimeout 55040",
        "Connecting 55240",
        "Connected 55280"
      ])
    }),
  broken: {
    "every close of a socket starts a reconnect of its own": {
      file: "src/internal/client/session.ts",
      find: "yield* restarted(\"the leaving of a client\", hangUp(cells, connection, options.policy.drain))",
      replace: `yield* restarted("the leaving of a client", hangUp(cells, connection, options.policy.drain))
        yield* Effect.forkDetach(Effect.catch(connection.closed, () => session(cells, dial, options, now)))`,
      caughtBy: "the dials"
    }
  }
})

scenario("F8 a server that accepts and hangs up does not reset the backoff", {
  run: ({ Client, Codec, Connection }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 8, latency: "20 millis" })
      // a proxy whose backend is gone
      yield* serveRaw(network.host("server"), () => Effect.void)
      const chat = Connection.make({ codec: Codec.lines() })
      const dials: Array<number> = []
      const dial = Effect.gen(function*() {
        dials.push(yield* now)
        return yield* chat(network.host("client").dial(`server:${port}`))
      })
      yield* Client.make(dial, { policy: { retryJitter: "none" } })
      yield* Effect.sleep("2 minutes")
      // each of them lives for 80 ms: to the server and back, twice
      const expected: Array<number> = []
      for (let at = 0, delay = 200; at < 120_000; at += 80 + delay, delay = Math.min(30_000, 2 * delay)) {
        expected.push(at)
      }
      yield* expect("the dials", dials, expected)
    }),
  broken: {
    "the backoff starts over when a connection opens": {
      file: "src/Backoff.ts",
      find: "now - resumedAt >= resetAfter && ",
      replace: "",
      caughtBy: "the dials"
    }
  }
})

scenario("F9 a server that accepts and never answers does not hang the client", {
  run: ({ Client, Codec, Connection }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 9, latency: "20 millis" })
      const chat = Connection.make({ codec: Codec.lines(), policy: { open: "10 seconds" } })
      const connectTo = (host: string) =>
        Client.make(Effect.suspend(() => chat(network.host("client").dial(`${host}:${port}`))), {
          policy: { handshake: "10 seconds", retryJitter: "none" },
          onConnect: (connection) => connection.receive
        })
      for (const host of ["hung", "gone"]) {
        yield* serveRaw(network.host(host), (peer) => Effect.andThen(peer.write("welcome\n"), sink(peer)))
      }
      // the kernel of one answers for a process that is stopped; packets to the other one are lost
      yield* network.host("hung").stall("30 seconds")
      const outage = yield* Scope.make()
      yield* Scope.provide(network.host("gone").link.partition, outage)
      const hung = yield* statesOf(yield* connectTo("hung"))
      const gone = yield* statesOf(yield* connectTo("gone"))
      yield* Effect.sleep("15 seconds")
      yield* Scope.close(outage, Exit.void)
      yield* Effect.sleep("45 seconds")
      yield* expect("the states of the client of a stopped process", hung, [
        "Connecting 0",
        "Waiting HandshakeTimeout 10040",
        "Connecting 10240",
        "Waiting HandshakeTimeout 20280",
        "Connecting 20680",
        // it goes on at 30,000, and takes the connection that waits
        "Connected 30020"
      ])
      yield* expect("the states of the client of an unreachable host", gone, [
        "Connecting 0",
        "Waiting OpenTimeout 10000",
        "Connecting 10200",
        // tried again after 1, 2 and 4 s, and greeted after two round trips
        "Connected 17280"
      ])
    }),
  broken: {
    "the handshake has no deadline": {
      file: "src/internal/client/session.ts",
      find: "withinHandshake(limitOf(policy, \"handshake\"))",
      replace: "withinHandshake(Infinity)",
      caughtBy: "the states of the client of a stopped process"
    },
    "opening has no deadline": {
      // of the client and of the connection
      file: "src/internal/endings/timeLimit.ts",
      find: "limit === Infinity ?",
      replace: "limit === Infinity || Reason.name.includes(\"OpenTimeout\") ?",
      caughtBy: "the states of the client of an unreachable host"
    }
  }
})
