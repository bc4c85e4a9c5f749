/** Upgrades that a server sends elsewhere: how far, and with what. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Codec, Connection } from "../../src/index.ts"
import { Dialer, Listener, Upgrade } from "../../src/node/index.ts"
import { serve } from "../integration/support/kit.ts"
import { certificate } from "./fixtures/kit.ts"
import { httpProxy } from "./fixtures/proxies.ts"

const lines = { codec: Codec.lines() }

/** A server that sends requests on `/` elsewhere, and takes those on `/live`; it remembers all of them. */
const start = Effect.fnUntraced(function*(scheme: "ws" | "wss", location: string = "/live", status = 302, ca?: string) {
  const asked: Array<Upgrade.Request> = []
  const note = (request: Upgrade.Request) =>
    Effect.sync(() => {
      // read while the connection is there
      assert.strictEqual(request.certificate !== undefined, ca !== undefined)
      asked.push(request)
    })
  const sends = Upgrade.make((request) =>
    Effect.andThen(note(request), Effect.fail(new Upgrade.Refused({ status, headers: { Location: location } })))
  )
  const listener = yield* Listener.make(`${scheme}://127.0.0.1:0/`, {
    ...certificate(),
    ca,
    upgrade: sends,
    paths: { "/live": Upgrade.make(note) },
    subprotocols: ["chat"]
  })
  yield* serve(listener, lines)
  return { url: listener.url, asked }
})

const given: Dialer.DialOptions = {
  ca: certificate().cert,
  cert: certificate("other").cert,
  key: certificate("other").key,
  headers: { Authorization: "Bearer secret", "X-Api-Key": "secret" },
  cookies: { session: "secret" },
  protocols: "chat",
  followRedirects: 3
}

const open = (url: string, options: Dialer.DialOptions = {}) =>
  Effect.flatMap(Dialer.make(url, { ...given, ...options }), Connection.make(lines))

const isServed = Effect.fnUntraced(function*(url: string, options?: Dialer.DialOptions) {
  const connection = yield* open(url, options)
  yield* connection.send("hello")
  assert.strictEqual(yield* connection.receive, "hello")
})

const failure = (url: string, options?: Dialer.DialOptions) =>
  Effect.map(Effect.scoped(Effect.flip(open(url, options))), (error) => {
    assert(error._tag === "ConnectionError", String(error))
    return error.reason
  })

describe("a redirected upgrade", () => {
  it.live("is not followed unless that is asked for", () =>
    Effect.gen(function*() {
      const { asked, url } = yield* start("ws")
      const reason = yield* failure(url, { followRedirects: 0 })
      assert(reason._tag === "UpgradeRefused")
      assert.strictEqual(reason.status, 302)
      assert.lengthOf(asked, 1)
    }))

  it.live("goes on with all it has within its origin", () =>
    Effect.gen(function*() {
      for (const status of [301, 302, 303, 307, 308]) {
        const { asked, url } = yield* start("ws", "live?room=1", status)
        yield* isServed(url)
        assert.deepStrictEqual(asked.map((request) => request.url), ["/", "/live?room=1"])
        for (const { cookies, headers, subprotocols } of asked) {
          assert.deepStrictEqual([headers["authorization"], headers["x-api-key"], cookies["session"], subprotocols], [
            "Bearer secret",
            "secret",
            "secret",
            ["chat"]
          ])
        }
      }
    }))

  it.live("takes no credentials to another origin, and none back", () =>
    Effect.gen(function*() {
      const secure = yield* start("wss")
      const target = new URL("/live", secure.url.replace("wss:", "https:"))
      const middle = yield* start("wss", String(target))
      const first = yield* start("ws", middle.url)
      yield* isServed(first.url)
      assert.strictEqual(first.asked[0]!.headers["authorization"], "Bearer secret")
      for (const request of [...middle.asked, ...secure.asked]) {
        assert.notInclude(JSON.stringify([request.headers, request.cookies]), "secret")
        assert.isUndefined(request.certificate)
        assert.deepStrictEqual(request.subprotocols, ["chat"])
        assert.isTrue(request.isSecure)
      }
      assert.lengthOf([...middle.asked, ...secure.asked], 2)
    }))

  it.live("shows its certificate to the first origin alone", () =>
    Effect.gen(function*() {
      const { cert } = certificate("other")
      const asks = yield* start("wss", "/live", 302, cert)
      yield* isServed(asks.url)
      assert.isTrue(asks.asked.every(({ certificate }) => certificate !== undefined))
      const other = yield* start("wss", `${asks.url}live`)
      assert.match((yield* failure(other.url)).message, /certificate required/)
      assert.lengthOf(asks.asked, 2)
    }))

  it.live("ends after so many steps", () =>
    Effect.gen(function*() {
      const { asked, url } = yield* start("ws", "/")
      const reason = yield* failure(url, { followRedirects: 2 })
      assert.strictEqual(reason._tag === "UpgradeRefused" && reason.status, 302)
      assert.lengthOf(asked, 3)
    }))

  it.live("goes neither away from TLS nor to what is no WebSocket, and no other try can help", () =>
    Effect.gen(function*() {
      const secure = yield* start("wss", "ws://127.0.0.1:1/live")
      const reasons = [yield* failure(secure.url)]
      for (const location of ["ftp://host/live", "ws://ada:secret@host/", "http://"]) {
        reasons.push(yield* failure((yield* start("ws", location)).url))
      }
      assert.deepStrictEqual(reasons.map(({ message }) => message), [
        "the handshake failed: the server redirects away from TLS",
        "the handshake failed: the server redirects to ftp://, where there are no WebSockets",
        "the handshake failed: the server redirects to a URL with a user in it",
        "the handshake failed: the server redirects to no URL"
      ])
      assert.isFalse(reasons.some(({ isRetryable }) => isRetryable))
    }))

  it.live("goes through the proxy at each step", () =>
    Effect.gen(function*() {
      const proxy = yield* httpProxy()
      const other = yield* start("ws")
      const { url } = yield* start("ws", `${other.url}live`)
      yield* isServed(url, { proxy: `http://127.0.0.1:${proxy.port}` })
      assert.deepStrictEqual(proxy.targets, [url, other.url].map((one) => new URL(one).host))
    }))

  it("a number of steps that makes no sense is told", () =>
    Effect.runPromise(Effect.gen(function*() {
      const { detail } = yield* Effect.flip(Dialer.make("ws://host", { followRedirects: -1 }))
      assert.include(detail, "followRedirects")
    })))
})
