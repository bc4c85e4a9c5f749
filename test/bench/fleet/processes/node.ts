/**
 * A node of a fleet as a process: a server whose clients log in with their key, and what the bench asks of it.
 * Arguments: the engine, its address, the prefix of this fleet, and the checkout whose code runs.
 */
import { connect } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as SocketServer from "effect/socket/SocketServer"
import { once } from "node:events"
import * as net from "node:net"
import { createClient } from "redis"
import type { Session } from "../../../../src/Backplane.ts"
import { onCommand } from "../../support/commands.ts"

/** What each of many steps cost the process that took them, in microseconds. */
export interface Cost {
  readonly micros: number
  readonly cpu: number
}

const [engineName, address, prefix, root] = process.argv.slice(2) as [string, string, string, string]

const { Codec, Connection, Fleet, Server } = (await import(`${root}/src/index.ts`)) as typeof import("holdfast")
const { Listener } = (await import(`${root}/src/node/index.ts`)) as typeof import("holdfast/node")

// named by the checkout, so that another one can run beside this one
const engineOf = async (prefix: string) => {
  if (engineName === "redis") {
    const { RedisBackplane } = (await import(`${root}/src/redis/index.ts`)) as typeof import("holdfast/redis")
    return RedisBackplane.make({ url: `redis://${address}`, prefix })
  }
  const { NatsBackplane } = (await import(`${root}/src/nats/index.ts`)) as typeof import("holdfast/nats")
  return NatsBackplane.make({ servers: address, storage: "memory", prefix })
}

// its clients do not speak, and thousands of them log in at once
const policy = { maxConnections: 25_000, silence: 0, writeStall: "1 minute", handshake: "1 minute" } as const
const message = new Uint8Array(100).fill(120)

const cost = async (count: number, run: () => Promise<unknown>): Promise<Cost> => {
  const cpu = process.cpuUsage()
  const began = performance.now()
  await run()
  const micros = (1000 * (performance.now() - began)) / count
  const { system, user } = process.cpuUsage(cpu)
  return { micros, cpu: (system + user) / count }
}

/** So many times, so many of them at once. */
const times = async (count: number, atOnce: number, once: () => Promise<unknown>): Promise<void> => {
  let left = count
  const one = async () => {
    while (left-- > 0) await once()
  }
  await Promise.all(Array.from({ length: atOnce }, one))
}

const timesOf = <A, E>(count: number, atOnce: number, once: Effect.Effect<A, E>): Promise<void> =>
  Effect.runPromise(Effect.forEach(Array.from({ length: count }), () => once, { concurrency: atOnce, discard: true }))

interface Steps {
  readonly count: number
  readonly atOnce: number
}

/** The engine's own client, as it would be used without a fleet: a round trip to the other node, and a publish. */
const raw = async (): Promise<{ readonly trip: () => Promise<unknown>; readonly publish: () => Promise<unknown> }> => {
  if (engineName === "nats") {
    const nats = await connect({ servers: address })
    return {
      trip: () => nats.request(`${prefix}.raw`, message, { timeout: 5000 }),
      publish: () => {
        nats.publish(`${prefix}.unread`, message)
        return nats.flush()
      }
    }
  }
  const client = createClient({ url: `redis://${address}` })
  const inbox = createClient({ url: `redis://${address}` })
  await Promise.all([client.connect(), inbox.connect()])
  const waiting: Array<() => void> = []
  await inbox.subscribe(`${prefix}:raw:back`, () => waiting.shift()?.(), true)
  await inbox.subscribe(`${prefix}:unread`, () => {}, true)
  const bytes = Buffer.from(message)
  return {
    trip: () =>
      new Promise<void>((resolve) => {
        waiting.push(resolve)
        void client.publish(`${prefix}:raw`, bytes)
      }),
    publish: () => client.publish(`${prefix}:unread`, bytes)
  }
}

/** Answers the round trips of `raw`. */
const answerRaw = async (): Promise<void> => {
  if (engineName === "nats") {
    const nats = await connect({ servers: address })
    nats.subscribe(`${prefix}.raw`, { callback: (_, asked) => void asked.respond(asked.data) })
    nats.subscribe(`${prefix}.unread`, { callback: () => {} })
    return nats.flush()
  }
  const client = createClient({ url: `redis://${address}` })
  const inbox = createClient({ url: `redis://${address}` })
  await Promise.all([client.connect(), inbox.connect()])
  await inbox.subscribe(`${prefix}:raw`, (bytes) => void client.publish(`${prefix}:raw:back`, bytes), true)
}

