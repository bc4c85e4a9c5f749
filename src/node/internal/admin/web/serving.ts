/** The HTTP server of the admin API: where it listens, how much it lets in, and what stands before its routes. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as ByteSize from "effect/ByteSize"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as OpenApi from "effect/http-api/OpenApi"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import { causeResponse } from "effect/http/HttpServerError"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout } from "node:timers/promises"
import { logError } from "../../../../internal/reasons/logs.ts"
import type { Actions } from "../actions.ts"
import { api } from "../api.ts"
import type { Readers } from "../changes.ts"
import { handlers } from "../handlers.ts"
import { type Guard, makeGuard, parts, withoutToken } from "./guard.ts"
import { pages, security } from "./pages.ts"
import { refusal } from "./refusal.ts"

// admin connections, those of streams included
const mostConnections = 64
const mostBody = ByteSize.kibibytes(64)
// milliseconds: for a request to arrive, to be answered, and for a reader that takes nothing of an answer. Node ends such a
// reader after one or two of these: it asks whether the system took anything since it asked last
const arrival = 10_000
const answer = 30_000
const stall = 15_000
// for the last words to streams, twice
const goodbye = 50

export interface Place {
  readonly host: string
  readonly port: number
}

const listenAt = (host: string, port: number) =>
  Effect.gen(function*() {
    const node = Http.createServer({
      headersTimeout: arrival,
      requestTimeout: arrival,
      connectionsCheckingInterval: 1000,
      keepAliveTimeout: 5000,
      maxHeaderSize: 16_384
    })
    node.maxConnections = mostConnections
    node.setTimeout(stall)
    const server = yield* NodeHttpServer.make(() => node, { host, port, disablePreemptiveShutdown: true })
    // streams do not end by themselves
    yield* Effect.addFinalizer(() => Effect.sync(() => node.closeAllConnections()))
    return { server, port: (node.address() as AddressInfo).port }
  })

/** Listens there, or on a free port of the host where the port is taken and `elsewhere` allows it. */
const listen = ({ host, port }: Place, elsewhere: boolean) =>
  elsewhere && port !== 0 ? Effect.catch(listenAt(host, port), () => listenAt(host, 0)) : listenAt(host, port)

const json = (status: number, error: string, message: string): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe({ _tag: error, message }, { status })

const withCookie = (
  response: HttpServerResponse.HttpServerResponse,
  { cookie: { name, value } }: Guard
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.setCookieUnsafe(response, name, value, { httpOnly: true, sameSite: "strict", path: "/" })

type App<R> = Effect.Effect<HttpServerResponse.HttpServerResponse, unknown, R>

const refusals = {
  400: "this is no request of this API: see /openapi.json",
  413: "the body of a request may have 64 KiB",
  415: "the body of a request is JSON: send `Content-Type: application/json`"
} as const

const invalid = (status: number): HttpServerResponse.HttpServerResponse =>
  json(status, "Invalid", status in refusals ? refusals[status as keyof typeof refusals] : refusals[400])

/** A request that cannot be read is its sender's mistake, and anything else is ours. */
const failed = (cause: Cause.Cause<unknown>): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  // its reader is gone, or the server stops
  if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause as Cause.Cause<never>)
  return Effect.flatMap(causeResponse(cause), ([{ status }]) =>
    status < 500
      ? Effect.succeed(invalid(status))
      : Effect.as(
        logError("the admin API failed", cause),
        json(500, "Failed", "the admin API failed: see the log of this program")
      ))
}

/** Stands before the routes. */
const guarded = <R>(guard: Guard, app: App<R>): Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  never,
  R | HttpServerRequest
> =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest
    const verdict = guard.judge(request)
    if (verdict._tag === "Refuse") return refusal(request, verdict)
    if (verdict._tag === "Redirect") {
      return withCookie(HttpServerResponse.redirect(verdict.to, { status: 303 }), guard)
    }
    const answered = yield* Effect.provideService(
      app,
      HttpServerRequest,
      request.modify({ url: withoutToken(request.url) })
    )
    // Effect says this one in plain text
    const response = answered.status === 415 ? invalid(415) : answered
    return verdict.cookie ? withCookie(response, guard) : response
  }).pipe(
    Effect.timeoutOrElse({
      duration: answer,
      orElse: () => Effect.succeed(json(503, "TooSlow", "this took too long"))
    }),
    Effect.catchCause(failed),
    Effect.map(HttpServerResponse.setHeaders(security))
  )

const routes = (actions: Actions) =>
  Layer.mergeAll(
    handlers(actions),
    HttpRouter.use((router) =>
      Effect.gen(function*() {
        const page = yield* pages
        const document = JSON.stringify(OpenApi.fromApi(api))
        yield* router.add(
          "GET",
          "/openapi.json",
          HttpServerResponse.text(document, { contentType: "application/json" })
        )
        yield* router.add(
          "GET",
          "/metrics",
          Effect.map(
            actions.metrics,
            (text) => HttpServerResponse.text(text, { contentType: "text/plain; version=0.0.4; charset=utf-8" })
          )
        )
        yield* router.add("*", "*", (request) => {
          return Effect.succeed(
            request.method === "GET" || request.method === "HEAD"
              ? page(parts(request.url).path)
              : json(404, "NotFound", "there is nothing here for this method: see /openapi.json")
          )
        })
      })
    )
  )

/** Who watches a drain sees its end. Sockets take real time, whatever the clock of a test says. */
const lastWords = (readers: Readers): Effect.Effect<void> =>
  Effect.promise(async () => {
    if (readers.count === 0) return
    // changes that wait are told first
    await setTimeout(goodbye)
    Deferred.doneUnsafe(readers.over, Effect.void)
    await setTimeout(goodbye)
  })

/** Serves until the scope closes. Gives back the port. */
export const serve = (
  makeActions: (readers: Readers, scope: Scope.Scope) => Actions,
  options: {
    readonly place: Place
    readonly elsewhere: boolean
    readonly token: Redacted.Redacted | undefined
    readonly hosts: ReadonlyArray<string>
  }
) =>
  Effect.gen(function*() {
    const { port, server } = yield* listen(options.place, options.elsewhere)
    const readers: Readers = { count: 0, over: yield* Deferred.make<void>() }
    const guard = makeGuard({ hosts: options.hosts, token: options.token, port })
    const app = yield* Effect.provide(
      HttpRouter.toHttpEffect(routes(makeActions(readers, yield* Effect.scope))),
      HttpServer.layerServices
    )
    yield* server.serve(guarded(guard, app)).pipe(
      Effect.provideService(HttpIncomingMessage.MaxBodySize, mostBody),
      Effect.provideService(HttpMiddleware.TracerDisabledWhen, () => true)
    )
    yield* Effect.addFinalizer(() => lastWords(readers))
    return port
  })
