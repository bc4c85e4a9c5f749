import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { Backoff, Client, Codec, Connection, ConnectionError, Heartbeat, Policy } from "../src/index.ts"
import type { RetryRules } from "../src/internal/endings/retry.ts"
import { TestSocket } from "../src/testing/index.ts"
import { withLogs } from "./support/logs.ts"
import { long, often } from "./support/often.ts"

type Failure = ConnectionError.ConnectionError
type Chat = Client.Client<string>

/** Nothing ends a connection, and delays are exact, so that a test shows the one limit it turns on. */
const quiet: Policy.Patch = {
  pingJitter: 0,
  pingEvery: 0,
  silence: 0,
  writeStall: 0,
  frame: 0,
  halfClose: 0,
  retryJitter: "none"
}

/** A policy with rules for retries. */
const withRules = (rules: Partial<RetryRules>): Policy.Policy => Policy.make({ ...quiet, ...rules })

const failed = (reason: ConnectionError.Reason, advice?: ConnectionError.Advice) => ConnectionError.make(reason, advice)
const refused = failed(new ConnectionError.OpenFailed({ cause: "ECONNREFUSED" }))

const now = Effect.map(Clock.Clock, (clock) => clock.currentTimeMillisUnsafe())

/** Lets everybody who can run do so. */
const settle = Effect.repeat(Effect.yieldNow, { times: 60 })

/** The same in a sweep: fibers that yield more often need more turns. */
const settleAt = (ops: number) => Effect.repeat(Effect.yieldNow, { times: ops < 12 ? 60 : 20 })

const adjust = (duration: Duration.Input) => Effect.andThen(TestClock.adjust(duration), settle)

