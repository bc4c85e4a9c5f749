/**
 * What one end of a connection has to send: the bytes its application wrote, its host's send buffer, what is on its way,
 * and what has to be sent again.
 *
 * Byte counts since the connection opened tell everything: written >= accepted (in the send buffer) >= sent >= acked,
 * and `edge` is how far the peer's receive window goes.
 */
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type { Lane, Packet, Path } from "../fabric/path.ts"
import type { Draw } from "../fabric/random.ts"
import type { Timeline, Timer } from "../fabric/timeline.ts"
import type { EventKind } from "../fabric/trace.ts"
import { type Chunk, type Resume, sizeOf } from "./incoming.ts"

export interface Segment {
  /** Where it belongs in the order of sending. */
  readonly order: number
  readonly kind: "ack" | "data" | "fin" | "probe"
  readonly chunks: ReadonlyArray<Chunk | Socket.CloseEvent>
  readonly bytes: number
  readonly firstSent: number
}

interface Acknowledgement {
  readonly at: number
  acked: number
  edge: number
}

/** The end of a connection that this is the sending half of. */
export interface Sender {
  readonly connection: number
  readonly timeline: Timeline
  readonly path: Path
  readonly draw: Draw
  readonly messages: boolean
  readonly settings: { readonly sendBuffer: number; readonly userTimeout: number }
  readonly retransmit: { readonly initial: number; readonly max: number }
  /** The application is running; its host's kernel always is. */
  readonly isRunning: boolean
  /** Nothing can reach the peer at the moment, and nobody will say so. */
  readonly isSilenced: boolean
  /** Hands a segment to the peer; false when it is lost on the last step. */
  deliver(segment: Segment): boolean
  /** Nothing was acknowledged for too long. */
  timedOut(): void
  record(kind: EventKind, bytes: number): void
  /** Does something where the application may run. */
  wake(task: () => void): void
}

interface Writer {
  readonly goal: number
  readonly resume: Resume<void>
}

const encoder = new TextEncoder()

// each cut is an event and a read more: enough to meet every border in some run, not so much that runs get slow
const cutChance = 0.25

export class Outgoing {
  private readonly sender: Sender
  readonly lane: Lane = { lastDue: 0 }
  // written, and not sent
  private chunks: Array<Chunk | Socket.CloseEvent> = []
  private offset = 0
  written = 0
  private accepted = 0
  private sent = 0
  private acked = 0
  private edge: number
  private order = 0
  private established = false
  private stopped = false
  writers: Array<Writer> = []
  private finAsked = false
  private finSent = false
  private acks: Array<Acknowledgement> = []
  private ackTimer: Timer | undefined
  /** Lost, or behind something that was, in the order of sending. */
  private resend: Array<Segment> = []
  private retransmitTimer: Timer | undefined
  private backoff = 0
  /** When the oldest of what nobody has acknowledged was sent first. */
  private stuckSince: number | undefined

