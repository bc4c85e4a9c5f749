/** Accepts connections, takes them through their handshakes, and hands them out. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import type * as NodeWS from "@effect/platform-node/NodeWS"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import type * as Http from "node:http"
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import type { Transport } from "../../internal/transport.ts"
import * as Address from "./address.ts"
import { makeSocket } from "./duplex.ts"
import * as Handshakes from "./handshakes.ts"
import type * as Options from "./options.ts"
import { linger, noop, type tcpOptions, unsent, writeNow } from "./stream.ts"
import * as WebSocket from "./webSocket.ts"

/** The options of a listener, checked, and times in milliseconds. */
export interface Settings {
  readonly address: Address.Address
  readonly tcp: ReturnType<typeof tcpOptions>
  readonly handshakeTimeout: number
  readonly maxFrame: number
  readonly maxPending: number
  readonly linger: number
  /** With `tls` and `wss`. */
  readonly tls: Options.TlsOptions | undefined
}

/** One accepted connection, from `accept` until its reader is acquired. */
interface Arrival {
  /** What was accepted: destroying it destroys whatever runs on top. */
  readonly raw: Net.Socket
  readonly addresses: Pick<Transport, "local" | "remote">
  timer: NodeJS.Timeout | undefined
  /** Set once the handshakes are done. */
  open: (() => Opened) | undefined
}

/** What a handler gets. */
interface Opened {
  readonly socket: Effect.Effect<Socket.Socket>
  readonly services: Context.Context<never>
}

/** Somebody's `run`. */
interface Consumer {
  readonly take: (arrival: Arrival, opened: Opened) => void
  readonly fail: (cause: Error) => void
}

const openError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })

