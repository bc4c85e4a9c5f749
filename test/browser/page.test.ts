/** The page of the admin API in a real Chromium. `npm run test:browser` runs it. */
import { assert, describe, it } from "@effect/vitest"
import axe from "axe-core"
import { Duration, Effect, Exit, Redacted, Scope } from "effect"
import { Codec, Connection, Metrics, Registry } from "holdfast"
import { Admin } from "holdfast/node"
import { TestSocket } from "holdfast/testing"
import * as ChildProcess from "node:child_process"
import * as Net from "node:net"
import * as Path from "node:path"
import type { Browser, Page } from "playwright-core"
import { chromium as playwright } from "playwright-core"
import { afterAll, beforeAll, onTestFinished } from "vitest"
import { root, start, until } from "../cli/support/kit.ts"
import { freePort } from "../support/freePort.ts"
import { busy } from "./busy.ts"

const chromium = ["chromium", "chromium-browser", "google-chrome"].flatMap((name) => {
  const found = ChildProcess.spawnSync("which", [name], { encoding: "utf8" })
  return found.status === 0 ? [found.stdout.trim()] : []
})[0]
if (chromium === undefined) {
  console.warn("test:browser: skipped, there is no chromium here (Debian: apt-get install chromium)")
}

// seconds of the long look at a page that is busy; two minutes are 120
const busyFor = Number(process.env.HOLDFAST_BROWSER_BUSY ?? 15)
// a folder for screenshots, to be looked at
const screenshots = process.env.HOLDFAST_BROWSER_SCREENSHOTS

let browser: Browser

/** A page, and what it said that a page should not say. */
const open = async (address: string, options: Parameters<Browser["newPage"]>[0] = {}) => {
  const page = await browser.newPage({ viewport: { width: 1280, height: 860 }, ...options })
  const errors: Array<string> = []
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") errors.push(message.text())
  })
  page.on("pageerror", (error) => errors.push(String(error)))
  const elsewhere: Array<string> = []
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(address).origin) elsewhere.push(request.url())
  })
  onTestFinished(() => page.close())
  await page.goto(address)
  return { page, errors, elsewhere }
}

/** What axe-core finds that is serious. */
const serious = async (page: Page): Promise<ReadonlyArray<string>> => {
  await page.evaluate(axe.source)
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run())
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) =>
    `${id}: ${nodes.slice(0, 3).map(({ failureSummary, html }) => `${html} ${failureSummary}`).join("\n")}`
  )
}

const picture = async (page: Page, name: string): Promise<void> => {
  if (screenshots !== undefined) await page.screenshot({ path: Path.join(screenshots, `${name}.png`) })
}

/** Milliseconds of one task of the page's main thread: what it worked, and what passed. */
interface Task {
  readonly worked: number
  readonly wall: number
}

/** Tasks of the main threads of pages. What else this machine does takes time from a task, and is no work of it. */
const tasksOf = (trace: Buffer): ReadonlyArray<Task> => {
  const { traceEvents } = JSON.parse(trace.toString("utf8")) as {
    readonly traceEvents: ReadonlyArray<{
      readonly name: string
      readonly ph: string
      readonly pid: number
      readonly tid: number
      readonly dur?: number
      readonly tdur?: number
      readonly args?: { readonly name?: string }
    }>
  }
  const mains = new Set(
    traceEvents.filter(({ args, name }) => name === "thread_name" && args?.name === "CrRendererMain").map(
      ({ pid, tid }) => `${pid} ${tid}`
    )
  )
  return traceEvents.flatMap(({ dur, name, ph, pid, tdur, tid }) =>
    ph === "X" && name.endsWith("RunTask") && mains.has(`${pid} ${tid}`) && dur !== undefined && tdur !== undefined
      ? [{ worked: tdur / 1000, wall: dur / 1000 }]
      : []
  )
}

const token = "token-of-the-page-test"

