/** Messages that were read and not received yet, kept in the batches they came in. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type { ConnectionError } from "../../../ConnectionError.ts"
import type { Room } from "../../codec/room.ts"
import { Gate } from "../../scheduling/gate.ts"
import type { Turns } from "../../scheduling/turns.ts"
import type { InForce } from "./limits.ts"

interface ReadBatch<In> {
  readonly messages: ReadonlyArray<In>
  readonly bytes: number
  readonly weight: number
}

const nothing: ReadonlyArray<never> = []

/** The connection, as far as its inbox sees it: its policy as it is now. */
interface Bounded {
  readonly inForce: InForce
  /** Some messages are pings and pongs: they are not for the inbox, and are to be found behind one that is full. */
  readonly heed: unknown
  /** What is next of what has come is a control frame, which needs no room. */
  readonly isAtControl: boolean
  /** Nothing more is read until what was read is received. */
  readonly awaitsMemory: boolean
  /** The transport is gone: the reader is to see why. */
  readonly isLost: boolean
  /** Everything was taken, and more is to be decoded. */
  readonly hasRoom: () => void
}

type Resume<A> = (effect: Effect.Effect<A, ConnectionError>) => void

/**
 * What `receive` and `send` give to a generator when they need not wait: an iterator that has ended already. A generator asks
 * each effect it gets with `yield*` for an iterator; the loop of the runtime never sees one that has ended, and would cost as
 * much as everything else that is done for a small message (0.5 of 1.2 us).
 */
export class Done<A> implements Effect.EffectIterator<Effect.Effect<A>> {
  readonly done = true
  readonly value: A

  constructor(value: A) {
    this.value = value
  }

  next(): IteratorReturnResult<A> {
    return this
  }
}

/** An `Effect.suspend` without a closure, and done at once in a generator. */
abstract class Receives<in out In, A> extends Effectable.Class<A, ConnectionError> {
  protected readonly inbox: Inbox<In>

  constructor(inbox: Inbox<In>) {
    super()
    this.inbox = inbox
  }

  override [Symbol.iterator](): Effect.EffectIterator<Effect.Effect<A, ConnectionError>> {
    return this.asEffect()[Symbol.iterator]()
  }
}

const alone = <In>(message: In): NonEmptyReadonlyArray<In> => [message]

class Receiving<in out In> extends Receives<In, In> {
  /** See `receiveAlone`. */
  get alone(): Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> {
    return new ReceivingAlone(this.inbox)
  }

  asEffect(): Effect.Effect<In, ConnectionError> {
    return this.inbox.takeOne()
  }

  override [Symbol.iterator](): Effect.EffectIterator<Effect.Effect<In, ConnectionError>> {
    const { inbox } = this
    return inbox.messages > 0 ? new Done(inbox.take()) : super[Symbol.iterator]()
  }
}

class ReceivingAlone<in out In> extends Receives<In, NonEmptyReadonlyArray<In>> {
  asEffect(): Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> {
    const { inbox } = this
    return inbox.messages > 0 ? Effect.succeed(alone(inbox.take())) : Effect.map(inbox.takeOne(), alone)
  }
}

/** A receiver that waited was interrupted. An object for as long as the connection lives takes half of what a closure does. */
class Leaving<in out In> extends Effectable.Class<void> {
  private readonly inbox: Inbox<In>

  constructor(inbox: Inbox<In>) {
    super()
    this.inbox = inbox
  }

  asEffect(): Effect.Effect<void> {
    this.inbox.one = undefined
    return Effect.void
  }
}

/** The next message in an array of its own, as streams take it; that of an inbox costs no second effect. */
export const receiveAlone = <In>(
  receive: Effect.Effect<In, ConnectionError>
): Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> =>
  receive instanceof Receiving ? receive.alone : Effect.map(receive, alone)

class ReceivingAll<in out In> extends Receives<In, NonEmptyReadonlyArray<In>> {
  asEffect(): Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> {
    return this.inbox.takeAll()
  }
}

/**
 * Owned by one connection. The reader stops to decode where a bound is reached: what has been read beyond that stays bytes, and is
 * decoded when everything before it has been received. So what is held is at most the bound, one message (two where some are pings:
 * they are answered behind an inbox that is full), and two reads of the transport. A message weighs its bytes on the wire, and what it and its values take in memory.
 *
 * A receiver that waits is woken in a task of its own, and given what came: the first receiver and the first receiver of batches
 * have a place here, any others share a gate.
 */
