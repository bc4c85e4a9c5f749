/**
 * The swarm: twenty clients and one server over a network in which anything may fail, for an hour of virtual time.
 *
 * **The program.** A third of the clients speaks lines over a stream, a third the native protocol, a third lines over a
 * message transport or, with every other seed, over WebSockets, whose frames travel byte by byte and whose pings are the
 * protocol's own. Policies are drawn from the seed. Each client sends numbered messages, one by one and in batches; the
 * server acknowledges every number, and broadcasts numbers of its own. It registers each client under its key (a later
 * connection takes over), sweeps connections that are old and, now and then, drains and starts again. Hosts crash and come
 * back; handlers are slow at times.
 *
 * **What has to hold.** Every send settles. A message that was refused never arrives; one that was accepted arrives at
 * most once; the order on a connection is that of sending. Inboxes and outboxes keep to their bounds. A silent peer is
 * found within the documented time. The registry holds exactly what is alive. After the storm everybody is connected, a
 * message passes both ways, and no fiber or sleep outlives its scope.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Socket } from "effect/socket"
import { SocketServer } from "effect/socket"
import {
  Client,
  Codec,
  Connection,
  type ConnectionError,
  Heartbeat,
  type Policy,
  Protocol,
  Registry,
  Server
} from "../../src/index.ts"
import { Chaos, Simulation, type TestNetwork } from "../../src/testing/index.ts"
import { drawFrom } from "../../src/testing/internal/fabric/random.ts"
import type { Sabotage as Kind } from "./support/kinds.ts"
import { Ledger } from "./support/ledger.ts"
import * as Policies from "./support/policies.ts"
import type { Draw } from "./support/policies.ts"
import * as Sabotage from "./support/sabotage.ts"
import { every, Watch } from "./support/watch.ts"

type Live = Connection.Connection<string>

/** How a client and the server understand each other. */
interface Way {
  readonly name: "lines" | "native" | "messages" | "webSocket"
  readonly port: number
  readonly carrier: Pick<TestNetwork.DialOptions, "messages" | "webSocket">
}

const streams: ReadonlyArray<Way> = [
  { name: "lines", port: 7000, carrier: {} },
  { name: "native", port: 7001, carrier: {} }
]
const messages: Way = { name: "messages", port: 7002, carrier: { messages: true } }
const webSocket: Way = { name: "webSocket", port: 7003, carrier: { webSocket: true } }

/** Whether the third of the clients that keeps messages apart by its transport does so by WebSockets. */
export const hasWebSockets = (seed: string): boolean => drawFrom(seed, "RFC 6455")() < 0.5

const waysOf = (seed: string): ReadonlyArray<Way> => [...streams, hasWebSockets(seed) ? webSocket : messages]

export interface Options {
  readonly seed: string | number
  /** Default 20. */
  readonly clients?: number | undefined
  /** How long the storm lasts, in virtual minutes. Default 60. */
  readonly minutes?: number | undefined
  /** How many events of the network the outcome keeps. */
  readonly trace?: number | undefined
  /** Breaks the runtime on purpose. */
  readonly sabotage?: Kind | undefined
  readonly told?: ((totals: Totals) => void) | undefined
}

/** What went on in a run, so that a swarm that does nothing is noticed. */
export interface Totals {
  sent: number
  accepted: number
  refused: number
  received: number
  acknowledged: number
  broadcasts: number
  connections: number
}

const codec = Codec.lines()
// both ends have to agree
const beat = (seed: string, way: Way) =>
  Heartbeat.text("ping", "pong", { token: drawFrom(seed, "heartbeat", way.name)() < 0.5 })

const opening = (
  { draw, sabotage, world }: Swarm,
  way: Way,
  role: "client" | "server",
  claimed: Policy.Policy
): (socket: Socket.Socket) => Effect.Effect<Live, ConnectionError.ConnectionError, Scope.Scope> => {
  const policy = Sabotage.policyOf(sabotage, claimed)
  const open = way.name === "webSocket"
    // the protocol's own heartbeat
    ? Connection.make({ codec, policy })
    : way.name !== "native"
    ? Connection.make({ codec, policy, heartbeat: beat(world.seed, way) })
    : role === "client"
    ? Protocol.client({ codec, policy })
    : Protocol.server({ codec, policy, advise: (connections) => Protocol.spread(connections, 10) })
  return (socket) => Sabotage.connection(sabotage, claimed, draw, open(socket))
}

/** Virtual milliseconds, the same on every host: wall clocks may be skewed. */
const elapsed = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000

