/** The IP addresses of a peer: looked up, of the families that are wanted, in the order to try them. */
import * as Effect from "effect/Effect"
import type { AddressResolver } from "effect/net/AddressResolver"
import * as NetAddress from "effect/net/NetAddress"
import * as Dns from "node:dns"
import * as Net from "node:net"
import { familyOf, interfaceOf, undialledZone, withZoneName } from "../addresses/zone.ts"
import { interleaved, type Target } from "./attempts.ts"

/** Which addresses, and where they come from. */
export interface Lookup {
  readonly family: 4 | 6 | undefined
  readonly lookup: AddressResolver["Service"] | undefined
}

/** What `getaddrinfo` says, by Node. It cannot be interrupted: its answer is ignored then. */
const byNode = (host: string, port: number, family: 4 | 6 | undefined): Effect.Effect<ReadonlyArray<Target>, unknown> =>
  Effect.callback((resume) => {
    Dns.lookup(host, { all: true, family: family ?? 0, order: "verbatim" }, (cause, addresses) => {
      resume(
        cause === null
          ? Effect.succeed(addresses.map(({ address }) => ({ family: familyOf(address), host: address, port })))
          : Effect.fail(cause)
      )
    })
  })

const targetOf = (address: NetAddress.InetAddress): Target =>
  address._tag === "InetAddressV4"
    ? { family: 4, host: NetAddress.formatIp(address.address), port: address.port }
    : {
      family: 6,
      host: `${NetAddress.formatIp(address.address)}${
        address.scopeId === 0 ? "" : `%${interfaceOf(address.scopeId) ?? address.scopeId}`
      }`,
      port: address.port
    }

const byResolver = (
  resolver: AddressResolver["Service"],
  host: string,
  port: number,
  family: 4 | 6 | undefined
): Effect.Effect<ReadonlyArray<Target>, unknown> =>
  // what a resolver throws is its failure, and none of ours
  Effect.suspend(() =>
    family === undefined
      ? resolver.resolve(`${host}:${port}`)
      : resolver.resolve(`${host}:${port}`, { family: family === 4 ? "IPv4" : "IPv6" })
  ).pipe(
    Effect.map((addresses) =>
      addresses.flatMap((address) => NetAddress.isInetAddress(address) ? targetOf(address) : [])
    ),
    Effect.catchDefect((defect) => Effect.fail(defect))
  )

/** The addresses of a host, in the order to try them; an IP address is itself. */
export const targetsOf = (
  host: string,
  port: number,
  { family, lookup }: Lookup
): Effect.Effect<ReadonlyArray<Target>, unknown> => {
  if (Net.isIP(host) !== 0) {
    return Effect.suspend(() => {
      const wrong = undialledZone(host)
      return wrong === undefined
        ? Effect.succeed([{ family: familyOf(host), host: withZoneName(host), port }])
        : Effect.fail(new Error(wrong))
    })
  }
  const found = lookup === undefined ? byNode(host, port, family) : byResolver(lookup, host, port, family)
  return Effect.flatMap(found, (targets) => {
    const wanted = targets.filter((target) => family === undefined || target.family === family)
    return wanted.length > 0
      ? Effect.succeed(interleaved(wanted))
      : Effect.fail(new Error(`${host} has no ${family === undefined ? "" : `IPv${family} `}address`))
  })
}
