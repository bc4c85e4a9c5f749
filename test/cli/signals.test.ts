/** How the command ends: by a signal, with connections in every state. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Client, Server } from "./support/kit.ts"
import { browse, connect, needs, python, serve, start, tempDir, until } from "./support/kit.ts"

const tcp = "--listen tcp://127.0.0.1:0"
const ws = "--listen ws://127.0.0.1:0/"
const json = "--log json"

/** What comes out of the kernel's buffers of loopback is far less. */
const big = "x".repeat(24 * 1024 * 1024) + "\n"
const roomy = "--max-frame 32MiB --outbox-bytes 64MiB --inbox-bytes 64MiB --ping-every 1h"

const kill = (server: Server, signal: "SIGINT" | "SIGTERM" | "SIGHUP"): number => {
  const at = performance.now()
  process.kill(server.pid, signal)
  return at
}

const echoed = async (client: Client, text: string): Promise<void> => {
  client.write(`${text}\n`)
  await client.receives(`${text}\n`)
}

/** A connection that does not close lingers for a second after the drain; the rest is for a busy machine. */
const slack = 1000 + 2000

/** Has asked for a big answer, got the beginning of it, and reads no further. */
const halfAnswered = async (port: number): Promise<Client> => {
  const client = await connect(port)
  client.conn.once("data", () => client.conn.pause())
  client.write(big)
  await until("the beginning of an answer", () => client.bytes > 0)
  return client
}

/** Waits until the server has begun to stop: it takes nobody any more. */
const stopping = (port: number): Promise<void> =>
  until("it to take nobody any more", async () => {
    const late = await connect(port)
    late.write("late\n")
    await until("an answer or the end", () => late.ended || late.text !== "")
    late.conn.destroy()
    return late.text === ""
  })

describe("one signal", () => {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    it(`${signal} with nobody there: at once, and the socket file is gone`, async () => {
      const path = Path.join(tempDir(), "s.sock")
      const server = await serve(`${tcp} ${ws} --listen unix://${path}`)
      const at = kill(server, signal)
      assert.strictEqual(await server.ended(), 0)
      assert.isBelow(performance.now() - at, slack)
      assert.strictEqual(server.stderr, "")
      assert.isFalse(Fs.existsSync(path))
    })

    it(`${signal} tells idle ones, finishes answers, and gives up on who never reads`, async (context) => {
      needs(context, "nc", "webSocket")
      const server = await serve(`${tcp} ${ws} ${json} ${roomy} --drain 2s`)
      const [port] = server.ports
      const nc = start("nc", ["-d", "127.0.0.1", String(port)])
      const browser = await browse(server.urls[1]!)
      const idle = await connect(port!)
      await echoed(idle, "hello")
      const inFlight = await halfAnswered(port!)
      const never = await halfAnswered(port!)
      await server.logged({ event: "open", id: 5 })

      const at = kill(server, signal)
      await stopping(port!)
      inFlight.conn.resume()
      await inFlight.ends()
      assert.strictEqual(inFlight.bytes, big.length)
      await idle.ends()
      await until("a close", () => browser.closed !== undefined)
      assert.strictEqual(browser.closed!.code, 1001)
      assert.strictEqual(await nc.ended(), 0)
      assert.isTrue(never.bytes < big.length)
      // the drain was cut short
      assert.strictEqual(await server.ended(), 1)
      assert.isBelow(performance.now() - at, 2000 + slack)
      // whoever was open was closed, and the log has why
      const closes = server.logs().filter((line) => line.event === "close" && Number(line.id) <= 5)
      assert.deepStrictEqual(closes.map((line) => line.reason), Array.from({ length: 5 }, () => "GoingAway"))
    })
  }

  it("answers every line that was read before it, though they had to wait", async () => {
    const server = await serve(`${tcp} ${json} --drain 10s --write-stall 0`)
    const client = await connect(server.ports[0]!)
    client.conn.pause()
    const mebibyte = Buffer.from(("x".repeat(1023) + "\n").repeat(1024))
    let written = 0
    let at = performance.now()
    const write = () => {
      client.conn.write(mebibyte, () => {
        written++
        at = performance.now()
        if (written < 64) write()
      })
    }
    write()
    await until("it to read no further", () => written > 0 && performance.now() - at > 500)
    assert.isBelow(written, 64)
    kill(server, "SIGTERM")
    client.conn.resume()
    await client.ends()
    const { bytesIn, bytesOut } = await server.logged({ event: "close", reason: "GoingAway" })
    // the last line may have come in part
    assert.strictEqual(client.bytes, Math.floor(Number(bytesIn) / 1024) * 1024)
    assert.strictEqual(bytesOut, client.bytes)
    client.conn.destroy()
    assert.strictEqual(await server.ended(), 0)
  })

  it("does not wait for idle ones", async () => {
    const server = await serve(`${tcp} --drain 20s`)
    const client = await connect(server.ports[0]!)
    await echoed(client, "hello")
    client.conn.on("end", () => client.conn.end())
    const at = kill(server, "SIGTERM")
    assert.strictEqual(await server.ended(), 0)
    assert.isBelow(performance.now() - at, slack)
  })

  it("--drain bounds it", async () => {
    const server = await serve(`${tcp} ${roomy} --drain 300ms --write-stall 0`)
    await halfAnswered(server.ports[0]!)
    const at = kill(server, "SIGTERM")
    assert.strictEqual(await server.ended(), 1)
    const took = performance.now() - at
    assert.isTrue(took > 250 && took < 300 + slack, `${took} ms`)
  })
})

