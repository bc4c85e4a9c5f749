/**
 * The simulated network against the kernel: the same conversations on both, and what both ends observe has to be equal.
 * The kernel is right.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import { runVirtual } from "./support/runVirtual.ts"
import { type Pace, perform, type Scenario, type Speaker, type Stage } from "./support/stage.ts"
import { kernel, simulated, tcp, ws } from "./support/transports.ts"

const scenario = (body: (stage: Stage) => Effect.fn.Return<void, never, Scope.Scope>): Scenario => (stage) =>
  Effect.gen(() => body(stage))

const scenarios: Record<string, Scenario> = {
  "a clean close": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* client.write("hello", " and bye")
    yield* client.close
    yield* settle
    yield* server.read()
    yield* server.read()
  }),
  "a half-close with a reply": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* client.write("question")
    yield* client.finish
    yield* server.read()
    yield* server.write("answer")
    yield* server.finish
    yield* settle
    yield* client.read()
  }),
  "a close with much unread data, and a write": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    // more than Node reads ahead, and less than the kernel takes
    yield* server.write("x".repeat(300_000))
    yield* settle
    yield* client.close
    yield* settle
    yield* server.read()
    yield* server.write("x")
  }),
  "a close with unread data, and a write": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* server.write("never read")
    yield* settle
    yield* client.close
    yield* settle
    yield* server.read()
    yield* server.write("x")
  }),
  "a close with unread data": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* server.write("never read")
    yield* settle
    yield* client.close
    yield* settle
    yield* server.read()
    yield* server.read()
  }),
  "the server closes with unread data": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* client.write("never read")
    yield* settle
    yield* server.close
    yield* settle
    yield* client.read()
  }),
  "data before a close with unread data": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* client.write("never read")
    yield* settle
    yield* server.write("last words")
    yield* server.close
    yield* settle
    yield* client.read()
  }),
  "a reset while reading": scenario(function*({ abort, pair, settle }) {
    const [client, server] = yield* pair
    const reading = yield* Effect.forkScoped(client.read(), { startImmediately: true })
    yield* settle
    yield* abort(server)
    yield* Fiber.join(reading)
    yield* client.read()
  }),
  "a reset while writing": scenario(function*({ abort, pair, settle }) {
    const [client, server] = yield* pair
    const { join } = yield* client.fill
    yield* abort(server)
    yield* settle
    yield* join
  }),
  "a reset with data under way": scenario(function*({ abort, pair, settle }) {
    const [client, server] = yield* pair
    yield* server.write("read before the reset")
    yield* client.read(21)
    yield* abort(server)
    yield* settle
    yield* client.read()
  }),
  "a write after a reset": scenario(function*({ abort, pair, settle }) {
    const [client, server] = yield* pair
    yield* abort(server)
    yield* settle
    yield* client.read()
    yield* client.write("x")
  }),
  "a refused dial": scenario(function*({ dial, settle, stop }) {
    yield* settle
    yield* stop
    yield* dial()
    yield* dial()
  }),
  "a server that stops listening": scenario(function*({ dial, pair, stop }) {
    const [client, server] = yield* pair
    yield* stop
    yield* dial("late")
    yield* client.write("still here")
    yield* server.read(10)
    yield* server.write("so am I")
    yield* client.read(7)
  }),
  "a peer that never reads, and closes": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    const { join } = yield* client.fill
    yield* server.close
    yield* settle
    yield* join
  }),
  "a big transfer in both directions": scenario(function*({ pair }) {
    const [client, server] = yield* pair
    const text = (seed: number) => Array.from({ length: 40_000 }, (_, i) => String((i * seed) % 9973)).join(",")
    const quietly = (one: Speaker, seed: number) => one.write(text(seed))
    // the transcript of one side after the other: the order between them is up to the world
    const writes = yield* Effect.forkScoped(Effect.all([quietly(client, 17), quietly(server, 29)]))
    yield* server.read(text(17).length)
    yield* client.read(text(29).length)
    yield* Fiber.join(writes)
  }),
  "a peer that ends at once": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* server.close
    yield* settle
    yield* client.read()
    yield* client.read()
  }),
  "a write after the peer's end": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* server.close
    yield* settle
    yield* client.read()
    yield* client.write("anybody there?")
    yield* settle
    yield* client.write("nobody")
  }),
  "a write after the peer's half-close": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* server.finish
    yield* settle
    yield* client.read()
    yield* client.write("you can still read")
    yield* settle
    yield* server.read(18)
    yield* client.close
    yield* server.read()
  }),
  "an end, then a write": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* client.finish
    yield* settle
    yield* client.write("too late")
    yield* server.read()
  }),
  "both ends close at once": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    const reading = yield* Effect.forkScoped(client.read(), { startImmediately: true })
    yield* Effect.all([client.close, server.close], { concurrency: 2 })
    yield* Fiber.join(reading)
    yield* settle
    yield* server.read()
  }),
  "both ends half-close at once": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* client.write("from the client")
    yield* server.write("from the server")
    yield* Effect.all([client.finish, server.finish], { concurrency: 2 })
    yield* settle
    yield* client.read()
    yield* server.read()
  }),
  "a dial given up, and the next": scenario(function*({ accept, dial, note, settle }) {
    const given = yield* Effect.forkScoped(Effect.scoped(dial("given up")), { startImmediately: true })
    yield* Fiber.interrupt(given)
    yield* settle
    yield* note("given up")
    const client = yield* dial()
    yield* client!.write("hello")
    yield* accept("first")
  }),
  "many short connections": scenario(function*({ pair }) {
    for (let i = 0; i < 25; i++) {
      const [client, server] = yield* pair
      yield* client.write(`request ${i}`)
      yield* client.finish
      yield* server.read()
      yield* server.write(`answer ${i}`)
      yield* server.close
      yield* client.read()
      yield* client.close
    }
  }),
  "a peer that ended before it was read": scenario(function*({ accept, dial, settle }) {
    const client = yield* dial()
    yield* client!.write("in the backlog")
    yield* client!.close
    yield* settle
    const server = yield* accept()
    yield* server.read()
    yield* server.read()
  }),
  "a close event of 1000": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    const reading = yield* Effect.forkScoped(client.read(), { startImmediately: true })
    yield* settle
    yield* client.write(new Socket.CloseEvent(1000))
    yield* Fiber.join(reading)
    yield* settle
    yield* server.read()
  }),
  "a close event of 4000": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* client.write(new Socket.CloseEvent(4000))
    yield* settle
    yield* client.read()
    yield* server.read()
  }),
  "a pull after the reader was released": scenario(function*({ pair, settle }) {
    const [client, server] = yield* pair
    yield* client.close
    yield* client.read()
    yield* settle
    yield* server.read()
  })
}

interface Difference {
  readonly reason: string
  readonly real: ReadonlyArray<string>
  readonly simulated: ReadonlyArray<string>
}

/** Where the two differ, and how: what follows the lines they have in common. */
const differences: Record<string, Record<string, Difference>> = {
  kernel: {
    "a close with unread data, and a write": {
      reason: "Node has read ahead, so to the kernel nothing is unread, and it resets only when more comes",
      real: ["server writes: taken"],
      simulated: ["server writes: SocketWriteError EPIPE"]
    },
    "a write after a reset": {
      reason: "NodeSocket waits for ever when it writes to a stream that Node has destroyed",
      real: ["client writes: waits"],
      simulated: ["client writes: SocketWriteError ECONNRESET"]
    }
  }
}

