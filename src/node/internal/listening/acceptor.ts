/** Accepts connections, takes them through their handshakes, and hands them out. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import { spawn } from "../../../internal/scheduling/supervised.ts"
import { type Attachable, Direct, type Directly, OnPath } from "../../../internal/transport/accepted.ts"
import { TypeId, type WebSocketLink } from "../../../internal/transport/transport.ts"
import { overStream } from "../../../internal/webSocket/socket.ts"
import * as Address from "../addresses/address.ts"
import type { OfPolicy } from "../options.ts"
import { readerOf, Stream, writerOf } from "../stream/duplex.ts"
import { linger, noop, setTcp } from "../stream/tcp.ts"
import { handshakes } from "../tls/handshakes.ts"
import type { TlsOptions } from "../tls/material.ts"
import { Accepted as AcceptedRequest } from "../upgrade/accepted.ts"
import { upgrades } from "../webSocket/requests.ts"
import type { Rules } from "../webSocket/rules.ts"

/** The options of a listener, checked, and times in milliseconds. */
export interface Settings extends Pick<OfPolicy, "tcp" | "handshake" | "maxFrame"> {
  readonly address: Address.Address
  readonly maxPending: number
  readonly linger: number
  /** With `tls` and `wss`. */
  readonly tls: TlsOptions | undefined
  /** With `ws` and `wss`. */
  readonly rules: Rules<never>
  /** In which the hooks of `rules` run. */
  readonly context: Context.Context<never>
}

// what came of a raw connection: the listeners are the same functions for all of them
const arriving = Symbol("holdfast/arriving")
type Raw = Net.Socket & { [arriving]?: Arrival }

function onRawClose(this: Raw): void {
  const arrival = this[arriving]!
  arrival.acceptor.gone(arrival)
}

/** One accepted connection, from `accept` until nothing is left of it. */
class Arrival {
  readonly acceptor: Owner
  /** What was accepted: destroying it destroys whatever runs on top. */
  readonly raw: Net.Socket
  readonly local: string | undefined
  readonly remote: string | undefined
  /** Of the request to upgrade. */
  path: string | undefined
  timer: NodeJS.Timeout | undefined
  /** Set once the handshakes are done. */
  open: ((arrival: Arrival) => Opened) | undefined
  /** Who got it. */
  consumer: Consumer | undefined

  constructor(acceptor: Owner, raw: Raw, local: string | undefined, remote: string | undefined) {
    this.acceptor = acceptor
    this.raw = raw
    this.local = local
    this.remote = remote
    raw[arriving] = this
    raw.on("close", onRawClose)
  }
}

/** The acceptor, as far as its arrivals see it. */
interface Owner {
  readonly linger: number
  /** Passes the ownership to the fiber that acquires the reader, or says why not. */
  readonly claim: (arrival: Arrival, stream: Duplex) => Socket.SocketError | undefined
  /** The owner has let go: closing the listener waits until the rest has gone too. */
  readonly release: (arrival: Arrival) => void
  readonly gone: (arrival: Arrival) => void
}

/** What a handler gets. */
interface Opened {
  readonly socket: Socket.Socket
  readonly provide: <R>(context: Context.Context<R>) => Context.Context<R>
}

/**
 * An accepted byte stream: `conn` is what was accepted, or TLS on top of it. It is socket and transport itself: there may be
 * ten thousand.
 */
class Accepted extends Stream implements Socket.Socket, Attachable, Opened {
  readonly [Socket.TypeId]: typeof Socket.TypeId = Socket.TypeId
  // a property of its own: what wraps this socket is not this transport
  readonly [TypeId] = this
  readonly messages = false
  private readonly arrival: Arrival
  private readonly accepted: Net.Socket

  constructor(arrival: Arrival, conn: Net.Socket) {
    super()
    this.arrival = arrival
    this.accepted = conn
  }

  get socket(): Socket.Socket {
    return this
  }

  get local(): string | undefined {
    return this.arrival.local
  }

  get remote(): string | undefined {
    return this.arrival.remote
  }

  attach(): Socket.SocketError | undefined {
    const failure = this.arrival.acceptor.claim(this.arrival, this.accepted)
    if (failure === undefined) this.start(this.accepted)
    return failure
  }

