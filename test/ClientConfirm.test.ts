/** What a client believes of a server before it has heard from it, and how it is told to begin anew. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, type Duration, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Client, Codec, Connection, ConnectionError, Heartbeat, Protocol } from "../src/index.ts"
import type { Policy } from "../src/index.ts"
import { TestNetwork, TestSocket } from "../src/testing/index.ts"

type Chat = Client.Client<string>
type Failure = ConnectionError.ConnectionError

/** Nothing ends a connection but what a test does, and delays are exact. */
const quiet: Policy.Patch = { pingEvery: 0, silence: 0, frame: 0, halfClose: 0, drain: 1000, retryJitter: "none" }

const settle = Effect.repeat(Effect.yieldNow, { times: 60 })
const adjust = (duration: Duration.Input) => Effect.andThen(TestClock.adjust(duration), settle)

const chat = (heartbeat = false) =>
  Connection.make({
    codec: Codec.lines(),
    policy: quiet,
    ...(heartbeat ? { heartbeat: Heartbeat.text("ping", "pong") } : {})
  })

interface Setting extends Client.Options<string, string, unknown, never> {
  readonly heartbeat?: boolean
  /** What comes before the dial, for each try. */
  readonly before?: (attempt: number) => Effect.Effect<unknown, Failure>
}

/** A client whose peers are in the hands of the test. */
const start = Effect.fnUntraced(function*({ before, heartbeat, policy, ...options }: Setting = {}) {
  const peers: Array<TestSocket.Peer> = []
  let dials = 0
  const open = Effect.gen(function*() {
    dials++
    if (before !== undefined) yield* before(dials)
    const peer = yield* TestSocket.make()
    peers.push(peer)
    return yield* chat(heartbeat)(peer.socket)
  })
  const client = yield* Client.make(open, { ...options, policy: { ...quiet, ...policy } })
  yield* settle
  return { client, peers, dials: () => dials, last: () => peers.at(-1)! }
})

const show = (state: Client.State<string>): string =>
  state._tag === "Connecting" || state._tag === "Connected"
    ? state._tag
    : `${state._tag} ${state.error.reason._tag} lost ${state.lost} unknown ${state.unknown}`

const stateOf = (client: Chat) => Effect.map(client.state, show)

describe("what a connection that said nothing took", () => {
  it.effect("B108 is told as unknown with its count, what onConnect sent too, and once", () =>
    Effect.gen(function*() {
      const { client, last } = yield* start({ onConnect: (connection) => connection.send("hello") })
      for (const message of ["a", "b", "c"]) yield* client.send(message)
      yield* settle
      yield* last().end
      yield* settle
      assert.strictEqual(yield* stateOf(client), "Waiting Closed lost 0 unknown 4")
      yield* adjust(200)
      yield* last().reset
      yield* settle
      assert.strictEqual(yield* stateOf(client), "Waiting Reset lost 0 unknown 1")
      yield* client.close
      assert.strictEqual(yield* stateOf(client), "Closed Closed lost 0 unknown 0")
    }))

  it.effect("B108 is unknown only as far as it was handed over: the rest is lost", () =>
    Effect.gen(function*() {
      const { client, last } = yield* start({ policy: { writeStall: 0 } })
      yield* client.send("a")
      yield* settle
      yield* last().window(0)
      yield* client.sendAll(["b", "c"])
      yield* settle
      yield* last().reset
      yield* settle
      assert.strictEqual(yield* stateOf(client), "Waiting Reset lost 2 unknown 1")
    }))

  it.effect("B108 is not unknown after one byte, nor on a WebSocket, nor in the native protocol", () =>
    Effect.gen(function*() {
      const { client, last } = yield* start()
      yield* client.send("a")
      yield* last().send("x")
      yield* settle
      yield* last().reset
      yield* settle
      assert.strictEqual(yield* stateOf(client), "Waiting Reset lost 0 unknown 0")

      const network = yield* TestNetwork.make({ seed: "confirm" })
      for (const native of [true, false]) {
        const webSocket = !native
        const listener = yield* network.host("server").listen(native ? 7 : 8, { webSocket })
        const codec = Codec.lines()
        yield* listener.run((socket) =>
          Effect.flatMap(
            (native ? Protocol.server({ codec, policy: quiet }) : Connection.make({ codec, policy: quiet }))(socket),
            (c) => Effect.andThen(c.receive, Effect.fail("gone"))
          ).pipe(Effect.scoped, Effect.ignore)
        ).pipe(Effect.forkScoped({ startImmediately: true }))
        const open = Effect.suspend(() =>
          (native ? Protocol.client({ codec, policy: quiet }) : Connection.make({ codec, policy: quiet }))(
            network.host("client").dial(native ? "server:7" : "server:8", { webSocket })
          )
        )
        const self = yield* Client.make(open, { policy: quiet, confirm: "first-byte" })
        yield* adjust(10)
        assert.strictEqual(yield* stateOf(self), "Connected")
        yield* self.send("a")
        yield* adjust(10)
        assert.match(yield* stateOf(self), /^Waiting Closed lost 0 unknown 0/)
        yield* self.close
      }
    }))
})

