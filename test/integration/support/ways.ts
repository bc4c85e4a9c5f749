/** The transports a conversation runs over, each with a client of ours and one of plain Node. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import { Dialer, Listener } from "../../../src/node/index.ts"
import { certificate, portOf, tempDir, until } from "./kit.ts"

/** A client of plain Node, past the TLS handshake and the HTTP upgrade. */
export interface Raw {
  /** What the application would write to. */
  readonly top: Duplex
  /** The TCP or Unix socket below. */
  readonly wire: Net.Socket
  readonly chunks: Array<Buffer>
  ended: boolean
  closed: boolean
  error: NodeJS.ErrnoException | undefined
}

/** One server and the ways to it. */
export interface Ends {
  readonly server: SocketServer.SocketServer["Service"]
  /** A fresh socket. */
  readonly dial: Effect.Effect<Socket.Socket>
  readonly raw: (options?: { readonly flowing?: boolean }) => Effect.Effect<Raw, never, Scope.Scope>
}

export interface Way {
  readonly name: string
  /** One transport message is one frame. */
  readonly messages: boolean
  /** Each direction ends by itself. */
  readonly halfClose: boolean
  /** What a client connection has to be told. */
  readonly client: { readonly transport?: "messages" }
  readonly make: Effect.Effect<Ends, never, Scope.Scope>
}

type Target = { readonly host: string; readonly port: number } | { readonly path: string }

const upgradeRequest = [
  "GET / HTTP/1.1",
  "Host: localhost",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: aG9sZGZhc3QgaG9sZGZhcw==",
  "",
  ""
].join("\r\n")

/** Connects with `node:net` and `node:tls` alone. */
export const rawClient = (
  target: Target,
  options: { readonly tls?: boolean; readonly upgrade?: boolean; readonly flowing?: boolean } = {}
): Effect.Effect<Raw, never, Scope.Scope> =>
  Effect.gen(function*() {
    let ready = false
    const raw = yield* Effect.acquireRelease(
      Effect.sync((): Raw => {
        const wire = Net.createConnection({ ...target, allowHalfOpen: true })
        // typed for servers only; without it our FIN would answer theirs
        const halfOpen: object = { allowHalfOpen: true }
        const top = options.tls === true
          ? Tls.connect({ socket: wire, rejectUnauthorized: false, ...halfOpen })
          : wire
        const self: Raw = { top, wire, chunks: [], ended: false, closed: false, error: undefined }
        wire.on("error", (error) => self.error ??= error)
        if (top !== wire) top.on("error", (error) => self.error ??= error)
        top.on("end", () => self.ended = true)
        wire.on("close", () => self.closed = true)
        top.once(options.tls === true ? "secureConnect" : "connect", () => ready = true)
        return self
      }),
      ({ wire, top }) =>
        Effect.sync(() => {
          top.destroy()
          wire.destroy()
        })
    )
    yield* until("the raw client is connected", () => ready)
    if (options.upgrade === true) {
      let head = ""
      const read = (chunk: Buffer) => head += chunk.toString("latin1")
      raw.top.on("data", read)
      raw.top.write(upgradeRequest)
      yield* until("the upgrade", () => head.includes("\r\n\r\n"))
      raw.top.off("data", read)
    }
    if (options.flowing === false) raw.top.pause()
    else raw.top.on("data", (chunk: Buffer) => raw.chunks.push(chunk))
    return raw
  })

/** Cuts a connection with a TCP reset; a Unix socket gets one when it closes with unread input. */
export const reset = (raw: Raw): void => {
  if (raw.wire.remotePort === undefined) raw.wire.destroy()
  else raw.wire.resetAndDestroy()
}

const holdfast = (scheme: "tcp" | "tls" | "unix" | "ws" | "wss"): Way => {
  const messages = scheme === "ws" || scheme === "wss"
  const tls = scheme === "tls" || scheme === "wss"
  return {
    name: `${scheme}://`,
    messages,
    halfClose: !messages,
    client: {},
    make: Effect.gen(function*() {
      const path = `${yield* tempDir}/app.sock`
      const listener = yield* Listener.make(
        scheme === "unix" ? `unix://${path}` : `${scheme}://127.0.0.1:0`,
        tls ? certificate() : {}
      )
      return {
        server: listener,
        dial: Effect.orDie(Dialer.make(listener.url, tls ? { ca: certificate().cert } : {})),
        raw: (options?: { readonly flowing?: boolean }) =>
          rawClient(scheme === "unix" ? { path } : { host: "127.0.0.1", port: portOf(listener) }, {
            tls,
            upgrade: messages,
            ...options
          })
      }
    }).pipe(Effect.orDie)
  }
}

const boundPort = (server: SocketServer.SocketServer["Service"]): number => {
  if (server.address._tag === "UnixPathAddress") throw new Error("not a port")
  return (server.address as { readonly port: number }).port
}

const host = "127.0.0.1"

const effectNet: Way = {
  name: "effect NodeSocketServer.make and NodeSocket.makeNet",
  messages: false,
  halfClose: true,
  client: {},
  make: Effect.gen(function*() {
    const server = yield* NodeSocketServer.make({ host, port: 0, allowHalfOpen: true })
    const target = { host, port: boundPort(server) }
    return {
      server,
      dial: NodeSocket.makeNet({ ...target, allowHalfOpen: true }),
      raw: (options?: { readonly flowing?: boolean }) => rawClient(target, options)
    }
  }).pipe(Effect.orDie)
}

const effectTls: Way = {
  name: "effect NodeSocketServer.makeTls and NodeSocket.makeTls",
  messages: false,
  // `tls` ends our side when theirs has ended
  halfClose: false,
  client: {},
  make: Effect.gen(function*() {
    const server = yield* NodeSocketServer.makeTls({ host, port: 0, ...certificate() })
    const target = { host, port: boundPort(server) }
    return {
      server,
      dial: NodeSocket.makeTls({ ...target, ca: certificate().cert, servername: "localhost" }),
      raw: (options?: { readonly flowing?: boolean }) => rawClient(target, { tls: true, ...options })
    }
  }).pipe(Effect.orDie)
}

const effectWebSocket: Way = {
  name: "effect NodeSocketServer.makeWebSocket and Socket.makeWebSocket",
  messages: true,
  halfClose: false,
  client: { transport: "messages" },
  make: Effect.gen(function*() {
    const server = yield* NodeSocketServer.makeWebSocket({ host, port: 0 })
    const target = { host, port: boundPort(server) }
    return {
      server,
      dial: Socket.makeWebSocket(`ws://${host}:${target.port}`).pipe(
        Effect.provide(Socket.layerWebSocketConstructorGlobal)
      ),
      raw: (options?: { readonly flowing?: boolean }) => rawClient(target, { upgrade: true, ...options })
    }
  }).pipe(Effect.orDie)
}

export const ways: ReadonlyArray<Way> = [
  holdfast("tcp"),
  holdfast("tls"),
  holdfast("unix"),
  holdfast("ws"),
  holdfast("wss"),
  effectNet,
  effectTls,
  effectWebSocket
]
