/** Sender: encode, and give it to the outbox, or wait for room there. */
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import { type ConnectionError, make as makeError, MessageTooLarge } from "../../ConnectionError.ts"
import { sizeOf } from "../bytes/sizes.ts"
import { type Encoder, type Frame, FrameBuffer, type Framed, largest } from "../codec/encoder.ts"
import { Fifo, unqueued } from "../scheduling/fifo.ts"
import { Done } from "./core/inbox.ts"
import {
  accept,
  count,
  deter,
  fits,
  isFull,
  largestBuffer,
  noWaiters,
  offer,
  type Outbox,
  relax,
  settle,
  type Waiter
} from "./core/outbox.ts"

type Failure = ConnectionError

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
    let bytes = 0
    for (const frame of frames) bytes += sizeOf(frame)
    const waiter: Waiter = { ...unqueued, frames, accepted: 0, bytes, resume }
    if (o.waiters === noWaiters) o.waiters = new Fifo()
    o.waiters.add(waiter)
    o.waitingBytes += bytes
    admit(o)
    // it is counted at the end of the turn
    o.notify()
    return Effect.sync(() => {
      remove(o, waiter)
      // the one behind may be smaller
      admit(o)
    })
  })

const remove = (o: Outbox, waiter: Waiter): void => {
  if (o.waiters.delete(waiter)) o.waitingBytes -= waiter.bytes
}

/** First come, first served: a large message at the head is not overtaken. */
export const admit = (o: Outbox): void => {
  for (let waiter = o.waiters.first; waiter !== undefined; waiter = o.waiters.first) {
    while (waiter.accepted < waiter.frames.length) {
      const frame = waiter.frames[waiter.accepted]!
      const size = sizeOf(frame)
      const { outboxBytes } = o.owner.inForce.policy
      if (size > outboxBytes) {
        remove(o, waiter)
        settle(o, waiter, Effect.fail(makeError(new MessageTooLarge({ size, limit: outboxBytes }))))
        break
      }
      if (!fits(o, size)) return
      accept(o, frame, size)
      waiter.accepted++
      waiter.bytes -= size
      o.waitingBytes -= size
    }
    if (waiter.accepted === waiter.frames.length) {
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
  const { accepted } = o
  try {
    // first: what the iteration runs may send, or throw
    const all = Array.isArray(messages) ? messages as ReadonlyArray<Out> : [...messages]
    for (const message of all) {
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
    // a codec that sends by itself and throws then leaves what is in front of that
    if (!isComplete && packed > 0 && o.accepted === accepted + packed) unpack(o, packed, packedBytes)
  }
  return frames.length === 0 && packed > 0 ? Effect.void : sendFrames(o, frames)
}

/** The bounds are other ones. */
export const patched = (o: Outbox): void => {
  if (isFull(o)) deter(o)
  relax(o)
  admit(o)
}

// ---------------------------------------------------------------------------------------------------------------------
// the effects that `send` and `sendAll` return
// ---------------------------------------------------------------------------------------------------------------------

const done = new Done<void>(undefined)

/** A connection, as far as a send needs it. */
export interface Sender<in Out> {
  /** How many messages were taken, and not dropped. */
  readonly kept: number
  /** What `send` does. Must not throw. */
  readonly sendNow: (message: Out) => Effect.Effect<void, ConnectionError>
  /** What `sendAll` does: all of them can be encoded, or none is sent. Must not throw. */
  readonly sendAllNow: (messages: Iterable<Out>) => Effect.Effect<void, ConnectionError>
}

/** An `Effect.suspend` without a closure for each message, and done at once in a generator. */
abstract class Sends<in out Out, in out A> extends Effectable.Class<void, ConnectionError> {
  protected readonly sender: Sender<Out>
  protected readonly what: A

  constructor(sender: Sender<Out>, what: A) {
    super()
    this.sender = sender
    this.what = what
  }

  override [Symbol.iterator](): Effect.EffectIterator<Effect.Effect<void, ConnectionError>> {
    const { sender } = this
    const { kept } = sender
    const effect = this.asEffect()
    if (effect !== Effect.void) return effect[Symbol.iterator]()
    // a send that never suspends still yields to other fibers: it takes the slow path
    return sender.kept > kept ? done : Effect.suspend(() => Effect.void)[Symbol.iterator]()
  }
}

/** What `send` returns. */
export class Sending<in out Out> extends Sends<Out, Out> {
  asEffect(): Effect.Effect<void, ConnectionError> {
    return this.sender.sendNow(this.what)
  }
}

/** What `sendAll` returns. */
export class SendingAll<in out Out> extends Sends<Out, Iterable<Out>> {
  asEffect(): Effect.Effect<void, ConnectionError> {
    return this.sender.sendAllNow(this.what)
  }
}
