/** How many bytes text and bytes are on the wire. */
import { utf8Size } from "./utf8.ts"

const ascii = /^[\0-\x7f]*$/

/** The size of a chunk, a frame or a message in bytes; text counts as UTF-8. */
export const sizeOf = (data: string | { readonly byteLength: number }): number =>
  typeof data !== "string" ? data.byteLength : ascii.test(data) ? data.length : utf8Size(data)

/** The size of a frame over the limit, or 0; text counts as UTF-8, and is counted only when it may be too long. */
export const sizeOver = (frame: Uint8Array | string, limit: number): number => {
  if (typeof frame === "string" && frame.length * 3 <= limit) return 0
  const size = typeof frame === "string" ? utf8Size(frame) : frame.length
  return size > limit ? size : 0
}

/** The size of a message in bytes: of text and bytes their own, else of JSON. */
export const weightOf = (message: unknown): number => {
  if (message instanceof Uint8Array || typeof message === "string") return sizeOf(message)
  try {
    return sizeOf(JSON.stringify(message) ?? "")
  } catch {
    // not a JSON value: counted, if not weighed
    return 1
  }
}

/** What an application says a message weighs. Throws where that is no size: a sum with it would be no bound any more. */
export const givenSize = (size: number): number => {
  if (!(size >= 0)) throw new RangeError(`sizeOf has to return a number of bytes, and returned ${String(size)}`)
  return Math.min(size, Number.MAX_SAFE_INTEGER)
}
