/** An answer that is no upgrade, as the error of the dialler, with when to come back (RFC 9110, 10.2.3). */
import type * as Socket from "effect/socket/Socket"
import type * as Http from "node:http"
import * as ConnectionError from "../../../ConnectionError.ts"
import { openError } from "../stream/duplex.ts"

/** An answer that RFC 6455 does not allow. */
export const violation = (detail: string): Socket.SocketError =>
  openError(ConnectionError.make(new ConnectionError.ProtocolViolation({ detail })))

// the three forms of RFC 9110, 5.6.7; `Date.parse` takes much more
const httpDate = /^[A-Z][a-z]{2,8}, \d{2}[ -][A-Z][a-z]{2}[ -]\d{2,4} \d{2}:\d{2}:\d{2} GMT$/
const asctime = /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/

const dateOf = (text: string | undefined): number | undefined => {
  if (text === undefined) return undefined
  const millis = httpDate.test(text) ? Date.parse(text) : asctime.test(text) ? Date.parse(`${text} GMT`) : NaN
  return Number.isNaN(millis) ? undefined : millis
}

/**
 * In how many milliseconds the peer wants to be asked again. A date is compared with the date of the answer, so that the two
 * clocks need not agree, and with `now` where it has none.
 */
export const retryAfter = (headers: Http.IncomingHttpHeaders, now: number): number | undefined => {
  const said = headers["retry-after"]?.trim()
  if (said === undefined) return undefined
  if (/^\d+$/.test(said)) return Number(said) * 1000
  const at = dateOf(said)
  return at === undefined ? undefined : Math.max(0, at - (dateOf(headers.date) ?? now))
}

const textOf = (headers: Http.IncomingHttpHeaders): Record<string, string> => {
  const all: Array<readonly [string, string]> = []
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) all.push([name, typeof value === "string" ? value : value.join(", ")])
  }
  return Object.fromEntries(all)
}

/** What an answer means that is no 101. */
export const refusal = (
  { headers, statusCode, statusMessage }: Http.IncomingMessage,
  now: number
): Socket.SocketError => {
  const after = retryAfter(headers, now)
  const reason = new ConnectionError.UpgradeRefused({
    status: statusCode ?? 0,
    ...(statusMessage ? { statusText: statusMessage } : {}),
    headers: textOf(headers)
  })
  return openError(ConnectionError.make(reason, after === undefined ? undefined : { after, spread: 0 }))
}
