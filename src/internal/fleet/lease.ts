/** How long this node may serve its keys, by its own clocks: 0.9 of the lease, counted from before the engine was asked. */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"

/** What keeps a message from an older login. A test switches one off and sees that it is needed. */
export interface Guards {
  /** Of two claims of one node the greater token wins, also when that was answered first. */
  readonly tokens: boolean
  /** A node whose lease may have ended delivers nothing by key. */
  readonly fence: boolean
  /** A node remembers that a key was taken from it before it heard that it has it. */
  readonly revocations: boolean
  /** Keys are claimed again before they are served again. */
  readonly claimsAgain: boolean
  /** Tokens are compared by epoch, and a young epoch takes no new logins. */
  readonly epochs: boolean
}

/** Internal: which guards are in force. */
export const Guards: Context.Reference<Guards> = Context.Reference<Guards>("holdfast/Fleet/Guards", {
  defaultValue: () => ({ tokens: true, fence: true, revocations: true, claimsAgain: true, epochs: true })
})

/** A moment on both clocks: one stands still while a machine sleeps, the other one is set. */
export interface Moment {
  readonly monotonic: number
  readonly wall: number
}

export const momentOf = (clock: Clock.Clock): Moment => ({
  monotonic: Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000,
  wall: clock.currentTimeMillisUnsafe()
})

interface Term {
  /** What was checked in this term is good for as long as the term is. */
  readonly number: number
  /** From when on it counts. */
  from: Moment | undefined
}

const servedShare = 0.9

/**
 * The lease of this node. What is served has been checked in a term. A new term begins when a key may have been taken without
 * a word: after a fence, a gap, or with a new session. What was checked in the term before is served until that has lapsed.
 */
export class Lease {
  readonly millis: number
  private readonly clock: Clock.Clock
  private readonly isGuarded: boolean
  private readonly onFenced: () => void
  private term: Term = { number: 1, from: undefined }
  private before: Term = { number: 0, from: undefined }
  /** A node that had a lease and may not serve now. */
  isFenced = false

  constructor(clock: Clock.Clock, millis: number, isGuarded: boolean, onFenced: () => void) {
    this.clock = clock
    this.millis = millis
    this.isGuarded = isGuarded
    this.onFenced = onFenced
  }

  get number(): number {
    return this.term.number
  }

  now(): Moment {
    return momentOf(this.clock)
  }

  private lasts({ from }: Term): boolean {
    if (from === undefined) return false
    const now = this.now()
    const passed = Math.max(now.monotonic - from.monotonic, now.wall - from.wall)
    return passed < servedShare * this.millis
  }

  /** What came back through the inbox of this node proves that it heard all that was said before. */
  extend(term: number, asked: Moment): void {
    if (term !== this.term.number) return
    const extended: Term = { number: term, from: asked }
    if (this.isGuarded && !this.lasts(extended)) return
    this.term.from = asked
    this.isFenced = false
  }

  /** Keys may have been taken unheard: they are to be checked, and until then what was checked before runs out. */
  doubt(): void {
    if (this.term.from !== undefined) this.before = this.term
    this.term = { number: this.term.number + 1, from: undefined }
  }

  /** Looks whether the lease has lapsed, and fences the node if so. */
  check(): void {
    if (!this.isGuarded || this.isFenced) return
    const lapsed = this.term.from === undefined ? this.before : this.term
    if (lapsed.from === undefined || this.lasts(lapsed)) return
    this.isFenced = true
    this.before = { number: -1, from: undefined }
    this.term = { number: this.term.number + 1, from: undefined }
    this.onFenced()
  }

  /** Whether a key that was checked in a term may be served. */
  serves(term: number): boolean {
    if (!this.isGuarded) return true
    this.check()
    if (term === this.term.number) return this.term.from !== undefined
    return term === this.before.number && this.before.from !== undefined && this.lasts(this.before)
  }
}
