import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Client, Codec, Connection, ConnectionError, ConnectionPool, type Policy, Request } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"
import { withLogs } from "./support/logs.ts"
import { long, often } from "./support/often.ts"

type Failure = ConnectionError.ConnectionError
type Conn = Connection.Connection<string>

const quiet: Policy.Patch = { pingEvery: 0, silence: 0, writeStall: 0, frame: 0 }
const refused = ConnectionError.make(new ConnectionError.OpenFailed({ cause: "ECONNREFUSED" }))

const now = Effect.map(Clock.Clock, (clock) => clock.currentTimeMillisUnsafe())
const settle = Effect.repeat(Effect.yieldNow, { times: 80 })
const adjust = (duration: Duration.Input) => Effect.andThen(TestClock.adjust(duration), settle)
const started = { startImmediately: true } as const

interface Network {
  readonly peers: Array<TestSocket.Peer>
  readonly open: Effect.Effect<Conn, Failure, Scope.Scope>
  answer: Effect.Effect<unknown, Failure>
  /** What a fresh peer does. */
  peer: (peer: TestSocket.Peer) => Effect.Effect<unknown>
  live: number
}

const network = (policy?: Policy.Patch): Network => {
  const chat = Connection.make({ codec: Codec.lines(), policy: { ...quiet, ...policy } })
  const self: Network = {
    peers: [],
    answer: Effect.void,
    peer: () => Effect.void,
    live: 0,
    open: Effect.gen(function*() {
      self.live++
      yield* Effect.addFinalizer(() => Effect.sync(() => self.live--))
      yield* Effect.suspend(() => self.answer)
      const peer = yield* TestSocket.make()
      self.peers.push(peer)
      const connection = yield* chat(peer.socket)
      yield* self.peer(peer)
      return connection
    })
  }
  return self
}

/** Answers every line with what `reply` makes of it. */
const serve = (reply: (line: string) => string) => (peer: TestSocket.Peer): Effect.Effect<unknown> =>
  Effect.forkDetach(Effect.gen(function*() {
    while (true) {
      const text = yield* peer.take
      if (text === "") return
      for (const line of text.split("\n").slice(0, -1)) yield* peer.send(reply(line))
    }
  }))

const echo = serve((line) => `re ${line}\n`)

const byId: Request.Options<string, string>["correlate"] = {
  request: (message, id) => `${id}:${message}`,
  response: (message) => {
    const id = Number(message.split(":")[0])
    return Number.isNaN(id) ? undefined : id
  }
}

const outcome = (fiber: Fiber.Fiber<unknown, Failure>): unknown => {
  const exit = fiber.pollUnsafe()
  if (exit === undefined) return "waits"
  if (Exit.isSuccess(exit)) return exit.value
  const reason = exit.cause.reasons[0]!
  return reason._tag === "Fail" ? reason.error.reason._tag : reason._tag
}

const start = (options?: Request.Options<string, string>, policy?: Policy.Patch) =>
  Effect.gen(function*() {
    const net = network(policy)
    const scope = yield* Scope.make()
    const requests = yield* Scope.provide(Request.make(net.open, { connections: 1, ...options }), scope)
    const ask = (message: string, terms?: Request.Terms) =>
      Effect.tap(Effect.forkChild(requests.request(message, terms), started), () => settle)
    return { net, requests, ask, scope }
  })

