/** Options as numbers, checked. */
import * as Duration from "effect/Duration"
import type { Draw } from "./random.ts"

/** How long a packet travels. */
export type Latency =
  | Duration.Input
  | { readonly uniform: readonly [from: Duration.Input, to: Duration.Input] }
  | {
    readonly exponential: Duration.Input
    readonly min?: Duration.Input | undefined
    readonly max?: Duration.Input | undefined
  }
  | { readonly trace: ReadonlyArray<Duration.Input> }

/** What can be said of a link, or of one direction of it. */
export interface LinkOptions {
  readonly latency?: Latency | undefined
  readonly bandwidth?: number | undefined
  readonly slicing?: boolean | undefined
}

/** What can be said of one end of a connection. */
export interface EndOptions {
  readonly sendBuffer?: number | undefined
  readonly receiveBuffer?: number | undefined
  readonly linger?: Duration.Input | undefined
  readonly halfOpen?: boolean | undefined
  readonly userTimeout?: Duration.Input | undefined
}

/** The same, checked. */
export interface End {
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

/** An option makes no sense: a mistake in the test, so it is thrown. */
const refuse = (name: string, value: unknown, wanted: string): never => {
  throw new RangeError(`TestNetwork: \`${name}\` is ${String(value)}, and it has to be ${wanted}`)
}

export const millis = (name: string, input: Duration.Input): number => {
  const duration = Duration.fromInput(input)
  const value = duration._tag === "Some" ? Duration.toMillis(duration.value) : Number.NaN
  return value >= 0 ? value : refuse(name, input, "a duration of zero or more")
}

export const count = (name: string, value: number, least: number): number =>
  Number.isSafeInteger(value) && value >= least ? value : refuse(name, value, `a whole number from ${least}`)

export const rate = (name: string, value: number): number =>
  value > 0 ? value / 1000 : refuse(name, value, "more than 0 bytes a second")

const has = <K extends string>(latency: Latency, key: K): latency is Extract<Latency, Record<K, unknown>> =>
  typeof latency === "object" && key in latency

export const sampler = (latency: Latency): Sampler => {
  if (has(latency, "uniform")) {
    const [from, to] = latency.uniform.map((bound) => millis("latency.uniform", bound))
    if (to < from) refuse("latency.uniform", `[${from}, ${to}]`, "in ascending order")
    return { isFixed: false, next: (draw) => Math.floor(from + draw() * (to - from + 1)) }
  }
  if (has(latency, "exponential")) {
    const min = millis("latency.min", latency.min ?? 0)
    const max = millis("latency.max", latency.max ?? Infinity)
    const mean = millis("latency.exponential", latency.exponential)
    return { isFixed: false, next: (draw) => Math.round(Math.min(max, min - mean * Math.log(1 - draw()))) }
  }
  if (has(latency, "trace")) {
    const trace = latency.trace.map((step) => Math.round(millis("latency.trace", step)))
    if (trace.length === 0) refuse("latency.trace", "empty", "at least one duration")
    let at = 0
    return { isFixed: false, next: () => trace[at++ % trace.length] }
  }
  const fixed = Math.round(millis("latency", latency as Duration.Input))
  return { isFixed: true, next: () => fixed }
}

export const end = (options: EndOptions, base: End): End => ({
  sendBuffer: options.sendBuffer === undefined ? base.sendBuffer : count("sendBuffer", options.sendBuffer, 1),
  receiveBuffer: options.receiveBuffer === undefined
    ? base.receiveBuffer
    : count("receiveBuffer", options.receiveBuffer, 1),
  linger: options.linger === undefined ? base.linger : millis("linger", options.linger),
  halfOpen: options.halfOpen ?? base.halfOpen,
  userTimeout: options.userTimeout === undefined ? base.userTimeout : millis("userTimeout", options.userTimeout)
})

export const endDefaults: End = {
  sendBuffer: 64 * 1024,
  receiveBuffer: 64 * 1024,
  linger: 0,
  halfOpen: true,
  userTimeout: 924_000
}

/** The same options, once they are known to make sense. */
export const link = ({ bandwidth, latency, slicing }: LinkOptions): LinkOptions => {
  if (latency !== undefined) sampler(latency)
  if (bandwidth !== undefined) rate("bandwidth", bandwidth)
  return { bandwidth, latency, slicing }
}
