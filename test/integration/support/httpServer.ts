/** An HTTP server in a process of its own, which answers every request with its path. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpServer } from "../../../src/node/index.ts"

Effect.gen(function*() {
  const server = yield* HttpServer.make("http://127.0.0.1:0")
  const answer = Effect.map(HttpServerRequest.HttpServerRequest, ({ url }) => HttpServerResponse.text(url))
  yield* server.http.serve(answer)
  yield* Console.log(`listening ${server.url}`)
  return yield* Effect.never
}).pipe(Effect.scoped, NodeRuntime.runMain)