describe("a dial that hangs", () => {
  for (const connections of [1, 2]) {
    it.effect(`B148 is begun anew after the deadline, and holds up no later request (${connections} at a time)`, () =>
      Effect.gen(function*() {
        const net = network()
        net.peer = echo
        let dials = 0
        const source = Effect.suspend(() => dials++ < connections ? Effect.never : net.open)
        const { request } = yield* Request.make(source, { connections, deadline: "5 seconds" })
        // each alone: its dial holds a place
        const early: Array<Fiber.Fiber<unknown, Failure>> = []
        for (let i = 0; i < connections; i++) {
          early.push(yield* Effect.forkChild(request("a", { deadline: 4000 }), started))
        }
        yield* adjust(4000)
        for (const fiber of early) {
          assert.strictEqual((yield* Effect.flip(Fiber.join(fiber))).reason._tag, "RequestTimeout")
        }
        const later = yield* Effect.forkChild(request("b", { deadline: "1 minute" }), started)
        yield* adjust(999)
        assert.deepStrictEqual([dials, later.pollUnsafe()], [connections, undefined])
        yield* adjust(1)
        assert.strictEqual(yield* Fiber.join(later), "re b")
        assert.strictEqual(dials, connections + 1)
      }))
  }

  it.effect("B148 one that takes long fails no request that has longer, and without a deadline has no limit", () =>
    Effect.gen(function*() {
      for (const deadline of ["5 seconds", 0] as const) {
        const net = network()
        net.peer = echo
        let isThere = false
        // as a client that waits until it is connected
        const source = Effect.suspend(() => isThere ? net.open : Effect.andThen(Effect.sleep(7500), net.open))
        const { request } = yield* Request.make(source, { connections: 1, deadline })
        const asking = yield* Effect.forkChild(request("a", { deadline: "1 minute" }), started)
        yield* adjust(7000)
        isThere = true
        yield* adjust(3000)
        assert.strictEqual(yield* Fiber.join(asking), "re a")
      }
    }))
})

