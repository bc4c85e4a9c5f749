/** Asks an admin API, and says what to do where it does not answer as one. */
import * as Effect from "effect/Effect"
import { causeCode, causeText, oneLine } from "../../internal/reasons/text.ts"
import type { Closing, Detail, Figures, Page, Query, Server } from "../../node/internal/admin/schemas.ts"
import { CommandFailed } from "../CommandFailed.ts"

/** The server is not there now: it may come back. */
export class Unreachable extends CommandFailed {}

/** There is no such connection any more. */
export class Gone extends CommandFailed {}

export interface Seen {
  readonly figures: Figures
  readonly servers: ReadonlyArray<Server>
  readonly page: Page
}

export interface Api {
  /** The address, without the token. */
  readonly address: string
  readonly look: (query: Query) => Effect.Effect<Seen, CommandFailed>
  readonly inspect: (id: number) => Effect.Effect<Detail, CommandFailed>
  readonly close: (id: number, closing: Closing) => Effect.Effect<void, CommandFailed>
}

const variable = "HOLDFAST_ADMIN_TOKEN"

// milliseconds: longer than the server takes to say that it is too slow
const patience = 10_000

const shape = "the address that `holdfast serve` printed, such as http://127.0.0.1:7900/?token=TOKEN"

const readAddress = (text: string): Effect.Effect<URL, CommandFailed> => {
  const full = /^https?:\/\//i.test(text) ? text : `http://${text}`
  const url = URL.canParse(full) ? new URL(full) : undefined
  return url === undefined || url.hostname === "" || (text.includes("://") && full !== text)
    ? Effect.fail(new CommandFailed({ message: `"${text.replace(/\?.*/s, "")}" is no address: give ${shape}` }))
    : Effect.succeed(url)
}

const withToken = `open ${shape}, or set ${variable}`

const refusal = (address: string, status: number, body: string): CommandFailed => {
  const said = ((): { readonly _tag?: unknown; readonly message?: unknown } => {
    try {
      const json: unknown = JSON.parse(body)
      return typeof json === "object" && json !== null ? json : {}
    } catch {
      return {}
    }
  })()
  const message = typeof said.message === "string" ? oneLine(said.message).slice(0, 300) : undefined
  if (said._tag === "NoToken") return new CommandFailed({ message: `${address} asks for a token: ${withToken}` })
  if (said._tag === "WrongToken") {
    return new CommandFailed({
      message: `${address} has another token, as it may have started again since: ${withToken}`
    })
  }
  if (message === undefined) {
    return new CommandFailed({
      message: `what answers at ${address} (${status}) is no admin API of Holdfast: give ${shape}`
    })
  }
  return status === 404 ? new Gone({ message }) : new CommandFailed({ message: `${address}: ${message}` })
}

const unreachable = (address: string, cause: unknown): Unreachable => {
  const inner = cause instanceof Error && cause.cause !== undefined ? cause.cause : cause
  const why = causeCode(inner) === "ECONNREFUSED"
    ? "nothing listens there"
    : inner instanceof Error && inner.name === "TimeoutError"
    ? "it does not answer"
    : causeText(inner)
  return new Unreachable({
    message: `${address} cannot be reached (${why}): start \`holdfast serve\`, or give ${shape}`
  })
}

const text = (query: object): string => {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "")
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()
}

type Shape = Readonly<Record<string, unknown>>

const isRecord = (value: unknown): value is Shape => typeof value === "object" && value !== null

/** Whether answers look like those of an admin API: any service may answer 200 with JSON of its own. */
const isSeen = ({ figures, page, servers }: Readonly<Record<keyof Seen, unknown>>): boolean =>
  isRecord(figures) && isRecord(figures.connections) && Number.isFinite(figures.at) &&
  Array.isArray(servers) && servers.every(isRecord) &&
  isRecord(page) && Array.isArray(page.connections) && page.connections.every(isRecord) && Number.isFinite(page.total)

/** The API at an address, with the token that is in it, or in the environment. */
export const makeApi = (given: string): Effect.Effect<Api, CommandFailed> =>
  Effect.map(readAddress(given), (url) => {
    const token = url.searchParams.get("token") ?? process.env[variable] ?? ""
    const address = url.origin
    const ask = <A>(path: string, init: { readonly method?: string; readonly body?: object } = {}) =>
      Effect.flatMap(
        Effect.tryPromise({
          try: async (signal) => {
            const response = await fetch(`${address}${path}`, {
              method: init.method ?? "GET",
              redirect: "manual",
              signal: AbortSignal.any([signal, AbortSignal.timeout(patience)]),
              headers: {
                ...(token === "" || token === "off" ? {} : { authorization: `Bearer ${token}` }),
                ...(init.body === undefined ? {} : { "content-type": "application/json" })
              },
              ...(init.body === undefined ? {} : { body: JSON.stringify(init.body) })
            })
            return { status: response.status, body: await response.text() }
          },
          catch: (cause) => unreachable(address, cause)
        }),
        ({ body, status }): Effect.Effect<A, CommandFailed> => {
          if (status !== 200) return Effect.fail(refusal(address, status, body))
          return Effect.try({ try: () => JSON.parse(body) as A, catch: () => refusal(address, status, body) })
        }
      )
    return {
      address,
      look: (query) =>
        Effect.all({
          figures: ask<Figures>("/api/figures"),
          servers: ask<ReadonlyArray<Server>>("/api/servers"),
          page: ask<Page>(`/api/connections?${text(query)}`)
        }).pipe(Effect.filterOrFail(isSeen, () => refusal(address, 200, ""))),
      inspect: (id) => ask<Detail>(`/api/connections/${id}`),
      close: (id, closing) => Effect.asVoid(ask(`/api/connections/${id}/close`, { method: "POST", body: closing }))
    }
  })
