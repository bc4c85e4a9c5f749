/** The example in the documentation of `TestNetwork`, word for word, with the echo that it speaks of. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { TestNetwork } from "../../src/testing/index.ts"
import { text } from "./support/network.ts"

const echo = (socket: Socket.Socket) =>
  Effect.gen(function*() {
    const { pull } = yield* socket.reader
    const { writeAll } = yield* socket.writer
    while (true) yield* writeAll(yield* pull)
  }).pipe(Effect.scoped)

// begin
const program = Effect.gen(function*() {
  const network = yield* TestNetwork.make({ seed: "42", latency: "20 millis" })
  const server = yield* network.host("server").listen(7000)
  yield* Effect.forkScoped(server.run(echo))
  const socket = network.host("client").dial("server:7000")
  const { pull } = yield* socket.reader
  const { write } = yield* socket.writer
  yield* write("hello")
  const echoed = yield* pull // "hello", or a first part of it
  yield* network.link("client", "server").partition
  yield* write("is anybody there?") // arrives when the scope of the partition is closed
  return [echoed, TestNetwork.format(yield* network.snapshot)] as const
})
// end

it.effect("the example of the documentation runs", () =>
  Effect.gen(function*() {
    const running = yield* Effect.forkScoped(program)
    yield* TestClock.adjust("2 minutes")
    const [echoed, printed] = yield* Fiber.join(running)
    assert.isTrue("hello".startsWith(text(echoed)))
    assert.include(printed, "client -> server cut")
    assert.include(printed, "retransmits")
  }))

it("and is the one that is documented", () => {
  const read = (path: string) => readFileSync(fileURLToPath(new URL(path, import.meta.url)), "utf8")
  const here = read("./TestNetworkExample.test.ts").split("// begin\n")[1].split("// end\n")[0]
  const documented = read("../../src/testing/TestNetwork.ts").split(" * ```ts\n")[1].split(" * ```\n")[0]
  assert.strictEqual(documented.replaceAll(/^ \* ?/gm, ""), here)
})
