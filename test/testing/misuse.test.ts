import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { Chaos, SocketContract, TestNetwork, TestSocket } from "../../src/testing/index.ts"

type Options = TestNetwork.Options

const said = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<string> =>
  Effect.map(Effect.exit(effect), (exit) => {
    assert.isTrue(Exit.isFailure(exit))
    const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
    return error instanceof Error ? `${error.name} ${error.message}` : String(error)
  })

describe("what makes no sense in a test is told, with what to do", () => {
  // each of the first three would go on for ever where a packet is lost, and no time would pass
  const options: ReadonlyArray<readonly [string, Options]> = [
    ["retransmit.initial", { retransmit: { initial: 0, max: "1 second" } }],
    ["retransmit.max", { retransmit: { initial: "2 seconds", max: "1 second" } }],
    ["finTimeout", { finTimeout: 0 }],
    ["trace", { trace: Number.NaN }],
    ["latency", { latency: Number.NaN }],
    ["latency", { latency: Infinity }],
    ["latency.uniform", { latency: { uniform: [0, Infinity] } }],
    ["latency.max", { latency: { exponential: 10, min: 20, max: 10 } }],
    ["linger", { linger: Number.NaN }]
  ]
  for (const [name, option] of options) {
    it.effect(`network: ${name} ${JSON.stringify(option)}`, () =>
      Effect.gen(function*() {
        const message = yield* said(Effect.scoped(TestNetwork.make(option)))
        assert.match(message, new RegExp(`^RangeError .*\`${name}\` is .* has to be`))
      }))
  }

  it.effect("hosts, links and faults", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make()
      const server = network.host("server")
      const link = network.link("client", "server")
      const mistakes: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>]> = [
        ["port", Effect.scoped(server.listen(70_000))],
        ["refuse", Effect.scoped(server.refuse(-1))],
        ["skew", server.skew(Infinity)],
        ["skew", server.skew(Number.NaN)],
        ["stall", server.stall(Number.NaN)],
        ["from", Effect.suspend(() => Effect.scoped(link.from("cleint").partition))],
        ["from", Effect.suspend(() => Effect.scoped(link.from("client").from("server").partition))],
        ["inject.times", Effect.scoped(network.inject({ operation: "dial", error: "x", times: 0 }))],
        ["inject.error", Effect.scoped(network.inject({ operation: "dial", error: undefined }))],
        ["inject.operation", Effect.scoped(network.inject({ operation: "dail" as "dial", error: "x" }))],
        ["Chaos.probability", Effect.suspend(() => Chaos.make(1).visit("a point", { probability: Number.NaN }))]
      ]
      for (const [name, mistake] of mistakes) {
        const message = yield* said(Effect.suspend(() => mistake))
        assert.match(message, new RegExp(`^RangeError .*\`${name}\` is .* has to be`))
      }
    }))

  it.effect("an address that is none, and a dial that the listener does not understand", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make()
      yield* network.host("server").listen(7000)
      const dialled = (address: string) =>
        Effect.map(Effect.flip(Effect.scoped(network.host("client").dial(address).reader)), ({ reason }) =>
          "cause" in reason ? String(reason.cause) : "")
      for (const address of ["server", "tls://server:7000", "unix:///run/a.sock", "server:99999"]) {
        assert.include(yield* dialled(address), `${address}: an address of a test network is host:port`)
      }
      assert.strictEqual(yield* dialled("sever:7000"), "Error: getaddrinfo ENOTFOUND sever:7000")
      assert.include(
        yield* dialled("ws://server:7000"),
        "ECONNREFUSED server:7000: the listener has no `messages: true`"
      )
    }))

  it.effect("a test socket is for one connection, and its window for bytes", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      yield* Effect.scoped(peer.socket.reader)
      const { reason } = yield* Effect.flip(Effect.scoped(peer.socket.reader))
      assert.strictEqual(reason._tag, "SocketOpenError")
      assert.include(String("cause" in reason ? reason.cause : ""), "make a fresh one for every connection")
      assert.include(yield* said(peer.window(Number.NaN)), "`window` is NaN")
    }))

  it("a transport whose options leave nothing to check", () => {
    const transport: SocketContract.Transport = { name: "mine", messages: false, halfClose: true, listen: Effect.never }
    const options: ReadonlyArray<readonly [string, Partial<SocketContract.Transport>]> = [
      ["deadline", { deadline: 0 }],
      ["quiet", { quiet: Number.NaN }],
      ["capacity", { capacity: Number.NaN }],
      ["bulk", { bulk: 0 }]
    ]
    for (const [name, option] of options) {
      assert.throws(() => SocketContract.checks[0]?.run({ ...transport, ...option }), RangeError, name)
    }
  })
})
