/** The metrics as Prometheus reads them: checked by `promtool` of Debian's `prometheus`. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric, Stream } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { SocketServer } from "effect/socket"
import { spawnSync } from "node:child_process"
import { Codec, Connection, Metrics, Server } from "../../src/index.ts"
import { Dialer, Listener, SystemMetrics } from "../../src/node/index.ts"
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

/** The page of a server that has echoed a line. */
const page = Effect.gen(function*() {
  const listener = yield* Listener.make("tcp://127.0.0.1:0")
  yield* Effect.forkScoped(echo.pipe(Effect.provideService(SocketServer.SocketServer, listener)))
  const connection = yield* lines(yield* Dialer.make(listener.url))
  yield* connection.send("hello")
  yield* connection.receive
  return yield* PrometheusMetrics.format()
}).pipe(
  Effect.provide([Metrics.layer, SystemMetrics.layer]),
  Effect.provideService(Metric.MetricRegistry, new Map())
)

describe("metrics", () => {
  it.live.skipIf(!promtool)("promtool finds nothing to say of them", () =>
    Effect.gen(function*() {
      const text = yield* page
      assert.include(text, "holdfast_connections{state=\"open\"} 2")
      const { status, stderr, stdout } = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" })
      assert.strictEqual(`${stdout}${stderr}`, "")
      assert.strictEqual(status, 0)
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
