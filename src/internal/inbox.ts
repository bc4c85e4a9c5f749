/** Messages that were read and not received yet, kept in the batches they came in. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"
import type { ConnectionError } from "../ConnectionError.ts"
import { Signal } from "./signal.ts"

interface Batch<In> {
  readonly messages: ReadonlyArray<In>
  readonly bytes: number
}

/**
 * Owned by one connection. Bounds are checked by the reader (`isFull`), which stops after one more read: the batch that
 * crosses a bound is kept whole, so what is held is at most the bound plus two reads of the transport.
 */
export class Inbox<In> {
  private batches: Array<Batch<In>> = []
  // index of the next message in batches[0]
  private offset = 0
  private error: ConnectionError | undefined
  private readonly filled: Signal
  private readonly room: Signal
  // made once: a receiver that waits costs no more than the wait
  private readonly filledThenOne: Effect.Effect<In, ConnectionError>
  private readonly filledThenAll: Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError>
  messages = 0
  bytes = 0
  private maxMessages: number
  private maxBytes: number

  constructor(dispatcher: Scheduler.SchedulerDispatcher, maxMessages: number, maxBytes: number) {
    this.filled = new Signal(dispatcher, false)
    this.room = new Signal(dispatcher, true)
    this.maxMessages = maxMessages
    this.maxBytes = maxBytes
    this.filledThenOne = this.filled.andThen(this.receive)
    this.filledThenAll = this.filled.andThen(this.receiveAll)
  }

  get isFull(): boolean {
    return this.messages >= this.maxMessages || this.bytes >= this.maxBytes
  }

  offer(messages: ReadonlyArray<In>, bytes: number): void {
    // after the end nobody waits for more
    if (messages.length === 0 || this.error !== undefined) return
    this.batches.push({ messages, bytes })
    this.messages += messages.length
    this.bytes += bytes
    if (this.isFull) this.room.close()
    this.filled.open()
  }

  /** What is buffered can still be taken; then every take fails with `error`. */
  end(error: ConnectionError): void {
    if (this.error !== undefined) return
    this.error = error
    this.filled.open()
    this.room.open()
  }

  /** Waits until there is room, or nobody needs any. */
  readonly awaitRoom: Effect.Effect<void> = Effect.suspend(() =>
    this.room.isOpen ? Effect.void : Effect.andThen(this.room.await, this.awaitRoom)
  )

  setBounds(maxMessages: number, maxBytes: number): void {
    this.maxMessages = maxMessages
    this.maxBytes = maxBytes
    if (this.isFull && this.error === undefined) this.room.close()
    else this.room.open()
  }

  private took(messages: number, bytes: number): void {
    this.messages -= messages
    this.bytes -= bytes
    if (this.messages === 0 && this.error === undefined) this.filled.close()
    if (!this.room.isOpen && !this.isFull) this.room.open()
  }

  private takeAllUnsafe(): NonEmptyReadonlyArray<In> | undefined {
    if (this.messages === 0) return undefined
    const batches = this.batches
    const first = batches[0]!.messages
    let all = this.offset === 0 ? first : first.slice(this.offset)
    for (let i = 1; i < batches.length; i++) all = all.concat(batches[i]!.messages)
    this.batches = []
    this.offset = 0
    this.took(this.messages, this.bytes)
    return all as unknown as NonEmptyReadonlyArray<In>
  }

  readonly receiveAll: Effect.Effect<NonEmptyReadonlyArray<In>, ConnectionError> = Effect.suspend(() => {
    const batch = this.takeAllUnsafe()
    if (batch !== undefined) return Effect.succeed(batch)
    return this.error !== undefined ? Effect.fail(this.error) : this.filledThenAll
  })

  readonly receive: Effect.Effect<In, ConnectionError> = Effect.suspend(() => {
    if (this.messages === 0) {
      return this.error !== undefined ? Effect.fail(this.error) : this.filledThenOne
    }
    const { bytes, messages } = this.batches[0]!
    const message = messages[this.offset++]!
    if (this.offset === messages.length) {
      this.batches.shift()
      this.offset = 0
      this.took(1, bytes)
    } else {
      this.took(1, 0)
    }
    return Effect.succeed(message)
  })
}
