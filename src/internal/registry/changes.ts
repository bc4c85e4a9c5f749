/** Tells subscribers what changes in a registry. A slow one holds a bounded number of changes, and none of the connections. */
import * as Arr from "effect/Array"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TypeId } from "../connection/handle/internals.ts"
import { Gate } from "../scheduling/gate.ts"
import type { Turns } from "../scheduling/turns.ts"
import type { Changed, ChangeOf } from "./entries.ts"
import * as Names from "./names.ts"
import * as State from "./state.ts"

type Told<C extends State.Member, S> = ChangeOf<State.Entry<C, S>, S>

const none: ReadonlyArray<string> = []

/** The tags that are in use in `one` state and not in the `other`. */
const onlyIn = <C extends State.Member, S>(
  one: State.State<C, S>,
  other: State.State<C, S>,
  tags: Iterable<string>
): ReadonlyArray<string> => {
  let found: Array<string> | undefined
  for (const tag of tags) {
    if (Names.get(one.byTag, tag) === undefined || Names.get(other.byTag, tag) !== undefined) continue
    if (found === undefined) found = [tag]
    else found.push(tag)
  }
  return found ?? none
}

const without = (tags: Iterable<string>, others: ReadonlySet<string>): ReadonlyArray<string> => {
  const left: Array<string> = []
  for (const tag of tags) if (!others.has(tag)) left.push(tag)
  return left
}

const changed = <C extends State.Member, S>(
  before: State.State<C, S>,
  after: State.State<C, S>,
  { connection, key, session, tags }: State.Entry<C, S>,
  earlier: Iterable<string>
): Changed<S> => ({
  id: connection.id,
  key,
  tags,
  session,
  first: onlyIn(after, before, tags),
  last: onlyIn(before, after, earlier)
})

/** One reader of the changes. */
class Subscriber<C extends State.Member, S> {
  private readonly ref: Ref.Ref<State.State<C, S>>
  private readonly limit: number
  private readonly gate: Gate
  private waiting: Array<Told<C, S>> = []
  private missed = 0
  private isCurrent = false
  private isOver = false

  constructor(ref: Ref.Ref<State.State<C, S>>, limit: number, turns: Turns) {
    this.ref = ref
    this.limit = limit
    this.gate = new Gate(turns, true)
  }

  offer(change: Told<C, S>): void {
    // what comes before the first look is part of it
    if (!this.isCurrent) {
      if (this.missed > 0) this.missed++
      return
    }
    if (this.waiting.length < this.limit) this.waiting.push(change)
    else {
      this.missed = this.waiting.length + 1
      this.waiting = []
      this.isCurrent = false
    }
    this.gate.open()
  }

  end(): void {
    this.isOver = true
    this.gate.open()
  }

  readonly pull: Effect.Effect<NonEmptyReadonlyArray<Told<C, S>>, Cause.Done> = Effect.suspend(() => {
    const { missed, waiting } = this
    if (!this.isCurrent) {
      this.isCurrent = true
      this.missed = 0
      this.gate.close()
      return Effect.succeed([{ _tag: "Current", entries: State.entriesOf(Ref.getUnsafe(this.ref)), missed }])
    }
    if (Arr.isReadonlyArrayNonEmpty(waiting)) {
      this.waiting = []
      if (!this.isOver) this.gate.close()
      return Effect.succeed(waiting)
    }
    if (this.isOver) return Cause.done()
    return Effect.andThen(this.gate.await, this.pull)
  })
}

/** The readers of one registry's changes. Nothing is made of a change while there are none. */
export class Changes<C extends State.Member, S> {
  private readonly subscribers = new Set<Subscriber<C, S>>()
  private readonly ref: Ref.Ref<State.State<C, S>>
  private readonly turns: Turns
  private readonly limit: number
  private isOver = false

  /** A reader holds `limit` changes at the most. */
  constructor(ref: Ref.Ref<State.State<C, S>>, limit: number, turns: Turns) {
    this.ref = ref
    this.limit = limit
    this.turns = turns
  }

  private tell(change: Told<C, S>): void {
    for (const subscriber of this.subscribers) subscriber.offer(change)
  }

  added(
    before: State.State<C, S>,
    after: State.State<C, S>,
    entry: State.Entry<C, S>,
    superseded: number | undefined
  ): void {
    if (this.subscribers.size === 0) return
    const earlier = State.entryOf(before, entry.connection.id)?.tags ?? none
    this.tell({ _tag: "Added", superseded, ...changed(before, after, entry, earlier) })
  }

  tagged(
    before: State.State<C, S>,
    after: State.State<C, S>,
    entry: State.Entry<C, S>,
    tags: ReadonlySet<string>
  ): void {
    if (this.subscribers.size === 0) return
    const added = without(tags, entry.tags)
    const removed = without(entry.tags, tags)
    if (added.length + removed.length === 0) return
    this.tell({ _tag: "Tagged", added, removed, ...changed(before, after, { ...entry, tags }, removed) })
  }

  ended(before: State.State<C, S>, after: State.State<C, S>, entry: State.Entry<C, S>): void {
    if (this.subscribers.size === 0) return
    const { connection, key, tags } = entry
    const told = changed(before, after, entry, tags)
    const isKeyFree = key === undefined || State.holderOf(after, key) === undefined
    this.tell({ _tag: "Ended", snapshot: connection[TypeId].look(), isKeyFree, ...told })
  }

  /** The registry is gone. */
  end(): void {
    this.isOver = true
    for (const subscriber of this.subscribers) subscriber.end()
  }

  private readonly subscribed: Effect.Effect<Subscriber<C, S>, never, Scope.Scope> = Effect.acquireRelease(
    Effect.sync(() => {
      const subscriber = new Subscriber(this.ref, this.limit, this.turns)
      this.subscribers.add(subscriber)
      if (this.isOver) subscriber.end()
      return subscriber
    }),
    (subscriber) => Effect.sync(() => this.subscribers.delete(subscriber))
  )

  /** Each run of it is a reader of its own. */
  get stream(): Stream.Stream<Told<C, S>> {
    return Stream.unwrap(Effect.map(this.subscribed, ({ pull }) => Stream.fromPull(Effect.succeed(pull))))
  }
}
