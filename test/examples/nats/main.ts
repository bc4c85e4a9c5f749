/** The NATS client as a program: two workers answer questions, on a nats-server that restarts every 5 s. */
import { Console, Effect, Schedule, Stream } from "effect"
import { run } from "../support/run.ts"
import { backend, freePort, installed, started } from "../support/servers.ts"
import * as Nats from "./nats.ts"

const server = backend(
  "NATS_URL",
  Effect.gen(function*() {
    const path = yield* installed("nats-server", "nats-server", ". Or set NATS_URL=tcp://HOST:4222")
    const port = yield* freePort
    return { url: `tcp://127.0.0.1:${port}`, server: started(path, ["-a", "127.0.0.1", "-p", `${port}`], [port]) }
  })
)

const program = Effect.gen(function*() {
  const { restarting, url } = yield* server
  yield* Console.log(`a server on ${url}\nCtrl-C stops it.`)
  const subject = `holdfast.${process.pid}`

  for (const name of ["worker one", "worker two"]) {
    const worker = yield* Nats.make({ url, name })
    // of a queue, one worker gets each question
    const questions = worker.subscribe(`${subject}.double.*`, "workers")
    const respond = (question: Nats.Message) => Effect.succeed(`${2 * Number(Nats.textOf(question))}, says ${name}`)
    yield* Effect.forkScoped(worker.answer(questions, respond))
  }

  const client = yield* Nats.make({ url, name: "asker" })
  yield* Effect.forkScoped(
    Stream.runForEach(client.subscribe(`${subject}.news`), (message) => Console.log(`news: ${Nats.textOf(message)}`))
  )
  let next = 1
  const ask = Effect.suspend(() => {
    const question = next++
    return client.request(`${subject}.double.${question}`, `${question}`).pipe(
      Effect.map((answer) => `2 x ${question} is ${Nats.textOf(answer)}`),
      // the question may have been answered all the same
      Effect.catchTags({
        NoResponders: () => Effect.succeed(`2 x ${question}: no worker is there`),
        ConnectionError: ({ reason }) => Effect.succeed(`2 x ${question}: ${reason.message}`)
      }),
      Effect.tap(Console.log)
    )
  })
  const asking = Effect.repeat(ask, Schedule.spaced("500 millis"))
  const news = Effect.repeat(
    Effect.delay(client.publish(`${subject}.news`, "all is well"), "3 seconds"),
    Schedule.forever
  )
  yield* Effect.raceAllFirst([asking, news, restarting])
})

run(Effect.scoped(program))
