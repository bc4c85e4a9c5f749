/** Writer: take from the queue, write, say the last words. */
import * as Arr from "effect/Array"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Socket from "effect/socket/Socket"
import * as ConnectionError from "../../ConnectionError.ts"
import { sizeOf } from "../bytes/sizes.ts"
import { detach, type Frame, FrameBuffer, Framed } from "../codec/encoder.ts"
import { closeEvent } from "../endings/closeEvent.ts"
import { afterTurns } from "../scheduling/turns.ts"
import { adviceIn } from "../telemetry/story.ts"
import { guarded } from "./core/lifecycle.ts"
import {
  type Element,
  gone,
  hasControl,
  largestBuffer,
  type Outbox,
  relax,
  settle,
  smallestBuffer,
  takeControl,
  takeElement,
  wake
} from "./core/outbox.ts"
import { beginWrite, type Conversation, endWrite, isOver, isStillWriting, unsentOf } from "./core/state.ts"
import { admit } from "./sender.ts"
import { closeFrameOf } from "./webSocket.ts"

type Failure = ConnectionError.ConnectionError
type Writing = NonEmptyReadonlyArray<Frame>

// one write: large enough to keep the transport busy, small enough that a control frame is never far behind
const writeBytes = 64 * 1024

// how often closing looks whether the peer has taken the rest
const takenPoll = Duration.millis(20)

// ---------------------------------------------------------------------------------------------------------------------
// the writer's side of the outbox
// ---------------------------------------------------------------------------------------------------------------------

/** Offers what was sent in this turn to the queue. */
const offerTurn = (o: Outbox): void => {
  const { fresh } = o
  if (fresh.length === 0) return
  const { queue } = o
  // one that is popped leaves the array its memory
  if (fresh.length === 1) {
    Queue.offerUnsafe(queue, fresh.pop()!)
    return
  }
  for (const element of fresh) Queue.offerUnsafe(queue, element)
  fresh.length = 0
}

/** Takes from the queue: control frames first (never inside a frame), then data up to 64 KiB, at least one frame. */
const next = (o: Outbox): Writing | undefined => {
  // most writes empty the outbox: the look behind them is not to cost another batch
  if (o.messages === 0 && o.rest === undefined && !hasControl(o)) return undefined
  let batch = none
  let size = 0
  o.writesData = o.rest !== undefined
  if (o.rest !== undefined) {
    const slice = sliced(o, o.rest)
    batch = [slice]
    size = slice.byteLength
    // its end may share the write with what follows
    if (o.rest !== undefined) return begin(o, batch, size)
  }
  for (const frame of takeControl(o)) {
    batch = withFrame(batch, frame)
    size += sizeOf(frame)
  }
  let buffered = 0
  while (size < writeBytes) {
    const element = takeElement(o)
    if (element === undefined) break
    if (element === wake) continue
    if (element instanceof FrameBuffer) {
      const { bytes, count } = element
      if (size > 0 && size + bytes > writeBytes) {
        o.head = element
        break
      }
      taking(o, count, bytes)
      buffered += bytes
      batch = withFrame(batch, element.all())
      size += bytes
      continue
    }
    taking(o, 1, sizeOf(element))
    if (element instanceof Framed) {
      element.leave()
      batch = withFrame(batch, element.header)
      size += element.header.byteLength
    }
    const whole = element instanceof Framed ? element.payload : element
    const splits = o.splits && typeof whole !== "string" && whole.byteLength > writeBytes
    const frame = splits ? sliced(o, whole) : whole
    batch = withFrame(batch, frame)
    size += sizeOf(frame)
  }
  // the next buffer is as large as what was in buffers this time
  if (buffered > 0) o.bufferSize = Math.max(smallestBuffer, Math.min(largestBuffer, buffered))
  if (batch === none) return undefined
  relax(o)
  if (o.waiters.size > 0) admit(o)
  return begin(o, batch, size)
}

const taking = (o: Outbox, count: number, bytes: number): void => {
  o.writesData = true
  o.messages -= count
  o.bytes -= bytes
  o.inWrite += count
}

