/** One connection to NATS, and what a history does with it: a stream, a consumer that follows it, and messages that are appended. */
import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  jetstream,
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstreamManager,
  type PubAck,
  RetentionPolicy,
  type StorageType,
  type StreamInfo
} from "@nats-io/jetstream"
import { createInbox, errors, type NatsConnection, type NodeConnectionOptions } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { BackplaneError } from "../../internal/backplane/engine.ts"
import type { Link } from "../../internal/backplane/line.ts"
import { type Pulse, unreachable, within } from "../../internal/backplane/pulse.ts"
import { connected } from "./dial.ts"

/** What it is made of. */
export interface Settings {
  readonly client: NodeConnectionOptions
  readonly storage: "file" | "memory"
  readonly replicas: number
  /** How long it may take to open, and to answer, in milliseconds. */
  readonly timeout: number
}

/** A stream with one subject, and what it keeps. */
export interface Kept {
  readonly stream: string
  readonly subject: string
  /** 0 for no bound, each. */
  readonly count: number
  readonly bytes: number
  /** In milliseconds. */
  readonly age: number
}

/** A stream as it was when it was asked for. */
export interface State {
  /** Which memory the stream has. */
  readonly epoch: string
  /** Before its oldest message. */
  readonly oldest: number
  readonly newest: number
  /** When the server had the newest one, in milliseconds of its clock. */
  readonly at: number
}

/** A message as it is delivered. */
export interface Delivered {
  readonly offset: number
  /** When the server had it, in milliseconds of its clock. */
  readonly at: number
  readonly bytes: Uint8Array
}

// of JetStream
const noStream = 10_059
const noLeader = 10_008
const tooLarge = new Set([10_054, 10_077])

const nanos = (millis: number): number => Math.ceil(millis) * 1_000_000

// a header of its own, with the id of the message
const mostOverhead = 256

const nothing = (): void => {}

// a cluster that has no leader answers nothing, and later nothing of that: each question is asked so often within the timeout
const tries = 4

const longestWindow = 120_000

/** For how long a message that comes twice is found to be the same, in milliseconds. */
export const windowOf = (age: number): number => age === 0 ? longestWindow : Math.min(age, longestWindow)

const codeOf = (cause: unknown): number | undefined => cause instanceof JetStreamApiError ? cause.code : undefined

/** `$JS.ACK.<stream>.<consumer>.<times>.<offset>.<number>.<nanoseconds>.<pending>`; newer ones have two more before the stream. */
const deliveryOf = (reply: string): { readonly offset: number; readonly number: number; readonly at: number } => {
  const tokens = reply.split(".")
  const first = tokens.length === 9 ? 5 : 7
  return {
    offset: Number(tokens[first]),
    number: Number(tokens[first + 1]),
    at: Math.floor(Number(tokens[first + 2]) / 1_000_000)
  }
}

/** A stream that is followed. */
export interface Following {
  readonly connection: Connection
  readonly stop: () => void
}

/** An open connection. */
export class Connection implements Link {
  /** The largest message, in bytes. */
  readonly largest: number
  private readonly nats: NatsConnection
  private readonly pulse: Pulse
  private readonly settings: Settings
  private readonly js: JetStreamClient
  private readonly jsm: JetStreamManager
  // which process of the server it is, where the server is one
  private readonly run: string

  constructor(nats: NatsConnection, pulse: Pulse, settings: Settings, jsm: JetStreamManager) {
    const { cluster, max_payload, server_id } = nats.info!
    this.nats = nats
    this.pulse = pulse
    this.settings = settings
    this.jsm = jsm
    this.js = jetstream(nats, { timeout: settings.timeout / tries })
    this.largest = max_payload - mostOverhead
    this.run = cluster === undefined ? `-${server_id.slice(1, 17)}` : ""
  }

  get over(): Effect.Effect<BackplaneError, BackplaneError> {
    return this.pulse.over
  }

  /** Asks until there is an answer, for so many milliseconds. */
  private ask<A>(asks: () => Promise<A>, lasting = this.settings.timeout): Effect.Effect<A, BackplaneError> {
    const most = Math.min(tries, Math.ceil(lasting * tries / this.settings.timeout))
    return this.pulse.promise(async () => {
      for (let i = 1;; i++) {
        try {
          return await asks()
        } catch (cause) {
          if (i >= most || !(cause instanceof errors.TimeoutError)) throw cause
        }
      }
    })
  }

  /** The stream, which is made where it is not there. With `fits` it is made to keep what it should. */
  state({ age, bytes, count, stream, subject }: Kept, fits: boolean): Effect.Effect<State, BackplaneError> {
    const { replicas, storage } = this.settings
    const bounds = {
      max_msgs: count || -1,
      max_bytes: bytes || -1,
      max_age: nanos(age),
      duplicate_window: nanos(windowOf(age))
    }
    const config = {
      name: stream,
      subjects: [subject],
      retention: RetentionPolicy.Limits,
      discard: DiscardPolicy.Old,
      storage: storage as StorageType,
      num_replicas: replicas,
      allow_direct: false,
      ...bounds
    }
    const found = Effect.catchIf(
      this.ask(() => this.jsm.streams.info(stream)),
      ({ cause }) => codeOf(cause) === noStream,
      () => this.ask(() => this.jsm.streams.add(config))
    )
    return Effect.map(
      Effect.flatMap(found, (info) => {
        const isFit = Object.entries(bounds).every(([name, bound]) =>
          info.config[name as keyof typeof bounds] === bound
        )
        return isFit || !fits ? Effect.succeed(info) : this.ask(() => this.jsm.streams.update(stream, bounds))
      }),
      (info) => this.stateOf(info)
    )
  }

