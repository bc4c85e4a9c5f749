/** Servers in storms: an open, a handshake, a handler and hooks that fail, die, hang or end anything, and peers that come and go. */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import { Codec, Connection, ConnectionError, Registry, Server } from "../../src/index.ts"
import { TestSocket } from "../../src/testing/index.ts"
import { long, often } from "../support/often.ts"
import { type Dice, dies, type Findings, isOver, later, pass, start, steps, storms } from "../support/storms.ts"

type Lines = Connection.Connection<string>

const lines = Connection.make({ codec: Codec.lines(), policy: { pingEvery: 0, silence: 0, drain: 200 } })

const handshakeLimit = 300
const drain = 500

const sumOf = ({ connections }: Server.Stats): number =>
  Object.values(connections).reduce((sum, count) => sum + count, 0)

/** What one of the application's effects does now and then, in place of what it should. */
const misbehaves = (dice: Dice): Effect.Effect<void, ConnectionError.ConnectionError> =>
  dice.pick<Effect.Effect<void, ConnectionError.ConnectionError>>(
    [20, Effect.void],
    [4, Effect.sleep(dice.below(100))],
    [2, Effect.never],
    [2, dies],
    [1, Effect.interrupt],
    [2, ConnectionError.make(new ConnectionError.ProtocolViolation({ detail: "as told" }))],
    [1, Effect.uninterruptible(Effect.sleep(400))]
  )

const sendsAndThrows = function*(connection: Lines): Generator<string> {
  yield "first"
  Effect.runFork(connection.send("by the way"))
  throw new Error("a bug of the application")
}

const handles = (dice: Dice, connection: Lines): Effect.Effect<unknown, unknown> =>
  dice.pick<Effect.Effect<unknown, unknown>>(
    [10, Effect.forever(Effect.flatMap(connection.receive, connection.send))],
    [4, Effect.sleep(dice.below(200))],
    [2, dies],
    [2, Effect.fail("as told")],
    [2, connection.close],
    [2, Effect.never],
    [2, Effect.andThen(Effect.exit(connection.sendAll(sendsAndThrows(connection))), connection.receive)],
    [1, Effect.interrupt]
  )

const storm = Effect.fnUntraced(function*(dice: Dice, found: Findings) {
  const listener = yield* TestSocket.makeServer()
  const peers: Array<TestSocket.Peer> = []
  const told = { Opened: 0, Closed: 0, Refused: 0 }
  const ids = new Set<number>()
  const most = 1 + dice.below(4)
  let isCalm = false
  const isHeard = dice.percent(80)
  const onEvent = (event: Server.Event): Effect.Effect<void> => {
    if (event._tag !== "Opened" && event._tag !== "Closed" && event._tag !== "Refused") return Effect.void
    told[event._tag]++
    if (event._tag === "Opened") ids.add(event.snapshot.id)
    if (event._tag === "Closed") found.check(ids.delete(event.snapshot.id), "Closed, and not Opened before")
    return dice.pick<Effect.Effect<void>>([20, Effect.void], [2, dies], [2, Effect.sleep(dice.below(30))], [
      1,
      Effect.interrupt
    ])
  }
  const open = (socket: Socket.Socket): Effect.Effect<Lines, ConnectionError.ConnectionError, Scope.Scope> =>
    isCalm ? lines(socket) : Effect.andThen(misbehaves(dice), Effect.tap(lines(socket), () => misbehaves(dice)))
  const registry = yield* Registry.make<string>()
  const server = Server.make({
    open,
    ...(dice.percent(50) ? { handshake: () => isCalm ? Effect.void : misbehaves(dice) } : {}),
    ...(dice.percent(50) ?
      {
        registry,
        names: () => {
          if (!isCalm && dice.percent(10)) throw new Error("a bug of the application")
          return { key: dice.one(["ada", "bob", "eve", undefined]) }
        }
      } :
      {}),
    handle: (connection) => isCalm ? Effect.flatMap(connection.receive, connection.send) : handles(dice, connection),
    refusal: () => {
      if (dice.percent(20)) throw new Error("a bug of the application")
      return "no"
    },
    policy: {
      maxConnections: most,
      whenFull: dice.one(["wait", "reject"]),
      handshake: handshakeLimit,
      drain,
      stopGrace: 20
    },
    ...(isHeard ? { onEvent } : {})
  })
  const running = yield* start(Effect.provideService(server.run, SocketServer.SocketServer, listener.server))
  const comes = Effect.gen(function*() {
    const peer = yield* listener.connect
    peers.push(peer)
    if (dice.percent(70)) yield* peer.send("hello\n")
  })
  const step = () => {
    const peer = dice.one(peers)
    return dice.pick<Effect.Effect<unknown, unknown>>(
      [10, comes],
      [3, peer?.send("more\n") ?? Effect.void],
      [2, peer?.reset ?? Effect.void],
      [1, peer?.window(dice.one([0, Infinity])) ?? Effect.void],
      [8, later(dice.below(80))]
    )
  }
  const rules = Effect.map(server.stats, (stats) => {
    for (
      const [name, count] of Object.entries({ ...stats.connections, waiting: stats.waiting, opened: stats.opened })
    ) {
      found.check(count >= 0, `${name} is ${count}`)
    }
    if (isHeard) found.check(ids.size <= most, "more are open than may be")
  })
  yield* steps(dice, 25, step, rules)
  // an end of all peers lets go of everything: what hangs before its handler has its limit
  isCalm = true
  for (const peer of peers) yield* peer.reset
  yield* pass(2)
  const left = sumOf(yield* server.stats)
  found.check(left === 0, `left: ${JSON.stringify(yield* server.stats)}`)
  const calm = yield* listener.connect
  yield* calm.send("calm\n")
  yield* pass(1)
  found.check((yield* calm.text) === "calm\n", "a connection is not served although all is well")
  yield* calm.reset
  running.interruptUnsafe()
  yield* pass(7)
  found.check(isOver(running), "the stop hangs")
  if (isHeard) {
    found.check(told.Opened === told.Closed && ids.size === 0, "an Opened without a Closed")
    found.check(told.Opened + told.Refused === peers.length + 1, `${JSON.stringify(told)} of ${peers.length + 1}`)
  }
  found.check((yield* registry.size) === 0, "what has gone is registered")
}, Effect.scoped)

describe("a server in storms", () => {
  const count = often(8, 250)
  it.effect(`B45 B90 B94 B95 B100 ${count} with peers that come and go`, () => storms(count, storm), long(120_000))
})
