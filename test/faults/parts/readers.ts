/** Peers that read nothing: their window is shut, whether they are otherwise lively or not. */
import { type Part, row, type Way, ways } from "../fault.ts"
import { clientEnding, serverEnding } from "../support/endings.ts"
import { Link } from "../support/Link.ts"
import { namespaces, processes } from "../support/needs.ts"
import type { Program } from "../support/Program.ts"
import { stuckSince } from "../support/sockets.ts"
import type { Stage } from "../support/Stage.ts"

// found up to a quarter of the limit late
const stall = {
  reason: "WriteStalled",
  atLeast: 1.4,
  atMost: 2.5,
  bound: "`writeStall` and a quarter, once the kernels take no more"
}
// its last message may be a half one
const limits = { frame: "20s", silence: "20s" }

// nothing of what this client sends is taken, either, and it does not mind
const stubborn = { ...limits, writeStall: "40s" }

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
  then: (client: Program) => void
): Part => ({
  name,
  rows: [of],
  needs: [namespaces, processes],
  load: "busy",
  run: async (stage) => {
    const link = narrow(stage)
    const one = async (way: Way, i: number) => {
      const { program, url } = await stage.serve(way, {
        host: link.server,
        address: link.address,
        port: 7001 + i,
        limits
      })
      return { way, program, url, port: 7001 + i }
    }
    const servers = await Promise.all(ways.map(one))
    await stage.ready()
    await Promise.all(servers.map(async ({ port, program, url, way }) => {
      const client = await stage.fleet({
        url,
        way,
        count: 1,
        does: "send and never read",
        host: link.client,
        limits: stubborn
      })
      const since = await stuckSince(program.pid, port)
      then(client)
      stage.saw(of, way, await serverEnding(program, since, of))
    }))
  }
})

const manyLines = `${"x".repeat(9_999)}\n`.repeat(1_500)

const serverReads: Part = {
  name: "server reads nothing",
  rows: [server],
  needs: [namespaces, processes],
  load: "busy",
  run: async (stage) => {
    const link = narrow(stage)
    const pairs = await Promise.all(ways.map((way, i) => stage.pair(way, link, 7001 + i, { client: limits })))
    await stage.ready()
    await Promise.all(pairs.map(async ({ client, port, server: program, way }) => {
      program.signal("SIGSTOP")
      client.say(manyLines)
      const since = await stuckSince(client.pid, port)
      stage.saw(server, way, await clientEnding(client, since, server))
    }))
  }
}

export const readers: ReadonlyArray<Part> = [
  clientReads("lively client that never reads", lively, () => {}),
  clientReads("client with a zero window", mute, (client) => client.signal("SIGSTOP")),
  serverReads
]
