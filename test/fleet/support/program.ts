/**
 * A fleet in a storm: three nodes, an engine and clients that log in anywhere and send to each other, as a simulation.
 *
 * All the time: nothing that is sent after a login was answered reaches an older connection of its key. In the end: one
 * connection a key, which every node reaches, and every send has an outcome.
 */
import { Cause, Effect, Exit, Queue, Random, Scope } from "effect"
import { Fleet } from "../../../src/index.ts"
import { Guards } from "../../../src/internal/fleet/lease.ts"
import { type Simulation, TestBackplane } from "../../../src/testing/index.ts"
import { type Fake, fake } from "./fake.ts"

const nodeNames = ["n0", "n1", "n2"]

const lease = 2000

/** What a run came to. */
export interface Totals {
  logins: number
  refused: number
  sends: number
  accepted: number
  delivered: number
  engines: number
  fences: number
  gaps: number
}

export const noTotals = (): Totals => ({
  logins: 0,
  refused: 0,
  sends: 0,
  accepted: 0,
  delivered: 0,
  engines: 0,
  fences: 0,
  gaps: 0
})

interface Life {
  readonly name: string
  readonly fleet: Fleet.Fleet<string>
  readonly jobs: Queue.Queue<Effect.Effect<unknown>>
  /** Who waits for a job: told when the node crashes first. */
  readonly waiting: Set<() => void>
  isOver: boolean
}

interface Login {
  readonly key: string
  readonly life: Life
  readonly peer: Fake
  /** Counts what happens in a run. */
  answered: number
  /** The engine that knew of it. */
  readonly engine: number
  logout: Effect.Effect<void>
}

export interface Settings {
  readonly clients: number
  readonly guards?: Partial<Guards> | undefined
  readonly totals: Totals
}

export const options = (seed: string | number): Simulation.Options => ({
  seed,
  storm: "1 minute",
  liveness: "3 minutes",
  network: { latency: { uniform: [1, 10] }, connectTimeout: "5 seconds", userTimeout: "5 seconds" },
  faults: {
    kinds: ["latency", "partition", "one-way", "clog", "vanish", "reset", "crash", "stall", "skew", "refuse"],
    hosts: [...nodeNames, "engine"],
    every: "2 seconds",
    longest: "8 seconds"
  }
})

const pick = <A>(items: ReadonlyArray<A>): Effect.Effect<A> =>
  Effect.map(Random.next, (draw) => items[Math.floor(draw * items.length)]!)

class Run {
  readonly world: Simulation.World
  readonly settings: Settings
  readonly totals: Totals
  readonly lives = new Map<string, Life>()
  readonly logins = new Map<string, Set<Login>>()
  /** All that were used so far; clients use the newest ones, and leave the others behind. */
  readonly keys: Array<string> = []
  private readonly inUse: number
  private order = 0
  private nextMessage = 0
  private readonly sentAt = new Map<string, number>()
  unsettled = 0
  isActive = true

  constructor(world: Simulation.World, settings: Settings) {
    this.world = world
    this.settings = settings
    this.totals = settings.totals
    this.inUse = Math.ceil(settings.clients / 3)
    for (let i = 0; i < this.inUse; i++) this.newKey()
  }

  private newKey(): void {
    this.keys.push(`user${this.keys.length}`)
  }

  /** Once in a while a user never comes again: what is wrong with its key then stays wrong, and is seen in the end. */
  readonly users: Effect.Effect<never> = Effect.forever(
    Effect.andThen(Effect.sleep("4 seconds"), Effect.sync(() => this.isActive && this.newKey()))
  )

  private readonly aKey: Effect.Effect<string> = Effect.suspend(() => pick(this.keys.slice(-this.inUse)))

  /** Whether the engine may have forgotten a login, and its node has not claimed it again: then no node can know of it. */
  private isForgotten({ engine, life, peer }: Login): boolean {
    if (engine === this.totals.engines) return false
    // it is not claimed again
    if (!peer.isOpen() || life.isOver) return true
    const { keys, served, status } = Effect.runSync(life.fleet.state)
    return status !== "joined" || served < keys
  }

