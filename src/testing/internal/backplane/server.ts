/** A simulated engine: the directory in memory behind sockets of the simulated network. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import { Directory } from "../../../internal/backplane/directory.ts"
import { type Asked, Lines, type Question, type Said } from "./lines.ts"

/** One connection of a client. */
interface Client {
  readonly out: Queue.Queue<Said>
  /** The node that has joined over it. */
  node: string | undefined
  /** How many batches were lost since the last one that was not. */
  lost: number
}

export interface Losses {
  /** The share of batches that an inbox loses, each told as a gap ahead of the next one. */
  readonly losing: number
}

class Server {
  readonly directory: Directory
  private readonly inboxes = new Map<string, Client>()
  private readonly losing: number
  private readonly draw: () => number
  private readonly now: () => number
  private readonly bornAt: number

  constructor(now: () => number, draw: () => number, losing: number) {
    this.now = now
    this.draw = draw
    this.losing = losing
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
    if (this.draw() < this.losing) inbox.lost++
    else {
      if (inbox.lost > 0) this.say(inbox, { _tag: "gap", count: inbox.lost })
      inbox.lost = 0
      this.say(inbox, { _tag: "batch", batch })
    }
    return "sent"
  }

  private answer(node: string, question: Exclude<Question, { _tag: "join" }>): unknown {
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
        return directory.release(node, question.key, question.token)
      case "find":
        return directory.find(question.key, now)
      case "publish":
        return this.publish(question.node, question.batch)
      case "leave":
        return directory.leave(node)
    }
  }

  hear(client: Client, { epoch, id, question }: Asked): void {
    const { directory } = this
    if (question._tag === "join") {
      client.node = question.node
      this.inboxes.set(question.node, client)
      directory.join(question.node, question.lease, this.now())
      const value = { epoch: directory.epoch, age: this.now() - this.bornAt }
      return this.say(client, { _tag: "answer", id, value })
    }
    const { node } = client
    if (node === undefined || epoch !== directory.epoch) {
      return this.say(client, { _tag: "failure", id, reason: "epoch" })
    }
    if (question._tag !== "publish" && !directory.isAlive(node, this.now())) {
      return this.say(client, { _tag: "failure", id, reason: "lease" })
    }
    this.say(client, { _tag: "answer", id, value: this.answer(node, question) })
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
    const client: Client = { out, node: undefined, lost: 0 }
    yield* Effect.addFinalizer(() => Effect.sync(() => server.gone(client)))
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
  { losing }: Losses
): Effect.Effect<never, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
    const server = new Server(now, () => random.nextDoubleUnsafe(), losing)
    // a host that has crashed accepts nothing: its process ends with it
    const accepts = Effect.ignore(run((socket) => talk(server, socket)))
    return yield* Effect.forever(Effect.andThen(accepts, Effect.sleep(100)))
  })
