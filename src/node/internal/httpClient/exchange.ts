/** One request of the HTTP client and its answer: what undici tells of them, and what follows from it. */
import Undici from "@effect/platform-node/Undici"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import { InterimAnswers } from "./interim.ts"

type Handler = Undici.Dispatcher.DispatchHandler
type Controller = Undici.Dispatcher.DispatchController
type Headers = Parameters<Required<Handler>["onResponseStart"]>[2]

/** A connection that is kept for one request after the other. */
export class KeptConnection {
  /** How many complete answers it has carried. */
  answers = 0
  /** How many bytes came since the last request was sent. */
  received = 0
  readonly conn: Net.Socket
  private readonly interim: InterimAnswers

  constructor(conn: Net.Socket, maxHeader: number) {
    this.conn = conn
    this.interim = new InterimAnswers(maxHeader)
    const read = conn.read.bind(conn) as (size?: number) => Buffer | null
    // what is there before the request for which it was dialled, as the answer of a server that refuses us may be behind the
    // reply of a proxy, undici takes for a fault, and dials again: at once, and for ever. In a turn that request is sent
    let isNew = true
    setImmediate(() => {
      isNew = false
      if (!conn.destroyed && conn.readableLength > 0) conn.emit("readable")
    })
    // undici calls `read` for whatever a connection delivers
    conn.read = (size?: number) => {
      if (isNew && conn.readableLength > 0) return null
      for (let chunk = read(size); chunk !== null; chunk = read(size)) {
        this.received += chunk.length
        const left = this.interim.pass(chunk)
        if (this.interim.isTooLong) conn.destroy(new Undici.errors.HeadersOverflowError())
        if (left !== undefined) return left
      }
      return null
    }
  }

  /** A request is sent next. */
  begin(): void {
    this.received = 0
    this.interim.expect()
  }
}

/** What the requests of one client share. */
export interface Shared {
  /** In milliseconds; 0 is off. */
  readonly silence: number
  /** The errors of requests that may be sent again: a kept connection was lost, and nothing of an answer had come. */
  readonly raced: WeakSet<object>
}

// how a peer ends a connection, or how that is found at the next write
const losses = new Set(["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"])

const isLoss = (error: Error & { readonly code?: string }): boolean =>
  error.code !== undefined && losses.has(error.code)

/** Hears what undici tells of a request, and passes it on. */
export class Exchange implements Handler {
  private connection: KeptConnection | undefined
  private readonly current: () => KeptConnection | undefined
  private readonly shared: Shared
  private readonly handler: Handler
  // when our last byte was handed to the connection
  private sentAt = 0
  private isSent = false
  // set by the first interim answer
  private timer: NodeJS.Timeout | undefined

  constructor(current: () => KeptConnection | undefined, shared: Shared, handler: Handler) {
    this.current = current
    this.shared = shared
    this.handler = handler
  }

  onRequestStart(controller: Controller, context: unknown): void {
    this.connection = this.current()
    this.connection?.begin()
    this.sentAt = performance.now()
    this.handler.onRequestStart?.(controller, context)
  }

  onBodySent(chunk: Buffer): void {
    this.sentAt = performance.now()
    this.handler.onBodySent?.(chunk)
  }

  onRequestSent(): void {
    this.isSent = true
    this.sentAt = performance.now()
    this.handler.onRequestSent?.()
  }

  onResponseStarted(): void {
    this.handler.onResponseStarted?.()
  }

  onResponseStart(controller: Controller, status: number, headers: Headers, message?: string): void {
    if (status >= 200) clearTimeout(this.timer)
    else if (this.timer === undefined) this.watch(controller)
    this.handler.onResponseStart?.(controller, status, headers, message)
  }

  onRequestUpgrade(controller: Controller, status: number, headers: Headers, socket: Duplex): void {
    clearTimeout(this.timer)
    this.handler.onRequestUpgrade?.(controller, status, headers, socket)
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    this.handler.onResponseData?.(controller, chunk)
  }

  onResponseEnd(controller: Controller, trailers: Headers): void {
    const { connection } = this
    // a body whose length nothing says, and a reset: undici takes this for the end of the body
    const error = connection?.conn.errored
    if (error) return this.onResponseError(controller, error)
    if (connection !== undefined) connection.answers++
    this.handler.onResponseEnd?.(controller, trailers)
  }

  onResponseError(controller: Controller, error: Error): void {
    clearTimeout(this.timer)
    // a request that was never written has no connection yet: the one that was to carry it is lost
    const connection = this.connection ?? this.current()
    const isUnanswered = this.connection === undefined || connection?.received === 0
    if (connection !== undefined && connection.answers > 0 && isUnanswered && isLoss(error)) {
      this.shared.raced.add(error)
    }
    this.handler.onResponseError?.(controller, error)
  }

  /** undici's own limit begins again with each interim answer; this one does not. */
  private watch(controller: Controller): void {
    const { silence } = this.shared
    if (silence === 0) return
    const left = this.sentAt + silence - performance.now()
    this.timer = setTimeout(() => {
      // while the application is slow to send, a server owes nothing
      const isWaiting = this.isSent || this.connection?.conn.writableNeedDrain === true
      const isDue = performance.now() - this.sentAt >= silence - 1
      if (isWaiting && isDue) return controller.abort(new Undici.errors.HeadersTimeoutError())
      if (!isWaiting) this.sentAt = performance.now()
      this.watch(controller)
    }, Math.max(1, left))
    this.timer.unref()
  }
}
