/** One connection to NATS: its buckets, and what is published with word of whether a subject has subscribers. */
import { type KV, type KvEntry, Kvm, type KvOptions } from "@nats-io/kv"
import { createInbox, type NatsConnection, type NodeConnectionOptions } from "@nats-io/transport-node"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { BackplaneError, remembered } from "../../internal/backplane/engine.ts"
import type { Link } from "../../internal/backplane/line.ts"
import { type Pulse, unreachable, within } from "../../internal/backplane/pulse.ts"
import { connected } from "./dial.ts"
import { Leases } from "./leases.ts"

/** What it is made of. */
export interface Settings {
  readonly client: Effect.Effect<NodeConnectionOptions, unknown>
  readonly prefix: string
  readonly bucket: Partial<KvOptions>
  /** How long it may take to open, and to answer, in milliseconds. */
  readonly timeout: number
}

interface Publishing {
  readonly id: number
  readonly tell: (outcome: Effect.Effect<"sent" | "nobody", BackplaneError>) => void
}

// one for all: it is told for each batch
const sent = Effect.succeed("sent" as const)
const nobody = Effect.succeed("nobody" as const)

// of JetStream: the revision is not the one that was named
const wrongRevision = 10_071

const codeOf = (cause: unknown): unknown => (cause as { readonly code?: unknown } | undefined)?.code

const directoryOf = (prefix: string): string => `${prefix}_directory`

const leasesOf = (prefix: string): string => `${prefix}_leases`

const goneOf = (prefix: string): string => `${prefix}_gone`

interface Buckets {
  readonly directory: KV
  readonly leases: KV
  readonly gone: KV
}

/** An open connection. */
export class Connection implements Link {
  readonly largest: number
  /** The leases that are followed, once `follow` has begun. */
  readonly leases: Leases
  private readonly nats: NatsConnection
  private readonly pulse: Pulse
  private readonly now: () => number
  private readonly prefix: string
  private readonly timeout: number
  private readonly buckets: Buckets
  private readonly replies: string
  private published = 0
  private publishing: Array<Publishing> = []
  private isFlushing = false
  private readonly unheard = new Set<number>()

  constructor(
    nats: NatsConnection,
    pulse: Pulse,
    settings: Settings,
    buckets: Buckets,
    options: {
      readonly lease: number
      readonly inboxPrefix: string | undefined
      /** Milliseconds of a clock that is not set. */
      readonly now: () => number
    }
  ) {
    this.nats = nats
    this.pulse = pulse
    this.now = options.now
    this.prefix = settings.prefix
    this.timeout = settings.timeout
    this.buckets = buckets
    this.leases = new Leases(options.lease)
    this.largest = nats.info?.max_payload ?? Infinity
    this.replies = `${createInbox(options.inboxPrefix)}.`
    // a server answers at once where a subject has no subscriber
    nats.subscribe(`${this.replies}*`, {
      callback: (error, { headers, subject }) => {
        if (error === null && headers?.code === 503) this.unheard.add(Number(subject.slice(this.replies.length)))
      }
    })
  }

  get over(): Effect.Effect<BackplaneError, BackplaneError> {
    return this.pulse.over
  }

  /** Takes all that is published to a subject from now on. */
  subscribe(subject: string, listener: (bytes: Uint8Array) => void): Effect.Effect<void, BackplaneError> {
    return this.pulse.promise(() => {
      this.nats.subscribe(subject, {
        callback: (error, { data }) => {
          if (error === null) listener(data)
          else this.pulse.end(unreachable(error))
        }
      })
      return this.nats.flush()
    })
  }

  publish(subject: string, bytes: Uint8Array): Effect.Effect<"sent" | "nobody", BackplaneError> {
    return this.pulse.ask((tell) => {
      const id = ++this.published
      if (!this.isFlushing) {
        this.isFlushing = true
        // before the client's own microtask, which writes what is published: one write for both
        queueMicrotask(this.flush)
      }
      try {
        this.nats.publish(subject, bytes, { reply: this.replies + id })
      } catch (cause) {
        return tell(Effect.fail(unreachable(cause)))
      }
      this.publishing.push({ id, tell })
    })
  }

  /** Asks the server whether it has all of these: it answers in order. */
  private readonly flush = (): void => {
    const publishing = this.publishing
    this.publishing = []
    this.nats.flush().then(
      () => {
        for (const { id, tell } of publishing) tell(this.unheard.size > 0 && this.unheard.delete(id) ? nobody : sent)
        if (this.publishing.length > 0) return this.flush()
        this.isFlushing = false
      },
      (cause) => this.pulse.end(unreachable(cause))
    )
  }

