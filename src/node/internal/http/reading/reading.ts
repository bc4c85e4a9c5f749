/** Whether an HTTP connection is read: not while requests wait for their turn, nor while memory is tight and it holds too much. */
import type * as Net from "node:net"
import { startReading, stopReading } from "../../stream/handle.ts"
import { linger } from "../../stream/tcp.ts"

export class Reading {
  private readonly conn: Net.Socket
  /** How long a peer that sent more than was read gets to read its last answers, in milliseconds. */
  private readonly limit: number
  private readonly onResumed: () => void
  private readonly onEnd: () => void
  /** Requests wait for their turn. */
  private isHolding = false
  /** It waits for the memory of all. */
  awaitsMemory = false
  /** Node wants to read as well: it does not while a body is not taken. */
  private isWanted = false
  private hasListeners = false
  private isLingering = false
  /** No further request is parsed. */
  private isOver = false

  /** `onEnd` is called when no further request is parsed: the connection is closed, or what still comes is discarded. */
  constructor(conn: Net.Socket, limit: number, onResumed: () => void, onEnd: () => void) {
    this.conn = conn
    this.limit = limit
    this.onResumed = onResumed
    this.onEnd = onEnd
  }

  get isPaused(): boolean {
    return this.isHolding || this.awaitsMemory
  }

  hold(): void {
    this.stop(true)
    this.isHolding = true
  }

  release(): void {
    this.isHolding = false
    this.goOn()
  }

  pauseForMemory(): void {
    if (this.conn.destroyed || this.isOver) return
    this.stop(!this.conn.isPaused())
    this.awaitsMemory = true
  }

  memoryFreed(): void {
    this.awaitsMemory = false
    this.goOn()
  }

  /** No further request is parsed, and nothing keeps the connection from being read any more; it is not resumed for that. */
  abandon(): void {
    this.isOver = true
    this.isHolding = this.awaitsMemory = false
    if (!this.conn.destroyed) startReading(this.conn)
  }

  private stop(isWanted: boolean): void {
    const { conn } = this
    if (!this.isPaused) this.isWanted = isWanted
    this.listen()
    conn.pause()
    stopReading(conn)
  }

  private goOn(): void {
    if (this.isPaused || this.conn.destroyed) return
    if (this.isWanted) this.conn.resume()
    this.onResumed()
  }

  private listen(): void {
    const { conn } = this
    if (this.hasListeners) return
    this.hasListeners = true
    const { destroySoon, resume } = conn
    // a handler that reads the body of its request resumes the connection, and so does Node at the end of a request
    conn.resume = () => {
      this.isWanted = true
      if (this.isPaused) return conn
      startReading(conn)
      return resume.call(conn)
    }
    conn.on("resume", () => {
      if (this.isPaused) conn.pause()
    })
    conn.once("close", this.onEnd)
    conn.destroySoon = () => {
      if (this.isPaused) this.discard()
      else if (!this.isLingering) destroySoon.call(conn)
    }
  }

  /** `destroySoon` where the peer sent more than we read: that would take the last answers from it. */
  private discard(): void {
    const { conn, limit } = this
    this.onEnd()
    this.isLingering = true
    conn.removeAllListeners("data")
    if (conn.writable) conn.end()
    if (conn.writableFinished) linger(conn, limit)
    else conn.once("finish", () => linger(conn, limit))
  }
}
