/**
 * The protocol of NATS, as a client speaks it: publish, subscribe, messages with headers, pings.
 *
 * Use it for a client of a NATS server. The server sends `Info` first, and pings; give the connection
 * `Heartbeat.tagged("Ping", "Pong")`, which answers.
 *
 * @see https://docs.nats.io/reference/reference-protocols/nats-protocol
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"
import type { CodecReason } from "../ConnectionError.ts"
import { isTooDeep, weigh as weightOf } from "../internal/codec/jsonDepth.ts"
import { guarded } from "../internal/codec/payload.ts"
import { defaultMaxDecoded, type Scale } from "../internal/codec/room.ts"
import { scanned, type Scanner } from "./internal/scanned.ts"
import {
  bytesOf,
  countAt,
  CR,
  invalidLength,
  joined,
  LF,
  shown,
  textOf,
  utf8,
  utf8Exact,
  weigh
} from "./internal/text.ts"

/**
 * What a server sends. `headers` is the block of headers as it came, from `NATS/1.0` on.
 *
 * @category models
 * @since 0.1.0
 */
export type FromServer =
  | { readonly _tag: "Info"; readonly info: { readonly [key: string]: unknown } }
  | {
    readonly _tag: "Message"
    readonly subject: string
    readonly sid: string
    readonly reply?: string
    readonly headers?: string
    readonly payload: Uint8Array
  }
  | { readonly _tag: "Ping" }
  | { readonly _tag: "Pong" }
  | { readonly _tag: "Ok" }
  | { readonly _tag: "Err"; readonly message: string }

/**
 * What a client sends.
 *
 * @category models
 * @since 0.1.0
 */
export type FromClient =
  | { readonly _tag: "Connect"; readonly options: { readonly [key: string]: unknown } }
  | {
    readonly _tag: "Publish"
    readonly subject: string
    readonly reply?: string | undefined
    /** A block of headers: `NATS/1.0\r\nName: value\r\n\r\n`. */
    readonly headers?: string | undefined
    readonly payload: Uint8Array | string
  }
  | {
    readonly _tag: "Subscribe"
    readonly subject: string
    readonly queue?: string | undefined
    readonly sid: string
  }
  | { readonly _tag: "Unsubscribe"; readonly sid: string; readonly max?: number | undefined }
  | { readonly _tag: "Ping" }
  | { readonly _tag: "Pong" }

// a longer control line is none: the server's own limit is 4096
const mostLine = 8192
// INFO has the addresses of a cluster
const mostInfo = 65_536

/** The words of a control line, and the size of what follows it: -1 where it is no such line. */
const sizeAfter = (words: ReadonlyArray<string>): number => {
  const last = words.at(-1)!
  switch (words[0]!.toUpperCase()) {
    case "MSG":
      return words.length === 4 || words.length === 5 ? countAt(utf8(last), 0, last.length) : -1
    case "HMSG":
      return words.length === 5 || words.length === 6 ? countAt(utf8(last), 0, last.length) : -1
    default:
      return 0
  }
}

const hasPayload = (word: string): boolean => word === "MSG" || word === "HMSG"

const scanner = (): Scanner => {
  // where the frame ends, once its line is known; and how far the line was looked at
  let size = 0
  let seen = 0
  return {
    get least() {
      return size
    },
    scan(bytes, start) {
      const end = bytes.length
      if (size === 0) {
        const lineFeed = bytes.indexOf(LF, start + seen)
        if (lineFeed < 0) {
          seen = end - start
          const most = bytes[start] === 73 || bytes[start] === 105 ? mostInfo : mostLine
          return seen > most ? invalidLength(`a line of more than ${most} bytes`) : 0
        }
        const to = lineFeed > start && bytes[lineFeed - 1] === CR ? lineFeed - 1 : lineFeed
        const line = textOf(bytes.subarray(start, Math.min(to, start + mostLine))) ?? ""
        const words = line.trim().split(/[ \t]+/)
        const after = sizeAfter(words)
        if (after < 0) return invalidLength(`not a message: ${shown(bytes, start, to)}`)
        size = lineFeed + 1 - start + (hasPayload(words[0]!.toUpperCase()) ? after + 2 : 0)
      }
      if (start + size > end) return 0
      const found = start + size
      size = 0
      seen = 0
      return found
    }
  }
}

const leftOver = "bytes are left over"

const unquoted = (text: string): string => text.replace(/^'(.*)'$/s, "$1")

const message = (frame: Uint8Array, words: ReadonlyArray<string>, at: number): FromServer | string => {
  const withHeaders = words[0]!.toUpperCase() === "HMSG"
  const counts = withHeaders ? 2 : 1
  const total = sizeAfter(words)
  if (total < 0) return "a message without its words, or its size"
  const headerSize = withHeaders ? countAt(utf8(words.at(-2)!), 0, words.at(-2)!.length) : 0
  if (headerSize < 0 || headerSize > total) return "the headers are longer than the message"
  if (frame[at + total] !== CR || frame[at + total + 1] !== LF) return "the payload has another length"
  if (at + total + 2 < frame.length) return leftOver
  const headers = withHeaders ? textOf(frame.subarray(at, at + headerSize)) : undefined
  if (withHeaders && headers === undefined) return "the headers are not UTF-8"
  const reply = words.length === 4 + counts ? words[3] : undefined
  return {
    _tag: "Message",
    subject: words[1]!,
    sid: words[2]!,
    ...(reply === undefined ? {} : { reply }),
    ...(headers === undefined ? {} : { headers }),
    payload: frame.subarray(at + headerSize, at + total)
  }
}

