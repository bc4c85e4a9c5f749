/**
 * A device: pings that spare its radio and fit its network, and reports that are delivered over any number of connections.
 *
 * What it shows: a heartbeat whose interval adapts to the network, a client that comes back, and requests by id that are sent again
 * until they are answered.
 */
import { Duration, Effect, Schedule, Stream } from "effect"
import type { Socket } from "effect/socket"
import { Client, Codec, Connection, type ConnectionError, Heartbeat, Policy, Request } from "holdfast"
import { codec, heartbeat } from "./protocol.ts"

/** The bounds of the time between two pings of a device. */
export interface Pings {
  readonly min: Duration.Input
  readonly max: Duration.Input
  /** Called with the time to the next ping, in milliseconds. */
  readonly onPing?: ((millis: number) => void) | undefined
}

const sparing: Pings = { min: "1 minute", max: "10 minutes" }

export const openWith = (pings: Connection.Options<never, never>["pings"], first: Duration.Input) =>
  Connection.make({
    codec: Codec.flip(codec),
    heartbeat,
    pings,
    policy: Policy.make({ pingEvery: first, silence: "25 minutes", pong: "30 seconds", misses: 2 }, Policy.mobile)
  })

/**
 * Makes the connections of one device. Each ping wakes a radio, so the time between them grows while they are answered. A connection
 * that is dead after a longer wait says how long the network remembers a quiet connection: no later one waits for as long.
 */
const learning = ({ max, min, onPing }: Pings) => {
  const growth = 1.5
  let most = Duration.toMillis(max)
  // of the connection that is open
  let longest = 0
  return {
    open: (socket: Socket.Socket) =>
      Effect.suspend(() => {
        longest = 0
        // a schedule is a value, and this one is also told of
        const pings = Heartbeat.adaptive({ min, max: most, growth }).pipe(
          Schedule.tap(({ output }) =>
            Effect.sync(() => {
              longest = Math.max(longest, Duration.toMillis(output))
              onPing?.(Duration.toMillis(output))
            })
          )
        )
        return openWith(pings, min)(socket)
      }),
    lost: ({ reason }: ConnectionError.ConnectionError) => {
      if (reason._tag !== "PongTimeout" && reason._tag !== "SilenceTimeout") return
      most = Math.max(Duration.toMillis(min), longest / growth)
    }
  }
}

/** A device: `report` returns once its report is stored, over any number of connections. */
export const device = Effect.fnUntraced(function*<R>(
  id: number,
  dial: Effect.Effect<Socket.Socket, never, R>,
  pings: Pings = sparing
) {
  const { lost, open } = learning(pings)
  const client = yield* Client.make(Effect.flatMap(dial, open), {
    policy: { retryBase: "1 second", retryCap: "5 minutes" },
    onConnect: (connection) => connection.send({ _tag: "Hello", device: id })
  })
  yield* Effect.forkScoped(Stream.runForEach(client.changes, (state) =>
    Effect.sync(() => {
      if (state._tag === "Waiting") lost(state.error)
    })))
  const requests = yield* Request.make(client.connection, {
    inFlight: 16,
    connections: 1,
    idempotent: true,
    retries: Infinity,
    deadline: 0,
    correlate: {
      request: (frame, id) => ({ ...frame, id }),
      response: (frame) => frame.id
    }
  })
  return {
    client,
    report: (at: number, values: ReadonlyArray<number>) => requests.request({ _tag: "Report", id: 0, at, values })
  }
})
