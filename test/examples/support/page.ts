/** A page of an example, and its WebSocket on the same port: the page's code is bundled by esbuild when the program starts. */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Fiber, Layer } from "effect"
import { HttpRouter, HttpServer as EffectHttpServer, HttpServerResponse } from "effect/http"
import { build } from "esbuild"
import { HttpServer, type Upgrade } from "holdfast/node"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

/** The code of a page and all that it imports, as one module. `folder` is the URL of the example. */
const bundle = (folder: URL): Effect.Effect<string> =>
  Effect.promise(async () => {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL("view.ts", folder))],
      bundle: true,
      minify: true,
      platform: "browser",
      format: "esm",
      conditions: ["holdfast-source"],
      write: false
    })
    return outputFiles[0]!.text
  })

/** Listens for the page and for WebSockets on `/live`. `page` is a layer that serves `index.html` and the bundle of `view.ts`. */
export const make = Effect.fnUntraced(function*(
  port: number,
  folder: URL,
  options: Upgrade.Options = {}
) {
  // a browser that is fast waits for it
  const script = yield* Effect.forkScoped(bundle(folder))
  const html = readFileSync(new URL("index.html", folder), "utf8")
  const server = yield* HttpServer.make(`http://127.0.0.1:${port}`, { ...options, webSocket: "/live" })
  const routes = Layer.merge(
    HttpRouter.add("GET", "/", HttpServerResponse.text(html, { contentType: "text/html; charset=utf-8" })),
    HttpRouter.add(
      "GET",
      "/view.js",
      Effect.map(
        Fiber.join(script),
        (text) => HttpServerResponse.text(text, { contentType: "text/javascript; charset=utf-8" })
      )
    )
  )
  const page = HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }).pipe(
    Layer.provide([Layer.succeed(EffectHttpServer.HttpServer, server.http), NodeHttpServer.layerHttpServices])
  )
  return { url: server.url, webSockets: server.webSockets, page }
})
