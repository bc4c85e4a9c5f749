/** A pool and requests in front of a real Redis, which is killed, wedged and restarted meanwhile. */
import { assert, describe, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import * as Net from "node:net"
import { Resp } from "../../src/codecs/index.ts"
import { Codec, Connection, type ConnectionError, ConnectionPool, Request } from "../../src/index.ts"
import { Dialer } from "../../src/node/index.ts"
import { ping } from "../examples/redis/redis.ts"
import { freePort } from "../support/freePort.ts"
import { long, often } from "../support/often.ts"
import { dice, tempDir, until } from "./support/kit.ts"

type Reply = Resp.Reply
type Command = Resp.Command
const { Refusal } = Resp
const resp = Resp.make()

type Pool = ConnectionPool.ConnectionPool<Reply, Command>

const isInstalled = ChildProcess.spawnSync("redis-server", ["--version"]).status === 0

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect(port, "127.0.0.1", () => socket.write("PING\r\n"))
    socket.once("data", (data) => resolve(String(data) === "+PONG\r\n"))
    socket.once("error", () => resolve(false))
    socket.once("close", () => resolve(false))
  }).finally() as Promise<boolean>

/** A Redis of our own, that keeps nothing, on a free port. It can be stopped and started again. */
const redis = Effect.gen(function*() {
  const port = yield* Effect.promise(freePort)
  const dir = yield* tempDir
  let child: ChildProcess.ChildProcess | undefined
  const start = Effect.promise(async () => {
    const settings = `--port ${port} --bind 127.0.0.1 --save  --appendonly no --enable-debug-command yes`
    child = ChildProcess.spawn("redis-server", [...settings.split(" "), "--dir", dir], { stdio: "ignore" })
    const deadline = performance.now() + 10_000
    while (!(await answers(port))) {
      if (performance.now() > deadline) throw new Error("redis-server did not start within 10 s")
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })
  const stop = Effect.promise(async () => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, "exit")
    child.kill("SIGKILL")
    await exited
  })
  yield* Effect.acquireRelease(start, () => stop)
  const open = Effect.flatMap(Effect.orDie(Dialer.make(`tcp://127.0.0.1:${port}`)), Connection.make({ codec: resp }))
  /** Asks on a connection of its own. */
  const command = (...command: Command) => Request.once(open, command, { deadline: "20 seconds" })
  return { open, command, start, stop }
})

const ask = (pool: Pool, ...command: Command) =>
  pool.use((connection) => Effect.andThen(connection.send(command), connection.receive))

/** No slot was lost: as many connections as there may be can be had at the same time, and not one more. */
const allSlots = (pool: Pool) =>
  Effect.gen(function*() {
    const { max } = yield* pool.limits
    yield* pool.patch({ acquire: "5 seconds" })
    yield* Effect.scoped(Effect.gen(function*() {
      for (let i = 0; i < max; i++) yield* pool.get
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.inUse, stats.open], [max, max])
      yield* pool.patch({ acquire: 50 })
      assert.strictEqual((yield* Effect.flip(Effect.scoped(pool.get))).reason._tag, "AcquireTimeout")
    }))
    const stats = yield* pool.stats
    assert.deepStrictEqual([stats.inUse, stats.waiting, stats.dialing], [0, 0, 0])
  })

const within = (limit: Duration.Input) => Effect.timeout(limit)

