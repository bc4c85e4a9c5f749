/** The simulated network keeps the contract that real transports keep, without an exception. */
import { assert, describe, it } from "@effect/vitest"
import { SocketContract } from "../../src/testing/index.ts"
import { violation } from "./support/runVirtual.ts"
import { simulated } from "./support/transports.ts"

describe.each([
  simulated("no latency", {}),
  simulated("no latency, whole writes", { slicing: false }),
  simulated("20 ms", { latency: "20 millis" }),
  simulated("5 to 50 ms", { latency: { uniform: ["5 millis", "50 millis"] } }),
  simulated("1 MB/s", { latency: "20 millis", bandwidth: 1_000_000 }),
  simulated("small buffers", { latency: "5 millis", sendBuffer: 4096, receiveBuffer: 4096 }),
  simulated("lingering", { latency: "20 millis", linger: "1 second" }),
  simulated("messages", {}, { messages: true }),
  simulated("messages, 20 ms", { latency: "20 millis", linger: "1 second" }, { messages: true }),
  simulated("WebSocket, 1 ms", { latency: 1 }, { webSocket: true }),
  simulated("WebSocket, 5 to 50 ms", { latency: { uniform: ["5 millis", "50 millis"] } }, { webSocket: true }),
  simulated("WebSocket, 1 MB/s", { latency: "20 millis", bandwidth: 1_000_000 }, { webSocket: true }),
  simulated("WebSocket, small buffers", { latency: "5 millis", sendBuffer: 4096, receiveBuffer: 4096 }, {
    webSocket: true
  })
])("TestNetwork, $name", (transport) => {
  it.each(SocketContract.checksFor(transport))("$name", (check) => {
    assert.strictEqual(violation(check, transport)?.message, undefined)
  })
})
