/** A network that is away for half a minute, and comes back. */
import { type Part, row, ways } from "../fault.ts"
import { allHave, triesOf } from "../support/fleetReport.ts"
import { Link } from "../support/Link.ts"
import { filter, namespaces } from "../support/needs.ts"
import { sleep } from "../support/until.ts"

const clients = 100
const seconds = 30
const fault = `no network for ${seconds} s, ${clients} clients`
const limits = { retryCap: "5s", handshake: "20s" }

const lost = row({
  fault,
  end: "client",
  reason: `${clients} notice`,
  atLeast: 1.8,
  atMost: 3,
  bound: "`silence`"
})
const back = row({
  fault,
  end: "client, once it is back",
  reason: `${clients} come back`,
  atMost: 7,
  bound: "`retryCap` + `open`"
})
const spread = row({
  fault,
  end: "client, first to last",
  reason: "they come spread",
  atLeast: 1,
  atMost: 7,
  bound: "at least 1 s apart"
})
const tries = row({
  fault,
  end: "client, meanwhile",
  reason: "at most 20 tries each",
  atMost: 30,
  bound: "by the backoff"
})

const outage: Part = {
  name: "no network for half a minute",
  rows: [lost, back, spread, tries],
  needs: [namespaces, filter],
  load: "crowd",
  run: async (stage) => {
    const link = stage.removing(new Link())
    const servers = await stage.serveAll({ host: link.server, address: link.address, limits })
    const fleets = await Promise.all(ways.map(async (way) => ({
      way,
      fleet: await stage.fleet({ url: servers[way].url, way, count: clients, does: "wait", host: link.client, limits })
    })))
    await stage.ready()
    const since = performance.now()
    link.cut()
    await Promise.all(fleets.map(async ({ fleet, way }) => {
      const noticed = await allHave(fleet, "lost", clients, since, 8)
      stage.saw(lost, way, { reason: `${noticed.clients} notice`, seconds: noticed.seconds })
    }))
    await sleep(since + seconds * 1000 - performance.now())
    const healedAt = performance.now()
    link.heal()
    await Promise.all(fleets.map(async ({ fleet, way }) => {
      const returned = await allHave(fleet, "connected", clients, healedAt, 12)
      stage.saw(back, way, { reason: `${returned.clients} come back`, seconds: returned.seconds })
      stage.saw(spread, way, { reason: "they come spread", seconds: returned.spread })
      const most = Math.max(...triesOf(fleet, since))
      stage.saw(tries, way, { reason: most <= 20 ? "at most 20 tries each" : `${most} tries`, seconds: seconds })
    }))
  }
}

export const outages: ReadonlyArray<Part> = [outage]
