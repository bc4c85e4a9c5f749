/** What the kernel says of a process: the sockets of its host, and the processor time it has had. */
import * as Fs from "node:fs"
import { sleep } from "./until.ts"

/** The bytes that the peer has not acknowledged, of the established connections at a port (Linux). */
const unacknowledged = (pid: number, port: number): number => {
  const hex = port.toString(16).toUpperCase().padStart(4, "0")
  let most = 0
  for (const line of Fs.readFileSync(`/proc/${pid}/net/tcp`, "utf8").split("\n").slice(1)) {
    const [, local, remote, state, queues] = line.trim().split(/\s+/)
    if (state !== "01" || !(local!.endsWith(`:${hex}`) || remote!.endsWith(`:${hex}`))) continue
    most = Math.max(most, Number.parseInt(queues!.split(":")[0]!, 16))
  }
  return most
}

/** Waits until the kernel of a process has bytes for its peer, and their number stays; since when it does. */
export const stuckSince = async (pid: number, port: number, deadline = 15_000): Promise<number> => {
  const end = performance.now() + deadline
  let before = 0
  let since = performance.now()
  while (performance.now() < end) {
    const now = unacknowledged(pid, port)
    if (now === 0 || now !== before) since = performance.now()
    else if (performance.now() - since > 300) return since
    before = now
    await sleep(50)
  }
  throw new Error(`the peer took bytes for ${deadline / 1000} s`)
}

/** Seconds of processor time that a process has used (Linux, in steps of 10 ms). */
export const processorTime = (pid: number): number => {
  const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
  // the name of the command, in parentheses, may hold blanks
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) / 100
}
