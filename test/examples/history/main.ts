/** A room that misses nothing: readers lose their connections, and every 20 s the process of the server "restarts". */
import { Console, Effect, Random, Schedule } from "effect"
import { SocketServer } from "effect/socket"
import { History } from "holdfast"
import { Listener } from "holdfast/node"
import { ports, run } from "../support/run.ts"
import { read, serve, type Told } from "./room.ts"

const names = ["ada", "bob", "cyd", "dan", "eve"]

const program = Effect.gen(function*() {
  const [wanted] = yield* ports(7300)
  let port = wanted

  /** A server with a memory of its own, for a while. */
  const life = Effect.gen(function*() {
    const room = yield* History.memory<string>({ count: 200, age: "1 minute" })
    const listener = yield* Listener.make(`tcp://127.0.0.1:${port}`)
    if ("port" in listener.address) port = listener.address.port
    const saying = Effect.repeat(
      Effect.flatMap(Random.nextInt, (n) => room.append(`message ${n}`)),
      Schedule.spaced("20 millis")
    )
    const serving = Effect.provideService(serve(room), SocketServer.SocketServer, listener)
    yield* Effect.raceAllFirst([serving, saying, Effect.sleep("20 seconds")])
    yield* Console.log("the server restarts, and has forgotten all")
  })
  yield* Effect.forkScoped(Effect.forever(Effect.scoped(life)))
  yield* Effect.sleep("100 millis")

  const all: Array<readonly [string, Told]> = []
  for (const name of names) {
    const told: Told = { messages: 0, gaps: 0, connections: 0 }
    all.push([name, told])
    const { client, reading } = yield* read(
      `tcp://127.0.0.1:${port}`,
      told,
      (event) => event._tag === "Gone" ? Console.log(`${name}: messages are missing here (${event.why})`) : Effect.void
    )
    yield* Effect.forkScoped(reading)
    // away now and then, without a word
    const leaving = Effect.flatMap(Random.nextIntBetween(500, 4000), (pause) => Effect.delay(client.reconnect, pause))
    yield* Effect.forkScoped(Effect.forever(leaving))
  }
  yield* Console.log(`${names.length} readers on tcp://127.0.0.1:${port}, 50 messages a second\nCtrl-C stops it.`)
  const report = Effect.suspend(() =>
    Console.log(
      all.map(([name, { connections, gaps, messages }]) => `${name} ${messages}/${connections}/${gaps}`).join("  ") +
        "  (messages/connections/gaps)"
    )
  )
  yield* Effect.repeat(Effect.delay(report, "2 seconds"), Schedule.forever)
})

run(Effect.scoped(program))
