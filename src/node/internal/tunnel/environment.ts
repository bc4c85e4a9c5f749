/** Which proxy the environment names for an address: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl has them. */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Net from "node:net"

/** What the variables say. */
export interface Environment {
  readonly https: string | undefined
  readonly http: string | undefined
  readonly all: string | undefined
  readonly no: string | undefined
}

const read = (name: string): Effect.Effect<string | undefined> =>
  Effect.match(Effect.flatMap(Config.option(Config.String(name)), Effect.succeed), {
    onFailure: () => undefined,
    onSuccess: (value) => Option.getOrUndefined(value)?.trim() || undefined
  })

/** The lower case counts before the upper case. */
const either = (name: string): Effect.Effect<string | undefined> =>
  Effect.flatMap(read(name), (value) => value === undefined ? read(name.toUpperCase()) : Effect.succeed(value))

export const environment: Effect.Effect<Environment> = Effect.gen(function*() {
  // a program of CGI gets a header `Proxy` of its client as HTTP_PROXY
  const isCgi = (yield* read("REQUEST_METHOD")) !== undefined
  return {
    https: yield* either("https_proxy"),
    http: isCgi ? yield* read("http_proxy") : yield* either("http_proxy"),
    all: yield* either("all_proxy"),
    no: yield* either("no_proxy")
  }
})

/** Whether `NO_PROXY` has a host: by its name or that of a domain it is in, by its address or range, with a port or without. */
export const isExempt = (list: string | undefined, host: string, port: number): boolean => {
  const name = host.toLowerCase().replace(/\.$/, "").replace(/%.*$/, "")
  const family = Net.isIP(name)
  return (list ?? "").toLowerCase().split(/[\s,]+/).filter((one) => one !== "").some((one) => {
    if (one === "*") return true
    const [, inBrackets, plain, only] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(one) ?? []
    if (only !== undefined && Number(only) !== port) return false
    const entry = inBrackets ?? plain ?? one
    if (family !== 0) return covers(entry, name, family)
    const domain = entry.replace(/^\*?\.|\.$/g, "")
    return domain !== "" && (name === domain || name.endsWith(`.${domain}`))
  })
}

const covers = (entry: string, ip: string, family: number): boolean => {
  const [address, prefix] = entry.split("/", 2) as [string, string?]
  if (Net.isIP(address) !== family) return false
  const bits = family === 4 ? 32 : 128
  const width = prefix === undefined ? bits : Number(prefix)
  if (!Number.isInteger(width) || width < 0 || width > bits) return false
  const list = new Net.BlockList()
  const kind = family === 4 ? "ipv4" : "ipv6"
  list.addSubnet(address, width, kind)
  return list.check(ip, kind)
}

/** The URL of the proxy, if there is one. A variable without a scheme means `http`. */
export const proxyFor = (
  { all, http, https, no }: Environment,
  scheme: string,
  host: string,
  port: number
): { readonly variable: string; readonly url: string } | undefined => {
  if (isExempt(no, host, port)) return undefined
  const [variable, url] = scheme === "tls" || scheme === "wss" || scheme === "https"
    ? ["HTTPS_PROXY", https]
    : scheme === "ws" || scheme === "http"
    ? ["HTTP_PROXY", http]
    : ["ALL_PROXY", all]
  if (url !== undefined) return { variable, url: withScheme(url) }
  return all === undefined ? undefined : { variable: "ALL_PROXY", url: withScheme(all) }
}

const withScheme = (url: string): string => url.includes("://") ? url : `http://${url}`
