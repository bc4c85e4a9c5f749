/** A simulated engine: the directory in memory behind sockets of the simulated network. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import { Directory } from "../../../internal/backplane/directory.ts"
import * as Supervised from "../../../internal/scheduling/supervised.ts"
import { type Asked, Lines, type Question, type Said } from "./lines.ts"

/** One connection of a client. */
interface Client {
  readonly out: Queue.Queue<Said>
  /** The node that has joined over it. */
  node: string | undefined
  session: number
  /** How many batches were lost since the last one that was not. */
  lost: number
  /** Says something in so many milliseconds, unless the connection is over by then. */
  readonly later: (millis: number, said: Said) => void
}

/** What an engine does badly, and may. It is looked at each time. */
export interface Weaknesses {
  /** The share of batches that an inbox loses, each told as a gap ahead of the next one. */
  readonly losing?: number | undefined
  /** The share of answers that come late: what is answered and published later overtakes them. */
  readonly late?: number | undefined
}

/** An answer that is late is late by this at the most. */
const latest = 1000

class Server {
  readonly directory: Directory
  private readonly inboxes = new Map<string, Client>()
  /** The last session of each node. */
  private readonly sessions = new Map<string, number>()
  private joins = 0
  private readonly weaknesses: Weaknesses
  private readonly draw: () => number
  private readonly now: () => number
  private readonly bornAt: number

  constructor(now: () => number, draw: () => number, weaknesses: Weaknesses) {
    this.now = now
    this.draw = draw
    this.weaknesses = weaknesses
    this.bornAt = now()
    // time goes on while an engine is down
    this.directory = new Directory(Math.floor(this.bornAt) + 1)
  }

  private say(client: Client, said: Said): void {
    Queue.offerUnsafe(client.out, said)
  }

  private publish(to: string, batch: string): "sent" | "nobody" {
    const inbox = this.inboxes.get(to)
    if (inbox === undefined) return "nobody"
    if (this.draw() < (this.weaknesses.losing ?? 0)) inbox.lost++
    else {
      if (inbox.lost > 0) this.say(inbox, { _tag: "gap", count: inbox.lost })
      inbox.lost = 0
      this.say(inbox, { _tag: "batch", batch })
    }
    return "sent"
  }

  private answer(node: string, question: Exclude<Question, { _tag: "join" | "speak" }>): unknown {
    const { directory } = this
    const now = this.now()
    switch (question._tag) {
      case "renew":
        return directory.renew(node, question.isLeaving, now)
      case "nodes":
        return directory.nodes(now)
      case "claim":
        return directory.claim(node, question.key, question.options, now)
      case "release":
        return directory.release(node, question.key, question.token, now)
      case "find":
        return directory.find(question.key, now)
      case "publish":
        return this.publish(question.node, question.batch)
      case "leave":
        return directory.leave(node, now)
    }
  }

  hear(client: Client, { epoch, id, question }: Asked): void {
    const { directory } = this
    if (question._tag === "join") {
      client.node = question.node
      client.session = ++this.joins
      this.sessions.set(question.node, client.session)
      this.inboxes.set(question.node, client)
      directory.join(question.node, question.lease, this.now())
      const value = { epoch: directory.epoch, age: this.now() - this.bornAt, session: client.session }
      return this.say(client, { _tag: "answer", id, value })
    }
    if (question._tag === "speak") {
      client.node = question.node
      client.session = question.session
      return this.say(client, { _tag: "answer", id })
    }
    const { node } = client
    if (node === undefined || epoch !== directory.epoch) {
      return this.say(client, { _tag: "failure", id, reason: "epoch" })
    }
    const isAlive = client.session === this.sessions.get(node) && directory.isAlive(node, this.now())
    if (question._tag !== "publish" && !isAlive) {
      return this.say(client, { _tag: "failure", id, reason: "lease" })
    }
    const said: Said = { _tag: "answer", id, value: this.answer(node, question) }
    // the shorter ones are the more frequent: most questions do not wait for longer
    if (this.draw() < (this.weaknesses.late ?? 0)) client.later(latest * this.draw() ** 2, said)
    else this.say(client, said)
  }

  gone(client: Client): void {
    if (client.node !== undefined && this.inboxes.get(client.node) === client) this.inboxes.delete(client.node)
  }
}

const talk = (server: Server, socket: Socket.Socket): Effect.Effect<void> =>
  Effect.scoped(Effect.gen(function*() {
    const { pull } = yield* socket.reader
    const { write } = yield* socket.writer
    const out = yield* Queue.unbounded<Said>()
    const context = yield* Effect.context<never>()
    const late = new Set<Fiber.Fiber<unknown, unknown>>()
    const client: Client = {
      out,
      node: undefined,
      session: 0,
      lost: 0,
      later: (millis, said) => {
        const says = Effect.andThen(Effect.sleep(millis), Effect.sync(() => Queue.offerUnsafe(out, said)))
        Supervised.spawnAmong(late, context, "a late answer", says, () => {})
      }
    }
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const fiber of Array.from(late)) fiber.interruptUnsafe()
        server.gone(client)
      })
    )
    const lines = new Lines()
    const listens = Effect.forever(
      Effect.map(pull, (chunks) => {
        for (const line of lines.read(chunks)) server.hear(client, JSON.parse(line))
      })
    )
    const speaks = Effect.forever(
      Effect.flatMap(Queue.takeAll(out), (all) => write(all.map((said) => `${JSON.stringify(said)}\n`).join("")))
    )
    yield* Effect.raceFirst(listens, speaks)
  })).pipe(Effect.ignore)

/** Runs an engine without a memory of what was before. */
export const serve = (
  run: (handler: (socket: Socket.Socket) => Effect.Effect<void>) => Effect.Effect<never, unknown, Scope.Scope>,
  weaknesses: Weaknesses
): Effect.Effect<never, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
    const server = new Server(now, () => random.nextDoubleUnsafe(), weaknesses)
    // a host that has crashed accepts nothing: its process ends with it
    const accepts = Effect.ignore(run((socket) => talk(server, socket)))
    return yield* Effect.forever(Effect.andThen(accepts, Effect.sleep(100)))
  })
