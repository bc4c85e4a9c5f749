/** What is left of a bench that is stopped: no process, and no folder. */
import { assert, describe, it } from "@effect/vitest"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { isLong, long } from "../support/often.ts"

const main = fileURLToPath(new URL("main.ts", import.meta.url))

/** What a process has started, and what those have. */
const descendants = (pid: number): ReadonlyArray<number> =>
  readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    const children = readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number)
    return children.flatMap((child) => [child, ...descendants(child)])
  })

const isAlive = (pid: number): boolean =>
  existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))

const until = async (what: string, condition: () => boolean): Promise<void> => {
  const deadline = performance.now() + 60_000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within a minute: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const measuring = (folder: string): { readonly child: ChildProcess; readonly said: () => string } => {
  const args = ["--only", "^50x1$", "--servers", "raw,c,serve", "--rounds", "1000", "--seconds", "0.1"]
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, TMPDIR: folder }
  })
  let text = ""
  child.stderr.on("data", (data: Buffer) => text += data.toString())
  return { child, said: () => text }
}

describe.runIf(isLong)("a bench that is stopped", long(180_000), () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const) {
    it(`leaves nothing behind after ${signal}`, async () => {
      const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-test-"))
      const { child, said } = measuring(folder)
      try {
        await until("the servers are connected to", () => said().includes("connected"))
        const started = descendants(child.pid!)
        assert.isAtLeast(started.length, 6, said())
        const ended = once(child, "exit")
        child.kill(signal)
        child.kill(signal)
        assert.deepStrictEqual(await ended, [null, signal])
        await until(`${started.filter(isAlive).join()} end`, () => !started.some(isAlive))
        // a process that is killed cannot
        const left = readdirSync(folder).filter((name) => name.startsWith("holdfast-bench-"))
        assert.lengthOf(left, signal === "SIGKILL" ? 1 : 0)
      } finally {
        child.kill("SIGKILL")
        rmSync(folder, { recursive: true, force: true })
      }
    })
  }
})
