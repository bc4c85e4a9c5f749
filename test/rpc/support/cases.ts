/** The cases of the suite: what a caller does, and what it gets, whatever carries the call. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type { RpcClient } from "effect/rpc"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { until } from "../../node/fixtures/kit.ts"
import type { Calls, More, Record } from "./group.ts"

export interface Stage {
  readonly client: RpcClient.FromGroup<typeof Calls, RpcClientError>
  readonly more: RpcClient.FromGroup<typeof More, RpcClientError>
  readonly record: Record
  /** A text that no other run of a case has. */
  readonly key: string
}

export interface Case {
  readonly name: string
  readonly expected: unknown
  readonly run: (stage: Stage) => Effect.Effect<unknown, unknown, Scope.Scope>
}

/** An exit as plain data: tags, messages, interruption. */
export const plain = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isSuccess(exit) ? exit.value : exit.cause.reasons.map((reason) => {
    switch (reason._tag) {
      case "Fail":
        return `fail ${JSON.stringify(reason.error)}`
      case "Die":
        return `die ${reason.defect instanceof Error ? reason.defect.message : String(reason.defect)}`.split("\n")[0]
      default:
        return "interrupt"
    }
  })

const ending = (effect: Effect.Effect<unknown, unknown>): Effect.Effect<unknown> =>
  Effect.map(Effect.exit(effect), plain)

const is = (
  name: string,
  expected: unknown,
  run: (stage: Stage) => Effect.Effect<unknown, unknown, Scope.Scope>
): Case => ({ name, expected, run })

const size = (effect: Effect.Effect<string, unknown>) => Effect.map(effect, (text) => text.length)

const rich = {
  at: new Date(86_400_000),
  big: 12_345_678_901_234_567_890n,
  some: Option.some("this"),
  bytes: new Uint8Array([0, 1, 254, 255]),
  map: new Map([["a", 1], ["b", 2]])
}

const unary: ReadonlyArray<Case> = [
  ...["", "hello", "héllo wörld", "日本語 🎉", "a\nb\r\nc", "\u0000\u0001", "\"quoted\" \\ back", "{\"_tag\":\"Exit\"}"]
    .map((text) => is(`echoes ${JSON.stringify(text)}`, text, ({ client }) => client.Echo({ text }))),
  is(
    "carries dates, big integers, options, bytes and maps",
    rich,
    ({ client }) =>
      Effect.map(client.Rich({ value: rich }), (value) => ({ ...value, bytes: new Uint8Array(value.bytes) }))
  ),
  is("answers nothing", undefined, ({ client }) => client.Nothing()),
  ...[[1, 2], [-1, 1], [0.1, 0.2], [2 ** 52, 1], [1e300, 1e300]].map(([a, b]) =>
    is(`adds ${a} and ${b}`, a! + b!, ({ client }) => client.Add({ a: a!, b: b! }))
  ),
  is("200 calls at once, each with its own answer", true, ({ client }) =>
    Effect.map(
      Effect.forEach(Array.from({ length: 200 }, (_, i) => i), (i) => client.Add({ a: i, b: 1 }), {
        concurrency: "unbounded"
      }),
      (all) => all.every((sum, i) => sum === i + 1)
    )),
  is(
    "calls one after the other",
    [1, 2, 3, 4, 5],
    ({ client }) => Effect.forEach([0, 1, 2, 3, 4], (a) => client.Add({ a, b: 1 }))
  ),
  is("headers of a call", "yes", ({ client }) => client.Head({ name: "x-it" }, { headers: { "X-It": "yes" } })),
  is("a header that is not there", null, ({ client }) => client.Head({ name: "x-other" })),
  is("a call that is discarded is made", true, ({ client, key, record }) =>
    Effect.andThen(
      client.Mark({ key }, { discard: true }),
      Effect.as(record.wait("done", key), true)
    )),
  is("what is answered late", "gave", ({ client, key, record }) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(client.Hang({ key }))
      yield* record.wait("began", key)
      yield* client.Give({ key })
      return (yield* Fiber.join(fiber)).split(" ")[0]
    })),
  is(
    "answers in another order than the questions",
    ["second", "first"],
    ({ client, key, record }) =>
      Effect.gen(function*() {
        const order: Array<string> = []
        const ask = (name: string) => Effect.map(client.Hang({ key: key + name }), () => void order.push(name))
        const first = yield* Effect.forkChild(ask("first"))
        const second = yield* Effect.forkChild(ask("second"))
        yield* record.wait("began", `${key}first`)
        yield* record.wait("began", `${key}second`)
        yield* client.Give({ key: `${key}second` })
        yield* Fiber.join(second)
        yield* client.Give({ key: `${key}first` })
        yield* Fiber.join(first)
        return order
      })
  )
]

