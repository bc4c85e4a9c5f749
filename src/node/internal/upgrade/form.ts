/** What a request has to be to be looked at, and to be upgraded: RFC 9112 and RFC 6455, 4.2.1. */
import type * as Http from "node:http"
import { listed } from "./request.ts"

/** A status, and the headers that have to be said with it. */
export interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Default: what the status is called. */
  readonly body?: string | undefined
}

const badRequest: Answer = { status: 400 }
/** RFC 9110, 15.5.22: what to upgrade to has to be said. RFC 6455, 4.4: and in which version. */
export const upgradeRequired: Answer = {
  status: 426,
  headers: { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13" }
}
/** RFC 9110, 15.6.4: for now, and a second later is soon enough to ask again. */
export const unavailable = (why: string): Answer => ({ status: 503, headers: { "Retry-After": "1" }, body: why })
const methodNotAllowed: Answer = { status: 405, headers: { Allow: "GET" } }

const versions = new Set(["1.0", "1.1"])

const hosts = ({ rawHeaders }: Http.IncomingMessage): number => {
  let count = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i].length === 4 && rawHeaders[i].toLowerCase() === "host") count++
  }
  return count
}

/**
 * Whether any server should answer it: HTTP/1.x, and one host. Node takes `HTTP/0.9` and `HTTP/2.0` in the line of a request,
 * keeps the first of two hosts, and asks for one only where nothing is upgraded.
 */
export const isWellFormed = (request: Http.IncomingMessage): boolean => {
  if (!versions.has(request.httpVersion)) return false
  const count = hosts(request)
  return count === 1
    ? !/[\s,/?#@\\]/.test(request.headers.host ?? "")
    : count === 0 && request.httpVersion === "1.0"
}

const hasBody = ({ headers }: Http.IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || !/^0*$/.test(headers["content-length"] ?? "")

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** Whether it is a token of HTTP (RFC 9110, 5.6.2), as the name of a subprotocol has to be. */
export const isToken = (text: string): boolean => token.test(text)

/** Tokens, each of them once (RFC 6455, 4.1). */
const areSubprotocols = (header: string | undefined): boolean => {
  if (header === undefined) return true
  const offered = listed(header)
  return offered.length > 0 && offered.every(isToken) && new Set(offered).size === offered.length
}

const asks = (header: string | undefined, wanted: string): boolean =>
  listed(header).some((one) => one.toLowerCase() === wanted)

/** Whether it is a WebSocket that it asks for. */
export const asksForWebSocket = ({ headers }: Http.IncomingMessage): boolean => asks(headers.upgrade, "websocket")

/** Why a well-formed request for a WebSocket, on a path that has them, cannot be one. */
export const refusalOf = (request: Http.IncomingMessage): Answer | undefined => {
  const { headers, httpVersion, method } = request
  if (method !== "GET") return methodNotAllowed
  // RFC 9110, 7.8: in HTTP/1.0 the header means nothing
  if (httpVersion === "1.0" || !asks(headers.connection, "upgrade") || !asksForWebSocket(request)) {
    return upgradeRequired
  }
  // 16 bytes in base64
  if (!/^[+/0-9A-Za-z]{22}==$/.test(headers["sec-websocket-key"] ?? "")) return badRequest
  if (headers["sec-websocket-version"] !== "13") return upgradeRequired
  // what follows the head is frames
  if (hasBody(request) || !areSubprotocols(headers["sec-websocket-protocol"])) return badRequest
  return undefined
}
