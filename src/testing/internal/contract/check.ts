/** A promise as a program: bounded as a whole, with its leaks, and with the name of what broke it. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import { spawn } from "../../../internal/scheduling/supervised.ts"
import type { Check, Need, Transport } from "./model.ts"
import { ContractViolation } from "./model.ts"
import { type Broken, broken, deadlineOf, describeExit } from "./steps.ts"

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

/** Makes a check of its body. */
export const check = (name: string, body: Body, needs: ReadonlyArray<Need> = []): Check => ({
  name,
  needs,
  run: (transport) => {
    const unmet = missing(transport, needs)
    const limit = Duration.times(deadlineOf(transport), 3)
    const whole = Effect.gen(function*() {
      const before = transport.held === undefined ? 0 : yield* transport.held
      yield* Effect.scoped(body(transport))
      yield* released(transport, before)
    })
    // no child, so that a release that hangs does not take the check with it; its exit is awaited, within a limit
    const bounded = Effect.gen(function*() {
      const fiber = spawn(yield* Effect.context<never>(), "check", whole, () => {})
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
