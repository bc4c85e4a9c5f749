/** `serve` on sockets that systemd passes, and socket files of its own. */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { assert, describe, it } from "vitest"
import { freePort } from "../support/freePort.ts"
import { connect, main, run, start, tempDir, until } from "./support/kit.ts"

const activate = "systemd-socket-activate"

const isHere = ChildProcess.spawnSync(activate, ["--version"]).status === 0

describe("serve", () => {
  it("answers on the sockets of systemd, by name", async (context) => {
    if (!isHere) return context.skip(`not on this machine: ${activate} (systemd)`)
    const [one, two] = [await freePort(), await freePort()]
    const listen = ["-l", `127.0.0.1:${one}`, "-l", `127.0.0.1:${two}`, "--fdname=lines:page"]
    const served = ["serve", "-l", "systemd:lines:tcp://localhost:0", "-l", "systemd:page:ws://localhost:0/live"]
    const server = start(activate, [...listen, process.execPath, main, ...served])
    await until("systemd's listening", () => server.stderr.includes(`Listening on 127.0.0.1:${two}`))
    // it starts what it activates at the first connection
    const client = await connect(one)
    client.write("hello\n")
    await client.receives("hello\n")
    await server.says(`listening tcp://localhost:${one}\nlistening ws://localhost:${two}/live`)
    server.child.kill("SIGTERM")
    assert.strictEqual(await server.ended(), 0)
  })

  it("says which sockets of systemd no --listen takes", async (context) => {
    if (!isHere) return context.skip(`not on this machine: ${activate} (systemd)`)
    const [one, two] = [await freePort(), await freePort()]
    const listen = ["-l", `127.0.0.1:${one}`, "-l", `127.0.0.1:${two}`, "--fdname=one:two"]
    const server = start(activate, [...listen, process.execPath, main, "serve", "-l", "systemd:one:tcp://a:0"])
    await until("systemd's listening", () => server.stderr.includes(`Listening on 127.0.0.1:${two}`))
    await connect(one)
    assert.strictEqual(await server.ended(), 1)
    assert.match(server.stderr, /holdfast: --listen takes nothing from what systemd passed: 4 \(two\); write/)
  })

  it("makes a socket file with the mode and the owner of the flags", async () => {
    const path = `${tempDir()}/app.sock`
    const isRoot = process.getuid?.() === 0
    const owner = isRoot ? "12:34" : `${process.getuid!()}:${process.getgid!()}`
    const flags = ["--socket-mode", "660", "--socket-owner", owner, "-l", `unix://${path}`]
    const server = start(process.execPath, [main, "serve", ...flags])
    await server.says(`listening unix://${path}`)
    const { gid, mode, uid } = Fs.statSync(path)
    assert.deepStrictEqual([`${uid}:${gid}`, mode & 0o777], [owner, 0o660])
    const answered = await run(process.execPath, [main, "connect", `unix://${path}`], { input: "hi\n" })
    assert.strictEqual(answered.stdout, "hi\n", answered.stderr)
  })

  it("talks under an abstract name", async (context) => {
    if (process.platform !== "linux") return context.skip("abstract names are Linux's")
    const name = `holdfast-cli-${process.pid}`
    const server = start(process.execPath, [main, "serve", "-l", `unix:@${name}`])
    await server.says(`listening unix://@${name}`)
    const conn = Net.connect({ path: `\0${name}` })
    let heard = ""
    conn.on("data", (chunk) => {
      heard += String(chunk)
    })
    conn.write("hi\n")
    await until("an answer", () => heard === "hi\n")
    conn.destroy()
    const { stderr, stdout } = await run(process.execPath, [main, "connect", `unix:@${name}`], { input: "ho\n" })
    assert.strictEqual(stdout, "ho\n", stderr)
  })
})
