/**
 * Frames on their way out: bounded data, and control frames that pass it. Senders fill it, and the writer empties it.
 *
 * The bound excludes the one write in progress, at most 64 KiB or one frame: what the transport holds can no longer be
 * dropped or reordered. The data are in an Effect `Queue`; bounds in bytes, control frames and dropping the oldest need more
 * than it offers, so admission is ours, in front of it.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import {
  type ConnectionError,
  make as makeError,
  MessageTooLarge,
  OutboxFull,
  SlowConsumer
} from "../../../ConnectionError.ts"
import { sizeOf } from "../../bytes/sizes.ts"
import { type Frame, FrameBuffer, type Framed } from "../../codec/encoder.ts"
import { Fifo, type Queued, unqueued } from "../../scheduling/fifo.ts"
import { Gate } from "../../scheduling/gate.ts"
import { runNow } from "../../scheduling/supervised.ts"
import type { Task, Turns } from "../../scheduling/turns.ts"
import { Pongs } from "../../transport/pongs.ts"
import type { InForce } from "./limits.ts"

/** In the queue of a writer that waits for it: there is something to do beside the queue. */
export const wake = Symbol("holdfast/wake")

/** What the queue holds: a frame, or the small frames of one turn. */
export type Element = Frame | Framed | FrameBuffer | typeof wake

type Failure = ConnectionError
type Resume = (effect: Effect.Effect<void, Failure>) => void

export interface Waiter extends Queued<Waiter> {
  readonly frames: ReadonlyArray<Frame | Framed>
  /** How many of them are accepted, and the bytes of the others. */
  accepted: number
  bytes: number
  readonly resume: Resume
}

/** A ping of the peer, and what answers it: a message, or the payload of a frame. */
export type PeerPing<Out> =
  | { readonly _tag: "Ping"; readonly answer: Out }
  | { readonly _tag: "Ping"; readonly payload: Uint8Array }

interface Flusher extends Queued<Flusher> {
  readonly target: number
  readonly resume: Resume
}

/** The connection, as far as its outbox sees it. */
interface OutboxConnection {
  readonly inForce: InForce
  readonly turnEnded: () => void
  /** The policy is to end the connection: the peer is too slow. */
  readonly tooSlow: (error: Failure) => void
  readonly writeFailed: (defect: unknown) => void
  /** Encodes an answer; undefined where that cannot be, which ends the connection. */
  readonly pongOf: (ping: PeerPing<unknown>) => Frame | undefined
  /** The policy dropped a message. */
  readonly drops: () => void
  /** A read is not at its end, and control frames are next of it. */
  readonly isAtControl: boolean
  /** Pongs leave: the peer may send more. */
  readonly pongsLeft: () => void
}

// made in a fiber of its own, a queue keeps no dispatcher of the fiber that sends alive: it has that of all connections
const makeQueue = (turns: Turns): Queue.Queue<Element, Failure> =>
  Object.assign(runNow(Queue.unbounded<Element, Failure>()), { dispatcher: turns.dispatcher })

// the smallest and largest buffer that the small frames of a turn are written into
export const smallestBuffer = 256
export const largestBuffer = 16 * 1024
// pongs waiting for a peer that reads nothing; one more proves nothing new
const maxControl = 64

// most connections never have a sender that waits, nor a flush
export const noWaiters = new Fifo<Waiter>()
const noFlushers = new Fifo<Flusher>()
export const noFrames: Array<Frame> = []

// `pop` leaves an array its memory
const emptied = (): Array<Element> => {
  const some: Array<Element> = ["", ""]
  some.pop()
  some.pop()
  return some
}

/**
 * Owned by one connection, changed synchronously by its senders and its writer. What was sent in one turn of the event loop
 * is offered to the queue at the end of the turn. What is being written does not count against the bounds: that is one
 * write, at most 64 KiB or one frame.
 */
export class Outbox implements Task {
  readonly turns: Turns
  readonly owner: OutboxConnection
  // a connection that only listens has none: it is 0.9 KB
  private made: Queue.Queue<Element, Failure> | undefined
  /** Sent in this turn: with room for as many as there nearly always are. An array that grows takes it for seventeen. */
  readonly fresh: Array<Element> = emptied()
  /** Taken from the queue, and not written yet. */
  head: Element | undefined
  control = noFrames
  /** The pings of the peer that wait for their pongs, once it has pinged. */
  pongs: Pongs<PeerPing<unknown>> | undefined
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
  waiters: Fifo<Waiter> = noWaiters
  /** Bytes of what they wait with. */
  waitingBytes = 0
  /** By `target`. */
  flushers: Fifo<Flusher> = noFlushers
  isDeterring = false
  writable: Gate | undefined
  closedWith: Failure | undefined
  isEnded = false
  /** Messages, and their bytes, that wait to be written. */
  messages = 0
  bytes = 0
  accepted = 0
  dropped = 0
  /** How many of them were the oldest ones, which had been accepted. */
  droppedOldest = 0
  written = 0
  /** After the end: how many accepted messages no write had begun with. */
  untouched = 0

