/** Files that flags name and that are pipes, and where the output goes: as shells give them to a command. */
import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { main, makeCertificate, run, serve, start, tempDir, until } from "./support/kit.ts"

const bash = (script: string, ...args: ReadonlyArray<string>) =>
  run("bash", ["-c", script, process.execPath, main, ...args])

const pipe = (): string => {
  const path = Path.join(tempDir(), "pipe")
  execFileSync("mkfifo", [path])
  return path
}

describe("a pipe", () => {
  it("that nothing writes to does not keep the command from ending at the first signal", async () => {
    const policy = start(process.execPath, [main, "policy", "--policy", pipe()])
    await new Promise((resolve) => setTimeout(resolve, 1000))
    assert.isUndefined(policy.exit)
    process.kill(policy.pid, "SIGTERM")
    assert.include([0, "SIGTERM"], await policy.ended())
  })

  it("is read to its end, also where it is slow", async () => {
    const script = `exec "$0" "$1" policy --policy <(echo '{"silence":'; sleep 0.3; echo '"50s"}')`
    const { code, stderr, stdout } = await bash(script)
    assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
    assert.strictEqual((JSON.parse(stdout) as { readonly silence: string }).silence, "50s")
    const nothing = await bash(`exec "$0" "$1" policy --policy <(true)`)
    assert.match(nothing.stderr, /^holdfast: --policy \S+: nothing was in it\n$/)
  })

  it("has a certificate, which is not read again", async () => {
    const { cert, key } = makeCertificate(tempDir())
    const path = pipe()
    const writer = start("bash", ["-c", `cat ${cert} > ${path}`])
    const { urls } = await serve(`--listen tls://127.0.0.1:0 --log json --cert ${path} --key ${key}`)
    assert.strictEqual(urls.length, 1)
    assert.strictEqual(await writer.ended(), 0)
  })

  it("is refused where workers have to read it", async () => {
    const { cert, key } = makeCertificate(tempDir())
    const common = "--listen tls://127.0.0.1:0 --no-admin --workers 2"
    for (
      const [flag, files] of [
        ["policy", `--cert ${cert} --key ${key} --policy <(echo '{}')`],
        ["policy", `--cert ${cert} --key ${key} --policy /dev/stdin < <(echo '{}')`],
        ["cert", `--cert <(cat ${cert}) --key ${key}`]
      ]
    ) {
      const { code, stderr, stdout } = await bash(`exec "$0" "$1" serve ${common} ${files}`)
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.match(
        stderr,
        new RegExp(`^holdfast: --${flag} \\S+: each worker reads it.*: with --workers give a file\n$`)
      )
    }
  })
})

describe("policy files", () => {
  it("B137 a number that was meant as seconds is said, and the file is read", async () => {
    const path = Path.join(tempDir(), "limits.json")
    Fs.writeFileSync(
      path,
      JSON.stringify({ silence: 30, idle: "45", retryBase: 100, pong: 0, drain: 5000, open: "1s" })
    )
    const { code, stderr, stdout } = await run(process.execPath, [main, "policy", "--policy", path])
    assert.strictEqual(code, 0)
    assert.strictEqual((JSON.parse(stdout) as { readonly silence: string }).silence, "30ms")
    assert.deepStrictEqual(stderr.trimEnd().split("\n"), [
      `holdfast: --policy ${path}: silence is 30 milliseconds there; write "30s" for seconds, or "30ms"`,
      `holdfast: --policy ${path}: idle is 45 milliseconds there; write "45s" for seconds, or "45ms"`
    ])
  })
})

describe("an output that cannot be written", () => {
  const told = /^holdfast: the output cannot be written: ENOSPC/m

  it("is told, with exit code 1: what came is lost", async () => {
    const { urls } = await serve("--listen tcp://127.0.0.1:0")
    for (const command of [`echo hello | "$0" "$1" connect "$2"`, `"$0" "$1" policy`]) {
      const { code, stderr } = await bash(`${command} > /dev/full`, urls[0]!)
      assert.strictEqual(code, 1, command)
      assert.match(stderr, told, command)
    }
  })

  it("is no reason to stop serving, nor a failure of a server that drains", async () => {
    const path = Path.join(tempDir(), "s")
    const server = start("bash", [
      "-c",
      `exec "$0" "$1" serve --no-admin --listen tcp://127.0.0.1:0 --listen unix://${path} > /dev/full`,
      process.execPath,
      main
    ])
    await until("its socket", () => Fs.existsSync(path))
    process.kill(server.pid, "SIGTERM")
    assert.strictEqual(await server.ended(), 0)
  })
})
