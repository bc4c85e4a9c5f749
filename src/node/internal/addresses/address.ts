/** Addresses as URLs: `tcp://`, `tls://`, `unix://`, `ws://`, `wss://`. */
import * as Result from "effect/Result"
import * as Net from "node:net"

/** What a URL says, with nothing resolved. `host` has no brackets; `tail` is what was written after the port. */
export type Address =
  | {
    readonly scheme: "tcp" | "tls" | "ws" | "wss"
    readonly host: string
    readonly port: number
    /** The path as written, with its query: empty when none was. */
    readonly tail: string
  }
  | {
    readonly scheme: "unix"
    /** The path of a socket file, or an abstract name behind an `@`, as `ss` and systemd write it. */
    readonly path: string
  }

const authority = /^(\[[^\]@/?#]*\]|[^[\]:@/?#]*)(?::([^/?#@:]*))?(\/[^?#]*)?(\?[^#]*)?(#.*)?$/
const defaultPorts: { readonly [scheme: string]: number | undefined } = { ws: 80, wss: 443 }

// sun_path of Linux (108) and of macOS (104), each with its final zero byte; libuv refuses longer ones with EINVAL
export const longestUnixPath = process.platform === "linux" ? 107 : 103

export const isAbstract = (path: string): boolean => path.startsWith("@")

/** A path as Node takes it: the kernel tells abstract names by their first byte, which is zero. */
export const pipeOf = (path: string): string => isAbstract(path) ? `\0${path.slice(1)}` : path

const parseUnix = (path: string): Result.Result<Address, string> => {
  if (path === "") return Result.fail("the path is missing; write unix:///path/to.sock")
  if (path === "@") return Result.fail("the name is missing; write unix://@name")
  if (!path.startsWith("/") && !isAbstract(path)) {
    return Result.fail("the path has to be absolute, with three slashes: unix:///path/to.sock")
  }
  if (path.includes("\0")) return Result.fail("the path contains a zero byte")
  if (isAbstract(path) && process.platform !== "linux") {
    return Result.fail("abstract names are Linux's alone; write unix:///path/to.sock")
  }
  return Buffer.byteLength(path) > longestUnixPath
    ? Result.fail(`the path is longer than the ${longestUnixPath} bytes a Unix socket can have`)
    : Result.succeed({ scheme: "unix", path })
}

/**
 * Reads a URL. A listener needs a port and takes 0 (any); a dialer may leave the port of `ws` and `wss` out and has
 * no use for 0. The failure is what is wrong, as the end of a sentence.
 */
export const parse = (url: string, role: "listen" | "dial"): Result.Result<Address, string> => {
  // others write unix:@name
  const whole = url.replace(/^unix:(?=@)/i, "unix://")
  const [, scheme, rest] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(whole) ?? []
  switch (scheme?.toLowerCase()) {
    case undefined:
      return Result.fail("it is not a URL; write tcp://, tls://, unix://, ws:// or wss:// and then the address")
    case "unix":
      return parseUnix(rest!)
    case "tcp":
    case "tls":
    case "ws":
    case "wss":
      return parseInet(scheme.toLowerCase() as "tcp" | "tls" | "ws" | "wss", rest, role)
    default:
      return Result.fail(`the scheme ${scheme}:// is unknown; there are tcp, tls, unix, ws and wss`)
  }
}

/** What is wrong with an address in brackets. */
const wrongIpv6 = (host: string): string | undefined =>
  Net.isIPv6(host) && /^[^%]+(?:%[\w.~-]+)?$/.test(host)
    ? undefined
    : `[${host}] is no IPv6 address, which is all that brackets are for`

// with underscores, which names of containers have, and in any script: resolvers write those in ASCII
const label = /^[\p{L}\p{N}\p{M}_](?:[\p{L}\p{N}\p{M}_-]*[\p{L}\p{N}\p{M}_])?$/u

/** What is wrong with a host without brackets: a name, or an IPv4 address. */
const wrongName = (host: string): string | undefined => {
  const labels = host.replace(/\.$/, "").split(".")
  // a name cannot end in a number: it would be taken for an IPv4 address, and resolvers complete short ones
  if (/^(?:\d+|0x[\da-f]*)$/i.test(labels.at(-1)!)) {
    return Net.isIPv4(host) ? undefined : `${host} is no IPv4 address, which is four numbers from 0 to 255`
  }
  return host.length <= 253 && labels.every((it) => it.length <= 63 && label.test(it))
    ? undefined
    : `${JSON.stringify(host)} is no host name`
}

const parseInet = (
  scheme: "tcp" | "tls" | "ws" | "wss",
  rest: string,
  role: "listen" | "dial"
): Result.Result<Address, string> => {
  if (/^[^/?#]*@/.test(rest)) return Result.fail("it has a user name in it, which no transport here sends")
  const parts = authority.exec(rest)
  if (parts === null) return Result.fail("it is no host:port; an IPv6 address goes in brackets: [::1]:7000")
  const [, hostText, portText, path = "", query = "", fragment] = parts
  // in a URL the % before a zone is written %25 (RFC 6874), and by people as it is
  const host = hostText.startsWith("[") ? hostText.slice(1, -1).replace(/%25(?=.)/, "%") : hostText
  if (host === "") {
    return Result.fail(
      role === "listen"
        ? "the host is missing; 127.0.0.1 is this machine only, 0.0.0.0 or [::] is every interface"
        : "the host is missing"
    )
  }
  const wrong = hostText.startsWith("[") ? wrongIpv6(host) : wrongName(host)
  if (wrong !== undefined) return Result.fail(wrong)
  const port = portText === undefined && role === "dial" ? defaultPorts[scheme] : portText
  if (port === undefined || port === "") {
    return Result.fail(`the port is missing${role === "listen" ? "; port 0 picks a free one" : ""}`)
  }
  if (!/^\d{1,5}$/.test(String(port)) || Number(port) > 65535) {
    return Result.fail(`the port ${port} is not a number from ${role === "listen" ? 0 : 1} to 65535`)
  }
  if (role === "dial" && Number(port) === 0) return Result.fail("port 0 is for listening; nothing answers there")
  if (fragment !== undefined) return Result.fail("it has a fragment (#), which is never sent")
  const web = scheme === "ws" || scheme === "wss"
  if (!web && ((path !== "" && path !== "/") || query !== "")) {
    return Result.fail(`${scheme}:// has no path; nothing can follow the port`)
  }
  if (role === "listen" && query !== "") return Result.fail("it has a query (?), which a listener ignores")
  return Result.succeed({ scheme, host, port: Number(port), tail: web ? path + query : "" })
}

/** A host as text, IPv6 in brackets, an IPv4 address mapped into IPv6 as the IPv4 address it is. */
export const formatHost = (host: string): string => {
  const plain = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)?.[1] ?? host
  return plain.includes(":") ? `[${plain}]` : plain
}

/** A host and a port as text. */
export const formatInet = (host: string, port: number): string => `${formatHost(host)}:${port}`

/** An address as a URL, with the port that was really bound. */
export const formatUrl = (address: Address, port?: number): string =>
  address.scheme === "unix"
    ? `unix://${address.path}`
    : `${address.scheme}://${formatInet(address.host, port ?? address.port)}${address.tail}`

/** A URL as it may appear in an error: without its password. */
export const redactUrl = (url: string): string => url.replace(/^(?!unix:)([^/]*:\/\/)[^/?#]*@/i, "$1***@")

/** Our end of a TCP connection. */
export const localOf = (conn: Net.Socket): string | undefined =>
  conn.localAddress === undefined || conn.localPort === undefined
    ? undefined
    : formatInet(conn.localAddress, conn.localPort)

/** The peer's end of a TCP connection. */
export const remoteOf = (conn: Net.Socket): string | undefined =>
  conn.remoteAddress === undefined || conn.remotePort === undefined
    ? undefined
    : formatInet(conn.remoteAddress, conn.remotePort)
