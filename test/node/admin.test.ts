/** The admin API: who may ask, what is told of connections, and what it does to them. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Redacted, Scope } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, Metrics, Policy, Registry, Server } from "holdfast"
import { Admin, Listener } from "holdfast/node"
import { TestSocket } from "holdfast/testing"
import * as Http from "node:http"
import * as Net from "node:net"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import { isLong, long } from "../support/often.ts"

V8.setFlagsFromString("--expose-gc")
const collect = Vm.runInNewContext("gc") as () => void

const token = "a token of this test"
const bearer = { authorization: `Bearer ${token.replaceAll(" ", "-")}` }
const secret = Redacted.make(token.replaceAll(" ", "-"))

interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly text: string
  readonly json: () => any
}

/** One request, with any `Host` and `Origin`. */
const ask = (
  { host, port }: Admin.Admin,
  path: string,
  options: { readonly method?: string; readonly headers?: Http.OutgoingHttpHeaders; readonly body?: unknown } = {}
): Effect.Effect<Answer> =>
  Effect.callback((resume) => {
    const { body, headers = bearer, method = body === undefined ? "GET" : "POST" } = options
    const request = Http.request({
      host,
      port,
      path,
      method,
      agent: false,
      headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) }
    }, (response) => {
      let text = ""
      response.setEncoding("utf8").on("data", (part: string) => text += part).on("end", () =>
        resume(Effect.succeed({
          status: response.statusCode!,
          headers: response.headers,
          text,
          json: () => JSON.parse(text)
        })))
    })
    request.on("error", (error) => resume(Effect.die(error)))
    request.end(body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body))
  })

const open = Connection.make({ codec: Codec.lines() })

/** An admin API over a registry, on a free port. */
const admin = (registry: Admin.Watched, options: Partial<Admin.Options> = {}) =>
  Admin.make({ registry, port: 0, token: secret, ...options })

const connected = (registry: Registry.Registry<string>, names: Registry.Names = {}, policy: Policy.Patch = {}) =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const connection = yield* Connection.make(peer.socket, { codec: Codec.lines(), policy })
    yield* registry.add(connection, names)
    return { connection, peer }
  })

