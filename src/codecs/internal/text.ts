/** Text and numbers in the bytes of a frame. */
import { InvalidLength, InvalidMessage } from "../../ConnectionError.ts"
import { textOf, utf8 } from "../../internal/bytes/utf8.ts"
import type { Scale } from "../../internal/codec/room.ts"
import { tooHeavy } from "../../internal/codec/room.ts"

export { textOf, utf8 }

export const CR = 13
export const LF = 10

export const invalidLength = (detail: string): InvalidLength => new InvalidLength({ direction: "decode", detail })

export const invalid = (direction: "decode" | "encode", format: string, detail: string): InvalidMessage =>
  new InvalidMessage({ direction, format, detail })

/** Adds to what the values of a message weigh, before they are made; throws where that is too much. */
export const weigh = (scale: Scale | undefined, bytes: number): void => {
  if (scale === undefined) return
  scale.weight += bytes
  if (scale.weight > scale.most) throw new Error(tooHeavy(scale.weight, scale.most))
}

/** The UTF-8 of a text that comes back as it is; throws where half a surrogate pair would come back as something else. */
export const utf8Exact = (text: string): Uint8Array => {
  if (!text.isWellFormed()) throw new Error("a text has half a surrogate pair")
  return utf8(text)
}

/** A few bytes, for an error. */
export const shown = (bytes: Uint8Array, from: number, to: number): string =>
  JSON.stringify(String.fromCharCode(...bytes.subarray(from, Math.min(to, from + 24))))

/** A whole number in decimal digits, of up to 15; -1 where it is none. */
export const countAt = (bytes: Uint8Array, from: number, to: number): number => {
  if (to <= from || to - from > 15) return -1
  let value = 0
  for (let at = from; at < to; at++) {
    const digit = bytes[at]! - 48
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return value
}

/** Bytes behind each other. */
export const joined = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  let size = 0
  for (const part of parts) size += part.length
  const all = new Uint8Array(size)
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

/** The bytes of a frame, whichever kind the transport gives. */
export const bytesOf = (frame: Uint8Array | string): Uint8Array => typeof frame === "string" ? utf8(frame) : frame
