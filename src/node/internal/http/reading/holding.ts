/** What one HTTP connection holds: requests and their bodies, answers that have not left, and what was read and not parsed. */
import type * as Http from "node:http"
import type * as Net from "node:net"
import type { Budget, Holder } from "../../../../internal/memory/budget.ts"
import type { Scheduling } from "../../../../internal/scheduling/timers.ts"
import { unsent } from "../../stream/duplex.ts"
import type { Reading } from "./reading.ts"

/** A request that was parsed, and is not answered. */
export interface Asked {
  readonly request: Http.IncomingMessage
  readonly response: Http.ServerResponse
  /** Bytes that it takes in memory, beside its body. */
  readonly weight: number
}

// what Node makes of a request and its response is 1.7 KiB (measured, Node 24); the rest is what an application makes of them
const perRequest = 3 * 1024
// a string of its head, beside its characters
const perString = 24

/** What a request takes in memory, beside its body. */
export const weightOf = ({ rawHeaders, url = "" }: Http.IncomingMessage): number => {
  let weight = perRequest + url.length
  for (const text of rawHeaders) weight += perString + text.length
  return weight
}

/** A connection, as far as its memory is concerned. */
interface Owner {
  readonly conn: Net.Socket
  readonly reading: Reading
  /** Requests with the application, and those that wait for it, in their order. */
  readonly atWork: ReadonlyArray<Asked>
  readonly held: ReadonlyArray<Asked>
  /** Bytes of a request that has not begun. */
  readonly unfinished: number
  /** It may look again whether it reads on. */
  readonly memoryFreed: () => void
}

/** What a budget sees of an HTTP connection; made only where there is one. */
export class HttpHolding implements Holder {
  queue: unknown
  next: Holder | undefined
  previous: Holder | undefined
  counted = 0
  waiting = 0
  private readonly budget: Budget
  private readonly owner: Owner
  private readonly endOwner: (limit: number) => void
  private isOver = false

  /** `endOwner` is to end the connection. */
  constructor(budget: Budget, { timers, turns }: Scheduling, owner: Owner, endOwner: (limit: number) => void) {
    this.budget = budget
    this.owner = owner
    this.endOwner = endOwner
    budget.add(this, timers, turns)
  }

  end(): void {
    if (this.isOver) return
    this.isOver = true
    this.budget.remove(this)
  }

  heldBytes(): number {
    const { atWork, conn, held, unfinished } = this.owner
    // it is parsed when the connection is read again
    this.waiting = conn.readableLength
    let bytes = this.waiting + unfinished + unsent(conn)
    for (const { request, response, weight } of atWork) {
      bytes += weight + request.readableLength
      // the first one has the connection
      if (response.socket === null) bytes += response.writableLength
    }
    for (const { request, weight } of held) bytes += weight + request.readableLength
    return bytes
  }

  get awaitsMemory(): boolean {
    return this.owner.reading.awaitsMemory
  }

  /** After a read, and after a write. */
  count(): void {
    if (!this.isOver) this.budget.count(this)
  }

  pause(): void {
    this.owner.reading.pauseForMemory()
  }

  memoryFreed(): void {
    this.owner.memoryFreed()
  }

  holdsTooMuch(limit: number): void {
    this.endOwner(limit)
    this.end()
  }
}
