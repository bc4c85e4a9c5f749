/** Hosts, the paths between them, the rules in force, and the connections alive. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { openError, systemError } from "../fabric/failures.ts"
import { type Hold, Path, type Rules } from "../fabric/path.ts"
import { type Draw, drawFrom } from "../fabric/random.ts"
import type * as Settings from "../fabric/settings.ts"
import { Machine, type Resident } from "../fabric/simulatedHost.ts"
import type { Timeline } from "../fabric/timeline.ts"
import type { EventKind, Trace } from "../fabric/trace.ts"
import { End, type Pair } from "./endpoint.ts"

/** What holds for a whole network, checked. */
export interface Defaults {
  readonly seed: string
  readonly link: Settings.LinkOptions
  readonly end: Settings.End
  readonly connectTimeout: number
  readonly retransmit: { readonly initial: number; readonly max: number }
  readonly finTimeout: number
}

/** How a mapping of an address translator ends. */
export interface Nat {
  readonly timeout: number
  readonly expired: "drop" | "reset"
}

/** A fault, or other options, on some of the paths. */
export interface Rule {
  readonly matches: (from: string, to: string) => boolean
  readonly cut?: boolean
  readonly hold?: Hold
  readonly options?: Settings.LinkOptions
  readonly nat?: Nat
}

export type Operation = "listen" | "dial" | "accept" | "read" | "write"

interface Injection {
  readonly host: string | undefined
  readonly operation: Operation
  readonly error: unknown
  left: number
}

/** A connection: both ends, and what is between them. */
export class Connection implements Pair {
  readonly id: number
  readonly port: number
  readonly messages: boolean
  readonly client: End
  readonly server: End
  /** The address translator between the ends has forgotten it; `rebound`: the client comes from a new address now. */
  mapping: "known" | "expired" | "rebound" = "known"
  lastPacket: number
  private readonly core: Core
  private drawing: Draw | undefined

  constructor(
    core: Core,
    id: number,
    client: Machine,
    server: Machine,
    port: number,
    messages: boolean,
    options: Settings.End
  ) {
    this.core = core
    this.id = id
    this.port = port
    this.messages = messages
    this.lastPacket = core.timeline.now()
    const serverOptions = core.gates.get(gateKey(server.name, port))?.end ?? core.defaults.end
    const there = core.path(client.name, server.name)
    const back = core.path(server.name, client.name)
    const address = `${client.name}:${client.port()}`
    this.client = new End(this, client, address, there, options, serverOptions.receiveBuffer, false)
    this.server = new End(this, server, `${server.name}:${port}`, back, serverOptions, options.receiveBuffer, true)
    this.client.peer = this.server
    this.server.peer = this.client
  }

  get timeline(): Timeline {
    return this.core.timeline
  }
  get retransmit(): Defaults["retransmit"] {
    return this.core.defaults.retransmit
  }
  get finTimeout(): number {
    return this.core.defaults.finTimeout
  }
  get draw(): Draw {
    return this.drawing ??= this.core.draw("connection", String(this.id))
  }

  record(kind: EventKind, from: End, bytes: number): void {
    this.core.record(kind, this.id, from.machine.name, from.peer.machine.name, bytes)
  }

  translate(from: End): boolean {
    return this.core.translate(this, from)
  }

  ended(): void {
    this.core.ended(this)
  }

  fault(operation: "read" | "write", machine: Machine): unknown {
    return this.core.fault(operation, machine.name)
  }
}

/** Takes connections on one port. */
export interface Gate extends Resident {
  readonly port: number
  readonly messages: boolean
  readonly end: Settings.End
  readonly hasRoom: () => boolean
  /** The handshake has begun: it takes a place. */
  readonly reserve: () => void
  /** The handshake is over: it is queued, or its place is free again. */
  readonly enqueue: (connection: Connection) => void
  readonly forget: (connection: Connection) => void
  readonly queued: () => number
  readonly backlog: number
}

// net.ipv4.tcp_syn_retries waits 1, 2, 4, ... seconds
const synRetry = 1000
// net.ipv4.tcp_synack_retries is 5: after 1, 2, 4, 8 and 16 more seconds the sixth wait is the last
const lastAnswer = 32_000

