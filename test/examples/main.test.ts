/** The one command that runs every example, and how each of them ends. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { root, run, start, until } from "../cli/support/kit.ts"
import { isLong, long } from "../support/often.ts"
import { names, titles } from "./support/list.ts"
import { installed } from "./support/servers.ts"

const example = ["--conditions=holdfast-source", Path.join(root, "test/examples/main.ts")]

describe("npm run example", () => {
  it("is this command", () => {
    const { scripts } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8"))
    assert.strictEqual(scripts.example, "exec node --conditions=holdfast-source test/examples/main.ts")
  })

  it("alone, it lists all of them; a name that there is not is one line", async () => {
    const { code, stdout } = await run(process.execPath, example)
    assert.strictEqual(code, 0)
    for (const name of names) assert.include(stdout, titles[name])
    const wrong = await run(process.execPath, [...example, "toString"])
    assert.deepStrictEqual([wrong.code, wrong.stdout], [1, ""])
    assert.strictEqual(wrong.stderr, `There is no example "toString". There are: ${names.join(", ")}.\n`)
  })

  it("every folder with a main program is one of them", () => {
    const folders = Fs.readdirSync(Path.join(root, "test/examples")).filter((name) =>
      Fs.existsSync(Path.join(root, "test/examples", name, "main.ts"))
    )
    assert.sameMembers(folders, [...names])
  })

  it("a server that is not installed is named, with what to install", async () => {
    const failure = Effect.runSync(Effect.flip(installed("no-such-server", "no-such-package", ". Or set NO_SUCH_URL")))
    assert.strictEqual(
      failure.message,
      "no-such-server is not installed. Debian, Ubuntu: apt install no-such-package. Or set NO_SUCH_URL"
    )
  })

  for (const name of names) {
    it.runIf(isLong)(`${name} runs, and Ctrl-C ends it with exit code 0`, long(60_000), async () => {
      // a free port of its own choice: a second one that it needs may be taken where we choose the first
      const running = start(process.execPath, [...example, name], { env: { PORT: "0" } })
      await until(
        () => `its first lines, it said ${running.stdout}${running.stderr}`,
        () => running.stdout.includes("Ctrl-C stops it") || running.exit !== undefined,
        30_000
      )
      if (running.stderr.includes("is not installed")) return
      // what it does is under way
      await new Promise((resolve) => setTimeout(resolve, 1500))
      assert.strictEqual(running.exit, undefined, running.stderr)
      process.kill(running.pid, "SIGINT")
      assert.strictEqual(await running.ended(), 0)
      assert.strictEqual(running.stderr, "")
    })
  }

  it.runIf(isLong)("a port that is taken is one line", long(30_000), async () => {
    const first = start(process.execPath, [...example, "chat"], { env: { PORT: "0" } })
    await first.says("Ctrl-C")
    const port = /http:..127\.0\.0\.1:(\d+)/.exec(first.stdout)![1]!
    const second = await run(process.execPath, [...example, "chat"], { env: { PORT: port } })
    assert.strictEqual(second.code, 1)
    assert.match(second.stderr, /^cannot listen on http:[^\n]*in use[^\n]*\n$/)
  })
})
