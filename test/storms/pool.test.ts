/** Pools in storms: borrowers, dials, checks and hooks that do anything, at any time, while limits change and the pool closes. */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Codec, Connection, ConnectionError, ConnectionPool } from "../../src/index.ts"
import { TestSocket } from "../../src/testing/index.ts"
import { long, often } from "../support/often.ts"
import {
  type Dice,
  dies,
  type Findings,
  isOver,
  later,
  millis,
  pass,
  reasonOf,
  start,
  steps,
  storms
} from "../support/storms.ts"

type Failure = ConnectionError.ConnectionError
type Lines = Connection.Connection<string>

/** What one pool and pools by key have in common. */
interface Lender {
  readonly get: (key: string) => Effect.Effect<Lines, Failure, Scope.Scope>
  readonly use: ConnectionPool.Keyed<string, string>["use"]
  readonly stats: Effect.Effect<ConnectionPool.Stats>
  readonly patch: ConnectionPool.ConnectionPool<string>["patch"]
  readonly close: Effect.Effect<void>
}

interface Borrower {
  readonly key: string
  readonly number: number
  readonly since: number
  /** A hook borrows, maybe in the middle of another one. */
  readonly isNested: boolean
  state: "waits" | "has" | "over"
}

const lines = Connection.make({ codec: Codec.lines(), policy: { pingEvery: 0, silence: 0 } })

const acquire = 500
const maxIdle = 2

/** What a storm knows of one pool, or of pools by key. */
class Scene {
  readonly dice: Dice
  readonly found: Findings
  readonly now: () => number
  readonly scope = Scope.makeUnsafe()
  readonly peers = new Map<number, TestSocket.Peer>()
  readonly fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  readonly borrowers: Array<Borrower> = []
  readonly keys: ReadonlyArray<string>
  /** What events said of each connection. */
  readonly told = new Map<number, "open" | "lent" | "gone">()
  readonly lent = new Map<number, string>()
  lender: Lender | undefined
  /** Connections, and dials, that are not closed yet. */
  live = 0
  depth = 0
  isClosed = false

  constructor(dice: Dice, found: Findings, now: () => number, keys: ReadonlyArray<string>) {
    this.dice = dice
    this.found = found
    this.now = now
    this.keys = keys
  }

  // ---- what the application does ------------------------------------------------------------------------------------

  readonly open: Effect.Effect<Lines, Failure, Scope.Scope> = Effect.gen({ self: this }, function*() {
    const { dice } = this
    yield* Effect.acquireRelease(Effect.sync(() => this.live++), () => Effect.sync(() => this.live--))
    if (dice.percent(20)) yield* Effect.sleep(dice.below(100))
    if (dice.percent(15)) yield* ConnectionError.make(new ConnectionError.OpenFailed({ cause: "refused" }))
    if (dice.percent(5)) yield* dice.one([dies, Effect.never, Effect.ignore(this.again), Effect.interrupt])
    const peer = yield* TestSocket.make()
    const connection = yield* lines(peer.socket)
    this.peers.set(connection.id, peer)
    if (dice.percent(5)) yield* peer.reset
    return connection
  })

  /** A borrower that does anything with what it is lent. */
  readonly borrow: Effect.Effect<unknown, unknown> = Effect.suspend(() => {
    const { borrowers, dice, found, lender, now } = this
    if (lender === undefined) return Effect.void
    const me: Borrower = {
      key: dice.one(this.keys),
      number: borrowers.length,
      since: now(),
      isNested: this.depth > 0,
      state: "waits"
    }
    borrowers.push(me)
    const has = (connection: Lines) =>
      Effect.suspend(() => {
        found.check(me.state === "waits", "a borrower is served twice, or when it has gone")
        found.check(!this.lent.has(connection.id), "a connection is lent to two")
        me.state = "has"
        this.lent.set(connection.id, me.key)
        return Effect.ensuring(this.uses(connection), Effect.sync(() => this.lent.delete(connection.id)))
      })
    const asks = dice.percent(60)
      ? lender.use(me.key, has)
      : Effect.scoped(Effect.flatMap(lender.get(me.key), has))
    return Effect.onExit(asks, (exit) =>
      Effect.sync(() => {
        if (me.state === "waits" && reasonOf(exit) === "AcquireTimeout") {
          found.check(now() - me.since === acquire, `a borrower gives up after ${now() - me.since} ms`)
        }
        me.state = "over"
      }))
  })

