/** Dials the origins of an HTTP client through a proxy: undici speaks on the tunnel as on a connection of its own. */
import type Undici from "@effect/platform-node/Undici"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as Net from "node:net"
import * as ConnectionError from "../../../ConnectionError.ts"
import * as Supervised from "../../../internal/scheduling/supervised.ts"
import type { Address } from "../addresses/address.ts"
import { connect } from "../dialling/connecting.ts"
import { timedOut } from "../stream/dialled.ts"
import { noop, type Tcp } from "../stream/tcp.ts"
import { Consents } from "../tls/refusals.ts"
import type { Gate } from "../tunnel/through.ts"

type Connect = ReturnType<typeof Undici.buildConnector>

/** The proxy for an origin, if there is one. */
export type GateOf = (address: Address) => Result.Result<Gate | undefined, string>

/** What undici tells of a tunnel that there is not. */
const errorOf = (cause: Cause.Cause<Socket.SocketError>): Error => {
  const failure = Cause.findErrorOption(cause)
  // the client has ended meanwhile
  if (Option.isNone(failure)) return Cause.prettyErrors(cause)[0]!
  const error = ConnectionError.fromSocketError(failure.value)
  const { reason } = error
  return "cause" in reason && reason.cause instanceof Error ? reason.cause : error
}

/** `dial`, through the proxy of an origin. A dial under way is in `fibers`, and may be interrupted. */
export const proxied = (
  dial: Connect,
  gateOf: GateOf,
  { open, tcp }: { readonly open: number; readonly tcp: Tcp },
  context: Context.Context<never>,
  fibers: Set<Fiber.Fiber<unknown, unknown>>
): Connect =>
(to, done) => {
  const isSecure = to.protocol === "https:"
  const port = Number(to.port) || (isSecure ? 443 : 80)
  const gate = gateOf({ scheme: isSecure ? "wss" : "ws", host: to.hostname, port, tail: "" })
  if (Result.isFailure(gate)) return done(new Error(gate.failure), null)
  if (gate.success === undefined) return dial(to, done)
  const how = {
    tcp,
    gate: gate.success,
    family: undefined,
    lookup: undefined,
    localAddress: undefined,
    attemptDelay: 250,
    attemptTimeout: Infinity,
    tls: {},
    consent: 0,
    consents: new Consents()
  }
  const tunnel = connect({ scheme: "tcp", host: to.hostname, port, tail: "" }, how, noop)
  const limited = open === 0 ? tunnel : Effect.timeoutOrElse(tunnel, { duration: open, orElse: timedOut })
  // undici owns what comes out
  const owned = Scope.provide(limited, Scope.makeUnsafe())
  Supervised.spawnAmong(
    fibers,
    context,
    "dial through a proxy",
    owned,
    (exit: Exit.Exit<Net.Socket, Socket.SocketError>) => {
      if (Exit.isFailure(exit)) done(errorOf(exit.cause), null)
      else if (isSecure) dial({ ...to, httpSocket: exit.value }, done)
      else done(null, exit.value)
    }
  )
}
