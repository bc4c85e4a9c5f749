/** What an HTTP server tells its application: connections refused before they speak HTTP, logged together, and memory that is tight. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Net from "node:net"
import type * as ConnectionError from "../../../ConnectionError.ts"
import { Reports } from "../../../internal/endings/reports.ts"
import type { Budget } from "../../../internal/memory/budget.ts"
import { logLine } from "../../../internal/reasons/logs.ts"
import { timersOf } from "../../../internal/scheduling/timers.ts"
import type { Limit } from "../../../internal/server/admission.ts"
import { logged } from "../../../internal/server/logs.ts"
import { reasonOf, Refusals, refusedBy } from "../../../internal/server/reception.ts"
import type { Failure } from "../../../internal/transport/accepted.ts"
import type { Policy } from "../../../Policy.ts"
import { longestTimer } from "../options.ts"
import { noop } from "../stream/tcp.ts"
import type { Settings } from "./settings.ts"

/**
 * What an HTTP server tells of.
 *
 * - `Refused`: a connection was refused before its first request, by a limit (`Refused`), in its TLS handshake
 *   (`CertificateRefused`, `HandshakeFailed`, `HandshakeTimeout`), or for a `PROXY` header that cannot be read
 *   (`HandshakeFailed` with a `ProxyHeaderInvalid`). `remote` is the peer's end, as text: the proxy's, where that has named
 *   no client.
 * - `MemoryTight`: the connections hold half of `limit`, the memory that they may (`Policy.memory`): those that hold
 *   most are not read, and new ones wait. `MemoryFreed`: no longer. Both in bytes.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | {
    readonly _tag: "Refused"
    readonly remote: string | undefined
    readonly reason: ConnectionError.Reason
  }
  | {
    readonly _tag: "MemoryTight" | "MemoryFreed"
    readonly held: number
    readonly limit: number
  }

export type OnEvent = (event: Event) => Effect.Effect<void>

const closedEarly = new Error("the connection closed before its handshake was done")

export class Refusing {
  /** The server closes: what is cut by that is refused by nothing. */
  isClosed = false
  private readonly policy: Policy
  /** In milliseconds. */
  private readonly limit: number
  private readonly context: Context.Context<never>
  private readonly onEvent: OnEvent | undefined
  private readonly refusals: Refusals
  private readonly reports: Reports

  constructor({ handshake, policy }: Settings, context: Context.Context<never>, onEvent: OnEvent | undefined) {
    this.policy = policy
    this.limit = handshake || longestTimer
    this.context = context
    this.onEvent = onEvent
    this.reports = new Reports(context)
    this.refusals = new Refusals(timersOf(context), (text) => this.log(logLine("Warn", text)))
  }

  limited(remote: string | undefined, limit: Limit): void {
    this.refused(remote, refusedBy(limit, this.policy))
  }

  /** Bounds what a connection has ahead before it speaks HTTP: that is `done` in time, or the application is told why not. */
  ahead(conn: Net.Socket, remote: string | undefined, onSettled = noop) {
    const { context, limit } = this
    let isSettled = false
    const done = (): void => {
      if (isSettled) return
      isSettled = true
      timer.cancel()
      conn.off("close", onClose)
      onSettled()
    }
    const fail = (failure: Failure, isToldWhy = false): void => {
      if (isSettled) return
      done()
      this.refused(remote, reasonOf(failure))
      if (!isToldWhy) conn.destroy()
    }
    const onClose = (): void => this.isClosed ? done() : fail({ _tag: "Failed", cause: closedEarly })
    const timer = timersOf(context).after(limit, () => fail({ _tag: "Timeout", limit }))
    conn.once("close", onClose)
    return { done, fail }
  }

  /** Logs what was not logged yet, and waits until the application has heard all: not for ever. */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.refusals.flush()
    return this.reports.end()
  })

  /** What the memory of all connections comes to. */
  memory(_tag: "MemoryTight" | "MemoryFreed", { held, limit }: Budget): void {
    const event = { _tag, held, limit }
    this.log(logged(event))
    this.tell(event)
  }

  private refused(remote: string | undefined, reason: ConnectionError.Reason): void {
    this.refusals.add(reason)
    this.tell({ _tag: "Refused", remote, reason })
  }

  private tell(event: Event): void {
    const { onEvent } = this
    if (onEvent === undefined) return
    this.reports.run("onEvent of an HTTP server", () => onEvent(event))
  }

  private log(line: Effect.Effect<void>): void {
    this.reports.run("log of an HTTP server", () => line)
  }
}