describe("one request and its response", () => {
  it.effect("one at a time: the next is not sent before the answer", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start()
      const a = yield* ask("a")
      const b = yield* ask("b")
      assert.strictEqual(yield* net.peers[0]!.text, "a\n")
      yield* net.peers[0]!.send("A\n")
      yield* settle
      assert.deepStrictEqual([outcome(a), outcome(b)], ["A", "waits"])
      assert.strictEqual(yield* net.peers[0]!.text, "a\nb\n")
      yield* net.peers[0]!.send("B\n")
      yield* settle
      assert.strictEqual(outcome(b), "B")
      // nobody needs it any more
      assert.strictEqual(net.live, 0)
    }))

  it.effect("F22 in order: answers of one read, and one answer in several reads, each find their request", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 4 })
      const all = [yield* ask("a"), yield* ask("b"), yield* ask("c"), yield* ask("d"), yield* ask("e")]
      const peer = net.peers[0]!
      assert.strictEqual(yield* peer.text, "a\nb\nc\nd\n")
      yield* peer.send("A\nB\nC")
      yield* settle
      assert.deepStrictEqual(all.map(outcome), ["A", "B", "waits", "waits", "waits"])
      yield* peer.send("c")
      yield* settle
      yield* peer.send("c\n", "D\n", "E\n")
      yield* settle
      assert.deepStrictEqual(all.map(outcome), ["A", "B", "Ccc", "D", "E"])
      assert.strictEqual(net.peers.length, 1)
    }))

  it.effect("by id: answers come in any order, what is no answer is dropped", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 3, correlate: byId })
      const all = [yield* ask("a"), yield* ask("b"), yield* ask("c")]
      const peer = net.peers[0]!
      assert.strictEqual(yield* peer.text, "1:a\n2:b\n3:c\n")
      yield* peer.send("3:C\nnews\n77:?\n1:A\n")
      yield* settle
      assert.deepStrictEqual(all.map(outcome), ["1:A", "waits", "3:C"])
      yield* peer.send("2:B\n")
      yield* settle
      assert.strictEqual(outcome(all[1]!), "2:B")
    }))

  it.effect("what comes unasked in order ends the connection: nobody can tell whose the next answer is", () =>
    Effect.gen(function*() {
      const net = network()
      const pool = yield* ConnectionPool.make(net.open, { max: 1 })
      const requests = yield* Request.make(pool.get, { inFlight: 2 })
      const a = yield* Effect.forkChild(requests.request("a"), started)
      yield* settle
      yield* net.peers[0]!.send("A\n??\n")
      yield* settle
      assert.deepStrictEqual([outcome(a), net.live], ["A", 0])
      const b = yield* Effect.forkChild(requests.request("b"), started)
      yield* settle
      yield* net.peers[1]!.send("B\n")
      yield* settle
      assert.strictEqual(outcome(b), "B")
      assert.strictEqual((yield* pool.stats).retired.abandoned, 1)
    }))

  it.effect("over a pool: as many connections as asked, each given back when nobody needs it", () =>
    Effect.gen(function*() {
      const net = network()
      net.peer = echo
      const pool = yield* ConnectionPool.make(net.open, { max: 3 })
      const requests = yield* Request.make(pool.get, { inFlight: 2, connections: 2 })
      const all = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, i) => `${i}`),
        (message) => requests.request(message),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(all, Array.from({ length: 20 }, (_, i) => `re ${i}`))
      yield* settle
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.inUse, stats.idle, stats.retired.abandoned], [0, 2, 0])
    }))

  it.effect("whoever asks on and on does not keep a connection for ever", () =>
    Effect.gen(function*() {
      const net = network()
      net.peer = echo
      const pool = yield* ConnectionPool.make(net.open, { max: 1 })
      // there is always a request on its way
      const requests = yield* Request.make(pool.get, { inFlight: 8 })
      const asking = yield* Effect.forEach(
        Array.from({ length: 8 }),
        () => Effect.forkChild(Effect.forever(requests.request("again")), started)
      )
      yield* settle
      assert.strictEqual((yield* pool.stats).inUse, 1)
      const served = yield* Effect.forkChild(pool.use(() => Effect.succeed("served")), started)
      for (let i = 0; i < 20_000 && outcome(served) === "waits"; i++) yield* Effect.yieldNow
      assert.strictEqual(outcome(served), "served")
      yield* Fiber.interruptAll(asking)
    }))

  it.effect("over one connection, and over a client", () =>
    Effect.gen(function*() {
      const net = network()
      net.peer = echo
      const connection = yield* net.open
      const overOne = yield* Request.make(connection, { inFlight: 2 })
      const ten = Array.from({ length: 10 }, (_, i) => `${i}`)
      const asked = (requests: Request.Requests<string>) =>
        Effect.forEach(ten, (message) => requests.request(message), { concurrency: "unbounded" })
      assert.deepStrictEqual(yield* asked(overOne), ten.map((message) => `re ${message}`))
      assert.deepStrictEqual(yield* asked(overOne), ten.map((message) => `re ${message}`))
      assert.strictEqual((yield* connection.snapshot).state, "open")

      const client = yield* Client.make(net.open, { policy: { retryJitter: "none" } })
      const overClient = yield* Request.make(client.connection, { inFlight: 2 })
      assert.deepStrictEqual(yield* asked(overClient), ten.map((message) => `re ${message}`))
      yield* net.peers.at(-1)!.reset
      yield* settle
      const later = yield* Effect.forkChild(overClient.request("later"), started)
      yield* adjust("1 second")
      assert.strictEqual(outcome(later), "re later")
      assert.strictEqual(net.peers.length, 3)
    }))
})

