/** A check of the contract and the steps it is made of: each is bounded, and says what was expected and what was seen. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Supervised from "../../../internal/scheduling/supervised.ts"
import { type Check, ContractViolation, type Need, type Transport } from "../../Transport.ts"
import { count, interval } from "../fabric/settings.ts"

// ---------------------------------------------------------------------------------------------------------------------
// checks
// ---------------------------------------------------------------------------------------------------------------------

/** The body of a check. */
export type Body = (transport: Transport) => Effect.Effect<void, Broken, Scope.Scope>

const has: Record<Need, (transport: Transport) => boolean> = {
  stream: (transport) => !transport.messages,
  messages: (transport) => transport.messages,
  "half-close": (transport) => transport.halfClose,
  "no half-close": (transport) => !transport.halfClose,
  redial: (transport) => transport.redial !== false,
  abort: (transport) => transport.abort !== undefined
}

export const missing = (transport: Transport, needs: ReadonlyArray<Need>): ReadonlyArray<Need> =>
  needs.filter((need) => !has[need](transport))

/** Fails unless what the implementation holds goes back to what it was. */
const released = (transport: Transport, before: number): Effect.Effect<void, Broken> =>
  Effect.gen(function*() {
    const { held } = transport
    if (held === undefined) return
    let now = yield* held
    const goes = Effect.gen(function*() {
      while (now > before) {
        yield* Effect.sleep(5)
        now = yield* held
      }
    })
    yield* Effect.timeoutOrElse(goes, {
      duration: deadlineOf(transport),
      orElse: () => broken(`everything to be released: ${before} held before the check`, `${now} after it`)
    })
  })

/** Throws where options of a transport would make its checks check nothing. */
const checkOptions = ({ bulk = 1, capacity = 1, deadline = 1, quiet = 1 }: Transport): void => {
  interval("deadline", deadline)
  interval("quiet", quiet)
  count("capacity", capacity, 1)
  count("bulk", bulk, 1)
}

