/** Servers at their limits: of descriptors, of connections, and of their own life. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { Codec, Connection, type ConnectionError } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import {
  arrival,
  descriptorsOf,
  ending,
  has,
  nodeProgram,
  onLinux,
  portOf,
  processorTime,
  said,
  serve,
  takeRest,
  until
} from "./support/kit.ts"
import { type Raw, rawClient } from "./support/ways.ts"

const host = "127.0.0.1"
const lines = { codec: Codec.lines() }

const textOf = (raw: Raw): string => Buffer.concat(raw.chunks).toString()

describe.skipIf(!onLinux || !has("prlimit", "--version"))("a server without file descriptors (needs prlimit)", () => {
  it.live("B89/F24 survives, serves who is there, does not spin, and recovers", () =>
    Effect.gen(function*() {
      const server = yield* nodeProgram("server.ts")
      const port = Number(yield* said(server, "listening"))
      const residents = yield* Effect.forEach(Array.from({ length: 8 }), () => rawClient({ host, port }))
      /** Every resident gets an answer; how long the slowest took. */
      const askAll = (text: string) =>
        Effect.gen(function*() {
          const startedAt = performance.now()
          for (const resident of residents) resident.top.write(`${text}\n`)
          yield* until(
            `all answer ${text}`,
            () => residents.every((resident) => textOf(resident).includes(`${text}\n`))
          )
          return performance.now() - startedAt
        })
      yield* askAll("before")
      ChildProcess.execFileSync("prlimit", ["--pid", String(server.pid), "--nofile=64:64"])
      assert.ok(descriptorsOf(server.pid) < 56, "there is room for some")

      const took = yield* Effect.scoped(Effect.gen(function*() {
        const crowd: Array<Raw> = []
        for (let i = 0; i < 80; i++) crowd.push(yield* rawClient({ host, port }))
        const turnedAway = () => crowd.filter(({ closed, ended }) => closed || ended).length
        yield* until("some are turned away", () => turnedAway() > 0)
        assert.ok(descriptorsOf(server.pid) >= 62)
        const usedBefore = processorTime(server.pid)
        const startedAt = performance.now()
        let slowest = 0
        let attempts = 0
        while (performance.now() - startedAt < 3000) {
          slowest = Math.max(slowest, yield* askAll(`during ${attempts++}`))
          // the others keep on trying
          yield* Effect.scoped(rawClient({ host, port }))
          yield* Effect.sleep(20)
        }
        const wall = performance.now() - startedAt
        const used = processorTime(server.pid) - usedBefore
        console.log(
          `without descriptors: ${used} ms of processor time in ${
            wall.toFixed(0)
          } ms, ${turnedAway()} of 80 turned away, ` +
            `${attempts} more attempts, slowest answers ${slowest.toFixed(0)} ms`
        )
        assert.ok(used < wall * 0.5, `${used} ms of processor time in ${wall} ms`)
        return slowest
      }))
      assert.ok(took < 1500, `a resident waited ${took} ms`)
      assert.isUndefined(server.exit())

      // the crowd has gone
      yield* until("there are descriptors again", () => descriptorsOf(server.pid) < 50)
      const late = yield* rawClient({ host, port })
      late.top.write("late\n")
      yield* until("a new client is served", () => textOf(late) === "late\n")
      yield* askAll("after")
      server.say("report")
      const report = JSON.parse(yield* said(server, "report")) as { readonly size: number }
      assert.strictEqual(report.size, 9)
    }), 40_000)
})

