/** Zones of IPv6 addresses: `fe80::1%eth0`, the interface on which an address is meant. */
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Net from "node:net"
import * as Os from "node:os"

export const familyOf = (host: string): 4 | 6 => Net.isIP(host) === 4 ? 4 : 6

/** The name of the interface with a number. */
export const interfaceOf = (scopeId: number): string | undefined =>
  Object.entries(Os.networkInterfaces()).find(([, addresses]) =>
    addresses?.some((address) => address.family === "IPv6" && address.scopeid === scopeId)
  )?.[0]

/** An IP address as Node takes it: libuv knows zones by the names of their interfaces, and not by their numbers. */
export const withZoneName = (host: string): string =>
  host.replace(/%(\d+)$/, (whole, id: string) => {
    const name = interfaceOf(Number(id))
    return name === undefined ? whole : `%${name}`
  })

/** Whether an address means something on one interface alone. */
export const isLinkLocal = (host: string): boolean => /^fe[89ab][\da-f]:/i.test(host)

/** Why a link-local address cannot be had, as a sentence; undefined where its zone is an interface of this machine. */
const unknownZone = (host: string): string | undefined => {
  const zone = /%(.*)$/.exec(withZoneName(host))?.[1]
  if (zone === undefined) {
    return "a link-local address has to name its interface, as in [fe80::1%eth0]"
  }
  return Object.hasOwn(Os.networkInterfaces(), zone)
    ? undefined
    : `no network interface of this machine is called ${zone}`
}

/** What is wrong with a link-local address that the system refuses. */
export const wrongZone = (host: string): string =>
  unknownZone(host) ?? "no network interface of this machine has this address"

/** What keeps a link-local address from being dialled: libuv takes an unknown zone for none, and would dial elsewhere. */
export const undialledZone = (host: string): string | undefined =>
  isLinkLocal(host) && host.includes("%") ? unknownZone(host) : undefined

/** What a socket is bound to, as `effect/net` has it. An interface without a scope of its own (`lo`) is left out. */
export const inetAddressOf = (host: string, port: number): Result.Result<NetAddress.InetAddress, Error> =>
  Result.orElse(
    NetAddress.inetAddressFromHostString(
      host,
      port,
      NetAddress.scopeIdsFromInterfaces(Object.entries(Os.networkInterfaces()))
    ),
    () => NetAddress.inetAddressFromIpString(withoutZone(host), port)
  )

/** An IP address without its zone: certificates and `Host` headers have none. */
export const withoutZone = (host: string): string => host.replace(/%.*$/, "")
