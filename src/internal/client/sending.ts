/** Sending: fibers queue for the connection, and while there is none they wait within the bounds of the policy. */
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"
import type { Policy } from "../../Policy.ts"
import { givenSize } from "../bytes/sizes.ts"
import { guarded } from "../endings/defects.ts"
import { Mutex } from "../scheduling/mutex.ts"
import { greets } from "./greeting.ts"
import { calling, type ClientCells, type ClientConnection } from "./state.ts"

type Failure = ConnectionError.ConnectionError

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** The cells that senders look at. */
type Cells<Out> = Pick<ClientCells<ClientConnection<unknown, Out>>, "awaiting" | "current" | "end" | "leave" | "turns">

/** Messages of one `send` or `sendAll`. */
interface Batch<out Out> {
  readonly messages: ReadonlyArray<Out>
  /** What they count in the queue. */
  bytes: number
}

/** The senders of a client, first come first served, and how much they wait with. */
export class SendQueue<in Out> {
  private readonly cells: Cells<Out>
  private readonly policy: Policy
  private readonly weightOf: (message: Out) => number
  /** Succeeds with the connection to send to. */
  private readonly online: Effect.Effect<ClientConnection<unknown, Out>, Failure>
  // one sender at a time gives its messages to a connection
  private readonly mutex: Mutex
  private messages = 0
  private bytes = 0

  constructor(cells: Cells<Out>, policy: Policy, weightOf: (message: Out) => number) {
    this.cells = cells
    this.mutex = new Mutex(cells.turns)
    this.policy = policy
    this.weightOf = weightOf
    this.online = policy.whenOffline === "wait"
      ? cells.awaiting(() => cells.current)
      : Effect.suspend(() =>
        cells.current !== undefined ? Effect.succeed(cells.current) : Effect.fail(cells.end ?? this.offline())
      )
  }

  /** Gives all of them, in order and nothing in between, to one connection. */
  send(messages: ReadonlyArray<Out>): Effect.Effect<void, Failure> {
    return Effect.uninterruptibleMask((restore) => {
      const { current, end } = this.cells
      if (end !== undefined) return Effect.fail(end)
      if (messages.length === 0) return Effect.void
      // the only sender, with a connection, is weighed when that ends
      if (current !== undefined && this.messages === 0) return this.enter({ messages, bytes: 0 }, restore)
      const queued = Effect.flatMap(this.weigh(messages), (bytes) => this.enter({ messages, bytes }, restore))
      // in its own `onConnect` it would wait for itself, in the queue already
      return current === undefined ? Effect.andThen(greets(this.cells), queued) : queued
    })
  }

  private offline(): Failure {
    return ConnectionError.make(new ConnectionError.Offline({ messages: this.messages, bytes: this.bytes }))
  }

  private weigh(messages: ReadonlyArray<Out>): Effect.Effect<number, Failure> {
    return guarded("sizeOf", () => {
      let bytes = 0
      for (const message of messages) bytes += givenSize(this.weightOf(message))
      return bytes
    })
  }

  /** Queues a batch. It is uncounted even when its sender is interrupted: only `restore` can be interrupted. */
  private enter(batch: Batch<Out>, restore: Restore): Effect.Effect<void, Failure> {
    const { cells, policy } = this
    const { bytes, messages } = batch
    const isOver = this.messages + messages.length > policy.offlineMessages ||
      this.bytes + bytes > policy.offlineBytes
    if (cells.current === undefined && (policy.whenOffline === "fail" || isOver)) return Effect.fail(this.offline())
    this.messages += messages.length
    this.bytes += bytes
    return Effect.ensuring(
      restore(this.mutex.withPermit(this.deliver(batch))),
      Effect.sync(() => {
        this.messages -= messages.length
        this.bytes -= batch.bytes
      })
    )
  }

  private deliver(batch: Batch<Out>): Effect.Effect<void, Failure> {
    return Effect.flatMap(this.online, (connection) => {
      const { messages } = batch
      const send = () => messages.length === 1 ? connection.send(messages[0]!) : connection.sendAll(messages)
      return calling("send", connection, send, (error) =>
        Effect.flatMap(connection.snapshot, ({ reason }) => {
          // what one connection did not accept because it ended, the next one may. A batch may be accepted in part
          if (reason !== error.reason || messages.length > 1) return Effect.fail(error)
          this.cells.leave(connection)
          return Effect.flatMap(this.weigh(messages), (bytes) => {
            this.bytes += bytes - batch.bytes
            batch.bytes = bytes
            return this.deliver(batch)
          })
        }))
    })
  }
}
