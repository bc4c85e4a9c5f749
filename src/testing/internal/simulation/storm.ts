/** A storm of faults over a network: which kinds, when, where and for how long, all from one seed. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { joinedScoped } from "../../../internal/scheduling/supervised.ts"
import type { Latency, Network } from "../../Network.ts"
import { type Fault, type FaultKind, type Faults, kinds } from "../../World.ts"
import { systemError } from "../fabric/failures.ts"
import type { Draw } from "../fabric/random.ts"
import { finite, interval, refuse } from "../fabric/settings.ts"

// shorter than most round trips
const shortest = 10

const pick = <A>(draw: Draw, items: ReadonlyArray<A>): A => items[Math.floor(draw() * items.length)]

/** Anything between the two, each order of magnitude as often as any other. */
const between = (draw: Draw, least: number, most: number): number =>
  Math.round(Math.exp(Math.log(least) + draw() * (Math.log(Math.max(least, most)) - Math.log(least))))

/** `Faults`, checked: times in milliseconds. */
export interface Settings extends Pick<Faults, "hosts" | "hostsOf"> {
  readonly kinds: ReadonlyArray<FaultKind>
  readonly every: number
  readonly longest: number
  readonly longestStall: number
}

/** The faults that may come, checked before a run begins. */
export const settings = ({ every, hosts, hostsOf, longest, longestStall, kinds: wanted = kinds }: Faults): Settings => {
  for (const kind of [...wanted, ...Object.keys(hostsOf ?? {})]) {
    if (!kinds.some((known) => known === kind)) refuse("faults", kind, `one of ${kinds.join(", ")}`)
  }
  const most = finite("faults.longest", longest ?? "2 minutes")
  return {
    kinds: wanted,
    hosts,
    hostsOf,
    every: interval("faults.every", every ?? "20 seconds"),
    longest: most,
    longestStall: longestStall === undefined ? most : finite("faults.longestStall", longestStall)
  }
}

/** The kinds of one run. */
export const choose = (draw: Draw, { kinds: allowed }: Settings): ReadonlyArray<FaultKind> =>
  kinds.filter((kind) => draw() < 0.5 && allowed.includes(kind))

/** Says so where none of the hosts that may be hit is there: such a storm tests nothing. */
const unknownHosts = ({ hosts, hostsOf }: Settings, known: ReadonlyArray<string>): string | undefined => {
  for (const named of [hosts, ...Object.values(hostsOf ?? {})]) {
    if (named === undefined || named.length === 0 || named.some((host) => known.includes(host))) continue
    return `faults: no fault can hit ${named.join(", ")}: the hosts of the network are ${known.join(", ") || "none"}`
  }
  return undefined
}

const latencyOf = (draw: Draw): Latency => {
  const base = between(draw, 1, 2000)
  switch (Math.floor(draw() * 3)) {
    case 0:
      return base
    case 1:
      return { uniform: [Math.floor(base / 4), base] }
    default:
      return { exponential: base, min: Math.floor(base / 10), max: 20 * base }
  }
}

const errors = {
  "dial-error": ["dial", "connect", ["ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "EADDRNOTAVAIL"]],
  "accept-error": ["accept", "accept", ["EMFILE", "ENFILE", "ECONNABORTED"]],
  "read-error": ["read", "read", ["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH"]],
  "write-error": ["write", "write", ["EPIPE", "ECONNRESET", "ENOBUFS"]]
} as const

/** Begins a fault, which ends with the scope. */
const begin = (
  kind: FaultKind,
  network: Network,
  draw: Draw,
  name: string,
  other: string,
  lasting: number
): Effect.Effect<unknown, never, Scope.Scope> => {
  const host = network.host(name)
  const link = draw() < 0.25 ? host.link : network.link(name, other)
  switch (kind) {
    case "latency":
      return link.configure({ latency: latencyOf(draw) })
    case "bandwidth":
      return link.configure({ bandwidth: between(draw, 500, 1_000_000) })
    case "slicing":
      return link.configure({ slicing: draw() < 0.5 })
    case "partition":
      return link.partition
    case "one-way":
      return link.from(draw() < 0.5 ? name : other).partition
    case "clog":
      return link.clog
    case "vanish":
      return draw() < 0.5 ? host.vanish : link.vanish
    case "reset":
      return draw() < 0.5 ? host.reset : link.reset
    case "nat":
      return link.nat({ timeout: between(draw, 1000, 350_000), expired: draw() < 0.5 ? "drop" : "reset" })
    case "rebind":
      return link.rebind
    case "crash":
      return Effect.acquireRelease(host.crash, () => host.restart)
    case "stall":
      return host.stall(lasting)
    case "skew":
      return Effect.acquireRelease(
        host.skew(Math.round((draw() - 0.5) * 2 * between(draw, 1000, 86_400_000))),
        () => host.skew(0)
      )
    case "refuse":
      return host.refuse()
    default: {
      const [operation, syscall, codes] = errors[kind]
      const error = systemError(syscall, pick(draw, codes))
      return network.inject({ operation, error, host: name, times: 1 + Math.floor(draw() * 5) })
    }
  }
}

const instant = new Set<FaultKind>(["vanish", "reset", "rebind"])

/**
 * Lets faults happen for a while; all are over when this ends. `told` is called with each as it begins. Returns what makes
 * no sense about the hosts.
 */
export const storm = (
  network: Network,
  draw: Draw,
  duration: number,
  chosen: ReadonlyArray<FaultKind>,
  options: Settings,
  told: (fault: Fault) => void
): Effect.Effect<string | undefined> =>
  Effect.scoped(Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const end = clock.currentTimeMillisUnsafe() + duration
    const { longest, longestStall } = options
    const every = options.every * 4 ** (2 * draw() - 1)
    while (true) {
      const left = end - clock.currentTimeMillisUnsafe()
      const wait = Math.ceil(-every * Math.log(1 - draw()))
      if (chosen.length === 0 || wait >= left) {
        yield* Effect.sleep(left)
        const { hosts } = yield* network.snapshot
        return unknownHosts(options, hosts.map(({ name }) => name))
      }
      yield* Effect.sleep(wait)
      const kind = pick(draw, chosen)
      const { hosts, links } = yield* network.snapshot
      const mayBeHit = options.hostsOf?.[kind] ?? options.hosts ?? hosts.map(({ name }) => name)
      const present = hosts.filter(({ name }) => mayBeHit.includes(name))
      if (present.length === 0) continue
      const host = pick(draw, present)
      // it is down, and cannot be hit again
      if (!host.isUp && (kind === "crash" || kind === "stall")) continue
      const others = links.flatMap(({ from, to }) => from === host.name ? [to] : [])
      const other = others.length === 0 ? host.name : pick(draw, others)
      const most = Math.min(left - wait, kind === "stall" ? longestStall : longest)
      const lasting = instant.has(kind) || most < shortest ? 0 : Math.min(most, between(draw, shortest, most))
      if (kind === "stall" && lasting === 0) continue
      told({ at: clock.currentTimeMillisUnsafe(), kind, where: `${host.name} ${other}`, lasting })
      const fault = begin(kind, network, draw, host.name, other, lasting)
      const lives = Effect.ignoreCause(Effect.scoped(Effect.andThen(fault, Effect.sleep(lasting))), { log: "Error" })
      yield* joinedScoped("fault", lives, { startImmediately: true })
    }
  }))
