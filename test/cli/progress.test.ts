/** The line that says how far a long command is: on a terminal alone, and gone at its end. */
import { assert, describe, it } from "@effect/vitest"
import * as Path from "node:path"
import { howLong, Progress, span } from "../../src/cli/progress.ts"
import { isLong, long } from "../support/often.ts"
import { connect, main, needs, onTerminal, root, run, start, until, words } from "./support/kit.ts"

/** What a terminal shows in the end, line by line. */
const left = (text: string): string =>
  text.split("\n").map((line) => line.replace(/\r$/, "").split("\r\x1b[2K").at(-1)).join("\n")

const terminal = (isTTY: boolean, term?: string) => {
  const written = { text: "" }
  const progress = new Progress({ isTTY, columns: 20, write: (text) => written.text += text }, term)
  return { progress, written }
}

describe("the line", () => {
  it("is written over itself, cut to the width, below other lines, and erased", () => {
    const { progress, written } = terminal(true)
    progress.show("one")
    progress.show("x".repeat(100))
    assert.strictEqual(written.text, `\r\x1b[2Kone\r\x1b[2K${"x".repeat(19)}`)
    written.text = ""
    progress.above(() => written.text += "said\n")
    assert.strictEqual(written.text, `\r\x1b[2Ksaid\n${"x".repeat(19)}`)
    written.text = ""
    progress.clear()
    progress.clear()
    progress.above(() => written.text += "said\n")
    assert.strictEqual(written.text, "\r\x1b[2Ksaid\n")
  })

  it("is erased by a process that ends at once", () => {
    const { progress, written } = terminal(true)
    const before = process.listenerCount("exit")
    progress.show("one")
    progress.show("two")
    const [listener] = process.listeners("exit").slice(-1)
    assert.strictEqual(process.listenerCount("exit"), before + 1)
    listener!.call(process, 0)
    assert.isTrue(written.text.endsWith("two\r\x1b[2K"))
    assert.strictEqual(process.listenerCount("exit"), before)
  })

  it("is nowhere but on a terminal that can erase it", () => {
    for (const { progress, written } of [terminal(false), terminal(true, "dumb")]) {
      progress.show("one")
      progress.follow(() => "two")()
      progress.clear()
      progress.above(() => written.text += "said\n")
      assert.strictEqual(written.text, "said\n")
    }
  })

  it("says durations as people do, and what is left at this speed", () => {
    assert.deepStrictEqual([400, 59_400, 185_000, 3_720_000].map(span), ["0 s", "59 s", "3 min 5 s", "1 h 2 min"])
    assert.strictEqual(howLong(10_000, 0), "10 s")
    assert.strictEqual(howLong(10_000, 0.25), "10 s, about 30 s left")
  })
})

describe.runIf(isLong)("of commands", long(60_000), () => {
  const simulate = Path.join(root, "test/simulation/simulate.ts")
  const bench = Path.join(root, "test/bench/main.ts")

  it("probe says how far it is, and leaves the report alone", async (context) => {
    needs(context, "python")
    const server = start(process.execPath, [main, "serve", "--no-admin", "--listen", "tcp://127.0.0.1:0"])
    await server.says("listening")
    const url = /listening (\S+)/.exec(server.stdout)![1]!
    const flags = words(`probe ${url} --dials 1 --count 3 --interval 300ms --silence-limit 0`)
    const [shown, piped] = await Promise.all([
      (async () => {
        const running = onTerminal(process.execPath, main, ...flags)
        await running.ended()
        return running.stdout
      })(),
      run(process.execPath, [main, ...flags])
    ])
    assert.match(shown, /probing for \d s, dial 1 of 1, ping \d of 3/)
    assert.notInclude(left(shown), "probing")
    assert.match(left(shown), /^\S.*\n/)
    assert.deepStrictEqual([piped.code, piped.stderr], [0, ""])
  })

  it("the drain of serve says who is left and for how long; elsewhere it is in the log", async (context) => {
    needs(context, "python")
    const flags = words("serve --no-admin --listen tcp://127.0.0.1:0 --drain 3s --silence 0")
    const shown = onTerminal(process.execPath, main, ...flags)
    const piped = start(process.execPath, [main, ...flags])
    for (
      const [server, end] of [[shown, () => shown.child.stdin.end()], [
        piped,
        () => piped.child.kill("SIGINT")
      ]] as const
    ) {
      await server.says("listening")
      const peer = await connect(Number(/listening .*:(\d+)/.exec(server.stdout)![1]))
      // asks for much, takes nothing, and never leaves
      peer.conn.pause()
      const line = `${"x".repeat(10_000)}\n`
      const isTaken = () =>
        Promise.race([
          new Promise<boolean>((resolve) => peer.conn.write(line, () => resolve(true))),
          new Promise<boolean>((resolve) => setTimeout(resolve, 500, false))
        ])
      // until the kernels take no more, in both directions
      while (await isTaken());
      end()
    }
    await Promise.all([shown.ended(), piped.ended()])
    assert.match(shown.stdout, /Kstopping for \d s: 1 of 1 left \(1 \w+\), \d s to go/)
    assert.notInclude(left(shown.stdout), "stopping")
    assert.match(left(shown.stdout), /close #1/)
    assert.match(piped.stderr, /INFO stopping: 1 left \(1 \w+\), \d s to go\n/)
    assert.notInclude(piped.stderr, "\r")
  })

  it("simulate and bench say how far they are, and how long they take", async (context) => {
    needs(context, "python")
    const seeds = ["--seeds", "1000000", "--workers", "1", "--clients", "2", "--hours", "0.02"]
    const shown = onTerminal(process.execPath, simulate, ...seeds)
    await until(
      () => `progress in ${shown.stdout}`,
      () => /\d+ of 1000000 seeds, 0 failed, \d+ s/.test(shown.stdout),
      20_000
    )
    shown.child.stdin.end()
    await shown.ended(20_000)
    assert.notMatch(left(shown.stdout), /of 1000000 seeds, 0 failed/)
    assert.match(left(shown.stdout), /seeds, stopped: \d+ passed/)

    const measuring = onTerminal(
      process.execPath,
      bench,
      "--only",
      "^1x1$",
      "--servers",
      "raw",
      "--rounds",
      "1",
      "--seconds",
      "0.3"
    )
    await measuring.ended(40_000)
    assert.match(measuring.stdout, /bench: load 1 of 1 \(1x1\), round \d of 1, \d+ s/)
    assert.notMatch(left(measuring.stdout), /load 1 of 1/)
  })
})
