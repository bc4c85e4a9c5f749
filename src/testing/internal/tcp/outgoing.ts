/**
 * The sending half of one end: what its application wrote, its host's send buffer, and the peer's receive window.
 *
 * Its state are byte counts since the connection opened: written >= accepted (in the send buffer) >= sent >= acked, and
 * `edge` is how far the peer's receive window goes.
 */
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import { type Chunk, sizeOf, toBytes } from "../fabric/chunk.ts"
import type { Timer } from "../fabric/timeline.ts"
import type { Resume } from "./incoming.ts"
import { type Sender, Transmission } from "./transmission.ts"

interface Acknowledgement {
  readonly at: number
  acked: number
  edge: number
}

/** A write that waits until everything up to `goal` is in the send buffer. */
interface Writer {
  readonly goal: number
  readonly resume: Resume<void>
}

/** Chunks that are written and not sent. */
class SendQueue {
  chunks: Array<Chunk | Socket.CloseEvent> = []
  /** Bytes of the first chunk that are sent. */
  private offset = 0

  /** Takes that many bytes off a queue without text or close events. */
  takeBytes(size: number): Array<Chunk> {
    const taken: Array<Chunk> = []
    let left = size
    let used = 0
    while (left > 0) {
      const chunk = this.chunks[used] as Uint8Array
      const part = chunk.subarray(this.offset, this.offset + left)
      taken.push(part)
      left -= part.byteLength
      this.offset += part.byteLength
      if (this.offset === chunk.byteLength) {
        used++
        this.offset = 0
      }
    }
    if (used > 0) this.chunks.splice(0, used)
    return taken
  }
}

// each cut is an event and a read more: enough to meet every border in some run, not so much that runs get slow
const cutChance = 0.25

/** Owned by one end: plain fields, changed synchronously. */
export class Outgoing {
  private readonly sender: Sender
  readonly transmission: Transmission
  private readonly queue = new SendQueue()
  written = 0
  private accepted = 0
  private sent = 0
  private acked = 0
  private edge: number
  private established = false
  private stopped = false
  writers: Array<Writer> = []
  private finAsked = false
  private finSent = false
  private acks: Array<Acknowledgement> = []
  private ackTimer: Timer | undefined

  constructor(sender: Sender, window: number) {
    this.sender = sender
    this.edge = window
    this.transmission = new Transmission(sender, this)
  }

  /** Bytes written that the send buffer had no room for. */
  get unsent(): number {
    return this.written - this.accepted
  }

  /** Bytes in the send buffer: not sent, or not acknowledged. */
  get queued(): number {
    this.applyAcks()
    return this.accepted - this.acked
  }

