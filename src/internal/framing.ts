/** Where a frame ends in a stream of bytes. */
import * as Result from "effect/Result"
import type { CodecReason } from "../ConnectionError.ts"
import { FrameTooLong, InvalidLength, InvalidMessage, Truncated } from "../ConnectionError.ts"
import { ByteQueue } from "./byteQueue.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models (public: `Codec` exports them)
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Finds the frames of one connection's byte stream. Holds state: make one per connection.
 *
 * **Gotchas**
 *
 * After `write` returned an error it must not be called again; `Codec.decoder` sees to that.
 *
 * @category framing
 * @since 0.1.0
 */
export interface FrameDecoder {
  /**
   * Reads a chunk, adds the frames it completes to `frames` (they may be views of the chunk) and the over-long ones
   * that are passed over to `skipped`, once each. Returns the error the stream cannot go on after.
   */
  readonly write: (
    chunk: Uint8Array,
    frames: Array<Uint8Array>,
    skipped: Array<FrameTooLong>
  ) => CodecReason | undefined
  /** The same with frames as text, for framings that decode many of them at once. */
  readonly writeText?: (
    chunk: Uint8Array,
    frames: Array<string>,
    skipped: Array<FrameTooLong>
  ) => CodecReason | undefined
  /** Bytes that have come of the unfinished frame: its header, what is held, and what was skipped. 0 between frames. */
  readonly pending: number
}

/**
 * Says where a frame ends in a byte stream, and writes the payload of a frame so that it can be found again.
 *
 * @category framing
 * @since 0.1.0
 */
export interface Framing {
  /** A name for people: `"lines"`, `"lengthPrefix"`. */
  readonly name: string
  /** Whether an over-long frame is passed over instead of ending the stream. */
  readonly skips: boolean
  /** A decoder for one connection. `maxFrame` bounds the payload in bytes, checked before anything is allocated. */
  readonly decoder: (maxFrame: number) => FrameDecoder
  /** The wire bytes for a payload. The caller has checked the size of the payload. */
  readonly encode: (payload: Uint8Array) => Result.Result<Uint8Array, CodecReason>
  /** The same for text, when that is faster than going through bytes. */
  readonly encodeText?: (payload: string) => Result.Result<Uint8Array, CodecReason>
}

/**
 * What every framing can be told.
 *
 * @category framing
 * @since 0.1.0
 */
export interface FramingOptions {
  /**
   * What an over-long frame does: `"fail"` ends the stream as soon as the frame is known to be too long, `"skip"`
   * passes over it and goes on with the next frame. Default `"fail"`.
   */
  readonly tooLong?: "fail" | "skip" | undefined
  /**
   * When a skipped frame is reported: `"header"` as soon as it is known to be too long, `"body"` when all of it has
   * passed, with its whole size. Default `"header"`.
   */
  readonly report?: "header" | "body" | undefined
  /** The codec's own limit for a payload, in bytes, 1 or more. The lower of this and the caller's holds. */
  readonly maxFrame?: number | undefined
}

/**
 * Where the length is and what it counts, with the meanings of Netty's `LengthFieldBasedFrameDecoder`.
 *
 * @category framing
 * @since 0.1.0
 */
export interface LengthPrefixOptions extends FramingOptions {
  /** Width of the length field in bytes. Default 4. */
  readonly bytes?: 1 | 2 | 3 | 4 | 8 | undefined
  /** Byte order of the length field. Default `"big"`. */
  readonly endian?: "big" | "little" | undefined
  /** Bytes before the length field. Default 0. */
  readonly offset?: number | undefined
  /**
   * What to add to the length to get the number of bytes after the length field. Default 0; minus the size of the
   * header when the length counts the header too.
   */
  readonly adjustment?: number | undefined
  /** How many bytes at the front of a frame are not part of the payload. Default: the header, `offset + bytes`. */
  readonly strip?: number | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// options
// ---------------------------------------------------------------------------------------------------------------------

/** Programmer errors are the one thing that throws. */
export const integer = (option: string, value: number, least: number): number => {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new RangeError(`Codec: ${option} must be an integer of at least ${least}, got ${value}`)
  }
  return value
}