describe("who may ask", () => {
  it.effect("no token and a wrong one are refused, and said; a token is taken from a header, the query and the cookie", () =>
    Effect.gen(function*() {
      const server = yield* admin(yield* Registry.make<string>())
      const asked = (path: string, headers: Http.OutgoingHttpHeaders) => ask(server, path, { headers })
      const path = "/api/figures"
      const good = Redacted.value(secret)

      const none = yield* asked(path, {})
      assert.deepStrictEqual([none.status, none.json()._tag, none.headers["www-authenticate"]], [
        401,
        "NoToken",
        "Bearer"
      ])
      for (const wrong of ["", "x", `${good}x`, good.slice(1)]) {
        assert.strictEqual((yield* asked(path, { authorization: `Bearer ${wrong}` })).json()._tag, "WrongToken", wrong)
      }
      assert.strictEqual((yield* asked(path, { authorization: `Basic ${good}` })).status, 401)
      assert.strictEqual((yield* asked(`${path}?token=nope`, {})).json()._tag, "WrongToken")
      for (const other of ["/metrics", "/openapi.json", "/", "/nope", "/api/changes"]) {
        assert.strictEqual((yield* asked(other, {})).status, 401, other)
      }

      assert.strictEqual((yield* asked(path, bearer)).status, 200)
      // a program is answered at once, a page is sent to its address without the token
      assert.strictEqual((yield* asked(`${path}?token=${good}`, {})).status, 200)
      const page = yield* asked(`/?token=${good}&tab=ended`, {})
      assert.deepStrictEqual([page.status, page.headers.location], [303, "/?tab=ended"])
      const cookie = page.headers["set-cookie"]![0]!
      assert.match(cookie, /; Path=\/; HttpOnly; SameSite=Strict$/)
      assert.notInclude(cookie, good)
      assert.strictEqual((yield* asked(path, { cookie: cookie.split(";")[0]! })).status, 200)
      assert.strictEqual((yield* asked(path, { cookie: `${cookie.split("=")[0]}=x` })).json()._tag, "WrongToken")
      assert.strictEqual((yield* asked(`//evil.example/?token=${good}`, {})).headers.location, "/evil.example/")
      assert.strictEqual((yield* asked(`/\\evil.example?token=${good}`, {})).headers.location, "/evil.example")
    }))

  it.effect("a browser that is refused shows a page that says what to do, as strict as the others; programs get JSON", () =>
    Effect.gen(function*() {
      const server = yield* admin(yield* Registry.make<string>())
      const accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
      const shown = (path: string, headers: Http.OutgoingHttpHeaders) =>
        ask(server, path, { headers: { accept, ...headers } })
      const ok = yield* ask(server, "/", { headers: { ...bearer, accept } })
      for (
        const [path, headers, status, words] of [
          ["/", {}, 401, /Open the address that the program printed.*\/\?token=/],
          ["/?token=<script>alert(1)</script>", {}, 401, /another token.*may have started again/s],
          ["/api/figures", {}, 401, /A token is needed/],
          ["/", { host: "evil.example", ...bearer }, 403, /name is not known here.*<code>hosts<\/code>/s],
          ["/", { origin: "http://evil.example", ...bearer }, 403, /page of another site/]
        ] as const
      ) {
        const page = yield* shown(path, headers)
        assert.deepStrictEqual([page.status, page.headers["content-type"]], [status, "text/html; charset=utf-8"])
        assert.match(page.text, words)
        assert.notMatch(page.text, /<script|style=|<link|alert|evil/)
        assert.notInclude(page.text, Redacted.value(secret))
        assert.strictEqual(page.headers["content-security-policy"], ok.headers["content-security-policy"])
        assert.include(page.headers["content-security-policy"], "default-src 'none'")
        assert.strictEqual(page.headers["www-authenticate"], status === 401 ? "Bearer" : undefined)
      }
      for (const accept of ["application/json", "*/*", undefined]) {
        const answer = yield* ask(server, "/", { headers: accept === undefined ? {} : { accept } })
        assert.deepStrictEqual([answer.status, answer.json()._tag], [401, "NoToken"])
      }
    }))

  it.effect("a foreign Host and a foreign Origin are refused, and said", () =>
    Effect.gen(function*() {
      const server = yield* admin(yield* Registry.make<string>(), { hosts: ["Admin.Example"] })
      const asked = (headers: Http.OutgoingHttpHeaders) =>
        Effect.map(
          ask(server, "/api/figures", { headers: { ...bearer, ...headers } }),
          ({ status, json }) => status === 200 ? "" : `${status} ${json()._tag}`
        )
      const { port } = server
      for (
        const host of [
          `127.0.0.1:${port}`,
          `localhost:${port}`,
          "localhost",
          `[::1]:${port}`,
          "admin.example",
          "10.1.2.3"
        ]
      ) {
        assert.strictEqual(yield* asked({ host }), "", host)
      }
      for (
        const host of [
          "evil.example",
          "127.0.0.1.evil.example",
          "localhost.evil.example:7900",
          "a b",
          "user@localhost"
        ]
      ) {
        assert.strictEqual(yield* asked({ host }), "403 ForeignHost", host)
      }
      const host = `127.0.0.1:${port}`
      for (const origin of [`http://${host}`, `https://${host}`]) assert.strictEqual(yield* asked({ host, origin }), "")
      for (
        const origin of ["http://evil.example", "null", "http://127.0.0.1:1", `http://localhost:${port}`, "file://"]
      ) {
        assert.strictEqual(yield* asked({ host, origin }), "403 ForeignOrigin", origin)
      }
      // what a page of another port of this host may send without an Origin
      for (const site of ["cross-site", "same-site"]) {
        assert.strictEqual(
          yield* asked({ host, "sec-fetch-site": site, "sec-fetch-mode": "no-cors" }),
          "403 ForeignOrigin"
        )
        const link = { "sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" }
        assert.strictEqual(yield* asked({ host, ...link }), "")
      }
      for (const site of ["same-origin", "none"]) assert.strictEqual(yield* asked({ host, "sec-fetch-site": site }), "")
    }))

  it.effect("elsewhere than on loopback a token is needed; there it may be off", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      for (const host of ["0.0.0.0", "::", "10.1.2.3", "admin.example"]) {
        for (const token of [undefined, "off"] as const) {
          const error = yield* Effect.flip(Admin.make({ registry, port: 0, host, token }))
          assert.match(error.message, /give it a token/)
        }
      }
      assert.match(
        (yield* Effect.flip(Admin.make({ registry, port: 0, token: Redacted.make("") }))).message,
        /token must/
      )
      const everywhere = yield* Admin.make({ registry, port: 0, host: "0.0.0.0", token: secret })
      assert.strictEqual((yield* ask(everywhere, "/api/figures")).status, 200)
      const off = yield* Admin.make({ registry, port: 0, token: "off" })
      assert.strictEqual(Redacted.value(off.address), `http://127.0.0.1:${off.port}/`)
      assert.strictEqual((yield* ask(off, "/api/figures", { headers: {} })).status, 200)
      const random = yield* Admin.make({ registry, port: 0 })
      const { pathname, search } = new URL(Redacted.value(random.address))
      assert.match(search, /^\?token=[\w-]{32}$/)
      assert.strictEqual((yield* ask(random, `${pathname}api/figures${search}`, { headers: {} })).status, 200)
    }))

  it.effect("a taken port is no failure: a free one is used, unless that is not wanted", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const first = yield* admin(registry)
      const second = yield* admin(registry, { port: first.port })
      assert.notStrictEqual(second.port, first.port)
      assert.strictEqual((yield* ask(second, "/api/figures")).status, 200)
      const error = yield* Effect.flip(admin(registry, { port: first.port, whenTaken: "fail" }))
      assert.match(error.message, new RegExp(`cannot listen on 127.0.0.1:${first.port}: .*EADDRINUSE`))
    }))

  it.effect("what is too large or makes no sense is refused; every answer has the headers of a page that runs nothing foreign", () =>
    Effect.gen(function*() {
      const server = yield* admin(yield* Registry.make<string>())
      const large = yield* ask(server, "/api/connections/close", { body: `{"reason":"${"x".repeat(70_000)}"}` })
      assert.deepStrictEqual([large.status, large.json()._tag], [413, "Invalid"])
      for (const query of ["limit=1001", "limit=0", "offset=-1", "sort=secrets", `key=${"x".repeat(300)}`]) {
        const { json, status } = yield* ask(server, `/api/connections?${query}`)
        assert.deepStrictEqual([status, json()._tag], [400, "Invalid"], query)
        assert.include(json().message, query.split("=")[0])
      }
      for (const path of ["/api/connections?tga=a", "/api/ended?reson=Closed", "/api/connections?tag=a&limits=1"]) {
        const { json, status } = yield* ask(server, path)
        const name = /(\w+)=[^&]*$/.exec(path)![1]!
        assert.deepStrictEqual(
          [status, json()._tag, json().message.includes(`"${name}"`)],
          [400, "Invalid", true],
          path
        )
      }
      const once = yield* ask(server, `/api/connections?tag=a&token=${Redacted.value(secret)}`, { headers: {} })
      assert.deepStrictEqual([once.status, once.json().total], [200, 0])
      const bodies = [
        [{}, "give `ids`, or `where`"],
        [{ ids: [1], where: {} }, "give `ids`, or `where`"],
        [{ code: 5, ids: [1] }, "one of 1000-1003, 1007-1014 or 3000-4999 at [\"code\"]"],
        [{ code: 1005, ids: [1] }, "one of 1000-1003"],
        ["no json", "JSON"],
        // a filter that is misspelt is not one that matches all
        [{ where: { txt: "ada" } }, "txt"],
        [{ where: {}, coed: 4001 }, "coed"]
      ] as const
      for (const [body, says] of bodies) {
        const { json, status } = yield* ask(server, "/api/connections/close", { body })
        assert.strictEqual(status, 400, JSON.stringify(body))
        assert.include(json().message, says)
      }
      const plain = yield* ask(server, "/api/connections/close", {
        method: "POST",
        headers: { ...bearer, "content-type": "text/plain" }
      })
      assert.deepStrictEqual([plain.status, plain.json()._tag], [415, "Invalid"])
      assert.include(plain.json().message, "application/json")
      for (const path of ["/", "/nope", "/api/figures", "/api/connections/1", "/%2e%2e/package.json"]) {
        const { headers, text } = yield* ask(server, path)
        assert.match(String(headers["content-security-policy"]), /^default-src 'none'; .*frame-ancestors 'none'$/, path)
        assert.strictEqual(headers["x-content-type-options"], "nosniff")
        assert.notInclude(text, "\"scripts\"")
      }
      assert.strictEqual((yield* ask(server, "/api/connections/999")).json()._tag, "NotFound")
      assert.strictEqual((yield* ask(server, "/api/drain", { body: {} })).json()._tag, "NotOffered")
    }))
})

