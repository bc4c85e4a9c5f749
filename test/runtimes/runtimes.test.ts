/** The same program on every runtime: those that are not here are installed from npm, into a folder that is gone afterwards. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { authority } from "../node/fixtures/authority.ts"
import { isLong, long } from "../support/often.ts"
import { type Binary, bunPackage } from "./packages.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const run = promisify(execFile)

const { arch, platform } = process
const onMac = platform === "darwin" && arch === "arm64"
const denoLibc = platform === "linux" ? "-glibc" : ""

interface Runtime {
  readonly name: string
  /** The package with its binary for this machine, and where that is in it. */
  readonly from?: Binary
  /** How it starts a file of TypeScript. */
  readonly start: ReadonlyArray<string>
}

const conditions = "--conditions=holdfast-source"

const runtimes: ReadonlyArray<Runtime> = [
  { name: "the Node of these tests", start: [conditions] },
  {
    name: "Node 22",
    from: { name: `node-${onMac ? "bin-" : ""}${platform}-${arch}`, version: "22.23.3", binary: "bin/node" },
    start: [conditions]
  },
  {
    name: "Bun 1.4",
    from: bunPackage,
    start: [conditions]
  },
  {
    name: "Deno 2.9",
    from: { name: `@deno/${platform}-${arch}${denoLibc}`, version: "2.9.6", binary: "deno" },
    start: ["run", "-A", conditions]
  }
]

// npm could not get it: no network, no such package for this machine, or not within its time
const notThere =
  /E404|ETARGET|EBADPLATFORM|EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT|SIGTERM/

/** The binary of a runtime; otherwise why it cannot be had. */
const install = async (directory: string, { from }: Runtime): Promise<{ readonly binary: string } | string> => {
  if (from === undefined) return { binary: process.execPath }
  const wanted = `${from.name}@${from.version}`
  const options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=60000"]
  try {
    await run("npm", ["install", "--prefix", directory, ...options, wanted], { timeout: 150_000 })
    return { binary: join(directory, "node_modules", from.name, from.binary) }
  } catch (error) {
    const { signal, stderr } = error as { readonly signal?: string; readonly stderr?: string }
    const said = `${signal ?? ""} ${stderr ?? String(error)}`
    if (!notThere.test(said)) throw error
    return `npm could not install ${wanted}: ${said.trim().split("\n")[0]}`
  }
}

interface Told {
  readonly name: string
  readonly detail: string
}

describe.runIf(isLong)("on each runtime, what has to work works", { tags: ["long"] }, () => {
  let directory: string
  // each into a folder of its own, all at once
  const installed = new Map<Runtime, ReturnType<typeof install>>()

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "holdfast-runtimes-"))
    const ours = authority(directory, "ours")
    const own = ours.sign("localhost", "DNS:localhost,IP:127.0.0.1")
    const other = authority(directory, "theirs").sign("other", "DNS:other")
    const files = { ca: ours.cert, cert: own.cert, key: own.key, "other-cert": other.cert, "other-key": other.key }
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, `${name}.pem`), text)
    for (const [number, runtime] of runtimes.entries()) {
      const installing = install(join(directory, `${number}`), runtime)
      // told by the test that needs it
      installing.catch(() => {})
      installed.set(runtime, installing)
    }
  })
  afterAll(async () => {
    await Promise.allSettled(installed.values())
    rmSync(directory, { recursive: true, force: true })
  })

  for (const runtime of runtimes) {
    it(`${runtime.name}`, long(300_000), async ({ skip }) => {
      const found = await installed.get(runtime)!
      if (typeof found === "string") return skip(found)
      const program = join(root, "test/runtimes/program.ts")
      const command = join(root, "src/cli/main.ts")
      const { stdout } = await run(
        found.binary,
        [...runtime.start, program, directory, command, ...runtime.start],
        { cwd: root, timeout: 140_000, maxBuffer: 2 ** 24, env: { ...process.env, NODE_OPTIONS: "", NO_COLOR: "1" } }
      )
      const told = stdout.trim().split("\n").filter((line) => line.startsWith("{")).map((line) =>
        JSON.parse(line) as Told
      )
      assert.deepStrictEqual(told.filter(({ detail }) => detail !== "ok"), [])
      assert.strictEqual(told.length, 30)
    })
  }
})
