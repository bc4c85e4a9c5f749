/** Says in the log that a process has no file descriptor left: libuv closes connections that come then, and tells Node nothing. */
import type * as Context from "effect/Context"
import { readFileSync } from "node:fs"
import type * as Net from "node:net"
import { logLine } from "../../../internal/reasons/logs.ts"
import * as Supervised from "../../../internal/scheduling/supervised.ts"

const noop = (): void => {}

// milliseconds between two lines about it
const quiet = 60_000

/** How many descriptors this process may have; undefined where the system does not tell. */
const descriptorLimit = (): number | undefined => {
  try {
    const found = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))
    return found === null ? undefined : Number(found[1])
  } catch {
    return undefined
  }
}

/** A socket that Node accepted. */
interface Accepted extends Net.Socket {
  readonly _handle?: { readonly fd?: number } | null
}

/**
 * Watches what a server accepts. The kernel gives the lowest number that is free: a connection that has the highest possible one
 * took the last descriptor.
 */
export const watchDescriptors = (server: Net.Server, context: Context.Context<never>): void => {
  let limit = descriptorLimit()
  let toldAt = -Infinity
  server.on("connection", ({ _handle }: Accepted) => {
    if (limit === undefined || _handle?.fd !== limit - 1) return
    const at = performance.now()
    if (at - toldAt < quiet) return
    // where there is none left, this file cannot be opened either; the limit may have been raised
    const raised = descriptorLimit()
    if (raised !== undefined) {
      limit = raised
      return
    }
    toldAt = at
    const text =
      `all ${limit} file descriptors of this process are in use: the system closes connections that come now, ` +
      "and nothing else tells of them. Raise `ulimit -n`, or have `maxConnections` below it"
    Supervised.spawn(context, "log", logLine("Warn", text), noop)
  })
}