describe("what is told", () => {
  it.effect("a list is filtered, sorted and cut into pages", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const server = yield* admin(registry)
      const ids: Array<number> = []
      for (const key of ["ada", "bob", "cyd"]) {
        const { connection, peer } = yield* connected(registry, {
          key,
          tags: key === "bob" ? ["lobby", "staff"] : ["lobby"]
        })
        ids.push(connection.id)
        yield* peer.send(`${"x".repeat(10 - ids.length)}\n`)
      }
      const keys = (query: string) =>
        Effect.map(ask(server, `/api/connections?${query}`), ({ json }) => {
          const { connections, total } = json()
          return [total, ...connections.map(({ key }: { key: string }) => key)]
        })
      assert.deepStrictEqual(yield* keys(""), [3, "ada", "bob", "cyd"])
      assert.deepStrictEqual(yield* keys("sort=bytesIn"), [3, "cyd", "bob", "ada"])
      assert.deepStrictEqual(yield* keys("sort=bytesIn&order=desc"), [3, "ada", "bob", "cyd"])
      assert.deepStrictEqual(yield* keys("sort=key&order=desc&limit=1&offset=1"), [3, "bob"])
      assert.deepStrictEqual(yield* keys("offset=3"), [3])
      assert.deepStrictEqual(yield* keys("tag=staff"), [1, "bob"])
      assert.deepStrictEqual(yield* keys("key=cyd"), [1, "cyd"])
      assert.deepStrictEqual(yield* keys("text=STAF"), [1, "bob"])
      assert.deepStrictEqual(yield* keys(`text=${ids[2]}`), [1, "cyd"])
      assert.deepStrictEqual(yield* keys("state=draining"), [0])
      assert.deepStrictEqual(yield* keys("quietFor=1"), [0])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* keys("quietFor=1000&olderThan=1000"), [3, "ada", "bob", "cyd"])
    }))

  it.effect("one is inspected: fibers, deadlines with what is left, queues, names, policy", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const server = yield* admin(registry)
      const { connection } = yield* connected(registry, { key: "ada", tags: ["lobby"] }, {
        silence: "10 seconds",
        idle: "1 minute"
      })
      yield* TestClock.adjust("4 seconds")
      const detail = (yield* ask(server, `/api/connections/${connection.id}`)).json()
      assert.deepStrictEqual(detail.deadlines, [
        { rule: "silence", limit: 10_000, left: 6_000 },
        { rule: "idle", limit: 60_000, left: 56_000 }
      ])
      assert.deepStrictEqual(detail.fibers.map(({ name }: { name: string }) => name), [
        "connection",
        "reader",
        "writer",
        "heartbeat",
        "deadlines"
      ])
      assert.deepInclude(detail, { key: "ada", tags: ["lobby"], state: "open", age: 4_000, end: null, recent: [] })
      assert.deepInclude(detail.policy, { silence: "10s", idle: "1m" })
      assert.include(detail.words, `connection ${connection.id}`)
    }))

  it.effect("markup, controls and bidi overrides of a peer are seen as text, and long texts are cut", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const server = yield* admin(registry)
      const key = "<script>alert(1)</script>\x1b]0;evil\x07\u202egnp.exe\n"
      const tags = ["x".repeat(5_000), "\u2066<b>", ...Array.from({ length: 50 }, (_, i) => `tag ${i}`)]
      const { connection, peer } = yield* connected(registry, { key, tags })
      const shown = "<script>alert(1)</script>\\x1b]0;evil\\x07\\u202egnp.exe\\x0a"
      const [row] = (yield* ask(server, "/api/connections")).json().connections
      assert.strictEqual(row.key, shown)
      assert.deepStrictEqual([row.tags.length, row.tagCount, row.tags[0].length, row.tags[1]], [
        20,
        52,
        257,
        "\\u2066<b>"
      ])
      assert.strictEqual((yield* ask(server, `/api/connections/${connection.id}`)).json().key, shown)
      yield* peer.end
      yield* Effect.ignore(connection.closed).pipe(Effect.forkChild)
      yield* TestClock.adjust("10 seconds")
      const [end] = (yield* ask(server, "/api/ended")).json().ended
      assert.strictEqual(end.key, shown)
      for (const path of ["/api/connections", "/api/ended", "/metrics"]) {
        assert.notMatch((yield* ask(server, path)).text.replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u, path)
      }
    }))

  it.effect("ended ones, filtered by reason, key and time, with what is known of each end", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const server = yield* admin(registry)
      for (const key of ["ada", "bob"]) {
        yield* connected(registry, { key }, { silence: key === "ada" ? "5 seconds" : "9 seconds" })
      }
      const left = yield* connected(registry, { key: "cyd" })
      yield* TestClock.adjust("10 seconds")
      yield* left.connection.close
      const ended = (query: string) =>
        Effect.map(ask(server, `/api/ended?${query}`), ({ json }) => {
          const { byReason, ended, total } = json()
          return { byReason, total, keys: ended.map(({ key }: { key: string }) => key), ended }
        })
      const all = yield* ended("")
      assert.deepStrictEqual(all.keys, ["cyd", "bob", "ada"])
      assert.deepStrictEqual(all.byReason, { Closed: 1, SilenceTimeout: 2 })
      assert.deepInclude(all.ended[1].end, {
        reason: "SilenceTimeout",
        who: "network",
        deadline: "silence",
        facts: { limit: 9000 }
      })
      assert.deepStrictEqual((yield* ended("reason=SilenceTimeout&limit=1&offset=1")).keys, ["ada"])
      assert.deepStrictEqual((yield* ended("reason=SilenceTimeout&limit=1")).total, 2)
      assert.deepStrictEqual((yield* ended("key=ada")).keys, ["ada"])
      assert.deepStrictEqual((yield* ended("who=us")).keys, ["cyd"])
      const at = all.ended[1].endedAt
      assert.deepStrictEqual((yield* ended(`since=${at}&until=${at}`)).keys, ["bob"])
    }))

  it.effect("a page of 1,000 among 10,000 connections is there within a tenth of a second", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { connection } = yield* connected(registry)
      const entries = Array.from({ length: 10_000 }, (_, i) => ({
        connection,
        session: undefined,
        key: `user ${i}`,
        tags: new Set(["lobby"])
      }))
      const server = yield* admin({ ...registry, entries: Effect.succeed(entries) })
      let fastest = Infinity
      for (let i = 0; i < 5; i++) {
        const before = performance.now()
        const { json } = yield* ask(server, "/api/connections?sort=key&order=desc&limit=1000&offset=9000&text=user")
        fastest = Math.min(fastest, performance.now() - before)
        assert.deepStrictEqual([json().total, json().connections.length], [10_000, 1000])
      }
      assert.isBelow(fastest, 100)
    }))

  it.effect("pools, dispatchers, policies, metrics and the OpenAPI document", () =>
    Effect.gen(function*() {
      const stats = { workers: 2, busy: 1, waiting: 3, succeeded: 4, failed: 5, interrupted: 6, refused: 7 }
      const server = yield* admin(yield* Registry.make<string>(), {
        dispatchers: { jobs: { stats: Effect.succeed(stats) } },
        policies: { chat: Policy.make({ silence: "7 seconds" }) }
      })
      assert.deepStrictEqual((yield* ask(server, "/api/dispatchers")).json(), [{ name: "jobs", ...stats }])
      assert.deepStrictEqual((yield* ask(server, "/api/pools")).json(), [])
      const [chat] = (yield* ask(server, "/api/policies")).json()
      assert.deepStrictEqual([chat.name, chat.policy.silence], ["chat", "7s"])
      const metrics = yield* ask(server, "/metrics")
      assert.match(String(metrics.headers["content-type"]), /^text\/plain; version=0\.0\.4/)
      assert.include(metrics.text, "holdfast_registry_connections 0")
      const { components, openapi, paths, security } = (yield* ask(server, "/openapi.json")).json()
      assert.match(openapi, /^3\.1/)
      assert.deepStrictEqual(security, [{ token: [] }])
      assert.deepInclude(components.securitySchemes.token, { scheme: "bearer" })
      assert.containsAllKeys(paths, ["/api/connections", "/api/connections/{id}/policy", "/api/changes"])
    }).pipe(Effect.provide(Metrics.layer)))
})

