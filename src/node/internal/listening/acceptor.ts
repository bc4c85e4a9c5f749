/** Accepts connections, counts them, takes them through their handshakes, and hands them out. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import type * as Http from "node:http"
import * as Net from "node:net"
import { timersOf } from "../../../internal/scheduling/timers.ts"
import type { Reception } from "../../../internal/transport/accepted.ts"
import * as Address from "../addresses/address.ts"
import { worker } from "../addresses/worker.ts"
import type { OfPolicy } from "../options.ts"
import type { Behind } from "../proxy/behind.ts"
import { headerOf } from "../proxy/named.ts"
import { receive } from "../proxy/receive.ts"
import { hear } from "../stream/duplex.ts"
import { setTcp } from "../stream/tcp.ts"
import { watchDescriptors } from "../system/descriptors.ts"
import { handshakes, type Securing } from "../tls/handshakes.ts"
import type { Accepted } from "../upgrade/accepted.ts"
import { pathOf } from "../upgrade/request.ts"
import { upgrades } from "../webSocket/requests.ts"
import type { Rules } from "../webSocket/rules.ts"
import { AcceptedStream } from "./acceptedStream.ts"
import { openWebSocket } from "./acceptedWebSocket.ts"
import { Arrival, type Consumer, type Opened } from "./arrival.ts"
import { Arrivals, localsOf } from "./arrivals.ts"
import { run } from "./consumer.ts"
import { untilQuiet } from "./lastAccept.ts"

/** The options of a listener, checked, and times in milliseconds. */
export interface Settings extends Pick<OfPolicy, "tcp" | "handshake" | "maxFrame"> {
  readonly address: Address.Address
  readonly maxPending: number
  readonly linger: number
  /** With `tls` and `wss`. */
  readonly securing: (() => Securing) | undefined
  /** With `ws` and `wss`. */
  readonly rules: Rules<never>
  /** Which proxies are believed. */
  readonly behind: Behind
  /** In which the hooks of `rules` run, and with whose clock handshakes are timed. */
  readonly context: Context.Context<never>
}

// milliseconds that a peer over a limit has to ask for its upgrade, so that it can be told why: a round trip, also by satellite
const refusalLimit = 1000

// how many of those there are at a time: they must not take the place of others
const mostTold = 64

const openRaw = (arrival: Arrival): Opened => new AcceptedStream(arrival, arrival.raw)

const takes = ({ path }: Consumer, arrival: Arrival): boolean => path === undefined || path === arrival.path

