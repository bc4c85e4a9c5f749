/** One connection of an HTTP server, as the `Registry` sees it. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as Http from "node:http"
import type * as Net from "node:net"
import type { Connection, Snapshot } from "../../../Connection.ts"
import * as ConnectionError from "../../../ConnectionError.ts"
import { isOver, type Lifecycle, open, reasonOf, type Watcher } from "../../../internal/connection/core/state.ts"
import { explainSnapshot, type Explanation } from "../../../internal/connection/handle/explanation.ts"
import { states } from "../../../internal/connection/handle/handle.ts"
import { type ConnectionState, type Internals, takeId, TypeId } from "../../../internal/connection/handle/internals.ts"
import { InvalidPolicy } from "../../../Policy.ts"
import { longestTimer } from "../options.ts"
import { errorOf, unsent } from "../stream/duplex.ts"
import { drop } from "../stream/handle.ts"
import { linger, noop } from "../stream/tcp.ts"
import { Account } from "./account.ts"
import { Pipeline } from "./pipeline.ts"
import type { Settings } from "./settings.ts"

const notHttp = new ConnectionError.InvalidMessage({
  direction: "encode",
  format: "HTTP",
  detail: "an HTTP server sends answers to requests, and nothing else"
})
const unsendable = Effect.fail(ConnectionError.make(notHttp))
// one for all: a broadcast encodes once
const wire = { encode: () => Result.fail(notHttp) }

// what Node would say itself, if there were no listener for what went wrong
const answers: { readonly [code: string]: string | undefined } = {
  HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
  HPE_CHUNK_EXTENSIONS_OVERFLOW: "413 Payload Too Large",
  ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout"
}

/** What an error of Node means. */
const reasonFor = (
  code: string,
  cause: Error,
  { frame, handshake, policy }: Settings,
  conn: Net.Socket,
  isAnswering: boolean
): ConnectionError.Reason => {
  const meaning = errorOf(conn, cause)
  if (meaning instanceof ConnectionError.ConnectionError) return meaning.reason
  const received = conn.bytesRead
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new ConnectionError.FrameTooLong({ direction: "decode", size: received, limit: policy.maxHeader })
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return isAnswering || handshake === 0
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

/**
 * Follows a connection from its acceptance until it is closed. Node's server does the reading, the writing and most of
 * the deadlines; here is why it ends, when it has to, and what it did.
 */
export class HttpConnection implements Internals {
  readonly id = takeId()
  readonly conn: Net.Socket
  readonly settings: Settings
  readonly pipeline: Pipeline
  /** `maxAge` give or take 10 %, drawn once, so that connections that came together do not leave together. */
  private readonly leaveAt: number
  readonly closed = Deferred.makeUnsafe<never, ConnectionError.ConnectionError>()
  readonly ending = Deferred.makeUnsafe<never, ConnectionError.ConnectionError>()
  readonly leaving = Deferred.makeUnsafe<void>()
  private lifecycle: Lifecycle = open
  private isIdle = false
  // Node watches its deadlines, and no pool lends it
  readonly isResting = false
  readonly untouched = 0
  readonly overdue = 0
  readonly offerNow = undefined
  readonly fibers = []
  readonly handledBy = noop
  readonly stop = undefined
  private watchers: Array<Watcher> = []
  private requests = 0
  /** Requests over `maxRequests`. */
  private dropped = 0
  /** Of `maxRequests`. */
  private isLast = false
  /** The response that has the connection. */
  private response: Http.ServerResponse | undefined
  readonly account: Account
  private timer: NodeJS.Timeout | undefined

  constructor(conn: Net.Socket, settings: Settings, openedAt: number) {
    this.conn = conn
    this.settings = settings
    this.pipeline = new Pipeline(conn, settings)
    this.account = new Account(conn, settings.policy.recentEvents, openedAt)
    this.leaveAt = settings.maxAge === 0
      ? Infinity
      : this.account.opened + settings.maxAge * (0.9 + 0.2 * Math.random())
    // before Node's own listener, which destroys, unless the application listens too
    conn.on("timeout", () => {
      this.isIdle = true
    })
    conn.once("close", () => this.settle())
  }

  // -------------------------------------------------------------------------------------------------------------------
  // requests
  // -------------------------------------------------------------------------------------------------------------------

  /** The response has the connection. */
  begin(response: Http.ServerResponse): void {
    this.response = response
    this.account.use()
    if (this.isLast) return
    this.requests++
    this.isLast = this.requests === this.settings.policy.maxRequests
  }

  /** The response is done with the connection. */
  answered(response: Http.ServerResponse): void {
    this.account.use()
    if (this.conn.destroyed) this.account.lose(response)
    this.response = undefined
    this.pipeline.answered(response)
    // Node says `Connection: close` in the last answer, but leaves it to the peer to do so
    if (this.isLast) this.conn.destroySoon()
    else if (this.lifecycle._tag !== "Open" && !isOver(this.lifecycle)) {
      // a request that came meanwhile gets the connection first
      setImmediate(() => {
        if (this.response === undefined && !this.account.isLent) this.conn.destroySoon()
      })
    }
  }

  drop(): void {
    this.dropped++
    this.account.note(performance.now(), "dropped")
  }

  // -------------------------------------------------------------------------------------------------------------------
  // ways to the end
  // -------------------------------------------------------------------------------------------------------------------

  /** Ends now: Node, or the caller, destroys the connection. The first reason is the one that is reported. */
  private end(reason: ConnectionError.Reason, seenBy: string): void {
    if (isOver(this.lifecycle)) return
    this.account.seen(seenBy)
    this.account.lose(this.response)
    const error = reasonOf(this.lifecycle) ?? ConnectionError.make(reason)
    this.lifecycle = { _tag: "Closing", reason: error, by: performance.now(), flushes: false }
  }

  /** Ends now, whatever is under way. */
  refuse(reason: ConnectionError.Reason, seenBy = "registry"): void {
    this.end(reason, seenBy)
    // the peer would have to take it first
    if (unsent(this.conn) > 0) drop(this.conn)
    this.conn.destroy()
  }

  /** Ends with the answer under way: at once when there is none, and after `grace` milliseconds at the latest. */
  leave(
    reason: ConnectionError.Reason,
    to: "Draining" | "Closing",
    seenBy: string,
    grace = this.settings.drain
  ): void {
    const { account, lifecycle, response } = this
    if (lifecycle._tag === "Closing" || lifecycle._tag === "Ended") return
    this.account.seen(seenBy)
    this.account.note(performance.now(), to === "Draining" ? "draining" : "closing", reason._tag)
    const error = reasonOf(lifecycle) ?? ConnectionError.make(reason)
    const by = lifecycle._tag === "Draining" ? lifecycle.by : performance.now() + grace
    this.lifecycle = to === "Draining"
      ? { _tag: to, reason: error, by, untilTold: false }
      : { _tag: to, reason: error, by, flushes: true }
    // of what the application upgraded, only its handler knows when it is done
    const isLent = account.isLent && (to === "Draining" || !account.isForeign)
    if (response === undefined && !isLent) this.conn.destroySoon()
    if (lifecycle._tag === "Draining") return
    // in a task of its own: what waits for it must not run in the middle of this
    setImmediate(() => {
      Deferred.doneUnsafe(this.leaving, Exit.void)
      Deferred.doneUnsafe(this.ending, Exit.fail(error))
    })
    this.pipeline.leave()
    if (grace > longestTimer) return
    this.timer = setTimeout(() => {
      this.account.giveUp(this.response)
      this.conn.destroy()
    }, grace).unref()
  }

  /** Gives up what Node or the peer says is wrong, and tells the peer, unless it would take that for the answer to another request. */
  fail(cause: Error & { readonly code?: string | undefined }): void {
    const { conn, response, settings } = this
    if (isOver(this.lifecycle)) return
    const { code = "" } = cause
    if (code === "ERR_HTTP_REQUEST_TIMEOUT" && this.pipeline.excuse(() => this.fail(cause))) {
      // Node has taken its listener away
      conn.off("error", this.onError).on("error", this.onError)
      return
    }
    const reason = reasonFor(code, cause, settings, conn, response !== undefined)
    const late = code === "ERR_HTTP_REQUEST_TIMEOUT"
    const protocol = code.startsWith("HPE_")
    const seenBy = late ? "deadlines" : "reader"
    // what is wrong is none of the requests that are to be answered: those are, and it is not
    if ((late || protocol) && this.pipeline.holdRest()) {
      return this.leave(reason, "Draining", seenBy, settings.maxAgeGrace)
    }
    // our last answer is on its way
    if (protocol && conn.writableEnded) return
    const isFirst = this.pipeline.size <= 1
    this.pipeline.abandon()
    this.end(reason, seenBy)
    if (!conn.writable || response?.headersSent || !(protocol || late) || !isFirst) {
      conn.destroy()
      return
    }
    const status = answers[code] ?? "400 Bad Request"
    this.account.tell(parseInt(status))
    conn.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    // after a parse error no request comes any more, and a peer that still sends gets to read why it should not; a late
    // request could still be completed, and would be handled without an answer
    if (protocol) linger(conn, settings.linger)
    else conn.destroySoon()
  }

  private readonly onError = (cause: Error): void => this.fail(cause)

  /** What Node has no deadline for: a peer that takes none of our bytes, the body of what is lent, and old age. */
  check(at: number, unfair: boolean): void {
    const { account, settings: { frame, maxAge, maxAgeGrace, writeStall } } = this
    account.sample(at)
    if (account.isStalled(at, unfair, writeStall)) {
      this.refuse(new ConnectionError.WriteStalled({ limit: writeStall }), "deadlines")
    }
    const received = account.lateBody(at, frame)
    if (received !== undefined) this.refuse(new ConnectionError.FrameTimeout({ limit: frame, received }), "deadlines")
    if (at >= this.leaveAt && this.lifecycle._tag === "Open") {
      this.leave(new ConnectionError.MaxAge({ limit: maxAge }), "Draining", "deadlines", maxAgeGrace)
    }
  }

  /** The connection goes on as something else. */
  upgraded(): void {
    this.end(new ConnectionError.Closed({ by: "local", note: "upgraded to a WebSocket" }), "upgrade")
    this.settle()
  }

  private settle(): void {
    if (this.lifecycle._tag === "Ended") return
    const error = reasonOf(this.lifecycle) ?? ConnectionError.make(
      this.isIdle
        ? new ConnectionError.IdleTimeout({ limit: this.settings.idle })
        : new ConnectionError.Closed({ by: this.conn.readableEnded ? "peer" : "local" })
    )
    const at = performance.now()
    this.account.sample(at)
    this.account.lose(this.response)
    // Node ends one after its last answer
    this.account.seen(this.isIdle ? "deadlines" : this.conn.readableEnded ? "reader" : "writer")
    this.lifecycle = { _tag: "Ended", reason: error, at }
    clearTimeout(this.timer)
    setImmediate(() => {
      Deferred.doneUnsafe(this.leaving, Exit.void)
      Deferred.doneUnsafe(this.ending, Exit.fail(error))
      Deferred.doneUnsafe(this.closed, Exit.fail(error))
      for (const watcher of this.watchers.splice(0)) watcher(this.id)
    })
  }

  readonly onEnded = (watcher: Watcher): void => {
    if (Deferred.isDoneUnsafe(this.closed)) watcher(this.id)
    else this.watchers.push(watcher)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what others see
  // -------------------------------------------------------------------------------------------------------------------

  get state(): ConnectionState {
    return states[this.lifecycle._tag]
  }

  get reason(): ConnectionError.Reason | undefined {
    return reasonOf(this.lifecycle)?.reason
  }

  readonly look = (): Snapshot => {
    const { conn, lifecycle } = this
    const at = lifecycle._tag === "Ended" ? lifecycle.at : performance.now()
    const active = this.response === undefined ? 0 : 1
    return {
      id: this.id,
      state: this.state,
      ...this.account.look(at),
      messagesIn: this.requests,
      messagesOut: this.requests - active,
      inbox: { messages: Math.max(active, this.pipeline.size), bytes: 0 },
      outbox: { messages: active, bytes: lifecycle._tag === "Ended" ? 0 : unsent(conn) },
      dropped: this.dropped,
      skipped: 0,
      paused: this.pipeline.reading.isPaused,
      rtt: undefined,
      reason: reasonOf(lifecycle)?.reason
    }
  }

  readonly explain = (): Explanation => explainSnapshot(this.look(), this.account.known(this.reason))
}

/** As an entry of a registry: it can be seen, asked to leave and closed; messages are not for it. */
export const asConnection = (self: HttpConnection): Connection<never, unknown> => {
  const closed = Deferred.await(self.closed)
  const closeWith = (reason: ConnectionError.Reason): Effect.Effect<void> =>
    Effect.suspend(() => {
      self.leave(reason, "Closing", "close")
      return Effect.ignore(closed)
    })
  return {
    id: self.id,
    receive: closed,
    receiveAll: closed,
    send: () => unsendable,
    sendAll: () => unsendable,
    flush: Effect.void,
    isWritable: Effect.succeed(false),
    awaitWritable: Effect.ignore(closed),
    close: closeWith(new ConnectionError.Closed({ by: "local" })),
    closeWith,
    drainWith: (reason) => Effect.sync(() => self.leave(reason, "Draining", "drain")),
    leaving: Deferred.await(self.leaving),
    ending: Deferred.await(self.ending),
    closed,
    patch: () => Effect.fail(new InvalidPolicy({ detail: "the limits of an HTTP connection are those of its server" })),
    policy: Effect.succeed(self.settings.policy),
    snapshot: Effect.sync(self.look),
    wire,
    offerFrame: () => Effect.succeed(false),
    [TypeId]: self
  }
}
