/**
 * The contract of `effect/socket`, as checks to run against any implementation.
 *
 * `Socket` and `SocketServer` promise more than their types say: acquiring a reader dials, a pull fails when the scope of
 * its reader closes, a writer waits for a peer that does not read, nothing is lost, torn or reordered. Here each of
 * these promises is a named program that ends, and fails with what was expected and what was seen. They depend on
 * `effect` alone, so they run under any test runner and over any transport, in real time or on a virtual clock.
 *
 * **Example** (A transport of your own under vitest)
 *
 * ```ts
 * import { it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { Dialer, Listener } from "holdfast/node"
 * import { SocketContract } from "holdfast/testing"
 *
 * const tcp: SocketContract.Transport = {
 *   name: "tcp",
 *   messages: false,
 *   halfClose: true,
 *   listen: Effect.map(Listener.make("tcp://127.0.0.1:0"), (server) => ({ server, dial: Dialer.make(server.url) }))
 * }
 * for (const check of SocketContract.checksFor(tcp)) it.live(check.name, () => check.run(tcp))
 * ```
 *
 * @since 0.1.0
 */
import { missing } from "./internal/contract/check.ts"
import { closing } from "./internal/contract/closing.ts"
import { messages } from "./internal/contract/messages.ts"
import { opening } from "./internal/contract/opening.ts"
import { pressure } from "./internal/contract/pressure.ts"
import { serving } from "./internal/contract/serving.ts"
import { transfer } from "./internal/contract/transfer.ts"
import type { Check, Transport } from "./Transport.ts"

export * from "./Transport.ts"

/**
 * Every promise of the contract. Those that do not fit a transport fail, saying what it lacks; see `checksFor`.
 *
 * @category checks
 * @since 0.1.0
 */
export const checks: ReadonlyArray<Check> = [...opening, ...transfer, ...pressure, ...closing, ...messages, ...serving]

/**
 * The promises that a transport has to keep, from what it says of itself.
 *
 * **Details**
 *
 * - Nothing is dropped without a word: a transport says that it has no half-close, and is then checked for that.
 * - Each check listens anew and can run at the same time as others, except where `held` counts what others hold too.
 * - With a real network use the real clock (`it.live` of `@effect/vitest`, not `it.effect`, whose clock stands still).
 *
 * @category checks
 * @since 0.1.0
 */
export const checksFor = (transport: Transport): ReadonlyArray<Check> =>
  checks.filter((check) => missing(transport, check.needs).length === 0)
