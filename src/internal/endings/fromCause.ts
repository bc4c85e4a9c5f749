/** The ends that this side makes, and what the exit of a fiber means as an end. */
import * as Cause from "effect/Cause"
import * as ConnectionError from "../../ConnectionError.ts"
import { withoutStack } from "../reasons/reason.ts"

/** The end that `close` makes. One for all connections: it has nothing to tell one from another. */
export const closedByUs = withoutStack(() => ConnectionError.make(new ConnectionError.Closed({ by: "local" })))

/**
 * The error of an exit: the one it failed with; a `Defect` by `by` where it died; interrupted, an end of ours. The
 * caller logs the defect.
 */
export const fromCause = (
  by: string,
  cause: Cause.Cause<ConnectionError.ConnectionError>
): ConnectionError.ConnectionError => {
  for (const reason of cause.reasons) if (reason._tag === "Fail") return reason.error
  return Cause.hasDies(cause) ? ConnectionError.make(new ConnectionError.Defect({ by, cause })) : closedByUs
}
