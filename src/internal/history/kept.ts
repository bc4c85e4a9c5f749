/** The newest messages of one epoch: bounded by their count, their bytes and their age. Without time of its own. */
import type * as Duration from "effect/Duration"
import { atLeast } from "../arguments/atLeast.ts"
import { millisOf } from "../arguments/durations.ts"
import type { Gone, Message, Missed, Position } from "./log.ts"

/** How much is kept. */
export interface Bounds {
  readonly count: number
  readonly bytes: number
  /** In milliseconds. */
  readonly age: number
}

/** What an application says of them, with the defaults of every history. Throws where they make no sense. */
export const boundsOf = (
  { age = "5 minutes", bytes = 1_048_576, count = 1000 }: {
    readonly age?: Duration.Input | undefined
    readonly bytes?: number | undefined
    readonly count?: number | undefined
  }
): Bounds => ({
  count: atLeast(1, "count", count),
  bytes: atLeast(1, "bytes", bytes),
  age: atLeast(1, "age", millisOf("age", age))
})

/** How many messages are asked for. Throws where that is no number of messages. */
export const limitOf = (limit = Infinity): number => Math.floor(atLeast(0, "limit", limit))

interface Entry<A> {
  readonly message: Message<A>
  readonly bytes: number
  readonly at: number
}

/** Whether a position can be one, wherever it comes from. */
const isPosition = (position: unknown): position is Position => {
  if (typeof position !== "object" || position === null) return false
  const { epoch, offset } = position as Partial<Position>
  return typeof epoch === "string" && Number.isSafeInteger(offset) && offset! >= 0
}

/** Why a position cannot be read from, by the ends of what is kept; `undefined` where it can. */
export const goneOf = (position: Position, epoch: string, oldest: number, newest: number): Gone | undefined => {
  const gone = (why: Gone["why"]): Gone => ({ _tag: "Gone", why, position: { epoch, offset: oldest } })
  if (!isPosition(position)) return gone("unknown")
  if (position.epoch !== epoch) return gone("epoch")
  if (position.offset > newest) return gone("unknown")
  return position.offset < oldest ? { ...gone("trimmed"), missed: oldest - position.offset } : undefined
}

export class Kept<A> {
  readonly epoch: string
  private readonly bounds: Bounds
  // those before `head` are gone; the array is cut now and then
  private entries: Array<Entry<A>> = []
  private head = 0
  private bytes = 0
  /** The offset before the oldest message that is kept. */
  oldest: number

  constructor(epoch: string, bounds: Bounds, offset = 0) {
    this.epoch = epoch
    this.bounds = bounds
    this.oldest = offset
  }

  get newest(): number {
    return this.oldest + this.entries.length - this.head
  }

  at(offset: number): Position {
    return { epoch: this.epoch, offset }
  }

  push(message: A, bytes: number, now: number): Position {
    const position = this.at(this.newest + 1)
    this.entries.push({ message: { _tag: "Message", position, message }, bytes, at: now })
    this.bytes += bytes
    this.trim(now)
    return position
  }

  /** Lets go of what is too much, or too old. */
  trim(now: number): void {
    const { age, bytes, count } = this.bounds
    const { entries } = this
    while (this.head < entries.length) {
      const first = entries[this.head]!
      if (entries.length - this.head <= count && this.bytes <= bytes && now - first.at < age) break
      this.drop(first)
    }
    this.cut()
  }

  /** Lets go of what is before an offset. */
  forget(offset: number): void {
    const { entries } = this
    while (this.head < entries.length && this.oldest < offset) this.drop(entries[this.head]!)
    this.cut()
  }

  private drop(first: Entry<A>): void {
    this.bytes -= first.bytes
    this.oldest++
    // nothing is held until the array is cut
    this.entries[this.head++] = undefined as never
  }

  private cut(): void {
    if (this.head <= 32 || this.head * 2 <= this.entries.length) return
    this.entries = this.entries.slice(this.head)
    this.head = 0
  }

  since(position: Position, limit: number): Missed<A> | Gone {
    const { newest, oldest } = this
    const gone = goneOf(position, this.epoch, oldest, newest)
    if (gone !== undefined) return gone
    const from = this.head + position.offset - oldest
    const messages = this.entries.slice(from, limit < this.entries.length - from ? from + limit : undefined)
      .map(({ message }) => message)
    return { _tag: "Missed", messages, position: this.at(position.offset + messages.length) }
  }
}