/** A pause whose length is drawn, around a mean. */
const rest = (draw: Draw, mean: number) => Effect.suspend(() => Effect.sleep(Math.ceil(-mean * Math.log(1 - draw()))))

const padding = (draw: Draw): string => "x".repeat(Math.floor(draw() < 0.02 ? draw() * 100_000 : draw() ** 4 * 2_000))

// ---------------------------------------------------------------------------------------------------------------------
// the server
// ---------------------------------------------------------------------------------------------------------------------

interface Swarm {
  readonly world: Simulation.World
  readonly ways: ReadonlyArray<Way>
  readonly ledgers: ReadonlyMap<string, Ledger>
  readonly totals: Totals
  readonly draw: Draw
  readonly sabotage: Kind | undefined
  readonly pace: number
}

/** Long storms are slower ones: a fault every 100 s instead of every 20 s, limits that need fewer pings, less traffic. */
const paceOf = (options: Options): number => (options.minutes ?? 60) >= 30 ? 5 : 1

const serve = (swarm: Swarm) => {
  const { draw, ledgers, totals, world } = swarm
  const policy = Policies.server(draw, swarm.pace)
  const oldest = Policies.pick(draw, 0, 0, 900_000)
  const restarts = draw() < 0.5
  let broadcast = 0

  /** One life of the server: until it drains. */
  const life = Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const registry = yield* Registry.make<string>({
      every: Schedule.spaced("15 seconds"),
      ...(oldest === 0 ? {} : { expired: Registry.olderThan(oldest) })
    })
    // those whose handler runs
    const handled = new Map<number, Live>()
    const watches = new Map<number, Watch>()
    // registered without a handler, and since when
    const leaving = new Map<number, number>()

    const handle = (connection: Live, key: string) =>
      Effect.gen(function*() {
        const ledger = ledgers.get(key)!
        handled.set(connection.id, connection)
        totals.connections++
        let last = 0
        while (true) {
          const message = yield* connection.receive
          yield* Chaos.point("handler", { delay: "20 seconds" })
          const n = Number.parseInt(message, 10)
          ledger.receive(n, last)
          last = n
          // a full outbox is an answer too, unless it ends the connection
          yield* Effect.catch(connection.send(`a ${n}`), (error) =>
            error.reason._tag === "OutboxFull" ? Effect.void : Effect.fail(error))
        }
      }).pipe(Effect.ensuring(Effect.sync(() =>
        handled.delete(connection.id)
      )))

    const look = Effect.gen(function*() {
      const now = elapsed(clock)
      const entries = yield* registry.entries
      const registered = new Set(entries.map(({ connection }) => connection.id))
      if ((yield* registry.overlooked) > 0) world.fail("a sweep found a connection that its own fibers had not ended")
      for (const [id, connection] of handled) {
        // one that has ended is out of the registry, and its handler may still have messages to receive
        if (registered.has(id) || (yield* connection.snapshot).state === "ended") continue
        world.fail(`a connection is handled, and not registered`)
      }
      for (const id of leaving.keys()) if (!registered.has(id) || handled.has(id)) leaving.delete(id)
      for (const { connection, key } of entries) {
        const { id } = connection
        const snapshot = yield* connection.snapshot
        let watch = watches.get(id)
        if (watch === undefined) {
          watch = new Watch(`server, the connection of ${key}`, "server", yield* connection.policy, world.fail)
          watches.set(id, watch)
        }
        watch.look(now, snapshot, world.faults)
        if (handled.has(id) && snapshot.state !== "ended") continue
        const since = leaving.get(id) ?? now
        leaving.set(id, since)
        // it flushes, and a handler finishes with what it has: each within the drain. A stall comes on top
        if (now - since > 60_000 + 2 * every) world.fail(`the connection of ${key} is registered since it ended`)
      }
      for (const id of watches.keys()) if (!registered.has(id)) watches.delete(id)
    })

    const talk = Effect.gen(function*() {
      while (true) {
        yield* rest(draw, 120_000 * swarm.pace)
        yield* registry.broadcast(`b ${++broadcast}`)
        // now is when an outbox is full
        for (const { connection } of yield* registry.entries) {
          watches.get(connection.id)?.bounds(yield* connection.snapshot)
        }
      }
    })

    yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced(every)))
    yield* Effect.forkScoped(talk)
    const servers = yield* Effect.forEach(swarm.ways, (way) =>
      Effect.gen(function*() {
        const listener = yield* world.network.host("server").listen(way.port, {
          ...way.carrier,
          linger: "1 second"
        })
        const running = Server.run({
          open: opening(swarm, way, "server", policy),
          policy,
          registry: Sabotage.registry(swarm.sabotage, registry, yield* Effect.scope),
          handshake: Effect.fnUntraced(function*(connection: Live) {
            const hello = yield* connection.receive
            yield* connection.send("welcome")
            return hello
          }),
          names: (_, key) => ({ key, tags: [way.name] }),
          handle,
          onEvent: (event) =>
            Effect.sync(() => {
              if ((event._tag !== "Closed" && event._tag !== "Refused") || event.failure === undefined) return
              world.fail(`a handler failed: ${String(event.failure)}`)
            })
        })
        return yield* Effect.forkScoped(Effect.provideService(running, SocketServer.SocketServer, listener))
      }))
    yield* restarts ? rest(draw, 900_000) : Effect.never
    // drained, and the next life begins
    yield* Fiber.interruptAll(servers)
  })

  return Effect.forever(Effect.scoped(life))
}

