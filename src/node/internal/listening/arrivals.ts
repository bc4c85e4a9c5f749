/** The connections of a listener that no fiber owns yet, and where each of them stands. */
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import { Fifo } from "../../../internal/scheduling/fifo.ts"
import type { Failure, Reception } from "../../../internal/transport/accepted.ts"
import * as Address from "../addresses/address.ts"
import { openError } from "../stream/duplex.ts"
import { linger } from "../stream/tcp.ts"
import type { Arrival, Consumer, Owner } from "./arrival.ts"

const cutShort = new Error("the connection closed before its handshake was done")

// released by its owner, or refused
const lingers = Symbol("holdfast/lingers")
type Raw = Net.Socket & { [lingers]?: boolean }

/** What is accepted, and where each of it stands: in one queue, or in none once it has an owner. */
export class Arrivals implements Owner {
  /** In a handshake, or not handed out; bounded by `maxPending`. */
  readonly pending = new Fifo<Arrival>()
  /** Those whose turn has not come: a limit of the server. */
  readonly waiting = new Fifo<Arrival>()
  /** Over a limit, and given a moment to ask for their upgrade. */
  readonly refused = new Fifo<Arrival>()
  /** Handed out, reader not acquired yet. */
  readonly unclaimed = new Fifo<Arrival>()
  /** How many were released by their owner, or refused, and are not gone yet. */
  private lingering = 0
  readonly linger: number
  isClosed = false
  private onQuiet: (() => void) | undefined

  constructor(linger: number) {
    this.linger = linger
  }

  /** Counts one with the server of a consumer. `onTurn` is called when it waits no more: it is admitted, or refused. */
  count(arrival: Arrival, consumer: Consumer, reception: Reception, onTurn: () => void): void {
    arrival.consumer = consumer
    arrival.counted = reception.admit(arrival.remote, () => {
      if (this.waiting.delete(arrival)) onTurn()
    })
    if (arrival.counted.state !== "waiting") return
    this.put(arrival, this.waiting)
    arrival.stopTime()
  }

  claim(arrival: Arrival, stream: Duplex): Socket.SocketError | undefined {
    if (arrival.raw.destroyed || stream.destroyed) {
      return openError(stream.errored ?? arrival.raw.errored ?? new Error("the connection ended before it was read"))
    }
    if (!this.unclaimed.has(arrival)) return openError(new Error("the connection was read before"))
    this.forget(arrival)
    return undefined
  }

  release(raw: Net.Socket): void {
    if (!raw.destroyed) this.begin(raw)
  }

  gone(arrival: Arrival): void {
    this.forget(arrival)
    const { consumer, counted, isAnonymous } = arrival
    arrival.counted = undefined
    const failure: Failure | undefined = arrival.failure ??
      (this.isClosed ? undefined : { _tag: "Failed", cause: cutShort })
    if (isAnonymous && failure !== undefined) consumer?.reception?.turnedAway(arrival.remote, failure)
    else counted?.end(failure)
    this.left(arrival.raw)
  }

  /** It ended in its handshakes, and its client reads why. */
  lingers(arrival: Arrival, failure: Failure): void {
    arrival.failure ??= failure
    this.gone(arrival)
    arrival.isAnonymous = false
    this.release(arrival.raw)
  }

  /** It stands there from now on, and nowhere else. */
  put(arrival: Arrival, queue: Fifo<Arrival>): void {
    arrival.queue?.delete(arrival)
    queue.add(arrival)
  }

  forget(arrival: Arrival): void {
    arrival.queue?.delete(arrival)
    arrival.timer?.cancel()
  }

  /** Ends one that was not read: it gets our FIN, and not a reset. */
  turnAway(raw: Net.Socket): void {
    if (raw.destroyed || (raw as Raw)[lingers] === true) return
    this.begin(raw)
    raw.once("close", () => this.left(raw))
    linger(raw, this.linger)
  }

  private begin(raw: Raw): void {
    if (raw[lingers] === true) return
    raw[lingers] = true
    this.lingering++
  }

  left(raw: Raw): void {
    if (raw[lingers] !== true) return
    raw[lingers] = false
    if (--this.lingering === 0) this.onQuiet?.()
  }

  /** Waits until those that linger are gone. */
  readonly quiet = Effect.callback<void>((resume) => {
    if (this.lingering === 0) return resume(Effect.void)
    this.onQuiet = () => resume(Effect.void)
  })
}

/** Our end of each connection of a server. Where its address is not that of one interface, each connection has to be asked. */
export const localsOf = (server: Net.Server): (raw: Net.Socket) => string | undefined => {
  let bound: string | undefined
  return (raw) => {
    if (bound === undefined) {
      const at = server.address()
      const one = at === null || typeof at === "string" ? "" : Address.formatInet(at.address, at.port)
      bound = one.startsWith("0.0.0.0:") || one.startsWith("[::]:") ? "" : one
    }
    return bound || Address.localOf(raw)
  }
}
