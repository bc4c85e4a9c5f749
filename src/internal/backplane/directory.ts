/** What an engine in memory knows: leases, and who holds which key. Without time of its own. */
import { type Claim, type ClaimOptions, type Holder, isNewer, type Member, type Token } from "./engine.ts"

interface Lease {
  readonly until: number
  readonly millis: number
  readonly isLeaving: boolean
}

/** Who holds a key, and the newest login that wants it. */
interface Entry extends Holder {
  readonly wanted?: Holder | undefined
  /** No node holds it: it was released while this one wanted it. */
  readonly isFree?: boolean
}

const isSame = (one: Token, other: Token): boolean => one.epoch === other.epoch && one.number === other.number

/** So many leases long after the end of one it is known which keys its node held. */
const remembered = 100

/** The memory of an engine in one epoch. Times are milliseconds of the clock of the engine. */
export class Directory {
  readonly epoch: number
  private readonly leases = new Map<string, Lease>()
  private readonly keys = new Map<string, Entry>()
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

  leave(node: string): void {
    this.leases.delete(node)
    this.forgetKeysOf(node)
  }

  private forgetKeysOf(node: string): void {
    for (const [key, holder] of this.keys) if (holder.node === node) this.keys.delete(key)
  }

  nodes(now: number): ReadonlyArray<Member> {
    const members: Array<Member> = []
    for (const [node, { isLeaving, millis, until }] of this.leases) {
      if (now < until) members.push({ node, isLeaving })
      else if (now >= until + remembered * millis) this.leave(node)
    }
    return members
  }

  find(key: string, now: number): Entry | undefined {
    const holder = this.keys.get(key)
    return holder !== undefined && holder.isFree !== true && this.isAlive(holder.node, now) ? holder : undefined
  }

  claim(node: string, key: string, { as, over }: ClaimOptions, now: number): Claim {
    const token: Token = as ?? { epoch: this.epoch, number: ++this.claims }
    const mine: Holder = { node, token }
    const holder = this.find(key, now)
    if (holder === undefined) {
      const last = this.keys.get(key)
      // a node that is cut off may have the newer login still
      if (as !== undefined && last !== undefined && isNewer(last.token, as)) {
        return { _tag: "Taken", token, holder: last }
      }
      this.keys.set(key, mine)
      return { _tag: "Claimed", token }
    }
    const { wanted } = holder
    const mayReplace = holder.node === node || (over !== undefined && isSame(holder.token, over))
    if (isNewer(holder.token, token)) return { _tag: "Taken", token, holder }
    if (!mayReplace) {
      this.keys.set(key, { ...holder, wanted: isNewer(token, wanted?.token) ? mine : wanted })
      return { _tag: "Taken", token, holder }
    }
    const isWanted = wanted !== undefined && wanted.node !== node && isNewer(wanted.token, token)
    if (isWanted && holder.node === node) return { _tag: "Taken", token, holder: wanted }
    this.keys.set(key, { ...mine, wanted: isWanted ? wanted : undefined })
    return { _tag: "Claimed", token }
  }

  release(node: string, key: string, token: Token): void {
    const holder = this.keys.get(key)
    if (holder?.node !== node || holder.isFree === true || !isSame(holder.token, token)) return
    if (holder.wanted === undefined) this.keys.delete(key)
    // an older login, of a node that is cut off, is not to take it first
    else this.keys.set(key, { ...holder.wanted, isFree: true })
  }
}
