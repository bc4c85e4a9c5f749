/**
 * How long 2,000 clients take to get the 50 messages each has missed while the network was away: virtual time, and CPU.
 *
 * `npx node --conditions=holdfast-source test/bench/resume.ts [clients] [missed]`
 */
import { Effect, Exit, Scope, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { Client, Codec, Connection, Heartbeat, History, Server } from "holdfast"
import { Simulation } from "holdfast/testing"

const clients = Number(process.argv[2] ?? 2000)
const missed = Number(process.argv[3] ?? 50)

const chat = Connection.make({
  codec: Codec.lines(),
  heartbeat: Heartbeat.text("ping", "pong"),
  policy: { pingEvery: "5 seconds", pong: "3 seconds", silence: "15 seconds" }
})

const cpu = () => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1000
}

const program = (world: Simulation.World) =>
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
    console.log(
      `${clients} clients, ${missed} missed each: ${
        told.right - began
      } once and in order, ${told.wrong} not, ${told.gone} gone; ` +
        `the last ${((lastAt - at) / 1000).toFixed(1)} s (virtual) after the network was back; ` +
        `${spent.toFixed(0)} ms of CPU in all, both ends and the network: ${
          (spent * 1000 / clients / missed).toFixed(1)
        } us a message`
    )
  })

await Effect.runPromise(Simulation.run({ seed: 1, network: { connectTimeout: "10 seconds" } }, program))
