/** The chat of the example with real processes, over Redis and NATS: nodes are killed under traffic. `npm run test:long`. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Dialer } from "holdfast/node"
import * as Path from "node:path"
import { root, start, until } from "../../cli/support/kit.ts"
import { installed, natsServer, redisServer } from "../../integration/support/engines.ts"
import { freePort } from "../../support/freePort.ts"
import { isLong, long } from "../../support/often.ts"
import { join } from "./member.ts"

const users = ["ada", "bob", "cyd"]

const engines = [
  { name: "redis-server", server: redisServer(), flags: (port: number) => ["--redis", `redis://127.0.0.1:${port}`] },
  { name: "nats-server", server: natsServer(), flags: (port: number) => ["--nats", `nats://127.0.0.1:${port}`] }
]

describe("the chat of the example history (in test:long)", () => {
  for (const { flags, name, server } of engines) {
    it.live.runIf(isLong && installed(name) !== undefined)(
      `two nodes over ${name}, each killed under traffic: each member reads each message once and in order`,
      () =>
        Effect.gen(function*() {
          const { port } = yield* server
          const nodes = ["one", "two"]
          const ports = [yield* Effect.promise(freePort), yield* Effect.promise(freePort)]
          const launch = (i: number) =>
            Effect.promise(async () => {
              const args = ["test/examples/main.ts", "history", ...flags(port), "--node", nodes[i]!]
              const running = start(
                process.execPath,
                ["--conditions=holdfast-source", Path.join(root, args[0]!), ...args.slice(1)],
                { env: { PORT: `${ports[i]}` } }
              )
              await until("a node", () => running.stdout.includes("Ctrl-C stops it"), 40_000)
              return running
            })
          const running = [yield* launch(0), yield* launch(1)]

          const said: Array<string> = []
          const read = users.map((): Array<string> => [])
          const gaps: Array<string> = []
          const chat = yield* Effect.forEach(users, (user, i) =>
            Effect.gen(function*() {
              const ways = yield* Effect.forEach(ports, (port) => Dialer.make(`tcp://127.0.0.1:${port}`))
              const member = yield* join(user, ways, (told) =>
                Effect.sync(() => {
                  if ("id" in told) read[i]!.push(told.text)
                  else gaps.push(JSON.stringify(told))
                }))
              yield* Effect.forkScoped(Effect.ignore(member.reading))
              return member
            }))
          const talk = (seconds: number) =>
            Effect.gen(function*() {
              const end = performance.now() + seconds * 1000
              while (performance.now() < end) {
                for (const [i, { say }] of chat.entries()) {
                  const text = `${users[i]} ${said.length}`
                  said.push(text)
                  yield* Effect.ignore(say(text))
                }
                yield* Effect.sleep("20 millis")
              }
            })
          const areAllRead = (what: string) =>
            Effect.gen(function*() {
              const deadline = performance.now() + 20_000
              while (read.some(({ length }) => length < said.length)) {
                if (performance.now() > deadline) {
                  const lengths = read.map(({ length }) => length).join()
                  return yield* Effect.die(new Error(`${what}: ${lengths} of ${said.length}, ${gaps.join()}`))
                }
                yield* Effect.sleep("20 millis")
              }
            })
          yield* talk(1)
          yield* areAllRead("before")
          for (const i of [0, 1]) {
            process.kill(running[i]!.pid, "SIGKILL")
            yield* talk(2)
            running[i] = yield* launch(i)
            yield* talk(1)
            yield* areAllRead(`${nodes[i]} was killed`)
          }
          assert.deepStrictEqual(gaps, [])
          for (const texts of read) {
            assert.deepStrictEqual(texts, read[0])
            for (const user of users) {
              const theirs = (all: ReadonlyArray<string>) => all.filter((text) => text.startsWith(user))
              assert.deepStrictEqual(theirs(texts), theirs(said))
            }
          }
          assert.isAbove(said.length, 300)
        }),
      long(180_000)
    )
  }
})