describe("confirm: first-byte", () => {
  it.effect("B108 no Connected and no accepted send before the first byte; then both, and the byte is received", () =>
    Effect.gen(function*() {
      const { client, last } = yield* start({ confirm: "first-byte" })
      const sending = yield* Effect.forkChild(client.send("a"), { startImmediately: true })
      yield* adjust(9_999)
      assert.deepStrictEqual([yield* stateOf(client), sending.pollUnsafe()], ["Connecting", undefined])
      yield* last().send("w")
      yield* settle
      assert.strictEqual(yield* stateOf(client), "Connected")
      yield* Fiber.join(sending)
      yield* last().send("elcome\n")
      assert.strictEqual(yield* client.receive, "welcome")
      assert.strictEqual(yield* last().text, "a\n")
    }))

  it.effect("B108 a server that accepts and ends is a failed try, and nothing is unknown but the greeting", () =>
    Effect.gen(function*() {
      const { client, dials, last } = yield* start({ confirm: "first-byte", onConnect: (c) => c.send("hello") })
      yield* Effect.forkChild(client.send("a"), { startImmediately: true })
      yield* last().end
      yield* settle
      assert.strictEqual(yield* stateOf(client), "Waiting Closed lost 0 unknown 1")
      yield* adjust(200)
      assert.strictEqual(dials(), 2)
      yield* last().send("w")
      yield* settle
      assert.deepStrictEqual([yield* stateOf(client), yield* last().text], ["Connected", "hello\na\n"])
    }))

  it.effect("B108 a server that says nothing ends at the handshake deadline, to the millisecond; the next address is tried", () =>
    Effect.gen(function*() {
      const first = yield* TestSocket.make()
      const second = yield* TestSocket.make()
      const client = yield* Client.make([chat()(first.socket), chat()(second.socket)], {
        confirm: "first-byte",
        policy: { ...quiet, handshake: 3000 }
      })
      yield* second.send("w")
      yield* adjust(2999)
      assert.strictEqual(yield* first.finished, false)
      yield* adjust(1)
      yield* first.released
      assert.strictEqual(yield* stateOf(client), "Connected")
    }))

  it.effect("B108 a server that waits for the first word of its client gets it: of onConnect, or the ping of a heartbeat", () =>
    Effect.gen(function*() {
      const hook = yield* start({
        confirm: "first-byte",
        onConnect: (c) => Effect.andThen(c.send("hello"), c.receive)
      })
      assert.strictEqual(yield* hook.last().text, "hello\n")
      yield* hook.last().send("welcome\n")
      yield* settle
      assert.strictEqual(yield* stateOf(hook.client), "Connected")

      const pinging = yield* start({ confirm: "first-byte", heartbeat: true, onConnect: (c) => c.send("hello") })
      assert.strictEqual(yield* pinging.last().text, "hello\nping\n")
      yield* pinging.last().send("pong\n")
      yield* settle
      assert.strictEqual(yield* stateOf(pinging.client), "Connected")
    }))
})

