/** Frames that end with a delimiter. */
import * as Result from "effect/Result"
import { InvalidMessage } from "../../../ConnectionError.ts"
import type { Framing, FramingOptions } from "../framing.ts"
import { integer, ours, tooLongOf } from "../framing.ts"
import { endOf, marked, withMark } from "./marked.ts"

export const delimiter = (mark: Uint8Array, options: FramingOptions): Framing => {
  integer("delimiter length", mark.length, 1)
  const own = mark.slice()
  const policy = tooLongOf(options)
  return ours({
    name: "delimiter",
    skips: policy.skips,
    decoder: (limit) => marked(own, false, limit, policy),
    encode(payload) {
      const frame = withMark(payload, own)
      // a mark can also begin in the payload and end in the mark
      return endOf(own, frame, 0) === frame.length
        ? Result.succeed(frame)
        : Result.fail(
          new InvalidMessage({ direction: "encode", format: "a delimited frame", detail: "it contains the delimiter" })
        )
    }
  })
}
