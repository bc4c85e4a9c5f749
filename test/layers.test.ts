/** What a program provides, as layers and from configuration. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Config, ConfigProvider, Context, Effect, Exit, Fiber, Layer } from "effect"
import { Socket } from "effect/socket"
import { Codec, Connection, ConnectionPool, Dispatcher, Policy, Registry, Request } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"

const quiet: Policy.Patch = { pingEvery: 0, silence: 0, writeStall: 0, frame: 0 }
const lines = Connection.make({ codec: Codec.lines(), policy: quiet })

/** Dials peers that say their host and their place before anything else. */
const network = () => {
  const peers: Array<TestSocket.Peer> = []
  const dial = (host: string) =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      peers.push(peer)
      yield* peer.send(`${host} ${peers.length}\n`)
      return yield* lines(peer.socket)
    })
  return { peers, dial }
}

describe("layers", () => {
  it.effect("a dispatcher is a service, and its layer stops it", () =>
    Effect.gen(function*() {
      class Work extends Context.Service<Work, Dispatcher.Dispatcher>()("test/Work") {
        static readonly layer = Dispatcher.layer(Work, { workers: 3 })
      }
      const work = yield* Effect.provide(
        Effect.gen(function*() {
          const work = yield* Work
          assert.strictEqual(yield* work.run(Effect.succeed(1)), 1)
          assert.strictEqual((yield* work.stats).workers, 3)
          return work
        }),
        Work.layer
      )
      const error = yield* Effect.flip(work.run(Effect.void))
      assert.strictEqual(error.reason._tag, "Stopped")
      assert.throws(() => Dispatcher.layer(Work, { workers: 0 }), "workers")
    }))

  it.effect("requests over a pool: two services, one of which needs the other", () =>
    Effect.gen(function*() {
      const { dial, peers } = network()
      class Pool extends Context.Service<Pool, ConnectionPool.ConnectionPool<string>>()("test/Pool") {
        static readonly layer = ConnectionPool.layer(Pool, Effect.tap(dial("b"), ({ receive }) => receive), { max: 1 })
      }
      class Backend extends Context.Service<Backend, Request.Requests<string>>()("test/Backend") {
        static readonly layer = Request.layer(Backend, Pool.use((pool) => pool.get), { inFlight: 2 })
      }
      const layer: Layer.Layer<Backend> = Layer.provide(Backend.layer, Pool.layer)
      yield* Effect.gen(function*() {
        const asking = yield* Effect.forkChild(Backend.use(({ request }) => request("who?")), {
          startImmediately: true
        })
        while (peers.length === 0) yield* Effect.yieldNow
        assert.strictEqual(yield* peers[0]!.take, "who?\n")
        yield* peers[0]!.send("me\n")
        assert.strictEqual(yield* Fiber.join(asking), "me")
      }).pipe(Effect.provide(layer))
      yield* peers[0]!.released
    }))

  it.effect("one pool for each key is a service, and its layer closes all of them", () =>
    Effect.gen(function*() {
      const { dial, peers } = network()
      class Backends extends Context.Service<Backends, ConnectionPool.Keyed<string, string>>()("test/Backends") {
        static readonly layer = ConnectionPool.layerKeyed(Backends, dial, { max: 1 })
      }
      yield* Effect.gen(function*() {
        const backends = yield* Backends
        assert.strictEqual(yield* backends.use("a", ({ receive }) => receive), "a 1")
        assert.strictEqual(yield* backends.use("b", ({ receive }) => receive), "b 2")
        assert.strictEqual((yield* backends.total).open, 2)
      }).pipe(Effect.provide(Backends.layer))
      for (const peer of peers) yield* peer.released
    }))

  it.effect("what open needs, the layers need", () =>
    Effect.gen(function*() {
      class Token extends Context.Service<Token, string>()("test/Token") {}
      class Pool extends Context.Service<Pool, ConnectionPool.Keyed<string, string>>()("test/KeyedPool") {}
      class Backend extends Context.Service<Backend, Request.Requests<string>>()("test/Requests") {}
      const { dial } = network()
      const open = Effect.flatMap(Token, dial)
      const pool: Layer.Layer<Pool, never, Token> = ConnectionPool.layerKeyed(Pool, (_: string) => open)
      const backend: Layer.Layer<Backend, never, Token> = Request.layer(Backend, open)
      const first = Pool.use((pool) => pool.use("any", ({ receive }) => receive))
      const layer = Layer.provide(Layer.merge(pool, backend), Layer.succeed(Token, "secret"))
      assert.strictEqual(yield* Effect.provide(first, layer), "secret 1")
    }))

  it.effect("a connection of a service socket, and everything in one application", () =>
    Effect.gen(function*() {
      class Clients extends Context.Service<Clients, Registry.Registry<string>>()("test/Clients") {
        static readonly layer = Registry.layer(Clients)
      }
      const peer = yield* TestSocket.make()
      const program = Effect.gen(function*() {
        const connection = yield* Effect.flatMap(Socket.Socket, lines)
        const registry = yield* Clients
        yield* registry.add(connection)
        yield* registry.broadcast("hello")
        yield* connection.flush
        return yield* peer.text
      })
      const layer = Layer.mergeAll(Clients.layer, Layer.succeed(Socket.Socket, peer.socket))
      assert.strictEqual(yield* Effect.provide(Effect.scoped(program), layer), "hello\n")
    }))
})

