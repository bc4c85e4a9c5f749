/** What sockets carry: bytes or text, piece by piece. */
import type { NonEmptyReadonlyArray } from "effect/Array"

export type Chunk = Uint8Array | string

/** What one pull gives. */
export type Batch = NonEmptyReadonlyArray<Chunk>

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** Bytes, or bytes as UTF-8. */
export const sizeOf = (chunk: Chunk): number =>
  typeof chunk === "string" ? encoder.encode(chunk).byteLength : chunk.byteLength

export const toBytes = (chunk: Chunk): Uint8Array => typeof chunk === "string" ? encoder.encode(chunk) : chunk

/** Everything as one text. */
export const textOf = (chunks: ReadonlyArray<unknown>): string =>
  chunks.map((chunk) => chunk instanceof Uint8Array ? decoder.decode(chunk) : String(chunk)).join("")