describe("what becomes of a request when its connection ends", () => {
  it.effect("B68 what was not written is sent again, what was is unknown", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 8 })
      const first = yield* ask("first")
      yield* net.peers[0]!.window(0)
      const writing = yield* ask("writing")
      const waiting = [yield* ask("a"), yield* ask("b")]
      yield* net.peers[0]!.reset
      yield* settle
      assert.deepStrictEqual([outcome(first), outcome(writing)], ["OutcomeUnknown", "OutcomeUnknown"])
      const peer = net.peers[1]!
      assert.strictEqual(yield* peer.text, "a\nb\n")
      yield* peer.send("A\nB\n")
      yield* settle
      assert.deepStrictEqual(waiting.map(outcome), ["A", "B"])
      const error = yield* Effect.flip(Fiber.join(first))
      assert.include(error.message, "it is unknown whether the request was carried out: reset by the peer")
    }))

  it.effect("B68 what is idempotent is sent again whatever happened", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 8 })
      const yes = yield* ask("yes", { idempotent: true })
      const no = yield* ask("no")
      yield* net.peers[0]!.end
      yield* settle
      assert.deepStrictEqual([outcome(yes), outcome(no)], ["waits", "OutcomeUnknown"])
      yield* net.peers[1]!.send("YES\n")
      yield* settle
      assert.strictEqual(outcome(yes), "YES")
    }))

  it.effect("B68 an answer that came before the end counts", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 8 })
      const a = yield* ask("a")
      const b = yield* ask("b")
      yield* net.peers[0]!.send("A\n")
      yield* net.peers[0]!.end
      yield* settle
      assert.deepStrictEqual([outcome(a), outcome(b)], ["A", "OutcomeUnknown"])
    }))

  it.effect("B68 not for ever", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ retries: 2 })
      net.peer = (peer) => Effect.andThen(peer.end, settle)
      const error = yield* Effect.flip(Fiber.join(yield* ask("a")))
      assert.deepStrictEqual([error.reason._tag, net.peers.length], ["Closed", 3])
    }))

  it.effect("B68 `giveUpOn`: after an end that it lists nothing is sent again", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 8, giveUpOn: ["Reset"] })
      const first = yield* ask("first", { idempotent: true })
      yield* net.peers[0]!.window(0)
      yield* ask("writing")
      const waiting = yield* ask("waiting")
      yield* net.peers[0]!.reset
      yield* settle
      assert.deepStrictEqual([outcome(first), outcome(waiting)], ["OutcomeUnknown", "Reset"])
      assert.strictEqual(net.peers.length, 1)
      // another end: one more try
      const next = yield* ask("next", { idempotent: true })
      yield* net.peers[1]!.end
      yield* settle
      yield* net.peers[2]!.send("NEXT\n")
      yield* settle
      assert.strictEqual(outcome(next), "NEXT")
    }))

  it.effect("B68 `retryOn`: after a defect what is idempotent is sent again, and nothing else", () =>
    Effect.gen(function*() {
      let isBroken = true
      const { ask, net } = yield* start({
        inFlight: 8,
        retryOn: ["Defect"],
        correlate: {
          ...byId,
          response: (message) => {
            if (isBroken) throw new Error("bug")
            return byId.response(message)
          }
        }
      })
      const yes = yield* ask("yes", { idempotent: true })
      const no = yield* ask("no")
      yield* net.peers[0]!.send("1:YES\n")
      yield* settle
      assert.deepStrictEqual([outcome(yes), outcome(no)], ["waits", "Defect"])
      isBroken = false
      assert.strictEqual(yield* net.peers[1]!.text, "3:yes\n")
      yield* net.peers[1]!.send("3:YES\n")
      yield* settle
      assert.strictEqual(outcome(yes), "3:YES")
    }))

  it.effect("a connection that cannot be had is the error of one request each, and nothing is left behind", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 2 })
      net.answer = Effect.andThen(Effect.sleep("1 second"), Effect.fail(refused))
      const all = [yield* ask("a"), yield* ask("b"), yield* ask("c")]
      yield* adjust("3 seconds")
      assert.deepStrictEqual(all.map(outcome), ["OpenFailed", "OpenFailed", "OpenFailed"])
      net.answer = Effect.die("bug")
      assert.strictEqual(outcome(yield* ask("d")), "Defect")
      assert.strictEqual(net.live, 0)
      net.answer = Effect.void
      net.peer = echo
      assert.strictEqual(outcome(yield* ask("e")), "re e")
    }))

  it.effect("what a codec cannot write is the error of its request, and harms nobody", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 2 })
      const a = yield* ask("a")
      const wrong = yield* ask("two\nlines")
      assert.strictEqual(outcome(wrong), "InvalidMessage")
      const b = yield* ask("b")
      yield* net.peers[0]!.send("A\nB\n")
      yield* settle
      assert.deepStrictEqual([outcome(a), outcome(b)], ["A", "B"])
    }))

  it.effect("requests that the outbox drops do not shift the answers", () =>
    Effect.gen(function*() {
      for (const overflow of ["drop-newest", "drop-oldest", "fail"] as const) {
        const { ask, net } = yield* start({ inFlight: 10, retries: 0 }, { overflow, outboxMessages: 1 })
        const first = yield* ask("first")
        yield* net.peers[0]!.window(0)
        const all = [first, yield* ask("taken"), yield* ask("queued"), yield* ask("over")]
        yield* net.peers[0]!.window(Infinity)
        yield* net.peers[0]!.send("FIRST\nTAKEN\nQUEUED\n")
        yield* settle
        assert.deepStrictEqual(
          all.map(outcome),
          overflow === "drop-oldest"
            ? ["OutcomeUnknown", "OutcomeUnknown", "OutcomeUnknown", "OutboxFull"]
            : ["FIRST", "TAKEN", "QUEUED", "OutboxFull"],
          overflow
        )
      }
    }))
})

