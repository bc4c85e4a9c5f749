/** The pings a connection has sent and is waiting for, and the ones its peer sends. */

// an unanswered ping beyond these is still overdue, but its late pong no longer gives a round-trip time
const remembered = 64

// pings that a stall of the network held up arrive together: so many that were due by then are no strike
const heldUp = 8

// one strike at most in so many milliseconds: pings of one read, or of many reads after a stall of ours, come together
const together = 100

// a ping in a crowd comes a part in so many of its interval early, and clocks differ
const slack = 50

// a token travels in 32 bits, and 0 is none
const lastToken = 0xffff_ffff

interface Sent {
  readonly token: number
  readonly at: number
}

const none: Array<Sent> = []

/** Times are milliseconds of the monotonic clock. */
export class Pings {
  private waiting: Array<Sent> = none
  private nextToken = 1
  /** When the peer's next ping is in good time. */
  private peerPingDue: number
  private strikes = 0
  private struckAt = -Infinity
  /** When the oldest unanswered ping was sent. */
  oldestAt: number | undefined
  /** How many pings are unanswered. */
  count = 0
  /** How many were sent. */
  sent = 0
  /** How many were sent while an earlier one had no answer. */
  late = 0
  /** How many were sent since a pong came: where pongs carry no token, `count` may never be 0 again after a miss. */
  missed = 0
  /** When the last ping was sent. */
  lastAt: number
  rtt: { readonly last: number; readonly smoothed: number } | undefined

  constructor(now: number) {
    this.lastAt = now
    this.peerPingDue = now
  }

  send(now: number): number {
    const token = this.nextToken
    this.nextToken = token === lastToken ? 1 : token + 1
    if (this.waiting === none) this.waiting = []
    if (this.waiting.length === remembered) this.waiting.shift()
    this.waiting.push({ token, at: now })
    if (this.oldestAt === undefined) this.oldestAt = now
    else this.late++
    this.count++
    this.sent++
    this.missed++
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
    this.missed = 0
    this.waiting.splice(0, index + 1)
    this.count = this.waiting.length
    this.oldestAt = this.waiting[0]?.at
    return true
  }

  /** Whether the pong to this ping, or to one behind it, has come. */
  isAnswered(token: number): boolean {
    return !this.waiting.some((ping) => ping.token === token)
  }

  /** The peer pinged. True at the third time it came too early; one in good time forgives the others. */
  peerPinged(now: number, minimum: number): boolean {
    const early = now < this.peerPingDue - minimum / slack
    if (!early) {
      this.strikes = 0
      this.peerPingDue = minimum + Math.max(this.peerPingDue, now - (heldUp - 1) * minimum)
    } else if (now - this.struckAt >= Math.min(together, minimum / 2)) {
      this.strikes++
      this.struckAt = now
      this.peerPingDue = minimum + now
    }
    return this.strikes >= 3
  }
}
