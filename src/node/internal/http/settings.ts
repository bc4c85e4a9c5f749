/** The URL, the options and the policy of an HTTP server, checked, as Node takes them. */
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import type { Policy } from "../../../Policy.ts"
import type * as Proxy from "../../Proxy.ts"
import type * as Upgrade from "../../Upgrade.ts"
import * as Address from "../addresses/address.ts"
import type { Binding } from "../addresses/listen.ts"
import * as Options from "../options.ts"
import { type Behind, behindOf } from "../proxy/behind.ts"
import type { Securing as Handshaking } from "../tls/handshakes.ts"
import * as Securing from "../tls/securing.ts"
import { isPath, type Rules, rulesOf } from "../webSocket/rules.ts"

/** What the connections of one server share. Limits are milliseconds, and 0 is none. */
export interface Settings {
  readonly policy: Policy
  readonly handshake: number
  readonly frame: number
  readonly idle: number
  readonly writeStall: number
  readonly maxAge: number
  /** How long after `maxAge` an answer may still take; none is `Infinity`. */
  readonly maxAgeGrace: number
  /** None is `Infinity`. */
  readonly drain: number
  readonly linger: number
}

/** How often to check the limits that Node or `HttpConnection` look for periodically, in milliseconds. */
export const checkEvery = ({ frame, handshake, maxAge, writeStall }: Settings): number => {
  const shortest = Math.min(...[handshake, frame, writeStall, maxAge].filter((limit) => limit > 0))
  return Math.max(50, Math.min(5_000, Math.ceil(shortest / 4)))
}

/** The options that are checked here; see `HttpServer.Options`. */
interface Given extends Securing.Given, Options.Bound, Upgrade.Options<unknown>, Proxy.Options {
  readonly webSocket?: string | undefined
  readonly linger?: Duration.Input | undefined
}

/** What `HttpServer.make` was given, checked. */
export interface Prepared {
  /** As it may appear in an error. */
  readonly url: string
  readonly address: Address.Address
  readonly binding: Binding
  readonly settings: Settings
  /** With `https`. */
  readonly securing: (() => Handshaking) | undefined
  /** Which proxies are believed. */
  readonly behind: Behind
  /** Its hooks run in the context of `HttpServer.make`. */
  readonly rules: Rules<never>
}

/** What cannot be used, in the fields of a `ListenFailed`. */
interface Unusable {
  readonly url: string
  readonly reason: "BadUrl" | "BadOption" | "BadTls"
  readonly detail: string
}

/** Checks the URL and the options of an HTTP server. */
export const prepare = (
  rawUrl: string,
  policy: Policy,
  options: Given
): Result.Result<Prepared, Unusable> => {
  const url = Address.redactUrl(rawUrl)
  const as = (reason: Unusable["reason"]) => Result.mapError((detail: string): Unusable => ({ url, reason, detail }))
  return Result.gen(function*() {
    if (!/^(?:(?:https?|unix):\/\/|unix:@)/i.test(rawUrl)) {
      return yield* as("BadUrl")(Result.fail("an HTTP server has an http://, https:// or unix:// URL"))
    }
    // the same rules as for what is below HTTP
    const address = yield* as("BadUrl")(Result.mapError(
      Address.parse(rawUrl.replace(/^https:/i, "tls:").replace(/^http:/i, "tcp:"), "listen"),
      (detail) => detail.replaceAll("tcp://", "http://").replaceAll("tls://", "https://")
    ))
    const linger = yield* as("BadOption")(Options.read("linger", options.linger))
    const binding = yield* as("BadOption")(Options.bindingOf(address, options))
    if (options.webSocket !== undefined && !isPath(options.webSocket)) {
      return yield* as("BadOption")(Result.fail("`webSocket` is a path that starts with a slash and has no ? and no #"))
    }
    if (options.webSocket === undefined && options.upgrade !== undefined) {
      return yield* as("BadOption")(Result.fail("`upgrade` is for the path of `webSocket`, which is missing"))
    }
    const rules = yield* as("BadOption")(rulesOf(options.webSocket, options))
    const behind = yield* as("BadOption")(behindOf(options))
    return {
      url,
      address,
      binding,
      behind,
      rules: rules as Rules<never>,
      settings: {
        policy,
        handshake: Options.limitOf(policy.handshake),
        frame: Options.limitOf(policy.frame),
        idle: Options.limitOf(policy.idle) || Options.limitOf(policy.silence),
        writeStall: Options.limitOf(policy.writeStall),
        maxAge: Options.limitOf(policy.maxAge),
        maxAgeGrace: Duration.toMillis(policy.maxAgeGrace),
        drain: Duration.toMillis(policy.drain),
        linger
      },
      securing: address.scheme === "tls"
        ? yield* as("BadTls")(Result.mapError(
          Securing.securingOf("https://", options, ["http/1.1"]),
          (detail) => detail.replace(/, and both are missing$/, "")
        ))
        : undefined
    }
  })
}