/** An acceptor whose `server` is not listening yet. `close` gives the address back; see `Listener.make`. */
export const make = (settings: Settings) => {
  const { address } = settings
  /** Accepted and not handed out; bounded by `maxPending`. */
  const pending = new Set<Arrival>()
  /** Handed out, reader not acquired yet. */
  const unclaimed = new Set<Arrival>()
  /** Released by their owner, not gone yet. */
  const lingering = new Set<Net.Socket>()
  /** The last one gets the connections. */
  let consumers: ReadonlyArray<Consumer> = []
  let closed = false
  let whenQuiet: (() => void) | undefined

  const server = Net.createServer({
    allowHalfOpen: true,
    // the other schemes have to read for their handshakes
    pauseOnConnect: address.scheme === "tcp" || address.scheme === "unix",
    ...(address.scheme === "unix" ? {} : settings.tcp)
  })
  server.on("connection", accept)
  server.on("error", (cause) => {
    for (const consumer of consumers) consumer.fail(cause)
  })
  const secure = settings.tls === undefined ? undefined : Handshakes.tls({
    ...settings.tls,
    requestCert: settings.tls.ca !== undefined,
    handshakeTimeout: settings.handshakeTimeout,
    ...(address.scheme === "wss" ? { ALPNProtocols: ["http/1.1"] } : {})
  })
  const upgrade = address.scheme === "ws" || address.scheme === "wss"
    ? Handshakes.upgrade({ path: address.tail || "/", maxFrame: settings.maxFrame, linger: settings.linger })
    : undefined

  function accept(raw: Net.Socket): void {
    raw.on("error", noop)
    if (closed || pending.size >= settings.maxPending) {
      raw.destroy()
      return
    }
    const arrival: Arrival = {
      raw,
      addresses: address.scheme === "unix"
        ? { local: address.path, remote: `unix:${address.path}` }
        : { local: Address.localOf(raw), remote: Address.remoteOf(raw) },
      timer: undefined,
      open: undefined
    }
    pending.add(arrival)
    raw.once("close", () => forget(arrival))
    if (secure === undefined && upgrade === undefined) return ready(arrival, () => openStream(arrival, raw))
    arrival.timer = setTimeout(() => raw.destroy(), settings.handshakeTimeout)
    if (secure === undefined) return secured(arrival, raw)
    secure(raw, (conn) => secured(arrival, conn))
  }

  /** Takes a WebSocket which another server of ours accepted and upgraded. */
  function adopt(raw: Net.Socket, ws: NodeWS.WebSocket, request: Http.IncomingMessage): void {
    if (closed || pending.size >= settings.maxPending) {
      raw.destroy()
      return
    }
    const arrival: Arrival = {
      raw,
      addresses: { local: Address.localOf(raw), remote: Address.remoteOf(raw) },
      timer: undefined,
      open: undefined
    }
    pending.add(arrival)
    raw.once("close", () => forget(arrival))
    ready(arrival, () => openWebSocket(arrival, ws, raw, request))
  }

  function secured(arrival: Arrival, conn: Net.Socket): void {
    if (upgrade === undefined) {
      conn.pause()
      return ready(arrival, () => openStream(arrival, conn))
    }
    upgrade(conn, (ws, stream, request) => {
      // ws has switched Nagle off
      if (!settings.tcp.noDelay) arrival.raw.setNoDelay(false)
      ready(arrival, () => openWebSocket(arrival, ws, stream, request))
    })
  }

  function forget(arrival: Arrival): void {
    pending.delete(arrival)
    unclaimed.delete(arrival)
    clearTimeout(arrival.timer)
  }

  function ready(arrival: Arrival, open: NonNullable<Arrival["open"]>): void {
    clearTimeout(arrival.timer)
    arrival.open = open
    const consumer = consumers.at(-1)
    if (consumer !== undefined) hand(consumer, arrival, open)
  }

  function hand(consumer: Consumer, arrival: Arrival, open: NonNullable<Arrival["open"]>): void {
    pending.delete(arrival)
    unclaimed.add(arrival)
    consumer.take(arrival, open())
  }

  /** Passes the ownership to whoever acquires the reader. */
  function claim(arrival: Arrival, stream: Duplex): Effect.Effect<void, Socket.SocketError> {
    return Effect.suspend(() => {
      if (arrival.raw.destroyed || stream.destroyed) {
        return Effect.fail(
          openError(stream.errored ?? arrival.raw.errored ?? new Error("the connection ended before it was read"))
        )
      }
      if (!unclaimed.has(arrival)) return Effect.fail(openError(new Error("the connection was read before")))
      forget(arrival)
      return Effect.void
    })
  }

  /** The owner has let go: closing the listener waits until the rest has gone too. */
  function release(arrival: Arrival): void {
    if (arrival.raw.destroyed) return
    lingering.add(arrival.raw)
    arrival.raw.once("close", () => {
      lingering.delete(arrival.raw)
      if (lingering.size === 0) whenQuiet?.()
    })
  }

  function openStream(arrival: Arrival, conn: Net.Socket): Opened {
    return {
      socket: Effect.succeed(makeSocket(
        {
          open: Effect.as(claim(arrival, conn), conn),
          release() {
            linger(conn, settings.linger)
            release(arrival)
          }
        },
        {
          messages: false,
          ...arrival.addresses,
          unsent: () => unsent(conn),
          writeNow: (chunks) => writeNow(conn, chunks)
        }
      )),
      services: Context.make(NodeSocket.NetSocket, conn)
    }
  }

  function openWebSocket(
    arrival: Arrival,
    ws: NodeWS.WebSocket,
    stream: Duplex,
    request: Http.IncomingMessage
  ): Opened {
    return {
      socket: WebSocket.make({
        acquire: Effect.as(
          Effect.acquireRelease(claim(arrival, stream), () => Effect.sync(() => release(arrival))),
          { ws, stream }
        ),
        linger: settings.linger,
        addresses: arrival.addresses
      }),
      services: Context.make(NodeSocketServer.IncomingMessage, request).pipe(Context.add(Socket.WebSocket, ws))
    }
  }

  const run = <R, E, _>(
    handler: (socket: Socket.Socket) => Effect.Effect<_, E, R>
  ): Effect.Effect<never, SocketServer.SocketServerError, R> =>
    Effect.gen(function*() {
      const context = Context.omit(Scope.Scope)(yield* Effect.context<R>()) as Context.Context<R>
      const scope = yield* Scope.make()
      const track = Fiber.runIn(scope)
      const take: Consumer["take"] = (arrival, { services, socket }) => {
        let failed = false
        const fiber = socket.pipe(
          Effect.flatMap(handler),
          Effect.onError(() =>
            Effect.sync(() => {
              failed = true
            })
          ),
          Effect.ignoreCause({ log: "Unhandled", message: "Unhandled error in SocketServer" }),
          Effect.runForkWith(Context.merge(context, services))
        )
        fiber.addObserver((exit) => {
          if (!unclaimed.has(arrival)) return
          if (failed || Exit.isFailure(exit)) arrival.raw.destroy()
          else arrival.timer = setTimeout(() => arrival.raw.destroy(), settings.handshakeTimeout).unref()
        })
        track(fiber)
      }
      let consumer: Consumer | undefined
      const leave = () => {
        consumers = consumers.filter((one) => one !== consumer)
      }
      return yield* Effect.callback<never, SocketServer.SocketServerError>((resume) => {
        consumer = {
          take,
          fail: (cause) => {
            leave()
            const reason = new SocketServer.SocketServerUnknownError({ cause })
            resume(Effect.fail(new SocketServer.SocketServerError({ reason })))
          }
        }
        consumers = [...consumers, consumer]
        for (const arrival of pending) {
          if (arrival.open !== undefined) hand(consumer, arrival, arrival.open)
        }
      }).pipe(
        Effect.ensuring(Effect.suspend(() => {
          leave()
          return Scope.close(scope, Exit.void)
        }))
      )
    })

  const close = Effect.callback<void>((resume) => {
    closed = true
    // frees the address at once; the callback would wait for every connection
    server.close(noop)
    for (const arrival of [...pending, ...unclaimed]) arrival.raw.destroy()
    if (lingering.size === 0) return resume(Effect.void)
    whenQuiet = () => resume(Effect.void)
  })

  return { server, adopt, run, close }
}
