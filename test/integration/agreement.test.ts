/** After a storm of real connections, metrics, registry, admin API, `holdfast top` and the kernel count the same. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Metric, Redacted, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { Codec, Connection, Metrics, Registry, Server } from "holdfast"
import { Admin, Listener } from "holdfast/node"
import { execFileSync } from "node:child_process"
import * as Net from "node:net"
import { has, main, run, until } from "../cli/support/kit.ts"
import { isLong, long } from "../support/often.ts"

const rounds = 4
const each = 2500
const connects = rounds * each
const mostOpen = 1500
const staying = 250

/** How a peer leaves; the one that stays is there at the end. */
const ways = ["fin", "reset", "words and fin", "too long", "reset after words"] as const

/** Opens a connection; the promise is kept once the peer knows whether it was refused, or is connected. */
const dial = (port: number): Promise<Net.Socket> =>
  new Promise((resolve) => {
    const socket = Net.connect({ port, host: "127.0.0.1", allowHalfOpen: false })
    socket.on("error", () => {}).resume()
    socket.once("connect", () => resolve(socket)).once("close", () => resolve(socket))
  })

const leave = (socket: Net.Socket, way: typeof ways[number]): void => {
  if (socket.destroyed) return
  if (way === "fin") socket.end()
  else if (way === "reset") socket.resetAndDestroy()
  else if (way === "words and fin") socket.end("hello\nthere\n")
  else if (way === "too long") socket.write("x".repeat(2000))
  else socket.write("hello\n", () => socket.resetAndDestroy())
}

/** How many connections the kernel has at this end, in any state but that of a listener and that of one that is over. */
const inKernel = (port: number): number =>
  execFileSync("ss", ["-Htan", "exclude", "listening", "exclude", "time-wait", "sport", "=", `:${port}`], {
    encoding: "utf8"
  })
    .split("\n").filter((line) => line !== "").length