  /** Bytes wait for an acknowledgement, or for room. */
  get isWaiting(): boolean {
    return this.sent > this.acked || this.sent < this.written
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the application's side
  // -------------------------------------------------------------------------------------------------------------------

  /** Takes what the application writes; the count it has to wait for until all of it is in the send buffer. */
  write(chunks: ReadonlyArray<Chunk | Socket.CloseEvent>): number {
    const { messages } = this.sender.connection
    for (const chunk of chunks) {
      if (typeof chunk !== "string" && !(chunk instanceof Uint8Array)) {
        this.queue.chunks.push(chunk)
        continue
      }
      // copied, as by a kernel: the writer may use its buffer again, and the reader may change what it gets; the `slice` of
      // a Node `Buffer` is no copy
      const taken = typeof chunk !== "string" ? new Uint8Array(chunk) : messages ? chunk : toBytes(chunk)
      const size = sizeOf(taken)
      if (size === 0 && !messages) continue
      this.queue.chunks.push(taken)
      this.written += size
    }
    this.pump()
    return this.written
  }

  isAccepted(goal: number): boolean {
    return this.accepted >= goal
  }

  /** Resumes a write once everything up to `goal` is in the send buffer. Returns what gives up waiting. */
  whenAccepted(goal: number, resume: Resume<void>): () => void {
    const writer = { goal, resume }
    this.writers.push(writer)
    return () => {
      this.writers = this.writers.filter((other) => other !== writer)
    }
  }

  /** Sends the end behind everything written. */
  finish(): void {
    if (this.finAsked) return
    this.finAsked = true
    this.pump()
  }

  get isFinished(): boolean {
    return this.finAsked
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the kernel's side
  // -------------------------------------------------------------------------------------------------------------------

  /** The connection is open: what is written may leave. `sendAck`: with the third packet of the handshake. */
  establish(sendAck: boolean): void {
    this.established = true
    if (sendAck) this.transmission.transmit("ack", [], 0)
    this.pump()
  }

  /** Forgets everything; nothing is sent any more. */
  stop(): void {
    this.stopped = true
    this.queue.chunks = []
    this.acks = []
    this.writers = []
    this.accepted = this.written = this.sent = this.acked
    this.ackTimer?.cancel()
    this.transmission.stop()
  }

  pump(): void {
    if (this.stopped || !this.established) return
    this.applyAcks()
    this.accept()
    if (!this.transmission.isRetransmitting) {
      this.sendData()
      if (this.finAsked && !this.finSent && this.queue.chunks.length === 0) this.sendFin()
    }
    if (this.accepted === this.sent && this.written === this.accepted) return
    // bytes wait for room, here or at the peer
    if (this.acks.length > 0) this.armAck()
    // the peer cannot tell that there is room: ask, as the persist timer does (RFC 9293, 3.8.6.1)
    else if (this.sender.isSilenced) this.transmission.arm(this.sender.connection.timeline.now())
  }

  private sendFin(): void {
    if (!this.sender.isRunning) return this.pumpLater()
    this.finSent = true
    this.sender.record("fin", 0)
    this.transmission.transmit("fin", [], 0)
  }

  /** Moves what was written into the send buffer, which the application does: not while it is stalled. */
  private accept(): void {
    if (this.accepted < this.written) {
      if (!this.sender.isRunning) return this.pumpLater()
      this.accepted = Math.max(this.accepted, Math.min(this.written, this.acked + this.sender.settings.sendBuffer))
    }
    if (this.writers.length === 0 || this.writers[0].goal > this.accepted) return
    const ready = this.writers.filter((writer) => writer.goal <= this.accepted)
    this.writers = this.writers.filter((writer) => writer.goal > this.accepted)
    for (const { resume } of ready) this.sender.wake(() => resume(Effect.void))
  }

  private isPumpingLater = false
  private pumpLater(): void {
    if (this.isPumpingLater) return
    this.isPumpingLater = true
    this.sender.wake(() => {
      this.isPumpingLater = false
      this.pump()
    })
  }

  private sendData(): void {
    if (this.sender.connection.messages) return this.sendMessages()
    const { connection, path } = this.sender
    let cuts = path.slicing && path.spreads ? 2 : 0
    while (true) {
      const room = Math.min(this.accepted, this.edge) - this.sent
      if (room <= 0) return
      const most = Math.min(room, path.longest)
      const size = cuts-- > 0 && connection.draw() < cutChance ? 1 + Math.floor(connection.draw() * most) : most
      const bytes = Math.min(size, most)
      this.sent += bytes
      this.transmission.transmit("data", this.queue.takeBytes(bytes), bytes)
    }
  }

  /** A message leaves as a whole, as soon as there is any room for it. */
  private sendMessages(): void {
    if (this.queue.chunks.length > 0 && !this.sender.isRunning) return this.pumpLater()
    while (this.queue.chunks.length > 0 && !this.transmission.isRetransmitting) {
      const chunk = this.queue.chunks[0]
      const isData = typeof chunk === "string" || chunk instanceof Uint8Array
      const bytes = isData ? sizeOf(chunk) : 0
      if (bytes > 0 && (this.sent >= this.edge || this.sent >= this.accepted)) return
      this.queue.chunks.shift()
      this.sent += bytes
      this.accepted = Math.max(this.accepted, this.sent)
      this.transmission.transmit("data", [chunk], bytes)
    }
    this.accept()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // acknowledgements
  // -------------------------------------------------------------------------------------------------------------------

  /** The peer says what it has and how far its window goes; the sender knows at `at`. */
  acknowledge(at: number, acked: number, edge: number): void {
    if (this.stopped) return
    const last = this.acks.at(-1)
    if (last !== undefined && last.at === at) {
      last.acked = acked
      last.edge = edge
    } else this.acks.push({ at, acked, edge })
    const now = this.sender.connection.timeline.now()
    if (at <= now) this.pump()
    // an acknowledgement costs no event unless bytes wait for it
    else if (this.sent < this.accepted || this.accepted < this.written) this.armAck()
  }

  /** An acknowledgement was lost: asks for it again where bytes wait for it. */
  acknowledgementLost(): void {
    if (!this.stopped && this.isWaiting) this.transmission.arm(this.sender.connection.timeline.now())
  }

  private armAck(): void {
    if (this.ackTimer?.run !== undefined) return
    this.ackTimer = this.sender.connection.timeline.at(this.acks[0].at, () => this.pump())
  }

  applyAcks(): void {
    if (this.acks.length === 0) return
    const now = this.sender.connection.timeline.now()
    let known = 0
    while (known < this.acks.length && this.acks[known].at <= now) known++
    if (known === 0) return
    const { acked, edge } = this.acks[known - 1]
    this.acks.splice(0, known)
    this.acked = Math.max(this.acked, acked)
    this.edge = Math.max(this.edge, edge)
    this.transmission.acknowledged()
  }
}