describe("what it does", () => {
  it.effect("closing one closes it, and the peer reads the reason where a code says so", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const server = yield* admin(registry)
      const first = yield* connected(registry, { key: "ada" })
      const second = yield* connected(registry, { key: "bob" })
      const third = yield* connected(registry, { key: "cyd" })
      const fourth = yield* connected(registry, { key: "dan", tags: ["old"] })
      const reasonOf = (connection: Connection.Connection<string>) =>
        Effect.map(Effect.flip(connection.closed), ({ reason }) => ({ ...reason }))
      const close = (path: string, body: unknown) =>
        Effect.map(ask(server, `/api/connections/${path}`, { body }), ({ json }) => json())

      assert.deepStrictEqual(yield* close(`${first.connection.id}/close`, { reason: "bye\u202e" }), { closed: 1 })
      assert.deepInclude(yield* reasonOf(first.connection), { _tag: "Closed", by: "local", note: "bye" })
      assert.deepStrictEqual(
        yield* close("close", {
          ids: [second.connection.id, 999_999],
          code: 4001,
          reason: "token expired",
          comeBack: false
        }),
        { closed: 1 }
      )
      assert.deepInclude(yield* reasonOf(second.connection), { code: 4001, note: "token expired", retryable: false })
      assert.deepStrictEqual(yield* close("close", { where: { tag: "old" } }), { closed: 1 })
      assert.deepInclude(yield* reasonOf(fourth.connection), { _tag: "Closed", by: "local" })
      const { connections } = (yield* ask(server, "/api/connections")).json()
      assert.deepStrictEqual(connections.map(({ key }: { key: string }) => key), ["cyd"])
      assert.strictEqual((yield* third.connection.snapshot).state, "open")
      assert.strictEqual((yield* close(`${first.connection.id}/close`, {}))._tag, "NotFound")
    }))

  it.effect("a policy that is changed acts at once, exact to the millisecond", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const server = yield* admin(registry)
      const { connection } = yield* connected(registry)
      const ended = yield* Effect.forkChild(Effect.flip(connection.closed))
      const patch = (body: unknown) =>
        ask(server, `/api/connections/${connection.id}/policy`, { method: "PATCH", body })
      yield* TestClock.adjust("1 second")
      const changed = yield* patch({ silence: "10s", outboxMessages: 5 })
      assert.deepInclude(changed.json(), { silence: "10s", outboxMessages: 5, pingEvery: "25s" })
      for (const body of [{ silence: "soon" }, { nope: 1 }, { maxFrame: "1 KiB" }, { outboxMessages: 0 }]) {
        const { json, status } = yield* patch(body)
        assert.deepStrictEqual([status, json()._tag], [400, "Invalid"], JSON.stringify(body))
        assert.include(json().message, Object.keys(body)[0])
      }
      yield* TestClock.adjust("8999 millis")
      assert.isUndefined(ended.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(ended)).reason._tag, "SilenceTimeout")
    }))

  it.live("a drain is begun and watched to its end", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const stop = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const serving = Server.make({
        open,
        registry,
        policy: { drain: "10 seconds" },
        handle: () => Deferred.await(release)
      })
      const server = yield* admin(registry, {
        servers: { chat: serving },
        drain: Effect.asVoid(Deferred.succeed(stop, undefined))
      })
      const listener = yield* Listener.make("tcp://127.0.0.1:0")
      const running = yield* Effect.forkChild(
        Effect.raceFirst(serving.run, Deferred.await(stop)).pipe(
          Effect.provideService(SocketServer.SocketServer, Listener.merge([listener]))
        )
      )
      const client = Net.connect(Number(new URL(listener.url).port), "127.0.0.1")
      yield* Effect.addFinalizer(() => Effect.sync(() => client.destroy()))
      const phase = Effect.map(ask(server, "/api/drain"), ({ json }) => {
        const { begun, possible, servers: [chat] } = json()
        return { begun, possible, phase: chat.phase, left: chat.left }
      })
      const until = (wanted: unknown) =>
        Effect.repeat(Effect.delay(phase, "10 millis"), {
          until: (found) => JSON.stringify(found) === JSON.stringify(wanted),
          times: 500
        }).pipe(Effect.map((found) => assert.deepStrictEqual(found as unknown, wanted)))
      yield* until({ begun: false, possible: true, phase: "serving", left: 1 })
      assert.strictEqual((yield* ask(server, "/api/drain", { body: {} })).json().begun, true)
      yield* until({ begun: true, possible: true, phase: "stopping", left: 1 })
      yield* Deferred.succeed(release, undefined)
      yield* until({ begun: true, possible: true, phase: "stopped", left: 0 })
      yield* Fiber.await(running)
    }))
})

