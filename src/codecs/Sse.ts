/**
 * Server-sent events as the lines of `text/event-stream`: what a server writes and a client reads in the body of a response.
 *
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"
import type { CodecReason } from "../ConnectionError.ts"
import { scanned, type Scanner } from "./internal/scanned.ts"
import { bytesOf, CR, invalid, LF, textOf } from "./internal/text.ts"

/**
 * A block of lines. `Event`: what an `EventSource` dispatches; its `event` is `"message"` where none is named. `Comment`: a block
 * without data, such as a comment that keeps a connection open.
 *
 * `id` and `retry` (milliseconds until the next try) are there where the block has them.
 *
 * @category models
 * @since 0.1.0
 */
export type Message =
  | {
    readonly _tag: "Event"
    readonly event: string
    readonly data: string
    readonly id?: string
    readonly retry?: number
  }
  | { readonly _tag: "Comment"; readonly text: string; readonly id?: string; readonly retry?: number }

/** A frame ends with a blank line; those before it are passed over, as an end of line may come in two pieces. */
const scanner = (): Scanner => {
  let at = 0
  let hasText = false
  let isLineStart = true
  const reset = () => {
    at = 0
    hasText = false
    isLineStart = true
  }
  return {
    least: 0,
    // at once: a blank line that keeps the connection open is no frame that has begun
    passed(bytes, start) {
      if (at > 0) return 0
      const end = bytes.length
      let to = start
      while (to < end && (bytes[to] === CR || bytes[to] === LF)) to++
      return to - start
    },
    scan(bytes, start) {
      const end = bytes.length
      while (start + at < end) {
        const byte = bytes[start + at]!
        if (byte !== CR && byte !== LF) {
          hasText = true
          isLineStart = false
          at++
          continue
        }
        // a return and a line feed are one end
        const isPair = byte === CR && start + at + 1 < end && bytes[start + at + 1] === LF
        // the line feed of a pair may still come: it belongs to the line whose return has come
        if (byte === CR && start + at + 1 === end && !isLineStart) return 0
        at += isPair ? 2 : 1
        if (isLineStart && hasText) {
          const found = start + at
          reset()
          return found
        }
        isLineStart = true
      }
      return 0
    }
  }
}

const decode = (frame: Uint8Array | string): Result.Result<Message, CodecReason> => {
  const text = textOf(bytesOf(frame))
  if (text === undefined) return Result.fail(invalid("decode", "SSE", "it is not UTF-8"))
  const data: Array<string> = []
  const comments: Array<string> = []
  let event = ""
  let id: string | undefined
  let retry: number | undefined
  for (const line of text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/)) {
    const colon = line.indexOf(":")
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1)
    if (name === "data") data.push(value)
    else if (name === "event") event = value
    else if (name === "id" && !value.includes("\0")) id = value
    else if (name === "retry" && /^\d{1,15}$/.test(value)) retry = Number(value)
    else if (name === "" && colon === 0) comments.push(value)
  }
  const more = { ...(id === undefined ? {} : { id }), ...(retry === undefined ? {} : { retry }) }
  return Result.succeed(
    data.length === 0
      ? { _tag: "Comment", text: comments.join("\n"), ...more }
      : { _tag: "Event", event: event === "" ? "message" : event, data: data.join("\n"), ...more }
  )
}

const linesOf = (name: string, text: string): string =>
  text.split(/\r\n|\r|\n/).map((line) => `${name}: ${line}\n`).join("")

const isLine = (text: string): boolean => !/[\r\n]/.test(text)

const isWhole = (text = ""): boolean => text.isWellFormed()

const isText = (message: Message): boolean =>
  isWhole(message.id) &&
  (message._tag === "Comment" ? isWhole(message.text) : isWhole(message.event) && isWhole(message.data))

// it is read back with up to 15 digits
const isRetry = (retry: number): boolean => retry >= 0 && Math.round(retry) < 1e15

const encode = (message: Message): Result.Result<string, CodecReason> => {
  if (!isText(message)) return Result.fail(invalid("encode", "SSE", "a text has half a surrogate pair"))
  if (message.retry !== undefined && !isRetry(message.retry)) {
    return Result.fail(invalid("encode", "SSE", `retry is a number of milliseconds, got ${message.retry}`))
  }
  const { id: known = "" } = message
  if (!isLine(known) || known.includes("\0") || (message._tag === "Event" && !isLine(message.event))) {
    return Result.fail(invalid("encode", "SSE", "an id and the name of an event are one line, and an id has no U+0000"))
  }
  const id = message.id === undefined ? "" : `id: ${message.id}\n`
  const retry = message.retry === undefined ? "" : `retry: ${Math.round(message.retry)}\n`
  if (message._tag === "Comment") return Result.succeed(`${linesOf("", message.text)}${id}${retry}\n`)
  const event = message.event === "message" ? "" : `event: ${message.event}\n`
  return Result.succeed(`${event}${id}${retry}${linesOf("data", message.data)}\n`)
}

/**
 * Makes the codec, which is the same at both ends.
 *
 * **Details**
 *
 * A block is bounded by `maxFrame`. Lines may end with `\n`, `\r\n` or `\r`; unknown fields are passed over, and a byte order mark
 * too.
 *
 * **Gotchas**
 *
 * A line end in `data` comes back as `\n`. What is left at the end of a stream without a blank line is `Truncated`; an
 * `EventSource` drops it.
 *
 * **Example** (The bytes of an event)
 *
 * ```ts
 * import { Codec } from "holdfast"
 * import { Sse } from "holdfast/codecs"
 *
 * Codec.encode(Sse.make(), { _tag: "Event", event: "price", data: "1.5" }) // event: price\ndata: 1.5\n\n
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: { readonly maxFrame?: number | undefined } = {}): Codec.Codec<Message> =>
  Codec.make<Message>({
    framing: scanned("sse", scanner),
    payload: { form: "text", content: "value", decode, encode },
    maxFrame: options.maxFrame
  })
