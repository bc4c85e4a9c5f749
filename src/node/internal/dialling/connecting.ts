/** Connects to an address: lookup, one attempt or several, options of TCP, TLS. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { type Address, pipeOf } from "../addresses/address.ts"
import { familyOf, withoutZone } from "../addresses/zone.ts"
import { errorOf, hear, openError } from "../stream/duplex.ts"
import { noop, setTcp, type Tcp } from "../stream/tcp.ts"
import { consent } from "../tls/consent.ts"
import { Consents, watchDialled } from "../tls/refusals.ts"
import { type Gate, targetOf } from "../tunnel/through.ts"
import { tunnel } from "../tunnel/tunnel.ts"
import { attempts, type Pace, type Target } from "./attempts.ts"
import { type Lookup, targetsOf } from "./targets.ts"

/** How to connect. */
export interface Connecting extends Lookup, Pace {
  readonly tcp: Tcp
  /** The IP address to connect from. */
  readonly localAddress: string | undefined
  /** With `tls` and `wss`. */
  readonly tls: Tls.ConnectionOptions
  /** The proxy to go through. */
  readonly gate: Gate | undefined
  /** How long a server that asked for our certificate may be silent, in milliseconds. */
  readonly consent: number
  /** What servers have said to it before. */
  readonly consents: Consents
}

/** What is opened on the way to a connection. */
type Opened = Set<Net.Socket>

/** Waits for an event of a socket, or for why it does not come. Interrupted, it destroys the socket. */
const opening = (
  opened: Opened,
  open: () => Net.Socket,
  event: "connect" | "secureConnect",
  onOpen: (conn: Net.Socket) => void = noop
): Effect.Effect<Net.Socket, Socket.SocketError> =>
  Effect.callback((resume) => {
    let conn: Net.Socket
    try {
      conn = open()
    } catch (cause) {
      return resume(Effect.fail(openError(cause)))
    }
    opened.add(conn)
    const done = (result: Effect.Effect<Net.Socket, Socket.SocketError>): void => {
      conn.off("close", onClose)
      conn.off(event, onEvent)
      resume(result)
    }
    const onClose = (): void => {
      opened.delete(conn)
      done(Effect.fail(openError(errorOf(conn, conn.errored ?? new Error("the connection closed while it opened")))))
    }
    const onEvent = (): void => {
      onOpen(conn)
      done(Effect.succeed(conn))
    }
    // an error is followed by `close`, and is never unheard
    hear(conn)
    conn.once("close", onClose)
    conn.once(event, onEvent)
    return Effect.sync(() => conn.destroy())
  })

// the peer's FIN ends what it sends, not what we send: `Policy.halfClose` says for how long
const allowHalfOpen = true

const toTarget = (
  opened: Opened,
  { host, port }: Target,
  { localAddress, tcp }: Connecting
): Effect.Effect<Net.Socket, Socket.SocketError> =>
  opening(
    opened,
    () => Net.createConnection({ host, port, allowHalfOpen, ...(localAddress === undefined ? {} : { localAddress }) }),
    "connect",
    // before anything is read
    (conn) => setTcp(conn, tcp)
  )

const describeTarget = ({ host, port }: Target): string => host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

/** Several errors as one, with the code of the first. */
const together = (targets: ReadonlyArray<Target>, errors: ReadonlyArray<Socket.SocketError>): Socket.SocketError => {
  if (errors.length === 1) return errors[0]!
  const causes = errors.map(({ reason }) => reason.cause as NodeJS.ErrnoException)
  const said = causes.slice(0, 3).map((cause, i) => `${describeTarget(targets[i]!)}: ${cause.message}`).join("; ") +
    (causes.length > 3 ? `; and ${causes.length - 3} more` : "")
  const { code } = causes[0]!
  return openError(Object.assign(new AggregateError(causes, said), code === undefined ? {} : { code }))
}

