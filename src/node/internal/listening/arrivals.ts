/** The connections of a listener that no fiber owns yet, and where each of them stands. */
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import type { Failure, Reception } from "../../../internal/transport/accepted.ts"
import * as Address from "../addresses/address.ts"
import { openError } from "../stream/duplex.ts"
import { linger } from "../stream/tcp.ts"
import type { Arrival, Consumer, Owner } from "./arrival.ts"

const cutShort = new Error("the connection closed before its handshake was done")

/** What is accepted, and where each of it stands. */
export class Arrivals implements Owner {
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

  /** Counts one with the server of a consumer. `onTurn` is called when it waits no more: it is admitted, or refused. */
  count(arrival: Arrival, consumer: Consumer, reception: Reception, onTurn: () => void): void {
    arrival.consumer = consumer
    arrival.counted = reception.admit(arrival.remote, () => {
      if (this.waiting.delete(arrival)) onTurn()
    })
    if (arrival.counted.state !== "waiting") return
    this.pending.delete(arrival)
    this.waiting.add(arrival)
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

  release({ raw }: Arrival): void {
    if (!raw.destroyed) this.lingering.add(raw)
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
    this.release(arrival)
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
