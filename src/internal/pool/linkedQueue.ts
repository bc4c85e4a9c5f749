/** Who waits, first come first served: in a `Set`, the first one is found only past the places of those who have left. */
export interface Link {
  next: Link | undefined
  previous: Link | undefined
}

export class LinkedQueue<A extends Link> {
  size = 0
  first: A | undefined
  private last: A | undefined

  add(place: A): void {
    place.previous = this.last
    if (this.last === undefined) this.first = place
    else this.last.next = place
    this.last = place
    this.size++
  }

  /** Whether it stood in this line: it may stand in no other. */
  delete(place: A): boolean {
    const { next, previous } = place
    if (previous === undefined && this.first !== place) return false
    if (previous === undefined) this.first = next as A | undefined
    else previous.next = next
    if (next === undefined) this.last = previous as A | undefined
    else next.previous = previous
    place.next = undefined
    place.previous = undefined
    this.size--
    return true
  }
}
