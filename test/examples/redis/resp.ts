/** RESP2, the protocol of Redis, as a codec: commands out, replies in. https://redis.io/docs/reference/protocol-spec */
import { Effect, Result } from "effect"
import { Codec, type Connection, ConnectionError } from "holdfast"

/** What Redis answers a command that it refuses. */
export class Refusal {
  readonly message: string
  constructor(message: string) {
    this.message = message
  }
}

export type Reply = string | number | null | Refusal | ReadonlyArray<Reply>
export type Command = ReadonlyArray<string>

const CR = 13
const utf8 = new TextEncoder()
const text = new TextDecoder()

const wrong = (detail: string) => new ConnectionError.InvalidLength({ direction: "decode", detail })

/** Where the line that begins at `from` ends, without its end; -1 when that has not come. */
const lineEnd = (bytes: Uint8Array, from: number): number => {
  const at = bytes.indexOf(CR, from)
  return at >= 0 && at + 1 < bytes.length ? at : -1
}

/** A length or a count: -1 (null) or more. */
const countAt = (bytes: Uint8Array, from: number, to: number): number | undefined => {
  const digits = text.decode(bytes.subarray(from, to))
  return /^(-1|\d{1,10})$/.test(digits) ? Number(digits) : undefined
}

/** Finds where a reply ends. It remembers how far it came, so a reply in many pieces is not read again and again. */
const frames = (maxFrame: number): Codec.FrameDecoder => {
  let held: Uint8Array = new Uint8Array(0)
  // the next element begins here, and so many are missing
  let at = 0
  let missing = 1

  return {
    get pending() {
      return held.length
    },
    write(chunk, out) {
      if (held.length === 0) held = chunk
      else {
        const joined = new Uint8Array(held.length + chunk.length)
        joined.set(held)
        joined.set(chunk, held.length)
        held = joined
      }
      while (at < held.length) {
        const end = lineEnd(held, at)
        if (end < 0) break
        let next = end + 2
        const kind = String.fromCharCode(held[at]!)
        if (kind === "$" || kind === "*") {
          const count = countAt(held, at + 1, end)
          if (count === undefined) return wrong(`not a count: ${text.decode(held.subarray(at, at + 20))}`)
          if (kind === "*") missing += Math.max(0, count)
          else if (count >= 0) next += count + 2
        } else if (kind !== "+" && kind !== "-" && kind !== ":") {
          return wrong(`not a reply: ${text.decode(held.subarray(at, at + 20))}`)
        }
        // every element has at least 3 bytes: what is announced is bounded before it comes
        const least = next + (missing - 1) * 3
        if (least > maxFrame) {
          return new ConnectionError.FrameTooLong({ direction: "decode", size: least, limit: maxFrame })
        }
        if (next > held.length) break
        at = next
        if (--missing > 0) continue
        out.push(held.subarray(0, at))
        held = held.subarray(at)
        at = 0
        missing = 1
      }
      return held.length > maxFrame
        ? new ConnectionError.FrameTooLong({ direction: "decode", size: held.length, limit: maxFrame })
        : undefined
    }
  }
}

// Redis nests a few levels; a peer that nests a million wants our stack
const maxDepth = 32

/** Reads a frame, whose lengths have been checked; `undefined` when it is nested too deeply. */
const parse = (bytes: Uint8Array): Reply | undefined => {
  let at = 0
  let tooDeep = false
  const element = (depth: number): Reply => {
    tooDeep ||= depth > maxDepth
    if (tooDeep) return null
    const end = bytes.indexOf(CR, at)
    const kind = String.fromCharCode(bytes[at]!)
    const line = text.decode(bytes.subarray(at + 1, end))
    at = end + 2
    if (kind === "+") return line
    if (kind === "-") return new Refusal(line)
    if (kind === ":") return Number(line)
    const count = Number(line)
    if (count < 0) return null
    if (kind === "*") return Array.from({ length: count }, () => element(depth + 1))
    at += count + 2
    return text.decode(bytes.subarray(at - count - 2, at - 2))
  }
  const reply = element(0)
  return tooDeep ? undefined : reply
}

const decode = (frame: Uint8Array | string): Result.Result<Reply, ConnectionError.CodecReason> => {
  const reply = parse(typeof frame === "string" ? utf8.encode(frame) : frame)
  return reply !== undefined ? Result.succeed(reply) : Result.fail(
    new ConnectionError.InvalidMessage({
      direction: "decode",
      format: "RESP",
      detail: `nested over ${maxDepth} levels`
    })
  )
}

const write = (command: Command): Uint8Array =>
  utf8.encode(`*${command.length}\r\n${command.map((part) => `$${utf8.encode(part).length}\r\n${part}\r\n`).join("")}`)

export const resp: Codec.Codec<Reply, Command> = Codec.make<Reply, Command>({
  framing: { name: "resp", skips: false, decoder: frames, encode: Result.succeed },
  payload: {
    form: "bytes",
    content: "value",
    decode,
    encode: (command) => Result.succeed(write(command))
  }
})

/** A check for a pool. */
export const ping = (connection: Connection.Connection<Reply, Command>): Effect.Effect<void, unknown> =>
  Effect.andThen(connection.send(["PING"]), connection.receive).pipe(
    Effect.filterOrFail((reply) => reply === "PONG", (reply) => `not a pong: ${String(reply)}`),
    Effect.asVoid
  )
