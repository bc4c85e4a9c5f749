/** Checks of the contract on a clock that jumps whenever nothing else can happen. */
import * as Effect from "effect/Effect"
import type { SocketContract } from "../../../src/testing/index.ts"
import { VirtualTime } from "../../../src/testing/internal/simulation/virtualTime.ts"

/** Runs an effect to its end, however long that takes; throws when it waits for something that never comes. */
export const runVirtual = <A, E>(what: string, effect: Effect.Effect<A, E>): A => {
  const time = new VirtualTime()
  const fiber = time.run(Effect.forkDetach(effect))
  time.advance(3_600_000, () => fiber.pollUnsafe() !== undefined)
  const exit = fiber.pollUnsafe()
  if (exit === undefined) throw new Error(`${what} never ends`)
  return time.run(exit)
}

/** What a check finds, if anything. */
export const violation = (
  check: SocketContract.Check,
  transport: SocketContract.Transport
): SocketContract.ContractViolation | undefined =>
  runVirtual(
    check.name,
    Effect.match(check.run(transport), { onFailure: (error) => error, onSuccess: () => undefined })
  )
