/** A server of HTTP under a policy; says `listening URL`. usage: httpServer.ts POLICY */
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { Policy } from "../../../src/index.ts"
import { HttpServer } from "../../../src/node/index.ts"

const main = Effect.gen(function*() {
  const policy = yield* Policy.decode(JSON.parse(process.argv[2]!))
  const server = yield* HttpServer.make("http://127.0.0.1:0", { policy })
  yield* server.http.serve(Effect.succeed(HttpServerResponse.text("ok")))
  console.log(`listening ${server.url}`)
  yield* Effect.never
})

Effect.runFork(Effect.scoped(main))
