/** A server that is told to stop (SIGTERM) under requests, and one that is replaced again and again. */
import { type Part, type Row, row, type Way, ways } from "../fault.ts"
import { requestsOf } from "../support/fleetReport.ts"
import type { Program } from "../support/Program.ts"
import type { Stage } from "../support/Stage.ts"
import { sleep } from "../support/until.ts"

const clients = 200

// the second, for what crosses the stop: it may have been carried out or not, and its sender is told so
const told = ["all are answered", "some are told as unknown"] as const

/** What became of requests; of those that failed, each has to be told as what it is, and a client has few. */
const outcomeOf = ({ failed }: { readonly failed: ReadonlyArray<string> }, stops: number): string =>
  failed.length === 0
    ? told[0]
    : failed.length <= 2 * stops * clients && failed.every((reason) => ["OutcomeUnknown", "Closed"].includes(reason))
    ? told[1]
    : `${failed.length} lost (${[...new Set(failed)].join(", ")})`

const exits = row({
  fault: `server told to stop (SIGTERM), ${clients} clients that ask`,
  end: "server",
  reason: "exit code 0",
  atMost: 2,
  bound: "`drain`"
})

/** The native protocol tells a client to ask no more on this connection; the others have no word for it. */
const byWay = (given: Pick<Row, "fault" | "atMost" | "bound">) => {
  const ofOthers = row({ ...given, end: "client", ways: ["TCP", "WebSocket"], reason: told })
  const ofNative = row({ ...given, end: "client", ways: ["native"], reason: told[0] })
  return { rows: [ofOthers, ofNative], of: (way: Way) => way === "native" ? ofNative : ofOthers }
}

const answered = byWay({
  fault: `server told to stop (SIGTERM), ${clients} clients that ask`,
  atMost: 2,
  bound: "`drain`"
})

const stop: Part = {
  name: "server told to stop",
  rows: [exits, ...answered.rows],
  needs: [],
  load: "alone",
  run: async (stage) => {
    for (const way of ways) {
      const { program, url } = await stage.serve(way)
      const fleet = await stage.fleet({ url, way, count: clients, does: "ask" })
      await sleep(500)
      const since = performance.now()
      program.signal("SIGTERM")
      const exit = await program.ended()
      stage.saw(exits, way, { reason: `exit code ${exit.how}`, seconds: (exit.at - since) / 1000 })
      await sleep(500)
      stage.saw(answered.of(way), way, {
        reason: outcomeOf(requestsOf(fleet, since), 1),
        seconds: (exit.at - since) / 1000
      })
      await fleet.kill()
    }
  }
}

const restarts = 3
const rolling = byWay({
  fault: `server replaced ${restarts} times, ${clients} clients that ask`,
  atMost: 5,
  bound: "the longest wait for an answer (p99)"
})

/** A server on a port that the one before it may still have. */
const successor = async (stage: Stage, way: Way, port: number): Promise<Program> => {
  for (let tries = 0;; tries++) {
    try {
      return (await stage.serve(way, { port })).program
    } catch (error) {
      if (tries === 5) throw error
      await sleep(200)
    }
  }
}

const replace: Part = {
  name: "server replaced",
  rows: rolling.rows,
  needs: [],
  load: "alone",
  run: async (stage) => {
    for (const way of ways) {
      const { port, program, url } = await stage.serve(way)
      const fleet = await stage.fleet({ url, way, count: clients, does: "ask", pause: 200 })
      const since = performance.now()
      let server = program
      for (let i = 0; i < restarts; i++) {
        await sleep(1_000)
        server.signal("SIGTERM")
        server = await successor(stage, way, port)
      }
      await sleep(1_000)
      fleet.say("stop\n")
      await fleet.says("its last answer", (line) => line === "stopped" ? true : undefined)
      const requests = requestsOf(fleet, since)
      stage.saw(rolling.of(way), way, { reason: outcomeOf(requests, restarts), seconds: requests.p99 / 1000 })
      await Promise.all([fleet.kill(), server.kill()])
    }
  }
}

export const drains: ReadonlyArray<Part> = [stop, replace]