describe("a client that is used by its own onConnect", () => {
  const uses: Readonly<Record<string, (client: Chat) => Effect.Effect<unknown, Failure>>> = {
    send: (client) => client.send("a"),
    sendAll: (client) => client.sendAll(["a", "b"]),
    receive: (client) => client.receive,
    receiveAll: (client) => client.receiveAll,
    connection: (client) => client.connection,
    "a forked send": (client) => Effect.flatMap(Effect.forkChild(client.send("a")), Fiber.join),
    "a send beside others": (client) => Effect.all([client.send("a"), Effect.sleep(1)], { concurrency: 2 })
  }
  for (const [name, use] of Object.entries(uses)) {
    for (const whenOffline of ["wait", "fail"] as const) {
      it.effect(`B136 ${name} fails at once with what to do, and the peer is not blamed (${whenOffline})`, () =>
        Effect.gen(function*() {
          const itself = yield* Deferred.make<Chat>()
          const { client, dials, last } = yield* start({
            policy: { whenOffline },
            onConnect: () => Effect.flatMap(Deferred.await(itself), use)
          })
          yield* Deferred.succeed(itself, client)
          yield* settle
          const state = yield* client.state
          assert.isTrue(state._tag === "Closed" && state.error.reason._tag === "Offline")
          assert.include(state._tag === "Closed" ? state.error.message : "", "with the connection it is given")
          assert.strictEqual(dials(), 1)
          yield* last().released
        }))
    }
  }

  it.effect("B136 what onConnect forked may use it once onConnect is done; closed and close may be used at any time", () =>
    Effect.gen(function*() {
      const itself = yield* Deferred.make<Chat>()
      const done = yield* Deferred.make<void>()
      const scope = yield* Scope.make()
      const { client, last } = yield* start({
        onConnect: () =>
          Effect.gen(function*() {
            const self = yield* Deferred.await(itself)
            yield* Effect.forkIn(Effect.andThen(Deferred.await(done), self.send("later")), scope)
            yield* Effect.raceFirst(Effect.sleep(10), self.closed)
          })
      })
      yield* Deferred.succeed(itself, client)
      yield* adjust(10)
      yield* Deferred.succeed(done, undefined)
      yield* settle
      assert.strictEqual(yield* last().text, "later\n")
      yield* Scope.close(scope, Exit.void)
    }))

  it.effect("B136 another client may be used", () =>
    Effect.gen(function*() {
      const other = yield* start()
      const { client } = yield* start({ onConnect: () => other.client.send("from the hook") })
      assert.strictEqual(yield* stateOf(client), "Connected")
      assert.strictEqual(yield* other.last().text, "from the hook\n")
    }))
})

describe("whatever hangs before or in a dial", () => {
  const never = Effect.never as Effect.Effect<never, Failure>

  it.effect("B148 a token that is never fetched is under open, to the millisecond, and the next address is tried", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const token = Effect.onInterrupt(never, () => Effect.sync(() => void interrupted++))
      const peer = yield* TestSocket.make()
      const client = yield* Client.make([Effect.andThen(token, chat()(peer.socket)), chat()(peer.socket)], {
        policy: { ...quiet, open: 4000 }
      })
      yield* adjust(3999)
      assert.deepStrictEqual([yield* stateOf(client), interrupted], ["Connecting", 0])
      yield* adjust(1)
      assert.deepStrictEqual([yield* stateOf(client), interrupted], ["Connected", 1])
    }))

  it.effect("B148 with one address it is OpenTimeout, and the next try comes by the backoff", () =>
    Effect.gen(function*() {
      const { client, dials } = yield* start({
        policy: { open: 4000 },
        before: (attempt) => attempt === 1 ? never : Effect.void
      })
      yield* adjust(3999)
      assert.strictEqual(yield* stateOf(client), "Connecting")
      yield* adjust(1)
      assert.strictEqual(yield* stateOf(client), "Waiting OpenTimeout lost 0 unknown 0")
      yield* adjust(200)
      assert.deepStrictEqual([yield* stateOf(client), dials()], ["Connected", 2])
    }))

  it.effect("B148 what comes before the dial and the dial itself have open together", () =>
    Effect.gen(function*() {
      const slow = (peer: TestSocket.Peer) =>
        Effect.andThen(Effect.sleep(3000), Effect.andThen(Effect.sleep(1001), chat()(peer.socket)))
      const peer = yield* TestSocket.make()
      const client = yield* Client.make(slow(peer), { policy: { ...quiet, open: 4000 } })
      yield* adjust(4000)
      assert.strictEqual(yield* stateOf(client), "Waiting OpenTimeout lost 0 unknown 0")
    }))

  it.effect("B148 once the transport is open, what open does with it has the handshake's time", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const open = Effect.tap(Effect.andThen(Effect.sleep(3999), chat()(peer.socket)), (c) => c.receive)
      const client = yield* Client.make(open, { policy: { ...quiet, open: 4000, handshake: 5000 } })
      yield* adjust(3999 + 4999)
      assert.strictEqual(yield* stateOf(client), "Connecting")
      yield* adjust(1)
      assert.strictEqual(yield* stateOf(client), "Waiting HandshakeTimeout lost 0 unknown 0")
    }))

  it.effect("B148 credentials that onConnect waits for are under handshake, and the next address is tried", () =>
    Effect.gen(function*() {
      let calls = 0
      const first = yield* TestSocket.make()
      const second = yield* TestSocket.make()
      const client = yield* Client.make([chat()(first.socket), chat()(second.socket)], {
        policy: { ...quiet, handshake: 2000 },
        onConnect: () => calls++ === 0 ? never : Effect.void
      })
      yield* adjust(1999)
      assert.strictEqual(yield* stateOf(client), "Connecting")
      yield* adjust(1)
      assert.deepStrictEqual([yield* stateOf(client), calls], ["Connected", 2])
    }))

  it.effect("B148 no limit is none", () =>
    Effect.gen(function*() {
      const { client } = yield* start({ policy: { open: 0 }, before: () => Effect.sleep("1 day") })
      yield* adjust("1 day")
      assert.strictEqual(yield* stateOf(client), "Connected")
    }))
})