/** An acceptor whose `server` is not listening yet. `close` gives the address back; see `Listener.make`. */
export const make = (settings: Settings) => {
  const { address, behind } = settings
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
  watchDescriptors(server, settings.context)
  server.on("error", (cause) => {
    for (const consumer of consumers) consumer.fail(cause)
  })
  const secure = settings.securing === undefined ? undefined : handshakes(settings.securing, settings.linger)
  const upgrade = address.scheme === "ws" || address.scheme === "wss"
    ? upgrades({ ...settings, limit: settings.handshake })
    : undefined

  const localOf = localsOf(server)
  const arrivalOf = (raw: Net.Socket): Arrival =>
    address.scheme === "unix"
      ? new Arrival(arrivals, raw, address.path, `unix:${address.path}`)
      : new Arrival(arrivals, raw, localOf(raw), Address.remoteOf(raw))

  function accept(raw: Net.Socket): void {
    hear(raw)
    accepted++
    if (arrivals.isClosed) return arrivals.turnAway(raw)
    if (address.scheme !== "unix") setTcp(raw, settings.tcp)
    const arrival = arrivalOf(raw)
    if (!behind.sendsHeader(raw, address)) return arrived(arrival)
    arrival.isAnonymous = true
    arrival.consumer = consumers.at(-1)
    if (!hold(arrival)) return
    limitTime(arrival, settings.handshake)
    receive(raw, (header) => {
      if (raw.destroyed) return
      arrival.header = header
      arrival.remote = header.source ?? arrival.remote
      arrival.isAnonymous = false
      pending.delete(arrival)
      arrived(arrival)
    }, (cause) => arrival.fail({ _tag: "Failed", cause }))
  }

  /** It is known whose it is, unless its request says it. */
  function arrived(arrival: Arrival): void {
    // the server counts a socket when it gets it, which is now
    if (secure === undefined && upgrade === undefined) return hold(arrival) ? ready(arrival, openRaw) : undefined
    const consumer = consumers.at(-1)
    if (upgrade !== undefined && behind.forwarding?.isTrusted(arrival.remote) === true) {
      arrival.isAnonymous = true
      arrival.consumer = consumer
      arrival.onRequest = (request) => named(arrival, request)
      return begin(arrival)
    }
    if (consumer?.reception === undefined) return begin(arrival)
    arrivals.count(arrival, consumer, consumer.reception, () => counted(arrival))
    counted(arrival)
  }

  /** The server has counted it, or its turn has come. */
  function counted(arrival: Arrival): void {
    switch (arrival.counted?.state) {
      case "waiting":
        return
      case "refused":
        // before TLS a peer cannot be told anything
        if (secure !== undefined || refused.size >= mostTold) return arrivals.turnAway(arrival.raw)
        arrivals.put(arrival, refused)
        arrival.stopTime()
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
    arrivals.put(arrival, pending)
    return true
  }

  /** A connection which another server of ours accepted asks for an upgrade. */
  function announce(raw: Net.Socket, request: Http.IncomingMessage): Arrival {
    const arrival = arrivalOf(raw)
    arrival.header = headerOf(raw)
    named(arrival, request)
    return arrival
  }

  /** Its request says whose it is, and for which path: it counts from now on, and may have to wait. */
  function named(arrival: Arrival, request: Http.IncomingMessage): void {
    arrival.path = pathOf(request)
    arrival.onRequest = undefined
    arrival.isAnonymous = false
    if (behind.forwarding !== undefined) arrival.remote = behind.forwarding.clientOf(arrival.remote, request.headers)
    const consumer = consumers.findLast((one) => takes(one, arrival))
    if (consumer?.reception === undefined) return
    // one of another server of ours is not held before it is adopted
    const isHeld = pending.has(arrival)
    arrivals.count(arrival, consumer, consumer.reception, () => {
      if (isHeld && !hold(arrival)) return
      if (isHeld) limitTime(arrival, settings.handshake)
      arrival.onTurn?.()
    })
  }

  function limitTime(arrival: Arrival, limit: number): void {
    arrival.timer = timers.after(limit, () => arrival.fail({ _tag: "Timeout", limit }))
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
    // what a PROXY header took is part of it
    if (arrival.timer === undefined) limitTime(arrival, limit)
    if (secure === undefined) secured(arrival, raw)
    else {
      secure(raw, (conn) => secured(arrival, conn), (cause, isToldWhy) => {
        const failure = { _tag: "Failed", cause } as const
        if (isToldWhy) arrivals.lingers(arrival, failure)
        else arrival.fail(failure)
      })
    }
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
    arrival.stopTime()
    arrival.open = open
    const consumer = consumers.findLast((one) => takes(one, arrival))
    if (consumer !== undefined) hand(consumer, arrival, open)
    else if (refused.has(arrival)) arrival.raw.destroy()
  }

  function hand(consumer: Consumer, arrival: Arrival, open: NonNullable<Arrival["open"]>): void {
    arrivals.put(arrival, unclaimed)
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
    else arrival.timer = timers.after(settings.handshake, () => arrival.raw.destroy())
  }

  function join(consumer: Consumer): void {
    worker()?.ready()
    consumers = [...consumers, consumer]
    for (const arrival of Array.from(pending)) {
      if (arrival.open !== undefined && takes(consumer, arrival)) hand(consumer, arrival, arrival.open)
    }
  }

  function leave(consumer: Consumer): void {
    consumers = consumers.filter((one) => one !== consumer)
    leaving.delete(consumer)
    for (const arrival of Array.from(unclaimed)) {
      if (arrival.consumer === consumer && arrival.timer === undefined) arrival.raw.destroy()
    }
    for (const arrival of Array.from(pending)) if (arrival.consumer === consumer) arrival.uncount()
    for (const arrival of Array.from(waiting)) {
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
    for (const { raw } of Array.from(unclaimed)) raw.destroy()
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
