/** Hosts, the paths between them, and the rules in force on those paths. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { EventKind, LinkOptions } from "../../Network.ts"
import { type Hold, Path, type Rules } from "./path.ts"
import { type Draw, drawFrom } from "./random.ts"
import { SimulatedHost } from "./simulatedHost.ts"
import type { Timeline } from "./timeline.ts"
import type { Trace } from "./trace.ts"

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
  readonly options?: LinkOptions
  readonly nat?: Nat
}

/** What packets need: hosts, paths, time and chance. It knows nothing of connections. */
export class Topology {
  readonly timeline: Timeline
  readonly trace: Trace
  readonly hosts = new Map<string, SimulatedHost>()
  readonly paths = new Map<string, Path>()
  /** The links that have a name, and their hosts. */
  readonly names = new Map<string, readonly [string, string]>()
  rules: ReadonlyArray<Rule> = []
  private readonly seed: string
  private readonly link: LinkOptions

  constructor(timeline: Timeline, trace: Trace, seed: string, link: LinkOptions) {
    this.timeline = timeline
    this.trace = trace
    this.seed = seed
    this.link = link
  }

  draw(...names: ReadonlyArray<string>): Draw {
    return drawFrom(this.seed, ...names)
  }

  record(kind: EventKind, connection: number, from: string, to: string, bytes = 0): void {
    this.trace.add(this.timeline.now(), kind, connection, from, to, bytes)
  }

  /** The host of this name; it exists from now on. */
  host(name: string): SimulatedHost {
    let host = this.hosts.get(name)
    if (host === undefined) {
      const n = this.hosts.size + 1
      host = new SimulatedHost(name, `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`, this.timeline)
      this.hosts.set(name, host)
    }
    return host
  }

  /** The host of this name or address, if there is one. */
  lookup(nameOrIp: string): SimulatedHost | undefined {
    const named = this.hosts.get(nameOrIp)
    if (named !== undefined) return named
    for (const host of this.hosts.values()) if (host.ip === nameOrIp) return host
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
    let options: LinkOptions = from === to ? { slicing: this.link.slicing } : this.link
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

  /** Puts a rule in force until its scope closes. */
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

  /** Ends a rule; the packets that it held go on. */
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

  /** The address translator between two hosts; the last rule that names one counts. */
  natBetween(a: string, b: string): Nat | undefined {
    return this.rules.findLast((rule) => rule.nat !== undefined && (rule.matches(a, b) || rule.matches(b, a)))?.nat
  }
}
