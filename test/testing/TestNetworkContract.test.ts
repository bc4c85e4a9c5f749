/** The simulated network keeps the contract that real transports keep. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import { transportOf } from "../../src/internal/transport.ts"
import { SocketContract, TestNetwork } from "../../src/testing/index.ts"
import { violation } from "./support/runVirtual.ts"

const simulated = (name: string, options: TestNetwork.Options, messages = false): SocketContract.Transport => {
  let network: TestNetwork.Network | undefined
  return {
    name,
    messages,
    halfClose: !messages,
    listen: Effect.gen(function*() {
      // it outlives the listener: a dial after that has to be refused by the network
      network = yield* Scope.provide(TestNetwork.make({ seed: 1, ...options }), yield* Scope.make())
      const server = yield* network.host("server").listen(7000, { messages })
      return { server, dial: Effect.succeed(network.host("client").dial("server:7000", { messages })) }
    }),
    capacity: 4 * 1024 * 1024,
    bulk: 256 * 1024,
    // a round trip may take as long as a whole check on a real network
    deadline: "30 seconds",
    quiet: "500 millis",
    abort: (accepted: Socket.Socket) =>
      Effect.gen(function*() {
        const { remote } = transportOf(accepted)
        const { connections } = yield* network!.snapshot
        yield* network!.reset(connections.find(({ client }) => client.address === remote)!.id)
      })
  }
}

const lingers = ({ name }: SocketContract.Transport) => name === "lingering" || name === "messages, 20 ms"

const deviations: ReadonlyArray<{
  readonly of: (transport: SocketContract.Transport) => boolean
  readonly checks: RegExp
  readonly reason: string
}> = [
  {
    of: ({ messages }) => !messages,
    checks: /^a close event ends the connection for both/,
    reason: "our own suspended pull is not told; NodeSocket destroys the stream"
  },
  {
    of: (transport) => !lingers(transport),
    checks: /^a suspended write ends when its own connection is closed/,
    reason: "without linger it waits for the peer to read, as NodeSocket's does"
  }
]

describe.each([
  simulated("no latency", {}),
  simulated("no latency, whole writes", { slicing: false }),
  simulated("20 ms", { latency: "20 millis" }),
  simulated("5 to 50 ms", { latency: { uniform: ["5 millis", "50 millis"] } }),
  simulated("1 MB/s", { latency: "20 millis", bandwidth: 1_000_000 }),
  simulated("small buffers", { latency: "5 millis", sendBuffer: 4096, receiveBuffer: 4096 }),
  simulated("lingering", { latency: "20 millis", linger: "1 second" }),
  simulated("messages", {}, true),
  simulated("messages, 20 ms", { latency: "20 millis", linger: "1 second" }, true)
])("TestNetwork, $name", (transport) => {
  for (const check of SocketContract.checksFor(transport)) {
    const deviation = deviations.find(({ checks, of }) => of(transport) && checks.test(check.name))
    it.live(
      deviation === undefined ? check.name : `${check.name} (known deviation: ${deviation.reason})`,
      () =>
        Effect.sync(() => {
          const found = violation(check, transport)?.message
          if (deviation === undefined) assert.strictEqual(found, undefined)
          else assert.isDefined(found, "conforms now: take it from the list")
        })
    )
  }
})
