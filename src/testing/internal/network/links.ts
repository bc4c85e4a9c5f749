/** Links as a test holds them: which paths and connections they concern, and what they do to those. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Hold, Link } from "../../Network.ts"
import { textOf } from "../fabric/chunk.ts"
import { systemError } from "../fabric/failures.ts"
import { Hold as HeldPackets } from "../fabric/path.ts"
import * as Settings from "../fabric/settings.ts"
import type { Rule, Topology } from "../fabric/topology.ts"
import type { Connection, TcpStack } from "../tcp/connection.ts"

type Matches = Rule["matches"]

/** Resets both ends of connections, now. */
export const resetAll = (stack: TcpStack, concerns: (connection: Connection) => boolean): number => {
  const connections = [...stack.connections.values()].filter(concerns)
  for (const { client, server } of connections) {
    client.abort(systemError("read", "ECONNRESET"))
    if (server.phase === "open") server.abort(systemError("read", "ECONNRESET"))
  }
  return connections.length
}

/** Cuts both ends of connections off; neither is told. */
export const vanishAll = (stack: TcpStack, concerns: (connection: Connection) => boolean): number => {
  const connections = [...stack.connections.values()].filter(concerns)
  for (const { client, id, server } of connections) {
    stack.topology.record("vanish", id, client.address, server.address)
    for (const end of [client, server]) end.vanish()
    for (const end of [client, server]) end.pathChanged()
  }
  return connections.length
}

const hold = (topology: Topology, matches: Matches): Effect.Effect<Hold, never, Scope.Scope> =>
  Effect.map(topology.rule({ matches, hold: new HeldPackets() }), (rule) => ({
    packets: Effect.sync(() =>
      rule.hold.packets.map(({ packet, path }) => ({
        from: path.from,
        to: path.to,
        connection: packet.connection,
        kind: packet.kind,
        bytes: packet.bytes,
        text: textOf(packet.chunks)
      }))
    ),
    deliver: (count: number) => Effect.sync(() => rule.hold.deliver(count)),
    release: Effect.sync(() => topology.endRule(rule))
  }))

/** A link by the names of its hosts; see `Network.link`. */
export const make = (stack: TcpStack, host?: string, other?: string): Link => {
  const named = host === undefined || other !== undefined ? undefined : stack.topology.names.get(host)
  if (named !== undefined) return linkOf(stack, host!, between(...named), named)
  if (host === undefined) return linkOf(stack, "all", () => true)
  if (other === undefined) return linkOf(stack, host, (from, to) => from === host || to === host)
  return linkOf(stack, `${host}-${other}`, between(host, other), [host, other])
}

const between = (a: string, b: string): Matches => (from, to) => (from === a && to === b) || (from === b && to === a)

/** `senders`: the only hosts whose packets it may concern, where those are known. */
const linkOf = (stack: TcpStack, name: string, matches: Matches, senders?: ReadonlyArray<string>): Link => {
  const { topology } = stack
  const concerns = ({ client, server }: Connection): boolean =>
    matches(client.host.name, server.host.name) || matches(server.host.name, client.host.name)
  return {
    name,
    from: (host) =>
      senders?.includes(host) === false
        ? Settings.refuse(`from`, host, `a sender of the link \`${name}\`: ${senders.join(" or ")}`)
        : linkOf(stack, `${name} from ${host}`, (from, to) => from === host && matches(from, to), [host]),
    configure: (options) =>
      Effect.suspend(() => Effect.asVoid(topology.rule({ matches, options: Settings.link(options) }))),
    partition: Effect.suspend(() => Effect.asVoid(topology.rule({ matches, cut: true }))),
    clog: Effect.suspend(() => Effect.asVoid(topology.rule({ matches, hold: new HeldPackets() }))),
    hold: Effect.suspend(() => hold(topology, matches)),
    nat: ({ expired = "drop", timeout }) =>
      Effect.suspend(() =>
        Effect.asVoid(topology.rule({ matches, nat: { timeout: Settings.millis("nat.timeout", timeout), expired } }))
      ),
    rebind: Effect.sync(() => {
      const connections = [...stack.connections.values()].filter(concerns)
      for (const connection of connections) connection.mapping = "rebound"
      return connections.length
    }),
    reset: Effect.sync(() => resetAll(stack, concerns)),
    vanish: Effect.sync(() => vanishAll(stack, concerns))
  }
}
