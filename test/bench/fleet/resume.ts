/** How long 2,000 clients take to get the 50 messages each has missed while the network was away: virtual time, and CPU. */
import { Effect, Exit, Scope, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { Client, Codec, Connection, Heartbeat, History, Server } from "../../../src/index.ts"
import { Simulation } from "../../../src/testing/index.ts"
import type { Figure, Settings } from "./table.ts"

const clients = 2000
const missed = 50

const chat = Connection.make({
  codec: Codec.lines(),
  heartbeat: Heartbeat.text("ping", "pong"),
  policy: { pingEvery: "5 seconds", pong: "3 seconds", silence: "15 seconds" }
})

const cpu = () => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1000
}

interface Result {
  readonly right: number
  readonly wrong: number
  readonly gone: number
  readonly seconds: number
  readonly micros: number
}

const program = (result: (result: Result) => void) => (world: Simulation.World) =>
  Effect.gen(function*() {
    const { network } = world
    const history = yield* History.memory<string>()
    const handle = (connection: Connection.Connection<string>) =>
      Effect.gen(function*() {
        const { position } = JSON.parse(yield* connection.receive) as { readonly position?: History.Position }
        yield* Stream.runForEachArray(
          History.follow(history, position),
          (events) => connection.sendAll(events.map((event) => JSON.stringify(event)))
        )
      })
    const listener = yield* network.host("server").listen(7000, { backlog: 4096 })
    const serve = Server.run({ open: chat, handle })
    yield* Effect.forkScoped(Effect.provideService(serve, SocketServer.SocketServer, listener))

    const told = { right: 0, wrong: 0, gone: 0 }
    const clock = yield* Effect.clockWith(Effect.succeed)
    let lastAt = 0
    for (let i = 0; i < clients; i++) {
      const cursor = yield* History.cursor()
      const client = yield* Client.make(
        Effect.suspend(() => chat(network.host(`client${i}`).dial("server:7000"))),
        {
          policy: { retryCap: "5 seconds" },
          onConnect: ({ send }) => Effect.flatMap(cursor.position, (position) => send(JSON.stringify({ position })))
        }
      )
      let last = 0
      const read = Effect.gen(function*() {
        while (true) {
          for (const line of yield* client.receiveAll) {
            for (const event of yield* cursor.accept(JSON.parse(line) as History.Event<string>)) {
              if (event._tag === "Gone") told.gone++
              if (event._tag === "Message") {
                if (event.position.offset === ++last) told.right++
                else told.wrong++
              }
              lastAt = clock.currentTimeMillisUnsafe()
            }
          }
        }
      })
      yield* Effect.forkScoped(Effect.ignore(read))
    }
    yield* Effect.sleep("30 seconds")
    const began = told.right
    const outage = yield* Scope.make()
    yield* Scope.provide(network.host("server").link.partition, outage)
    yield* network.host("server").vanish
    yield* Effect.sleep("30 seconds")
    for (let i = 0; i < missed; i++) yield* history.append(`message ${i} of those that were missed meanwhile`)
    const [at, before] = [clock.currentTimeMillisUnsafe(), cpu()]
    yield* Scope.close(outage, Exit.void)
    yield* world.eventually(
      "all is there",
      Effect.sync(() => told.right + told.wrong >= clients * missed || told.gone > 0)
    )
    yield* Effect.sleep("10 seconds")
    const spent = cpu() - before
    result({
      right: told.right - began,
      wrong: told.wrong,
      gone: told.gone,
      seconds: (lastAt - at) / 1000,
      micros: (spent * 1000) / clients / missed
    })
  })

/** Once: in virtual time each run of a seed is the same, but for its CPU. */
export const resume = async ({ finished }: Settings): Promise<ReadonlyArray<Figure>> => {
  const { gone, micros, right, seconds, wrong } = await new Promise<Result>((resolve, reject) => {
    const simulated = Simulation.run({ seed: 1, network: { connectTimeout: "10 seconds" } }, program(resolve))
    Effect.runPromise(simulated).catch(reject)
  })
  finished("resume", 1)
  const name = `${clients} clients back from an outage, ${missed} messages missed each`
  return [
    { what: `${name}: in order and once, of ${clients * missed}`, unit: "", rounds: [right] },
    {
      what: `${name}: twice, late or not at all without \`Gone\``,
      unit: "",
      rounds: [wrong + (gone > 0 ? 0 : clients * missed - right)],
      most: 0
    },
    { what: "the last one is there after (virtual time)", unit: "s", rounds: [seconds] },
    { what: "CPU a message, both ends and the network", unit: "us", rounds: [micros] }
  ]
}
