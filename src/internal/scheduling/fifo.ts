/** First in, first out, and out of the middle: what waits its turn may give up. */

/** An entry of a `Fifo`, linked to its neighbours: it may be in one queue at a time. Only the queue changes these fields. */
export interface Queued<A> {
  queue: unknown
  next: A | undefined
  previous: A | undefined
}

/** What an entry begins with. */
export const unqueued = { queue: undefined, next: undefined, previous: undefined }

/**
 * A queue of which each operation costs the same, however many entries have come and gone. In a `Set` the first entry is found
 * only past the places of all that have left: to drain a million costs 330 us for each (Node 24).
 *
 * It is for what comes and goes all the time, too. A `Set` gets another table each time that as many have left as it has
 * places for; the old table still has all entries of that moment, and a link to the new one. Once an old table has grown old for V8's
 * collector, it keeps every later one, and with it nearly everything that was ever in the `Set`, until the next full collection:
 * 10 KB for each connection that had ended, and a third of what it cost to take one.
 */
export class Fifo<A extends Queued<A>> {
  size = 0
  first: A | undefined
  private last: A | undefined

  add(entry: A): void {
    entry.queue = this
    entry.previous = this.last
    if (this.last === undefined) this.first = entry
    else this.last.next = entry
    this.last = entry
    this.size++
  }

  has(entry: A): boolean {
    return entry.queue === this
  }

  /** In order. The entry that is looked at may leave meanwhile, and no other one: else take `Array.from` of it. */
  *[Symbol.iterator](): IterableIterator<A> {
    let next: A | undefined
    for (let entry = this.first; entry !== undefined; entry = next) {
      next = entry.next
      yield entry
    }
  }

  /** Whether the entry was in this queue. */
  delete(entry: A): boolean {
    if (entry.queue !== this) return false
    const { next, previous } = entry
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next === undefined) this.last = previous
    else next.previous = previous
    entry.queue = undefined
    entry.next = undefined
    entry.previous = undefined
    this.size--
    return true
  }

  /** Takes the first entry. */
  shift(): A | undefined {
    const { first } = this
    if (first !== undefined) this.delete(first)
    return first
  }

  /** Takes all entries, in order. */
  takeAll(): Array<A> {
    const all: Array<A> = []
    for (let entry = this.shift(); entry !== undefined; entry = this.shift()) all.push(entry)
    return all
  }
}