describe("reconnect", () => {
  it.effect("ends the connection, flushed, and dials at once: no message goes to the old one", () =>
    Effect.gen(function*() {
      const { client, dials, last, peers } = yield* start()
      const seen: Array<string> = []
      yield* Effect.forkChild(Stream.runForEach(client.changes, (state) => Effect.sync(() => seen.push(show(state)))), {
        startImmediately: true
      })
      yield* client.send("a")
      yield* client.reconnect
      yield* client.send("b")
      yield* settle
      assert.strictEqual(dials(), 2)
      assert.deepStrictEqual([yield* peers[0]!.text, yield* last().text], ["a\n", "b\n"])
      yield* peers[0]!.released
      assert.deepStrictEqual(seen, ["Connected", "Waiting Closed lost 0 unknown 1", "Connecting", "Connected"])
    }))

  it.effect("a peer that takes nothing has the drain to take the rest; what is left is lost, and counted", () =>
    Effect.gen(function*() {
      const { client, dials, last } = yield* start({ policy: { writeStall: 0 } })
      yield* last().window(0)
      yield* client.send("a")
      yield* client.reconnect
      yield* adjust(999)
      assert.strictEqual(dials(), 1)
      const states = yield* Effect.forkChild(Stream.runCollect(Stream.take(client.changes, 2)), {
        startImmediately: true
      })
      yield* adjust(1)
      assert.deepStrictEqual([yield* stateOf(client), dials()], ["Connected", 2])
      assert.deepStrictEqual((yield* Fiber.join(states)).map(show), ["Connected", "Waiting Closed lost 1 unknown 0"])
    }))

  it.effect("while it dials, or greets, the try is given up and begins anew", () =>
    Effect.gen(function*() {
      const { client, dials } = yield* start({ before: (attempt) => attempt === 1 ? Effect.never : Effect.void })
      assert.strictEqual(yield* stateOf(client), "Connecting")
      yield* client.reconnect
      yield* settle
      assert.deepStrictEqual([yield* stateOf(client), dials()], ["Connected", 2])

      let greetings = 0
      const hook = yield* start({ onConnect: () => greetings++ === 0 ? Effect.never : Effect.void })
      assert.strictEqual(yield* stateOf(hook.client), "Connecting")
      yield* hook.client.reconnect
      yield* settle
      assert.deepStrictEqual([yield* stateOf(hook.client), hook.dials()], ["Connected", 2])
      yield* hook.peers[0]!.released
    }))

  it.effect("while it waits it is retryNow; after the close it is nothing; twice it is once", () =>
    Effect.gen(function*() {
      const { client, dials, last } = yield* start()
      yield* last().reset
      yield* settle
      assert.match(yield* stateOf(client), /^Waiting/)
      yield* client.reconnect
      yield* settle
      assert.deepStrictEqual([yield* stateOf(client), dials()], ["Connected", 2])
      yield* client.reconnect
      yield* client.reconnect
      yield* settle
      assert.deepStrictEqual([yield* stateOf(client), dials()], ["Connected", 3])
      yield* client.close
      yield* client.reconnect
      yield* settle
      assert.deepStrictEqual([yield* stateOf(client), dials()], ["Closed Closed lost 0 unknown 0", 3])
    }))

  it.effect("a server that sends the client away for good is obeyed all the same", () =>
    Effect.gen(function*() {
      const { client, dials } = yield* start({ before: (n) => n === 1 ? Effect.void : Effect.sleep(10) })
      const connection = yield* client.connection
      yield* Effect.forkChild(connection.closeWith(new ConnectionError.Superseded({ key: "ada" })))
      yield* Effect.yieldNow
      yield* client.reconnect
      yield* adjust(1000)
      assert.deepStrictEqual([yield* stateOf(client), dials()], ["Closed Superseded lost 0 unknown 0", 1])
    }))

  it.effect("one connection: close ends the client, closeWith of what is worth another try does not", () =>
    Effect.gen(function*() {
      const { client, dials } = yield* start()
      yield* (yield* client.connection).closeWith(new ConnectionError.GoingAway({}))
      yield* settle
      assert.strictEqual(yield* stateOf(client), "Waiting GoingAway lost 0 unknown 0")
      yield* adjust(200)
      assert.deepStrictEqual([yield* stateOf(client), dials()], ["Connected", 2])
      yield* (yield* client.connection).close
      yield* settle
      assert.strictEqual(yield* stateOf(client), "Closed Closed lost 0 unknown 0")
    }))
})

