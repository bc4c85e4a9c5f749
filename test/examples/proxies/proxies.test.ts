/** The gateway behind real proxies, with the configuration files of the example. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Result } from "effect"
import { Codec, Connection } from "holdfast"
import { Dialer, type Listener } from "holdfast/node"
import { freePort, installed } from "../support/servers.ts"
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
