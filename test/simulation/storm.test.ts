/** Storms on virtual time; `support/storm.ts` states the model. */
import { assert, describe, it } from "@effect/vitest"
import { once } from "node:events"
import { Worker } from "node:worker_threads"
import { type Options, type Outcome, storm } from "../support/storm.ts"

/** Runs storms, one after the other, in a thread of their own. */
const inThread = async (storms: ReadonlyArray<Options>, outcomes: Map<Options["how"], Outcome>): Promise<void> => {
  const worker = new Worker(new URL("../support/storm.ts", import.meta.url), {
    workerData: { storms },
    // the Node of this test, whatever started it
    execArgv: ["--conditions=holdfast-source"]
  })
  worker.on("message", ([{ how }, outcome]: readonly [Options, Outcome]) => outcomes.set(how, outcome))
  await once(worker, "exit")
}

const row = (name: string, { attempts, back, wasted, worst }: Outcome): string =>
  [
    name.padEnd(24),
    attempts.toFixed(2).padStart(17),
    String(worst).padStart(9),
    `${(back / 1000).toFixed(1)} s`.padStart(11),
    String(wasted).padStart(18)
  ].join("")

describe("a storm: 20,000 clients lose a server that takes 1,000 handshakes a second", () => {
  it("B84 the advised spread brings all back at about one attempt each; jitter alone takes a few", async () => {
    const of = (how: Options["how"]): Options => ({ clients: 20_000, how, seed: "storm" })
    const outcomes = new Map<Options["how"], Outcome>()
    await Promise.all([
      inThread([of("full jitter")], outcomes),
      inThread([of("advised spread"), of("exponential, no jitter"), of("fixed 1 s")], outcomes)
    ])
    const advised = outcomes.get("advised spread")!
    const jittered = outcomes.get("full jitter")!
    const plain = outcomes.get("exponential, no jitter")!
    const fixed = outcomes.get("fixed 1 s")!
    console.log([
      "                        attempts a client  at most   all back wasted handshakes",
      row("advised spread", advised),
      row("full jitter", jittered),
      row("exponential, no jitter", plain),
      row("fixed 1 s", fixed)
    ].join("\n"))
    assert.isAtMost(advised.attempts, 1.1)
    assert.isAtMost(advised.back, 23_000)
    assert.strictEqual(advised.wasted, 0)
    assert.isAtMost(jittered.attempts, 5)
    // what the others cost: the model tells them apart
    for (const other of [jittered, plain, fixed]) {
      assert.isAbove(other.attempts, 2 * advised.attempts)
      assert.isAbove(other.wasted, 0)
    }
  }, 300_000)

  it("the same seed is the same storm, another one is not", () => {
    const small = (seed: string) => storm({ clients: 300, how: "advised spread", seed })
    assert.deepStrictEqual(small("a"), small("a"))
    assert.notDeepEqual(small("a"), small("b"))
  })
})