export class Core {
  readonly timeline: Timeline
  readonly trace: Trace
  readonly defaults: Defaults
  readonly machines = new Map<string, Machine>()
  readonly paths = new Map<string, Path>()
  readonly connections = new Map<number, Connection>()
  readonly gates = new Map<string, Gate>()
  readonly names = new Map<string, readonly [string, string]>()
  rules: ReadonlyArray<Rule> = []
  /** Ports of hosts that refuse, and how many faults say so. */
  readonly refusals: Array<{ readonly host: string; readonly port: number | undefined }> = []
  private injections: Array<Injection> = []
  private nextId = 1

  constructor(timeline: Timeline, trace: Trace, defaults: Defaults) {
    this.timeline = timeline
    this.trace = trace
    this.defaults = defaults
  }

  draw(...names: ReadonlyArray<string>): Draw {
    return drawFrom(this.defaults.seed, ...names)
  }

  record(kind: EventKind, connection: number, from: string, to: string, bytes = 0): void {
    this.trace.add(this.timeline.now(), kind, connection, from, to, bytes)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // hosts and paths
  // -------------------------------------------------------------------------------------------------------------------

  machine(name: string): Machine {
    let machine = this.machines.get(name)
    if (machine === undefined) {
      const n = this.machines.size + 1
      machine = new Machine(name, `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`, this.timeline)
      this.machines.set(name, machine)
    }
    return machine
  }

  /** By name or address; nobody else. */
  lookup(nameOrIp: string): Machine | undefined {
    const named = this.machines.get(nameOrIp)
    if (named !== undefined) return named
    for (const machine of this.machines.values()) if (machine.ip === nameOrIp) return machine
    return undefined
  }

  path(from: string, to: string): Path {
    const key = `${from}\n${to}`
    let path = this.paths.get(key)
    if (path === undefined) {
      path = new Path(from, to, this.timeline, this.draw("path", from, to), this.rulesFor(from, to))
      this.paths.set(key, path)
    }
    return path
  }

  private rulesFor(from: string, to: string): Rules {
    // a host reaches itself at once
    let options: Settings.LinkOptions = from === to ? { slicing: this.defaults.link.slicing } : this.defaults.link
    let cut = false
    let hold: Hold | undefined
    for (const rule of this.rules) {
      if (!rule.matches(from, to)) continue
      cut ||= rule.cut === true
      hold ??= rule.hold
      if (rule.options !== undefined) {
        const { bandwidth, latency, slicing } = rule.options
        options = {
          latency: latency ?? options.latency,
          bandwidth: bandwidth ?? options.bandwidth,
          slicing: slicing ?? options.slicing
        }
      }
    }
    return { cut, hold, options }
  }