describe("a server at its limit of connections", () => {
  it.live("B95 wait: number n+1 is served, with all it said, when one leaves", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`tcp://${host}:0`)
      const served = yield* serve(listener, { ...lines, policy: { maxConnections: 3 } })
      const first = yield* Effect.forEach(Array.from({ length: 3 }), () => rawClient({ host, port: portOf(listener) }))
      yield* until("three are served", () => served.connections.length === 3)
      const waiting = yield* Effect.forEach([1, 2, 3], (i) =>
        Effect.tap(
          rawClient({ host, port: portOf(listener) }),
          (raw) => Effect.sync(() => raw.top.write(`hello ${i}\n`.repeat(100)))
        ))
      // those inside are served as ever, and nobody else is
      for (const raw of first) raw.top.write("inside\n")
      yield* until("the echo", () => first.every((raw) => textOf(raw) === "inside\n"))
      assert.deepStrictEqual([served.connections.length, waiting.map(textOf).join("")], [3, ""])
      // each kind of end gives its permit back, once
      first[0].wire.resetAndDestroy()
      yield* until("the first who waited", () => textOf(waiting[0]) === "hello 1\n".repeat(100))
      assert.strictEqual(served.connections.length, 4)
      first[1].top.end()
      yield* until("the second", () => textOf(waiting[1]) === "hello 2\n".repeat(100))
      yield* (yield* arrival(served, 2)).close
      yield* until("the third", () => textOf(waiting[2]) === "hello 3\n".repeat(100))
      assert.deepStrictEqual([served.connections.length, yield* served.registry.size], [6, 3])
    }))

  it.live("B95 wait: one that gives up waiting takes no place", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`tcp://${host}:0`)
      const served = yield* serve(listener, { ...lines, policy: { maxConnections: 1 } })
      const first = yield* rawClient({ host, port: portOf(listener) })
      yield* until("it is served", () => served.connections.length === 1)
      for (let i = 0; i < 20; i++) {
        const raw = yield* rawClient({ host, port: portOf(listener) })
        if (i % 2 === 0) raw.wire.resetAndDestroy()
        else raw.wire.destroy()
      }
      const patient = yield* rawClient({ host, port: portOf(listener) })
      patient.top.write("hello\n")
      first.wire.destroy()
      yield* until("the patient one is served", () => textOf(patient) === "hello\n")
      assert.strictEqual(yield* served.registry.size, 1)
    }))

  for (const scheme of ["tcp", "ws"]) {
    it.live(`B95 reject: number n+1 is told why, and the place is free again after any end (${scheme})`, () =>
      Effect.gen(function*() {
        const listener = yield* Listener.make(`${scheme}://${host}:0`)
        const served = yield* serve(listener, {
          ...lines,
          policy: { maxConnections: 2, whenFull: "reject" },
          refusal: (reason) => `no: ${reason.message}`,
          handshake: (connection) =>
            Effect.flatMap(connection.receive, (word) => word === "open" ? Effect.void : Effect.die("the wrong word"))
        })
        const open = (word: string) =>
          Effect.flatMap(Dialer.make(listener.url), Connection.make(lines)).pipe(Effect.tap((c) => c.send(word)))
        const inside = [yield* open("open"), yield* open("open")]
        yield* until("two are served", () => served.connections.length === 2)
        for (let i = 0; i < 3; i++) {
          const dialled = Effect.flatMap(Dialer.make(listener.url), Connection.make(lines))
          if (scheme === "ws") {
            // B108: in place of the 101
            const reason = (yield* Effect.flip(dialled)).reason as ConnectionError.Reason
            assert.deepStrictEqual(
              reason._tag === "UpgradeRefused" ? [reason.status, reason.headers["retry-after"]] : reason,
              [503, "1"]
            )
            continue
          }
          const { messages, reason } = yield* takeRest(yield* dialled)
          assert.deepStrictEqual(messages, ["no: the server's maxConnections (2) is reached"])
          assert.deepStrictEqual(
            reason._tag === "Closed" ? [reason.by, reason.code] : reason,
            ["peer", undefined]
          )
        }
        const refused = () => served.events.filter(({ _tag }) => _tag === "Refused").length
        yield* until("the refusals are told", () => refused() === 3)
        yield* inside[0].close
        yield* until("it has left", () => served.events.some(({ _tag }) => _tag === "Closed"))
        // a failed handshake gives the permit back as well
        for (let i = 0; i < 5; i++) {
          const failed = yield* takeRest(yield* open("sesame"))
          assert.deepStrictEqual(failed.messages, [])
          yield* until("the failed handshake is told", () => refused() === 4 + i)
        }
        const third = yield* open("open")
        yield* third.send("hello")
        assert.strictEqual(yield* third.receive, "hello")
        assert.strictEqual(yield* served.registry.size, 2)
      }))
  }
})

