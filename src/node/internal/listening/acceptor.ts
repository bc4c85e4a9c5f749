/** Accepts connections, counts them, takes them through their handshakes, and hands them out. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import type * as Http from "node:http"
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import { timersOf } from "../../../internal/scheduling/timers.ts"
import type { Reception } from "../../../internal/transport/accepted.ts"
import * as Address from "../addresses/address.ts"
import { longestTimer, type OfPolicy } from "../options.ts"
import { openError } from "../stream/duplex.ts"
import { linger, noop, setTcp } from "../stream/tcp.ts"
import { handshakes } from "../tls/handshakes.ts"
import type { TlsOptions } from "../tls/material.ts"
import type { Accepted } from "../upgrade/accepted.ts"
import { upgrades } from "../webSocket/requests.ts"
import type { Rules } from "../webSocket/rules.ts"
import { AcceptedStream } from "./acceptedStream.ts"
import { openWebSocket } from "./acceptedWebSocket.ts"
import { Arrival, type Consumer, type Opened, type Owner } from "./arrival.ts"
import { run } from "./consumer.ts"
import { untilQuiet } from "./lastAccept.ts"

/** The options of a listener, checked, and times in milliseconds. */
export interface Settings extends Pick<OfPolicy, "tcp" | "handshake" | "maxFrame"> {
  readonly address: Address.Address
  readonly maxPending: number
  readonly linger: number
  /** With `tls` and `wss`. */
  readonly tls: TlsOptions | undefined
  /** With `ws` and `wss`. */
  readonly rules: Rules<never>
  /** In which the hooks of `rules` run, and with whose clock handshakes are timed. */
  readonly context: Context.Context<never>
}

// milliseconds that a peer over a limit has to ask for its upgrade, so that it can be told why: a round trip, also by satellite
const refusalLimit = 1000

// how many of those there are at a time: they must not take the place of others
const mostTold = 64

const openRaw = (arrival: Arrival): Opened => new AcceptedStream(arrival, arrival.raw)

const takes = ({ path }: Consumer, arrival: Arrival): boolean => path === undefined || path === arrival.path

const cutShort = new Error("the connection closed before its handshake was done")

/** What is accepted, and where each of it stands. */
class Arrivals implements Owner {
  /** In a handshake, or not handed out; bounded by `maxPending`. */
  readonly pending = new Set<Arrival>()
  /** Those whose turn has not come: a limit of the server. */
  readonly waiting = new Set<Arrival>()
  /** Over a limit, and given a moment to ask for their upgrade. */
  readonly refused = new Set<Arrival>()
  /** Handed out, reader not acquired yet. */
  readonly unclaimed = new Set<Arrival>()
  /** Released by their owner, or refused, and not gone yet. */
  readonly lingering = new Set<Net.Socket>()
  readonly linger: number
  isClosed = false
  private onQuiet: (() => void) | undefined

  constructor(linger: number) {
    this.linger = linger
  }

  claim(arrival: Arrival, stream: Duplex): Socket.SocketError | undefined {
    if (arrival.raw.destroyed || stream.destroyed) {
      return openError(stream.errored ?? arrival.raw.errored ?? new Error("the connection ended before it was read"))
    }
    if (!this.unclaimed.has(arrival)) return openError(new Error("the connection was read before"))
    this.forget(arrival)
    return undefined
  }

  release({ raw }: Arrival): void {
    if (!raw.destroyed) this.lingering.add(raw)
  }

  gone(arrival: Arrival): void {
    this.forget(arrival)
    const { counted } = arrival
    arrival.counted = undefined
    counted?.end(arrival.failure ?? (this.isClosed ? undefined : { _tag: "Failed", cause: cutShort }))
    this.left(arrival.raw)
  }

  forget(arrival: Arrival): void {
    this.pending.delete(arrival)
    this.waiting.delete(arrival)
    this.refused.delete(arrival)
    this.unclaimed.delete(arrival)
    arrival.timer?.cancel()
  }

  /** Ends one that was not read: it gets our FIN, and not a reset. */
  turnAway(raw: Net.Socket): void {
    if (raw.destroyed || this.lingering.has(raw)) return
    this.lingering.add(raw)
    raw.once("close", () => this.left(raw))
    linger(raw, this.linger)
  }