export class Inbox<In> {
  private first: ReadonlyArray<In> = nothing
  private firstBytes = 0
  private firstWeight = 0
  // index of the next message in `first`
  private offset = 0
  private more: Array<ReadBatch<In>> | undefined
  private error: ConnectionError | undefined
  private readonly turns: Turns
  private waking = false
  /** @internal */
  one: Resume<In> | undefined
  private all: Resume<NonEmptyReadonlyArray<In>> | undefined
  private others: Gate | undefined
  private room: Gate | undefined
  // made once: a receiver that waits costs no more than the wait
  private readonly waitForOne: Effect.Effect<In, ConnectionError>
  private takingAll: Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> | undefined
  private waitForAll: Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> | undefined
  messages = 0
  bytes = 0
  weight = 0
  /**
   * What the batch that was taken up last weighs, in the hands of its receiver until that asks again: it may wait to send an
   * answer.
   */
  taken = 0
  /** Something has come that is not decoded yet, for want of room. */
  hasMore = false
  // the one message beyond the bound is here
  private isAhead = false
  private whenDecoded: (() => void) | undefined
  private readonly owner: Bounded
  /** Called when a receiver has got everything and is told the end. */
  onTold: (() => void) | undefined

  constructor(turns: Turns, owner: Bounded) {
    this.turns = turns
    this.owner = owner
    const leaving = new Leaving(this)
    this.waitForOne = Effect.callback((resume) => {
      this.taken = 0
      if (this.isReady) return resume(this.receive)
      if (this.one !== undefined) return resume(this.wait(this.receive))
      this.one = resume
      return leaving
    })
  }

  get isFull(): boolean {
    return this.hasMore || this.isAtBound
  }

  private get isAtBound(): boolean {
    const { inboxBytes, inboxMessages } = this.owner.inForce.limits
    return this.messages >= inboxMessages || this.weight >= inboxBytes
  }

  /** Whether there is room for what has come and is not decoded. */
  get wantsMore(): boolean {
    return this.hasMore && (!this.isAtBound || this.looksAhead || this.owner.isAtControl)
  }

  /** What comes next may be a ping: one message is decoded to see, and kept if it is none. */
  private get looksAhead(): boolean {
    return this.owner.heed !== undefined && !this.isAhead
  }

  private get isReady(): boolean {
    return this.messages > 0 || (this.error !== undefined && !this.hasMore)
  }

  /** What there is room for. */
  measure(room: Room): void {
    const { inboxBytes, inboxMessages, maxDecoded } = this.owner.inForce.limits
    const isAhead = this.isAtBound && this.looksAhead
    room.renew(isAhead ? 1 : inboxMessages - this.messages, isAhead ? 1 : inboxBytes - this.weight, maxDecoded)
  }

  /** Whether more is to be decoded, as the reader sees it after each read. */
  left(hasMore: boolean): void {
    if (this.hasMore === hasMore) return
    this.hasMore = hasMore
    if (hasMore) return this.room?.close()
    // what was waited for may have been no message
    if (!this.isFull) this.room?.open()
    this.wake()
    if (this.whenDecoded !== undefined) this.turns.scheduleTask(this.whenDecoded)
  }

  offer(messages: ReadonlyArray<In>, bytes: number, weight: number): void {
    // after the end no receiver waits for more than what had come
    if (messages.length === 0 || (this.error !== undefined && !this.hasMore)) return
    if (this.isAtBound) this.isAhead = true
    if (this.messages === 0) {
      this.first = messages
      this.firstBytes = bytes
      this.firstWeight = weight
      this.offset = 0
    } else (this.more ??= []).push({ messages, bytes, weight })
    this.messages += messages.length
    this.bytes += bytes
    this.weight += weight
    if (this.room !== undefined && this.isFull) this.room.close()
    this.wake()
  }

  /** What is buffered can still be taken; then every take fails with `error`. */
  end(error: ConnectionError): void {
    if (this.error !== undefined) return
    this.error = error
    this.wake()
    this.room?.open()
  }

  private wake(): void {
    if (this.waking || (this.one === undefined && this.all === undefined && this.others === undefined)) return
    this.waking = true
    this.turns.scheduleTask(this)
  }

