/** What a node talks to a simulated engine with, over a socket of the simulated network. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Socket from "effect/socket/Socket"
import { BackplaneError, type Engine, type Session } from "../../../Backplane.ts"
import { Inbox } from "../../../internal/backplane/inbox.ts"
import * as Supervised from "../../../internal/scheduling/supervised.ts"
import { bytesOf, Lines, type Question, type Said, textOf } from "./lines.ts"

const largest = 1_048_576

const mostWaiting = 1024

const unreachable = (cause?: unknown) => new BackplaneError({ reason: "unreachable", cause })

/** One connection to the engine. */
class Line {
  readonly inbox = new Inbox(mostWaiting)
  readonly out = Queue.unbounded<string>()
  private lost: BackplaneError | undefined
  private readonly waiting = new Map<number, (answer: Effect.Effect<unknown, BackplaneError>) => void>()
  private ids = 0
  epoch = 0

  private hear(said: Said): void {
    switch (said._tag) {
      case "batch":
        return this.inbox.offer(bytesOf(said.batch))
      case "gap":
        return this.inbox.gap(said.count)
      case "answer":
        return this.settle(said.id, Effect.succeed(said.value))
      case "failure":
        return this.settle(said.id, Effect.fail(new BackplaneError({ reason: said.reason })))
    }
  }

  private settle(id: number, answer: Effect.Effect<unknown, BackplaneError>): void {
    const waiting = this.waiting.get(id)
    this.waiting.delete(id)
    waiting?.(answer)
  }

  ask(question: Question, out: Queue.Queue<string>): Effect.Effect<unknown, BackplaneError> {
    return Effect.callback((resume) => {
      if (this.lost !== undefined) return resume(Effect.fail(this.lost))
      const id = ++this.ids
      this.waiting.set(id, resume)
      Queue.offerUnsafe(out, `${JSON.stringify({ id, epoch: this.epoch, question })}\n`)
      return Effect.sync(() => this.waiting.delete(id))
    })
  }

  /** Carries what is said, until the connection is lost. */
  carry(
    { pull }: Socket.Reader,
    { write }: Socket.Writer,
    out: Queue.Queue<string>
  ): Effect.Effect<never, Socket.SocketError> {
    const lines = new Lines()
    const listens = Effect.forever(
      Effect.map(pull, (chunks) => {
        for (const line of lines.read(chunks)) this.hear(JSON.parse(line))
      })
    )
    const speaks = Effect.forever(Effect.flatMap(Queue.takeAll(out), (all) => write(all.join(""))))
    return Effect.raceFirst(listens, speaks)
  }

  /** The connection is lost: all questions fail, and nothing comes any more. */
  lose(error: BackplaneError): void {
    this.lost ??= error
    this.inbox.end(error)
    const waiting = Array.from(this.waiting.values())
    this.waiting.clear()
    for (const resume of waiting) resume(Effect.fail(error))
  }
}

/** Opens a connection to the engine, until the scope closes. `lost` is told when it breaks. */
const open = (dial: () => Socket.Socket, lost: (error: BackplaneError) => void = () => {}) =>
  Effect.gen(function*() {
    const socket = dial()
    const line = new Line()
    const out = yield* line.out
    const reader = yield* Effect.mapError(socket.reader, unreachable)
    const writer = yield* socket.writer
    const carried = Effect.catch(line.carry(reader, writer, out), (cause) =>
      Effect.sync(() => {
        const error = unreachable(cause)
        line.lose(error)
        lost(error)
      }))
    yield* Supervised.joinedScoped("a connection to a simulated engine", carried)
    return { line, ask: <A>(question: Question) => line.ask(question, out) as Effect.Effect<A, BackplaneError> }
  })

/** An engine at the far end of sockets that are made anew for each session. */
export const connect = (dial: () => Socket.Socket): Engine => ({
  name: "simulated",
  largest,
  join: ({ lease, node }) =>
    Effect.gen(function*() {
      const heard = yield* open(dial)
      const asked = yield* open(dial, (error) => heard.line.lose(error))
      const { ask } = asked
      const { session: number, ...joined } = yield* heard.ask<
        Pick<Session, "epoch" | "age"> & { readonly session: number }
      >({
        _tag: "join",
        node,
        lease
      })
      yield* ask({ _tag: "speak", node, session: number })
      asked.line.epoch = joined.epoch
      const session: Session = {
        ...joined,
        renew: (isLeaving) => ask({ _tag: "renew", isLeaving }),
        nodes: ask({ _tag: "nodes" }),
        claim: (key, options = {}) => ask({ _tag: "claim", key, options }),
        release: (key, token) => ask({ _tag: "release", key, token }),
        find: (key) => ask({ _tag: "find", key }),
        publish: (to, batch) =>
          batch.length > largest
            ? Effect.fail(new BackplaneError({ reason: "size" }))
            : ask({ _tag: "publish", node: to, batch: textOf(batch) }),
        take: heard.line.inbox.take,
        leave: ask({ _tag: "leave" })
      }
      return session
    })
})
