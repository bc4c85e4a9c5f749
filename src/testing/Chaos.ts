/**
 * Points in a program at which a simulation may interfere.
 *
 * Faults of a network happen between programs; what goes wrong inside one (a slow disk, a lookup that fails, a fiber that
 * loses its turn) happens at points that its author names. FoundationDB calls this "buggify".
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type Draw, drawFrom } from "./internal/fabric/random.ts"
import { finite, refuse } from "./internal/fabric/settings.ts"

/**
 * What a point may do. One of these is chosen at random each time it interferes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<out E = never> {
  /** Waits for up to this long, at least a millisecond. */
  readonly delay?: Duration.Input | undefined
  /** Lets other fibers have up to ten turns. Default: true, unless something else is asked for. */
  readonly yields?: boolean | undefined
  /** Fails with what this makes. */
  readonly fail?: (() => E) | undefined
  /** How often a point that is active in a run interferes, from 0 to 1. Default 0.25. */
  readonly probability?: number | undefined
}

/**
 * Decides what happens at the points of one run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Chaos {
  /** Passes a point: it may be held up there, or fail, as the seed says. */
  readonly visit: <E>(name: string, options: Options<E>) => Effect.Effect<void, E>
  /** How often each point was passed, and how often it interfered. */
  readonly visits: () => ReadonlyMap<string, { readonly passed: number; readonly interfered: number }>
}

/**
 * The chaos of the run that a fiber belongs to: none, outside of simulations.
 *
 * @category references
 * @since 0.1.0
 */
export const Chaos: Context.Reference<Chaos | undefined> = Context.Reference<Chaos | undefined>(
  "holdfast/testing/Chaos",
  { defaultValue: () => undefined }
)

// as FoundationDB has it: in each run a quarter of all points, so that every combination has its turn
const active = 0.25

/**
 * Makes chaos from a seed. `Simulation.run` does it for its programs.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (seed: string | number): Chaos => {
  const points = new Map<
    string,
    { readonly draw: Draw; readonly isActive: boolean; passed: number; interfered: number }
  >()
  const pointOf = (name: string) => {
    let point = points.get(name)
    if (point === undefined) {
      const draw = drawFrom(String(seed), "chaos", name)
      point = { draw, isActive: draw() < active, passed: 0, interfered: 0 }
      points.set(name, point)
    }
    return point
  }
  return {
    visit: (name, { delay, fail, probability = 0.25, yields = delay === undefined && fail === undefined }) => {
      if (!(probability >= 0 && probability <= 1)) refuse("Chaos.probability", probability, "from 0 to 1")
      const point = pointOf(name)
      const { draw } = point
      point.passed++
      if (!point.isActive || draw() >= probability) return Effect.void
      point.interfered++
      const choices = [
        yields ? "yield" : undefined,
        delay === undefined ? undefined : "delay",
        fail === undefined ? undefined : "fail"
      ].filter((choice) => choice !== undefined)
      switch (choices[Math.floor(draw() * choices.length)]) {
        case "yield":
          return Effect.repeat(Effect.yieldNow, { times: Math.floor(draw() * 10) }).pipe(Effect.asVoid)
        case "delay":
          return Effect.sleep(1 + Math.floor(draw() * finite("Chaos.delay", delay!)))
        case "fail":
          return Effect.suspend(() => Effect.fail(fail!()))
        default:
          return Effect.void
      }
    },
    visits: () => points
  }
}

const inPlace = {}

/**
 * Marks a place where a simulation may wait, give way or fail, as the options say.
 *
 * **Details**
 *
 * Outside of a simulation it does nothing, for the price of one look at the fiber's context. In a simulation a quarter of
 * all points are active, drawn from the seed and the name; an active one interferes in a quarter of its visits.
 *
 * **Gotchas**
 *
 * Where a point may fail, the program has to be able to: give it only failures that happen there in earnest.
 *
 * **Example** (A session store that is slow at times, and unreachable at others)
 *
 * ```ts
 * class StoreUnreachable extends Schema.TaggedError<StoreUnreachable>()("StoreUnreachable", {}) {}
 *
 * const load = (id: string) =>
 *   Chaos.point("load session", { delay: "5 seconds", fail: () => new StoreUnreachable() }).pipe(
 *     Effect.as(`the session ${id}`)
 *   )
 * ```
 *
 * @category points
 * @since 0.1.0
 */
export const point = <E = never>(name: string, options: Options<E> = inPlace): Effect.Effect<void, E> =>
  Effect.withFiber((fiber) => {
    const chaos = fiber.getRef(Chaos)
    return chaos === undefined ? Effect.void : chaos.visit(name, options)
  })