// ---------------------------------------------------------------------------------------------------------------------
// the clients
// ---------------------------------------------------------------------------------------------------------------------

interface Member {
  readonly ledger: Ledger
  readonly way: Way
  /** Of its present process. */
  client: Client.Client<string> | undefined
  /** Its present connection, and what watches that. */
  watched: Live | undefined
  watch: Watch | undefined
}

const live = (swarm: Swarm, member: Member, draw: Draw) => {
  const { world } = swarm
  const { ledger, way } = member
  const { key } = ledger
  const host = world.network.host(key)
  const policy = Policies.client(draw, swarm.pace)
  const open = opening(swarm, way, "client", policy)
  // chatty ones find what is lost or doubled, quiet ones what only heartbeats notice
  const quiet = Policies.pick(draw, 60_000, 300_000, 600_000, 600_000) * (swarm.pace === 1 ? 1 : 2)

  /** Sends one or more numbers, each settled at once or much later. */
  const say = (client: Client.Client<string>, count: number) =>
    Effect.gen(function*() {
      const at = elapsed(yield* Clock.Clock)
      const numbers = Array.from({ length: count }, () => ledger.next(at, count > 1))
      const messages = numbers.map((n) => `${n} ${padding(draw)}`)
      const send = count === 1 ? client.send(messages[0]!) : client.sendAll(messages)
      yield* send.pipe(
        Effect.match({
          onSuccess: () => numbers.forEach((n) => ledger.settle(n, "accepted")),
          onFailure: () => numbers.forEach((n) => ledger.settle(n, "refused"))
        }),
        Effect.onInterrupt(() => Effect.sync(() => numbers.forEach((n) => ledger.abandon(n)))),
        Effect.forkScoped({ startImmediately: true })
      )
      // now is when an outbox is full
      if (member.watch !== undefined) member.watch.bounds(yield* member.watched!.snapshot)
      return numbers[0]!
    })

  const life = Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const client = yield* Client.make(
      Effect.suspend(() => open(host.dial(`server:${way.port}`, { ...way.carrier, linger: "1 second" }))),
      {
        policy,
        // its key is its own: who supersedes it is an earlier connection of its own, whose bytes were late
        isRetryable: ({ reason }) => reason._tag !== "Closed" || reason.by === "peer",
        onConnect: (connection) =>
          Effect.gen(function*() {
            yield* connection.send(key)
            const answer = yield* connection.receive
            if (answer !== "welcome") world.fail(`${key}: it was greeted with ${answer}`)
          })
      }
    )
    member.client = client
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        member.client = undefined
        member.watch = undefined
        member.watched = undefined
      })
    )

    const listen = Effect.gen(function*() {
      let last = 0
      while (true) {
        const message = yield* client.receive
        yield* Chaos.point("client", { delay: "20 seconds" })
        const n = Number.parseInt(message.slice(2), 10)
        if (message.startsWith("b ")) ledger.hear(n)
        else if (message.startsWith("a ")) {
          // which connection it came on is not known here; numbers only grow, from one to the next too
          ledger.acknowledge(n, last)
          last = n
        } else world.fail(`${key}: received ${message.slice(0, 80)}`)
      }
    })

    const watching = Effect.gen(function*() {
      while (true) {
        yield* Effect.sleep(every)
        const state = yield* client.state
        if (state._tag === "Closed") world.fail(`${key}: it gave up: ${state.error.message}`)
        if (state._tag !== "Connected") continue
        const { connection } = state
        if (connection !== member.watched) {
          member.watched = connection
          member.watch = new Watch(key, key, yield* connection.policy, world.fail)
        }
        member.watch!.look(elapsed(clock), yield* connection.snapshot, world.faults)
      }
    })

    yield* Effect.forkScoped(Effect.ignore(listen))
    yield* Effect.forkScoped(watching)
    while (true) {
      yield* rest(draw, quiet)
      // who waits for a connection for long does not have more and more to say
      if (ledger.unsettled > 20) continue
      const burst = draw() < 0.2 ? Math.floor(draw() * 10) : 1
      for (let i = 0; i < burst; i++) yield* say(client, draw() < 0.2 ? 1 + Math.floor(draw() * 5) : 1)
    }
  })
  return { life: Effect.scoped(life), say }
}

