/** Which pings of a peer are answered: so many of a turn one by one, of more only the newest, as RFC 6455, 5.5.3, allows. */

/** How many pings are answered one by one while no pong has left. */
export const pongsOneByOne = 32

/** The pings of one peer since its pongs last left. A ping that will not be answered costs no pong. */
export class Pongs<A> {
  /** How many pings came since pongs last left: the peer owes us taking an answer. */
  owed = 0
  private newest: A | undefined

  /** Whether a ping is answered by itself. Of those that are not, the newest is kept. */
  answers(ping: A): boolean {
    if (this.owed++ < pongsOneByOne) return true
    this.newest = ping
    return false
  }

  /** Whether a ping waits for the others of its read to be answered. */
  get hasNewest(): boolean {
    return this.newest !== undefined
  }

  /** The pongs leave now, and with them the answer to this one. */
  leave(): A | undefined {
    const { newest } = this
    this.newest = undefined
    this.owed = 0
    return newest
  }
}