describe("giving up", () => {
  it.effect("at the deadline, to the millisecond, and the late answer is for nobody", () =>
    Effect.gen(function*() {
      const net = network()
      const pool = yield* ConnectionPool.make(net.open, { max: 1 })
      const requests = yield* Request.make(pool.get, { deadline: "2 seconds" })
      const late = yield* Effect.forkChild(requests.request("late"), started)
      yield* adjust("1999 millis")
      assert.strictEqual(outcome(late), "waits")
      yield* adjust("1 millis")
      const error = yield* Effect.flip(Fiber.join(late))
      assert.deepStrictEqual({ ...error.reason }, { ...new ConnectionError.RequestTimeout({ limit: 2000 }) })
      yield* net.peers[0]!.send("LATE\n")
      yield* settle
      net.peer = echo
      assert.strictEqual(yield* requests.request("next"), "re next")
      assert.strictEqual((yield* pool.stats).retired.abandoned, 1)
      assert.strictEqual(yield* now, 2000)
    }))

  it.effect("the deadline covers the wait for a connection", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ deadline: "2 seconds" })
      net.answer = Effect.never
      const a = yield* ask("a")
      const b = yield* ask("b", { deadline: "5 seconds" })
      yield* adjust("2 seconds")
      assert.deepStrictEqual([outcome(a), outcome(b)], ["RequestTimeout", "waits"])
      yield* adjust("3 seconds")
      assert.strictEqual(outcome(b), "RequestTimeout")
    }))

  it.effect("in order: those behind get their own answers, and nobody else goes there", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 8 })
      const a = yield* ask("a")
      const b = yield* ask("b")
      const c = yield* ask("c")
      yield* Fiber.interrupt(b)
      const d = yield* ask("d")
      assert.strictEqual(yield* net.peers[0]!.text, "a\nb\nc\n")
      yield* net.peers[0]!.send("A\nB\n")
      yield* settle
      assert.deepStrictEqual([outcome(a), outcome(c), outcome(d)], ["A", "waits", "waits"])
      yield* net.peers[0]!.send("C\n")
      yield* settle
      assert.deepStrictEqual([outcome(c), net.peers.length], ["C", 2])
      yield* net.peers[1]!.send("D\n")
      yield* settle
      assert.strictEqual(outcome(d), "D")
    }))

  it.effect("by id: others go on, and the late answer is dropped", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 8, correlate: byId })
      const a = yield* ask("a")
      const b = yield* ask("b")
      yield* Fiber.interrupt(a)
      const c = yield* ask("c")
      yield* net.peers[0]!.send("1:A\n3:C\n2:B\n")
      yield* settle
      assert.deepStrictEqual([outcome(b), outcome(c), net.peers.length], ["2:B", "3:C", 1])
    }))

  it.effect("a request that waits for room in the outbox leaves no trace", () =>
    Effect.gen(function*() {
      const { ask, net } = yield* start({ inFlight: 8 }, { outboxMessages: 1 })
      const a = yield* ask("a")
      yield* net.peers[0]!.window(0)
      const all = [a, yield* ask("taken"), yield* ask("queued"), yield* ask("waits"), yield* ask("behind")]
      yield* Fiber.interrupt(all[3]!)
      yield* net.peers[0]!.window(Infinity)
      yield* settle
      assert.strictEqual(yield* net.peers[0]!.text, "a\ntaken\nqueued\nbehind\n")
      yield* net.peers[0]!.send("A\nTAKEN\nQUEUED\nBEHIND\n")
      yield* settle
      assert.deepStrictEqual(all.map(outcome), ["A", "TAKEN", "QUEUED", "Interrupt", "BEHIND"])
    }))

  for (const way of ["one", "order", "id"] as const) {
    it.effect(
      `B71 at every yield point: no lease is left, and no answer reaches another request (${way})`,
      () =>
        Effect.gen(function*() {
          const options = way === "one" ? {} : way === "order" ? { inFlight: 4 } : { inFlight: 4, correlate: byId }
          const answer = (message: string) =>
            way === "id" ? (text: string) => text.endsWith(`:${message}`) : (text: string) => text === `re ${message}`
          let interrupted = 0
          for (let ops = 3; ops <= 64; ops += often(3, 1)) {
            // every third point, and for the next budget another third: all of them take minutes
            let turns = ops % 3
            while (true) {
              let done = false
              const net = network()
              net.peer = way === "id" ? serve((line) => `${line}\n`) : echo
              const scope = yield* Scope.make()
              const pool = yield* Effect.gen(function*() {
                const pool = yield* ConnectionPool.make(net.open, { max: 2 })
                const requests = yield* Request.make(pool.get, { ...options, connections: 2, deadline: 0 })
                const before = yield* Effect.forkChild(requests.request("before"), started)
                const fiber = yield* Effect.forkChild(requests.request("interrupted"), started)
                const behind = yield* Effect.forkChild(requests.request("behind"), started)
                for (let i = 0; i < turns; i++) yield* Effect.yieldNow
                done = fiber.pollUnsafe() !== undefined
                if (!done) interrupted++
                yield* Fiber.interrupt(fiber)
                for (const [name, asked] of [["before", before], ["behind", behind]] as const) {
                  const text = yield* Fiber.join(asked)
                  assert.isTrue(answer(name)(text), `${ops} ${turns} ${name}: ${text}`)
                }
                const text = yield* requests.request("after")
                assert.isTrue(answer("after")(text), `${ops} ${turns} after: ${text}`)
                return pool
              }).pipe(Scope.provide(scope), Effect.provideService(Scheduler.MaxOpsBeforeYield, ops))
              yield* Effect.repeat(Effect.yieldNow, { times: 20 + Math.ceil(600 / ops) })
              const stats = yield* pool.stats
              assert.deepStrictEqual([stats.inUse, stats.waiting, stats.dialing], [0, 0, 0], `${ops} ${turns}`)
              yield* Scope.close(scope, Exit.void)
              assert.strictEqual(net.live, 0)
              if (done) break
              turns += 3
            }
          }
          assert.isAtLeast(interrupted, 62)
        }),
      long(60_000)
    )
  }

  it.effect("the scope closes: what is on its way fails, and nothing is left", () =>
    Effect.gen(function*() {
      const { ask, net, scope } = yield* start({ inFlight: 2 })
      const all = [yield* ask("a"), yield* ask("b"), yield* ask("c")]
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(all.map(outcome), ["OutcomeUnknown", "OutcomeUnknown", "Closed"])
      assert.strictEqual(net.live, 0)
      assert.strictEqual(outcome(yield* ask("d")), "Closed")
    }))
})

