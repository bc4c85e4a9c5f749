/** What one node of a fleet knows: its session with the engine, the other nodes, and what waits for their answers. */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as PubSub from "effect/PubSub"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"
import type { ConnectionError } from "../../ConnectionError.ts"
import { BackplaneError, type Engine, type Holder, type Session, type Token } from "../backplane/engine.ts"
import type { Payload } from "../codec/payload.ts"
import { logged, logNow } from "../endings/defects.ts"
import { Permits } from "../scheduling/mutex.ts"
import { turnsOf } from "../scheduling/turns.ts"
import { Forks } from "./forks.ts"
import { Keys } from "./keys.ts"
import { type Guards, Lease, type Moment } from "./lease.ts"
import { Deadlines } from "./post/deadlines.ts"
import { Lanes } from "./post/lanes.ts"
import { Mail } from "./post/mail.ts"
import { Questions } from "./post/questions.ts"
import type * as Wire from "./post/wire.ts"

/** What happens to a fleet, as seen by this node; see `Fleet.Change`. */
export type Change =
  | { readonly _tag: "Joined"; readonly epoch: number; readonly isNewEpoch: boolean }
  | { readonly _tag: "Cut"; readonly error: BackplaneError }
  | { readonly _tag: "Fenced" }
  | { readonly _tag: "Gap"; readonly count: number | undefined; readonly from: string | undefined }
  | { readonly _tag: "NodeJoined"; readonly node: string }
  | { readonly _tag: "NodeGone"; readonly node: string }

/** One stay with the engine. */
export interface Stay {
  readonly session: Session
  readonly number: number
  readonly joinedAt: Moment
  /** Fails when the session is over. */
  readonly over: Deferred.Deferred<never, BackplaneError>
}

interface Takeover {
  readonly node: string
  readonly acked: Deferred.Deferred<void>
}

/** What a fleet needs of the registry of its node. */
export interface Local<in Out> {
  readonly offer: (key: string, message: Out) => Effect.Effect<"accepted" | "full" | "offline", ConnectionError>
  readonly broadcast: (message: Out, options?: {
    readonly tag?: string | undefined
    readonly except?: number | undefined
  }) => Effect.Effect<Wire.Counts>
}

export interface Parts<in out Out> {
  readonly name: string
  readonly engine: Engine
  readonly local: Local<Out>
  readonly payload: Payload<Out, Out>
  readonly clock: Clock.Clock
  readonly context: Context.Context<never>
  readonly guards: Guards
  readonly lease: number
  readonly answerWithin: number
  readonly isOnlyIfFree: boolean
  readonly changes: PubSub.PubSub<Change>
}

// of thousands that are asked for in one moment most would be given up before the engine comes to them, and be asked for again
const claimsAtOnce = 128

const unanswered = () => new BackplaneError({ reason: "unreachable" })

/** An engine answers in this time, or does not answer, where there is no lease to derive it from. */
const longestPatience = 5000

