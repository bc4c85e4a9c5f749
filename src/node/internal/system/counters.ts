/** What the kernel counts of TCP, for the network namespace of this process. */
import { readFileSync } from "node:fs"

/** The counters that are told, and where the kernel has them. */
export const kernelCounters = {
  overflows: { file: "/proc/net/netstat", group: "TcpExt", name: "ListenOverflows" },
  drops: { file: "/proc/net/netstat", group: "TcpExt", name: "ListenDrops" },
  retransmits: { file: "/proc/net/snmp", group: "Tcp", name: "RetransSegs" }
} as const

export type KernelCounter = keyof typeof kernelCounters

/** A figure of a file that has two lines for each group: names, and then values. */
export const figureIn = (text: string, group: string, name: string): number | undefined => {
  const [names, values] = text.split("\n").filter((line) => line.startsWith(`${group}: `)).map((line) =>
    line.split(" ")
  )
  const index = names?.indexOf(name) ?? -1
  const value = index < 0 ? Number.NaN : Number(values?.[index])
  return Number.isFinite(value) ? value : undefined
}

/** A counter now; undefined where this system does not tell it. */
export const kernelCounter = (counter: KernelCounter): number | undefined => {
  const { file, group, name } = kernelCounters[counter]
  try {
    return figureIn(readFileSync(file, "utf8"), group, name)
  } catch {
    return undefined
  }
}