const parse = (frame: Uint8Array, scale: Scale | undefined): FromServer | string => {
  const lineFeed = frame.indexOf(LF)
  if (lineFeed < 0) return "it ends inside a line"
  const text = textOf(frame.subarray(0, lineFeed))
  if (text === undefined) return "the line is not UTF-8"
  const line = text.trim()
  const words = line.split(/[ \t]+/)
  const verb = words[0]!.toUpperCase()
  if (hasPayload(verb)) return message(frame, words, lineFeed + 1)
  if (lineFeed + 1 < frame.length) return leftOver
  switch (verb) {
    case "PING":
      return { _tag: "Ping" }
    case "PONG":
      return { _tag: "Pong" }
    case "+OK":
      return { _tag: "Ok" }
    case "-ERR":
      return { _tag: "Err", message: unquoted(line.slice(4).trim()) }
    case "INFO": {
      const json = line.slice(4).trim()
      if (isTooDeep(json)) return "INFO is too deep"
      weigh(scale, weightOf(json, scale?.most ?? defaultMaxDecoded))
      const info: unknown = JSON.parse(json)
      return typeof info === "object" && info !== null && !Array.isArray(info)
        ? { _tag: "Info", info: info as { readonly [key: string]: unknown } }
        : "INFO holds no object"
    }
    default:
      return `unknown: ${JSON.stringify(line.slice(0, 24))}`
  }
}

const decode = (frame: Uint8Array | string, scale?: Scale): Result.Result<FromServer, CodecReason> =>
  guarded("decode", "NATS", () => {
    const parsed = parse(bytesOf(frame), scale)
    return typeof parsed === "string" ? Result.fail(parsed) : Result.succeed(parsed)
  })

/** A word of a control line: anything with white space in it would be another command. */
const word = (text: string): string => {
  // control characters are what it looks for
  // oxlint-disable-next-line no-control-regex
  if (text === "" || /[\s\u0000]/.test(text)) {
    throw new Error(`no white space may be in ${JSON.stringify(text.slice(0, 40))}`)
  }
  if (!text.isWellFormed()) throw new Error("a text has half a surrogate pair")
  return text
}

/** After how many messages a subscription ends. */
const most = (max: number): number => {
  if (!Number.isSafeInteger(max) || max < 0) throw new Error(`max is a number of messages, got ${max}`)
  return max
}

const write = (message: FromClient): Uint8Array => {
  switch (message._tag) {
    case "Connect":
      return utf8Exact(`CONNECT ${JSON.stringify(message.options)}\r\n`)
    case "Publish": {
      const payload = typeof message.payload === "string" ? utf8Exact(message.payload) : message.payload
      const reply = message.reply === undefined ? "" : ` ${word(message.reply)}`
      const to = `${word(message.subject)}${reply}`
      if (message.headers === undefined) return joined([utf8(`PUB ${to} ${payload.length}\r\n`), payload, utf8("\r\n")])
      const headers = utf8Exact(message.headers)
      const sizes = `${headers.length} ${headers.length + payload.length}`
      return joined([utf8(`HPUB ${to} ${sizes}\r\n`), headers, payload, utf8("\r\n")])
    }
    case "Subscribe": {
      const queue = message.queue === undefined ? "" : ` ${word(message.queue)}`
      return utf8(`SUB ${word(message.subject)}${queue} ${word(message.sid)}\r\n`)
    }
    case "Unsubscribe":
      return utf8(`UNSUB ${word(message.sid)}${message.max === undefined ? "" : ` ${most(message.max)}`}\r\n`)
    case "Ping":
      return utf8("PING\r\n")
    case "Pong":
      return utf8("PONG\r\n")
  }
}

const encode = (message: FromClient): Result.Result<Uint8Array, CodecReason> =>
  guarded("encode", "NATS", () => Result.succeed(write(message)))

/**
 * Makes the codec of a client.
 *
 * **Details**
 *
 * A control line has 8 KiB at the most, `INFO` 64 KiB and `Policy.maxDecoded` in memory. A message is bounded by `maxFrame` from its announced size on, line included.
 *
 * **Gotchas**
 *
 * The payload of a message is a view of what was read: copy what is kept for long. A subject, a queue or an id with white space
 * in it is refused, as it would be another command.
 *
 * **Example** (Subscribe, and publish)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Connection, Heartbeat } from "holdfast"
 * import { Nats } from "holdfast/codecs"
 * import { Dialer } from "holdfast/node"
 *
 * const open = Connection.make({ codec: Nats.make(), heartbeat: Heartbeat.tagged("Ping", "Pong") })
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const nats = yield* open(yield* Dialer.make("tcp://127.0.0.1:4222"))
 *   yield* nats.send({ _tag: "Connect", options: { verbose: false, headers: true } })
 *   yield* nats.send({ _tag: "Subscribe", subject: "greet.*", sid: "1" })
 *   yield* nats.send({ _tag: "Publish", subject: "greet.joe", payload: "hello" })
 *   yield* Stream.runForEach(Connection.messages(nats), (message) => Effect.log(message._tag))
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: { readonly maxFrame?: number | undefined } = {}
): Codec.Codec<FromServer, FromClient> =>
  Codec.make<FromServer, FromClient>({
    framing: scanned("nats", scanner),
    payload: { form: "bytes", content: "value", decode, encode },
    maxFrame: options.maxFrame
  })
