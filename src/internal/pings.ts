/** The pings a connection has sent and is waiting for, and the ones its peer sends. */

// an unanswered ping beyond these is still overdue, but its late pong no longer gives a round-trip time
const remembered = 64

/** Times are milliseconds of the monotonic clock. */
export class Pings {
  private readonly waiting: Array<{ readonly token: number; readonly at: number }> = []
  private nextToken = 1
  private peerPingedAt = -Infinity
  private strikes = 0
  /** When the oldest unanswered ping was sent. */
  oldestAt: number | undefined
  /** How many pings are unanswered. */
  count = 0
  /** When the last ping was sent. */
  lastAt: number
  rtt: { readonly last: number; readonly smoothed: number } | undefined

  constructor(now: number) {
    this.lastAt = now
  }

  send(now: number): number {
    const token = this.nextToken++
    if (this.waiting.length === remembered) this.waiting.shift()
    this.waiting.push({ token, at: now })
    this.oldestAt ??= now
    this.count++
    this.lastAt = now
    return token
  }

  /** A pong answers its ping and all before it. Without a token it answers the oldest. False: it answers nothing. */
  answered(token: number | undefined, now: number): boolean {
    const index = token === undefined ? 0 : this.waiting.findIndex((ping) => ping.token === token)
    const ping = this.waiting[index]
    if (ping === undefined) return false
    const last = now - ping.at
    this.rtt = { last, smoothed: this.rtt === undefined ? last : this.rtt.smoothed + (last - this.rtt.smoothed) / 8 }
    this.waiting.splice(0, index + 1)
    this.count = this.waiting.length
    this.oldestAt = this.waiting[0]?.at
    return true
  }

  /** The peer pinged. True at the third time it came too early; one in good time forgives the others. */
  peerPinged(now: number, minimum: number): boolean {
    const early = now - this.peerPingedAt < minimum
    this.peerPingedAt = now
    this.strikes = early ? this.strikes + 1 : 0
    return this.strikes >= 3
  }
}
