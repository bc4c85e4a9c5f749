/** The options of a network and its sockets as numbers, checked. */
import * as Duration from "effect/Duration"
import type { Latency, LinkOptions, SocketOptions } from "../../Network.ts"
import type { Draw } from "./random.ts"

/** `SocketOptions`, checked: sizes in bytes, times in milliseconds. */
export interface SocketSettings {
  readonly sendBuffer: number
  readonly receiveBuffer: number
  readonly linger: number
  readonly halfOpen: boolean
  readonly userTimeout: number
}

/** Draws how many whole milliseconds the next packet travels. */
export interface Sampler {
  readonly isFixed: boolean
  readonly next: (draw: Draw) => number
}

/** Throws: an option that makes no sense is a mistake in the test. */
export const refuse = (name: string, value: unknown, wanted: string): never => {
  throw new RangeError(`holdfast/testing: \`${name}\` is ${String(value)}, and it has to be ${wanted}`)
}

/** Milliseconds of an option that is a duration; what is none is `NaN`. */
const millisOf = (input: Duration.Input): number => {
  // Effect takes `NaN` for no time at all
  if (Number.isNaN(input)) return Number.NaN
  const duration = Duration.fromInput(input)
  return duration._tag === "Some" ? Duration.toMillis(duration.value) : Number.NaN
}

/** Milliseconds of an option that is a duration, zero or more. */
export const millis = (name: string, input: Duration.Input): number => {
  const value = millisOf(input)
  return value >= 0 ? value : refuse(name, input, "a duration of zero or more")
}

/** The same, and not for ever: a wait without an end would be a run without an end. */
export const finite = (name: string, input: Duration.Input): number => {
  const value = millisOf(input)
  return value >= 0 && value < Infinity ? value : refuse(name, input, "a finite duration of zero or more")
}

/** The same, and a millisecond at least: what comes again after no time comes for ever, and no time passes. */
export const interval = (name: string, input: Duration.Input): number => {
  const value = millisOf(input)
  return value >= 1 ? value : refuse(name, input, "a duration of at least a millisecond")
}

/** Milliseconds of an option that may be negative. */
export const offset = (name: string, input: Duration.Input): number => {
  const value = millisOf(input)
  return Number.isFinite(value) ? value : refuse(name, input, "a finite duration")
}

/** An option that is a whole number, from `least`. */
export const count = (name: string, value: number, least: number): number =>
  Number.isSafeInteger(value) && value >= least ? value : refuse(name, value, `a whole number from ${least}`)

/** The same, or `Infinity`. */
export const countOrAll = (name: string, value: number, least: number): number =>
  value === Infinity ? value : count(name, value, least)

/** An option that is the number of a port. */
export const port = (name: string, value: number): number =>
  Number.isSafeInteger(value) && value >= 1 && value <= 65_535 ? value : refuse(name, value, "a port from 1 to 65535")

/** Bytes a millisecond of an option in bytes a second. */
export const rate = (name: string, value: number): number =>
  value > 0 ? value / 1000 : refuse(name, value, "more than 0 bytes a second")

const has = <K extends string>(latency: Latency, key: K): latency is Extract<Latency, Record<K, unknown>> =>
  typeof latency === "object" && key in latency

/** Travelling times as `latency` says. */
export const sampler = (latency: Latency): Sampler => {
  if (has(latency, "uniform")) {
    const [from, to] = latency.uniform.map((bound) => finite("latency.uniform", bound))
    if (to < from) refuse("latency.uniform", `[${from}, ${to}]`, "in ascending order")
    return { isFixed: false, next: (draw) => Math.floor(from + draw() * (to - from + 1)) }
  }
  if (has(latency, "exponential")) {
    const min = finite("latency.min", latency.min ?? 0)
    const max = millis("latency.max", latency.max ?? Infinity)
    const mean = finite("latency.exponential", latency.exponential)
    if (max < min) refuse("latency.max", latency.max, "no less than `latency.min`")
    return { isFixed: false, next: (draw) => Math.round(Math.min(max, min - mean * Math.log(1 - draw()))) }
  }
  if (has(latency, "trace")) {
    const trace = latency.trace.map((step) => Math.round(finite("latency.trace", step)))
    if (trace.length === 0) refuse("latency.trace", "empty", "at least one duration")
    let at = 0
    return { isFixed: false, next: () => trace[at++ % trace.length] }
  }
  const fixed = Math.round(finite("latency", latency as Duration.Input))
  return { isFixed: true, next: () => fixed }
}

/** The options of one socket; `base` says what they leave out. */
export const socket = (options: SocketOptions, base: SocketSettings): SocketSettings => ({
  sendBuffer: options.sendBuffer === undefined ? base.sendBuffer : count("sendBuffer", options.sendBuffer, 1),
  receiveBuffer: options.receiveBuffer === undefined
    ? base.receiveBuffer
    : count("receiveBuffer", options.receiveBuffer, 1),
  linger: options.linger === undefined ? base.linger : millis("linger", options.linger),
  halfOpen: options.halfOpen ?? base.halfOpen,
  userTimeout: options.userTimeout === undefined ? base.userTimeout : millis("userTimeout", options.userTimeout)
})

export const socketDefaults: SocketSettings = {
  sendBuffer: 64 * 1024,
  receiveBuffer: 64 * 1024,
  linger: 0,
  halfOpen: true,
  userTimeout: 924_000
}

/** The options of a link, checked. They stay options: a link without an option takes that of the network. */
export const link = ({ bandwidth, latency, slicing }: LinkOptions): LinkOptions => {
  if (latency !== undefined) sampler(latency)
  if (bandwidth !== undefined) rate("bandwidth", bandwidth)
  return { bandwidth, latency, slicing }
}
