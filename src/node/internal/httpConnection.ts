/** One connection of an HTTP server, as the `Registry` sees it. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Connection, Snapshot } from "../../Connection.ts"
import * as ConnectionError from "../../ConnectionError.ts"
import { type Internals, takeId, TypeId } from "../../internal/connection/handle/internals.ts"
import { InvalidPolicy, type Policy } from "../../Policy.ts"
import * as Address from "./address.ts"
import { unsent } from "./duplex.ts"
import { longestTimer } from "./options.ts"
import { linger, noop } from "./stream.ts"

/** What the connections of one server share. Limits are milliseconds, and 0 is none. */
export interface Settings {
  readonly policy: Policy
  readonly handshake: number
  readonly frame: number
  readonly idle: number
  readonly writeStall: number
  readonly maxAge: number
  /** How long after `maxAge` an answer may still take; none is `Infinity`. */
  readonly maxAgeGrace: number
  /** None is `Infinity`. */
  readonly drain: number
  readonly linger: number
}

const notHttp = new ConnectionError.InvalidMessage({
  direction: "encode",
  format: "HTTP",
  detail: "an HTTP server sends answers to requests, and nothing else"
})
const unsendable = Effect.fail(ConnectionError.make(notHttp))
// one for all: a broadcast encodes once
const wire = { encode: () => Result.fail(notHttp) }

// what Node would say itself, if nobody listened for what went wrong
const answers: { readonly [code: string]: string | undefined } = {
  HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
  HPE_CHUNK_EXTENSIONS_OVERFLOW: "413 Payload Too Large",
  ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout"
}

/**
 * Follows a connection from its acceptance until it is closed. Node's server does the reading, the writing and most of
 * the deadlines; here is why it ends, when it has to, and what it did.
 */
export class HttpConnection implements Internals {
  readonly id = takeId()
  readonly conn: Net.Socket
  private readonly settings: Settings
  private readonly openedAt: number
  private readonly opened: number
  private readonly local: string | undefined
  private readonly remote: string | undefined
  /** Give or take 10 %, drawn once, so that those who came together do not leave together. */
  private readonly leaveAt: number
  private readonly closed = Deferred.makeUnsafe<never, ConnectionError.ConnectionError>()
  private readonly ending = Deferred.makeUnsafe<never, ConnectionError.ConnectionError>()
  private readonly leaving = Deferred.makeUnsafe<void>()
  private sticky: ConnectionError.ConnectionError | undefined
  state: Snapshot["state"] = "open"
  // Node watches its deadlines, and nobody borrows it
  readonly isResting = false
  readonly untouched = 0
  readonly overdue = 0
  readonly offerNow = undefined
  readonly fibers = []
  readonly handledBy = noop
  private watchers: Array<() => void> = []
  private endedAt: number | undefined
  private requests = 0
  /** Requests over `maxRequests`. */
  private dropped = 0
  /** Of `maxRequests`. */
  private isLast = false
  /** The response that has the connection. */
  private response: Http.ServerResponse | undefined
  private failed = false
  private heardAt: number
  private heard = 0
  private taken = 0
  private stalledSince: number | undefined
  private timer: NodeJS.Timeout | undefined

  constructor(conn: Net.Socket, settings: Settings, openedAt: number) {
    this.conn = conn
    this.settings = settings
    this.openedAt = openedAt
    this.opened = performance.now()
    this.heardAt = this.opened
    this.leaveAt = settings.maxAge === 0 ? Infinity : this.opened + settings.maxAge * (0.9 + 0.2 * Math.random())
    this.local = Address.localOf(conn)
    this.remote = Address.remoteOf(conn)
    // before Node's own listener, which destroys
    conn.on("timeout", () => this.decide(new ConnectionError.IdleTimeout({ limit: settings.idle })))
    conn.once("close", () => this.settle())
  }

  // -------------------------------------------------------------------------------------------------------------------
  // requests
  // -------------------------------------------------------------------------------------------------------------------

  /** The response has the connection. */
  begin(response: Http.ServerResponse): void {
    this.response = response
    if (this.isLast) return
    this.requests++
    this.isLast = this.requests === this.settings.policy.maxRequests
  }

