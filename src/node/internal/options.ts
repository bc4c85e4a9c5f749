/** Checks options before anything is opened: what is wrong with them is an error with words, never an exception. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Net from "node:net"
import { count, definitionOf, duration, numberOf, wrongCount } from "../../internal/limits/definition.ts"
import { logLine } from "../../internal/reasons/logs.ts"
import type { Policy } from "../../Policy.ts"
import { type Descriptor, wrongDescriptor } from "./addresses/activation.ts"
import { type Address, isAbstract } from "./addresses/address.ts"
import type { Binding } from "./addresses/listen.ts"
import type { Owner } from "./addresses/socketFile.ts"
import { setsProbes, type Tcp, tcpOf } from "./stream/tcp.ts"

/** The options of a socket that are limits and in no policy: they are about what is around a conversation. */
export const definitions = {
  linger: definitionOf(
    duration("linger", { default: "1s", zero: "destroys it at once" }).says(
      "How long a connection that we are done with waits for the peer to be done as well"
    )
  ),
  attemptDelay: definitionOf(
    duration("attemptDelay", { default: "250ms", zero: "tries all at once" }).says(
      "How long an address of a name is tried alone before the next one is tried beside it",
      "The default is that of RFC 8305 (Happy Eyeballs)"
    )
  ),
  attemptTimeout: definitionOf(
    duration("attemptTimeout", { default: "0", zero: "off" }).says(
      "How long one address of a name may take",
      "`open` bounds all of them together"
    )
  ),
  followRedirects: definitionOf(
    count("followRedirects", { default: 0, minimum: 0, zero: "follows none" }).says(
      "How many times an upgrade goes where the server sends it (301, 302, 303, 307, 308)"
    )
  ),
  consent: definitionOf(
    duration("consent", { default: "1s", zero: "does not wait" }).says(
      "How long a server that asked for a certificate may say nothing, until its silence is taken for consent"
    )
  ),
  maxPending: definitionOf(
    count("maxPending", { default: 1024, minimum: 1 }).says(
      "The most connections in a TLS handshake, in an HTTP upgrade or not taken by a `run`, together"
    )
  ),
  backlog: definitionOf(
    count("backlog", { default: 511, minimum: 1 }).says(
      "The most connections that the kernel keeps and we did not accept yet",
      "The default is Node's; the kernel cuts it to `somaxconn`"
    )
  )
}

// the longest delay of a Node timer (2^31 - 1 ms, 24.8 days); a longer one would fire at once
export const longestTimer = 2_147_483_647

/** A limit of a policy as Node takes it: whole milliseconds, and 0 for none. */
export const limitOf = (duration: Duration.Duration): number => {
  const millis = Math.ceil(Duration.toMillis(duration))
  return millis > longestTimer ? 0 : millis
}

/**
 * Reads an option, or its default. A duration becomes milliseconds that a timer can sleep: everything longer, and what is
 * off, is 24.8 days.
 */
export const read = (
  name: keyof typeof definitions,
  given: Duration.Input | undefined
): Result.Result<number, string> => {
  const definition = definitions[name]
  const value = given ?? definition.default as Duration.Input
  if (definition.kind !== "duration") {
    const wrong = wrongCount(definition, value as number)
    return wrong === undefined ? Result.succeed(value as number) : Result.fail(wrong)
  }
  const read = Duration.fromInput(value)
  if (Option.isNone(read)) return Result.fail(`${name} is not a duration: ${String(value)}`)
  return Duration.toMillis(read.value) >= 0
    ? Result.succeed(Math.min(numberOf(definition, read.value), longestTimer))
    : Result.fail(`${name} is negative`)
}

/** What a listener and a dialler take of a policy. A duration that is off is 24.8 days. */
export interface OfPolicy {
  readonly tcp: Tcp
  /** In milliseconds. */
  readonly open: number
  /** In milliseconds. */
  readonly handshake: number
  readonly maxFrame: number
}

export const ofPolicy = (policy: Policy): OfPolicy => ({
  tcp: tcpOf(policy),
  open: limitOf(policy.open) || longestTimer,
  handshake: limitOf(policy.handshake) || longestTimer,
  maxFrame: policy.maxFrame
})

/** How to listen, apart from where. */
export interface Bound {
  readonly backlog?: number | undefined
  readonly reusePort?: boolean | undefined
  readonly ipv6Only?: boolean | undefined
  readonly fd?: Descriptor | undefined
  readonly mode?: number | undefined
  readonly owner?: Owner | undefined
}

/** Reads the options for an address; the failure is what is wrong with them. */
export const bindingOf = (address: Address, options: Bound): Result.Result<Binding, string> => {
  const { fd, ipv6Only = false, mode, owner, reusePort = false } = options
  const wrong = wrongBinding(address, options)
  return wrong === undefined
    ? Result.map(read("backlog", options.backlog), (backlog) => ({ backlog, reusePort, ipv6Only, fd, mode, owner }))
    : Result.fail(wrong)
}

const isId = (id: number | undefined): boolean =>
  id === undefined || (Number.isInteger(id) && id >= 0 && id < 2 ** 32 - 1)

const wrongBinding = (address: Address, { fd, ipv6Only, mode, owner, reusePort }: Bound): string | undefined => {
  const wrongFd = fd === undefined ? undefined : wrongDescriptor(fd)
  if (wrongFd !== undefined) return wrongFd
  if (mode !== undefined && !(Number.isInteger(mode) && mode >= 0 && mode <= 0o777)) {
    return `mode has to be from 0 to 0o777, it is ${mode}`
  }
  if (owner !== undefined && !(isId(owner.uid) && isId(owner.gid))) {
    return "owner has a uid and a gid, which are numbers as `id` prints them"
  }
  const makesFile = address.scheme === "unix" && !isAbstract(address.path) && fd === undefined
  for (const [name, given] of Object.entries({ mode, owner })) {
    if (given !== undefined && !makesFile) {
      return `${name} is that of a socket file, which only unix:// makes, with a path`
    }
  }
  if (reusePort === true && address.scheme === "unix" && isAbstract(address.path)) {
    return "reusePort is not for an abstract name, which one socket has at a time"
  }
  if (ipv6Only === true && (address.scheme === "unix" || Net.isIP(address.host) === 4)) {
    return "ipv6Only is for an IPv6 address, such as [::]"
  }
  return undefined
}

let isWarned = false

/** Says once that this Node leaves a part of keep-alive to the kernel. */
export const warnOf = (policy: Policy, canSet = setsProbes): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { keepAlive, keepAliveCount, keepAliveInterval } = tcpOf(policy)
    const asLibuv = keepAliveInterval === 1000 && keepAliveCount === 10
    if (canSet || isWarned || !keepAlive || asLibuv) return Effect.void
    isWarned = true
    return logLine(
      "Warn",
      `keepAliveInterval and keepAliveCount need Node 24.19 or newer, this is ${process.version}: they are 1 s and 10`
    )
  })
