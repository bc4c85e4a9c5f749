/** Frames on their way out: bounded data, and control frames that pass it. The sender's side; the writer has the other. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import {
  type ConnectionError,
  make as makeError,
  MessageTooLarge,
  OutboxFull,
  SlowConsumer
} from "../../ConnectionError.ts"
import { type Encoder, type Frame, type Framed, sizeOf } from "../encoder.ts"
import { FrameBuffer, largest } from "../frameBuffer.ts"
import { Signal } from "../scheduling/signal.ts"
import type { Task, Turns } from "../scheduling/turns.ts"
import type { Terms } from "./options.ts"

/** In the queue of a writer that waits for it: there is something to do beside the queue. */
export const wake = Symbol("holdfast/wake")

/** What the queue holds: a frame, or the small frames of one turn. */
export type Element = Frame | Framed | FrameBuffer | typeof wake

type Failure = ConnectionError
type Resume = (effect: Effect.Effect<void, Failure>) => void

interface Waiter {
  readonly frames: ReadonlyArray<Frame | Framed>
  next: number
  readonly resume: Resume
}

interface Flusher {
  readonly target: number
  readonly resume: Resume
}

/** The connection, as far as its outbox sees it. */
interface Owner {
  readonly terms: Terms
  readonly turnEnded: () => void
  /** The policy is to end the connection: the peer is too slow. */
  readonly tooSlow: (error: Failure) => void
  readonly writeFailed: (defect: unknown) => void
}

// made in a fiber of its own, a queue keeps no dispatcher of the fiber that sends alive: it has that of all connections
const makeQueue = (turns: Turns): Queue.Queue<Element, Failure> =>
  Object.assign(Effect.runSync(Queue.unbounded<Element, Failure>()), { dispatcher: turns.dispatcher })

// the smallest and largest buffer that the small frames of a turn are written into
export const smallestBuffer = 256
export const largestBuffer = 16 * 1024
// pongs waiting for a peer that reads nothing; one more proves nothing new
const maxControl = 64

// most connections never have a sender that waits
const none: Set<never> = new Set()
export const noFrames: Array<Frame> = []

/**
 * Owned by one connection, changed synchronously by its senders and its writer. What was sent in one turn of the event loop
 * is offered to the queue at the end of the turn. What is being written does not count against the bounds: that is one
 * write, at most 64 KiB or one frame.
 */
export class Outbox implements Task {
  readonly turns: Turns
  readonly owner: Owner
  // a connection that only listens has none: it is 0.9 KB
  private made: Queue.Queue<Element, Failure> | undefined
  /** Sent in this turn. */
  readonly fresh: Array<Element> = []
  /** Taken from the queue, and not written yet. */
  head: Element | undefined
  control = noFrames
  /** How large the buffer of the next turn is. */
  bufferSize = smallestBuffer
  /** The rest of a frame too large for one write. */
  rest: Uint8Array | undefined
  /** Whether large frames are written in slices, so that progress inside them can be seen. */
  readonly splits: boolean
  /** Messages in the write in progress; one that is written in slices is, until its last slice is out. */
  inWrite = 0
  isWriting = false
  /** Whether the write in progress holds more than control frames. */
  writesData = false
  isNotified = false
  waiters: Set<Waiter> = none
  flushers: Set<Flusher> = none
  isDeterring = false
  writable: Signal | undefined
  closedWith: Failure | undefined
  isEnded = false
  /** Messages, and their bytes, that wait to be written. */
  messages = 0
  bytes = 0
  accepted = 0
  dropped = 0
  written = 0
  /** After the end: how many accepted messages no write had begun with. */
  untouched = 0

  constructor(turns: Turns, splits: boolean, owner: Owner) {
    this.turns = turns
    this.splits = splits
    this.owner = owner
  }

  /** Every accepted message passes through it, to the writer. Made when something is sent, or waited for, the first time. */
  get queue(): Queue.Queue<Element, Failure> {
    return this.made ??= makeQueue(this.turns)
  }

