/** The storm of `test/support/storm.ts` with each schedule, each in its thread. */
import { once } from "node:events"
import { Worker } from "node:worker_threads"
import type { Options, Outcome } from "../../support/storm.ts"

/** Runs storms, one after the other, in a thread of their own. */
const inThread = async (storms: ReadonlyArray<Options>, outcomes: Map<Options["how"], Outcome>): Promise<void> => {
  const worker = new Worker(new URL("../../support/storm.ts", import.meta.url), {
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
export const storms = async (clients: number) => {
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
