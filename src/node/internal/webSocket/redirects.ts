/** Follows an upgrade to where a server sends it (RFC 9110, 15.4). */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Socket from "effect/socket/Socket"
import * as ConnectionError from "../../../ConnectionError.ts"
import * as Address from "../addresses/address.ts"
import { openError } from "../stream/duplex.ts"

/** Where WebSockets are. */
export type Web = Exclude<Address.Address, { readonly scheme: "unix" }>

const statuses = new Set([301, 302, 303, 307, 308])

const locationOf = ({ reason: { cause } }: Socket.SocketError): string | undefined =>
  cause instanceof ConnectionError.ConnectionError && cause.reason._tag === "UpgradeRefused" &&
    statuses.has(cause.reason.status)
    ? cause.reason.headers["location"]
    : undefined

const schemes: { readonly [protocol: string]: "ws" | "wss" | undefined } = {
  "http:": "ws",
  "ws:": "ws",
  "https:": "wss",
  "wss:": "wss"
}

/** Where a location leads from an address, or why it is not followed. */
const nextOf = (location: string, from: Web): Result.Result<Web, string> => {
  const path = from.tail.startsWith("/") ? from.tail : `/${from.tail}`
  const base = `${from.scheme === "wss" ? "https" : "http"}://${Address.formatInet(from.host, from.port)}${path}`
  if (!URL.canParse(location, base)) return Result.fail("to no URL")
  const { host, password, pathname, protocol, search, username } = new URL(location, base)
  const scheme = schemes[protocol]
  if (scheme === undefined) return Result.fail(`to ${protocol}//, where there are no WebSockets`)
  if (username !== "" || password !== "") return Result.fail("to a URL with a user in it")
  if (from.scheme === "wss" && scheme === "ws") return Result.fail("away from TLS")
  return Result.map(Address.parse(`${scheme}://${host}${pathname}${search}`, "dial"), (to) => to as Web)
}

const isSameOrigin = (one: Web, other: Web): boolean =>
  one.scheme === other.scheme && one.host === other.host && one.port === other.port

/**
 * Attempts an upgrade, and again where the server sends it, `most` times. `isHome` is false from the first step to another
 * origin on: what is meant for the first one is not for those.
 */
export const followed = <A, R>(
  address: Web,
  most: number,
  attempt: (to: Web, isHome: boolean) => Effect.Effect<A, Socket.SocketError, R>
): Effect.Effect<A, Socket.SocketError, R> => {
  const from = (at: Web, isHome: boolean, left: number): Effect.Effect<A, Socket.SocketError, R> =>
    Effect.catch(attempt(at, isHome), (error) => {
      const location = left === 0 ? undefined : locationOf(error)
      if (location === undefined) return Effect.fail(error)
      const next = nextOf(location, at)
      if (Result.isSuccess(next)) return from(next.success, isHome && isSameOrigin(at, next.success), left - 1)
      const cause = new Error(`the server redirects ${next.failure}`)
      return Effect.fail(openError(ConnectionError.make(new ConnectionError.HandshakeFailed({ cause }))))
    })
  return from(address, true, most)
}