  get hasQueue(): boolean {
    return this.made !== undefined
  }

  /** Something was sent, or the end is near: the owner is told at the end of the turn. */
  notify(): void {
    if (this.isNotified) return
    this.isNotified = true
    this.turns.scheduleTask(this)
  }

  run(): void {
    this.isNotified = false
    this.owner.turnEnded()
  }

  failed(defect: unknown): void {
    this.owner.writeFailed(defect)
  }
}

/** Settles a fiber that waits, in a task of its own: a sender must not run in the middle of the writer's turn. */
export const settle = (o: Outbox, waiter: { readonly resume: Resume }, effect: Effect.Effect<void, Failure>): void =>
  o.turns.scheduleTask(() => waiter.resume(effect))

// ---------------------------------------------------------------------------------------------------------------------
// bounds
// ---------------------------------------------------------------------------------------------------------------------

const fits = (o: Outbox, size: number): boolean => {
  const { outboxBytes, outboxMessages } = o.owner.terms.limits
  return o.messages < outboxMessages && o.bytes + size <= outboxBytes
}

const isFull = (o: Outbox): boolean => {
  const { outboxBytes, outboxMessages } = o.owner.terms.limits
  return o.messages >= outboxMessages || o.bytes >= outboxBytes
}

/** Senders that ask had better wait. */
const deter = (o: Outbox): void => {
  o.isDeterring = true
  o.writable?.close()
}

const invite = (o: Outbox): void => {
  o.isDeterring = false
  o.writable?.open()
}

/** There is more room than there was. */
export const relax = (o: Outbox): void => {
  const { lowWater, outboxBytes, outboxMessages } = o.owner.terms.policy
  if (o.messages <= outboxMessages * lowWater && o.bytes <= outboxBytes * lowWater) invite(o)
}

/** The bounds are other ones. */
export const patched = (o: Outbox): void => {
  if (isFull(o)) deter(o)
  relax(o)
  admit(o)
}

export const isWritable = (o: Outbox): boolean => o.closedWith === undefined && !o.isDeterring

export const awaitWritable = (o: Outbox): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (!o.isDeterring) return Effect.void
    // not made for a connection that is never asked
    o.writable ??= new Signal(o.turns, false)
    return Effect.andThen(o.writable.await, awaitWritable(o))
  })

// ---------------------------------------------------------------------------------------------------------------------
// sending
// ---------------------------------------------------------------------------------------------------------------------

const count = (o: Outbox, size: number): void => {
  o.accepted++
  o.messages++
  o.bytes += size
  if (isFull(o)) deter(o)
  if (!o.isNotified) o.notify()
}

const accept = (o: Outbox, frame: Frame | Framed, size: number): void => {
  o.fresh.push(frame)
  count(o, size)
}

export const takeElement = (o: Outbox): Element | undefined => {
  const { head } = o
  if (head !== undefined) {
    o.head = undefined
    return head
  }
  if (!o.hasQueue) return undefined
  const exit = Queue.takeUnsafe(o.queue)
  return exit === undefined || Exit.isFailure(exit) ? undefined : exit.value
}

/** Takes one frame out of what waits. */
export const takeOldest = (o: Outbox): Frame | Framed | undefined => {
  let element: Element | undefined
  do element = takeElement(o) ?? o.fresh.shift()
  while (element === wake)
  if (element === undefined) return undefined
  let frame: Frame | Framed
  if (element instanceof FrameBuffer) {
    frame = element.takeFirst()
    if (element.count > 0) o.head = element
  } else frame = element
  o.messages--
  o.bytes -= sizeOf(frame)
  return frame
}