it("the codec reads every kind of reply, in any pieces, and refuses what is none", () => {
  const wire = "+OK\r\n-ERR no\r\n:-42\r\n$5\r\nh\u00e9llo\r\n".replace("$5", "$6") + "$-1\r\n$0\r\n\r\n*-1\r\n*0\r\n" +
    "*3\r\n:1\r\n*2\r\n+a\r\n$1\r\nb\r\n$-1\r\n"
  const expected: ReadonlyArray<Reply> = [
    "OK",
    new Refusal("ERR no"),
    -42,
    "h\u00e9llo",
    null,
    "",
    null,
    [],
    [1, ["a", "b"], null]
  ]
  const bytes = new TextEncoder().encode(wire)
  for (let size = 1; size <= bytes.length; size++) {
    const decoder = Codec.decoder(resp)
    const read: Array<Reply> = []
    for (let at = 0; at < bytes.length; at += size) {
      const decoded = decoder.write(bytes.slice(at, at + size))
      assert.isUndefined(decoded.error)
      read.push(...decoded.messages)
    }
    assert.deepStrictEqual(read, expected)
    assert.strictEqual(decoder.pending, 0)
  }
  const failure = (text: string) => Codec.decoder(resp).write(new TextEncoder().encode(text)).error?._tag
  assert.strictEqual(failure("hello\r\n"), "InvalidLength")
  assert.strictEqual(failure("$x\r\n"), "InvalidLength")
  assert.strictEqual(failure("$9999999999\r\n"), "FrameTooLong")
  assert.strictEqual(failure("*9999999999\r\n"), "FrameTooLong")
  assert.strictEqual(failure("*1\r\n".repeat(10_000) + ":1\r\n"), "InvalidMessage")
  assert.strictEqual(
    new TextDecoder().decode(Result.getOrThrow(Codec.encode(resp, ["SET", "k", "h\u00e9"]))),
    "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nh\u00e9\r\n"
  )
})

