/** A process that runs out of descriptors, or of heap. */
import { type Part, row } from "../fault.ts"
import { type RawPeer, rawPeer } from "../support/local.ts"
import { processes, shellLimits } from "../support/needs.ts"
import { processorTime } from "../support/sockets.ts"
import { sleep, until } from "../support/until.ts"

const greeted = async (port: number): Promise<RawPeer> => {
  const peer = await rawPeer(port)
  peer.conn.on("error", () => {})
  peer.conn.write("hello\n")
  return peer
}

const clients = 100
const fault = `no descriptors left, ${clients} clients`

const calm = row({
  fault,
  end: "server, processor time in 3 s",
  ways: ["TCP"],
  reason: "does not spin",
  atMost: 0.5,
  bound: "a sixth of a processor"
})
const turnedAway = row({
  fault,
  end: "clients without a descriptor",
  ways: ["TCP"],
  reason: "turned away",
  atMost: 1,
  bound: "at once, by Node"
})
const freed = row({
  fault,
  end: "a new client, once others leave",
  ways: ["TCP"],
  reason: "served",
  atMost: 2,
  bound: "the longest backoff, 1 s"
})

const descriptors: Part = {
  name: "no descriptors left",
  rows: [calm, turnedAway, freed],
  needs: [processes, shellLimits],
  load: "waits",
  run: async (stage) => {
    const limits = { silence: "60s", pingEvery: "0s", handshake: "60s" }
    const { port, program } = await stage.serve("TCP", { descriptors: 64, limits })
    await stage.ready()
    const peers = await Promise.all(Array.from({ length: clients }, () => greeted(port)))
    const since = performance.now()
    await until(
      () => "an end or an answer for each",
      () => peers.every(({ bytes, endedAt }) => bytes > 0 || endedAt !== undefined)
    )
    const served = peers.filter(({ bytes }) => bytes > 0)
    const ended = peers.flatMap(({ bytes, endedAt }) => bytes > 0 || endedAt === undefined ? [] : [endedAt])
    stage.saw(turnedAway, "TCP", {
      reason: ended.length > 0 ? "turned away" : "all served",
      seconds: (Math.max(since, ...ended) - since) / 1000
    })
    const before = processorTime(program.pid)
    await sleep(3_000)
    stage.saw(calm, "TCP", { reason: "does not spin", seconds: processorTime(program.pid) - before })
    for (const peer of served) peer.end()
    const freedAt = performance.now()
    let late = await greeted(port)
    await until(() => "an answer", () => {
      if (late.bytes > 0) return true
      // the server had not noticed yet that the others left
      if (late.endedAt !== undefined) void greeted(port).then((peer) => late = peer)
      return false
    })
    stage.saw(freed, "TCP", { reason: "served", seconds: (performance.now() - freedAt) / 1000 })
    late.end()
  }
}

// more, and smaller messages, when `memory` bounds what all connections hold
const unread = { clients: 30, message: `${"x".repeat(9_999)}\n`, times: 400 }

const heap = row({
  fault: `heap of 64 MB, ${unread.clients} clients that send 4 MB and never read`,
  end: "an honest client's echo",
  ways: ["TCP"],
  reason: "served",
  atMost: 2,
  bound: "the process lives"
})

const memory: Part = {
  name: "a small heap and clients that never read",
  rows: [heap],
  needs: [],
  load: "alone",
  run: async (stage) => {
    const { port, program } = await stage.serve("TCP", {
      nodeFlags: ["--max-old-space-size=64"],
      limits: { silence: "60s" }
    })
    const lines = Buffer.from(unread.message.repeat(unread.times))
    const peers = await Promise.all(Array.from({ length: unread.clients }, () => rawPeer(port)))
    for (const { conn } of peers) {
      conn.on("error", () => {})
      conn.pause()
      conn.write(lines)
    }
    await sleep(4_000)
    if (program.exit !== undefined) {
      stage.saw(heap, "TCP", { reason: `it died: ${program.exit.how}`, seconds: 4 })
      return
    }
    const asked = performance.now()
    const honest = await greeted(port)
    await until(() => "an echo", () => honest.text.includes("hello"), 10_000)
    stage.saw(heap, "TCP", { reason: "served", seconds: (performance.now() - asked) / 1000 })
    for (const peer of [...peers, honest]) peer.end()
  }
}

export const scarce: ReadonlyArray<Part> = [descriptors, memory]
