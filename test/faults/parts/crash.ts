/** A server that is killed without a word, and a successor on its port. */
import { type Part, row, ways } from "../fault.ts"
import { allHave, triesOf } from "../support/fleetReport.ts"

const clients = 2_000
const fault = `server killed (SIGKILL), ${clients.toLocaleString("en")} clients`
const limits = { retryCap: "5s", handshake: "20s", open: "20s" }

const notice = row({
  fault,
  end: "client",
  reason: `${clients} notice`,
  atMost: 2,
  bound: "at once, one after the other"
})
const back = row({
  fault,
  end: "client, once a successor listens",
  reason: `${clients} come back`,
  atMost: 8,
  bound: "`retryCap`, and the time to accept them"
})
const tries = row({
  fault,
  end: "client, on average",
  reason: "at most 5 tries",
  atMost: 5,
  bound: "tries, not seconds"
})

export const crash: Part = {
  name: "server killed",
  rows: [notice, back, tries],
  needs: [],
  load: "alone",
  run: async (stage) => {
    for (const way of ways) {
      const { port, program, url } = await stage.serve(way, { limits })
      const fleet = await stage.fleet({ url, way, count: clients, does: "wait", perSecond: 500, limits })
      const since = performance.now()
      program.signal("SIGKILL")
      await program.ended()
      const [noticed, successor] = await Promise.all([
        allHave(fleet, "lost", clients, since, 10),
        stage.serve(way, { port, limits })
      ])
      stage.saw(notice, way, { reason: `${noticed.clients} notice`, seconds: noticed.seconds })
      const listens = successor.program.find((line) => line.startsWith("listening") ? true : undefined)!.at
      const returned = await allHave(fleet, "connected", clients, since, 20)
      stage.saw(back, way, {
        reason: `${returned.clients} come back`,
        seconds: returned.seconds - (listens - since) / 1000
      })
      const each = triesOf(fleet, since)
      const average = each.reduce((sum, n) => sum + n, 0) / each.length
      stage.saw(tries, way, { reason: average <= 5 ? "at most 5 tries" : "more tries", seconds: average })
      await Promise.all([fleet.kill(), successor.program.kill()])
    }
  }
}
