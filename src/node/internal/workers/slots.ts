/** Which ids each process has: the last digits of an id say which process it is from. */

/** The numbers that processes have while they live; a renewal has twice as many of them. */
export class Slots {
  /** How many ids apart those of one process are: a power of ten. */
  readonly step: number
  private readonly taken = new Set<number>()

  constructor(workers: number) {
    this.step = 10 ** Math.ceil(Math.log10(4 * workers + 1))
  }

  /** The smallest that is free; 0 where so many old ones drain that none is. */
  take(): number {
    for (let slot = 1; slot < this.step; slot++) {
      if (this.taken.has(slot)) continue
      this.taken.add(slot)
      return slot
    }
    return 0
  }

  free(slot: number): void {
    this.taken.delete(slot)
  }
}
