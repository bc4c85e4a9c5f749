/**
 * permessage-deflate with peers of other kinds at both ends: every parameter that can be agreed to with `ws`, as groups 12 and 13 of
 * the Autobahn suite go through them, and `websockets` of Python.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type * as Net from "node:net"
import { type PerMessageDeflateOptions, WebSocket, WebSocketServer } from "ws"
import { Codec, Connection } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { has, python } from "../cli/support/kit.ts"
import { program } from "../node/fixtures/authority.ts"
import { isLong, long } from "../support/often.ts"
import { dice, serve, take } from "./support/kit.ts"

const host = "127.0.0.1"
const bytes = { codec: Codec.bytes(), policy: { maxFrame: 200_000 } } as const

const random = dice(1213)

/** Text that repeats itself near and far, with noise in it. */
const text = (size: number): Buffer => {
  const words = Array.from({ length: 40 }, () => Math.floor(random() * 2 ** 40).toString(36))
  let whole = ""
  while (whole.length < size) whole += `${words[Math.floor(random() * 40)]} `
  return Buffer.from(whole.slice(0, size))
}

const same = (got: ReadonlyArray<Uint8Array>, sent: ReadonlyArray<Uint8Array>): void => {
  assert.strictEqual(got.length, sent.length)
  got.forEach((one, i) => assert.ok(Buffer.compare(one, sent[i]!) === 0, `message ${i} of ${one.length} bytes differs`))
}

// ---------------------------------------------------------------------------------------------------------------------
// ws
// ---------------------------------------------------------------------------------------------------------------------

/** A listener that echoes, and a client of `ws` that gets the echoes of what it sends in fragments. */
const withTheirClient = (
  url: string,
  theirs: PerMessageDeflateOptions,
  messages: ReadonlyArray<Buffer>,
  fragment: number
) =>
  Effect.callback<string>((resume) => {
    const ws = new WebSocket(url, { perMessageDeflate: { threshold: 0, ...theirs } })
    const got: Array<Buffer> = []
    ws.on("open", () => {
      for (const message of messages) {
        for (let at = 0; at < message.length; at += fragment) {
          ws.send(message.subarray(at, at + fragment), { binary: true, fin: at + fragment >= message.length })
        }
      }
    })
    const end = (problem: string): void => {
      ws.terminate()
      resume(Effect.sync(() => {
        assert.strictEqual(problem, "")
        same(got, messages)
        return ws.extensions
      }))
    }
    ws.on("message", (data) => {
      got.push(data as Buffer)
      if (got.length === messages.length) end("")
    })
    ws.on("error", ({ message }) => end(message))
    ws.on("close", (code) => end(`closed with ${code}`))
    return Effect.sync(() => ws.terminate())
  })

/** A server of `ws` that echoes; where it is. */
const theirServer = (theirs: PerMessageDeflateOptions): Effect.Effect<string, never, Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() =>
        new Promise<WebSocketServer>((resolve) => {
          const server = new WebSocketServer({ host, port: 0, perMessageDeflate: { threshold: 0, ...theirs } })
          server.on("connection", (ws) => {
            ws.on("message", (data) => ws.send(data as Buffer))
            ws.on("error", () => {})
          })
          server.on("listening", () => resolve(server))
        })
      ),
      (server) =>
        Effect.sync(() => {
          for (const ws of server.clients) ws.terminate()
          server.close()
        })
    ),
    (server) => `ws://${host}:${(server.address() as Net.AddressInfo).port}/`
  )

const allBits = [9, 10, 11, 12, 13, 14, 15]

/** What `ws` may say of the windows: nothing, or bits of each. */
const windows: ReadonlyArray<readonly [server: number | undefined, client: number | true | undefined]> = isLong
  ? [undefined, ...allBits].flatMap((server) =>
    [undefined, true as const, ...allBits].map((client) => [server, client] as const)
  )
  : [[undefined, undefined], [undefined, true], [9, 15], [12, 11], [15, 9]]

/** To `ws` false means that the other end may not ask for it. */
const keeping = (server: boolean, client: boolean): PerMessageDeflateOptions => ({
  ...(server ? { serverNoContextTakeover: true } : {}),
  ...(client ? { clientNoContextTakeover: true } : {})
})

const takeovers = [[false, false], [false, true], [true, false], [true, true]] as const

/** Each pair of windows with one way to keep contexts, another one for each of `ours`. */
const offers = (turn: number) =>
  windows.map(([serverBits, clientBits], i) => {
    const [serverNoContextTakeover, clientNoContextTakeover] = takeovers[(i + turn) % takeovers.length]!
    return { serverBits, clientBits, serverNoContextTakeover, clientNoContextTakeover }
  })

const ours: ReadonlyArray<Dialer.Deflate> = isLong
  ? [false, true].flatMap((contextTakeover) => [9, 12, 15].map((windowBits) => ({ contextTakeover, windowBits })))
  : [{ windowBits: 9 }, { contextTakeover: true }, { contextTakeover: true, windowBits: 11 }]

// the second and the third refer to the first where contexts are kept
const few = [text(16), text(300), text(3000), text(300)].flatMap((one) => [one, one])

