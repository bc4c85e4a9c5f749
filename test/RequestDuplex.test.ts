import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { Codec, Connection, type ConnectionError, type Policy, Request } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"
import { withLogs } from "./support/logs.ts"

type Failure = ConnectionError.ConnectionError

const quiet: Policy.Patch = { pingEvery: 0, silence: 0, writeStall: 0, frame: 0 }
const settle = Effect.repeat(Effect.yieldNow, { times: 80 })
const started = { startImmediately: true } as const

// `7? text` asks, `7! text` answers, `7+ text` answers in part, `7x` cancels, and the rest is pushed
const correlate = {
  request: (message: string, id: number) => `${id}? ${message}`,
  response: (message: string) => /^\d+[!+]/.test(message) ? Number.parseInt(message) : undefined,
  isLast: (message: string) => message.includes("!"),
  cancel: (id: number) => `${id}x`
}

const setup = (options?: Partial<Request.DuplexOptions<string, string>>, policy?: Policy.Patch) =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const connection = yield* Connection.make({ codec: Codec.lines(), policy: { ...quiet, ...policy } })(peer.socket)
    const duplex = yield* Request.duplex(connection, { correlate, ...options })
    return { peer, connection, duplex }
  })

const reasonOf = (exit: Exit.Exit<unknown, Failure>): string => {
  if (Exit.isSuccess(exit)) return `success: ${exit.value}`
  const found = exit.cause.reasons[0]!
  return found._tag === "Fail" ? found.error.reason._tag : found._tag
}

