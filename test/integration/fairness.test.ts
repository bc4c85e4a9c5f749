/** One peer that floods beside fifty that do not, with the command in a process of its own: what the fifty wait for their answers. */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { bundledProgram } from "../cli/support/bundle.ts"
import { serve, start } from "../cli/support/kit.ts"
import { isFull, isLong, long } from "../support/often.ts"

const flooder = fileURLToPath(new URL("./support/flooder.mjs", import.meta.url))
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64")
const ascii = (text: string) => Buffer.from(text)

const frame = (type: number, payload: Uint8Array) => {
  const bytes = Buffer.alloc(5 + payload.length)
  bytes.writeUInt32BE(1 + payload.length)
  bytes[4] = type
  bytes.set(payload, 5)
  return bytes
}
// masks of zeros leave the payload as it is
const masked = (opcode: number, payload: Uint8Array) =>
  Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0]), payload])

const upgrade = ascii(
  "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
const hello = frame(1, Buffer.from([0x48, 0x46, 1, 1, 0, 0, 0x61, 0xa8, 0, 0, 0xea, 0x60]))

const question = "what an honest client asks"
const word = "honest"

/** The port of a server in a process of its own: of the command with these flags, or of an HTTP server. */
const serveWith = async (flags: string | undefined): Promise<number> => {
  if (flags !== undefined) return (await serve(flags)).ports[0]!
  const file = await bundledProgram(fileURLToPath(new URL("./support/httpServer.ts", import.meta.url)))
  const server = start(process.execPath, [file])
  await server.says("\n")
  return Number(new URL(server.stdout.trim().replace("listening ", "")).port)
}

const get = (path: string) => ascii(`GET /${encodeURIComponent(path)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)

interface Way {
  readonly name: string
  /** Of the command. */
  readonly flags?: string
  readonly greeting: Uint8Array
  readonly message: (payload: Uint8Array) => Uint8Array
  readonly floods: Readonly<Record<string, Uint8Array>>
}

const ways: ReadonlyArray<Way> = [
  {
    name: "tcp",
    flags: "--listen tcp://127.0.0.1:0",
    greeting: new Uint8Array(0),
    message: (payload) => Buffer.concat([payload, ascii("\n")]),
    floods: { data: ascii(`${"x".repeat(60)}\n`), "1-byte messages": ascii("x\n"), pings: ascii("ping\n") }
  },
  {
    name: "ws",
    flags: "--listen ws://127.0.0.1:0",
    greeting: upgrade,
    message: (payload) => masked(1, payload),
    floods: {
      data: masked(1, ascii("x".repeat(60))),
      "1-byte messages": masked(1, ascii("x")),
      "WebSocket pings": masked(9, ascii("p"))
    }
  },
  {
    name: "native",
    flags: "--listen tcp://127.0.0.1:0 --protocol native --min-ping-every 0",
    greeting: hello,
    message: (payload) => frame(5, payload),
    floods: {
      data: frame(5, ascii("x".repeat(60))),
      "1-byte messages": frame(5, ascii("x")),
      pings: frame(3, new Uint8Array(12))
    }
  },
  {
    name: "http",
    greeting: new Uint8Array(0),
    message: (payload) => get(new TextDecoder().decode(payload)),
    floods: { "pipelined requests": get("x") }
  }
]

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** Fifty clients that ask every 20 ms: what 99 of 100 answers took at the most, in milliseconds. */
const measure = async (port: number, way: Way, millis: number): Promise<number> => {
  const took: Array<number> = []
  const clients = await Promise.all(Array.from({ length: 50 }, () =>
    new Promise<Net.Socket>((resolve) => {
      const conn = Net.connect(port, "127.0.0.1", () => resolve(conn))
      conn.setNoDelay(true)
      conn.on("error", () => {})
    })))
  for (const conn of clients) conn.write(way.greeting)
  await pause(200)
  const asked = new Map<Net.Socket, number>()
  for (const conn of clients) {
    conn.on("data", (chunk: Buffer) => {
      const at = asked.get(conn)
      if (at === undefined || !chunk.includes(word)) return
      asked.delete(conn)
      took.push(performance.now() - at)
    })
  }
  const message = way.message(ascii(question))
  const end = performance.now() + millis
  for (let n = 0; performance.now() < end; n++) {
    const conn = clients[n % clients.length]!
    if (!asked.has(conn)) {
      asked.set(conn, performance.now())
      conn.write(message)
    }
    if (n % 3 === 0) await pause(1)
  }
  await pause(200)
  const now = performance.now()
  for (const at of asked.values()) took.push(now - at)
  for (const conn of clients) conn.destroy()
  took.sort((a, b) => a - b)
  return took[Math.floor(took.length * 0.99)]!
}

/** What `npm run test:long` measures: one of each kind. `npm run test:goals` measures all of them. */
const chosen = new Set([
  "tcp, 1-byte messages, reads",
  "tcp, pings, never reads",
  "ws, 1-byte messages, reads",
  "ws, WebSocket pings, never reads",
  "native, pings, never reads",
  "http, pipelined requests, never reads"
])

/**
 * What counts as calm at least, in milliseconds. A server that is busy with a flood uses up its slice, and the scheduler of Linux lets another
 * process run for a tick of 4 ms (250 Hz); an idle server is never in its turn. On two processors with nothing else to do, the calm of one
 * server was between 0.6 and 2.1 ms from round to round, and with tests beside it up to 10.
 */
const noise = 2

// what else runs on this machine is measured too: the quietest round of each counts
const rounds = isFull ? 6 : 4

describe("one peer that floods beside fifty that do not", () => {
  for (const way of ways) {
    for (const reads of ["reads", "never reads"]) {
      const floods = Object.entries(way.floods).filter(([flood]) =>
        isFull || chosen.has(`${way.name}, ${flood}, ${reads}`)
      )
      it.runIf(isLong && floods.length > 0)(
        `B116 ${way.name}, it ${reads}: they wait at most three times as long as in a calm`,
        long(120_000),
        async () => {
          const port = await serveWith(way.flags)
          await measure(port, way, 400)
          for (const [flood, bytes] of floods) {
            let calm = Infinity
            let flooded = Infinity
            const isUnfair = (): boolean => flooded > 3 * Math.max(calm, noise)
            for (let round = 0; round === 0 || (round < rounds && isUnfair()); round++) {
              calm = Math.min(calm, await measure(port, way, 600))
              const child = spawn(process.execPath, [flooder, `${port}`, base64(bytes), base64(way.greeting), reads])
              await pause(300)
              flooded = Math.min(flooded, await measure(port, way, 600).finally(() => child.kill("SIGKILL")))
              console.log(`${way.name}, ${flood}, ${reads}: ${calm.toFixed(1)} ms, ${flooded.toFixed(1)} ms flooded`)
            }
            assert.isAtMost(flooded, 3 * Math.max(calm, noise), flood)
          }
        }
      )
    }
  }
})
