/** Checks options before anything is opened: what is wrong with them is an error with words, never an exception. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import {
  count,
  type Definition,
  definitionOf,
  duration,
  numberOf,
  wrongCount
} from "../../internal/limits/definition.ts"
import * as Policy from "../../Policy.ts"
import { tcpOptions } from "./stream/tcp.ts"

const policy = (field: keyof typeof Policy.Policy.fields, name: string = field): Definition => ({
  ...definitionOf(Policy.Policy.fields[field]),
  name
})

/** The options of a socket that are limits. One that a policy has too is the policy's, by the name that it has here. */
export const definitions = {
  keepAlive: policy("keepAlive"),
  openTimeout: policy("open", "openTimeout"),
  handshakeTimeout: policy("handshake", "handshakeTimeout"),
  noDelay: policy("noDelay"),
  maxFrame: policy("maxFrame"),
  linger: definitionOf(
    duration("linger", { default: "1s", zero: "destroys it at once" }).says(
      "How long a connection that we are done with waits for the peer to be done as well"
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
  name: Exclude<keyof typeof definitions, "noDelay">,
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

/** Reads the options of TCP. Keep-alive that is off is 0 there. */
export const readTcp = (
  { keepAlive, noDelay = Policy.defaults.noDelay }: {
    readonly keepAlive?: Duration.Input | undefined
    readonly noDelay?: boolean | undefined
  }
): Result.Result<ReturnType<typeof tcpOptions>, string> =>
  Result.map(
    read("keepAlive", keepAlive),
    (millis) => tcpOptions(millis === longestTimer ? 0 : millis, noDelay)
  )
