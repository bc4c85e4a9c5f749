/** A server that everybody comes back to at once, and one that cannot accept: F16, F24. */
import { Effect, Random } from "effect"
import { TestNetwork } from "../../../src/testing/index.ts"
import { expect, expectBetween, now, outcome, port, scenario, serve } from "./kit.ts"

/** The most of these times that lie within `width` milliseconds. */
const busiest = (times: ReadonlyArray<number>, width: number): number =>
  times.reduce((most, from) => Math.max(most, times.filter((at) => at >= from && at < from + width).length), 0)

scenario("F16 an accept storm after a deploy", {
  run: ({ Client, Codec, Connection, Registry, Server }) =>
    Effect.gen(function*() {
      const clients = 100
      const network = yield* TestNetwork.make({ seed: 16, latency: "20 millis" })
      const registry = yield* Registry.make<string>()
      const chat = Connection.make({ codec: Codec.lines(), policy: { silence: 0 } })
      const opened: Array<number> = []
      yield* serve(Server, network.host("server"), {
        open: chat,
        registry,
        policy: { acceptRate: 20 },
        handle: () => Effect.never,
        onEvent: (event) =>
          Effect.map(now, (at) => {
            if (event._tag === "Opened") opened.push(at)
          })
      })
      const dials: Array<number> = []
      const dial = Effect.gen(function*() {
        dials.push(yield* now)
        return yield* chat(network.host("clients").dial(`server:${port}`))
      })
      for (let i = 0; i < clients; i++) yield* Client.make(dial)
      yield* Effect.sleep("1 minute")
      yield* expect("how many came", yield* registry.size, clients)

      // the old process goes with all of its connections, and the new one listens 2 s later
      const deploy = yield* now
      dials.length = 0
      opened.length = 0
      yield* network.host("server").reset
      yield* Effect.scoped(Effect.andThen(network.host("server").refuse(port), Effect.sleep("2 seconds")))
      yield* Effect.sleep("1 minute")
      yield* expect("how many came back", yield* registry.size, clients)
      // spread over 200 ms from the first try on: 5 in 10 ms, were they even
      yield* expectBetween("the most dials in 10 ms", busiest(dials, 10), 1, 15)
      // a second's worth at once, and a second's worth in that second
      yield* expectBetween("the most that a server took in a second", busiest(opened, 1000), 1, 40)
      // 2 s of deploy, and 20 at once and 80 at 20 a second; after at most 3.2 s until the next try
      yield* expectBetween("when the last one was back", Math.max(...opened) - deploy, 6_000, 9_200)
    }).pipe(Random.withSeed("F16")),
  broken: {
    "the first delay is not spread": {
      file: "src/Backoff.ts",
      find: "return next * r",
      replace: "return next",
      caughtBy: "the most dials in 10 ms"
    },
    "the accept rate is not kept": {
      file: "src/internal/server/admission.ts",
      find: "if (this.acceptEvery === 0)",
      replace: "if (this.acceptEvery >= 0)",
      caughtBy: "the most that a server took in a second"
    }
  }
})

scenario("F24 an accept error is followed by a pause", {
  run: ({ Codec, Connection, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 24, latency: "20 millis" })
      const open = Connection.make({ codec: Codec.lines(), policy: { silence: 0 } })
      const failures: Array<number> = []
      yield* serve(Server, network.host("server"), {
        open,
        handle: (connection) => Effect.andThen(connection.send("welcome"), Effect.never),
        onEvent: (event) =>
          Effect.map(now, (at) => {
            if (event._tag === "AcceptFailed") failures.push(at)
          })
      })
      const dial = Effect.suspend(() => open(network.host("client").dial(`server:${port}`)))
      const first = yield* dial
      yield* first.receive
      yield* Effect.sleep("9920 millis")
      // as many descriptors as there may be are open, and somebody comes: 12 times in vain
      const error = Object.assign(new Error("too many open files"), { code: "EMFILE" })
      yield* network.inject({ operation: "accept", host: "server", error, times: 12 })
      const second = yield* dial
      const welcome = yield* outcome("1 minute", second.receive)
      // after 5, 10, 20, 40, 80, 160, 320, 640 ms and then every second
      const times = [10_060, 10_065, 10_075, 10_095, 10_135, 10_215, 10_375, 10_695, 11_335, 12_335, 13_335, 14_335]
      yield* expect("when accepting failed", failures, times)
      // accepted a second later, and greeted
      yield* expect("when somebody waiting was served", welcome, { at: 15_355, result: "welcome" })
      yield* expect("those who were there", (yield* first.snapshot).state, "open")
    }),
  broken: {
    "it is tried again at once": {
      file: "src/internal/server/accepting.ts",
      find: "Effect.sleep(delay)",
      replace: "Effect.yieldNow",
      caughtBy: "when accepting failed"
    }
  }
})