describe("a reader of changes that is stuck", () => {
  /** Reads one state, and no more until it is let go. */
  const stuck = Effect.fnUntraced(function*(client: Chat) {
    const gate = yield* Deferred.make<void>()
    const seen: Array<Client.State<string>> = []
    const fiber = yield* Effect.forkChild(
      Stream.runForEach(client.changes, (state) => {
        seen.push(state)
        return Deferred.await(gate)
      }),
      { startImmediately: true }
    )
    return { seen, letGo: Effect.andThen(Deferred.succeed(gate, undefined), settle), fiber }
  })

  it.effect("B119 holds as many states as the bound says; then it has missed them, and goes on with the newest", () =>
    Effect.gen(function*() {
      const { client, last } = yield* start({ changes: 5 })
      const { letGo, seen } = yield* stuck(client)
      // each round is three states: 5 fit, the 6th makes 5 missed, the 11th 10
      for (let round = 0; round < 4; round++) {
        yield* last().reset
        yield* adjust(60_000)
      }
      yield* letGo
      assert.deepStrictEqual(seen.map(({ _tag, missed }) => [_tag, missed]), [
        ["Connected", undefined],
        ["Connecting", 10],
        ["Connected", undefined]
      ])
    }))

  it.effect("B119 holds no dead connection: what it gets is ended, empty, and says why", () =>
    Effect.gen(function*() {
      const { client, last } = yield* start({ policy: { inboxMessages: 10 } })
      const { letGo, seen } = yield* stuck(client)
      yield* last().reset
      yield* adjust(200)
      const second = yield* client.connection
      yield* last().send("one\ntwo\n")
      yield* settle
      yield* last().reset
      yield* adjust(60_000)
      yield* letGo
      const told = seen.filter((state) => state._tag === "Connected")
      assert.lengthOf(told, 3)
      const { connection } = told[1]!
      assert.notStrictEqual(connection, second)
      assert.strictEqual(connection.id, second.id)
      assert.strictEqual((yield* connection.snapshot).state, "ended")
      for (const effect of [connection.receive, connection.send("x"), connection.closed]) {
        assert.strictEqual((yield* Effect.flip(effect as Effect.Effect<never, Failure>)).reason._tag, "Reset")
      }
      // nothing is lost by it: the client still has what was read
      assert.deepStrictEqual(yield* client.receiveAll, ["one", "two"])
      assert.strictEqual(told[2]!.connection, yield* client.connection)
    }))

  it.effect("B119 is told the end, however many it missed", () =>
    Effect.gen(function*() {
      const { client } = yield* start({ changes: 1 })
      const { fiber, letGo, seen } = yield* stuck(client)
      yield* client.reconnect
      yield* settle
      yield* client.close
      yield* letGo
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(seen.map(({ _tag, missed }) => [_tag, missed]), [["Connected", undefined], ["Closed", 3]])
    }))
})