describe("requests beside pushes", () => {
  it.effect("answers in any order find their request, everything else is a push, and late answers are for nobody", () =>
    Effect.gen(function*() {
      const { duplex, peer } = yield* setup()
      const first = yield* Effect.forkChild(duplex.request("a"), started)
      const second = yield* Effect.forkChild(duplex.request("b"), started)
      yield* settle
      assert.strictEqual(yield* peer.take, "1? a\n2? b\n")
      yield* peer.send("news\n2! B\n9! nobody\n5? how are you\n1! A\n2! again\nmore\n")
      assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second)], ["1! A", "2! B"])
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(duplex.pushes, 3)), [
        "news",
        "5? how are you",
        "more"
      ])
      yield* duplex.send("5! fine")
      assert.strictEqual(yield* peer.take, "5! fine\n")
    }))

  it.effect("both ends ask at the same time", () =>
    Effect.gen(function*() {
      const { duplex, peer } = yield* setup()
      // what a server would do to its client
      yield* duplex.pushes.pipe(
        Stream.runForEach((message) => duplex.send(message.replace(/\?.*/, "! mine"))),
        Effect.forkScoped
      )
      const asking = yield* Effect.forkChild(duplex.request("yours"), started)
      yield* settle
      assert.strictEqual(yield* peer.take, "1? yours\n")
      yield* peer.send("1? theirs\n1! ours\n")
      assert.strictEqual(yield* Fiber.join(asking), "1! ours")
      yield* settle
      assert.strictEqual(yield* peer.take, "1! mine\n")
    }))

  it.effect("a request that gives up is cancelled: at its deadline, to the millisecond, and interrupted", () =>
    Effect.gen(function*() {
      const { duplex, peer } = yield* setup()
      const late = yield* Effect.forkChild(Effect.exit(duplex.request("a", { deadline: 250 })), started)
      const interrupted = yield* Effect.forkChild(duplex.request("b"), started)
      yield* settle
      yield* peer.take
      yield* TestClock.adjust(249)
      yield* settle
      assert.isUndefined(late.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(reasonOf(yield* Fiber.join(late)), "RequestTimeout")
      yield* settle
      assert.strictEqual(yield* peer.take, "1x\n")
      yield* Fiber.interrupt(interrupted)
      yield* settle
      assert.strictEqual(yield* peer.take, "2x\n")
      yield* peer.send("1! late\n2! late\nnews\n")
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(duplex.pushes, 1)), ["news"])
    }))

  it.effect("30 seconds is the deadline, 0 is none", () =>
    Effect.gen(function*() {
      const { duplex } = yield* setup()
      const usual = yield* Effect.forkChild(Effect.exit(duplex.request("a")), started)
      const patient = yield* Effect.forkChild(duplex.request("b", { deadline: 0 }), started)
      yield* settle
      yield* TestClock.adjust(29_999)
      assert.isUndefined(usual.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(reasonOf(yield* Fiber.join(usual)), "RequestTimeout")
      yield* TestClock.adjust("1 day")
      assert.isUndefined(patient.pollUnsafe())
    }))

  it.effect("a stream of answers ends with the last one, and one that is left early is cancelled", () =>
    Effect.gen(function*() {
      const { duplex, peer } = yield* setup()
      const all = yield* Effect.forkChild(Stream.runCollect(duplex.stream("a")), started)
      yield* settle
      assert.strictEqual(yield* peer.take, "1? a\n")
      yield* peer.send("1+ one\nnews\n1+ two\n1! three\n1+ late\n")
      assert.deepStrictEqual(yield* Fiber.join(all), ["1+ one", "1+ two", "1! three"])
      const some = yield* Effect.forkChild(Stream.runCollect(Stream.take(duplex.stream("b"), 1)), started)
      yield* settle
      assert.strictEqual(yield* peer.take, "2? b\n")
      yield* peer.send("2+ one\n2+ two\n")
      assert.deepStrictEqual(yield* Fiber.join(some), ["2+ one"])
      yield* settle
      assert.strictEqual(yield* peer.take, "2x\n")
    }))

  it.effect("a stream waits for each answer as long as its deadline, to the millisecond", () =>
    Effect.gen(function*() {
      const { duplex, peer } = yield* setup()
      const all = yield* Effect.forkChild(
        Effect.exit(Stream.runCollect(duplex.stream("a", { deadline: 100 }))),
        started
      )
      yield* settle
      yield* TestClock.adjust(99)
      yield* peer.send("1+ one\n")
      yield* settle
      yield* TestClock.adjust(99)
      yield* settle
      assert.isUndefined(all.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(reasonOf(yield* Fiber.join(all)), "RequestTimeout")
    }))

  it.effect("a stream that is not read holds back what comes, and nothing of it is lost", () =>
    Effect.gen(function*() {
      const { connection, duplex, peer } = yield* setup({ parts: 2 }, { inboxMessages: 4 })
      const pull = yield* Stream.toPull(duplex.stream("a"))
      const first = yield* Effect.forkChild(pull, started)
      yield* settle
      yield* peer.take
      const parts = Array.from({ length: 20 }, (_, i) => `1+ ${i}`)
      yield* peer.send("1+ first\n")
      assert.deepStrictEqual(yield* Fiber.join(first), ["1+ first"])
      yield* peer.send(...parts.map((part) => `${part}\n`), "1! last\n")
      yield* settle
      // two wait in the stream, one with the reader
      assert.isAtLeast((yield* connection.snapshot).inbox.messages, 4)
      const rest: Array<string> = []
      while (rest.at(-1) !== "1! last") {
        rest.push(...(yield* pull))
        yield* settle
      }
      assert.deepStrictEqual(rest, [...parts, "1! last"])
    }))

  for (const whenFull of ["suspend", "sliding", "dropping"] as const) {
    it.effect(`pushes that nobody takes: ${whenFull}`, () =>
      Effect.gen(function*() {
        const { duplex, peer } = yield* setup({ pushes: 2, whenFull })
        const asking = yield* Effect.forkChild(duplex.request("a"), started)
        yield* settle
        yield* peer.send("one\ntwo\nthree\nfour\n1! A\n")
        yield* settle
        assert.strictEqual(asking.pollUnsafe() === undefined, whenFull === "suspend")
        const taken = yield* Stream.runCollect(Stream.take(duplex.pushes, whenFull === "suspend" ? 4 : 2))
        assert.deepStrictEqual(
          taken,
          {
            suspend: ["one", "two", "three", "four"],
            sliding: ["three", "four"],
            dropping: ["one", "two"]
          }[whenFull]
        )
        assert.strictEqual(yield* Fiber.join(asking), "1! A")
      }))
  }

  it.effect("B68 the end: what the peer may have seen is unknown, what it cannot have seen has the reason", () =>
    Effect.gen(function*() {
      const { duplex, peer } = yield* setup()
      const seen = yield* Effect.forkChild(Effect.exit(duplex.request("a")), started)
      const streamed = yield* Effect.forkChild(Effect.exit(Stream.runCollect(duplex.stream("b"))), started)
      yield* settle
      yield* peer.take
      yield* peer.window(0)
      const first = yield* Effect.forkChild(duplex.send("x".repeat(100)), started)
      yield* settle
      const unseen = yield* Effect.forkChild(Effect.exit(duplex.request("c")), started)
      yield* settle
      yield* peer.reset
      assert.strictEqual(reasonOf(yield* Fiber.join(seen)), "OutcomeUnknown")
      assert.strictEqual(reasonOf(yield* Fiber.join(streamed)), "OutcomeUnknown")
      assert.strictEqual(reasonOf(yield* Fiber.join(unseen)), "Reset")
      yield* Fiber.join(first)
      assert.strictEqual(reasonOf(yield* Effect.exit(duplex.request("d"))), "Reset")
      assert.strictEqual(reasonOf(yield* Effect.exit(Stream.runDrain(duplex.pushes))), "Reset")
    }))

  it.effect("the end is told while nobody takes pushes, what had come is still there, and answers count", () =>
    Effect.gen(function*() {
      const { duplex, peer } = yield* setup({ pushes: 1 })
      const answered = yield* Effect.forkChild(Effect.exit(duplex.request("a")), started)
      const lost = yield* Effect.forkChild(Effect.exit(duplex.request("b")), started)
      yield* settle
      yield* peer.send("one\ntwo\nthree\n1! A\n")
      yield* peer.end
      yield* TestClock.adjust("20 seconds")
      yield* settle
      assert.deepStrictEqual([reasonOf(yield* Fiber.join(answered)), reasonOf(yield* Fiber.join(lost))], [
        "success: 1! A",
        "OutcomeUnknown"
      ])
      const pushes: Array<string> = []
      const exit = yield* Effect.exit(
        Stream.runForEach(duplex.pushes, (message) => Effect.sync(() => pushes.push(message)))
      )
      assert.deepStrictEqual([pushes, reasonOf(exit)], [["one", "two", "three"], "Closed"])
    }))

  it.effect("B100 correlate throws: `request` is the defect of its request alone, `response` ends the connection", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { connection, duplex, peer } = yield* setup({
          correlate: {
            request: (message, id) => {
              if (message === "bad") throw new Error("no id")
              return `${id}? ${message}`
            },
            response: (message) => {
              if (message === "odd") throw new Error("no answer")
              return correlate.response(message)
            }
          }
        })
        assert.strictEqual(reasonOf(yield* Effect.exit(duplex.request("bad"))), "Defect")
        const asking = yield* Effect.forkChild(Effect.exit(duplex.request("good")), started)
        yield* settle
        assert.strictEqual(yield* peer.take, "2? good\n")
        yield* peer.send("odd\n")
        yield* settle
        assert.strictEqual(reasonOf(yield* Fiber.join(asking)), "OutcomeUnknown")
        assert.strictEqual((yield* connection.snapshot).state, "ended")
        assert.deepStrictEqual(lines.map((line) => line.split(": ").at(-1)), ["no id", "no answer"])
      })
    ))

  it.effect("B100 what cannot be sent is the defect of its request or stream, and of a cancel it is logged", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        // no text: the codec throws
        const none = 1 as unknown as string
        const { connection, duplex, peer } = yield* setup({
          correlate: {
            request: (message, id) => message === "bad" ? none : `${id}? ${message}`,
            response: correlate.response,
            cancel: () => none
          }
        })
        assert.strictEqual(reasonOf(yield* Effect.exit(duplex.request("bad"))), "Defect")
        assert.strictEqual(reasonOf(yield* Effect.exit(Stream.runDrain(duplex.stream("bad")))), "Defect")
        const late = yield* Effect.forkChild(Effect.exit(duplex.request("good", { deadline: 250 })), started)
        yield* TestClock.adjust(250)
        yield* settle
        assert.strictEqual(reasonOf(yield* Fiber.join(late)), "RequestTimeout")
        assert.strictEqual(yield* peer.take, "3? good\n")
        const line = `Error a defect in send of connection ${connection.id}`
        assert.deepStrictEqual(lines.map((text) => text.split(": ")[0]), [line, line, line])
        assert.strictEqual((yield* connection.snapshot).state, "open")
      })
    ))

  it.effect("its scope closes: requests fail, nothing runs on, and the connection is there for others", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const connection = yield* Connection.make({ codec: Codec.lines(), policy: quiet })(peer.socket)
      const scope = yield* Scope.make()
      const duplex = yield* Scope.provide(Request.duplex(connection, { correlate }), scope)
      const asking = yield* Effect.forkChild(Effect.exit(duplex.request("a")), started)
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(reasonOf(yield* Fiber.join(asking)), "OutcomeUnknown")
      assert.strictEqual(reasonOf(yield* Effect.exit(duplex.request("b"))), "Closed")
      yield* peer.send("hello\n")
      assert.strictEqual(yield* connection.receive, "hello")
    }))

  it.effect("numbers that make no sense are a defect that names them", () =>
    Effect.gen(function*() {
      for (const [name, options] of Object.entries({ pushes: { pushes: 0 }, parts: { parts: 0 } })) {
        const exit = yield* Effect.exit(setup(options))
        const found = Exit.isFailure(exit) ? exit.cause.reasons[0]! : undefined
        assert.include(String(found?._tag === "Die" ? found.defect : found), name)
      }
    }))
})
