/** Gives a server its address: what the operating system says to it, and Unix socket files that were left behind. */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Path from "node:path"
import type { Address } from "./address.ts"
import { withZoneName } from "./zone.ts"

/** Why an address cannot be had, in the fields of a `ListenFailed`. */
export interface Refusal {
  readonly reason:
    | "AddressInUse"
    | "SocketFileInUse"
    | "PermissionDenied"
    | "AddressNotAvailable"
    | "HostNotFound"
    | "Unknown"
  readonly detail: string
  readonly cause: Error
}

/** What an error of the operating system means. */
export const explain = (address: Address, cause: NodeJS.ErrnoException): Refusal => {
  const unix = address.scheme === "unix"
  const as = (reason: Refusal["reason"], detail: string): Refusal => ({ reason, detail, cause })
  switch (cause.code) {
    case "EADDRINUSE":
      return unix
        ? as("SocketFileInUse", "another process is listening on this socket file")
        : as("AddressInUse", `port ${address.port} is in use by another socket; stop it or choose another port`)
    case "EACCES":
    case "EPERM":
      return unix
        ? as("PermissionDenied", "no permission to make the socket file; check who owns its directory")
        : as("PermissionDenied", `no permission to use port ${address.port}; ports below 1024 need a privilege`)
    case "EADDRNOTAVAIL":
      return as("AddressNotAvailable", "no network interface of this machine has this address")
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return as("HostNotFound", "the host name does not resolve to an address")
    default:
      return as("Unknown", cause.message)
  }
}

/** Starts to listen. A socket file without a listener is replaced. */
export const listen = (
  server: Net.Server,
  address: Address,
  backlog: number | undefined
): Effect.Effect<void, Refusal> => {
  const once = attempt(server, address, backlog)
  if (address.scheme !== "unix") return once
  return once.pipe(
    Effect.catchIf(
      ({ reason }) => reason === "SocketFileInUse",
      (refusal) =>
        Effect.flatMap(
          Effect.promise(() => removeStale(address.path)),
          (detail) => detail === undefined ? once : Effect.fail({ ...refusal, detail })
        )
    ),
    // libuv says EACCES when the directory is missing (as Windows does)
    Effect.catchIf(
      ({ reason }) => reason === "PermissionDenied",
      (refusal) =>
        Effect.flatMap(Effect.promise(() => exists(Path.dirname(address.path))), (there) =>
          Effect.fail<Refusal>(
            there
              ? refusal
              : { ...refusal, reason: "AddressNotAvailable", detail: "the directory of the socket file does not exist" }
          ))
    )
  )
}

const attempt = (
  server: Net.Server,
  address: Address,
  backlog: number | undefined
): Effect.Effect<void, Refusal> =>
  Effect.callback((resume) => {
    const done = () => {
      server.off("listening", onListening)
      server.off("error", onError)
    }
    const onListening = () => {
      done()
      resume(Effect.void)
    }
    const onError = (cause: NodeJS.ErrnoException) => {
      done()
      resume(Effect.fail(explain(address, cause)))
    }
    server.once("listening", onListening)
    server.once("error", onError)
    server.listen({
      ...(address.scheme === "unix"
        ? { path: address.path }
        : { host: withZoneName(address.host), port: address.port }),
      ...(backlog === undefined ? {} : { backlog })
    })
    return Effect.sync(done)
  })

const exists = (path: string): Promise<boolean> => Fs.access(path).then(() => true, () => false)

/** Removes a socket file without a listener; otherwise says what is in the way. */
const removeStale = async (path: string): Promise<string | undefined> => {
  const before = await Fs.lstat(path).catch(() => undefined)
  if (before === undefined) return undefined
  // connecting to a plain file is refused as well: never remove one
  if (!before.isSocket()) return "there is a file of this name, and it is no socket; remove it or choose another path"
  const code = await new Promise<string>((resolve) => {
    const probe = Net.createConnection({ path })
    probe.once("connect", () => {
      probe.destroy()
      resolve("")
    })
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })
  if (code === "") return "another process is listening on this socket file"
  if (code === "ENOENT") return undefined
  if (code !== "ECONNREFUSED") return `the socket file exists and cannot be checked (${code})`
  const after = await Fs.lstat(path).catch(() => undefined)
  if (after === undefined) return undefined
  if (after.ino !== before.ino) return "another process has just begun to listen on this socket file"
  return Fs.unlink(path).then(
    () => undefined,
    (error: NodeJS.ErrnoException) => `the socket file of a dead process cannot be removed (${error.code})`
  )
}