  constructor(sender: Sender, window: number) {
    this.sender = sender
    this.edge = window
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

  get isRetransmitting(): boolean {
    return this.resend.length > 0
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the application's side
  // -------------------------------------------------------------------------------------------------------------------

  /** Takes what the application writes; the count it has to wait for until all of it is in the send buffer. */
  write(chunks: ReadonlyArray<Chunk | Socket.CloseEvent>): number {
    for (const chunk of chunks) {
      if (typeof chunk !== "string" && !(chunk instanceof Uint8Array)) {
        this.chunks.push(chunk)
        continue
      }
      // copied, as by a kernel: the writer may use its buffer again
      const taken = this.sender.messages
        ? (typeof chunk === "string" ? chunk : chunk.slice())
        : (typeof chunk === "string" ? encoder.encode(chunk) : chunk.slice())
      const size = sizeOf(taken)
      if (size === 0 && !this.sender.messages) continue
      this.chunks.push(taken)
      this.written += size
    }
    this.pump()
    return this.written
  }

  isAccepted(goal: number): boolean {
    return this.accepted >= goal
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

  /** The connection is open: what is written may leave. `greet` is the client's third packet. */
  establish(greet: boolean): void {
    this.established = true
    if (greet) this.transmit("ack", [], 0)
    this.pump()
  }

  /** Nothing is sent any more. */
  stop(): void {
    this.stopped = true
    this.chunks = []
    this.resend = []
    this.acks = []
    this.writers = []
    this.accepted = this.written = this.sent = this.acked
    for (const timer of [this.ackTimer, this.retransmitTimer]) timer?.cancel()
  }

  pump(): void {
    if (this.stopped || !this.established) return
    this.applyAcks()
    this.accept()
    if (this.resend.length === 0) {
      this.sendData()
      if (this.finAsked && !this.finSent && this.chunks.length === 0) this.sendFin()
    }
    if (this.accepted === this.sent && this.written === this.accepted) return
    // somebody waits for room, here or at the peer
    if (this.acks.length > 0) this.armAck()
    // nobody will tell that there is room: ask, as the persist timer does (RFC 9293, 3.8.6.1)
    else if (this.sender.isSilenced) this.arm(this.sender.timeline.now())
  }

  private sendFin(): void {
    if (!this.sender.isRunning) return this.pumpLater()
    this.finSent = true
    this.sender.record("fin", 0)
    this.transmit("fin", [], 0)
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
    if (this.sender.messages) return this.sendMessages()
    const { path } = this.sender
    let cuts = path.slicing && path.spreads ? 2 : 0
    while (true) {
      const room = Math.min(this.accepted, this.edge) - this.sent
      if (room <= 0) return
      const most = Math.min(room, path.longest)
      const size = cuts-- > 0 && this.sender.draw() < cutChance ? 1 + Math.floor(this.sender.draw() * most) : most
      const bytes = Math.min(size, most)
      this.sent += bytes
      this.transmit("data", this.takeBytes(bytes), bytes)
    }
  }

  /** A message leaves as a whole, as soon as there is any room for it. */
  private sendMessages(): void {
    if (this.chunks.length > 0 && !this.sender.isRunning) return this.pumpLater()
    while (this.chunks.length > 0 && this.resend.length === 0) {
      const chunk = this.chunks[0]
      const isData = typeof chunk === "string" || chunk instanceof Uint8Array
      const bytes = isData ? sizeOf(chunk) : 0
      if (bytes > 0 && (this.sent >= this.edge || this.sent >= this.accepted)) return
      this.chunks.shift()
      this.sent += bytes
      this.accepted = Math.max(this.accepted, this.sent)
      this.transmit("data", [chunk], bytes)
    }
    this.accept()
  }

  private takeBytes(size: number): Array<Chunk> {
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

  private transmit(kind: Segment["kind"], chunks: Segment["chunks"], bytes: number): void {
    const segment: Segment = { order: this.order++, kind, chunks, bytes, firstSent: this.sender.timeline.now() }
    this.sender.record("send", bytes)
    this.launch(segment)
  }

  private launch(segment: Segment): void {
    const packet: Packet = {
      connection: this.sender.connection,
      kind: segment.kind,
      chunks: segment.chunks,
      bytes: segment.bytes,
      lane: this.lane,
      arrive: () => this.arrive(segment),
      lose: () => this.lose(segment)
    }
    if (this.sender.isSilenced) packet.lose()
    else this.sender.path.send(packet)
  }

  private arrive(segment: Segment): void {
    if (this.stopped && segment.kind === "probe") return
    if (this.sender.isSilenced) return this.lose(segment)
    // TCP never lets the application see a gap: it waits behind what was lost before it
    if (this.resend.length > 0 && this.resend[0].order < segment.order) this.keep(segment)
    else if (!this.sender.deliver(segment)) this.lose(segment)
  }

  private lose(segment: Segment): void {
    this.sender.record("lose", segment.bytes)
    if (this.stopped) return
    this.keep(segment)
    this.stuckSince ??= segment.firstSent
    this.arm(segment.firstSent)
  }

  private keep(segment: Segment): void {
    if (segment.kind === "probe") return
    let at = this.resend.length
    while (at > 0 && this.resend[at - 1].order > segment.order) at--
    this.resend.splice(at, 0, segment)
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
    const now = this.sender.timeline.now()
    if (at <= now) this.pump()
    // an acknowledgement costs no event unless somebody waits for it
    else if (this.sent < this.accepted || this.accepted < this.written) this.armAck()
  }

  /** An acknowledgement was lost: ask for it again when there is something to wait for. */
  acknowledgementLost(): void {
    if (!this.stopped && (this.sent > this.acked || this.sent < this.written)) this.arm(this.sender.timeline.now())
  }

  private armAck(): void {
    if (this.ackTimer?.run !== undefined) return
    this.ackTimer = this.sender.timeline.at(this.acks[0].at, () => this.pump())
  }

  private applyAcks(): void {
    if (this.acks.length === 0) return
    const now = this.sender.timeline.now()
    let known = 0
    while (known < this.acks.length && this.acks[known].at <= now) known++
    if (known === 0) return
    const { acked, edge } = this.acks[known - 1]
    this.acks.splice(0, known)
    this.acked = Math.max(this.acked, acked)
    this.edge = Math.max(this.edge, edge)
    if (this.resend.length > 0) return
    this.backoff = 0
    this.stuckSince = undefined
  }

  // -------------------------------------------------------------------------------------------------------------------
  // retransmission
  // -------------------------------------------------------------------------------------------------------------------

  private arm(from: number): void {
    if (this.retransmitTimer?.run !== undefined) return
    const now = this.sender.timeline.now()
    const { initial, max } = this.sender.retransmit
    const pause = Math.min(initial * 2 ** this.backoff, max)
    this.stuckSince ??= from
    const next = from + pause > now ? from + pause : now + pause
    this.retransmitTimer = this.sender.timeline.at(
      Math.min(next, Math.max(now, this.stuckSince + this.sender.settings.userTimeout)),
      () => this.retransmit()
    )
  }

  private retransmit(): void {
    const now = this.sender.timeline.now()
    this.applyAcks()
    const waits = this.sent > this.acked || this.sent < this.written
    if (this.stopped || (this.resend.length === 0 && !waits)) return
    if (this.stuckSince !== undefined && now >= this.stuckSince + this.sender.settings.userTimeout) {
      return this.sender.timedOut()
    }
    this.backoff++
    const segments = this.resend
    this.resend = []
    const bytes = segments.reduce((sum, segment) => sum + segment.bytes, 0)
    this.sender.record("retransmit", bytes)
    if (segments.length === 0) this.launch({ order: -1, kind: "probe", chunks: [], bytes: 0, firstSent: now })
    else for (const segment of segments) this.relaunch(segment, now)
    this.pump()
  }

  private relaunch(segment: Segment, now: number): void {
    // the clock of the next try starts with this one; `stuckSince` keeps the time of the first
    this.launch({ ...segment, firstSent: now })
  }
}
