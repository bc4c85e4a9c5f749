/** What has to hold of a connection at any moment, told from its snapshot and the faults so far. */
import * as Duration from "effect/Duration"
import type { Connection, Policy } from "../../../src/index.ts"
import type { Simulation } from "../../../src/testing/index.ts"
import type { Fail } from "./ledger.ts"

// a read gives at most what the receive buffer of a host holds
const oneRead = 64 * 1024

const millis = (duration: Duration.Duration): number => Duration.toMillis(duration)
const limitOf = (duration: Duration.Duration): number => millis(duration) || Infinity

/** For how much longer than it should a host may have taken a silence, because it stood still itself. */
const allowance = (
  host: string,
  from: number,
  to: number,
  limit: number,
  faults: ReadonlyArray<Simulation.Fault>
): number => {
  let sum = 0
  for (let i = faults.length - 1; i >= 0; i--) {
    const { at, kind, lasting, where } = faults[i]!
    // stalls are shorter than this
    if (at < from - 600_000) break
    if (kind !== "stall" || !where.startsWith(`${host} `)) continue
    const overlap = Math.min(to, at + lasting) - Math.max(from, at)
    // it notices late, and gives the peer half the limit again
    if (overlap > 0) sum += lasting + limit / 2
  }
  return sum
}

/** How often the swarm looks, in milliseconds. */
export const every = 15_000

/** Watches one connection: bounds of memory, and the longest silence. */
export class Watch {
  private readonly who: string
  private readonly host: string
  private readonly policy: Policy.Policy
  private readonly fail: Fail
  /** When it was last seen not reading, because its inbox was full. */
  private pausedAt = -Infinity
  private bytesIn = -1
  /** When it was first seen to have received that much: not what it says of itself. */
  private heardAt = 0

  constructor(who: string, host: string, policy: Policy.Policy, fail: Fail) {
    this.who = who
    this.host = host
    this.policy = policy
    this.fail = fail
  }

  /** Whatever it holds in memory stays within its bounds. */
  bounds({ inbox, outbox }: Connection.Snapshot): void {
    const { fail, policy, who } = this
    if (outbox.messages > policy.outboxMessages || outbox.bytes > policy.outboxBytes) {
      fail(`${who}: its outbox holds ${outbox.messages} messages, ${outbox.bytes} bytes`)
    }
    // a batch that crosses the bound is kept whole, and one read is ahead; the shortest message has two bytes
    if (inbox.bytes > policy.inboxBytes + 2 * oneRead) fail(`${who}: its inbox holds ${inbox.bytes} bytes`)
    if (inbox.messages > policy.inboxMessages + oneRead) fail(`${who}: its inbox holds ${inbox.messages} messages`)
  }

  look(now: number, snapshot: Connection.Snapshot, faults: ReadonlyArray<Simulation.Fault>): void {
    const { fail, policy, who } = this
    const { bytesIn, paused, quietFor, state } = snapshot
    this.bounds(snapshot)
    if (paused) this.pausedAt = now
    if (bytesIn !== this.bytesIn) {
      this.bytesIn = bytesIn
      this.heardAt = now
    }
    if (state !== "open" || paused) return
    const pingEvery = limitOf(policy.pingEvery)
    const pong = limitOf(policy.pong) + (policy.misses > 0 ? policy.misses * pingEvery : 0)
    const worst = Math.min(limitOf(policy.silence), pingEvery + pong)
    const since = Math.max(Math.min(now - quietFor, this.heardAt), this.pausedAt)
    // it may have been full for a moment that nobody saw
    const unseen = policy.inboxMessages < 1000 || policy.inboxBytes < 1_000_000 ? every : 0
    if (now - since <= worst + unseen) return
    const allowed = allowance(this.host, since, now, worst, faults) + unseen
    if (now - since > worst + allowed + 1) {
      fail(`${who}: silent for ${now - since} ms, which has to be noticed after ${worst} ms, and ${allowed} for stalls`)
    }
  }
}