const serve = async (
  ports: { readonly tcp: number; readonly admin: number },
  secret = token,
  ...more: ReadonlyArray<string>
) => {
  const flags = [...more, `--listen=tcp://127.0.0.1:${ports.tcp}`, `--admin=127.0.0.1:${ports.admin}`, "--log=json"]
  const server = start(process.execPath, [Path.join(root, "src/cli/main.ts"), "serve", ...flags], {
    env: { HOLDFAST_ADMIN_TOKEN: secret }
  })
  await until(() => `the admin API of ${server.stderr}`, () => server.stderr.includes("\"event\":\"admin\""), 30_000)
  return server
}

const connect = async (port: number): Promise<Net.Socket> => {
  const socket = Net.connect(port, "127.0.0.1")
  socket.on("error", () => {})
  onTestFinished(() => void socket.destroy())
  await new Promise((resolve) => socket.once("connect", resolve))
  return socket
}

const textOf = (page: Page, selector: string): Promise<string> => page.locator(selector).innerText()

/** An admin API in this process, with a registry of simulated connections. */
const program = async (port = 0) => {
  const scope = Effect.runSync(Scope.make())
  onTestFinished(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const made = Effect.gen(function*() {
    const registry = yield* Registry.make<string>()
    const admin = yield* Admin.make({ registry, port, token: Redacted.make(token) })
    return { registry, address: Redacted.value(admin.address) }
  })
  const context = await Effect.runPromise(
    Effect.context<never>().pipe(Effect.provide(Metrics.layer))
  )
  const { address, registry } = await Effect.runPromise(Effect.provide(Scope.provide(made, scope), context))
  /** Opens connections, each with a scope that ends it. */
  const add = (all: ReadonlyArray<Registry.Names>): Promise<Array<Scope.Closeable>> =>
    Effect.runPromise(
      Effect.forEach(all, (names) =>
        Effect.gen(function*() {
          const own = yield* Scope.fork(scope)
          yield* Effect.gen(function*() {
            const peer = yield* TestSocket.make()
            const connection = yield* Connection.make(peer.socket, { codec: Codec.lines() })
            yield* registry.add(connection, names)
          }).pipe(Scope.provide(own))
          return own
        })).pipe(Effect.provide(context))
    )
  return { address, registry, add }
}

describe.skipIf(chromium === undefined)("the page", () => {
  beforeAll(async () => {
    ChildProcess.execFileSync(process.execPath, [Path.join(root, ".config/admin/build.ts")])
    browser = await playwright.launch({
      executablePath: chromium!,
      args: ["--no-sandbox", "--disable-dev-shm-usage", "--enable-precise-memory-info"]
    })
  }, 60_000)
  afterAll(() => browser?.close())

  it(
    "shows a new connection within a second, what it is, and closes it; says nothing wrong and asks nothing of others",
    async () => {
      const ports = { tcp: await freePort(), admin: await freePort() }
      await serve(ports)
      const { elsewhere, errors, page } = await open(`http://127.0.0.1:${ports.admin}/?token=${token}`)
      await page.locator(".link.live").waitFor()
      // the token is in no address that is seen
      assert.notInclude(page.url(), token)

      const socket = await connect(ports.tcp)
      let closed = false
      socket.on("close", () => (closed = true)).resume()
      await page.locator("[data-id]").waitFor({ timeout: 1000 })
      socket.write("<b>hello</b>\n")

      // by the keyboard alone
      await page.locator("[role=grid]").focus()
      await page.keyboard.press("ArrowDown")
      await page.keyboard.press("Enter")
      await page.locator(".deadlines li").first().waitFor()
      const left = await textOf(page, ".deadlines .number >> nth=0")
      await until("a deadline that runs down", async () => await textOf(page, ".deadlines .number >> nth=0") !== left)
      const fibers = await page.locator(".fibers li b").allInnerTexts()
      for (const name of ["reader", "writer", "heartbeat", "deadlines"]) assert.include(fibers, name)

      await page.getByRole("button", { name: "Close…" }).click()
      await page.getByLabel("Reason, for logs and the history").fill("closed by <i>hand</i>")
      // not yet
      assert.isFalse(closed)
      await page.getByRole("button", { name: "Close it" }).click()
      await until("the end of the connection", () => closed)
      await page.locator(".words").waitFor()
      assert.include(await textOf(page, ".words"), "Closed")

      await page.getByRole("link", { name: "Ended" }).click()
      await page.locator(".ended li").waitFor()
      assert.include(await textOf(page, ".reasons"), "Closed")
      assert.deepStrictEqual({ elsewhere, errors }, { elsewhere: [], errors: [] })
    },
    60_000
  )

  it(
    "says that the server is gone, and goes on when it is back; asks for its address when the token is another",
    async () => {
      const ports = { tcp: await freePort(), admin: await freePort() }
      const first = await serve(ports)
      const context = await browser.newContext()
      onTestFinished(() => context.close())
      const page = await context.newPage()
      await page.goto(`http://127.0.0.1:${ports.admin}/?token=${token}`)
      await page.locator(".link.live").waitFor()
      first.child.kill("SIGKILL")
      await page.getByText("The server does not answer.", { exact: true }).waitFor()

      const second = await serve(ports)
      await page.locator(".link.live").waitFor({ timeout: 25_000 })
      await connect(ports.tcp)
      await page.locator("[data-id]").waitFor()
      assert.strictEqual(await page.locator(".notice").count(), 0)

      second.child.kill("SIGKILL")
      await serve(ports, "another-token")
      await page.getByText("open the address that it printed").waitFor({ timeout: 25_000 })
      const other = await context.newPage()
      await other.goto(`http://127.0.0.1:${ports.admin}/?token=another-token`)
      await page.locator(".link.live").waitFor({ timeout: 25_000 })
      await other.close()
    },
    90_000
  )

  it("without the token it says what to do, and runs nothing", async () => {
    const { address } = await program()
    const { elsewhere, page } = await open(new URL(address).origin)
    await page.getByRole("heading", { name: "A token is needed" }).waitFor()
    assert.include(await textOf(page, "main"), "Open the address that the program printed")
    assert.strictEqual(await page.locator("script, style, link").count(), 0)
    assert.deepStrictEqual([await serious(page).catch(() => []), elsewhere], [[], []])
    await picture(page, "no-token")
  }, 60_000)

  it("says which worker does not answer, for as long as it does not", async () => {
    const ports = { tcp: await freePort(), admin: await freePort() }
    await serve(ports, token, "--workers=2")
    const { errors, page } = await open(`http://127.0.0.1:${ports.admin}/?token=${token}`)
    await page.locator(".link.live").waitFor()
    await page.getByRole("alert").waitFor({ state: "detached" })
    // the first one that is up serves the page
    let second = 0
    await until("the second worker", async () => {
      const answer = await fetch(`http://127.0.0.1:${ports.admin}/api/figures`, {
        headers: { authorization: `Bearer ${token}` }
      })
      const { workers } = await answer.json() as { readonly workers: ReadonlyArray<{ readonly process: number }> }
      second = workers[1]?.process ?? 0
      return second !== 0
    })
    process.kill(second, "SIGSTOP")
    await page.getByRole("alert").getByText(`No answer from worker 2 (process ${second}).`).waitFor({ timeout: 25_000 })
    await picture(page, "silent-worker")
    assert.deepStrictEqual(await serious(page), [])
    process.kill(second, "SIGCONT")
    await page.getByRole("alert").waitFor({ state: "detached", timeout: 25_000 })
    assert.deepStrictEqual(errors, [])
  }, 90_000)

  it("drains after it has asked, and says so", async () => {
    const ports = { tcp: await freePort(), admin: await freePort() }
    const server = await serve(ports)
    const { page } = await open(`http://127.0.0.1:${ports.admin}/?token=${token}#/drain`)
    await page.getByRole("button", { name: "Drain and stop…" }).click()
    await page.keyboard.press("Escape")
    await page.locator("dialog").waitFor({ state: "detached" })
    assert.isUndefined(server.exit)
    await page.getByRole("button", { name: "Drain and stop…" }).click()
    await page.getByRole("button", { name: "Drain and stop", exact: true }).click()
    assert.strictEqual(await server.ended(), 0)
    await page.locator(".link.lost").waitFor({ timeout: 25_000 })
  }, 60_000)

  it(
    "shows what a peer wrote as text, in both themes and at the width of a phone, with nothing serious for axe-core",
    async () => {
      const { add, address } = await program()
      const evil = "<img src=x onerror=alert(1)>\u202egnp.exe\u001b[31m"
      await add(Array.from({ length: 30 }, (_, i) => ({
        key: i === 29 ? evil : `user-${i}`,
        tags: ["room:1", `<b>${i}</b>`]
      })))
      const { elsewhere, errors, page } = await open(address, { colorScheme: "light" })
      await page.locator("[data-id]").first().waitFor()
      assert.strictEqual(await page.locator("img, [data-id] b b").count(), 0)
      assert.include(await textOf(page, ".table"), "<img src=x onerror=alert(1)>\\u202egnp.exe\\x1b[31m")

      const places = ["", "connection/1", "ended", "program", "policies", "drain"]
      const problems: Array<string> = []
      for (const scheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme: scheme })
        for (const width of scheme === "light" ? [1280, 360] : [1280]) {
          await page.setViewportSize({ width, height: 800 })
          for (const place of places) {
            await page.evaluate((place) => void (location.hash = `#/${place}`), place)
            await page.locator("main h2").first().waitFor()
            await page.waitForTimeout(300)
            await picture(page, `${scheme}-${width}-${place.replace(/\W.*/, "") || "connections"}`)
            for (const problem of await serious(page)) problems.push(`${scheme} ${width} ${place}: ${problem}`)
            const wide = await page.evaluate(() => document.documentElement.scrollWidth)
            if (wide > width) problems.push(`${place} is ${wide} wide at ${width}`)
          }
        }
      }
      assert.deepStrictEqual(problems, [])
      // the toggle is stronger than the system
      await page.getByRole("button", { name: /^Theme/ }).click()
      assert.strictEqual(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), "light")
      assert.deepStrictEqual({ elsewhere, errors }, { elsewhere: [], errors: [] })
    },
    120_000
  )

  it("changes a limit of a live connection, and closes those that match, each after it has asked", async () => {
    const { add, address, registry } = await program()
    await add([{ key: "stays" }, { key: "goes-1" }, { key: "goes-2" }])
    const { errors, page } = await open(address)
    const size = () => Effect.runPromise(registry.size)
    await page.locator("[data-id]").nth(2).waitFor()

    await page.getByText("stays").click()
    await page.getByRole("button", { name: "Change a limit…" }).click()
    await page.getByRole("combobox", { name: "Limit" }).selectOption("silence")
    await page.getByLabel("New value").fill("soon")
    await page.getByRole("button", { name: "Change it" }).click()
    assert.match(await page.getByRole("alert").innerText(), /silence/)
    await page.getByLabel("New value").fill("90s")
    await page.getByRole("button", { name: "Change it" }).click()
    await page.locator("dialog").waitFor({ state: "detached" })
    const [entry] = (await Effect.runPromise(registry.entries)).filter(({ key }) => key === "stays")
    assert.strictEqual(Duration.toMillis((await Effect.runPromise(entry!.connection.policy)).silence), 90_000)
    await page.locator(".timeline").getByText("patched").waitFor()
    await picture(page, "patched")

    await page.getByRole("link", { name: "Connections" }).first().click()
    await page.getByLabel("Filter by id, key, tag or peer").fill("goes")
    await page.getByRole("button", { name: "Close these 2…" }).click()
    await page.getByText("Close 2 connections?").waitFor()
    await picture(page, "close-many")
    assert.deepStrictEqual(await serious(page), [])
    await page.getByRole("button", { name: "Cancel" }).click()
    assert.strictEqual(await size(), 3)
    await page.getByRole("button", { name: "Close these 2…" }).click()
    await page.getByRole("button", { name: "Close them" }).click()
    await page.getByText("2 connections are asked to close").waitFor({ state: "attached" })
    await until("the end of two", async () => await size() === 1)
    // what was refused is said on the page, and in the console by the browser
    assert.deepStrictEqual(errors.filter((error) => !error.includes("400")), [])
  }, 60_000)

  it(
    "10,000 connections with 1,000 changes a second: no task over 100 ms, few rows, and a heap that stays level",
    async () => {
      const registry = await Effect.runPromise(busy(10_000))
      const scope = Effect.runSync(Scope.make())
      onTestFinished(() => Effect.runPromise(Scope.close(scope, Exit.void)))
      const admin = Admin.make({ registry, port: 0, token: Redacted.make(token) })
      const address = Redacted.value((await Effect.runPromise(Scope.provide(admin, scope))).address)
      const { errors, page } = await open(address)
      await page.getByText("10,000 open").waitFor({ timeout: 30_000 })
      let changes = 0
      const began = performance.now()
      const churn = setInterval(() => {
        // as many as are due, however late this is
        const due = Math.floor((performance.now() - began - changes) / 2)
        registry.replace(due)
        changes += 2 * due
      }, 10)
      onTestFinished(() => clearInterval(churn))
      const session = await page.context().newCDPSession(page)
      const heaps: Array<number> = []
      const tasks: Array<Task> = []
      const until = performance.now() + busyFor * 1000
      let most = 0
      while (performance.now() < until) {
        await browser.startTracing(page, { categories: ["toplevel", "__metadata"] })
        const scrolled = performance.now() + 2500
        await page.mouse.move(600, 600)
        while (performance.now() < scrolled) {
          await page.mouse.wheel(0, Math.random() < 0.2 ? -4000 : 900)
          await page.waitForTimeout(30)
        }
        tasks.push(...tasksOf(await browser.stopTracing()))
        most = Math.max(most, await page.locator("[data-index]").count())
        await session.send("HeapProfiler.collectGarbage")
        heaps.push((await session.send("Runtime.getHeapUsage")).usedSize / 1024 / 1024)
      }
      clearInterval(churn)
      const rate = changes / ((performance.now() - began) / 1000)
      const [longest, longestAwake] = [
        Math.max(...tasks.map(({ wall }) => wall)),
        Math.max(...tasks.map(({ worked }) => worked))
      ]
      // the first one is before all has been seen once
      const half = Math.ceil(heaps.length / 2)
      const growth = Math.min(...heaps.slice(half)) - Math.min(...heaps.slice(1, half))
      console.log(
        `${Math.round(rate)} changes/s, ${await Effect.runPromise(
          registry.size
        )} connections, ${most} rows drawn; of ${tasks.length} ` +
          `tasks the longest worked ${longestAwake.toFixed(0)} ms, and took ${
            longest.toFixed(0)
          } ms with the waiting for a processor; ` +
          `heap ${heaps.map((mib) => mib.toFixed(1)).join(" ")} MiB`
      )
      assert.isAbove(tasks.length, 100)
      assert.isAbove(rate, 900)
      assert.isBelow(longestAwake, 100)
      assert.isBelow(most, 80)
      assert.isBelow(growth, 2)
      assert.deepStrictEqual(errors, [])
    },
    busyFor * 1000 + 90_000
  )
})