  /** The response is done with the connection. */
  answered(): void {
    this.response = undefined
    // Node says `Connection: close` in the last answer, but leaves it to the peer to do so
    if (this.isLast) this.conn.destroySoon()
    else if (this.state !== "open") {
      // a request that came meanwhile gets the connection first
      setImmediate(() => {
        if (this.response === undefined) this.conn.destroySoon()
      })
    }
  }

  drop(): void {
    this.dropped++
  }

  // -------------------------------------------------------------------------------------------------------------------
  // ways to the end
  // -------------------------------------------------------------------------------------------------------------------

  /** The first reason is the one that is reported. */
  private decide(reason: ConnectionError.Reason): ConnectionError.ConnectionError {
    return this.sticky ??= ConnectionError.make(reason)
  }

  /** Ends once what is being answered is answered: at once, when that is nothing, and after `grace` at the latest. */
  leave(reason: ConnectionError.Reason, state: "draining" | "closing", grace = this.settings.drain): void {
    if (this.state === "ended") return
    if (this.state === "draining" || this.state === "closing") {
      this.state = state
      return
    }
    const error = this.decide(reason)
    this.state = state
    // in a task of its own: whoever waits for it must not run in the middle of this
    setImmediate(() => {
      Deferred.doneUnsafe(this.leaving, Exit.void)
      Deferred.doneUnsafe(this.ending, Exit.fail(error))
    })
    if (this.response === undefined) this.conn.destroySoon()
    else if (!this.response.headersSent) this.response.shouldKeepAlive = false
    if (grace <= longestTimer) this.timer = setTimeout(() => this.conn.destroy(), grace).unref()
  }

