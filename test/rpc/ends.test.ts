/** What becomes of calls when connections end, servers stop, peers misbehave: what Effect's own protocol has no word for. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import { RpcClient, RpcSerialization, RpcServer } from "effect/rpc"
import { RpcClientError } from "effect/rpc/RpcClientError"
import type { FromServerEncoded } from "effect/rpc/RpcMessage"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as SocketServer from "effect/socket/SocketServer"
import * as Stream from "effect/Stream"
import { Protocol, Registry } from "../../src/index.ts"
import { Listener } from "../../src/node/index.ts"
import { ClientProtocol, ServerProtocol } from "../../src/rpc/index.ts"
import { rawClient } from "../integration/support/ways.ts"
import { portOf, until } from "../node/fixtures/kit.ts"
import { Calls, handlers, Record } from "./support/group.ts"
import { type By, dialTo, stageOf } from "./support/stages.ts"

type ServerOptions = ServerProtocol.Options

/** A server on a port, which can be stopped. */
const serverOn = (port: number, options: ServerOptions = {}, onClosing: Effect.Effect<void> = Effect.void) =>
  Effect.gen(function*() {
    const record = new Record()
    const scope = yield* Scope.make()
    const listener = yield* Effect.orDie(Scope.provide(Listener.make(`tcp://127.0.0.1:${port}`), scope))
    const live = RpcServer.layer(Calls).pipe(
      Layer.provide(handlers(record)),
      Layer.provide(ServerProtocol.layer({ logs: false, ...options })),
      Layer.provide(RpcSerialization.layerNdjson),
      Layer.provide(Layer.succeed(SocketServer.SocketServer, listener))
    )
    yield* Layer.buildWithScope(live, scope)
    yield* Scope.addFinalizer(scope, onClosing)
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    return { record, port: portOf(listener), stop: Scope.close(scope, Exit.void) }
  }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

const clientOf = (port: number, options: ClientProtocol.Options & ClientProtocol.OpenOptions = {}) =>
  Effect.gen(function*() {
    const protocol = ClientProtocol.layer(dialTo(`tcp://127.0.0.1:${port}`), options)
    const context = yield* Layer.build(Layer.provide(protocol, RpcSerialization.layerNdjson))
    return yield* Effect.provideContext(RpcClient.make(Calls), context)
  })

const quick = { retryBase: 10, retryCap: 40, retryJitter: "none" } as const

/** Why a call has no answer. */
const refusalOf = (exit: Exit.Exit<unknown, unknown>) => {
  assert.isTrue(Exit.isFailure(exit))
  const error = exit._tag === "Failure" ? exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error : undefined
  assert.instanceOf(error, RpcClientError)
  const reason = ClientProtocol.reasonOf(error)
  return [ClientProtocol.wasExecuted(error), reason._tag === "Some" ? reason.value.reason._tag : "none"]
}

describe("calls and the ends of connections", () => {
  it.live("a call on its way when the server dies has an unknown outcome, and the next ones go to its successor", () =>
    Effect.gen(function*() {
      const first = yield* serverOn(0, { policy: { drain: 0 } })
      const client = yield* clientOf(first.port, { policy: quick })
      assert.strictEqual(yield* client.Add({ a: 1, b: 1 }), 2)
      const hanging = yield* Effect.forkChild(Effect.exit(client.Hang({ key: "a" })))
      const streaming = yield* Effect.forkChild(Effect.exit(Stream.runDrain(client.Silent({ key: "s" }))))
      yield* first.record.wait("began", "a")
      yield* first.record.wait("began", "s")
      yield* first.stop
      assert.deepStrictEqual(refusalOf(yield* Fiber.join(hanging)), ["unknown", "OutcomeUnknown"])
      assert.deepStrictEqual(refusalOf(yield* Fiber.join(streaming)), ["unknown", "OutcomeUnknown"])
      // made while there is no server
      const meanwhile = yield* Effect.forkChild(client.Add({ a: 2, b: 2 }))
      yield* Effect.sleep(30)
      assert.isUndefined(meanwhile.pollUnsafe())
      yield* serverOn(first.port)
      assert.strictEqual(yield* Fiber.join(meanwhile), 4)
    }))

  it.live("a call that may be executed twice is sent to the successor", () =>
    Effect.gen(function*() {
      const first = yield* serverOn(0, { policy: { drain: 0 } })
      const client = yield* clientOf(first.port, { policy: quick, idempotent: (tag) => tag === "Hang" })
      const hanging = yield* Effect.forkChild(client.Hang({ key: "a" }))
      yield* first.record.wait("began", "a")
      yield* first.stop
      const second = yield* serverOn(first.port)
      yield* second.record.wait("began", "a")
      yield* client.Give({ key: "a" })
      assert.strictEqual(yield* Fiber.join(hanging), "gave a")
    }))

  it.live("a policy that gives up ends calls with the reason, and they were not executed", () =>
    Effect.gen(function*() {
      const first = yield* serverOn(0, { policy: { drain: 0 } })
      const client = yield* clientOf(first.port, { policy: { ...quick, retryAttempts: 2 } })
      yield* client.Nothing()
      yield* first.stop
      const exit = yield* Effect.exit(client.Nothing())
      assert.deepStrictEqual(refusalOf(exit), ["no", "OpenFailed"])
    }))

  it.live("calls beyond the bound of those that wait for a connection fail at once", () =>
    Effect.gen(function*() {
      const client = yield* clientOf(1, { policy: { offlineMessages: 2 } })
      const waiting = yield* Effect.forEach([1, 2], () => Effect.forkChild(client.Nothing()))
      yield* Effect.yieldNow
      assert.deepStrictEqual(refusalOf(yield* Effect.exit(client.Nothing())), ["no", "Offline"])
      yield* Fiber.interruptAll(waiting)
    }))

  for (const policy of [{ offlineMessages: 0 }, { whenOffline: "fail" }] as const) {
    it.live(`where no call may wait (${JSON.stringify(policy)}), those that find a connection are sent`, () =>
      Effect.gen(function*() {
        const server = yield* serverOn(0, { policy: { drain: 0 } })
        const client = yield* clientOf(server.port, { policy: { ...quick, ...policy } })
        yield* Effect.retry(client.Nothing(), { times: 500, schedule: Schedule.spaced(5) })
        const sums = yield* Effect.forEach([1, 2, 3], (a) => client.Add({ a, b: 1 }), { concurrency: "unbounded" })
        assert.deepStrictEqual(sums, [2, 3, 4])
        const hanging = yield* Effect.forkChild(client.Hang({ key: "a" }))
        yield* server.record.wait("began", "a")
        yield* Fiber.interrupt(hanging)
        yield* server.stop
        yield* Effect.retry(Effect.flip(client.Nothing()), { times: 500, schedule: Schedule.spaced(5) })
        assert.deepStrictEqual(refusalOf(yield* Effect.exit(client.Nothing())), ["no", "Offline"])
      }))
  }

  it.live("options that make no sense are refused by name", () =>
    Effect.gen(function*() {
      assert.throws(() => ServerProtocol.make({ requests: 0 }), /requests must be at least 1/)
      for (const options of [{ waiting: NaN }, { waiting: -1 }, { retries: NaN }, { inFlight: 0 }]) {
        const exit = yield* Effect.exit(Effect.scoped(clientOf(1, options)))
        assert.include(String(exit), "must be at least", JSON.stringify(options))
      }
    }))

  it.live("a server that stops answers the calls it has, and lets streams flow on", () =>
    Effect.gen(function*() {
      const server = yield* serverOn(0)
      const client = yield* clientOf(server.port, { policy: quick })
      const hanging = yield* Effect.forkChild(client.Hang({ key: "a" }))
      const seen: Array<number> = []
      const streaming = yield* Effect.forkChild(
        Stream.runForEach(client.Count({ to: 200 }), (n) =>
          Effect.andThen(Effect.sleep(n < 4 ? 10 : 0), Effect.sync(() => seen.push(n))))
      )
      yield* server.record.wait("began", "a")
      yield* until("the first element", () =>
        seen.length > 0)
      const stopping = yield* Effect.forkChild(server.stop)
      yield* Effect.sleep(20)
      assert.isUndefined(stopping.pollUnsafe())
      server.record.gates.get("a")!()
      assert.strictEqual(yield* Fiber.join(hanging), "gave a")
      yield* Fiber.join(streaming)
      assert.strictEqual(seen.length, 200)
      yield* Fiber.join(stopping)
    }))

  it.live("a client that is asked to leave makes its next calls elsewhere", () =>
    Effect.gen(function*() {
      const first = yield* serverOn(0)
      const client = yield* clientOf(first.port, { policy: quick })
      const hanging = yield* Effect.forkChild(client.Hang({ key: "a" }))
      yield* first.record.wait("began", "a")
      const stopping = yield* Effect.forkChild(first.stop)
      yield* Effect.sleep(20)
      const next = yield* Effect.forkChild(client.Add({ a: 1, b: 1 }))
      first.record.gates.get("a")!()
      assert.strictEqual(yield* Fiber.join(hanging), "gave a")
      yield* Fiber.join(stopping)
      yield* serverOn(first.port)
      assert.strictEqual(yield* Fiber.join(next), 2)
    }))

  it.live("a reader that takes nothing holds back no other call, and its connection lives", () =>
    Effect.gen(function*() {
      const server = yield* serverOn(0, { policy: { minPingEvery: 0 } })
      // pings, and a silence that the stream alone would break
      const client = yield* clientOf(server.port, { policy: { pingEvery: 40, pong: 200, silence: 400 } })
      const queue = yield* client.Endless({ key: "e" }, { asQueue: true, streamBufferSize: 2 })
      yield* until("it is full", () => (server.record.made.get("e") ?? 0) >= 3)
      for (let i = 0; i < 10; i++) {
        assert.strictEqual(yield* client.Add({ a: i, b: 1 }), i + 1)
        yield* Effect.sleep(60)
      }
      assert.isAtMost(server.record.made.get("e")!, 8)
      for (let i = 0; i < 50; i++) assert.strictEqual(yield* Queue.take(queue), i)
    }).pipe(Effect.scoped))

  it.live("over a pool calls share connections, and wait for one as its limits say", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<ServerProtocol.Received, FromServerEncoded, void>()
      const server = yield* serverOn(0, { registry })
      const protocol = ClientProtocol.layerPool(dialTo(`tcp://127.0.0.1:${server.port}`), {
        inFlight: 4,
        pool: { max: 3, acquire: "2 seconds" }
      })
      const context = yield* Layer.build(Layer.provide(protocol, RpcSerialization.layerNdjson))
      const client = yield* Effect.provideContext(RpcClient.make(Calls), context)
      const keys = Array.from({ length: 12 }, (_, i) => `k${i}`)
      const hanging = yield* Effect.forEach(keys, (key) => Effect.forkChild(client.Hang({ key })))
      for (const key of keys) yield* server.record.wait("began", key)
      assert.strictEqual(yield* registry.size, 3)
      const next = yield* Effect.forkChild(client.Add({ a: 1, b: 1 }))
      yield* Effect.sleep(20)
      assert.isUndefined(next.pollUnsafe())
      server.record.gates.get("k5")!()
      assert.strictEqual(yield* Fiber.join(next), 2)
      yield* Fiber.interruptAll(hanging)
      for (const key of keys) yield* server.record.wait("done", key)
      assert.strictEqual(yield* client.Add({ a: 1, b: 1 }), 2)
    }))

  it.live("handlers know their connection by its id, and headers that a client cannot forge", () =>
    Effect.gen(function*() {
      const server = yield* serverOn(0, { headers: ({ id }) => [["X-Connection", `c${id > 0}`]] })
      const client = yield* clientOf(server.port)
      const told = yield* client.Head({ name: "x-connection" }, { headers: { "x-connection": "forged" } })
      assert.strictEqual(told, "ctrue")
    }))

  it.live("one call more than a connection may have is answered with a defect, and the others are not touched", () =>
    Effect.gen(function*() {
      const server = yield* serverOn(0, { requests: 2 })
      const client = yield* clientOf(server.port)
      const hanging = yield* Effect.forEach(["a", "b"], (key) => Effect.forkChild(client.Hang({ key })))
      yield* server.record.wait("began", "b")
      const exit = yield* Effect.exit(client.Nothing())
      assert.include(String(exit), "2 unanswered requests")
      for (const key of ["a", "b"]) server.record.gates.get(key)!()
      assert.deepStrictEqual(yield* Effect.forEach(hanging, Fiber.join), ["gave a", "gave b"])
      yield* client.Nothing()
    }))

  it.live("what is no message of the protocol ends its connection with a reason, and nothing dies", () =>
    Effect.gen(function*() {
      const reasons: Array<string> = []
      const server = yield* serverOn(0, {
        onEvent: (event) =>
          Effect.sync(() => void (event._tag === "Closed" && reasons.push(event.snapshot.reason?._tag ?? "none")))
      })
      const bad = [
        "5\n",
        "null\n",
        "[1]\n",
        "{\"_tag\":\"Nonsense\"}\n",
        "{\"_tag\":\"Request\",\"id\":1,\"tag\":\"Nothing\",\"payload\":null,\"headers\":5}\n",
        "{\"_tag\":\"Request\",\"id\":{},\"tag\":\"Nothing\",\"payload\":null}\n",
        "{\"_tag\":\"Ack\"}\n",
        `${"[".repeat(300)}\n`
      ]
      for (const text of bad) {
        const raw = yield* rawClient({ host: "127.0.0.1", port: server.port })
        raw.top.write(text)
        yield* until(`the end after ${text.slice(0, 40)}`, () => raw.ended || raw.closed)
      }
      assert.deepStrictEqual(reasons, bad.map(() => "InvalidMessage"))
      const raw = yield* rawClient({ host: "127.0.0.1", port: server.port })
      const request = "{\"_tag\":\"Request\",\"id\":1,\"tag\":\"Hang\",\"payload\":{\"key\":\"h\"},\"headers\":[]}\n"
      raw.top.write(request + request)
      yield* until("the end after the same id twice", () => raw.ended || raw.closed)
      assert.strictEqual(reasons.at(-1), "ProtocolViolation")
      yield* server.record.wait("interrupted", "h")
    }))

  for (
    const [what, first, second] of [
      ["a notification", "\"isNotification\":true,\"id\":\"\"", "\"id\":\"@effect/rpc/notification/0\""],
      ["a call whose client does not wait", "\"discard\":true,\"id\":7", "\"id\":7"]
    ] as const
  ) {
    it.live(`B116 the id of ${what} that still runs is in use: a request of it ends its connection with the reason`, () =>
      Effect.gen(function*() {
        const reasons: Array<string> = []
        const server = yield* serverOn(0, {
          onEvent: (event) =>
            Effect.sync(() => void (event._tag === "Closed" && reasons.push(event.snapshot.reason?._tag ?? "none")))
        })
        const raw = yield* rawClient({ host: "127.0.0.1", port: server.port })
        const request = (fields: string, key: string) =>
          `{"_tag":"Request",${fields},"tag":"Hang","payload":{"key":"${key}"},"headers":[]}\n`
        raw.top.write(request(first, "a"))
        yield* server.record.wait("began", "a")
        raw.top.write(request(second, "b"))
        yield* until("the end", () => raw.ended || raw.closed)
        assert.deepStrictEqual(reasons, ["ProtocolViolation"])
        yield* server.record.wait("interrupted", "a")
      }))
  }

  for (const by of ["ours to theirs", "theirs to ours"] satisfies ReadonlyArray<By>) {
    it.live(`one end is Effect's own: ${by}`, () =>
      Effect.gen(function*() {
        const { client, key, record } = yield* stageOf(by, "tcp", "ndjson")
        assert.strictEqual(yield* client.Add({ a: 1, b: 1 }), 2)
        assert.strictEqual(yield* Stream.runCount(client.Count({ to: 100 })), 100)
        const fiber = yield* Effect.forkChild(client.Hang({ key }))
        yield* record.wait("began", key)
        yield* Fiber.interrupt(fiber)
        yield* record.wait("interrupted", key)
      }))
  }

  it.live("the native protocol carries it, too", () =>
    Effect.gen(function*() {
      const server = yield* serverOn(0, { open: (codec) => Protocol.server({ codec }) })
      const client = yield* clientOf(server.port, { open: (codec) => Protocol.client({ codec }) })
      assert.strictEqual(yield* client.Add({ a: 1, b: 1 }), 2)
      assert.strictEqual(yield* Stream.runCount(client.Count({ to: 100 })), 100)
    }))
})