  /** @internal */
  run(): void {
    this.waking = false
    const { one } = this
    if (one !== undefined && this.isReady) {
      this.one = undefined
      one(this.takeOne())
    }
    // not before: the first may have sent the second away
    const { all } = this
    if (all !== undefined && this.isReady) {
      this.all = undefined
      all(this.takeAll())
    }
    if (this.others !== undefined && this.isReady) this.others.open()
  }

  /** Waits, and looks again. */
  private wait<A>(then: Effect.Effect<A, ConnectionError>): Effect.Effect<A, ConnectionError> {
    return Effect.suspend(() => {
      if (this.isReady) return then
      this.others ??= new Gate(this.turns, false)
      this.others.close()
      return Effect.flatMap(this.others.await, () => then)
    })
  }

  /** Waits until there is room, or the inbox has ended. */
  awaitRoom(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.isFull || this.error !== undefined || this.owner.isLost) return Effect.void
      this.room ??= new Gate(this.turns, false)
      return Effect.andThen(this.room.await, this.awaitRoom())
    })
  }

  /** Waits until all that has come is decoded. For the reader. */
  get awaitDecoded(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (!this.hasMore) return resume(Effect.void)
      this.whenDecoded = () => {
        this.whenDecoded = undefined
        resume(Effect.void)
      }
    })
  }

  /** The bounds are other ones, or the transport is gone. */
  patched(): void {
    if (this.wantsMore) this.owner.hasRoom()
    if (this.isFull && this.error === undefined && !this.owner.isLost) this.room?.close()
    else this.room?.open()
  }

  /** Lets go of what was not received. */
  discard(): void {
    this.hasMore = false
    this.takeAll()
  }

  private took(messages: number, bytes: number, weight: number): void {
    this.messages -= messages
    this.bytes -= bytes
    this.weight -= weight
    this.taken = weight
    if (this.isAhead && !this.isAtBound) this.isAhead = false
    if (this.messages === 0 && (this.hasMore || this.owner.awaitsMemory)) this.owner.hasRoom()
    if (this.room !== undefined && !this.isFull) this.room.open()
  }

  /** What `receiveAll` does. */
  takeAll(): Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> {
    if (!this.isReady) return this.awaitAll
    if (this.messages === 0) return this.told(this.error!)
    let all = this.offset === 0 ? this.first : this.first.slice(this.offset)
    for (const { messages } of this.more ?? nothing) all = all.concat(messages)
    this.first = nothing
    this.more = undefined
    this.took(this.messages, this.bytes, this.weight)
    return Effect.succeed(all as unknown as NonEmptyReadonlyArray<In>)
  }

  private get awaitAll(): Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> {
    if (this.waitForAll !== undefined) return this.waitForAll
    const gone = Effect.sync(() => {
      this.all = undefined
    })
    return this.waitForAll = Effect.callback((resume) => {
      this.taken = 0
      if (this.isReady) return resume(this.receiveAll)
      if (this.all !== undefined) return resume(this.wait(this.receiveAll))
      this.all = resume
      return gone
    })
  }

  /** Made at the first use: a connection is received from one message at a time, or in batches, and hardly ever both. */
  get receiveAll(): Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> {
    return this.takingAll ??= new ReceivingAll(this)
  }

  /**
   * What `receive` does.
   *
   * @internal
   */
  takeOne(): Effect.Effect<In, ConnectionError> {
    if (!this.isReady) return this.waitForOne
    return this.messages > 0 ? Effect.succeed(this.take()) : this.told(this.error!)
  }

  private told(error: ConnectionError): Effect.Effect<never, ConnectionError> {
    this.onTold?.()
    return Effect.fail(error)
  }

  /** The next message, when there is one. */
  take(): In {
    const message = this.first[this.offset++]!
    if (this.offset < this.first.length) this.took(1, 0, 0)
    else {
      const { firstBytes: bytes, firstWeight: weight } = this
      const next = this.more?.shift()
      this.first = next === undefined ? nothing : next.messages
      this.firstBytes = next === undefined ? 0 : next.bytes
      this.firstWeight = next === undefined ? 0 : next.weight
      this.offset = 0
      this.took(1, bytes, weight)
    }
    return message
  }

  readonly receive: Effect.Effect<In, ConnectionError> = new Receiving(this)
}
