/** What the flags of `serve`, `connect` and `probe` about upgrades do: `--deflate`, and `--follow-redirects`. */
import * as Http from "node:http"
import type * as Net from "node:net"
import { assert, describe, it, onTestFinished } from "vitest"
import { main, run, serve } from "./support/kit.ts"

const cli = (input: string, ...args: ReadonlyArray<string>) => run(process.execPath, [main, ...args], { input })

const line = "the quick brown fox jumps over the lazy dog. ".repeat(100)

describe("--deflate", () => {
  it("compresses what is sent where both ends say it, and the lines are the same", async () => {
    const bytes = async (theirs: string, ours: ReadonlyArray<string>): Promise<number> => {
      const server = await serve(`--log json --listen ws://127.0.0.1:0/ ${theirs}`)
      const { code, stderr, stdout } = await cli(`${line}\n`, "connect", server.urls[0]!, "--wait", "300ms", ...ours)
      assert.deepStrictEqual([code, stdout], [0, `${line}\n`], stderr)
      const closed = /"event":"close".*/.exec(server.stderr)?.[0] ?? ""
      return Number(/"bytesIn":(\d+)/.exec(closed)?.[1])
    }
    const sizes = await Promise.all([
      bytes("--deflate", ["--deflate"]),
      bytes("", ["--deflate"]),
      bytes("--deflate", [])
    ])
    assert.isBelow(sizes[0]!, line.length / 10)
    for (const size of sizes.slice(1)) assert.isAtLeast(size, line.length)
  })
})

describe("--follow-redirects", () => {
  it("goes where the server sends us so many times, and no further", async () => {
    const server = await serve("--listen ws://127.0.0.1:0/live")
    const asked: Array<string> = []
    const redirecting = Http.createServer()
    redirecting.on("upgrade", (request, conn) => {
      asked.push(request.url!)
      const to = request.url === "/first" ? "/second" : server.urls[0]!.replace("ws:", "http:")
      conn.end(`HTTP/1.1 307 Temporary Redirect\r\nLocation: ${to}\r\nContent-Length: 0\r\n\r\n`)
    })
    onTestFinished(() => void redirecting.close())
    await new Promise<void>((resolve) => void redirecting.listen(0, "127.0.0.1", resolve))
    const url = `ws://127.0.0.1:${(redirecting.address() as Net.AddressInfo).port}/first`
    const connect = (count: string) => cli("hi\n", "connect", url, "--wait", "300ms", "--follow-redirects", count)
    const [two, one, probed] = await Promise.all([
      connect("2"),
      connect("1"),
      cli(
        "",
        "probe",
        url,
        "--follow-redirects",
        "2",
        "--silence-limit",
        "0",
        "--count",
        "1",
        "--interval",
        "1ms",
        "--dials",
        "1"
      )
    ])
    assert.deepStrictEqual([two.code, two.stdout], [0, "hi\n"], two.stderr)
    assert.strictEqual(one.code, 1, one.stderr)
    assert.match(one.stderr, /refused the upgrade with 307/)
    assert.strictEqual(probed.code, 0, probed.stderr)
    const wrong = await cli("", "connect", url, "--follow-redirects", "all")
    assert.match(wrong.stderr, /--follow-redirects.*"all".*a whole number, at least 0/)
  })
})