export class Node<in out Out> {
  readonly name: string
  readonly engine: Engine
  readonly local: Local<Out>
  readonly payload: Payload<Out, Out>
  readonly guards: Guards
  readonly lease: Lease
  readonly keys: Keys
  readonly mail: Mail
  readonly lanes: Lanes<Out>
  /** Of messages and broadcasts that other nodes have. */
  readonly deadlines: Deadlines
  /** Of questions that the engine has. */
  readonly answers: Deadlines
  readonly isOnlyIfFree: boolean
  /** So long the engine has for an answer. */
  readonly patience: number
  stay: Stay | undefined
  stays = 0
  epoch: number | undefined
  isLeaving = false
  isLeft = false
  gaps = 0
  /** The other nodes; whether each is leaving. */
  members: ReadonlyMap<string, boolean> = new Map()
  private membersAt = -Infinity
  /** How often the engine was asked for them, and which of its answers came last. */
  private refreshes = 0
  private refreshed = 0
  /** Open when the lease is to be renewed before its time: only what comes back after a doubt ends it. */
  readonly renewing = Latch.makeUnsafe(false)
  /** Open while there are keys to check. */
  readonly checking = Latch.makeUnsafe(false)
  /** Which batch of each node is the next one. */
  readonly heard = new Map<string, { readonly run: number; readonly next: number }>()
  readonly joined = Latch.makeUnsafe(false)
  readonly probes = new Map<number, { readonly term: number; readonly asked: Moment }>()
  /** When what this node sent to itself last was sent, of what has come back. */
  provedAt = -Infinity
  readonly takeovers = new Map<number, Takeover>()
  /** Open when a takeover has begun. */
  readonly looking = Latch.makeUnsafe(false)
  readonly questions: Questions
  /** Claims that are given back once the engine can be asked. */
  readonly releases = new Set<{ readonly key: string; readonly token: Token }>()
  /** Keys that this node may have claimed: the engine did not answer. */
  readonly unsettled = new Set<string>()
  readonly releasing = Latch.makeUnsafe(false)
  private readonly context: Context.Context<never>
  private readonly changes: PubSub.PubSub<Change>
  /** So many claims are with the engine at once. */
  readonly claiming: Permits
  /** Claims, which go on when their callers do not wait any more. */
  readonly claims: Forks
  /** What ends with the session. */
  private readonly forks: Forks
  private ids = 0

  constructor(parts: Parts<Out>) {
    const { clock, guards, lease, name } = parts
    this.name = name
    this.engine = parts.engine
    this.local = parts.local
    this.payload = parts.payload
    this.guards = guards
    this.context = parts.context
    this.claiming = new Permits(turnsOf(Context.get(parts.context, Scheduler.Scheduler)), claimsAtOnce)
    this.claims = new Forks(parts.context)
    this.forks = new Forks(parts.context)
    this.changes = parts.changes
    this.isOnlyIfFree = parts.isOnlyIfFree
    this.patience = Math.min(longestPatience, lease / 3)
    this.lease = new Lease(clock, lease, guards.fence, () => {
      this.tell({ _tag: "Fenced" })
      this.renewing.openUnsafe()
      this.checking.openUnsafe()
    })
    this.keys = new Keys(guards, this.lease)
    this.mail = new Mail(name, parts.engine.largest)
    this.deadlines = new Deadlines(clock, parts.answerWithin)
    this.answers = new Deadlines(clock, this.patience)
    this.questions = new Questions(this.deadlines)
    this.lanes = new Lanes({
      name,
      mail: this.mail,
      deadlines: this.deadlines,
      isJoined: () => this.stay !== undefined,
      nextId: () => this.nextId(),
      find: (key) => this.ask((session) => session.find(key)),
      deliver: (key, message) => this.deliver(key, message),
      fork: (what, effect) => this.forks.run(what, effect)
    })
  }

  nextId(): number {
    return ++this.ids
  }

