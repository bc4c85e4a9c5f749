/** Lets connections in within the limits of a policy: each one is admitted, waits for its turn, or is refused. */
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { Refused } from "../../ConnectionError.ts"
import type { Policy } from "../../Policy.ts"
import { limitOf } from "../connection/core/limits.ts"
import { Fifo, type Queued, unqueued } from "../scheduling/fifo.ts"
import type { Timers } from "../scheduling/timers.ts"

export type Limit = Exclude<Refused["limit"], "fleet">

/** The place in the queue of one that waits. */
interface Waiting extends Queued<Waiting> {
  readonly applicant: Applicant
}

/** One connection, as admission counts it. Only admission changes `host`, `standing` and `place`. */
export interface Applicant {
  /** The peer's end, as text. */
  readonly remote: string | undefined
  /** The address by which it is counted, where there is a limit for each address. */
  host: string | undefined
  standing: "outside" | "waiting" | "admitted"
  /** Set while it waits. */
  place?: Waiting | undefined
  /** Told that it waits no more: it is admitted, or the server stops and it is `outside`. Must not throw. */
  onTurn: (() => void) | undefined
}

/**
 * What an address counts as: `1.2.3.4` of `1.2.3.4:5`; of IPv6 the network that one customer commonly has, `2001:db8::/64`;
 * an IPv4 address mapped into IPv6 as that IPv4 address; the path of a Unix socket, and what is no address, as it is.
 */
const hostOf = ({ remote }: Applicant, prefix: number): string | undefined => {
  const host = remote?.replace(/:\d+$/, "")
  if (host === undefined || !host.startsWith("[")) return host
  const address = NetAddress.ipFromString(host.slice(1, -1).replace(/%.*$/, ""))
  if (Result.isFailure(address) || NetAddress.isIpv4Address(address.success)) return host
  const mapped = NetAddress.fromIpv4Mapped(address.success)
  return Option.isSome(mapped)
    ? NetAddress.formatIp(mapped.value)
    : IpNetwork.format(IpNetwork.fromAddressUnsafe(address.success, Math.min(prefix, 128)))
}

/**
 * The counts, the queue and the rate of one server. Synchronous, and without a life of its own: `time` says what time it is,
 * and wakes it up.
 *
 * A connection takes its slot of `acceptRate` when it comes, waits until that is due, and then for one of `maxConnections`.
 * Slots are handed out in order, so the connection that has waited longest is always the next one.
 */
export class Admission {
  /** The stop has begun: what is said before a first word is refused from now on. What had been accepted still comes in. */
  isLeaving = false
  /** No more is admitted. */
  isStopping = false
  private readonly policy: Policy
  private readonly time: Pick<Timers, "now" | "at">
  private readonly maxConnections: number
  /** Milliseconds from one slot of the rate to the next; 0 without a limit. */
  private readonly acceptEvery: number
  private readonly perAddress = new Map<string, number>()
  private readonly waiting = new Fifo<Waiting>()
  private admitted = 0
  // when the next connection is due, were they evenly spaced; up to a second's worth may come at once
  private nextSlotAt = -Infinity
  private timer: { readonly cancel: () => void } | undefined
  private readonly memory: { readonly isTight: boolean } | undefined

  constructor(policy: Policy, time: Pick<Timers, "now" | "at">, memory?: { readonly isTight: boolean }) {
    this.policy = policy
    this.memory = memory
    this.time = time
    this.maxConnections = limitOf(policy, "maxConnections")
    this.acceptEvery = 1000 / limitOf(policy, "acceptRate")
  }

  /** Without a rate no time matters, and the clock is not read for each connection. */
  private get now(): number {
    return this.acceptEvery === 0 ? 0 : this.time.now()
  }

  /** How many wait for their turn. */
  get size(): number {
    return this.waiting.size
  }

  /** Counts a connection in, or names the limit that keeps it out. */
  enter(applicant: Applicant): "admitted" | "waiting" | Limit {
    const { perAddress, policy, waiting } = this
    if (this.isStopping) return "stopping"
    const host = policy.maxConnectionsPerAddress === 0 ? undefined : hostOf(applicant, policy.ipv6Prefix)
    const fromHost = host === undefined ? 0 : perAddress.get(host) ?? 0
    if (host !== undefined && fromHost >= policy.maxConnectionsPerAddress) return "maxConnectionsPerAddress"
    const now = this.now
    // connections that came before go first, also where the timer is late
    this.advance(now)
    const delay = this.untilSlot(1, now)
    const isTight = this.memory?.isTight === true
    const standing = delay === 0 && !isTight && this.admitted < this.maxConnections ? "admitted" : "waiting"
    if (standing === "waiting") {
      if (this.isLeaving) return "stopping"
      if (policy.whenFull === "reject") return delay > 0 ? "acceptRate" : isTight ? "memory" : "maxConnections"
      if (waiting.size >= policy.maxWaiting) return "maxWaiting"
    }
    if (host !== undefined) perAddress.set(host, fromHost + 1)
    this.nextSlotAt = Math.max(this.nextSlotAt, now) + this.acceptEvery
    applicant.host = host
    applicant.standing = standing
    if (standing === "admitted") {
      this.admitted++
    } else {
      applicant.place = { ...unqueued, applicant }
      waiting.add(applicant.place)
      this.advance(now)
    }
    return standing
  }

  /** A connection is gone, from wherever it stood: another one takes its place. */
  leave(applicant: Applicant): void {
    const { host, place, standing } = applicant
    if (standing === "outside" && host === undefined) return
    applicant.standing = "outside"
    applicant.host = undefined
    applicant.place = undefined
    if (host !== undefined) {
      const left = this.perAddress.get(host)! - 1
      if (left === 0) this.perAddress.delete(host)
      else this.perAddress.set(host, left)
    }
    if (standing === "admitted") {
      this.admitted--
    } else if (place !== undefined && this.waiting.delete(place) && this.untilSlot(0, this.now) > 0) {
      // those behind it move up one slot
      this.nextSlotAt -= this.acceptEvery
    }
    if (this.waiting.size > 0) this.advance(this.now)
  }

  /** Lets none wait any more, and tells those that do. */
  leaving(): void {
    this.isLeaving = true
    this.timer?.cancel()
    for (const { applicant } of this.waiting.takeAll()) {
      applicant.standing = "outside"
      applicant.place = undefined
      applicant.onTurn?.()
    }
  }

  /** Memory is not tight any more. */
  memoryFreed(): void {
    this.advance(this.now)
  }

  /** Admits no more. */
  stop(): void {
    this.leaving()
    this.isStopping = true
  }

  /** Admits waiting connections, in the order they came, as far as the limits allow now. */
  private advance(now: number): void {
    const { waiting } = this
    while (waiting.size > 0 && this.admitted < this.maxConnections && this.memory?.isTight !== true) {
      // the last one that waits has the slot before the next one, and the first one as many before that
      const delay = this.untilSlot(1 - waiting.size, now)
      if (delay > 0) {
        this.timer ??= this.time.at(now + delay, () => {
          this.timer = undefined
          this.advance(this.now)
        })
        return
      }
      const first = waiting.shift()!.applicant
      this.admitted++
      first.standing = "admitted"
      first.place = undefined
      first.onTurn?.()
    }
  }

  /** How many milliseconds are left until a slot of the rate: 1 is the next one to be taken, 0 the one before. */
  private untilSlot(slot: number, now: number): number {
    if (this.acceptEvery === 0) return 0
    const delay = this.nextSlotAt + slot * this.acceptEvery - 1000 - now
    // less than a microsecond is rounding
    return delay > 0.001 ? delay : 0
  }
}
