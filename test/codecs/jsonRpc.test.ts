import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { JsonRpc } from "../../src/codecs/index.ts"
import { Codec, Connection, Request } from "../../src/index.ts"
import { TestSocket } from "../../src/testing/index.ts"

const settle = Effect.repeat(Effect.yieldNow, { times: 80 })
const quiet = { pingEvery: 0, silence: 0, writeStall: 0, frame: 0 }

/** The methods of the specification's examples. */
const answer = ({ method, params }: JsonRpc.Asked): Effect.Effect<unknown, JsonRpc.Failure> => {
  switch (method) {
    case "subtract": {
      const [minuend, subtrahend] = Array.isArray(params)
        ? params as Array<number>
        : [(params as { minuend: number }).minuend, (params as { subtrahend: number }).subtrahend]
      return Effect.succeed(minuend! - subtrahend!)
    }
    case "sum":
      return Effect.succeed((params as Array<number>).reduce((a, b) => a + b, 0))
    case "get_data":
      return Effect.succeed(["hello", 5])
    case "update":
    case "notify_hello":
    case "notify_sum":
      return Effect.void
    default:
      return Effect.fail(JsonRpc.methodNotFound)
  }
}

const invalidRequest =
  "{\"jsonrpc\": \"2.0\", \"error\": {\"code\": -32600, \"message\": \"Invalid Request\"}, \"id\": null}"
const parseError = "{\"jsonrpc\": \"2.0\", \"error\": {\"code\": -32700, \"message\": \"Parse error\"}, \"id\": null}"