describe("once", () => {
  it.effect("dials, asks, closes", () =>
    Effect.gen(function*() {
      const net = network()
      net.peer = echo
      assert.strictEqual(yield* Request.once(net.open, "hello"), "re hello")
      assert.deepStrictEqual([net.live, net.peers.length], [0, 1])
      assert.isTrue((yield* net.peers[0]!.finished) !== false)
    }))

  it.effect("within its deadline, dialling included, and when it is interrupted", () =>
    Effect.gen(function*() {
      const net = network()
      net.answer = Effect.sleep("1 second")
      const a = yield* Effect.forkChild(Request.once(net.open, "a", { deadline: "3 seconds" }), started)
      const b = yield* Effect.forkChild(Request.once(net.open, "b"), started)
      yield* adjust("2999 millis")
      assert.deepStrictEqual([outcome(a), net.live], ["waits", 2])
      yield* adjust("1 millis")
      assert.deepStrictEqual([outcome(a), net.live], ["RequestTimeout", 1])
      yield* Fiber.interrupt(b)
      assert.strictEqual(net.live, 0)
    }))
})

describe("options", () => {
  it.effect("that make no sense are a defect that names them", () =>
    Effect.gen(function*() {
      for (const options of [{ inFlight: 0 }, { connections: 0 }, { retries: -1 }, { deadline: -1 }]) {
        const exit = yield* Effect.exit(Effect.scoped(Request.make(network().open, options)))
        assert.include(String(exit), Object.keys(options)[0]!)
      }
    }))
})

