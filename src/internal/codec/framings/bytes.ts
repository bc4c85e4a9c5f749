/** No framing: chunks as they come, cut where they are over the limit. */
import * as Result from "effect/Result"
import type { Framing } from "../framing.ts"
import { ours } from "../framing.ts"

export const bytes: Framing = ours({
  name: "bytes",
  skips: false,
  decoder: (limit) => ({
    pending: 0,
    write(chunk, frames) {
      for (let pos = 0; pos < chunk.length; pos += limit) {
        frames.push(chunk.length <= limit ? chunk : chunk.subarray(pos, pos + limit))
      }
      return undefined
    }
  }),
  encode: Result.succeed
})
