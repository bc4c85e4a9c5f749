/** Lines of text. */
import * as Result from "effect/Result"
import type { CodecReason, FrameTooLong } from "../../../ConnectionError.ts"
import { InvalidMessage } from "../../../ConnectionError.ts"
import { blockSize } from "../../bytes/blocks.ts"
import { textOf, utf8 } from "../../bytes/utf8.ts"
import type { Framing, FramingOptions, Stopping, TooLong } from "../framing.ts"
import { notText, ours, tooLongOf } from "../framing.ts"
import { CR, LF, marked, withMark } from "./marked.ts"

const crlf = new Uint8Array([CR, LF])

const notLine = () =>
  Result.fail(
    new InvalidMessage({
      direction: "encode",
      format: "a line",
      detail: "it contains a line feed or ends with a return"
    })
  )

const isLine = (payload: Uint8Array): boolean => !payload.includes(LF) && payload[payload.length - 1] !== CR

/** Whether no line of a run is over the limit; a `\r` counts here. */
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
const decoder = (limit: number, policy: TooLong): Stopping => {
  const lines = marked(crlf, true, limit, policy)

  const oneByOne = (
    chunk: Uint8Array,
    from: number,
    to: number,
    texts: Array<string>,
    skipped: Array<FrameTooLong>
  ): CodecReason | undefined => {
    if (from === to) return undefined
    const frames: Array<Uint8Array> = []
    lines.mostFrames = self.mostFrames - texts.length
    const error = lines.scan(chunk.subarray(from, to), chunk.length, frames, skipped)
    for (const frame of frames) {
      const text = textOf(frame)
      if (text === undefined) return notText()
      texts.push(text)
    }
    self.stoppedAt = from + lines.stoppedAt
    return error
  }

  /** The lines of a run of bytes that ends with a line feed, one by one where it cannot be decoded at once. */
  const manyAtOnce = (
    chunk: Uint8Array,
    from: number,
    to: number,
    texts: Array<string>,
    skipped: Array<FrameTooLong>
  ): CodecReason | undefined => {
    const run = chunk.subarray(from, to - 1)
    const text = fits(run, limit) ? textOf(run) : undefined
    if (text === undefined) return oneByOne(chunk, from, to, texts, skipped)
    const returns = text.includes("\r")
    const found = text.split("\n")
    const count = Math.min(found.length, self.mostFrames - texts.length)
    for (let i = 0; i < count; i++) {
      const line = found[i]!
      texts.push(returns && line.endsWith("\r") ? line.slice(0, -1) : line)
    }
    self.stoppedAt = to
    if (count === found.length) return undefined
    self.stoppedAt = from
    for (let i = 0; i < count; i++) self.stoppedAt = chunk.indexOf(LF, self.stoppedAt) + 1
    return undefined
  }

  const self: Stopping = {
    mostFrames: Infinity,
    stoppedAt: 0,
    copies: false,
    get pending() {
      return lines.pending
    },
    write(chunk, frames, skipped) {
      lines.mostFrames = self.mostFrames
      lines.copies = self.copies
      const error = lines.write(chunk, frames, skipped)
      self.stoppedAt = lines.stoppedAt
      return error
    },
    writeText(chunk, texts, skipped) {
      // the rest of a line that has begun, then complete lines, then the start of one
      const last = chunk.lastIndexOf(LF) + 1
      const first = lines.pending > 0 && last > 0 ? chunk.indexOf(LF) + 1 : 0
      let error = oneByOne(chunk, 0, first, texts, skipped)
      let pos = first
      while (error === undefined && pos < last) {
        if (texts.length >= self.mostFrames) {
          self.stoppedAt = pos
          return undefined
        }
        // a line is a slice of the text that it was decoded with, and keeps it alive: that text is short, or the line itself
        let end = last - pos <= blockSize ? last : chunk.lastIndexOf(LF, pos + blockSize - 1) + 1
        if (end <= pos) end = chunk.indexOf(LF, pos) + 1
        error = manyAtOnce(chunk, pos, end, texts, skipped)
        if (error !== undefined || self.stoppedAt < end) return error
        pos = end
      }
      self.stoppedAt = chunk.length
      return error ?? oneByOne(chunk, last, chunk.length, texts, skipped)
    }
  }
  return self
}

export const lines = (options: FramingOptions & { readonly crlf?: boolean | undefined }): Framing => {
  const policy = tooLongOf(options)
  const ending = options.crlf === true ? "\r\n" : "\n"
  const mark = utf8(ending)
  return ours({
    name: "lines",
    skips: policy.skips,
    decoder: (limit) => decoder(limit, policy),
    encode: (payload) => isLine(payload) ? Result.succeed(withMark(payload, mark)) : notLine(),
    encodedSize: (payload) => isLine(payload) ? payload.length + mark.length : -1,
    encodeInto(payload, target, at) {
      target.set(payload, at)
      target.set(mark, at + payload.length)
    },
    encodeText: (payload) =>
      payload.includes("\n") || payload.endsWith("\r") ? notLine() : Result.succeed(utf8(payload + ending))
  })
}