describe("configuration with a prefix", () => {
  const inEnv = (env: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnv({ env }))

  it.effect("one call reads variables of every kind from the environment", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.config({ prefix: "HOLDFAST" }).pipe(Effect.provide(inEnv({
        HOLDFAST_PING_EVERY: "20s",
        HOLDFAST_SILENCE: "1 minute",
        HOLDFAST_MAX_FRAME: "2 MiB",
        HOLDFAST_MAX_CONNECTIONS: "5",
        HOLDFAST_PING_JITTER: "0.25",
        HOLDFAST_OVERFLOW: "close",
        HOLDFAST_NO_DELAY: "false",
        HOLDFAST_RETRY_ON: "HandshakeFailed,4001",
        // neither ours nor a field
        PING_EVERY: "1s",
        OPEN: "1s",
        HOLDFAST_SHORT_CUTS: "off",
        HOLDFAST_POOL_MAX: "3"
      })))
      assert.deepStrictEqual(
        policy,
        Policy.make({
          pingEvery: "20 seconds",
          silence: "1 minute",
          maxFrame: 2 * 1024 * 1024,
          maxConnections: 5,
          pingJitter: 0.25,
          overflow: "close",
          noDelay: false,
          retryOn: ["HandshakeFailed", 4001]
        })
      )
    }))

  it.effect("every field has its variable", () =>
    Effect.gen(function*() {
      // odd values, so that a field that is not read is seen
      const odd = { ...Policy.encode(Policy.lan), inboxBytes: 12_345, retryOn: "4001", giveUpOn: "4002" }
      const variable = (name: string) => `LIMITS_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`
      const env = Object.fromEntries(Object.entries(odd).map(([name, value]) => [variable(name), String(value)]))
      const policy = yield* Policy.config({ prefix: "LIMITS", from: Policy.realtime }).parse(
        ConfigProvider.fromEnv({ env })
      )
      assert.deepStrictEqual(policy, Policy.make({ inboxBytes: 12_345, retryOn: [4001], giveUpOn: [4002] }, Policy.lan))
    }))

  it.effect("nothing set is what it starts from; a prefix has as many words as it likes", () =>
    Effect.gen(function*() {
      const read = (prefix: string, env: Record<string, string>, from?: Policy.Policy) =>
        Policy.config({ prefix, from }).parse(ConfigProvider.fromEnv({ env }))
      assert.deepStrictEqual(yield* read("HOLDFAST", {}), Policy.defaults)
      assert.deepStrictEqual(yield* read("HOLDFAST", { HOLDFAST_SEED: "1" }, Policy.lan), Policy.lan)
      const expected = Policy.make({ drain: 7 })
      assert.deepStrictEqual(yield* read("MY_APP", { MY_APP_DRAIN: "7" }), expected)
      assert.deepStrictEqual(yield* read("MY_APP_", { MY_APP_DRAIN: "7" }), expected)
      assert.deepStrictEqual(yield* read("", { DRAIN: "7" }), expected)
    }))

  it.effect("goes with providers and nesting of the application", () =>
    Effect.gen(function*() {
      const expected = Policy.make({ drain: 7, maxFrame: 9 })
      const config = Policy.config({ prefix: "HOLDFAST" })
      const env = { APP_HOLDFAST_DRAIN: "7", APP_HOLDFAST_MAX_FRAME: "9" }
      const plain = ConfigProvider.fromEnv({ env })
      assert.deepStrictEqual(yield* Config.nested(config, "APP").parse(plain), expected)
      assert.deepStrictEqual(yield* config.parse(ConfigProvider.nested(plain, "APP")), expected)
      assert.deepStrictEqual(
        yield* config.parse(plain.pipe(ConfigProvider.nested("app"), ConfigProvider.constantCase)),
        expected
      )
      assert.deepStrictEqual(
        yield* config.parse(ConfigProvider.fromUnknown({ HOLDFAST: { DRAIN: "7", MAX_FRAME: "9" } })),
        expected
      )
      const both = yield* Config.all({ port: Config.Port("PORT"), limits: config }).parse(
        ConfigProvider.fromEnv({ env: { PORT: "80", HOLDFAST_DRAIN: "7", HOLDFAST_MAX_FRAME: "9" } })
      )
      assert.deepStrictEqual(both, { port: 80, limits: expected })
    }))

  it.effect("B34 B137 a wrong variable, and two that contradict each other, are named", () =>
    Effect.gen(function*() {
      const refused = (env: Record<string, string>) =>
        Effect.map(
          Effect.flip(Policy.config({ prefix: "HOLDFAST" }).parse(ConfigProvider.fromEnv({ env }))),
          ({ message }) => message
        )
      assert.include(yield* refused({ HOLDFAST_PING_EVERY: "often" }), "PING_EVERY")
      assert.include(yield* refused({ HOLDFAST_MAX_FRAME: "-1" }), "MAX_FRAME")
      assert.include(
        yield* refused({ HOLDFAST_PING_EVERY: "20s", HOLDFAST_SILENCE: "10s" }),
        "pingEvery (20s) must not be more than silence (10s)"
      )
    }))

  it.effect("a policy is a service; a configuration that is wrong fails its layer", () =>
    Effect.gen(function*() {
      class Limits extends Context.Service<Limits, Policy.Policy>()("test/Limits") {
        static readonly layer = Policy.layer(Limits, { prefix: "HOLDFAST", from: Policy.lan })
      }
      const read = (env: Record<string, string>) => Effect.provide(Limits, Layer.provide(Limits.layer, inEnv(env)))
      assert.deepStrictEqual(yield* read({ HOLDFAST_DRAIN: "7" }), Policy.make({ drain: 7 }, Policy.lan))
      const exit = yield* Effect.exit(read({ HOLDFAST_DRAIN: "soon" }))
      assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof Config.ConfigError)
    }))

  it.effect("limits of a pool are read the same way", () =>
    Effect.gen(function*() {
      const read = (options?: ConnectionPool.Limits | ConnectionPool.ConfigOptions) =>
        ConnectionPool.config(options).parse(ConfigProvider.fromEnv({ env: { POOL_MAX: "20", POOL_MAX_AGE: "5m" } }))
      const expected = ConnectionPool.limits({ max: 20, maxAge: "5 minutes" })
      assert.deepStrictEqual(yield* read({ prefix: "POOL" }), expected)
      const from = ConnectionPool.limits({ idle: 7 })
      assert.deepStrictEqual(yield* read({ prefix: "POOL", from }), ConnectionPool.limits({ idle: 7 }, expected))
      assert.deepStrictEqual(yield* read(from), from)
      assert.deepStrictEqual(yield* read(), ConnectionPool.defaults)
    }))
})
