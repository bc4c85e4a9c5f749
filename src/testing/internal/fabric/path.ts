/** One direction between two hosts: how long packets travel, and what stops them. */
import type { HeldPacket, LinkOptions } from "../../Network.ts"
import type { Draw } from "./random.ts"
import { rate, type Sampler, sampler } from "./settings.ts"
import type { Timeline } from "./timeline.ts"

/** The packets of one direction of one connection, which never overtake each other. */
export interface Flow {
  /** When the last of them arrives. */
  lastDue: number
}

/** A packet on its way. Exactly one of `arrive` and `lose` is called, once. */
export interface Packet {
  readonly connection: number
  readonly kind: HeldPacket["kind"]
  readonly chunks: ReadonlyArray<unknown>
  readonly bytes: number
  readonly flow: Flow
  readonly arrive: () => void
  readonly lose: () => void
}

/** A sender on a path, told when a cut or a hold begins or ends there. */
export interface PathObserver {
  readonly pathChanged: () => void
}

/** Packets stopped at the far end of a path, in the order they came. */
export class Hold {
  readonly packets: Array<{ readonly path: Path; readonly packet: Packet }> = []

  /** Lets the first ones through. */
  deliver(count: number): number {
    const passed = this.packets.splice(0, count)
    for (const { packet, path } of passed) path.pass(packet)
    return passed.length
  }
}

/** What is in force on a path. Of several holds the first catches the packets. */
export interface Rules {
  readonly cut: boolean
  readonly hold: Hold | undefined
  readonly options: LinkOptions
}

/** One direction between two hosts. */
export class Path {
  readonly from: string
  readonly to: string
  readonly observers = new Set<PathObserver>()
  private readonly timeline: Timeline
  private readonly draw: Draw
  private options: LinkOptions = {}
  private sampler: Sampler
  // bytes a millisecond
  private bandwidth = Infinity
  slicing = true
  isCut = false
  hold: Hold | undefined
  /** When the last byte sent so far has left. */
  private freeAt = 0
  packets = 0
  bytes = 0

  constructor(from: string, to: string, timeline: Timeline, draw: Draw, rules: Rules) {
    this.from = from
    this.to = to
    this.timeline = timeline
    this.draw = draw
    this.sampler = sampler(0)
    this.apply(rules)
  }

  apply(rules: Rules): void {
    const { latency = 0, bandwidth = Infinity, slicing = true } = rules.options
    // a trace goes on where it was
    if (latency !== this.options.latency) this.sampler = sampler(latency)
    this.bandwidth = rate("bandwidth", bandwidth)
    this.slicing = slicing
    this.options = rules.options
    const changed = this.isCut !== rules.cut || this.hold !== rules.hold
    this.isCut = rules.cut
    this.hold = rules.hold
    if (changed) { for (const observer of this.observers) observer.pathChanged() }
  }

  get latency(): LinkOptions["latency"] {
    return this.options.latency
  }

  /** Whether packets of one write can arrive at different times. */
  get spreads(): boolean {
    return !this.sampler.isFixed || this.bandwidth !== Infinity
  }

  /** The most bytes of a packet: the payload of an Ethernet frame where bandwidth is limited, otherwise no limit. */
  get longest(): number {
    return this.bandwidth === Infinity ? Infinity : 1460
  }

  /** Draws when a packet without a size would arrive. */
  arrival(flow: Flow): number {
    const due = Math.max(this.timeline.now() + this.sampler.next(this.draw), flow.lastDue)
    flow.lastDue = due
    return due
  }

  send(packet: Packet): void {
    if (this.isCut) return packet.lose()
    const now = this.timeline.now()
    this.freeAt = Math.max(this.freeAt, now) + packet.bytes / this.bandwidth
    const due = Math.max(Math.ceil(this.freeAt + this.sampler.next(this.draw)), packet.flow.lastDue)
    packet.flow.lastDue = due
    this.packets++
    this.bytes += packet.bytes
    this.timeline.at(due, () => {
      this.packets--
      this.bytes -= packet.bytes
      this.reach(packet)
    })
  }

  /** A packet is at the far end. */
  reach(packet: Packet): void {
    if (this.hold !== undefined) this.hold.packets.push({ path: this, packet })
    else this.pass(packet)
  }

  pass(packet: Packet): void {
    if (this.isCut) packet.lose()
    else packet.arrive()
  }
}
