/** Requests in storms: peers that answer late, out of order, twice or never, and connections, dials and callers that end at any time. */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Codec, Connection, ConnectionError, ConnectionPool, Request } from "../../src/index.ts"
import { TestSocket } from "../../src/testing/index.ts"
import { long, often } from "../support/often.ts"
import {
  type Dice,
  dies,
  type Findings,
  isOver,
  later,
  millis,
  pass,
  reasonOf,
  settle,
  start,
  steps,
  storms
} from "../support/storms.ts"

type Failure = ConnectionError.ConnectionError
type Lines = Connection.Connection<string>

const lines = Connection.make({ codec: Codec.lines(), policy: { pingEvery: 0, silence: 0 } })

/** With ids a line is `id text`; its answer is `id re text`. Without, it is the text alone. */
const correlate = {
  request: (message: string, id: number) => {
    if (message.endsWith("!")) throw new Error("a bug of the application")
    return `${id} ${message}`
  },
  response: (message: string) => {
    if (message.startsWith("bug")) throw new Error("a bug of the application")
    return message.startsWith("push") ? undefined : Number(message.split(" ")[0])
  }
}

const answerTo = (line: string, hasIds: boolean): string => {
  const [id, ...text] = line.split(" ")
  return hasIds ? `${id} re ${text.join(" ")}` : `re ${line}`
}

/** Reasons after which a peer may have seen the request. */
const unknown = new Set(["success", "OutcomeUnknown", "RequestTimeout", "Defect", "Interrupt", "Die"])

interface Asked {
  readonly text: string
  readonly since: number
  readonly deadline: number
  readonly fiber: Fiber.Fiber<unknown, unknown>
}

/** What a storm knows of its connections, and of what their peers have seen. */
class Scene {
  readonly dice: Dice
  readonly found: Findings
  readonly now: () => number
  readonly hasIds: boolean
  readonly peers: Array<TestSocket.Peer> = []
  readonly fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  readonly seen = new Map<string, number>()
  readonly asked: Array<Asked> = []
  live = 0
  /** Dials and peers do what they should from now on. */
  isCalm = false

  constructor(dice: Dice, found: Findings, now: () => number, hasIds: boolean) {
    this.dice = dice
    this.found = found
    this.now = now
    this.hasIds = hasIds
  }

  readonly connect: Effect.Effect<Lines, Failure, Scope.Scope> = Effect.gen({ self: this }, function*() {
    const peer = yield* TestSocket.make()
    this.peers.push(peer)
    this.fibers.push(yield* start(this.answering(peer)))
    return yield* lines(peer.socket)
  })

  readonly open: Effect.Effect<Lines, Failure, Scope.Scope> = Effect.gen({ self: this }, function*() {
    const { dice } = this
    yield* Effect.acquireRelease(Effect.sync(() => this.live++), () => Effect.sync(() => this.live--))
    if (this.isCalm) return yield* this.connect
    if (dice.percent(20)) yield* Effect.sleep(dice.below(100))
    if (dice.percent(10)) yield* ConnectionError.make(new ConnectionError.OpenFailed({ cause: "refused" }))
    if (dice.percent(10)) yield* dice.one([dies, Effect.never, Effect.interrupt])
    return yield* this.connect
  })

  /** A peer: it reads lines, and does anything with each. */
  private answering(peer: TestSocket.Peer): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      let rest = ""
      while (true) {
        const text = yield* peer.take
        if (text === "") return
        const parts = (rest + text).split("\n")
        rest = parts.pop()!
        for (const part of parts) yield* this.answers(peer, part)
      }
    })
  }

  private answers(peer: TestSocket.Peer, line: string): Effect.Effect<void> {
    const { dice, fibers, hasIds, seen } = this
    const text = hasIds ? line.split(" ").slice(1).join(" ") : line
    if (!line.startsWith("push")) seen.set(text, (seen.get(text) ?? 0) + 1)
    const says = peer.send(`${answerTo(line, hasIds)}\n`)
    if (this.isCalm) return says
    const late = Effect.andThen(Effect.sleep(dice.below(80)), says)
    return dice.pick<Effect.Effect<void>>(
      [40, says],
      // without ids the order is all there is
      [20, hasIds ? Effect.map(start(late), (fiber) => void fibers.push(fiber)) : late],
      [5, hasIds ? Effect.andThen(says, says) : says],
      [3, hasIds ? Effect.void : Effect.sleep("10 seconds")],
      [2, hasIds ? peer.send("77777 re nothing\n") : says],
      [1, hasIds ? peer.send("bug\n") : peer.reset],
      [1, peer.reset],
      [1, peer.end]
    )
  }

  /** Asks, and looks at what becomes of it. */
  ask(requests: Request.Requests<string>): Effect.Effect<void> {
    const { asked, dice, found, now, seen } = this
    const text = `question ${asked.length}${dice.percent(3) ? "!" : ""}`
    const deadline = 20 + dice.below(400)
    const idempotent = dice.percent(30)
    const since = now()
    const asking = Effect.onExit(requests.request(text, { deadline, idempotent }), (exit) =>
      Effect.sync(() => {
        const reason = reasonOf(exit)
        const times = seen.get(text) ?? 0
        if (Exit.isSuccess(exit)) found.check(exit.value.endsWith(`re ${text}`), "an answer to another request")
        if (reason === "RequestTimeout") {
          found.check(now() - since === deadline, `gives up after ${now() - since} of ${deadline}`)
        }
        found.check(now() - since <= deadline, `${reason} outlives its deadline of ${deadline}: ${now() - since}`)
        if (!idempotent) {
          found.check(times <= 1, "a request was sent twice")
        }
        if (!unknown.has(reason)) {
          found.check(times === 0, `${reason}, and the peer has seen it (idempotent: ${idempotent})`)
        }
      }))
    return Effect.map(start(asking), (fiber) => void asked.push({ text, since, deadline, fiber }))
  }
}