const large: ReadonlyArray<Case> = [
  ...[1000, 65_536, 300_000, 1_500_000].map((n) =>
    is(`a question of ${n} characters`, n, ({ client }) => size(client.Echo({ text: "x".repeat(n) })))
  ),
  ...[1000, 65_536, 300_000, 1_500_000].map((n) =>
    is(`an answer of ${n} characters`, n, ({ client }) => size(client.Grow({ size: n })))
  ),
  is(
    "200,000 bytes both ways",
    200_000,
    ({ client }) => Effect.map(client.Blob({ bytes: new Uint8Array(200_000).fill(7) }), (bytes) => bytes.length)
  ),
  is(
    "a small answer while a large one is on its way",
    [3, 1_000_000],
    ({ client }) =>
      Effect.all([client.Add({ a: 1, b: 2 }), size(client.Grow({ size: 1_000_000 }))], { concurrency: "unbounded" })
  )
]

const failures: ReadonlyArray<Case> = [
  is("a typed failure", [`fail {"_tag":"NotFound","id":12}`], ({ client }) => ending(client.Find({ id: 12 }))),
  is(
    "the other typed failure",
    [`fail {"_tag":"Denied","why":"negative"}`],
    ({ client }) => ending(client.Find({ id: -1 }))
  ),
  is("success beside typed failures", "item 3", ({ client }) => client.Find({ id: 3 })),
  is(
    "a typed failure is an instance of its class",
    true,
    ({ client }) =>
      Effect.match(client.Find({ id: 12 }), {
        onSuccess: () => false,
        onFailure: (e) => e._tag === "NotFound" && e.id === 12
      })
  ),
  is("a defect", ["die boom"], ({ client }) => ending(client.Die({ what: "boom" }))),
  is("a handler that throws", ["die thrown"], ({ client }) => ending(client.Throw())),
  is(
    "calls go on after a defect",
    3,
    ({ client }) => Effect.andThen(ending(client.Die({ what: "boom" })), client.Add({ a: 1, b: 2 }))
  ),
  is(
    "a call that the server does not know",
    ["die Unknown request tag: Unknown"],
    ({ more }) => ending(more.Unknown())
  ),
  is(
    "a payload that the server does not take",
    true,
    ({ more }) => Effect.map(ending(more.Strict({ n: 12 })), (told) => String(told).includes("less than 10"))
  ),
  is(
    "an answer that cannot be encoded",
    true,
    ({ client }) =>
      Effect.map(ending(client.Wrong()), (told) => String(told).includes("Failed to encode response for RPC \"Wrong\""))
  ),
  is(
    "calls go on after an answer that cannot be encoded",
    3,
    ({ client }) => Effect.andThen(ending(client.Wrong()), client.Add({ a: 1, b: 2 }))
  )
]

const interruption: ReadonlyArray<Case> = [
  is("a caller that is interrupted interrupts its handler", true, ({ client, key, record }) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(client.Hang({ key }))
      yield* record.wait("began", key)
      yield* Fiber.interrupt(fiber)
      yield* record.wait("interrupted", key)
      return true
    })),
  is("a timeout of the caller interrupts its handler", true, ({ client, key, record }) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Effect.timeout(client.Hang({ key }), 20))
      if (record.began.has(key)) yield* record.wait("interrupted", key)
      return Exit.isFailure(exit)
    })),
  is("an interrupted call disturbs no other", [3, "gave"], ({ client, key, record }) =>
    Effect.gen(function*() {
      const kept = yield* Effect.forkChild(client.Hang({ key: `${key}a` }))
      const given = yield* Effect.forkChild(client.Hang({ key: `${key}b` }))
      yield* record.wait("began", `${key}a`)
      yield* record.wait("began", `${key}b`)
      yield* Fiber.interrupt(given)
      const sum = yield* client.Add({ a: 1, b: 2 })
      yield* client.Give({ key: `${key}a` })
      return [sum, (yield* Fiber.join(kept)).split(" ")[0]]
    })),
  is("50 interrupted calls interrupt 50 handlers", 50, ({ client, key, record }) =>
    Effect.gen(function*() {
      const keys = Array.from({ length: 50 }, (_, i) => `${key}-${i}`)
      const fibers = yield* Effect.forEach(keys, (key) => Effect.forkChild(client.Hang({ key })))
      for (const key of keys) yield* record.wait("began", key)
      yield* Fiber.interruptAll(fibers)
      for (const key of keys) yield* record.wait("interrupted", key)
      return keys.length
    })),
  is(
    "a handler that is interrupted interrupts its caller",
    ["interrupt"],
    ({ client, key }) => ending(client.Stop({ key }))
  ),
  is(
    "calls go on after an interrupted handler",
    3,
    ({ client, key }) => Effect.andThen(ending(client.Stop({ key })), client.Add({ a: 1, b: 2 }))
  )
]

