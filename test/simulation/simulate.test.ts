/** `npm run simulate`, as somebody who types it sees it. */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

const file = fileURLToPath(new URL("simulate.ts", import.meta.url))
const compiled = fileURLToPath(new URL("../../node_modules/.cache/node", import.meta.url))

const start = (...args: ReadonlyArray<string>) => {
  // with a cache each of its threads starts in half the time
  const env = { ...process.env, NODE_OPTIONS: "", NODE_COMPILE_CACHE: compiled }
  const child = spawn(process.execPath, [file, ...args], { env })
  const printed = { out: "", err: "" }
  child.stdout.setEncoding("utf8").on("data", (text: string) => printed.out += text)
  child.stderr.setEncoding("utf8").on("data", (text: string) => printed.err += text)
  return { child, printed, ended: once(child, "close").then(([code]) => ({ code: code as number, ...printed })) }
}

const small = ["--clients", "2", "--hours", "0.02"]
// each worker loads all of the library
const alone = [...small, "--workers", "1"]

describe("npm run simulate", () => {
  it("prints a summary, and the same hash for the same seed", async () => {
    const { code, out } = await start("--seeds", "3", "--from", "7", ...small).ended
    assert.strictEqual(code, 0, out)
    assert.include(out, "3 seeds: 3 passed, 0 failed")
    const [one, again] = await Promise.all([
      start("--seed", "8", ...small).ended,
      start("--seeds", "2", "--from", "8", "--json", ...alone).ended
    ])
    const hash = /hash (\w+)/.exec(one.out)![1]
    const lines = again.out.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>)
    assert.deepInclude(lines[0], { seed: "8", hash, failure: null })
    assert.deepInclude(lines[2], { seeds: 2, wanted: 2, stopped: false, failed: [] })
  }, 60_000)

  it("a seed that fails is printed with the command that shows it again, and fails the command", async () => {
    const broken = ["--break", "fiber", ...small]
    const { code, out } = await start("--seeds", "2", "--workers", "1", ...broken).ended
    assert.strictEqual(code, 1, out)
    assert.match(out, /seed 1: leak: \d+ fibers/)
    assert.include(out, "to see it: npm run simulate -- --seed 1 --clients 2 --hours 0.02 --break fiber")
    assert.include(out, "2 seeds: 0 passed, 2 failed")
    const one = await start("--seed", "1", ...broken).ended
    assert.strictEqual(one.code, 1)
    for (const part of ["seed 1, after", "leak", "listeners", "server:7000"]) assert.include(one.out, part)
  }, 60_000)

  it("Ctrl-C prints the summary so far", async () => {
    const { child, ended, printed } = start("--seeds", "1000000", "--json", ...alone)
    const deadline = performance.now() + 30_000
    while (!printed.out.includes("\n") && performance.now() < deadline) await once(child.stdout, "data")
    child.kill("SIGINT")
    const { code, out } = await ended
    assert.strictEqual(code, 130)
    const last = JSON.parse(out.trim().split("\n").at(-1)!) as { readonly seeds: number; readonly stopped: boolean }
    assert.isTrue(last.stopped)
    assert.isAtLeast(last.seeds, 1)
  }, 60_000)

  it("what makes no sense is refused, with what does", async () => {
    const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, string]> = [
      [["--seeds", "0"], "--seeds takes a number from 1"],
      [["--seeds", "many"], "for example --seeds 1000, not \"many\""],
      [["--clients", "1.5"], "--clients takes a whole number"],
      [["--hours", "-1"], "--hours"],
      [["--seed", "1", "--seeds", "2"], "leave out --seeds"],
      [["--speed", "1"], "--speed"],
      [["--break", "dance"], "--break takes one of"],
      [["12"], "12"]
    ]
    for (const [args, says] of wrong) {
      const { code, err } = await start(...args).ended
      assert.strictEqual(code, 2, args.join(" "))
      assert.include(err, says)
      assert.include(err, "--help")
    }
    const help = await start("--help").ended
    assert.strictEqual(help.code, 0)
    assert.include(help.out, "--seeds N")
  }, 60_000)
})
