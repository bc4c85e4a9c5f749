/** Pairs and raw peers on the host of this process, for faults that need no wire. */
import * as Net from "node:net"
import type { Way } from "../fault.ts"
import { atEnd } from "./cleanUp.ts"
import type { Limits, Pair, Stage } from "./Stage.ts"

/** A server and a client here, connected; both real commands. */
export const onThisHost = async (
  stage: Stage,
  way: Way,
  limits: { readonly server?: Limits; readonly client?: Limits } = {}
): Promise<Pair> => {
  const { port, program: server, url } = await stage.serve(way, { limits: limits.server })
  return { way, server, client: await stage.connect(way, url, { limits: limits.client }), port }
}

/** A socket of ours that does what no client of the library would. */
export interface RawPeer {
  readonly conn: Net.Socket
  /** All it read. */
  bytes: number
  text: string
  /** When its connection was over, by `performance.now()`. */
  endedAt: number | undefined
  readonly end: () => void
}

export const rawPeer = (port: number): Promise<RawPeer> =>
  new Promise((resolve, reject) => {
    const conn = Net.connect({ host: "127.0.0.1", port })
    const undo = atEnd(() => conn.destroy())
    const peer: RawPeer = { conn, bytes: 0, text: "", endedAt: undefined, end: undo }
    conn.on("data", (data) => {
      peer.bytes += data.length
      if (peer.text.length < 10_000) peer.text += data.toString("latin1")
    })
    conn.on("end", () => peer.endedAt ??= performance.now())
    conn.on("close", () => {
      peer.endedAt ??= performance.now()
      undo()
    })
    conn.on("error", reject)
    conn.on("connect", () => resolve(peer))
  })

const greetings: Partial<Record<Way, Uint8Array>> = {
  WebSocket: Buffer.from(
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
  ),
  // HELLO: pings every 25 s, bears 60 s of silence
  native: Buffer.from("0000000d0148460101000061a80000ea60", "hex")
}

/** What a client says first; nothing over TCP. */
export const greetingOf = (way: Way): Uint8Array => greetings[way] ?? new Uint8Array(0)

/** A message as it is on the wire, from a client. */
export const framed = (way: Way, message: string): Uint8Array => {
  const body = Buffer.from(message)
  if (way === "native") {
    const frame = Buffer.alloc(5 + body.length)
    frame.writeUInt32BE(1 + body.length)
    frame[4] = 5
    frame.set(body, 5)
    return frame
  }
  if (way !== "WebSocket") return Buffer.from(`${message}\n`)
  // masked with zeros
  const head = body.length < 126
    ? Buffer.from([0x81, 0x80 | body.length])
    : Buffer.from([0x81, 0x80 | 126, body.length >> 8, body.length & 255])
  return Buffer.concat([head, Buffer.alloc(4), body])
}

/** A protocol ping as it is on the wire, from a client. */
export const pingFrame = (way: Way): Uint8Array =>
  way === "native"
    ? Buffer.from("0000000d03000000070000000000000000", "hex")
    : way === "WebSocket"
    ? Buffer.from([0x89, 0x80, 0, 0, 0, 0])
    : Buffer.from("ping\n")
