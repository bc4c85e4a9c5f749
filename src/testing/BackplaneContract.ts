/**
 * The contract of `Backplane.Engine`, as checks to run against any engine.
 *
 * What a fleet promises rests on what its engine does: tokens that grow, leases that end, an inbox that keeps the order or
 * tells a gap. Here each of these is a named program that ends, and fails with what was expected and what was seen. They
 * depend on `effect` alone, so they run under any test runner, in real time or on a virtual clock.
 *
 * **Example** (The engine in memory, under vitest)
 *
 * ```ts
 * import { it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { Backplane } from "holdfast"
 * import { BackplaneContract } from "holdfast/testing"
 *
 * const memory: BackplaneContract.Subject = {
 *   name: "memory",
 *   open: Effect.map(Backplane.memory, (engine) => ({ connect: Effect.succeed(engine) }))
 * }
 * for (const check of BackplaneContract.checks) it.live(check.name, () => check.run(memory))
 * ```
 *
 * @since 0.1.0
 */
import { claims } from "./internal/backplane/claims.ts"
import { inboxes } from "./internal/backplane/inboxes.ts"
import { leases } from "./internal/backplane/leases.ts"
import type { Check } from "./internal/backplane/steps.ts"

export type {
  /** @since 0.1.0 */
  Check,
  /** @since 0.1.0 */
  Opened,
  /** @since 0.1.0 */
  Subject
} from "./internal/backplane/steps.ts"

/**
 * Every promise of the contract. Each begins an engine of its own, and joins nodes named `a`, `b` and `c`.
 *
 * @category checks
 * @since 0.1.0
 */
export const checks: ReadonlyArray<Check> = [...claims, ...leases, ...inboxes]
