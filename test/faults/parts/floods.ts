/** One client that sends as fast as it can, beside others that wait for their answers. */
import type * as Net from "node:net"
import { type Part, row, type Way, ways } from "../fault.ts"
import { requestsOf } from "../support/fleetReport.ts"
import { framed, greetingOf, pingFrame, rawPeer } from "../support/local.ts"
import type { Stage } from "../support/Stage.ts"
import { sleep } from "../support/until.ts"

const kinds = {
  nothing: () => new Uint8Array(0),
  data: (way: Way) => framed(way, "x".repeat(1_000)),
  pings: pingFrame,
  "tiny messages": (way: Way) => framed(way, "a")
}

const honest = 50

const rowOf = (fault: string) =>
  row({
    fault,
    end: `${honest} others, p99 of an answer`,
    reason: "served",
    atMost: 0.25,
    // until this is a ratio to the calm server: the flood takes processors from the others' process, too
    late: 0.25,
    bound: "none starves"
  })

const rows = {
  nothing: rowOf("no flood, to compare with"),
  data: rowOf("a flood of data by one client"),
  pings: rowOf("a flood of pings by one client"),
  "tiny messages": rowOf("a flood of tiny messages by one client")
}

/** Writes a chunk again whenever the kernel has taken the last one. */
const pump = (conn: Net.Socket, chunk: Uint8Array): void => {
  if (!conn.destroyed) conn.write(chunk, () => pump(conn, chunk))
}

const flood = async (stage: Stage, way: Way): Promise<void> => {
  const { port, program, url } = await stage.serve(way)
  const fleet = await stage.fleet({ url, way, count: honest, does: "ask", pause: 20 })
  for (const [kind, frame] of Object.entries(kinds)) {
    const flooder = await rawPeer(port)
    flooder.conn.on("error", () => {})
    flooder.conn.write(greetingOf(way))
    await sleep(200)
    const one = frame(way)
    const since = performance.now()
    if (one.length > 0) {
      pump(flooder.conn, Buffer.concat(Array.from({ length: Math.ceil(65_536 / one.length) }, () => one)))
    }
    await sleep(2_000)
    const { answered, p99 } = requestsOf(fleet, since)
    stage.saw(rows[kind as keyof typeof rows], way, {
      reason: one.length > 0 && flooder.conn.bytesWritten < 500_000
        ? "no flood came"
        : answered < honest
        ? `${answered} answers`
        : "served",
      seconds: p99 / 1000
    })
    flooder.end()
    await sleep(300)
  }
  await Promise.all([fleet.kill(), program.kill()])
}

export const floods: ReadonlyArray<Part> = [{
  name: "floods",
  rows: Object.values(rows),
  needs: [],
  load: "alone",
  run: async (stage) => {
    for (const way of ways) await flood(stage, way)
  }
}]
