/** The proxy on the way to an address: the one that was given, or the one of the environment. */
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { Through } from "../../Proxy.ts"
import type { Address } from "../addresses/address.ts"
import { type Environment, proxyFor } from "./environment.ts"
import { type Gate, gateOf } from "./through.ts"

/** What is wrong with the option is a sentence without its password. `variables` are there where the environment is asked. */
export const gateFor = (
  address: Address,
  proxy: string | Redacted.Redacted<string> | Through | undefined,
  variables: Environment | undefined
): Result.Result<Gate | undefined, string> => {
  if (variables !== undefined) {
    // what is on this machine alone, or means something here alone, no proxy reaches
    const named = address.scheme === "unix" || address.host.includes("%")
      ? undefined
      : proxyFor(variables, address.scheme, address.host, address.port)
    return named === undefined
      ? Result.succeed(undefined)
      : Result.mapError(gateOf(named.url), (detail) => `the variable ${named.variable} ${detail}`)
  }
  if (proxy === undefined) return Result.succeed(undefined)
  if (address.scheme === "unix") return Result.fail("`proxy` is not for unix://, which is on this machine")
  if (address.host.includes("%")) {
    return Result.fail("`proxy` is not for an address with a zone, which means something here alone")
  }
  return Result.mapError(gateOf(proxy), (detail) => `\`proxy\` ${detail}`)
}
