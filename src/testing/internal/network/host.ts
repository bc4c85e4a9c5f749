/** A host as its user sees it. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import { openError, systemError } from "../fabric/failures.ts"
import * as Settings from "../fabric/settings.ts"
import type { Connection, Core } from "../tcp/connection.ts"
import type { End } from "../tcp/endpoint.ts"
import * as Sockets from "../tcp/socket.ts"
import * as Faults from "./links.ts"
import * as Listener from "./listener.ts"

type Address = string | NetAddress.SocketAddress

interface ListenOptions extends Settings.EndOptions {
  readonly backlog?: number | undefined
  readonly messages?: boolean | undefined
}

interface DialOptions extends Settings.EndOptions {
  readonly messages?: boolean | undefined
}

const parse = (address: Address) => {
  const text = typeof address === "string" ? address : NetAddress.formatSocketAddress(address)
  const match = /^(?:(tcp|ws|wss):\/\/)?\[?([^/\]]+?)\]?:(\d+)(?:\/.*)?$/.exec(text)
  return match === null
    ? undefined
    : { text, messages: match[1]?.startsWith("ws"), host: match[2], port: Number(match[3]) }
}

export const make = (core: Core, name: string) => {
  const machine = core.machine(name)
  const mine = ({ client, server }: Connection): boolean => client.machine === machine || server.machine === machine
  const ownEnd = ({ client, server }: Connection): End => client.machine === machine ? client : server

  const listen = (port: number, options: ListenOptions = {}) =>
    Effect.suspend(() =>
      Listener.listen(core, machine, {
        port: Settings.count("port", port, 1),
        backlog: Settings.count("backlog", options.backlog ?? 511, 0),
        messages: options.messages ?? false,
        end: Settings.end(options, core.defaults.end)
      })
    )

  const dial = (address: Address, options: DialOptions = {}): Socket.Socket => {
    const parsed = parse(address)
    const settings = Settings.end(options, core.defaults.end)
    const messages = options.messages ?? parsed?.messages ?? false
    const remote = parsed === undefined ? String(address) : `${parsed.host}:${parsed.port}`
    const fail = (code: string, syscall: "connect" | "getaddrinfo" = "connect") =>
      Effect.fail(openError(systemError(syscall, code, remote)))
    return Sockets.make(
      machine,
      { messages, local: undefined, remote },
      Effect.suspend((): Effect.Effect<End, Socket.SocketError> => {
        const fault = core.fault("dial", name)
        if (fault !== undefined) return Effect.fail(openError(fault))
        const server = parsed === undefined ? undefined : core.lookup(parsed.host)
        if (server === undefined) return fail("ENOTFOUND", "getaddrinfo")
        if (!machine.isUp) return fail("ENETDOWN")
        return Effect.succeed(core.connect(machine, server, parsed!.port, messages, settings))
      })
    )
  }

  return {
    name,
    address: machine.ip,
    listen,
    layerServer: (port: number, options?: ListenOptions) =>
      Layer.effect(SocketServer.SocketServer, listen(port, options)),
    dial,
    layerSocket: (address: Address, options?: DialOptions) => Layer.sync(Socket.Socket, () => dial(address, options)),
    clock: machine.clock,
    run: <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.suspend(() =>
        machine.isUp
          ? Effect.raceFirst(
            Effect.provideService(effect, Clock.Clock, machine.clock),
            Effect.andThen(machine.crashed, Effect.interrupt)
          )
          : Effect.interrupt
      ),
    stall: (duration: Duration.Input) => Effect.sync(() => machine.stall(Settings.millis("stall", duration))),
    skew: (duration: Duration.Input) =>
      Effect.sync(() => {
        machine.skew = Duration.toMillis(Duration.fromInputUnsafe(duration))
      }),
    crash: Effect.sync(() => {
      core.record("host", 0, name, "", 0)
      machine.crash()
      // what waits for room at its ends waits in vain now
      for (const connection of core.connections.values()) if (mine(connection)) ownEnd(connection).peer.pathChanged()
    }),
    restart: Effect.sync(() => {
      core.record("host", 0, name, "", 1)
      machine.isUp = true
    }),
    refuse: (port?: number) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const refusal = { host: name, port }
          core.refusals.push(refusal)
          return refusal
        }),
        (refusal) => Effect.sync(() => void core.refusals.splice(core.refusals.indexOf(refusal), 1))
      ).pipe(Effect.asVoid),
    vanish: Effect.sync(() => Faults.vanishAll(core, mine)),
    reset: Effect.sync(() => {
      const connections = [...core.connections.values()].filter(mine)
      for (const connection of connections) ownEnd(connection).abort(systemError("read", "ECONNRESET"), true)
      return connections.length
    }),
    link: Faults.link(core, name)
  }
}
