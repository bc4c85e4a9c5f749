/** A history in a stream of NATS: each process follows the stream, and keeps of it what the bounds allow. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import { BackplaneError } from "../../internal/backplane/engine.ts"
import { within } from "../../internal/backplane/pulse.ts"
import type { Payload } from "../../internal/codec/payload.ts"
import { type Bounds, Kept, limitOf } from "../../internal/history/kept.ts"
import { type Link, type Listener, read, unreachable, written } from "../../internal/history/link.ts"
import {
  type Ends,
  type Gone,
  type History,
  HistoryError,
  type Missed,
  type Position
} from "../../internal/history/log.ts"
import { Changes, newEpoch } from "../../internal/history/memory.ts"
import { type Connection, type Delivered, type Following, isNowhere, type State, windowOf } from "./streams.ts"

// what the server counts for each message beside its bytes: the subject, a header and numbers
const overhead = 512

const or0 = (bound: number): number => bound === Infinity ? 0 : bound

// how often a server is asked that says that it has less than it has told: one that has just become the leader may be behind
const mostAsked = 4

// how soon a message that is not delivered is looked for
const impatience = 250

const utf8 = new TextEncoder()

/** One history, as far as this process has followed it. */
export class Log<A> implements History<A>, Listener<Connection> {
  private readonly link: Link<Connection>
  private readonly name: { readonly stream: string; readonly subject: string }
  private readonly payload: Payload<A, A>
  private readonly bounds: Bounds
  private readonly changes: Changes
  // one at a time comes to where the stream is
  private readonly turn = Semaphore.makeUnsafe(1)
  private begun = 0
  private done = { connection: undefined as Connection | undefined, number: 0 }
  private following: Following | undefined
  // without a hole; messages that cannot be decoded are in `broken`
  private tail: Kept<A>
  private broken = new Map<number, HistoryError>()
  // the epoch of the stream, and what is said of it here once it has lost messages
  private base = ""
  private lost = ""
  // the monotonic clock of this process, which nobody sets, less the clock of the server, or more than that
  private ahead = Infinity

  constructor(
    link: Link<Connection>,
    name: { readonly stream: string; readonly subject: string },
    payload: Payload<A, A>,
    bounds: Bounds
  ) {
    this.link = link
    this.name = name
    this.payload = payload
    this.bounds = bounds
    this.changes = new Changes(link.turns)
    this.tail = new Kept("", bounds)
  }

  private get kept() {
    const { age, bytes, count } = this.bounds
    return {
      ...this.name,
      count: or0(count),
      bytes: or0(bytes) && bytes + (or0(count) && count * overhead),
      // less is refused
      age: or0(age) && Math.max(100, age)
    }
  }

  /** A message of the stream: what lies before it and was not told is not there any more. */
  private readonly told = ({ at, bytes, offset }: Delivered): void => {
    if (offset <= this.tail.newest) return
    if (offset > this.tail.newest + 1) this.begins(this.tail.epoch, offset - 1)
    const now = this.link.now()
    this.ahead = Math.min(this.ahead, now - at)
    const message = read(this.payload, bytes)
    if (Result.isFailure(message)) this.broken.set(offset, message.failure)
    const value = Result.isSuccess(message) ? message.success : undefined as A
    this.tail.push(value, bytes.length, now - Math.max(0, now - at - this.ahead))
    this.changes.tell()
  }

  private begins(epoch: string, offset: number): void {
    this.tail = new Kept(epoch, this.bounds, offset)
    this.broken.clear()
    this.changes.tell()
  }

  /** Whether the stream has what was followed of it. It is forgotten where not. */
  private meet({ at, epoch, newest, oldest }: State, before: number): boolean {
    const { tail } = this
    if (epoch !== this.base) {
      this.base = epoch
      this.lost = ""
    } else if (newest < before) this.lost = `-${newest.toString(36)}`
    const told = this.base + this.lost
    this.ahead = Math.min(this.ahead, this.link.now() - at)
    const isSame = tail.epoch === told && oldest <= tail.newest
    if (isSame) tail.forget(oldest)
    else this.begins(told, oldest)
    for (const offset of this.broken.keys()) if (offset <= this.tail.oldest) this.broken.delete(offset)
    return isSame
  }

  /** Comes to where the stream is by now. */
  private sync(connection: Connection, fits = false): Effect.Effect<void, BackplaneError> {
    const { begun, kept } = this
    const syncing = Effect.gen({ self: this }, function*() {
      // another one has begun since this one was wanted, and is done
      if (this.done.connection === connection && this.done.number > begun) return
      const number = ++this.begun
      let isQuiet = false
      let asked = 0
      while (true) {
        // more may be told before the answer comes
        const before = this.tail.newest
        const state = yield* connection.state(kept, fits)
        if (state.epoch === this.base && state.newest < before && ++asked < mostAsked) {
          yield* Effect.sleep(impatience)
          continue
        }
        const isFollowed = this.meet(state, before) && this.following?.connection === connection
        if (!isFollowed || isQuiet) {
          this.following?.stop()
          this.following = yield* connection.follow(kept.stream, this.tail.newest + 1, this.told)
        }
        isQuiet = yield* this.isQuietBefore(state.newest)
        if (!isQuiet) break
      }
      this.done = { connection, number }
    })
    return within(this.link.timeout)(this.turn.withPermit(syncing))
  }

