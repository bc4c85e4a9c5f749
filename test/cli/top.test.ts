/** `holdfast top`: in a terminal, which it leaves as it was, and for other programs. */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Path from "node:path"
import { onTestFinished } from "vitest"
import { freePort } from "../support/freePort.ts"
import { isLong, long } from "../support/often.ts"
import { main, run, serve, tempDir, until } from "./support/kit.ts"

const top = (...args: ReadonlyArray<string>) => run(process.execPath, [main, "top", ...args])

/** A server with an admin API, and connections to it. */
const watched = async (connections: number) => {
  const server = await serve("--listen tcp://127.0.0.1:0 --admin 0 --log json")
  const { address } = await server.logged({ event: "admin" }) as { readonly address: string }
  const sockets = await Promise.all(Array.from({ length: connections }, async () => {
    const socket = Net.connect(server.ports[0]!, "127.0.0.1")
    socket.on("error", () => {}).resume()
    onTestFinished(() => void socket.destroy())
    await new Promise((resolve) => socket.once("connect", resolve))
    return socket
  }))
  return { server, address, sockets }
}

const hasTmux = ChildProcess.spawnSync("tmux", ["-V"], { stdio: "ignore" }).status === 0

/** A terminal with a shell in it. */
const terminal = () => {
  const dir = tempDir()
  const socket = Path.join(dir, "tmux")
  const tmux = (...args: ReadonlyArray<string>): string =>
    ChildProcess.execFileSync("tmux", ["-u", "-S", socket, "-f", "/dev/null", ...args], {
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C.UTF-8", NODE_OPTIONS: "" }
    })
  tmux("new-session", "-d", "-x", "100", "-y", "20", "exec bash --norc --noprofile")
  onTestFinished(() => void tmux("kill-server"))
  const screen = () => tmux("capture-pane", "-p")
  const type = (text: string) => tmux("send-keys", "-l", text)
  const keys = (...names: ReadonlyArray<string>) => tmux("send-keys", ...names)
  const shows = (text: string | RegExp) =>
    until(
      () => `${String(text)} on\n${screen()}`,
      () => typeof text === "string" ? screen().includes(text) : text.test(screen())
    )
  let told = 0
  /** How the terminal is: its modes, the cursor, the other screen. */
  const modes = async (): Promise<string> => {
    const file = Path.join(dir, `modes-${told++}`)
    type(`stty -a > ${file}; touch ${file}.done\n`)
    await until("stty", () => Fs.existsSync(`${file}.done`))
    // the size is not a mode
    const stty = Fs.readFileSync(file, "utf8").split("\n").slice(1).join("\n")
    return stty + tmux("display-message", "-p", "#{alternate_on} #{cursor_flag} #{wrap_flag} #{pane_dead}")
  }
  return { dir, keys, modes, screen, shows, tmux, type }
}

describe("for other programs", () => {
  it("a line an interval, and one JSON document a line", async () => {
    const { address } = await watched(2)
    const lines = await top(address, "--interval", "100ms", "--count", "2")
    assert.deepStrictEqual([lines.code, lines.stderr], [0, ""])
    assert.match(lines.stdout, /^(\d{4}-\S+Z open 2 draining 0 .*bytes in \S+.* out .*\n){2}$/)
    assert.notInclude(lines.stdout, "\x1b")
    const json = await top(address, "--json", "--count", "1", "--rows", "1", "--sort", "id")
    const { connections, figures, total } = JSON.parse(json.stdout)
    assert.deepStrictEqual([total, connections.length, figures.connections.open, connections[0].id], [2, 1, 2, 1])
  })

  it("what goes wrong is one line that says what to do, and no token", async () => {
    const { address } = await watched(0)
    const other = Http.createServer((_, response) => response.end("<html>")).listen(0, "127.0.0.1")
    onTestFinished(() => void other.close())
    const api = Http.createServer((_, response) => response.end("{\"status\":\"ok\"}")).listen(0, "127.0.0.1")
    onTestFinished(() => void api.close())
    await until("two ports", () => other.listening && api.listening)
    const bare = address.replace(/\?.*/, "")
    const [none, wrong, gone, html, json, odd, fast] = await Promise.all([
      top(bare),
      top(`${bare}?token=wrong-secret`),
      top(`http://127.0.0.1:${await freePort()}/?token=wrong-secret`),
      top(`http://127.0.0.1:${(other.address() as Net.AddressInfo).port}`),
      top(`http://127.0.0.1:${(api.address() as Net.AddressInfo).port}`, "--json"),
      top("ftp://127.0.0.1?token=wrong-secret"),
      top(bare, "--interval", "1ms")
    ])
    for (
      const [{ code, stderr, stdout }, expected] of [
        [none, /asks for a token: open the address that `holdfast serve` printed.*HOLDFAST_ADMIN_TOKEN/],
        [wrong, /has another token, as it may have started again/],
        [gone, /nothing listens there.*start `holdfast serve`/],
        [html, /is no admin API of Holdfast/],
        [json, /is no admin API of Holdfast/],
        [odd, /"ftp:\/\/127\.0\.0\.1" is no address/],
        [fast, /--interval must be at least 100ms/]
      ] as const
    ) {
      assert.deepStrictEqual([code, stdout], [1, ""])
      assert.match(stderr, /^holdfast: [^\n]+\n$/)
      assert.match(stderr, expected)
      assert.notInclude(stderr, "wrong-secret")
    }
    const given = await run(process.execPath, [main, "top", bare, "--count", "1"], {
      env: { HOLDFAST_ADMIN_TOKEN: new URL(address).searchParams.get("token")! }
    })
    assert.strictEqual(given.code, 0, given.stderr)
  })
})

