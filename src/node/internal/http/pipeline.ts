/** The requests that a peer sends before it has the answers to earlier ones: so many of them are with the application at a time. */
import type * as Http from "node:http"
import type * as Net from "node:net"
import { longestTimer } from "../options.ts"
import { startReading, stopReading } from "../stream/duplex.ts"
import { linger } from "../stream/tcp.ts"
import type { Settings } from "./settings.ts"
import { readInSlices } from "./slices.ts"

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

interface Held {
  readonly request: Http.IncomingMessage
  readonly response: Http.ServerResponse
  readonly dispatch: () => void
}

/**
 * Holds the requests beyond `maxConcurrentRequests` of a connection until an answer has left, and reads no more meanwhile. Node
 * has parsed what it read already, so what is held is at most the requests of one read, 64 KiB.
 */
export class Pipeline {
  private readonly conn: Net.Socket
  private readonly settings: Settings
  /** Those with the application, in their order, which is that of their answers. */
  private readonly atWork: Array<Http.ServerResponse> = []
  private readonly held: Array<Held> = []
  private count = 0
  /** An answer under way says `Connection: close`. */
  private isClosing = false
  private isLeaving = false
  private hasListeners = false
  private isLingering = false
  private isScheduled = false
  /** The turn in which a request was started last, and how many were. */
  private turn = -1
  private started = 0
  private isWaiting = false
  /** A request that was late because we did not read. */
  private late: { readonly number: number; readonly expire: () => void; newest: Http.IncomingMessage } | undefined
  private timer: NodeJS.Timeout | undefined

  constructor(conn: Net.Socket, settings: Settings) {
    this.conn = conn
    this.settings = settings
  }

  /** How many requests are with the application, or wait for it. */
  get size(): number {
    return this.atWork.length + this.held.length
  }

  /** Whether requests wait, and nothing is read. */
  get isHolding(): boolean {
    return this.held.length > 0
  }

  /** Gives a request to the application, at once or when its turn has come. */
  enter(request: Http.IncomingMessage, response: Http.ServerResponse, dispatch: () => void): void {
    const { atWork, held, settings: { policy: { maxConcurrentRequests } } } = this
    this.count++
    if (this.late !== undefined) this.late.newest = request
    const isFull = maxConcurrentRequests > 0 && atWork.length >= maxConcurrentRequests
    if (held.length > 0 || this.isClosing || isFull || !this.hasShare) {
      held.push({ request, response, dispatch })
      if (held.length === 1) this.pause()
      if (!isFull) this.waitForTurn()
      return
    }
    this.start(response, dispatch)
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

  private start(response: Http.ServerResponse, dispatch: () => void): void {
    if (this.isLeaving) this.close(response)
    const now = turnNow()
    this.started = this.turn === now ? this.started + 1 : 1
    this.turn = now
    this.atWork.push(response)
    dispatch()
  }

  /** An answer has left. */
  answered(response: Http.ServerResponse): void {
    const { atWork, held } = this
    if (atWork[0] !== response) return
    atWork.shift()
    if (held.length === 0 || this.isScheduled) return
    this.isScheduled = true
    // not in the middle of what Node does then: the connection may be at its end
    queueMicrotask(() => {
      this.isScheduled = false
      this.release()
    })
  }

  private release(): void {
    const { atWork, conn, held, settings: { policy: { maxConcurrentRequests } } } = this
    const most = maxConcurrentRequests > 0 ? maxConcurrentRequests : Infinity
    while (held.length > 0 && atWork.length < most && this.hasShare && !this.isClosing && conn.writable) {
      const { dispatch, response } = held.shift()!
      this.start(response, dispatch)
    }
    if (held.length > 0 && atWork.length < most && !this.hasShare) this.waitForTurn()
    if (held.length > 0 || conn.destroyed) return
    conn.resume()
    if (this.late === undefined) return
    const { frame, handshake } = this.settings
    const limit = frame || handshake
    clearTimeout(this.timer)
    if (limit <= longestTimer) this.timer = setTimeout(() => this.expire(), limit).unref()
  }

  private pause(): void {
    const { conn } = this
    if (!this.hasListeners) {
      this.hasListeners = true
      // not before: what is read for Node's parser alone costs less
      readInSlices(conn, () => this.count)
      const { destroySoon, resume } = conn
      // a handler that reads the body of its request resumes the connection, and so does Node at the end of a request
      conn.resume = () => {
        if (this.isHolding) return conn
        startReading(conn)
        return resume.call(conn)
      }
      conn.on("resume", () => {
        if (this.isHolding) conn.pause()
      })
      conn.once("close", () => this.abandon())
      conn.destroySoon = () => {
        if (this.isHolding) this.discard()
        else if (!this.isLingering) destroySoon.call(conn)
      }
    }
    conn.pause()
    stopReading(conn)
  }

  /** `destroySoon` where the peer sent more than we read: that would take the last answers from it. */
  private discard(): void {
    const { conn, settings } = this
    this.abandon()
    this.isLingering = true
    conn.removeAllListeners("data")
    if (conn.writable) conn.end()
    if (conn.writableFinished) linger(conn, settings.linger)
    else conn.once("finish", () => linger(conn, settings.linger))
  }

  /** No further request is handled. */
  abandon(): void {
    this.isClosing = true
    this.held.length = 0
    clearTimeout(this.timer)
  }

  // ---- a request that is late ---------------------------------------------------------------------------------------

  /** Whether a deadline of Node was over because nothing was read; `expire` is called when the request is late again. */
  excuse(expire: () => void): boolean {
    const last = this.held.at(-1)
    if (last === undefined) return false
    const { request } = last
    this.late = { number: this.count + (request.complete ? 1 : 0), expire, newest: request }
    return true
  }

  private expire(): void {
    const { late } = this
    if (late === undefined || this.isHolding) return
    this.late = undefined
    // Node does not watch it any more; later ones it does
    if (this.count < late.number || (this.count === late.number && !late.newest.complete)) late.expire()
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** The last answer under way says `Connection: close`, or the next one where its head has gone. No request after it is handled. */
  leave(): void {
    this.isLeaving = true
    const last = this.atWork.at(-1)
    if (last !== undefined) this.close(last)
  }

  private close(response: Http.ServerResponse): void {
    if (response.headersSent) return
    response.shouldKeepAlive = false
    this.isClosing = true
  }
}
