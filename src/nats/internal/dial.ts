/** Connects to NATS, and keeps the sockets of that: the client leaves one open when its server never greets. */
import { connect, type NatsConnection, type NodeConnectionOptions } from "@nats-io/transport-node"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { AsyncLocalStorage } from "node:async_hooks"
import * as Diagnostics from "node:diagnostics_channel"
import type { Socket } from "node:net"
import type { BackplaneError } from "../../internal/backplane/engine.ts"
import { Pulse, unreachable, within } from "../../internal/backplane/pulse.ts"

const dialling = new AsyncLocalStorage<Set<Socket>>()

let isWatching = false

const watch = (): void => {
  if (isWatching) return
  isWatching = true
  Diagnostics.subscribe("net.client.socket", (message) => {
    dialling.getStore()?.add((message as { readonly socket: Socket }).socket)
  })
}

const nothing = (): void => {}

/** A connection that ends with the scope, and with all that it has opened. */
export const dial = (
  options: NodeConnectionOptions,
  timeout: number
): Effect.Effect<NatsConnection, BackplaneError, Scope.Scope> =>
  Effect.gen(function*() {
    watch()
    const sockets = new Set<Socket>()
    let isReleased = false
    let connected: NatsConnection | undefined
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isReleased = true
        for (const socket of sockets) socket.destroy()
        connected?.close().catch(nothing)
      })
    )
    return yield* within(timeout)(Effect.callback<NatsConnection, BackplaneError>((resume) => {
      dialling.run(sockets, () => connect({ ...options, timeout, reconnect: false, noAsyncTraces: true })).then(
        (connection) => {
          connected = connection
          if (isReleased) {
            for (const socket of sockets) socket.destroy()
            connection.close().catch(nothing)
          }
          resume(Effect.succeed(connection))
        },
        (cause) => resume(Effect.fail(unreachable(cause)))
      )
    }))
  })

/** Options of the client, by what a user says of the servers. */
export const clientOf = (
  servers: string | ReadonlyArray<string> = "nats://localhost:4222",
  client: NodeConnectionOptions = {}
): NodeConnectionOptions => {
  const urls = (typeof servers === "string" ? [servers] : servers).map((server) =>
    new URL(server.includes("://") ? server : `nats://${server}`)
  )
  const [first] = urls
  if (first === undefined) throw new RangeError("servers must name at least one")
  const user = decodeURIComponent(first.username)
  const pass = decodeURIComponent(first.password)
  return {
    ...(user === "" ? {} : pass === "" ? { token: user } : { user, pass }),
    ...(first.protocol === "tls:" ? { tls: {} } : {}),
    ...client,
    servers: urls.map(({ host }) => host)
  }
}

/**
 * The same, and whether it still answers: it is over where the client closes it, and with the first error of the server; or of those that
 * are about the connection.
 */
export const connected = (
  client: NodeConnectionOptions,
  timeout: number,
  isFatal: (error: Error) => boolean = () => true
): Effect.Effect<{ readonly nats: NatsConnection; readonly pulse: Pulse }, BackplaneError, Scope.Scope> =>
  Effect.gen(function*() {
    const nats = yield* dial(client, timeout)
    const pulse = new Pulse(yield* Clock.Clock, timeout)
    nats.closed().then((cause) => pulse.end(unreachable(cause ?? "the connection was closed")), nothing)
    const listening = async () => {
      // what a user may not do, among others
      for await (const status of nats.status()) {
        if (status.type === "error" && isFatal(status.error)) pulse.end(unreachable(status.error))
      }
    }
    listening().catch(nothing)
    return { nats, pulse }
  })
