/** Nodes of a fleet over one engine in memory, each with a switch between it and the engine. */
import { Effect, Exit, Random, Scope } from "effect"
import { Backplane, Fleet } from "../../../src/index.ts"
import { fake } from "./fake.ts"

type Mode = "up" | "down" | "silent"

/** An engine that fails or never answers while it is told to. */
export class Switch {
  mode: Mode = "up"
  /** Batches that are lost on their way to the engine. */
  losing = 0
  /** By how many milliseconds the answer to the next claim is late. */
  late = 0
  /** By how many milliseconds the answer to the next question for a holder is late. */
  lateFind = 0
  /** By how many milliseconds the answer to the next release is late. */
  lateRelease = 0
  /** By how many milliseconds the answer to the next question for the nodes is late. */
  lateNodes = 0
  /** How many milliseconds each claim takes, how many are under way, and how many were at once. */
  claimTakes = 0
  claiming = 0
  mostClaiming = 0
  /** How many milliseconds the engine takes for each batch of this node. */
  slow = 0
  private readonly inner: Backplane.Engine
  private failing = new Set<() => void>()

  constructor(inner: Backplane.Engine) {
    this.inner = inner
  }

  set(mode: Mode): void {
    this.mode = mode
    if (mode === "down") { for (const fail of Array.from(this.failing)) fail() }
    if (mode === "up") { for (const fail of Array.from(this.failing)) fail() }
  }

  private through<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | Backplane.BackplaneError> {
    return Effect.suspend((): Effect.Effect<A, E | Backplane.BackplaneError> => {
      if (this.mode === "silent") return Effect.never
      return this.mode === "down" ? Effect.fail(new Backplane.BackplaneError({ reason: "unreachable" })) : effect
    })
  }

  /** A subscription that ends when the engine goes down, and delivers nothing while it is silent. */
  private take(take: Backplane.Session["take"]): Backplane.Session["take"] {
    return Effect.suspend(() => {
      const changed = Effect.callback<"changed">((resume) => {
        const fail = () => resume(Effect.succeed("changed"))
        this.failing.add(fail)
        return Effect.sync(() => this.failing.delete(fail))
      })
      if (this.mode === "down") return Effect.fail(new Backplane.BackplaneError({ reason: "unreachable" }))
      const waits = this.mode === "silent" ? changed : Effect.raceFirst(take, changed)
      return Effect.flatMap(waits, (arrivals) => arrivals === "changed" ? this.take(take) : Effect.succeed(arrivals))
    })
  }

  readonly engine: Backplane.Engine = {
    name: "switch",
    largest: 1_048_576,
    join: (options) =>
      Effect.suspend(() => {
        if (this.mode === "silent") return Effect.never
        if (this.mode === "down") return Effect.fail(new Backplane.BackplaneError({ reason: "unreachable" }))
        return Effect.map(this.inner.join(options), (session): Backplane.Session => ({
          ...session,
          renew: (isLeaving) => this.through(session.renew(isLeaving)),
          nodes: this.through(Effect.suspend(() => {
            const { lateNodes } = this
            this.lateNodes = 0
            return Effect.tap(session.nodes, lateNodes === 0 ? Effect.void : Effect.sleep(lateNodes))
          })),
          claim: (key, how) =>
            this.through(Effect.suspend(() => {
              const late = this.late + this.claimTakes
              this.late = 0
              this.mostClaiming = Math.max(this.mostClaiming, ++this.claiming)
              return Effect.ensuring(
                Effect.tap(session.claim(key, how), late === 0 ? Effect.void : Effect.sleep(late)),
                Effect.sync(() => this.claiming--)
              )
            })),
          release: (key, token) =>
            this.through(Effect.suspend(() => {
              const { lateRelease } = this
              this.lateRelease = 0
              return Effect.tap(
                session.release(key, token),
                lateRelease === 0 ? Effect.void : Effect.sleep(lateRelease)
              )
            })),
          find: (key) =>
            this.through(Effect.suspend(() => {
              const { lateFind } = this
              this.lateFind = 0
              return Effect.tap(session.find(key), lateFind === 0 ? Effect.void : Effect.sleep(lateFind))
            })),
          publish: (node, batch) =>
            this.through(Effect.suspend(() => {
              if (this.losing === 0) {
                return Effect.tap(session.publish(node, batch), this.slow === 0 ? Effect.void : Effect.sleep(this.slow))
              }
              this.losing--
              return Effect.succeed("sent" as const)
            })),
          take: this.take(session.take),
          leave: this.through(session.leave)
        }))
      })
  }
}

export const lease = 6000

/** What the nodes take of chance: the least, each time. */
const least = Random.Random.of({ nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0 })

/** How long a node waits between two renewals: 0.9 to 1 of a third of its lease, by chance. */
export const renewal = 0.9 * lease / 3

/** A node, its switch, and logins on it. */
export const node = (memory: Backplane.Engine, options: Omit<Fleet.Options<string>, "engine"> = {}) =>
  Effect.gen(function*() {
    const link = new Switch(memory)
    const scope = yield* Scope.make()
    const made = Fleet.make<string>({
      lease,
      ...options,
      engine: link.engine,
      registry: { history: 0, ...options.registry }
    })
    const fleet = yield* Effect.provideService(Scope.provide(made, scope), Random.Random, least)
    yield* Effect.addFinalizer(() => Effect.andThen(Effect.sync(() => link.set("down")), Scope.close(scope, Exit.void)))
    return {
      fleet,
      link,
      /** Registers a connection; `logout` ends it. */
      login: (key: string, tags: ReadonlyArray<string> = [], options: Parameters<typeof fake>[0] = {}) =>
        Effect.gen(function*() {
          const peer = fake(options)
          const scope = yield* Scope.make()
          yield* Effect.onError(
            Scope.provide(fleet.registry.add(peer.connection, { key, tags }), scope),
            (cause) => Scope.close(scope, Exit.failCause(cause))
          )
          const logout = Effect.suspend(() => {
            peer.end()
            return Scope.close(scope, Exit.void)
          })
          return { ...peer, logout }
        }),
      stop: Scope.close(scope, Exit.void)
    }
  })

export type TestNode = Effect.Success<ReturnType<typeof node>>