  /** Waits for the message. Gives up where none comes for a while: those that are gone are not delivered. */
  private isQuietBefore(newest: number): Effect.Effect<boolean> {
    return Effect.suspend(() =>
      this.tail.newest >= newest
        ? Effect.succeed(false)
        : Effect.timeoutOrElse(Effect.andThen(this.changes.await, this.isQuietBefore(newest)), {
          duration: impatience,
          orElse: () => Effect.succeed(true)
        })
    )
  }

  begin(connection: Connection): Effect.Effect<void, BackplaneError> {
    return this.sync(connection, true)
  }

  look(connection: Connection): Effect.Effect<void, BackplaneError> {
    return this.sync(connection)
  }

  end(): Effect.Effect<void> {
    return Effect.sync(() => {
      this.following?.stop()
      this.following = undefined
    })
  }

  /** For how long an append is tried again: no longer than the server knows its id. */
  private get lasting(): number {
    return Math.min(this.link.timeout, windowOf(this.kept.age))
  }

  /** Appends, unless that was done before with the same id. */
  private appended(bytes: Uint8Array, id: string): Effect.Effect<Position, BackplaneError> {
    return Effect.flatMap(this.link.connected, (connection) => {
      if (bytes.length > connection.largest) return Effect.fail(new BackplaneError({ reason: "size" }))
      const { epoch, newest } = this.tail
      return connection.append(this.name.subject, bytes, id, this.lasting).pipe(
        Effect.flatMap(({ duplicate, seq }) => {
          const isOther = this.tail.epoch !== epoch || (!duplicate && seq <= newest)
          if (!isOther) return Effect.succeed({ epoch, offset: seq })
          // another stream: which one has it is asked with the same id
          return Effect.andThen(this.sync(connection), this.appended(bytes, id))
        }),
        Effect.catchIf(isNowhere, () => Effect.andThen(this.sync(connection), this.appended(bytes, id)))
      )
    })
  }

  append = (message: A): Effect.Effect<Position, HistoryError> =>
    Effect.gen({ self: this }, function*() {
      const encoded = written(this.payload, message)
      if (Result.isFailure(encoded)) return yield* encoded.failure
      const bytes = typeof encoded.success === "string" ? utf8.encode(encoded.success) : encoded.success
      if (bytes.length > this.bounds.bytes) return yield* new HistoryError({ reason: "size" })
      const appending = Effect.mapError(
        this.link.again(this.appended(bytes, yield* newEpoch)),
        ({ cause, reason }) => reason === "size" ? new HistoryError({ reason, cause }) : unreachable(cause)
      )
      return yield* this.link.bounded(appending, this.lasting)
    })

  private known(position: Position, limit: number): Missed<A> | Gone {
    this.tail.trim(this.link.now())
    return this.tail.since(position, limit)
  }

  private checked(missed: Missed<A> | Gone): Effect.Effect<Missed<A> | Gone, HistoryError> {
    if (missed._tag === "Missed" && this.broken.size > 0) {
      for (const { position } of missed.messages) {
        const error = this.broken.get(position.offset)
        if (error !== undefined) return Effect.fail(error)
      }
    }
    return Effect.succeed(missed)
  }

  private readonly synced: Effect.Effect<void, HistoryError> = Effect.suspend(() =>
    this.link.ask((connection) => this.sync(connection))
  )

  since = (position: Position, asked?: number): Effect.Effect<Missed<A> | Gone, HistoryError> =>
    Effect.suspend(() => {
      const limit = limitOf(asked)
      const known = this.known(position, limit)
      if (known._tag === "Missed") return this.checked(known)
      // another process may have come further
      return Effect.flatMap(this.synced, () => this.checked(this.known(position, limit)))
    })

  readonly ends: Effect.Effect<Ends, HistoryError> = Effect.suspend(() =>
    Effect.map(this.synced, () => {
      this.tail.trim(this.link.now())
      const { newest, oldest } = this.tail
      return { oldest: this.tail.at(oldest), newest: this.tail.at(newest) }
    })
  )

  awaitAfter = ({ epoch, offset }: Position): Effect.Effect<void> =>
    Effect.suspend(() => epoch === this.tail.epoch && offset >= this.tail.newest ? this.changes.await : Effect.void)
}