describe("every parameter, with ws", () => {
  for (const [turn, mine] of ours.entries()) {
    const deflate = { threshold: 0, ...mine }
    const how = JSON.stringify(mine)
    it.live(`a listener with ${how}`, () =>
      Effect.gen(function*() {
        const listener = yield* Listener.make(`ws://${host}:0`, { deflate })
        yield* serve(listener, bytes)
        for (const { clientBits, clientNoContextTakeover, serverBits, serverNoContextTakeover } of offers(turn)) {
          const theirs: PerMessageDeflateOptions = {
            ...keeping(serverNoContextTakeover, clientNoContextTakeover),
            ...(serverBits === undefined ? {} : { serverMaxWindowBits: serverBits }),
            ...(clientBits === undefined ? {} : { clientMaxWindowBits: clientBits as number })
          }
          const agreed = yield* withTheirClient(listener.url, theirs, few, 256)
          assert.match(agreed, /^permessage-deflate/, JSON.stringify(theirs))
        }
      }), long(120_000))

    it.live(`a dialler with ${how}`, () =>
      Effect.gen(function*() {
        for (const { clientBits, clientNoContextTakeover, serverBits, serverNoContextTakeover } of offers(turn)) {
          // to smaller windows than these it answers with 400
          if (Math.max(serverBits ?? 0, Number(clientBits ?? 0)) > (mine.windowBits ?? 15)) continue
          yield* Effect.scoped(Effect.gen(function*() {
            const url = yield* theirServer({
              ...keeping(serverNoContextTakeover, clientNoContextTakeover),
              ...(serverBits === undefined ? {} : { serverMaxWindowBits: serverBits }),
              ...(typeof clientBits === "number" ? { clientMaxWindowBits: clientBits } : {})
            })
            const connection = yield* Connection.make(yield* Dialer.make(url, { deflate }), bytes)
            yield* connection.sendAll(few)
            same(yield* take(connection, few.length), few)
          }))
        }
      }), long(120_000))
  }

  const sizes = [16, 64, 256, 1024, 4096, 8192, 16_384, 32_768, 65_536, 131_072]
  const times = isLong ? 50 : 3
  it.live(`messages of 16 B to 128 KiB, ${times} of each, in fragments of several sizes`, () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`ws://${host}:0`, { deflate: { contextTakeover: true, threshold: 0 } })
      yield* serve(listener, bytes)
      for (const size of sizes) {
        for (const fragment of size >= 1024 ? [Infinity, Math.ceil(size / 7)] : [Infinity]) {
          const one = text(size)
          yield* withTheirClient(listener.url, {}, Array.from({ length: times }, () => one), fragment)
        }
      }
    }), long(300_000))
})

// ---------------------------------------------------------------------------------------------------------------------
// websockets of Python
// ---------------------------------------------------------------------------------------------------------------------

const pythonEnds = `
import asyncio, sys, json, websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
role, url, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
texts = [("%d the quick brown fox " % n) * m for n in range(3) for m in (1, 20, 900)]
async def client():
    factory = ClientPerMessageDeflateFactory(**options)
    async with websockets.connect(url, extensions=[factory], compression=None) as ws:
        for text in texts: await ws.send(text)
        for text in texts: assert await ws.recv() == text
        await ws.send([text[i:i + 7] for text in texts for i in range(0, len(text), 7)])
        assert await ws.recv() == "".join(texts)
        print("agreed", ws.extensions, flush=True)
async def server():
    async def echo(ws):
        async for message in ws: await ws.send(message)
    factory = ServerPerMessageDeflateFactory(**options)
    async with websockets.serve(echo, "127.0.0.1", 0, extensions=[factory], compression=None) as serving:
        print("port", serving.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(client() if role == "client" else server())
`

const pythons: ReadonlyArray<readonly [string, Record<string, number | boolean>]> = [
  ["contexts", {}],
  ["no contexts", { server_no_context_takeover: true, client_no_context_takeover: true }],
  ["small windows", { server_max_window_bits: 10, client_max_window_bits: 12 }]
]

describe("websockets of Python", () => {
  const deflate = { contextTakeover: true, threshold: 0 } as const
  for (const [name, options] of pythons) {
    it.live(`a client with ${name}`, (context) =>
      Effect.gen(function*() {
        if (!has("websockets")) return context.skip("not on this machine: python3 with websockets (python3-websockets)")
        const listener = yield* Listener.make(`ws://${host}:0`, { deflate })
        yield* serve(listener, { codec: Codec.lines() })
        const given = { client_max_window_bits: true, ...options }
        const child = yield* program(python, ["-c", pythonEnds, "client", listener.url, JSON.stringify(given)])
        assert.match((yield* child.says(/agreed (.*)/))[1]!, /PerMessageDeflate/)
      }))

    it.live(`a server with ${name}`, (context) =>
      Effect.gen(function*() {
        if (!has("websockets")) return context.skip("not on this machine: python3 with websockets (python3-websockets)")
        const child = yield* program(python, ["-c", pythonEnds, "server", "", JSON.stringify(options)])
        const [, port] = yield* child.says(/port (\d+)/)
        const socket = yield* Dialer.make(`ws://${host}:${port}/`, { deflate })
        const connection = yield* Connection.make(socket, { codec: Codec.lines() })
        const lines = Array.from({ length: 30 }, (_, i) => `${i % 3} ${"the quick brown fox ".repeat(i * i)}`)
        yield* connection.sendAll(lines)
        const got: Array<string> = []
        while (got.length < lines.length) got.push(yield* connection.receive)
        assert.deepStrictEqual(got, lines)
        const { bytesOut } = yield* connection.snapshot
        assert.isBelow(bytesOut, lines.join("").length / 8)
      }))
  }
})
