/** The chat of the example in a storm: nodes crash under traffic, and members go on with the other one. */
import { Effect, Random } from "effect"
import { SocketServer } from "effect/socket"
import { Fleet, History } from "holdfast"
import { Simulation, TestBackplane } from "holdfast/testing"
import { it } from "holdfast/testing/vitest"
import { isLong, long } from "../../support/often.ts"
import { join } from "./member.ts"
import { serve } from "./node.ts"
import type { Command, Event, Said } from "./protocol.ts"

const nodes = ["one", "two"]
const members = ["ada", "bob", "cyd", "dan"]

/** `isLost`: the history goes with its engine, and then members are told so. */
const program = (isLost: boolean) => (world: Simulation.World) =>
  Effect.gen(function*() {
    const { network } = world
    let kept = yield* History.memory<Said>({ count: 100_000, age: "1 hour" })
    // what all nodes have: the messages of the engine that is there now
    const room: History.History<Said> = {
      append: (message) => Effect.suspend(() => kept.append(message)),
      since: (position, limit) => Effect.suspend(() => kept.since(position, limit)),
      ends: Effect.suspend(() => kept.ends),
      // one that waits for the lost history looks again
      awaitAfter: (position) =>
        Effect.suspend(() => Effect.raceFirst(kept.awaitAfter(position), Effect.sleep("1 second")))
    }
    let engines = 0
    const engine = Effect.suspend(() => {
      engines++
      const serving = TestBackplane.serve(network.host("engine"), 6379)
      if (!isLost) return serving
      return Effect.flatMap(History.memory<Said>({ count: 100_000, age: "1 hour" }), (fresh) => {
        kept = fresh
        return serving
      })
    })
    yield* world.process("engine", engine)
    for (const name of nodes) {
      const host = network.host(name)
      const life = Effect.gen(function*() {
        const fleet = yield* Fleet.make<Command, Event>({
          engine: TestBackplane.connect(host, "engine:6379"),
          name,
          lease: "2 seconds"
        })
        const listener = yield* host.listen(7000)
        yield* Effect.provideService(serve({ fleet, room }), SocketServer.SocketServer, listener)
      })
      yield* world.process(name, life)
    }

    const said: Array<string> = []
    const read = members.map((): Array<string> => [])
    let gaps = 0
    const talk = { isOver: false }
    const chat = yield* Effect.forEach(members, (user, i) =>
      Effect.gen(function*() {
        const ways = nodes.map((name) => network.host(user).dial(`${name}:7000`))
        const member = yield* join(user, ways, (told) =>
          Effect.sync(() => {
            if ("text" in told && "id" in told) read[i]!.push(told.text)
            else if (told._tag === "Gone") {
              gaps++
              if (!isLost || told.why !== "epoch") world.fail(`${user} was told ${JSON.stringify(told)}`)
            }
          }))
        yield* Effect.forkScoped(Effect.ignore(member.reading))
        const talking = Effect.gen(function*() {
          for (let n = 1; !talk.isOver; n++) {
            yield* Effect.sleep(yield* Random.nextIntBetween(100, 2000))
            const text = `${user} ${n}`
            said.push(text)
            yield* member.say(text)
          }
        })
        yield* Effect.forkScoped(Effect.ignore(talking))
        return member
      }))
    yield* Effect.sleep("5 seconds")
    yield* world.storm
    talk.isOver = true
    yield* world.eventually(
      "all members have read all of it",
      Effect.gen(function*() {
        const { newest } = yield* room.ends
        const positions = yield* Effect.forEach(chat, ({ position }) => position)
        const areThere = positions.every((position) =>
          position?.epoch === newest.epoch && position.offset === newest.offset
        )
        return areThere && (isLost || read.every(({ length }) => length >= said.length))
      })
    )
    for (const [i, texts] of read.entries()) {
      const wrong = (what: string) => world.fail(`${members[i]}: ${what}`)
      if (new Set(texts).size !== texts.length) wrong("a message was read twice")
      for (const user of members) {
        const theirs = texts.filter((text) => text.startsWith(user))
        const numbers = theirs.map((text) => Number(text.split(" ")[1]))
        if (numbers.some((number, k) => k > 0 && number <= numbers[k - 1]!)) wrong(`${user} was read out of order`)
        const all = said.filter((text) => text.startsWith(user))
        if (!isLost && theirs.join() !== all.join()) wrong(`of ${user}: ${theirs.join()}, and not ${all.join()}`)
      }
      // the same order for all
      const shared = texts.filter((text) => read[0]!.includes(text))
      if (shared.join() !== read[0]!.filter((text) => texts.includes(text)).join()) wrong("another order")
    }
    if (isLost && gaps === 0 && engines > 1) world.fail("a history was lost, and no member was told")
  })

const faults = { every: "2 seconds", longest: "5 seconds" } as const

const cases = [
  {
    title: "each member of the chat reads each message once and in order, whichever nodes crash",
    program: program(false),
    faults: { ...faults, hostsOf: { crash: nodes } }
  },
  {
    title: "where the engine of the chat comes back empty, its members are told",
    program: program(true),
    faults: { ...faults, hostsOf: { crash: ["engine", ...nodes] } }
  }
] as const

for (const { faults, program, title } of cases) {
  it.simulate(title, { seeds: 1, storm: "15 seconds", faults }, program)

  it.runIf(isLong)(`${title}: 10 seeds`, long(120_000), async () => {
    for (let seed = 1; seed <= 10; seed++) {
      await Effect.runPromise(Simulation.run({ seed, storm: "1 minute", faults }, program))
    }
  })
}