const hasSs = (() => {
  try {
    execFileSync("ss", ["-V"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
})()

const ask = async (admin: Admin.Admin, path: string): Promise<any> => {
  const { origin, searchParams } = new URL(Redacted.value(admin.address))
  const headers = { authorization: `Bearer ${searchParams.get("token")}` }
  const response = await fetch(`${origin}${path}`, { headers })
  assert.strictEqual(response.status, 200)
  const text = await response.text()
  return path === "/metrics" ? text : JSON.parse(text)
}

/** The series of a page for Prometheus: `name`, or `name{value}` of its label. */
const series = (text: string): Readonly<Record<string, number>> =>
  Object.fromEntries(
    [...text.matchAll(/^holdfast_(\w+?)(?:\{(.*)\})? ([\d.e+-]+)$/gm)].map(([, name, labels = "", value]) => {
      const label = /(?:^|,)(?!unit=|le=)\w+="(.*?)"/.exec(labels)?.[1]
      return [label === undefined ? name : `${name}{${label}}`, Number(value)]
    })
  )

const sum = (numbers: Iterable<number>): number => Array.from(numbers).reduce((sum, number) => sum + number, 0)

describe.runIf(isLong && hasSs && has("proc"))("after 10,000 connects, refusals and resets over TCP", () => {
  it.live("metrics, registry, API, top and ss count the same at rest, and each end once", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ history: connects })
      const counts: Record<string, number> = { Opened: 0, Refused: 0, Closed: 0 }
      const ended: Array<number> = []
      const listener = yield* Listener.make("tcp://127.0.0.1:0")
      const port = Number(new URL(listener.url).port)
      const server = Server.make({
        open: Connection.make({ codec: Codec.lines(), policy: { maxFrame: 1000, pingEvery: 0, silence: 0 } }),
        policy: { maxConnections: mostOpen, whenFull: "reject", acceptRate: 0 },
        registry,
        logs: false,
        onEvent: (event) =>
          Effect.sync(() => {
            counts[event._tag] = (counts[event._tag] ?? 0) + 1
            if (event._tag === "Closed") ended.push(event.snapshot.id)
          }),
        handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
      })
      yield* Effect.forkScoped(Effect.provideService(server.run, SocketServer.SocketServer, listener))
      const admin = yield* Admin.make({ registry, servers: { storm: server }, port: 0 })

      const stayed: Array<Net.Socket> = []
      yield* Effect.addFinalizer(() => Effect.sync(() => stayed.forEach((socket) => socket.destroy())))
      yield* Effect.promise(async () => {
        for (let round = 0; round < rounds; round++) {
          const sockets: Array<Net.Socket> = []
          // not more at a time than a listen queue takes: a connect that overflows it is tried again seconds later
          while (sockets.length < each) {
            sockets.push(...await Promise.all(Array.from({ length: 250 }, () => dial(port))))
          }
          const done = () => counts.Opened! + counts.Refused!
          await until(() => `all of round ${round}, not ${done()}`, () => done() === (round + 1) * each, 60_000)
          for (const [i, socket] of sockets.entries()) {
            if (round === 0 && stayed.length < staying && !socket.destroyed && i % 2 === 0) stayed.push(socket)
            else leave(socket, ways[i % ways.length]!)
          }
          const left = () => counts.Opened! - counts.Closed!
          await until(() => `rest after round ${round}, ${left()} are left`, () => left() === stayed.length, 60_000)
        }
        await until(
          () => `rest in the kernel, which has ${inKernel(port)}`,
          () => inKernel(port) === stayed.length,
          60_000
        )
      })

      const open = stayed.length
      const { Closed, Opened, Refused } = counts as { readonly [tag: string]: number }
      assert.isAbove(open, staying / 2)
      assert.isAbove(Refused!, connects / 10)
      assert.isAbove(Opened!, connects / 3)
      assert.strictEqual(Opened! + Refused!, connects)
      assert.strictEqual(Closed, Opened! - open)
      assert.strictEqual(new Set(ended).size, Closed, "each end once")

      // the registry
      assert.strictEqual(yield* registry.size, open)
      const ends = yield* registry.ended()
      assert.deepStrictEqual(
        ends.map(({ explanation: { snapshot } }) => snapshot.id).toSorted((a, b) => a - b),
        ended.toSorted((a, b) => a - b)
      )

      // the server
      const stats = yield* server.stats
      assert.deepInclude(stats, { opened: Opened, waiting: 0, refused: { ...stats.refused, maxConnections: Refused } })
      assert.deepStrictEqual(stats.connections, { opening: 0, open, draining: 0, closing: 0, ended: 0 })

      // the API, which the page reads
      const answers = yield* Effect.promise(() =>
        Promise.all(["/metrics", "/api/figures", "/api/connections", "/api/ended?limit=1", "/api/servers"].map((path) =>
          ask(admin, path)
        ))
      )
      const [text, figures, list, endedPage, servers] = answers
      assert.deepStrictEqual(figures.connections, { open, draining: 0, closing: 0 })
      assert.strictEqual(figures.registered, open)
      assert.strictEqual(list.total, open)
      assert.strictEqual(endedPage.total, Closed)
      assert.deepStrictEqual(
        servers,
        [{ name: "storm", ...stats, left: open }].map(({ accepts: _, ...rest }: any) =>
          rest
        )
      )

      // the metrics; a refusal is told by a connection, which has an end of its own
      const metrics = series(text)
      const byReason = Object.entries(metrics).flatMap(([name, value]) => {
        const reason = /^connections_ended_total\{(.*)\}$/.exec(name)?.[1]
        return reason === undefined || value === 0 ? [] : [[reason, value] as const]
      })
      assert.deepInclude(metrics, {
        "connections{open}": open,
        "connections{draining}": 0,
        "connections{closing}": 0,
        registry_connections: open,
        registry_overlooked_total: 0,
        server_accepted_total: connects,
        server_handled_total: Opened,
        "server_refused_total{maxConnections}": Refused,
        server_opening: 0,
        server_waiting: 0
      })
      assert.strictEqual(
        metrics.connections_opened_total! - sum(byReason.map(([, count]) => count)),
        open
      )
      assert.strictEqual(figures.totals.opened - figures.totals.ended, open)
      assert.deepInclude(figures.totals, { accepted: connects, refused: Refused })
      for (const [reason, count] of byReason) {
        const refusals = reason === "Refused" ? Refused! : 0
        assert.strictEqual(count - refusals, endedPage.byReason[reason] ?? 0, reason)
      }
      assert.isAbove(endedPage.byReason.Reset, 100)
      assert.isAbove(endedPage.byReason.FrameTooLong, 100)

      // top, and the kernel
      const top = yield* Effect.promise(() =>
        run(process.execPath, [main, "top", Redacted.value(admin.address), "--json", "--count", "1", "--rows", "1000"])
      )
      assert.strictEqual(top.code, 0, top.stderr)
      const seen = JSON.parse(top.stdout)
      assert.strictEqual(seen.total, open)
      assert.strictEqual(new Set(seen.connections.map(({ id }: { readonly id: number }) => id)).size, open)
      assert.deepStrictEqual(seen.figures.connections, { open, draining: 0, closing: 0 })
      assert.deepStrictEqual(seen.figures.totals, figures.totals)
      assert.strictEqual(inKernel(port), open)
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.fresh(Metrics.layer)),
      Effect.provideService(Metric.MetricRegistry, new Map())
    ), long(180_000))
})
