/** The ready codecs against the real servers: Redis, Mosquitto, nats-server. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { Mqtt, Nats, Resp } from "../../src/codecs/index.ts"
import { Connection, Heartbeat } from "../../src/index.ts"
import { Dialer } from "../../src/node/index.ts"
import { tempDir } from "../node/fixtures/kit.ts"
import { freePort } from "../support/freePort.ts"

/** Where a server is, also where the PATH of a user does not lead; undefined where it is not installed. */
const installed = (name: string): string | undefined =>
  ["/usr/sbin", "/usr/local/sbin", ...(process.env.PATH ?? "").split(":")]
    .map((folder) => `${folder}/${name}`)
    .find((path) => Fs.existsSync(path))

const listens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect(port, "127.0.0.1", () => {
      socket.destroy()
      resolve(true)
    })
    socket.once("error", () => resolve(false))
  })

/** Starts a server on a free port, and ends it with the test. */
const started = (
  name: string,
  args: (port: number, dir: string) => ReadonlyArray<string>
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function*() {
    const port = yield* Effect.promise(freePort)
    const dir = yield* tempDir
    yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const child = ChildProcess.spawn(installed(name)!, args(port, dir), { stdio: "ignore", cwd: dir })
        const deadline = performance.now() + 10_000
        while (!(await listens(port))) {
          if (performance.now() > deadline) throw new Error(`${name} did not start within 10 s`)
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        return child
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    return `tcp://127.0.0.1:${port}`
  })

describe.skipIf(installed("redis-server") === undefined)(
  "RESP and redis-server (skipped where it is not installed)",
  () => {
    const redis = started(
      "redis-server",
      (port, dir) => ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--dir", dir]
    )

    it.live("speaks RESP 2, and RESP 3 after HELLO 3", () =>
      Effect.gen(function*() {
        const url = yield* redis
        const connection = yield* Connection.make({ codec: Resp.make() })(yield* Dialer.make(url))
        const ask = (...command: Resp.Command) => Effect.andThen(connection.send(command), connection.receive)
        assert.strictEqual(yield* ask("SET", "k", "h\r\nélo"), "OK")
        assert.strictEqual(yield* ask("GET", "k"), "h\r\nélo")
        assert.strictEqual(yield* ask("GET", "none"), null)
        assert.strictEqual(yield* ask("INCRBY", "n", 41), 41)
        const refusal = yield* ask("LPUSH", "k", "v")
        assert.instanceOf(refusal, Resp.Refusal)
        assert.deepStrictEqual(yield* ask("EVAL", "return {1,{2,'x'},{}}", 0), [1, [2, "x"], []])
        const hello = yield* ask("HELLO", 3)
        assert.instanceOf(hello, Map)
        assert.strictEqual((hello as ReadonlyMap<Resp.Reply, Resp.Reply>).get("proto"), 3)
        yield* ask("HSET", "h", "a", 1, "b", 2)
        assert.deepStrictEqual(yield* ask("HGETALL", "h"), new Map([["a", "1"], ["b", "2"]]))
        yield* ask("SADD", "s", "x")
        assert.deepStrictEqual(yield* ask("SMEMBERS", "s"), new Set(["x"]))
        yield* ask("ZADD", "z", 1.5, "m")
        assert.strictEqual(yield* ask("ZSCORE", "z", "m"), 1.5)
        assert.strictEqual(yield* ask("GET", "none"), null)
        const large = "x".repeat(900_000)
        assert.strictEqual(yield* ask("SET", "large", large), "OK")
        assert.strictEqual(yield* ask("GET", "large"), large)
        // pushes come beside replies
        assert.deepStrictEqual(yield* ask("SUBSCRIBE", "news"), new Resp.Push(["subscribe", "news", 1]))
        const other = yield* Connection.make({ codec: Resp.make() })(yield* Dialer.make(url))
        yield* other.send(["PUBLISH", "news", "hello"])
        assert.deepStrictEqual(yield* connection.receive, new Resp.Push(["message", "news", "hello"]))
      }))

    it.live("a bulk string is its bytes where that is asked for", () =>
      Effect.gen(function*() {
        const connection = yield* Connection.make({ codec: Resp.make({ bulk: "bytes" }) })(
          yield* Dialer.make(yield* redis)
        )
        const blob = new Uint8Array([0, 255, 13, 10, 128])
        yield* connection.sendAll([["SET", "b", blob], ["GET", "b"]])
        assert.strictEqual(yield* connection.receive, "OK")
        assert.deepStrictEqual(new Uint8Array((yield* connection.receive) as Uint8Array), blob)
      }))
  }
)

describe.skipIf(installed("mosquitto") === undefined)("MQTT and mosquitto (skipped where it is not installed)", () => {
  it.live("publishes and subscribes with every quality of service, and is told what a will says", () =>
    Effect.gen(function*() {
      const url = yield* started("mosquitto", (port, dir) => {
        Fs.writeFileSync(`${dir}/mosquitto.conf`, `listener ${port} 127.0.0.1\nallow_anonymous true\n`)
        return ["-c", `${dir}/mosquitto.conf`]
      })
      const open = Connection.make({
        codec: Mqtt.make(),
        heartbeat: Mqtt.heartbeat,
        policy: { pingEvery: 50, silence: 2000 }
      })
      const session = Effect.fnUntraced(function*(clientId: string, will?: Mqtt.Will) {
        const connection = yield* open(yield* Dialer.make(url))
        yield* connection.send({ _tag: "Connect", clientId, keepAlive: 30, will })
        assert.deepStrictEqual(yield* connection.receive, { _tag: "Connack", sessionPresent: false, code: 0 })
        return connection
      })
      const reader = yield* session("reader")
      yield* reader.send({
        _tag: "Subscribe",
        id: 1,
        topics: [{ filter: "rooms/+", qos: 2 }, { filter: "gone", qos: 0 }]
      })
      assert.deepStrictEqual(yield* reader.receive, { _tag: "Suback", id: 1, codes: [2, 0] })
      const payload = new TextEncoder().encode("21.5 °C")
      yield* Effect.scoped(Effect.gen(function*() {
        const writer = yield* session("writer", { topic: "gone", payload })
        yield* writer.send({ _tag: "Publish", topic: "rooms/1", qos: 0, payload })
        const zero = yield* reader.receive
        assert.deepInclude(zero, { _tag: "Publish", topic: "rooms/1", qos: 0 })
        yield* writer.send({ _tag: "Publish", topic: "rooms/2", qos: 1, id: 7, payload })
        assert.deepStrictEqual(yield* writer.receive, { _tag: "Puback", id: 7 })
        const one = (yield* reader.receive) as Mqtt.Publish
        assert.deepStrictEqual([one.topic, one.qos, new Uint8Array(one.payload)], ["rooms/2", 1, payload])
        yield* reader.send({ _tag: "Puback", id: one.id! })
        yield* writer.send({ _tag: "Publish", topic: "rooms/3", qos: 2, id: 8, payload })
        assert.deepStrictEqual(yield* writer.receive, { _tag: "Pubrec", id: 8 })
        yield* writer.send({ _tag: "Pubrel", id: 8 })
        assert.deepStrictEqual(yield* writer.receive, { _tag: "Pubcomp", id: 8 })
        const two = (yield* reader.receive) as Mqtt.Publish
        assert.deepStrictEqual([two.topic, two.qos], ["rooms/3", 2])
        yield* reader.send({ _tag: "Pubrec", id: two.id! })
        assert.deepStrictEqual(yield* reader.receive, { _tag: "Pubrel", id: two.id! })
        yield* reader.send({ _tag: "Pubcomp", id: two.id! })
        // ends without DISCONNECT: the broker says its will
      }))
      assert.deepInclude(yield* reader.receive, { _tag: "Publish", topic: "gone" })
      yield* Effect.sleep(150)
      assert.isDefined((yield* reader.snapshot).rtt, "PINGREQ is answered")
      yield* reader.send({ _tag: "Unsubscribe", id: 2, filters: ["rooms/+"] })
      assert.deepStrictEqual(yield* reader.receive, { _tag: "Unsuback", id: 2 })
      yield* reader.send({ _tag: "Disconnect" })
    }))
})

describe.skipIf(installed("nats-server") === undefined)(
  "NATS and nats-server (skipped where it is not installed)",
  () => {
    it.live("publishes, subscribes, asks with a reply subject, sends headers, and is pinged", () =>
      Effect.gen(function*() {
        const url = yield* started("nats-server", (port) => ["-a", "127.0.0.1", "-p", `${port}`])
        const open = Connection.make({ codec: Nats.make(), heartbeat: Heartbeat.tagged("Ping", "Pong") })
        const session = Effect.gen(function*() {
          const connection = yield* open(yield* Dialer.make(url))
          const info = yield* connection.receive
          assert.strictEqual(info._tag, "Info")
          yield* connection.send({ _tag: "Connect", options: { verbose: true, pedantic: true, headers: true } })
          assert.strictEqual((yield* connection.receive)._tag, "Ok")
          return connection
        })
        const payloadOf = (message: object) =>
          new TextDecoder().decode((message as { readonly payload: Uint8Array }).payload)
        const server = yield* session
        const client = yield* session
        yield* server.send({ _tag: "Subscribe", subject: "greet.*", queue: "workers", sid: "1" })
        assert.strictEqual((yield* server.receive)._tag, "Ok")
        yield* client.send({ _tag: "Subscribe", subject: "inbox", sid: "9" })
        assert.strictEqual((yield* client.receive)._tag, "Ok")
        yield* client.send({ _tag: "Publish", subject: "greet.joe", reply: "inbox", payload: "h\r\nlo" })
        assert.strictEqual((yield* client.receive)._tag, "Ok")
        const asked = yield* server.receive
        assert.deepInclude(asked, { _tag: "Message", subject: "greet.joe", reply: "inbox", sid: "1" })
        assert.strictEqual(payloadOf(asked), "h\r\nlo")
        const large = "x".repeat(500_000)
        yield* server.send({ _tag: "Publish", subject: "inbox", headers: "NATS/1.0\r\nA: b\r\n\r\n", payload: large })
        const answer = yield* client.receive
        assert.deepInclude(answer, { _tag: "Message", headers: "NATS/1.0\r\nA: b\r\n\r\n" })
        assert.strictEqual(payloadOf(answer), large)
        yield* client.send({ _tag: "Unsubscribe", sid: "9" })
        assert.strictEqual((yield* client.receive)._tag, "Ok")
        yield* client.send({ _tag: "Subscribe", subject: "bad..subject", sid: "3" })
        assert.strictEqual((yield* client.receive)._tag, "Err")
      }))
  }
)
