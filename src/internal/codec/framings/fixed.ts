/** Frames of one size. */
import * as Result from "effect/Result"
import type { Framing, FramingOptions } from "../framing.ts"
import { integer, ours, tooLongOf } from "../framing.ts"
import { type Header, refuse, sized } from "./sized.ts"

export const fixed = (size: number, options: FramingOptions): Framing => {
  integer("size", size, 1)
  const policy = tooLongOf(options)
  const header: Header = { most: 0, size: 0, body: size, strip: 0, invalid: undefined, read: () => true }
  return ours({
    name: "fixed",
    skips: policy.skips,
    decoder: (limit) => sized(header, limit, policy),
    encode: (payload) =>
      payload.length === size
        ? Result.succeed(payload)
        : refuse(`a message of ${payload.length} bytes; every frame has ${size}`)
  })
}
