/** The pages of the examples in a real Chromium. `npm run test:browser` runs it. */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import type { Browser } from "playwright-core"
import { chromium as playwright } from "playwright-core"
import { afterAll, beforeAll, onTestFinished } from "vitest"
import { root, start } from "../cli/support/kit.ts"
import { freePort } from "../support/freePort.ts"

const chromium = ["chromium", "chromium-browser", "google-chrome"].flatMap((name) => {
  const found = ChildProcess.spawnSync("which", [name], { encoding: "utf8" })
  return found.status === 0 ? [found.stdout.trim()] : []
})[0]

let browser: Browser

/** Starts an example, and returns what opens pages of it that are online. */
const example = async (name: string) => {
  const port = await freePort()
  const main = Path.join(root, "test/examples/main.ts")
  const running = start(process.execPath, ["--conditions=holdfast-source", main, name], { env: { PORT: `${port}` } })
  await running.says("Ctrl-C")
  return async (path: string) => {
    const page = await browser.newPage()
    onTestFinished(() => page.close())
    await page.goto(`http://127.0.0.1:${port}/${path}`)
    await page.waitForSelector("#status[data-online=true]")
    const shows = (id: string, text: string) =>
      page.waitForFunction(([id, text]) => document.getElementById(id!)!.textContent!.includes(text!), [id, text])
    const types = async (text: string) => {
      await page.fill("#text", text)
      await page.press("#text", "Enter")
    }
    return { page, shows, types }
  }
}

describe.skipIf(chromium === undefined)("the pages of the examples", { timeout: 60_000 }, () => {
  beforeAll(async () => {
    browser = await playwright.launch({ executablePath: chromium!, args: ["--no-sandbox"] })
  })
  afterAll(() => browser.close())

  it("chat: two users talk, and the second page of a user takes over", async () => {
    const open = await example("chat")
    const [ada, ben] = [await open("#ada"), await open("#ben")]
    await ada.types("milk?")
    await ben.shows("log", "ada: milk?")
    await ben.types("/tell ada psst")
    await ada.shows("log", "ben tells you: psst")
    await open("#ada")
    await ada.shows("status", "closed: ")
    assert.include(await ada.page.textContent("#status"), "superseded by a newer connection")
  })

  it("browser: it comes back, sends what was typed meanwhile, and ends for good", async () => {
    const { page, shows, types } = await (await example("browser"))("")
    await shows("tick", "tick")
    await page.click("#drop")
    await shows("log", "next try in")
    await page.waitForSelector("#status[data-online=true]")
    await page.click("#down")
    await shows("status", "next try in")
    await types("typed offline")
    assert.notInclude(await page.textContent("#log"), "the server heard")
    await shows("log", "the server heard: typed offline")
    await page.click("#expel")
    await shows("status", "you asked for it")
  })
})
