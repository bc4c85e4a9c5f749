/**
 * A server with many clients dies. When do they come back, and at what cost?
 *
 * **The model.** The clients are real `Client`s with real `Backoff`s, on virtual time. Their connections are nothing but
 * their end. The server is a single queue, first come first served, in which each handshake takes the same time. Half a
 * second it is down, after the crash that breaks all connections at once, and a dial is refused immediately. Afterwards
 * every dial joins the queue. A client gives up after 10 s (`Policy.open`), and its handshake is done nevertheless: the
 * server does not know that the client has left, and that time is lost. Nothing bounds the queue, as if every SYN found
 * room. Every dial is an attempt, refused, given up or not.
 */

import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { parentPort, workerData } from "node:worker_threads"
import { Backoff, Client, type Connection, ConnectionError, Protocol } from "../../src/index.ts"
import { TypeId } from "../../src/internal/connection/handle/internals.ts"
import { VirtualTime } from "../../src/testing/internal/simulation/virtualTime.ts"

const downFor = 500
const patience = 10_000

// made once: what an error costs to make (its stack, its schema) is no part of the model
const refused = ConnectionError.make(new ConnectionError.OpenFailed({ cause: "ECONNREFUSED" }))
const gaveUp = ConnectionError.make(new ConnectionError.OpenTimeout({ limit: patience }))

const nothing = { state: "ended", lost: 0, dropped: 0, messagesOut: 0, inbox: { messages: 0, bytes: 0 } }

export interface Outcome {
  /** Attempts per client. */
  readonly attempts: number
  readonly worst: number
  /** When the last client was back, in milliseconds after the crash. */
  readonly back: number
  /** Handshakes done for clients that had given up. */
  readonly wasted: number
}

const schedules = {
  "advised spread": () => Backoff.exponential(),
  "full jitter": () => Backoff.exponential(),
  "exponential, no jitter": () => Backoff.exponential({ jitter: "none" }),
  "fixed 1 s": () => Backoff.constant("1 second")
}

export interface Options {
  readonly clients: number
  /** How many handshakes a second the server can do. */
  readonly perSecond: number
  readonly how: keyof typeof schedules
  readonly seed: string
}

export const storm = ({ clients, how, perSecond, seed }: Options): Outcome => {
  const advice = how === "advised spread" ? Protocol.spread(clients, perSecond) : undefined
  const reconnect = schedules[how]()
  const time = new VirtualTime()
  const scope = time.run(Scope.make())
  const attempts = new Uint16Array(clients)
  let end = Deferred.makeUnsafe<never, ConnectionError.ConnectionError>()
  let storming = false
  let down = false
  // when the server is done with its queue
  let busyUntil = 0
  let connected = 0
  let wasted = 0
  let lastBack = 0

  const dial = (client: number) =>
    Effect.gen(function*() {
      if (storming) attempts[client]!++
      if (down) return yield* Effect.fail(refused)
      const joined = time.now()
      // before the storm everybody is taken at once
      if (storming) busyUntil = Math.max(busyUntil, joined) + 1000 / perSecond
      const wait = Math.max(0, busyUntil - joined)
      if (wait > patience) {
        wasted++
        yield* Effect.sleep(patience)
        return yield* Effect.fail(gaveUp)
      }
      yield* Effect.sleep(wait)
      connected++
      lastBack = time.now()
      const ending = Deferred.await(end)
      // all that a client asks of a connection which carries nothing
      return {
        ending,
        closed: ending,
        leaving: Effect.never,
        snapshot: Effect.succeed(nothing),
        [TypeId]: { look: () => nothing },
        close: Effect.void
      } as unknown as Connection.Connection<string>
    })

  time.run(
    Effect.forEach(
      Array.from({ length: clients }, (_, client) => client),
      (client) => Client.make(dial(client), { reconnect }),
      { discard: true }
    ).pipe(Random.withSeed(seed), Scope.provide(scope))
  )
  if (connected < clients) throw new Error(`only ${connected} of ${clients} clients connected at first`)
  // long enough to be a stable stretch
  time.advance(600_000)

  const crashedAt = time.now()
  connected = 0
  storming = true
  down = true
  const broken = end
  end = Deferred.makeUnsafe()
  time.run(Deferred.fail(
    broken,
    ConnectionError.make(new ConnectionError.Reset({ cause: "ECONNRESET" }), advice)
  ))
  time.advance(downFor)
  down = false
  time.advance(600_000, () => connected === clients)
  if (connected < clients) throw new Error(`only ${connected} of ${clients} clients were back after ten minutes`)
  // nothing real is held by them: the clients are left to the garbage collector

  return {
    attempts: attempts.reduce((sum, n) => sum + n, 0) / clients,
    worst: attempts.reduce((most, n) => Math.max(most, n), 0),
    back: lastBack - crashedAt,
    wasted
  }
}

// several in parallel: each one keeps a core busy for seconds
if (parentPort !== null && workerData?.storms !== undefined) {
  for (const options of workerData.storms as ReadonlyArray<Options>) {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is for windows
    parentPort.postMessage([options, storm(options)])
  }
}
