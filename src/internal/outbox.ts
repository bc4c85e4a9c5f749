/** Frames on their way out: a bounded lane for data, and a lane for control frames that passes it. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import {
  type ConnectionError,
  make as makeError,
  MessageTooLarge,
  OutboxFull,
  SlowConsumer
} from "../ConnectionError.ts"
import type { Overflow } from "../Policy.ts"
import { Framed, Pack, packable, type Packer } from "./packer.ts"
import { Signal } from "./scheduling/signal.ts"
import type { Turns } from "./scheduling/turns.ts"

/** Bytes for a stream; a whole message, binary or text, for a message transport. */
export type Frame = Uint8Array | string

const ascii = /^[\0-\x7f]*$/
const utf8 = new TextEncoder()

/** The size of a frame on the wire, in bytes. */
export const sizeOf = (frame: Frame | Framed): number =>
  typeof frame !== "string" ? frame.byteLength : ascii.test(frame) ? frame.length : utf8.encode(frame).byteLength

// one write: large enough to keep the transport busy, small enough that a control frame is never far behind
const writeBytes = 64 * 1024
// the smallest and largest buffer that small frames are written into
const minPack = 256
const maxPack = 16 * 1024
// pongs waiting for a peer that reads nothing; one more proves nothing new
const maxControl = 64

interface Waiter {
  readonly frames: ReadonlyArray<Frame | Framed>
  next: number
  readonly resume: (effect: Effect.Effect<void, ConnectionError>) => void
}

interface Flusher {
  readonly target: number
  readonly resume: (effect: Effect.Effect<void, ConnectionError>) => void
}

// most connections never have anybody waiting
const none: Set<never> = new Set()
const noFrames: Array<Frame> = []

export interface Bounds {
  readonly messages: number
  readonly bytes: number
  readonly overflow: Overflow
  /** Fraction of a bound at or below which a full outbox is writable again. */
  readonly lowWater: number
}

/** The connection, as far as its outbox sees it. */
export interface Owner {
  /** There is something to write, or the end is near. */
  readonly onWork: () => void
  /** The policy is to end the connection: the peer is too slow. */
  readonly endWith: (error: ConnectionError) => void
}

/**
 * Owned by one connection. Plain fields: only the connection's own fibers and its senders touch them, synchronously.
 * What is being written at the moment does not count against the bounds: that is one write, at most 64 KiB or one frame.
 */
export class Outbox {
  // accepted since the last write began, and then what waits behind a write in progress
  private fresh: Array<Frame | Framed | Pack> = []
  // made when something waits behind a write for the first time
  private behind: Queue.Queue<Frame | Framed> | undefined
  private queued = 0
  private packSize = minPack
  private control: Array<Frame> = noFrames
  private waiters: Set<Waiter> = none
  private flushers: Set<Flusher> = none
  private deterring = false
  private writable: Signal | undefined
  private notified = false
  // the rest of a frame too large for one write
  private rest: Uint8Array | undefined
  private readonly split: boolean
  // messages in the write in progress; one that is written in slices is, until its last slice is out
  private taken = 0
  private writing = false
  /** Whether the last `next` holds more than control frames. */
  writingData = false
  accepted = 0
  private closedWith: ConnectionError | undefined
  private ended = false
  bounds: Bounds
  messages = 0
  bytes = 0
  dropped = 0
  written = 0
  /** After the end: how many accepted messages no write had begun with. */
  untouched = 0

  private readonly turns: Turns
  private readonly owner: Owner

  /**
   * The owner is told, in a task of its own, that there is something to write or that the end is near; not while a write
   * is in progress. `split`: large frames may be written in slices, so that progress inside them can be seen.
   */
  constructor(turns: Turns, bounds: Bounds, split: boolean, owner: Owner) {
    this.turns = turns
    this.bounds = bounds
    this.split = split
    this.owner = owner
  }

  private notify(): void {
    if (this.notified || this.writing) return
    this.notified = true
    this.turns.scheduleTask(this)
  }

  /** @internal */
  run(): void {
    this.notified = false
    this.owner.onWork()
  }

