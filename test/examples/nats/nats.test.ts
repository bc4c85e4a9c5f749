/** The NATS client against a real nats-server, which restarts meanwhile. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Scope, Stream } from "effect"
import { until } from "../../integration/support/kit.ts"
import { freePort, installed, started } from "../support/servers.ts"
import * as Nats from "./nats.ts"

const natsServer = Option.getOrUndefined(Effect.runSync(Effect.option(installed("nats-server", "nats-server"))))

const server = Effect.gen(function*() {
  const port = yield* freePort
  const url = `tcp://127.0.0.1:${port}`
  const scope = yield* Scope.fork(yield* Effect.scope)
  const start = started(natsServer!, ["-a", "127.0.0.1", "-p", `${port}`], [port])
  yield* Scope.provide(start, scope)
  return { url, restart: Effect.andThen(Scope.close(scope, Exit.void), start) }
})

describe.skipIf(natsServer === undefined)(
  "the NATS client, against nats-server (skipped where it is not installed)",
  () => {
    it.live("asks, is answered by one worker of a queue, and subscribes again after a restart", () =>
      Effect.gen(function*() {
        const { restart, url } = yield* server
        const client = yield* Nats.make({ url, name: "client" })
        const none = yield* Effect.flip(client.request("echo", "anyone?"))
        assert.strictEqual(none._tag, "NoResponders")

        const workers = yield* Effect.forEach(["one", "two"], (name) => Nats.make({ url, name }))
        const asked = new Array<string>()
        for (const worker of workers) {
          yield* Effect.forkScoped(worker.answer(worker.subscribe("echo", "workers"), (question) =>
            Effect.sync(() => {
              asked.push(Nats.textOf(question))
              return `re: ${Nats.textOf(question)}`
            })))
        }
        const ask = (text: string) =>
          Effect.retry(client.request("echo", text), { while: (error) => error._tag === "NoResponders" }).pipe(
            Effect.map(Nats.textOf)
          )
        const texts = Array.from({ length: 100 }, (_, i) => `${i}`)
        assert.deepStrictEqual(
          yield* Effect.forEach(texts, ask, { concurrency: "unbounded" }),
          texts.map((text) => `re: ${text}`)
        )
        assert.strictEqual(asked.length, 100, "each question is answered once")

        yield* restart
        yield* Effect.forEach([client, ...workers], ({ client }) => client.retryNow)
        assert.strictEqual(yield* ask("still there?"), "re: still there?")
      }))

    it.live("a subscription that does not keep up loses its oldest messages, and no other does", () =>
      Effect.gen(function*() {
        const { url } = yield* server
        const [reader, writer] = [yield* Nats.make({ url, name: "reader" }), yield* Nats.make({ url, name: "writer" })]
        const heard = new Array<string>()
        const started = new Array<string>()
        yield* Effect.forkScoped(
          Stream.runForEach(
            reader.subscribe("news"),
            (message) => Effect.sync(() => void heard.push(Nats.textOf(message)))
          )
        )
        // takes one message, and no other
        yield* Effect.forkScoped(Stream.runForEach(reader.subscribe("news"), (message) =>
          Effect.andThen(
            Effect.sync(() => started.push(Nats.textOf(message))),
            Effect.never
          )))
        yield* reader.client.connection
        // the server has seen what came before its answer
        yield* Effect.flip(reader.request("nobody", "?"))
        // no more than a subscription that keeps up can hold
        for (let sent = 0; sent < 3000; sent += 500) {
          yield* Effect.forEach(Array.from({ length: 500 }, (_, i) => sent + i), (i) => writer.publish("news", `${i}`))
          yield* until("these are heard", () => heard.length === sent + 500)
        }
        assert.strictEqual(heard.length, 3000)
        assert.strictEqual(started.length, 1)
      }))
  }
)
