/** Everything that happened on a network, as a running hash and, when asked for, as a list. */
import type { EventKind, TraceEvent } from "../../Network.ts"

// in the order of their numbers in the hash: new kinds belong at the end
const kinds: ReadonlyArray<EventKind> = [
  "dial",
  "refuse",
  "open",
  "accept",
  "send",
  "arrive",
  "lose",
  "retransmit",
  "fin",
  "reset",
  "timeout",
  "vanish",
  "end",
  "rule",
  "host"
]

/** Keeps at least the last `limit` events. */
export class Trace {
  readonly events: Array<TraceEvent> = []
  private readonly limit: number
  private high = 0x811c9dc5
  private low = 0x9e3779b9
  count = 0

  constructor(limit: number) {
    this.limit = limit
  }

  add(at: number, kind: EventKind, connection: number, from: string, to: string, bytes: number): void {
    this.count++
    this.mix(at)
    this.mix(kinds.indexOf(kind))
    this.mix(connection)
    this.mix(bytes)
    for (let i = 0; i < from.length; i++) this.mix(from.charCodeAt(i))
    if (this.limit === 0) return
    // twice the limit and then half of it: one shift for many events
    if (this.events.length >= 2 * this.limit) this.events.splice(0, this.limit)
    this.events.push({ at, kind, connection, from, to, bytes })
  }

  get last(): ReadonlyArray<TraceEvent> {
    return this.events.slice(-this.limit)
  }

  get hash(): string {
    return [this.high, this.low].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("")
  }

  private mix(value: number): void {
    this.high = Math.imul(this.high ^ value, 0x01000193)
    this.low = Math.imul(this.low ^ value ^ (this.high >>> 15), 0x85ebca6b)
  }
}