const same: Omit<Difference, "reason"> & { readonly reason?: string } = { real: [], simulated: [] }

/** What two transcripts have not in common. */
const tails = (real: ReadonlyArray<string>, simulated: ReadonlyArray<string>) => {
  let at = 0
  while (at < real.length && real[at] === simulated[at]) at++
  return { real: real.slice(at), simulated: simulated.slice(at) }
}

const virtual: Pace = { settle: Effect.sleep(1000), patience: 30_000 }

/**
 * On loopback all that is under way waits for nothing but turns of our own event loop, so turns are waited for. Should
 * the machine be too busy for so few, the scenario is played again with more: a real difference stays one.
 */
const paces = [[10, 400], [60, 2500], [300, 5000]].map(([turns, patience]): Pace => ({
  settle: Effect.forEach(Array.from({ length: turns! }), () => Effect.sleep(5), { discard: true }),
  patience: patience!
}))

const latency = "5 millis"
const buffers = { sendBuffer: 1024 * 1024, receiveBuffer: 1024 * 1024 }

describe.each([
  { world: "kernel", real: kernel, copy: simulated("kernel", { latency, ...buffers }) },
  // they linger
  { world: "tcp", real: tcp, copy: simulated("tcp", { latency, ...buffers, linger: "1 second" }) },
  { world: "ws", real: ws, copy: simulated("ws", { latency, ...buffers }, { webSocket: true }) }
])("the simulation is like the sockets of $world", ({ copy, real, world }) => {
  for (const [name, play] of Object.entries(scenarios)) {
    const { reason, ...difference } = differences[world]?.[name] ?? same
    it.live(
      reason === undefined ? name : `${name} (known difference: ${reason})`,
      () =>
        Effect.gen(function*() {
          const expected = runVirtual(name, perform(copy, virtual, play))
          assert.isNotEmpty(expected)
          for (const pace of paces) {
            const found = tails(yield* perform(real, pace, play), expected)
            if (pace === paces.at(-1) || Equal.equals(found, difference)) {
              return assert.deepStrictEqual(found, difference)
            }
          }
        }),
      60_000
    )
  }
})
