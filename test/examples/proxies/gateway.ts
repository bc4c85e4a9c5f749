/**
 * A gateway behind proxies: it tells each client the address from which it came, and echoes lines.
 *
 * What it shows: several listeners under one server, a PROXY header in front of TCP, `X-Forwarded-For` in front of a WebSocket, and
 * that both are believed from the proxies alone.
 */
import { Context, Effect, Layer, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { Codec, Connection, Heartbeat, Registry, Server } from "holdfast"
import { Listener } from "holdfast/node"

/** The addresses of the proxies. */
const proxies = ["127.0.0.1"]

export class Clients extends Context.Service<Clients, Registry.Registry<string>>()("proxies/Clients") {
  static readonly layer = Registry.layer(Clients)
}

/** Listens where the proxies look for it. Port 0 picks one. */
export const listen = Effect.fnUntraced(function*(tcp: number, webSocket: number) {
  const lines = yield* Listener.make(`tcp://127.0.0.1:${tcp}`, { proxyProtocol: proxies })
  const pages = yield* Listener.make(`ws://127.0.0.1:${webSocket}/live`, { trustForwarded: proxies })
  return { lines, pages, all: Listener.merge([lines, pages]) }
})

/** Serves on what listens. `maxConnectionsPerAddress` counts addresses of clients, not of proxies. */
export const gateway = (listener: Listener.Listener) =>
  Effect.gen(function*() {
    const registry = yield* Clients
    return Server.layer({
      registry,
      policy: { maxConnectionsPerAddress: 100 },
      open: Connection.make({
        codec: Codec.lines(),
        heartbeat: Heartbeat.preferFrames(Heartbeat.text("ping", "pong"))
      }),
      handle: Effect.fnUntraced(function*(connection: Connection.Connection<string>) {
        const { remote } = yield* connection.snapshot
        yield* connection.send(`you are ${remote}`)
        yield* Stream.runForEach(Connection.messages(connection), connection.send)
      })
    })
  }).pipe(Layer.unwrap, Layer.provide(Layer.succeed(SocketServer.SocketServer, listener)))
