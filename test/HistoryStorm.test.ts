/** Twenty clients lose their connections in a storm: each sees every message once and in order, or is told that it cannot. */
import { Clock, Effect, Random, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { Client, Codec, Connection, Heartbeat, History, Server } from "holdfast"
import { Simulation } from "holdfast/testing"
import { it } from "holdfast/testing/vitest"
import { isLong, long } from "./support/often.ts"

type Event = History.Event<string>

const clients = Array.from({ length: 20 }, (_, i) => `client${i}`)

const chat = Connection.make({
  codec: Codec.lines(),
  heartbeat: Heartbeat.text("ping", "pong"),
  policy: { pingEvery: "5 seconds", pong: "3 seconds", silence: "15 seconds" }
})

interface Told {
  messages: number
  gone: number
}

/** Follows what one client is told, and fails the run where that is not so. */
const witness = (
  world: Simulation.World,
  name: string,
  truth: ReadonlyMap<string, ReadonlyArray<string>>,
  count: Told
) => {
  let last: History.Position | undefined
  const wrong = (event: Event) => world.fail(`${name} at ${JSON.stringify(last)} was told ${JSON.stringify(event)}`)
  return (event: Event) => {
    const { epoch, offset } = event.position
    if (event._tag === "Start" && last !== undefined) wrong(event)
    if (event._tag === "Message") {
      count.messages++
      const isNext = last?.epoch === epoch && offset === last.offset + 1
      if (!isNext || truth.get(epoch)?.[offset - 1] !== event.message) wrong(event)
    }
    if (event._tag === "Gone") {
      count.gone++
      const isRight = event.why === "epoch" ?
        last?.epoch !== epoch :
        event.why === "trimmed" && last?.epoch === epoch && event.missed === offset - last.offset
      if (!isRight) wrong(event)
    }
    last = event.position
  }
}

const program = (options: { readonly count: number; readonly isLossless: boolean }) => (world: Simulation.World) =>
  Effect.gen(function*() {
    const truth = new Map<string, Array<string>>()
    let history: History.History<string> | undefined
    const storm = { isOver: false }
    const talk = Effect.gen(function*() {
      while (!storm.isOver) {
        yield* Effect.sleep(yield* Random.nextIntBetween(1, 1000))
        const message = `at ${yield* Clock.currentTimeMillis}`
        const { epoch } = yield* history!.append(message)
        const messages = truth.get(epoch) ?? []
        truth.set(epoch, [...messages, message])
      }
    })
    const server = Effect.gen(function*() {
      history = yield* History.memory<string>({ count: options.count, age: "1 hour" })
      const room = history
      const handle = (connection: Connection.Connection<string>) =>
        Effect.gen(function*() {
          const { position } = JSON.parse(yield* connection.receive) as { readonly position?: History.Position }
          const told = History.follow(room, position, { batch: 16 })
          yield* Stream.runForEachArray(
            told,
            (events) => connection.sendAll(events.map((event) => JSON.stringify(event)))
          )
        })
      const listener = yield* world.network.host("server").listen(7000)
      const serve = Effect.provideService(
        Server.run({ open: chat, handle }),
        SocketServer.SocketServer,
        listener
      )
      yield* Effect.raceFirst(serve, Effect.andThen(talk, Effect.never))
    })
    yield* world.process("server", server)

    const cursors: Array<History.Cursor> = []
    const told: Told = { messages: 0, gone: 0 }
    for (const name of clients) {
      const cursor = yield* History.cursor()
      cursors.push(cursor)
      const client = yield* Client.make(
        Effect.suspend(() => chat(world.network.host(name).dial("server:7000"))),
        {
          policy: { retryCap: "5 seconds" },
          onConnect: ({ send }) => Effect.flatMap(cursor.position, (position) => send(JSON.stringify({ position })))
        }
      )
      const see = witness(world, name, truth, told)
      const read = Effect.gen(function*() {
        while (true) {
          // what it has not read when its connection ends is told again by the next one
          if ((yield* Random.next) < 0.1) yield* Effect.sleep(yield* Random.nextIntBetween(1, 5000))
          for (const event of yield* cursor.accept(JSON.parse(yield* client.receive) as Event)) see(event)
        }
      })
      yield* Effect.forkScoped(Effect.ignore(read))
    }
    yield* Effect.sleep("5 seconds")
    yield* world.storm
    storm.isOver = true
    yield* world.eventually(
      "all clients have come to the newest message",
      Effect.gen(function*() {
        const { newest } = yield* history!.ends
        for (const cursor of cursors) {
          const position = yield* cursor.position
          if (position?.epoch !== newest.epoch || position.offset !== newest.offset) return false
        }
        return true
      })
    )
    if (options.isLossless && told.gone > 0) world.fail(`${told.gone} gaps, where all messages are kept`)
  })

const hosts = ["server", ...clients]

const cases = [
  {
    title: "20 clients that lose their connections see each message once and in order, where all are kept",
    program: program({ count: 1e6, isLossless: true }),
    faults: { every: "1 second", hosts, hostsOf: { crash: [] } }
  },
  {
    title: "of a history that keeps 20 messages, in a process that crashes, they see the same or are told what is gone",
    program: program({ count: 20, isLossless: false }),
    faults: { every: "1 second", hosts, hostsOf: { crash: ["server"] } }
  }
] as const

for (const { faults, program, title } of cases) {
  it.simulate(title, { seeds: 1, storm: "20 seconds", faults }, program)

  it.runIf(isLong)(`${title}: 10 seeds`, long(300_000), async () => {
    for (let seed = 1; seed <= 10; seed++) {
      await Effect.runPromise(Simulation.run({ seed, storm: "2 minutes", faults }, program))
    }
  })
}