  private uses(connection: Lines): Effect.Effect<unknown, unknown> {
    const { dice } = this
    return dice.pick<Effect.Effect<unknown, unknown>>(
      [30, Effect.void],
      [30, Effect.sleep(dice.below(80))],
      [8, Effect.fail("as told")],
      [4, dies],
      [4, connection.close],
      [4, this.peers.get(connection.id)!.reset],
      [4, Effect.never],
      [3, this.again],
      [1, Effect.interrupt]
    )
  }

  /** Something in the middle of whatever the pool does. */
  readonly again: Effect.Effect<unknown, unknown> = Effect.suspend(() => {
    const { dice, lender, scope } = this
    if (lender === undefined || this.depth > 3) return Effect.void
    this.depth++
    const act = dice.pick<Effect.Effect<unknown, unknown>>(
      [50, this.borrow],
      [10, this.patch],
      [3, lender.close],
      [3, Scope.close(scope, Exit.void)],
      [10, dies],
      [5, Effect.fail("as told")],
      [3, Effect.never]
    )
    const ended = Effect.sync(() => this.depth--)
    return Effect.ensuring(dice.percent(70) ? act : Effect.andThen(Effect.sleep(dice.below(20)), act), ended)
  })

  readonly patch: Effect.Effect<unknown, unknown> = Effect.suspend(() => {
    const { dice, lender } = this
    return lender!.patch(dice.one<ConnectionPool.Patch>([
      { max: 1 + dice.below(4) },
      { min: dice.below(2), idle: 50 + dice.below(200) },
      { maxAge: 100 + dice.below(300) },
      { dials: 1 + dice.below(2) }
    ]))
  })

  readonly onEvent = (event: ConnectionPool.Event<string>): Effect.Effect<unknown, unknown> => {
    const { dice, found, told } = this
    if ("connection" in event) {
      const { _tag, connection: { id } } = event
      const before = told.get(id)
      if (_tag === "Opened") found.check(before === undefined, "Opened twice")
      if (_tag === "Borrowed") found.check(before === "open", `Borrowed what was ${before}`)
      if (_tag === "Returned") found.check(before === "lent", `Returned what was ${before}`)
      if (_tag === "Retired") {
        found.check(before === "open" || this.isClosed && before === "lent", `Retired what was ${before}`)
      }
      if (_tag !== "Leaked") told.set(id, _tag === "Borrowed" ? "lent" : _tag === "Retired" ? "gone" : "open")
      if (dice.percent(5)) return event.connection.close
    }
    return dice.percent(25) ? this.again : Effect.void
  }

  readonly check = (connection: Lines): Effect.Effect<unknown, unknown> =>
    this.dice.pick<Effect.Effect<unknown, unknown>>(
      [12, Effect.void],
      [3, Effect.fail("broken")],
      [2, Effect.sleep(10)],
      [1, Effect.never],
      [1, dies],
      [1, this.again],
      [1, connection.close]
    )

  // ---- rules --------------------------------------------------------------------------------------------------------

  /** Holds when nothing is in the middle of something. */
  readonly rules = Effect.gen({ self: this }, function*() {
    const { borrowers, found, now } = this
    const stats = yield* this.lender!.stats
    for (const [name, count] of Object.entries(stats)) {
      if (typeof count === "number") found.check(count >= 0, `${name} is ${count}`)
    }
    const { checking, closing, dials, idle, inUse, open, retired, waiting } = stats
    found.check(open === idle + inUse + checking + closing, "what is open is not the sum of its parts")
    const gone = Object.values(retired).reduce((sum, count) => sum + count, 0)
    found.check(dials === gone + open - closing, "what was opened is not what is open and what was retired")
    if (this.keys.length > 1) found.check(idle <= maxIdle, "more are idle than may be over all keys")
    if (!this.isClosed) found.check(inUse === this.lent.size, `in use ${inUse} and lent ${this.lent.size}`)
    const waits = borrowers.filter(({ state }) => state === "waits")
    found.check(waiting === waits.length, `waiting ${waiting} of ${waits.length}`)
    found.check(waits.every(({ since }) => now() - since <= acquire), "a borrower waits for too long")
    for (const key of this.keys) {
      const first = waits.find((one) => one.key === key)?.number ?? Infinity
      const last = borrowers.findLast((one) => one.key === key && one.state === "has" && !one.isNested)?.number ?? -1
      found.check(last < first, "a borrower is served before one that came before it")
    }
  })
}