const oneOf = <A>(option: string, value: A, allowed: ReadonlyArray<A>): A => {
  if (!allowed.includes(value)) {
    throw new RangeError(`Codec: ${option} must be one of ${allowed.join(", ")}, got ${String(value)}`)
  }
  return value
}

interface TooLong {
  readonly skips: boolean
  readonly atHeader: boolean
}

const tooLongOf = (options: FramingOptions): TooLong => ({
  skips: oneOf("tooLong", options.tooLong ?? "fail", ["fail", "skip"]) === "skip",
  atHeader: oneOf("report", options.report ?? "header", ["header", "body"]) === "header"
})

const tooLong = (size: number, limit: number): FrameTooLong => new FrameTooLong({ direction: "decode", size, limit })

// ---------------------------------------------------------------------------------------------------------------------
// text
// ---------------------------------------------------------------------------------------------------------------------

const encoder = new TextEncoder()
// a byte order mark is kept: it is part of the message
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

export const utf8 = (text: string): Uint8Array => encoder.encode(text)

/** The text of UTF-8 bytes, or undefined when they are none. */
export const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

export const notText = (): InvalidMessage =>
  new InvalidMessage({ direction: "decode", format: "UTF-8", detail: "the bytes are not UTF-8" })

/** How many bytes a text has as UTF-8, without making them. */
export const utf8Size = (text: string): number => {
  let size = text.length
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x80) continue
    if (code < 0x800) size++
    else {
      size += 2
      // a pair is 4 bytes for 2 units
      if (code >= 0xd800 && code < 0xdc00 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) i++
    }
  }
  return size
}

// ---------------------------------------------------------------------------------------------------------------------
// raw bytes
// ---------------------------------------------------------------------------------------------------------------------

export const bytes: Framing = {
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
}

// ---------------------------------------------------------------------------------------------------------------------
// frames whose size is known at their start
// ---------------------------------------------------------------------------------------------------------------------

/** Reads the header of a frame. The fields are the result of the last `read`: no allocation per frame. */
interface Header {
  /** Bytes of the longest header. */
  readonly most: number
  /** Bytes of the header. */
  size: number
  /** Bytes after the header. */
  body: number
  /** Bytes at the front of the frame that are not payload. */
  strip: number
  /** Why no frame can have this header. */
  invalid: string | undefined
  /** Whether the header is complete in `bytes` from `pos` to `end`; at least one byte is there. */
  readonly read: (bytes: Uint8Array, pos: number, end: number) => boolean
}

const Stage = { header: 0, body: 1, skipping: 2 }