describe.skipIf(!hasTmux)("in a terminal", () => {
  it.runIf(isLong)(
    "follows its size, filters, inspects and closes; Ctrl-C, q, kill, a crash and a refusal leave the terminal as it was",
    long(90_000),
    async () => {
      const { address, server, sockets } = await watched(3)
      const { dir, keys, modes, shows, tmux, type } = terminal()
      const script = Path.join(dir, "top")
      Fs.writeFileSync(
        script,
        `"${process.execPath}" $IMPORT "${main}" top "$@" '${address}' --interval 200ms; echo "ended with $?"\n`
      )
      const crash = Path.join(dir, "crash.mjs")
      Fs.writeFileSync(
        crash,
        `process.on("SIGUSR2", () => { throw new Error("an uncaught error") })
process.on("SIGURG", () => void Promise.reject(new Error("an unhandled rejection")))`
      )
      type("PS1='ready> '; clear\n")
      await shows("ready>")
      const before = await modes()
      const begin = async (): Promise<number> => {
        type(`bash ${script} --sort id\n`)
        await shows("q quit")
        // the shell, that of the script, and the command
        const pane = Number(tmux("display-message", "-p", "#{pane_pid}"))
        const child = (pid: number): number => {
          const [found] = Fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")
          return Number(found)
        }
        return child(child(pane))
      }
      const asBefore = async (code: number): Promise<void> => {
        await shows(`ended with ${code}`)
        assert.strictEqual(await modes(), before)
        type("clear\n")
        await until("a clear screen", () => !tmux("capture-pane", "-p").includes("ended with"))
      }

      await begin()
      await shows("open 3")
      await shows(/ 3 open/)
      tmux("resize-window", "-x", "60", "-y", "10")
      await shows(/^q quit/m)
      await until(
        "the last line of a small window",
        () => tmux("capture-pane", "-p").split("\n")[9]!.startsWith("q quit")
      )
      tmux("resize-window", "-x", "100", "-y", "20")
      await until("the last line", () => tmux("capture-pane", "-p").split("\n")[19]!.startsWith("q quit"))

      type("/2")
      await shows("filter: 2_")
      keys("Enter")
      await shows("(2)")
      keys("Escape")
      await shows(/\/ filter {2}s sort/)

      keys("Down", "Enter")
      await shows("deadlines")
      await shows("heartbeat")
      keys("Escape")
      await shows("KEY AND TAGS")
      let closed = 0
      for (const socket of sockets) socket.on("close", () => closed++)
      type("c")
      await shows("Close connection 2?")
      type("n")
      await shows("not closed")
      assert.strictEqual(closed, 0)
      type("cy")
      await shows("open 2")
      await until("the end of one", () => closed === 1)
      keys("C-c")
      await asBefore(0)

      await begin()
      type("q")
      await asBefore(0)
      process.kill(await begin(), "SIGTERM")
      await asBefore(0)
      process.kill(await begin(), "SIGHUP")
      await asBefore(129)

      type(`export IMPORT='--import ${crash}'; clear\n`)
      for (const [signal, words] of [["SIGUSR2", "an uncaught error"], ["SIGURG", "an unhandled rejection"]] as const) {
        process.kill(await begin(), signal)
        // on the screen of the shell, where it stays
        await shows("ended with 1")
        assert.include(tmux("capture-pane", "-p"), words)
        await asBefore(1)
      }

      await begin()
      server.child.kill("SIGKILL")
      await shows("does not answer: trying again")
      keys("C-c")
      await asBefore(0)
    }
  )
})
