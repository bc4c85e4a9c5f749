/** The chat on a simulated network, in virtual time: login, rooms, take-over, a partition, a slow client, a stop, a storm. */
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Client, Connection } from "holdfast"
import { TestNetwork } from "holdfast/testing"
import { it } from "holdfast/testing/vitest"
import { chat, Users } from "./chat.ts"
import { clientCodec, type Command, type Event, heartbeat } from "./protocol.ts"

type User = Connection.Connection<Event, Command>

// in the tests a token is "secret of" and the user
const users = Layer.succeed(Users, {
  byToken: (token) => Effect.succeed(/^secret of (.+)$/.exec(token)?.[1])
})

const serve = (network: TestNetwork.Network) =>
  Layer.launch(chat.pipe(Layer.provide([network.host("server").layerServer(7000, { sendBuffer: 4096 }), users])))

const open = Connection.make({ codec: clientCodec, heartbeat })

/** A network with a running chat, and a way to log in from a host. */
const start = Effect.gen(function*() {
  const network = yield* TestNetwork.make()
  const server = yield* Effect.forkScoped(serve(network))
  const dial = (host: string) => open(network.host(host).dial("server:7000"))
  const login = Effect.fnUntraced(function*(user: string, host = user) {
    const connection = yield* dial(host)
    yield* connection.send({ _tag: "Login", token: `secret of ${user}` })
    yield* hears(connection, { _tag: "Welcome", user })
    return connection
  })
  return { network, server, dial, login }
})

/** What comes next, in this order. */
const hears = Effect.fnUntraced(function*(user: User, ...events: ReadonlyArray<Event>) {
  for (const event of events) assert.deepStrictEqual(yield* user.receive, event)
})

const join = (user: User, room: string, ...users: ReadonlyArray<string>) =>
  Effect.andThen(user.send({ _tag: "Join", room }), hears(user, { _tag: "Members", room, users }))

const byeOf = (user: User) =>
  Effect.map(user.receive, (event) => event._tag === "Bye" ? event.why : assert.fail(`heard ${event._tag}`))

