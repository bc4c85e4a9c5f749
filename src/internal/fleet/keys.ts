/** The keys that this node serves, by which claim, and what it has heard of claims of others. */
import { isNewer, type Token } from "../backplane/engine.ts"
import type { Guards, Lease } from "./lease.ts"

/** A connection of this node that has a key. */
export interface Held {
  readonly key: string
  readonly id: number
  /** None where it was let in while the engine was away: it is claimed later. */
  token: Token | undefined
  /** The term of the lease in which the directory confirmed it. */
  term: number
  /** The session in which it was claimed. */
  session: number
  /** Ends the connection, in the background: a newer login has its key. */
  readonly supersede: () => void
}

interface Revocation {
  readonly token: Token
  readonly at: number
}

/** Whose logins are under way, and which keys this node holds. */
export class Keys {
  readonly held = new Map<string, Held>()
  /** How many logins are under way for a key. */
  private readonly coming = new Map<string, number>()
  private revocations = new Map<string, Revocation>()
  private readonly guards: Guards
  private readonly lease: Lease

  constructor(guards: Guards, lease: Lease) {
    this.guards = guards
    this.lease = lease
  }

  isNewer(token: Token, than: Token | undefined): boolean {
    if (than === undefined) return true
    return this.guards.epochs ? isNewer(token, than) : token.number > than.number
  }

  /** What may get messages for this key now: one that claimed it with this token or a newer one. */
  serving(key: string, token?: Token): Held | undefined {
    const held = this.held.get(key)
    if (held === undefined || !this.lease.serves(held.term)) return undefined
    const isOlder = token !== undefined && this.guards.tokens && this.isNewer(token, held.token)
    return isOlder ? undefined : held
  }

  /** Whether a claim is not the newest one of its key that this node knows. */
  isLate(key: string, token: Token): boolean {
    const held = this.held.get(key)
    if (this.guards.tokens && held?.token !== undefined && this.isNewer(held.token, token)) return true
    const revoked = this.revocations.get(key)
    return revoked !== undefined && this.isNewer(revoked.token, token)
  }

  /** A newer login was claimed elsewhere. Gives the token of the older one of this node, which it ends. */
  revoke(key: string, token: Token): Token | undefined {
    const known = this.revocations.get(key)
    if (this.guards.revocations && this.isNewer(token, known?.token)) {
      this.revocations.set(key, { token, at: this.lease.now().monotonic })
    }
    const held = this.held.get(key)
    if (held === undefined || (held.token !== undefined && !this.isNewer(token, held.token))) return undefined
    this.held.delete(key)
    held.supersede()
    return held.token
  }

  /** Forgets revocations that no claim under way can be older than. */
  forget(): void {
    if (this.revocations.size === 0) return
    const oldest = this.lease.now().monotonic - 4 * this.lease.millis
    for (const [key, { at }] of this.revocations) {
      // in the order in which they came, but for those that were renewed
      if (at > oldest) break
      this.revocations.delete(key)
    }
  }

  begin(key: string): void {
    this.coming.set(key, (this.coming.get(key) ?? 0) + 1)
  }

  end(key: string): void {
    const left = this.coming.get(key)! - 1
    if (left === 0) this.coming.delete(key)
    else this.coming.set(key, left)
  }

  isComing(key: string): boolean {
    return this.coming.has(key)
  }
}