const begin = (o: Outbox, batch: Array<Frame>, size: number): Writing => {
  o.isWriting = true
  o.written += size
  return batch as unknown as Writing
}

/** The first slice of a frame; the others are the rest. */
const sliced = (o: Outbox, frame: Uint8Array): Uint8Array => {
  const slice = frame.subarray(0, writeBytes)
  o.rest = slice.byteLength < frame.byteLength ? frame.subarray(writeBytes) : undefined
  return slice
}

const none: Array<Frame> = []

// most writes have one frame; an empty array that is pushed to has room for 17
const withFrame = (batch: Array<Frame>, frame: Frame): Array<Frame> => {
  if (batch === none) return [frame]
  batch.push(frame)
  return batch
}

/** The last batch was handed to the transport. */
const wrote = <In, Out>(c: Conversation<In, Out>, at: number): void => {
  const o = c.outbox
  endWrite(c, at, o.writesData)
  o.isWriting = false
  o.inWrite = o.rest === undefined ? 0 : 1
  for (let flusher = o.flushers.first; flusher !== undefined; flusher = o.flushers.first) {
    if (flusher.target > gone(o)) return
    o.flushers.delete(flusher)
    settle(o, flusher, Effect.void)
  }
}

/** Set once no more is accepted and everything before has been taken and written. */
const drained = (o: Outbox): Failure | undefined =>
  o.messages === 0 && o.rest === undefined && o.control.length === 0 && !o.isWriting ? o.closedWith : undefined

const isDirect = <In, Out>({ direct, transport }: Conversation<In, Out>): boolean =>
  direct && transport.writeNow !== undefined

const began = <In, Out>(c: Conversation<In, Out>, at: number): void => {
  if (beginWrite(c, at) >= c.wakeUp.secondAt) return
  c.turns.scheduleTask(() => guarded(c, "writer", () => c.wakeUp.secondBy(isStillWriting(c, c.timers.now()))))
}

// ---------------------------------------------------------------------------------------------------------------------
// the short cut: what is sent in a turn is written at its end, while the fiber stands by
// ---------------------------------------------------------------------------------------------------------------------

/** A turn is over in which something was sent, or the outbox was closed. */
export const turnEnded = <In, Out>(c: Conversation<In, Out>): void => {
  writeTurn(c)
  c.holding?.count()
}

const writeTurn = <In, Out>(c: Conversation<In, Out>): void => {
  const { lifecycle, outbox } = c
  if (isOver(lifecycle)) return
  offerTurn(outbox)
  if (outbox.closedWith !== undefined && outbox.hasQueue) {
    Queue.failCauseUnsafe(outbox.queue, Cause.fail(outbox.closedWith))
  }
  const { standBy } = c
  // the writer is at work, and takes it next
  if (standBy === undefined) return
  if (!isDirect(c)) {
    // beside the queue, or behind what the queue was told
    if (Queue.sizeUnsafe(outbox.queue) === 0) Queue.offerUnsafe(outbox.queue, wake)
    return Queue.flushUnsafe(outbox.queue)
  }
  // no fiber would die of a throw: `guarded`, without a closure for each turn
  try {
    c.left = writeAtOnce(c)
  } catch (thrown) {
    return c.acts.died(c, "writer", thrown)
  }
  // the rest, and the last words, are for the writer
  if (c.left === undefined && outbox.closedWith === undefined) return
  c.standBy = undefined
  standBy(writer(c))
}

