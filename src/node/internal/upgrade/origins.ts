/** Which pages may open a WebSocket: the header `Origin`, which browsers send and pages cannot change. */
import * as Result from "effect/Result"
import type { Request } from "./request.ts"

/**
 * Which pages may open a WebSocket here, by the header `Origin` of the request (RFC 6454). A request without one does not come
 * from a page, and is let in in any case.
 *
 * - `"same-host"`: pages of the host and port that the header `Host` names, and no others. Over our own TLS only pages of
 *   `https`.
 * - `"any"`: every page there is. Only where no cookie, certificate or address lets a client do more than anyone may.
 * - A list of origins (`"https://app.example"`), `"same-host"` among them where it is meant; `"null"` stands for pages that have
 *   none (sandboxed frames, files).
 * - A function that gets the origin as it was sent.
 *
 * @category models
 * @since 0.1.0
 */
export type Origins =
  | "same-host"
  | "any"
  | ReadonlyArray<string>
  | ((origin: string, request: Request) => boolean)

/** Whether a request may be upgraded. What the application's function throws is thrown here. */
export type OriginRule = (request: Request) => boolean

/** The origin as browsers write it (RFC 6454, 6.2): without a path, without the port that its scheme has. */
const originOf = (text: string): string | undefined => {
  if (!/^[a-z][a-z0-9+.-]*:\/\/[^/?#\\@\s]+$/i.test(text) || !URL.canParse(text)) return undefined
  const { host, protocol } = new URL(text)
  return `${protocol}//${host}`
}

const isSameHost = (origin: string, request: Request): boolean => {
  const { headers: { host }, isSecure } = request
  const [scheme] = origin.split("://", 1)
  // TLS may end at a proxy in front of us: then we cannot tell which of the two it was
  if (host === undefined || !(scheme === "https" || (scheme === "http" && !isSecure))) return false
  return originOf(`${scheme}://${host}`) === origin
}

/** Reads the option; the failure is what is wrong with it. */
export const originRule = (origins: Origins = "same-host"): Result.Result<OriginRule, string> => {
  if (origins === "any") return Result.succeed(() => true)
  if (typeof origins === "function") {
    return Result.succeed((request) =>
      request.headers["origin"] === undefined || origins(request.headers["origin"], request)
    )
  }
  const allowed = new Set<string>()
  for (const one of typeof origins === "string" ? [origins] : origins) {
    const origin = one === "null" || one === "same-host" ? one : originOf(one.replace(/\/$/, ""))
    if (origin === undefined) {
      return Result.fail(
        `\`origins\` has ${JSON.stringify(one)}, which is no origin, as https://app.example:8443 is one`
      )
    }
    allowed.add(origin)
  }
  return Result.succeed((request) => {
    const sent = request.headers["origin"]
    if (sent === undefined) return true
    const origin = sent === "null" ? sent : originOf(sent)
    return origin !== undefined && origin !== "same-host" &&
      (allowed.has(origin) || (allowed.has("same-host") && isSameHost(origin, request)))
  })
}
