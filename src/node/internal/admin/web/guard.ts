/** Who may ask: the token, in a header, in the query once, or in a cookie; and no page of another site. */
import * as Redacted from "effect/Redacted"
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import { isIP, isIPv6 } from "node:net"

/** A request, as far as it decides whether it may be answered. */
export interface Asked {
  readonly method: string
  /** Path and query. */
  readonly url: string
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly cookies: Readonly<Record<string, string | undefined>>
}

/**
 * What becomes of a request: it is answered, and `cookie` is set where the query had the token; or it is sent to the same
 * page without the token in its address; or it is refused.
 */
export type Verdict =
  | { readonly _tag: "Answer"; readonly cookie: boolean }
  | { readonly _tag: "Redirect"; readonly to: string }
  | { readonly _tag: "Refuse"; readonly status: 401 | 403; readonly error: string; readonly message: string }

export interface Guard {
  readonly judge: (asked: Asked) => Verdict
  readonly cookie: { readonly name: string; readonly value: string }
}

export const makeToken = (): Redacted.Redacted => Redacted.make(randomBytes(24).toString("base64url"))

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

/** The path and query of a request without the token, which is none of its parameters. */
export const withoutToken = (url: string): string => {
  const { path, query } = parts(url)
  if (!query.has("token")) return url
  query.delete("token")
  return query.size === 0 ? path : `${path}?${query}`
}

/** Takes as long for one wrong text as for another. */
const isSame = (given: string, wanted: Buffer): boolean => timingSafeEqual(digest(given), wanted)

const unbracketed = (host: string): string => host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host

/** The host of a `Host` header, without its port; undefined where it is none. */
const hostOf = (header: string): string | undefined => {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]/?#@\s]+)(?::\d{1,5})?$/i.exec(header)
  return match === null ? undefined : unbracketed(match[1]!.toLowerCase()).replace(/\.$/, "")
}

export const isLoopback = (host: string): boolean => {
  const plain = unbracketed(host.toLowerCase())
  return plain === "localhost" || plain === "::1" || (isIP(plain) === 4 && plain.startsWith("127."))
}

/** For a URL. */
export const inUrl = (host: string): string => isIPv6(host) ? `[${host}]` : host

const refuse = (status: 401 | 403, error: string, message: string): Verdict => ({
  _tag: "Refuse",
  status,
  error,
  message
})

const unknownHost = refuse(
  403,
  "ForeignHost",
  "this host name is not one of this server: use its IP address, or give the name in `hosts`"
)
const foreignOrigin = refuse(403, "ForeignOrigin", "pages of another site may not use this server")
const noToken = refuse(
  401,
  "NoToken",
  "a token is needed: open the address that the server printed, or send `Authorization: Bearer TOKEN`"
)
const wrongToken = refuse(401, "WrongToken", "this is not the token of this server: it may have started again since")

// what a browser may do for another site: open a page of ours, as from a link
const isNavigation = ({ headers, method }: Asked): boolean =>
  method === "GET" && headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document"

/** A browser tells where a request comes from, other programs do not. */
const isForeign = (asked: Asked): boolean => {
  const { host, origin, "sec-fetch-site": site } = asked.headers
  if (origin !== undefined && origin.toLowerCase() !== `http://${host!.toLowerCase()}`) {
    return origin.toLowerCase() !== `https://${host!.toLowerCase()}`
  }
  return site !== undefined && site !== "same-origin" && site !== "none" && !isNavigation(asked)
}

/** The path and the query of a request, whatever is in them. */
export const parts = (url: string): { readonly path: string; readonly query: URLSearchParams } => {
  const at = url.indexOf("?")
  return at < 0
    ? { path: url, query: new URLSearchParams() }
    : { path: url.slice(0, at), query: new URLSearchParams(url.slice(at + 1)) }
}

/** Paths that programs ask for; others are pages. */
export const isForPrograms = (path: string): boolean =>
  path.startsWith("/api/") || path === "/metrics" || path === "/openapi.json"

/** `token` undefined: none is asked for. `hosts` are names beside IP addresses and `localhost`. */
export const makeGuard = (
  { hosts, port, token }: {
    readonly hosts: ReadonlyArray<string>
    readonly port: number
    readonly token: Redacted.Redacted | undefined
  }
): Guard => {
  const known = new Set(["localhost", ...hosts.map((host) => unbracketed(host.toLowerCase()))])
  const text = token === undefined ? "" : Redacted.value(token)
  // not the token itself: another server on this host gets the cookies too
  const session = createHmac("sha256", text).update("holdfast admin").digest("base64url")
  const wanted = digest(text)
  const wantedSession = digest(session)
  const cookie = { name: `holdfast-admin-${port}`, value: session }

  const judgeToken = (asked: Asked): Verdict => {
    const answer: Verdict = { _tag: "Answer", cookie: false }
    if (token === undefined) return answer
    const { authorization } = asked.headers
    const { path, query } = parts(asked.url)
    const inQuery = query.get("token")
    const inCookie = asked.cookies[cookie.name]
    if (authorization !== undefined) {
      const bearer = /^bearer +(\S+) *$/i.exec(authorization)?.[1]
      return bearer !== undefined && isSame(bearer, wanted) ? answer : wrongToken
    }
    if (inQuery !== null) {
      if (!isSame(inQuery, wanted)) return wrongToken
      if (isForPrograms(path)) return { _tag: "Answer", cookie: true }
      // `//host` and `/\\host` are other servers
      return { _tag: "Redirect", to: `/${withoutToken(asked.url).replace(/^[/\\]+/, "")}` }
    }
    if (inCookie !== undefined) return isSame(inCookie, wantedSession) ? answer : wrongToken
    return noToken
  }

  return {
    cookie,
    judge: (asked) => {
      const host = asked.headers.host === undefined ? undefined : hostOf(asked.headers.host)
      if (host === undefined || (isIP(host) === 0 && !known.has(host))) return unknownHost
      if (isForeign(asked)) return foreignOrigin
      return judgeToken(asked)
    }
  }
}
