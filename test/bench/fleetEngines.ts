/**
 * What an answered remote send of a `Fleet` costs, against the engine's own raw round trip in the same run:
 * `node --conditions=holdfast-source test/bench/fleetEngines.ts [redis|nats]...`
 *
 * Each node is a process. The caller measures its own processor time; both ways go in turns, so that the machine is the same.
 */
import { connect } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { createClient } from "redis"
import { NatsBackplane } from "../../src/nats/index.ts"
import { RedisBackplane } from "../../src/redis/index.ts"
import { installed, natsServer, redisServer } from "../integration/support/engines.ts"

const [, , ...args] = process.argv
const [role, name, address] = args[0] === "echo" ? args : ["", "", ""]

const engineOf = (name: string, address: string) =>
  name === "redis"
    ? RedisBackplane.make({ url: `redis://${address}` })
    : NatsBackplane.make({ servers: address, storage: "memory" })

const text = new TextEncoder()
const payload = text.encode("x".repeat(100))

/** The other node: sends each batch back to `a`, and each raw message to its caller. */
const echo = Effect.gen(function*() {
  const engine = yield* engineOf(name!, address!)
  const session = yield* engine.join({ node: "b", lease: 600_000 })
  if (name === "redis") {
    const client = createClient({ url: `redis://${address}` })
    const inbox = createClient({ url: `redis://${address}` })
    yield* Effect.promise(async () => {
      await client.connect()
      await inbox.connect()
      await inbox.subscribe("raw.b", (bytes) => void client.publish("raw.a", bytes), true)
    })
  } else {
    const nats = yield* Effect.promise(() => connect({ servers: address! }))
    nats.subscribe("raw.b", { callback: (_, message) => void message.respond(message.data) })
    yield* Effect.promise(() => nats.flush())
  }
  console.log("ready")
  while (true) {
    for (const arrival of yield* session.take) {
      // no answer is wanted where the first byte is 0
      if (arrival._tag === "Batch" && arrival.bytes[0] !== 0) yield* session.publish("a", arrival.bytes)
    }
  }
})

interface Figure {
  readonly micros: number
  readonly cpu: number
}

/** The median of rounds, in turns. */
const rounds = 7
const each = 2000

const measured = async (run: () => Promise<void>, many: number): Promise<Figure> => {
  const cpu = process.cpuUsage()
  const began = performance.now()
  await run()
  const micros = (1000 * (performance.now() - began)) / many
  const { system, user } = process.cpuUsage(cpu)
  return { micros, cpu: (system + user) / many }
}

const median = (figures: ReadonlyArray<Figure>, of: keyof Figure): number =>
  figures.map((figure) => figure[of]).toSorted((a, b) => a - b)[Math.floor(figures.length / 2)]!

const raw = async (
  name: string,
  address: string
): Promise<{ one: () => Promise<void>; close: () => Promise<void> }> => {
  if (name === "nats") {
    const nats = await connect({ servers: address })
    return {
      one: async () => void await nats.request("raw.b", payload, { timeout: 5000 }),
      close: () => nats.close()
    }
  }
  const client = createClient({ url: `redis://${address}` })
  const inbox = createClient({ url: `redis://${address}` })
  await client.connect()
  await inbox.connect()
  let answered = () => {}
  await inbox.subscribe("raw.a", () => answered(), true)
  const bytes = Buffer.from(payload)
  return {
    one: async () => {
      const answer = new Promise<void>((resolve) => answered = resolve)
      void client.publish("raw.b", bytes)
      await answer
    },
    close: async () => {
      client.destroy()
      inbox.destroy()
    }
  }
}

const bench = (name: string) =>
  Effect.gen(function*() {
    const { port } = yield* name === "redis" ? redisServer() : natsServer()
    const address = `127.0.0.1:${port}`
    const child = ChildProcess.spawn(
      process.execPath,
      ["--conditions=holdfast-source", fileURLToPath(import.meta.url), "echo", name, address],
      { stdio: ["ignore", "pipe", "inherit"] }
    )
    yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
    yield* Effect.promise(() => once(child.stdout, "data"))
    const engine = yield* engineOf(name, address)
    const session = yield* engine.join({ node: "a", lease: 600_000 })
    const other = yield* Effect.promise(() => raw(name, address))
    const send = (count: number) =>
      Effect.runPromise(Effect.gen(function*() {
        for (let i = 0; i < count; i++) {
          yield* session.publish("b", payload)
          yield* session.take
        }
      }))
    // nothing is waited for until all are with the engine; 32 in flight
    const quiet = new Uint8Array(100)
    const forget = (count: number) =>
      Effect.runPromise(
        Effect.forEach(Array.from({ length: count }), () => session.publish("b", quiet), {
          concurrency: 32,
          discard: true
        })
      )
    const repeated = async (count: number) => {
      for (let i = 0; i < count; i++) await other.one()
    }
    yield* Effect.promise(async () => {
      await repeated(each)
      await send(each)
      await forget(each)
      const figures = { raw: [] as Array<Figure>, answered: [] as Array<Figure>, forgotten: [] as Array<Figure> }
      for (let i = 0; i < rounds; i++) {
        figures.raw.push(await measured(() => repeated(each), each))
        figures.answered.push(await measured(() => send(each), each))
        figures.forgotten.push(await measured(() => forget(5 * each), 5 * each))
      }
      const row = (what: string, all: ReadonlyArray<Figure>) =>
        console.log(
          `${name}  ${what.padEnd(36)} ${median(all, "micros").toFixed(1).padStart(8)} us  ${
            median(all, "cpu").toFixed(1).padStart(6)
          } us of the caller's CPU`
        )
      row("raw round trip of the client", figures.raw)
      row("batch to a node, and one back", figures.answered)
      row("batch to a node, 32 in flight", figures.forgotten)
      console.log(`${name}  ratio ${(median(figures.answered, "micros") / median(figures.raw, "micros")).toFixed(2)}`)
      await other.close()
    })
  })

if (role === "echo") await Effect.runPromise(Effect.scoped(echo))
else {
  for (const name of args.length > 0 ? args : ["redis", "nats"]) {
    if (installed(`${name}-server`) === undefined) console.log(`${name}-server is not installed here`)
    else {
      const scope = Scope.makeUnsafe()
      await Effect.runPromise(Scope.provide(bench(name), scope))
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
}
