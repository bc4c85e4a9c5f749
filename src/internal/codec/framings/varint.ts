/** Frames that start with their length as a varint. */
import * as Result from "effect/Result"
import type { Framing, FramingOptions } from "../framing.ts"
import { ours, tooLongOf } from "../framing.ts"
import { type Header, sized } from "./sized.ts"

/** 64 bits, 7 to a byte. */
const mostVarint = 10

/** `strips`: whether the length is no part of the payload; a payload that holds its length is written as it is. */
export const varint = (options: FramingOptions, strips = true): Framing => {
  const policy = tooLongOf(options)
  return ours({
    name: "varint",
    skips: policy.skips,
    decoder(limit) {
      const header: Header = {
        most: mostVarint,
        size: 0,
        body: 0,
        strip: 0,
        invalid: undefined,
        read(bytes, pos, end) {
          let length = 0
          let scale = 1
          for (let i = pos; i < end; i++) {
            const byte = bytes[i]
            const size = i - pos + 1
            if (size === mostVarint && byte > 1) {
              header.invalid = "a varint of more than 64 bits"
              return true
            }
            length += (byte & 0x7f) * scale
            if (byte < 0x80) {
              header.size = size
              header.strip = strips ? size : 0
              header.body = length
              return true
            }
            scale *= 128
          }
          return false
        }
      }
      return sized(header, limit, policy)
    },
    encode(payload) {
      if (!strips) return Result.succeed(payload)
      let size = 1
      for (let rest = payload.length; rest >= 0x80; rest = Math.floor(rest / 128)) size++
      const frame = new Uint8Array(size + payload.length)
      let rest = payload.length
      for (let i = 0; i < size - 1; i++) {
        frame[i] = (rest % 128) | 0x80
        rest = Math.floor(rest / 128)
      }
      frame[size - 1] = rest
      frame.set(payload, size)
      return Result.succeed(frame)
    }
  })
}
