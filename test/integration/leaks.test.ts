/** After many connections, everything is as it was. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import { Codec, Connection, Heartbeat } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import {
  descriptors,
  dice,
  handlerFailures,
  nothingUnhandled,
  onLinux,
  portOf,
  reasonOf,
  serve,
  until
} from "./support/kit.ts"
import { rawClient } from "./support/ways.ts"

const chat = { codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") }

/** Waits until the number of descriptors stands still, and tells it. */
const settled = Effect.gen(function*() {
  let last = -1
  let since = 0
  yield* until("the descriptors stand still", () => {
    const now = descriptors()
    if (now !== last) {
      last = now
      since = performance.now()
    }
    return performance.now() - since > 50
  })
  return last
})

describe.skipIf(!onLinux)("nothing is left", () => {
  it.live("after 2000 connections in waves of 100", () =>
    Effect.gen(function*() {
      yield* nothingUnhandled
      const listener = yield* Listener.make("tcp://127.0.0.1:0")
      const served = yield* serve(listener, {
        ...chat,
        handle: (connection) =>
          Effect.gen(function*() {
            while (true) {
              const message = yield* connection.receive
              if (message === "leave") yield* connection.close
              yield* connection.send(message)
            }
          })
      })
      const one = (n: number) =>
        Effect.gen(function*() {
          const client = yield* Effect.flatMap(Dialer.make(listener.url), Connection.make(chat))
          yield* client.send(`hello ${n}`)
          assert.strictEqual(yield* client.receive, `hello ${n}`)
          // ours, theirs, or the end of the scope
          if (n % 3 === 0) yield* client.close
          else if (n % 3 === 1) {
            yield* client.send("leave")
            assert.strictEqual((yield* reasonOf(client.receive))._tag, "Closed")
          }
        }).pipe(Effect.scoped)
      const closed = () => served.events.filter(({ _tag }) => _tag === "Closed").length
      // the first one loads what is loaded lazily
      yield* one(0)
      yield* until("it is gone", () => closed() === 1)
      const before = yield* settled
      let most = 0
      for (let wave = 0; wave < 20; wave++) {
        yield* Effect.forEach(
          Array.from({ length: 100 }, (_, i) => i),
          (i) => Effect.ensuring(one(wave * 100 + i), Effect.sync(() => most = Math.max(most, descriptors()))),
          { concurrency: "unbounded" }
        )
      }
      yield* until("all are told", () => closed() === 2001)
      assert.strictEqual(yield* served.registry.size, 0)
      assert.deepStrictEqual(handlerFailures(served.events), [])
      assert.ok(most >= before + 100, "a wave was open at once")
      yield* until("every descriptor is back", () => descriptors() <= before)
      const reasons = new Set(served.events.flatMap((e) => e._tag === "Closed" ? [e.snapshot.reason?._tag] : []))
      assert.deepStrictEqual([...reasons], ["Closed"])
    }), 60_000)

  for (const scheme of ["tcp", "ws"]) {
    it.live(`after 200 connections that were reset at any moment (${scheme})`, () =>
      Effect.gen(function*() {
        yield* nothingUnhandled
        const next = dice(20_260_801)
        const listener = yield* Listener.make(`${scheme}://127.0.0.1:0`, {
          linger: "300 millis",
          policy: { handshake: "1 second" }
        })
        const served = yield* serve(listener, {
          ...chat,
          policy: { pingEvery: "10 millis", pingWhen: "always", drain: "100 millis", halfClose: "200 millis" }
        })
        const before = yield* settled
        const upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aG9sZGZhc3QgaG9sZGZhcw==\r\n\r\n"
        /** A client that does a few things and is gone after some of them, at once or a little later. */
        const one = (steps: number, delay: number, how: number) =>
          new Promise<void>((resolve) => {
            const conn = Net.createConnection({ host: "127.0.0.1", port: portOf(listener) })
            conn.on("error", () => {})
            conn.on("close", () => resolve())
            const end = () => {
              if (how < 0.4) conn.resetAndDestroy()
              else if (how < 0.7) conn.destroy()
              else conn.end(() => conn.destroy())
            }
            if (steps === 0) return end()
            conn.on("connect", () => {
              if (steps === 1) return end()
              if (scheme === "ws") conn.write(steps === 2 ? upgrade.slice(0, 40) : upgrade)
              // masked text frames of "hello", or lines; many unread answers make the close a reset
              const message = scheme === "ws"
                ? Buffer.from([0x81, 0x85, 0, 0, 0, 0, ...Buffer.from("hello")])
                : "hello\n"
              for (let i = 2; i < steps; i++) conn.write(message)
              if (steps % 2 === 0) conn.on("data", () => {})
              setTimeout(end, delay)
            })
          })
        for (let wave = 0; wave < 10; wave++) {
          yield* Effect.promise(() =>
            Promise.all(
              Array.from({ length: 20 }, () => one(Math.floor(next() * 12), Math.floor(next() ** 3 * 30), next()))
            )
          )
        }
        yield* until("every handler has ended", () => {
          const count = (tag: string) => served.events.filter(({ _tag }) => _tag === tag).length
          return count("Opened") > 20 && count("Opened") === count("Closed")
        })
        assert.strictEqual(yield* served.registry.size, 0)
        assert.deepStrictEqual(handlerFailures(served.events), [])
        yield* until("every descriptor is back", () => descriptors() <= before)
      }), 40_000)
  }

  it.live("of connections whose peers never close and never stop sending, once we are done with them", () =>
    Effect.gen(function*() {
      yield* nothingUnhandled
      const listener = yield* Listener.make("tcp://127.0.0.1:0", { linger: "200 millis" })
      const served = yield* serve(listener, {
        ...chat,
        handle: (connection) => Effect.andThen(connection.receive, connection.close)
      })
      const before = yield* settled
      const peers = yield* Effect.forEach(
        Array.from({ length: 50 }),
        () => rawClient({ host: "127.0.0.1", port: portOf(listener) }, { flowing: false })
      )
      const talking = setInterval(() => {
        for (const { wire } of peers) if (wire.writable) wire.write("hello\n".repeat(100))
      }, 5)
      yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(talking)))
      yield* until(
        "we are done with all",
        () => served.events.filter(({ _tag }) => _tag === "Closed").length === peers.length
      )
      // theirs are in this process as well
      yield* until("our descriptors are back", () => {
        const theirs = peers.filter(({ wire }) => !wire.destroyed).length
        return descriptors() <= before + theirs
      })
    }))

  it.live("of clients whose server resets them at any moment", () =>
    Effect.gen(function*() {
      yield* nothingUnhandled
      const next = dice(7)
      const server = yield* Effect.acquireRelease(
        Effect.promise(() =>
          new Promise<Net.Server>((resolve) => {
            const server = Net.createServer((conn) => {
              conn.on("error", () => {})
              conn.on("data", (chunk) => conn.writable && conn.write(chunk))
              const delay = Math.floor(next() ** 3 * 30)
              if (delay === 0) conn.resetAndDestroy()
              else setTimeout(() => conn.resetAndDestroy(), delay)
            })
            server.listen(0, "127.0.0.1", () => resolve(server))
          })
        ),
        (server) => Effect.promise(() => new Promise((resolve) => server.close(resolve)))
      )
      const url = `tcp://127.0.0.1:${(server.address() as Net.AddressInfo).port}`
      const before = yield* settled
      const seen = new Set<string>()
      yield* Effect.forEach(
        Array.from({ length: 200 }),
        () =>
          Effect.gen(function*() {
            const client = yield* Effect.flatMap(Dialer.make(url), Connection.make(chat))
            while (true) {
              yield* client.send("hello")
              yield* client.receive
            }
          }).pipe(
            Effect.scoped,
            Effect.flip,
            Effect.tap((error) =>
              Effect.sync(() => seen.add(error._tag === "ConnectionError" ? error.reason._tag : error._tag))
            )
          ),
        { concurrency: 20 }
      )
      // reset while it opened, and while it talked
      for (const reason of seen) assert.ok(["Reset", "OpenFailed"].includes(reason), reason)
      assert.ok(seen.has("Reset"))
      yield* until("every descriptor is back", () => descriptors() <= before)
    }), 40_000)
})
