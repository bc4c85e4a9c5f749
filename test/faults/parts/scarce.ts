/** A process that runs out of descriptors, or of heap. */
import * as Fs from "node:fs"
import { type Part, row } from "../fault.ts"
import { logged } from "../support/endings.ts"
import { rawPeer } from "../support/local.ts"
import { processes, shellLimits } from "../support/needs.ts"
import { sleep, until } from "../support/until.ts"

/** Seconds of processor time that a process has used (Linux, in steps of 10 ms). */
const processorTime = (pid: number): number => {
  const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) / 100
}

const full = row({
  fault: "no descriptors left, 100 clients",
  end: "server, processor time in 3 s",
  ways: ["TCP"],
  reason: "backs off",
  atMost: 0.5,
  bound: "no spinning"
})
const freed = row({
  fault: "no descriptors left, 100 clients",
  end: "clients that waited, once others leave",
  ways: ["TCP"],
  reason: "served",
  atMost: 2,
  bound: "the longest backoff, 1 s"
})

const descriptors: Part = {
  name: "no descriptors left",
  rows: [full, freed],
  needs: [processes, shellLimits],
  load: "waits",
  run: async (stage) => {
    const limits = { silence: "60s", pingEvery: "0s", handshake: "60s" }
    const { port, program } = await stage.serve("TCP", { descriptors: 64, limits })
    await stage.ready()
    const peers = await Promise.all(Array.from({ length: 100 }, () => rawPeer(port)))
    for (const { conn } of peers) {
      conn.on("error", () => {})
      conn.write("hello\n")
    }
    await sleep(1_500)
    const before = processorTime(program.pid)
    const since = performance.now()
    await sleep(3_000)
    const used = processorTime(program.pid) - before
    const failures =
      program.lines.filter(({ at, text }) => at >= since && logged(text)?.event === "accept-failed").length
    const served = peers.filter(({ bytes }) => bytes > 0)
    const waiting = peers.filter(({ bytes, endedAt }) => bytes === 0 && endedAt === undefined)
    stage.saw(full, "TCP", {
      reason: served.length === 0 || waiting.length === 0
        ? `${served.length} served, ${waiting.length} wait`
        : failures > 10
        ? `${failures} tries in 3 s`
        : "backs off",
      seconds: used
    })
    const freedAt = performance.now()
    for (const peer of served) peer.end()
    let left = waiting
    await until(() => `${left.length} of ${waiting.length} clients to be served`, () => {
      left = waiting.filter(({ bytes }) => bytes === 0)
      // as many as there is room for
      return waiting.length - left.length >= Math.min(served.length, waiting.length)
    }, 6_000)
    stage.saw(freed, "TCP", { reason: "served", seconds: (performance.now() - freedAt) / 1000 })
    for (const peer of peers) peer.end()
  }
}

const heap = row({
  fault: "heap of 64 MB, 150 clients that send 1 MiB and never read",
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
    const lines = Buffer.from("a line that nobody will read\n".repeat(Math.ceil(2 ** 20 / 29)))
    const peers = await Promise.all(Array.from({ length: 150 }, () => rawPeer(port)))
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
    const honest = await rawPeer(port)
    const asked = performance.now()
    honest.conn.write("hello\n")
    await until(() => "an echo", () => honest.text.includes("hello"), 10_000)
    stage.saw(heap, "TCP", { reason: "served", seconds: (performance.now() - asked) / 1000 })
    for (const peer of [...peers, honest]) peer.end()
  }
}

export const scarce: ReadonlyArray<Part> = [descriptors, memory]