  /** Settles somebody who waits, in a task of its own: a sender must not run in the middle of the writer's turn. */
  private settle(waiter: Pick<Waiter, "resume">, effect: Effect.Effect<void, ConnectionError>): void {
    this.turns.scheduleTask(() => waiter.resume(effect))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the sender's side
  // -------------------------------------------------------------------------------------------------------------------

  private fits(size: number): boolean {
    return this.messages < this.bounds.messages && this.bytes + size <= this.bounds.bytes
  }

  private accept(frame: Frame | Framed, size: number): void {
    if (this.mustQueue) {
      Queue.offerUnsafe(this.behind ??= Effect.runSync(Queue.unbounded<Frame | Framed>()), frame)
      this.queued++
    } else this.fresh.push(frame)
    this.count(size)
  }

  private get mustQueue(): boolean {
    return this.writing || this.queued > 0
  }

  private count(size: number): void {
    this.accepted++
    this.messages++
    this.bytes += size
    if (this.isFull) this.deter()
    this.notify()
  }

  private get isFull(): boolean {
    return this.messages >= this.bounds.messages || this.bytes >= this.bounds.bytes
  }

  /** How many accepted messages are no longer here: handed to the transport, or dropped. */
  private get gone(): number {
    return this.accepted - this.messages - this.taken
  }

  private takeOldest(): Frame | Framed | undefined {
    const frame = this.takeFresh() ?? this.takeQueued()
    if (frame === undefined) return undefined
    this.messages--
    this.bytes -= sizeOf(frame)
    return frame
  }

  private takeFresh(): Frame | Framed | undefined {
    const first = this.fresh.length > 0 ? this.fresh[0] : undefined
    if (!(first instanceof Pack)) return this.fresh.shift() as Frame | Framed | undefined
    const frame = first.takeFirst()
    if (first.count === 0) this.fresh.shift()
    return frame
  }

  private takeQueued(): Frame | Framed | undefined {
    const exit = this.behind === undefined ? undefined : Queue.takeUnsafe(this.behind)
    if (exit === undefined || Exit.isFailure(exit)) return undefined
    this.queued--
    return exit.value
  }

  /** Takes one frame, or says why not; "full" only under `wait`. */
  offer(frame: Frame | Framed, size = sizeOf(frame)): "accepted" | "dropped" | "full" | ConnectionError {
    if (this.closedWith !== undefined) return this.closedWith
    if (size > this.bounds.bytes) return makeError(new MessageTooLarge({ size, limit: this.bounds.bytes }))
    if (this.waiters.size === 0 && this.fits(size)) {
      this.accept(frame, size)
      return "accepted"
    }
    // a sender that is turned away can wait until it is worth trying again
    this.deter()
    switch (this.bounds.overflow) {
      case "wait":
        return "full"
      case "fail":
        return makeError(new OutboxFull({ messages: this.messages, bytes: this.bytes }))
      case "drop-newest":
        this.dropped++
        return "dropped"
      case "drop-oldest":
        while (!this.fits(size)) {
          if (this.takeOldest() === undefined) break
          this.dropped++
        }
        this.accept(frame, size)
        return "accepted"
      case "close": {
        const error = makeError(new SlowConsumer({ messages: this.messages, bytes: this.bytes }))
        this.owner.endWith(error)
        return error
      }
    }
  }

  /**
   * Takes what a packer has prepared into the buffer of the next write; false when it is too large for that, or when
   * `offer` has to decide.
   */
  pack(packer: Packer<never>): boolean {
    const { size } = packer
    if (size >= packable || this.closedWith !== undefined || this.mustQueue) return false
    if (this.waiters.size > 0 || !this.fits(size)) return false
    const { length } = this.fresh
    const last = length > 0 ? this.fresh[length - 1] : undefined
    if (!(last instanceof Pack && last.add(packer))) {
      if (last instanceof Pack) this.packSize = Math.min(maxPack, this.packSize * 2)
      this.fresh.push(Pack.begin(packer, this.packSize))
    }
    this.count(size)
    return true
  }

  /** Takes back what `pack` took last. */
  unpack(count: number, bytes: number): void {
    this.accepted -= count
    this.messages -= count
    this.bytes -= bytes
    for (let left = count; left > 0;) {
      const last = this.fresh[this.fresh.length - 1] as Pack
      const dropped = Math.min(left, last.count)
      last.dropLast(dropped)
      if (last.count === 0) this.fresh.pop()
      left -= dropped
    }
    this.relax()
  }

  /** Takes all frames in order, waiting for room under `wait`. */
  send(frames: ReadonlyArray<Frame | Framed>, from = 0): Effect.Effect<void, ConnectionError> {
    if (this.closedWith !== undefined) return Effect.fail(this.closedWith)
    for (let i = from; i < frames.length; i++) {
      const size = sizeOf(frames[i]!)
      // a burst of ours is no slowness of the peer's: the writer has its turn before the policy is applied
      if (this.messages > 0 && !this.writing && !this.fits(size)) {
        return Effect.andThen(Effect.yieldNow, Effect.suspend(() => this.send(frames, i)))
      }
      const result = this.offer(frames[i]!, size)
      if (result === "full") return this.wait(i === 0 ? frames : frames.slice(i))
      if (typeof result === "object") return Effect.fail(result)
    }
    return Effect.void
  }

  private wait(frames: ReadonlyArray<Frame | Framed>): Effect.Effect<void, ConnectionError> {
    return Effect.callback((resume) => {
      if (this.closedWith !== undefined) return resume(Effect.fail(this.closedWith))
      const waiter: Waiter = { frames, next: 0, resume }
      if (this.waiters === none) this.waiters = new Set()
      this.waiters.add(waiter)
      this.admit()
      return Effect.sync(() => {
        this.waiters.delete(waiter)
        // the one behind may be smaller
        this.admit()
      })
    })
  }

  /** First come, first served: a large message at the head is not overtaken. */
  private admit(): void {
    for (const waiter of this.waiters) {
      while (waiter.next < waiter.frames.length) {
        const frame = waiter.frames[waiter.next]!
        const size = sizeOf(frame)
        if (size > this.bounds.bytes) {
          this.waiters.delete(waiter)
          this.settle(waiter, Effect.fail(makeError(new MessageTooLarge({ size, limit: this.bounds.bytes }))))
          break
        }
        if (!this.fits(size)) return
        this.accept(frame, size)
        waiter.next++
      }
      if (waiter.next === waiter.frames.length) {
        this.waiters.delete(waiter)
        this.settle(waiter, Effect.void)
      }
    }
  }

  /** Passes all data, and its bounds. Dropped when the peer reads nothing and enough control frames wait already. */
  offerControl(frame: Frame): void {
    if (this.closedWith !== undefined || this.control.length >= maxControl) return
    if (this.control === noFrames) this.control = [frame]
    else this.control.push(frame)
    this.notify()
  }

  get isWritable(): boolean {
    return this.closedWith === undefined && !this.deterring
  }

  awaitWritable(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.deterring) return Effect.void
      // not made for a connection that nobody asks about
      this.writable ??= new Signal(this.turns, false)
      return Effect.andThen(this.writable.await, this.awaitWritable())
    })
  }

  /** Waits until what was accepted before is handed to the transport. */
  get flush(): Effect.Effect<void, ConnectionError> {
    return Effect.callback((resume) => {
      if (this.ended) return resume(Effect.fail(this.closedWith!))
      if (this.gone === this.accepted) return resume(Effect.void)
      const flusher = { target: this.accepted, resume }
      if (this.flushers === none) this.flushers = new Set()
      this.flushers.add(flusher)
      return Effect.sync(() => {
        this.flushers.delete(flusher)
      })
    })
  }

  setBounds(bounds: Bounds): void {
    this.bounds = bounds
    if (this.isFull) this.deter()
    this.relax()
    this.admit()
  }

  private relax(): void {
    const { bytes, lowWater, messages } = this.bounds
    if (this.messages <= messages * lowWater && this.bytes <= bytes * lowWater) this.invite()
  }

  /** Senders that ask had better wait. */
  private deter(): void {
    this.deterring = true
    this.writable?.close()
  }

  private invite(): void {
    this.deterring = false
    this.writable?.open()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the writer's side
  // -------------------------------------------------------------------------------------------------------------------

  /** Whether anything is accepted and not handed to the transport. */
  get isEmpty(): boolean {
    return this.messages === 0 && this.rest === undefined && this.control.length === 0 && !this.writing
  }

  /** Whether the last write ended inside a frame: nothing else may be written before the rest of it. */
  get midFrame(): boolean {
    return this.rest !== undefined
  }

  /** Set once no more is accepted and everything before has been taken. */
  get isDrained(): ConnectionError | undefined {
    return this.isEmpty ? this.closedWith : undefined
  }

  get isClosed(): boolean {
    return this.closedWith !== undefined
  }

  /** Whether there is something to write, or nothing ever will be again. */
  get hasWork(): boolean {
    return this.closedWith !== undefined || !this.isEmpty
  }

  /** The next write: control frames first (never inside a frame), then data up to 64 KiB, at least one frame. */
  next(): NonEmptyReadonlyArray<Frame> | undefined {
    const batch: Array<Frame> = []
    let size = 0
    this.writingData = this.rest !== undefined || this.messages > 0
    if (this.rest !== undefined) {
      size = this.pushSlice(batch, this.rest)
      // its end may share the write with what follows
      if (this.rest !== undefined) return this.begin(batch, size)
    }
    if (this.control.length > 0) {
      for (const frame of this.control) {
        batch.push(frame)
        size += sizeOf(frame)
      }
      this.control = noFrames
    }
    let packed = 0
    while (this.messages > 0 && size < writeBytes) {
      const pack = this.fresh.length > 0 ? this.fresh[0] : undefined
      if (pack instanceof Pack) {
        const { bytes, count } = pack
        if (size > 0 && size + bytes > writeBytes) break
        if (this.fresh.length === 1) this.fresh.pop()
        else this.fresh.shift()
        this.messages -= count
        this.bytes -= bytes
        this.taken += count
        packed += bytes
        size += this.push(batch, pack.all())
        continue
      }
      const oldest = this.takeOldest()
      if (oldest === undefined) break
      this.taken++
      if (oldest instanceof Framed) size += this.push(batch, oldest.header)
      const frame = oldest instanceof Framed ? oldest.payload : oldest
      size += this.split && typeof frame !== "string" && frame.byteLength > writeBytes
        ? this.pushSlice(batch, frame)
        : this.push(batch, frame)
    }
    // the next buffer is as large as what was packed this time
    if (packed > 0) this.packSize = Math.max(minPack, Math.min(maxPack, packed))
    if (batch.length === 0) return undefined
    this.relax()
    if (this.waiters.size > 0) this.admit()
    return this.begin(batch, size)
  }

  private begin(batch: Array<Frame>, size: number): NonEmptyReadonlyArray<Frame> {
    this.writing = true
    this.written += size
    return batch as unknown as NonEmptyReadonlyArray<Frame>
  }

  private push(batch: Array<Frame>, frame: Frame): number {
    batch.push(frame)
    return sizeOf(frame)
  }

  private pushSlice(batch: Array<Frame>, frame: Uint8Array): number {
    const slice = frame.subarray(0, writeBytes)
    this.rest = slice.byteLength < frame.byteLength ? frame.subarray(writeBytes) : undefined
    batch.push(slice)
    return slice.byteLength
  }

  /** The last `next` was handed to the transport. */
  wrote(): void {
    this.writing = false
    this.taken = this.rest === undefined ? 0 : 1
    if (this.flushers.size === 0) return
    for (const flusher of this.flushers) {
      if (flusher.target > this.gone) continue
      this.flushers.delete(flusher)
      this.settle(flusher, Effect.void)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the end
  // -------------------------------------------------------------------------------------------------------------------

  /** Accepts nothing more; what was accepted is still written. Waiting senders fail. */
  close(error: ConnectionError): void {
    if (this.closedWith !== undefined) return
    this.closedWith = error
    const waiters = [...this.waiters]
    this.waiters.clear()
    for (const waiter of waiters) this.settle(waiter, Effect.fail(error))
    this.invite()
    this.notify()
  }

  /** Nothing more is written: waiting flushes fail. Returns how many accepted messages never left. */
  end(error: ConnectionError): number {
    this.close(error)
    if (this.ended) return 0
    this.ended = true
    const flushers = [...this.flushers]
    this.flushers.clear()
    for (const flusher of flushers) this.settle(flusher, Effect.fail(this.closedWith!))
    this.untouched = this.messages
    const lost = this.messages + this.taken
    while (this.takeOldest() !== undefined);
    this.control = noFrames
    this.rest = undefined
    return lost
  }
}
