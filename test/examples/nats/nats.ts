/**
 * A NATS client: it publishes, subscribes, asks and answers, and its subscriptions survive reconnects.
 *
 * What it shows: a ready codec (`Nats`), a handshake in which the server speaks first, answers that are told from messages by their
 * subject (`Request.duplex`), and a bound for each subscription, so that a slow one holds back no other.
 */
import { Effect, Queue, Random, Schema, Stream } from "effect"
import { Client, Connection, ConnectionError, Heartbeat, Request } from "holdfast"
import { Nats } from "holdfast/codecs"
import { Dialer } from "holdfast/node"

export type Message = Extract<Nats.FromServer, { readonly _tag: "Message" }>

/** Nothing is subscribed to the subject of a question. */
export class NoResponders extends Schema.TaggedError<NoResponders>()("NoResponders", { subject: Schema.String }) {}

/** The server does not want this client: its message says why. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { message: Schema.String }) {}

type Received = Exclude<Nats.FromServer, { readonly _tag: "Ping" | "Pong" }>

interface Subscription {
  readonly sid: string
  readonly subject: string
  readonly queue?: string | undefined
  readonly messages: Queue.Queue<Message>
}

export const textOf = ({ payload }: Message): string => new TextDecoder().decode(payload)

const open = Connection.make({
  codec: Nats.make(),
  heartbeat: Heartbeat.tagged("Ping", "Pong"),
  policy: { pingEvery: "20 seconds", silence: "1 minute" }
})

const subscribed = ({ queue, sid, subject }: Subscription): Nats.FromClient => ({
  _tag: "Subscribe",
  subject,
  queue,
  sid
})

/** Runs a client for as long as the scope. */
export const make = Effect.fnUntraced(function*(options: { readonly url: string; readonly name: string }) {
  const { name, url } = options
  const subscriptions = new Map<string, Subscription>()
  // answers come to subjects that this client alone listens to
  const inbox = `_INBOX.${(yield* Random.nextIntBetween(0, 2 ** 48)).toString(36)}.`
  let session: Request.Duplex<Received, Nats.FromClient> | undefined
  let lastSid = 1

  const correlate = {
    request: (message: Nats.FromClient, id: number): Nats.FromClient =>
      ({ ...message, reply: `${inbox}${id}` }) as Nats.FromClient,
    response: (message: Received): number | undefined =>
      message._tag === "Message" && message.subject.startsWith(inbox)
        ? Number(message.subject.slice(inbox.length))
        : undefined
  }

  const push = (connection: Connection.Connection<Received, Nats.FromClient>) => (message: Received) => {
    switch (message._tag) {
      case "Message":
        // of a subscription that does not keep up, the oldest messages are dropped
        return Effect.suspend(() => {
          const subscription = subscriptions.get(message.sid)
          return subscription === undefined ? Effect.void : Queue.offer(subscription.messages, message)
        })
      case "Err":
        return connection.closeWith(
          new ConnectionError.HandshakeFailed({ cause: new Refused({ message: message.message }) })
        )
      default:
        return Effect.void
    }
  }

  const onConnect = Effect.fnUntraced(function*(connection: Connection.Connection<Received, Nats.FromClient>) {
    const info = yield* connection.receive
    if (info._tag !== "Info") return yield* new Refused({ message: `the server began with ${info._tag}` })
    yield* connection.send({
      _tag: "Connect",
      options: { verbose: false, name, lang: "holdfast", headers: true, no_responders: true }
    })
    yield* connection.send({ _tag: "Subscribe", subject: `${inbox}*`, sid: "1" })
    const duplex = yield* Request.duplex(connection, { correlate })
    yield* Effect.forkScoped(Effect.ignore(Stream.runForEach(duplex.pushes, push(connection))))
    // in one step: whoever subscribes from now on tells this connection
    session = duplex
    yield* connection.sendAll(Array.from(subscriptions.values(), subscribed))
  })

  const dial = yield* Effect.as(Dialer.make(url), Effect.orDie(Dialer.make(url)))
  const client = yield* Client.make(Effect.flatMap(dial, open), {
    policy: { retryBase: "200 millis", retryCap: "5 seconds" },
    onConnect
  })

  return {
    client,
    /** Waits while there is no connection. Success means: accepted, not received by a subscriber. */
    publish: (subject: string, payload: string) => client.send({ _tag: "Publish", subject, payload }),
    /** Messages from now on, over any number of connections; what is published while there is none is missed. */
    subscribe: (subject: string, queue?: string): Stream.Stream<Message> =>
      Stream.unwrap(Effect.gen(function*() {
        const messages = yield* Queue.sliding<Message>(1000)
        const sid = String(++lastSid)
        const subscription = { sid, subject, queue, messages }
        yield* Effect.acquireRelease(
          Effect.sync(() => subscriptions.set(sid, subscription)),
          () => {
            subscriptions.delete(sid)
            return session === undefined
              ? Effect.void
              : Effect.ignore(session.send({ _tag: "Unsubscribe", sid }))
          }
        )
        // on a connection that has ended it fails, and the next one is told all
        if (session !== undefined) yield* Effect.ignore(session.send(subscribed(subscription)))
        return Stream.fromQueue(messages)
      })),
    /** Asks, and waits for one answer. */
    request: (subject: string, payload: string, deadline: Request.Terms["deadline"] = "2 seconds") =>
      client.connection.pipe(
        Effect.flatMap(() => session!.request({ _tag: "Publish", subject, payload }, { deadline })),
        Effect.flatMap((answer): Effect.Effect<Message, NoResponders> =>
          answer._tag !== "Message" || answer.headers?.startsWith("NATS/1.0 503") === true
            ? Effect.fail(new NoResponders({ subject }))
            : Effect.succeed(answer)
        )
      ),
    /** Answers every question to a subject, each in a fiber of its own; `queue` shares them among several servers. */
    answer: (messages: Stream.Stream<Message>, respond: (question: Message) => Effect.Effect<string>) =>
      Stream.runForEach(messages, (question) =>
        question.reply === undefined
          ? Effect.void
          : Effect.forkChild(Effect.ignore(
            Effect.flatMap(respond(question), (payload) =>
              client.send({ _tag: "Publish", subject: question.reply!, payload }))
          )))
  }
})