const started = { startImmediately: true } as const

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`)
const lines = (messages: ReadonlyArray<string>) => messages.map((message) => `${message}\n`).join("")

interface Network {
  readonly peers: ReadonlyArray<TestSocket.Peer>
  /** When each dial began. */
  readonly dials: ReadonlyArray<number>
  readonly open: Effect.Effect<Connection.Connection<string>, Failure, Scope.Scope>
  /** What happens to a dial before it reaches its peer. */
  answer: Effect.Effect<void, Failure>
  readonly last: TestSocket.Peer
}

/** A server in the hands of a test: a dial reaches a fresh peer, unless the test says what else becomes of it. */
const network = (policy?: Policy.Patch): Network => {
  const peers: Array<TestSocket.Peer> = []
  const dials: Array<number> = []
  const chat = Connection.make({
    codec: Codec.lines(),
    heartbeat: Heartbeat.text("ping", "pong"),
    policy: { ...quiet, ...policy }
  })
  const self: Network = {
    peers,
    dials,
    answer: Effect.void,
    open: Effect.gen(function*() {
      dials.push(yield* now)
      yield* Effect.suspend(() => self.answer)
      const peer = yield* TestSocket.make()
      peers.push(peer)
      return yield* chat(peer.socket)
    }),
    get last() {
      return peers.at(-1)!
    }
  }
  return self
}

/** A client with its network, in a scope of its own. */
const start = (
  policy?: Policy.Patch,
  options?: Omit<Client.Options<string, string, unknown>, "policy"> & { readonly answer?: Effect.Effect<void, Failure> }
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const net = network(policy)
    if (options?.answer !== undefined) net.answer = options.answer
    const client = yield* Scope.provide(Client.make(net.open, { ...options, policy: { ...quiet, ...policy } }), scope)
    return { client, net, scope }
  })

const show = (state: Client.State<string>): string => {
  switch (state._tag) {
    case "Connecting":
      return `connecting ${state.attempt}`
    case "Connected":
      return "connected"
    case "Waiting":
      return `waiting ${Duration.toMillis(state.delay)} for ${state.attempt}: ${state.error.reason._tag}` +
        (state.lost > 0 ? `, lost ${state.lost}` : "")
    case "Closed":
      return `closed: ${state.error.reason._tag}${state.lost > 0 ? `, lost ${state.lost}` : ""}`
  }
}

/** Writes down every transition with its time. */
const watch = (client: Chat) =>
  Effect.gen(function*() {
    const seen: Array<string> = []
    const fiber = yield* Effect.forkChild(
      Stream.runForEach(client.changes, (state) =>
        Effect.map(now, (at) => {
          seen.push(`${at} ${show(state)}`)
        })),
      started
    )
    return { seen, ended: Effect.sync(() => fiber.pollUnsafe() !== undefined) }
  })

/** How each of the fibers ended so far: the reason of its failure, its value, or that it still runs. */
const outcomes = (fibers: ReadonlyArray<Fiber.Fiber<unknown, Failure>>) =>
  fibers.map((fiber) => {
    const exit = fiber.pollUnsafe()
    if (exit === undefined) return "waits"
    if (Exit.isSuccess(exit)) return exit.value === undefined ? "done" : exit.value
    const reason = exit.cause.reasons[0]!
    return reason._tag === "Fail" ? reason.error.reason._tag : reason._tag
  })

const sendAll = (client: Chat, messages: ReadonlyArray<string>) =>
  Effect.forEach(messages, (message) => Effect.forkChild(client.send(message), started))

const stateOf = (client: Chat) => Effect.map(client.state, show)

// ---------------------------------------------------------------------------------------------------------------------

describe("a client", () => {
  it.effect("talks, loses its connection, comes back, closes: a timeline", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start()
      const { ended, seen } = yield* watch(client)
      yield* client.send("a")
      assert.strictEqual(yield* net.last.take, "a\n")
      yield* net.last.send("x\n")
      assert.strictEqual(yield* client.receive, "x")
      yield* adjust(1000)
      yield* net.last.end
      yield* adjust(199)
      assert.strictEqual(net.dials.length, 1)
      yield* adjust(1)
      yield* client.sendAll(["b", "c"])
      yield* client.flush
      assert.strictEqual(yield* net.peers[1]!.text, "b\nc\n")
      yield* net.last.send("y\nz\n")
      assert.deepStrictEqual(yield* client.receiveAll, ["y", "z"])
      yield* client.close
      yield* settle
      assert.deepStrictEqual(seen, [
        "0 connected",
        "1000 waiting 200 for 2: Closed",
        "1200 connecting 2",
        "1200 connected",
        "1200 closed: Closed"
      ])
      assert.isTrue(yield* ended)
      assert.strictEqual(yield* net.last.finished, true)
      yield* net.last.released
      for (const effect of [client.closed, client.send("d"), client.receive, client.flush, client.connection]) {
        assert.deepInclude((yield* Effect.flip(effect as Effect.Effect<unknown, Failure>)).reason, { by: "local" })
      }
    }))

  it.effect("the policy names the delays, and every refused dial is one", () =>
    Effect.gen(function*() {
      const policy = { retryBase: 100, retryFactor: 3, retryCap: "1 second", retryAttempts: 5 } as const
      const { client, net } = yield* start(policy, { answer: Effect.fail(refused) })
      const { seen } = yield* watch(client)
      yield* adjust("1 hour")
      assert.deepStrictEqual(net.dials, [0, 100, 400, 1300, 2300, 3300])
      assert.deepStrictEqual(seen.at(-1), "3300 closed: OpenFailed")
      assert.strictEqual(seen[0], "0 waiting 100 for 2: OpenFailed")
    }))

  it.effect("retryElapsed ends it, a cap or a limit of 0 is none, and a base over the cap is the cap", () =>
    Effect.gen(function*() {
      const dialsOf = (policy: Policy.Patch, millis: number) =>
        Effect.gen(function*() {
          const { client, net, scope } = yield* start(policy, { answer: Effect.fail(refused) })
          const from = net.dials[0]!
          yield* adjust(millis)
          const state = yield* stateOf(client)
          yield* Scope.close(scope, Exit.void)
          return { dials: net.dials.map((at) => at - from), state }
        })
      const elapsed = yield* dialsOf({ retryElapsed: 1400 }, 60_000)
      assert.deepStrictEqual(elapsed, { dials: [0, 200, 600, 1400], state: "closed: OpenFailed" })
      const uncapped = yield* dialsOf({ retryCap: 0, retryElapsed: 0, retryAttempts: 0 }, 204_600)
      assert.deepStrictEqual(uncapped.dials, [0, 200, 600, 1400, 3000, 6200, 12_600, 25_400, 51_000, 102_200, 204_600])
      const cap = yield* dialsOf({ retryCap: 100 }, 200)
      assert.deepStrictEqual(cap.dials, [0, 100, 200])
      const least = yield* dialsOf({ retryBase: 0, retryFactor: 1 }, 3)
      assert.deepStrictEqual(least.dials, [0, 1, 2, 3])
    }))

  it.effect("a policy that makes no sense throws by name", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Client.make(network().open, { policy: { retryFactor: 0 } }))
      assert.match(String(Exit.isFailure(exit) && (exit.cause.reasons[0] as any).defect), /retryFactor/)
    }))

  it.effect("works as one JSON document says", () =>
    Effect.gen(function*() {
      const json = `{
        "preset": "lan",
        "handshake": "2s",
        "retryBase": "100 ms",
        "retryFactor": 3,
        "retryJitter": "none",
        "retryAttempts": 2,
        "offlineMessages": 1,
        "pingJitter": 0,
        "pingEvery": 0,
        "silence": "3s",
        "halfClose": 0
      }`
      const policy = yield* Policy.decode(JSON.parse(json))
      const peers: Array<TestSocket.Peer> = []
      const open = Effect.gen(function*() {
        const peer = yield* TestSocket.make()
        peers.push(peer)
        return yield* Connection.make(peer.socket, { codec: Codec.lines(), policy })
      })
      const client = yield* Client.make(open, { policy, onConnect: (connection) => connection.receive })
      const { seen } = yield* watch(client)
      const waiting = yield* sendAll(client, ["a", "b"])
      assert.deepStrictEqual(outcomes(waiting), ["waits", "Offline"])
      yield* adjust(1999)
      yield* peers[0]!.send("welcome\n")
      yield* adjust(60_000)
      assert.deepStrictEqual(seen, [
        "0 connecting 1",
        "1999 connected",
        // 3 s of silence, and then the handshake has its 2 s twice
        "4999 waiting 100 for 2: SilenceTimeout",
        "5099 connecting 2",
        "7099 waiting 300 for 3: HandshakeTimeout",
        "7399 connecting 3",
        "9399 closed: HandshakeTimeout"
      ])
      assert.strictEqual(yield* peers[0]!.text, "a\n")
    }))
})

// ---------------------------------------------------------------------------------------------------------------------

describe("dead peers", () => {
  it.effect("B22 a client closes a server that went silent, and dials again", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ silence: "60 seconds" })
      const { seen } = yield* watch(client)
      yield* adjust(10_000)
      yield* net.last.send("last words\n")
      yield* adjust(59_999)
      assert.strictEqual(yield* stateOf(client), "connected")
      assert.strictEqual(yield* net.last.finished, false)
      yield* adjust(1)
      yield* net.last.released
      yield* adjust(200)
      assert.deepStrictEqual(seen, [
        "0 connected",
        // it had lived for a stable minute
        "70000 waiting 200 for 1: SilenceTimeout",
        "70200 connecting 1",
        "70200 connected"
      ])
    }))

  it.effect("F17 traffic from the server alone does not suppress the client's own ping", () =>
    Effect.gen(function*() {
      const { net } = yield* start({ pingEvery: "25 seconds", pong: "5 seconds" })
      for (let i = 0; i < 5; i++) {
        yield* net.last.send("news\n")
        yield* adjust(5_000)
      }
      assert.strictEqual(yield* net.last.text, "ping\n")
    }))

  it.effect("B79 F8 a server that accepts and closes does not reset the backoff", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ retryAttempts: 5 })
      const { seen } = yield* watch(client)
      for (let i = 0; i < 6; i++) {
        yield* net.last.end
        yield* settle
        yield* adjust(200 * 2 ** i)
      }
      assert.deepStrictEqual(net.dials, [0, 200, 600, 1400, 3000, 6200])
      assert.deepStrictEqual(seen.filter((line) => line.includes("waiting")), [
        "0 waiting 200 for 2: Closed",
        "200 waiting 400 for 3: Closed",
        "600 waiting 800 for 4: Closed",
        "1400 waiting 1600 for 5: Closed",
        "3000 waiting 3200 for 6: Closed"
      ])
      assert.strictEqual(seen.at(-1), "6200 closed: Closed")
    }))

  it.effect("B79 a stable minute does, and one millisecond less does not", () =>
    Effect.gen(function*() {
      for (const [lived, delay, attempt] of [[60_000, 200, 1], [59_999, 800, 4]] as const) {
        const { client, net, scope } = yield* start()
        yield* net.last.end
        yield* adjust(200)
        yield* net.last.end
        yield* adjust(400)
        assert.strictEqual(net.dials.length, 3)
        yield* adjust(lived)
        yield* net.last.end
        yield* settle
        assert.strictEqual(yield* stateOf(client), `waiting ${delay} for ${attempt}: Closed`)
        yield* Scope.close(scope, Exit.void)
      }
    }))

  it.effect("B80 F9 a server that accepts and says nothing: handshake deadline, then the next attempt", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ handshake: "10 seconds" }, {
        onConnect: (connection) => connection.receive
      })
      const { seen } = yield* watch(client)
      yield* adjust(9_999)
      assert.deepStrictEqual(seen, ["0 connecting 1"])
      yield* adjust(1)
      yield* net.peers[0]!.released
      yield* adjust(200)
      yield* net.last.send("welcome\n")
      yield* settle
      assert.deepStrictEqual(seen, [
        "0 connecting 1",
        "10000 waiting 200 for 2: HandshakeTimeout",
        "10200 connecting 2",
        "10200 connected"
      ])
    }))

  it.effect("B80 a dial that hangs ends at the deadline of open", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start(undefined, {
        answer: Effect.timeoutOrElse(Effect.never, {
          duration: 5_000,
          orElse: () => Effect.fail(failed(new ConnectionError.OpenTimeout({ limit: 5_000 })))
        })
      })
      const { seen } = yield* watch(client)
      yield* adjust(10_600)
      assert.deepStrictEqual(net.dials, [0, 5_200, 10_600])
      assert.strictEqual(seen[1], "5000 waiting 200 for 2: OpenTimeout")
    }))

  it.effect("B86 F7 two signs of one death are one reconnect, and later ones nothing", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ pingEvery: "10 seconds", pong: "5 seconds", silence: "15 seconds" })
      const { seen } = yield* watch(client)
      // FIN and reset at the very moment at which silence and a missed pong end it, too
      yield* adjust(14_999)
      yield* Effect.forkChild(Effect.andThen(Effect.sleep(1), Effect.andThen(net.last.end, net.last.reset)))
      yield* adjust(1)
      assert.strictEqual(seen.length, 2)
      yield* adjust(200)
      assert.strictEqual(net.dials.length, 2)
      assert.strictEqual(yield* stateOf(client), "connected")
      const [old, present] = net.peers as [TestSocket.Peer, TestSocket.Peer]
      yield* old.end
      yield* old.reset
      yield* old.close(1006)
      yield* old.send("late\n")
      yield* client.send("a")
      yield* present.send("ok\n")
      assert.strictEqual(yield* client.receive, "ok")
      assert.strictEqual(yield* present.take, "a\n")
      assert.deepStrictEqual(seen.length, 4)
      assert.strictEqual(net.dials.length, 2)
    }))

  it.effect("B86 F6 a heartbeat of one connection never touches the next", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ pingEvery: "10 seconds", pong: "5 seconds" })
      const { seen } = yield* watch(client)
      yield* adjust(10_000)
      assert.strictEqual(yield* net.peers[0]!.take, "ping\n")
      yield* adjust(4_000)
      yield* net.peers[0]!.reset
      yield* adjust(200)
      // the deadline of the first ping passes, and the one of the second connection is its own
      yield* adjust(9_999)
      assert.strictEqual(yield* stateOf(client), "connected")
      assert.strictEqual(yield* net.peers[1]!.text, "")
      yield* adjust(1)
      assert.strictEqual(yield* net.peers[1]!.text, "ping\n")
      yield* adjust(4_999)
      assert.strictEqual(yield* stateOf(client), "connected")
      yield* adjust(1)
      assert.deepStrictEqual(seen, [
        "0 connected",
        "14000 waiting 200 for 2: Reset",
        "14200 connecting 2",
        "14200 connected",
        "29200 waiting 400 for 3: PongTimeout"
      ])
    }))

  it.effect("F13 the next dial begins after the last connection is gone, however quick the backoff", () =>
    Effect.gen(function*() {
      const net = network()
      let alive = 0
      let most = 0
      const open = Effect.gen(function*() {
        most = Math.max(most, ++alive)
        // runs last: the connection is released before it
        yield* Effect.addFinalizer(() => Effect.andThen(Effect.sleep(500), Effect.sync(() => alive--)))
        return yield* net.open
      })
      const client = yield* Effect.flatMap(
        Scope.make(),
        (scope) => Scope.provide(Client.make(open, { policy: { ...quiet, retryBase: 1, retryCap: 1 } }), scope)
      )
      const { seen } = yield* watch(client)
      yield* net.last.reset
      yield* settle
      yield* net.last.released
      // meanwhile nothing is given to the dead one
      const waiting = yield* sendAll(client, ["a"])
      yield* adjust(500)
      assert.strictEqual(net.dials.length, 1)
      yield* adjust(1)
      assert.deepStrictEqual(net.dials, [0, 501])
      assert.deepStrictEqual(outcomes(waiting), ["done"])
      assert.strictEqual(yield* net.last.take, "a\n")
      assert.strictEqual(most, 1)
      assert.deepStrictEqual(seen, ["0 connected", "500 waiting 1 for 2: Reset", "501 connecting 2", "501 connected"])
    }))

  it.effect("nothing is given to a connection whose end has begun", () =>
    Effect.gen(function*() {
      const net = network({ halfClose: "5 seconds" })
      // runs first: the connection could still send meanwhile
      const open = Effect.tap(net.open, () => Effect.addFinalizer(() => Effect.sleep(500)))
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(Client.make(open, { policy: quiet }), scope)
      yield* net.last.end
      yield* settle
      const waiting = yield* sendAll(client, ["a"])
      yield* settle
      assert.deepStrictEqual(outcomes(waiting), ["waits"])
      yield* adjust(500)
      assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: Closed")
      yield* adjust(200)
      assert.deepStrictEqual(outcomes(waiting), ["done"])
      assert.deepStrictEqual(yield* Effect.forEach(net.peers, (peer) => peer.text), ["", "a\n"])
    }))

  it.effect("a FIN is enough to come back, even where answers may still leave", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ halfClose: "5 seconds" })
      yield* net.last.end
      yield* settle
      assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: Closed")
    }))

  it.effect("a server that asks to leave gets nothing more; what it still answers is received", () =>
    Effect.gen(function*() {
      const leave = Heartbeat.make<string, string>({
        ping: () => "ping",
        read: (message) => message === "leave" ? { _tag: "Leave", advice: { after: 3000, spread: 0 } } : undefined
      })
      for (const ends of [true, false]) {
        const peers: Array<TestSocket.Peer> = []
        const chat = Connection.make({ codec: Codec.lines(), heartbeat: leave, policy: quiet })
        const open = Effect.gen(function*() {
          const peer = yield* TestSocket.make()
          peers.push(peer)
          return yield* chat(peer.socket)
        })
        const scope = yield* Scope.make()
        const client = yield* Scope.provide(Client.make(open, { policy: { ...quiet, drain: "5 seconds" } }), scope)
        yield* client.send("before")
        yield* settle
        yield* peers[0]!.send("leave\n")
        yield* settle
        const sending = yield* Effect.forkChild(client.send("after"), started)
        yield* adjust(4999)
        assert.strictEqual(yield* peers[0]!.text, "before\n")
        yield* peers[0]!.send("answer\n")
        assert.strictEqual(yield* client.receive, "answer")
        assert.strictEqual(yield* stateOf(client), "connected")
        // it ends, or we do not wait for longer than a drain
        if (ends) yield* peers[0]!.reset
        else yield* adjust(1)
        yield* settle
        assert.strictEqual(yield* stateOf(client), `waiting 3000 for 2: ${ends ? "Reset" : "GoingAway"}`)
        yield* adjust(3000)
        yield* Fiber.join(sending)
        yield* settle
        assert.strictEqual(yield* peers[1]!.text, "after\n")
        yield* Scope.close(scope, Exit.void)
      }
    }))

  it.effect("a slow consumer that ends its connection is dialled again", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ outboxMessages: 1, overflow: "close" })
      yield* net.last.window(0)
      yield* client.send("writing")
      yield* settle
      yield* client.send("waiting")
      const [pending] = yield* sendAll(client, ["over"])
      yield* settle
      assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: SlowConsumer, lost 2")
      yield* adjust(200)
      assert.deepStrictEqual(outcomes([pending!]), ["done"])
      assert.strictEqual(yield* net.last.text, "over\n")
    }))
})

// ---------------------------------------------------------------------------------------------------------------------

describe("addresses and retries", () => {
  /** One network for each address. */
  const several = (n: number, policy?: Policy.Patch, options?: Client.Options<string, string, unknown>) =>
    Effect.gen(function*() {
      const nets = Array.from({ length: n }, () => network(policy))
      const scope = yield* Scope.make()
      const opens = nets.map(({ open }) => open) as unknown as readonly [Network["open"]]
      const begin = Effect.suspend(() =>
        Scope.provide(Client.make(opens, { ...options, policy: { ...quiet, ...policy } }), scope)
      )
      return { begin, nets }
    })
  const times = (nets: ReadonlyArray<Network>) => nets.map(({ dials }) => dials)

  it.effect("B81 one backoff step per round over several addresses", () =>
    Effect.gen(function*() {
      const { begin, nets } = yield* several(3)
      for (const net of nets) net.answer = Effect.andThen(Effect.sleep(10), Effect.fail(refused))
      const client = yield* begin
      const { seen } = yield* watch(client)
      yield* adjust(30 + 200 + 30 + 400 + 10)
      assert.deepStrictEqual(times(nets), [[0, 230, 660], [10, 240, 670], [20, 250]])
      assert.deepStrictEqual(seen, [
        "0 connecting 1",
        "30 waiting 200 for 2: OpenFailed",
        "230 connecting 2",
        "260 waiting 400 for 3: OpenFailed",
        "660 connecting 3"
      ])
      nets[2]!.answer = Effect.void
      yield* adjust(10)
      assert.strictEqual(yield* stateOf(client), "connected")
    }))

  it.effect("B81 an address that accepts and says nothing does not keep the next one from its turn", () =>
    Effect.gen(function*() {
      const { begin, nets } = yield* several(2, undefined, { onConnect: (connection) => connection.receive })
      const client = yield* begin
      yield* adjust(10_000)
      assert.deepStrictEqual(times(nets), [[0], [10_000]])
      yield* nets[1]!.last.send("welcome\n")
      yield* settle
      assert.strictEqual(yield* stateOf(client), "connected")
    }))

  it.effect("B81 an address whose connection did not last is the last to be tried again; a stable one is not", () =>
    Effect.gen(function*() {
      const { begin, nets } = yield* several(2)
      const client = yield* begin
      yield* nets[0]!.last.end
      yield* adjust(200)
      assert.deepStrictEqual(times(nets), [[0], [200]])
      yield* nets[1]!.last.end
      yield* adjust(400)
      assert.deepStrictEqual(times(nets), [[0, 600], [200]])
      yield* adjust(60_000)
      yield* nets[0]!.last.end
      yield* adjust(200)
      assert.deepStrictEqual(times(nets), [[0, 600, 60_800], [200]])
      assert.strictEqual(yield* stateOf(client), "connected")
    }))

  it.effect("B81 a reason that is not retryable ends the round, too", () =>
    Effect.gen(function*() {
      const { begin, nets } = yield* several(2)
      nets[0]!.answer = Effect.fail(failed(new ConnectionError.Superseded({ key: "k" })))
      const client = yield* begin
      assert.strictEqual(yield* stateOf(client), "closed: Superseded")
      assert.deepStrictEqual(times(nets), [[0], []])
    }))

  it.effect("B82 retry now wakes the sleeper, once, and is nothing in any other state", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { client, net } = yield* start(undefined, { answer: Deferred.await(gate) })
      yield* client.retryNow
      assert.strictEqual(yield* stateOf(client), "connecting 1")
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      yield* client.retryNow
      assert.strictEqual(yield* stateOf(client), "connected")
      yield* net.last.end
      yield* settle
      // neither of the two calls was kept for now
      assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: Closed")
      yield* adjust(50)
      yield* client.retryNow
      yield* client.retryNow
      yield* settle
      assert.deepStrictEqual(net.dials, [0, 50])
      assert.strictEqual(yield* stateOf(client), "connected")
      // the sleep that was cut short does not come back
      yield* adjust(1000)
      yield* net.last.end
      yield* adjust(399)
      assert.deepStrictEqual(net.dials, [0, 50])
      yield* adjust(1)
      assert.deepStrictEqual(net.dials, [0, 50, 1450])
      yield* client.close
      yield* client.retryNow
      yield* settle
      assert.strictEqual(yield* stateOf(client), "closed: Closed")
    }))

  it.effect("B82 retry now in answer to the very transition", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start()
      yield* Effect.forkChild(
        Stream.runForEach(client.changes, (state) => state._tag === "Waiting" ? client.retryNow : Effect.void),
        started
      )
      yield* net.last.end
      yield* settle
      assert.deepStrictEqual(net.dials, [0, 0])
      assert.strictEqual(yield* stateOf(client), "connected")
    }))

  it.effect("B88 a non-retryable reason stops for good: of open, of onConnect, of the connection", () =>
    Effect.gen(function*() {
      const open = yield* start(undefined, {
        answer: Effect.fail(failed(new ConnectionError.HandshakeFailed({ cause: "no" })))
      })
      assert.strictEqual(yield* stateOf(open.client), "closed: HandshakeFailed")

      const hook = yield* start(undefined, { onConnect: () => Effect.fail("bad credentials") })
      yield* settle
      const error = yield* Effect.flip(hook.client.closed)
      assert.deepInclude(error.reason, { _tag: "HandshakeFailed", cause: "bad credentials" })
      yield* hook.net.last.released

      const { client, net } = yield* start()
      const pending = yield* Effect.forkChild(client.receive, started)
      yield* (yield* client.connection).closeWith(new ConnectionError.Superseded({ key: "user 1" }))
      yield* settle
      assert.strictEqual(yield* stateOf(client), "closed: Superseded")
      assert.deepStrictEqual(outcomes([pending]), ["Superseded"])
      yield* adjust("1 hour")
      assert.strictEqual(net.dials.length, 1)
    }))

  it.effect("B88 a predicate decides otherwise, both ways", () =>
    Effect.gen(function*() {
      const always = yield* start(undefined, { onConnect: () => Effect.fail("busy"), isRetryable: () => true })
      yield* settle
      assert.strictEqual(yield* stateOf(always.client), "waiting 200 for 2: HandshakeFailed")
      // but it does not keep a client from closing
      const watched = yield* watch(always.client)
      yield* always.client.close
      yield* settle
      assert.strictEqual(watched.seen.at(-1), "0 closed: Closed")

      const never = yield* start(undefined, { isRetryable: ({ reason }) => reason._tag !== "Reset" })
      yield* never.net.last.reset
      yield* settle
      assert.strictEqual(yield* stateOf(never.client), "closed: Reset")
    }))

  it.effect("B88 a policy decides by tag and by code, and a predicate over it", () =>
    Effect.gen(function*() {
      const busy = () => Effect.fail("busy")
      const after = (rules: Partial<RetryRules>, options?: Client.Options<string, string, unknown>) =>
        Effect.gen(function*() {
          const net = network()
          const client = yield* Client.make(net.open, { ...options, policy: withRules(rules) })
          return { client, net }
        })

      const refusing = yield* after({ retryOn: ["HandshakeFailed"] }, { onConnect: busy })
      yield* settle
      assert.strictEqual(yield* stateOf(refusing.client), "waiting 200 for 2: HandshakeFailed")
      yield* adjust(200)
      assert.deepStrictEqual(refusing.net.dials, [0, 200])

      const reset = yield* after({ giveUpOn: ["Reset"] })
      yield* reset.net.last.reset
      yield* settle
      assert.strictEqual(yield* stateOf(reset.client), "closed: Reset")

      const closedWith = (code: number, retryable: boolean) =>
        after({ retryOn: [4001, "4100-4199"], giveUpOn: ["4000-4099"] }, {
          onConnect: (connection) => connection.closeWith(new ConnectionError.Closed({ by: "peer", code, retryable }))
        })
      const again = yield* closedWith(4100, false)
      const never = yield* closedWith(4002, true)
      // giveUpOn comes first
      const both = yield* closedWith(4001, true)
      yield* settle
      assert.strictEqual(yield* stateOf(again.client), "waiting 200 for 2: Closed")
      assert.strictEqual(yield* stateOf(never.client), "closed: Closed")
      assert.strictEqual(yield* stateOf(both.client), "closed: Closed")

      const stubborn = yield* after({ giveUpOn: ["HandshakeFailed"] }, { onConnect: busy, isRetryable: () => true })
      yield* settle
      assert.strictEqual(yield* stateOf(stubborn.client), "waiting 200 for 2: HandshakeFailed")
    }))

  it.effect("close of a connected client that would retry anything passes through no other state", () =>
    Effect.gen(function*() {
      const { client } = yield* start(undefined, { isRetryable: () => true })
      const { seen } = yield* watch(client)
      yield* client.close
      yield* adjust("1 minute")
      assert.deepStrictEqual(seen, ["0 connected", "0 closed: Closed"])
    }))

  it.effect("a schedule that stops, fails or dies closes the client; the first two with the connection's error", () =>
    Effect.gen(function*() {
      const stops = yield* start(undefined, { answer: Effect.fail(refused), reconnect: Schedule.recurs(2) })
      yield* settle
      assert.strictEqual(stops.net.dials.length, 3)
      assert.strictEqual((yield* Effect.flip(stops.client.closed)).reason, refused.reason)

      const failing = Schedule.fromStep(Effect.succeed(() => Effect.fail("schedule" as const)))
      const fails = yield* start(undefined, { answer: Effect.fail(refused), reconnect: failing })
      assert.strictEqual((yield* Effect.flip(fails.client.closed)).reason, refused.reason)

      const dying = Schedule.fromStep(Effect.succeed(() => Effect.die("schedule")))
      const dies = yield* start(undefined, { answer: Effect.fail(refused), reconnect: dying })
      assert.deepInclude((yield* Effect.flip(dies.client.closed)).reason, { _tag: "Defect", by: "reconnect" })
    }))

  it.effect("a schedule of one's own replaces the retry fields", () =>
    Effect.gen(function*() {
      const { net } = yield* start({ retryAttempts: 1 }, {
        answer: Effect.fail(refused),
        reconnect: Backoff.constant(70)
      })
      yield* adjust(210)
      assert.deepStrictEqual(net.dials, [0, 70, 140, 210])
    }))

  it.effect("advice is obeyed once, and capped", () =>
    Effect.gen(function*() {
      for (const [maxAdvice, delay] of [["5 minutes", 7_000], ["4 seconds", 4_000], [0, 200]] as const) {
        const advice = { after: 7_000, spread: 0 }
        const { client, net, scope } = yield* start({ retryMaxAdvice: maxAdvice })
        const connection = yield* client.connection
        net.answer = Effect.fail(failed(new ConnectionError.Refused({ limit: "stopping" }), advice))
        // one that was connected and one that never was; the second advice comes too soon after the first
        yield* net.last.reset
        yield* settle
        assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: Reset")
        yield* adjust(200)
        assert.strictEqual(yield* stateOf(client), `waiting ${delay === 200 ? 400 : delay} for 3: Refused`)
        net.answer = Effect.fail(refused)
        yield* adjust(delay === 200 ? 400 : delay)
        assert.strictEqual(yield* stateOf(client), `waiting ${delay === 200 ? 800 : 400} for 4: OpenFailed`)
        assert.strictEqual((yield* connection.snapshot).state, "ended")
        yield* Scope.close(scope, Exit.void)
      }
    }))
})

// ---------------------------------------------------------------------------------------------------------------------

describe("states", () => {
  it.effect("a reader of changes slower than the client misses nothing, and ends after Closed", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start()
      const seen: Array<string> = []
      const reader = yield* Effect.forkChild(
        Stream.runForEach(client.changes, (state) => {
          seen.push(show(state))
          return Effect.sleep("10 minutes")
        }),
        started
      )
      for (let i = 0; i < 4; i++) {
        yield* net.last.end
        yield* adjust(200 * 2 ** i)
      }
      yield* client.close
      assert.deepStrictEqual(seen, ["connected"])
      yield* adjust("10 hours")
      yield* Fiber.join(reader)
      assert.deepStrictEqual(seen, [
        "connected",
        ...[2, 3, 4, 5].flatMap((
          n
        ) => [`waiting ${200 * 2 ** (n - 2)} for ${n}: Closed`, `connecting ${n}`, "connected"]),
        "closed: Closed"
      ])
    }))

  it.effect("a late reader sees the current state first, and after the close just that", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start()
      yield* net.last.end
      yield* settle
      const { seen } = yield* watch(client)
      assert.deepStrictEqual(seen, ["0 waiting 200 for 2: Closed"])
      yield* adjust(200)
      yield* client.close
      assert.deepStrictEqual((yield* Stream.runCollect(client.changes)).map(show), ["closed: Closed"])
    }))

  it.effect("what a reader does in answer to a transition finds it done", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { client, net } = yield* start({ whenOffline: "fail" }, { answer: Deferred.await(gate) })
      const seen: Array<string> = []
      yield* Effect.forkChild(
        Stream.runForEach(client.changes, (state) =>
          Effect.gen(function*() {
            const sent = yield* Effect.exit(client.send(state._tag))
            seen.push(`${state._tag} ${yield* stateOf(client)} ${Exit.isSuccess(sent) ? "sent" : "refused"}`)
            if (state._tag === "Waiting") yield* client.close
          })),
        started
      )
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      yield* net.last.reset
      yield* settle
      assert.deepStrictEqual(seen, [
        "Connecting connecting 1 refused",
        "Connected connected sent",
        "Waiting waiting 200 for 2: Reset refused",
        "Closed closed: Closed refused"
      ])
    }))

  it.effect(
    "whoever waits for a connection is woken, whatever instruction of his the transition falls into",
    () =>
      Effect.gen(function*() {
        for (let ops = 3; ops <= 64; ops += often(3, 1)) {
          // all of them where the way is cut into the most pieces
          for (let turns = ops < 16 ? 0 : ops % 2; turns < 8; turns += ops < 16 ? 1 : 2) {
            const gate = yield* Deferred.make<void>()
            const { client, net, scope } = yield* start(undefined, { answer: Deferred.await(gate) })
            const fibers = [
              ...(yield* Effect.forEach(
                [client.connection, client.send("a"), client.receive, client.closed],
                (effect) =>
                  Effect.provideService(
                    Effect.forkChild(effect as Effect.Effect<unknown, Failure>),
                    Scheduler.MaxOpsBeforeYield,
                    ops
                  )
              ))
            ]
            for (let i = 0; i < turns; i++) yield* Effect.yieldNow
            yield* Deferred.succeed(gate, undefined)
            yield* settleAt(ops)
            yield* net.last.send("b\n")
            yield* settleAt(ops)
            assert.deepStrictEqual(outcomes(fibers).slice(1), ["done", "b", "waits"], `${ops} ${turns}`)
            assert.isDefined(fibers[0]!.pollUnsafe())
            for (let i = 0; i < turns; i++) yield* Effect.yieldNow
            yield* client.close
            yield* settleAt(ops)
            assert.strictEqual(outcomes(fibers)[3], "Closed")
            yield* Scope.close(scope, Exit.void)
          }
        }
      }),
    long(60_000)
  )
})

// ---------------------------------------------------------------------------------------------------------------------

describe("sending while offline", () => {
  /** A client whose dials wait for the gate. */
  const offline = (policy?: Policy.Patch, options?: Omit<Client.Options<string, string, unknown>, "policy">) =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void, Failure>()
      const { client, net, scope } = yield* start(policy, { ...options, answer: Deferred.await(gate) })
      return { client, net, scope, gate, connect: Effect.andThen(Deferred.succeed(gate, undefined), settle) }
    })

  it.effect("B85 the bounded buffer: fits, fits, refuses; all that fitted is sent in order", () =>
    Effect.gen(function*() {
      const { client, connect, net } = yield* offline({ offlineMessages: 2 })
      const fibers = yield* sendAll(client, ["a", "b", "c"])
      assert.deepStrictEqual(outcomes(fibers), ["waits", "waits", "Offline"])
      const error = yield* Effect.flip(client.send("d"))
      assert.deepInclude(error.reason, { _tag: "Offline", messages: 2, bytes: 2 })
      yield* connect
      assert.deepStrictEqual(outcomes(fibers), ["done", "done", "Offline"])
      assert.strictEqual(yield* net.last.take, "a\nb\n")
      // and there is room again
      yield* net.last.reset
      yield* settle
      const again = yield* sendAll(client, ["e", "f", "g"])
      assert.deepStrictEqual(outcomes(again), ["waits", "waits", "Offline"])
      yield* adjust(200)
      assert.strictEqual(yield* net.last.take, "e\nf\n")
    }))

  it.effect("B85 the bound in bytes, both sides of the limit", () =>
    Effect.gen(function*() {
      const { client, connect, net } = yield* offline({ offlineBytes: 10 })
      const fibers = yield* sendAll(client, ["ää12", "1234", "1", ""])
      // 6 and 4 bytes fit exactly
      assert.deepStrictEqual(outcomes(fibers), ["waits", "waits", "Offline", "waits"])
      assert.deepStrictEqual(outcomes(yield* sendAll(client, ["12345678901"])), ["Offline"])
      yield* connect
      assert.strictEqual(yield* net.last.take, "ää12\n1234\n\n")
      yield* net.last.reset
      yield* settle
      assert.deepStrictEqual(outcomes(yield* sendAll(client, ["12345678901", "1234567890", "1"])), [
        "Offline",
        "waits",
        "Offline"
      ])
    }))

  it.effect("B85 offlineMessages: 0 keeps none", () =>
    Effect.gen(function*() {
      const { client, connect, net } = yield* offline({ offlineMessages: 0 })
      assert.deepStrictEqual(outcomes(yield* sendAll(client, ["a"])), ["Offline"])
      yield* connect
      yield* client.send("b")
      assert.strictEqual(yield* net.last.take, "b\n")
    }))

  it.effect("whenOffline: \"fail\" fails at once, whatever the state, also those whose connection ends while they wait", () =>
    Effect.gen(function*() {
      const { client, connect, net } = yield* offline({ whenOffline: "fail", outboxMessages: 1 })
      const error = yield* Effect.flip(client.send("a"))
      assert.deepInclude(error.reason, { _tag: "Offline", messages: 0, bytes: 0 })
      yield* connect
      yield* net.last.window(0)
      yield* client.send("b")
      yield* settle
      const fibers = yield* sendAll(client, ["c", "d", "e"])
      assert.deepStrictEqual(outcomes(fibers), ["done", "waits", "waits"])
      yield* net.last.reset
      yield* settle
      assert.deepStrictEqual(outcomes(fibers), ["done", "Offline", "Offline"])
      assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: Reset, lost 2")
      assert.strictEqual((yield* Effect.flip(client.send("f"))).reason._tag, "Offline")
      yield* client.close
      assert.strictEqual((yield* Effect.flip(client.send("g"))).reason._tag, "Closed")
    }))

  it.effect("B85 F18 a pending send always settles: connected, closed, given up, scope gone, not retryable", () =>
    Effect.gen(function*() {
      const ways: Record<string, (self: Effect.Success<ReturnType<typeof offline>>) => Effect.Effect<unknown>> = {
        "done": ({ connect }) => connect,
        "Closed": ({ client }) => client.close,
        "Closed ": ({ scope }) => Scope.close(scope, Exit.void),
        "Closed  ": ({ scope }) => Scope.close(scope, Exit.fail("failure")),
        "Closed   ": ({ scope }) => Scope.close(scope, Exit.interrupt()),
        "OpenFailed": ({ gate }) => Deferred.fail(gate, refused),
        "Superseded": ({ gate }) => Deferred.fail(gate, failed(new ConnectionError.Superseded({ key: "k" }))),
        "Defect": ({ gate }) => Deferred.die(gate, "defect")
      }
      for (const [expected, settleBy] of Object.entries(ways)) {
        const self = yield* offline({ retryAttempts: 1 })
        const fibers = yield* sendAll(self.client, ["a", "b", "c"])
        const batch = yield* Effect.forkChild(self.client.sendAll(["d", "e"]), started)
        yield* settleBy(self)
        yield* adjust(10_000)
        assert.deepStrictEqual(outcomes([...fibers, batch]), Array.from({ length: 4 }, () => expected.trim()))
        // and so does whatever comes later
        const late = yield* sendAll(self.client, ["f"])
        yield* settle
        assert.deepStrictEqual(outcomes(late), [expected.trim()])
      }
    }))

  it.effect("sends wait over several failed attempts, and go out in the order they came", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start(undefined, { answer: Effect.fail(refused) })
      const fibers: Array<Fiber.Fiber<void, Failure>> = []
      for (let i = 0; i < 5; i++) {
        fibers.push(...(yield* sendAll(client, numbers(i * 4, i * 4 + 3))))
        yield* adjust(200 * 2 ** i)
      }
      fibers.push(yield* Effect.forkChild(client.sendAll(["20", "21"]), started))
      net.answer = Effect.void
      yield* adjust("1 minute")
      // whoever comes now is behind them
      yield* client.send("22")
      yield* client.flush
      assert.isTrue(outcomes(fibers).every((outcome) => outcome === "done"))
      assert.strictEqual(yield* net.last.text, lines(numbers(0, 22)))
    }))

  it.effect("nobody sends before onConnect is done, and what it sends is first", () =>
    Effect.gen(function*() {
      const { client, connect, net } = yield* offline(undefined, {
        onConnect: (connection) =>
          Effect.gen(function*() {
            yield* connection.send("hello")
            assert.strictEqual(yield* connection.receive, "welcome")
            yield* connection.send("subscribe")
          })
      })
      const fibers = yield* sendAll(client, ["a", "b"])
      yield* connect
      assert.strictEqual(yield* net.last.text, "hello\n")
      assert.deepStrictEqual(outcomes(fibers), ["waits", "waits"])
      yield* net.last.send("welcome\nnews\n")
      yield* settle
      assert.strictEqual(yield* net.last.text, "hello\nsubscribe\na\nb\n")
      assert.strictEqual(yield* client.receive, "news")
    }))

  it.effect("a message that cannot be sent fails its own sender and nobody else", () =>
    Effect.gen(function*() {
      const { client, connect, net } = yield* offline({ maxFrame: 3 })
      const fibers = yield* sendAll(client, ["a", "too long", "b"])
      const batches = [
        yield* Effect.forkChild(client.sendAll(["c", "too long", "d"]), started),
        yield* Effect.forkChild(client.sendAll([]), started)
      ]
      yield* connect
      assert.deepStrictEqual(outcomes(fibers), ["done", "FrameTooLong", "done"])
      assert.deepStrictEqual(outcomes(batches), ["FrameTooLong", "done"])
      assert.strictEqual(yield* net.last.text, "a\nb\n")
    }))

  it.effect("sizeOf weighs messages, and one that throws is a defect of its sender only", () =>
    Effect.gen(function*() {
      const { client, connect, net } = yield* offline({ offlineBytes: 10 }, {
        sizeOf: (message) => {
          if (message === "throw") throw new Error("boom")
          return Number(message)
        }
      })
      const fibers = yield* sendAll(client, ["7", "throw", "4", "3"])
      assert.deepStrictEqual(outcomes(fibers), ["waits", "Defect", "Offline", "waits"])
      yield* connect
      assert.strictEqual(yield* net.last.text, "7\n3\n")
    }))

  it.effect("a size that is none is a defect of its sender, and the bound holds after it", () =>
    Effect.gen(function*() {
      const { client, connect, net } = yield* offline({ offlineBytes: 10 }, {
        sizeOf: (message) => message === "none" ? NaN : message === "less" ? -100 : Number(message)
      })
      const fibers = yield* sendAll(client, ["none", "less", "Infinity", "7", "4", "3"])
      assert.deepStrictEqual(outcomes(fibers), ["Defect", "Defect", "Offline", "waits", "Offline", "waits"])
      yield* connect
      assert.strictEqual(yield* net.last.text, "7\n3\n")
    }))

  it.effect("messages that are no text weigh as JSON, and what is no JSON is counted", () =>
    Effect.gen(function*() {
      const open = Effect.flatMap(TestSocket.make(), ({ socket }) =>
        Effect.andThen(
          Effect.never,
          Connection.make(socket, { codec: Codec.json(Codec.lines()) })
        ))
      const client = yield* Client.make(open, { policy: { offlineBytes: 10 } })
      const fibers = yield* Effect.forEach([{ a: 1 }, 1n, undefined, "123"], (message) =>
        Effect.forkChild(client.send(message), started))
      // 7 bytes, 1 for what cannot be weighed, none, and 3 or 5 for the last: text weighs without its quotes
      assert.deepStrictEqual(outcomes(fibers), ["waits", "waits", "waits", "Offline"])
      assert.deepStrictEqual(outcomes([yield* Effect.forkChild(client.send("12"), started)]), ["waits"])
      yield* Effect.forEach(fibers, Fiber.interrupt)
    }))
})

// ---------------------------------------------------------------------------------------------------------------------

describe("at most once", () => {
  it.effect("what was accepted and not flushed is reported once, and not sent again", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start()
      const { seen } = yield* watch(client)
      yield* client.sendAll(["a", "b"])
      yield* client.flush
      yield* net.last.window(0)
      yield* client.sendAll(["c", "d", "e"])
      yield* settle
      yield* client.send("f")
      const flush = yield* Effect.forkChild(client.flush, started)
      yield* net.last.reset
      yield* settle
      assert.deepStrictEqual(outcomes([flush]), ["Reset"])
      // nothing is there to flush
      yield* client.flush
      yield* adjust(200)
      yield* net.last.reset
      yield* adjust(400)
      yield* client.close
      assert.deepStrictEqual(seen.filter((line) => !line.includes("connect")), [
        "0 waiting 200 for 2: Reset, lost 4",
        "200 waiting 400 for 3: Reset",
        "600 closed: Closed"
      ])
      assert.deepStrictEqual(yield* Effect.forEach(net.peers, (peer) => peer.text), ["a\nb\n", "", ""])
    }))

  it.effect("what was accepted in onConnect, and before a scope that fails, is reported as well", () =>
    Effect.gen(function*() {
      const net = network()
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(
        Client.make(net.open, {
          policy: { ...quiet, handshake: 1000 },
          onConnect: (connection) =>
            Effect.gen(function*() {
              yield* net.last.window(0)
              yield* connection.send("a")
              if (net.peers.length === 1) yield* Effect.never
            })
        }),
        scope
      )
      yield* adjust(1000)
      assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: HandshakeTimeout, lost 1")
      yield* adjust(200)
      yield* client.send("b")
      yield* Scope.close(scope, Exit.fail("failure"))
      assert.strictEqual(yield* stateOf(client), "closed: Closed, lost 2")
    }))

  it.effect("senders that a full outbox held back go to the next connection, in order, each once", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ outboxMessages: 1 })
      yield* net.last.window(0)
      yield* client.send("writing")
      yield* settle
      yield* client.send("waiting")
      const fibers = yield* sendAll(client, numbers(1, 5))
      yield* settle
      assert.isTrue(outcomes(fibers).every((outcome) => outcome === "waits"))
      yield* net.last.reset
      yield* settle
      fibers.push(...(yield* sendAll(client, ["6"])))
      assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: Reset, lost 2")
      yield* adjust(200)
      assert.isTrue(outcomes(fibers).every((outcome) => outcome === "done"))
      assert.strictEqual(yield* net.last.text, lines(numbers(1, 6)))
    }))

  it.effect("whoever waited for room counts against the bounds once there is no connection", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ outboxMessages: 1, offlineMessages: 3, offlineBytes: 10 })
      yield* net.last.window(0)
      yield* client.send("writing")
      yield* settle
      yield* client.send("waiting")
      const fibers = yield* sendAll(client, ["1234", "12"])
      yield* net.last.reset
      yield* settle
      assert.deepStrictEqual(outcomes(yield* sendAll(client, ["12345"])), ["Offline"])
      fibers.push(...(yield* sendAll(client, ["1234", ""])))
      assert.deepStrictEqual(outcomes(fibers), ["waits", "waits", "waits", "Offline"])
      yield* adjust(200)
      assert.strictEqual(yield* net.last.text, "1234\n12\n1234\n")
    }))

  it.effect("a batch fits or is refused as a whole, and nothing comes in between", () =>
    Effect.gen(function*() {
      const { client, net, scope } = yield* start({ offlineMessages: 4 }, { answer: Effect.fail(refused) })
      const fibers = [
        yield* Effect.forkChild(client.sendAll(["a", "b", "c"]), started),
        yield* Effect.forkChild(client.sendAll(["d", "e"]), started),
        yield* Effect.forkChild(client.sendAll(new Set(["f"])), started)
      ]
      assert.deepStrictEqual(outcomes(fibers), ["waits", "Offline", "waits"])
      net.answer = Effect.void
      yield* adjust(200)
      assert.deepStrictEqual(outcomes(fibers), ["done", "Offline", "done"])
      assert.strictEqual(yield* net.last.text, "a\nb\nc\nf\n")
      yield* Scope.close(scope, Exit.void)
    }))

  it.effect("a batch taken in part by a connection that ended fails, and none of it is sent again", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ outboxMessages: 2 })
      yield* net.last.window(0)
      yield* client.send("writing")
      yield* settle
      const batch = yield* Effect.forkChild(client.sendAll(["a", "b", "c"]), started)
      const next = yield* Effect.forkChild(client.sendAll(["d", "e"]), started)
      yield* net.last.reset
      yield* settle
      assert.deepStrictEqual(outcomes([batch, next]), ["Reset", "waits"])
      assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: Reset, lost 3")
      yield* adjust(200)
      assert.deepStrictEqual(outcomes([batch, next]), ["Reset", "done"])
      assert.strictEqual(yield* net.last.text, "d\ne\n")
    }))

  it.effect("a full outbox under overflow: fail fails the send, not the client", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ outboxMessages: 1, overflow: "fail" })
      yield* net.last.window(0)
      yield* client.send("a")
      yield* settle
      yield* client.send("b")
      assert.strictEqual((yield* Effect.flip(client.send("c"))).reason._tag, "OutboxFull")
      yield* net.last.window(Infinity)
      yield* client.flush
      yield* client.send("d")
      yield* client.flush
      assert.strictEqual(yield* net.last.text, "a\nb\nd\n")
    }))
})

// ---------------------------------------------------------------------------------------------------------------------

describe("interrupted senders", () => {
  /** Three places in the line: whoever was interrupted gives his back, and the others go out in order. */
  const check = (ops: number, victim: number, turns: number) =>
    Effect.gen(function*() {
      const label = `ops ${ops}, victim ${victim}, turns ${turns}`
      const gate = yield* Deferred.make<void>()
      const { client, net, scope } = yield* start({ offlineMessages: 3, offlineBytes: 30 }, {
        answer: Deferred.await(gate)
      })
      // some instructions ahead of it, so that every one of its own is a yield point for some `ops`
      const sender = (message: string) =>
        Effect.gen(function*() {
          for (let i = 0; i < 4; i++) yield* Effect.suspend(() => Effect.void)
          yield* client.send(message)
        })
      const fork = (message: string) =>
        Effect.provideService(Effect.forkChild(sender(message)), Scheduler.MaxOpsBeforeYield, ops)
      const fibers = [yield* fork("message 0"), yield* fork("message 1"), yield* fork("message 2")]
      for (let i = 0; i < turns; i++) yield* Effect.yieldNow
      yield* Fiber.interrupt(fibers[victim]!)
      yield* settleAt(ops)
      const more = yield* sendAll(client, ["message 3", "message 4"])
      assert.deepStrictEqual(outcomes(more), ["waits", "Offline"], label)
      yield* Deferred.succeed(gate, undefined)
      yield* settleAt(ops)
      assert.deepStrictEqual(outcomes(fibers), numbers(0, 2).map((n) => (+n === victim ? "Interrupt" : "done")), label)
      yield* client.send("message 5")
      yield* client.flush
      const left = ["0", "1", "2", "3", "5"].filter((n) => +n !== victim).map((n) => `message ${n}\n`)
      assert.deepStrictEqual((yield* net.last.text).match(/.+\n/g)!.toSorted(), left, label)
      // the bound is what it was: exactly three wait
      yield* net.last.reset
      yield* settleAt(ops)
      const exact = yield* sendAll(client, ["6", "7", "8", "9"])
      assert.deepStrictEqual(outcomes(exact), ["waits", "waits", "waits", "Offline"], label)
      yield* Scope.close(scope, Exit.void)
    })

  it.effect(
    "head, middle and tail of the line, at every yield point: no turn is lost, no counter stays behind",
    () =>
      Effect.gen(function*() {
        for (let ops = 3; ops <= 64; ops += often(3, 1)) {
          for (let victim = 0; victim < 3; victim++) {
            // all of them where the way is cut into the most pieces
            for (const turn of ops < 16 ? [0, 1, 2, 3, 4, 5, 6, 7, 8] : [0, 3, 6]) {
              yield* check(ops, victim, (turn + ops) % 9)
            }
          }
        }
      }),
    long(60_000)
  )

  it.effect(
    "while the connection takes them: a later send still works, and nothing goes out twice",
    () =>
      Effect.gen(function*() {
        for (let ops = 3; ops <= 64; ops += often(3, 1)) {
          for (const turn of [0, 3, 6, 9]) {
            const turns = (turn + ops) % 12
            const gate = yield* Deferred.make<void>()
            const { client, net, scope } = yield* start({ offlineMessages: 3 }, { answer: Deferred.await(gate) })
            const fibers = yield* Effect.provideService(
              Effect.forEach(["0", "1", "2"], (message) => Effect.forkChild(client.send(message))),
              Scheduler.MaxOpsBeforeYield,
              ops
            )
            yield* settleAt(ops)
            yield* Deferred.succeed(gate, undefined)
            for (let i = 0; i < turns; i++) yield* Effect.yieldNow
            yield* Fiber.interrupt(fibers[turns % 3]!)
            yield* settleAt(ops)
            yield* client.send("3")
            yield* client.flush
            const text = yield* net.last.text
            for (const n of [0, 1, 2]) {
              const times = text.split(`${n}\n`).length - 1
              assert.isAtMost(times, 1)
              if (n !== turns % 3) assert.strictEqual(times, 1, `ops ${ops}, turns ${turns}`)
            }
            assert.isTrue(text.endsWith("3\n"))
            yield* net.last.reset
            yield* settleAt(ops)
            assert.deepStrictEqual(outcomes(yield* sendAll(client, ["5", "6", "7", "8"])), [
              "waits",
              "waits",
              "waits",
              "Offline"
            ])
            yield* Scope.close(scope, Exit.void)
          }
        }
      }),
    long(60_000)
  )

  it.effect("interrupted in a full outbox: the next one gets the room", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ outboxMessages: 1 })
      yield* net.last.window(0)
      yield* client.send("a")
      yield* settle
      yield* client.send("b")
      const fibers = yield* sendAll(client, ["c", "d", "e"])
      yield* settle
      yield* Fiber.interrupt(fibers[0]!)
      yield* Fiber.interrupt(fibers[2]!)
      yield* net.last.window(Infinity)
      yield* settle
      assert.deepStrictEqual(outcomes(fibers), ["Interrupt", "done", "Interrupt"])
      assert.strictEqual(yield* net.last.text, "a\nb\nd\n")
    }))
})

// ---------------------------------------------------------------------------------------------------------------------

describe("receiving", () => {
  it.effect("messages read before a connection died come after the reconnect, in order, none twice", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start()
      for (let i = 0; i < 4; i++) {
        yield* net.last.send(lines(numbers(i * 3, i * 3 + 2)))
        yield* settle
        // no sooner read than dead
        yield* i % 2 === 0 ? net.last.reset : net.last.end
        yield* adjust(200 * 2 ** i)
      }
      yield* net.last.send(lines(numbers(12, 14)))
      yield* settle
      assert.strictEqual(net.peers.length, 5)
      const first = [yield* client.receive, yield* client.receive, yield* client.receive, yield* client.receive]
      assert.deepStrictEqual(first, numbers(0, 3))
      const rest: Array<string> = []
      while (rest.length < 11) rest.push(...(yield* client.receiveAll))
      assert.deepStrictEqual(rest, numbers(4, 14))
      const waiting = yield* Effect.forkChild(client.receive, started)
      assert.deepStrictEqual(outcomes([waiting]), ["waits"])
      yield* net.last.send("15\n")
      yield* settle
      assert.deepStrictEqual(outcomes([waiting]), ["15"])
    }))

  it.effect("what was read can be received after the close, and then the reason", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start()
      yield* net.last.send("a\n")
      yield* settle
      yield* net.last.reset
      yield* adjust(200)
      yield* net.last.send("b\nc\n")
      yield* settle
      yield* client.close
      assert.deepStrictEqual(
        [yield* client.receive, yield* client.receive, yield* client.receive],
        ["a", "b", "c"]
      )
      assert.strictEqual((yield* Effect.flip(client.receive)).reason._tag, "Closed")
      assert.strictEqual((yield* Effect.flip(client.receiveAll)).reason._tag, "Closed")
    }))

  it.effect("several waiting fibers share what comes, over a reconnect", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start()
      const fibers = yield* Effect.forEach(numbers(1, 6), () => Effect.forkChild(client.receive, started))
      yield* net.last.send("1\n2\n")
      yield* settle
      assert.deepStrictEqual(outcomes(fibers).filter((outcome) => outcome !== "waits"), ["1", "2"])
      yield* net.last.reset
      yield* adjust(200)
      yield* Fiber.interrupt(fibers[5]!)
      yield* net.last.send("3\n4\n")
      yield* net.last.send("5\n6\n")
      yield* settle
      assert.deepStrictEqual(outcomes(fibers).slice(0, 5).toSorted(), numbers(1, 5))
      assert.strictEqual(yield* client.receive, "6")
      const late = yield* Effect.forEach(numbers(1, 3), () => Effect.forkChild(client.receive, started))
      yield* client.close
      yield* settle
      assert.deepStrictEqual(outcomes(late), ["Closed", "Closed", "Closed"])
    }))

  it.effect("nobody receives for many reconnects: what is kept is bounded in messages, the oldest go", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ inboxMessages: 100, retryBase: 1, retryCap: 1 })
      for (let i = 0; i < 200; i++) {
        yield* net.last.send(lines(numbers(i * 10, i * 10 + 9)))
        yield* settle
        yield* net.last.reset
        yield* adjust(1)
      }
      yield* client.close
      const kept = yield* drain(client)
      assert.deepStrictEqual(kept, numbers(1900, 1999))
    }))

  it.effect("nobody receives for many reconnects: what is kept is bounded in bytes", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ inboxBytes: 1000, retryBase: 1, retryCap: 1 })
      for (let i = 100; i < 200; i++) {
        // 100 bytes with the end of the line
        yield* net.last.send(`${i}`.padEnd(99, "x") + "\n")
        yield* settle
        yield* net.last.reset
        yield* adjust(1)
      }
      yield* client.close
      assert.deepStrictEqual((yield* drain(client)).map((message) => message.slice(0, 3)), numbers(190, 199))
    }))

  it.effect("connections that left nothing are let go, and so is one that left more than the bound, but only later", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ inboxMessages: 2, retryBase: 1, retryCap: 1 })
      // one read is kept whole
      yield* net.last.send(lines(numbers(1, 5)))
      yield* settle
      yield* net.last.reset
      yield* adjust(1)
      for (let i = 0; i < 10; i++) {
        yield* net.last.reset
        yield* adjust(1)
      }
      assert.strictEqual(yield* client.receive, "1")
      yield* net.last.send("6\n")
      yield* settle
      yield* net.last.reset
      yield* adjust(1)
      // 4 and 1 are more than 2
      assert.strictEqual(yield* client.receive, "6")
    }))

  const drain = (client: Chat) =>
    Effect.gen(function*() {
      const all: Array<string> = []
      while (true) {
        const next = yield* Effect.exit(client.receiveAll)
        if (Exit.isFailure(next)) return all
        all.push(...next.value)
      }
    })
})

// ---------------------------------------------------------------------------------------------------------------------

describe("what is given to the client fails", () => {
  it.effect("onConnect: a ConnectionError is itself, anything else a handshake that failed", () =>
    Effect.gen(function*() {
      const given = failed(new ConnectionError.Closed({ by: "peer" }))
      const ways: ReadonlyArray<[Effect.Effect<unknown, unknown>, string]> = [
        [Effect.fail(given), "waiting 200 for 2: Closed"],
        [Effect.fail({ _tag: "BadPassword" }), "closed: HandshakeFailed"],
        [Effect.die(new Error("defect")), "closed: Defect"],
        [
          Effect.sync(() => {
            throw new Error("thrown")
          }),
          "closed: Defect"
        ],
        [Effect.interrupt, "closed: HandshakeFailed"]
      ]
      for (const [onConnect, expected] of ways) {
        const { client, net, scope } = yield* start(undefined, { onConnect: () => onConnect })
        const { seen } = yield* watch(client)
        yield* settle
        yield* net.last.released
        assert.strictEqual(yield* stateOf(client), expected)
        assert.isFalse(seen.some((line) => line.endsWith("connected")))
        yield* Scope.close(scope, Exit.void)
      }
      const { client } = yield* start(undefined, { onConnect: () => Effect.die("boom") })
      yield* settle
      assert.deepInclude((yield* Effect.flip(client.closed)).reason, { _tag: "Defect", by: "onConnect" })
      const throws = yield* start(undefined, {
        onConnect: () => {
          throw new Error("at once")
        }
      })
      yield* settle
      assert.match((yield* Effect.flip(throws.client.closed)).message, /a defect in the onConnect ended it: at once/)
    }))

  it.effect("onConnect: an unbounded handshake is one without a deadline", () =>
    Effect.gen(function*() {
      for (const handshake of [0, Infinity]) {
        const { client, net } = yield* start({ handshake }, { onConnect: (connection) => connection.receive })
        yield* adjust("1 day")
        assert.strictEqual(yield* stateOf(client), "connecting 1")
        yield* net.last.send("at last\n")
        yield* settle
        assert.strictEqual(yield* stateOf(client), "connected")
      }
    }))

  it.effect("onConnect: what it forked lives as long as the connection", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const { net } = yield* start(undefined, {
        onConnect: (connection) =>
          Effect.forkScoped(Effect.onInterrupt(Effect.never, () =>
            Effect.sync(() => {
              log.push(`${connection.id}`)
            }))) as Effect.Effect<unknown>
      })
      yield* settle
      assert.deepStrictEqual(log, [])
      yield* net.last.reset
      yield* settle
      assert.strictEqual(log.length, 1)
    }))

  it.effect("open: a defect, a throw or an interruption of its own leaves nobody waiting", () =>
    Effect.gen(function*() {
      const answers: ReadonlyArray<[Effect.Effect<void>, string]> = [
        [Effect.die("defect"), "Defect"],
        [
          Effect.sync((): void => {
            throw new Error("thrown")
          }),
          "Defect"
        ],
        [Effect.interrupt, "HandshakeFailed"]
      ]
      for (const [answer, expected] of answers) {
        const { client } = yield* start(undefined, { answer })
        const { ended, seen } = yield* watch(client)
        yield* settle
        assert.deepStrictEqual(seen, [`${yield* now} closed: ${expected}`])
        assert.isTrue(yield* ended)
        for (const effect of [client.closed, client.send("d"), client.receive, client.flush, client.connection]) {
          assert.strictEqual(
            (yield* Effect.flip(effect as Effect.Effect<unknown, Failure>)).reason._tag,
            expected
          )
        }
      }
      const retried = yield* start(undefined, { answer: Effect.die("defect"), isRetryable: () => true })
      assert.strictEqual(yield* stateOf(retried.client), "closed: Defect")
    }))

  it.effect("isRetryable: a throw closes the client", () =>
    Effect.gen(function*() {
      const { client } = yield* start(undefined, {
        answer: Effect.fail(refused),
        isRetryable: () => {
          throw new Error("predicate")
        }
      })
      yield* settle
      assert.strictEqual(yield* stateOf(client), "closed: Defect")
    }))
})

// ---------------------------------------------------------------------------------------------------------------------

describe("closing", () => {
  /** A client in a state. */
  const states: Record<string, Effect.Effect<Effect.Success<ReturnType<typeof start>>>> = {
    "connecting 1": start(undefined, { answer: Effect.never }),
    "connecting 1 (onConnect)": start(undefined, { onConnect: () => Effect.never }),
    "connected": start(),
    "waiting 200 for 2: OpenFailed": start(undefined, { answer: Effect.fail(refused) }),
    "closed: Superseded": start(undefined, {
      answer: Effect.fail(failed(new ConnectionError.Superseded({ key: "k" })))
    })
  }

  for (const [state, begin] of Object.entries(states)) {
    it.effect(`B82 B87 close while ${state} ends at once`, () =>
      Effect.gen(function*() {
        const { client, net } = yield* begin
        yield* settle
        assert.strictEqual(yield* stateOf(client), state.replace(" (onConnect)", ""))
        const { seen } = yield* watch(client)
        const fibers: ReadonlyArray<Fiber.Fiber<unknown, Failure>> = [
          ...(yield* sendAll(client, ["a"])),
          yield* Effect.forkChild(client.receive, started),
          yield* Effect.forkChild(client.closed, started)
        ]
        const dials = net.dials.length
        const closes = [yield* Effect.forkChild(client.close, started), yield* Effect.forkChild(client.close, started)]
        yield* settle
        assert.deepStrictEqual(outcomes(closes), ["done", "done"])
        const tag = state.startsWith("closed") ? "Superseded" : "Closed"
        assert.strictEqual(yield* stateOf(client), `closed: ${tag}`)
        assert.strictEqual(seen.filter((line) => line.includes("closed")).length, 1)
        assert.deepStrictEqual(outcomes(fibers), [state === "connected" ? "done" : tag, tag, tag])
        if (net.peers.length > 0) yield* net.last.released
        yield* adjust("1 hour")
        assert.strictEqual(net.dials.length, dials)
        // and again
        yield* client.close
      }))

    for (const exit of [Exit.void, Exit.fail("failure"), Exit.interrupt()]) {
      const how = Exit.isSuccess(exit) ? "success" : Exit.hasInterrupts(exit) ? "an interruption" : "a failure"
      it.effect(`a scope that closes with ${how} while ${state} ends at once`, () =>
        Effect.gen(function*() {
          const { client, net, scope } = yield* begin
          yield* settle
          const { ended } = yield* watch(client)
          const closing = yield* Effect.forkChild(Scope.close(scope, exit), started)
          yield* settle
          assert.deepStrictEqual(outcomes([closing]), ["done"])
          assert.match(yield* stateOf(client), /^closed/)
          assert.isTrue(yield* ended)
          if (net.peers.length > 0) yield* net.last.released
        }))
    }
  }

  it.effect("a full outbox is flushed as soon as the peer takes it", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ drain: "5 seconds" })
      yield* net.last.window(0)
      yield* client.sendAll(["a", "b", "c"])
      const closing = yield* Effect.forkChild(client.close, started)
      yield* adjust(4_999)
      assert.deepStrictEqual(outcomes([closing]), ["waits"])
      assert.strictEqual(yield* stateOf(client), "connected")
      // nothing more is accepted, and a second close does not cut the first one short
      const late = yield* sendAll(client, ["d"])
      const again = yield* Effect.forkChild(client.close, started)
      yield* settle
      assert.deepStrictEqual(outcomes([again, ...late]), ["waits", "waits"])
      yield* net.last.window(Infinity)
      yield* settle
      assert.deepStrictEqual(outcomes([closing, again, ...late]), ["done", "done", "Closed"])
      assert.strictEqual(yield* net.last.text, "a\nb\nc\n")
      assert.strictEqual(yield* net.last.finished, true)
      assert.strictEqual(yield* stateOf(client), "closed: Closed")
    }))

  it.effect("a full outbox that the peer does not take is lost at the drain deadline, and reported", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start({ drain: "5 seconds" })
      yield* net.last.window(0)
      yield* client.sendAll(["a", "b", "c"])
      const closing = yield* Effect.forkChild(client.close, started)
      yield* adjust(4_999)
      assert.deepStrictEqual(outcomes([closing]), ["waits"])
      yield* adjust(1)
      assert.deepStrictEqual(outcomes([closing]), ["done"])
      assert.strictEqual(yield* stateOf(client), "closed: Closed, lost 3")
    }))

  it.effect("a scope that closes with success flushes, with a failure it does not", () =>
    Effect.gen(function*() {
      for (const [exit, text] of [[Exit.void, "a\n"], [Exit.fail("failure"), ""]] as const) {
        const { client, net, scope } = yield* start()
        yield* net.last.window(0)
        yield* client.send("a")
        const closing = yield* Effect.forkChild(Scope.close(scope, exit), started)
        yield* settle
        yield* net.last.window(Infinity)
        yield* settle
        assert.deepStrictEqual(outcomes([closing]), ["done"])
        assert.strictEqual(yield* net.last.text, text)
        assert.strictEqual(yield* stateOf(client), text === "" ? "closed: Closed, lost 1" : "closed: Closed")
      }
    }))

  it.effect("close that is interrupted has begun: nothing is dialled again", () =>
    Effect.gen(function*() {
      for (let ops = 3; ops <= 64; ops += often(3, 1)) {
        for (let turns = 0; turns < 6; turns++) {
          const { client, net } = yield* start({ drain: 1_000 }, { isRetryable: () => true })
          yield* net.last.window(0)
          yield* client.send("a")
          yield* settleAt(ops)
          const closing = yield* Effect.provideService(
            Effect.forkChild(client.close, started),
            Scheduler.MaxOpsBeforeYield,
            ops
          )
          for (let i = 0; i < turns; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(closing)
          // if it had only just been asked, the peer has a say
          yield* net.last.reset
          yield* TestClock.adjust(10_000)
          yield* settleAt(ops)
          assert.strictEqual(net.dials.length, 1)
          assert.match(yield* stateOf(client), /^closed: Closed/)
        }
      }
    }), long(60_000))

  it.effect("from within: a handler, a reader of changes, onConnect", () =>
    Effect.gen(function*() {
      const handler = yield* start()
      yield* Effect.forkChild(Effect.andThen(handler.client.receive, handler.client.close), started)
      yield* handler.net.last.send("bye\n")
      yield* settle
      assert.strictEqual(yield* stateOf(handler.client), "closed: Closed")

      for (const tag of ["Connected", "Waiting", "Connecting"] as const) {
        const { client, net } = yield* start()
        yield* Effect.forkChild(
          Stream.runForEach(Stream.drop(client.changes, 1), (state) => state._tag === tag ? client.close : Effect.void),
          started
        )
        yield* net.last.reset
        yield* adjust(200)
        assert.strictEqual(yield* stateOf(client), "closed: Closed", tag)
      }

      const itself = yield* Deferred.make<Chat>()
      const hook = yield* start(undefined, {
        onConnect: () => Effect.flatMap(Deferred.await(itself), (client) => client.close)
      })
      yield* Deferred.succeed(itself, hook.client)
      yield* settle
      assert.strictEqual(yield* stateOf(hook.client), "closed: Closed")
      yield* hook.net.last.released
    }))

  it.effect("B94 a scope that open or onConnect closes does not wait for itself", () =>
    Effect.gen(function*() {
      for (const where of ["open", "onConnect"] as const) {
        const scope = yield* Scope.make()
        const net = network()
        const shut = Effect.delay(Scope.close(scope, Exit.void), 10)
        const client = yield* Scope.provide(
          Client.make(where === "open" ? Effect.andThen(shut, net.open) : net.open, {
            onConnect: () => (where === "onConnect" ? shut : Effect.void)
          }),
          scope
        )
        yield* adjust(10)
        assert.strictEqual(yield* stateOf(client), "closed: Closed", where)
        assert.strictEqual((yield* Effect.flip(client.send("a"))).reason._tag, "Closed", where)
        if (where === "onConnect") yield* net.last.released
      }
    }))

  it.effect("make in a scope that is closed already leaves nobody waiting", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      const net = network()
      const client = yield* Scope.provide(Client.make(net.open), scope)
      assert.strictEqual((yield* Effect.flip(client.send("a"))).reason._tag, "Closed")
      assert.strictEqual(net.dials.length, 0)
    }))

  it.effect("connection.close closes the client, and one whose predicate says so comes back", () =>
    Effect.gen(function*() {
      const { client, net } = yield* start()
      yield* net.last.window(0)
      yield* client.send("a")
      yield* Effect.forkChild((yield* client.connection).close, started)
      yield* settle
      // it flushes
      assert.strictEqual(yield* stateOf(client), "connected")
      yield* net.last.window(Infinity)
      yield* settle
      assert.strictEqual(yield* stateOf(client), "closed: Closed")
      assert.strictEqual(yield* net.last.text, "a\n")

      const back = yield* start(undefined, { isRetryable: () => true })
      yield* (yield* back.client.connection).close
      yield* adjust(200)
      assert.strictEqual(yield* stateOf(back.client), "connected")
    }))
})

// ---------------------------------------------------------------------------------------------------------------------

describe("as a service", () => {
  const net = { a: network(), b: network() }

  class A extends Context.Service<A, Client.Client<string>>()("test/A") {
    static readonly layer = Client.layer(A, net.a.open, { policy: quiet })
  }

  class B extends Context.Service<B, Client.Client<string>>()("test/B") {
    static readonly layer = Client.layer(B, net.b.open, { policy: quiet })
  }

  it.effect("two clients are two services, and a layer closes its client", () =>
    Effect.gen(function*() {
      const clients = yield* Effect.gen(function*() {
        const a = yield* A
        const b = yield* B
        yield* a.send("to a")
        yield* B.use((client) => client.send("to b"))
        return [a, b] as const
      }).pipe(Effect.provide(Layer.mergeAll(A.layer, B.layer)))
      assert.strictEqual(yield* net.a.last.text, "to a\n")
      assert.strictEqual(yield* net.b.last.text, "to b\n")
      assert.deepStrictEqual(yield* Effect.forEach(clients, stateOf), ["closed: Closed", "closed: Closed"])
      yield* net.a.last.released
      yield* net.b.last.released
    }))

  it.effect("what open and onConnect need comes from the context", () =>
    Effect.gen(function*() {
      class Token extends Context.Service<Token, string>()("test/Token") {}
      const there = network()
      const open = Effect.andThen(Effect.asVoid(Token), there.open)
      const layer: Layer.Layer<A, never, Token> = Client.layer(A, open, {
        policy: quiet,
        onConnect: (connection) => Effect.andThen(Effect.flatMap(Token, connection.send), connection.flush)
      })
      yield* Effect.gen(function*() {
        const client = yield* A
        yield* client.connection
        yield* there.last.reset
        yield* adjust(200)
        yield* client.connection
        assert.deepStrictEqual(yield* Effect.forEach(there.peers, (peer) => peer.text), ["secret\n", "secret\n"])
      }).pipe(Effect.provide(Layer.provide(layer, Layer.succeed(Token, "secret"))))
    }))
})

// ---------------------------------------------------------------------------------------------------------------------

describe("supervision", () => {
  const bug = (): never => {
    throw new Error("bug")
  }
  const numberless = (logged: ReadonlyArray<string>) => logged.map((line) => line.replace(/\d+/, "n"))

  it.effect("B100 what throws closes the client with Defect, after one dial and one log line, and none waits", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const dying = Schedule.fromStep(Effect.succeed(() => Effect.die(new Error("bug"))))
        const ways: Record<string, Parameters<typeof start>[1] & {}> = {
          open: { answer: Effect.sync(bug), isRetryable: () => true },
          onConnect: { onConnect: bug, isRetryable: () => true },
          isRetryable: { answer: Effect.fail(refused), isRetryable: bug },
          reconnect: { answer: Effect.fail(refused), reconnect: dying }
        }
        for (const [by, options] of Object.entries(ways)) {
          const gate = Deferred.makeUnsafe<void>()
          const { client, net } = yield* start(undefined, {
            ...options,
            answer: Effect.andThen(Deferred.await(gate), options.answer ?? Effect.void)
          })
          const waiting = yield* Effect.forEach(
            [client.send("a"), client.receive, client.closed, client.connection] as Array<
              Effect.Effect<unknown, Failure>
            >,
            (effect) => Effect.forkChild(effect, started)
          )
          yield* Deferred.succeed(gate, undefined)
          yield* adjust(60_000)
          assert.deepStrictEqual(outcomes(waiting), ["Defect", "Defect", "Defect", "Defect"], by)
          assert.strictEqual(net.dials.length, 1)
          const error = yield* Effect.flip(client.closed)
          assert.deepInclude(error.reason, { _tag: "Defect", by })
          const of = by === "onConnect" ? " of connection n" : ""
          assert.deepStrictEqual(numberless(logged.splice(0)), [`Error a defect in ${by}${of}: bug`])
          if (by === "onConnect") yield* net.last.released
        }
      })
    ))

  it.effect("B100 a Defect that a connection has already is not dialled again, and not logged again", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const defect = failed(new ConnectionError.Defect({ by: "heartbeat", cause: Cause.die(new Error("bug")) }))
        const { client, net } = yield* start(undefined, { isRetryable: () => true })
        yield* (yield* client.connection).closeWith(defect.reason)
        yield* adjust(60_000)
        assert.deepStrictEqual([yield* stateOf(client), net.dials.length, logged], ["closed: Defect", 1, []])
      })
    ))

  it.effect("B100 a defect in onConnect is the reason of its connection, too", () =>
    Effect.gen(function*() {
      let greeted: Connection.Connection<string> | undefined
      yield* start(undefined, {
        onConnect: (connection) => {
          greeted = connection
          return Effect.andThen(Effect.yieldNow, Effect.die("bug"))
        }
      })
      yield* settle
      assert.strictEqual((yield* greeted!.snapshot).reason?._tag, "Defect")
    }))

  it.effect("B100 an iterable that throws, and what is none, is a Defect of its sendAll", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { client, net } = yield* start()
        yield* settle
        const throwing = function*() {
          yield "a"
          bug()
        }
        for (const messages of [throwing(), 5 as never]) {
          const { reason } = yield* Effect.flip(client.sendAll(messages))
          assert.deepInclude(reason, { _tag: "Defect", by: "sendAll" })
        }
        yield* client.send("b")
        yield* client.flush
        assert.strictEqual(yield* net.last.text, "b\n")
        assert.strictEqual(logged.length, 2)
      })
    ))

  it.effect("B100 a sizeOf that throws when its connection ends fails its sender, and the line goes on", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { client, net } = yield* start({ outboxMessages: 1 }, {
          sizeOf: (message) => message === "bad" ? bug() : 1
        })
        yield* settle
        yield* net.last.window(0)
        const fibers = yield* sendAll(client, ["a", "b", "bad", "c"])
        yield* settle
        yield* net.last.reset
        yield* adjust(1000)
        // the connection took the first two; of the third is only known what it weighs
        assert.deepStrictEqual(outcomes(fibers), ["done", "done", "Defect", "done"])
        assert.deepStrictEqual([yield* net.last.text, logged], ["c\n", ["Error a defect in sizeOf: bug"]])
      })
    ))

  it.effect("B100 what a wrapped connection throws is an error of its sender or receiver", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const net = network()
        const open = Effect.map(net.open, (connection) =>
          Connection.wrap(connection, { send: bug, receive: Effect.sync(bug), receiveAll: connection.receiveAll }))
        const client = yield* Client.make(open, { policy: quiet })
        yield* settle
        assert.deepInclude((yield* Effect.flip(client.send("a"))).reason, { _tag: "Defect", by: "send" })
        assert.deepInclude((yield* Effect.flip(client.receive)).reason, { _tag: "Defect", by: "receive" })
        yield* net.last.send("x\n")
        assert.deepStrictEqual(yield* client.receiveAll, ["x"])
        assert.deepStrictEqual(numberless(logged), [
          "Error a defect in send of connection n: bug",
          "Error a defect in receive of connection n: bug"
        ])
      })
    ))

  it.effect("B101 the client's fiber, killed in any state, leaves none waiting", () =>
    Effect.gen(function*() {
      for (const state of ["connecting 1", "connected", "waiting 200 for 2: OpenFailed"]) {
        let loop: Fiber.Fiber<unknown, unknown> | undefined
        const answer = state === "connecting 1"
          ? Effect.never
          : state === "connected"
          ? Effect.void
          : Effect.fail(refused)
        // the client's fiber takes the schedule; it dials in another one, as dialling has a limit
        const reconnect = Schedule.fromStep(Effect.withFiber((fiber) => {
          loop = fiber
          return Schedule.toStep(Backoff.exponential({ base: 200, jitter: "none" }))
        }))
        const { client, net } = yield* start(undefined, { answer, reconnect })
        yield* settle
        assert.strictEqual(yield* stateOf(client), state)
        const waiting = yield* Effect.forEach(
          [client.receive, client.closed] as Array<Effect.Effect<unknown, Failure>>,
          (effect) => Effect.forkChild(effect, started)
        )
        loop!.interruptUnsafe()
        yield* adjust(1000)
        assert.deepStrictEqual([yield* stateOf(client), ...outcomes(waiting)], ["closed: Closed", "Closed", "Closed"])
        assert.strictEqual(net.dials.length, 1)
        if (state === "connected") yield* net.last.released
      }
    }))

  it.effect("B101 what waits for a goodbye is restarted when it is killed; one that dies ends its connection", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        for (const way of ["interrupted", "dies"]) {
          const net = network()
          let watching: Fiber.Fiber<unknown, unknown> | undefined
          let leave = Effect.never as Effect.Effect<void>
          const left = Deferred.makeUnsafe<void>()
          const open = Effect.map(net.open, (connection) =>
            Connection.wrap(connection, {
              leaving: Effect.withFiber((fiber) => {
                watching = fiber
                return Effect.andThen(Deferred.await(left), Effect.suspend(() => leave))
              })
            }))
          const client = yield* Client.make(open, { policy: { ...quiet, drain: 1000 } })
          yield* settle
          if (way === "dies") leave = Effect.die(new Error("bug"))
          else {
            leave = Effect.void
            watching!.interruptUnsafe()
            yield* adjust(1000)
          }
          yield* Deferred.succeed(left, undefined)
          yield* settle
          if (way === "dies") assert.strictEqual(yield* stateOf(client), "closed: Defect")
          else {
            yield* adjust(999)
            assert.strictEqual(yield* stateOf(client), "connected")
            yield* adjust(1)
            assert.strictEqual(yield* stateOf(client), "waiting 200 for 2: GoingAway")
          }
          assert.deepStrictEqual(numberless(logged.splice(0)), [
            way === "dies"
              ? "Error a defect in leaving of connection n: bug"
              : "Error the leaving of a client ended and is restarted: All fibers interrupted without error"
          ])
        }
      })
    ))

  it.effect("B103 a wrapped connection: sent, received, left and followed as the one inside", () =>
    Effect.gen(function*() {
      const net = network()
      const open = Effect.map(
        net.open,
        (connection) => Connection.wrap(connection, { send: (message) => connection.send(`> ${message}`) })
      )
      const client = yield* Client.make(open, { policy: { ...quiet, offlineMessages: 2 } })
      yield* client.send("a")
      yield* net.last.send("x\ny\n")
      yield* settle
      assert.strictEqual(yield* client.receive, "x")
      yield* net.last.reset
      yield* settle
      const waiting = yield* sendAll(client, ["b"])
      yield* adjust(200)
      assert.deepStrictEqual(outcomes(waiting), ["done"])
      assert.deepStrictEqual(yield* Effect.forEach(net.peers, (peer) => peer.text), ["> a\n", "> b\n"])
      // what the first one had read comes before anything of the second one
      yield* net.last.send("z\n")
      assert.deepStrictEqual([yield* client.receive, yield* client.receive], ["y", "z"])
    }))
})
