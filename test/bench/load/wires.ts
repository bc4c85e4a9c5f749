/** What goes over the wire for each family of servers: requests, replies, and what a client has to answer by itself. */
import { randomBytes } from "node:crypto"

/**
 * `frames`: a 4-byte length on TCP; `messages`: binary WebSocket messages; `events`: socket.io over WebSocket; `calls`: Effect's
 * RPC, a line of JSON each.
 */
export type Family = "frames" | "messages" | "events" | "calls"

/** One frame's header, as far as it has come. */
interface Header {
  /** Bytes of the header itself; 0 when there are not enough of them yet. */
  length: number
  size: number
  opcode: number
}

export interface Wire {
  readonly request: Buffer
  /** What the server must answer to it, byte by byte. */
  readonly reply: Buffer
  /** The size of a reply's body, by which replies are told from everything else. */
  readonly replySize: number
  /** Sent once connected, before anything else. */
  readonly greeting: Buffer | undefined
  /** The next thing to say while connecting, given all that came: `""` for nothing yet, `undefined` when connected. */
  readonly greet: (received: string) => string | Buffer | undefined
  readonly header: (data: Buffer, at: number, end: number, into: Header) => void
  /** The answer to a small frame that is no reply, or `undefined` for one that nobody should send. */
  readonly answer: (opcode: number, body: Buffer) => Buffer | undefined
}

const binary = 2
const text = 1
const ping = 9
const pong = 10

const framed = (body: Uint8Array): Buffer => {
  const frame = Buffer.allocUnsafe(4 + body.length)
  frame.writeUInt32BE(body.length, 0)
  frame.set(body, 4)
  return frame
}

const frames = (size: number): Wire => {
  const request = framed(randomBytes(size))
  return {
    request,
    reply: request,
    replySize: size,
    greeting: undefined,
    greet: () => undefined,
    header: (data, at, end, into) => {
      into.length = end - at < 4 ? 0 : 4
      into.opcode = binary
      if (into.length > 0) into.size = data.readUInt32BE(at)
    },
    // a ping whose echo is its pong
    answer: (_, body) => (body.length === 8 ? framed(body) : undefined)
  }
}

// as a browser, we mask; the mask stays the same, so that a request can be written again and again
const mask = Buffer.from([0x5a, 0x13, 0xc7, 0x88])

const message = (opcode: number, body: Uint8Array, masked: boolean): Buffer => {
  if (body.length > 125) throw new Error("the load generator writes small WebSocket messages only")
  const start = masked ? 6 : 2
  const out = Buffer.allocUnsafe(start + body.length)
  out[0] = 0x80 | opcode
  out[1] = (masked ? 0x80 : 0) | body.length
  if (masked) out.set(mask, 2)
  for (let i = 0; i < body.length; i++) out[start + i] = masked ? body[i]! ^ mask[i & 3]! : body[i]!
  return out
}

const webSocketHeader: Wire["header"] = (data, at, end, into) => {
  into.length = 0
  if (end - at < 2) return
  into.opcode = data[at]! & 0xf
  const short = data[at + 1]! & 0x7f
  const length = short < 126 ? 2 : short === 126 ? 4 : 10
  if (end - at < length) return
  into.size = short < 126 ? short : short === 126 ? data.readUInt16BE(at + 2) : Number(data.readBigUInt64BE(at + 2))
  into.length = length
}

const upgrade = (path: string): Buffer =>
  Buffer.from(
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aG9sZGZhc3QgYmVuY2ggIQ==\r\n\r\n"
  )

const upgraded = (received: string): boolean => {
  if (!received.includes("\r\n\r\n")) return false
  if (!received.startsWith("HTTP/1.1 101")) throw new Error(`no upgrade: ${received.slice(0, 200)}`)
  return true
}

const messages = (size: number): Wire => {
  const body = randomBytes(size)
  return {
    request: message(binary, body, true),
    reply: message(binary, body, false),
    replySize: size,
    greeting: upgrade("/"),
    greet: (received) => (upgraded(received) ? undefined : ""),
    header: webSocketHeader,
    answer: (opcode, body) =>
      opcode === ping
        ? message(pong, body, true)
        : opcode === binary && body.length === 8
        ? message(binary, body, true)
        : undefined
  }
}

// engine.io 4 in front of socket.io 5: "40" connects, "42" is an event, "2" is a ping and "3" its pong
const events = (size: number): Wire => {
  const body = Buffer.from(`42["m","${randomBytes(size).toString("hex").slice(0, size)}"]`)
  const connect = message(text, Buffer.from("40"), true)
  return {
    request: message(text, body, true),
    reply: message(text, body, false),
    replySize: body.length,
    greeting: upgrade("/socket.io/?EIO=4&transport=websocket"),
    greet: (received) => {
      if (!upgraded(received)) return ""
      if (/40\{"sid":"[^"]+"\}/.test(received)) return undefined
      // the server's "0" with its settings is there, and we have not said "40" yet
      return received.includes("\"maxPayload\"") ? connect : ""
    },
    header: webSocketHeader,
    answer: (opcode, body) =>
      opcode === text && body.toString() === "2" ? message(text, Buffer.from("3"), true) : undefined
  }
}

const newline = 10

const line = (message: object): Buffer => Buffer.from(`${JSON.stringify(message)}\n`)

/** One call at a time: each has the same id, as no other one is open. */
const calls = (size: number): Wire => {
  const value = randomBytes(size).toString("hex").slice(0, size)
  return {
    request: line({ _tag: "Request", id: "1", tag: "Echo", payload: { text: value }, headers: [] }),
    reply: line({ _tag: "Exit", requestId: "1", exit: { _tag: "Success", value } }),
    // a line is all header: it ends where the next one begins
    replySize: 0,
    greeting: undefined,
    greet: () => undefined,
    header: (data, at, end, into) => {
      const length = data.indexOf(newline, at) + 1 - at
      into.length = length > 0 && at + length <= end ? length : 0
      into.size = 0
      into.opcode = text
    },
    answer: () => undefined
  }
}

const wires: Readonly<Record<Family, (size: number) => Wire>> = { frames, messages, events, calls }

export const wireOf = (family: Family, size: number): Wire => wires[family](size)