  /** Gives up what Node or the peer says is wrong, and tells the peer, unless an answer has begun. */
  fail(cause: Error & { readonly code?: string | undefined }): void {
    if (this.failed) return
    this.failed = true
    const { code = "" } = cause
    this.decide(this.reasonOf(code, cause))
    const protocol = code.startsWith("HPE_")
    if (!this.conn.writable || this.response?.headersSent || !(protocol || code === "ERR_HTTP_REQUEST_TIMEOUT")) {
      this.conn.destroy()
      return
    }
    this.conn.end(`HTTP/1.1 ${answers[code] ?? "400 Bad Request"}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    // after a parse error no request comes any more, and a peer that still sends gets to read why it should not; a late
    // request could still be completed, and would be handled without an answer
    if (protocol) linger(this.conn, this.settings.linger)
    else this.conn.destroySoon()
  }

  private reasonOf(code: string, cause: Error): ConnectionError.Reason {
    const { frame, handshake, policy } = this.settings
    const received = this.conn.bytesRead
    switch (code) {
      case "HPE_HEADER_OVERFLOW":
        return new ConnectionError.FrameTooLong({ direction: "decode", size: received, limit: policy.maxHeader })
      case "ERR_HTTP_REQUEST_TIMEOUT":
        return this.response !== undefined || handshake === 0
          ? new ConnectionError.FrameTimeout({ limit: frame, received })
          : new ConnectionError.HandshakeTimeout({ limit: handshake })
      case "ECONNRESET":
      case "EPIPE":
      case "ECONNABORTED":
        return new ConnectionError.Reset({ cause })
      default:
        return code.startsWith("HPE_")
          ? new ConnectionError.ProtocolViolation({ detail: cause.message })
          : new ConnectionError.TransportFailed({ operation: "read", cause })
    }
  }

  /** What Node has no deadline for: a peer that takes none of our bytes, and old age. */
  check(at: number, unfair: boolean): void {
    const { conn } = this
    const read = conn.bytesRead
    if (read !== this.heard) {
      this.heard = read
      this.heardAt = at
    }
    const waiting = unsent(conn)
    const taken = conn.bytesWritten - waiting
    if (waiting === 0) this.stalledSince = undefined
    else if (unfair || this.stalledSince === undefined || taken !== this.taken) this.stalledSince = at
    else if (this.settings.writeStall > 0 && at - this.stalledSince >= this.settings.writeStall) {
      this.decide(new ConnectionError.WriteStalled({ limit: this.settings.writeStall }))
      conn.destroy()
    }
    this.taken = taken
    if (at >= this.leaveAt && this.state === "open") {
      this.leave(new ConnectionError.MaxAge({ limit: this.settings.maxAge }), "draining", this.settings.maxAgeGrace)
    }
  }

  /** The connection goes on as something else. */
  upgraded(): void {
    this.decide(new ConnectionError.Closed({ by: "local", note: "upgraded to a WebSocket" }))
    this.settle()
  }

  private settle(): void {
    if (this.state === "ended") return
    const error = this.decide(new ConnectionError.Closed({ by: this.conn.readableEnded ? "peer" : "local" }))
    this.state = "ended"
    this.endedAt = performance.now()
    clearTimeout(this.timer)
    setImmediate(() => {
      Deferred.doneUnsafe(this.leaving, Exit.void)
      Deferred.doneUnsafe(this.ending, Exit.fail(error))
      Deferred.doneUnsafe(this.closed, Exit.fail(error))
      for (const watcher of this.watchers.splice(0)) watcher()
    })
  }

  readonly onEnded = (watcher: () => void): void => {
    if (Deferred.isDoneUnsafe(this.closed)) watcher()
    else this.watchers.push(watcher)
  }

  readonly onGone = this.onEnded

  // -------------------------------------------------------------------------------------------------------------------
  // what others see
  // -------------------------------------------------------------------------------------------------------------------

  readonly look = (): Snapshot => {
    const at = this.endedAt ?? performance.now()
    const { conn } = this
    const active = this.response === undefined ? 0 : 1
    return {
      id: this.id,
      state: this.state,
      local: this.local,
      remote: this.remote,
      openedAt: this.openedAt,
      age: at - this.opened,
      quietFor: Math.max(0, at - (conn.bytesRead === this.heard ? this.heardAt : at)),
      bytesIn: conn.bytesRead,
      bytesOut: conn.bytesWritten,
      messagesIn: this.requests,
      messagesOut: this.requests - active,
      inbox: { messages: active, bytes: 0 },
      outbox: { messages: active, bytes: this.state === "ended" ? 0 : unsent(conn) },
      dropped: this.dropped,
      skipped: 0,
      lost: 0,
      paused: false,
      rtt: undefined,
      reason: this.sticky?.reason
    }
  }

  /** As an entry of a registry: it can be seen, asked to leave and closed; messages are not for it. */
  readonly asConnection = (): Connection<never, unknown> => {
    const closed = Deferred.await(this.closed)
    const closeWith = (reason: ConnectionError.Reason): Effect.Effect<void> =>
      Effect.suspend(() => {
        this.leave(reason, "closing")
        return Effect.ignore(closed)
      })
    return {
      id: this.id,
      receive: closed,
      receiveAll: closed,
      send: () => unsendable,
      sendAll: () => unsendable,
      flush: Effect.void,
      isWritable: Effect.succeed(false),
      awaitWritable: Effect.ignore(closed),
      close: closeWith(new ConnectionError.Closed({ by: "local" })),
      closeWith,
      drainWith: (reason) => Effect.sync(() => this.leave(reason, "draining")),
      leaving: Deferred.await(this.leaving),
      ending: Deferred.await(this.ending),
      closed,
      patch: () =>
        Effect.fail(new InvalidPolicy({ detail: "the limits of an HTTP connection are those of its server" })),
      policy: Effect.succeed(this.settings.policy),
      snapshot: Effect.sync(this.look),
      wire,
      offerFrame: () => Effect.succeed(false),
      [TypeId]: this
    }
  }
}

/** Responses that tell their connection when they have it; two listeners a request would cost several times as much. */
export const responses = (of: (conn: Net.Socket) => HttpConnection | undefined): typeof Http.ServerResponse =>
  class<R extends Http.IncomingMessage> extends Http.ServerResponse<R> {
    override assignSocket(conn: Net.Socket): void {
      // before what was written already is flushed
      of(conn)?.begin(this)
      super.assignSocket(conn)
    }
    override detachSocket(conn: Net.Socket): void {
      super.detachSocket(conn)
      of(conn)?.answered()
    }
  }