const sized = (header: Header, limit: number, policy: TooLong): FrameDecoder => {
  const queue = new ByteQueue()
  // made when a header is split for the first time
  let head = noBytes
  // plain `let`s: one connection owns them
  let stage = Stage.header
  let headFilled = 0
  let left = 0
  let drop = 0
  let come = 0
  let size = 0

  /** Takes note of a header whose frame is not complete; `kept` is the part of the header that is payload. */
  const begin = (kept: Uint8Array, skipped: Array<FrameTooLong>): CodecReason | undefined => {
    size = header.size + header.body - header.strip
    come = header.size
    left = header.body
    headFilled = 0
    if (size <= limit) {
      stage = Stage.body
      drop = Math.max(0, header.strip - header.size)
      if (kept.length > 0) queue.copy(kept)
      return undefined
    }
    if (!policy.skips) return tooLong(size, limit)
    stage = Stage.skipping
    if (policy.atHeader) skipped.push(tooLong(size, limit))
    return undefined
  }

  /** Goes on with the body and returns where it ends in the chunk. */
  const advance = (chunk: Uint8Array, pos: number, frames: Array<Uint8Array>, skipped: Array<FrameTooLong>): number => {
    const n = Math.min(left, chunk.length - pos)
    if (stage === Stage.body) {
      const dropped = Math.min(drop, n)
      const piece = chunk.subarray(pos + dropped, pos + n)
      drop -= dropped
      if (n === left) frames.push(queue.take(queue.size, piece))
      else if (piece.length > 0) queue.push(piece, chunk.length)
    } else if (n === left && !policy.atHeader) {
      skipped.push(tooLong(size, limit))
    }
    come += n
    left -= n
    if (left === 0) {
      stage = Stage.header
      come = 0
    }
    return pos + n
  }

  return {
    get pending() {
      return come
    },
    write(chunk, frames, skipped) {
      const end = chunk.length
      let pos = 0
      while (pos < end || stage !== Stage.header) {
        if (stage !== Stage.header) {
          pos = advance(chunk, pos, frames, skipped)
          if (stage !== Stage.header) return undefined
        } else if (headFilled > 0) {
          const n = Math.min(header.most - headFilled, end - pos)
          head.set(chunk.subarray(pos, pos + n), headFilled)
          if (!header.read(head, 0, headFilled + n)) {
            headFilled += n
            come = headFilled
            return undefined
          }
          if (header.invalid !== undefined) return new InvalidLength({ direction: "decode", detail: header.invalid })
          pos += header.size - headFilled
          const error = begin(head.subarray(Math.min(header.strip, header.size), header.size), skipped)
          if (error !== undefined) return error
        } else if (!header.read(chunk, pos, end)) {
          if (head.length === 0) head = new Uint8Array(header.most)
          head.set(chunk.subarray(pos))
          headFilled = end - pos
          come = headFilled
          return undefined
        } else {
          if (header.invalid !== undefined) return new InvalidLength({ direction: "decode", detail: header.invalid })
          const total = header.size + header.body
          if (total <= end - pos && total - header.strip <= limit) {
            frames.push(chunk.subarray(pos + header.strip, pos + total))
            pos += total
          } else {
            const kept = chunk.subarray(pos + Math.min(header.strip, header.size), pos + header.size)
            const error = begin(kept, skipped)
            if (error !== undefined) return error
            pos += header.size
          }
        }
      }
      return undefined
    }
  }
}

const noBytes = new Uint8Array(0)

const refuse = (detail: string) => Result.fail(new InvalidLength({ direction: "encode", detail }))

export const fixed = (size: number, options: FramingOptions): Framing => {
  integer("size", size, 1)
  const policy = tooLongOf(options)
  const header: Header = { most: 0, size: 0, body: size, strip: 0, invalid: undefined, read: () => true }
  return {
    name: "fixed",
    skips: policy.skips,
    decoder: (limit) => sized(header, limit, policy),
    encode: (payload) =>
      payload.length === size
        ? Result.succeed(payload)
        : refuse(`a message of ${payload.length} bytes; every frame has ${size}`)
  }
}

export const lengthPrefix = (options: LengthPrefixOptions): Framing => {
  const width: number = oneOf("bytes", options.bytes ?? 4, [1, 2, 3, 4, 8])
  const big = oneOf("endian", options.endian ?? "big", ["big", "little"]) === "big"
  const offset = integer("offset", options.offset ?? 0, 0)
  const adjustment = integer("adjustment", options.adjustment ?? 0, Number.MIN_SAFE_INTEGER)
  const size = offset + width
  const strip = integer("strip", options.strip ?? size, 0)
  const policy = tooLongOf(options)
  const most = 2 ** (8 * width) - 1
  return {
    name: "lengthPrefix",
    skips: policy.skips,
    decoder(limit) {
      const header: Header = {
        most: size,
        size,
        body: 0,
        strip,
        invalid: undefined,
        read(bytes, pos, end) {
          if (end - pos < size) return false
          const at = pos + offset
          let length = 0
          // not by shifts: they are 32 bits wide and signed
          for (let i = 0; i < width; i++) length = length * 256 + bytes[big ? at + i : at + width - 1 - i]
          header.body = length + adjustment
          if (header.body < 0) {
            header.invalid = `length ${length} with adjustment ${adjustment} ends before its header`
          } else if (size + header.body < strip) {
            header.invalid = `a frame of ${size + header.body} bytes has no ${strip} bytes to strip`
          }
          return true
        }
      }
      return sized(header, limit, policy)
    },
    encode(payload) {
      const total = strip + payload.length
      const length = total - size - adjustment
      if (total < size) {
        return refuse(`a payload of ${payload.length} bytes does not hold the ${size - strip} of its header`)
      }
      if (length < 0) return refuse(`a payload of ${payload.length} bytes would announce a length of ${length}`)
      if (length > most) {
        const limit = most + size + adjustment - strip
        return Result.fail(new FrameTooLong({ direction: "encode", size: payload.length, limit }))
      }
      const frame = new Uint8Array(total)
      frame.set(payload, strip)
      let rest = length
      for (let i = 0; i < width; i++) {
        frame[big ? size - 1 - i : offset + i] = rest % 256
        rest = Math.floor(rest / 256)
      }
      return Result.succeed(frame)
    }
  }
}

