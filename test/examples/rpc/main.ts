/** The server and a client as a program: 20 fibers call, and the server is replaced every 4 s. */
import { Console, Effect, Schedule, Stream } from "effect"
import { ports, run } from "../support/run.ts"
import * as Client from "./client.ts"
import { type Ledger, start } from "./server.ts"

const program = Effect.gen(function*() {
  const [port] = yield* ports(7160)
  const ledger: Ledger = { billed: [] }
  let version = 1
  let server = yield* start(`tcp://127.0.0.1:${port}`, "server 1", ledger)
  yield* Console.log(`calls to ${server.url}\nCtrl-C stops it.`)
  const { url } = server

  const replace = Effect.gen(function*() {
    const next = yield* start(url, `server ${++version}`, ledger)
    const before = server
    server = next
    yield* Console.log(`server ${version} listens; server ${version - 1} stops accepting, and answers what it has`)
    yield* before.stop
    yield* Console.log(`server ${version - 1} has stopped`)
  })
  yield* Effect.forkScoped(Effect.forever(Effect.delay(replace, "4 seconds")))

  const client = yield* Client.make(url)
  const answers = new Map<string, number>()
  const [asked, answered, failed] = [new Set<number>(), new Set<number>(), new Set<number>()]
  const call = Effect.suspend(() => {
    const order = asked.size + 1
    asked.add(order)
    return client.bill(order).pipe(
      Effect.map(({ by }) => {
        answered.add(order)
        answers.set(by, (answers.get(by) ?? 0) + 1)
      }),
      Effect.catch(() => Effect.sync(() => void failed.add(order)))
    )
  })
  yield* Effect.forkScoped(
    Effect.forEach(Array.from({ length: 20 }), () => Effect.forever(call), { concurrency: "unbounded", discard: true })
  )
  yield* Effect.forkScoped(Effect.ignore(Effect.forever(Stream.runDrain(client.count(20)))))

  const line = Effect.suspend(() => {
    const by = Array.from(answers, ([name, count]) => `${name}: ${count}`).join(", ")
    answers.clear()
    const twice = ledger.billed.length - new Set(ledger.billed).size
    return Console.log(
      `${answered.size} answered (in this second ${by || "none"}), ${failed.size} failed, ${twice} executed twice`
    )
  })
  yield* Effect.repeat(Effect.delay(line, "1 second"), Schedule.forever)
})

run(Effect.scoped(program))
