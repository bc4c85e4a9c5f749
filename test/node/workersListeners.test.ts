/** Workers behind each kind of listener, with the kernel: all of them serve, and a renewal refuses and resets no client. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Tls from "node:tls"
import { fileURLToPath } from "node:url"
import { WebSocket } from "ws"
import { makeCertificate, start, tempDir, until } from "../cli/support/kit.ts"
import { isLong, long } from "../support/often.ts"

const program = fileURLToPath(new URL("fixtures/workers.ts", import.meta.url))
const patience = 60_000

/** Visits a server once: the result is what it answers. */
type Visit = (url: URL) => Promise<string>

const stream = (connect: (url: URL) => Net.Socket): Visit => (url) =>
  new Promise((resolve, reject) => {
    const conn = connect(url)
    let text = ""
    conn.write("hello\n")
    conn.on("data", (data) => {
      text += data.toString()
      if (text.endsWith("\n")) conn.end()
    })
    conn.on("error", reject)
    conn.on("close", () => resolve(text.trim()))
  })

const webSocket: Visit = (url) =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(url, { rejectUnauthorized: false })
    let text = ""
    ws.on("open", () => ws.send("hello"))
    ws.on("message", (data: Buffer) => {
      text = data.toString()
      ws.close()
    })
    ws.on("error", reject)
    ws.on("close", () => resolve(text))
  })

const request: Visit = (url) =>
  new Promise((resolve, reject) => {
    const { get } = url.protocol === "https:" ? Https : Http
    get(url, { agent: false, rejectUnauthorized: false } as Https.RequestOptions, (response) => {
      let text = ""
      response.on("data", (data) => text += data).on("end", () => resolve(text)).on("error", reject)
    }).on("error", reject)
  })

const visits: Readonly<Record<string, Visit>> = {
  "tcp:": stream(({ port }) => Net.connect(Number(port), "127.0.0.1")),
  "tls:": stream(({ port }) => Tls.connect(Number(port), "127.0.0.1", { rejectUnauthorized: false })),
  "unix:": stream(({ pathname }) => Net.connect(pathname)),
  "ws:": webSocket,
  "wss:": webSocket,
  "http:": request,
  "https:": request
}

/** Visits one after the other until it is told to stop: which workers answered, and what went wrong. */
const visiting = (url: URL, isOver: () => boolean) => {
  const seen = { workers: new Set<string>(), count: 0, left: 0, wrong: [] as Array<string> }
  const isSlow = ["tls:", "ws:", "wss:"].includes(url.protocol)
  const loop = async (): Promise<void> => {
    while (!isOver()) {
      const answer = await visits[url.protocol]!(url).catch(String)
      seen.count++
      const worker = /^([12]) hello$/.exec(answer)?.[1]
      if (worker !== undefined) seen.workers.add(worker)
      // it was there when its worker was asked to stop, and had asked nothing yet: it is told to leave, and comes back
      else if (answer === "" && isSlow) seen.left++
      else seen.wrong.push(answer)
    }
  }
  return { seen, ended: loop() }
}

describe.runIf(isLong)("workers behind listeners", () => {
  it("B101 a worker whose parent was killed while it was loading ends", long(60_000), async () => {
    const file = Path.join(tempDir(), "loaded")
    const parent = start(process.execPath, [fileURLToPath(new URL("fixtures/loadingWorker.ts", import.meta.url)), file])
    const pidOf = () => Number(/^loading (\d+)$/m.exec(parent.stdout)?.[1] ?? 0)
    await until(() => `a worker in ${parent.stdout}${parent.stderr}`, () => pidOf() > 0, patience)
    const isAlive = (): boolean => Fs.existsSync(`/proc/${pidOf()}/exe`)
    process.kill(parent.pid, "SIGKILL")
    // Node tells a worker of it once its event loop turns
    await new Promise((resolve) => setTimeout(resolve, 200))
    assert.isTrue(isAlive())
    Fs.writeFileSync(file, "")
    try {
      await until("the end of the worker", () => !isAlive())
    } finally {
      if (isAlive()) process.kill(pidOf(), "SIGKILL")
    }
  })

  it("TCP, TLS, Unix, WebSocket and HTTP: both serve, also through a renewal and a crash", long(180_000), async () => {
    const directory = tempDir()
    makeCertificate(directory)
    const server = start(process.execPath, [program, directory])
    const ready = () => [...`${server.stdout}${server.stderr}`.matchAll(/takes connections \(process (\d+)\)/g)]
    const said = () => `${server.stdout}\n${server.stderr}`
    await until(() => `two workers in ${said()}`, () => ready().length === 2, patience)
    const urls = (JSON.parse(server.stdout.split("\n").find((line) => line.startsWith("["))!) as ReadonlyArray<string>)
      .map((url) => new URL(url))
    urls.push(new URL("/live", urls.find(({ protocol }) => protocol === "http:")!.href.replace("http", "ws")))
    assert.deepStrictEqual(urls.map(({ protocol }) => protocol), [
      "tcp:",
      "tls:",
      "unix:",
      "ws:",
      "wss:",
      "http:",
      "https:",
      "ws:"
    ])

    const state = { isOver: false }
    const all = urls.map((url) => visiting(url, () => state.isOver))
    const more = async (): Promise<void> => {
      const before = all.map(({ seen: { count } }) => count)
      await until(
        () => {
          const stuck = urls.filter((_, i) => all[i]!.seen.count <= before[i]! + 3)
          return `more visits than ${before} of ${stuck.join(" ")} in ${said()}`
        },
        () => all.every(({ seen: { count } }, i) => count > before[i]! + 3),
        patience
      )
    }
    const bothServe = (): void => {
      for (const [i, { seen }] of all.entries()) {
        assert.deepStrictEqual([...seen.workers].toSorted(), ["1", "2"], urls[i]!.href)
      }
    }
    await more()
    bothServe()
    for (const { seen } of all) seen.workers.clear()
    process.kill(server.pid, "SIGHUP")
    await until(() => `a renewal in ${said()}`, () => said().includes("all workers are new"), patience)
    await more()
    bothServe()
    assert.strictEqual(ready().length, 4)
    // nothing was refused or reset
    for (const [i, { seen }] of all.entries()) {
      assert.deepStrictEqual(seen.wrong, [], urls[i]!.href)
      assert.isAtMost(seen.left, 2, urls[i]!.href)
    }

    // a crash loses what the worker had, and nothing that comes after it
    process.kill(Number(ready()[3]![1]), "SIGKILL")
    await until(() => `another worker in ${said()}`, () => ready().length === 5, patience)
    const wrong = all.map(({ seen }) => seen.wrong.length)
    for (const { seen } of all) seen.workers.clear()
    await more()
    bothServe()
    state.isOver = true
    await Promise.all(all.map(({ ended }) => ended))
    for (const [i, { seen }] of all.entries()) {
      assert.isAtMost(wrong[i]!, 1, urls[i]!.href)
      assert.strictEqual(seen.wrong.length, wrong[i], urls[i]!.href)
    }
    process.kill(server.pid, "SIGTERM")
    assert.strictEqual(await server.ended(patience), 0, said())
    // the socket file is gone with the parent
    assert.match(
      await visits["unix:"]!(new URL(`unix://${Path.join(directory, "workers.sock")}`)).catch(String),
      /ENOENT/
    )
  })
})
