/** The metrics as Prometheus reads them: checked by `promtool` of Debian's `prometheus`. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Metric, Redacted, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp, PrometheusMetrics } from "effect/observability"
import { SocketServer } from "effect/socket"
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { Client, Codec, Connection, Metrics, Registry, Request, Server } from "../../src/index.ts"
import { Admin, Dialer, Listener, SystemMetrics } from "../../src/node/index.ts"
import { figureIn } from "../../src/node/internal/system/counters.ts"

const promtool = spawnSync("promtool", ["--version"]).error === undefined
if (!promtool) {
  console.warn("no promtool here (Debian: prometheus): what Prometheus makes of the metrics is not checked")
}

const lines = Connection.make({ codec: Codec.lines() })

const echo = Server.run({
  open: lines,
  handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
})

/** A server that has echoed a line. */
const echoed = Effect.gen(function*() {
  const listener = yield* Listener.make("tcp://127.0.0.1:0")
  yield* Effect.forkScoped(echo.pipe(Effect.provideService(SocketServer.SocketServer, listener)))
  const connection = yield* lines(yield* Dialer.make(listener.url))
  yield* connection.send("hello")
  yield* connection.receive
})

/** The page as `effect/observability` writes it, and as the admin API serves it. */
const pages = Effect.gen(function*() {
  yield* echoed
  const admin = yield* Admin.make({ registry: yield* Registry.make<string>({}), port: 0 })
  const { origin, search } = new URL(Redacted.value(admin.address))
  const served = yield* Effect.promise(async () => (await fetch(`${origin}/metrics${search}`)).text())
  return [yield* PrometheusMetrics.format(), served]
}).pipe(
  Effect.provide([Metrics.layer, SystemMetrics.layer]),
  Effect.provideService(Metric.MetricRegistry, new Map())
)

