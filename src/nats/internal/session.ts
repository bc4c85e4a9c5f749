/** One stay of a node in a fleet on NATS: its lease, its inbox and its claims. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import {
  BackplaneError,
  type Claim,
  type ClaimOptions,
  type Holder,
  isNewer,
  type JoinOptions,
  type Session,
  type Token
} from "../../internal/backplane/engine.ts"
import { Inbox } from "../../internal/backplane/inbox.ts"
import { Line } from "../../internal/backplane/line.ts"
import { type Connection, open, type Settings } from "./connection.ts"
import { type Entry, entryOf, epochKey, type Held, nameOf, textOf, type Written } from "./entries.ts"
import { leaseOf, leaseText } from "./leases.ts"

/** What all sessions of one engine share. */
export interface Shared extends Settings {
  /** The largest batch: what its user allows, or the server if that is less. */
  largest: number
  /** The greatest epoch that was seen, and the greatest revision of the directory in it. */
  epoch: number
  revision: number
}

const mostWaiting = 1024

interface Joined {
  readonly epoch: number
  readonly age: number
}

const over = (reason: "lease" | "epoch"): BackplaneError => new BackplaneError({ reason })

const isSame = (a: Token, b: Token): boolean => a.epoch === b.epoch && a.number === b.number

const holderOf = ({ node, token }: Held): Holder => ({ node, token })

export class Stay {
  private readonly shared: Shared
  private readonly options: JoinOptions
  private readonly inbox = new Inbox(mostWaiting)
  private readonly line: Line<Connection, Joined>
  private readonly now: () => number
  // what this node has claimed: to claim it again or to release it needs no question
  private readonly own = new Map<string, Entry>()
  private readonly turns = new Map<string, { readonly semaphore: Semaphore.Semaphore; count: number }>()
  private generation: string
  private leaseRevision = 0
  private leaseUntil = -Infinity

  constructor(shared: Shared, options: JoinOptions, now: () => number, generation: string) {
    this.shared = shared
    this.options = options
    this.now = now
    this.generation = generation
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
        if (lease !== undefined) this.generation = lease.generation
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
    return Effect.map(connection.read("leases", node), (entry) => leaseOf(entry)?.generation === generation)
  }

  private holder(connection: Connection, { held }: Entry): Effect.Effect<Holder | undefined, BackplaneError> {
    if (held === undefined) return Effect.succeed(undefined)
    return Effect.map(this.isAlive(connection, held), (isAlive) => isAlive ? holderOf(held) : undefined)
  }

  /** What a claim has to write, and what it is then. */
  private decide(
    { held, wanted }: Entry,
    isHeld: boolean,
    epoch: number,
    { as, over }: ClaimOptions
  ): { readonly written: Written | undefined; readonly holder: Holder | undefined } {
    const { node } = this.options
    const token = as ?? { epoch, number: undefined }
    const mine = { node, generation: this.generation, token }
    if (held === undefined || !isHeld) return { written: { held: mine, wanted: undefined }, holder: undefined }
    // a new login is newer than all
    const isOlder = (than: Token | undefined) => than !== undefined && as !== undefined && isNewer(than, as)
    if (isOlder(held.token)) return { written: undefined, holder: held }
    if (held.node !== node && (over === undefined || !isSame(held.token, over))) {
      const isMarked = wanted !== undefined && as !== undefined && !isNewer(as, wanted.token)
      return { written: isMarked ? undefined : { held, wanted: mine }, holder: held }
    }
    const isWanted = wanted !== undefined && wanted.node !== node && isOlder(wanted.token)
    if (isWanted && held.node === node) return { written: undefined, holder: wanted }
    return { written: { held: mine, wanted: isWanted ? wanted : undefined }, holder: undefined }
  }

  private claim(
    connection: Connection,
    epoch: number,
    key: string,
    options: ClaimOptions
  ): Effect.Effect<Claim, BackplaneError> {
    const { node } = this.options
    const name = nameOf(key)
    const read = Effect.map(connection.read("directory", name), entryOf)
    return Effect.gen({ self: this }, function*() {
      let entry = this.own.get(name) ?? (yield* read)
      while (true) {
        const isHeld = entry.held !== undefined && (yield* this.isAlive(connection, entry.held))
        const { holder, written } = this.decide(entry, isHeld, epoch, options)
        const before = this.shared.revision
        let token = options.as
        if (written !== undefined) {
          const revision = yield* connection.write("directory", name, textOf(written), entry.revision)
          if (revision === undefined) {
            this.own.delete(name)
            entry = yield* read
            continue
          }
          // another bucket, which counts from the beginning
          if (revision <= before) return yield* Effect.fail(over("epoch"))
          this.shared.revision = Math.max(this.shared.revision, revision)
          token ??= { epoch, number: revision }
          if (holder === undefined) {
            const held = { node, generation: this.generation, token }
            this.own.set(name, { revision, held, wanted: written.wanted as Holder | undefined })
          }
        }
        return holder === undefined
          ? { _tag: "Claimed", token: token! }
          : { _tag: "Taken", token: token!, holder: { node: holder.node, token: holder.token } }
      }
    })
  }

  /** Claims of one key wait for each other here: each that comes in between would cost all others another try. */
  private inTurn<A>(key: string, effect: Effect.Effect<A, BackplaneError>): Effect.Effect<A, BackplaneError> {
    return Effect.acquireUseRelease(
      Effect.sync(() => {
        const turn = this.turns.get(key) ?? { semaphore: Semaphore.makeUnsafe(1), count: 0 }
        turn.count++
        this.turns.set(key, turn)
        return turn
      }),
      (turn) => turn.semaphore.withPermit(effect),
      (turn) =>
        Effect.sync(() => {
          if (--turn.count === 0) this.turns.delete(key)
        })
    )
  }

  private release(connection: Connection, key: string, token: Token): Effect.Effect<void, BackplaneError> {
    const name = nameOf(key)
    return Effect.gen({ self: this }, function*() {
      let entry = this.own.get(name)
      this.own.delete(name)
      while (true) {
        entry ??= entryOf(yield* connection.read("directory", name))
        if (entry.held?.node !== this.options.node || !isSame(entry.held.token, token)) return
        if (yield* connection.erase(entry.revision)) return
        // a mark may have been made at it
        entry = undefined
      }
    })
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
        this.inTurn(key, this.leased((connection) => this.claim(connection, epoch, key, options))),
      release: (key, token) => this.leased((connection) => this.release(connection, key, token)),
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
