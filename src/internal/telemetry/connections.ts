/** The figures of connections: summed over those that live, and kept of those that have ended. */
import { type Add, type Collector } from "./collector.ts"
import type { rules } from "./definitions.ts"

/** A connection, as far as its figures need it. */
export interface Counted {
  readonly opened: number
  readonly lifecycle: { readonly _tag: "Open" | "Draining" | "Closing" | "Ended" }
  readonly facts: { readonly readingSince: number | undefined }
  readonly bytesIn: number
  readonly messagesIn: number
  readonly undecoded: number
  readonly skipped: number
  readonly lost: number
  readonly inbox: { readonly messages: number; readonly bytes: number }
  readonly outbox: {
    readonly messages: number
    readonly bytes: number
    readonly written: number
    readonly accepted: number
    readonly dropped: number
    readonly droppedOldest: number
  }
  readonly pings: { readonly sent: number; readonly late: number }
}

/** What becomes of a connection. */
export interface End {
  readonly reason: string
  readonly rule: typeof rules[number] | undefined
  /** How long it lived, in milliseconds. */
  readonly age: number
}

/** Adds up the counters of one connection. */
class Totals {
  bytesIn = 0
  bytesOut = 0
  messagesIn = 0
  messagesOut = 0
  lost = 0
  droppedNewest = 0
  droppedOldest = 0
  skipped = 0
  pings = 0
  late = 0

  add({ bytesIn, lost, messagesIn, outbox, pings, skipped }: Counted): void {
    this.bytesIn += bytesIn
    this.bytesOut += outbox.written
    this.messagesIn += messagesIn
    this.messagesOut += outbox.accepted
    this.lost += lost
    this.droppedNewest += outbox.dropped - outbox.droppedOldest
    this.droppedOldest += outbox.droppedOldest
    this.skipped += skipped
    this.pings += pings.sent
    this.late += pings.late
  }

  /** Says them, together with those of `past`. */
  tell(add: Add): void {
    add("received_bytes_total", this.bytesIn)
    add("sent_bytes_total", this.bytesOut)
    add("received_messages_total", this.messagesIn)
    add("sent_messages_total", this.messagesOut)
    add("lost_messages_total", this.lost)
    add("dropped_messages_total", this.droppedNewest, "drop-newest")
    add("dropped_messages_total", this.droppedOldest, "drop-oldest")
    add("skipped_frames_total", this.skipped)
    add("pings_sent_total", this.pings)
    add("pongs_missed_total", this.late)
  }
}

/** The connections of one collector. */
export class Connections {
  private readonly living = new Set<Counted>()
  private readonly past = new Totals()
  private readonly collector: Collector
  private opened = 0

  constructor(collector: Collector) {
    this.collector = collector
    collector.watch((add) => this.tell(add))
  }

  open(connection: Counted): void {
    this.opened++
    this.living.add(connection)
  }

  /** Its last figures are kept. One that was not opened here, or has ended before, is not counted. */
  end(connection: Counted, { age, reason, rule }: End): void {
    if (!this.living.delete(connection)) return
    this.past.add(connection)
    this.collector.count("connections_ended_total", 1, reason)
    if (rule !== undefined) this.collector.count("connections_ended_by_deadline_total", 1, rule)
    this.collector.observe("connection_lifetime_seconds", age / 1000)
  }

  private tell(add: Add): void {
    const states = { Open: 0, Draining: 0, Closing: 0, Ended: 0 }
    const totals = new Totals()
    let paused = 0
    let inboxMessages = 0
    let inboxBytes = 0
    let outboxMessages = 0
    let outboxBytes = 0
    let largest = 0
    for (const connection of this.living) {
      const { facts, inbox, lifecycle, outbox, undecoded } = connection
      states[lifecycle._tag]++
      if (lifecycle._tag === "Open" && facts.readingSince === undefined) paused++
      inboxMessages += inbox.messages
      inboxBytes += inbox.bytes + undecoded
      outboxMessages += outbox.messages
      outboxBytes += outbox.bytes
      if (outbox.bytes > largest) largest = outbox.bytes
      totals.add(connection)
    }
    add("connections_opened_total", this.opened)
    add("connections", states.Open, "open")
    add("connections", states.Draining, "draining")
    // its end is settled, and its transport is released next
    add("connections", states.Closing + states.Ended, "closing")
    add("connections_paused", paused)
    add("inbox_messages", inboxMessages)
    add("inbox_bytes", inboxBytes)
    add("outbox_messages", outboxMessages)
    add("outbox_bytes", outboxBytes)
    add("outbox_largest_bytes", largest)
    totals.tell(add)
    this.past.tell(add)
  }
}
