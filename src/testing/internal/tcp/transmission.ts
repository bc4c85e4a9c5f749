/** Segments on their way to the peer: what is lost is sent again, in order, with growing delays (RFC 6298). */
import type * as Socket from "effect/socket/Socket"
import type { EventKind } from "../../Network.ts"
import type { Chunk } from "../fabric/chunk.ts"
import type { Flow, Packet, Path } from "../fabric/path.ts"
import type { Draw } from "../fabric/random.ts"
import type { Timeline, Timer } from "../fabric/timeline.ts"

export interface Segment {
  /** Where it belongs in the order of sending. */
  readonly order: number
  readonly kind: "ack" | "data" | "fin" | "probe"
  readonly chunks: ReadonlyArray<Chunk | Socket.CloseEvent>
  readonly bytes: number
  /** When this try left. */
  readonly sentAt: number
}

/** The end of a connection that sends. */
export interface Sender {
  readonly connection: {
    readonly id: number
    readonly timeline: Timeline
    readonly draw: Draw
    readonly messages: boolean
    readonly retransmit: { readonly initial: number; readonly max: number }
  }
  readonly path: Path
  readonly settings: { readonly sendBuffer: number; readonly userTimeout: number }
  /** The application is running; its host's kernel always is. */
  readonly isRunning: boolean
  /** Nothing can reach the peer at the moment, and the sender is not told. */
  readonly isSilenced: boolean
  /** Hands a segment to the peer; false when it is lost on the last step. */
  deliver(segment: Segment): boolean
  /** Nothing was acknowledged for too long. */
  timedOut(): void
  record(kind: EventKind, bytes: number): void
  /** Runs a task where the application may run. */
  wake(task: () => void): void
}

/** The send buffer whose segments these are. */
interface SendBuffer {
  /** Bytes wait for an acknowledgement, or for room. */
  readonly isWaiting: boolean
  applyAcks(): void
  pump(): void
}

/** Owned by one end: plain fields, changed synchronously. */
export class Transmission {
  private readonly flow: Flow = { lastDue: 0 }
  private readonly sender: Sender
  private readonly buffer: SendBuffer
  private order = 0
  /** Which segment the peer takes next: it sees no gap, and no segment before those that were sent earlier. */
  private due = 0
  private isStopped = false
  /** Lost segments and those behind them, in the order of sending. */
  private lost: Array<Segment> = []
  private timer: Timer | undefined
  private backoff = 0
  /** When the oldest segment without an acknowledgement was sent first. */
  private stuckSince: number | undefined

  constructor(sender: Sender, buffer: SendBuffer) {
    this.sender = sender
    this.buffer = buffer
  }

  get isRetransmitting(): boolean {
    return this.lost.length > 0
  }

  /** Sends a new segment. */
  transmit(kind: Segment["kind"], chunks: Segment["chunks"], bytes: number): void {
    const segment: Segment = { order: this.order++, kind, chunks, bytes, sentAt: this.sender.connection.timeline.now() }
    this.sender.record("send", bytes)
    this.launch(segment)
  }

  /** Sends a packet without data, which is not sent again when it is lost. */
  sendOnce(kind: Packet["kind"], arrive: () => void): void {
    const { connection, isSilenced, path } = this.sender
    if (isSilenced) return
    path.send({ connection: connection.id, kind, chunks: [], bytes: 0, flow: this.flow, arrive, lose: () => {} })
  }

  private launch(segment: Segment): void {
    const packet: Packet = {
      connection: this.sender.connection.id,
      kind: segment.kind,
      chunks: segment.chunks,
      bytes: segment.bytes,
      flow: this.flow,
      arrive: () => this.arrive(segment),
      lose: () => this.lose(segment)
    }
    if (this.sender.isSilenced) packet.lose()
    else this.sender.path.send(packet)
  }

  private arrive(segment: Segment): void {
    if (this.isStopped && segment.kind === "probe") return
    if (this.sender.isSilenced) return this.lose(segment)
    const isNew = segment.kind !== "probe"
    if (isNew && segment.order !== this.due) {
      // it waits behind what was lost before it, or is sent again and on its way; behind what is not sent again it is lost
      if (this.isStopped) return
      this.keep(segment)
      return this.arm(segment.sentAt)
    }
    // what it makes the peer do may end this side
    if (isNew) this.due++
    if (this.sender.deliver(segment)) return
    if (isNew) this.due--
    this.lose(segment)
  }

  private lose(segment: Segment): void {
    this.sender.record("lose", segment.bytes)
    if (this.isStopped) return
    this.keep(segment)
    this.stuckSince ??= segment.sentAt
    this.arm(segment.sentAt)
  }

  private keep(segment: Segment): void {
    if (segment.kind === "probe") return
    let at = this.lost.length
    while (at > 0 && this.lost[at - 1].order > segment.order) at--
    this.lost.splice(at, 0, segment)
  }

  /** Something was acknowledged: the next loss starts with the shortest delay again. */
  acknowledged(): void {
    if (this.lost.length > 0) return
    this.backoff = 0
    this.stuckSince = undefined
  }

  /** Sets the retransmission timer, unless it is set. It counts from `sentAt`. */
  arm(sentAt: number): void {
    if (this.timer?.run !== undefined) return
    const { retransmit, timeline } = this.sender.connection
    const now = timeline.now()
    const delay = Math.min(retransmit.initial * 2 ** this.backoff, retransmit.max)
    this.stuckSince ??= sentAt
    const next = sentAt + delay > now ? sentAt + delay : now + delay
    this.timer = timeline.at(
      Math.min(next, Math.max(now, this.stuckSince + this.sender.settings.userTimeout)),
      () => this.retransmit()
    )
  }

  private retransmit(): void {
    const now = this.sender.connection.timeline.now()
    this.buffer.applyAcks()
    if (this.isStopped || (this.lost.length === 0 && !this.buffer.isWaiting)) return
    if (this.stuckSince !== undefined && now >= this.stuckSince + this.sender.settings.userTimeout) {
      return this.sender.timedOut()
    }
    this.backoff++
    const segments = this.lost
    this.lost = []
    const bytes = segments.reduce((sum, segment) => sum + segment.bytes, 0)
    this.sender.record("retransmit", bytes)
    if (segments.length === 0) this.launch({ order: -1, kind: "probe", chunks: [], bytes: 0, sentAt: now })
    // the delay of the next try starts with this one; `stuckSince` keeps the time of the first
    else for (const segment of segments) this.launch({ ...segment, sentAt: now })
    this.buffer.pump()
  }

  /** Nothing is sent any more. */
  stop(): void {
    this.isStopped = true
    this.lost = []
    this.timer?.cancel()
  }
}
