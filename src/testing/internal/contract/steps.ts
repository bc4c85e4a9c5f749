/** What the steps of a check are made of: each is bounded, and says what was expected and what was seen. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Supervised from "../../../internal/scheduling/supervised.ts"
import { difference } from "./bytes.ts"
import type { Transport } from "./model.ts"

/** A promise that was not kept, before it is known whose and in which check. */
export class Broken extends Data.TaggedError("Broken")<{ readonly expected: string; readonly seen: string }> {}

export const broken = (expected: string, seen: string): Effect.Effect<never, Broken> =>
  Effect.fail(new Broken({ expected, seen }))

export const expect = (holds: boolean, expected: string, seen: string): Effect.Effect<void, Broken> =>
  holds ? Effect.void : broken(expected, seen)

/** Fails unless these are the bytes. */
export const expectBytes = (seen: Uint8Array, wanted: Uint8Array, expected: string): Effect.Effect<void, Broken> => {
  const problem = difference(seen, wanted)
  return problem === undefined ? Effect.void : broken(expected, problem)
}

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
