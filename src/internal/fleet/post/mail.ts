/** What leaves this node: frames for each node, in batches of what came together. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import type { BackplaneError, Session } from "../../backplane/engine.ts"
import { Deadlines } from "./deadlines.ts"
import * as Wire from "./wire.ts"

/**
 * What becomes of a frame. `leaving` is the last moment to take it back, by returning false. Then it is `sent`, or there is
 * `nobody`, or whether it was sent is not known (`failed`). `dropped`: it never left.
 */
export type Passing = "leaving" | "sent" | "nobody" | "failed" | "dropped"

export type Watcher = (passing: Passing) => boolean | void

interface Item {
  readonly bytes: Uint8Array
  readonly watcher: Watcher | undefined
}

interface Box {
  items: Array<Item>
  size: number
}

const batchSize = 65_536

/** So much waits for one node at the most: 16 batches. */
const mostWaiting = 16 * batchSize

// so many batches long after several frames came together: then they are likely to do so again
const crowdedFor = 32

/** Ends when a batch is with the engine for too long. */
class Late {
  private readonly deadlines: Deadlines
  private readonly late = Latch.makeUnsafe(false)
  private ids = 0

  constructor(clock: Clock.Clock, millis: number) {
    this.deadlines = new Deadlines(clock, millis)
  }

  begin(): number {
    this.deadlines.add(++this.ids, () => this.late.openUnsafe())
    return this.ids
  }

  end(id: number): void {
    this.deadlines.remove(id)
  }

  get isLate(): Effect.Effect<void> {
    return Effect.raceFirst(this.late.await, this.deadlines.run)
  }
}

export class Mail {
  private readonly from: string
  /** The largest batch of the engine. */
  private readonly largest: number
  private readonly boxes = new Map<string, Box>()
  /** The session in which batches are counted. */
  private run = 0
  /** How many batches were made for each node in it. */
  private readonly sequences = new Map<string, number>()
  private readonly latch = Latch.makeUnsafe(false)
  /** How many frames were posted since the fiber that sends them looked. */
  private posted = 0
  /** So many times it looks for more before it sends: several came together not long ago. */
  private crowded = 0
  private isHeld = false

  constructor(from: string, largest: number) {
    this.from = from
    this.largest = largest
  }

  /** The most bytes that a frame may have. */
  get longest(): number {
    return this.largest - Wire.headerOf(this.from)
  }

  /** Takes a frame for a node; false where too much waits for it. Answers and revocations are always taken. */
  post(node: string, frame: Wire.Frame, watcher?: Watcher): boolean {
    return this.postBytes(node, Wire.encode(frame), watcher, true)
  }

  postBytes(node: string, bytes: Uint8Array, watcher: Watcher | undefined, isAlways: boolean): boolean {
    let box = this.boxes.get(node)
    if (box === undefined) this.boxes.set(node, box = { items: [], size: 0 })
    if (!isAlways && box.size + bytes.length > mostWaiting) return false
    box.items.push({ bytes, watcher })
    box.size += bytes.length
    this.posted++
    if (!this.isHeld) this.latch.openUnsafe()
    return true
  }

  /** What is posted by `posts` leaves together. */
  together(posts: () => void): void {
    this.isHeld = true
    try {
      posts()
    } finally {
      this.isHeld = false
      if (this.posted > 0) this.latch.openUnsafe()
    }
  }

  /** The first frames of a box that make a batch together. */
  private next(box: Box): ReadonlyArray<Item> {
    const most = Math.min(batchSize, this.largest) - Wire.headerOf(this.from)
    const batch: Array<Item> = []
    let size = 0
    let at = 0
    for (; at < box.items.length; at++) {
      const item = box.items[at]!
      if (batch.length > 0 && size + item.bytes.length > most) break
      box.size -= item.bytes.length
      if (item.watcher?.("leaving") === false) continue
      size += item.bytes.length
      batch.push(item)
    }
    box.items = box.items.slice(at)
    return batch
  }