// ---------------------------------------------------------------------------------------------------------------------
// the hour
// ---------------------------------------------------------------------------------------------------------------------

const program = (options: Options) => (world: Simulation.World) =>
  Effect.gen(function*() {
    const totals: Totals = {
      sent: 0,
      accepted: 0,
      refused: 0,
      received: 0,
      acknowledged: 0,
      broadcasts: 0,
      connections: 0
    }
    const ways = waysOf(world.seed)
    const members = Array.from({ length: options.clients ?? 20 }, (_, i): Member => ({
      ledger: new Ledger(`client${i + 1}`, world.fail),
      way: ways[i % ways.length]!,
      client: undefined,
      watched: undefined,
      watch: undefined
    }))
    const draw = drawFrom(world.seed, "swarm")
    const swarm: Swarm = {
      world,
      ways,
      totals,
      draw,
      sabotage: options.sabotage,
      pace: paceOf(options),
      ledgers: new Map(members.map(({ ledger }) => [ledger.key, ledger]))
    }
    yield* world.process("server", serve(swarm))
    const lives = members.map((member) => live(swarm, member, drawFrom(world.seed, member.ledger.key)))
    for (const [i, { life }] of lives.entries()) yield* world.process(members[i]!.ledger.key, life)
    yield* world.storm

    const now = Clock.currentTimeMillis
    const healed = yield* now
    /** Says something until it is acknowledged; what was said on a connection that had died is lost, and that is fine. */
    const converse = (member: Member, say: ReturnType<typeof live>["say"]) =>
      Effect.gen(function*() {
        const said: Array<number> = []
        while (true) {
          if (member.client !== undefined) said.push(yield* say(member.client, 1))
          for (let i = 0; i < 100; i++) {
            if (said.some((n) => member.ledger.isAcknowledged(n))) return true
            yield* Effect.sleep(100)
          }
        }
      })
    yield* world.eventually(
      "all clients are connected",
      Effect.gen(function*() {
        for (const { client } of members) {
          if (client === undefined || (yield* client.state)._tag !== "Connected") return false
        }
        return true
      })
    )
    for (const [i, member] of members.entries()) {
      const conversation = yield* Effect.forkScoped(converse(member, lives[i]!.say))
      yield* world.eventually(
        `a message of ${member.ledger.key} passes both ways`,
        Effect.sync(() => conversation.pollUnsafe() !== undefined)
      )
    }
    yield* world.eventually(
      "every send settles that began before the storm was over",
      Effect.sync(() => members.every(({ ledger }) => (ledger.oldestUnsettled ?? Infinity) > healed))
    )
    for (const { ledger } of members) {
      totals.sent += ledger.accepted + ledger.refused
      for (const name of ["accepted", "refused", "received", "acknowledged", "broadcasts"] as const) {
        totals[name] += ledger[name]
      }
    }
    options.told?.(totals)
  })

/** One run of the swarm. */
export const swarm = (options: Options): Effect.Effect<Simulation.Outcome, Simulation.SimulationFailed> => {
  const draw = drawFrom(String(options.seed), "network")
  return Simulation.run(
    {
      seed: options.seed,
      storm: (options.minutes ?? 60) * 60_000,
      liveness: "25 minutes",
      // a stall of the machine of both ends for longer than every limit would only test the limits
      faults: { every: paceOf(options) * 20_000, longestStall: "40 seconds", longest: "3 minutes" },
      network: {
        latency: Policies.pick<TestNetwork.Latency>(draw, 1, 20, { uniform: [5, 50] }, {
          exponential: 30,
          min: 5,
          max: 2_000
        }),
        slicing: draw() < 0.5,
        sendBuffer: Policies.pick(draw, 4_096, 65_536),
        receiveBuffer: Policies.pick(draw, 4_096, 65_536),
        trace: options.trace ?? 0
      }
    },
    program(options)
  )
}
