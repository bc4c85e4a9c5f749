/**
 * Compresses and inflates whole messages with Node's zlib, at once.
 *
 * Nothing waits: messages, control frames and the end of a connection stay in order, and a message costs its limit at most. A
 * context is the end of what was sent before, given as a dictionary: 32 KiB, where a compressor that is kept has 256 KiB.
 */
import { constants as buffers } from "node:buffer"
import * as Zlib from "node:zlib"
import type { Compression } from "../../../internal/transport/compression.ts"

/** What both ends agreed to. */
export interface Agreed {
  readonly threshold: number
  readonly level: number
  /** Of the windows, as a power of two: ours, and the peer's. */
  readonly sentBits: number
  readonly receivedBits: number
  readonly keepsSent: boolean
  readonly keepsReceived: boolean
}

const flush = Zlib.constants.Z_SYNC_FLUSH

// RFC 7692, 7.2.2; behind it an end, so that a message that stops inside a block is told from a whole one
const tail = Uint8Array.of(0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff)
const tailSize = 4

// each costs a start of zlib's, and no compressor known ends a message in more than two
const mostFinalBlocks = 32

/** Bytes of output for which memory is found at a time: text comes to about four times its size. */
const chunkFor = (size: number, limit: number): number => Math.max(256, Math.min(64 * 1024, 4 * size, limit + 1))

/** A small message does not keep a large piece of memory. */
const trimmed = (bytes: Uint8Array): Uint8Array =>
  bytes.length * 2 < bytes.buffer.byteLength ? new Uint8Array(bytes) : bytes

interface Part {
  readonly buffer: Uint8Array
  readonly engine: Zlib.InflateRaw
}

const inflatePart = (input: Uint8Array, context: Uint8Array, bits: number, limit: number): Part =>
  Zlib.inflateRawSync(input, {
    windowBits: bits,
    chunkSize: chunkFor(input.length, limit),
    maxOutputLength: Math.min(Math.max(1, limit), buffers.MAX_LENGTH),
    info: true,
    ...(context.length === 0 ? {} : { dictionary: context })
  }) as unknown as Part

/** What comes behind a final block goes on with the same window (RFC 7692, 7.2.3.4). */
const inflateAll = (
  input: Uint8Array,
  end: number,
  context: Uint8Array,
  bits: number,
  limit: number
): Uint8Array | string | undefined => {
  const first = inflatePart(input, context, bits, limit)
  let at = first.engine.bytesWritten
  if (at >= end) return trimmed(first.buffer)
  const parts = [first.buffer]
  let total = first.buffer.length
  for (let blocks = 1; at < end; blocks++) {
    if (blocks === mostFinalBlocks) return `it has more than ${mostFinalBlocks} final blocks`
    const window = Buffer.concat([context, ...parts]).subarray(-(2 ** bits))
    const part = inflatePart(input.subarray(at), window, bits, limit - total)
    at += part.engine.bytesWritten
    parts.push(part.buffer)
    total += part.buffer.length
    if (total > limit) return undefined
  }
  return Buffer.concat(parts)
}

const inflate = (
  compressed: Uint8Array,
  context: Uint8Array,
  bits: number,
  limit: number
): Uint8Array | string | undefined => {
  // no compressor writes that, and `ws` reads it
  if (compressed.length === 0) return compressed
  const input = new Uint8Array(compressed.length + tail.length)
  input.set(compressed)
  input.set(tail, compressed.length)
  try {
    return inflateAll(input, compressed.length, context, bits, limit)
  } catch (thrown) {
    const { code, message } = thrown as NodeJS.ErrnoException
    if (code === "ERR_BUFFER_TOO_LARGE") return undefined
    if (code === "Z_BUF_ERROR") return "the compressed bytes end inside a block"
    if (code === "Z_DATA_ERROR" || code === "Z_NEED_DICT") return message
    throw thrown
  }
}

const deflate = (
  message: Uint8Array,
  context: Uint8Array,
  bits: number,
  level: number
): Uint8Array | undefined => {
  const compressed = Zlib.deflateRawSync(message, {
    windowBits: bits,
    level,
    chunkSize: chunkFor(message.length >>> 2, message.length),
    finishFlush: flush,
    ...(context.length === 0 ? {} : { dictionary: context })
  })
  const size = compressed.length - tailSize
  return size < message.length ? compressed.subarray(0, size) : undefined
}

/** What was agreed to, as a connection uses it. */
export const compressionOf = (
  { keepsReceived, keepsSent, level, receivedBits, sentBits, threshold }: Agreed
): Compression => ({
  threshold,
  sentContext: keepsSent ? 2 ** sentBits : 0,
  receivedContext: keepsReceived ? 2 ** receivedBits : 0,
  deflate: (message, context) => deflate(message, context, sentBits, level),
  inflate: (compressed, context, limit) => inflate(compressed, context, receivedBits, limit)
})
