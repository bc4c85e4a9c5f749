/** Lines of text. */
import * as Result from "effect/Result"
import type { CodecReason, FrameTooLong } from "../../../ConnectionError.ts"
import { InvalidMessage } from "../../../ConnectionError.ts"
import { textOf, utf8 } from "../../bytes/utf8.ts"
import type { FrameDecoder, Framing, FramingOptions, TooLong } from "../framing.ts"
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
const decoder = (limit: number, policy: TooLong): FrameDecoder => {
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
    const error = lines.scan(chunk.subarray(from, to), chunk.length, frames, skipped)
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
      // the rest of a line that has begun, then complete lines, then the start of one
      const last = chunk.lastIndexOf(LF) + 1
      const first = lines.pending > 0 && last > 0 ? chunk.indexOf(LF) + 1 : 0
      let error = oneByOne(chunk, 0, first, texts, skipped)
      if (error === undefined && first < last) {
        const run = chunk.subarray(first, last - 1)
        const text = fits(run, limit) ? textOf(run) : undefined
        if (text === undefined) error = oneByOne(chunk, first, last, texts, skipped)
        else {
          const returns = text.includes("\r")
          for (const line of text.split("\n")) texts.push(returns && line.endsWith("\r") ? line.slice(0, -1) : line)
        }
      }
      return error ?? oneByOne(chunk, last, chunk.length, texts, skipped)
    }
  }
}

export const lines = (options: FramingOptions & { readonly crlf?: boolean | undefined }): Framing => {
  const policy = tooLongOf(options)
  const ending = options.crlf === true ? "\r\n" : "\n"
  const mark = utf8(ending)
  return ours({
    name: "lines",
    skips: policy.skips,
    decoder: (limit) => decoder(limit, policy),
    encode: (payload) =>
      payload.includes(LF) || payload[payload.length - 1] === CR
        ? notLine()
        : Result.succeed(withMark(payload, mark)),
    encodeText: (payload) =>
      payload.includes("\n") || payload.endsWith("\r") ? notLine() : Result.succeed(utf8(payload + ending))
  })
}
