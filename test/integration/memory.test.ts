/** What memory peers can make a process hold: 64 MB of heap and what expands in it, and ten thousand connections in 96 MB. */
import { assert, describe, it } from "@effect/vitest"
import * as Net from "node:net"
import { onTestFinished } from "vitest"
import { bundled, bundledProgram } from "../cli/support/bundle.ts"
import { residentMiB, start, until, words } from "../cli/support/kit.ts"
import { isFull, isLong, long } from "../support/often.ts"
import { supportFile } from "./support/kit.ts"

const base64 = (bytes: Uint8Array | string) => Buffer.from(bytes).toString("base64")
const ascii = (text: string) => Buffer.from(text)

const prefixed = (payload: Uint8Array | string) => {
  const bytes = Buffer.from(payload)
  const frame = Buffer.alloc(4 + bytes.length)
  frame.writeUInt32BE(bytes.length)
  frame.set(bytes, 4)
  return frame
}
const varint = (payload: Uint8Array) =>
  Buffer.concat([Buffer.from([0x80 | (payload.length & 0x7f), payload.length >> 7]), payload])
const native = (type: number, payload: Uint8Array) => prefixed(Buffer.concat([Buffer.from([type]), payload]))
// masks of zeros leave the payload as it is
const masked = (opcode: number, payload: Uint8Array) =>
  Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0]), payload])

