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

/** Logins of a key that are under way. */
interface Coming {
  count: number
  /** The greatest token of which this node has heard meanwhile: an older one comes too late. */
  newest: Token | undefined
}

/** Whose logins are under way, and which keys this node holds. */
export class Keys {
  readonly held = new Map<string, Held>()
  private readonly coming = new Map<string, Coming>()
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

  /** What may get messages for this key now. */
  serving(key: string): Held | undefined {
    const held = this.held.get(key)
    return held !== undefined && this.lease.serves(held.term) ? held : undefined
  }

  /** Whether a claim is not the newest one of its key that this node knows. */
  isLate(key: string, token: Token): boolean {
    const held = this.held.get(key)
    if (this.guards.tokens && held?.token !== undefined && this.isNewer(held.token, token)) return true
    const newest = this.coming.get(key)?.newest
    return newest !== undefined && this.isNewer(newest, token)
  }

  /** Logins under way with a smaller token are too late. Where there are none, nothing can be, and nothing is kept. */
  private note(key: string, token: Token): void {
    const coming = this.coming.get(key)
    if (coming !== undefined && this.isNewer(token, coming.newest)) coming.newest = token
  }

  /** A newer login was claimed elsewhere. Gives the token of the older one of this node, which it ends. */
  revoke(key: string, token: Token): Token | undefined {
    if (this.guards.revocations) this.note(key, token)
    const held = this.held.get(key)
    if (held === undefined || (held.token !== undefined && !this.isNewer(token, held.token))) return undefined
    this.held.delete(key)
    held.supersede()
    return held.token
  }

  /** A connection has its key no more; false where another one has it already. */
  letGo(held: Held): boolean {
    if (this.held.get(held.key) !== held) return false
    this.held.delete(held.key)
    if (held.token !== undefined && this.guards.tokens) this.note(held.key, held.token)
    return true
  }

  /** A login of this key begins: until its `end`, what would make it too late is remembered. */
  begin(key: string): void {
    const coming = this.coming.get(key)
    if (coming === undefined) this.coming.set(key, { count: 1, newest: undefined })
    else coming.count++
  }

  end(key: string): void {
    if (--this.coming.get(key)!.count === 0) this.coming.delete(key)
  }

  isComing(key: string): boolean {
    return this.coming.has(key)
  }
}
