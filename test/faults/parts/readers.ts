/** Peers that read nothing: their window is shut, whether they are otherwise lively or not. */
import { type Part, row, type Way, ways } from "../fault.ts"
import { clientEnding, serverEnding } from "../support/endings.ts"
import { Link } from "../support/Link.ts"
import { namespaces } from "../support/needs.ts"
import type { Stage } from "../support/Stage.ts"
import { sleep } from "../support/until.ts"

// the queues of this side fill up first
const stall = { reason: "WriteStalled", atLeast: 1.8, atMost: 2.5, bound: "`writeStall`, once all queues are full" }

const lively = row({ fault: "client pings and sends, and never reads", end: "server", ...stall })
const mute = row({ fault: "client reads nothing and says nothing (zero window)", end: "server", ...stall })
const server = row({ fault: "server reads nothing (zero window)", end: "client", ...stall })

/** A wire on which a kernel takes little that the other side does not read. */
const narrow = (stage: Stage): Link => {
  const link = stage.removing(new Link())
  link.smallBuffers()
  return link
}

const clientReads = (
  name: string,
  of: typeof lively,
  then: (client: { signal: (name: "SIGSTOP") => void }) => Promise<void>
): Part => ({
  name,
  rows: [of],
  needs: [namespaces],
  load: "waits",
  run: async (stage) => {
    const link = narrow(stage)
    const one = async (way: Way, i: number) => {
      const { program, url } = await stage.serve(way, { host: link.server, address: link.address, port: 7001 + i })
      return { way, program, url }
    }
    const servers = await Promise.all(ways.map(one))
    await stage.ready()
    await Promise.all(servers.map(async ({ program, url, way }) => {
      const client = await stage.fleet({ url, way, count: 1, does: "send and never read", host: link.client })
      const since = performance.now()
      await then(client)
      stage.saw(of, way, await serverEnding(program, since, of))
    }))
  }
})

const manyLines = `${"x".repeat(9_999)}\n`.repeat(1_500)

const serverReads: Part = {
  name: "server reads nothing",
  rows: [server],
  needs: [namespaces],
  load: "waits",
  run: async (stage) => {
    const link = narrow(stage)
    const pairs = await Promise.all(ways.map((way, i) => stage.pair(way, link, 7001 + i)))
    await stage.ready()
    await Promise.all(pairs.map(async ({ client, server: program, way }) => {
      program.signal("SIGSTOP")
      const since = performance.now()
      client.say(manyLines)
      stage.saw(server, way, await clientEnding(client, since, server))
    }))
  }
}

export const readers: ReadonlyArray<Part> = [
  clientReads("lively client that never reads", lively, () => sleep(0)),
  clientReads("client with a zero window", mute, async (client) => {
    await sleep(500)
    client.signal("SIGSTOP")
  }),
  serverReads
]
