/**
 * The only place that forks. The caller says what the exit of a fiber means: it is told to its owner, the fiber is
 * restarted with one log line, or the exit is joined.
 *
 * In Effect 4.1 a child that ends, fails or dies tells its parent nothing, `forkScoped` neither, and the finalizers of a
 * parent run before its children are interrupted. So the exit of each fiber is watched here, and children are interrupted
 * and awaited before their parent goes on. One observer for a fiber: a race of three costs ten times as much (5 KB).
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { logError } from "../reasons/logs.ts"

/** Told of an exit, once; at once where the fiber ended before it waited for anything. Must not throw. */
export type OnExit<A, E> = (exit: Exit.Exit<A, E>) => void

/** What a fiber belongs to, where there may be a hundred thousand of them: an object takes the place of a closure for each. */
export interface Owner<in A, in E> {
  /** See `OnExit`. */
  readonly fiberEnded: (exit: Exit.Exit<A, E>) => void
}

/** How many fibers of one name run. */
interface Count {
  readonly name: string
  running: number
}

const counts = new Map<string, Count>()

/** The names of all fibers that run now and were forked here, and how many of each: for diagnosis. */
export const census = (): ReadonlyMap<string, number> =>
  new Map(Array.from(counts.values(), ({ name, running }) => [name, running]))

const began = (name: string): Count => {
  let count = counts.get(name)
  if (count === undefined) counts.set(name, count = { name, running: 0 })
  count.running++
  return count
}

const over = (count: Count): void => {
  // a name may be made for one fiber
  if (--count.running === 0) counts.delete(count.name)
}

/** Counts a fiber until its exit, of which its owner is told. */
const watched = <A, E>(
  name: string,
  fiber: Fiber.Fiber<A, E>,
  ended?: OnExit<A, E> | Owner<A, E>
): Fiber.Fiber<A, E> => {
  const count = began(name)
  fiber.addObserver((exit) => {
    over(count)
    if (typeof ended === "object") ended.fiberEnded(exit)
    else ended?.(exit)
  })
  return fiber
}

/** Logs from where there is no fiber: with the loggers of `context`. */
export const log = (context: Context.Context<never>, message: string, cause: Cause.Cause<unknown>): void => {
  Effect.runForkWith(context)(logError(message, cause))
}

/** Runs what waits for nothing. A third of what `Effect.runSync` costs, which makes a scheduler for each run. */
export const runNow = <A>(effect: Effect.Effect<A>): A => {
  const exit = Effect.runForkWith(Context.empty())(effect).pollUnsafe()
  if (exit?._tag !== "Success") throw new Error("what is run now must not wait or fail")
  return exit.value
}

/**
 * Forks, for synchronous code: the fiber runs at once, up to where it first waits. `ended` is told of its exit; the owner
 * interrupts the fiber when it ends itself.
 */
export const spawn = <A, E, R>(
  context: Context.Context<R>,
  name: string,
  effect: Effect.Effect<A, E, R>,
  ended: OnExit<A, E> | Owner<A, E>,
  options?: Pick<Effect.RunOptions, "scheduler" | "uninterruptible">
): Fiber.Fiber<A, E> => watched(name, Effect.runForkWith(context)(effect, options), ended)

/** `spawn`, which keeps the fiber in `fibers` for as long as it runs: its owner ends all of them when it ends itself. */
export const spawnAmong = <A, E, R>(
  fibers: Set<Fiber.Fiber<unknown, unknown>>,
  context: Context.Context<R>,
  name: string,
  effect: Effect.Effect<A, E, R>,
  ended: OnExit<A, E>
): Fiber.Fiber<A, E> => {
  let running: Fiber.Fiber<A, E>
  // before it does anything: what it runs at once may end its owner
  const kept = Effect.withFiber<A, E, R>((fiber) => {
    fibers.add(running = fiber as Fiber.Fiber<A, E>)
    return effect
  })
  return spawn(context, name, kept, (exit) => {
    fibers.delete(running)
    ended(exit)
  })
}

interface ForkOptions {
  readonly startImmediately?: boolean | undefined
  readonly uninterruptible?: boolean | undefined
}

/** Forks into a scope, whose end interrupts and awaits the fiber. `ended` is told of its exit. */
export const spawnIn = <A, E, R>(
  scope: Scope.Scope,
  name: string,
  effect: Effect.Effect<A, E, R>,
  ended: OnExit<A, E>,
  options: ForkOptions = {}
): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.map(Effect.forkIn(effect, scope, options), (fiber) => watched(name, fiber, ended))

/** Forks a child of the calling fiber, which joins it: not to join it is a mistake of the caller. */
export const joined = <A, E, R>(
  name: string,
  effect: Effect.Effect<A, E, R>,
  options: ForkOptions = {}
): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.map(Effect.forkChild(effect, options), (fiber) => watched(name, fiber))