describe("a stopping server", () => {
  for (const scheme of ["tcp", "ws"]) {
    it.live(`B90/B91 answers what it has, and closes who comes now before the handshake (${scheme})`, () =>
      Effect.gen(function*() {
        let handshakes = 0
        const outside = yield* Effect.scope
        const inner = yield* Effect.scoped(Effect.gen(function*() {
          const listener = yield* Listener.make(`${scheme}://${host}:0`, { linger: "300 millis" })
          const served = yield* serve(listener, {
            ...lines,
            policy: { drain: "5 seconds" },
            handshake: () => Effect.sync(() => void handshakes++),
            handle: (connection) =>
              Effect.gen(function*() {
                while (true) {
                  const message = yield* connection.receive
                  yield* Effect.sleep(400)
                  yield* connection.send(`${message}!`)
                }
              })
          })
          const open = Effect.flatMap(Dialer.make(listener.url), Connection.make(lines))
          const early = yield* open
          yield* early.send("hello")
          const server = yield* arrival(served, 0)
          yield* until("it is being answered", () => served.connections.length === 1)
          yield* Effect.repeat(Effect.delay(server.snapshot, 2), {
            until: ({ inbox, messagesIn }) => messagesIn === 1 && inbox.messages === 0
          })
          const stoppedAt = performance.now()
          const stopping = yield* Effect.forkChild(served.stop, { startImmediately: true })
          // over a WebSocket there is something to say before it opens; on TCP the kernel refuses once the last were accepted
          const late = scheme === "tcp"
            ? undefined
            : yield* Scope.provide(rawClient({ host, port: portOf(listener) }, { upgrade: true }), outside)
          if (scheme === "tcp") {
            yield* Effect.repeat(Effect.delay(server.snapshot, 2), { until: ({ state }) => state === "draining" })
            const reason = (yield* Effect.flip(Effect.scoped(open))).reason as ConnectionError.Reason
            assert.strictEqual(reason._tag, "OpenFailed")
          }
          const rest = yield* takeRest(early)
          yield* Fiber.join(stopping)
          const took = performance.now() - stoppedAt
          assert.deepStrictEqual(rest.messages, ["hello!"])
          assert.ok(took < 3000, `stopping took ${took} ms, although everybody left`)
          return { late, served }
        }))
        // the listener is closed: who came meanwhile is gone, and nothing was started for it
        const { late } = inner
        if (late !== undefined) {
          yield* until("the late one is closed", () => late.closed || late.ended)
          assert.isFalse(textOf(late).includes("hello"))
        }
        assert.strictEqual(handshakes, 1)
        assert.deepStrictEqual(inner.served.events.filter(({ _tag }) => _tag === "Opened").length, 1)
      }))
  }

  it.live("B90 a peer that never spoke and never leaves does not hold it beyond the drain", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`tcp://${host}:0`, { linger: "100 millis" })
      const served = yield* serve(listener, { ...lines, policy: { drain: "400 millis" }, handle: () => Effect.never })
      const silent = yield* rawClient({ host, port: portOf(listener) })
      const server = yield* arrival(served, 0)
      const startedAt = performance.now()
      yield* served.stop
      const took = performance.now() - startedAt
      assert.ok(took < 400 * 2 + 300, `it took ${took} ms`)
      yield* until("the silent one is cut", () => silent.ended || silent.closed)
      assert.strictEqual((yield* ending(server))._tag, "GoingAway")
    }))
})
