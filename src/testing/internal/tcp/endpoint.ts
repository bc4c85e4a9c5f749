/** One end of a TCP connection: its state from opening to over, its two halves, and how it breaks. */
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type { EventKind } from "../../Network.ts"
import { openError, readError, systemError, writeError } from "../fabric/failures.ts"
import type { Packet, Path, PathObserver } from "../fabric/path.ts"
import type { SocketSettings } from "../fabric/settings.ts"
import type { KernelSocket, SimulatedHost } from "../fabric/simulatedHost.ts"
import type { Timer } from "../fabric/timeline.ts"
import { Incoming, type Resume } from "./incoming.ts"
import { Outgoing } from "./outgoing.ts"
import type { Segment, Sender } from "./transmission.ts"

/** What an end needs of its connection. */
export interface EndpointConnection {
  readonly id: Sender["connection"]["id"]
  readonly timeline: Sender["connection"]["timeline"]
  readonly draw: Sender["connection"]["draw"]
  readonly messages: boolean
  readonly retransmit: Sender["connection"]["retransmit"]
  readonly finTimeout: number
  readonly record: (kind: EventKind, from: Endpoint, bytes: number) => void
  /** Whether a packet gets through the address translation between the ends; it may answer with a reset. */
  readonly translate: (from: Endpoint) => boolean
  /** Hands a segment of one end to the other; false when it is lost on the last step. */
  readonly deliver: (from: Endpoint, segment: Segment) => boolean
  /** An end is over; both may be. */
  readonly ended: () => void
  /** What the next operation of this kind fails with, when a test asked for it. */
  readonly fault: (operation: "read" | "write", host: SimulatedHost) => unknown
}

/** Makes an error when an operation gets it: most connections end without one. */
export type Failure = () => Socket.SocketError

const brokenPipe: Failure = () => writeError(systemError("write", "EPIPE"))

/** Owned by one connection: plain fields, changed synchronously. */
export class Endpoint implements KernelSocket, PathObserver, Sender {
  readonly host: SimulatedHost
  readonly address: string
  readonly path: Path
  readonly incoming: Incoming
  readonly outgoing: Outgoing
  readonly settings: SocketSettings
  readonly connection: EndpointConnection
  peer!: Endpoint
  phase: "opening" | "open" | "over" = "opening"
  /** The server's end. */
  readonly isPassive: boolean
  /** Nothing comes from it and nothing reaches it, and neither application is told. */
  isGone = false
  /** A reader has it. */
  isClaimed = false
  /** The application has let go of it. */
  isReleased = false
  finReceived = false
  finDelivered = false
  /** Both directions have ended in order. */
  isClean = false
  /** Why operations fail. */
  brokenBy: Failure = brokenPipe
  private openers: Array<Resume<void>> = []
  /** Ends the wait of a released end for its peer. */
  lingering: Timer | undefined
  /** Told when the third packet of the handshake is here. */
  onHandshakeAck: (() => void) | undefined
  /** Told when it is over. */
  onOver: (() => void) | undefined

  constructor(
    connection: EndpointConnection,
    host: SimulatedHost,
    address: string,
    path: Path,
    settings: SocketSettings,
    window: number,
    isPassive: boolean
  ) {
    this.connection = connection
    this.host = host
    this.address = address
    this.path = path
    this.settings = settings
    this.isPassive = isPassive
    this.incoming = new Incoming(this)
    this.outgoing = new Outgoing(this, window)
    host.sockets.add(this)
    path.observers.add(this)
  }

  get isRunning(): boolean {
    return !this.host.isStalled
  }

  get isSilenced(): boolean {
    return this.path.isCut || this.isGone || this.peer.isGone || !this.host.isUp || !this.peer.host.isUp
  }

  deliver(segment: Segment): boolean {
    return this.connection.deliver(this, segment)
  }

  timedOut(): void {
    this.record("timeout", 0)
    this.abort(systemError("read", "ETIMEDOUT"))
  }

  record(kind: EventKind, bytes: number): void {
    this.connection.record(kind, this, bytes)
  }

