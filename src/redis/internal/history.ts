/** A history in Redis: scripts append and read, and its newest messages are kept as they are told live. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { BackplaneError } from "../../internal/backplane/engine.ts"
import type { Payload } from "../../internal/codec/payload.ts"
import { type Bounds, goneOf, Kept, limitOf } from "../../internal/history/kept.ts"
import { type Link, type Listener, read, written } from "../../internal/history/link.ts"
import {
  type Ends,
  type Gone,
  type History,
  HistoryError,
  type Missed,
  type Position
} from "../../internal/history/log.ts"
import { Changes, newEpoch } from "../../internal/history/memory.ts"
import type { Connection } from "./connection.ts"
import * as Scripts from "./historyScripts.ts"
import type { Script } from "./scripts.ts"

// so long after its last message a history is forgotten that is not empty for its age
const idle = 7 * 24 * 3_600_000

/** One history, as far as this process knows it. */
export class Log<A> implements History<A>, Listener<Connection> {
  private readonly at: string
  private readonly link: Link<Connection>
  private readonly payload: Payload<A, A>
  private readonly bounds: Bounds
  private readonly changes: Changes
  // what was told live, without a hole
  private tail: Kept<A>

  constructor(link: Link<Connection>, at: string, payload: Payload<A, A>, bounds: Bounds) {
    this.link = link
    this.at = at
    this.payload = payload
    this.bounds = bounds
    this.changes = new Changes(link.turns)
    this.tail = new Kept("", bounds)
  }

  /** Where the history is by now: what this process has missed is read from Redis. */
  private meet(epoch: string, newest: number): void {
    if (epoch === this.tail.epoch && newest <= this.tail.newest) return
    this.tail = new Kept(epoch, this.bounds, newest)
    this.changes.tell()
  }

  private decode(text: string): Result.Result<A, HistoryError> {
    const frame = text[0] === "b" ? Buffer.from(text.slice(1), "base64") : text.slice(1)
    return read(this.payload, frame)
  }

  /** `<epoch> <offset> <message>` */
  private readonly told = (bytes: Buffer): void => {
    const [, epoch, number, text] = /^(\S+) (\d+) (.*)$/s.exec(bytes.toString()) ?? []
    // nothing of ours: any client of the engine may publish here
    if (epoch === undefined) return
    const offset = Number(number)
    const { tail } = this
    if (epoch === tail.epoch && offset <= tail.newest) return
    const message = this.decode(text!)
    if (epoch !== tail.epoch || offset !== tail.newest + 1 || Result.isFailure(message)) {
      return this.meet(epoch, offset)
    }
    tail.push(message.success, text!.length, this.link.now())
    this.changes.tell()
  }

  begin(connection: Connection): Effect.Effect<void, BackplaneError> {
    // what is appended in between is told, and then known already
    return Effect.andThen(connection.subscribe(`${this.at}live`, this.told), this.look(connection))
  }

  end(connection: Connection): Effect.Effect<void> {
    return connection.unsubscribe(`${this.at}live`, this.told)
  }

  look(connection: Connection): Effect.Effect<void, BackplaneError> {
    return Effect.flatMap(
      newEpoch,
      (fresh) =>
        Effect.map(
          connection.run(Scripts.open, ["1", this.at, fresh]),
          ([epoch, newest]) => this.meet(epoch!, Number(newest))
        )
    )
  }

  private call(script: Script, ...args: ReadonlyArray<string>) {
    const { age, bytes, count } = this.bounds
    const bounded = [count, bytes, age].map((bound) => bound === Infinity ? "" : String(bound))
    const [most, bytesMost, oldest] = bounded
    return (connection: Connection): Effect.Effect<ReadonlyArray<string>, BackplaneError> =>
      Effect.flatMap(
        newEpoch,
        (fresh) => connection.run(script, ["1", this.at, fresh, most || "1e15", bytesMost || "1e15", oldest!, ...args])
      )
  }

  append = (message: A): Effect.Effect<Position, HistoryError> =>
    Effect.suspend(() => {
      const encoded = written(this.payload, message)
      if (Result.isFailure(encoded)) return Effect.fail(encoded.failure)
      const frame = encoded.success
      const text = typeof frame === "string" ? `t${frame}` : `b${Buffer.from(frame).toString("base64")}`
      if (Buffer.byteLength(text) > this.bounds.bytes) return Effect.fail(new HistoryError({ reason: "size" }))
      const { age } = this.bounds
      const forgotten = age === Infinity ? "" : String(Math.ceil(age) + idle)
      return Effect.map(
        this.link.once(this.call(Scripts.append, forgotten, text)),
        ([epoch, offset]) => ({ epoch: epoch!, offset: Number(offset) })
      )
    })

  private asked(position: Position, limit: number): Effect.Effect<Missed<A> | Gone, HistoryError> {
    return Effect.gen({ self: this }, function*() {
      const nonsense = goneOf(position, position?.epoch, 0, Number.MAX_SAFE_INTEGER) !== undefined
      const from = nonsense ? { epoch: "", offset: 0 } : position
      const most = String(Math.min(limit, 1e9))
      const [epoch, oldest, newest, ...texts] = yield* this.link.ask(
        this.call(Scripts.since, from.epoch, String(from.offset), most)
      )
      this.meet(epoch!, Number(newest))
      const gone = goneOf(position, epoch!, Number(oldest), Number(newest))
      if (gone !== undefined) return gone
      const messages: Array<Missed<A>["messages"][number]> = []
      for (const [i, text] of texts.entries()) {
        const message = yield* Effect.fromResult(this.decode(text))
        messages.push({ _tag: "Message", position: { epoch: epoch!, offset: from.offset + i + 1 }, message })
      }
      return { _tag: "Missed", messages, position: { epoch: epoch!, offset: from.offset + texts.length } }
    })
  }

  since = (position: Position, most?: number): Effect.Effect<Missed<A> | Gone, HistoryError> =>
    Effect.suspend(() => {
      const limit = limitOf(most)
      const { tail } = this
      tail.trim(this.link.now())
      const known = tail.since(position, limit)
      return known._tag === "Missed" ? Effect.succeed(known) : this.asked(position, limit)
    })

  readonly ends: Effect.Effect<Ends, HistoryError> = Effect.suspend(() =>
    Effect.map(this.link.ask(this.call(Scripts.since, "", "0", "1")), ([epoch, oldest, newest]) => {
      this.meet(epoch!, Number(newest))
      return { oldest: { epoch: epoch!, offset: Number(oldest) }, newest: { epoch: epoch!, offset: Number(newest) } }
    })
  )

  awaitAfter = ({ epoch, offset }: Position): Effect.Effect<void> =>
    Effect.suspend(() => epoch === this.tail.epoch && offset >= this.tail.newest ? this.changes.await : Effect.void)
}