  /** Sends a batch, and tells what became of it, also when the session ends meanwhile. */
  private publish(
    session: Session,
    node: string,
    items: ReadonlyArray<Item>,
    deadlines: Late
  ): Effect.Effect<unknown, BackplaneError> {
    const sequence = this.sequences.get(node) ?? 0
    this.sequences.set(node, sequence + 1)
    const batch = Wire.join(this.from, this.run, sequence, items.map(({ bytes }) => bytes))
    const deadline = deadlines.begin()
    return Effect.suspend(() => session.publish(node, batch)).pipe(
      Effect.catch((error) =>
        error.reason === "lease" || error.reason === "epoch" ? Effect.fail(error) : Effect.succeed("failed" as const)
      ),
      Effect.onExit((exit) => {
        deadlines.end(deadline)
        const passing = Exit.isSuccess(exit) ? exit.value : "failed"
        for (const { watcher } of items) watcher?.(passing)
        return Effect.void
      })
    )
  }

  /** Sends all that waits for a node, batch after batch. Fails where the session is over. */
  private empty(session: Session, node: string, box: Box, deadlines: Late): Effect.Effect<void, BackplaneError> {
    const rest: Effect.Effect<void, BackplaneError> = Effect.suspend(() => {
      while (box.items.length > 0) {
        const items = this.next(box)
        if (items.length > 0) return Effect.flatMap(this.publish(session, node, items, deadlines), () => rest)
      }
      if (this.boxes.get(node) === box) this.boxes.delete(node)
      return Effect.void
    })
    return rest
  }

  /** Sends what comes. Batches for different nodes do not wait for each other. */
  private send(session: Session, deadlines: Late): Effect.Effect<never, BackplaneError> {
    // a frame that comes alone leaves at once: it waits for no turn of the event loop. Where several come, what the others
    // of this turn post goes with it; and what comes while a batch is with the engine is the next batch
    const all: Effect.Effect<void, BackplaneError> = Effect.suspend(() => {
      this.latch.closeUnsafe()
      this.crowded = this.posted > 1 ? crowdedFor : Math.max(0, this.crowded - 1)
      this.posted = 0
      // the usual case, which needs no fiber of its own
      if (this.boxes.size === 1) {
        for (const [node, box] of this.boxes) return this.empty(session, node, box, deadlines)
      }
      return Effect.forEach(Array.from(this.boxes), ([node, box]) => this.empty(session, node, box, deadlines), {
        concurrency: "unbounded",
        discard: true
      })
    })
    const crowd = Effect.andThen(Effect.yieldNow, all)
    return Effect.forever(Effect.flatMap(this.latch.await, () => this.crowded > 0 ? crowd : all), {
      disableYield: true
    })
  }

  /**
   * Sends what comes, until the session is over. Where the engine takes longer than `limit` for a batch, all that are with it
   * have failed: one timer looks after them.
   */
  readonly carry = (session: Session, limit: number): Effect.Effect<never, BackplaneError> =>
    Effect.forever(Effect.flatMap(Effect.clockWith(Effect.succeed), (clock) => {
      const deadlines = new Late(clock, limit)
      // what was left in a box when a batch failed goes on
      this.latch.openUnsafe()
      return Effect.raceAllFirst([this.send(session, deadlines), deadlines.isLate])
    }))

  begin(run: number): void {
    this.run = run
    this.sequences.clear()
  }

  /** The session is over: nothing of what waits leaves any more. */
  drop(): void {
    const boxes = Array.from(this.boxes.values())
    this.boxes.clear()
    for (const { items } of boxes) for (const { watcher } of items) watcher?.("dropped")
  }

  /** A node is gone: nothing of what waits for it leaves. */
  forget(node: string): void {
    const box = this.boxes.get(node)
    this.boxes.delete(node)
    for (const { watcher } of box?.items ?? []) watcher?.("dropped")
  }
}