  wake(task: () => void): void {
    this.host.post(task)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // opening
  // -------------------------------------------------------------------------------------------------------------------

  /** Resumes an opener once it is open or broken. Returns what gives up waiting. */
  whenOpened(resume: Resume<void>): () => void {
    this.openers.push(resume)
    return () => {
      this.openers = this.openers.filter((opener) => opener !== resume)
    }
  }

  /** A connection that broke before its reader was acquired did not open. */
  openFailure(): Socket.SocketError {
    const { reason } = this.brokenBy()
    return openError("cause" in reason ? reason.cause : undefined)
  }

  /** `sendAck`: the client's end sends the third packet of the handshake. */
  establish(sendAck: boolean): void {
    if (this.phase !== "opening") return
    this.phase = "open"
    this.wakeOpeners(() => Effect.void)
    this.outgoing.establish(sendAck)
  }

  private wakeOpeners(result: () => Effect.Effect<void, Socket.SocketError>): void {
    const openers = this.openers
    this.openers = []
    for (const resume of openers) this.wake(() => resume(result()))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // reading
  // -------------------------------------------------------------------------------------------------------------------

  /** The one place that resumes a pull. Must be called where the application may run. */
  wakeReader(): void {
    const { connection, incoming } = this
    const resume = incoming.waiter
    if (resume === undefined) return
    const injected = this.phase === "over" ? undefined : connection.fault("read", this.host)
    if (injected !== undefined) this.abort(injected, true)
    if (incoming.hasData) {
      incoming.waiter = undefined
      const batch = incoming.take(connection.messages || !this.path.slicing ? undefined : connection.draw)
      incoming.acknowledge()
      return resume(Effect.succeed(batch))
    }
    if (incoming.end === undefined) return
    incoming.waiter = undefined
    if (!this.settings.halfOpen) this.finish()
    resume(Effect.fail(incoming.end()))
  }

  notifyReader(): void {
    if (this.incoming.waiter !== undefined) this.wake(() => this.wakeReader())
  }

  endReading(failure: Failure): void {
    this.incoming.end ??= failure
    this.notifyReader()
  }

  pathChanged(): void {
    this.incoming.pathChanged()
    if (this.isSilenced) this.outgoing.pump()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // ending
  // -------------------------------------------------------------------------------------------------------------------

  /** Sends the end behind everything written. */
  finish(): void {
    if (this.phase === "open") this.outgoing.finish()
  }

  /** Ends this side at once; the peer learns of it only by a reset, which `tell` sends. */
  abort(cause: unknown, tell = false): void {
    if (this.phase === "over") return
    if (tell) this.sendReset()
    const wasOpening = this.phase === "opening"
    this.phase = "over"
    this.brokenBy = () => wasOpening ? openError(cause) : writeError(cause)
    if (!this.isReleased && !this.finReceived) {
      this.incoming.discard()
      this.incoming.end = () => readError(cause)
    }
    const { writers } = this.outgoing
    this.outgoing.stop()
    for (const { resume } of writers) this.wake(() => resume(Effect.fail(this.brokenBy())))
    this.wakeOpeners(() => Effect.fail(this.openFailure()))
    this.notifyReader()
    this.settle()
  }

  crash(): void {
    // where the client's first packet did not come yet, nothing is known of it
    if (this.isPassive && this.phase === "opening") return
    this.abort(systemError("read", "ENETDOWN", "the host crashed"))
  }

  /** Nothing comes or goes any more, and neither application is told. */
  vanish(): void {
    this.isGone = true
    if (this.isReleased) this.settle()
  }

  /** Answers that there is no such connection. */
  sendReset(): void {
    if (this.isSilenced) return
    const { peer } = this
    this.record("reset", 0)
    this.sendBare("reset", () => {
      if (peer.host.isUp && this.connection.translate(this)) peer.wasReset()
    })
  }

  /**
   * A reset of the peer is here. After its FIN the reader still gets everything, and only writing is broken: Linux looks
   * at the end of the stream before it looks at the error, which is then EPIPE (`tcp_reset`, `tcp_recvmsg_locked`).
   */
  private wasReset(): void {
    this.abort(systemError("read", this.finReceived ? "EPIPE" : "ECONNRESET"))
  }

  /** Sends a packet without data, which is not sent again when it is lost. */
  sendBare(kind: Packet["kind"], arrive: () => void): void {
    this.outgoing.transmission.sendOnce(kind, () => {
      if (!this.peer.isGone && !this.isGone) arrive()
    })
  }

  /** Both directions have ended and the application has let go: it is over. */
  settleIfDone(): void {
    if (this.phase !== "open" || !this.finReceived || !this.isReleased || !this.finDelivered) return
    this.isClean = true
    this.settle()
  }

  /** Forgets everything. */
  settle(): void {
    if (this.phase !== "over") {
      this.phase = "over"
      this.outgoing.stop()
    }
    this.lingering?.cancel()
    this.host.sockets.delete(this)
    this.path.observers.delete(this)
    const { onOver } = this
    this.onOver = undefined
    onOver?.()
    this.connection.ended()
  }
}
