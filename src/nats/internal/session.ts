/** One stay of a node in a fleet on NATS: its lease, its inbox and its claims. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { BackplaneError, type Holder, type JoinOptions, type Session } from "../../internal/backplane/engine.ts"
import { Inbox } from "../../internal/backplane/inbox.ts"
import { Line } from "../../internal/backplane/line.ts"
import { Claims, type Seen } from "./claims.ts"
import { type Connection, open, type Settings } from "./connection.ts"
import { type Entry, entryOf, epochKey, type Held, nameOf } from "./entries.ts"
import { leaseOf, leaseText } from "./leases.ts"

/** What all sessions of one engine share. */
export interface Shared extends Settings, Seen {
  /** The largest batch: what its user allows, or the server if that is less. */
  largest: number
  /** The greatest epoch that was seen. */
  epoch: number
}

const mostWaiting = 1024

interface Joined {
  readonly epoch: number
  readonly age: number
}

const over = (reason: "lease" | "epoch"): BackplaneError => new BackplaneError({ reason })

const holderOf = ({ node, token }: Held): Holder => ({ node, token })

export class Stay {
  private readonly shared: Shared
  private readonly options: JoinOptions
  private readonly inbox = new Inbox(mostWaiting)
  private readonly line: Line<Connection, Joined>
  private readonly now: () => number
  private readonly claims: Claims
  /** Of a lease that this stay begins. */
  private readonly own: string
  private generation: string
  /** Of each node the generation that was found to be over last: a lease that has ended never begins again. */
  private readonly ended = new Map<string, string>()
  private leaseRevision = 0
  private leaseUntil = -Infinity

  constructor(shared: Shared, options: JoinOptions, now: () => number, generation: string) {
    this.shared = shared
    this.options = options
    this.now = now
    this.own = generation
    this.generation = generation
    this.claims = new Claims(shared, {
      node: options.node,
      generation: () => this.generation,
      isAlive: (connection, held) => this.isAlive(connection, held)
    })
    this.line = new Line({
      name: "holdfast.nats",
      timeout: shared.timeout,
      open: open(shared, Math.ceil(options.lease)),
      begin: (connection) => this.begin(connection),
      resume: (connection, joined) => this.resume(connection, joined),
      ended: (error) => this.inbox.end(error)
    })
  }

  private subjectOf(node: string): string {
    return `${this.shared.prefix}.to.${node}`
  }

  private listen(connection: Connection): Effect.Effect<void, BackplaneError> {
    this.shared.largest = Math.min(this.shared.largest, connection.largest)
    return connection.subscribe(this.subjectOf(this.options.node), (bytes) => this.inbox.offer(bytes))
  }

  /** The epoch, and when it began. A directory that has none, or that is behind what was seen, begins another one. */
  private epoch(
    connection: Connection
  ): Effect.Effect<{ readonly epoch: number; readonly began: number }, BackplaneError> {
    const { shared } = this
    return Effect.gen(function*() {
      const last = yield* connection.last("directory")
      while (true) {
        const entry = yield* connection.read("directory", epochKey)
        if (entry !== null) {
          const began = entry.created.getTime()
          const epoch = Math.max(began, Number(entry.string()))
          const isBehind = epoch < shared.epoch || (epoch === shared.epoch && last < shared.revision)
          if (!isBehind) {
            if (epoch > shared.epoch) shared.revision = 0
            shared.epoch = epoch
            shared.revision = Math.max(shared.revision, last)
            return { epoch, began }
          }
        }
        yield* connection.write("directory", epochKey, String(shared.epoch + 1), entry?.revision ?? 0)
        shared.revision = 0
      }
    })
  }

  private begin(connection: Connection): Effect.Effect<Joined, BackplaneError> {
    const { node } = this.options
    return Effect.gen({ self: this }, function*() {
      yield* this.listen(connection)
      const { began, epoch } = yield* this.epoch(connection)
      let joined = 0
      while (true) {
        const from = this.now()
        const entry = yield* connection.read("leases", node)
        const lease = leaseOf(entry)
        // within its lease it holds what it held
        this.generation = lease?.generation ?? this.own
        const text = leaseText({ generation: this.generation, isLeaving: false })
        const revision = yield* connection.write("leases", node, text, entry?.revision ?? 0)
        if (revision === undefined) continue
        this.leaseRevision = revision
        this.leaseUntil = from + this.options.lease
        joined = (yield* connection.read("leases", node))?.created.getTime() ?? began
        break
      }
      yield* connection.follow
      yield* connection.followed(this.leaseRevision)
      return { epoch, age: Math.max(0, joined - began) }
    })
  }