/** Takes what an exporter of OpenTelemetry sends as JSON, by its path. */
const collector = Effect.gen(function*() {
  const taken: Array<{ readonly path: string; readonly body: any }> = []
  const server = Http.createServer((request, response) => {
    let text = ""
    request.setEncoding("utf8").on("data", (part: string) => text += part).on("end", () => {
      taken.push({ path: request.url!, body: JSON.parse(text) })
      response.setHeader("content-type", "application/json").end("{}")
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => Effect.sync(() => (server.close(), server.closeAllConnections()))
  )
  return { taken, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
})

type Attributes = ReadonlyArray<{ readonly key: string; readonly value: Readonly<Record<string, unknown>> }>

const valuesOf = (attributes: Attributes) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

/** The first cells of a table of the guide: what is in backquotes. */
const inGuide = (head: string): ReadonlyArray<ReadonlyArray<string>> => {
  const guide = readFileSync(new URL("../../src/guides/observability.md", import.meta.url), "utf8")
  const table = guide.slice(guide.indexOf(`| ${head} |`)).split("\n\n")[0]!
  return table.split("\n").slice(2).map((row) => Array.from(row.matchAll(/`([^`]+)`/g), ([, name]) => name!))
}

describe("metrics", () => {
  it.live.skipIf(!promtool)(
    "promtool finds nothing to say of them, nor of the page of the admin API",
    () =>
      Effect.gen(function*() {
        for (const text of yield* pages) {
          assert.include(text, "holdfast_connections{state=\"open\"} 2")
          const { status, stderr, stdout } = spawnSync("promtool", ["check", "metrics"], {
            input: text,
            encoding: "utf8"
          })
          assert.strictEqual(`${stdout}${stderr}`, "")
          assert.strictEqual(status, 0)
        }
      })
  )

  it.live("metrics and spans reach a collector over OTLP, with the names that the guide states", () =>
    Effect.gen(function*() {
      const { taken, url } = yield* collector
      // as in the guide
      const telemetry = Otlp.layerJson({ baseUrl: url, resource: { serviceName: "echo" } }).pipe(
        Layer.provide(FetchHttpClient.layer),
        Layer.provideMerge(Metrics.layer)
      )
      yield* Effect.gen(function*() {
        const listener = yield* Listener.make("tcp://127.0.0.1:0")
        yield* Effect.forkScoped(echo.pipe(Effect.provideService(SocketServer.SocketServer, listener)))
        const client = yield* Client.make(Effect.flatMap(Effect.orDie(Dialer.make(listener.url)), lines))
        const requests = yield* Request.make(client.connection)
        assert.strictEqual(yield* requests.request("hello"), "hello")
      }).pipe(
        Effect.scoped,
        Effect.provide(telemetry),
        Effect.provideService(Metric.MetricRegistry, new Map())
      )

      const metrics = taken.filter(({ path }) => path === "/v1/metrics").at(-1)!.body.resourceMetrics[0]
      assert.deepInclude(valuesOf(metrics.resource.attributes), { "service.name": "echo" })
      const found: ReadonlyArray<any> = metrics.scopeMetrics[0].metrics
      const counted = (name: string) => {
        const { gauge, histogram, sum } = found.find((metric) => metric.name === name)
        return (sum ?? gauge ?? histogram).dataPoints
      }
      const system = new Set(SystemMetrics.definitions.map(({ name }) => name))
      const stated = inGuide("metric").map(([name]) => name!).filter((name) => !system.has(name))
      assert.deepStrictEqual(found.map(({ name }) => name).toSorted(), stated.toSorted())
      assert.strictEqual(found.find(({ name }) => name === "holdfast_received_bytes_total").unit, "By")
      assert.strictEqual(counted("holdfast_connections_opened_total")[0].asDouble, 2)
      // the last export is that of the end
      const closed = counted("holdfast_connections_ended_total").find(({ attributes }: any) =>
        valuesOf(attributes).reason === "Closed"
      )
      assert.strictEqual(closed.asDouble, 2)
      assert.strictEqual(counted("holdfast_request_seconds")[0].count, 1)

      const spans: ReadonlyArray<any> = taken.filter(({ path }) => path === "/v1/traces").flatMap(({ body }) =>
        body.resourceSpans.flatMap(({ scopeSpans }: any) => scopeSpans.flatMap(({ spans }: any) => spans))
      )
      const tables = inGuide("span")
      assert.deepStrictEqual([...new Set(spans.map(({ name }) => name))].toSorted(), tables.map(([name]) => name!))
      const connections = spans.filter(({ name }) => name === "holdfast.connection")
      const client = connections.find(({ kind }) => kind === 3)
      const server = connections.find(({ kind }) => kind === 2)
      assert.deepStrictEqual(
        Object.keys(valuesOf(client.attributes)).toSorted(),
        tables[0]!.slice(1).toSorted()
      )
      assert.strictEqual(client.parentSpanId, spans.find(({ name }) => name === "holdfast.dial").spanId)
      assert.isUndefined(server.parentSpanId)
      assert.deepInclude(valuesOf(server.attributes), { "holdfast.received_bytes": 6, "holdfast.reason": "Closed" })
      assert.isTrue(server.events.some(({ name }: any) => name === "handshake"))
    }))

  it.live("those of the system are there, and are gone with their layer", () =>
    Effect.gen(function*() {
      const names = yield* Effect.map(Metric.snapshot, (all) => all.map(({ id }) => id)).pipe(
        Effect.provide(SystemMetrics.layer)
      )
      const onLinux = process.platform === "linux" ? SystemMetrics.definitions : SystemMetrics.definitions.slice(0, 2)
      assert.deepStrictEqual(new Set(names), new Set(onLinux.map(({ name }) => name)))
      assert.deepStrictEqual(yield* Metric.snapshot, [])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it("a figure of the kernel is the value under its name, whatever the order", () => {
    const text = "Tcp: RtoMin RetransSegs\nTcp: 200 17\nTcpExt: ListenDrops ListenOverflows\nTcpExt: 5 3\n"
    assert.strictEqual(figureIn(text, "Tcp", "RetransSegs"), 17)
    assert.strictEqual(figureIn(text, "TcpExt", "ListenOverflows"), 3)
    assert.strictEqual(figureIn(text, "TcpExt", "Unknown"), undefined)
    assert.strictEqual(figureIn("", "TcpExt", "ListenDrops"), undefined)
  })
})
