/** How late the event loop is, since it was last asked. */
import { monitorEventLoopDelay, performance } from "node:perf_hooks"

// how often the delay is sampled, in milliseconds: it is part of every sample
const resolution = 20

// the samples that are told are those of at least so many milliseconds, however often they are asked for
const window = 10_000

export interface Delay {
  readonly median: number
  readonly p99: number
  readonly longest: number
}

/** In seconds. Sampling costs a timer, which keeps no process alive. */
export const eventLoopDelay = (): { readonly read: () => Delay; readonly stop: () => void } => {
  const histogram = monitorEventLoopDelay({ resolution })
  histogram.enable()
  let since = performance.now()
  let last: Delay = { median: 0, p99: 0, longest: 0 }
  const seconds = (nanos: number): number => Math.max(0, nanos / 1e9 - resolution / 1000)
  const look = (): Delay => ({
    median: seconds(histogram.percentile(50)),
    p99: seconds(histogram.percentile(99)),
    longest: seconds(histogram.max)
  })
  return {
    read: () => {
      if (histogram.count === 0) return last
      last = look()
      if (performance.now() - since >= window) {
        since = performance.now()
        // told until there are others
        histogram.reset()
      }
      return last
    },
    stop: () => void histogram.disable()
  }
}

/** For how many seconds the event loop has worked since the process began. */
export const eventLoopActive = (): number => performance.eventLoopUtilization().active / 1000
