/** What a dialler asks an upgrade with, evaluated for every try. */
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as Result from "effect/Result"
import type * as Socket from "effect/socket/Socket"
import { openError } from "../stream/duplex.ts"
import { isToken } from "../upgrade/form.ts"

/**
 * A value, or an effect that is run for every try: for credentials that expire.
 *
 * It runs within the time that opening may take. What it fails with is the cause of an `OpenFailed`, which is worth another try; a
 * `ConnectionError` that it fails with is the reason itself: fail with `HandshakeFailed` where no other try can help.
 *
 * @category models
 * @since 0.1.0
 */
export type Fresh<A> = A | Effect.Effect<A, unknown>

/** Of `Dialer.DialOptions`. */
export interface Given {
  readonly headers?: Fresh<Readonly<Record<string, string>>> | undefined
  readonly cookies?: Fresh<Readonly<Record<string, string>>> | undefined
  readonly protocols?: Fresh<string | ReadonlyArray<string>> | undefined
}

/** What one try asks with. Names of headers are in lower case. */
export interface Asking {
  readonly headers: Readonly<Record<string, string>>
  readonly protocols: ReadonlyArray<string>
}

const own = /^(connection|upgrade|content-length|transfer-encoding|sec-websocket-.*)$/i

/** What is wrong with headers. Node itself refuses characters that HTTP does not allow. */
const wrongHeader = (headers: Readonly<Record<string, string>>): string | undefined => {
  const name = Object.keys(headers).find((name) => own.test(name))
  return name === undefined ? undefined : `the header ${name} belongs to the upgrade itself`
}

const wrongProtocol = (protocols: ReadonlyArray<string>): string | undefined => {
  const odd = protocols.find((one, i) => !isToken(one) || protocols.indexOf(one) !== i)
  return odd === undefined ? undefined : `the subprotocol ${JSON.stringify(odd)} is no token of HTTP, or is there twice`
}

const listOf = (protocols: string | ReadonlyArray<string> = []): ReadonlyArray<string> =>
  typeof protocols === "string" ? [protocols] : protocols

const cookieHeader = (cookies: Readonly<Record<string, string>>): Result.Result<string, string> =>
  Result.mapBoth(
    Cookies.setAll(Cookies.empty, Object.entries(cookies).map(([name, value]) => [name, value, undefined] as const)),
    {
      onFailure: () => "`cookies` has a name or a value that no cookie can have",
      onSuccess: Cookies.toCookieHeader
    }
  )

/** The parts, evaluated, as one; the failure is what is wrong with them. */
const asking = (
  headers: Readonly<Record<string, string>> = {},
  cookies: Readonly<Record<string, string>> = {},
  protocols?: string | ReadonlyArray<string>
): Result.Result<Asking, string> =>
  Result.gen(function*() {
    const offered = listOf(protocols)
    const wrong = wrongHeader(headers) ?? wrongProtocol(offered)
    if (wrong !== undefined) return yield* Result.fail(wrong)
    const all = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
    const cookie = yield* cookieHeader(cookies)
    if (cookie !== "") all["cookie"] = all["cookie"] === undefined ? cookie : `${all["cookie"]}; ${cookie}`
    return { headers: all, protocols: offered }
  })

const plain = <A>(given: Fresh<A> | undefined): A | undefined => Effect.isEffect(given) ? undefined : given

/** What is wrong with those of the options that are values. */
export const check = ({ cookies, headers, protocols }: Given): Result.Result<unknown, string> =>
  asking(plain(headers), plain(cookies), plain(protocols))

const fresh = <A>(given: Fresh<A> | undefined): Effect.Effect<A | undefined, unknown> =>
  Effect.isEffect(given) ? given : Effect.succeed(given)

/** Evaluates the options for one try. */
export const evaluate = ({ cookies, headers, protocols }: Given): Effect.Effect<Asking, Socket.SocketError> =>
  Effect.all([fresh(headers), fresh(cookies), fresh(protocols)], { concurrency: "unbounded" }).pipe(
    Effect.flatMap((parts) => Effect.fromResult(Result.mapError(asking(...parts), (detail) => new Error(detail)))),
    Effect.mapError(openError)
  )
