/** A server that is killed without a word, and a successor on its port. */
import { type Part, row, ways } from "../fault.ts"
import { allHave, triesOf } from "../support/fleetReport.ts"

// two thirds of them are one server's
const each = 700
const clients = each * ways.length
const fault = `server killed (SIGKILL), ${clients.toLocaleString("en")} clients`
// an end is noticed without pings; they would cost more than all else here
const limits = { retryCap: "5s", handshake: "20s", open: "20s", pingEvery: "10s", silence: "40s" }

const notice = row({
  fault,
  end: "client",
  reason: `${each} notice`,
  atMost: 5,
  bound: "at once, one after the other"
})
const back = row({
  fault,
  end: "client, once a successor listens",
  reason: `${each} come back`,
  atMost: 10,
  bound: "`retryCap`, and the time to accept them"
})
const tries = row({
  fault,
  end: "client, on average",
  reason: "at most 5 tries each",
  atMost: 5,
  bound: "tries, not seconds"
})

export const crash: Part = {
  name: "server killed",
  rows: [notice, back, tries],
  needs: [],
  load: "alone",
  run: async (stage) => {
    const servers = await stage.serveAll({ limits })
    const fleets = await Promise.all(ways.map(async (way) => ({
      way,
      fleet: await stage.fleet({ url: servers[way].url, way, count: each, does: "wait", limits })
    })))
    const ports = Object.fromEntries(ways.map((way) => [way, servers[way].port]))
    const since = performance.now()
    const killed = [servers.TCP.program, servers.native.program]
    for (const program of killed) program.signal("SIGKILL")
    await Promise.all(killed.map((program) => program.ended()))
    const successors = await stage.serveAll({ ports, limits })
    const listens = performance.now()
    await Promise.all(fleets.map(async ({ fleet, way }) => {
      const noticed = await allHave(fleet, "lost", each, since, 20)
      stage.saw(notice, way, { reason: `${noticed.clients} notice`, seconds: noticed.seconds })
      const returned = await allHave(fleet, "connected", each, since, 30)
      stage.saw(back, way, {
        reason: `${returned.clients} come back`,
        seconds: returned.seconds - (listens - since) / 1000
      })
      const tried = triesOf(fleet, since)
      const average = tried.reduce((sum, n) => sum + n, 0) / tried.length
      stage.saw(tries, way, { reason: average <= 5 ? "at most 5 tries each" : "more tries", seconds: average })
    }))
    for (const way of ways) {
      if (successors[way].program.exit !== undefined) throw new Error("a successor died")
    }
  }
}
