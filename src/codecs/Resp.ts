/**
 * RESP 2 and 3, the protocol of Redis and Valkey: commands out, replies in.
 *
 * Use it for a client of Redis: with `Request` over a `ConnectionPool` for commands, with a `Connection` of its own for
 * subscriptions. Nothing of RESP 3 comes until the client has sent `HELLO 3`.
 *
 * @see https://redis.io/docs/latest/develop/reference/protocol-spec/
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"
import type { CodecReason } from "../ConnectionError.ts"
import { guarded } from "../internal/codec/payload.ts"
import type { Scale } from "../internal/codec/room.ts"
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
 * What Redis answers to a command that it refuses: `WRONGTYPE ...`, `ERR unknown command ...`.
 *
 * @category models
 * @since 0.1.0
 */
export class Refusal {
  readonly message: string
  constructor(message: string) {
    this.message = message
  }
}

/**
 * What comes without being asked for (RESP 3): a message of a subscription, an invalidation of a cache.
 *
 * @category models
 * @since 0.1.0
 */
export class Push {
  readonly values: ReadonlyArray<Reply>
  constructor(values: ReadonlyArray<Reply>) {
    this.values = values
  }
}

/**
 * A reply. Integers beyond 2^53 and big numbers are `bigint`; a bulk string is text, or bytes with `bulk: "bytes"`; attributes
 * are left out.
 *
 * @category models
 * @since 0.1.0
 */
export type Reply =
  | string
  | number
  | bigint
  | boolean
  | null
  | Uint8Array
  | Refusal
  | Push
  | ReadonlyArray<Reply>
  | ReadonlyMap<Reply, Reply>
  | ReadonlySet<Reply>

/**
 * A command: its name, and its arguments.
 *
 * @category models
 * @since 0.1.0
 */
export type Command = ReadonlyArray<string | number | Uint8Array>

/**
 * How replies are read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** What a bulk string is: UTF-8 text (`"text"`, the default), or its bytes (`"bytes"`). */
  readonly bulk?: "text" | "bytes" | undefined
  /** The most bytes of one reply. Default: that of the policy. */
  readonly maxFrame?: number | undefined
}

/** Replies nest a few levels; a peer that nests a million wants our stack. */
const maxDepth = 32

const code = (char: string): number => char.charCodeAt(0)
const bulks = new Set(["$", "!", "="].map(code))
const lists = new Set(["*", "~", ">"].map(code))
const maps = new Set(["%", "|"].map(code))
const lines = new Set(["+", "-", ":", "_", "#", ",", "("].map(code))
const attribute = code("|")

/** Where the line from `at` on ends, at its return; -1 when that, or what follows it, has not come. */
const lineEnd = (bytes: Uint8Array, at: number): number => {
  const found = bytes.indexOf(CR, at)
  return found + 1 < bytes.length ? found : -1
}

const isNull = (bytes: Uint8Array, from: number, to: number): boolean =>
  to - from === 2 && bytes[from] === code("-") && bytes[from + 1] === code("1")

const scanner = (): Scanner => {
  // the next element begins here, after the start of the frame, and so many are missing
  let at = 0
  let missing = 1
  let least = 0
  // so far there is no end of that element's line
  let seen = 0
  return {
    get least() {
      return least
    },
    scan(bytes, start) {
      const end = bytes.length
      while (start + at < end) {
        const from = start + at
        const kind = bytes[from]!
        const to = lineEnd(bytes, Math.max(from, start + seen))
        if (to < 0) {
          // a line that only grows is bounded by the frame
          least = at + 1
          seen = end - start - 1
          return 0
        }
        if (bytes[to + 1] !== LF) return invalidLength(`a line without its end: ${shown(bytes, from, end)}`)
        let next = to + 2 - start
        let more = 0
        if (!lines.has(kind)) {
          const count = isNull(bytes, from + 1, to) ? 0 : countAt(bytes, from + 1, to)
          if (count < 0) return invalidLength(`not a count: ${shown(bytes, from, to)}`)
          if (bulks.has(kind)) next += isNull(bytes, from + 1, to) ? 0 : count + 2
          else if (lists.has(kind)) more = count
          // what an attribute belongs to comes behind it
          else if (maps.has(kind)) more = 2 * count + (kind === attribute ? 1 : 0)
          else return invalidLength(`not a reply: ${shown(bytes, from, to)}`)
        }
        // every element has at least 3 bytes: what is announced is bounded before it comes
        least = next + (missing - 1 + more) * 3
        if (start + next > end) return 0
        at = next
        missing += more - 1
        if (missing > 0) continue
        at = 0
        seen = 0
        missing = 1
        least = 0
        return start + next
      }
      return 0
    }
  }
}