  constructor(turns: Turns, splits: boolean, owner: OutboxConnection) {
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

export const fits = (o: Outbox, size: number): boolean => {
  const { outboxBytes, outboxMessages } = o.owner.inForce.limits
  return o.messages < outboxMessages && o.bytes + size <= outboxBytes
}

export const isFull = (o: Outbox): boolean => {
  const { outboxBytes, outboxMessages } = o.owner.inForce.limits
  return o.messages >= outboxMessages || o.bytes >= outboxBytes
}

/** Senders that ask had better wait. */
export const deter = (o: Outbox): void => {
  o.isDeterring = true
  o.writable?.close()
}

const invite = (o: Outbox): void => {
  o.isDeterring = false
  o.writable?.open()
}

/** There is more room than there was. */
export const relax = (o: Outbox): void => {
  if (!o.isDeterring) return
  const { lowWater, outboxBytes, outboxMessages } = o.owner.inForce.policy
  if (o.messages <= outboxMessages * lowWater && o.bytes <= outboxBytes * lowWater) invite(o)
}

export const isWritable = (o: Outbox): boolean => o.closedWith === undefined && !o.isDeterring

export const awaitWritable = (o: Outbox): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (!o.isDeterring) return Effect.void
    // not made for a connection that is never asked
    o.writable ??= new Gate(o.turns, false)
    return Effect.andThen(o.writable.await, awaitWritable(o))
  })

// ---------------------------------------------------------------------------------------------------------------------
// in and out
// ---------------------------------------------------------------------------------------------------------------------

export const count = (o: Outbox, size: number): void => {
  o.accepted++
  o.messages++
  o.bytes += size
  if (isFull(o)) deter(o)
  if (!o.isNotified) o.notify()
}

export const accept = (o: Outbox, frame: Frame | Framed, size: number): void => {
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
const takeOldest = (o: Outbox): Frame | Framed | undefined => {
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
  const { outboxBytes, overflow } = o.owner.inForce.policy
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
      o.owner.drops()
      return "dropped"
    case "drop-oldest":
      while (!fits(o, size)) {
        if (takeOldest(o) === undefined) break
        o.dropped++
        o.droppedOldest++
        o.owner.drops()
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

/** Passes all data, and its bounds. Dropped when the peer reads nothing and enough control frames wait already. */
export const offerControl = (o: Outbox, frame: Frame): void => {
  if (o.closedWith !== undefined || o.control.length >= maxControl) return
  if (o.control === noFrames) o.control = [frame]
  else o.control.push(frame)
  o.notify()
}

/** Answers a ping of the peer, or keeps it for when pongs leave. */
export const answer = (o: Outbox, ping: PeerPing<unknown>): void => {
  const pongs = o.pongs ??= new Pongs()
  if (!pongs.answers(ping)) return
  const frame = o.owner.pongOf(ping)
  if (frame !== undefined) offerControl(o, frame)
}

/** Whether control frames wait, or a ping whose read is over now. */
export const hasControl = ({ control, owner, pongs }: Outbox): boolean =>
  control.length > 0 || (pongs?.hasNewest === true && !owner.isAtControl)

/** The rest of a read that pings were in has been seen. */
export const pingsRead = (o: Outbox): void => {
  if (hasControl(o)) o.notify()
}

/** Takes all control frames, and the answer to the newest ping of a read that has none. */
export const takeControl = (o: Outbox): ReadonlyArray<Frame> => {
  if (!hasControl(o)) return noFrames
  const { control, owner, pongs } = o
  o.control = noFrames
  // those of one read are counted together, however many turns it takes
  if (pongs === undefined || pongs.owed === 0 || owner.isAtControl) return control
  const newest = pongs.leave()
  const frame = newest === undefined ? undefined : owner.pongOf(newest)
  owner.pongsLeft()
  return frame === undefined ? control : [...control, frame]
}

/** How many accepted messages are no longer here: handed to the transport, or dropped. */
export const gone = (o: Outbox): number => o.accepted - o.messages - o.inWrite

/** Waits until what was accepted before is handed to the transport. */
export const flush = (o: Outbox): Effect.Effect<void, Failure> =>
  Effect.callback((resume) => {
    if (o.isEnded) return resume(Effect.fail(o.closedWith!))
    if (gone(o) === o.accepted) return resume(Effect.void)
    const flusher: Flusher = { ...unqueued, target: o.accepted, resume }
    if (o.flushers === noFlushers) o.flushers = new Fifo()
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
  for (const waiter of o.waiters.takeAll()) settle(o, waiter, Effect.fail(error))
  o.waitingBytes = 0
  invite(o)
  o.notify()
}

/** Nothing more is written: waiting flushes fail. Returns how many accepted messages never left. */
export const discard = (o: Outbox, error: Failure): number => {
  close(o, error)
  if (o.isEnded) return 0
  o.isEnded = true
  for (const flusher of o.flushers.takeAll()) settle(o, flusher, Effect.fail(o.closedWith!))
  o.untouched = o.messages
  const lost = o.messages + o.inWrite
  while (takeOldest(o) !== undefined);
  o.control = noFrames
  o.rest = undefined
  return lost
}