/** 64 bits, 7 to a byte. */
const mostVarint = 10

export const varint = (options: FramingOptions): Framing => {
  const policy = tooLongOf(options)
  return {
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
              header.strip = size
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
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// frames that end with a mark
// ---------------------------------------------------------------------------------------------------------------------

const LF = 10
const CR = 13

/** Where `mark` starts in `bytes`, from `from` on, or -1. */
const find = (bytes: Uint8Array, mark: Uint8Array, from: number): number => {
  for (let at = bytes.indexOf(mark[0], from); at >= 0; at = bytes.indexOf(mark[0], at + 1)) {
    let i = 1
    while (i < mark.length && bytes[at + i] === mark[i]) i++
    if (i === mark.length) return at
  }
  return -1
}

interface MarkDecoder extends FrameDecoder {
  /** `write` for a part of a chunk that had `whole` bytes. */
  readonly scan: (
    part: Uint8Array,
    whole: number,
    frames: Array<Uint8Array>,
    skipped: Array<FrameTooLong>
  ) => CodecReason | undefined
}

/** With `lines` the mark is `\n`, and one `\r` before it belongs to the mark. */
const marked = (mark: Uint8Array, lines: boolean, limit: number, policy: TooLong): MarkDecoder => {
  const queue = new ByteQueue()
  // the last bytes of the unfinished frame: a mark may have begun in them
  const tail = new Uint8Array(lines ? 1 : mark.length - 1)
  let tailFilled = 0
  let come = 0
  let skipping = false

  const remember = (part: Uint8Array) => {
    const n = Math.min(tail.length, part.length)
    const kept = Math.min(tailFilled, tail.length - n)
    tail.copyWithin(0, tailFilled - kept, tailFilled)
    for (let i = 0; i < n; i++) tail[kept + i] = part[part.length - n + i]
    tailFilled = kept + n
  }

  /** How many bytes of the tail are the start of a mark that ends in `part`, or 0. */
  const begun = (part: Uint8Array): number => {
    if (lines) return 0
    for (let k = tailFilled; k > 0; k--) {
      if (part.length < mark.length - k) return 0
      let i = 0
      while (i < mark.length && (i < k ? tail[tailFilled - k + i] : part[i - k]) === mark[i]) i++
      if (i === mark.length) return k
    }
    return 0
  }

  /** How many bytes at the end of what has come may turn out to belong to a mark. */
  const undecided = (): number => {
    if (lines) return tailFilled > 0 && tail[0] === CR ? 1 : 0
    for (let k = tailFilled; k > 0; k--) {
      let i = 0
      while (i < k && tail[tailFilled - k + i] === mark[i]) i++
      if (i === k) return k
    }
    return 0
  }

  const hold = (part: Uint8Array, whole: number, skipped: Array<FrameTooLong>): CodecReason | undefined => {
    come += part.length
    remember(part)
    if (skipping) return undefined
    if (come <= limit || come - undecided() <= limit) {
      queue.push(part, whole)
      return undefined
    }
    queue.clear()
    if (!policy.skips) return tooLong(come, limit)
    skipping = true
    if (policy.atHeader) skipped.push(tooLong(come, limit))
    return undefined
  }

  const scan: MarkDecoder["scan"] = (part, whole, frames, skipped) => {
    let pos = 0
    if (come > 0 && part.length > 0) {
      const k = begun(part)
      const at = k > 0 ? 0 : find(part, mark, 0)
      if (at < 0) return hold(part, whole, skipped)
      let size = come - k + at
      if (lines && (at > 0 ? part[at - 1] : tail[0]) === CR) size--
      if (skipping) {
        if (!policy.atHeader) skipped.push(tooLong(size, limit))
      } else if (size > limit) {
        if (!policy.skips) return tooLong(size, limit)
        skipped.push(tooLong(size, limit))
        queue.clear()
      } else {
        const held = Math.min(size, queue.size)
        frames.push(queue.take(held, part.subarray(0, size - held)))
      }
      pos = at + mark.length - k
      come = 0
      tailFilled = 0
      skipping = false
    }
    while (pos < part.length) {
      const at = find(part, mark, pos)
      if (at < 0) return hold(part.subarray(pos), whole, skipped)
      const end = lines && at > pos && part[at - 1] === CR ? at - 1 : at
      if (end - pos <= limit) frames.push(part.subarray(pos, end))
      else if (policy.skips) skipped.push(tooLong(end - pos, limit))
      else return tooLong(end - pos, limit)
      pos = at + mark.length
    }
    return undefined
  }

  return {
    get pending() {
      return come
    },
    scan,
    write: (chunk, frames, skipped) => scan(chunk, chunk.length, frames, skipped)
  }
}

/** The payload with its mark, or why a reader would not find the same payload again. */
const closed = (payload: Uint8Array, mark: Uint8Array): Result.Result<Uint8Array, CodecReason> => {
  const frame = new Uint8Array(payload.length + mark.length)
  frame.set(payload)
  frame.set(mark, payload.length)
  // a mark can also begin in the payload and end in the mark
  return find(frame, mark, 0) === payload.length
    ? Result.succeed(frame)
    : Result.fail(
      new InvalidMessage({ direction: "encode", format: "a delimited frame", detail: "it contains the delimiter" })
    )
}

export const delimiter = (mark: Uint8Array, options: FramingOptions): Framing => {
  integer("delimiter length", mark.length, 1)
  const own = mark.slice()
  const policy = tooLongOf(options)
  return {
    name: "delimiter",
    skips: policy.skips,
    decoder: (limit) => marked(own, false, limit, policy),
    encode: (payload) => closed(payload, own)
  }
}

const newline = new Uint8Array([LF])

const notLine = () =>
  Result.fail(
    new InvalidMessage({
      direction: "encode",
      format: "a line",
      detail: "it contains a line feed or ends with a return"
    })
  )

/** Whether no line of a run (without its last `\n`) is over the limit. */
const fits = (run: Uint8Array, limit: number): boolean => {
  let pos = 0
  while (run.length - pos > limit) {
    const at = run.indexOf(LF, pos)
    if (at < 0 || at - pos > limit) return false
    pos = at + 1
  }
  return true
}

/** Decodes a run of complete lines at once: a `TextDecoder` call costs more than a short line. */
const linesDecoder = (limit: number, policy: TooLong): FrameDecoder => {
  const lines = marked(newline, true, limit, policy)

  const oneByOne = (
    part: Uint8Array,
    whole: number,
    texts: Array<string>,
    skipped: Array<FrameTooLong>
  ): CodecReason | undefined => {
    const frames: Array<Uint8Array> = []
    const error = lines.scan(part, whole, frames, skipped)
    for (const frame of frames) {
      const text = textOf(frame)
      if (text === undefined) return notText()
      texts.push(text)
    }
    return error
  }

  return {
    get pending() {
      return lines.pending
    },
    write: lines.write,
    writeText(chunk, texts, skipped) {
      const last = chunk.lastIndexOf(LF)
      let pos = 0
      if (lines.pending > 0 && last >= 0) {
        pos = chunk.indexOf(LF) + 1
        const error = oneByOne(chunk.subarray(0, pos), chunk.length, texts, skipped)
        if (error !== undefined) return error
      }
      if (pos <= last) {
        const run = chunk.subarray(pos, last)
        const text = fits(run, limit) ? textOf(run) : undefined
        if (text === undefined) {
          const error = oneByOne(chunk.subarray(pos, last + 1), chunk.length, texts, skipped)
          if (error !== undefined) return error
        } else if (text.includes("\r")) {
          for (const line of text.split("\n")) texts.push(line.endsWith("\r") ? line.slice(0, -1) : line)
        } else {
          for (const line of text.split("\n")) texts.push(line)
        }
      }
      return last + 1 === chunk.length
        ? undefined
        : oneByOne(chunk.subarray(last + 1), chunk.length, texts, skipped)
    }
  }
}

export const lines = (options: FramingOptions & { readonly crlf?: boolean | undefined }): Framing => {
  const policy = tooLongOf(options)
  const ending = options.crlf === true ? "\r\n" : "\n"
  const mark = utf8(ending)
  return {
    name: "lines",
    skips: policy.skips,
    decoder: (limit) => linesDecoder(limit, policy),
    encode(payload) {
      if (payload.includes(LF) || payload[payload.length - 1] === CR) return notLine()
      const frame = new Uint8Array(payload.length + mark.length)
      frame.set(payload)
      frame.set(mark, payload.length)
      return Result.succeed(frame)
    },
    encodeText: (payload) =>
      payload.includes("\n") || payload.endsWith("\r") ? notLine() : Result.succeed(utf8(payload + ending))
  }
}

/** The end of a stream inside a frame. */
export const truncated = (pending: number): Truncated | undefined =>
  pending > 0 ? new Truncated({ leftover: pending }) : undefined

// ---------------------------------------------------------------------------------------------------------------------
// where a MessagePack value ends
// ---------------------------------------------------------------------------------------------------------------------

/** The depth at which `@msgpack/msgpack` stops to encode by default; decoding gets the same bound. */
export const maxDepth = 100

/** Bytes of the length field and bytes it does not count, for 0xc4 to 0xc9 (bin, ext) and 0xd9 to 0xdb (str). */
const sizedHeads = new Map([
  [0xc4, [1, 0]],
  [0xc5, [2, 0]],
  [0xc6, [4, 0]],
  [0xc7, [1, 1]],
  [0xc8, [2, 1]],
  [0xc9, [4, 1]],
  [0xd9, [1, 0]],
  [0xda, [2, 0]],
  [0xdb, [4, 0]]
])

/** Bytes after the head, for 0xca to 0xd8: floats, integers, extensions of a fixed size. */
const fixedSizes = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17]

/**
 * Why the bytes are no MessagePack value that is safe to decode, or undefined. The decoder allocates an array by its
 * announced length, so what is announced is first compared with what is there: each value needs at least a byte.
 */
export const checkMsgpack = (bytes: Uint8Array): string | undefined => {
  const end = bytes.length
  // per level, how many values are still to come
  const levels = [1]
  let waiting = 1
  let pos = 0

  const number = (width: number): number => {
    let value = 0
    for (let i = 0; i < width; i++) value = value * 256 + (bytes[pos + i] ?? 0)
    pos += width
    return value
  }

  while (waiting > 0) {
    if (pos >= end) return "it ends inside a value"
    const head = bytes[pos++]
    waiting--
    levels[levels.length - 1]--
    let children = 0
    if (head >= 0x80 && head < 0xe0) {
      if (head < 0x90) children = 2 * (head & 0x0f)
      else if (head < 0xa0) children = head & 0x0f
      else if (head < 0xc0) pos += head & 0x1f
      else if (head === 0xdc) children = number(2)
      else if (head === 0xdd) children = number(4)
      else if (head === 0xde) children = 2 * number(2)
      else if (head === 0xdf) children = 2 * number(4)
      else if (head >= 0xca && head <= 0xd8) pos += fixedSizes[head - 0xca]
      else {
        const sized = sizedHeads.get(head)
        if (sized !== undefined) pos += number(sized[0]) + sized[1]
      }
    }
    if (children > 0) {
      waiting += children
      if (waiting > end - pos) return "it announces more values than it has bytes"
      if (levels.push(children) > maxDepth) return `it is more than ${maxDepth} levels deep`
    }
    while (levels.length > 1 && levels[levels.length - 1] === 0) levels.pop()
  }
  return pos > end ? "it ends inside a value" : undefined
}
