/** The requests that a peer sends before it has the answers to earlier ones: so many of them are with the application at a time. */
import type * as Http from "node:http"
import type * as Net from "node:net"
import type { Budget } from "../../../internal/memory/budget.ts"
import type { Scheduling } from "../../../internal/scheduling/timers.ts"
import { longestTimer } from "../options.ts"
import { type Asked, HttpHolding, weightOf } from "./reading/holding.ts"
import { Reading } from "./reading/reading.ts"
import { readInSlices } from "./reading/slices.ts"
import type { Settings } from "./settings.ts"

// what one turn of the event loop starts of the requests of one connection: the others have theirs first
const share = 16

let turn = 0
let isCounted = false

/** The turn of the event loop, as far as requests begin in it. */
const turnNow = (): number => {
  if (!isCounted) {
    isCounted = true
    setImmediate(() => {
      isCounted = false
      turn++
    }).unref()
  }
  return turn
}

interface Held extends Asked {
  readonly dispatch: () => void
}

/**
 * Holds the requests beyond `maxConcurrentRequests` of a connection until an answer has left, and reads no more meanwhile. What
 * is held is at most the requests of one slice of a read; the rest of that read stays bytes.
 */
export class Pipeline {
  readonly conn: Net.Socket
  readonly reading: Reading
  private readonly settings: Settings
  /** Those with the application, in their order, which is that of their answers. */
  readonly atWork: Array<Asked> = []
  readonly held: Array<Held> = []
  /** Bytes of a head that is not complete, as far as slices tell. */
  unfinished = 0
  private count = 0
  /** The request that came last, until it is answered. */
  private newest: Http.IncomingMessage | undefined
  private holding: HttpHolding | undefined
  /** An answer under way says `Connection: close`. */
  private isClosing = false
  private isLeaving = false
  private isScheduled = false
  /** The turn in which a request was started last, and how many were. */
  private turn = -1
  private started = 0
  private isWaiting = false
  /** A request that was late because we did not read. */
  private late: { readonly number: number; readonly expire: () => void } | undefined
  private timer: NodeJS.Timeout | undefined

  constructor(conn: Net.Socket, settings: Settings) {
    this.conn = conn
    this.settings = settings
    this.reading = new Reading(conn, settings.linger, () => this.resumed(), () => this.abandon())
  }

  /** Node's server has the connection: what it reads is looked at from here on. */
  begin(): void {
    let count = 0
    // before a slice: no request is incomplete
    let isBetween = true
    readInSlices(this.conn, () => this.count, ({ length }) => {
      this.unfinished = isBetween && count === this.count ? this.unfinished + length : 0
      count = this.count
      isBetween = this.newest?.complete !== false
      this.holding?.count()
    })
  }

  /** Counts what the connection holds; `end` is to end it when it holds too much. */
  countIn(budget: Budget, scheduling: Scheduling, end: (limit: number) => void): void {
    this.holding = new HttpHolding(budget, scheduling, this, end)
    this.conn.once("close", () => this.countOut())
  }

  countOut(): void {
    this.holding?.end()
  }

  /** Memory is not tight any more, or it holds little enough. */
  memoryFreed(): void {
    this.reading.memoryFreed()
    if (this.held.length > 0) this.waitForTurn()
  }

  /** Something of an answer was written. */
  wrote(): void {
    this.holding?.count()
  }

  /** How many requests are with the application, or wait for it. */
  get size(): number {
    return this.atWork.length + this.held.length
  }

  /** How many the application may have: no further one beside that at work, while the connection holds too much. */
  private get most(): number {
    if (this.reading.awaitsMemory) return 1
    return this.settings.policy.maxConcurrentRequests || Infinity
  }

  /** Gives a request to the application, at once or when its turn has come. */
  enter(request: Http.IncomingMessage, response: Http.ServerResponse, dispatch: () => void): void {
    const { atWork, held } = this
    this.count++
    this.newest = request
    const asked = { request, response, weight: this.holding === undefined ? 0 : weightOf(request), dispatch }
    const isFull = atWork.length >= this.most
    if (held.length > 0 || this.isClosing || isFull || !this.hasShare) {
      held.push(asked)
      if (held.length === 1) this.reading.hold()
      if (!isFull) this.waitForTurn()
      return
    }
    this.start(asked)
  }

  private get hasShare(): boolean {
    return this.turn !== turnNow() || this.started < share
  }

  /** The rest is started in the next turn. */
  private waitForTurn(): void {
    if (this.isWaiting || this.isClosing) return
    this.isWaiting = true
    setImmediate(() => {
      this.isWaiting = false
      this.turn = -1
      this.release()
    })
  }

  private start(asked: Held): void {
    if (this.isLeaving) this.close(asked.response)
    const now = turnNow()
    this.started = this.turn === now ? this.started + 1 : 1
    this.turn = now
    this.atWork.push(asked)
    asked.dispatch()
  }

  /** An answer has left. */
  answered(response: Http.ServerResponse): void {
    const { atWork, held } = this
    if (atWork[0]?.response !== response) return
    atWork.shift()
    if (this.size === 0 && this.newest?.complete === true) this.newest = undefined
    this.holding?.count()
    if (held.length === 0 || this.isScheduled) return
    this.isScheduled = true
    // not in the middle of what Node does then: the connection may be at its end
    queueMicrotask(() => {
      this.isScheduled = false
      this.release()
    })
  }

  private release(): void {
    const { atWork, conn, held } = this
    while (held.length > 0 && atWork.length < this.most && this.hasShare && !this.isClosing && conn.writable) {
      this.start(held.shift()!)
    }
    if (held.length > 0 && atWork.length < this.most && !this.hasShare) this.waitForTurn()
    if (held.length > 0 || conn.destroyed) return
    this.reading.release()
  }

  private resumed(): void {
    if (this.late === undefined) return
    const { frame, handshake } = this.settings
    const limit = frame || handshake
    clearTimeout(this.timer)
    if (limit <= longestTimer) this.timer = setTimeout(() => this.expire(), limit).unref()
  }

  /** No further request is handled. */
  abandon(): void {
    this.isClosing = true
    this.held.length = 0
    this.reading.abandon()
    clearTimeout(this.timer)
  }

  /** Reads no more, where all requests that came are whole and some of them are not answered. */
  holdRest(): boolean {
    if (this.size === 0 || this.newest?.complete === false) return false
    this.reading.hold()
    return true
  }

  // ---- a request that is late ---------------------------------------------------------------------------------------

  /** Whether a deadline of Node was over because nothing was read; `expire` is called when the request is late again. */
  excuse(expire: () => void): boolean {
    if (!this.reading.isPaused) return false
    this.late = { number: this.count + (this.newest?.complete === false ? 0 : 1), expire }
    return true
  }

  private expire(): void {
    const { count, late, newest } = this
    if (late === undefined || this.reading.isPaused) return
    this.late = undefined
    // Node does not watch it any more; later ones it does
    if (count < late.number || (count === late.number && newest?.complete === false)) late.expire()
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** The last answer under way says `Connection: close`, or the next one where its head has gone. No request after it is handled. */
  leave(): void {
    this.isLeaving = true
    const last = this.atWork.at(-1)
    if (last !== undefined) this.close(last.response)
  }

  private close(response: Http.ServerResponse): void {
    if (response.headersSent) return
    response.shouldKeepAlive = false
    this.isClosing = true
  }
}
