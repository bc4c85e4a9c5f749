/** Clients nobody here wrote, on every kind of listener. */
import { assert, beforeAll, beforeEach, describe, it } from "@effect/vitest"
import * as Path from "node:path"
import { WebSocket } from "ws"
import type { Server } from "./support/kit.ts"
import {
  atEndOfSuite,
  browse,
  connect,
  has,
  makeCertificate,
  needs,
  run,
  runPython,
  serve,
  start,
  tempDir,
  until,
  words
} from "./support/kit.ts"

/** All five kinds of listener. */
const everywhere = (dir: string) => {
  const { cert, key } = makeCertificate(dir)
  const socket = Path.join(dir, "s.sock")
  const listen = `--listen tcp://127.0.0.1:0 --listen tls://127.0.0.1:0 --listen unix://${socket} ` +
    "--listen ws://127.0.0.1:0/live --listen wss://127.0.0.1:0/live"
  return { cert, socket, flags: `${listen} --cert ${cert} --key ${key} --log json` }
}

const pythonSocket = `
import socket, ssl, sys
kind, address, cert, sent = sys.argv[1:5]
if kind == "unix":
    s = socket.socket(socket.AF_UNIX)
    s.connect(address)
else:
    s = socket.create_connection(("127.0.0.1", int(address)), 5)
if kind == "tls":
    s = ssl.create_default_context(cafile=cert).wrap_socket(s, server_hostname="localhost")
s.settimeout(5)
data = bytes.fromhex(sent)
s.sendall(data)
got = b""
while len(got) < len(data):
    more = s.recv(65536)
    if not more: break
    got += more
print(got.hex())
`

const pythonWebSocket = `
import asyncio, ssl, sys, websockets
async def main(url, cert):
    context = ssl.create_default_context(cafile=cert) if url.startswith("wss") else None
    async with websockets.connect(url, ssl=context) as ws:
        for message in ["hello", "", "a\\nb", "\\u00e9\\u20ac\\U0001f600", "x" * 100000]:
            await ws.send(message)
            assert await asyncio.wait_for(ws.recv(), 5) == message, message
        # a control frame of the protocol itself
        await asyncio.wait_for(await ws.ping(), 5)
    print("closed", ws.close_code)
asyncio.run(main(*sys.argv[1:3]))
`

/** In a process of its own: this one cannot be told to trust the certificate. */
const nodeWebSocket = `
const ws = new WebSocket(process.argv[1])
ws.onopen = () => ws.send("hello")
ws.onmessage = ({ data }) => { console.log(typeof data, data); ws.close(1000) }
ws.onclose = ({ code }) => console.log("closed", code)
`

describe("upgrades", () => {
  const opening = (url: string, headers: Readonly<Record<string, string>>, protocols: ReadonlyArray<string> = []) =>
    new Promise<number | string>((resolve) => {
      const ws = new WebSocket(url, [...protocols], { headers })
      ws.on("error", () => {})
      ws.on("unexpected-response", (_, response) => {
        resolve(response.statusCode ?? 0)
        ws.terminate()
      })
      ws.on("open", () => {
        resolve(ws.protocol)
        ws.terminate()
      })
    })

  it("B129 a page of another origin is refused, unless --origin allows it; --subprotocol is agreed to", async () => {
    const plain = await serve("--listen ws://127.0.0.1:0/live --log json")
    const url = plain.urls[0]!
    assert.strictEqual(await opening(url, {}), "")
    assert.strictEqual(await opening(url, { Origin: url.replace("ws:", "http:").replace("/live", "") }), "")
    assert.strictEqual(await opening(url, { Origin: "http://evil.example" }), 403)
    const open = await serve(
      "--listen ws://127.0.0.1:0 --log json --origin https://a.example --origin https://b.example " +
        "--subprotocol v2 --subprotocol v1"
    )
    assert.strictEqual(await opening(open.urls[0]!, { Origin: "https://b.example" }, ["v1", "v2"]), "v2")
    assert.strictEqual(await opening(open.urls[0]!, { Origin: "http://evil.example" }), 403)
  })
})

