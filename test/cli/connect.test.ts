/** `holdfast connect` as a person and as a pipe use it: against `holdfast serve`, and against peers that are not ours. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { onTestFinished } from "vitest"
import { freePort } from "../support/freePort.ts"
import { badlyTold } from "./support/inProcess.ts"
import type { Running } from "./support/kit.ts"
import { main, makeCertificate, needs, python, residentMiB, run, serve, start, tempDir, until } from "./support/kit.ts"

const connect = (...args: ReadonlyArray<string>): Running => start(process.execPath, [main, "connect", ...args])

const pipe = (input: string | Uint8Array, ...args: ReadonlyArray<string>) =>
  run(process.execPath, [main, "connect", ...args], { input })

const tells = (running: Running, text: string | RegExp, times = 1): Promise<void> =>
  until(
    () => `${times} x ${text} on the error stream, which has:\n${running.stderr}`,
    () => running.stderr.split(text).length > times
  )

/** A TCP server of Node's, with its connections. */
const peer = async (onConnection: (conn: Net.Socket, index: number) => void) => {
  const conns: Array<Net.Socket> = []
  const server = Net.createServer({ allowHalfOpen: true, noDelay: true }, (conn) => {
    conn.on("error", () => {})
    onConnection(conn, conns.push(conn) - 1)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  onTestFinished(() => {
    for (const conn of conns) conn.destroy()
    server.close()
  })
  return { url: `tcp://127.0.0.1:${(server.address() as Net.AddressInfo).port}`, conns }
}

/** Waits until a number has not changed for a while, after it was anything at all. */
const standsStill = async (what: string, look: () => number): Promise<number> => {
  let before = NaN
  let same = 0
  await until(`${what} to stand still`, () => {
    const now = look()
    same = now === before ? same + 1 : 0
    before = now
    return same >= 200
  })
  return before
}

/** Gives a client so many mebibytes of lines, each as soon as the one before was taken. */
const feed = (client: Running, mebibytes: number) => {
  const given = { taken: 0 }
  const block = Buffer.from(`${"x".repeat(1023)}\n`.repeat(1024))
  const next = (): void => {
    if (given.taken < mebibytes) {
      client.child.stdin.write(block, (error) => {
        if (error) return
        given.taken++
        next()
      })
    }
  }
  next()
  return given
}

describe("one conversation", () => {
  for (const protocol of ["lines", "frames", "native"]) {
    it(`${protocol} over tcp, tls, unix, ws and wss`, async (context) => {
      needs(context, "openssl")
      const dir = tempDir()
      const { cert, key } = makeCertificate(dir)
      const { urls } = await serve(
        `--protocol ${protocol} --log json --cert ${cert} --key ${key} --listen tcp://127.0.0.1:0 ` +
          `--listen tls://127.0.0.1:0 --listen unix://${dir}/s.sock --listen ws://127.0.0.1:0/live ` +
          "--listen wss://127.0.0.1:0/live"
      )
      const all = await Promise.all(urls.map((url) => {
        const client = connect(url, "--protocol", protocol, "--ca", cert)
        client.child.stdin.end("hello\nwörld ✓\r\n\nno end")
        return client.ended(40_000).then((code) => ({ url, code, stdout: client.stdout, stderr: client.stderr }))
      }))
      for (const { code, stderr, stdout, url } of all) {
        assert.strictEqual(stdout, "hello\nwörld ✓\n\nno end\n", url)
        assert.match(stderr, /^connected \S+ \(\S+ → \S+\)\nclosed: by us\n$/, url)
        assert.include(stderr, `connected ${url} (`)
        assert.strictEqual(code, 0, url)
      }
    }, 60_000)
  }

  it("a hub: what others send is printed as it comes, while the input stays open", async () => {
    const listen = "--listen tcp://127.0.0.1:0 --listen ws://127.0.0.1:0/"
    const { urls } = await serve(`--protocol native --mode hub --log json ${listen}`)
    const [ada, bob] = urls.map((url) => connect(url, "--protocol", "native")) as [Running, Running]
    await tells(ada, "connected")
    await tells(bob, "connected")
    ada.write("from ada\n")
    await bob.says("from ada\n")
    bob.write("from bob\n")
    await ada.says("from bob\n")
    assert.deepStrictEqual([ada.stdout, bob.stdout], ["from bob\n", "from ada\n"])
    for (const one of [ada, bob]) {
      process.kill(one.pid, "SIGINT")
      assert.strictEqual(await one.ended(), 0)
      assert.match(one.stderr, /\nclosed: by us\n$/)
    }
  })

  it("a self-signed certificate is refused, unless --insecure", async (context) => {
    needs(context, "openssl")
    const { cert, key } = makeCertificate(tempDir())
    const listen = "--listen tls://127.0.0.1:0 --listen wss://127.0.0.1:0/"
    const { urls } = await serve(`--log json --cert ${cert} --key ${key} ${listen}`)
    for (const url of urls) {
      const refused = await pipe("hello\n", url, "--retry", "never")
      assert.match(refused.stderr, /^holdfast: cannot connect to [^\n]*self.signed certificate[^\n]*\n$/)
      assert.deepStrictEqual([refused.code, refused.stdout], [1, ""])
      const taken = await pipe("hello\n", url, "--insecure")
      assert.deepStrictEqual([taken.code, taken.stdout], [0, "hello\n"])
      const named = await pipe("hello\n", url, "--ca", cert, "--servername", "elsewhere", "--retry", "never")
      assert.match(named.stderr, /elsewhere/)
      assert.strictEqual(named.code, 1)
    }
  })

  it("pings are answered and never printed, and ours are sent", async () => {
    let got = ""
    const { url } = await peer((conn) => {
      conn.on("data", (data) => {
        got += data
        if (String(data).includes("ping")) conn.write("pong\n")
      })
      conn.write("before\nping\nafter\n")
    })
    const client = connect(url, "--ping-every", "50ms")
    await client.says("after\n")
    await until("a pong and two pings", () => /^pong$/m.test(got) && /^ping$.*^ping$/ms.test(got))
    process.kill(client.pid, "SIGINT")
    assert.strictEqual(await client.ended(), 0)
    assert.strictEqual(client.stdout, "before\nafter\n")
  })
})

describe("the connection is lost", () => {
  for (const protocol of ["lines", "native"]) {
    it(`${protocol}: a server that is killed and comes back`, async () => {
      const url = `tcp://127.0.0.1:${await freePort()}`
      const args = `--protocol ${protocol} --log json --listen ${url}`
      const first = await serve(args)
      const client = connect(url, "--protocol", protocol, "--retry-base", "20ms", "--retry-cap", "100ms")
      client.write("one\n")
      await client.says("one\n")
      process.kill(first.pid, "SIGKILL")
      await tells(client, "lost: ")
      await tells(client, "no connection: ")
      // sent as soon as there is somebody to send it to
      client.write("two\n")
      await tells(client, "no connection: ", 3)
      await serve(args)
      await client.says("two\n")
      client.child.stdin.end("three\n")
      assert.strictEqual(await client.ended(), 0)
      assert.strictEqual(client.stdout, "one\ntwo\nthree\n")
      const [connected, lost, ...rest] = client.stderr.trimEnd().split("\n")
      assert.match(connected!, new RegExp(`^connected ${url} \\(127\\.0\\.0\\.1:\\d+ → 127\\.0\\.0\\.1:\\d+\\)$`))
      assert.match(lost!, /^lost: (by|reset by) the peer[^;]*; next try in \d\.\d s \(attempt 2\)$/)
      assert.strictEqual(rest.at(-1), "closed: by us")
      assert.match(rest.at(-2)!, /^connected /)
      for (const line of rest.slice(0, -2)) {
        assert.match(line, /^no connection: connect ECONNREFUSED \S+; next try in \d\.\d s \(attempt \d+\)$/)
      }
    })
  }

  it("--offline fail tells what is not sent", async () => {
    const client = connect(`tcp://127.0.0.1:${await freePort()}`, "--offline", "fail", "--retry-base", "20ms")
    await tells(client, "no connection: ")
    client.write("a\nb\n")
    await tells(client, "not sent: ", 2)
    assert.strictEqual(client.stdout, "")
  })

  it("B113 a line that was not sent makes it fail, and it says how many", async () => {
    // refused, while there is no connection
    const offline = connect(`tcp://127.0.0.1:${await freePort()}`, "--offline", "fail", "--retry-base", "20ms")
    await tells(offline, "no connection: ")
    offline.write("a\nb\nc\n")
    await tells(offline, "not sent: ", 3)
    process.kill(offline.pid, "SIGINT")
    assert.strictEqual(await offline.ended(), 1)
    assert.match(offline.stderr, /\nholdfast: 3 lines of the input were not sent\n$/)
    // waits for a connection that never comes
    const waiting = connect(`tcp://127.0.0.1:${await freePort()}`, "--retry-base", "20ms")
    waiting.write("a\nb\n")
    await tells(waiting, "no connection: ", 2)
    process.kill(waiting.pid, "SIGINT")
    assert.strictEqual(await waiting.ended(), 1)
    assert.match(waiting.stderr, /\nholdfast: 2 lines of the input were not sent\n$/)
    // accepted by a connection that takes nothing, and then says good-bye
    const { conns, url } = await peer((conn) => void conn.pause())
    const lost = connect(url, "--retry", "never", "--write-stall", "0")
    await tells(lost, "connected")
    const given = feed(lost, 32)
    await standsStill("input", () => given.taken)
    conns[0]!.resetAndDestroy()
    assert.strictEqual(await lost.ended(), 1)
    assert.match(lost.stderr, /; \d+ lines of the input were not sent\n$/)
  })

  it("B135 lines that went to a peer which never said anything are told", async () => {
    const { url } = await peer((conn) => void conn.once("data", () => conn.resetAndDestroy()))
    const client = connect(url, "--retry-base", "50ms")
    await tells(client, "connected")
    client.write("hello\n")
    await tells(client, "next try in")
    assert.match(client.stderr, /; 1 sent line may not have arrived; next try in /)
  })

  it("--retry never: the peer's good-bye is the end, and no failure", async () => {
    const { conns, url } = await peer((conn) => {
      conn.end("bye\n")
    })
    const client = connect(url, "--retry", "never")
    assert.strictEqual(await client.ended(), 0)
    assert.strictEqual(client.stdout, "bye\n")
    assert.match(client.stderr, /^connected [^\n]*\nclosed: by the peer\n$/)
    assert.strictEqual(conns.length, 1)
  })

  it("--retry never: a reset is a failure", async () => {
    const { url } = await peer((conn) => {
      conn.on("data", () => conn.resetAndDestroy())
    })
    const client = connect(url, "--retry", "never")
    client.write("hello\n")
    assert.strictEqual(await client.ended(), 1)
    assert.match(client.stderr, /^connected [^\n]*\nholdfast: tcp:\S+ is lost: reset by the peer[^\n]*\n$/)
  })

  it("--retry 2 is three tries; --retry-elapsed gives up by time", async () => {
    const { conns, url } = await peer((conn) => conn.end())
    const fast = ["--retry-base", "10ms", "--retry-cap", "10ms"]
    const counted = await pipe("", url, "--retry", "2", "--wait", "Infinity", ...fast)
    assert.strictEqual(counted.code, 1)
    assert.strictEqual(conns.length, 3)
    assert.match(counted.stderr, /\nholdfast: tcp:\S+ is lost: by the peer\n$/)
    const nobody = `tcp://127.0.0.1:${await freePort()}`
    const timed = await pipe("x\n", nobody, "--retry-elapsed", "100ms", ...fast)
    const unsent = "; 1 line of the input was not sent"
    assert.match(
      timed.stderr,
      new RegExp(`\nholdfast: cannot connect to tcp:\\S+: connect ECONNREFUSED [\\d.:]+${unsent}\n$`)
    )
    assert.strictEqual(timed.code, 1)
    const file = Path.join(tempDir(), "policy.json")
    Fs.writeFileSync(file, JSON.stringify({ retryAttempts: 1, retryBase: 10, retryCap: 10 }))
    const filed = await pipe("x\n", nobody, "--policy", file)
    assert.strictEqual(filed.stderr.split("no connection").length, 2)
    assert.strictEqual(filed.code, 1)
  })

  it("another protocol than the peer's is a failure that no other try helps", async () => {
    const { conns, url } = await peer((conn) => void conn.write("220 mail.example.com ESMTP\r\n"))
    const client = await pipe("hello\n", url, "--protocol", "native")
    assert.match(client.stderr, /^holdfast: cannot connect to [^\n]+\n$/)
    assert.deepStrictEqual([client.code, client.stdout, conns.length], [1, "", 1])
  })
})

describe("in a pipe", () => {
  it("50,000 lines come back, all of them and in order", async () => {
    const { urls } = await serve("--log json --listen tcp://127.0.0.1:0")
    const input = Array.from({ length: 50_000 }, (_, i) => `line ${i}\n`).join("")
    const { code, stdout } = await pipe(input, urls[0]!)
    assert.strictEqual(code, 0)
    assert.isTrue(stdout === input)
  })

  it("after the end of the input it prints until nothing came for --wait", async () => {
    const { url } = await peer((conn) => {
      // every gap is shorter than --wait, all of them are longer
      let left = 10
      const timer = setInterval(() => {
        if (left-- > 0) return conn.write(`${left}\n`)
        clearInterval(timer)
      }, 300)
    })
    const { code, stdout } = await pipe("", url, "--wait", "2s")
    assert.deepStrictEqual([code, stdout], [0, "9\n8\n7\n6\n5\n4\n3\n2\n1\n0\n"])
  })

  it("--wait 0 leaves at once, --wait Infinity stays", async () => {
    let got = ""
    const { url } = await peer((conn) => {
      conn.on("data", (data) => (got += data))
      // there is no quiet to wait for
      const timer = setInterval(() => conn.write("tick\n"), 50)
      conn.on("close", () => clearInterval(timer))
    })
    const { code } = await pipe("hello\n", url, "--wait", "0")
    assert.strictEqual(code, 0)
    await until("what was sent", () => got === "hello\n")
    const stays = connect(url, "--wait", "Infinity")
    stays.child.stdin.end()
    await tells(stays, "connected")
    process.kill(stays.pid, "SIGTERM")
    assert.strictEqual(await stays.ended(), 0)
  })

  it("head -1: nobody reads on, and it ends quietly", async () => {
    const { urls } = await serve("--log json --listen tcp://127.0.0.1:0")
    const script = `yes 2>/dev/null | "$0" "$1" connect "$2" 2>/dev/null | head -1; echo "\${PIPESTATUS[1]}"`
    const { code, stderr, stdout } = await run("bash", ["-c", script, process.execPath, main, urls[0]!])
    assert.deepStrictEqual({ code, stderr, stdout }, { code: 0, stderr: "", stdout: "y\n0\n" })
  })

  it("input is not read faster than the peer takes it", async (context) => {
    needs(context, "proc")
    let received = 0
    const { conns, url } = await peer((conn) => void conn.pause())
    const client = connect(url, "--write-stall", "0", "--silence", "0")
    await tells(client, "connected")
    const given = feed(client, 64)
    assert.isBelow(await standsStill("input", () => given.taken), 16)
    assert.isBelow(residentMiB(client.pid), 300)
    conns[0]!.on("data", (data) => (received += data.length)).resume()
    await until("all of it to be taken", () => given.taken === 64)
    client.child.stdin.end()
    assert.strictEqual(await client.ended(), 0)
    await until("all of it", () => received === 64 * 2 ** 20)
  })

  it("output that is not read holds the peer back", async (context) => {
    needs(context, "proc")
    let sent = 0
    const block = Buffer.from(`${"x".repeat(1023)}\n`.repeat(64))
    const { url } = await peer((conn) => {
      const more = (): void => {
        while (sent < 64 * 16) {
          sent++
          if (!conn.write(block)) return
        }
        conn.end()
      }
      conn.on("drain", more)
      more()
    })
    const client = connect(url, "--retry", "never")
    client.child.stdout.pause()
    await tells(client, "connected")
    await standsStill("the peer", () => sent)
    assert.isBelow(sent, 64 * 8)
    client.child.stdout.resume()
    assert.strictEqual(await client.ended(), 0)
    assert.strictEqual(client.stdout.length, 64 * 2 ** 20)
  })

  it("lines that are too long are told, and the others sent", async () => {
    const { urls } = await serve("--log json --listen tcp://127.0.0.1:0")
    const input = `before\n${"x".repeat(2000)}\n${"y".repeat(1000)}\r\n${"z".repeat(1001)}\nafter`
    const { code, stderr, stdout } = await pipe(input, urls[0]!, "--max-frame", "1000")
    assert.strictEqual(stdout, `before\n${"y".repeat(1000)}\nafter\n`)
    assert.match(stderr, /^not sent: a line of 2000 bytes is over the limit of 1000 bytes \(--max-frame\)$/m)
    assert.match(stderr, /^not sent: [^\n]*1001 bytes[^\n]*1000 bytes$/m)
    // B113
    assert.match(stderr, /\nholdfast: 2 lines of the input were not sent\n$/)
    assert.strictEqual(code, 1)
  })
})

describe("on a terminal", () => {
  // types a line, waits for its echo by the server, then Ctrl-D
  const typist = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
out = b""
def wait(text, times=1):
    global out
    while out.count(text) < times:
        out += os.read(fd, 65536)
wait(b"connected")
os.write(fd, b"typed\\n")
wait(b"typed", 2)
wait(b"evil")
os.write(fd, b"\\x04")
try:
    while True:
        out += os.read(fd, 65536)
except OSError:
    pass
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(out)
print("exit", os.waitstatus_to_exitcode(status))
`

  it("Ctrl-D ends it, and the peer cannot command the terminal", async (context) => {
    needs(context, "python")
    const { url } = await peer((conn) => {
      conn.on("data", (data) => {
        conn.write(data)
        conn.write("\x1b]0;evil\x07\x9b2J\n")
      })
    })
    const args = [process.execPath, main, "connect", url]
    const { stdout } = await run(python, ["-c", typist, ...args])
    assert.match(stdout, /\r\ntyped\r\n\\x1b\]0;evil\\x07\\x9b2J\r\n/)
    assert.match(stdout, /closed: by us\r\nexit 0\n$/)
    assert.notInclude(stdout, "\x1b")
  })
})

describe("signals", () => {
  it("SIGINT sends what was accepted and says good-bye", async () => {
    let got = ""
    let ended = false
    const { url } = await peer((conn) => {
      conn.on("data", (data) => (got += data)).on("end", () => {
        ended = true
        conn.end()
      })
    })
    const client = connect(url)
    client.write("hello\n")
    await until("the line", () => got === "hello\n")
    process.kill(client.pid, "SIGINT")
    assert.strictEqual(await client.ended(), 0)
    await until("a FIN", () => ended)
  })

  it("SIGINT waits until a peer that takes nothing for now has taken what was accepted", async () => {
    const { conns, url } = await peer((conn) => void conn.pause())
    const client = connect(url, "--write-stall", "0", "--drain", "1m")
    await tells(client, "connected")
    const given = feed(client, 32)
    assert.isBelow(await standsStill("input", () => given.taken), 16)
    process.kill(client.pid, "SIGINT")
    await standsStill("the client", () => client.stderr.length)
    conns[0]!.resume().on("end", () => conns[0]!.end())
    // B113 of what was read some lines waited for room
    assert.strictEqual(await client.ended(), 1)
    assert.match(client.stderr, /\nclosed: by us\nholdfast: \d+ lines of the input were not sent\n$/)
  })

  it("SIGINT while it cannot connect", async () => {
    const client = connect(`tcp://127.0.0.1:${await freePort()}`)
    await tells(client, "no connection")
    process.kill(client.pid, "SIGINT")
    assert.strictEqual(await client.ended(), 0)
  })

  it("a second signal does not wait for a peer that takes nothing", async () => {
    const { url } = await peer((conn) => void conn.pause())
    const client = connect(url, "--write-stall", "0", "--drain", "1h")
    await tells(client, "connected")
    const given = feed(client, 32)
    assert.isBelow(await standsStill("input", () => given.taken), 16)
    process.kill(client.pid, "SIGINT")
    await until("the end", () => {
      if (client.exit === undefined) client.child.kill("SIGINT")
      return client.exit !== undefined
    })
    assert.strictEqual(await client.ended(), 130)
  })
})