/** Section 7 of the specification, "Examples", each line as it is there: what is sent, and what comes back. */
const examples: ReadonlyArray<readonly [name: string, sent: string, answered: string | undefined]> = [
  [
    "positional parameters",
    "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": [42, 23], \"id\": 1}",
    "{\"jsonrpc\": \"2.0\", \"result\": 19, \"id\": 1}"
  ],
  [
    "positional parameters, the other way round",
    "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": [23, 42], \"id\": 2}",
    "{\"jsonrpc\": \"2.0\", \"result\": -19, \"id\": 2}"
  ],
  [
    "named parameters",
    "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": {\"subtrahend\": 23, \"minuend\": 42}, \"id\": 3}",
    "{\"jsonrpc\": \"2.0\", \"result\": 19, \"id\": 3}"
  ],
  [
    "named parameters, the other way round",
    "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": {\"minuend\": 42, \"subtrahend\": 23}, \"id\": 4}",
    "{\"jsonrpc\": \"2.0\", \"result\": 19, \"id\": 4}"
  ],
  ["a notification", "{\"jsonrpc\": \"2.0\", \"method\": \"update\", \"params\": [1,2,3,4,5]}", undefined],
  ["a notification of no method", "{\"jsonrpc\": \"2.0\", \"method\": \"foobar\"}", undefined],
  [
    "a method that is not there",
    "{\"jsonrpc\": \"2.0\", \"method\": \"foobar\", \"id\": \"1\"}",
    "{\"jsonrpc\": \"2.0\", \"error\": {\"code\": -32601, \"message\": \"Method not found\"}, \"id\": \"1\"}"
  ],
  ["invalid JSON", "{\"jsonrpc\": \"2.0\", \"method\": \"foobar, \"params\": \"bar\", \"baz]", parseError],
  ["an invalid request", "{\"jsonrpc\": \"2.0\", \"method\": 1, \"params\": \"bar\"}", invalidRequest],
  [
    "a batch of invalid JSON",
    "[ {\"jsonrpc\": \"2.0\", \"method\": \"sum\", \"params\": [1,2,4], \"id\": \"1\"}, {\"jsonrpc\": \"2.0\", \"method\" ]",
    parseError
  ],
  ["an empty array", "[]", invalidRequest],
  ["an invalid batch that is not empty", "[1]", `[${invalidRequest}]`],
  ["an invalid batch", "[1,2,3]", `[${invalidRequest}, ${invalidRequest}, ${invalidRequest}]`],
  [
    "a batch",
    "[ {\"jsonrpc\": \"2.0\", \"method\": \"sum\", \"params\": [1,2,4], \"id\": \"1\"}, " +
    "{\"jsonrpc\": \"2.0\", \"method\": \"notify_hello\", \"params\": [7]}, " +
    "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": [42,23], \"id\": \"2\"}, {\"foo\": \"boo\"}, " +
    "{\"jsonrpc\": \"2.0\", \"method\": \"foo.get\", \"params\": {\"name\": \"myself\"}, \"id\": \"5\"}, " +
    "{\"jsonrpc\": \"2.0\", \"method\": \"get_data\", \"id\": \"9\"} ]",
    "[ {\"jsonrpc\": \"2.0\", \"result\": 7, \"id\": \"1\"}, {\"jsonrpc\": \"2.0\", \"result\": 19, \"id\": \"2\"}, " +
    `${invalidRequest}, ` +
    "{\"jsonrpc\": \"2.0\", \"error\": {\"code\": -32601, \"message\": \"Method not found\"}, \"id\": \"5\"}, " +
    "{\"jsonrpc\": \"2.0\", \"result\": [\"hello\", 5], \"id\": \"9\"} ]"
  ],
  [
    "a batch of notifications",
    "[ {\"jsonrpc\": \"2.0\", \"method\": \"notify_sum\", \"params\": [1,2,4]}, " +
    "{\"jsonrpc\": \"2.0\", \"method\": \"notify_hello\", \"params\": [7]} ]",
    undefined
  ]
]

const request = (id: JsonRpc.Id, method: string, params?: unknown): JsonRpc.Asked =>
  params === undefined ? { _tag: "Request", id, method } : { _tag: "Request", id, method, params }

const batch = (first: JsonRpc.Asked, ...others: ReadonlyArray<JsonRpc.Asked>): JsonRpc.Batch => ({
  _tag: "Batch",
  messages: [first, ...others]
})

const failure = (result: Result.Result<unknown, { readonly _tag: string; readonly message: string }>) =>
  Result.isFailure(result) ? `${result.failure._tag}: ${result.failure.message}` : "success"

const lineOf = (count: number, member: string) => new TextEncoder().encode(`[${Array(count).fill(member).join()}]\n`)

for (const transport of ["stream", "messages"] as const) {
  describe(`JSON-RPC over ${transport}`, () => {
    const serve = (
      handle: (asked: JsonRpc.Asked) => Effect.Effect<unknown, JsonRpc.Failure>,
      options: { readonly concurrency?: number; readonly codec?: JsonRpc.Options } = {}
    ) =>
      Effect.gen(function*() {
        const peer = yield* TestSocket.make({ messages: transport === "messages" })
        const codec = JsonRpc.make({ invalid: "message", ...options.codec })
        const connection = yield* Connection.make(peer.socket, { codec, policy: quiet, transport })
        const serving = yield* Effect.forkChild(
          Stream.runForEach(Connection.messages(connection), JsonRpc.respond(connection.send, handle, options))
        )
        yield* settle
        const send = (text: string) => Effect.andThen(peer.send(transport === "stream" ? `${text}\n` : text), settle)
        return { connection, peer, send, serving }
      })

    for (const [name, sent, answered] of examples) {
      it.effect(`answers ${name} as the specification does`, () =>
        Effect.gen(function*() {
          const { peer, send } = yield* serve(answer)
          yield* send(sent)
          // a last request shows that the connection lives, and that nothing came before its answer
          yield* send("{\"jsonrpc\":\"2.0\",\"method\":\"sum\",\"params\":[1],\"id\":\"last\"}")
          const written = (yield* peer.written).map((frame) =>
            JSON.parse(typeof frame === "string" ? frame : new TextDecoder().decode(frame)) as unknown
          )
          assert.deepStrictEqual(written, [
            ...answered === undefined ? [] : [JSON.parse(answered) as unknown],
            { jsonrpc: "2.0", result: 1, id: "last" }
          ])
        }))
    }

    it.effect("the answers to a batch have its order, however many of its members are handled at a time", () =>
      Effect.gen(function*() {
        const gates = new Map([["a", Latch.makeUnsafe()], ["b", Latch.makeUnsafe()], ["c", Latch.makeUnsafe()]])
        const begun: Array<string> = []
        const handle = ({ method }: JsonRpc.Asked) => {
          begun.push(method)
          return Effect.as(gates.get(method)!.await, method)
        }
        const { peer, send } = yield* serve(handle, { concurrency: 2 })
        yield* send(
          `[${["a", "b", "c"].map((method) => `{"jsonrpc":"2.0","id":"${method}","method":"${method}"}`).join()}]`
        )
        assert.deepStrictEqual(begun, ["a", "b"])
        yield* gates.get("b")!.open
        yield* settle
        assert.deepStrictEqual(begun, ["a", "b", "c"])
        yield* gates.get("c")!.open
        yield* settle
        assert.deepStrictEqual(yield* peer.written, [])
        yield* gates.get("a")!.open
        yield* settle
        assert.deepStrictEqual(
          (JSON.parse(yield* peer.text) as Array<{ id: string }>).map(({ id }) => id),
          ["a", "b", "c"]
        )
      }))

    it.effect("a batch of more than maxBatch is answered as one invalid request, and nothing of it is handled", () =>
      Effect.gen(function*() {
        let handled = 0
        const { peer, send } = yield* serve(() => Effect.sync(() => ++handled), { codec: { maxBatch: 2 } })
        const one = "{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":1}"
        yield* send(`[${one},${one},${one}]`)
        assert.deepStrictEqual(JSON.parse(yield* peer.text) as unknown, JSON.parse(invalidRequest))
        assert.strictEqual(handled, 0)
        yield* send(`[${one},${one}]`)
        assert.strictEqual(handled, 2)
      }))

    it.effect("without `invalid: \"message\"` what is no message ends the connection, and a member of a batch does not", () =>
      Effect.gen(function*() {
        const { connection, peer, send } = yield* serve(answer, { codec: { invalid: "fail" } })
        yield* send("[1]")
        assert.deepStrictEqual(JSON.parse(yield* peer.text) as unknown, [JSON.parse(invalidRequest)])
        const ended = yield* Effect.forkChild(Effect.flip(connection.closed))
        yield* send("1")
        assert.strictEqual((yield* Fiber.join(ended)).reason._tag, "InvalidMessage")
      }))

    it.effect("a defect of a handler ends the connection's handler, and what its answer cannot hold fails `send`", () =>
      Effect.gen(function*() {
        const dying = yield* serve(() => {
          throw new Error("no")
        })
        yield* dying.send("[{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":1}]")
        assert.isTrue(Exit.hasDies(yield* Fiber.await(dying.serving)))
        const failing = yield* serve(() => Effect.succeed(1n))
        yield* failing.send("[{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":1}]")
        assert.include(String(yield* Effect.flip(Fiber.join(failing.serving))), "BigInt")
      }))

    it.effect("an interruption stops what is handled, and answers nothing", () =>
      Effect.gen(function*() {
        let interrupted = 0
        const { peer, send, serving } = yield* serve(
          () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++)),
          { concurrency: 2 }
        )
        const one = "{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":1}"
        yield* send(`[${one},${one},${one}]`)
        yield* Fiber.interrupt(serving)
        assert.strictEqual(interrupted, 2)
        assert.deepStrictEqual(yield* peer.written, [])
      }))
  })
}

