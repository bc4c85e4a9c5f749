/** Connections, each with its two ends, and the table of all of them. */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { EventKind, Identity, Injection } from "../../Network.ts"
import { Injections, systemError } from "../fabric/failures.ts"
import type { Draw } from "../fabric/random.ts"
import type { SocketSettings } from "../fabric/settings.ts"
import type { KernelSocket, SimulatedHost } from "../fabric/simulatedHost.ts"
import type { Timeline } from "../fabric/timeline.ts"
import type { Topology } from "../fabric/topology.ts"
import { Endpoint, type EndpointConnection } from "./endpoint.ts"
import { receive } from "./receiving.ts"
import type { Segment } from "./transmission.ts"

/** What holds for all connections of a network, checked. */
export interface TcpSettings {
  readonly socket: SocketSettings
  readonly connectTimeout: number
  readonly retransmit: { readonly initial: number; readonly max: number }
  readonly finTimeout: number
}

/** A port that takes connections. */
export interface ListeningPort extends KernelSocket {
  readonly port: number
  readonly messages: boolean
  readonly settings: SocketSettings
  readonly hasRoom: () => boolean
  /** The handshake has begun: it takes a place in the backlog. */
  readonly reserve: () => void
  /** The handshake is over, and the connection waits to be accepted. */
  readonly enqueue: (connection: Connection) => void
  /** The handshake failed: its place is free again. */
  readonly unreserve: () => void
  readonly queued: () => number
  readonly backlog: number
}

/** Both ends, and the address translation between them. */
export class Connection implements EndpointConnection {
  readonly id: number
  readonly port: number
  readonly messages: boolean
  readonly client: Endpoint
  readonly server: Endpoint
  /** Whom the client's certificate names. */
  identity: Identity | undefined
  /** The address translator between the ends has forgotten it; `rebound`: the client comes from a new address now. */
  mapping: "known" | "expired" | "rebound" = "known"
  private lastPacket: number
  private readonly stack: TcpStack
  private drawing: Draw | undefined

  constructor(
    stack: TcpStack,
    id: number,
    client: SimulatedHost,
    server: SimulatedHost,
    port: number,
    messages: boolean,
    settings: SocketSettings
  ) {
    const { topology } = stack
    this.stack = stack
    this.id = id
    this.port = port
    this.messages = messages
    this.lastPacket = topology.timeline.now()
    const serverSettings = stack.listeners.get(portKey(server.name, port))?.settings ?? stack.settings.socket
    const there = topology.path(client.name, server.name)
    const back = topology.path(server.name, client.name)
    const address = `${client.name}:${client.port()}`
    this.client = new Endpoint(this, client, address, there, settings, serverSettings.receiveBuffer, false)
    this.server = new Endpoint(
      this,
      server,
      `${server.name}:${port}`,
      back,
      serverSettings,
      settings.receiveBuffer,
      true
    )
    this.client.peer = this.server
    this.server.peer = this.client
  }

  get timeline(): Timeline {
    return this.stack.topology.timeline
  }
  get retransmit(): TcpSettings["retransmit"] {
    return this.stack.settings.retransmit
  }
  get finTimeout(): number {
    return this.stack.settings.finTimeout
  }
  get draw(): Draw {
    return this.drawing ??= this.stack.topology.draw("connection", String(this.id))
  }

  record(kind: EventKind, from: Endpoint, bytes: number): void {
    this.stack.topology.record(kind, this.id, from.host.name, from.peer.host.name, bytes)
  }

  deliver(from: Endpoint, segment: Segment): boolean {
    return receive(from, segment)
  }

  translate(from: Endpoint): boolean {
    const { rules, timeline } = this.stack.topology
    const nat = rules.length === 0 ? undefined : this.nat
    const now = timeline.now()
    if (nat !== undefined && this.mapping === "known" && now - this.lastPacket >= nat.timeout) this.mapping = "expired"
    if (this.mapping === "known") {
      this.lastPacket = now
      return true
    }
    const inside = from === this.client
    // the server does not know the new address; at the old one no host is left
    const answered = this.mapping === "rebound" ? inside : nat?.expired === "reset"
    if (answered) from.peer.sendBare("reset", () => from.abort(systemError("read", "ECONNRESET")))
    return false
  }

  private get nat() {
    return this.stack.topology.natBetween(this.client.host.name, this.server.host.name)
  }

  ended(): void {
    const { client, server } = this
    if (client.phase !== "over") return
    // the server's host never heard of it
    if (server.phase === "opening") server.settle()
    if (server.phase === "over") this.stack.remove(this)
  }

  fault(operation: "read" | "write", host: SimulatedHost): unknown {
    return this.stack.injections.next(operation, host.name)
  }
}

/** The TCP of all hosts: their connections and listeners. */
export class TcpStack {
  readonly topology: Topology
  readonly settings: TcpSettings
  readonly connections = new Map<number, Connection>()
  readonly listeners = new Map<string, ListeningPort>()
  /** Ports of hosts that refuse, and how many faults say so. */
  readonly refusals: Array<{ readonly host: string; readonly port: number | undefined }> = []
  readonly injections = new Injections()
  private nextId = 1

  constructor(topology: Topology, settings: TcpSettings) {
    this.topology = topology
    this.settings = settings
  }

  /** A connection whose handshake has not begun. */
  add(
    client: SimulatedHost,
    server: SimulatedHost,
    port: number,
    messages: boolean,
    settings: SocketSettings
  ): Connection {
    const connection = new Connection(this, this.nextId++, client, server, port, messages, settings)
    this.connections.set(connection.id, connection)
    return connection
  }

  remove({ client, id, server }: Connection): void {
    if (this.connections.delete(id)) this.topology.record("end", id, client.host.name, server.host.name)
  }

  /** Makes operations fail; a read that waits fails at once. */
  inject(injection: Injection): Effect.Effect<void, never, Scope.Scope> {
    return this.injections.add(injection, () => {
      if (injection.operation !== "read") return
      for (const { client, server } of this.connections.values()) {
        for (const end of [client, server]) end.notifyReader()
      }
    })
  }
}

/** The key of a port in `TcpStack.listeners`. */
export const portKey = (host: string, port: number): string => `${host}\n${port}`