/** What values take in memory besides their place, in bytes. Measured on Node 24; a place in a list has 8. */
const weights = { text: 24, object: 24, double: 16, bigint: 24, view: 104, list: 48, map: 192 } as const

/** V8 finds numbers in a map by a hash without a seed: a peer may choose such as are all found in one place, one after the other. */
const mostNumbers = 1024

/** An integer of so many digits lies in its place. */
const mostSmall = 9

/** Of an integer of 64 bits, with its sign. */
const mostDigits = 20

const double = /^[+-]?\d+(\.\d*)?(e[+-]?\d+)?$/i

/** A number as RESP 3 writes it. */
const doubleOf = (line: string): number => {
  if (line === "inf") return Infinity
  if (line === "-inf") return -Infinity
  // older versions write its sign
  if (line === "nan" || line === "-nan") return Number.NaN
  if (!double.test(line)) throw new Error(`not a number: ${line.slice(0, 20)}`)
  return Number(line)
}

/** Reads one frame, which may come from a transport that keeps messages apart: its lengths may be wrong. It throws a sentence. */
class Reader {
  private readonly bytes: Uint8Array
  private readonly isText: boolean
  private readonly scale: Scale | undefined
  private at = 0

  constructor(bytes: Uint8Array, isText: boolean, scale: Scale | undefined) {
    this.bytes = bytes
    this.isText = isText
    this.scale = scale
  }

  private line(from: number, to: number): string {
    const text = textOf(this.bytes.subarray(from, to))
    if (text === undefined) throw new Error("a text is not UTF-8")
    return text
  }

  private text(from: number, to: number): string {
    weigh(this.scale, weights.text)
    return this.line(from, to)
  }

  private refusal(from: number, to: number): Refusal {
    weigh(this.scale, weights.object)
    return new Refusal(this.text(from, to))
  }

  private many(count: number, depth: number): Array<Reply> {
    weigh(this.scale, weights.list + 8 * count)
    // one that grows by `push` has 16 places that are never used
    // oxlint-disable-next-line unicorn/no-new-array
    const all = new Array<Reply>(count)
    for (let i = 0; i < count; i++) all[i] = this.element(depth + 1)
    return all
  }

  private members(count: number, depth: number): Set<Reply> {
    weigh(this.scale, weights.map + 36 * count)
    const all = new Set<Reply>()
    for (let i = 0; i < count; i++) all.add(this.key(depth + 1, i))
    return all
  }

  /** A key of a map or a member of a set, behind so many others. */
  private key(depth: number, others: number): Reply {
    const key = this.element(depth)
    if (others >= mostNumbers && (typeof key === "number" || typeof key === "bigint")) {
      throw new Error(`a number as a key behind ${mostNumbers} others`)
    }
    return key
  }

  private pairs(count: number, depth: number): Map<Reply, Reply> {
    weigh(this.scale, weights.map + 64 * count)
    const all = new Map<Reply, Reply>()
    for (let i = 0; i < count; i++) all.set(this.key(depth + 1, i), this.element(depth + 1))
    return all
  }

  private bulk(kind: string, count: number): Reply {
    const { bytes } = this
    const from = this.at
    const to = from + count
    this.at = to + 2
    if (bytes[to] !== CR || bytes[to + 1] !== LF) throw new Error("a bulk string has another length")
    if (kind === "!") return this.refusal(from, to)
    if (kind === "=") {
      // its format is in front: `txt:`
      if (count < 4 || bytes[from + 3] !== code(":")) throw new Error("a verbatim string without its format")
      return this.text(from + 4, to)
    }
    if (this.isText) return this.text(from, to)
    weigh(this.scale, weights.view)
    return bytes.subarray(from, to)
  }

