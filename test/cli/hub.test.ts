/** One conversation across transports, and the pings that are not part of it. */
import { assert, describe, it } from "@effect/vitest"
import * as Path from "node:path"
import { onTestFinished } from "vitest"
import { WebSocket as WebSocketOfWs } from "ws"
import {
  browse,
  connect,
  main,
  makeCertificate,
  needs,
  python,
  run,
  serve,
  start,
  tempDir,
  until,
  words
} from "./support/kit.ts"

const listener = `
import asyncio, sys, websockets
async def main(url):
    async with websockets.connect(url) as ws:
        print("ready", flush=True)
        async for message in ws:
            print(repr(message), flush=True)
asyncio.run(main(sys.argv[1]))
`

const hub = "--mode hub --log json --listen tcp://127.0.0.1:0 --listen ws://127.0.0.1:0/"

describe("hub", () => {
  it("a message goes to all others, whatever they speak, and not back to its sender", async (context) => {
    needs(context, "nc", "openssl", "websockets", "webSocket")
    const dir = tempDir()
    const { cert, key } = makeCertificate(dir)
    const path = Path.join(dir, "hub.sock")
    const server = await serve(
      `--mode hub --log json --cert ${cert} --key ${key} --listen tcp://127.0.0.1:0 --listen tls://127.0.0.1:0 ` +
        `--listen unix://${path} --listen ws://127.0.0.1:0/chat`
    )
    const nc = start("nc", ["127.0.0.1", String(server.ports[0])])
    const unix = start("nc", ["-U", path])
    const tls = start("openssl", words(`s_client -quiet -CAfile ${cert} -connect 127.0.0.1:${server.ports[1]}`))
    const pythonic = start(python, ["-c", listener, server.urls[3]!])
    const browser = await browse(server.urls[3]!)
    for (let id = 1; id <= 5; id++) await server.logged({ event: "open", id })

    nc.write("from nc\n")
    await browser.receives("from nc")
    await unix.says("from nc\n")
    await tls.says("from nc\n")
    await pythonic.says("'from nc'\n")

    browser.ws.send("from the browser")
    await nc.says("from the browser\n")
    await unix.says("from the browser\n")
    await tls.says("from the browser\n")
    await pythonic.says("'from the browser'\n")

    tls.write("from openssl\n")
    await browser.receives("from nc", "from openssl")
    await nc.says("from openssl\n")
    await unix.says("from openssl\n")

    // and nobody got anything else
    assert.strictEqual(nc.stdout, "from the browser\nfrom openssl\n")
    assert.strictEqual(unix.stdout, "from nc\nfrom the browser\nfrom openssl\n")
    assert.strictEqual(tls.stdout, "from nc\nfrom the browser\n")
  })

  it("each listener has a protocol of its own, and all of them one conversation", async () => {
    const server = await serve(
      "--mode hub --log json --protocol native --listen lines+tcp://127.0.0.1:0 --listen frames+tcp://127.0.0.1:0 " +
        "--listen tcp://127.0.0.1:0"
    )
    assert.match(server.stdout, /^listening \S+ \(lines\)\nlistening \S+ \(frames\)\nlistening \S+ \(native\)\n$/)
    const [lines, frames] = [await connect(server.ports[0]!), await connect(server.ports[1]!)]
    const native = start(process.execPath, [main, "connect", server.urls[2]!, "--protocol", "native"])
    for (let id = 1; id <= 3; id++) await server.logged({ event: "open", id })
    lines.write("from lines\n")
    await frames.receives("\0\0\0\x0afrom lines")
    await native.says("from lines\n")
    native.write("from native\n")
    await lines.receives("from native\n")
    frames.write("\0\0\0\x0bfrom frames")
    await lines.receives("from native\nfrom frames\n")
    await native.says("from frames\n")
    lines.write("ping\n")
    await lines.receives("from native\nfrom frames\npong\n")
    // bytes that are no text reach no connection of text, and their sender is told
    frames.write(Buffer.from([0, 0, 0, 2, 255, 254]))
    await until("the sender is told", () => frames.text.includes("2 members did not get your last message"))
    assert.strictEqual(lines.text, "from native\nfrom frames\npong\n")
  })

  it("an echo of three protocols gives back what came, bytes that are no text too", async () => {
    const server = await serve(
      "--listen lines+tcp://127.0.0.1:0 --listen frames+tcp://127.0.0.1:0 --listen native+tcp://127.0.0.1:0"
    )
    const [lines, frames] = [await connect(server.ports[0]!), await connect(server.ports[1]!)]
    lines.write("hello\n")
    await lines.receives("hello\n")
    frames.write(Buffer.from([0, 0, 0, 2, 255, 254]))
    await until("six bytes", () => frames.bytes === 6)
    const native = await run(process.execPath, [main, "connect", server.urls[2]!, "--protocol", "native"], {
      input: "hello\n"
    })
    assert.deepStrictEqual([native.code, native.stdout], [0, "hello\n"])
    process.kill(server.pid, "SIGTERM")
    assert.strictEqual(await server.ended(), 0)
  })

  it("the end of a silent nc is explained where lines are spoken, and nowhere else", async () => {
    const server = await serve(
      "--log json --silence 300ms --ping-every 100ms --listen lines+tcp://127.0.0.1:0 --listen frames+tcp://127.0.0.1:0"
    )
    const [lines, frames] = [await connect(server.ports[0]!), await connect(server.ports[1]!)]
    await lines.ends()
    await frames.ends()
    for (const [i, isExplained] of [[0, true], [1, false]] as const) {
      const { message } = await server.logged({ event: "close", id: i + 1 })
      assert.strictEqual(String(message).includes("type pong, or serve with --silence 0"), isExplained, String(message))
    }
  })

  it("a client that speaks something else is told of, with what to do", async () => {
    const server = await serve(`--log json --max-frame 100 --listen tcp://127.0.0.1:0 --listen ws://127.0.0.1:0/live`)
    const [notText, tooLong, noWebSocket] = [
      await connect(server.ports[0]!),
      await connect(server.ports[0]!),
      await connect(server.ports[1]!)
    ]
    notText.write(Buffer.from([22, 3, 1, 255, 10]))
    tooLong.write("x".repeat(200))
    noWebSocket.write("GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
    const explained = async (reason: string) => String((await server.logged({ reason })).message)
    assert.include(await explained("InvalidMessage"), "a client of TLS --listen tls://")
    assert.include(await explained("FrameTooLong"), "; --max-frame sets the limit")
    assert.include(await explained("HandshakeFailed"), "; ws:// is for WebSockets")
  })

  it("bytes of frames reach a WebSocket as binary, and the other way round", async (context) => {
    needs(context, "webSocket")
    const server = await serve(`${hub} --protocol frames`)
    const client = await connect(server.ports[0]!)
    const browser = await browse(server.urls[1]!)
    for (let id = 1; id <= 2; id++) await server.logged({ event: "open", id })
    browser.ws.send(new Uint8Array([1, 0, 10]))
    await client.receives("\0\0\0\x03\x01\0\n")
    client.write("\0\0\0\x02ab")
    await until("a message", () => browser.messages.length === 1)
    assert.deepStrictEqual([...new Uint8Array(browser.messages[0] as ArrayBuffer)], [97, 98])
  })

  it("a message that would be several lines cannot put words, or a ping, into another's mouth", async (context) => {
    needs(context, "webSocket")
    const server = await serve(hub)
    const client = await connect(server.ports[0]!)
    const browser = await browse(server.urls[1]!)
    const other = await browse(server.urls[1]!)
    for (let id = 1; id <= 3; id++) await server.logged({ event: "open", id })
    browser.ws.send("one\nping")
    browser.ws.send("two")
    // a WebSocket has no trouble with it; who speaks lines is spared
    await other.receives("one\nping", "two")
    await client.receives("two\n")
    // and the sender is told, once
    await browser.receives(
      "holdfast: 1 member did not get your last message: on their transport it is not one message (a line break in lines)"
    )
    assert.isFalse(server.logs().some((line) => line.event === "close"))
  })

  it("those who come later and those who left make no trouble", async () => {
    const server = await serve(hub)
    const [port] = server.ports
    const first = await connect(port!)
    await server.logged({ event: "open", id: 1 })
    first.write("nobody is here\nping\n")
    await first.receives("pong\n")
    const second = await connect(port!)
    const third = await connect(port!)
    await server.logged({ event: "open", id: 3 })
    third.conn.resetAndDestroy()
    await server.logged({ event: "close", id: 3 })
    second.write("hello\n")
    await first.receives("pong\nhello\n")
    first.write("hello too\n")
    await second.receives("hello too\n")
    assert.strictEqual(first.text, "pong\nhello\n")
  })
})

describe("ping and pong", () => {
  it("the server pings at its interval, on every transport: in lines, and in frames where a page answers those by itself", async (context) => {
    needs(context, "webSocket", "nc")
    const server = await serve("--ping-every 200ms --listen tcp://127.0.0.1:0 --listen ws://127.0.0.1:0/")
    const began = performance.now()
    const nc = start("nc", ["127.0.0.1", String(server.ports[0])])
    const browser = await browse(server.urls[1]!)
    let frames = 0
    const peer = new WebSocketOfWs(server.urls[1]!).on("ping", () => frames++)
    onTestFinished(() => peer.terminate())
    await until("four pings", () => nc.stdout.length >= 20 && frames >= 4)
    const took = performance.now() - began
    assert.isTrue(took > 600, `4 pings in ${took} ms`)
    assert.match(nc.stdout, /^(ping\n)+$/)
    assert.deepStrictEqual(browser.messages, [])
    assert.strictEqual(browser.ws.readyState, WebSocket.OPEN)
  })

  it("neither is ever a message: not echoed", async () => {
    const server = await serve("--listen tcp://127.0.0.1:0")
    const client = await connect(server.ports[0]!)
    // a pong overtakes messages that wait, so it is asked for alone
    client.write("ping\r\n")
    await client.receives("pong\n")
    client.write("pong\n")
    client.write("pong\nPING\n ping\nping \nping pong\n")
    await client.receives("pong\nPING\n ping\nping \nping pong\n")
    assert.isFalse(client.ended)
  })

  it("neither is ever a message: not sent to the hub's others", async (context) => {
    needs(context, "webSocket")
    const server = await serve(hub)
    const client = await connect(server.ports[0]!)
    const browser = await browse(server.urls[1]!)
    for (let id = 1; id <= 2; id++) await server.logged({ event: "open", id })
    client.write("ping\npong\nping\nhello\n")
    await browser.receives("hello")
    await client.receives("pong\npong\n")
    browser.ws.send("ping")
    browser.ws.send("pong")
    browser.ws.send("hello too")
    await client.receives("pong\npong\nhello too\n")
    await browser.receives("hello", "pong")
    assert.strictEqual(client.text, "pong\npong\nhello too\n")
  })
})