/** Takes one frame, or says why not; "full" only under `wait`. */
export const offer = (
  o: Outbox,
  frame: Frame | Framed,
  size = sizeOf(frame)
): "accepted" | "dropped" | "full" | Failure => {
  if (o.closedWith !== undefined) return o.closedWith
  const { outboxBytes, overflow } = o.owner.terms.policy
  if (size > outboxBytes) return makeError(new MessageTooLarge({ size, limit: outboxBytes }))
  if (o.waiters.size === 0 && fits(o, size)) {
    accept(o, frame, size)
    return "accepted"
  }
  // a sender that is turned away can wait until it is worth trying again
  deter(o)
  switch (overflow) {
    case "wait":
      return "full"
    case "fail":
      return makeError(new OutboxFull({ messages: o.messages, bytes: o.bytes }))
    case "drop-newest":
      o.dropped++
      return "dropped"
    case "drop-oldest":
      while (!fits(o, size)) {
        if (takeOldest(o) === undefined) break
        o.dropped++
      }
      accept(o, frame, size)
      return "accepted"
    case "close": {
      const error = makeError(new SlowConsumer({ messages: o.messages, bytes: o.bytes }))
      o.owner.tooSlow(error)
      return error
    }
  }
}

/**
 * Takes what an encoder has prepared into the buffer of this turn; false when it is too large for that, or when `offer` has
 * to decide.
 */
const pack = (o: Outbox, encoder: Encoder<never>): boolean => {
  const { size } = encoder
  if (!encoder.isStream || size >= largest || o.closedWith !== undefined) return false
  if (o.waiters.size > 0 || !fits(o, size)) return false
  const { length } = o.fresh
  const last = length > 0 ? o.fresh[length - 1] : undefined
  if (!(last instanceof FrameBuffer && last.add(encoder))) {
    if (last instanceof FrameBuffer) o.bufferSize = Math.min(largestBuffer, o.bufferSize * 2)
    o.fresh.push(FrameBuffer.begin(encoder, o.bufferSize))
  }
  count(o, size)
  return true
}

/** Takes back what `pack` took last. */
const unpack = (o: Outbox, packed: number, bytes: number): void => {
  o.accepted -= packed
  o.messages -= packed
  o.bytes -= bytes
  for (let left = packed; left > 0;) {
    const last = o.fresh[o.fresh.length - 1] as FrameBuffer
    const dropped = Math.min(left, last.count)
    last.dropLast(dropped)
    if (last.count === 0) o.fresh.pop()
    left -= dropped
  }
  relax(o)
}

/** Takes all frames in order, waiting for room under `wait`. */
const sendFrames = (o: Outbox, frames: ReadonlyArray<Frame | Framed>, from = 0): Effect.Effect<void, Failure> => {
  if (o.closedWith !== undefined) return Effect.fail(o.closedWith)
  for (let i = from; i < frames.length; i++) {
    const size = sizeOf(frames[i]!)
    // a burst of ours is no slowness of the peer's: the writer has its turn before the policy is applied
    if (o.messages > 0 && !o.isWriting && !fits(o, size)) {
      return Effect.andThen(Effect.yieldNow, Effect.suspend(() => sendFrames(o, frames, i)))
    }
    const result = offer(o, frames[i]!, size)
    if (result === "full") return wait(o, i === 0 ? frames : frames.slice(i))
    if (typeof result === "object") return Effect.fail(result)
  }
  return Effect.void
}

const wait = (o: Outbox, frames: ReadonlyArray<Frame | Framed>): Effect.Effect<void, Failure> =>
  Effect.callback((resume) => {
    if (o.closedWith !== undefined) return resume(Effect.fail(o.closedWith))
    const waiter: Waiter = { frames, next: 0, resume }
    if (o.waiters === none) o.waiters = new Set()
    o.waiters.add(waiter)
    admit(o)
    return Effect.sync(() => {
      o.waiters.delete(waiter)
      // the one behind may be smaller
      admit(o)
    })
  })