describe("the chat", () => {
  it.effect("refuses a token that it does not know, and a client that does not log in within 5 s", () =>
    Effect.gen(function*() {
      const { dial } = yield* start
      const stranger = yield* dial("stranger")
      yield* stranger.send({ _tag: "Login", token: "a guess" })
      assert.include(yield* byeOf(stranger), "log in first")
      const silent = yield* dial("silent")
      yield* TestClock.adjust("4999 millis")
      yield* silent.send({ _tag: "Ping", token: 7 })
      yield* TestClock.adjust("1 millis")
      assert.include(yield* byeOf(silent), "handshake")
    }))

  it.effect("brings what is said in a room to all who are in it, and shows who comes and goes", () =>
    Effect.gen(function*() {
      const { login } = yield* start
      const ada = yield* login("ada")
      const ben = yield* login("ben")
      yield* join(ada, "tea", "ada")
      yield* hears(ada, { _tag: "Came", room: "tea", user: "ada" })
      yield* join(ben, "tea", "ada", "ben")
      yield* hears(ada, { _tag: "Came", room: "tea", user: "ben" })
      yield* hears(ben, { _tag: "Came", room: "tea", user: "ben" })
      yield* ada.send({ _tag: "Say", room: "tea", text: "milk?" })
      yield* hears(ben, { _tag: "Said", room: "tea", from: "ada", text: "milk?" })
      yield* ben.close
      yield* hears(ada, { _tag: "Said", room: "tea", from: "ada", text: "milk?" })
      yield* hears(ada, { _tag: "Went", room: "tea", user: "ben" })
    }))

  it.effect("brings a message to one user, or says why not", () =>
    Effect.gen(function*() {
      const { login } = yield* start
      const [ada, ben] = [yield* login("ada"), yield* login("ben")]
      yield* ada.send({ _tag: "Tell", to: "ben", text: "psst" })
      yield* hears(ben, { _tag: "Told", from: "ada", text: "psst" })
      yield* ada.send({ _tag: "Tell", to: "cyd", text: "psst" })
      yield* hears(ada, { _tag: "Undelivered", to: "cyd", why: "offline" })
    }))

  it.effect("a user who comes from another place takes over", () =>
    Effect.gen(function*() {
      const { login } = yield* start
      const ben = yield* login("ben")
      const old = yield* login("ada", "laptop")
      const fresh = yield* login("ada", "phone")
      assert.include(yield* byeOf(old), "superseded")
      yield* ben.send({ _tag: "Tell", to: "ada", text: "psst" })
      yield* hears(fresh, { _tag: "Told", from: "ben", text: "psst" })
    }))

  it.effect("a user behind a partition is gone after 60 s, and comes back when it is over", () =>
    Effect.gen(function*() {
      const { dial, login, network } = yield* start
      const ben = yield* login("ben")
      yield* join(ben, "tea", "ben")
      yield* hears(ben, { _tag: "Came", room: "tea", user: "ben" })
      const ada = yield* Client.make(dial("ada"), {
        onConnect: (connection) =>
          connection.sendAll([{ _tag: "Login", token: "secret of ada" }, { _tag: "Join", room: "tea" }])
      })
      yield* hears(ben, { _tag: "Came", room: "tea", user: "ada" })
      const partition = yield* Effect.forkChild(
        Effect.scoped(Effect.andThen(network.link("ada", "server").partition, Effect.sleep("2 minutes")))
      )
      const told = yield* Effect.forkChild(ben.receive)
      yield* TestClock.adjust("59999 millis")
      assert.isUndefined(told.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(told), { _tag: "Went", room: "tea", user: "ada" })
      yield* TestClock.adjust("3 minutes")
      yield* Fiber.join(partition)
      yield* hears(ben, { _tag: "Came", room: "tea", user: "ada" })
      assert.strictEqual((yield* ada.state)._tag, "Connected")
    }))

  it.effect("a client that cannot follow is cut off, and the others miss nothing", () =>
    Effect.gen(function*() {
      const { login, network } = yield* start
      const [ada, ben] = [yield* login("ada"), yield* login("ben")]
      const slow = yield* Connection.make(network.host("slow").dial("server:7000", { receiveBuffer: 4096 }), {
        codec: clientCodec,
        policy: { inboxMessages: 4 }
      })
      yield* slow.sendAll([{ _tag: "Login", token: "secret of slow" }, { _tag: "Join", room: "tea" }])
      yield* join(ada, "tea", "ada", "slow")
      yield* join(ben, "tea", "ada", "ben", "slow")
      const heard = yield* Effect.forkChild(Stream.runCollect(
        Connection.messages(ben).pipe(
          Stream.takeUntil((event) => event._tag === "Said" && event.text.startsWith("599"))
        )
      ))
      const text = "x".repeat(100)
      yield* Effect.forEach(
        Array.from({ length: 600 }, (_, i) => i),
        (i) => Effect.andThen(ada.receiveAll, ada.send({ _tag: "Say", room: "tea", text: `${i} ${text}` }))
      )
      const events = yield* Fiber.join(heard)
      assert.strictEqual(events.filter(({ _tag }) => _tag === "Said").length, 600)
      assert.deepInclude(events, { _tag: "Went", room: "tea", user: "slow" })
    }))

  it.effect("a stop answers first what was asked, and says good-bye", () =>
    Effect.gen(function*() {
      const { login, network, server } = yield* start
      const ada = yield* login("ada")
      // for 2 s nothing reaches ada, and 150 answers are more than the server's kernel takes
      yield* Effect.forkChild(
        Effect.scoped(Effect.andThen(network.link("ada", "server").from("server").clog, Effect.sleep("2 seconds"))),
        { startImmediately: true }
      )
      yield* ada.sendAll(Array.from({ length: 150 }, (): Command => ({ _tag: "Tell", to: "cyd", text: "psst" })))
      yield* Effect.repeat(TestClock.adjust("100 millis"), { times: 9 })
      const stopped = yield* Effect.forkChild(Fiber.interrupt(server), { startImmediately: true })
      assert.isUndefined(stopped.pollUnsafe())
      yield* TestClock.adjust("1 second")
      const heard = yield* Connection.messages(ada).pipe(
        Stream.catch(() => Stream.empty),
        Stream.map((event) => event._tag === "Bye" ? event.why : event._tag),
        Stream.runCollect
      )
      yield* Fiber.join(stopped)
      assert.deepStrictEqual(heard, [...Array.from({ length: 150 }, () => "Undelivered"), "this end is shutting down"])
    }))
})

it.simulate(
  "after any storm, everybody is in the room and hears what is said",
  { seeds: 4, storm: "5 minutes" },
  (world) =>
    Effect.gen(function*() {
      const { eventually, network, process, storm } = world
      yield* process("server", serve(network))
      const clients = yield* Effect.forEach(["ada", "ben", "cyd"], (user) =>
        Client.make(
          Effect.suspend(() => open(network.host(user).dial("server:7000"))),
          {
            onConnect: (connection) =>
              connection.sendAll([{ _tag: "Login", token: `secret of ${user}` }, { _tag: "Join", room: "tea" }])
          }
        ))
      const heard = clients.map(() => "")
      yield* Effect.forEach(clients, (client, i) =>
        Effect.forkScoped(Effect.forever(Effect.map(client.receive, (event) => {
          if (event._tag === "Said") {
            heard[i] = event.text
          }
        }))))
      yield* storm
      yield* eventually(
        "everybody hears it",
        Effect.gen(function*() {
          yield* clients[0].send({ _tag: "Say", room: "tea", text: "still there?" })
          return heard.every((text) =>
            text === "still there?"
          )
        })
      )
    })
)
