/** Real transports, described for the contract: ours, and Effect's own. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as NodeWS from "@effect/platform-node/NodeWS"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import * as Fs from "node:fs"
import type * as Net from "node:net"
import { Dialer, Listener } from "../../../src/node/index.ts"
import type { SocketContract } from "../../../src/testing/index.ts"
import { certificate, onLinux, tempDir } from "../../node/fixtures/kit.ts"

type Server = SocketServer.SocketServer["Service"]

/** The sockets this process has open, lingering ones included. */
const openSockets = Effect.sync(() =>
  Fs.readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return Fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:")
    } catch {
      return false
    }
  }).length
)

const connections = new WeakMap<Socket.Socket, Net.Socket>()

/** Remembers what an accepted socket runs on, so that a test can break it. */
const remembering = (server: Server): Server => ({
  ...server,
  run: (handler) =>
    server.run((socket) =>
      Effect.contextWith((context: Context.Context<never>) => {
        const net = Context.getOption(context, NodeSocket.NetSocket)
        const ws = Context.getOption(context, Socket.WebSocket)
        if (net._tag === "Some") connections.set(socket, net.value)
        if (ws._tag === "Some") {
          connections.set(socket, (ws.value as unknown as { readonly _socket: Net.Socket })._socket)
        }
        return handler(socket)
      })
    )
})

/** Sends RST. TLS runs on a TCP handle of its own. */
const abort = (socket: Socket.Socket): Effect.Effect<void> =>
  Effect.sync(() => {
    const conn = connections.get(socket)!
    const below = (conn as unknown as { readonly _parent?: Net.Socket | null })._parent ?? conn
    below.resetAndDestroy()
  })

const describe = (
  name: string,
  options: Partial<SocketContract.Transport> & Pick<SocketContract.Transport, "listen">
): SocketContract.Transport => ({
  name,
  messages: false,
  halfClose: true,
  ...(onLinux ? { held: openSockets } : {}),
  ...options
})

const listening = (server: Server, dial: Effect.Effect<Socket.Socket, unknown, Scope.Scope>) => ({
  server: remembering(server),
  dial
})

// ---------------------------------------------------------------------------------------------------------------------
// Holdfast's
// ---------------------------------------------------------------------------------------------------------------------

const ours = (url: Effect.Effect<string, never, Scope.Scope>, secure: boolean) =>
  Effect.gen(function*() {
    const server = yield* Listener.make(yield* url, secure ? certificate() : {})
    return listening(server, Dialer.make(server.url, secure ? { ca: certificate().cert } : {}))
  })

export const holdfast: ReadonlyArray<SocketContract.Transport> = [
  describe("tcp", { listen: ours(Effect.succeed("tcp://127.0.0.1:0"), false), abort }),
  describe("unix", { listen: ours(Effect.map(tempDir, (dir) => `unix://${dir}/socket`), false) }),
  describe("tls", { listen: ours(Effect.succeed("tls://127.0.0.1:0"), true), abort }),
  describe("ws", {
    listen: ours(Effect.succeed("ws://127.0.0.1:0/live"), false),
    messages: true,
    halfClose: false,
    abort
  }),
  describe("wss", {
    listen: ours(Effect.succeed("wss://127.0.0.1:0/live"), true),
    messages: true,
    halfClose: false,
    abort
  })
]

// ---------------------------------------------------------------------------------------------------------------------
// Effect's
// ---------------------------------------------------------------------------------------------------------------------

const portOf = (server: Server): number => (server.address as { readonly port: number }).port

// missing from the types of `tls`
const halfOpen = <A extends object>(options: A): A => Object.assign(options, { allowHalfOpen: true })

const withWebSockets = Effect.provide(Layer.succeed(
  Socket.WebSocketConstructor,
  (url) => new NodeWS.WebSocket(url) as unknown as globalThis.WebSocket
))

export const effect: ReadonlyArray<SocketContract.Transport> = [
  describe("NodeSocket tcp", {
    listen: Effect.map(
      NodeSocketServer.make({ host: "127.0.0.1", port: 0, allowHalfOpen: true }),
      (server) =>
        listening(server, NodeSocket.makeNet({ host: "127.0.0.1", port: portOf(server), allowHalfOpen: true }))
    ),
    abort
  }),
  describe("NodeSocket tls", {
    listen: Effect.map(
      NodeSocketServer.makeTls(halfOpen({ host: "127.0.0.1", port: 0, ...certificate() })),
      (server) =>
        listening(
          server,
          NodeSocket.makeTls(
            halfOpen({ host: "127.0.0.1", port: portOf(server), ca: certificate().cert, servername: "" })
          )
        )
    ),
    abort
  }),
  describe("NodeSocket ws", {
    listen: Effect.map(
      NodeSocketServer.makeWebSocket({ host: "127.0.0.1", port: 0 }),
      (server) => listening(server, withWebSockets(Socket.makeWebSocket(`ws://127.0.0.1:${portOf(server)}/`)))
    ),
    messages: true,
    halfClose: false,
    abort
  })
]
