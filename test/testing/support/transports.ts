/** What the contract and the parity suite run over: real transports, and the simulated network. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import * as Fs from "node:fs"
import type * as Net from "node:net"
import { transportOf } from "../../../src/internal/transport/transport.ts"
import { Dialer, Listener } from "../../../src/node/index.ts"
import { type SocketContract, TestNetwork } from "../../../src/testing/index.ts"
import { certificate, onLinux, tempDir } from "../../node/fixtures/kit.ts"

type Transport = SocketContract.Transport
type Server = SocketServer.SocketServer["Service"]

// ---------------------------------------------------------------------------------------------------------------------
// real
// ---------------------------------------------------------------------------------------------------------------------

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

const streams = new WeakMap<Socket.Socket, Net.Socket>()

/** Remembers what an accepted socket runs on, so that a test can break it. */
const remembering = (server: Server): Server => ({
  ...server,
  run: (handler) =>
    server.run((socket) =>
      Effect.contextWith((context: Context.Context<never>) => {
        const net = Context.getOption(context, NodeSocket.NetSocket)
        const request = Context.getOption(context, NodeSocketServer.IncomingMessage)
        if (net._tag === "Some") streams.set(socket, net.value)
        if (request._tag === "Some") streams.set(socket, request.value.socket)
        return handler(socket)
      })
    )
})

/** Sends RST. TLS runs on a TCP handle of its own. */
const abort = (accepted: Socket.Socket): Effect.Effect<void> =>
  Effect.sync(() => {
    const stream = streams.get(accepted)!
    const below = (stream as unknown as { readonly _parent?: Net.Socket | null })._parent ?? stream
    below.resetAndDestroy()
  })

const real = (
  name: string,
  messages: boolean,
  listen: Effect.Effect<readonly [Server, Effect.Effect<Socket.Socket, unknown>], unknown, Scope.Scope>
): Transport => ({
  name,
  messages,
  halfClose: !messages,
  listen: Effect.map(listen, ([server, dial]) => ({ server: remembering(server), dial })),
  // a busy machine may take its time
  deadline: "10 seconds",
  ...(onLinux ? { held: openSockets } : {}),
  ...(name === "unix" ? {} : { abort })
})

const ours = (name: string, url: Effect.Effect<string, never, Scope.Scope>, secure = false): Transport =>
  real(
    name,
    name === "ws",
    Effect.gen(function*() {
      const server = yield* Listener.make(yield* url, secure ? certificate() : {})
      return [server, Dialer.make(server.url, secure ? { ca: certificate().cert } : {})] as const
    })
  )

export const tcp = ours("tcp", Effect.succeed("tcp://127.0.0.1:0"))
export const unix = ours("unix", Effect.map(tempDir, (dir) => `unix://${dir}/socket`))
export const tls = ours("tls", Effect.succeed("tls://127.0.0.1:0"), true)
export const ws = ours("ws", Effect.succeed("ws://127.0.0.1:0/live"))

/** Effect's own adapters: sockets as the kernel has them. */
export const kernel = real(
  "kernel",
  false,
  Effect.map(NodeSocketServer.make({ host: "127.0.0.1", port: 0, allowHalfOpen: true }), (server) => {
    const { port } = server.address as { readonly port: number }
    return [server, NodeSocket.makeNet({ host: "127.0.0.1", port, allowHalfOpen: true })]
  })
)

// ---------------------------------------------------------------------------------------------------------------------
// simulated
// ---------------------------------------------------------------------------------------------------------------------

/** A client and a server on a network of their own, made anew for each check. */
export const simulated = (
  name: string,
  options: TestNetwork.Options,
  { messages = false, webSocket = false }: { readonly messages?: boolean; readonly webSocket?: boolean } = {}
): Transport => {
  let network: TestNetwork.Network | undefined
  return {
    name,
    messages: messages || webSocket,
    halfClose: !messages && !webSocket,
    listen: Effect.gen(function*() {
      // it outlives the listener: a dial after that has to be refused by the network
      network = yield* Scope.provide(TestNetwork.make({ seed: 1, ...options }), yield* Scope.make())
      const server = yield* network.host("server").listen(7000, { messages, webSocket })
      const socket = network.host("client").dial("server:7000", { messages, webSocket })
      return { server, dial: Effect.succeed(socket) }
    }),
    capacity: 4 * 1024 * 1024,
    bulk: 256 * 1024,
    // a round trip may take as long as a whole check on a real network
    deadline: "30 seconds",
    quiet: "500 millis",
    abort: (accepted) =>
      Effect.gen(function*() {
        const { remote } = transportOf(accepted)
        const { connections } = yield* network!.snapshot
        yield* network!.reset(connections.find(({ client }) => client.address === remote)!.id)
      })
  }
}