describe("JSON-RPC", () => {
  it("a batch and an invalid message are written, and an empty batch and one over maxBatch are not", () => {
    const text = (message: JsonRpc.Message, options?: JsonRpc.Options) =>
      Result.map(Codec.encode(JsonRpc.make(options), message), (bytes) => new TextDecoder().decode(bytes))
    const asked = batch(request(1, "a", [1]), { _tag: "Notification", method: "b" })
    assert.deepStrictEqual(
      text(asked, { maxBatch: 2 }),
      Result.succeed(
        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"params\":[1]},{\"jsonrpc\":\"2.0\",\"method\":\"b\"}]\n"
      )
    )
    assert.match(failure(text(asked, { maxBatch: 1 })), /^InvalidMessage: .*a batch of 2 messages, and maxBatch is 1/)
    assert.match(
      failure(text({ _tag: "Batch", messages: [] as never })),
      /^InvalidMessage: .*a batch of no messages/
    )
    assert.deepStrictEqual(
      Result.map(
        text({ _tag: "Invalid", id: null, error: JsonRpc.invalidRequest, detail: "a" }),
        (line) => JSON.parse(line) as unknown
      ),
      Result.succeed(JSON.parse(invalidRequest) as unknown)
    )
    assert.throws(() => JsonRpc.make({ maxBatch: 0 }), RangeError)
  })

  const asked = { _tag: "Request", id: 1, method: "a" } as const
  const unreadable: ReadonlyArray<readonly [name: string, message: unknown]> = [
    ["params that are a number", { ...asked, params: 5 }],
    ["params that are null", { ...asked, params: null }],
    ["params that JSON makes text of", { ...asked, params: new Date(0) }],
    ["params that are a function", { ...asked, params: () => 1 }],
    ["no id", { ...asked, id: undefined }],
    ["an id of null", { ...asked, id: null }],
    ["an id of NaN", { ...asked, id: Number.NaN }],
    ["an id that JSON rounds", { ...asked, id: 2 ** 53 + 2 }],
    ["a method that is a number", { ...asked, method: 5 }],
    ["a result that is a function", { _tag: "Result", id: 1, result: () => 1 }],
    ["a result without an id", { _tag: "Result", id: null, result: 1 }],
    ["an error without a code", { _tag: "Error", id: 1, error: { message: "no" } }],
    ["an error whose code is no integer", { _tag: "Error", id: 1, error: { code: 1.5, message: "no" } }],
    ["an error without an id", { _tag: "Error", error: { code: 1, message: "no" } }],
    ["a batch of which one cannot be read", { _tag: "Batch", messages: [asked, { ...asked, params: 5 }] }],
    ["a batch in a batch", { _tag: "Batch", messages: [{ _tag: "Batch", messages: [asked] }] }],
    ["a batch with a hole", { _tag: "Batch", messages: Array.from({ length: 2 }) }],
    ["no message", undefined],
    ["a message of another kind", { _tag: "Other" }]
  ]
  for (const [name, message] of unreadable) {
    it(`B104 ${name}: what could not be read is not written`, () => {
      const encoded = Codec.encode(JsonRpc.make(), message as JsonRpc.Message)
      assert(Result.isFailure(encoded))
      assert.strictEqual(encoded.failure._tag, "InvalidMessage")
    })
  }

  it("B104 an id that would be answered as another is refused", () => {
    for (const id of ["12345678901234567890", "1e400"]) {
      const line = new TextEncoder().encode(`{"jsonrpc":"2.0","id":${id},"method":"a"}\n`)
      assert.include(Codec.decoder(JsonRpc.make()).write(line).error?.message, "exact")
    }
  })

  it("B104 an `Error` is written with its message, and what JSON makes nothing of is a result of null", () => {
    const round = (message: JsonRpc.Message) => {
      const wire = Result.getOrThrow(Codec.encode(JsonRpc.make(), message))
      return Codec.decoder(JsonRpc.make()).write(wire).messages
    }
    const error = Object.assign(new Error("no"), { code: 7 })
    assert.deepStrictEqual(round({ _tag: "Error", id: 1, error }), [{
      _tag: "Error",
      id: 1,
      error: { code: 7, message: "no" }
    }])
    assert.deepStrictEqual(round({ _tag: "Result", id: 1, result: { toJSON: () => undefined } }), [{
      _tag: "Result",
      id: 1,
      result: null
    }])
  })

  it("an invalid request has its id, and says what is wrong", () => {
    const decode = (line: string) =>
      Codec.decoder(JsonRpc.make({ invalid: "message" })).write(new TextEncoder().encode(`${line}\n`)).messages[0]
    const wrong: ReadonlyArray<readonly [line: string, id: JsonRpc.Id | null, detail: string]> = [
      ["{\"jsonrpc\":\"1.0\",\"method\":\"a\",\"id\":7}", 7, "jsonrpc is not \"2.0\""],
      ["{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":null}", null, "id is neither text nor a number that is exact"],
      ["{\"jsonrpc\":\"2.0\",\"id\":\"x\"}", "x", "it has no method, no result and no error"],
      ["{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"params\":1,\"id\":1}", 1, "params are neither an object nor an array"]
    ]
    for (const [line, id, detail] of wrong) {
      assert.deepStrictEqual(decode(line), { _tag: "Invalid", id, error: JsonRpc.invalidRequest, detail })
      assert.deepStrictEqual(decode(`[${line}]`), {
        _tag: "Batch",
        messages: [{ _tag: "Invalid", id, error: JsonRpc.invalidRequest, detail }]
      })
    }
    assert.deepInclude(decode("[[]]"), { _tag: "Batch" })
  })

  it("a batch of many small members costs no memory before it is refused", () => {
    const { error, messages } = Codec.decoder(JsonRpc.make()).write(lineOf(300_000, "1"))
    assert.deepStrictEqual(messages, [])
    assert.match(String(error?.message), /a batch of 300000 messages, and maxBatch is 100/)
    const heavy = Codec.decoder(JsonRpc.make({ invalid: "message" })).write(lineOf(240_000, "{}"))
    assert.deepInclude(heavy.messages[0], { _tag: "Invalid", error: JsonRpc.parseError })
  })

  it.effect("a batch is one request of `Request.make` and of `duplex`, and each answer has its place", () =>
    Effect.gen(function*() {
      const asked = batch(request(0, "a"), { _tag: "Notification", method: "b" }, request(0, "c"), request(0, "d"))
      const reply = (id: number) =>
        `[{"jsonrpc":"2.0","id":"${id}.2","error":{"code":1,"message":"no"}},{"jsonrpc":"2.0","id":null,"error":{"code":2,"message":"?"}},` +
        `{"jsonrpc":"2.0","id":"${id}.0","result":"A"},{"jsonrpc":"2.0","id":"${id}.99","result":"far"}]\n`
      const expected = [
        { _tag: "Result", id: "2.0", result: "A" },
        undefined,
        { _tag: "Error", id: "2.2", error: { code: 1, message: "no" } },
        undefined
      ]
      const options = { correlate: JsonRpc.correlate, inFlight: 4 }
      for (const kind of ["make", "duplex"] as const) {
        const peer = yield* TestSocket.make()
        const scope = yield* Scope.make()
        const connection = yield* Connection.make(peer.socket, { codec: JsonRpc.make(), policy: quiet })
        const { request: ask } = kind === "make"
          ? yield* Scope.provide(Request.make(connection, options), scope)
          : yield* Scope.provide(Request.duplex(connection, options), scope)
        const single = yield* Effect.forkChild(ask(request("mine", "one")), { startImmediately: true })
        const many = yield* Effect.forkChild(ask(asked), { startImmediately: true })
        yield* settle
        assert.deepStrictEqual(
          (yield* peer.take).trim().split("\n").map((line) => JSON.parse(line) as unknown),
          [
            { jsonrpc: "2.0", id: 1, method: "one" },
            [
              { jsonrpc: "2.0", id: "2.0", method: "a" },
              { jsonrpc: "2.0", method: "b" },
              { jsonrpc: "2.0", id: "2.2", method: "c" },
              { jsonrpc: "2.0", id: "2.3", method: "d" }
            ]
          ]
        )
        yield* peer.send(reply(2), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"one\"}\n")
        assert.deepStrictEqual(JsonRpc.answersTo(asked, yield* Fiber.join(many)), expected as never)
        assert.deepInclude(yield* Fiber.join(single), { result: "one" })
        yield* Scope.close(scope, Exit.void)
      }
    }))
})
