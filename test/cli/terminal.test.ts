/** What peers say, on a terminal: it moves no cursor, sets no title, turns no text around, and makes no line of its own. */
import { assert, describe, it } from "@effect/vitest"
import * as Crypto from "node:crypto"
import * as Net from "node:net"
import { onTestFinished } from "vitest"
import { connect as dial, main, needs, onTerminal, type Running, until } from "./support/kit.ts"

const terminal = (...args: ReadonlyArray<string>): Running => onTerminal(process.execPath, main, ...args)

const evil = "e\x1b[2J\x1b]0;t\x07\x9b2J\r\nforged\u202e\u2066\u2028\u200b\ufeff\x85\x00l"

/** What is left of an output without its own line ends, tabs and colours. */
const commands = (shown: string): ReadonlyArray<string> =>
  // oxlint-disable-next-line no-control-regex
  shown.replaceAll(/\r\n|\t|\x1b\[\d+(;\d+)*m|\r\x1b\[2K/g, "").match(/[\p{Cc}\p{Cf}\u2028\u2029]/gu) ?? []

const isClean = (shown: string): void => {
  assert.deepStrictEqual(commands(shown), [], JSON.stringify(shown))
  assert.notMatch(shown, /(^|\n)forged/)
}

const framed = (type: number, ...parts: ReadonlyArray<Uint8Array | ReadonlyArray<number>>): Buffer => {
  const body = Buffer.concat([Buffer.from([type]), ...parts.map((part) => Buffer.from(part))])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  return Buffer.concat([length, body])
}

const zeros = (count: number): Buffer => Buffer.alloc(count)
/** CLOSE of the native protocol. */
const nativeClose = (code: number, note: string): Buffer => framed(7, [code, 0], zeros(8), Buffer.from(note))
const welcome = framed(2, [1], zeros(16))
const hello = framed(1, [0x48, 0x46, 1, 1], zeros(8))

/** A frame of a WebSocket, masked with zeros where it comes from a client. */
const wsFrame = (opcode: number, body: Buffer, isMasked = false): Buffer =>
  Buffer.concat([
    Buffer.from([0x80 | opcode, body.length | (isMasked ? 0x80 : 0)]),
    isMasked ? zeros(4) : zeros(0),
    body
  ])
const wsClose = (isMasked = false): Buffer =>
  wsFrame(8, Buffer.concat([Buffer.from([0x0f, 0xa1]), Buffer.from(evil)]), isMasked)

const acceptOf = (request: string): string => {
  const key = /sec-websocket-key: (\S+)/i.exec(request)![1]!
  return Crypto.createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64")
}

/** A server that answers the first bytes of a connection. */
const peer = async (answer: (data: Buffer) => ReadonlyArray<Buffer | string>): Promise<number> => {
  const conns: Array<Net.Socket> = []
  const server = Net.createServer((conn) => {
    conns.push(conn)
    conn.on("error", () => {})
    conn.once("data", (data) => {
      for (const part of answer(data)) conn.write(part)
      conn.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  onTestFinished(() => {
    for (const conn of conns) conn.destroy()
    server.close()
  })
  return (server.address() as Net.AddressInfo).port
}

const upgraded = (data: Buffer): string =>
  "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n" +
  `sec-websocket-accept: ${acceptOf(String(data))}\r\n\r\n`

describe("B133 a server commands no terminal", () => {
  const peers = {
    "a line": ["tcp", "lines", () => [`${evil}\n`]],
    "a native CLOSE": ["tcp", "native", () => [welcome, framed(5, Buffer.from(evil)), nativeClose(3, evil)]],
    "a native CLOSE in place of WELCOME": ["tcp", "native", () => [nativeClose(8, evil)]],
    "a message and a close of a WebSocket": [
      "ws",
      "lines",
      (data: Buffer) => [upgraded(data), wsFrame(1, Buffer.from(evil)), wsClose()]
    ],
    "a refused upgrade": [
      "ws",
      "lines",
      () => [
        Buffer.from(
          `HTTP/1.1 401 ${evil.replaceAll(/[\r\n\0]/g, "")}\r\nserver: \x9bm\r\nlocation: \xe2\x80\xae\r\n\r\n`,
          "latin1"
        )
      ]
    ]
  } as const

  for (const [name, [scheme, protocol, answer]] of Object.entries(peers)) {
    it(`${name}: through connect and probe`, async (context) => {
      needs(context, "python")
      const url = `${scheme}://127.0.0.1:${await peer(answer)}`
      const quick = ["--dials", "1", "--count", "1", "--timeout", "300ms", "--silence-limit", "400ms"]
      const flags = [url, "--protocol", protocol]
      const all = [
        terminal("connect", ...flags, "--retry", "never"),
        terminal("probe", ...flags, ...quick, ...(name === "a native CLOSE" ? ["--json"] : []))
      ]
      // a client of lines speaks first here
      if (protocol === "lines") all[0]!.write("")
      for (const one of all) {
        await until(() => `something from ${name}`, () => one.stdout.trim() !== "")
      }
      await until("what connect shows", () => /closed|lost|cannot/.test(all[0]!.stdout) || protocol === "lines")
      all[0]!.child.stdin.end()
      for (const one of all) {
        await one.ended(20_000)
        isClean(one.stdout)
        assert.strictEqual(one.stderr, "")
      }
    })
  }
})

describe("B133 a client commands no terminal of a server", () => {
  for (const log of ["pretty", "json"]) {
    it(`serve --log ${log}`, async (context) => {
      needs(context, "python")
      const listen = ["--listen", "tcp://127.0.0.1:0", "--listen", "ws://127.0.0.1:0/live"]
      const server = terminal("serve", ...listen, "--protocol", "native", "--log", log)
      const ports = () =>
        [...server.stdout.matchAll(/listening \w+:\/\/[^:]+:(\d+)\S*\s/g)].map(([, port]) => Number(port))
      await until("two listeners", () => ports().length === 2)
      const [tcp, ws] = ports() as [number, number]
      const native = await dial(tcp)
      native.write(Buffer.concat([hello, nativeClose(9, evil)]))
      const early = await dial(tcp)
      early.write(nativeClose(8, evil))
      const browser = await dial(ws)
      browser.write(
        "GET /live HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n" +
          "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
      )
      await until("the 101", () => browser.text.includes("101"))
      browser.write(Buffer.concat([wsFrame(2, hello.subarray(4), true), wsClose(true)]))
      const wrong = await dial(ws)
      wrong.write(
        Buffer.from(
          "GET /\x1b[2J HTTP/1.1\r\nhost: \x9b\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
          "latin1"
        )
      )
      await until(
        () => `the ends of three\n${server.stdout}`,
        () => (server.stdout.match(/(close|refused) ?[#1]/g)?.length ?? 0) >= 3
      )
      server.child.stdin.end()
      await server.ended()
      isClean(server.stdout)
      assert.include(server.stdout, "]0;t")
    })
  }
})

it("Ctrl-C ends a command that waits for a policy to be typed", async (context) => {
  needs(context, "python")
  const policy = terminal("policy", "--policy", "/dev/stdin")
  await new Promise((resolve) => setTimeout(resolve, 1500))
  assert.isUndefined(policy.exit)
  policy.write("\x03")
  await policy.ended()
})
