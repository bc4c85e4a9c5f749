/** This process is the one that stalls; its peers are in another, and go on. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Codec, Heartbeat } from "../../src/index.ts"
import { Listener } from "../../src/node/index.ts"
import { nodeProgram, portOf, said, serve, until } from "./support/kit.ts"

const silence = 400

/** Stands in for garbage collection, a long computation, or a machine that has stopped. */
const block = (millis: number): Effect.Effect<void> =>
  Effect.sync(() => {
    const end = performance.now() + millis
    while (performance.now() < end);
  })

const talking = (clients: number) =>
  Effect.gen(function*() {
    const listener = yield* Listener.make("tcp://127.0.0.1:0")
    const served = yield* serve(listener, {
      codec: Codec.lines(),
      heartbeat: Heartbeat.text("ping", "pong"),
      policy: { silence, pingEvery: "100 millis", drain: "100 millis" }
    })
    const talker = yield* nodeProgram("talker.ts", String(portOf(listener)), String(clients), "50")
    yield* said(talker, "connected")
    yield* until("all are served", () => served.connections.length === clients)
    return { served, talker }
  })

describe("a stalled event loop", () => {
  for (const clients of [1, 50]) {
    // a long stall makes the deadline come late; one that is hardly over the limit makes it come before pending input
    for (const stall of clients === 1 ? [1200] : [1200, silence + 150]) {
      for (const mood of clients === 1 ? ["loud"] : ["loud", "polite"]) {
        it.live(
          `B35/F3 condemns none of ${clients} ${mood} peers after stalls of ${stall} ms`,
          () =>
            Effect.gen(function*() {
              const { served, talker } = yield* talking(clients)
              talker.say(mood)
              for (let round = 0; round < 2; round++) {
                const before = yield* Effect.forEach(served.connections, ({ snapshot }) => snapshot)
                yield* block(stall)
                // more than a limit later every verdict that the stall may have caused has been spoken
                yield* Effect.sleep(silence * 1.5)
                assert.deepStrictEqual(served.events.filter(({ _tag }) => _tag !== "Opened"), [])
                const after = yield* Effect.forEach(served.connections, ({ snapshot }) => snapshot)
                for (const [i, { bytesIn, messagesIn, state }] of after.entries()) {
                  assert.strictEqual(state, "open")
                  if (mood === "loud") {
                    assert.ok(messagesIn >= before[i].messagesIn + stall / 50 / 2, "it spoke meanwhile")
                  } else assert.ok(bytesIn > before[i].bytesIn, "it answered")
                }
              }
              assert.strictEqual(yield* served.registry.size, clients)
              talker.say("report")
              assert.strictEqual(yield* said(talker, "report"), `${clients} 0`)
            }),
          40_000
        )
      }
    }

    it.live(`B35 finds ${clients} peers that fell silent before the stall dead soon after it`, () =>
      Effect.gen(function*() {
        const { served, talker } = yield* talking(clients)
        const at = talker.lines.length
        talker.say("mute")
        talker.say("report")
        yield* said(talker, "report", at)
        yield* block(1200)
        const backAt = performance.now()
        yield* until("all are gone", () => served.events.filter(({ _tag }) => _tag === "Closed").length === clients)
        const took = performance.now() - backAt
        for (const event of served.events) {
          if (event._tag !== "Closed") continue
          assert.deepStrictEqual({ ...event.snapshot.reason }, { _tag: "SilenceTimeout", limit: silence } as never)
        }
        console.log(`${clients} dead peers found ${took.toFixed(0)} ms after the stall; the limit is ${silence} ms`)
        // a peer gets half its limit again, and one ping to answer; the rest is for a busy machine
        assert.ok(took <= silence * 1.25 + 2000, `found after ${took} ms`)
        assert.strictEqual(yield* served.registry.size, 0)
      }))
  }
})
