/** The errors of sockets with the codes that Node gives them, and the operations that a test lets fail. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { Injection } from "../../Network.ts"
import { countOrAll, refuse } from "./settings.ts"

type Syscall = "connect" | "read" | "write" | "listen" | "accept" | "getaddrinfo"

/** What Node would report: `message` and `code`. */
export const systemError = (syscall: Syscall, code: string, detail = ""): Error & { readonly code: string } =>
  Object.assign(new Error(`${syscall} ${code}${detail === "" ? "" : ` ${detail}`}`), { code, syscall })

export const openError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })

export const readError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketReadError({ cause }) })

export const writeError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause }) })

export const closeError = (code: number, closeReason?: string): Socket.SocketError =>
  new Socket.SocketError({
    reason: new Socket.SocketCloseError({ code, ...(closeReason === undefined ? {} : { closeReason }) })
  })

const operations = new Set<Injection["operation"]>(["listen", "dial", "accept", "read", "write"])

/** The failures that a test has asked for. */
export class Injections {
  private injections: Array<{ readonly wanted: Injection; left: number }> = []

  /** Operations fail until as many did as wanted, or the scope closes. `began`: it holds from now on. */
  add(wanted: Injection, began: () => void): Effect.Effect<void, never, Scope.Scope> {
    const injection = { wanted, left: wanted.times ?? 1 }
    if (!operations.has(wanted.operation)) refuse("inject.operation", wanted.operation, [...operations].join(", "))
    if (wanted.error === undefined) refuse("inject.error", wanted.error, "what the operation fails with")
    countOrAll("inject.times", injection.left, 1)
    return Effect.acquireRelease(
      Effect.sync(() => {
        this.injections.push(injection)
        began()
      }),
      () =>
        Effect.sync(() => {
          this.injections = this.injections.filter((other) => other !== injection)
        })
    )
  }

  /** What this operation of a host has to fail with, if a test wants that. */
  next(operation: Injection["operation"], host: string): unknown {
    if (this.injections.length === 0) return undefined
    const found = this.injections.find(({ left, wanted }) =>
      wanted.operation === operation && left > 0 && (wanted.host ?? host) === host
    )
    if (found === undefined) return undefined
    found.left--
    return found.wanted.error
  }
}