/** Sends back what comes, without an engine, a client or a codec. */
const answerEcho = async (): Promise<number> => {
  const server = net.createServer({ noDelay: true }, (socket) => socket.on("data", (bytes) => socket.write(bytes)))
  await once(server.listen(0, "127.0.0.1"), "listening")
  return (server.address() as net.AddressInfo).port
}

/** One round trip at a time: what a process pays for each that it waits for, whatever it does with it. */
const echo = async (port: number): Promise<() => Promise<unknown>> => {
  const socket = net.connect({ port, host: "127.0.0.1", noDelay: true })
  await once(socket, "connect")
  let back = (): void => {}
  socket.on("data", () => back())
  return () =>
    new Promise<void>((resolve) => {
      back = resolve
      socket.write(message)
    })
}

/** Ends when it has joined, and takes what comes for as long as the process lives. */
const joining = (node: string, joined: (session: Session) => void): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const stay = Effect.gen(function*() {
      const engine = yield* Effect.flatten(Effect.promise(() => engineOf(`${prefix}-alone`)))
      const session = yield* engine.join({ node, lease: 600_000 })
      joined(session)
      resume(Effect.void)
      return yield* Effect.forever(session.take)
    })
    Effect.runFork(Effect.scoped(Effect.orDie(stay)))
  })

const program = Effect.gen(function*() {
  const engine = yield* Effect.flatten(Effect.promise(() => engineOf(prefix)))
  const fleet = yield* Fleet.make<Uint8Array>({ engine })
  const listener = yield* Listener.make("tcp://127.0.0.1:0", { backlog: 4096 })
  onCommand("cpu", () => {
    const { system, user } = process.cpuUsage()
    return system + user
  })
  onCommand("others", () => Effect.runPromise(Effect.map(fleet.nodes, (nodes) => nodes.length - 1)))
  onCommand("size", () => Effect.runPromise(fleet.registry.size))
  onCommand("send", ({ atOnce, count, key }: Steps & { readonly key: string }) =>
    cost(count, () =>
      timesOf(
        count,
        atOnce,
        Effect.flatMap(
          fleet.send(key, message),
          (outcome) => outcome === "accepted" ? Effect.void : Effect.die(`a message was ${outcome}`)
        )
      )))
  onCommand(
    "here",
    ({ bytes }: { readonly bytes: number }) =>
      Effect.runPromise(fleet.registry.broadcast(new Uint8Array(bytes), { tag: "all" }))
  )
  onCommand(
    "everywhere",
    ({ bytes }: { readonly bytes: number }) =>
      Effect.runPromise(
        Effect.map(fleet.broadcast(new Uint8Array(bytes), { tag: "all" }), ({ delivered }) => delivered)
      )
  )

  let own: Awaited<ReturnType<typeof raw>>
  onCommand("prepare raw", async () => void (own = await raw()))
  onCommand("answer raw", answerRaw)
  onCommand("raw trip", ({ atOnce, count }: Steps) => cost(count, () => times(count, atOnce, own.trip)))
  onCommand("raw publish", ({ atOnce, count }: Steps) => cost(count, () => times(count, atOnce, own.publish)))

  let echoed: () => Promise<unknown>
  onCommand("answer echo", answerEcho)
  onCommand("prepare echo", async ({ port }: { readonly port: number }) => void (echoed = await echo(port)))
  onCommand("bare echo", ({ count }: Steps) => cost(count, () => times(count, 1, echoed)))

  // what the engine does for a fleet, by itself: sessions that are no fleet's
  let session: Session
  onCommand("join", ({ node }: { readonly node: string }) => Effect.runPromise(joining(node, (made) => session = made)))
  onCommand(
    "publish",
    ({ atOnce, count }: Steps) => cost(count, () => timesOf(count, atOnce, session.publish("b", message)))
  )

  while ((yield* fleet.state).status !== "joined") yield* Effect.sleep(10)
  console.log(`listening ${listener.url}`)
  yield* Server.run({
    open: Connection.make({ codec: Codec.lengthPrefix(), policy }),
    handshake: (connection) => Effect.map(connection.receive, (key) => Buffer.from(key).toString()),
    names: (_, key) => ({ key, tags: ["all"] }),
    registry: fleet.registry,
    handle: (connection) =>
      Effect.gen(function*() {
        yield* connection.send(new Uint8Array([1]))
        while (true) yield* connection.receive
      }),
    policy
  }).pipe(Effect.provideService(SocketServer.SocketServer, listener))
})

await Effect.runPromise(Effect.scoped(program))