  private left(raw: Net.Socket): void {
    if (this.lingering.delete(raw) && this.lingering.size === 0) this.onQuiet?.()
  }

  /** Waits until those that linger are gone. */
  readonly quiet = Effect.callback<void>((resume) => {
    if (this.lingering.size === 0) return resume(Effect.void)
    this.onQuiet = () => resume(Effect.void)
  })
}

/** An acceptor whose `server` is not listening yet. `close` gives the address back; see `Listener.make`. */
export const make = (settings: Settings) => {
  const { address } = settings
  const arrivals = new Arrivals(settings.linger)
  const { pending, refused, unclaimed, waiting } = arrivals
  const timers = timersOf(settings.context)
  /** The last one gets the connections. */
  let consumers: ReadonlyArray<Consumer> = []
  /** Their servers stop. */
  const leaving = new Set<Consumer>()
  let accepted = 0

  // nothing is read from a connection before its turn has come
  const server = Net.createServer({ allowHalfOpen: true, pauseOnConnect: true })
  server.on("connection", accept)
  server.on("error", (cause) => {
    for (const consumer of consumers) consumer.fail(cause)
  })
  const secure = settings.tls === undefined ? undefined : handshakes({
    ...settings.tls,
    requestCert: settings.tls.ca !== undefined,
    // ours counts, from the accept on
    handshakeTimeout: longestTimer,
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

  const arrivalOf = (raw: Net.Socket): Arrival =>
    address.scheme === "unix"
      ? new Arrival(arrivals, raw, address.path, `unix:${address.path}`)
      : new Arrival(arrivals, raw, localOf(raw), Address.remoteOf(raw))

  function accept(raw: Net.Socket): void {
    raw.on("error", noop)
    accepted++
    if (arrivals.isClosed) return arrivals.turnAway(raw)
    if (address.scheme !== "unix") setTcp(raw, settings.tcp)
    const arrival = arrivalOf(raw)
    // the server counts a socket when it gets it, which is now
    if (secure === undefined && upgrade === undefined) return hold(arrival) ? ready(arrival, openRaw) : undefined
    const consumer = consumers.at(-1)
    if (consumer?.reception === undefined) return begin(arrival)
    arrival.consumer = consumer
    arrival.counted = consumer.reception.admit(arrival.remote, () => {
      if (waiting.delete(arrival)) counted(arrival)
    })
    counted(arrival)
  }

  /** The server has counted it, or its turn has come. */
  function counted(arrival: Arrival): void {
    switch (arrival.counted?.standing) {
      case "waiting":
        waiting.add(arrival)
        return
      case "refused":
        // before TLS a peer cannot be told anything
        if (secure !== undefined || refused.size >= mostTold) return arrivals.turnAway(arrival.raw)
        refused.add(arrival)
        return shakeHands(arrival, Math.min(refusalLimit, settings.handshake))
      default:
        return begin(arrival)
    }
  }

  /** One more in its handshakes or not handed out, unless there are too many. */
  function hold(arrival: Arrival): boolean {
    if (pending.size >= settings.maxPending) {
      arrival.fail({ _tag: "TooMany", limit: "maxPending", allowed: settings.maxPending })
      return false
    }
    pending.add(arrival)
    return true
  }

  /** A connection which another server of ours accepted asks for an upgrade: it counts from now on, unless it would wait. */
  function announce(raw: Net.Socket, path: string): Arrival {
    const arrival = arrivalOf(raw)
    arrival.path = path
    const consumer = consumers.findLast((one) => takes(one, arrival))
    if (consumer?.reception === undefined) return arrival
    arrival.consumer = consumer
    arrival.counted = consumer.reception.admit(arrival.remote, noop)
    if (arrival.counted.standing === "waiting") arrival.uncount()
    return arrival
  }

  /** Takes it, upgraded. */
  function adopt(arrival: Arrival, accepted: Accepted, source: Http.IncomingMessage): void {
    if (arrivals.isClosed) arrival.raw.destroy()
    else if (hold(arrival)) upgraded(arrival, arrival.raw, accepted, source)
  }

  function begin(arrival: Arrival): void {
    if (hold(arrival)) shakeHands(arrival, settings.handshake)
  }

  function shakeHands(arrival: Arrival, limit: number): void {
    const { raw } = arrival
    arrival.timer = timers.at(timers.now() + limit, () => arrival.fail({ _tag: "Timeout", limit }))
    if (secure === undefined) secured(arrival, raw)
    else secure(raw, (conn) => secured(arrival, conn), (cause) => arrival.fail({ _tag: "Failed", cause }))
    raw.resume()
  }

  function secured(arrival: Arrival, conn: Net.Socket): void {
    if (upgrade === undefined) {
      conn.pause()
      return ready(arrival, () => new AcceptedStream(arrival, conn))
    }
    upgrade(conn, arrival, (stream, accepted, source) => upgraded(arrival, stream as Net.Socket, accepted, source))
  }

  function upgraded(arrival: Arrival, conn: Net.Socket, accepted: Accepted, source: Http.IncomingMessage): void {
    arrival.path = accepted.request.path
    ready(arrival, () => openWebSocket(arrival, conn, accepted, source, settings))
  }

  function ready(arrival: Arrival, open: NonNullable<Arrival["open"]>): void {
    arrival.timer?.cancel()
    arrival.timer = undefined
    arrival.open = open
    const consumer = consumers.findLast((one) => takes(one, arrival))
    if (consumer !== undefined) hand(consumer, arrival, open)
    else if (refused.has(arrival)) arrival.raw.destroy()
  }

  function hand(consumer: Consumer, arrival: Arrival, open: NonNullable<Arrival["open"]>): void {
    pending.delete(arrival)
    refused.delete(arrival)
    unclaimed.add(arrival)
    // another consumer counted it, which is gone
    if (arrival.consumer !== consumer) arrival.uncount()
    arrival.open = undefined
    arrival.consumer = consumer
    consumer.take(arrival, open(arrival))
  }

  /** Its handler is done: a socket not acquired by then is destroyed, or in a while. */
  function handled(arrival: Arrival, failed: boolean): void {
    if (!unclaimed.has(arrival)) return
    if (failed) arrival.raw.destroy()
    else arrival.timer = timers.at(timers.now() + settings.handshake, () => arrival.raw.destroy())
  }

  function join(consumer: Consumer): void {
    consumers = [...consumers, consumer]
    for (const arrival of pending) {
      if (arrival.open !== undefined && takes(consumer, arrival)) hand(consumer, arrival, arrival.open)
    }
  }

  function leave(consumer: Consumer): void {
    consumers = consumers.filter((one) => one !== consumer)
    leaving.delete(consumer)
    for (const arrival of unclaimed) {
      if (arrival.consumer === consumer && arrival.timer === undefined) arrival.raw.destroy()
    }
    for (const arrival of pending) if (arrival.consumer === consumer) arrival.uncount()
    for (const arrival of waiting) {
      if (arrival.consumer === consumer) arrivals.turnAway(arrival.raw)
    }
  }

  const acceptRest = untilQuiet(server, () => accepted)

  const shut = Effect.suspend(() => {
    arrivals.isClosed = true
    return acceptRest
  })

  /** The server of a consumer stops: the last one of these ends the listening. */
  const lastAccept = (reception: Reception): Effect.Effect<void> =>
    Effect.suspend(() => {
      for (const consumer of consumers) if (consumer.reception === reception) leaving.add(consumer)
      const goesOn = consumers.some((consumer) => !leaving.has(consumer))
      return goesOn || leaving.size === 0 ? Effect.void : acceptRest
    })

  const close = Effect.flatMap(shut, () => {
    for (const arrival of [...pending, ...waiting, ...refused]) {
      if (arrival.timer === undefined) arrivals.turnAway(arrival.raw)
      else arrival.raw.destroy()
    }
    for (const { raw } of unclaimed) raw.destroy()
    return arrivals.quiet
  })

  return {
    server,
    announce,
    adopt,
    run: <R, E, A>(
      handler: (socket: Socket.Socket) => Effect.Effect<A, E, R>
    ): Effect.Effect<never, SocketServer.SocketServerError, R> => run({ handled, join, leave }, handler),
    lastAccept,
    close
  }
}