describe("lines, echo", () => {
  const atEnd = atEndOfSuite()
  let server: Server
  let all: ReturnType<typeof everywhere>

  // without it there is no certificate to listen with
  beforeEach((context) => needs(context, "openssl"))
  beforeAll(async () => {
    if (!has("openssl")) return
    all = everywhere(tempDir(atEnd))
    server = await serve(all.flags, atEnd)
  })

  it("says where it listens, a line each, and nothing else", () => {
    const [tcp, tls, , ws, wss] = server.ports
    assert.strictEqual(
      server.stdout,
      `listening tcp://127.0.0.1:${tcp}\nlistening tls://127.0.0.1:${tls}\nlistening unix://${all.socket}\n` +
        `listening ws://127.0.0.1:${ws}/live\nlistening wss://127.0.0.1:${wss}/live\n`
    )
    assert.isTrue([tcp, tls, ws, wss].every((port) => port! > 0))
  })

  it("nc, which ends its side before it is answered", async (context) => {
    needs(context, "nc")
    const echoed = await run("nc", ["-N", "127.0.0.1", String(server.ports[0])], { input: "hello\n\nw\u00f6rld\r\n" })
    assert.deepStrictEqual(echoed, { code: 0, stdout: "hello\n\nw\u00f6rld\n", stderr: "" })
    const { code, stdout } = await run("nc", ["-N", "127.0.0.1", String(server.ports[0])], { input: "ping\nx\npong\n" })
    assert.strictEqual(code, 0)
    assert.deepStrictEqual(stdout.split("\n").toSorted(), ["", "pong", "x"])
  })

  it("nc on a Unix socket", async (context) => {
    needs(context, "nc")
    const input = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join("")
    assert.deepStrictEqual(await run("nc", ["-N", "-U", all.socket], { input }), { code: 0, stdout: input, stderr: "" })
  })

  it("Python's socket", async (context) => {
    needs(context, "python")
    const sent = Buffer.from("hello\n" + "x".repeat(200_000) + "\n").toString("hex")
    for (const [kind, address] of [["tcp", server.ports[0]], ["tls", server.ports[1]], ["unix", all.socket]]) {
      const short = await runPython(pythonSocket, String(kind), String(address), all.cert, sent.slice(0, 12))
      assert.deepStrictEqual(short, { code: 0, stdout: "68656c6c6f0a\n", stderr: "" })
      // too long for an argument
      const long = await runPython(
        pythonSocket.replace("bytes.fromhex(sent)", "(b'hello\\n' + b'x' * 200000 + b'\\n')"),
        String(kind),
        String(address),
        all.cert,
        ""
      )
      assert.strictEqual(long.stdout, `${sent}\n`, long.stderr)
    }
  })

  it("openssl s_client on tls", async (context) => {
    needs(context, "openssl")
    const flags = "-quiet -verify_return_error -verify_hostname localhost"
    const client = start(
      "openssl",
      words(`s_client ${flags} -CAfile ${all.cert} -connect 127.0.0.1:${server.ports[1]}`)
    )
    client.write("hello\nping\n")
    await client.says("hello\n")
    await client.says("pong\n")
    client.write("again\n")
    await client.says("again\n")
    assert.deepStrictEqual(client.stdout.split("\n").toSorted(), ["", "again", "hello", "pong"])
  })

  it("openssl s_client on wss, speaking HTTP by hand", async (context) => {
    needs(context, "openssl")
    const flags = "-quiet -verify_return_error"
    const client = start(
      "openssl",
      words(`s_client ${flags} -CAfile ${all.cert} -connect 127.0.0.1:${server.ports[4]}`)
    )
    client.write(
      "GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    // the answer to the key in RFC 6455, 1.3
    await client.says("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert.match(client.stdout, /^HTTP\/1\.1 101 /)
  })

  it("Python's websockets on ws and wss", async (context) => {
    needs(context, "websockets")
    for (const url of [server.urls[3]!, server.urls[4]!.replace("127.0.0.1", "localhost")]) {
      const { code, stderr, stdout } = await runPython(pythonWebSocket, url, all.cert)
      assert.deepStrictEqual({ code, stdout }, { code: 0, stdout: "closed 1000\n" }, stderr)
    }
  })

  it("a browser's WebSocket on ws", async (context) => {
    needs(context, "webSocket")
    const browser = await browse(server.urls[3]!)
    browser.ws.send("hello")
    await browser.receives("hello")
    browser.ws.send("ping")
    await browser.receives("hello", "pong")
    // no newline means anything here
    browser.ws.send("two\nlines\n")
    await browser.receives("hello", "pong", "two\nlines\n")
    assert.strictEqual(browser.ws.readyState, WebSocket.OPEN)
  })

  it("a browser's WebSocket on wss", async (context) => {
    needs(context, "webSocket", "openssl")
    const { code, stderr, stdout } = await run(process.execPath, ["-e", nodeWebSocket, server.urls[4]!], {
      env: { NODE_EXTRA_CA_CERTS: all.cert }
    })
    assert.deepStrictEqual({ code, stdout }, { code: 0, stdout: "string hello\nclosed 1000\n" }, stderr)
  })

  it("plain HTTP on ws is told what it is", async () => {
    const client = await connect(server.ports[3]!)
    client.write("GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.ends()
    assert.match(client.text, /^HTTP\/1\.1 426 /)
  })
})

describe("frames, echo", () => {
  const atEnd = atEndOfSuite()
  let server: Server
  let all: ReturnType<typeof everywhere>

  // without it there is no certificate to listen with
  beforeEach((context) => needs(context, "openssl"))
  beforeAll(async () => {
    if (!has("openssl")) return
    all = everywhere(tempDir(atEnd))
    server = await serve(`${all.flags} --protocol frames`, atEnd)
  })

  it("Python's socket, with lengths by struct", async (context) => {
    needs(context, "python")
    const script = `
import socket, struct, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
messages = [b"hello", b"", b"ping", b"\\x00\\xff\\n" * 1000, b"x" * 500000]
for m in messages: s.sendall(struct.pack(">I", len(m)) + m)
s.shutdown(socket.SHUT_WR)
f = s.makefile("rb")
for m in messages:
    n, = struct.unpack(">I", f.read(4))
    assert f.read(n) == m, m[:20]
print(f.read())
`
    assert.deepStrictEqual(await runPython(script, String(server.ports[0])), { code: 0, stdout: "b''\n", stderr: "" })
  })

  it("nc, tls and Unix sockets", async (context) => {
    needs(context, "nc", "python")
    const input = Buffer.from("\0\0\0\x05hello\0\0\0\x04ping")
    const echoed = await run("nc", ["-N", "127.0.0.1", String(server.ports[0])], { input })
    assert.deepStrictEqual(echoed, { code: 0, stdout: input.toString(), stderr: "" })
    for (const [kind, address] of [["tls", server.ports[1]], ["unix", all.socket]]) {
      const { stderr, stdout } = await runPython(
        pythonSocket,
        String(kind),
        String(address),
        all.cert,
        input.toString("hex")
      )
      assert.strictEqual(stdout, `${input.toString("hex")}\n`, stderr)
    }
  })

  it("a browser's WebSocket: binary comes back binary", async (context) => {
    needs(context, "webSocket")
    const browser = await browse(server.urls[3]!)
    browser.ws.send(new Uint8Array([0, 255, 10, 0]))
    browser.ws.send("ping")
    browser.ws.send(new Uint8Array(0))
    await until("three messages", () => browser.messages.length === 3)
    const bytes = browser.messages.map((message) =>
      message instanceof ArrayBuffer ? [...new Uint8Array(message)] : message
    )
    assert.deepStrictEqual(bytes, [[0, 255, 10, 0], [..."ping"].map((char) => char.charCodeAt(0)), []])
  })
})
