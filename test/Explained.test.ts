import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, References, Scope, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, Heartbeat, type Policy, Protocol, Registry, Server } from "../src/index.ts"
import { TestNetwork, TestSocket } from "../src/testing/index.ts"
import { withLogs } from "./support/logs.ts"

const settle = Effect.repeat(Effect.yieldNow, { times: 60 })

const open = (policy?: Policy.Patch) =>
  Effect.gen(function*() {
    yield* TestClock.adjust(0)
    const peer = yield* TestSocket.make()
    // never closed by the test: that might wait on a clock that stands still
    const scope = yield* Scope.make()
    const connection = yield* Scope.provide(
      Connection.make({
        codec: Codec.lines(),
        heartbeat: Heartbeat.text("ping", "pong"),
        policy: { pingJitter: 0, pingEvery: 0, silence: 0, ...policy }
      })(peer.socket),
      scope
    )
    return { peer, connection, scope, explained: Connection.explain(connection) }
  })

describe("explained ends", () => {
  it.effect("a connection that is open says what it waits for, and how much of that is left", () =>
    Effect.gen(function*() {
      const { explained, peer } = yield* open({ silence: "10 seconds", idle: "1 minute" })
      yield* TestClock.adjust("3 seconds")
      yield* peer.send("hi\n")
      yield* settle
      yield* TestClock.adjust("4 seconds")
      const { deadlines, lastHeardAt, lastWrittenAt, recent, seenBy, told, who } = yield* explained
      assert.deepStrictEqual(deadlines, [
        { rule: "silence", limit: 10_000, left: 6_000 },
        { rule: "idle", limit: 60_000, left: 56_000 }
      ])
      assert.strictEqual(lastHeardAt, 3000)
      assert.deepStrictEqual([lastWrittenAt, seenBy, told, who], [undefined, undefined, undefined, undefined])
      assert.deepStrictEqual(recent, [])
    }))

  it.effect("a missed pong: the network, by its deadline, with the pings that had no answer", () =>
    Effect.gen(function*() {
      const { connection, explained } = yield* open({ pingEvery: "5 seconds", pong: "2 seconds", misses: 2 })
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* connection.snapshot).state, "ended")
      const explanation = yield* explained
      assert.deepInclude(explanation, {
        who: "network",
        seenBy: "deadlines",
        deadline: "pong",
        told: undefined,
        deadlines: [],
        lastHeardAt: 0,
        lastWrittenAt: 15_000
      })
      assert.deepStrictEqual(explanation.recent, [
        { at: 10_000, what: "unanswered", detail: "1", times: 1 },
        { at: 15_000, what: "unanswered", detail: "2", times: 1 }
      ])
      const line = Connection.inWords(explanation)
      assert.match(
        line,
        /^connection \d+ ended by the network: .*\(seen by its pong deadline\); open for 17 s, last heard 17 s before/
      )
      assert.include(line, "lately: unanswered 1 7 s before, unanswered 2 2 s before")
    }))

  it.effect("who it was, and what saw it", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<
        readonly [
          who: Connection.Who,
          seenBy: string,
          reason: string,
          end: (it: Effect.Success<ReturnType<typeof open>>) => Effect.Effect<unknown>
        ]
      > = [
        ["peer", "reader", "Closed", ({ peer }) => peer.end],
        ["network", "reader", "Reset", ({ peer }) => peer.reset],
        ["peer", "reader", "FrameTooLong", ({ peer }) => peer.send("x".repeat(3000))],
        ["us", "close", "Closed", ({ connection }) => connection.close],
        ["us", "close", "Superseded", ({ connection }) =>
          connection.closeWith(new ConnectionError.Superseded({ key: "ada" }))],
        ["us", "drain", "GoingAway", ({ connection }) =>
          connection.drainWith(new ConnectionError.GoingAway({}))],
        ["us", "scope", "Closed", ({ scope }) =>
          Scope.close(scope, Exit.void)],
        ["us", "deadlines", "MaxAge", () =>
          Effect.void]
      ]
      for (const [who, seenBy, reason, end] of cases) {
        const opened = yield* open({ maxFrame: 1000, maxAge: "1 minute", outboxBytes: 1000 })
        yield* Effect.forkChild(end(opened))
        yield* TestClock.adjust("3 minutes")
        const explanation = yield* opened.explained
        const found = [explanation.who, explanation.seenBy, explanation.snapshot.reason?._tag]
        assert.deepStrictEqual(found, [who, seenBy, reason])
      }
    }))

  it.effect("what never left is counted with its bytes, and a full outbox is told", () =>
    Effect.gen(function*() {
      const { connection, explained, peer } = yield* open({ overflow: "drop-newest", outboxMessages: 2, writeStall: 0 })
      yield* peer.window(0)
      yield* connection.send("x")
      yield* settle
      for (let i = 0; i < 5; i++) yield* connection.send("yy")
      yield* peer.reset
      yield* settle
      const { lost, recent, snapshot } = yield* explained
      assert.strictEqual(snapshot.dropped, 3)
      assert.deepStrictEqual(lost, { messages: snapshot.lost, bytes: 6 })
      assert.deepStrictEqual(recent[0], { at: 0, what: "dropped", detail: undefined, times: 3 })
    }))

  it.effect("keeps the last few things, and none where the policy says so", () =>
    Effect.gen(function*() {
      for (const recentEvents of [0, 3]) {
        const { connection, explained } = yield* open({ pingEvery: "1 second", pong: 0, recentEvents })
        yield* TestClock.adjust("10 seconds")
        yield* connection.patch({ idle: "1 minute" })
        const { recent } = yield* explained
        assert.deepStrictEqual(
          recent.map(({ detail, what }) => detail === undefined ? what : `${what} ${detail}`),
          ["unanswered 8", "unanswered 9", "patched"].slice(0, recentEvents)
        )
      }
    }))

  it.effect("a client of the native protocol knows the advice it had, and its server what it gave", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      const listener = yield* network.host("server").listen(7)
      const advice = { after: 1000, spread: 5000 }
      const accept = Protocol.server({ codec: Codec.lines(), advise: () => advice })
      const registry = yield* Registry.make<string>({})
      yield* Server.run({
        open: accept,
        registry,
        handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
      }).pipe(Effect.provideService(SocketServer.SocketServer, listener), Effect.forkScoped)
      const connect = Protocol.client({ codec: Codec.lines() })
      const dialling = yield* Effect.forkScoped(connect(network.host("client").dial("server:7")))
      yield* TestClock.adjust("1 second")
      const connection = yield* Fiber.join(dialling)
      const [entry] = yield* registry.entries
      yield* Effect.forkScoped(entry!.connection.closeWith(new ConnectionError.Superseded({ key: "ada" })))
      yield* TestClock.adjust("10 seconds")
      const heard = yield* Connection.explain(connection)
      assert.deepInclude(heard, { who: "peer", seenBy: "reader", advice })
      const [end] = yield* registry.ended({ reason: "Superseded" })
      assert.deepStrictEqual(end?.explanation.told, {
        text: end?.explanation.snapshot.reason?.message,
        comeBack: false,
        code: 1008,
        advice
      })
    }))

  it.effect("a registry has them once each, the newest first, and finds those that are asked for", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ history: 5 })
      const ids: Array<number> = []
      for (const [i, way] of ["close", "reset", "reset", "close", "reset", "reset"].entries()) {
        const { connection, peer, scope } = yield* open()
        ids.push(connection.id)
        yield* Scope.provide(registry.add(connection, { key: `user ${i}`, tags: [way] }), scope)
        yield* way === "close" ? connection.close : peer.reset
        yield* TestClock.adjust("1 second")
      }
      const found = (query?: Registry.EndedQuery) =>
        Effect.map(
          registry.ended(query),
          (ends) => ends.map(({ explanation: { snapshot } }) => ids.indexOf(snapshot.id))
        )
      assert.deepStrictEqual(yield* found(), [5, 4, 3, 2, 1])
      assert.deepStrictEqual(yield* found({ who: "us" }), [3])
      assert.deepStrictEqual(yield* found({ reason: "Reset", limit: 2 }), [5, 4])
      assert.deepStrictEqual(yield* found({ reason: "Reset", offset: 2, limit: 5 }), [2, 1])
      assert.deepStrictEqual(yield* found({ key: "user 2" }), [2])
      assert.deepStrictEqual(yield* found({ tag: "close" }), [3])
      assert.deepStrictEqual(yield* found({ since: 4000 }), [5, 4])
      assert.deepStrictEqual(yield* found({ id: ids[4]! }), [4])
      assert.deepStrictEqual(yield* found({ deadline: "pong" }), [])
      assert.deepStrictEqual(yield* found({ where: ({ key }) => key === "user 1" }), [1])
      const ended = yield* registry.ended()
      assert.deepStrictEqual(
        yield* registry.history,
        ended.toReversed().map(({ explanation: { snapshot }, key, tags }) => ({ key, tags, snapshot }))
      )
    }))

  it.effect("a server logs each end at the level of debug, and says the same", () =>
    withLogs((logs) =>
      Effect.gen(function*() {
        yield* TestClock.adjust(0)
        const listener = yield* TestSocket.makeServer()
        const registry = yield* Registry.make<string>({})
        yield* Server.run({
          open: Connection.make({ codec: Codec.lines() }),
          registry,
          handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
        }).pipe(Effect.provideService(SocketServer.SocketServer, listener.server), Effect.forkScoped)
        const peer = yield* listener.connect
        yield* settle
        yield* peer.reset
        yield* settle
        const [end] = yield* registry.ended()
        assert.deepStrictEqual(logs, [`Debug ${Connection.inWords(end!.explanation)}`])
      })
    ).pipe(Effect.provideService(References.MinimumLogLevel, "Debug")))

  it.effect("text of a peer commands no terminal", () =>
    Effect.gen(function*() {
      const { explained, peer } = yield* open({ maxFrame: 1000 })
      yield* peer.send("\u001b[31m\u202e<b>".repeat(500))
      yield* settle
      assert.notMatch(Connection.inWords(yield* explained), /[\p{Cc}\p{Cf}]/u)
    }))
})