const optionsOf = (scene: Scene): ConnectionPool.KeyedOptions<string, string> => {
  const { check, dice, onEvent } = scene
  return {
    max: 1 + dice.below(4),
    min: dice.below(2),
    drain: dice.one([0, 1000]),
    acquire,
    dial: 300,
    idle: 200,
    maxAge: 300,
    leak: 50,
    dials: 1 + dice.below(2),
    waiters: dice.one([2, 1000]),
    order: dice.one(["lifo", "fifo"]),
    maxIdle,
    ...(dice.percent(50) ? { check, checkAfter: 10, checkEvery: dice.one([0, 40]), checkTimeout: 30 } : {}),
    ...(dice.percent(30) ? { isReusable: () => dice.percent(50) } : {}),
    ...(dice.percent(80) ? { onEvent } : {})
  }
}

const ofOne = (scene: Scene): Effect.Effect<Lender, never, Scope.Scope> =>
  Effect.map(ConnectionPool.make(scene.open, optionsOf(scene)), (pool) => ({
    get: () => pool.get,
    use: (_, f) => pool.use(f),
    stats: pool.stats,
    patch: pool.patch,
    close: pool.close
  }))

const byKey = (scene: Scene): Effect.Effect<Lender, never, Scope.Scope> =>
  Effect.map(
    ConnectionPool.keyed((_: string) => scene.open, optionsOf(scene)),
    (pools) => ({ get: pools.get, use: pools.use, stats: pools.total, patch: pools.patch, close: pools.close })
  )

const closed = (scene: Scene, make: Lender): Lender => {
  const closing = <A>(close: Effect.Effect<A>) =>
    Effect.suspend(() => {
      scene.isClosed = true
      return close
    })
  return { ...make, close: closing(make.close) }
}

const storm = (keys: ReadonlyArray<string>, make: (scene: Scene) => Effect.Effect<Lender, never, Scope.Scope>) =>
  Effect.fnUntraced(function*(dice: Dice, found: Findings) {
    const scene = new Scene(dice, found, yield* millis, keys)
    const { fibers, peers, scope } = scene
    yield* Scope.addFinalizer(
      scope,
      Effect.sync(() => {
        scene.isClosed = true
      })
    )
    const lender = scene.lender = closed(scene, yield* Scope.provide(make(scene), scope))
    // the last finalizer is the first to run
    yield* Scope.addFinalizer(
      scope,
      Effect.sync(() => {
        scene.isClosed = true
      })
    )
    const step = () => {
      const peer = dice.one([...peers.values()])
      return dice.pick<Effect.Effect<unknown, unknown>>(
        [50, Effect.map(start(scene.borrow), (fiber) => fibers.push(fiber))],
        [10, Effect.sync(() => dice.one(fibers)?.interruptUnsafe())],
        [5, peer?.reset ?? Effect.void],
        [5, peer?.send("unasked\n") ?? Effect.void],
        [3, scene.patch],
        [25, later(dice.below(60))]
      )
    }
    yield* steps(dice, 30, step, scene.rules)
    yield* pass(3)
    yield* scene.rules
    const closing = yield* start(
      dice.percent(20) ? lender.close : Scope.close(scope, dice.one([Exit.void, Exit.interrupt()]))
    )
    yield* pass(10)
    found.check(isOver(closing), "closing hangs")
    const end = yield* start(Scope.close(scope, Exit.void))
    for (const fiber of fibers) fiber.interruptUnsafe()
    yield* pass(10)
    found.check(isOver(end) && fibers.every(isOver), "a borrower, or the end of the scope, hangs")
    const left = yield* lender.stats
    const { checking, dialing, idle, inUse, open, waiting } = left
    found.check(
      open + idle + inUse + checking + left.closing + dialing + waiting + scene.live === 0,
      `left: ${JSON.stringify({ ...left, retired: 0, live: scene.live })}`
    )
    found.check([...scene.told.values()].every((last) => last === "gone"), "an Opened without a Retired")
  })

describe("a pool in storms", () => {
  const count = often(16, 300)
  it.effect(
    `B49 B57 B58 B69 B71 ${count} of one: nothing is lent twice, forgotten, or left`,
    () => storms(count, storm(["all"], ofOne)),
    long(180_000)
  )

  it.effect(`B54 B66 B69 ${count} of one for each key`, () => storms(count, storm(["a", "b"], byKey)), long(180_000))
})
