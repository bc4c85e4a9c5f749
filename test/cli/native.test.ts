/** `holdfast serve --protocol native`, byte by byte, from clients that are not ours. */
import { assert, describe, it } from "@effect/vitest"
import * as Net from "node:net"
import { onTestFinished } from "vitest"
import { main, needs, python, run, serve, start, until } from "./support/kit.ts"

interface Frame {
  readonly type: number
  readonly body: Buffer
}

/** A client of a few lines, after the table in `Protocol.ts`. */
const dial = async (port: number) => {
  const conn = Net.connect(port, "127.0.0.1")
  const frames: Array<Frame> = []
  let buffer = Buffer.alloc(0)
  let ended = false
  conn.on("error", () => {}).on("close", () => (ended = true)).on("data", (chunk) => {
    buffer = Buffer.concat([buffer, chunk])
    while (buffer.length >= 4 && buffer.length >= 4 + buffer.readUInt32BE(0)) {
      const end = 4 + buffer.readUInt32BE(0)
      frames.push({ type: buffer[4]!, body: buffer.subarray(5, end) })
      buffer = buffer.subarray(end)
    }
  })
  onTestFinished(() => void conn.destroy())
  const send = (type: number, body: Uint8Array): void => {
    const frame = Buffer.alloc(5 + body.length)
    frame.writeUInt32BE(1 + body.length)
    frame[4] = type
    frame.set(body, 5)
    conn.write(frame)
  }
  const next = async (type: number): Promise<Buffer> => {
    await until(
      () => `a frame of type ${type}, there are ${frames.map((frame) => frame.type)}`,
      () => frames.some((frame) => frame.type === type)
    )
    return frames.splice(frames.findIndex((frame) => frame.type === type), 1)[0]!.body
  }
  return { conn, frames, send, next, ends: () => until("the end of a connection", () => ended) }
}

const hello = Buffer.from("48460101000061a80000ea60", "hex")

/** Says HELLO and reads WELCOME: version, pingEvery, minPingEvery, after, spread. */
const greet = async (port: number) => {
  const client = await dial(port)
  client.send(1, hello)
  const welcome = await client.next(2)
  return { ...client, welcome: [welcome[0], ...[1, 5, 9, 13].map((at) => welcome.readUInt32BE(at))] }
}

