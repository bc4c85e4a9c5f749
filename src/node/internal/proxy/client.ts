/** Whose a request of HTTP is, where a trusted proxy says it. */
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import type * as Http from "node:http"
import * as Address from "../addresses/address.ts"
import { type Forwarding, hostOf } from "./forwarded.ts"

/** Runs what handles requests with the client's address in place of the proxy's, which is `peerAddress` then. */
export const withClient =
  ({ clientOf }: Forwarding, path: string | undefined) =>
  <A, E, R>(handled: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | HttpServerRequest.HttpServerRequest> =>
    Effect.updateService(handled, HttpServerRequest.HttpServerRequest, (request) => {
      const source = request.source as Http.IncomingMessage
      const peer = path ?? Address.remoteOf(source.socket)
      const client = clientOf(peer, source.headers)
      return client === peer
        ? request
        : request.modify({ remoteAddress: Option.fromUndefinedOr(hostOf(client)), peerAddress: request.remoteAddress })
    })