/** Takes and writes as the writer does, as long as the transport takes it at once; returns what it does not take. */
const writeAtOnce = <In, Out>(c: Conversation<In, Out>): NonEmptyReadonlyArray<Frame> | undefined => {
  const { outbox, timers, transport } = c
  while (outbox.closedWith === undefined) {
    const batch = next(outbox)
    if (batch === undefined) return undefined
    const at = timers.now()
    if (!transport.writeNow!(batch)) return batch
    c.directWrites++
    // what the kernel has taken as well needs no watching
    if (unsentOf(c) > 0) began(c, at)
    wrote(c, at)
  }
  return undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// the fiber
// ---------------------------------------------------------------------------------------------------------------------

// turns of the event loop in which a reader that waited for room pulls, and is told
const turnsOfReader = 4

/** A reader that is not pulling may know more when it does: a reset, where a write only finds the socket closed. */
const socketFailed =
  <In, Out>(c: Conversation<In, Out>) => (cause: Socket.SocketError): Effect.Effect<never, Failure> => {
    const failed = Effect.fail(ConnectionError.fromSocketError(cause))
    if (c.isPulling || c.lifecycle._tag !== "Open") return failed
    c.isLost = true
    c.hold?.open()
    c.inbox.patched()
    return Effect.andThen(afterTurns(c.turns, turnsOfReader), failed)
  }

/**
 * Takes from the queue and writes. Where the queue may be served by the short cut it stands by for the rest: a taker parked
 * in `Queue.take` would make every offer schedule a task. When the queue has ended and is empty, it says the last words and
 * fails with the reason.
 */
export const writer = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> =>
  Effect.suspend(() => {
    const { outbox } = c
    const batch = c.left ?? next(outbox)
    c.left = undefined
    if (batch === undefined) {
      const reason = drained(outbox)
      return reason !== undefined ? finish(c, reason) : isDirect(c) ? standBy(c) : takeNext(c)
    }
    c.writes++
    began(c, c.timers.now())
    return Effect.matchEffect(c.writer.writeAll(Arr.map(batch, detach)), {
      onFailure: socketFailed(c),
      onSuccess: () => {
        wrote(c, c.timers.now())
        c.holding?.count()
        return writer(c)
      }
    })
  })

/** Waits until it is woken for what the short cut leaves. */
const standBy = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> =>
  Effect.callback((resume) => {
    c.standBy = resume
  })

/** Waits until the queue has something, or has ended. */
const takeNext = <In, Out>(c: Conversation<In, Out>): Effect.Effect<never, Failure> => {
  const goOn = (element: Element | undefined): Effect.Effect<never, Failure> => {
    c.standBy = undefined
    c.outbox.head = element
    return writer(c)
  }
  c.standBy = noop
  return Effect.matchEffect(Queue.take(c.outbox.queue), { onSuccess: goOn, onFailure: () => goOn(undefined) })
}

const noop = (): void => {}

/** A transport that is released drops what it holds: first the peer takes it, for as long as the drain lasts. */
const finish = <In, Out>(c: Conversation<In, Out>, reason: Failure): Effect.Effect<never, Failure> => {
  if (unsentOf(c) > 0) return Effect.flatMap(c.clock.sleep(takenPoll), () => finish(c, reason))
  const words = lastWords(c, reason.reason)
  const ended = Effect.fail(reason)
  return words === Effect.void
    ? ended
    : Effect.matchEffect(words, { onFailure: socketFailed(c), onSuccess: () => ended })
}

/** What the peer is told last: the farewell of its protocol, and the close frame of a WebSocket. Said once. */
export const lastWords = <In, Out>(
  c: Conversation<In, Out>,
  reason: ConnectionError.Reason
): Effect.Effect<void, Socket.SocketError> => {
  if (c.hasLastWords) return Effect.void
  c.hasLastWords = true
  const { writer } = c
  const { farewell } = c.setup
  const message = c.hasPeerEnded || c.closeFrame !== undefined || farewell === undefined
    ? undefined
    : guarded(c, "farewell", () => farewell(reason))
  const advice = adviceIn(message)
  if (advice !== undefined && c.story !== undefined) c.story.advised = advice
  const encoded = message === undefined ? undefined : c.way.wire.encode(message)
  const said = encoded !== undefined && Result.isSuccess(encoded) ? writer.write(encoded.success) : Effect.void
  if (c.messages) return Effect.andThen(said, writer.write(closeEvent(reason)))
  const frame = c.way.control === undefined ? undefined : closeFrameOf(c, reason)
  return frame === undefined
    ? said
    : said === Effect.void
    ? writer.write(frame)
    : Effect.andThen(said, writer.write(frame))
}
