/** One end of a simulated TCP connection: its application above, its host's kernel below. */
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import { closeError, openError, readError, systemError, writeError } from "./failures.ts"
import { type Batch, type Chunk, Incoming, type Resume } from "./incoming.ts"
import type { Machine, Resident } from "./machine.ts"
import { Outgoing, type Segment, type Sender } from "./outgoing.ts"
import type { Lane, Path, Traveller } from "./path.ts"
import type { Draw } from "./random.ts"
import type * as Settings from "./settings.ts"
import type { Timeline, Timer } from "./timeline.ts"
import type { EventKind } from "./trace.ts"

/** What both ends share. */
export interface Pair {
  readonly id: number
  readonly timeline: Timeline
  readonly draw: Draw
  readonly messages: boolean
  readonly retransmit: { readonly initial: number; readonly max: number }
  readonly finTimeout: number
  readonly record: (kind: EventKind, from: Machine, to: Machine, bytes: number) => void
  /** Whether a packet gets through the address translation between the ends; it may answer with a reset. */
  readonly translate: (from: End) => boolean
  /** An end is over; both may be. */
  readonly ended: () => void
  /** Fails the next operation of this kind on a host, when a test asked for it. */
  readonly fault: (operation: "read" | "write", machine: Machine) => unknown
}

export type Phase = "opening" | "open" | "over"

export class End implements Resident, Traveller {
  readonly machine: Machine
  readonly address: string
  readonly path: Path
  readonly incoming = new Incoming()
  readonly outgoing: Outgoing
  readonly settings: Settings.End
  peer!: End
  phase: Phase = "opening"
  /** Nothing comes from it and nothing reaches it, and nobody was told. */
  isGone = false
  isPassive = false
  /** A reader has it. */
  isClaimed = false
  /** The application has let go of it. */
  isReleased = false
  private readonly pair: Pair
  private readonly ackLane: Lane = { lastDue: 0 }
  private ackOwed = false
  private brokenBy: Socket.SocketError | undefined
  private whenOpen: Array<Resume<void>> = []
  private lastTimer: Timer | undefined

  constructor(pair: Pair, machine: Machine, address: string, path: Path, settings: Settings.End, window: number) {
    this.pair = pair
    this.machine = machine
    this.address = address
    this.path = path
    this.settings = settings
    const sender: Sender = {
      connection: pair.id,
      timeline: pair.timeline,
      path,
      draw: pair.draw,
      messages: pair.messages,
      sendBuffer: settings.sendBuffer,
      userTimeout: settings.userTimeout,
      retransmit: pair.retransmit,
      isRunning: () => !machine.isStalled,
      isSilenced: () => this.isSilenced,
      arrive: (segment) => this.peer.receive(segment),
      timedOut: () => {
        pair.record("timeout", machine, this.peer.machine, 0)
        this.abort(systemError("read", "ETIMEDOUT"))
      },
      record: (kind, bytes) => pair.record(kind, machine, this.peer.machine, bytes),
      wake: machine.post
    }
    this.outgoing = new Outgoing(sender, window)
    machine.residents.add(this)
    path.travellers.add(this)
  }

  /** Whether nothing of this end reaches its peer. */
  get isSilenced(): boolean {
    return this.path.isCut || this.isGone || this.peer.isGone || !this.machine.isUp || !this.peer.machine.isUp
  }

  // -------------------------------------------------------------------------------------------------------------------
  // opening
  // -------------------------------------------------------------------------------------------------------------------

  readonly opened: Effect.Effect<void, Socket.SocketError> = Effect.callback<void, Socket.SocketError>((resume) => {
    if (this.phase === "over") return resume(Effect.fail(this.brokenBy ?? openError(systemError("read", "ECONNRESET"))))
    if (this.phase === "open" && !this.machine.isStalled) return resume(Effect.void)
    this.whenOpen.push(resume)
    return Effect.sync(() => {
      this.whenOpen = this.whenOpen.filter((waiter) => waiter !== resume)
    })
  })

  establish(greet: boolean): void {
    if (this.phase !== "opening") return
    this.phase = "open"
    this.wakeOpeners(Effect.void)
    this.outgoing.establish(greet)
  }

