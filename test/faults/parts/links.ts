/** A wire that loses everything, in both directions or in one, and a kernel that resets. */
import { type Part, type Row, row, ways } from "../fault.ts"
import { bothEnd } from "../support/endings.ts"
import { Link } from "../support/Link.ts"
import { filter, killing, namespaces, type Need } from "../support/needs.ts"
import type { Pair, Stage } from "../support/Stage.ts"
import { sleep } from "../support/until.ts"

// the last bytes came up to `pingEvery` before the fault
const silence = { atLeast: 1.8, atMost: 3, bound: "`silence`" }

// the first ping of the other end still comes; then its kernel, which hears no acknowledgement, repeats that one alone
const oneWay = {
  reason: ["SilenceTimeout", "Closed", "Reset"],
  atLeast: 1.8,
  atMost: 4,
  bound: "`silence` + `pingEvery`"
}

type Seen = Pick<Row, "reason" | "atLeast" | "atMost" | "bound">

/** A part with a wire on which something happens. */
const onLink = (
  fault: string,
  ends: { readonly server: Seen; readonly client: Seen },
  happens: (link: Link, pairs: ReadonlyArray<Pair>, stage: Stage) => Promise<void> | void,
  needs: ReadonlyArray<Need> = [filter]
): Part => {
  const rows = {
    server: row({ fault, end: "server", ...ends.server }),
    client: row({ fault, end: "client", ...ends.client })
  }
  return {
    name: fault,
    rows: [rows.server, rows.client],
    needs: [namespaces, ...needs],
    load: "waits",
    run: async (stage) => {
      const link = stage.removing(new Link())
      const pairs = await Promise.all(ways.map((way, i) => stage.pair(way, link, 7001 + i)))
      await stage.ready()
      const since = performance.now()
      await happens(link, pairs, stage)
      await bothEnd(stage, pairs, since, rows)
    }
  }
}

const hello = (pairs: ReadonlyArray<Pair>): void => {
  for (const { client } of pairs) client.say("hello\n")
}

export const links: ReadonlyArray<Part> = [
  onLink(
    "link cut, nothing on its way",
    { server: { reason: "SilenceTimeout", ...silence }, client: { reason: "SilenceTimeout", ...silence } },
    (link) => link.cut()
  ),
  onLink(
    "link cut, bytes unacknowledged",
    { server: { reason: "SilenceTimeout", ...silence }, client: { reason: "SilenceTimeout", ...silence } },
    async (link, pairs) => {
      // the echo of the first, and all of the second: each end has sent what is never acknowledged
      link.lose("to the client")
      hello(pairs)
      await sleep(100)
      link.lose("to the server")
      hello(pairs)
    }
  ),
  onLink(
    "what the client sends is lost",
    {
      server: { reason: "SilenceTimeout", ...silence },
      client: oneWay
    },
    (link) => link.lose("to the server")
  ),
  onLink(
    "what the server sends is lost",
    {
      server: oneWay,
      client: { reason: "SilenceTimeout", ...silence }
    },
    (link) => link.lose("to the client")
  ),
  onLink(
    "reset by the kernel (RST)",
    {
      server: { reason: "Reset", atLeast: 0, atMost: 0.5, bound: "at once" },
      client: { reason: "Reset", atLeast: 0, atMost: 0.5, bound: "at once" }
    },
    (link, pairs) => {
      for (const { port } of pairs) link.server.do("ss", "-K", "-tn", "state", "established", `sport = :${port}`)
    },
    [killing]
  )
]