  private simple(kind: string, from: number, to: number): Reply {
    if (kind === "-") return this.refusal(from, to)
    if (kind === "+") return this.text(from, to)
    const line = this.line(from, to)
    switch (kind) {
      case "_":
        if (line !== "") throw new Error("a null with text")
        return null
      case "#":
        if (line !== "t" && line !== "f") throw new Error(`neither t nor f: ${line.slice(0, 20)}`)
        return line === "t"
      case ",":
        weigh(this.scale, weights.double)
        return doubleOf(line)
      default: {
        if (!/^[+-]?\d+$/.test(line)) throw new Error(`not a number: ${line.slice(0, 20)}`)
        if (kind !== ":" || to - from > mostSmall) weigh(this.scale, weights.bigint)
        const number = Number(line)
        if (kind !== ":") return BigInt(line)
        if (Number.isSafeInteger(number)) return number
        // more digits take more time than they have bytes
        const integer = line.length > mostDigits ? undefined : BigInt(line)
        if (integer === undefined || BigInt.asIntN(64, integer) !== integer) {
          throw new Error("an integer of more than 64 bits")
        }
        return integer
      }
    }
  }

  private element(depth: number): Reply {
    if (depth > maxDepth) throw new Error(`it is nested over ${maxDepth} levels`)
    const { bytes } = this
    const end = lineEnd(bytes, this.at)
    if (end < 0 || bytes[end + 1] !== LF) throw new Error("it ends inside a value")
    const kind = String.fromCharCode(bytes[this.at]!)
    const from = this.at + 1
    this.at = end + 2
    if (lines.has(code(kind))) return this.simple(kind, from, end)
    if (isNull(bytes, from, end)) return null
    const count = countAt(bytes, from, end)
    // each element has 3 bytes at least: no more is allocated than has come
    if (count < 0 || count > bytes.length) throw new Error("not a count")
    switch (kind) {
      case "*":
        return this.many(count, depth)
      case ">":
        weigh(this.scale, weights.object)
        return new Push(this.many(count, depth))
      case "~":
        return this.members(count, depth)
      case "%":
        return this.pairs(count, depth)
      case "|":
        this.pairs(count, depth)
        return this.element(depth + 1)
      case "$":
      case "!":
      case "=":
        return this.bulk(kind, count)
      default:
        throw new Error("not a reply")
    }
  }

  reply(): Reply {
    const reply = this.element(0)
    if (this.at < this.bytes.length) throw new Error("bytes are left over")
    return reply
  }
}

const read = (frame: Uint8Array | string, isText: boolean, scale?: Scale): Result.Result<Reply, CodecReason> =>
  guarded("decode", "RESP", () => Result.succeed(new Reader(bytesOf(frame), isText, scale).reply()))

const write = (command: Command): Result.Result<Uint8Array, CodecReason> =>
  guarded("encode", "RESP", () => {
    if (command.length === 0) return Result.fail("a command has a name")
    const parts = [utf8(`*${command.length}\r\n`)]
    for (const part of command) {
      const bytes = part instanceof Uint8Array ? part : utf8Exact(String(part))
      parts.push(utf8(`$${bytes.length}\r\n`), bytes, utf8("\r\n"))
    }
    return Result.succeed(joined(parts))
  })

/**
 * Makes the codec of a client.
 *
 * **Details**
 *
 * A reply is bounded by `maxFrame` in bytes, by what its announced lengths come to before it has come, and by
 * `Policy.maxDecoded` in memory. It nests 32 levels at the most.
 *
 * **Gotchas**
 *
 * With `bulk: "bytes"` the bytes are views of what was read: copy what is kept for long. Streamed strings and aggregates of RESP
 * 3, which Redis does not send, are refused.
 *
 * **Example** (A command)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection, Request } from "holdfast"
 * import { Resp } from "holdfast/codecs"
 * import { Dialer } from "holdfast/node"
 *
 * const redis = Connection.make({ codec: Resp.make() })
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:6379")), redis)
 *
 * const program = Request.once(open, ["SET", "answer", 42])
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Codec.Codec<Reply, Command> => {
  const isText = options.bulk !== "bytes"
  return Codec.make<Reply, Command>({
    framing: scanned("resp", scanner),
    payload: {
      form: "bytes",
      content: "value",
      decode: (frame, scale) => read(frame, isText, scale),
      encode: write
    },
    maxFrame: options.maxFrame
  })
}
