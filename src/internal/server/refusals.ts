/** Refusals, counted by what refused; and logged, where nothing else hears of them: a line a second, however many there are. */
import type * as ConnectionError from "../../ConnectionError.ts"
import type { Timers } from "../scheduling/timers.ts"

// milliseconds in which refusals are one line
const together = 1000

/** What refused: the limit, or the tag of another reason. */
const nameOf = (reason: ConnectionError.Reason): string => reason._tag === "Refused" ? reason.limit : reason._tag

export class Refusals {
  private readonly all = new Map<string, number>()
  private fresh = new Map<string, number>()
  private timer: { readonly cancel: () => void } | undefined
  private readonly time: Pick<Timers, "now" | "at">
  private readonly log: ((text: string) => void) | undefined

  /** Without `log` they are only counted. */
  constructor(time: Pick<Timers, "now" | "at">, log: ((text: string) => void) | undefined) {
    this.time = time
    this.log = log
  }

  add(reason: ConnectionError.Reason): void {
    const name = nameOf(reason)
    this.all.set(name, (this.all.get(name) ?? 0) + 1)
    if (this.log === undefined) return
    this.fresh.set(name, (this.fresh.get(name) ?? 0) + 1)
    this.timer ??= this.time.at(this.time.now() + together, () => this.flush())
  }

  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.all)
  }

  /** Logs what was not logged yet. */
  flush(): void {
    this.timer?.cancel()
    this.timer = undefined
    const { fresh } = this
    if (fresh.size === 0) return
    this.fresh = new Map()
    let count = 0
    const parts: Array<string> = []
    for (const [name, times] of fresh) {
      count += times
      parts.push(`${name} ${times}`)
    }
    this.log!(`refused ${count} connection${count === 1 ? "" : "s"}: ${parts.join(", ")}`)
  }
}
