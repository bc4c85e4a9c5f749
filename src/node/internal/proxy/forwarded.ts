/** The client of a request, as the proxies before us name it: `X-Forwarded-For`, or `Forwarded` (RFC 7239). */
import * as Result from "effect/Result"
import type * as Http from "node:http"
import * as Net from "node:net"
import type { Options } from "../../Proxy.ts"
import * as Address from "../addresses/address.ts"
import { plainIp, type Trust, trustOf } from "./trust.ts"

/** Whose word is taken, and the client after that. Addresses are text, as `203.0.113.9:49152`. */
export interface Forwarding {
  readonly isTrusted: (remote: string | undefined) => boolean
  /** The client's end where `remote` is trusted; the port only where it was said. */
  readonly clientOf: (remote: string | undefined, headers: Http.IncomingHttpHeaders) => string | undefined
}

/** The IP address of an end. */
export const hostOf = (remote: string | undefined): string | undefined => {
  if (remote === undefined) return undefined
  if (remote.startsWith("unix:")) return "unix"
  const inBrackets = /^\[([^\]]*)\]/.exec(remote)?.[1]
  return inBrackets ?? remote.replace(/:\d+$/, "")
}

/** An address as proxies write it, with a port or without; undefined for what is none (`unknown`, `_hidden`). */
const endOf = (text: string): string | undefined => {
  const [, inBrackets, portAfter, ipv4, port] =
    /^(?:\[([^\]]+)\](?::(\d{1,5}))?|([\d.]+)(?::(\d{1,5}))?)$/.exec(text) ?? []
  const host = inBrackets ?? ipv4 ?? text
  if (Net.isIP(host) === 0 || host.includes("%")) return undefined
  const at = portAfter ?? port
  return at === undefined ? Address.formatHost(plainIp(host)) : Address.formatInet(plainIp(host), Number(at))
}

/** Undefined: one that cannot be read. The last one is that of the nearest proxy. */
type Ends = ReadonlyArray<string | undefined>

const listed = (header: string): Ends => header.split(",").map((one) => endOf(one.trim()))

const token = "[!#$%&'*+.^_`|~\\w-]+"
const pair = new RegExp(`^\\s*(${token})=(?:"((?:[^"\\\\]|\\\\.)*)"|(${token}))\\s*$`)

/** One element (RFC 7239, 4). A comma in a quoted value makes two that cannot be read: no address has one. */
const elementOf = (text: string): string | undefined => {
  let end: string | undefined
  for (const one of text.split(";")) {
    const [, name, quoted, plain] = pair.exec(one) ?? []
    if (name === undefined) return undefined
    if (name.toLowerCase() === "for") end = endOf(quoted?.replace(/\\(.)/g, "$1") ?? plain!)
  }
  return end
}

const forwarded = (header: string): Ends => header.split(",").map(elementOf)

const readers = { "X-Forwarded-For": listed, Forwarded: forwarded }

/** Reads the options; none without `trustForwarded`. The failure is what is wrong with them. */
export const forwardingOf = (
  { forwardedHeader = "X-Forwarded-For", trustForwarded }: Options
): Result.Result<Forwarding | undefined, string> => {
  if (trustForwarded === undefined) return Result.succeed(undefined)
  if (!Object.hasOwn(readers, forwardedHeader)) {
    return Result.fail("`forwardedHeader` is \"X-Forwarded-For\" or \"Forwarded\"")
  }
  return Result.map(trustOf("trustForwarded", trustForwarded), (trust: Trust): Forwarding => {
    const read = readers[forwardedHeader]
    const isTrusted = (remote: string | undefined): boolean => trust(hostOf(remote))
    return {
      isTrusted,
      clientOf: (remote, headers) => {
        const header = headers[forwardedHeader.toLowerCase()]
        if (header === undefined || !isTrusted(remote)) return remote
        let client = remote
        for (const end of read(String(header)).toReversed()) {
          if (end === undefined) break
          client = end
          if (!isTrusted(end)) break
        }
        return client
      }
    }
  })
}