describe.skipIf(!isInstalled)(
  "a real Redis (skipped where there is none: install the package redis-server)",
  () => {
    it.live(
      "an idle connection that is killed is gone at once, and the next user does not notice",
      () =>
        Effect.scoped(Effect.gen(function*() {
          const { command, open } = yield* redis
          const pool = yield* ConnectionPool.make(open, { min: 2, max: 4, refill: Schedule.spaced("50 millis") })
          const ids = yield* Effect.scoped(Effect.gen(function*() {
            const [a, b] = [yield* pool.get, yield* pool.get]
            yield* a.send(["CLIENT", "ID"])
            yield* b.send(["CLIENT", "ID"])
            return [yield* a.receive, yield* b.receive]
          }))
          for (const id of ids) assert.strictEqual(yield* command("CLIENT", "KILL", "ID", `${id}`), 1)
          const stats = () => Effect.runSync(pool.stats)
          yield* until("both are gone", () => stats().retired.stale === 2)
          assert.strictEqual(yield* ask(pool, "ECHO", "hello"), "hello")
          yield* until("the minimum is there", () => stats().idle >= 2)
          yield* allSlots(pool)
        })),
      30_000
    )

    it.live(
      "a busy connection that is killed is its borrower's error; what was asked is unknown",
      () =>
        Effect.scoped(Effect.gen(function*() {
          const { command, open } = yield* redis
          const pool = yield* ConnectionPool.make(open, { max: 2 })
          const requests = yield* Request.make(pool.get)
          const busy = yield* Effect.forkChild(Effect.flip(ask(pool, "BLPOP", "nothing", "0")))
          const asked = yield* Effect.forkChild(Effect.flip(requests.request(["BLPOP", "nothing", "0"])))
          yield* until("both block", () => Effect.runSync(pool.stats).inUse === 2)
          let killed = 0
          while (killed < 2) killed += (yield* command("CLIENT", "KILL", "TYPE", "normal")) as number
          assert.include(["Closed", "Reset"], (yield* Fiber.join(busy)).reason._tag)
          assert.strictEqual((yield* Fiber.join(asked)).reason._tag, "OutcomeUnknown")
          yield* allSlots(pool)
        })),
      30_000
    )

    it.live(
      "a wedged server costs deadlines, and no late reply reaches anybody else",
      () =>
        Effect.scoped(Effect.gen(function*() {
          const { command, open } = yield* redis
          const pool = yield* ConnectionPool.make(open, {
            max: 3,
            acquire: "400 millis",
            check: ping,
            checkAfter: 0,
            checkTimeout: "200 millis"
          })
          const requests = yield* Request.make(pool.get, { inFlight: 4, connections: 2, deadline: "300 millis" })
          assert.strictEqual(yield* requests.request(["ECHO", "before"]), "before")
          const wedge = yield* Effect.forkChild(command("DEBUG", "SLEEP", "2"))
          yield* Effect.sleep("100 millis")
          const outcomes = yield* Effect.forEach(
            Array.from({ length: 30 }, (_, i) => `wedged ${i}`),
            (text, i) =>
              Effect.delay(
                Effect.result(i % 2 === 0 ? requests.request(["ECHO", text]) : ask(pool, "ECHO", text)),
                i * 20
              ),
            { concurrency: "unbounded" }
          ).pipe(within("10 seconds"))
          for (const [i, outcome] of outcomes.entries()) {
            if (Result.isSuccess(outcome)) assert.strictEqual(outcome.success, `wedged ${i}`)
            else {
              const { _tag } = outcome.failure.reason
              assert.include(["RequestTimeout", "AcquireTimeout", "OpenTimeout", "OutcomeUnknown"], _tag)
            }
          }
          assert.isAbove(outcomes.filter(Result.isFailure).length, 0)
          yield* Fiber.join(wedge)
          for (let i = 0; i < 100; i++) {
            assert.strictEqual(yield* requests.request(["ECHO", `after ${i}`]), `after ${i}`)
            assert.strictEqual(yield* ask(pool, "ECHO", `and ${i}`), `and ${i}`)
          }
          yield* allSlots(pool)
        })),
      30_000
    )

    const each = often(200, 1000)
    it.live(
      `${100 * each} requests while connections are killed, the server hangs and is restarted: each has its own reply`,
      () =>
        Effect.scoped(Effect.gen(function*() {
          const { command, open, start, stop } = yield* redis
          const pool = yield* ConnectionPool.make(open, { min: 2, max: 8, check: ping, checkEvery: "200 millis" })
          const scope = yield* Scope.make()
          const requests = yield* Scope.provide(
            Request.make(pool.get, { inFlight: 32, connections: 6, deadline: "10 seconds", idempotent: true }),
            scope
          )
          const roll = dice(7)
          const failures: Record<string, number> = {}
          let asked = 0
          let restarts = 0
          const again = (request: Effect.Effect<Reply, ConnectionError.ConnectionError>) =>
            Effect.retry(
              Effect.tapError(request, ({ reason }) =>
                Effect.sync(() => {
                  failures[reason._tag] = (failures[reason._tag] ?? 0) + 1
                })),
              Schedule.spaced("20 millis")
            )
          const user = (name: number) =>
            Effect.gen(function*() {
              for (let i = 0; i < each; i++) {
                const text = `${name}:${i}`
                const echo = ["ECHO", text]
                // most share connections, some borrow one, some give up in the middle
                const way = roll()
                const reply = way < 0.8
                  ? yield* again(requests.request(echo))
                  : way < 0.95
                  ? yield* again(ask(pool, ...echo))
                  : yield* Effect.timeoutOption(way < 0.98 ? requests.request(echo) : ask(pool, ...echo), roll() * 4)
                    .pipe(
                      Effect.match({
                        onFailure: () => text,
                        onSuccess: (found) => found._tag === "Some" ? found.value : text
                      })
                    )
                if (reply !== text) return yield* Effect.die(new Error(`${text} got ${String(reply)}`))
                asked++
              }
            })
          const chaos = Effect.gen(function*() {
            let round = 0
            while (true) {
              yield* Effect.sleep(100 + roll() * 100)
              round++
              if (round % 10 === 4) yield* command("DEBUG", "SLEEP", "0.3")
              else if (round === 3) {
                yield* stop
                yield* Effect.sleep("200 millis")
                yield* start
                restarts++
              } else yield* command("CLIENT", "KILL", "TYPE", "normal")
            }
          }).pipe(Effect.catch(() => Effect.void), Effect.forever)
          const storm = yield* Effect.forkChild(chaos)
          yield* Effect.forEach(Array.from({ length: 100 }, (_, i) => i), user, { concurrency: "unbounded" })
          yield* Fiber.interrupt(storm)
          assert.strictEqual(asked, 100 * each)
          yield* Scope.close(scope, yield* Effect.exit(Effect.void))
          yield* until("all is given back", () => Effect.runSync(pool.stats).inUse === 0)
          const stats = yield* pool.stats
          assert.strictEqual(restarts, 1)
          assert.isAbove(stats.retired.stale + stats.retired.abandoned, 10)
          // whoever was on a connection that was killed knows that nobody knows; the others noticed nothing
          assert.includeMembers(["Closed", "OpenFailed", "OutcomeUnknown", "Reset"], Object.keys(failures))
          yield* allSlots(pool)
        })),
      long(120_000)
    )
  }
)
