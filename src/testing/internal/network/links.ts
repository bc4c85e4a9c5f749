/** Faults of links: which paths and connections they concern, and what they do to them. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { systemError } from "../fabric/failures.ts"
import { Hold as Held } from "../fabric/path.ts"
import * as Settings from "../fabric/settings.ts"
import type { Connection, Core, Rule } from "../tcp/connection.ts"

type Matches = Rule["matches"]

const decoder = new TextDecoder()

const textOf = (chunks: ReadonlyArray<unknown>): string =>
  chunks.map((chunk) => chunk instanceof Uint8Array ? decoder.decode(chunk) : String(chunk)).join("")

/** Resets both ends of connections, now. */
export const resetAll = (core: Core, concerns: (connection: Connection) => boolean): number => {
  const connections = [...core.connections.values()].filter(concerns)
  for (const { client, server } of connections) {
    client.abort(systemError("read", "ECONNRESET"))
    if (server.phase === "open") server.abort(systemError("read", "ECONNRESET"))
  }
  return connections.length
}

/** Cuts both ends of connections off, without a word. */
export const vanishAll = (core: Core, concerns: (connection: Connection) => boolean): number => {
  const connections = [...core.connections.values()].filter(concerns)
  for (const { client, id, server } of connections) {
    core.record("vanish", id, client.address, server.address)
    for (const end of [client, server]) end.vanish()
    for (const end of [client, server]) end.pathChanged()
  }
  return connections.length
}

const hold = (core: Core, matches: Matches) =>
  Effect.map(core.rule({ matches, hold: new Held() }), (rule) => ({
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
    release: Effect.sync(() => core.endRule(rule))
  }))

/** A link by the names of its hosts; see `Network.link`. */
export const link = (core: Core, host?: string, other?: string) => {
  const named = host === undefined || other !== undefined ? undefined : core.names.get(host)
  if (named !== undefined) return ways(core, host!, between(...named))
  if (host === undefined) return ways(core, "all", () => true)
  if (other === undefined) return ways(core, host, (from, to) => from === host || to === host)
  return ways(core, `${host}-${other}`, between(host, other))
}

const between = (a: string, b: string): Matches => (from, to) => (from === a && to === b) || (from === b && to === a)

export interface Ways {
  readonly name: string
  readonly from: (host: string) => Ways
  readonly configure: (options: Settings.LinkOptions) => Effect.Effect<void, never, Scope.Scope>
  readonly partition: Effect.Effect<void, never, Scope.Scope>
  readonly clog: Effect.Effect<void, never, Scope.Scope>
  readonly hold: ReturnType<typeof hold>
  readonly nat: (
    options: { readonly timeout: Settings.EndOptions["linger"] & {}; readonly expired?: "drop" | "reset" | undefined }
  ) => Effect.Effect<void, never, Scope.Scope>
  readonly rebind: Effect.Effect<number>
  readonly reset: Effect.Effect<number>
  readonly vanish: Effect.Effect<number>
}

const ways = (core: Core, name: string, matches: Matches): Ways => {
  const concerns = ({ client, server }: Connection): boolean =>
    matches(client.machine.name, server.machine.name) || matches(server.machine.name, client.machine.name)
  return {
    name,
    from: (host) => ways(core, `${name} from ${host}`, (from, to) => from === host && matches(from, to)),
    configure: (options) =>
      Effect.suspend(() => Effect.asVoid(core.rule({ matches, options: Settings.link(options) }))),
    partition: Effect.suspend(() => Effect.asVoid(core.rule({ matches, cut: true }))),
    clog: Effect.suspend(() => Effect.asVoid(core.rule({ matches, hold: new Held() }))),
    hold: Effect.suspend(() => hold(core, matches)),
    nat: ({ expired = "drop", timeout }) =>
      Effect.suspend(() =>
        Effect.asVoid(core.rule({ matches, nat: { timeout: Settings.millis("nat.timeout", timeout), expired } }))
      ),
    rebind: Effect.sync(() => {
      const connections = [...core.connections.values()].filter(concerns)
      for (const connection of connections) connection.mapping = "rebound"
      return connections.length
    }),
    reset: Effect.sync(() => resetAll(core, concerns)),
    vanish: Effect.sync(() => vanishAll(core, concerns))
  }
}
