/**
 * An MQTT client: what it publishes is acknowledged, and its subscriptions and their messages survive reconnects.
 *
 * What it shows: a ready codec (`Mqtt`), a login on every new connection, answers beside pushes on one connection
 * (`Request.duplex`), back-pressure from the program to the broker, and pings that the broker expects.
 */
import { Effect, Queue, Schedule, Schema, Stream } from "effect"
import { Client, Connection, type ConnectionError, Request } from "holdfast"
import { Mqtt } from "holdfast/codecs"
import { Dialer } from "holdfast/node"

/** The broker does not want this client, or this subscription. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { message: Schema.String }) {}

export interface Options {
  readonly url: string
  readonly clientId: string
  readonly subscriptions?: ReadonlyArray<string> | undefined
}

const open = Connection.make({
  codec: Mqtt.make(),
  heartbeat: Mqtt.heartbeat,
  // the broker hangs up after one and a half times 30 s
  policy: { pingEvery: "25 seconds", silence: "1 minute" }
})

/** An id of MQTT has 16 bits, and ours count up: the first is told from the last by what is on its way. */
const correlation = () => {
  const asked = new Map<number, number>()
  return {
    request: (packet: Mqtt.Packet, id: number): Mqtt.Packet => {
      const short = ((id - 1) % 65_535) + 1
      asked.set(short, id)
      return { ...packet, id: short } as Mqtt.Packet
    },
    response: (packet: Mqtt.Packet): number | undefined =>
      packet._tag === "Puback" || packet._tag === "Suback" ? asked.get(packet.id) : undefined
  }
}

/** Logs in. Nothing else comes before its answer. */
const login = Effect.fnUntraced(function*(connection: Connection.Connection<Mqtt.Packet>, clientId: string) {
  // not clean: the broker keeps the messages of this client while it is away
  yield* connection.send({ _tag: "Connect", clientId, clean: false, keepAlive: 30 })
  const answer = yield* connection.receive
  if (answer._tag === "Connack" && answer.code === 0) return
  const why = answer._tag === "Connack" ? `code ${answer.code}` : answer._tag
  return yield* new Refused({ message: `the broker does not let ${clientId} in: ${why}` })
})

/** Runs a client for as long as the scope. */
export const make = Effect.fnUntraced(function*({ clientId, subscriptions = [], url }: Options) {
  // a message is acknowledged once it is in here: the program holds the broker back
  const received = yield* Queue.bounded<Mqtt.Publish>(100)
  let session: Request.Duplex<Mqtt.Packet> | undefined

  const onConnect = Effect.fnUntraced(function*(connection: Connection.Connection<Mqtt.Packet>) {
    yield* login(connection, clientId)
    const duplex = yield* Request.duplex(connection, { correlate: correlation() })
    const push = (packet: Mqtt.Packet): Effect.Effect<void, ConnectionError.ConnectionError> =>
      packet._tag !== "Publish"
        ? Effect.void
        : Effect.andThen(
          Queue.offer(received, packet),
          packet.id === undefined ? Effect.void : duplex.send({ _tag: "Puback", id: packet.id })
        )
    // the end of the connection is told elsewhere
    yield* Effect.forkScoped(Effect.ignore(Stream.runForEach(duplex.pushes, push)))
    if (subscriptions.length > 0) {
      const topics = subscriptions.map((filter) => ({ filter, qos: 1 as const }))
      const granted = yield* duplex.request({ _tag: "Subscribe", id: 0, topics })
      if (granted._tag === "Suback" && granted.codes.some((code) => code >= 128)) {
        return yield* new Refused({ message: `the broker refuses a subscription of ${clientId}` })
      }
    }
    session = duplex
  })

  const dial = yield* Effect.as(Dialer.make(url), Effect.orDie(Dialer.make(url)))
  const client = yield* Client.make(Effect.flatMap(dial, open), {
    policy: { retryBase: "200 millis", retryCap: "5 seconds" },
    onConnect
  })

  return {
    client,
    /** What was subscribed to. A message may come twice. */
    messages: Stream.fromQueue(received),
    /** Returns once the broker has it, over any number of connections: at least once. */
    publish: (topic: string, payload: string) =>
      Effect.andThen(
        client.connection,
        Effect.suspend(() =>
          session!.request({ _tag: "Publish", topic, payload: new TextEncoder().encode(payload), qos: 1, id: 1 }, {
            deadline: "10 seconds"
          })
        )
      ).pipe(
        Effect.retry({
          // whether the broker has seen it is not known, so it gets it again
          while: ({ isRetryable, reason }) => isRetryable || reason._tag === "OutcomeUnknown",
          schedule: Schedule.spaced("50 millis")
        }),
        Effect.asVoid
      )
  }
})
