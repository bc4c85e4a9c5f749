/** The gateway behind real proxies, with the configuration files of the example. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Result } from "effect"
import { Codec, Connection } from "holdfast"
import { Dialer, type Listener } from "holdfast/node"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import { freePort, installed, temporary } from "../support/servers.ts"
import * as Fronts from "./fronts.ts"
import { Clients, gateway, listen } from "./gateway.ts"

const has = (name: string) => Result.isSuccess(Effect.runSync(Effect.result(installed(name, name))))

const dial = (url: string) =>
  Effect.flatMap(Dialer.make(url, { localAddress: "127.0.0.7" }), Connection.make({ codec: Codec.lines() }))

/** Who a client is told to be, without its port, and the echo of a line. */
const visit = Effect.fnUntraced(function*(url: string) {
  const connection = yield* dial(url)
  const told = yield* connection.receive
  yield* connection.send("hello")
  return [told.replace(/:\d+$/, ""), yield* connection.receive]
}, Effect.scoped)

const serve = Effect.gen(function*() {
  const fronts = yield* Effect.all(Array.from({ length: 4 }, () => freePort))
  const { all, lines, pages } = yield* listen(0, 0)
  const portOf = ({ url }: Listener.Listener) => Number(new URL(url.replace(/^\w+:/, "http:")).port)
  yield* Layer.build(Layer.provide(gateway(all), Clients.layer))
  return [portOf(lines), portOf(pages), ...fronts] as unknown as Fronts.Ports
})

const expected = ["you are 127.0.0.7", "hello"]

/** The configuration that the guide shows, in one language. */
const guide = (language: string): ReadonlyArray<string> => {
  const path = new URL("../../../src/guides/stopping-and-deploying.md", import.meta.url)
  const blocks = Fs.readFileSync(path, "utf8").matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, "gm"))
  return Array.from(blocks, ([, text]) => text!)
}

/** What a program says to a file, and its exit code. */
const check = Effect.fnUntraced(
  function*(program: string, text: string, args: (file: string, folder: string) => ReadonlyArray<string>) {
    const path = yield* installed(program, program)
    const folder = yield* temporary
    Fs.writeFileSync(`${folder}/conf`, text)
    const { status, stderr, stdout } = ChildProcess.spawnSync(path, args(`${folder}/conf`, folder), {
      encoding: "utf8"
    })
    return { status, said: stdout + stderr }
  }
)

describe("the guide", () => {
  it.live.skipIf(!has("nginx"))(
    "shows what nginx takes (skipped where it is not installed)",
    () =>
      Effect.gen(function*() {
        const [location, server, ...others] = guide("nginx")
        assert.deepStrictEqual(others, [])
        const text =
          `load_module /usr/lib/nginx/modules/ngx_stream_module.so; pid pid; worker_shutdown_timeout 30s; events {}
        http { access_log off; server { listen 127.0.0.1:7999; ${location} } } stream { ${server} }`
        const { said, status } = yield* check("nginx", text, (file, folder) => [
          "-t",
          "-p",
          folder,
          "-c",
          file,
          "-e",
          "stderr"
        ])
        assert.strictEqual(status, 0, said)
      })
  )

  it.live.skipIf(!has("haproxy"))(
    "shows what HAProxy takes (skipped where it is not installed)",
    () =>
      Effect.gen(function*() {
        const { said, status } = yield* check("haproxy", guide("haproxy").join("\n"), (file) => ["-c", "-f", file])
        assert.strictEqual(status, 0, said)
      })
  )
})

describe("the gateway", () => {
  it.live.skipIf(!has("nginx"))(
    "knows clients behind nginx (skipped where it is not installed)",
    () =>
      Effect.gen(function*() {
        const ports = yield* serve
        yield* Fronts.nginx(ports)
        assert.deepStrictEqual(yield* visit(`tcp://127.0.0.1:${ports[2]}`), expected)
        assert.deepStrictEqual(yield* visit(`ws://127.0.0.1:${ports[3]}/live`), expected)
      })
  )

  it.live.skipIf(!has("haproxy"))(
    "knows clients behind HAProxy (skipped where it is not installed)",
    () =>
      Effect.gen(function*() {
        const ports = yield* serve
        yield* Fronts.haproxy(ports)
        assert.deepStrictEqual(yield* visit(`tcp://127.0.0.1:${ports[4]}`), expected)
        assert.deepStrictEqual(yield* visit(`ws://127.0.0.1:${ports[5]}/live`), expected)
      })
  )

  it.live("refuses a proxy that names no client, and believes no other address", () =>
    Effect.gen(function*() {
      const ports = yield* serve
      // from the address of the proxies a header is due
      const refused = yield* Dialer.make(`tcp://127.0.0.1:${ports[0]}`).pipe(
        Effect.flatMap(Connection.make({ codec: Codec.lines() })),
        Effect.tap((connection) => connection.send("hello")),
        Effect.flatMap((connection) => connection.receive),
        Effect.scoped,
        Effect.flip
      )
      assert.strictEqual(refused._tag, "ConnectionError")
      const liar = yield* Dialer.make(`ws://127.0.0.1:${ports[1]}/live`, {
        localAddress: "127.0.0.7",
        headers: { "x-forwarded-for": "6.6.6.6" }
      }).pipe(
        Effect.flatMap(Connection.make({ codec: Codec.lines() })),
        Effect.flatMap((connection) => connection.receive),
        Effect.scoped
      )
      assert.match(liar, /^you are 127\.0\.0\.7:/)
    }))
})
