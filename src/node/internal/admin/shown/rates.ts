/** What happened in a second, from two counts of it. */
import type { Figures } from "../schemas.ts"

/** Each in a second; `null` where the program counts no metrics. */
export interface Rates {
  readonly opened: number | null
  readonly ended: number | null
  readonly refused: number | null
  readonly messagesIn: number | null
  readonly messagesOut: number | null
  readonly bytesIn: number | null
  readonly bytesOut: number | null
}

const none: Rates = {
  opened: null,
  ended: null,
  refused: null,
  messagesIn: null,
  messagesOut: null,
  bytesIn: null,
  bytesOut: null
}

/** Between two counts of one program; none where it has started again in between, or where no time has passed. */
export const ratesBetween = (before: Figures | undefined, after: Figures): Rates => {
  const from = before?.totals ?? undefined
  const to = after.totals
  const seconds = before === undefined ? 0 : (after.at - before.at) / 1000
  if (from === undefined || to === null || seconds <= 0 || after.uptime < before!.uptime) return none
  const rate = (name: keyof typeof to): number => Math.max(0, (to[name] - from[name]) / seconds)
  return {
    opened: rate("opened"),
    ended: rate("ended"),
    refused: rate("refused"),
    messagesIn: rate("receivedMessages"),
    messagesOut: rate("sentMessages"),
    bytesIn: rate("receivedBytes"),
    bytesOut: rate("sentBytes")
  }
}
