/**
 * How fast a peer may send over time: `messageRate` and `byteRate`, each a token bucket of `rateBurst`.
 *
 * A bucket is kept as the time by which all that came would have come at the rate: it needs no clock to be filled.
 */
import { RateExceeded } from "../../../ConnectionError.ts"
import type { Conversation } from "../core/state.ts"

type Rated = Pick<Conversation<never, never>, "inForce" | "rates">

const second = 1000

/** Counts what a read brought, whatever it was: data, pings, pongs, and messages that are too long. */
export const spend = (c: Rated, messages: number, bytes: number, at: number): void => {
  const { byteRate, messageRate } = c.inForce.limits
  if (messageRate === Infinity && byteRate === Infinity) {
    c.rates = undefined
    return
  }
  const rates = c.rates ??= { messages: at, bytes: at }
  rates.messages = Math.max(rates.messages, at) + messages * second / messageRate
  rates.bytes = Math.max(rates.bytes, at) + bytes * second / byteRate
}

/** For how many milliseconds the peer has to pause. */
export const waitFor = ({ inForce: { limits: { rateBurst } }, rates }: Rated, at: number): number =>
  rates === undefined ? 0 : Math.ceil(Math.max(rates.messages, rates.bytes) - at - rateBurst)

/** What ends a connection whose peer is too fast and may not be. */
export const exceeded = (c: Rated, at: number): RateExceeded | undefined => {
  const { inForce: { policy }, rates } = c
  if (rates === undefined || policy.overRate === "pause" || waitFor(c, at) <= 0) return undefined
  const limit = rates.messages >= rates.bytes ? "messageRate" : "byteRate"
  return new RateExceeded({ limit, allowed: policy[limit] })
}
