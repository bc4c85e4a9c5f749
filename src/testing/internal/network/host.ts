/** A host as a test holds it: it listens, dials, and goes wrong. */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import type { DialOptions, Host, ListenOptions } from "../../Network.ts"
import { openError, systemError } from "../fabric/failures.ts"
import * as Settings from "../fabric/settings.ts"
import type { Connection, TcpStack } from "../tcp/connection.ts"
import type { Endpoint } from "../tcp/endpoint.ts"
import { connect } from "../tcp/handshake.ts"
import * as Sockets from "../tcp/socket.ts"
import * as Links from "./links.ts"
import * as Listener from "./listener.ts"
import type { WebSockets } from "./webSockets.ts"

type Address = string | NetAddress.SocketAddress

/** What an address says; undefined for what is none. */
const parse = (address: Address) => {
  const text = typeof address === "string" ? address : NetAddress.formatSocketAddress(address)
  const match = /^(?:(tcp|ws|wss):\/\/)?\[?([^/\]]+?)\]?:(\d+)(?:\/.*)?$/.exec(text)
  return match === null || !(Number(match[3]) <= 65_535)
    ? undefined
    : { text, messages: match[1]?.startsWith("ws"), host: match[2], port: Number(match[3]) }
}

const wanted = "an address of a test network is host:port, tcp://host:port or ws://host:port/path"

/** The host of this name. */
export const make = (stack: TcpStack, webSockets: WebSockets, name: string): Host => {
  const { injections, topology } = stack
  const host = topology.host(name)
  const mine = ({ client, server }: Connection): boolean => client.host === host || server.host === host
  const ownEnd = ({ client, server }: Connection): Endpoint => client.host === host ? client : server

  const settingsOf = (options: ListenOptions | DialOptions) =>
    options.webSocket === true
      ? webSockets.settings(options, stack.settings.socket)
      : Settings.socket(options, stack.settings.socket)

  const listen = (port: number, options: ListenOptions = {}) =>
    Effect.suspend(() =>
      Listener.listen(stack, host, {
        port: Settings.port("port", port),
        backlog: Settings.count("backlog", options.backlog ?? 511, 0),
        messages: options.webSocket !== true && options.messages === true,
        webSockets: options.webSocket === true ? webSockets : undefined,
        compression: options.compression,
        settings: settingsOf(options)
      })
    )

  const dial = (address: Address, options: DialOptions = {}): Socket.Socket => {
    const parsed = parse(address)
    const settings = settingsOf(options)
    const messages = options.webSocket !== true && (options.messages ?? parsed?.messages ?? false)
    const remote = parsed === undefined ? String(address) : `${parsed.host}:${parsed.port}`
    const fail = (code: string, syscall: "connect" | "getaddrinfo" = "connect") =>
      Effect.fail(openError(systemError(syscall, code, parsed === undefined ? `${remote}: ${wanted}` : remote)))
    const stream = Sockets.make(
      host,
      { messages, local: undefined, remote },
      Effect.suspend((): Effect.Effect<Endpoint, Socket.SocketError> => {
        const fault = injections.next("dial", name)
        if (fault !== undefined) return Effect.fail(openError(fault))
        const server = parsed === undefined ? undefined : topology.lookup(parsed.host)
        if (server === undefined) return fail("ENOTFOUND", "getaddrinfo")
        if (!host.isUp) return fail("ENETDOWN")
        return Effect.succeed(connect(stack, host, server, parsed!.port, messages, settings, options.identity))
      })
    )
    return options.webSocket === true ? webSockets.over(stream, "client", settings, options.compression) : stream
  }

  return {
    name,
    address: host.ip,
    listen,
    layerServer: (port: number, options?: ListenOptions) =>
      Layer.effect(SocketServer.SocketServer, listen(port, options)),
    dial,
    layerSocket: (address: Address, options?: DialOptions) => Layer.sync(Socket.Socket, () => dial(address, options)),
    clock: host.clock,
    run: <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.suspend(() =>
        host.isUp
          ? Effect.raceFirst(
            Effect.provideService(effect, Clock.Clock, host.clock),
            Effect.andThen(host.crashed, Effect.interrupt)
          )
          : Effect.interrupt
      ),
    stall: (duration: Duration.Input) => Effect.sync(() => host.stall(Settings.millis("stall", duration))),
    skew: (duration: Duration.Input) =>
      Effect.sync(() => {
        host.skew = Settings.offset("skew", duration)
      }),
    crash: Effect.sync(() => {
      topology.record("host", 0, name, "", 0)
      host.crash()
      // what waits for room at its ends has to ask for it now
      for (const connection of stack.connections.values()) if (mine(connection)) ownEnd(connection).peer.pathChanged()
    }),
    restart: Effect.sync(() => {
      topology.record("host", 0, name, "", 1)
      host.isUp = true
    }),
    refuse: (port?: number) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const refusal = { host: name, port: port === undefined ? port : Settings.port("refuse", port) }
          stack.refusals.push(refusal)
          return refusal
        }),
        (refusal) => Effect.sync(() => void stack.refusals.splice(stack.refusals.indexOf(refusal), 1))
      ).pipe(Effect.asVoid),
    vanish: Effect.sync(() => Links.vanishAll(stack, mine)),
    reset: Effect.sync(() => {
      const connections = [...stack.connections.values()].filter(mine)
      for (const connection of connections) ownEnd(connection).abort(systemError("read", "ECONNRESET"), true)
      return connections.length
    }),
    link: Links.make(stack, name)
  }
}
