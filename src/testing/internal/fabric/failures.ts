/** The errors of sockets, with the codes that Node gives them. */
import * as Socket from "effect/socket/Socket"

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