describe("supervision", () => {
  const bug = (): never => {
    throw new Error("bug")
  }

  it.effect("B100 a correlate.response that throws: all that wait settle with Defect, and the slot is free", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const net = network()
        const seen: Array<Conn> = []
        const open = Effect.tap(net.open, (connection) => Effect.sync(() => seen.push(connection)))
        const pool = yield* ConnectionPool.make(open, { max: 1 })
        const requests = yield* Request.make(pool.get, {
          inFlight: 3,
          deadline: 0,
          connections: 1,
          idempotent: true,
          correlate: { ...byId!, response: (message) => message === "bad" ? bug() : byId!.response(message) }
        })
        const ask = (message: string) => Effect.tap(Effect.forkChild(requests.request(message), started), () => settle)
        const all = [yield* ask("a"), yield* ask("b"), yield* ask("c"), yield* ask("d")]
        yield* net.peers[0]!.send("2:B\nbad\n1:A\n")
        yield* settle
        // what came before it is delivered, what waited for a place goes to the next connection
        assert.deepStrictEqual(all.map(outcome), ["Defect", "2:B", "Defect", "waits"])
        assert.deepInclude((yield* Effect.flip(Fiber.join(all[0]!))) as Failure, { isRetryable: false })
        assert.strictEqual((yield* seen[0]!.snapshot).reason?._tag, "Defect")
        assert.deepStrictEqual(logged, [`Error a defect in correlate of connection ${seen[0]!.id}: bug`])
        assert.deepStrictEqual([net.live, (yield* pool.stats).inUse], [1, 1])
        yield* net.peers[1]!.send("4:D\n")
        yield* settle
        assert.strictEqual(outcome(all[3]!), "4:D")
        assert.deepStrictEqual([(yield* pool.stats).inUse, (yield* pool.stats).idle], [0, 1])
      })
    ))

  it.effect("B100 a correlate.request that throws is a Defect of that request, and sends nothing", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { ask, net } = yield* start({
          inFlight: 2,
          deadline: 0,
          correlate: { ...byId!, request: (message, id) => message === "bad" ? bug() : byId!.request(message, id) }
        })
        const all = [yield* ask("a"), yield* ask("bad"), yield* ask("c")]
        assert.deepStrictEqual(all.map(outcome), ["waits", "Defect", "waits"])
        assert.strictEqual(yield* net.peers[0]!.text, "1:a\n3:c\n")
        yield* net.peers[0]!.send("3:C\n1:A\n")
        yield* settle
        assert.deepStrictEqual(all.map(outcome), ["1:A", "Defect", "3:C"])
        assert.deepStrictEqual([net.live, net.peers.length, logged.length], [0, 1, 1])
        assert.match(logged[0]!, /^Error a defect in correlate of connection \d+: bug$/)
      })
    ))

  it.effect("B100 a send or a dial that throws is a Defect, and is logged once", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const net = network()
        const open = Effect.map(net.open, (connection) => Connection.wrap(connection, { send: bug }))
        assert.deepInclude((yield* Effect.flip(Request.once(open, "a"))).reason, { _tag: "Defect", by: "send" })
        net.answer = Effect.sync(bug)
        assert.deepInclude((yield* Effect.flip(Request.once(net.open, "a"))).reason, { _tag: "Defect", by: "open" })
        assert.deepStrictEqual(
          [net.live, logged.map((line) => line.replace(/\d+/, "n"))],
          [0, ["Error a defect in send of connection n: bug", "Error a defect in open: bug"]]
        )
      })
    ))

  it.effect("B101 a reader that is killed, or dies, ends its connection, and every request on it is told", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        for (const way of ["interrupted", "dies"]) {
          const net = network()
          let reader: Fiber.Fiber<unknown, unknown> | undefined
          const open = Effect.map(net.open, (connection) =>
            Connection.wrap(connection, {
              receiveAll: Effect.withFiber((fiber) => {
                reader = fiber
                return Effect.tap(connection.receiveAll, () => way === "dies" ? Effect.die("bug") : Effect.void)
              })
            }))
          const requests = yield* Request.make(open, { connections: 1, inFlight: 2, deadline: 0 })
          const ask = (message: string) => Effect.forkChild(requests.request(message), started)
          const all = [yield* ask("a"), yield* ask("b"), yield* ask("c")]
          yield* settle
          if (way === "dies") yield* net.peers[0]!.send("A\n")
          else reader!.interruptUnsafe()
          yield* settle
          const told = way === "dies" ? "Defect" : "OutcomeUnknown"
          assert.deepStrictEqual(all.map(outcome), [told, told, "waits"], way)
          assert.deepStrictEqual([net.live, net.peers.length], [1, 2])
          assert.strictEqual(yield* net.peers[1]!.text, "c\n")
        }
        assert.strictEqual(logged.length, 1)
      })
    ))

  it.effect("B101 a dial that is killed tells a request, and a release that dies leaves none waiting", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { ask, net } = yield* start({ deadline: 0 })
        let dial: Fiber.Fiber<unknown, unknown> | undefined
        net.answer = Effect.withFiber((fiber) => {
          dial = fiber
          return Effect.never
        })
        const killed = yield* ask("a")
        dial!.interruptUnsafe()
        yield* settle
        assert.deepStrictEqual([outcome(killed), net.live], ["OpenFailed", 0])
        net.answer = Effect.addFinalizer(() => Effect.die("no")) as Effect.Effect<void>
        const lost = yield* ask("b")
        yield* net.peers[0]!.reset
        yield* settle
        assert.strictEqual(outcome(lost), "Defect")
        net.answer = Effect.void
        net.peer = echo
        assert.strictEqual(outcome(yield* ask("c")), "re c")
        assert.strictEqual(logged.length, 1)
      })
    ))

  it.effect("B103 a connection that is wrapped each time it is given is one connection, with what it knows", () =>
    Effect.gen(function*() {
      const net = network()
      const connection = yield* net.open
      const given = Effect.sync(() => Connection.wrap(connection, {}))
      const requests = yield* Request.make(given, { connections: 2, retries: 0, deadline: 0 })
      const all = yield* Effect.forEach(["a", "b"], (message) => Effect.forkChild(requests.request(message), started))
      yield* settle
      // two readers would take each other's answers
      assert.strictEqual(yield* net.peers[0]!.text, "a\n")
      yield* net.peers[0]!.send("A\n")
      yield* settle
      yield* net.peers[0]!.send("B\n")
      yield* settle
      assert.deepStrictEqual(all.map(outcome), ["A", "B"])
    }))

  it.effect("B103 of a wrapped connection, too, what no write had begun with is known not to be seen", () =>
    Effect.gen(function*() {
      const net = network()
      const open = Effect.map(net.open, (connection) => Connection.wrap(connection, {}))
      const requests = yield* Request.make(open, { connections: 1, inFlight: 3, retries: 0, deadline: 0 })
      const ask = (message: string) => Effect.tap(Effect.forkChild(requests.request(message), started), () => settle)
      const first = yield* ask("a")
      yield* net.peers[0]!.window(0)
      const all = [first, yield* ask("b"), yield* ask("c")]
      yield* net.peers[0]!.reset
      yield* settle
      assert.deepStrictEqual(all.map(outcome), ["OutcomeUnknown", "OutcomeUnknown", "Reset"])
    }))
})
