/** The examples of simulations in the guide about testing and in the documentation of `Simulation`, word for word. */
import { assert, describe } from "@effect/vitest"
import { Effect, Exit, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { Client, Codec, Connection, Heartbeat, Server } from "holdfast"
import { Simulation } from "holdfast/testing"
import { it } from "holdfast/testing/vitest"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

// begin src/guides/testing.md
const open = Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") })
const serve = Server.run({ open, handle: (c) => Stream.runForEach(Connection.batches(c), c.sendAll) })

it.simulate(
  "an echo comes back after any storm",
  { seeds: 100 },
  ({ eventually, network, process, storm }) =>
    Effect.gen(function*() {
      const listen = Effect.flatMap(
        network.host("server").listen(7000),
        (listener) => Effect.provideService(serve, SocketServer.SocketServer, listener)
      )
      yield* process("server", listen) // again after each crash
      const client = yield* Client.make(Effect.suspend(() => open(network.host("client").dial("server:7000"))))
      const echo = Effect.andThen(client.send("hello"), Effect.timeout(client.receive, "5 seconds"))
      yield* storm
      // what was said to a peer that had vanished is lost: at most once, as TCP has it
      yield* eventually("an echo comes back", Effect.map(Effect.exit(echo), Exit.isSuccess))
    })
)
// end

describe("the docs of Simulation", () => {
  const open = Connection.make({ codec: Codec.lines() })
  const peer = open

  // begin src/testing/Simulation.ts
  const program = (world: Simulation.World) =>
    Effect.gen(function*() {
      const serve = Server.run({
        open,
        handle: (c) => Effect.forever(Effect.flatMap(c.receive, (n) => c.send(`${n}!`)))
      })
      const listen = world.network.host("server").listen(7000)
      yield* world.process(
        "server",
        Effect.flatMap(listen, (listener) => Effect.provideService(serve, SocketServer.SocketServer, listener))
      )
      const ask = Effect.scoped(Effect.gen(function*() {
        const connection = yield* open(world.network.host("client").dial("server:7000"))
        yield* connection.send("42")
        if ((yield* connection.receive) !== "42!") world.fail("the answer belongs to another question")
      }))
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.ignore(ask), Effect.sleep("1 second"))))
      yield* world.storm
      yield* world.eventually("an answer comes", Effect.map(Effect.exit(ask), Exit.isSuccess))
    })
  // end

  // begin src/testing/Simulation.ts
  const script = (world: Simulation.World) =>
    Effect.gen(function*() {
      const listener = yield* world.network.host("server").listen(7000)
      yield* listener.run((socket) =>
        Effect.scoped(Effect.gen(function*() {
          const { receive, send } = yield* peer(socket)
          const expect = (line: string) =>
            Effect.map(receive, (got) => got === line || world.fail(`expected ${line}, got ${got}`))
          yield* send("welcome")
          yield* expect("what time is it?")
          yield* Effect.sleep("3 seconds")
          yield* send("late")
          yield* expect("and now?")
          yield* Effect.never
        }))
      )
    })
  // end

  it.simulate("everything that was asked is answered once", { seeds: 10, storm: "5 minutes" }, program)

  it("the scripted peer says what its script says, when it says it", async () => {
    const told: Array<string> = []
    await Effect.runPromise(Simulation.run({ seed: 1 }, (world) =>
      Effect.gen(function*() {
        yield* Effect.forkScoped(script(world))
        yield* Effect.sleep(1)
        const { receive, send } = yield* open(world.network.host("client").dial("server:7000"))
        const clock = yield* Effect.clockWith(Effect.succeed)
        told.push(`${yield* receive} at ${clock.currentTimeMillisUnsafe()}`)
        yield* send("what time is it?")
        told.push(`${yield* receive} at ${clock.currentTimeMillisUnsafe()}`)
        yield* send("and now?")
      })))
    assert.deepStrictEqual(told, ["welcome at 1", "late at 3001"])
    const wrong = await Effect.runPromise(Effect.flip(Simulation.run({ seed: 1 }, (world) =>
      Effect.gen(function*() {
        yield* Effect.forkScoped(script(world))
        yield* Effect.sleep(1)
        const { send } = yield* open(world.network.host("client").dial("server:7000"))
        yield* send("hello?")
        yield* Effect.never
      }))))
    assert.include(wrong.message, "expected what time is it?, got hello?")
  })

  it("they are what is printed there", () => {
    const own = readFileSync(fileURLToPath(import.meta.url), "utf8")
    const examples = Array.from(own.matchAll(/^( *)\/\/ begin (\S+)\n([\s\S]*?)\n *\/\/ end$/gm))
    assert.strictEqual(examples.length, 3)
    const plain = (text: string) => text.replace(/^ \* ?/gm, "").replace(/\s+/g, " ")
    for (const [, , file, code] of examples) {
      assert.include(plain(readFileSync(root + file, "utf8")), plain(code!).trim(), file)
    }
  })
})
