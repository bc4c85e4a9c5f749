/** The page of the chat, against a real server over WebSocket, and as a bundle for a browser. */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { SocketServer } from "effect/socket"
import { build } from "esbuild"
import { Listener } from "holdfast/node"
import { fileURLToPath } from "node:url"
import { until } from "../../integration/support/kit.ts"
import { chat, Users } from "./chat.ts"
import * as Browser from "./page.ts"
import type { Event as ChatEvent } from "./protocol.ts"

const users = Layer.succeed(Users, { byToken: (token) => Effect.succeed(token === "secret" ? "ada" : undefined) })

/** A chat at an address, until it is stopped or the test ends. */
const serve = Effect.fnUntraced(function*(url: string) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const listener = yield* Scope.provide(Listener.make(url), scope)
  const listening = Layer.succeed(SocketServer.SocketServer, listener)
  yield* Layer.buildWithScope(chat.pipe(Layer.provide([listening, users])), scope)
  return { url: listener.url, stop: Scope.close(scope, Exit.void) }
})

const makePage = () => {
  const page = { window: new EventTarget(), status: "", heard: new Array<ChatEvent>() }
  return Object.assign(page, {
    showStatus: (text: string) => void (page.status = text),
    show: (event: ChatEvent) => void page.heard.push(event)
  })
}

const says = (text: string, page: { readonly heard: ReadonlyArray<ChatEvent> }) =>
  until(`"${text}" is heard`, () => page.heard.some((event) => event._tag === "Said" && event.text === text))

it.live("comes back at once when the network is back, with what was typed meanwhile", () =>
  Effect.gen(function*() {
    const first = yield* serve("ws://127.0.0.1:0/chat")
    const page = makePage()
    const { say } = yield* Browser.chat(first.url, { token: "secret", room: "tea" }, page)
    yield* say("hello")
    yield* says("hello", page)
    assert.strictEqual(page.status, "online")

    yield* first.stop
    // each event is a try that fails, so that the next wait is longer
    yield* until("the page waits for more than 5 s", () => {
      const seconds = Number(/next try in (\d+) s/.exec(page.status)?.[1] ?? 0)
      if (seconds > 0 && seconds <= 5) page.window.dispatchEvent(new Event("online"))
      return seconds > 5
    })
    page.window.dispatchEvent(new Event("offline"))
    yield* until("the page says so", () => page.status === "offline: no network")
    const typed = yield* Effect.forkChild(say("are you there?"))
    yield* serve(first.url)
    page.window.dispatchEvent(new Event("online"))
    yield* until("it is online again", () => page.status === "online", 2000)
    yield* says("are you there?", page)
    assert.isDefined(typed.pollUnsafe())
  }))

it.live("says why it does not come back", () =>
  Effect.gen(function*() {
    const { url } = yield* serve("ws://127.0.0.1:0/chat")
    const page = makePage()
    yield* Browser.chat(url, { token: "a guess", room: "tea" }, page)
    yield* until("it is closed", () => page.status.startsWith("closed"))
    assert.deepInclude(page.heard, {
      _tag: "Bye",
      why: "the handshake failed: log in first, with a token that is known"
    })
  }))

it("is bundled for a browser: no module of Node, nothing of the server, no MessagePack", async () => {
  const { metafile, outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("page.ts", import.meta.url))],
    bundle: true,
    minify: true,
    platform: "browser",
    format: "esm",
    conditions: ["holdfast-source"],
    metafile: true,
    write: false
  })
  const [{ text }] = outputFiles
  const carried = Object.values(metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([name, { bytesInOutput }]) => bytesInOutput > 0 ? [name] : [])
  )
  assert.deepStrictEqual(Object.values(metafile.outputs).flatMap(({ imports }) => imports), [])
  assert.deepStrictEqual(
    carried.filter((name) => /src\/(node|cli|testing)\/|msgpack\/msgpack|Server\.ts/.test(name)),
    []
  )
  const page = await import(`data:text/javascript,${encodeURIComponent(text)}`)
  assert.isFunction(page.chat)
})
