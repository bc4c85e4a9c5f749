/** `holdfast probe`, against `holdfast serve` and against peers whose manners are known. */
import { assert, describe, it } from "@effect/vitest"
import * as Net from "node:net"
import { onTestFinished } from "vitest"
import { rttOf } from "../../src/cli/probeReport.ts"
import { freePort } from "../support/freePort.ts"
import { badlyTold } from "./support/inProcess.ts"
import { main, makeCertificate, needs, run, serve, start, tempDir, until } from "./support/kit.ts"

const probe = (...args: ReadonlyArray<string>) => run(process.execPath, [main, "probe", ...args])

/** The object that `--json` prints, alone on its line. */
const measured = async (...args: ReadonlyArray<string>) => {
  const { code, stderr, stdout } = await probe(...args, "--json")
  assert.match(stdout, /^\{[^\n]*\}\n$/, `${args.join(" ")}\n${stderr}`)
  assert.strictEqual(code, 0, stderr)
  return JSON.parse(stdout)
}

const peer = async (onConnection: (conn: Net.Socket) => void): Promise<string> => {
  const conns: Array<Net.Socket> = []
  const server = Net.createServer({ noDelay: true }, (conn) => {
    conns.push(conn)
    conn.on("error", () => {})
    onConnection(conn)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  onTestFinished(() => {
    for (const conn of conns) conn.destroy()
    server.close()
  })
  return `tcp://127.0.0.1:${(server.address() as Net.AddressInfo).port}`
}

/** Calls back with the number of each ping line. */
const pinged = (conn: Net.Socket, onPing: (n: number) => void): void => {
  let n = 0
  conn.on("data", (data) => {
    for (let i = data.toString().split("ping\n").length - 1; i > 0; i--) onPing(++n)
  })
}

const quick = ["--count", "6", "--interval", "5ms", "--dials", "3"]

describe("what is measured", () => {
  it("percentiles are exact, by nearest rank", () => {
    const samples = Array.from({ length: 100 }, (_, i) => ((i * 37) % 100) + 1)
    const exact = { sent: 103, received: 100, lost: 3, min: 1, p50: 50, p90: 90, p99: 99, max: 100 }
    assert.deepInclude(rttOf(samples, 103, null), exact)
    assert.deepInclude(rttOf([3, 1, 2], 3, null), { min: 1, p50: 2, p90: 3, p99: 3, max: 3, jitter: 1.5 })
    assert.deepInclude(rttOf([7.12345], 1, null), { min: 7.123, p50: 7.123, p99: 7.123, jitter: null })
    assert.deepInclude(rttOf([], 0, null), { lost: 0, min: null, p50: null, max: null, jitter: null })
  })

  for (const protocol of ["lines", "frames", "native"]) {
    it(`${protocol} over tcp, tls, unix and ws`, async (context) => {
      needs(context, "openssl")
      const dir = tempDir()
      const { cert, key } = makeCertificate(dir)
      const { urls } = await serve(
        `--protocol ${protocol} --min-ping-every 0 --log json --cert ${cert} --key ${key} --listen tcp://127.0.0.1:0 ` +
          `--listen tls://127.0.0.1:0 --listen unix://${dir}/s.sock --listen ws://127.0.0.1:0/live`
      )
      await Promise.all(urls.map(async (url) => {
        const report = await measured(url, "--protocol", protocol, ...quick, "--insecure", "--silence-limit", "100ms")
        const { advertised, dial, rtt, silence } = report
        assert.deepStrictEqual(Object.keys(report), ["url", "protocol", "dial", "rtt", "silence", "advertised"])
        assert.deepStrictEqual([report.url, report.protocol], [url, protocol])
        assert.deepStrictEqual(Object.keys(dial), ["count", "failed", "min", "median", "max"])
        assert.deepStrictEqual([dial.count, dial.failed], [3, 0])
        assert.isTrue(0 < dial.min && dial.min <= dial.median && dial.median <= dial.max, JSON.stringify(dial))
        assert.deepStrictEqual(
          Object.keys(rtt),
          ["sent", "received", "lost", "min", "p50", "p90", "p99", "max", "jitter", "problem"]
        )
        assert.deepStrictEqual([rtt.sent, rtt.received, rtt.lost, rtt.problem], [6, 6, 0, null])
        const sorted = [0, rtt.min, rtt.p50, rtt.p90, rtt.p99, rtt.max]
        assert.deepStrictEqual(sorted, [...sorted].sort((a, b) => a - b))
        assert.isAbove(rtt.min, 0)
        assert.deepStrictEqual(Object.keys(silence), ["limit", "waited", "patience", "reason", "said"])
        assert.deepInclude(silence, { limit: null, patience: 100, reason: null, said: null })
        assert.isAtLeast(silence.waited, 99)
        assert.deepStrictEqual(
          advertised === null ? null : Object.keys(advertised),
          protocol === "native" ? ["pingEvery", "minPingEvery", "after", "spread"] : null
        )
      }))
    }, 60_000)
  }

  it("a peer that answers after 40 ms, and one ping in three never", async () => {
    const url = await peer((conn) =>
      pinged(conn, (n) => void (n % 3 === 0 ? undefined : setTimeout(() => conn.write("pong\n"), 40)))
    )
    const { rtt } = await measured(url, "--count", "6", "--interval", "0", "--timeout", "1s", "--silence-limit", "0")
    assert.deepInclude(rtt, { sent: 6, received: 4, lost: 2, problem: null })
    assert.isAtLeast(rtt.min, 39)
    assert.isBelow(rtt.min, 900)
  })

  it("a pong that comes too late is lost, and does not pass for the next one", async () => {
    const url = await peer((conn) => {
      pinged(conn, (n) => void setTimeout(() => conn.write("pong\n"), n === 2 ? 1500 : 700))
    })
    const { rtt } = await measured(url, "--count", "4", "--interval", "0", "--timeout", "1s", "--silence-limit", "0")
    assert.deepInclude(rtt, { sent: 4, received: 3, lost: 1 })
    assert.isAtLeast(rtt.min, 699)
  })

  it("the peer's own pings are answered, and other lines are no pongs", async () => {
    let pongs = 0
    const url = await peer((conn) => {
      conn.on("data", (data) => (pongs += data.toString().split("pong\n").length - 1))
      pinged(conn, () => conn.write("ping\nnews\npong\n"))
    })
    const { rtt } = await measured(url, ...quick, "--silence-limit", "0")
    assert.deepInclude(rtt, { sent: 6, received: 6, lost: 0 })
    await until("pongs", () => pongs >= 5)
  })
})

describe("the silence limit", () => {
  for (const protocol of ["lines", "frames", "native"]) {
    it(`${protocol}: what the server has, and its reason`, async () => {
      const { urls } = await serve(
        // six pings that a busy machine draws apart would be three that come too early
        `--protocol ${protocol} --log json --silence 500ms --ping-every 100ms --min-ping-every 0 ` +
          "--listen tcp://127.0.0.1:0 --listen ws://127.0.0.1:0/"
      )
      await Promise.all(urls.map(async (url) => {
        const { rtt, silence } = await measured(url, "--protocol", protocol, ...quick, "--silence-limit", "8s")
        // the server counts from its accept, and the probe from when it knows of it: on a busy machine that is later
        assert.isAtLeast(silence.limit, 400)
        assert.isBelow(silence.limit, 4000)
        assert.strictEqual(silence.limit, silence.waited)
        assert.strictEqual(silence.patience, 8000)
        const told = protocol === "native" || url.startsWith("ws")
        assert.match(silence.reason, told ? /^by the peer \(code .*sent nothing for 500 ms\)$/ : /^by the peer$/)
        assert.strictEqual(rtt.received, 6)
      }))
    })
  }

  it("the last words of a peer, and a table", async () => {
    const url = await peer((conn) => {
      const patience = setTimeout(() => conn.end("ping\nbye:\tyou are too quiet\x07\n"), 300)
      pinged(conn, () => {
        conn.write("pong\n")
        patience.refresh()
      })
    })
    const { code, stdout } = await probe(url, ...quick, "--silence-limit", "8s")
    assert.match(stdout, /^tcp:\S+ \(lines\)\n\n +min +median +p90 +p99 +max +jitter\ndial /)
    assert.match(stdout, /\nround trip( +[\d.]+ ms){6} +6 of 6\n/)
    assert.match(
      stdout,
      /\nsilence limit +0\.\d\d s, then closed by the peer\n +its last words: bye: you are too quiet\n$/
    )
    assert.strictEqual(code, 0)
  })

  it("0 leaves it out", async () => {
    const { urls } = await serve("--log json --listen tcp://127.0.0.1:0")
    assert.isNull((await measured(urls[0]!, ...quick, "--silence-limit", "0")).silence)
    assert.notInclude((await probe(urls[0]!, ...quick, "--silence-limit", "0")).stdout, "silence")
  })
})

describe("what cannot be measured", () => {
  it("a peer that cannot be reached is one line and exit code 1", async () => {
    for (const args of [[], ["--json"]]) {
      const url = `tcp://127.0.0.1:${await freePort()}`
      const { code, stderr, stdout } = await probe(url, ...args)
      assert.match(stderr, new RegExp(`^holdfast: cannot reach ${url}: connect ECONNREFUSED [^\\n]+\\n$`))
      assert.deepStrictEqual([code, stdout], [1, ""])
    }
  })

  it("what Node and OpenSSL say is a sentence that says what to do, with their words behind", async (context) => {
    needs(context, "openssl")
    const { cert, key } = makeCertificate(tempDir())
    const listen = "--listen tls://127.0.0.1:0 --listen tcp://127.0.0.1:0"
    const server = await serve(`--log json --cert ${cert} --key ${key} ${listen}`)
    const [tls, tcp] = server.ports as [number, number]
    const foreign = await peer((conn) => {
      conn.write("220 hello\r\n")
    })
    const silent = await peer((conn) => {
      pinged(conn, () => conn.write(Buffer.from([0xff, 10])))
      conn.write(Buffer.from([0xff, 10]))
    })
    const cases = [
      [/its certificate is self-signed.*--ca.*--insecure \(self-signed certificate.*\)$/, `tls://127.0.0.1:${tls}`],
      [
        /is for another name.*--servername \(.*altnames.*\)$/,
        `tls://127.0.0.1:${tls}`,
        "--ca",
        cert,
        "--servername",
        "x"
      ],
      [/ended the connection before there was TLS.*tcp.*\(Client network.*\)$/, `tls://127.0.0.1:${tcp}`],
      [/does not answer in TLS: is it a port for tcp.*\(.*wrong version number.*\)$/, foreign.replace("tcp", "tls")],
      [/does not speak HTTP.*\(Parse Error.*\)$/, foreign.replace("tcp", "ws")]
    ] as const
    await Promise.all(cases.map(async ([expected, ...args]) => {
      const { code, stderr, stdout } = await probe(...args)
      assert.match(stderr.trimEnd(), expected, stderr)
      assert.match(stderr, /^holdfast: cannot reach [^\n]+\n$/)
      assert.deepStrictEqual([code, stdout], [1, ""])
    }))
    const { stdout } = await probe(silent, ...quick, "--silence-limit", "2s")
    const sentence = "the connection ended: the peer speaks another protocol than --protocol says " +
      "(a frame is not valid UTF-8: the bytes are not UTF-8)"
    assert.strictEqual(stdout.split(sentence).length, 3, stdout)
    assert.match(stdout, /\nsilence limit +\d\.\d\d s, then the connection ended: /)
  })

  it("a peer that answers nothing gives a partial result", async () => {
    const url = await peer((conn) => void conn.resume())
    const quiet = ["--timeout", "100ms", "--silence-limit", "0", "--interval", "0"]
    const expected = [["lines", /not answer pings/, 3], ["frames", /not echo/, 3], ["native", /WELCOME/, 0]] as const
    await Promise.all(expected.map(async ([protocol, problem, sent]) => {
      const { dial, rtt } = await measured(url, "--protocol", protocol, ...quiet)
      assert.strictEqual(dial.count, 5)
      assert.deepInclude(rtt, { sent, received: 0, lost: sent, min: null, p99: null, max: null })
      assert.match(rtt.problem, problem)
    }))
    assert.match(
      (await probe(url, ...quiet)).stdout,
      /\nround trip +0 of 3, 3 lost\n +the peer does not answer pings\n$/
    )
  })

  it("a peer that ends the connection in the middle", async () => {
    const { urls } = await serve("--log json --min-ping-every 10s --listen tcp://127.0.0.1:0")
    // pings within 100 ms are one strike
    const { rtt } = await measured(
      urls[0]!,
      "--count",
      "6",
      "--interval",
      "120ms",
      "--dials",
      "1",
      "--silence-limit",
      "0"
    )
    assert.isBelow(rtt.received, 6)
    assert.isAbove(rtt.received, 0)
    assert.strictEqual(rtt.lost, rtt.sent - rtt.received)
    assert.match(rtt.problem, /^the connection ended: /)
  })

  it("native: pings are no more often than the server bears", async () => {
    const { urls } = await serve("--protocol native --log json --min-ping-every 300ms --listen tcp://127.0.0.1:0")
    const { advertised, rtt } = await measured(urls[0]!, "--protocol", "native", ...quick, "--silence-limit", "0")
    assert.strictEqual(advertised.minPingEvery, 300)
    assert.deepInclude(rtt, { sent: 6, received: 6, problem: null })
  })

  it("SIGINT gives what there is", async () => {
    let pings = 0
    const url = await peer((conn) =>
      pinged(conn, () => {
        pings++
        conn.write("pong\n")
      })
    )
    const running = start(process.execPath, [main, "probe", url, "--count", "1000", "--interval", "200ms", "--json"])
    await until("three pings", () => pings >= 3)
    process.kill(running.pid, "SIGINT")
    assert.strictEqual(await running.ended(), 0)
    const { rtt, silence } = JSON.parse(running.stdout)
    assert.isAtLeast(rtt.sent, 2)
    assert.strictEqual(rtt.lost, 0)
    assert.isAbove(rtt.p50, 0)
    assert.strictEqual(silence.limit, null)
    assert.isBelow(silence.waited, 10_000)
  })

  it("a mistake in a flag is one line that names it", async () => {
    const found = await badlyTold(["probe", "tcp://127.0.0.1:1"], [
      [/--count.*"0"/, "--count", "0"],
      [/--dials.*"many"/, "--dials", "many"],
      [/--interval.*"soon"/, "--interval", "soon"],
      [/--timeout.*"soon"/, "--timeout", "soon"],
      [/--timeout.*"0".*at least 1 ms/, "--timeout", "0"],
      [/--silence-limit.*"soon"/, "--silence-limit", "soon"],
      [/--protocol.*"http"/, "--protocol", "http"]
    ])
    assert.deepStrictEqual(found, [])
  })
})