  /** A rule holds until its scope closes. */
  rule<A extends Rule>(rule: A): Effect.Effect<A, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => {
        this.rules = [...this.rules, rule]
        this.apply(rule)
        return rule
      }),
      () => Effect.sync(() => this.endRule(rule))
    )
  }

  /** What a rule held goes on. */
  endRule(rule: Rule): void {
    if (!this.rules.includes(rule)) return
    this.rules = this.rules.filter((other) => other !== rule)
    this.apply(rule)
    for (const { packet, path } of rule.hold?.packets.splice(0) ?? []) path.reach(packet)
  }

  private apply(rule: Rule): void {
    this.record("rule", 0, "", "", this.rules.length)
    for (const path of this.paths.values()) {
      if (rule.matches(path.from, path.to)) path.apply(this.rulesFor(path.from, path.to))
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // faults of operations
  // -------------------------------------------------------------------------------------------------------------------

  inject(injection: Injection): Effect.Effect<void, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => {
        this.injections.push(injection)
        if (injection.operation !== "read") return
        for (const { client, server } of this.connections.values()) {
          for (const end of [client, server]) end.notifyReader()
        }
      }),
      () =>
        Effect.sync(() => {
          this.injections = this.injections.filter((other) => other !== injection)
        })
    )
  }

  fault(operation: Operation, host: string): unknown {
    if (this.injections.length === 0) return undefined
    const found = this.injections.find((injection) =>
      injection.operation === operation && injection.left > 0 && (injection.host ?? host) === host
    )
    if (found === undefined) return undefined
    found.left--
    return found.error
  }

  // -------------------------------------------------------------------------------------------------------------------
  // connections
  // -------------------------------------------------------------------------------------------------------------------

  /** Begins to connect; `End.opened` tells how it went. */
  connect(client: Machine, server: Machine, port: number, messages: boolean, options: Settings.End): End {
    const connection = new Connection(this, this.nextId++, client, server, port, messages, options)
    this.connections.set(connection.id, connection)
    this.record("dial", connection.id, client.name, connection.server.address)
    this.handshake(connection)
    return connection.client
  }

  private handshake(connection: Connection): void {
    const { client, messages, server } = connection
    const { timeline } = this
    const deadline = timeline.now() + this.defaults.connectTimeout
    const refuse = (): void => {
      this.record("refuse", connection.id, server.machine.name, client.machine.name)
      server.settle()
      server.sendBare("reset", () => client.abort(systemError("connect", "ECONNREFUSED", server.address)))
    }
    /** The SYN is here. */
    const knock = (): void => {
      if (server.phase !== "opening" || !server.machine.isUp || server.isGone) return
      const { name } = server.machine
      const refused = this.refusals.some(({ host, port }) =>
        host === name && (port ?? connection.port) === connection.port
      )
      const gate = this.gates.get(gateKey(name, connection.port))
      if (gate === undefined || refused) return refuse()
      if (gate.messages !== messages) return refuse()
      if (!gate.hasRoom()) return
      gate.reserve()
      server.greeted = () => {
        server.greeted = undefined
        gate.enqueue(connection)
      }
      server.onOver = () => {
        if (server.greeted !== undefined) gate.forget(connection)
      }
      server.establish(false)
      answer(synRetry)
    }
    /** The SYN-ACK leaves, and leaves again until the client's answer is here. */
    const answer = (pause: number): void => {
      if (server.phase !== "open" || server.greeted === undefined) return
      if (pause > lastAnswer) return server.abort(systemError("read", "ETIMEDOUT"))
      server.sendBare("syn-ack", opened)
      timeline.at(timeline.now() + pause, () => answer(2 * pause))
    }
    const opened = (): void => {
      if (client.phase === "over") return client.sendReset()
      if (client.phase !== "opening") return
      this.record("open", connection.id, client.machine.name, server.machine.name)
      client.establish(true)
    }
    const knockAgain = (pause: number): void => {
      const now = timeline.now()
      if (client.phase !== "opening") return
      if (now >= deadline) return client.abort(systemError("connect", "ETIMEDOUT", server.address))
      client.sendBare("syn", knock)
      const timer = timeline.at(Math.min(now + pause, deadline), () => knockAgain(2 * pause))
      client.onOver = () => {
        timer.cancel()
      }
    }
    knockAgain(synRetry)
  }

  ended(connection: Connection): void {
    const { client, server } = connection
    if (client.phase !== "over") return
    // it never was: nobody on the server's side knows of it
    if (server.phase === "opening") server.settle()
    if (server.phase !== "over") return
    if (this.connections.delete(connection.id)) {
      this.record("end", connection.id, client.machine.name, server.machine.name)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // address translation
  // -------------------------------------------------------------------------------------------------------------------

  translate(connection: Connection, from: End): boolean {
    const nat = this.rules.length === 0 ? undefined : this.natOf(connection)
    const now = this.timeline.now()
    if (nat !== undefined && connection.mapping === "known" && now - connection.lastPacket >= nat.timeout) {
      connection.mapping = "expired"
    }
    if (connection.mapping === "known") {
      connection.lastPacket = now
      return true
    }
    const inside = from === connection.client
    // from a new address the server does not know it; to the old one nobody is there
    const answered = connection.mapping === "rebound" ? inside : nat?.expired === "reset"
    if (answered) from.peer.sendBare("reset", () => from.abort(systemError("read", "ECONNRESET")))
    return false
  }

  private natOf({ client, server }: Connection): Nat | undefined {
    const [a, b] = [client.machine.name, server.machine.name]
    return this.rules.findLast((rule) => rule.nat !== undefined && (rule.matches(a, b) || rule.matches(b, a)))?.nat
  }
}

export const gateKey = (host: string, port: number): string => `${host}\n${port}`

/** The host is down: there is no network to speak of. */
export const isDown = (address: string) => openError(systemError("connect", "ENETDOWN", address))