  /** Goes on with another connection, where the server has kept what it knew. */
  private resume(connection: Connection, { epoch }: Joined): Effect.Effect<void, BackplaneError> {
    return Effect.gen({ self: this }, function*() {
      const now = yield* this.epoch(connection)
      if (now.epoch !== epoch) return yield* Effect.fail(over("epoch"))
      this.inbox.gap(undefined)
      yield* this.listen(connection)
      yield* connection.follow
      yield* connection.followed(yield* connection.last("leases"))
    })
  }

  /** Runs while the lease lasts, by the clock of this node. */
  private leased<A>(
    uses: (connection: Connection) => Effect.Effect<A, BackplaneError>
  ): Effect.Effect<A, BackplaneError> {
    return Effect.suspend(() => this.now() < this.leaseUntil ? this.line.use(uses) : Effect.fail(over("lease")))
  }

  private renew(connection: Connection, epoch: number, isLeaving: boolean): Effect.Effect<void, BackplaneError> {
    const { lease, node } = this.options
    return Effect.gen({ self: this }, function*() {
      const from = this.now()
      const text = leaseText({ generation: this.generation, isLeaving })
      const revision = yield* connection.write("leases", node, text, this.leaseRevision)
      const entry = yield* connection.read("directory", epochKey)
      if (entry === null || Math.max(entry.created.getTime(), Number(entry.string())) !== epoch) {
        return yield* Effect.fail(over("epoch"))
      }
      if (revision === undefined) return yield* Effect.fail(over("lease"))
      this.leaseRevision = revision
      this.leaseUntil = from + lease
    })
  }

  /** Whether a holder has a lease: what is followed may lag, so a lease that is not known is asked for. */
  private isAlive(connection: Connection, { generation, node }: Held): Effect.Effect<boolean, BackplaneError> {
    if (node === this.options.node) return Effect.succeed(generation === this.generation)
    if (connection.leases.isAlive(node, generation, this.now())) return Effect.succeed(true)
    // thousands of keys may be those of one node that died
    if (this.ended.get(node) === generation) return Effect.succeed(false)
    return Effect.map(connection.read("leases", node), (entry) => {
      const isAlive = leaseOf(entry)?.generation === generation
      if (!isAlive) this.ended.set(node, generation)
      return isAlive
    })
  }

  private holder(connection: Connection, { held }: Entry): Effect.Effect<Holder | undefined, BackplaneError> {
    if (held === undefined) return Effect.succeed(undefined)
    return Effect.map(this.isAlive(connection, held), (isAlive) => isAlive ? holderOf(held) : undefined)
  }

  /** Joins, and stays until the scope is closed. */
  get open(): Effect.Effect<Session, BackplaneError, Scope.Scope> {
    return Effect.map(this.line.join, (joined) => this.session(joined))
  }

  private session({ age, epoch }: Joined): Session {
    return {
      epoch,
      age,
      renew: (isLeaving) => this.leased((connection) => this.renew(connection, epoch, isLeaving)),
      nodes: this.leased((connection) =>
        Effect.gen({ self: this }, function*() {
          const last = yield* connection.last("leases")
          // one that ended before it was told is not told at all
          yield* Effect.timeoutOrElse(connection.followed(last), { duration: 250, orElse: () => Effect.void })
          return connection.leases.alive(this.now())
        })
      ),
      claim: (key, options = {}) =>
        this.claims.inTurn(key, this.leased((connection) => this.claims.claim(connection, epoch, key, options))),
      release: (key, token) => this.leased((connection) => this.claims.release(connection, key, token)),
      find: (key) =>
        this.leased((connection) =>
          Effect.flatMap(connection.read("directory", nameOf(key)), (entry) => this.holder(connection, entryOf(entry)))
        ),
      publish: (to, batch) =>
        batch.length > this.shared.largest
          ? Effect.fail(new BackplaneError({ reason: "size" }))
          : this.line.use((connection) => connection.publish(this.subjectOf(to), batch)),
      take: this.inbox.take,
      leave: Effect.suspend(() => {
        this.leaseUntil = -Infinity
        return this.line.use((connection) => connection.remove(this.options.node, this.leaseRevision))
      })
    }
  }
}

/** Joins a fleet. */
export const join = (
  shared: Shared,
  options: JoinOptions
): Effect.Effect<Session, BackplaneError, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const generation = [yield* Random.next, yield* Random.next].map((part) => part.toString(36).slice(2)).join("")
    return yield* new Stay(shared, options, () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000, generation).open
  })
