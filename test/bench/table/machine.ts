/** On what was measured, and how loud the neighbours were meanwhile. */
import { readFileSync } from "node:fs"
import os from "node:os"

/** What the processors did in ticks since the machine started, and what of that was this process and those it waited for. */
export interface Ticks {
  readonly all: number
  readonly idle: number
  /** What the hypervisor gave to others. */
  readonly stolen: number
  readonly own: number
}

/** Parts of all processors' time. */
export interface Noise {
  readonly stolen: number
  /** Programs that are not the bench's. */
  readonly others: number
}

const numbers = (text: string): ReadonlyArray<number> => text.trim().split(/\s+/).map(Number)

/** Out of `/proc/stat` and the `stat` of a process. */
export const ticksOf = (machine: string, own: string): Ticks => {
  const [user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, softIrq = 0, stolen = 0] = numbers(
    /^cpu (.*)$/m.exec(machine)![1]!
  )
  const fields = numbers(own.replace(/^.*\) \S /, ""))
  return {
    all: user + nice + system + idle + wait + irq + softIrq + stolen,
    idle: idle + wait,
    stolen,
    // its own time, and that of children which have ended
    own: fields.slice(10, 14).reduce((sum, ticks) => sum + ticks, 0)
  }
}

export const noiseBetween = (from: Ticks, to: Ticks): Noise => {
  const all = to.all - from.all
  const stolen = to.stolen - from.stolen
  const others = all - (to.idle - from.idle) - stolen - (to.own - from.own)
  return all <= 0 ? { stolen: 0, others: 0 } : { stolen: stolen / all, others: Math.max(0, others) / all }
}

const ticks = (): Ticks => ticksOf(readFileSync("/proc/stat", "utf8"), readFileSync("/proc/self/stat", "utf8"))

export const machine = (): string => {
  const [first] = os.cpus()
  const memory = Math.round(os.totalmem() / 2 ** 30)
  const cores = os.cpus().length
  return `Node ${process.version}, ${cores} x ${first?.model.trim() ?? "unknown"}, ${memory} GB, Linux ${os.release()}`
}

export interface Neighbours extends Noise {
  /** Of the last minute before the bench began. */
  readonly load: number
}

/** Looks at the machine now, and when what is given back is called, after all processes of the bench have ended. */
export const listen = (): () => Neighbours => {
  const [from, load] = [ticks(), os.loadavg()[0]!]
  return () => ({ load, ...noiseBetween(from, ticks()) })
}

const percent = (part: number): string => `${(part * 100).toFixed(part < 0.1 ? 1 : 0)} %`

// from here on the bench itself did not get what it needs
const busy = 0.2

export const saidOf = ({ load, others, stolen }: Neighbours): string => {
  const before = `load average before ${load.toFixed(1)}`
  const meanwhile = `other programs ${percent(others)} of all processors, stolen ${percent(stolen)}`
  const advice = others + stolen > busy ? ": too much to believe these figures, measure again on a quiet machine" : ""
  return `${before}, ${meanwhile}${advice}`
}