const streams: ReadonlyArray<Case> = [
  ...[1, 2, 16, 17, 1000].map((to) =>
    is(
      `a stream of ${to}`,
      to,
      ({ client }) =>
        Effect.map(Stream.runCollect(client.Count({ to })), (all) => all.every((n, i) => n === i + 1) ? all.length : -1)
    )
  ),
  is("a stream of a queue", [0, 1, 2, 3], ({ client }) => Stream.runCollect(client.Queued({ to: 4 }))),
  is("an empty stream", [], ({ client }) => Stream.runCollect(client.Queued({ to: 0 }))),
  is(
    "a stream of large elements",
    100_000 * 12,
    ({ client }) => Stream.runFold(client.Wide({ to: 12, size: 100_000 }), () => 0, (sum, text) => sum + text.length)
  ),
  is("a stream that fails", [[1, 2, 3], [`fail {"_tag":"NotFound","id":3}`]], ({ client }) =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const exit = yield* ending(
        Stream.runForEach(client.Fails({ after: 3 }), (n) => Effect.sync(() => void seen.push(n)))
      )
      return [seen, exit]
    })),
  is("a stream that dies", ["die after 2"], ({ client }) => ending(Stream.runDrain(client.Dies({ after: 2 })))),
  is(
    "a stream that is left early ends at the server",
    [0, 1, 2],
    ({ client, key, record }) =>
      Effect.tap(Stream.runCollect(Stream.take(client.Endless({ key }), 3)), () => record.wait("done", key))
  ),
  is("a stream that is interrupted ends at the server", true, ({ client, key, record }) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(Stream.runDrain(client.Endless({ key })))
      yield* record.wait("began", key)
      yield* Fiber.interrupt(fiber)
      yield* record.wait("done", key)
      return true
    })),
  is(
    "a silent stream that is interrupted ends at the server",
    true,
    ({ client, key, record }) =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(Stream.runDrain(client.Silent({ key })))
        yield* record.wait("began", key)
        yield* Fiber.interrupt(fiber)
        yield* record.wait("done", key)
        return true
      })
  ),
  is("a reader that is slow holds the server back", true, ({ client, key, record }) =>
    Effect.gen(function*() {
      const queue = yield* client.Endless({ key }, { asQueue: true, streamBufferSize: 4 })
      yield* until("the first ones", () => (record.made.get(key) ?? 0) >= 4)
      yield* Effect.sleep(30)
      const held = record.made.get(key)!
      // the buffer, and what was on its way
      return held <= 16 && (yield* Queue.take(queue)) === 0
    })),
  is("and gets every element", true, ({ client, key }) =>
    Effect.gen(function*() {
      const queue = yield* client.Endless({ key }, { asQueue: true, streamBufferSize: 2 })
      for (let i = 0; i < 100; i++) {
        if ((yield* Queue.take(queue)) !== i) return i
        if (i % 10 === 0) yield* Effect.yieldNow
      }
      return true
    })),
  is(
    "calls are answered beside a stream",
    [3, 100],
    ({ client }) =>
      Effect.all([client.Add({ a: 1, b: 2 }), Stream.runCount(client.Count({ to: 100 }))], { concurrency: "unbounded" })
  ),
  is("20 streams at once", 20 * 50, ({ client }) =>
    Effect.map(
      Effect.forEach(Array.from({ length: 20 }), () => Stream.runCount(client.Count({ to: 50 })), {
        concurrency: "unbounded"
      }),
      (counts) => counts.reduce((a, b) => a + b, 0)
    )),
  is(
    "a stream with a small buffer",
    64,
    ({ client }) => Stream.runCount(client.Count({ to: 64 }, { streamBufferSize: 1 }))
  )
]

export const cases: ReadonlyArray<Case> = [...unary, ...large, ...failures, ...interruption, ...streams]

export const causeOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""