  private received(login: Login, message: string): void {
    this.totals.delivered++
    const sentAt = this.sentAt.get(message)!
    for (const other of this.logins.get(login.key) ?? []) {
      const isNewer = other.answered > login.answered && other.answered < sentAt
      // one that has ended since was newer all the same
      if (!isNewer || this.isForgotten(other)) continue
      this.world.fail(
        `stale: ${message} for ${login.key}, sent at ${sentAt}, reached login ${login.answered} on ${login.life.name}, ` +
          `when login ${other.answered} on ${other.life.name} had been answered`
      )
    }
  }

  login(life: Life, key: string): Effect.Effect<Login | undefined> {
    return Effect.gen({ self: this }, function*() {
      const engine = this.totals.engines
      const scope = yield* Scope.make()
      const login: Login = {
        key,
        life,
        engine,
        answered: Infinity,
        peer: fake({ received: (message) => this.received(login, message) }),
        logout: Effect.void
      }
      const all = this.logins.get(key) ?? new Set()
      this.logins.set(key, all)
      const added = yield* Effect.exit(Scope.provide(life.fleet.registry.add(login.peer.connection, { key }), scope))
      const logout = Effect.suspend(() => {
        login.peer.end()
        return Scope.close(scope, Exit.void)
      })
      if (Exit.isFailure(added)) {
        this.totals.refused++
        if (Cause.hasDies(added.cause)) this.world.fail(Cause.pretty(added.cause))
        all.delete(login)
        yield* logout
        return undefined
      }
      this.totals.logins++
      login.answered = ++this.order
      login.logout = logout
      all.add(login)
      return login
    })
  }

  send(life: Life, key: string): Effect.Effect<readonly [message: string, outcome: Fleet.Outcome]> {
    return Effect.suspend(() => {
      const message = `m${++this.nextMessage}`
      this.sentAt.set(message, ++this.order)
      this.unsettled++
      this.totals.sends++
      return Effect.orDie(life.fleet.send(key, message)).pipe(
        Effect.map((outcome) => {
          if (outcome === "accepted") this.totals.accepted++
          return [message, outcome] as const
        }),
        Effect.ensuring(Effect.sync(() => {
          this.unsettled--
        }))
      )
    })
  }

  /** Does something on a node, once its event loop turns; nothing where the node crashes first. */
  on<A>(life: Life, effect: Effect.Effect<A>): Effect.Effect<A | undefined> {
    return Effect.callback<A | undefined>((resume) => {
      if (life.isOver) return resume(Effect.undefined)
      const tell = (exit?: Exit.Exit<A>) => {
        life.waiting.delete(tell)
        resume(Effect.succeed(exit !== undefined && Exit.isSuccess(exit) ? exit.value : undefined))
      }
      life.waiting.add(tell)
      Queue.offerUnsafe(
        life.jobs,
        Effect.onExit(Effect.andThen(Effect.sleep(1), effect), (exit) => Effect.sync(() => tell(exit)))
      )
    })
  }