/** Where requests get their connections from. */
const sources: Record<
  string,
  (scene: Scene) => Effect.Effect<Effect.Effect<Lines, Failure, Scope.Scope> | Lines, never, Scope.Scope>
> = {
  "a dial": ({ open }) => Effect.succeed(open),
  "a pool": ({ dice, open }) =>
    Effect.map(ConnectionPool.make(open, { max: 1 + dice.below(3), acquire: 200, dial: 100 }), ({ get }) => get),
  "one connection": ({ connect }) => Effect.orDie(connect)
}

const storm = (source: keyof typeof sources, hasIds: boolean) =>
  Effect.fnUntraced(function*(dice: Dice, found: Findings) {
    const scene = new Scene(dice, found, yield* millis, hasIds)
    const { asked, fibers, now, peers } = scene
    const outer = yield* Scope.make()
    const scope = yield* Scope.make()
    const from = yield* Scope.provide(sources[source]!(scene), outer)
    const requests = yield* Scope.provide(
      Request.make(from, {
        inFlight: 1 + dice.below(4),
        connections: 1 + dice.below(3),
        deadline: 300,
        retries: dice.below(3),
        ...(hasIds ? { correlate } : {})
      }),
      scope
    )
    const step = () => {
      const peer = dice.one(peers)
      return dice.pick<Effect.Effect<unknown, unknown>>(
        [50, scene.ask(requests)],
        [8, Effect.sync(() => dice.one(asked)?.fiber.interruptUnsafe())],
        [3, peer?.reset ?? Effect.void],
        [3, peer?.window(dice.one([0, Infinity])) ?? Effect.void],
        [25, later(dice.below(60))]
      )
    }
    const rules = Effect.sync(() => {
      const late = asked.filter(({ deadline, fiber, since }) => !isOver(fiber) && now() > since + deadline)
      found.check(late.length === 0, "a request waits beyond its deadline")
    })
    yield* steps(dice, 30, step, rules)
    if (dice.percent(50)) {
      scene.isCalm = true
      for (const peer of peers) yield* peer.window(Infinity)
      // the longest that a peer waits with an answer
      yield* pass(11)
      const calm = yield* start(Effect.exit(requests.request("calm", { deadline: 1000 })))
      yield* pass(2)
      const answer = calm.pollUnsafe()
      const isAnswered = answer?._tag === "Success" && answer.value._tag === "Success"
      if (source !== "one connection") found.check(isAnswered, "a request is not answered although all is well")
    }
    const closing = yield* start(Scope.close(scope, dice.one([Exit.void, Exit.interrupt()])))
    yield* pass(5)
    found.check(
      isOver(closing) && asked.every(({ fiber }) => isOver(fiber)),
      "a request, or the end of its scope, hangs"
    )
    if (source === "a dial") found.check(scene.live === 0, "a connection is left open")
    yield* Scope.close(outer, Exit.void)
    for (const fiber of fibers) fiber.interruptUnsafe()
    yield* settle
    found.check(scene.live === 0, "a connection, or a dial, is left")
  })

describe("requests in storms", () => {
  const count = often(6, 100)
  for (const source of Object.keys(sources)) {
    for (const hasIds of [true, false]) {
      it.effect(
        `B26 B68 ${count} over ${source}, answers ${hasIds ? "with ids" : "in order"}`,
        () => storms(count, storm(source, hasIds)),
        long(120_000)
      )
    }
  }
})
