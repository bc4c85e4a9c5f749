/** No framing: chunks as they come, cut where they are over the limit. */
import * as Result from "effect/Result"
import type { Framing, Stopping } from "../framing.ts"
import { ours } from "../framing.ts"

export const bytes: Framing = ours({
  name: "bytes",
  skips: false,
  decoder: (limit): Stopping => ({
    pending: 0,
    mostFrames: Infinity,
    stoppedAt: 0,
    copies: false,
    write(chunk, frames) {
      let pos = 0
      for (; pos < chunk.length && frames.length < this.mostFrames; pos += limit) {
        frames.push(chunk.length <= limit ? chunk : chunk.subarray(pos, pos + limit))
      }
      this.stoppedAt = Math.min(pos, chunk.length)
      return undefined
    }
  }),
  encode: Result.succeed
})
