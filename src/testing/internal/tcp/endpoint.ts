/** One end of a simulated TCP connection: its application above, its host's kernel below. */
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import { closeError, openError, readError, systemError, writeError } from "../fabric/failures.ts"
import type { Lane, Packet, Path, Traveller } from "../fabric/path.ts"
import type { Draw } from "../fabric/random.ts"
import type * as Settings from "../fabric/settings.ts"
import type { Machine, Resident } from "../fabric/simulatedHost.ts"
import type { Timeline, Timer } from "../fabric/timeline.ts"
import type { EventKind } from "../fabric/trace.ts"
import { type Batch, type Chunk, Incoming, type Resume } from "./incoming.ts"
import { Outgoing, type Segment, type Sender } from "./outgoing.ts"

/** What both ends share. */
export interface Pair {
  readonly id: number
  readonly timeline: Timeline
  readonly draw: Draw
  readonly messages: boolean
  readonly retransmit: { readonly initial: number; readonly max: number }
  readonly finTimeout: number
  readonly record: (kind: EventKind, from: End, bytes: number) => void
  /** Whether a packet gets through the address translation between the ends; it may answer with a reset. */
  readonly translate: (from: End) => boolean
  /** An end is over; both may be. */
  readonly ended: () => void
  /** What the next operation of this kind fails with, when a test asked for it. */
  readonly fault: (operation: "read" | "write", machine: Machine) => unknown
}

// errors are made when somebody gets them: most connections end without
type Failure = () => Socket.SocketError

const endOfStream: Failure = () => closeError(1000)
const released: Failure = () => closeError(1006)
const brokenPipe: Failure = () => writeError(systemError("write", "EPIPE"))

export class End implements Resident, Traveller, Sender {
  readonly machine: Machine
  readonly address: string
  readonly path: Path
  readonly incoming = new Incoming()
  readonly outgoing: Outgoing
  readonly settings: Settings.End
  readonly pair: Pair
  peer!: End
  phase: "opening" | "open" | "over" = "opening"
  /** The server's end. */
  readonly isPassive: boolean
  /** Nothing comes from it and nothing reaches it, and nobody was told. */
  isGone = false
  /** A reader has it. */
  isClaimed = false
  /** The application has let go of it. */
  private isReleased = false
  finReceived = false
  private finDelivered = false
  /** Both directions have ended in order. */
  private isClean = false
  /** Why operations fail. */
  private brokenBy: Failure = brokenPipe
  private readonly ackLane: Lane = { lastDue: 0 }
  private ackOwed = false
  private whenOpen: Array<Resume<void>> = []
  private lastTimer: Timer | undefined
  /** Told when the client's third packet of the handshake is here. */
  greeted: (() => void) | undefined
  /** Told when it is over. */
  onOver: (() => void) | undefined

