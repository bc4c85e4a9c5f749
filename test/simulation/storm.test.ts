/** Storms on virtual time; `support/storm.ts` states the model. */
import { assert, describe, it } from "@effect/vitest"
import { once } from "node:events"
import { Worker } from "node:worker_threads"
import { long, often } from "../support/often.ts"
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

/** So many clients lose a server that needs 20 s for the handshakes of all: what comes of it with each schedule. */
const storms = async (clients: number) => {
  const of = (how: Options["how"]): Options => ({ clients, how, perSecond: clients / 20, seed: "storm" })
  const outcomes = new Map<Options["how"], Outcome>()
  await Promise.all([
    inThread([of("full jitter")], outcomes),
    inThread([of("advised spread"), of("exponential, no jitter"), of("fixed 1 s")], outcomes)
  ])
  console.log([
    "                        attempts a client  at most   all back wasted handshakes",
    ...Array.from(outcomes, ([how, outcome]) => row(how, outcome))
  ].join("\n"))
  const others = ["full jitter", "exponential, no jitter", "fixed 1 s"] as const
  return {
    advised: outcomes.get("advised spread")!,
    others: Object.fromEntries(others.map((how) => [how, outcomes.get(how)!])) as Record<typeof others[number], Outcome>
  }
}

const many = often(1000, 4_000)

describe(`a storm: ${many} clients lose a server that takes ${many / 20} handshakes a second`, () => {
  it(
    "B84 the advised spread brings all back at about one attempt each; jitter alone takes a few",
    long(300_000),
    async () => {
      const { advised, others } = await storms(many)
      assert.isAtMost(advised.attempts, 1.1)
      assert.isAtMost(advised.back, 23_000)
      assert.strictEqual(advised.wasted, 0)
      assert.isAtMost(others["full jitter"].attempts, 5)
      // what the others cost: the model tells them apart
      for (const other of Object.values(others)) {
        assert.isAbove(other.attempts, 2 * advised.attempts)
        assert.isAbove(other.wasted, 0)
      }
    }
  )

  it("the same seed is the same storm, another one is not", () => {
    const small = (seed: string) => storm({ clients: 300, how: "advised spread", perSecond: 1000, seed })
    assert.deepStrictEqual(small("a"), small("a"))
    assert.notDeepEqual(small("a"), small("b"))
  })
})