/** Makes a check of its body. */
export const check = (name: string, body: Body, needs: ReadonlyArray<Need> = []): Check => ({
  name,
  needs,
  run: (transport) => {
    checkOptions(transport)
    const unmet = missing(transport, needs)
    const limit = Duration.times(deadlineOf(transport), 3)
    const whole = Effect.gen(function*() {
      const before = transport.held === undefined ? 0 : yield* transport.held
      yield* Effect.scoped(body(transport))
      yield* released(transport, before)
    })
    // no child, so that a release that hangs does not take the check with it; its exit is awaited, within a limit
    const bounded = Effect.gen(function*() {
      const fiber = Supervised.spawn(yield* Effect.context<never>(), "check", whole, () => {})
      const exit = yield* Fiber.await(fiber).pipe(
        Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.undefined }),
        Effect.onInterrupt(() => Fiber.interrupt(fiber))
      )
      if (exit === undefined) {
        fiber.interruptUnsafe()
        return yield* broken("the check and all releases to end", `them still running after ${Duration.format(limit)}`)
      }
      return yield* exit
    })
    return (unmet.length > 0 ? broken(`a transport with ${unmet.join(" and ")}`, "one without") : bounded).pipe(
      Effect.catchCause((cause) => {
        const failure = cause.reasons.find(Cause.isFailReason)?.error
        if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
        const { expected, seen } = failure ?? { expected: "no defect", seen: describeExit(Exit.failCause(cause)) }
        return Effect.fail(new ContractViolation({ transport: transport.name, check: name, expected, seen }))
      }),
      // handlers that fail are part of it, and servers log them
      Effect.provideService(References.MinimumLogLevel, "None")
    )
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// steps
// ---------------------------------------------------------------------------------------------------------------------

/** A promise that was not kept. `check` adds the names of the transport and the check. */
export class Broken extends Data.TaggedError("Broken")<{ readonly expected: string; readonly seen: string }> {}

export const broken = (expected: string, seen: string): Effect.Effect<never, Broken> =>
  Effect.fail(new Broken({ expected, seen }))

export const expect = (holds: boolean, expected: string, seen: string): Effect.Effect<void, Broken> =>
  holds ? Effect.void : broken(expected, seen)

export const deadlineOf = (transport: Transport): Duration.Duration =>
  Duration.fromInputUnsafe(transport.deadline ?? "5 seconds")

/** A step that has to end in time. `expected` is what it should have come to. */
export const within = <A, E, R>(
  transport: Transport,
  expected: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | Broken, R> => {
  const deadline = deadlineOf(transport)
  return Effect.timeoutOrElse(effect, {
    duration: deadline,
    orElse: () => broken(expected, `nothing within ${Duration.format(deadline)}`)
  })
}

/** Begins a step beside the check, which looks at its exit later. */
export const begin = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Supervised.joined("step", effect, { startImmediately: true })

/** As `begin`, until the end of the check's scope. */
export const beginScoped = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Fiber.Fiber<A, E>, never, R | Scope.Scope> =>
  Supervised.joinedScoped("step", effect, { startImmediately: true })

/** Lets time pass in which nothing should happen. */
export const quiet = (transport: Transport): Effect.Effect<void> => Effect.sleep(transport.quiet ?? "50 millis")

/** Fails unless the fiber is suspended, and stays so for a while. */
export const staysSuspended = (
  transport: Transport,
  what: string,
  fiber: Fiber.Fiber<unknown, unknown>
): Effect.Effect<void, Broken> =>
  Effect.flatMap(quiet(transport), () => {
    const exit = fiber.pollUnsafe()
    return exit === undefined ? Effect.void : broken(`${what} to stay suspended`, describeExit(exit))
  })

/** How a step ended: with a value or a `SocketError`; a defect or a hang breaks the contract. */
export const settle = <A, R>(
  transport: Transport,
  expected: string,
  effect: Effect.Effect<A, Socket.SocketError, R>
): Effect.Effect<Exit.Exit<A, Socket.SocketError>, Broken, R> =>
  Effect.flatMap(
    within(transport, expected, Effect.exit(effect)),
    (exit) =>
      Exit.isSuccess(exit) ||
        exit.cause.reasons.every((reason) => Cause.isFailReason(reason) && Socket.isSocketError(reason.error))
        ? Effect.succeed(exit)
        : broken(`${expected}, or a SocketError`, describeExit(exit))
  )

/** A step that has to succeed. */
export const succeeds = <A, R>(
  transport: Transport,
  expected: string,
  effect: Effect.Effect<A, Socket.SocketError, R>
): Effect.Effect<A, Broken, R> =>
  Effect.flatMap(
    settle(transport, expected, effect),
    (exit) => Exit.isSuccess(exit) ? Effect.succeed(exit.value) : broken(expected, describeExit(exit))
  )

/** A step that has to fail with a `SocketError`. */
export const fails = <R>(
  transport: Transport,
  expected: string,
  effect: Effect.Effect<unknown, Socket.SocketError, R>
): Effect.Effect<Socket.SocketError, Broken, R> =>
  Effect.flatMap(settle(transport, expected, effect), (exit) =>
    Exit.isSuccess(exit)
      ? broken(expected, describeExit(exit))
      : Effect.succeed(Cause.squash(exit.cause) as Socket.SocketError))

export const describeError = ({ reason }: Socket.SocketError): string => {
  if (reason._tag === "SocketCloseError") {
    return `SocketCloseError ${reason.code}${reason.closeReason ? ` "${reason.closeReason}"` : ""}`
  }
  const cause = "cause" in reason && reason.cause instanceof Error ? reason.cause.message : ""
  return cause === "" ? reason._tag : `${reason._tag} (${cause})`
}

export const describeExit = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) {
    return exit.value === undefined ? "success" : `success with ${describeValue(exit.value)}`
  }
  return exit.cause.reasons.map((reason) =>
    Cause.isFailReason(reason)
      ? Socket.isSocketError(reason.error) ? describeError(reason.error) : describeValue(reason.error)
      : Cause.isDieReason(reason)
      ? `a defect: ${describeValue(reason.defect)}`
      : "an interruption"
  ).join(" and ")
}

export const describeValue = (value: unknown): string => {
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`
  if (typeof value === "string") {
    return value.length > 60
      ? `a text of ${value.length} characters`
      : JSON.stringify(value)
  }
  if (Array.isArray(value)) {
    return `[${value.slice(0, 5).map(describeValue).join(", ")}${value.length > 5 ? ", ..." : ""}]`
  }
  return value instanceof Error ? value.message : String(value)
}