  private stateOf({ created, state }: StreamInfo): State {
    // to the nanosecond: `2026-01-31T12:00:00.123456789Z`
    const [second, fraction = ""] = created.replace("Z", "").split(".")
    const began = BigInt(Date.parse(`${second}Z`)) * 1_000_000n + BigInt(fraction.padEnd(9, "0"))
    return {
      epoch: began.toString(36) + this.run,
      oldest: Math.max(0, state.first_seq - 1),
      newest: state.last_seq,
      at: Date.parse(state.last_ts)
    }
  }

  /** Takes each message from an offset on. Where one is lost on the way, the connection is of no use any more. */
  follow(stream: string, from: number, told: (delivered: Delivered) => void): Effect.Effect<Following, BackplaneError> {
    return this.ask(async () => {
      let expected = 1
      const inbox = createInbox(this.settings.client.inboxPrefix)
      const subscription = this.nats.subscribe(inbox, {
        callback: (error, message) => {
          if (error !== null) return this.pulse.end(unreachable(error))
          const { data, headers, reply } = message
          if (headers !== undefined && headers.code === 100) {
            const stalled = headers.get("Nats-Consumer-Stalled")
            if (reply !== undefined && reply !== "") message.respond()
            else if (stalled !== "") this.nats.publish(stalled)
            return
          }
          const { at, number, offset } = deliveryOf(reply ?? "")
          if (number !== expected++) return this.pulse.end(unreachable("a message of the stream was not delivered"))
          told({ offset, at, bytes: data })
        }
      })
      const { name } = await this.jsm.consumers.add(stream, {
        ack_policy: AckPolicy.None,
        deliver_policy: DeliverPolicy.StartSequence,
        deliver_subject: inbox,
        flow_control: true,
        idle_heartbeat: nanos(5000),
        inactive_threshold: nanos(5000),
        max_deliver: 1,
        mem_storage: true,
        num_replicas: 1,
        opt_start_seq: from
      }).catch((cause) => {
        subscription.unsubscribe()
        throw cause
      })
      const stop = () => {
        subscription.unsubscribe()
        // the server does so by itself when it finds that there is no subscription
        this.jsm.consumers.delete(stream, name).catch(nothing)
      }
      return { connection: this, stop }
    })
  }

  /** Appends once, however often it is tried with one id. Fails with `size` where the server does not take as much. */
  append(subject: string, bytes: Uint8Array, msgID: string, lasting: number): Effect.Effect<PubAck, BackplaneError> {
    return Effect.mapError(
      this.ask(() => this.js.publish(subject, bytes, { msgID }), lasting),
      (error) =>
        tooLarge.has(codeOf(error.cause) ?? 0) ? new BackplaneError({ reason: "size", cause: error.cause }) : error
    )
  }
}

/** Whether the user may not do one thing, which says nothing of others; who asked for it is told. */
const isForbidden = (error: unknown): boolean =>
  error instanceof errors.PermissionViolationError ||
  (error instanceof errors.RequestError && error.cause instanceof errors.PermissionViolationError)

/** Whether the server has refused, which it does again: there is no use in trying that once more. */
export const isRefused = ({ cause, reason }: BackplaneError): boolean =>
  reason === "size" || isForbidden(cause) || (cause instanceof JetStreamApiError && cause.code !== noLeader)

/** Whether there was no stream to append to. */
export const isNowhere = ({ cause }: BackplaneError): boolean =>
  cause instanceof Error && cause.name === "JetStreamNotEnabled"

/** What speaks against these servers: positions could be taken for those of messages that were lost. */
const unsafe = ({ cluster, jetstream: has }: { cluster?: string; jetstream?: boolean }, settings: Settings) => {
  if (cluster === undefined) {
    return has === true
      ? undefined
      : "the server that is dialled must be the one with JetStream"
  }
  if (settings.replicas < 3) return "in a cluster a history needs `replicas: 3` or 5"
  return settings.storage === "file" ? undefined : "in a cluster a history needs `storage: \"file\"`"
}

/** Opens a connection, for as long as the scope is open. */
export const open = (settings: Settings): Effect.Effect<Connection, BackplaneError, Scope.Scope> =>
  Effect.gen(function*() {
    const { client, timeout } = settings
    const { nats, pulse } = yield* connected(client, timeout, (error) => !isForbidden(error))
    const why = unsafe(nats.info!, settings)
    if (why !== undefined) return yield* Effect.fail(unreachable(why))
    const jsm = yield* within(timeout)(
      pulse.promise(() => jetstreamManager(nats, { timeout: timeout / tries, checkAPI: false }))
    )
    return new Connection(nats, pulse, settings, jsm)
  })
