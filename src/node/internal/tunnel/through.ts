/** A proxy to dial through: its URL and its credentials, checked. */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { domainToASCII } from "node:url"
import type { Through } from "../../Proxy.ts"
import * as Address from "../addresses/address.ts"
import * as Material from "../tls/material.ts"

export interface Credentials {
  readonly username: string
  readonly password: string
}

/** A proxy, ready to be dialled. */
export interface Gate {
  readonly speaks: "http" | "socks5"
  readonly host: string
  readonly port: number
  /** Its URL without user and password. */
  readonly name: string
  readonly credentials: Credentials | undefined
  /** With TLS to the proxy itself. */
  readonly tls: Tls.ConnectionOptions | undefined
}

const ports: { readonly [scheme: string]: number | undefined } = { http: 80, https: 443, socks5: 1080, socks5h: 1080 }

const noUrl = "is no URL of a proxy, as http://host:3128, https://host:3129 or socks5://host:1080 is one"

const reveal = (value: string | Redacted.Redacted<string>): string =>
  Redacted.isRedacted(value) ? Redacted.value(value) : value

/** What the URL says, or what is wrong with it, in which no password is repeated. */
const parse = (text: string): Result.Result<Omit<Gate, "tls"> & { readonly isSecure: boolean }, string> => {
  if (!URL.canParse(text)) return Result.fail(noUrl)
  const { hash, hostname, password, pathname, port, protocol, search, username } = new URL(text)
  const scheme = protocol.slice(0, -1)
  const usual = ports[scheme]
  if (usual === undefined || hostname === "") return Result.fail(noUrl)
  if ((pathname !== "" && pathname !== "/") || search !== "" || hash !== "") {
    return Result.fail("has something behind its port (are / ? # of a password percent-encoded?)")
  }
  if (port === "0") return Result.fail("has the port 0, where nothing answers")
  const host = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname
  if (hostname.startsWith("[") && !Net.isIPv6(host)) return Result.fail(noUrl)
  const at = port === "" ? usual : Number(port)
  const read = Result.try({
    try: () => ({ username: decodeURIComponent(username), password: decodeURIComponent(password) }),
    catch: () => "has a user or a password that is not percent-encoded as it should be"
  })
  return Result.map(read, (credentials) => ({
    speaks: scheme.startsWith("socks") ? "socks5" : "http",
    host,
    port: at,
    name: `${scheme}://${Address.formatInet(host, at)}`,
    credentials: credentials.username === "" && credentials.password === "" ? undefined : credentials,
    isSecure: scheme === "https"
  }))
}

const wrongCredentials = (speaks: Gate["speaks"], { password, username }: Credentials): string | undefined => {
  if (speaks === "http") return username.includes(":") ? "has a user with a colon, which HTTP cannot say" : undefined
  return Buffer.byteLength(username) > 255 || Buffer.byteLength(password) > 255 || username === ""
    ? "has a user or a password that SOCKS5 cannot say: it takes 1 to 255 bytes"
    : undefined
}

/** Reads a proxy. What is wrong with it is the end of a sentence that begins with its option. */
export const gateOf = (given: string | Redacted.Redacted<string> | Through): Result.Result<Gate, string> => {
  const { ca, password, url, username }: Through = typeof given === "string" || Redacted.isRedacted(given)
    ? { url: given }
    : given
  return Result.gen(function*() {
    const { isSecure, ...gate } = yield* parse(reveal(url))
    const credentials = username === undefined && password === undefined ? gate.credentials : {
      username: username ?? gate.credentials?.username ?? "",
      password: password === undefined ? gate.credentials?.password ?? "" : reveal(password)
    }
    const wrong = credentials === undefined ? undefined : wrongCredentials(gate.speaks, credentials)
    if (wrong !== undefined) return yield* Result.fail(wrong)
    if (!isSecure) return { ...gate, credentials, tls: undefined }
    const options = yield* Result.mapError(Material.tlsOptions({ ca }), (detail) => `has a problem: ${detail}`)
    return { ...gate, credentials, tls: { secureContext: Tls.createSecureContext(options) } }
  })
}

/** What a proxy is to connect to. */
export interface Target {
  /** An IP address without brackets, or a name, as DNS has it. */
  readonly host: string
  readonly port: number
}

/** A host as a proxy is told it: names in ASCII. */
export const targetOf = (host: string, port: number): Target => ({
  host: Net.isIP(host) === 0 ? domainToASCII(host) || host : host,
  port
})
