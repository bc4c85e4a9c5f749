/** Things that are due, soonest first. */

export interface Due {
  readonly at: number
  /** Of two at the same time, the one with the lower number comes first. */
  readonly order: number
}

const before = (a: Due, b: Due): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

/** A binary heap: what costs a sorted array a walk costs this a few steps. */
export class Heap<A extends Due> {
  private readonly items: Array<A> = []

  get size(): number {
    return this.items.length
  }

  get first(): A | undefined {
    return this.items[0]
  }

  push(item: A): void {
    const { items } = this
    let at = items.length
    while (at > 0) {
      const parent = (at - 1) >>> 1
      if (!before(item, items[parent])) break
      items[at] = items[parent]
      at = parent
    }
    items[at] = item
  }

  /** In no order. */
  forEach(see: (item: A) => void): void {
    this.items.forEach(see)
  }

  /** Those of its items that are still wanted. */
  filter(isWanted: (item: A) => boolean): Heap<A> {
    const kept = new Heap<A>()
    for (const item of this.items) if (isWanted(item)) kept.push(item)
    return kept
  }

  pop(): void {
    const { items } = this
    const last = items.pop()!
    if (items.length === 0) return
    let at = 0
    while (true) {
      let child = 2 * at + 1
      if (child >= items.length) break
      if (child + 1 < items.length && before(items[child + 1], items[child])) child++
      if (!before(items[child], last)) break
      items[at] = items[child]
      at = child
    }
    items[at] = last
  }
}
