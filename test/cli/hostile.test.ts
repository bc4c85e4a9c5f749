/** Peers that mean no good: afterwards everything is as it was. */
import { assert, describe, it } from "@effect/vitest"
import * as Path from "node:path"
import {
  browse,
  connect,
  descriptors,
  makeCertificate,
  needs,
  python,
  run,
  runPython,
  serve,
  support,
  tempDir,
  until
} from "./support/kit.ts"

const overTls = `
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5), server_hostname="localhost")
data = bytes.fromhex(sys.argv[3])
s.sendall(data)
got = b""
while len(got) < len(data): got += s.recv(100)
print(got == data)
`

const overWss = `
import asyncio, ssl, sys, websockets
async def main(url, cert, text):
    async with websockets.connect(url, ssl=ssl.create_default_context(cafile=cert)) as ws:
        await ws.send(text if text == "text" else text.encode())
        print(await asyncio.wait_for(ws.recv(), 5))
asyncio.run(main(*sys.argv[1:4]))
`

for (const protocol of ["lines", "frames"] as const) {
  describe(`hostile peers of ${protocol}`, () => {
    it("200 rounds of bad manners leave nothing behind", async (context) => {
      needs(context, "nc", "openssl", "python", "websockets", "webSocket", "proc")
      const dir = tempDir()
      const { cert, key } = makeCertificate(dir)
      const path = Path.join(dir, "s.sock")
      const server = await serve(
        `--listen tcp://127.0.0.1:0 --listen tls://127.0.0.1:0 --listen unix://${path} --listen ws://127.0.0.1:0/live ` +
          `--listen wss://127.0.0.1:0/live --cert ${cert} --key ${key} --log json --protocol ${protocol} ` +
          // so that what only time ends is over soon
          "--max-frame 100KiB --handshake 1s --frame-deadline 1s --half-close 1s --silence 5s"
      )
      const message = protocol === "lines" ? "hello\n" : "\0\0\0\x05hello"
      const normalClients = async () => {
        const client = await connect(server.ports[0]!)
        client.write(message)
        await client.receives(message)
        client.conn.destroy()
        const nc = await run("nc", ["-N", "-U", path], { input: message })
        assert.strictEqual(nc.stdout, message)
        const tls = await runPython(overTls, String(server.ports[1]), cert, Buffer.from(message).toString("hex"))
        assert.strictEqual(tls.stdout, "True\n", tls.stderr)
        const browser = await browse(server.urls[3]!)
        browser.ws.send(protocol === "lines" ? "hello" : new Uint8Array([1, 2, 3]))
        await until("an echo", () => browser.messages.length === 1)
        browser.ws.close()
        const url = server.urls[4]!.replace("127.0.0.1", "localhost")
        const wss = await runPython(overWss, url, cert, protocol === "lines" ? "text" : "bytes")
        assert.strictEqual(wss.stdout, protocol === "lines" ? "text\n" : "b'bytes'\n", wss.stderr)
      }
      const before = descriptors(server.pid)
      await normalClients()
      const allClosed = () => {
        const logs = server.logs()
        const count = (event: string) => logs.filter((line) => line.event === event).length
        return count("open") === count("close")
      }
      const attack = await run(python, [Path.join(support, "hostile.py"), "20261121", "200", ...server.urls])
      assert.deepStrictEqual(attack, { code: 0, stdout: "rounds 200\n", stderr: "" })

      assert.isUndefined(server.exit)
      await normalClients()
      await until("every connection to be closed", allClosed, 15_000)
      await until(
        () => `${before} descriptors again, there are ${descriptors(server.pid)}`,
        () => descriptors(server.pid) === before,
        15_000
      )
      // nothing of it was a mistake of ours
      assert.deepStrictEqual(server.logs().filter((line) => line.level === "ERROR"), [])
      process.kill(server.pid, "SIGTERM")
      assert.strictEqual(await server.ended(), 0)
    }, 90_000)
  })
}