/** As `joined`, for a fiber that lives as long as the scope of the caller. */
export const joinedScoped = <A, E, R>(
  name: string,
  effect: Effect.Effect<A, E, R>,
  options: ForkOptions = {}
): Effect.Effect<Fiber.Fiber<A, E>, never, R | Scope.Scope> =>
  Effect.map(Effect.forkScoped(effect, options), (fiber) => watched(name, fiber))

/** Forks what its caller does not wait for and cannot fail by itself: a failure or a defect is logged. */
export const background = <A, E, R>(
  scope: Scope.Scope,
  name: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<void, never, R> =>
  Effect.asVoid(
    joinedBy(scope, name, Effect.catchCause(effect, (cause) => logError(`${name} failed`, cause)))
  )

const joinedBy = <A, R>(
  scope: Scope.Scope,
  name: string,
  effect: Effect.Effect<A, never, R>
): Effect.Effect<Fiber.Fiber<A>, never, R> => Effect.map(Effect.forkIn(effect, scope), (fiber) => watched(name, fiber))

// so long after it ended: one that ends as soon as it begins must not take a core
const restartAfter = "1 second"

/**
 * Forks, for synchronous code, what has to go on until it is stopped. When it ends, fails, dies or is interrupted by
 * another fiber, it begins again a second later, and one log line says so. What this gives back stops it, and returns the
 * fiber to wait for.
 */
export const kept = <E, R>(
  context: Context.Context<R>,
  name: string,
  effect: Effect.Effect<unknown, E, R>
): () => Fiber.Fiber<unknown, E> => {
  let isStopping = false
  let fiber: Fiber.Fiber<unknown, E>
  const ended: OnExit<unknown, E> = (exit) => {
    if (isStopping) return
    log(context, `${name} ended and is restarted`, exit._tag === "Failure" ? exit.cause : Cause.empty)
    start(Effect.andThen(Effect.sleep(restartAfter), effect))
  }
  const start = (running: Effect.Effect<unknown, E, R>): void => {
    const started = spawn(context, name, running, ended)
    // one that ended at once has a successor already
    if (started.pollUnsafe() === undefined) fiber = started
  }
  start(effect)
  return () => {
    isStopping = true
    fiber.interruptUnsafe()
    return fiber
  }
}

/** As `kept`, for as long as the scope of the caller is open. */
export const restarted = <E, R>(
  name: string,
  effect: Effect.Effect<unknown, E, R>
): Effect.Effect<void, never, R | Scope.Scope> =>
  Effect.contextWith((context: Context.Context<R | Scope.Scope>) => {
    const stop = kept(context, name, effect)
    return Effect.addFinalizer(() => Effect.suspend(() => Fiber.await(stop())))
  })

/** What the owner of children is told. */
export interface Parent<in E> {
  /** A child has ended: the first one is the reason of the end. Must not throw. */
  readonly childEnded: (index: number, exit: Exit.Exit<never, E>) => void
}

const atOnce = { startImmediately: true } as const

/** The children of one fiber: forked together, and stopped together. */
export class Children<in out E> {
  readonly names: ReadonlyArray<string>
  /** In the order of their names. */
  readonly fibers: Array<Fiber.Fiber<never, E>>
  private forked = 0
  private readonly parent: Parent<E>
  // one bit for each child that has ended
  private ended = 0

  constructor(names: ReadonlyArray<string>, parent: Parent<E>) {
    this.names = names
    this.parent = parent
    // a copy has room for as many as there will be: an array that grows takes it for seventeen
    this.fibers = names.slice() as ReadonlyArray<unknown> as Array<never>
  }

  // one observer for all of them: the exit of a fiber is known before its observers are called
  private readonly told = (exit: Exit.Exit<never, E>): void => {
    for (let i = 0; i < this.forked; i++) {
      if ((this.ended & (1 << i)) !== 0 || this.fibers[i]!.pollUnsafe() === undefined) continue
      this.ended |= 1 << i
      over(counts.get(this.names[i]!)!)
      return this.parent.childEnded(i, exit)
    }
  }

  /** Forks them as children of the calling fiber, each up to where it first waits. */
  fork<R>(effects: ReadonlyArray<Effect.Effect<never, E, R>>): Effect.Effect<void, never, R> {
    const effect = effects[this.forked]
    return effect === undefined
      ? Effect.void
      : Effect.flatMap(Effect.forkChild(effect, atOnce), (fiber) => {
        began(this.names[this.forked]!)
        this.fibers[this.forked++] = fiber
        fiber.addObserver(this.told)
        return this.fork(effects)
      })
  }

  /** Interrupts all of them, once all are forked; the effect waits until the last one has ended. */
  stop(): Effect.Effect<void> {
    let isOver = true
    for (const fiber of this.fibers) {
      fiber.interruptUnsafe()
      if (fiber.pollUnsafe() === undefined) isOver = false
    }
    return isOver ? Effect.void : Effect.asVoid(Fiber.awaitAll(this.fibers))
  }
}
