/** A page in a real Chromium, on a real `holdfast serve`. `npm run test:browser` runs it: it takes as long as a quiet page stays. */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Http from "node:http"
import type * as Net from "node:net"
import { onTestFinished } from "vitest"
import { serve, start, tempDir, until } from "../cli/support/kit.ts"

/** How long the page stays without a word. Several times the silence that the server bears. */
const stays = 90_000

const chromium = ["chromium", "chromium-browser", "google-chrome"].find((name) =>
  ChildProcess.spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0
)
if (chromium === undefined) {
  console.warn("test:browser: skipped, there is no chromium here (Debian: apt-get install chromium)")
}

/** Reports every event of its socket, by name, to the server that the page is from. */
const page = (url: string, name: string, frame = "") =>
  `<!doctype html><title>${name}</title>${frame}<script>
  const report = (event) => fetch("/report", { method: "POST", body: "${name}: " + event })
  const socket = new WebSocket("${url}")
  socket.onopen = () => {
    report("open")
    setTimeout(() => {
      report("readyState " + socket.readyState)
      if (socket.readyState === WebSocket.OPEN) socket.send("hello\\n")
    }, ${stays})
  }
  socket.onmessage = async ({ data }) => report("heard " + (typeof data === "string" ? data : await data.text()).trim())
  socket.onclose = ({ code }) => report("closed " + code)
</script>`

/** A server of pages. It takes their reports. */
const pages = async (reports: Array<string>) => {
  const bodies = new Map<string, string>()
  const server = Http.createServer((request, response) => {
    if (request.method === "POST") {
      let text = ""
      request.on("data", (chunk) => text += chunk)
      request.on("end", () => {
        reports.push(text)
        response.end()
      })
      return
    }
    const body = bodies.get(request.url!)
    response.writeHead(body === undefined ? 404 : 200, { "content-type": "text/html" }).end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { bodies, origin: `http://127.0.0.1:${(server.address() as Net.AddressInfo).port}` }
}

/** What a WebSocket that a page of this origin asks for is answered with. */
const statusFor = (url: string, origin: string): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const key = "dGhlIHNhbXBsZSBub25jZQ=="
    const request = Http.request(url.replace("ws:", "http:"), {
      headers: {
        origin,
        connection: "upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": key
      }
    })
    request.on("error", reject)
    request.on("response", ({ statusCode }) => {
      resolve(statusCode)
      request.destroy()
    })
    request.on("upgrade", ({ statusCode }) => {
      resolve(statusCode)
      request.destroy()
    })
    request.end()
  })

describe.skipIf(chromium === undefined)("Chromium", () => {
  it(
    "a page that only listens lives by protocol pings; without them it is closed; one of another origin is refused",
    async () => {
      const reports: Array<string> = []
      const [own, foreign] = [await pages(reports), await pages(reports)]
      const flags = `--listen ws://127.0.0.1:0/live --origin ${own.origin} --log json --silence 10s`
      const pinging = await serve(`${flags} --ping-every 4s`)
      const mute = await serve(`${flags} --ping-every 0`)
      own.bodies.set(
        "/",
        page(
          pinging.urls[0]!,
          "quiet",
          `<iframe src="/mute"></iframe><iframe src="${foreign.origin}/"></iframe>`
        )
      )
      own.bodies.set("/mute", page(mute.urls[0]!, "mute"))
      foreign.bodies.set("/", page(pinging.urls[0]!, "foreign"))

      const browser = start(chromium!, [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        `--user-data-dir=${tempDir()}`,
        `${own.origin}/`
      ])
      const has = (report: string) =>
        until(() => `${report} of ${reports.join("; ")}\n${browser.stderr}`, () => reports.includes(report), 30_000)
      await has("quiet: open")
      const since = performance.now()

      // a page is not told why
      await has("foreign: closed 1006")
      assert.deepStrictEqual(
        await Promise.all([foreign.origin, own.origin].map((origin) => statusFor(pinging.urls[0]!, origin))),
        [403, 101]
      )
      assert.notInclude(reports, "foreign: open")

      await has("mute: open")
      await until(
        () => `the end of the mute one: ${reports.join("; ")}`,
        () => reports.some((report) => report.startsWith("mute: closed")),
        30_000
      )
      const died = performance.now() - since
      assert.isAtLeast(died, 9000)

      await until(
        () => `the end of the stay: ${reports.join("; ")}`,
        () => reports.some((report) => /^quiet: (readyState|closed)/.test(report)),
        stays + 10_000
      )
      assert.isAtLeast(performance.now() - since, stays - 1000)
      await has("quiet: readyState 1")
      await has("quiet: heard hello")
      assert.deepStrictEqual(reports.filter((report) => report.startsWith("quiet")), [
        "quiet: open",
        "quiet: readyState 1",
        "quiet: heard hello"
      ])
    },
    170_000
  )
})
