/** The heap that idle connections take, with a server and everything on, and without any network below. */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Codec from "../../../src/Codec.ts"
import * as Connection from "../../../src/Connection.ts"
import type * as Policy from "../../../src/Policy.ts"
import * as Registry from "../../../src/Registry.ts"
import * as Server from "../../../src/Server.ts"
import type { Measured } from "../rounds.ts"
import { heartbeat } from "../servers/heartbeat.ts"
import { onCommand } from "../support/commands.ts"

const limits = { maxConnections: 1_000_000 }
// a million take minutes to come, no core can ping 40,000 of them in a second, and none of them ever answers: what is
// measured is what they take while nothing happens
const patient = { ...limits, pingEvery: "1 hour", silence: "2 hours" } as const

/** The least that a socket can be: it opens, says nothing and takes everything. */
const silent = (): Socket.Socket =>
  Socket.make({
    reader: Effect.succeed({ pull: Effect.never, upgrade: Socket.SocketUpgradeError.unsupported }),
    writer: Effect.succeed({ write: () => Effect.void, writeAll: () => Effect.void })
  })

/** One that says what it is given, and tells what is written to it. */
class Speaker {
  private deliver: (bytes: Effect.Effect<[Uint8Array]>) => void = () => {}
  private written = () => {}

  readonly socket = Socket.make({
    reader: Effect.succeed({
      pull: Effect.callback<[Uint8Array]>((resume) => {
        this.deliver = resume
      }),
      upgrade: Socket.SocketUpgradeError.unsupported
    }),
    writer: Effect.succeed({
      write: () => Effect.sync(() => this.written()),
      writeAll: () => Effect.sync(() => this.written())
    })
  })

  /** Sends a frame, and resolves with its echo. */
  ask(frame: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      this.written = resolve
      this.deliver(Effect.succeed([frame]))
    })
  }
}

const heap = (): number => {
  globalThis.gc!()
  globalThis.gc!()
  return process.memoryUsage().heapUsed
}

/** A listener to which so many come at once: the socket of each. */
const crowd = (
  connections: number,
  socketOf: (i: number) => Socket.Socket = silent
): SocketServer.SocketServer["Service"] => ({
  address: NetAddress.inetAddressFromIpStringUnsafe("127.0.0.1", 7),
  run: (handler) =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      for (let i = 0; i < connections; i++) {
        yield* Effect.forkIn(Effect.ignoreCause(Effect.scoped(handler(socketOf(i)))), scope, { startImmediately: true })
      }
      return yield* Effect.never
    }).pipe(Effect.scoped)
})

const opening = (policy: Policy.Patch) => Connection.make({ codec: Codec.lengthPrefix(), heartbeat, policy })

/** Microseconds of CPU since then, all threads of this process. */
const cpuMicros = (since: NodeJS.CpuUsage): number => {
  const { system, user } = process.cpuUsage(since)
  return system + user
}

interface Each {
  readonly heap: number
  readonly open: number
}

/** Bytes of heap that each takes, and microseconds of CPU that opening one takes. */
// the scope is never closed: this process ends instead, which is faster than ending 100,000 conversations
const perConnection = <A, E>(connections: number, start: (scope: Scope.Scope) => Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const before = heap()
    const used = process.cpuUsage()
    yield* start(scope)
    const open = cpuMicros(used) / connections
    yield* Effect.sleep("100 millis")
    return { heap: (heap() - before) / connections, open }
  })

const served = (connections: number, policy: Policy.Patch = limits, socketOf?: (i: number) => Socket.Socket) =>
  perConnection(connections, (scope) =>
    Effect.gen(function*() {
      const registry = yield* Scope.provide(
        Registry.make<Uint8Array>({ expired: Registry.quietFor("2 hours") }),
        scope
      )
      const server = Server.run({
        open: opening(policy),
        handle: (connection) =>
          Effect.gen(function*() {
            while (true) yield* connection.send(yield* connection.receive)
          }),
        registry,
        policy: { ...policy, drain: 0 }
      })
      yield* Effect.forkIn(
        Effect.provideService(server, SocketServer.SocketServer, crowd(connections, socketOf)),
        scope,
        {
          startImmediately: true
        }
      )
      while ((yield* registry.size) < connections) yield* Effect.sleep("100 millis")
    }))

const bare = (connections: number) => {
  const open = opening(limits)
  return perConnection(connections, (scope) =>
    Scope.provide(
      Effect.forEach(Array.from({ length: connections }), () => open(silent()), { discard: true }),
      scope
    ))
}

// the heap is exact: more rounds would show the same
const report = (part: string, load: string, each: Effect.Effect<Each, unknown>): void =>
  onCommand(part, async (): Promise<Measured> => ({
    load,
    server: "holdfast",
    unit: "B/conn",
    rounds: [(await Effect.runPromise(each)).heap]
  }))
report("served", "in-memory served", served(100_000))
report("bare", "in-memory connection", bare(100_000))

// so many of them speak, as far from each other as they can be: each number of connections is asked in as many places
const speaking = 10_000
const frame = new Uint8Array(4 + 64)
frame[3] = 64

const grown = async (connections: number, rounds: number): Promise<ReadonlyArray<Measured>> => {
  const speakers: Array<Speaker> = []
  const socketOf = (i: number): Socket.Socket => {
    if (i % (connections / speaking) !== 0) return silent()
    const speaker = new Speaker()
    speakers.push(speaker)
    return speaker.socket
  }
  const { heap, open } = await Effect.runPromise(served(connections, patient, socketOf))
  const messages: Array<number> = []
  for (let round = 0; round <= rounds; round++) {
    const used = process.cpuUsage()
    // as many at once as one turn of an event loop brings
    for (let i = 0; i < speaking; i += 100) await Promise.all(speakers.slice(i, i + 100).map((of) => of.ask(frame)))
    if (round > 0) messages.push(cpuMicros(used) / speaking)
  }
  const row = (what: string, unit: string, rounds: Array<number>): Measured => ({
    load: `in memory ${connections}: ${what}`,
    server: "holdfast",
    unit,
    rounds
  })
  return [row("heap", "B/conn", [heap]), row("open", "us", [open]), row("message", "us", messages)]
}

for (const connections of [10_000, 100_000, 1_000_000]) {
  onCommand(`growth ${connections}`, ({ rounds }: { readonly rounds: number }) => grown(connections, rounds))
}
