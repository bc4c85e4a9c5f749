/** What is known of the request that a connection, or a route, came from: given to its fibers. */
import * as Context from "effect/Context"
import type { Compression } from "../../../internal/transport/compression.ts"
import type { Request } from "./request.ts"

/** A request that was let in. */
export interface Accepted {
  readonly request: Request
  /** What let it in: sessions are those of one hook. */
  readonly by: object | undefined
  /** What `by` found out. */
  readonly session: unknown
  /** What both ends agreed to about compression. */
  readonly compression?: Compression | undefined
}

export const Accepted: Context.Reference<Accepted | undefined> = Context.Reference<Accepted | undefined>(
  "holdfast/node/Upgrade/Accepted",
  {
    defaultValue: () => undefined
  }
)