  /** Whether the buckets are gone: the server has lost what it knew. */
  private explained(error: BackplaneError): Effect.Effect<never, BackplaneError> {
    return Effect.catch(
      Effect.andThen(
        this.pulse.promise(() => Promise.all(Object.values<KV>({ ...this.buckets }).map((bucket) => bucket.status()))),
        Effect.fail(error)
      ),
      (second) =>
        Effect.fail(
          second.cause instanceof Error && second.cause.message.includes("stream not found")
            ? new BackplaneError({ reason: "epoch", cause: second.cause })
            : error
        )
    )
  }

  read(bucket: keyof Buckets, key: string): Effect.Effect<KvEntry | null, BackplaneError> {
    return Effect.catch(this.pulse.promise(() => this.buckets[bucket].get(key)), (error) => this.explained(error))
  }

  /** Writes where the last revision is the one named; 0 for none. Gives the new one, or nothing where it was another one. */
  write(
    bucket: keyof Buckets,
    key: string,
    text: string,
    previousSeq: number
  ): Effect.Effect<number | undefined, BackplaneError> {
    return Effect.catch(
      this.pulse.promise<number | undefined>(() => this.buckets[bucket].put(key, text, { previousSeq })),
      (error) => codeOf(error.cause) === wrongRevision ? Effect.succeed(undefined) : this.explained(error)
    )
  }

  /** Removes a lease, if it is still this one. */
  remove(node: string, revision: number): Effect.Effect<void, BackplaneError> {
    return Effect.catch(
      this.pulse.promise(() => this.buckets.leases.delete(node, { previousSeq: revision })),
      (error) => codeOf(error.cause) === wrongRevision ? Effect.void : this.explained(error)
    )
  }

  /** Removes this very entry of the directory, and leaves no trace of it. Whether it was there. */
  erase(revision: number): Effect.Effect<boolean, BackplaneError> {
    const subject = `$JS.API.STREAM.MSG.DELETE.KV_${directoryOf(this.prefix)}`
    const asked = JSON.stringify({ seq: revision, no_erase: true })
    return Effect.map(
      this.pulse.promise(() => this.nats.request(subject, asked, { timeout: this.timeout })),
      (answer) => answer.json<{ readonly success?: boolean }>().success === true
    )
  }

  /** The last revision of a bucket. */
  last(bucket: keyof Buckets): Effect.Effect<number, BackplaneError> {
    return Effect.map(
      Effect.catch(this.pulse.promise(() => this.buckets[bucket].status()), (error) => this.explained(error)),
      ({ streamInfo }) => streamInfo.state.last_seq
    )
  }

  /** Follows the leases, for as long as the connection lasts. */
  get follow(): Effect.Effect<void, BackplaneError> {
    return this.pulse.promise(async () => {
      const entries = await this.buckets.leases.watch()
      const following = async () => {
        for await (const entry of entries) this.leases.apply(entry, this.now())
      }
      const ended = (cause?: unknown) =>
        this.pulse.end(unreachable(cause ?? "the bucket of leases is not told any more"))
      following().then(ended, ended)
    })
  }

  /** Waits until a revision of the leases was followed. */
  followed(revision: number): Effect.Effect<void, BackplaneError> {
    return this.pulse.ask<void>((tell) => this.leases.when(revision, () => tell(Effect.void)))
  }
}

/** Makes the entries of a bucket last for so many milliseconds: it may be there from when that was another time. */
const fit = async (nats: NatsConnection, bucket: KV, millis: number): Promise<void> => {
  const { streamInfo, ttl } = await bucket.status()
  if (ttl === millis) return
  const age = millis * 1_000_000
  const config = { ...streamInfo.config, max_age: age, duplicate_window: Math.min(age, 120_000_000_000) }
  await nats.request(`$JS.API.STREAM.UPDATE.${streamInfo.config.name}`, JSON.stringify(config))
}

/** Opens a connection and its buckets, for as long as the scope is open. */
export const open = (settings: Settings, lease: number): Effect.Effect<Connection, BackplaneError, Scope.Scope> =>
  Effect.gen(function*() {
    const { bucket, prefix, timeout } = settings
    const clock = yield* Clock.Clock
    const client = yield* within(timeout)(Effect.mapError(settings.client, unreachable))
    const { nats, pulse } = yield* connected(client, timeout)
    const kvm = new Kvm(nats)
    const buckets = yield* pulse.promise(async () => {
      // asked of the leader: it has the last word, and says so where the bucket is gone
      const common = { ...bucket, history: 1, allow_direct: false }
      const directory = await kvm.create(directoryOf(prefix), common)
      const lasting = async (name: string, millis: number): Promise<KV> => {
        const bucket = await kvm.create(name, { ...common, ttl: millis })
        await fit(nats, bucket, millis)
        return bucket
      }
      const leases = await lasting(leasesOf(prefix), lease)
      const gone = await lasting(goneOf(prefix), remembered * lease)
      return { directory, gone, leases }
    }).pipe(within(timeout))
    return new Connection(nats, pulse, settings, buckets, {
      lease,
      inboxPrefix: client.inboxPrefix,
      now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
    })
  })
