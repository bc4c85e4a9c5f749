/** What waits for a slow peer has a bound: F11, F12. */
import { Effect } from "effect"
import { TestNetwork } from "../../../src/testing/index.ts"
import { expect, expectBetween, now, openRaw, outcome, port, scenario, serve, serveRaw } from "./kit.ts"

scenario("F11 a slow reader whose pongs are lively", {
  run: ({ Codec, Connection, Heartbeat, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 11, latency: "20 millis", receiveBuffer: 16 * 1024 })
      const open = Connection.make({
        codec: Codec.lines(),
        heartbeat: Heartbeat.text("ping", "pong"),
        policy: {
          pingEvery: "5 seconds",
          pong: "5 seconds",
          outboxBytes: 100_000,
          overflow: "drop-oldest",
          writeStall: "10 seconds"
        }
      })
      // 100,000 bytes a second, for a peer that takes 16 KiB of them
      const line = "x".repeat(9999)
      let most = 0
      let ended: unknown
      yield* serve(Server, network.host("server"), {
        open,
        handle: (connection) =>
          Effect.forever(Effect.gen(function*() {
            yield* connection.send(line)
            most = Math.max(most, (yield* connection.snapshot).outbox.bytes)
            yield* Effect.sleep("100 millis")
          })),
        onEvent: (event) =>
          Effect.map(now, (at) => {
            if (event._tag === "Closed") ended = { at, reason: event.snapshot.reason?._tag }
          })
      })
      const peer = yield* openRaw(network.host("peer").dial(`server:${port}`))
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(peer.write("pong\n"), Effect.sleep("1 second"))))
      const slow = Effect.forever(Effect.andThen(peer.pull, Effect.sleep("1 second")))
      yield* Effect.timeoutOption(slow, "1 minute")
      // it takes something every second: slow, and no reason to end
      yield* expect("a slow reader", ended, undefined)
      yield* expectBetween("the most bytes held", most, 90_000, 100_000)
      // now it reads nothing any more, and its pongs go on
      const since = yield* now
      yield* Effect.sleep("1 minute")
      // 10 s without progress, found up to a quarter of the limit late
      const { at, reason } = ended as { readonly at: number; readonly reason: string } ?? { at: Infinity }
      yield* expect("why a reader that stopped ends", reason, "WriteStalled")
      yield* expectBetween("how long it took", at - since, 9_000, 12_500)
    }),
  broken: {
    "the outbox has no bound": {
      file: "src/internal/connection/core/outbox.ts",
      find: "return o.messages < outboxMessages &&",
      replace: "return true || o.messages < outboxMessages &&",
      caughtBy: "the most bytes held"
    },
    "a pong counts as taking our bytes": {
      file: "src/internal/connection/deadlines.ts",
      find: "taken !== facts.taken",
      replace: "taken !== facts.taken || facts.heardAt > facts.stalledSince",
      caughtBy: "why a reader that stopped ends"
    }
  }
})

scenario("F12 a single message does not bypass the bound in bytes", {
  run: ({ Codec, Connection, Policy }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 12, latency: "20 millis" })
      // nobody reads
      yield* serveRaw(network.host("server"), () => Effect.never)
      const bound = 64 * 1024
      for (const overflow of ["drop-oldest", "fail"] as const) {
        const connection = yield* Connection.make(network.host("client").dial(`server:${port}`), {
          codec: Codec.lengthPrefix(),
          policy: Policy.make(
            { maxFrame: 16 * 1024 * 1024 },
            Policy.make({ outboxBytes: bound, overflow, writeStall: 0, drain: 0 })
          )
        })
        const send = (size: number) =>
          Effect.map(outcome("1 second", connection.send(new Uint8Array(size))), (settled) => settled?.result)
        // eight times 16 KiB for the two kernels, one in the write that waits, one in the outbox
        for (let i = 0; i < 10; i++) yield* Effect.andThen(send(16 * 1024 - 4), Effect.sleep("1 second"))
        // and all but one KiB of what is left
        for (let i = 0; i < 47; i++) yield* send(1020)
        const before = (yield* connection.snapshot).outbox
        yield* expect("the outbox before", before.bytes, bound - 1024)
        yield* expect("a message larger than the outbox", yield* send(8 * 1024 * 1024), "MessageTooLarge")
        yield* expect("the outbox after it", (yield* connection.snapshot).outbox, before)
        if (overflow === "fail") {
          yield* expect("a message larger than what is left", yield* send(60 * 1024), "OutboxFull")
          yield* expect("the outbox after both", (yield* connection.snapshot).outbox, before)
        }
        yield* expect("its connection", (yield* connection.snapshot).state, "open")
      }
    }),
  broken: {
    "room is made for any message": {
      file: "src/internal/connection/core/outbox.ts",
      find: "if (size > outboxBytes) return",
      replace: "if (size === Infinity) return",
      caughtBy: "a message larger than the outbox"
    },
    "a message is taken while there is any room": {
      file: "src/internal/connection/core/outbox.ts",
      find: "o.bytes + size <= outboxBytes",
      replace: "o.bytes < outboxBytes",
      caughtBy: "a message larger than what is left"
    }
  }
})