  tell(change: Change): void {
    PubSub.publishUnsafe(this.changes, change)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the engine
  // -------------------------------------------------------------------------------------------------------------------

  /** Asks the engine, within its time. What says that the session is over ends it. */
  ask<A>(question: (session: Session) => Effect.Effect<A, BackplaneError>): Effect.Effect<A, BackplaneError> {
    return Effect.suspend(() => {
      const { stay } = this
      if (stay === undefined) return Effect.fail(new BackplaneError({ reason: "unreachable" }))
      const asked = Effect.suspend(() => question(stay.session))
      return this.answers.bound(this.context, this.nextId(), asked, unanswered).pipe(
        Effect.catchDefect((cause) => Effect.fail(new BackplaneError({ reason: "unreachable", cause }))),
        Effect.tapError((error) =>
          error.reason === "lease" || error.reason === "epoch" ? Deferred.fail(stay.over, error) : Effect.void
        )
      )
    })
  }

  /** How many milliseconds new logins wait: a node may still serve what it had in the epoch before. */
  get heldBack(): number {
    const { stay } = this
    if (stay === undefined || !this.guards.epochs || this.lease.millis === Infinity) return 0
    const age = stay.session.age + this.lease.now().monotonic - stay.joinedAt.monotonic
    return Math.max(0, Math.ceil(this.lease.millis - age))
  }

  begin(session: Session): Stay {
    const stay: Stay = {
      session,
      number: ++this.stays,
      joinedAt: this.lease.now(),
      over: Deferred.makeUnsafe()
    }
    const isNewEpoch = this.epoch !== undefined && this.epoch !== session.epoch
    if (isNewEpoch) {
      this.releases.clear()
      this.unsettled.clear()
    }
    this.epoch = session.epoch
    this.stay = stay
    this.mail.begin(stay.number)
    this.lease.doubt()
    if (this.lease.millis === Infinity) this.lease.extend(this.lease.number, stay.joinedAt)
    this.checking.openUnsafe()
    this.releasing.openUnsafe()
    this.joined.openUnsafe()
    this.tell({ _tag: "Joined", epoch: session.epoch, isNewEpoch })
    return stay
  }

  /** The session is over: what is under way is not known, what waits is cut. */
  end(error: BackplaneError): void {
    const wasJoined = this.stay !== undefined
    this.stay = undefined
    this.joined.closeUnsafe()
    this.forks.stop()
    this.probes.clear()
    this.mail.drop()
    this.lanes.cut()
    this.questions.lose()
    if (wasJoined) this.tell({ _tag: "Cut", error })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the other nodes
  // -------------------------------------------------------------------------------------------------------------------

  /** Learns who lives, unless that is known of late. */
  refresh(maxAge: number): Effect.Effect<void, BackplaneError> {
    return Effect.suspend(() => {
      const asked = this.lease.now().monotonic
      if (asked - this.membersAt < maxAge) return Effect.void
      // those that come together ask once
      this.membersAt = asked
      const number = ++this.refreshes
      return Effect.map(this.ask(({ nodes }) => nodes), (found) => {
        // an answer that was overtaken does not know a node that has joined since
        if (number < this.refreshed) return
        this.refreshed = number
        const before = this.members
        const members = new Map(found.map(({ isLeaving, node }) => [node, isLeaving]))
        members.delete(this.name)
        this.members = members
        for (const node of members.keys()) if (!before.has(node)) this.tell({ _tag: "NodeJoined", node })
        for (const node of before.keys()) if (!members.has(node)) this.gone(node)
      })
    })
  }

  /** The lease of a node is over. */
  private gone(node: string): void {
    this.heard.delete(node)
    this.mail.forget(node)
    this.lanes.gone(node)
    for (const takeover of this.takeovers.values()) {
      if (takeover.node === node) Deferred.doneUnsafe(takeover.acked, Effect.void)
    }
    this.questions.lose(node)
    this.tell({ _tag: "NodeGone", node })
  }

  /** Batches are missing: a key may have been taken from this node unheard. */
  gap(count: number | undefined, from: string | undefined): void {
    this.gaps += count ?? 1
    this.lease.doubt()
    this.renewing.openUnsafe()
    this.checking.openUnsafe()
    this.tell({ _tag: "Gap", count, from })
  }

  /** Delivers to the connection of this node that has a key, if it may be served. What its codec throws costs this message. */
  deliver(key: string, message: Out): Effect.Effect<Wire.Told> {
    const invalid = Effect.succeed("invalid" as const)
    return Effect.suspend(() =>
      this.keys.serving(key) === undefined
        ? Effect.succeed("moved")
        : this.local.offer(key, message).pipe(
          Effect.catch(() => invalid),
          Effect.catchDefect((defect) =>
            Effect.andThen(logged("the codec of a message to a key of a fleet", Cause.die(defect)), invalid)
          )
        )
    )
  }

  /** Reads what another node has sent. What the codec throws costs this message, and not the session with the engine. */
  read(payload: Wire.Payload): Result.Result<Out, unknown> {
    try {
      return this.payload.decode(payload)
    } catch (thrown) {
      logNow(this.context, "the codec of a fleet", Cause.die(thrown))
      return Result.fail(thrown)
    }
  }

  find(key: string): Effect.Effect<Holder | undefined, BackplaneError> {
    return this.ask((session) => session.find(key))
  }
}