describe("serve --protocol native", () => {
  it("connect and probe take an address that says what is spoken there, as --listen does", async () => {
    const listen = "--listen native+tcp://127.0.0.1:0 --listen frames+tcp://127.0.0.1:0 --listen ws://127.0.0.1:0/a"
    const { ports } = await serve(`--log json ${listen}`)
    const urls = [
      `native+tcp://127.0.0.1:${ports[0]}`,
      `FRAMES+TCP://127.0.0.1:${ports[1]}`,
      `lines+ws://127.0.0.1:${ports[2]}/a`
    ]
    for (const url of urls) {
      // the address goes before the flag
      const { code, stderr, stdout } = await run(
        process.execPath,
        [main, "connect", url, "--retry", "never", "--wait", "100ms", "--protocol", "native"],
        { input: "hello\n" }
      )
      assert.deepStrictEqual([code, stdout], [0, "hello\n"], stderr)
    }
    const { stdout } = await run(
      process.execPath,
      [main, "probe", urls[0]!, "--dials", "1", "--count", "1", "--silence-limit", "0", "--json"]
    )
    const { protocol, rtt, url } = JSON.parse(stdout)
    assert.deepStrictEqual([url, protocol, rtt.received], [urls[0]!.replace("native+", ""), "native", 1])
  })

  it("greets, echoes and answers pings", async () => {
    const { ports } = await serve("--protocol native --log json --listen tcp://127.0.0.1:0")
    const { next, send, welcome } = await greet(ports[0]!)
    assert.deepStrictEqual(welcome, [1, 25_000, 5_000, 0, 0])
    send(5, Buffer.from("hello\nwörld"))
    assert.strictEqual((await next(5)).toString(), "hello\nwörld")
    send(3, Buffer.from(`00000007${"00".repeat(8)}`, "hex"))
    assert.strictEqual((await next(4)).toString("hex"), "00000007")
  })

  it("advises a spread after its connections and its accept rate, and renews it with every ping", async () => {
    const { logged, ports } = await serve(
      "--protocol native --log json --accept-rate 50 --ping-every 50ms --listen tcp://127.0.0.1:0"
    )
    const first = await greet(ports[0]!)
    await logged({ event: "open", id: 1 })
    const second = await greet(ports[0]!)
    // one connection, 50 in a second
    assert.deepStrictEqual(second.welcome.slice(3), [0, 20])
    await logged({ event: "open", id: 2 })
    const third = await greet(ports[0]!)
    assert.deepStrictEqual(third.welcome.slice(3), [0, 40])
    const advised = async (spread: number): Promise<void> => {
      let last: number | undefined
      await until(() => `a ping that advises ${spread}, the last said ${last}`, () => {
        for (const { body, type } of first.frames.splice(0)) if (type === 3) last = body.readUInt32BE(8)
        return last === spread
      })
    }
    await advised(60)
    third.conn.destroy()
    await logged({ event: "close", id: 3 })
    await advised(40)
  })

  it("without an accept rate it is a millisecond a connection", async () => {
    const { logged, ports } = await serve("--protocol native --log json --listen tcp://127.0.0.1:0")
    for (let id = 1; id <= 3; id++) {
      const { welcome } = await greet(ports[0]!)
      assert.deepStrictEqual(welcome.slice(3), [0, id - 1])
      await logged({ event: "open", id })
    }
  })

  it("SIGTERM: GOING_AWAY, then CLOSE with a code, and the same advice for the last as for the first", async () => {
    const server = await serve("--protocol native --log json --accept-rate 50 --listen tcp://127.0.0.1:0")
    const clients = await Promise.all(Array.from({ length: 4 }, () => greet(server.ports[0]!)))
    for (let id = 1; id <= 4; id++) await server.logged({ event: "open", id })
    process.kill(server.pid, "SIGTERM")
    for (const { ends, next } of clients) {
      const leave = await next(6)
      assert.deepStrictEqual([leave.readUInt32BE(0), leave.readUInt32BE(4)], [0, 80])
      const close = await next(7)
      assert.deepStrictEqual([close[0], close[1], close.readUInt32BE(2), close.readUInt32BE(6)], [1, 1, 0, 80])
      await ends()
    }
    assert.strictEqual(await server.ended(), 0)
  })

  it("what is no HELLO is answered with CLOSE 3, another version with CLOSE 2", async () => {
    const { ports } = await serve("--protocol native --log json --listen tcp://127.0.0.1:0")
    for (
      const [type, body, code] of [[5, Buffer.from("x"), 3], [
        1,
        Buffer.from("48460203" + "00".repeat(8), "hex"),
        2
      ]] as const
    ) {
      const client = await dial(ports[0]!)
      client.send(type, body)
      const close = await client.next(7)
      // coming back cannot help
      assert.deepStrictEqual([close[0], close[1]], [code, 0])
      await client.ends()
    }
  })

  it("over WebSocket each message is a type and a body", async (context) => {
    needs(context, "websockets")
    const { urls } = await serve("--protocol native --log json --listen ws://127.0.0.1:0/live")
    const script = `
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1]) as ws:
        await ws.send(bytes.fromhex("0148460101000061a80000ea60"))
        print((await ws.recv()).hex())
        await ws.send(b"\\x05hello")
        print(await ws.recv())
asyncio.run(main())
`
    const { stdout } = await run(python, ["-c", script, urls[0]!])
    assert.strictEqual(stdout, `0201000061a800001388${"00".repeat(8)}\nb'\\x05hello'\n`)
  })

  it("the largest message passes, on a stream and in a WebSocket", async () => {
    const { urls } = await serve(
      "--protocol native --log json --max-frame 1000 --listen tcp://127.0.0.1:0 --listen ws://127.0.0.1:0/"
    )
    const line = `${"x".repeat(1000)}\n`
    for (const url of urls) {
      const args = [main, "connect", url, "--protocol", "native", "--max-frame", "1000"]
      const { code, stdout } = await run(process.execPath, args, { input: line })
      assert.deepStrictEqual([code, stdout], [0, line])
    }
  })
})

describe("connect --protocol native: what the server's CLOSE means", () => {
  const close = async (code: number, flags: number, times: number) => {
    let count = 0
    const server = Net.createServer((conn) => {
      conn.on("error", () => {})
      conn.once("data", () => {
        count++
        // WELCOME, and CLOSE with the text "so be it"
        conn.end(Buffer.concat([
          Buffer.from(`000000120201${"00".repeat(16)}`, "hex"),
          Buffer.from(`0000001307${Buffer.from([code, flags]).toString("hex")}${"00".repeat(8)}`, "hex"),
          Buffer.from("so be it")
        ]))
      })
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    onTestFinished(() => void server.close())
    const url = `tcp://127.0.0.1:${(server.address() as Net.AddressInfo).port}`
    const fast = ["--retry-base", "10ms", "--retry-cap", "10ms"]
    const client = start(process.execPath, [main, "connect", url, "--protocol", "native", ...fast])
    if (times > 1) {
      await until(`${times} connections`, () => count >= times)
      process.kill(client.pid, "SIGINT")
    }
    const exit = await client.ended()
    if (times === 1) assert.strictEqual(count, 1)
    return { exit, stderr: client.stderr }
  }

  it("0, and not to come back: the end, and no failure", async () => {
    const { exit, stderr } = await close(0, 0, 1)
    assert.match(stderr, /^connected [^\n]+\nclosed: by the peer \(the peer says: so be it\)\n$/)
    assert.strictEqual(exit, 0)
  })

  it("3 and 4: a failure that no other try helps", async () => {
    for (const code of [3, 4]) {
      const { exit, stderr } = await close(code, 0, 1)
      assert.match(stderr, /\nholdfast: tcp:\S+ is lost: [^\n]+\n$/)
      assert.strictEqual(exit, 1)
    }
  })

  it("1 and 9, coming back can help: it does", async () => {
    for (const code of [1, 9]) {
      const { exit, stderr } = await close(code, 1, 3)
      assert.match(
        stderr,
        /\nlost: by the peer \(code \d, the peer says: so be it\); next try in 0\.0 s \(attempt 2\)\n/
      )
      assert.strictEqual(exit, 0)
    }
  })
})
