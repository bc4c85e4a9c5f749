/** What a member of the swarm has sent and heard: messages are delivered at most once, in order, and each send settles. */

export type Fail = (message: string) => void

type Fate = "unsettled" | "accepted" | "refused"

interface Sent {
  readonly at: number
  fate: Fate
  /** A batch may be accepted in part although it fails. */
  readonly isBatch: boolean
  received: boolean
  acknowledged: boolean
}

/** Of one client, whatever connections and processes it has in its life. Numbers count up from 1. */
export class Ledger {
  readonly key: string
  private readonly fail: Fail
  private readonly sent: Array<Sent> = []
  unsettled = 0
  accepted = 0
  refused = 0
  received = 0
  acknowledged = 0
  /** The last broadcast it has seen. */
  private broadcast = 0
  broadcasts = 0

  constructor(key: string, fail: Fail) {
    this.key = key
    this.fail = fail
  }

  next(at: number, isBatch: boolean): number {
    this.unsettled++
    return this.sent.push({ at, fate: "unsettled", isBatch, received: false, acknowledged: false })
  }

  settle(n: number, fate: "accepted" | "refused"): void {
    const sent = this.sent[n - 1]!
    if (sent.fate !== "unsettled") this.fail(`${this.key}: send ${n} settled twice`)
    sent.fate = fate
    this.unsettled--
    this[fate]++
    if (fate === "refused" && !sent.isBatch && sent.received) this.fail(`${this.key}: ${n} was delivered, then refused`)
  }

  /** Interrupted with its process: accepted or not, nobody knows. */
  abandon(n: number): void {
    const sent = this.sent[n - 1]!
    if (sent.fate !== "unsettled") return
    sent.fate = "accepted"
    this.unsettled--
  }

  /** The server has received a message; `before` is the last one on that connection. */
  receive(n: number, before: number): void {
    const sent = this.sent[n - 1]
    if (sent === undefined) return this.fail(`${this.key}: ${n} was received, and never sent`)
    if (sent.received) this.fail(`${this.key}: ${n} was received twice`)
    if (n <= before) this.fail(`${this.key}: ${n} was received after ${before} on one connection`)
    if (sent.fate === "refused" && !sent.isBatch) this.fail(`${this.key}: ${n} was delivered, although it was refused`)
    sent.received = true
    this.received++
  }

  /** The client has received an acknowledgement; `before` is the last one on that connection. */
  acknowledge(n: number, before: number): void {
    const sent = this.sent[n - 1]
    if (sent === undefined || !sent.received) return this.fail(`${this.key}: ${n} was acknowledged, and never received`)
    if (sent.acknowledged) this.fail(`${this.key}: ${n} was acknowledged twice`)
    if (n <= before) this.fail(`${this.key}: the acknowledgement of ${n} came after that of ${before}`)
    sent.acknowledged = true
    this.acknowledged++
  }

  /** The client has received a broadcast. They are numbered, and a client has one connection after the other. */
  hear(n: number): void {
    if (n <= this.broadcast) this.fail(`${this.key}: broadcast ${n} came after ${this.broadcast}`)
    this.broadcast = n
    this.broadcasts++
  }

  isAcknowledged(n: number): boolean {
    return this.sent[n - 1]!.acknowledged
  }

  /** When the oldest send began that has not settled. */
  get oldestUnsettled(): number | undefined {
    return this.unsettled === 0 ? undefined : this.sent.find(({ fate }) => fate === "unsettled")!.at
  }
}