/** First come, first served: a large message at the head is not overtaken. */
export const admit = (o: Outbox): void => {
  for (const waiter of o.waiters) {
    while (waiter.next < waiter.frames.length) {
      const frame = waiter.frames[waiter.next]!
      const size = sizeOf(frame)
      const { outboxBytes } = o.owner.terms.policy
      if (size > outboxBytes) {
        o.waiters.delete(waiter)
        settle(o, waiter, Effect.fail(makeError(new MessageTooLarge({ size, limit: outboxBytes }))))
        break
      }
      if (!fits(o, size)) return
      accept(o, frame, size)
      waiter.next++
    }
    if (waiter.next === waiter.frames.length) {
      o.waiters.delete(waiter)
      settle(o, waiter, Effect.void)
    }
  }
}

/** What `send` does. What a codec throws is a defect of its sender, and nothing that a generator could catch. */
export const sendOne = <Out>(o: Outbox, encoder: Encoder<Out>, message: Out): Effect.Effect<void, Failure> => {
  try {
    const failure = encoder.prepare(message)
    if (failure !== undefined) return Effect.fail(makeError(failure))
    return pack(o, encoder) ? Effect.void : sendFrames(o, [encoder.frame()])
  } catch (defect) {
    return Effect.die(defect)
  }
}

/** What `sendAll` does: all can be encoded, or none is sent. */
export const sendAll = <Out>(
  o: Outbox,
  encoder: Encoder<Out>,
  messages: Iterable<Out>
): Effect.Effect<void, Failure> => {
  const frames: Array<Frame | Framed> = []
  let packed = 0
  let packedBytes = 0
  let isComplete = false
  try {
    for (const message of messages) {
      const failure = encoder.prepare(message)
      if (failure !== undefined) return Effect.fail(makeError(failure))
      if (frames.length > 0 || !pack(o, encoder)) frames.push(encoder.frame())
      else {
        packed++
        packedBytes += encoder.size
      }
    }
    isComplete = true
  } catch (defect) {
    return Effect.die(defect)
  } finally {
    if (!isComplete && packed > 0) unpack(o, packed, packedBytes)
  }
  return frames.length === 0 && packed > 0 ? Effect.void : sendFrames(o, frames)
}

/** Passes all data, and its bounds. Dropped when the peer reads nothing and enough control frames wait already. */
export const offerControl = (o: Outbox, frame: Frame): void => {
  if (o.closedWith !== undefined || o.control.length >= maxControl) return
  if (o.control === noFrames) o.control = [frame]
  else o.control.push(frame)
  o.notify()
}

/** How many accepted messages are no longer here: handed to the transport, or dropped. */
export const gone = (o: Outbox): number => o.accepted - o.messages - o.inWrite

/** Waits until what was accepted before is handed to the transport. */
export const flush = (o: Outbox): Effect.Effect<void, Failure> =>
  Effect.callback((resume) => {
    if (o.isEnded) return resume(Effect.fail(o.closedWith!))
    if (gone(o) === o.accepted) return resume(Effect.void)
    const flusher = { target: o.accepted, resume }
    if (o.flushers === none) o.flushers = new Set()
    o.flushers.add(flusher)
    return Effect.sync(() => {
      o.flushers.delete(flusher)
    })
  })

// ---------------------------------------------------------------------------------------------------------------------
// the end
// ---------------------------------------------------------------------------------------------------------------------

/** Accepts nothing more; what was accepted is still written. Waiting senders fail. */
export const close = (o: Outbox, error: Failure): void => {
  if (o.closedWith !== undefined) return
  o.closedWith = error
  const waiters = [...o.waiters]
  o.waiters.clear()
  for (const waiter of waiters) settle(o, waiter, Effect.fail(error))
  invite(o)
  o.notify()
}

/** Nothing more is written: waiting flushes fail. Returns how many accepted messages never left. */
export const discard = (o: Outbox, error: Failure): number => {
  close(o, error)
  if (o.isEnded) return 0
  o.isEnded = true
  const flushers = [...o.flushers]
  o.flushers.clear()
  for (const flusher of flushers) settle(o, flusher, Effect.fail(o.closedWith!))
  o.untouched = o.messages
  const lost = o.messages + o.inWrite
  while (takeOldest(o) !== undefined);
  o.control = noFrames
  o.rest = undefined
  return lost
}
