/** What an engine in memory knows: leases, and who holds which key. Without time of its own. */
import { type Claim, type ClaimOptions, type Holder, isNewer, type Member, remembered, type Token } from "./engine.ts"

interface Lease {
  readonly until: number
  readonly millis: number
  readonly isLeaving: boolean
}

/** Who holds a key, and the newest login that wants it. */
interface Entry extends Holder {
  readonly wanted?: Holder | undefined
}

/** The newest login of a key that no node holds, and until when it is remembered. */
interface Gone extends Holder {
  readonly until: number
}

const isSame = (one: Token, other: Token): boolean => one.epoch === other.epoch && one.number === other.number

/** The memory of an engine in one epoch. Times are milliseconds of the clock of the engine. */
export class Directory {
  readonly epoch: number
  private readonly leases = new Map<string, Lease>()
  private readonly keys = new Map<string, Entry>()
  // in the order in which they were given back
  private readonly gone = new Map<string, Gone>()
  private claims = 0

  constructor(epoch: number) {
    this.epoch = epoch
  }

  isAlive(node: string, now: number): boolean {
    const lease = this.leases.get(node)
    return lease !== undefined && now < lease.until
  }

  join(node: string, millis: number, now: number): void {
    this.leases.set(node, { until: now + millis, millis, isLeaving: false })
  }

  /** False where there is no lease to renew. */
  renew(node: string, isLeaving: boolean, now: number): boolean {
    const lease = this.leases.get(node)
    if (lease === undefined || now >= lease.until) return false
    this.leases.set(node, { ...lease, until: now + lease.millis, isLeaving })
    return true
  }

  leave(node: string, now: number): void {
    const lease = this.leases.get(node)
    if (lease === undefined) return
    this.leases.delete(node)
    for (const [key, entry] of this.keys) if (entry.node === node) this.giveBack(key, entry, lease.millis, now)
  }

  /** An older login, of a node that is cut off, is not to take the key again. */
  private giveBack(key: string, { node, token, wanted }: Entry, lease: number, now: number): void {
    this.keys.delete(key)
    this.gone.delete(key)
    // no node is cut off where leases last for ever
    if (lease < Infinity) this.gone.set(key, { ...(wanted ?? { node, token }), until: now + remembered * lease })
    for (const [key, { until }] of this.gone) {
      if (now < until) break
      this.gone.delete(key)
    }
  }

  /** Of a key that no node holds: the newest login that had it, or wanted it. */
  private last(key: string, now: number): Holder | undefined {
    const entry = this.keys.get(key)
    if (entry !== undefined) return entry
    const gone = this.gone.get(key)
    return gone !== undefined && now < gone.until ? gone : undefined
  }

  nodes(now: number): ReadonlyArray<Member> {
    const members: Array<Member> = []
    for (const [node, { isLeaving, millis, until }] of this.leases) {
      if (now < until) members.push({ node, isLeaving })
      else if (now >= until + remembered * millis) this.forget(node)
    }
    return members
  }

  private forget(node: string): void {
    this.leases.delete(node)
    for (const [key, entry] of this.keys) if (entry.node === node) this.keys.delete(key)
  }

  find(key: string, now: number): Entry | undefined {
    const holder = this.keys.get(key)
    return holder !== undefined && this.isAlive(holder.node, now) ? holder : undefined
  }

  claim(node: string, key: string, { as, onlyIfFree, over }: ClaimOptions, now: number): Claim {
    const token: Token = as ?? { epoch: this.epoch, number: ++this.claims }
    const mine: Holder = { node, token }
    const holder = this.find(key, now)
    if (holder === undefined) {
      const last = this.last(key, now)
      // a node that is cut off may have the newer login still, and the older one may be of a node that was
      if (as !== undefined && last !== undefined && isNewer(last.token, as)) {
        return { _tag: "Taken", token, holder: last }
      }
      this.gone.delete(key)
      this.keys.set(key, mine)
      return { _tag: "Claimed", token }
    }
    const { wanted } = holder
    const mayReplace = holder.node === node || (over !== undefined && isSame(holder.token, over))
    if (isNewer(holder.token, token)) return { _tag: "Taken", token, holder }
    if (!mayReplace) {
      if (onlyIfFree !== true && isNewer(token, wanted?.token)) this.keys.set(key, { ...holder, wanted: mine })
      return { _tag: "Taken", token, holder }
    }
    const isWanted = wanted !== undefined && wanted.node !== node && isNewer(wanted.token, token)
    if (isWanted && holder.node === node) return { _tag: "Taken", token, holder: wanted }
    this.keys.set(key, { ...mine, wanted: isWanted ? wanted : undefined })
    return { _tag: "Claimed", token }
  }

  release(node: string, key: string, token: Token, now: number): void {
    const holder = this.keys.get(key)
    const lease = this.leases.get(node)
    if (lease === undefined || holder?.node !== node || !isSame(holder.token, token)) return
    this.giveBack(key, holder, lease.millis, now)
  }
}