const toHost = (
  opened: Opened,
  host: string,
  port: number,
  how: Connecting
): Effect.Effect<Net.Socket, Socket.SocketError> =>
  Effect.flatMap(Effect.mapError(targetsOf(host, port, how), openError), (all) => {
    const from = how.localAddress === undefined ? undefined : familyOf(how.localAddress)
    const targets = all.filter(({ family }) => from === undefined || family === from)
    if (targets.length === 0) {
      return Effect.fail(openError(new Error(`${host} has no IPv${from} address to connect to`)))
    }
    const timedOut = (): Socket.SocketError =>
      openError(new Error(`no connection within ${how.attemptTimeout} ms (attemptTimeout)`))
    return Effect.mapError(
      attempts(targets, (target) => toTarget(opened, target, how), how, timedOut),
      (errors) => together(targets, errors)
    )
  })

/** TLS over a connection. An IP address is no server name (RFC 6066, 3). */
const secured = (
  opened: Opened,
  conn: Net.Socket,
  host: string,
  { consent: limit, consents, tls }: Pick<Connecting, "consent" | "consents" | "tls">
): Effect.Effect<Net.Socket, Socket.SocketError> => {
  const servername = tls.servername ?? (Net.isIP(host) === 0 ? host : "")
  const open = (): Tls.TLSSocket => {
    const secure = Tls.connect({ ...tls, socket: conn, host: withoutZone(host), servername })
    watchDialled(secure, consents)
    return secure
  }
  return Effect.tap(
    opening(opened, open, "secureConnect"),
    (secure) => consent(secure as Tls.TLSSocket, limit, consents)
  )
}

/** A connection on which the peer comes next, through a proxy where there is one. */
const toPeer = (
  opened: Opened,
  host: string,
  port: number,
  how: Connecting
): Effect.Effect<Net.Socket, Socket.SocketError> => {
  const { gate } = how
  if (gate === undefined) return toHost(opened, host, port, how)
  const plain = toHost(opened, gate.host, gate.port, how)
  const { tls } = gate
  const toGate = tls === undefined
    ? plain
    : Effect.flatMap(plain, (conn) => secured(opened, conn, gate.host, { consent: 0, consents: new Consents(), tls }))
  return Effect.flatMap(toGate, (conn) => tunnel(conn, gate, targetOf(host, port)))
}

/**
 * A connection to an address, TLS included. It is `release`d when the scope closes; whatever else was opened on the way is
 * destroyed as soon as it is not needed, also where this is interrupted.
 */
export const connect = (
  to: Address,
  how: Connecting,
  release: (conn: Net.Socket) => void
): Effect.Effect<Net.Socket, Socket.SocketError, Scope.Scope> =>
  Effect.suspend(() => {
    const opened: Opened = new Set()
    let made: Net.Socket | undefined
    const destroyOthers = (kept?: Net.Socket): void => {
      for (const conn of opened) if (conn !== kept) conn.destroy()
      opened.clear()
    }
    const plain = to.scheme === "unix"
      ? opening(opened, () => Net.createConnection({ path: pipeOf(to.path), allowHalfOpen }), "connect")
      : toPeer(opened, to.host, to.port, how)
    const whole = to.scheme === "tls" || to.scheme === "wss"
      ? Effect.flatMap(plain, (conn) => secured(opened, conn, to.host, how))
      : plain
    const owned = Effect.onExit(whole, (exit) =>
      Effect.sync(() => {
        made = Exit.isSuccess(exit) ? exit.value : undefined
        // below TLS is what it runs on
        const isPlain = (to.scheme === "tcp" || to.scheme === "ws") && how.gate?.tls === undefined
        if (made === undefined || isPlain) destroyOthers(made)
      }))
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.scope, (scope) =>
        Effect.andThen(
          Scope.addFinalizer(scope, Effect.sync(() => made !== undefined && release(made))),
          restore(owned)
        ))
    )
  })
