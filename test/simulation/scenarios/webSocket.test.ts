/** WebSockets over bytes that are late, cut and lost: what a connection does with the frames of the protocol. */
import { Effect, Stream } from "effect"
import { frameOf } from "../../../src/internal/webSocket/encoding.ts"
import { Opcode } from "../../../src/internal/webSocket/frames.ts"
import { TestNetwork } from "../../../src/testing/index.ts"
import { end, expect, now, openRaw, outcome, port, scenario, serve, serveRaw, sink } from "./kit.ts"

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

const maskKey = () => 0x01020304

const webSocket = { webSocket: true } as const

const file = "src/internal/connection/webSocket.ts"

const quiet = { pingJitter: 0, pingEvery: 0, silence: 0 } as const

scenario("pings of the protocol keep a connection alive that says nothing", {
  run: ({ Codec, Connection, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: { uniform: [5, 50] } })
      const codec = Codec.lines()
      const open = Connection.make({ codec, policy: quiet })
      yield* serve(Server, network.host("server"), { open, handle: () => Effect.never }, webSocket)
      const connection = yield* Connection.make(network.host("client").dial(`server:${port}`, webSocket), {
        codec,
        policy: { ...quiet, pingEvery: "10 seconds", pong: "3 seconds" }
      })
      yield* expect("the peer that answers", yield* end(connection, "1 hour"), undefined)
      yield* expect("the round trip is measured", (yield* connection.snapshot).rtt !== undefined, true)
      yield* network.host("server").vanish
      const pinged = Math.ceil((yield* now) / 10_000) * 10_000
      const ended = yield* end(connection, "1 hour")
      yield* expect("the peer that is gone", ended?.result, "PongTimeout")
      yield* expect("within a ping and its pong", ended!.at <= pinged + 13_000, true)
    }),
  broken: {
    "pings are not answered": {
      file,
      find: "if (Context.get(c.context, AnswersPings)) answer(c.outbox, control)",
      replace: "if (at < 0) answer(c.outbox, control)",
      caughtBy: "the peer that answers"
    },
    "pongs are those of other pings": {
      file,
      find: "getUint32(0) : 0",
      replace: "getUint32(0) + 1 : 0",
      caughtBy: "the peer that answers"
    }
  }
})

scenario("a peer that pings, and says nothing else, is alive", {
  run: ({ Codec, Connection }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 2, latency: { uniform: [5, 50] } })
      yield* serveRaw(network.host("server"), (peer) =>
        Effect.all([
          sink(peer),
          Effect.forever(
            Effect.andThen(Effect.sleep("2 seconds"), peer.write(frameOf(Opcode.ping, utf8("?"), undefined)))
          )
        ], { concurrency: 2 }))
      const connection = yield* Connection.make(network.host("client").dial(`server:${port}`, webSocket), {
        codec: Codec.lines(),
        // its own pings are never answered
        policy: { ...quiet, pingEvery: "10 seconds", pingWhen: "always", pong: "3 seconds" }
      })
      yield* expect("the peer that pings", yield* end(connection, "1 hour"), undefined)
    }),
  broken: {
    "pings prove nothing": {
      file,
      find: `case "Ping":
        facts.provenAt = at`,
      replace: `case "Ping":`,
      caughtBy: "the peer that pings"
    }
  }
})

scenario("what was asked before a close frame is answered before ours", {
  run: ({ Codec, Connection, Server }) =>
    Effect.gen(function*() {
      // every few bytes in a segment of their own, and some of them late
      const network = yield* TestNetwork.make({ seed: 3, latency: { uniform: [5, 500] }, bandwidth: 20_000 })
      const open = Connection.make({ codec: Codec.lines(), policy: { ...quiet, halfClose: "10 seconds" } })
      yield* serve(Server, network.host("server"), {
        open,
        handle: (connection) =>
          Stream.runForEach(Connection.messages(connection), (message) =>
            Effect.andThen(Effect.sleep("10 millis"), connection.send(message)))
      }, webSocket)
      const peer = yield* openRaw(network.host("client").dial(`server:${port}`))
      const questions = Array.from({ length: 100 }, (_, n) =>
        frameOf(Opcode.text, utf8(`${n}`), maskKey))
      yield* peer.write(Buffer.concat([...questions, frameOf(Opcode.close, Uint8Array.of(3, 232), maskKey)]))
      const expected = Buffer.concat([
        ...Array.from({ length: 100 }, (_, n) => frameOf(Opcode.text, utf8(`${n}`), undefined)),
        frameOf(Opcode.close, Uint8Array.of(3, 232), undefined)
      ])
      const seen: Array<Uint8Array> = []
      const reading = Effect.forever(
        Effect.map(peer.pull, (chunks) => void seen.push(...chunks as ReadonlyArray<Uint8Array>))
      )
      yield* expect("the end of the stream", (yield* outcome("1 minute", reading))?.result !== undefined, true)
      yield* expect("answers, and the close frame", Buffer.concat(seen).toString("hex"), expected.toString("hex"))
    }),
  broken: {
    "a close frame is answered at once": {
      file,
      find: `inbox.messages === 0 && !inbox.hasMore &&
  (messagesIn === 0 || (way.isClient === true && facts.messageAt <= facts.sentAt))`,
      replace: "inbox.messages + messagesIn + facts.sentAt >= 0 || way.isClient === true",
      caughtBy: "answers, and the close frame"
    },
    "a close frame is not answered": {
      file,
      find: "if (closeFrame !== undefined) return way.control!(Opcode.close, writeClose(closeFrame.code))",
      replace: "if (closeFrame !== undefined) return undefined",
      caughtBy: "answers, and the close frame"
    }
  }
})

scenario("a message that comes too slowly ends the connection, whatever comes between its fragments", {
  run: ({ Codec, Connection, Server }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 4, latency: 20 })
      const ended: Array<string> = []
      const open = Connection.make({ codec: Codec.lines(), policy: { ...quiet, frame: "1 second" } })
      yield* serve(Server, network.host("server"), {
        open,
        handle: () => Effect.never,
        onEvent: (event) =>
          Effect.map(now, (at) => {
            if (event._tag === "Closed") ended.push(`${event.snapshot.reason?._tag} ${at}`)
          })
      }, webSocket)
      const peer = yield* openRaw(network.host("client").dial(`server:${port}`))
      const began = yield* now
      for (let n = 0; n < 15; n++) {
        const fragment = frameOf(n === 0 ? Opcode.text : Opcode.continuation, utf8("x"), maskKey)
        fragment[0]! &= 0x7f
        yield* Effect.ignore(peer.write(Buffer.concat([fragment, frameOf(Opcode.ping, utf8("?"), maskKey)])))
        yield* Effect.sleep(100)
      }
      yield* expect("the slow message", ended.join(), `FrameTimeout ${began + 20 + 1000}`)
    }),
  broken: {
    "a control frame gives the message its time anew": {
      file: "src/internal/webSocket/reader.ts",
      find: "if (this.kind === 0) this.completed++\n    const opcode",
      replace: "this.completed++\n    const opcode",
      caughtBy: "the slow message"
    }
  }
})
