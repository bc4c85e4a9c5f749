/**
 * Prints, as JSON, the files of `src` in which something ran while one thing happened to a connection over TCP: a received
 * chunk, a sent message, a FIN, a changed limit. Counted by the engine, with its precise coverage.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { Session } from "node:inspector/promises"
import * as Net from "node:net"
import { setImmediate as immediate } from "node:timers/promises"
import { pathToFileURL } from "node:url"
import { Codec, Connection } from "../../../src/index.ts"
import { Listener } from "../../../src/node/index.ts"

const src = new URL("../../../src/", import.meta.url).href
const session = new Session()

/** The files that ran since the last call. */
const ran = async (): Promise<Array<string>> => {
  const { result } = await session.post("Profiler.takePreciseCoverage")
  return result
    .filter(({ functions }) => functions.some(({ ranges }) => ranges[0]!.count > 0))
    .map(({ url }) => url.startsWith("file:") ? url : pathToFileURL(url).href)
    .filter((url) => url.startsWith(src))
    .map((url) => url.slice(src.length))
    .toSorted()
}

/** Lets what follows from the last step happen: nothing else goes on in this process. */
const settled = async (): Promise<void> => {
  for (let turns = 0; turns < 10; turns++) await immediate()
}

const make = Connection.make({
  codec: Codec.lengthPrefix(),
  policy: { pingEvery: "1 hour", silence: "2 hours", halfClose: "1 hour" }
})

const observed = Effect.fnUntraced(function*(
  connection: Connection.Connection<Uint8Array>,
  received: Queue.Queue<void>,
  client: Net.Socket
) {
  const frame = Uint8Array.of(0, 0, 0, 5, 1, 2, 3, 4, 5)
  const files: Record<string, ReadonlyArray<string>> = {}
  // a step ends when it was seen at the other side
  const during = Effect.fnUntraced(function*(name: string, step: Effect.Effect<unknown, unknown>, times = 2) {
    for (let time = 0; time < times; time++) {
      // what happens only the first time is no part of it
      yield* Effect.promise(ran)
      yield* Effect.orDie(step)
      yield* Effect.promise(settled)
    }
    files[name] = yield* Effect.promise(ran)
  })
  const delivered = Effect.callback<void>((resume) => void client.once("data", () => resume(Effect.void)))
  yield* during("a received chunk", Effect.andThen(Effect.sync(() => client.write(frame)), Queue.take(received)))
  yield* during(
    "a sent message",
    Effect.all([delivered, connection.send(frame.subarray(4))], { concurrency: "unbounded" })
  )
  let hours = 2
  yield* during("a changed silence", Effect.suspend(() => connection.patch({ silence: `${++hours} hours` })))
  yield* during("a FIN", Effect.andThen(Effect.sync(() => client.end()), Queue.take(received)), 1)
  return files
})

const program = Effect.scoped(Effect.gen(function*() {
  session.connect()
  yield* Effect.promise(() => session.post("Profiler.enable"))
  yield* Effect.promise(() => session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false }))
  const listener = yield* Listener.make("tcp://127.0.0.1:0")
  const port = Number(new URL(listener.url).port)
  const client = Net.connect(port, "127.0.0.1")
  client.on("error", () => {}).resume()
  const files = yield* Effect.callback<Record<string, ReadonlyArray<string>>>((resume) => {
    const serving = listener.run((socket) =>
      Effect.scoped(Effect.gen(function*() {
        const connection = yield* make(socket)
        const received = yield* Queue.unbounded<void>()
        const receiving = Effect.forever(Effect.andThen(connection.receive, Queue.offer(received, undefined)))
        // the end is received, too
        yield* Effect.forkChild(Effect.ensuring(Effect.ignore(receiving), Queue.offer(received, undefined)))
        resume(yield* Effect.exit(observed(connection, received, client)))
      }))
    )
    const fiber = Effect.runFork(Effect.ignore(serving))
    return Effect.sync(() => fiber.interruptUnsafe())
  })
  client.destroy()
  yield* Effect.sync(() => console.log(JSON.stringify(files)))
}))

Effect.runPromise(program).then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
