/** Processes that stand still (SIGSTOP, a machine that sleeps) and go on. */
import { type Part, row, ways } from "../fault.ts"
import { clientEnding, isBack, lives, logged, serverEnding } from "../support/endings.ts"
import { onThisHost } from "../support/local.ts"
import { processes } from "../support/needs.ts"
import type { Pair } from "../support/Stage.ts"
import { sleep } from "../support/until.ts"

const short = 1.2
const long = 5

const alive = { reason: "lives", atMost: 1, bound: "" }

const shortStop = {
  client: row({ fault: `client stopped for ${short} s`, end: "both", ...alive }),
  server: row({ fault: `server stopped for ${short} s`, end: "both", ...alive })
}

const silence = { reason: "SilenceTimeout", atLeast: 1.8, atMost: 3, bound: "`silence`" }
// the other end had closed; counted from the moment in which this one goes on
const awake = { reason: ["Closed", "Reset", "TransportFailed"], atMost: 1, bound: "`halfClose`" }

const longStop = {
  client: {
    server: row({ fault: `client stopped for ${long} s`, end: "server", ...silence }),
    client: row({ fault: `client stopped for ${long} s`, end: "client, once it goes on", ...awake })
  },
  server: {
    server: row({ fault: `server stopped for ${long} s`, end: "server, once it goes on", ...awake }),
    client: row({ fault: `server stopped for ${long} s`, end: "client", ...silence })
  }
}

const other = { client: "server", server: "client" } as const
const endings = { client: clientEnding, server: serverEnding }

const stops = (end: "client" | "server"): ReadonlyArray<Part> => [
  {
    name: `${end} stopped, shorter than the limit`,
    rows: [shortStop[end]],
    needs: [processes],
    load: "waits",
    run: async (stage) => {
      const pairs = await Promise.all(ways.map((way) => onThisHost(stage, way)))
      await stage.ready()
      await Promise.all(pairs.map(async (pair) => {
        const since = performance.now()
        pair[end].signal("SIGSTOP")
        await sleep(short * 1000)
        pair[end].signal("SIGCONT")
        // as long again as a false alarm would need
        await sleep(3_500)
        stage.saw(shortStop[end], pair.way, await lives(pair, since))
      }))
    }
  },
  {
    name: `${end} stopped, longer than the limit`,
    rows: [longStop[end][other[end]], longStop[end][end]],
    needs: [processes],
    load: "waits",
    run: async (stage) => {
      const pairs = await Promise.all(ways.map((way) => onThisHost(stage, way)))
      await stage.ready()
      const stop = async (pair: Pair) => {
        const since = performance.now()
        pair[end].signal("SIGSTOP")
        const there = longStop[end][other[end]]
        const ending = endings[other[end]](pair[other[end]], since, there)
        await sleep(long * 1000)
        const awakeAt = performance.now()
        pair[end].signal("SIGCONT")
        stage.saw(there, pair.way, await ending)
        const here = longStop[end][end]
        stage.saw(here, pair.way, await endings[end](pair[end], awakeAt, here))
        const back = await isBack(pair.client, since, 10)
        if (back.reason !== "back") throw new Error(`${pair.way}: the client did not come back`)
      }
      await Promise.all(pairs.map(stop))
    }
  }
]

const stall = 20
// two thirds of them are one server's
const peers = 1_500
const stalled = row({
  fault: `server stopped for ${stall} s, ${peers.toLocaleString("en")} healthy peers`,
  end: "server, in 12 s after it",
  reason: "none killed",
  atLeast: 12,
  atMost: 12,
  bound: "`silence` is 9 s there"
})

const ownStall: Part = {
  name: "server stopped, with many healthy peers",
  rows: [stalled],
  needs: [processes],
  load: "crowd",
  run: async (stage) => {
    // the clients bear the stall: it is the server that may not blame them for it
    const patient = { pingEvery: "3s", handshake: "20s", open: "20s" }
    const servers = await stage.serveAll({ limits: { ...patient, silence: "9s" } })
    await Promise.all(ways.map((way) =>
      stage.fleet({
        url: servers[way].url,
        way,
        count: peers / ways.length,
        does: "wait",
        limits: { ...patient, silence: "60s" }
      })
    ))
    await stage.ready()
    const programs = [servers.TCP.program, servers.native.program]
    for (const program of programs) program.signal("SIGSTOP")
    await sleep(stall * 1000)
    const awakeAt = performance.now()
    for (const program of programs) program.signal("SIGCONT")
    await sleep(stalled.atLeast * 1000 + 100)
    for (const way of ways) {
      const killed = servers[way].program.lines.filter(({ at, text }) =>
        at >= awakeAt && logged(text)?.event === "close"
      )
      stage.saw(stalled, way, {
        reason: killed.length === 0 ? "none killed" : `${killed.length} killed`,
        seconds: killed.length === 0 ? stalled.atLeast : (killed[0]!.at - awakeAt) / 1000
      })
    }
  }
}

export const stopped: ReadonlyArray<Part> = [...stops("client"), ...stops("server"), ownStall]