describe("a mistake is one line and exit code 1", () => {
  const url = "tcp://127.0.0.1:1"

  it("in a process of its own", async () => {
    const { code, stderr, stdout } = await pipe("hello\n", "nonsense")
    assert.match(stderr, /^holdfast: [^\n]*nonsense[^\n]*URL[^\n]*\n$/)
    assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
  })

  it("in the URL", async () => {
    assert.deepStrictEqual(
      await badlyTold(["connect"], [[/url/], [/nonsense.*URL/, "nonsense"], [/port/, "tcp://127.0.0.1"], [
        /"b"/,
        url,
        "b"
      ]]),
      []
    )
  })

  it("in a flag", async () => {
    assert.deepStrictEqual(
      await badlyTold(["connect"], [
        [/--nope/, url, "--nope"],
        [/--retry.*"0"/, url, "--retry", "0"],
        [/--retry.*"sometimes".*never/, url, "--retry", "sometimes"],
        [/--wait.*"soon"/, url, "--wait", "soon"],
        [/--silence.*"soon"/, url, "--silence", "soon"],
        [/--retry-base.*"soon"/, url, "--retry-base", "soon"],
        [/--protocol.*"http".*native/, url, "--protocol", "http"],
        [/--offline.*"maybe".*fail/, url, "--offline", "maybe"],
        [/--max-connections/, url, "--max-connections", "1"]
      ]),
      []
    )
  }, 40_000)

  it("in a file", async () => {
    const dir = tempDir()
    const tls = "tls://127.0.0.1:1"
    const none = Path.join(dir, "none.pem")
    const policy = Path.join(dir, "policy.json")
    Fs.writeFileSync(policy, "{\"retryBase\": \"soon\"}")
    assert.deepStrictEqual(
      await badlyTold(["connect"], [
        [/--ca \S+none\.pem: there is no such file/, tls, "--ca", none],
        [/--cert \S+none\.pem: there is no such file/, tls, "--cert", none],
        [/--policy \S+none\.pem: there is no such file/, url, "--policy", none],
        [/--policy \S+policy\.json.*retryBase/, url, "--policy", policy]
      ]),
      []
    )
  })
})
