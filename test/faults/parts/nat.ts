/** A translator of addresses on the way, which forgets quiet connections or gives them another port. */
import { type Part, type Row, row, ways } from "../fault.ts"
import { bothEnd, isBack, lives } from "../support/endings.ts"
import { NatLink } from "../support/Link.ts"
import { namespaces, translation } from "../support/needs.ts"
import type { Limits, Pair, Stage } from "../support/Stage.ts"
import { sleep } from "../support/until.ts"

const needs = [namespaces, translation]

const throughNat = async (stage: Stage, remembers: number, limits: Limits) => {
  const link = stage.removing(new NatLink(remembers))
  const pairs = await Promise.all(
    ways.map((way, i) => stage.pair(way, link, 7001 + i, { server: limits, client: limits }))
  )
  return { link, pairs }
}

const remembered = row({
  fault: "NAT forgets after 2 s, pings come every 1 s",
  end: "both",
  reason: "lives",
  atMost: 1,
  bound: ""
})

const kept: Part = {
  name: "NAT forgets, pings keep it",
  rows: [remembered],
  needs,
  load: "waits",
  run: async (stage) => {
    const { link, pairs } = await throughNat(stage, 2, {})
    link.forgetsForGood()
    await stage.ready()
    await Promise.all(pairs.map(async (pair) => {
      const since = performance.now()
      await sleep(7_000)
      stage.saw(remembered, pair.way, await lives(pair, since))
    }))
  }
}

/** The first ping after the quiet finds what the translator has done. */
const rarely = { pingEvery: "4s", pingJitter: 0, silence: "6s" }

/** The clients have connections again, through new mappings. */
const allBack = async (pairs: ReadonlyArray<Pair>, since: number): Promise<void> => {
  for (const { client, way } of pairs) {
    const back = await isBack(client, since, 12)
    if (back.reason !== "back") throw new Error(`${way}: the client did not come back`)
  }
}

const finds = (
  name: string,
  rows: { readonly server: Row; readonly client: Row },
  change: (link: NatLink) => void
): Part => ({
  name,
  rows: [rows.server, rows.client],
  needs,
  load: "waits",
  run: async (stage) => {
    const { link, pairs } = await throughNat(stage, 1, rarely)
    change(link)
    await stage.ready()
    const since = performance.now()
    await bothEnd(stage, pairs, since, rows)
    await allBack(pairs, since)
  }
})

// the quiet began before the first look at it
const silence = { reason: "SilenceTimeout", atMost: 6, bound: "`silence`" }

const forgets = {
  server: row({ fault: "NAT forgets", end: "server", ...silence }),
  client: row({ fault: "NAT forgets", end: "client", ...silence })
}

const remaps = {
  server: row({
    fault: "NAT gives another port",
    end: "server",
    reason: ["Reset", "SilenceTimeout"],
    atMost: 6,
    bound: "`silence`"
  }),
  client: row({ fault: "NAT gives another port", end: "client", reason: "Reset", atMost: 4, bound: "`pingEvery`" })
}

export const nat: ReadonlyArray<Part> = [
  kept,
  finds("NAT forgets", forgets, (link) => link.forgetsForGood()),
  finds("NAT remaps", remaps, (link) => link.ports("30000-39999"))
]