  private wakeOpeners(result: Effect.Effect<void, Socket.SocketError>): void {
    const waiters = this.whenOpen
    this.whenOpen = []
    for (const resume of waiters) this.machine.post(() => resume(result))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the application
  // -------------------------------------------------------------------------------------------------------------------

  readonly pull: Effect.Effect<Batch, Socket.SocketError> = Effect.callback<Batch, Socket.SocketError>((resume) => {
    this.incoming.waiter = resume
    if (this.machine.isStalled) this.machine.post(this.wakeReader)
    else this.wakeReader()
    if (this.incoming.waiter !== resume) return
    return Effect.sync(() => {
      if (this.incoming.waiter === resume) this.incoming.waiter = undefined
    })
  })

  /** The one place that resumes a reader. Must be called where the application may run. */
  private readonly wakeReader = (): void => {
    const { incoming } = this
    const resume = incoming.waiter
    if (resume === undefined) return
    const injected = this.phase === "over" ? undefined : this.pair.fault("read", this.machine)
    if (injected !== undefined) this.abort(injected, true)
    if (incoming.hasData) {
      incoming.waiter = undefined
      const batch = incoming.take(this.pair.messages || !this.path.slicing ? undefined : this.pair.draw)
      this.acknowledge()
      return resume(Effect.succeed(batch))
    }
    if (incoming.end === undefined) return
    incoming.waiter = undefined
    if (!this.settings.halfOpen && !this.outgoing.isFinished) this.finish()
    resume(Effect.fail(incoming.end))
  }

  notifyReader(): void {
    if (this.incoming.waiter !== undefined) this.machine.post(this.wakeReader)
  }

  write(chunks: ReadonlyArray<Chunk | Socket.CloseEvent>): Effect.Effect<void, Socket.SocketError> {
    const injected = this.phase === "over" ? undefined : this.pair.fault("write", this.machine)
    if (injected !== undefined) this.abort(injected, true)
    if (this.phase === "over") return Effect.fail(this.brokenBy ?? writeError(systemError("write", "EPIPE")))
    if (this.outgoing.isFinished) return Effect.fail(writeError(this.endedError()))
    const goal = this.outgoing.write(chunks)
    if (this.outgoing.isAccepted(goal)) return Effect.void
    if (this.machine.isStalled) this.machine.post(() => this.outgoing.pump())
    return Effect.callback((resume) => {
      if (this.phase === "over") return resume(Effect.fail(this.brokenBy!))
      if (this.outgoing.isAccepted(goal)) return resume(Effect.void)
      const writer = { goal, resume }
      this.outgoing.writers.push(writer)
      return Effect.sync(() => {
        this.outgoing.writers = this.outgoing.writers.filter((other) => other !== writer)
      })
    })
  }

  private endedError(): Error {
    return this.incoming.end !== undefined && !this.settings.halfOpen
      ? Object.assign(new Error("This socket has been ended by the other party"), { code: "EPIPE" })
      : new Error("write after end")
  }

  /** Sends the end behind everything written; a message transport has no half-close. */
  finish(): void {
    if (this.phase === "open") this.outgoing.finish()
  }

  /** Writes a close event as the transport does: a close frame, or the end of a byte stream. */
  close(event: Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> {
    if (this.pair.messages) return this.sendClose(event)
    // as NodeSocket does: the stream is destroyed
    if (event.code > 1000) this.abort(new Error(`closed with code ${event.code}`), true)
    else this.finish()
    return Effect.void
  }

  /** Nobody will ever read it: a connection that failed before it had an owner. */
  abandon(): void {
    if (!this.isClaimed && this.phase === "open") this.abort(systemError("read", "ECONNRESET"), true)
  }

  /** A close frame: nothing is written behind it, and the peer answers with its own. */
  private sendClose(event: Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> {
    const result = this.write([event])
    this.outgoing.finish()
    this.endReading(closeError(event.code, event.reason))
    return result
  }

  /** The application lets go: what it wrote still leaves, and it reads nothing more. */
  release(): void {
    if (this.isReleased) return
    this.isReleased = true
    const wasOver = this.phase === "over"
    const opening = this.phase === "opening"
    const unread = this.incoming.bytes > 0
    this.incoming.discard()
    this.incoming.end ??= closeError(1006)
    const waiter = this.incoming.waiter
    this.incoming.waiter = undefined
    waiter?.(Effect.fail(closeError(1006)))
    if (wasOver || opening || this.isGone) return this.settle()
    // RFC 1122, 4.2.2.13: what was received and not read makes the close a reset
    if (unread && !this.discards) return this.abort(systemError("read", "ECONNRESET"), true)
    if (unread) this.acknowledge()
    if (this.pair.messages && !this.outgoing.isFinished) this.outgoing.write([new Socket.CloseEvent(1005)])
    this.outgoing.finish()
    this.waitForLast()
    this.maybeDone()
  }

  /** What still comes after the application let go is discarded, not answered with a reset. */
  private get discards(): boolean {
    return this.settings.linger > 0 || this.pair.messages
  }

  private waitForLast(): void {
    const { linger } = this.settings
    const { finTimeout, timeline } = this.pair
    this.lastTimer = timeline.at(timeline.now() + (linger > 0 ? linger : finTimeout), () => {
      // a kernel goes on sending what it has taken for as long as the peer acknowledges
      if (linger === 0 && !this.finDelivered) return this.waitForLast()
      this.abort(systemError("read", "ECONNRESET"), !this.finDelivered)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the kernel
  // -------------------------------------------------------------------------------------------------------------------

  /** A packet of the peer is here; false when it is lost on the last step. */
  receive(segment: Segment): boolean {
    const { peer } = this
    if (!this.pair.translate(peer)) return false
    if (this.phase !== "over") {
      this.pair.record("arrive", peer.machine, this.machine, segment.bytes)
      this.process(segment)
    } else if (!this.isClean) this.sendReset()
    return true
  }

  private process(segment: Segment): void {
    const { peer } = this
    switch (segment.kind) {
      case "ack":
        this.greeted?.()
        return
      case "probe":
        return this.acknowledge()
      case "fin":
        this.finReceived = true
        peer.finDelivered = true
        peer.maybeDone()
        if (!this.pair.messages) this.endReading(closeError(1000))
        return this.maybeDone()
      case "data": {
        if (this.isReleased && !this.discards) return this.abort(systemError("read", "ECONNRESET"), true)
        this.take(segment)
        this.acknowledge()
        this.notifyReader()
      }
    }
  }

  /** Told when it is over. */
  onOver: (() => void) | undefined
  /** Told when the client's third packet of the handshake is here. */
  greeted: (() => void) | undefined
  finReceived = false
  finDelivered = false
  private isClean = false

  private take(segment: Segment): void {
    const first = segment.chunks[0]
    if (Socket.isCloseEvent(first)) {
      this.endReading(closeError(first.code, first.reason))
      if (this.outgoing.isFinished) return
      this.outgoing.write([first])
      return this.outgoing.finish()
    }
    if (this.incoming.end !== undefined && !this.isReleased) return
    this.incoming.push(segment.chunks as ReadonlyArray<Chunk>, segment.bytes)
    if (this.isReleased) this.incoming.discard()
  }

  private endReading(error: Socket.SocketError): void {
    this.incoming.end ??= error
    this.notifyReader()
  }

  /** Tells the peer what is here and how much more fits. */
  acknowledge(): void {
    const { peer, path } = this
    if (peer.phase !== "open") return
    if (this.isSilenced) return peer.outgoing.acknowledgementLost()
    if (path.hold !== undefined) {
      this.ackOwed = true
      return
    }
    this.ackOwed = false
    const { incoming } = this
    peer.outgoing.acknowledge(
      path.arrival(this.ackLane),
      incoming.received,
      incoming.read + this.settings.receiveBuffer
    )
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
    const opening = this.phase === "opening"
    if (tell) this.sendReset()
    this.phase = "over"
    this.incoming.discard()
    const read = opening ? openError(cause) : readError(cause)
    this.brokenBy = opening ? read : writeError(cause)
    this.incoming.end = read
    const writers = this.outgoing.writers
    this.outgoing.writers = []
    this.outgoing.stop()
    const failed = Effect.fail(this.brokenBy)
    for (const { resume } of writers) this.machine.post(() => resume(failed))
    this.wakeOpeners(failed)
    this.notifyReader()
    this.settle()
  }

  /** Nothing comes or goes any more, and nobody is told. */
  vanish(): void {
    this.isGone = true
    if (this.phase === "over" || this.isReleased) this.settle()
  }

  crash(): void {
    // the client's first packet did not come yet
    if (this.isPassive && this.phase === "opening") return
    this.abort(systemError("read", "ENETDOWN", "the host crashed"))
  }

  /** Answers that there is no such connection. */
  sendReset(): void {
    if (this.isSilenced) return
    const { peer } = this
    this.pair.record("reset", this.machine, peer.machine, 0)
    this.sendBare("reset", () => {
      if (!peer.machine.isUp || peer.isGone || this.isGone) return
      if (this.pair.translate(this)) peer.abort(systemError("read", "ECONNRESET"))
    })
  }

  /** Sends a packet without data, which nobody repeats when it is lost. */
  sendBare(kind: "syn" | "syn-ack" | "reset", arrive: () => void): void {
    const { lane } = this.outgoing
    this.path.send({ connection: this.pair.id, kind, chunks: [], bytes: 0, lane, arrive, lose: () => {} })
  }

  /** Both directions have ended in order. */
  private maybeDone(): void {
    if (this.phase !== "open" || !this.finReceived || !this.isReleased || !this.finDelivered) return
    this.isClean = true
    this.phase = "over"
    this.brokenBy = writeError(systemError("write", "EPIPE"))
    this.settle()
  }

  /** Forgets everything. */
  settle(): void {
    if (this.phase !== "over") {
      // it was never open, or nobody will hear of it again
      this.phase = "over"
      this.outgoing.stop()
    }
    if (this.lastTimer !== undefined) this.lastTimer.run = undefined
    this.machine.residents.delete(this)
    this.path.travellers.delete(this)
    this.onOver?.()
    this.pair.ended()
  }
}
