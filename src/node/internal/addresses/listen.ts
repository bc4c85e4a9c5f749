/** Gives a server its address, and says what the operating system says to it. */
import * as Effect from "effect/Effect"
import type * as Net from "node:net"
import * as Path from "node:path"
import { type Descriptor, take } from "./activation.ts"
import { type Address, isAbstract, pipeOf } from "./address.ts"
import type { Binding, Refusal } from "./binding.ts"
import * as SocketFile from "./socketFile.ts"
import { worker } from "./worker.ts"
import { isLinkLocal, withZoneName, wrongZone } from "./zone.ts"

export type { Binding, Refusal } from "./binding.ts"

/** What an error of the operating system means. */
export const explain = (address: Address, cause: NodeJS.ErrnoException): Refusal => {
  const unix = address.scheme === "unix"
  const as = (reason: Refusal["reason"], detail: string): Refusal => ({ reason, detail, cause })
  switch (cause.code) {
    case "EADDRINUSE":
      if (unix && isAbstract(address.path)) {
        return as("AddressInUse", "another process has this name; stop it or choose another name")
      }
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
    case "EINVAL":
      return unix || !isLinkLocal(address.host)
        ? as("Unknown", cause.message)
        : as("AddressNotAvailable", wrongZone(address.host))
    default:
      return as("Unknown", cause.message)
  }
}

/** What a listener does at its end besides closing: nothing, or removing its socket file. */
export type Release = Effect.Effect<void>

/** Starts to listen; in a worker its parent does. A socket file without a listener is replaced. */
export const listen = (server: Net.Server, address: Address, binding: Binding): Effect.Effect<Release, Refusal> =>
  worker()?.listen(server, address, binding) ?? listenHere(server, address, binding)

const listenHere = (server: Net.Server, address: Address, binding: Binding): Effect.Effect<Release, Refusal> => {
  const { backlog, fd, ipv6Only, reusePort } = binding
  if (fd !== undefined) return listenOnDescriptor(server, address, fd, backlog)
  if (address.scheme !== "unix") {
    const host = withZoneName(address.host)
    return Effect.as(attempt(server, address, { host, port: address.port, backlog, ipv6Only, reusePort }), Effect.void)
  }
  if (!isAbstract(address.path)) return listenOnFile(server, address, binding)
  return Effect.map(attempt(server, address, { path: pipeOf(address.path), backlog }), () => {
    Object.assign(server, { address: () => address.path })
    return Effect.void
  })
}

const listenOnDescriptor = (
  server: Net.Server,
  address: Address,
  descriptor: Descriptor,
  backlog: number
): Effect.Effect<Release, Refusal> =>
  Effect.gen(function*() {
    const fd = yield* Effect.mapError(
      Effect.suspend(() => Effect.fromResult(take(descriptor))),
      (detail): Refusal => ({ reason: "BadOption", detail, cause: new Error(detail) })
    )
    yield* Effect.mapError(attempt(server, address, { fd, backlog }), ({ cause }): Refusal => ({
      reason: "Unknown",
      detail: `the descriptor ${fd} is no socket that can listen (${cause.message})`,
      cause
    }))
    if (address.scheme === "unix") {
      // Node does not know the name of one that was inherited
      Object.assign(server, { address: () => address.path })
    } else if (typeof server.address() !== "object" || server.address() === null) {
      server.close()
      const detail = `the descriptor ${fd} is no TCP socket, which ${address.scheme}:// is about`
      return yield* Effect.fail<Refusal>({ reason: "BadOption", detail, cause: new Error(detail) })
    }
    return Effect.void
  })

const listenOnFile = (
  server: Net.Server,
  address: Address & { readonly scheme: "unix" },
  { backlog, mode, owner, reusePort }: Binding
): Effect.Effect<Release, Refusal> => {
  const { path } = address
  const placed = (name: string) =>
    Effect.tryPromise({
      try: () => SocketFile.place(name, path, { mode, owner, takeOver: reusePort }),
      catch: (cause) =>
        cause instanceof SocketFile.NotOurs
          ? { reason: "PermissionDenied" as const, detail: cause.message, cause }
          : explain(address, cause as NodeJS.ErrnoException)
    }).pipe(
      Effect.flatMap((placed) => {
        const cause = new Error(`EADDRINUSE: ${path}`)
        return typeof placed === "string"
          ? Effect.fail<Refusal>({ reason: "SocketFileInUse", detail: placed, cause })
          : Effect.succeed(placed)
      }),
      Effect.tapError(() => Effect.sync(() => server.close()))
    )
  const listening = Effect.suspend(() => {
    const name = SocketFile.nameBeside(path)
    return Effect.flatMap(attempt(server, address, { path: name, backlog }), () => placed(name))
  })
  return Effect.uninterruptible(listening).pipe(
    Effect.map(({ remove }) => {
      // the name that it has now
      Object.assign(server, { address: () => path })
      return Effect.promise(remove)
    }),
    // libuv says EACCES when the directory is missing (as Windows does)
    Effect.catchIf(
      ({ reason }) => reason === "PermissionDenied",
      (refusal) =>
        Effect.flatMap(Effect.promise(() => SocketFile.exists(Path.dirname(path))), (there) =>
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
  options: Net.ListenOptions & { readonly fd?: number }
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
    try {
      server.listen(options)
    } catch (cause) {
      onError(cause as NodeJS.ErrnoException)
    }
    return Effect.sync(done)
  })
