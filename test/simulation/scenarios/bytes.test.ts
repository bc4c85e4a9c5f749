/** A stream is bytes, not messages, and has one writer: F20, F22. */
import { Effect } from "effect"
import { TestNetwork } from "../../../src/testing/index.ts"
import { expect, port, scenario, serve } from "./kit.ts"

scenario("F20 two writers do not interleave on one socket", {
  run: ({ Codec, Connection, Heartbeat, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 20, latency: "20 millis" })
      const codec = Codec.lengthPrefix()
      const heartbeat = Heartbeat.make<Uint8Array, Uint8Array>({
        ping: () => new Uint8Array([1]),
        read: (frame) =>
          frame.length !== 1
            ? undefined
            : frame[0] === 1
            ? { _tag: "Ping", answer: new Uint8Array([2]) }
            : { _tag: "Pong", token: undefined }
      })
      const received: Array<string> = []
      // pings all the time, so that the other end has pongs to write between two large frames, or inside one
      const open = Connection.make({ codec, heartbeat, policy: { pingEvery: "50 millis", pingWhen: "always" } })
      yield* serve(Server, network.host("server"), {
        open,
        handle: (connection) =>
          Effect.forever(Effect.map(connection.receive, (frame) => {
            received.push(`${frame.length} times ${[...new Set(frame)].join(" and ")}`)
          }))
      })
      // a socket that nobody described, as Effect's own are: large frames are written in slices
      const socket = Connection.describe(network.host("client").dial(`server:${port}`), { messages: false })
      const connection = yield* Connection.make(socket, { codec, heartbeat, policy: { pingEvery: 0 } })
      const writer = (value: number) =>
        Effect.forEach([1, 2, 3], () => connection.send(new Uint8Array(300_000).fill(value)), { discard: true })
      yield* Effect.ignore(Effect.all([writer(7), writer(8)], { concurrency: "unbounded" }))
      yield* Effect.sleep("5 seconds")
      yield* expect("what was received", received.toSorted(), [
        "300000 times 7",
        "300000 times 7",
        "300000 times 7",
        "300000 times 8",
        "300000 times 8",
        "300000 times 8"
      ])
    }),
  broken: {
    "a pong does not wait for the end of a frame": {
      file: "src/internal/connection/writer.ts",
      find: "if (o.rest !== undefined) return",
      replace: "if (o.rest !== undefined && o.control.length === 0) return",
      caughtBy: "what was received"
    }
  }
})

scenario("F22 one read is not one message", {
  run: ({ Codec, Connection, Server }) =>
    Effect.gen(function*() {
      // packets that catch up with each other, and reads that begin and end anywhere
      const network = yield* TestNetwork.make({ seed: 22, latency: { uniform: [1, 50] } })
      const lines = Array.from({ length: 500 }, (_, i) => `${i} `.repeat(1 + (i * 7) % 50))
      const open = Connection.make({ codec: Codec.lines() })
      yield* serve(Server, network.host("server"), {
        open,
        handle: (connection) =>
          Effect.andThen(
            Effect.forEach(lines, (line, i) => Effect.andThen(connection.send(line), Effect.sleep(i % 4)), {
              discard: true
            }),
            Effect.never
          )
      })
      const connection = yield* open(network.host("client").dial(`server:${port}`))
      const received: Array<string> = []
      yield* Effect.forkScoped(
        Effect.ignore(Effect.forever(Effect.map(connection.receive, (line) => received.push(line))))
      )
      yield* Effect.sleep("5 seconds")
      yield* expect("how many messages were received", received.length, lines.length)
      yield* expect("what was received", received, lines)
    }),
  broken: {
    "what follows the first message of a read is dropped": {
      file: "src/internal/codec/framings/lines.ts",
      find: "text.split(\"\\n\")",
      replace: "text.split(\"\\n\", 1)",
      caughtBy: "how many messages were received"
    },
    "the end of a read ends a message": {
      file: "src/internal/codec/framings/lines.ts",
      find: "return error ?? oneByOne(chunk, last, chunk.length, texts, skipped)",
      replace: "if (last < chunk.length) texts.push(textOf(chunk.subarray(last)) ?? \"\")\n      return error",
      caughtBy: "how many messages were received"
    }
  }
})