describe("the stream of changes", () => {
  /** Reads what a stream says; `paused` takes nothing. */
  const reader = ({ host, port }: Admin.Admin) =>
    Effect.gen(function*() {
      const socket = Net.connect(port, host)
      yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
      const state = { socket, text: "" }
      socket.on("data", (data) => {
        state.text = (state.text + data.toString()).slice(-2_000_000)
      })
      socket.on("error", () => {})
      const { authorization } = bearer
      socket.write(`GET /api/changes HTTP/1.1\r\nHost: ${host}:${port}\r\nAuthorization: ${authorization}\r\n\r\n`)
      return state
    })

  const eventually = (what: string, condition: () => boolean) =>
    Effect.repeat(Effect.sleep("5 millis"), { until: condition, times: 2000 }).pipe(
      Effect.map(() => assert.isTrue(condition(), what))
    )

  it.live("tells who comes, is tagged and goes, and the figures at once", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const state = yield* reader(yield* admin(registry))
      yield* eventually("Current", () => state.text.includes("\"Current\"") && state.text.includes("\"Figures\""))
      const { connection } = yield* connected(registry, { key: "ada" })
      yield* registry.tag(connection.id, { add: ["lobby"] })
      yield* connection.close
      yield* eventually("Ended", () => state.text.includes("\"Ended\""))
      const told = [...state.text.matchAll(/^data: (.*)$/gm)].map(([, json]) => JSON.parse(json!))
        .filter(({ _tag }) => _tag !== "Figures")
      assert.deepStrictEqual(told.map(({ _tag, key, tags }) => [_tag, key, tags]), [
        ["Current", undefined, undefined],
        ["Added", "ada", []],
        ["Tagged", "ada", ["lobby"]],
        ["Ended", "ada", ["lobby"]]
      ])
      assert.strictEqual(told[3].reason, "Closed")
    }))

  it.live("a reader that is there when the program stops is told how that ended", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const scope = yield* Scope.make()
      const state = yield* reader(yield* Scope.provide(admin(registry), scope))
      yield* eventually("Current", () => state.text.includes("\"Current\""))
      const { connection } = yield* connected(registry, { key: "ada" })
      yield* connection.close
      yield* Scope.close(scope, Exit.void)
      yield* eventually("the end", () => state.socket.destroyed)
      const tags = [...state.text.matchAll(/"_tag":"(\w+)"/g)].map(([, tag]) => tag)
      assert.deepStrictEqual([...new Set(tags)], ["Current", "Figures", "Added", "Ended"])
      assert.strictEqual(tags.at(-1), "Figures")
    }))

  /** Two changes a round, of 5 KB each. */
  const flood = (registry: Registry.Registry<string>, rounds: number, burst: number, tagCount = 19) =>
    Effect.gen(function*() {
      const tags = Array.from({ length: tagCount }, (_, i) => `${i}${"x".repeat(250)}`)
      const { connection } = yield* connected(registry, { key: "ada", tags })
      for (let i = 0; i < rounds; i++) {
        yield* registry.tag(connection.id, { add: ["flag"] })
        yield* registry.tag(connection.id, { remove: ["flag"] })
        if (i % burst === 0) yield* Effect.sleep(1)
      }
    })

  const stalled = (rounds: number, burst: number) =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const state = yield* reader(yield* admin(registry))
      yield* eventually("Current", () => state.text.includes("\"Current\""))
      state.socket.pause()
      yield* flood(registry, rounds, burst)
      return state
    })

  it.live("a slow reader holds a bounded part of it, and is told how much it missed", () =>
    Effect.gen(function*() {
      const state = yield* stalled(1000, 600)
      state.socket.resume()
      yield* eventually("Current again", () => /"Current","registered":1,"missed":[1-9]/.test(state.text))
    }), 20_000)

  it.live.runIf(isLong)(
    "a reader that stops reading while 100,000 changes happen holds no more than before, and is told of the gap",
    () =>
      Effect.gen(function*() {
        const rounds = 50_000
        const registry = yield* Registry.make<string>()
        const state = yield* reader(yield* admin(registry))
        yield* eventually("Current", () => state.text.includes("\"Current\""))
        state.socket.pause()
        const held = () => {
          collect()
          const { external, heapUsed } = process.memoryUsage()
          return (heapUsed + external) / 2 ** 20
        }
        // what the kernel and the stream take is full by then
        yield* flood(registry, 2000, 600)
        const before = held()
        // small ones: a reader that takes nothing for half a minute is ended
        yield* flood(registry, rounds, 1000, 0)
        const grown = held() - before
        assert.isBelow(grown, 10, `MiB for ${2 * rounds} changes`)
        const resumedAt = Date.now()
        state.socket.resume()
        yield* eventually("Current again", () => /"Current","registered":\d,"missed":[1-9]/.test(state.text))
        // figures come every second, behind what was told before
        const toldAt = () => [...state.text.matchAll(/"figures":\{"at":(\d+)/g)].map(([, at]) => Number(at))
        yield* eventually("it has come to the newest", () => toldAt().some((at) => at > resumedAt + 1000))
        // what is told after the gap is whole again
        const { connection } = yield* connected(registry, { key: "last" })
        yield* eventually("Added", () => state.text.includes(`"_tag":"Added","id":${connection.id},"key":"last"`))
        const missed = [...state.text.matchAll(/"missed":(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0)
        assert.isAbove(missed, rounds)
      }),
    long(60_000)
  )

  it.live("at most 64 are connected", () =>
    Effect.gen(function*() {
      const server = yield* admin(yield* Registry.make<string>())
      const sockets = Array.from({ length: 80 }, () => Net.connect(server.port, server.host).on("error", () => {}))
      yield* Effect.addFinalizer(() => Effect.sync(() => sockets.forEach((socket) => socket.destroy())))
      const living = () => sockets.filter(({ destroyed, readyState }) => !destroyed && readyState === "open").length
      for (const socket of sockets) socket.resume()
      yield* eventually("16 are turned away", () => living() === 64)
    }))
})