const upgrade = ascii(
  "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
const hello = native(1, Buffer.from([0x48, 0x46, 1, 1, 0, 0, 0x61, 0xa8, 0, 0, 0xea, 0x60]))
const nothing = new Uint8Array(0)

/** `[{},{},...]` in MessagePack. */
const maps = (count: number) => {
  const bytes = Buffer.alloc(3 + count, 0x80)
  bytes[0] = 0xdc
  bytes.writeUInt16BE(count, 1)
  return bytes
}
const objects = (count: number) => `[${Array.from({ length: count }, () => "{}").join(",")}]`

/** What 150 send and never read the echo of, and what an honest client asks. */
interface Flood {
  readonly unit: Uint8Array
  readonly question: Uint8Array
  readonly greeting?: Uint8Array
}

const ofCodecs: Readonly<Record<string, Readonly<Record<string, Flood>>>> = {
  lengthPrefix: { "empty frames": { unit: prefixed(""), question: prefixed("hello") } },
  onePrefix: { "empty frames": { unit: Buffer.from([0]), question: Buffer.from([2, 1, 2]) } },
  varint: { "empty frames": { unit: Buffer.from([0]), question: Buffer.from([2, 1, 2]) } },
  delimiter: { "empty frames": { unit: Buffer.from([0]), question: ascii("hello\0") } },
  bytes: { "single bytes": { unit: Buffer.from([0]), question: ascii("hello") } },
  fixed: { "single bytes": { unit: Buffer.from([0]), question: ascii("h") } },
  lines: {
    "ab": { unit: ascii("ab\n"), question: ascii("hello\n") },
    "empty lines": { unit: ascii("\n"), question: ascii("hello\n") }
  },
  textFrames: { "empty frames": { unit: prefixed(""), question: prefixed("hello") } },
  jsonLines: {
    "{}": { unit: ascii("{}\n"), question: ascii("5\n") },
    "[{},{},...]": { unit: ascii(`${objects(20_000)}\n`), question: ascii("5\n") }
  },
  jsonFrames: { "[{},{},...]": { unit: prefixed(objects(5000)), question: prefixed("5") } },
  msgpack: {
    "[{},{},...] of 3 KB": { unit: prefixed(maps(3000)), question: prefixed(Buffer.from([5])) },
    "[{},{},...] of 60 KB": { unit: prefixed(maps(60_000)), question: prefixed(Buffer.from([5])) }
  },
  msgpackVarint: { "[{},{},...]": { unit: varint(maps(12_000)), question: Buffer.from([1, 5]) } }
}

const ofServe: Readonly<Record<string, Flood>> = {
  "--protocol lines": { unit: ascii("ab\n"), question: ascii("hello\n") },
  "--protocol frames": { unit: prefixed(""), question: prefixed("hello") },
  "--protocol native": { greeting: hello, unit: native(5, nothing), question: native(5, ascii("hello")) },
  "--listen ws://127.0.0.1:0": { greeting: upgrade, unit: masked(1, nothing), question: masked(1, ascii("hello")) },
  "--listen ws://127.0.0.1:0 --protocol frames": {
    greeting: upgrade,
    unit: masked(2, nothing),
    question: masked(2, ascii("hello"))
  }
}

/** What `npm run test:long` runs: one of each kind. `npm run test:goals` runs all of them. */
const chosen = new Set([
  "lengthPrefix, empty frames",
  "jsonLines, [{},{},...]",
  "msgpack, [{},{},...] of 60 KB",
  "--protocol lines",
  "--listen ws://127.0.0.1:0 --protocol frames"
])

const memoryServer = (): Promise<string> => bundledProgram(supportFile("memoryServer.ts"))

const listening = async (args: ReadonlyArray<string>) => {
  const server = start(process.execPath, args)
  await server.says("listening")
  await until("the port", () => /listening .*\d+\/?\n/.test(server.stdout))
  return { server, port: Number(/listening (?:.*:)?(\d+)\/?\n/.exec(server.stdout)![1]) }
}

/** One client, which asks again and again; throws where there is no answer. */
const honestClient = async (
  { port, server }: Awaited<ReturnType<typeof listening>>,
  { greeting = nothing, question }: Flood
) => {
  const conn = Net.connect(port, "127.0.0.1")
  let got = 0
  let isClosed = false
  conn.on("data", (chunk) => void (got += chunk.length))
  conn.on("error", () => {})
  conn.on("close", () => {
    isClosed = true
  })
  onTestFinished(() => void conn.destroy())
  let slowest = 0
  const ask = async (bytes: Uint8Array) => {
    const before = got
    const at = performance.now()
    conn.write(bytes)
    await until("an answer", () => got > before || isClosed, 10_000)
    if (isClosed) await until("why", () => server.exit !== undefined, 2000).catch(() => {})
    // one that died tells more
    assert.isUndefined(server.exit, server.stderr)
    assert.isFalse(isClosed)
    slowest = Math.max(slowest, performance.now() - at)
  }
  if (greeting.length > 0) await ask(greeting)
  await ask(question)
  return {
    /** How long the slowest of so many answers took. */
    rounds: async (count: number): Promise<number> => {
      slowest = 0
      for (let round = 0; round < count; round++) {
        await ask(question)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      return slowest
    }
  }
}

const heap = "--max-old-space-size=64"

/** How long the slowest answer took; throws where there is none. */
const survives = async (args: ReadonlyArray<string>, flood: Flood): Promise<number> => {
  const listener = await listening(args)
  const { port, server } = listener
  const honest = await honestClient(listener, flood)
  const peers = start(process.execPath, [
    supportFile("greedyPeers.mjs"),
    `${port}`,
    "150",
    base64(flood.greeting ?? nothing),
    base64(flood.unit),
    `${1024 * 1024}`
  ])
  await until("all are there", () => peers.stdout.includes("connected"))
  const slowest = await honest.rounds(isFull ? 20 : 6)
  assert.isUndefined(server.exit, server.stderr)
  console.log(`${residentMiB(server.pid).toFixed(0)} MiB, the slowest answer took ${slowest.toFixed(0)} ms`)
  return slowest
}

describe("64 MB of heap, and 150 peers that never read", () => {
  for (const [codec, floods] of Object.entries(ofCodecs)) {
    for (const [name, flood] of Object.entries(floods)) {
      it.runIf(isLong && (isFull || chosen.has(`${codec}, ${name}`)))(
        `B115 ${codec}, ${name}: it lives, and an honest client is served`,
        long(60_000),
        async () => {
          assert.isAtMost(await survives([heap, await memoryServer(), codec], flood), 10_000)
        }
      )
    }
  }
  for (const [flags, flood] of Object.entries(ofServe)) {
    it.runIf(isLong && (isFull || chosen.has(flags)))(
      `B115 holdfast serve ${flags}: it lives, and an honest client is served`,
      long(60_000),
      async () => {
        const listen = flags.includes("listen") ? "" : "--listen tcp://127.0.0.1:0 "
        assert.isAtMost(await survives([heap, bundled, "serve", "--no-admin", ...words(listen + flags)], flood), 10_000)
      }
    )
  }
})

// all of it, or a quarter
const scale = isFull ? 1 : 1 / 4

describe(`${10_000 * scale} connections in ${96 * scale} MB`, () => {
  it.runIf(isLong)(
    `B115 parts of frames and echoes that are not read stay within it, and ${8000 * scale} others are served`,
    long(120_000),
    async () => {
      const limit = 96e6 * scale
      const mebibyte = 1024 * 1024
      const policy = JSON.stringify({ memory: limit, maxConnections: 20_000, writeStall: "30s", frame: "60s" })
      const file = await memoryServer()
      const serverOf = () => listening([file, "lengthPrefix", policy])
      const crowd = async (port: number, ...counts: ReadonlyArray<number>) => {
        const peers = start(process.execPath, [supportFile("crowd.mjs"), `${port}`, ...counts.map(String)])
        await until("all are there", () => peers.stdout.includes("idle"), 40_000)
        return peers
      }
      const calm = await serverOf()
      const idle = await crowd(calm.port, 10_000 * scale, 0, 0)
      const before = residentMiB(calm.server.pid)
      for (const { child } of [idle, calm.server]) child.kill("SIGKILL")

      const { port, server } = await serverOf()
      const peers = await crowd(port, 8000 * scale, 1000 * scale, 1000 * scale)
      peers.write("attack\n")
      await new Promise((resolve) => setTimeout(resolve, 3000))
      peers.write("ask\n")
      let resident = 0
      await until("the answers", () => {
        resident = Math.max(resident, residentMiB(server.pid))
        return peers.stdout.includes("asked") || server.exit !== undefined
      }, 30_000)
      assert.isUndefined(server.exit, server.stderr)
      server.write("most\n")
      await server.says("most")
      const most = Number(/most (\d+)/.exec(server.stdout)![1])
      const seen = JSON.parse(/asked (.*)\n/.exec(peers.stdout)![1]!) as Record<string, number>
      console.log({ before, resident, most: most / 1e6, ...seen })
      assert.isAbove(most, limit * (isFull ? 0.5 : 0.4))
      // a read of each that is not honest
      assert.isAtMost(most, limit + 2000 * scale * 64 * 1024)
      assert.isBelow(resident, before + 2 * limit / mebibyte)
      assert.strictEqual(seen.unanswered, 0)
      assert.isAbove(seen.answers!, 8000 * scale)
    }
  )
})