  /** The life of a node, until its host crashes. */
  readonly node = (name: string): Effect.Effect<never, never, Scope.Scope> =>
    Effect.gen({ self: this }, function*() {
      const { network } = this.world
      const engine = TestBackplane.connect(network.host(name), "engine:6379")
      const jobs = yield* Queue.unbounded<Effect.Effect<unknown>>()
      const made = Fleet.make<string>({ engine, name, lease, registry: { history: 0 } })
      const guards = { ...(yield* Guards), ...this.settings.guards }
      const fleet = yield* Effect.provideService(made, Guards, guards)
      const life: Life = { name, fleet, jobs, waiting: new Set(), isOver: false }
      this.lives.set(name, life)
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          life.isOver = true
          for (const tell of Array.from(life.waiting)) tell()
          const { gaps } = Effect.runSync(fleet.state)
          this.totals.gaps += gaps
        })
      )
      return yield* Effect.forever(Effect.flatMap(Queue.take(jobs), (job) => Effect.forkScoped(job)))
    })

  /** One client: logs in somewhere, now and then twice at once, stays for a while, sends to others. */
  readonly client: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    let current: Login | undefined
    while (this.isActive) {
      yield* Effect.sleep(200 + 1600 * (yield* Random.next))
      const life = this.lives.get(yield* pick(nodeNames))
      const key = yield* this.aKey
      if (life === undefined) continue
      const draw = yield* Random.next
      if (draw < 0.25) {
        if (current !== undefined) yield* current.logout
        const [one, two] = yield* Effect.all([
          this.on(life, this.login(life, key)),
          draw < 0.2 ? Effect.undefined : this.on(life, this.login(life, key))
        ], { concurrency: 2 })
        if (one !== undefined && two !== undefined) yield* one.logout
        current = two ?? one
      } else if (draw < 0.3 && current !== undefined) {
        yield* current.logout
        current = undefined
      } else yield* this.on(life, this.send(life, key))
    }
    // some stay
    if (current !== undefined && (yield* Random.next) < 0.5) yield* current.logout
  })

  readonly engine: Effect.Effect<never, unknown, Scope.Scope> = Effect.suspend(() => {
    this.totals.engines++
    const share = (most: number) => this.isActive ? most : 0
    return TestBackplane.serve(this.world.network.host("engine"), 6379, {
      get losing() {
        return share(0.01)
      },
      get late() {
        return share(0.1)
      }
    })
  })

  private open(key: string): ReadonlyArray<Login> {
    return Array.from(this.logins.get(key) ?? []).filter(({ life, peer }) => peer.isOpen() && !life.isOver)
  }

  /** What is wrong with a key still, as one node sees it. */
  private wrong(key: string, name: string): Effect.Effect<string | undefined> {
    return Effect.gen({ self: this }, function*() {
      const life = this.lives.get(name)
      if (life === undefined || life.isOver) return `${name} is down`
      const [login] = this.open(key)
      const expected = login?.life.fleet.node
      const found = yield* this.on(life, Effect.option(life.fleet.where(key)))
      if (found?._tag !== "Some") return `${name} cannot ask where ${key} is`
      if (found.value?.node !== expected) {
        return `${name} finds ${key} on ${found.value?.node}, and it is on ${expected}`
      }
      const [message, outcome] = (yield* this.on(life, this.send(life, key))) ?? []
      if (outcome !== (login === undefined ? "offline" : "accepted")) return `a send of ${name} to ${key} is ${outcome}`
      if (login !== undefined && !login.peer.sent.includes(message!)) return `a send of ${name} to ${key} was lost`
      return undefined
    })
  }

  private reported: string | undefined

  /** One connection a key at most, and every node reaches it. */
  readonly isHealed: Effect.Effect<boolean> = Effect.gen({ self: this }, function*() {
    const twice = this.keys.find((key) => this.open(key).length > 1)
    let wrong = twice !== undefined
      ? `${twice} has two connections`
      : this.unsettled > 0
      ? `${this.unsettled} sends have no outcome`
      : undefined
    for (const key of this.keys) {
      for (const name of nodeNames) wrong ??= yield* this.wrong(key, name)
    }
    if (wrong !== this.reported && wrong !== undefined) yield* Effect.logInfo(wrong)
    this.reported = wrong
    return wrong === undefined
  })
}

/** The program of a simulation. */
export const program = (settings: Settings) => (world: Simulation.World) =>
  Effect.gen(function*() {
    const run = new Run(world, settings)
    yield* world.process("engine", run.engine)
    for (const name of nodeNames) yield* world.process(name, run.node(name))
    yield* Effect.forkScoped(run.users)
    for (let i = 0; i < settings.clients; i++) yield* Effect.forkScoped(run.client)
    yield* Effect.sleep("3 seconds")
    yield* world.storm
    run.isActive = false
    yield* world.eventually("one connection a key, which every node reaches", run.isHealed)
  })
