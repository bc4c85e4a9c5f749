/** Many devices in one process, each with a connection of its own, and a network that loses some of them now and then. */
import { type Duration, Effect, Random, Schedule, Stream } from "effect"
import type { Socket } from "effect/socket"
import { ConnectionError } from "holdfast"
import { device } from "./device.ts"

export interface Options {
  readonly devices: number
  /** How often each of them reports. */
  readonly every: Duration.Input
  /** The bounds of the time between two pings. */
  readonly pings: { readonly min: Duration.Input; readonly max: Duration.Input }
  /** How often one device in 20 loses its connection. */
  readonly faults: Duration.Input
}

/** What the devices did until now. */
export interface Figures {
  readonly online: number
  /** Connections that were made, first ones and later ones. */
  readonly connections: number
  /** Reports that the gateway has acknowledged, and those that wait for it. */
  readonly delivered: number
  readonly waiting: number
  readonly pings: number
  /** The mean time from a ping to the next one, in milliseconds. */
  readonly interval: number
}

/** Starts devices over a few seconds. They end with the scope. What it returns tells their figures. */
export const start = Effect.fnUntraced(function*<R>(options: Options, dial: Effect.Effect<Socket.Socket, never, R>) {
  const figures = { online: 0, connections: 0, delivered: 0, waiting: 0, pings: 0 }
  const intervals = new Map<number, number>()

  const simulated = Effect.fnUntraced(function*(id: number) {
    // not all at once
    yield* Effect.sleep(yield* Random.nextIntBetween(0, options.devices * 5))
    const { client, report } = yield* device(id, dial, {
      ...options.pings,
      onPing: (millis) => {
        // the first time is that to the first ping
        if (intervals.has(id)) figures.pings++
        intervals.set(id, millis)
      }
    })

    let isOnline = false
    yield* Effect.forkScoped(Stream.runForEach(client.changes, ({ _tag }) =>
      Effect.sync(() => {
        if (_tag === "Connected") figures.connections++
        if (isOnline !== (_tag === "Connected")) figures.online += isOnline ? -1 : 1
        isOnline = _tag === "Connected"
      })))

    const lose = Effect.gen(function*() {
      if ((yield* Random.next) > 0.05) return
      const connection = yield* client.connection
      yield* connection.closeWith(new ConnectionError.Reset({ cause: "the network is gone" }))
    })
    yield* Effect.forkScoped(Effect.repeat(Effect.delay(lose, options.faults), Schedule.forever))

    const deliver = Effect.gen(function*() {
      figures.waiting++
      const values = [yield* Random.nextBetween(18, 24), yield* Random.nextBetween(40, 60)]
      yield* report(yield* Effect.clockWith(({ currentTimeMillis }) => currentTimeMillis), values)
      figures.delivered++
    }).pipe(Effect.ensuring(Effect.sync(() => figures.waiting--)))
    yield* Effect.repeat(deliver, Schedule.jittered(Schedule.spaced(options.every)))
  })

  yield* Effect.forkScoped(Effect.forEach(
    Array.from({ length: options.devices }, (_, id) => id),
    (id) => Effect.scoped(simulated(id)),
    { concurrency: "unbounded", discard: true }
  ))
  return Effect.sync((): Figures => {
    const interval = Array.from(intervals.values()).reduce((sum, one) => sum + one, 0) / Math.max(1, intervals.size)
    return { ...figures, interval }
  })
})