describe("more signals", () => {
  it("a second one exits at once, and says so by its code", async () => {
    for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
      const server = await serve(`${tcp} ${roomy} --drain 30s --write-stall 0`)
      await halfAnswered(server.ports[0]!)
      kill(server, "SIGINT")
      await stopping(server.ports[0]!)
      // on a busy machine the first one is seen late
      const seen = performance.now()
      await until("a signal of its own", () => performance.now() - seen > 400)
      assert.isUndefined(server.exit)
      const second = kill(server, signal)
      assert.strictEqual(await server.ended(), code)
      assert.isBelow(performance.now() - second, 2000)
    }
  })

  it("the same one twice, as npm and a terminal send it, is one", async () => {
    const server = await serve(`${tcp} ${roomy} --drain 5s`)
    const client = await halfAnswered(server.ports[0]!)
    kill(server, "SIGINT")
    kill(server, "SIGINT")
    await stopping(server.ports[0]!)
    client.conn.resume()
    await client.ends()
    assert.strictEqual(client.bytes, big.length)
    assert.strictEqual(await server.ended(), 0)
  })
})

/** `npm start` in a terminal of its own: echo once, Ctrl-C once, and how it ended. */
const terminal = `
import os, pty, re, select, socket, sys, time
pid, tty = pty.fork()
if pid == 0:
    os.execvp("npm", ["npm", "start", "--", "--listen", "tcp://127.0.0.1:0"])
print("pid", pid, flush=True)
seen = b""
def read():
    global seen
    if select.select([tty], [], [], 0.1)[0]:
        try:
            seen += os.read(tty, 65536)
        except OSError:
            pass
end = time.monotonic() + 30
while not re.search(rb"listening tcp://127.0.0.1:(\\d+)\\r\\n", seen):
    assert time.monotonic() < end, seen
    read()
port = int(re.search(rb"listening tcp://127.0.0.1:(\\d+)\\r\\n", seen).group(1))
s = socket.create_connection(("127.0.0.1", port), 5)
s.sendall(b"hello\\n")
assert s.recv(100) == b"hello\\n"
os.write(tty, b"\\x03")
ended = b""
while True:
    more = s.recv(100)
    if not more: break
    ended += more
s.close()
while True:
    read()
    done, status = os.waitpid(pid, os.WNOHANG)
    if done: break
    assert time.monotonic() < end, seen
print("exit", os.waitstatus_to_exitcode(status), "connection", ended)
try:
    socket.create_connection(("127.0.0.1", port), 1)
    print("still listening")
except ConnectionRefusedError:
    print("gone")
print(seen.decode())
`

describe("npm start in a terminal", () => {
  it("Ctrl-C drains and exits 0", async (context) => {
    needs(context, "python")
    const session = start(python, ["-c", terminal])
    const code = await session.ended(45_000)
    assert.strictEqual(code, 0, session.stdout + session.stderr)
    assert.match(session.stdout, /^exit 0 connection b''\ngone$/m)
    assert.match(session.stdout, /close #1 .* \(GoingAway\)/)
  }, 60_000)
})
