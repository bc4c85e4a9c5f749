/** What a client says to a SOCKS5 proxy, and what it hears (RFC 1928, RFC 1929). */
import * as NetAddress from "effect/net/NetAddress"
import * as Net from "node:net"
import type { ProxyReason } from "../../Proxy.ts"
import type { Credentials, Target } from "./through.ts"

/** What to send, and how many bytes of the answer to wait for. */
export interface Turn {
  readonly say: Buffer | undefined
  readonly hear: number
}

/** Why the proxy did not connect. */
export interface Refusal {
  readonly reason: ProxyReason
  readonly detail: string
}

const methods = { none: 0, password: 2 }

const replies: { readonly [code: number]: Refusal | undefined } = {
  1: { reason: "GeneralFailure", detail: "general SOCKS server failure" },
  2: { reason: "NotAllowed", detail: "connection not allowed by its rules" },
  3: { reason: "NetworkUnreachable", detail: "network unreachable" },
  4: { reason: "HostUnreachable", detail: "host unreachable, or it does not know the name" },
  5: { reason: "ConnectionRefused", detail: "connection refused" },
  6: { reason: "TtlExpired", detail: "TTL expired" },
  7: { reason: "CommandNotSupported", detail: "it supports no CONNECT" },
  8: { reason: "AddressTypeNotSupported", detail: "it does not support this kind of address" }
}

const foreign: Refusal = { reason: "Protocol", detail: "it does not answer in SOCKS5" }

const short = (text: string): Buffer => {
  const bytes = Buffer.from(text)
  return Buffer.concat([Buffer.from([bytes.length]), bytes])
}

const addressOf = (host: string): Buffer => {
  if (Net.isIP(host) === 0) return Buffer.concat([Buffer.from([3]), short(host)])
  const ip = NetAddress.ipFromStringUnsafe(host)
  return NetAddress.isIpv4Address(ip)
    ? Buffer.from([1, ...NetAddress.ipv4ToOctets(ip)])
    : Buffer.from([4, ...NetAddress.ipv6ToOctets(ip)])
}

/** The conversation up to the first byte of the peer; it returns why there will be none. */
export function* conversation(
  { host, port }: Target,
  credentials: Credentials | undefined
): Generator<Turn, Refusal | undefined, Buffer> {
  const offered = credentials === undefined ? [methods.none] : [methods.none, methods.password]
  const [version, method] = yield { say: Buffer.from([5, offered.length, ...offered]), hear: 2 }
  if (version !== 5) return foreign
  if (method === methods.password && credentials !== undefined) {
    const { password, username } = credentials
    const [, status] = yield { say: Buffer.concat([Buffer.from([1]), short(username), short(password)]), hear: 2 }
    if (status !== 0) return { reason: "AuthenticationRequired", detail: "it does not take our user and password" }
  } else if (method !== methods.none) {
    const detail = credentials === undefined
      ? "it wants a user and a password"
      : "it takes no user and password, and wants another proof"
    return { reason: "AuthenticationRequired", detail }
  }
  const end = Buffer.alloc(2)
  end.writeUInt16BE(port)
  const asked = Buffer.concat([Buffer.from([5, 1, 0]), addressOf(host), end])
  const [answered, reply, , kind] = yield { say: asked, hear: 4 }
  if (answered !== 5) return foreign
  if (reply !== 0) return replies[reply!] ?? { reason: "GeneralFailure", detail: `reply ${reply}` }
  // where it connects from is of no use here
  const length = kind === 1 ? 4 : kind === 4 ? 16 : kind === 3 ? (yield { say: undefined, hear: 1 })[0]! : undefined
  if (length === undefined) return foreign
  yield { say: undefined, hear: length + 2 }
  return undefined
}
