/**
 * A chat of two nodes that miss nothing: one of them ends every 10 s, and its members go on with the other one. With `--redis URL` or
 * `--nats URL` the nodes are processes, which are killed.
 */
import { Clock, Console, Effect, Random, Schedule } from "effect"
import { Dialer } from "holdfast/node"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import { parseArgs } from "node:util"
import { CannotRun, ports, run } from "../support/run.ts"
import { freePort } from "../support/servers.ts"
import { join } from "./member.ts"
import { type Flags, node, place } from "./place.ts"

const users = ["ada", "bob", "cyd", "dan", "eve"]

const { values: { node: name, ...flags } } = parseArgs({
  args: process.argv.slice(3),
  options: { redis: { type: "string" }, nats: { type: "string" }, node: { type: "string" } }
})

/** A node as a process of its own: `--node NAME` beside the flags of this one. */
const child = (name: string, port: number, flags: Flags) =>
  Effect.gen(function*() {
    const args = Object.entries(flags).flatMap(([flag, value]) => value === undefined ? [] : [`--${flag}`, value])
    const program = [...process.execArgv, process.argv[1]!, "history", ...args, "--node", name]
    const started = yield* Effect.acquireRelease(
      Effect.sync(() =>
        ChildProcess.spawn(process.execPath, program, {
          env: { ...process.env, PORT: `${port}` },
          stdio: ["ignore", "ignore", "inherit"],
          detached: true
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    yield* Effect.promise(() => once(started, "exit"))
    yield* Effect.sleep("500 millis")
  })

/** Members that talk, each with both nodes to go to. */
const members = Effect.fnUntraced(function*(given: ReadonlyArray<number>) {
  const all: Array<{ readonly user: string; messages: number; gaps: number }> = []
  for (const user of users) {
    const told = { user, messages: 0, gaps: 0 }
    all.push(told)
    // a socket is that of one member
    const ways = yield* Effect.forEach(given, (port) => Effect.orDie(Dialer.make(`tcp://127.0.0.1:${port}`)))
    const member = yield* join(user, ways, (event) => {
      if ("id" in event) told.messages++
      if (!("_tag" in event)) return Effect.void
      if (event._tag !== "Gone") return Console.log(`${user} is told ${JSON.stringify(event)}`)
      told.gaps++
      return Console.log(`${user}: messages are missing here (${event.why})`)
    })
    yield* Effect.forkScoped(Effect.ignore(member.reading))
    const saying = Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.ignore(member.say(`it is ${now}`)))
    const pause = Effect.flatMap(Random.nextIntBetween(50, 500), (pause) => Effect.sleep(pause))
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(pause, saying)))
  }
  yield* Console.log(
    `${users.length} members on tcp://127.0.0.1:${given.join(" and :")}, some 20 messages a second\nCtrl-C stops it.`
  )
  const report = Effect.suspend(() =>
    Console.log(all.map(({ gaps, messages, user }) => `${user} ${messages}/${gaps}`).join("  ") + "  (messages/gaps)")
  )
  yield* Effect.repeat(Effect.delay(report, "2 seconds"), Schedule.forever)
})

const chat = Effect.gen(function*() {
  const [first, second] = yield* ports(7300)
  const wanted = [first, second] as const
  const given = yield* Effect.forEach(wanted, (port) => port === 0 ? freePort : Effect.succeed(port))
  const isShared = flags.redis !== undefined || flags.nats !== undefined
  const shared = isShared ? undefined : yield* place(flags)

  /** One life of a node after the other: the first is so long, and the others 20 s. */
  const lives = (name: string, port: number, first: number) => {
    const life = (millis: number) =>
      Effect.raceFirst(
        shared === undefined ? Effect.scoped(child(name, port, flags)) : node(name, port, shared),
        Effect.andThen(
          Effect.sleep(millis),
          Console.log(shared === undefined ? `${name} is killed` : `${name} ends, and begins anew`)
        )
      )
    return Effect.andThen(life(first), Effect.forever(life(20_000)))
  }
  yield* Effect.raceAllFirst([lives("one", given[0]!, 20_000), lives("two", given[1]!, 10_000), members(given)])
})

const alone = (name: string) =>
  Effect.gen(function*() {
    if (flags.redis === undefined && flags.nats === undefined) {
      return yield* new CannotRun({ message: "a node alone needs --redis URL or --nats URL" })
    }
    const [port] = yield* ports(7300)
    const shared = yield* place(flags)
    yield* Console.log(`${name} serves on tcp://127.0.0.1:${port}. Ctrl-C stops it.`)
    yield* node(name, port, shared)
  })

run(Effect.scoped(name === undefined ? chat : alone(name)))