  detach(): void {
    const { acceptor } = this.arrival
    this.stop()
    linger(this.accepted, acceptor.linger)
    acceptor.release(this.arrival)
  }

  get reader(): Socket.Socket["reader"] {
    // in one piece: nothing comes between having a stream and owning it
    return Effect.uninterruptible(Effect.flatMap(Effect.scope, (scope) => {
      const failure = this.attach()
      return failure === undefined
        ? Effect.as(Scope.addFinalizer(scope, Effect.sync(() => this.detach())), readerOf(this))
        : Effect.fail(failure)
    }))
  }

  get writer(): Socket.Socket["writer"] {
    return writerOf(this)
  }

  provide<R>(context: Context.Context<R>): Context.Context<R> {
    return Context.add(context, NodeSocket.NetSocket, this.accepted)
  }
}

/** One call of `run`. */
interface Consumer {
  /** Undefined: for all paths. */
  readonly path: string | undefined
  readonly take: (arrival: Arrival, opened: Opened) => void
  readonly fail: (cause: Error) => void
}

const openRaw = (arrival: Arrival): Opened => new Accepted(arrival, arrival.raw)

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
    pauseOnConnect: address.scheme === "tcp" || address.scheme === "unix"
  })
  server.on("connection", accept)
  server.on("error", (cause) => {
    for (const consumer of consumers) consumer.fail(cause)
  })
  const secure = settings.tls === undefined ? undefined : handshakes({
    ...settings.tls,
    requestCert: settings.tls.ca !== undefined,
    handshakeTimeout: settings.handshake,
    ...(address.scheme === "wss" ? { ALPNProtocols: ["http/1.1"] } : {})
  })
  const upgrade = address.scheme === "ws" || address.scheme === "wss"
    ? upgrades({ ...settings, limit: settings.handshake })
    : undefined

  // where the address is not that of one interface, each connection has to be asked
  let bound: string | undefined
  const localOf = (raw: Net.Socket): string | undefined => {
    if (bound === undefined) {
      const at = server.address()
      const one = at === null || typeof at === "string" ? "" : Address.formatInet(at.address, at.port)
      bound = one.startsWith("0.0.0.0:") || one.startsWith("[::]:") ? "" : one
    }
    return bound || Address.localOf(raw)
  }

  const owner: Owner = {
    linger: settings.linger,
    claim(arrival, stream) {
      if (arrival.raw.destroyed || stream.destroyed) {
        return openError(stream.errored ?? arrival.raw.errored ?? new Error("the connection ended before it was read"))
      }
      if (!unclaimed.has(arrival)) return openError(new Error("the connection was read before"))
      forget(arrival)
      return undefined
    },
    release({ raw }) {
      if (!raw.destroyed) lingering.add(raw)
    },
    gone(arrival) {
      forget(arrival)
      if (lingering.delete(arrival.raw) && lingering.size === 0) whenQuiet?.()
    }
  }

  /** One more, unless there are too many. */
  function admit(raw: Net.Socket): Arrival | undefined {
    if (closed || pending.size >= settings.maxPending) {
      raw.destroy()
      return undefined
    }
    const arrival = address.scheme === "unix"
      ? new Arrival(owner, raw, address.path, `unix:${address.path}`)
      : new Arrival(owner, raw, localOf(raw), Address.remoteOf(raw))
    pending.add(arrival)
    return arrival
  }

  function accept(raw: Net.Socket): void {
    raw.on("error", noop)
    const arrival = admit(raw)
    if (arrival === undefined) return
    if (address.scheme !== "unix") setTcp(raw, settings.tcp)
    if (secure === undefined && upgrade === undefined) return ready(arrival, openRaw)
    arrival.timer = setTimeout(() => raw.destroy(), settings.handshake)
    if (secure === undefined) return secured(arrival, raw)
    secure(raw, (conn) => secured(arrival, conn))
  }

  /** Takes a connection which another server of ours accepted and upgraded. */
  function adopt(raw: Net.Socket, accepted: AcceptedRequest): void {
    const arrival = admit(raw)
    if (arrival !== undefined) upgraded(arrival, raw, accepted)
  }

  function secured(arrival: Arrival, conn: Net.Socket): void {
    if (upgrade === undefined) {
      conn.pause()
      return ready(arrival, () => new Accepted(arrival, conn))
    }
    upgrade(conn, arrival, (stream, accepted) => upgraded(arrival, stream as Net.Socket, accepted))
  }

  function upgraded(arrival: Arrival, conn: Net.Socket, accepted: AcceptedRequest): void {
    arrival.path = accepted.request.path
    ready(arrival, () => openWebSocket(arrival, conn, accepted))
  }

  function forget(arrival: Arrival): void {
    pending.delete(arrival)
    unclaimed.delete(arrival)
    clearTimeout(arrival.timer)
  }

  function ready(arrival: Arrival, open: NonNullable<Arrival["open"]>): void {
    clearTimeout(arrival.timer)
    arrival.timer = undefined
    arrival.open = open
    const consumer = consumers.findLast((one) => takes(one, arrival))
    if (consumer !== undefined) hand(consumer, arrival, open)
  }

  function takes({ path }: Consumer, arrival: Arrival): boolean {
    return path === undefined || path === arrival.path
  }

  function hand(consumer: Consumer, arrival: Arrival, open: NonNullable<Arrival["open"]>): void {
    pending.delete(arrival)
    unclaimed.add(arrival)
    arrival.open = undefined
    arrival.consumer = consumer
    consumer.take(arrival, open(arrival))
  }

  /** Its handler is done: a socket not acquired by then is destroyed, or in a while. */
  function handled(arrival: Arrival, failed: boolean): void {
    if (!unclaimed.has(arrival)) return
    if (failed) arrival.raw.destroy()
    else arrival.timer = setTimeout(() => arrival.raw.destroy(), settings.handshake).unref()
  }

  function openWebSocket(arrival: Arrival, conn: Net.Socket, accepted: AcceptedRequest): Opened {
    const link: WebSocketLink = { role: "server", stream: new Accepted(arrival, conn), maskKey: undefined }
    const services = Context.make(NodeSocketServer.IncomingMessage, accepted.request.source).pipe(
      Context.add(AcceptedRequest, accepted),
      Context.add(NodeSocket.NetSocket, conn)
    )
    return { socket: overStream(link, settings), provide: Context.merge(services) }
  }

  const run = <R, E, _>(
    handler: (socket: Socket.Socket) => Effect.Effect<_, E, R>
  ): Effect.Effect<never, SocketServer.SocketServerError, R> =>
    Effect.gen(function*() {
      const context = Context.omit(Scope.Scope)(yield* Effect.context<R>()) as Context.Context<R>
      const scope = yield* Scope.make()
      const track = Fiber.runIn(scope)
      const inFiber: Consumer["take"] = (arrival, opened) => {
        let failed = false
        const life = Effect.suspend(() => handler(opened.socket)).pipe(
          Effect.onError(() =>
            Effect.sync(() => {
              failed = true
            })
          ),
          Effect.ignoreCause({ log: "Unhandled", message: "Unhandled error in SocketServer" })
        )
        // whatever its exit is, a connection that it left behind is destroyed
        track(spawn(opened.provide(context), "handler of a listener", life, (exit) => {
          handled(arrival, failed || Exit.isFailure(exit))
        }))
      }
      const direct = (handler as Directly)[Direct]
      const take: Consumer["take"] = direct === undefined ? inFiber : (arrival, opened) => {
        direct(opened.socket, opened.provide(context as Context.Context<never>), () => handled(arrival, false))
      }
      let consumer: Consumer | undefined
      const leave = () => {
        consumers = consumers.filter((one) => one !== consumer)
      }
      return yield* Effect.callback<never, SocketServer.SocketServerError>((resume) => {
        consumer = {
          path: (handler as Directly)[OnPath],
          take,
          fail: (cause) => {
            leave()
            const reason = new SocketServer.SocketServerUnknownError({ cause })
            resume(Effect.fail(new SocketServer.SocketServerError({ reason })))
          }
        }
        consumers = [...consumers, consumer]
        for (const arrival of pending) {
          if (arrival.open !== undefined && takes(consumer, arrival)) hand(consumer, arrival, arrival.open)
        }
      }).pipe(
        Effect.ensuring(Effect.suspend(() => {
          leave()
          for (const arrival of unclaimed) {
            if (arrival.consumer === consumer && arrival.timer === undefined) arrival.raw.destroy()
          }
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