  constructor(
    pair: Pair,
    machine: Machine,
    address: string,
    path: Path,
    settings: Settings.End,
    window: number,
    isPassive: boolean
  ) {
    this.pair = pair
    this.machine = machine
    this.address = address
    this.path = path
    this.settings = settings
    this.isPassive = isPassive
    this.outgoing = new Outgoing(this, window)
    machine.residents.add(this)
    path.travellers.add(this)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what the sending half needs to know
  // -------------------------------------------------------------------------------------------------------------------

  get connection(): number {
    return this.pair.id
  }
  get timeline(): Timeline {
    return this.pair.timeline
  }
  get draw(): Draw {
    return this.pair.draw
  }
  get messages(): boolean {
    return this.pair.messages
  }
  get retransmit(): Pair["retransmit"] {
    return this.pair.retransmit
  }
  get isRunning(): boolean {
    return !this.machine.isStalled
  }

  /** Nothing of this end reaches its peer at the moment, and nobody will say so. */
  get isSilenced(): boolean {
    return this.path.isCut || this.isGone || this.peer.isGone || !this.machine.isUp || !this.peer.machine.isUp
  }

  deliver(segment: Segment): boolean {
    return this.peer.receive(segment)
  }

  timedOut(): void {
    this.record("timeout", 0)
    this.abort(systemError("read", "ETIMEDOUT"))
  }

  record(kind: EventKind, bytes: number): void {
    this.pair.record(kind, this, bytes)
  }

  /** Does something where the application may run. */
  wake(task: () => void): void {
    this.machine.post(task)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // opening
  // -------------------------------------------------------------------------------------------------------------------

  get opened(): Effect.Effect<void, Socket.SocketError> {
    return Effect.callback<void, Socket.SocketError>((resume) => {
      if (this.phase === "over") return resume(Effect.fail(this.openFailure()))
      if (this.phase === "open" && this.isRunning) return resume(Effect.void)
      if (this.phase === "open") return this.wake(() => resume(Effect.void))
      this.whenOpen.push(resume)
      return Effect.sync(() => {
        this.whenOpen = this.whenOpen.filter((waiter) => waiter !== resume)
      })
    })
  }

  /** A connection that broke before its reader was acquired did not open. */
  private openFailure(): Socket.SocketError {
    const { reason } = this.brokenBy()
    return openError("cause" in reason ? reason.cause : undefined)
  }

  /** `greet`: the client's end sends the third packet of the handshake. */
  establish(greet: boolean): void {
    if (this.phase !== "opening") return
    this.phase = "open"
    this.wakeOpeners(() => Effect.void)
    this.outgoing.establish(greet)
  }

  private wakeOpeners(result: () => Effect.Effect<void, Socket.SocketError>): void {
    const waiters = this.whenOpen
    this.whenOpen = []
    for (const resume of waiters) this.wake(() => resume(result()))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the application
  // -------------------------------------------------------------------------------------------------------------------

  get pull(): Effect.Effect<Batch, Socket.SocketError> {
    return Effect.callback<Batch, Socket.SocketError>((resume) => {
      this.incoming.waiter = resume
      if (this.isRunning) this.wakeReader()
      else this.notifyReader()
      if (this.incoming.waiter !== resume) return
      return Effect.sync(() => {
        if (this.incoming.waiter === resume) this.incoming.waiter = undefined
      })
    })
  }

  /** The one place that resumes a reader. Must be called where the application may run. */
  private wakeReader(): void {
    const { incoming } = this
    const resume = incoming.waiter
    if (resume === undefined) return
    const injected = this.phase === "over" ? undefined : this.pair.fault("read", this.machine)
    if (injected !== undefined) this.abort(injected, true)
    if (incoming.hasData) {
      incoming.waiter = undefined
      const batch = incoming.take(this.messages || !this.path.slicing ? undefined : this.draw)
      this.acknowledge()
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

  write(chunks: ReadonlyArray<Chunk | Socket.CloseEvent>): Effect.Effect<void, Socket.SocketError> {
    const injected = this.phase === "over" ? undefined : this.pair.fault("write", this.machine)
    if (injected !== undefined) this.abort(injected, true)
    if (this.phase === "over") return Effect.fail(this.brokenBy())
    if (this.outgoing.isFinished) return this.failEnded
    const goal = this.outgoing.write(chunks)
    if (this.outgoing.isAccepted(goal)) return Effect.void
    return Effect.callback((resume) => {
      if (this.phase === "over") return resume(Effect.fail(this.brokenBy()))
      if (this.outgoing.isAccepted(goal)) return resume(Effect.void)
      const writer = { goal, resume }
      this.outgoing.writers.push(writer)
      return Effect.sync(() => {
        this.outgoing.writers = this.outgoing.writers.filter((other) => other !== writer)
      })
    })
  }

  private get failEnded(): Effect.Effect<void, Socket.SocketError> {
    const byPeer = this.incoming.end !== undefined && (this.messages || !this.settings.halfOpen)
    const failed = Effect.suspend(() =>
      Effect.fail(writeError(
        byPeer
          ? Object.assign(new Error("This socket has been ended by the other party"), { code: "EPIPE" })
          : Object.assign(new Error("write after end"), { code: "ERR_STREAM_WRITE_AFTER_END" })
      ))
    )
    if (!byPeer) return failed
    // the reader is told first: a write that meets the peer's close frame must not hide why the peer closes
    return Effect.callback((resume) => this.wake(() => this.wake(() => resume(failed))))
  }

  /** Sends the end behind everything written. */
  finish(): void {
    if (this.phase === "open") this.outgoing.finish()
  }

  /** Writes a close event as the transport does: a close frame, or the end of a byte stream. */
  close(event: Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> {
    if (!this.messages) {
      // as NodeSocket does: the stream is destroyed, which the peer sees as an end
      this.isReleased = true
      const failure = event.code > 1000 ? () => readError(new Error(`closed with code ${event.code}`)) : endOfStream
      this.failWriters()
      this.letGo(failure)
      return Effect.void
    }
    const result = this.write([event])
    // nothing is written behind it, and nothing more is read: the peer answers with its own
    this.outgoing.finish()
    this.endReading(() => closeError(event.code, event.reason))
    return result
  }

  /** Nobody will ever read it: a connection whose handler failed before it had an owner. */
  abandon(): void {
    if (!this.isClaimed && this.phase === "open") this.abort(systemError("read", "ECONNRESET"), true)
  }

  /** The application lets go: what it wrote still leaves, and it reads nothing more. */
  release(): void {
    const { waiter } = this.incoming
    this.incoming.waiter = undefined
    waiter?.(Effect.suspend(() => Effect.fail(released())))
    if (this.isReleased) return
    this.isReleased = true
    this.failWriters()
    if (this.isRunning) this.letGo(released)
    else this.wake(() => this.letGo(released))
  }

  /** Nobody is left to wait for room; what was handed over is sent nevertheless. */
  private failWriters(): void {
    const { writers } = this.outgoing
    this.outgoing.writers = []
    const failed = Effect.suspend(() => Effect.fail(writeError(new Error("socket closed"))))
    for (const { resume } of writers) this.wake(() => resume(failed))
  }

  private letGo(failure: Failure): void {
    const unread = this.incoming.bytes > 0
    this.incoming.discard()
    this.incoming.end ??= failure
    this.notifyReader()
    if (this.phase !== "open" || this.isGone) return this.settle()
    // RFC 1122, 4.2.2.13: what was received and not read makes the close a reset
    if (unread && !this.discards) return this.abort(systemError("read", "ECONNRESET"), true)
    if (unread) this.acknowledge()
    if (this.messages && !this.outgoing.isFinished) this.outgoing.write([new Socket.CloseEvent(1005)])
    this.outgoing.finish()
    this.waitForLast()
    this.maybeDone()
  }

  /** What still comes after the application let go is discarded, not answered with a reset. */
  private get discards(): boolean {
    return this.settings.linger > 0 || this.messages
  }

  private waitForLast(): void {
    const { linger } = this.settings
    this.lastTimer = this.timeline.at(this.timeline.now() + (linger > 0 ? linger : this.pair.finTimeout), () => {
      // a kernel goes on sending what it has taken for as long as the peer acknowledges
      if (linger === 0 && !this.finDelivered) return this.waitForLast()
      this.abort(systemError("read", "ECONNRESET"), !this.finDelivered)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the kernel
  // -------------------------------------------------------------------------------------------------------------------

  /** A packet of the peer is here; false when it is lost on the last step. */
  private receive(segment: Segment): boolean {
    const { peer } = this
    if (!this.pair.translate(peer)) return false
    if (this.phase !== "over") {
      peer.record("arrive", segment.bytes)
      this.process(segment)
    } else if (!this.isClean) this.sendReset()
    return true
  }

  private process(segment: Segment): void {
    switch (segment.kind) {
      case "ack":
        this.greeted?.()
        return
      case "probe":
        return this.acknowledge()
      case "fin":
        this.finReceived = true
        this.peer.finDelivered = true
        this.peer.maybeDone()
        if (!this.messages) this.endReading(endOfStream)
        return this.maybeDone()
      case "data": {
        if (this.isReleased && !this.discards) return this.abort(systemError("read", "ECONNRESET"), true)
        this.take(segment)
        this.acknowledge()
        this.notifyReader()
      }
    }
  }

  private take(segment: Segment): void {
    const first = segment.chunks[0]
    if (Socket.isCloseEvent(first)) {
      this.endReading(() => closeError(first.code, first.reason))
      if (this.outgoing.isFinished) return
      // the closing handshake of a WebSocket is answered by the library, not by the application
      this.outgoing.write([first])
      return this.outgoing.finish()
    }
    this.incoming.push(segment.chunks as ReadonlyArray<Chunk>, segment.bytes)
    if (this.isReleased || this.incoming.end !== undefined) this.incoming.discard()
  }

  private endReading(error: Failure): void {
    this.incoming.end ??= error
    this.notifyReader()
  }

  /** Tells the peer what is here and how much more fits. */
  acknowledge(): void {
    const { incoming, path, peer } = this
    if (peer.phase !== "open") return
    if (this.isSilenced) return peer.outgoing.acknowledgementLost()
    this.ackOwed = path.hold !== undefined
    if (this.ackOwed) return
    const edge = incoming.read + this.settings.receiveBuffer
    peer.outgoing.acknowledge(path.arrival(this.ackLane), incoming.received, edge)
  }

  pathChanged(): void {
    if (this.ackOwed && this.path.hold === undefined) this.acknowledge()
    if (this.isSilenced) this.outgoing.pump()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the end
  // -------------------------------------------------------------------------------------------------------------------

  /** Ends this side at once; the peer learns of it only by a reset. */
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

  /** Nothing comes or goes any more, and nobody is told. */
  vanish(): void {
    this.isGone = true
    if (this.isReleased) this.settle()
  }

  crash(): void {
    // where the client's first packet did not come yet, nothing is known of it
    if (this.isPassive && this.phase === "opening") return
    this.abort(systemError("read", "ENETDOWN", "the host crashed"))
  }

  /** Answers that there is no such connection. */
  sendReset(): void {
    if (this.isSilenced) return
    const { peer } = this
    this.record("reset", 0)
    this.sendBare("reset", () => {
      if (peer.machine.isUp && this.pair.translate(this)) peer.wasReset()
    })
  }

  /**
   * A reset of the peer is here. After its FIN the reader still gets everything, and only writing is broken: Linux looks
   * at the end of the stream before it looks at the error, which is then EPIPE (`tcp_reset`, `tcp_recvmsg_locked`).
   */
  wasReset(): void {
    this.abort(systemError("read", this.finReceived ? "EPIPE" : "ECONNRESET"))
  }

  /** Sends a packet without data, which nobody repeats when it is lost. */
  sendBare(kind: Packet["kind"], arrive: () => void): void {
    if (this.isSilenced) return
    const { lane } = this.outgoing
    this.path.send({
      connection: this.connection,
      kind,
      chunks: [],
      bytes: 0,
      lane,
      arrive: () => {
        if (!this.peer.isGone && !this.isGone) arrive()
      },
      lose: () => {}
    })
  }

  private maybeDone(): void {
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
    this.lastTimer?.cancel()
    this.machine.residents.delete(this)
    this.path.travellers.delete(this)
    const { onOver } = this
    this.onOver = undefined
    onOver?.()
    this.pair.ended()
  }
}
