/** What the command says to a person: help, completions, and one clear line for each mistake. */
import { assert, describe, it } from "@effect/vitest"
import * as Exit from "effect/Exit"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { freePort } from "../support/freePort.ts"
import { badlyTold, inProcess, type Mistake } from "./support/inProcess.ts"
import { main, makeCertificate, needs, run, serve, start, tempDir, until, words } from "./support/kit.ts"

const holdfast = (...args: ReadonlyArray<string>) => run(process.execPath, [main, ...args])

const flags = words(
  "listen socket-mode socket-owner cert key ca protocol mode log origin subprotocol proxy-protocol trust-forwarded forwarded-header deflate " +
    "admin admin-token no-admin workers policy " +
    "ping-every pong silence min-ping-every write-stall " +
    "frame-deadline idle max-age handshake drain stop-grace half-close keep-alive max-frame inbox-bytes outbox-bytes outbox-messages " +
    "message-rate byte-rate rate-burst over-rate overflow " +
    "memory max-connections max-connections-per-address accept-rate when-full"
)

const clientLimits = words(
  "policy open ping-every pong silence write-stall frame-deadline idle handshake drain keep-alive max-frame " +
    "outbox-bytes outbox-messages retry-base retry-cap retry-elapsed retry-reset-after retry-max-advice retry-on " +
    "give-up-on offline"
)

const problems = (...mistakes: ReadonlyArray<Mistake>) => badlyTold(["serve"], mistakes)

describe("help", () => {
  it("--help tells of the commands", async () => {
    const { code, stderr, stdout } = await holdfast("--help")
    assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
    assert.match(stdout, /\n {2}serve /)
  })

  it("serve --help tells of every flag and its default", async () => {
    const { exit, stderr, stdout } = await inProcess(["serve", "--help"])
    assert.deepStrictEqual({ exit, stderr }, { exit: Exit.void, stderr: "" })
    for (const flag of flags) assert.match(stdout, new RegExp(`\\n {2}--${flag}[ ,].* {2}\\S`), flag)
    // and this test knows them all
    const told = [...stdout.split("GLOBAL FLAGS")[0]!.matchAll(/\n {2}--([a-z-]+)/g)].map((match) => match[1])
    assert.deepStrictEqual(told, flags)
    for (const flag of flags.filter((name) => !["cert", "key", "ca", "policy"].includes(name))) {
      assert.match(stdout, new RegExp(`--${flag}[ ,].*\\(default [^)]+\\)`), flag)
    }
  })

  it("connect --help tells of the limits of a client, of what 0 means and of what a default follows", async () => {
    const { stdout } = await inProcess(["connect", "--help"])
    const told = [...stdout.split("GLOBAL FLAGS")[0]!.matchAll(/\n {2}--([a-z-]+)/g)].map((match) => match[1])
    assert.deepStrictEqual(told.slice(told.indexOf("policy")), clientLimits)
    assert.match(stdout, /--silence .*0 is off \(default 1m, at least twice --ping-every\)/)
    assert.match(stdout, /--outbox-bytes .*\(default 2 MiB, at least --max-frame\)/)
    assert.match(stdout, /--drain .*0 does not wait \(default 5s\)/)
    assert.match(stdout, /--give-up-on LIST .*\(default none\)/)
    assert.match(stdout, /--follow-redirects N .*0 follows none \(default 0\)/)
  })

  it("top --help tells of every flag, its keys, and a default for each", async () => {
    const { stdout } = await inProcess(["top", "--help"])
    const told = [...stdout.split("GLOBAL FLAGS")[0]!.matchAll(/\n {2}--([a-z-]+)/g)].map((match) => match[1])
    assert.deepStrictEqual(told, words("interval sort order filter rows count json"))
    for (const flag of told) assert.match(stdout, new RegExp(`--${flag}[ ,].*\\(default [^)]+\\)`), flag)
    for (const key of ["arrow keys", "Enter", "/ filters", "Ctrl-C"]) assert.include(stdout, key)
  })

  it("--version is that of the package", async () => {
    const { version } = JSON.parse(Fs.readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
    const { code, stdout } = await holdfast("--version")
    assert.strictEqual(code, 0)
    assert.include(stdout, String(version))
  })

  it("--completions know every flag in each shell", async () => {
    for (const shell of ["bash", "zsh", "fish"]) {
      const { exit, stderr, stdout } = await inProcess(["--completions", shell])
      assert.deepStrictEqual({ exit, stderr }, { exit: Exit.void, stderr: "" }, shell)
      for (const flag of ["serve", ...flags]) assert.include(stdout, flag, shell)
    }
  })

  it("bash runs what it is given to complete with", async (context) => {
    const { stdout } = await holdfast("--completions", "bash")
    const script = `${stdout}\nCOMP_LINE="holdfast serve --max-c"; COMP_WORDS=($COMP_LINE); COMP_CWORD=2\n` +
      "$(complete -p holdfast | sed 's/.*-F \\([^ ]*\\).*/\\1/') holdfast --max-c serve; echo \"${COMPREPLY[@]}\""
    const bash = await run("bash", ["--norc", "-c", script])
    if (bash.stderr.includes("ENOENT")) return context.skip("not on this machine: bash")
    assert.strictEqual(bash.stdout, "--max-connections --max-connections-per-address\n", bash.stderr)
  })
})

describe("mistakes", { timeout: 60_000 }, () => {
  it("a flag that does not exist, or is given twice", async () => {
    const found = await problems(
      [/--nope/, "--nope", "1"],
      [/--silense.*--silence/, "--silense", "1s"],
      [/--silence/, "--silence", "1s", "--silence", "2s"],
      [/extra/, "extra"]
    )
    assert.deepStrictEqual(found, [])
    // in a process of its own: exit code 1
    const { code, stderr, stdout } = await holdfast("serve", "--nope", "1")
    assert.match(stderr, /^holdfast: [^\n]*--nope[^\n]*\n$/)
    assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
  })

  it("a duration that is none", async () => {
    const found = await problems(
      [/--silence.*"soon".*Expected: a duration such as "500ms", "25s" or "1m 30s" \(/, "--silence", "soon"],
      [/--silence/, "--silence", "-5s"],
      [/--silence.*"-5s"/, "--silence=-5s"],
      [/--ping-every.*"10 parsecs"/, "--ping-every", "10 parsecs"],
      [/--drain/, "--drain", ""],
      [/--idle/, "--idle"]
    )
    assert.deepStrictEqual(found, [])
  })

  it("B137 a duration without a unit", async () => {
    const found = await problems(
      [/--silence: "30"\. .*a duration needs a unit, such as 30s/, "--silence", "30"],
      [/--ping-every.*a duration needs a unit, such as 0\.5s/, "--ping-every", "0.5"],
      [/--drain.*a duration needs a unit/, "--drain= 10"]
    )
    assert.deepStrictEqual(found, [])
    const { code, stderr } = await holdfast("connect", "tcp://127.0.0.1:1", "--wait", "5")
    assert.match(stderr, /--wait: "5"\. .*a duration needs a unit, such as 5s/)
    assert.strictEqual(code, 1)
  })

  it("B137 limits that contradict each other", async () => {
    const file = Path.join(tempDir(), "policy.json")
    Fs.writeFileSync(file, JSON.stringify({ pingEvery: "1 minute" }))
    const found = await problems(
      [/--ping-every \(20s\) must not be more than --silence \(10s\)/, "--ping-every", "20s", "--silence", "10s"],
      [/--max-frame \(2 MiB\).*--outbox-bytes \(1 MiB\)/, "--max-frame", "2MiB", "--outbox-bytes", "1MiB"],
      [/pingEvery \(1m\) must not be more than --silence \(10s\)/, "--policy", file, "--silence", "10s"]
    )
    assert.deepStrictEqual(found, [])
    const { stderr } = await holdfast("connect", "tcp://127.0.0.1:1", "--retry-base", "2s", "--retry-cap", "1s")
    assert.match(stderr, /^holdfast: [^\n]*--retry-base \(2s\) must not be more than --retry-cap \(1s\)\n$/)
  })

  it("reasons and codes that there are not, or that are in both lists", async () => {
    const found = await badlyTold(["connect", "tcp://127.0.0.1:1"], [
      [/--give-up-on.*"Supersede"/, "--give-up-on", "Supersede,4001"],
      [/--retry-on.*70000/, "--retry-on", "70000"],
      [/4001 is in --retry-on and in --give-up-on/, "--retry-on", "4001,Reset", "--give-up-on", "4001"]
    ])
    assert.deepStrictEqual(found, [])
  })

  it("a size or a number that is none", async () => {
    const found = await problems(
      [/--max-frame.*"big"/, "--max-frame", "big"],
      [/--max-frame.*"0"/, "--max-frame", "0"],
      [/--max-frame.*"-1"/, "--max-frame=-1"],
      [/--outbox-messages.*"1.5"/, "--outbox-messages", "1.5"],
      [/--max-connections.*"many"/, "--max-connections", "many"],
      [/--accept-rate.*"-1"/, "--accept-rate=-1"],
      [/--workers: "0"\. Expected: a whole number from 1 to 1024/, "--workers", "0"],
      [/--workers.*"x"/, "--workers", "x"],
      [/--workers.*"1\.5"/, "--workers", "1.5"]
    )
    assert.deepStrictEqual(found, [])
  })

  it("a choice that there is not", async () => {
    const found = await problems(
      [/--overflow.*"burst".*drop-oldest/, "--overflow", "burst"],
      [/--when-full.*"panic".*reject/, "--when-full", "panic"],
      [/--protocol.*"http".*lines/, "--protocol", "http"],
      [/--mode.*"proxy".*hub/, "--mode", "proxy"],
      [/--log.*"xml".*json/, "--log", "xml"]
    )
    assert.deepStrictEqual(found, [])
  })

  it("an address that makes no sense", async () => {
    const found = await problems(
      [/--listen.*http:\/\//, "--listen", "http://127.0.0.1:0"],
      [/--listen.*nonsense/, "--listen", "nonsense"],
      [/there is no protocol "natve"; there are lines, frames, native/, "--listen", "natve+tcp://127.0.0.1:0"],
      [/there is no protocol "tls"/, "--listen", "fd:3:tls+tcp://127.0.0.1:0"],
      [/--listen.*it is not a URL/, "--listen", "native+nonsense"],
      [/--socket-mode is for a socket file/, "--socket-mode", "660", "--listen", "native+tcp://127.0.0.1:0"],
      [/--listen.*tcp:\/\/a:1: systemd has passed no sockets/, "--listen", "systemd:tcp://a:1"],
      [/--listen.*tcp:\/\/a:1: systemd has passed no sockets/, "--listen", "systemd:web:tcp://a:1"],
      [/--listen.*descriptor 999 is no socket/, "--listen", "fd:999:tcp://a:1"],
      [/--socket-mode is for a socket file/, "--socket-mode", "660"],
      [/--cert is for tls:\/\/ and wss:\/\//, "--cert", import.meta.filename],
      [/--ca is for tls:\/\/ and wss:\/\//, "--ca", import.meta.filename, "--listen", "ws://127.0.0.1:0"],
      [/--socket-owner is for a socket file/, "--socket-owner", ":33", "--listen", "unix://@a"],
      [/--socket-mode.*"rw".*octal/, "--socket-mode", "rw"],
      [/--socket-owner.*"root".*1000:33/, "--socket-owner", "root"],
      [/--listen.*port/, "--listen", "tcp://127.0.0.1"],
      [/--listen.*99999/, "--listen", "tcp://127.0.0.1:99999"],
      [/--listen.*directory/, "--listen", "unix:///no/such/directory/s.sock"],
      [/--listen/, "--listen", ""],
      [/--proxy-protocol has "10\.0\.0\.0\/33"/, "--proxy-protocol", "10.0.0.1,10.0.0.0/33"],
      [/--trust-forwarded has "proxy"/, "--listen", "ws://127.0.0.1:0", "--trust-forwarded", "proxy"],
      [/--origin.*app\.example/, "--listen", "ws://127.0.0.1:0", "--origin", "app.example"],
      [/--subprotocol.*"a b"/, "--listen", "ws://127.0.0.1:0", "--subprotocol", "a b"]
    )
    assert.deepStrictEqual(found, [])
  })

  it("a URL that names a protocol that is none, with no word of its password", async () => {
    for (const command of ["connect", "probe"]) {
      const { code, stderr } = await holdfast(command, "natve+tcp://ada:secret@127.0.0.1:1")
      assert.strictEqual(code, 1)
      assert.strictEqual(
        stderr,
        "holdfast: cannot dial natve+tcp://***@127.0.0.1:1: there is no protocol \"natve\"; there are lines, frames, native, as in " +
          "native+tcp://***@127.0.0.1:1\n"
      )
    }
  })

  it("a proxy that makes no sense, with no word of its password", async () => {
    for (const command of ["connect", "probe"]) {
      const { code, stderr } = await holdfast(command, "tcp://127.0.0.1:1", "--proxy", "ftp://ada:secret@127.0.0.1:1")
      assert.strictEqual(code, 1)
      assert.match(stderr, /^holdfast: [^\n]*--proxy is no URL of a proxy[^\n]*\n$/)
      assert.notInclude(stderr, "secret")
    }
  })

  it("an admin API that makes no sense, or that anyone could use", async () => {
    const found = await problems(
      [/--admin must be HOST:PORT/, "--admin", "nonsense"],
      [/--admin must be HOST:PORT/, "--admin", "127.0.0.1:70000"],
      [/needs a token: set HOLDFAST_ADMIN_TOKEN/, "--admin", "0.0.0.0:0"],
      [/needs a token/, "--admin", "[::]:0", "--admin-token", "off"],
      [/--admin-token must be printable/, "--admin-token", "a b"]
    )
    assert.deepStrictEqual(found, [])
  })

  it("a port that is taken", async () => {
    const server = Net.createServer()
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    try {
      const { port } = server.address() as Net.AddressInfo
      const inUse = new RegExp(`--listen.*${port}.*in use`)
      const found = await problems(
        [inUse, "--listen", `tcp://127.0.0.1:${port}`],
        // the first of two that could listen says nothing either
        [inUse, "--listen", "tcp://127.0.0.1:0", "--listen", `ws://127.0.0.1:${port}/`]
      )
      assert.deepStrictEqual(found, [])
    } finally {
      server.close()
    }
  })

  it("two listeners on one port", async () => {
    const url = `tcp://127.0.0.1:${await freePort()}`
    assert.deepStrictEqual(await problems([/--listen.*in use/, "--listen", url, "--listen", url]), [])
  })

  it("a Unix socket that somebody listens on, or that is a file", async () => {
    const dir = tempDir()
    const url = `unix://${dir}/s.sock`
    await serve(`--listen ${url}`)
    assert.deepStrictEqual(await problems([/--listen.*another process/, "--listen", url]), [])
    Fs.writeFileSync(Path.join(dir, "file"), "precious")
    assert.deepStrictEqual(await problems([/--listen.*no socket/, "--listen", `unix://${dir}/file`]), [])
    assert.strictEqual(Fs.readFileSync(Path.join(dir, "file"), "utf8"), "precious")
  })

  it("a port that needs a privilege", async (context) => {
    if (process.getuid?.() === 0) return context.skip("root may use every port")
    const unprivileged = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    if (!Fs.existsSync(unprivileged) || Number(Fs.readFileSync(unprivileged, "utf8")) <= 1) {
      return context.skip("every port is open to everybody here")
    }
    assert.deepStrictEqual(await problems([/--listen.*privilege/, "--listen", "tcp://127.0.0.1:1"]), [])
  })

  it("certificates and keys", async (context) => {
    needs(context, "openssl")
    const dir = tempDir()
    const { cert, key } = makeCertificate(dir)
    const other = makeCertificate(dir, "other")
    const none = Path.join(dir, "none.pem")
    const tls = ["--listen", "tls://127.0.0.1:0"]
    const found = await problems(
      [/--cert.*--key.*both/, ...tls],
      [/--key.* missing/, ...tls, "--cert", cert],
      [/--key \S+none\.pem: there is no such file/, ...tls, "--cert", cert, "--key", none],
      [/--cert \S+none\.pem: there is no such file/, ...tls, "--cert", none, "--key", key],
      [/--ca \S+none\.pem: there is no such file/, ...tls, "--cert", cert, "--key", key, "--ca", none],
      [/--key.*it is not a file/, ...tls, "--cert", cert, "--key", dir],
      [/--key does not belong to --cert/, ...tls, "--cert", cert, "--key", other.key],
      [/--key cannot be read/, ...tls, "--cert", cert, "--key", cert],
      [/--cert cannot be read/, ...tls, "--cert", key, "--key", key],
      [/--ca cannot be read/, ...tls, "--cert", cert, "--key", key, "--ca", key],
      [/--key/, "--listen", "wss://127.0.0.1:0/", "--cert", cert, "--key", other.key]
    )
    assert.deepStrictEqual(found, [])
    if (process.getuid?.() !== 0) {
      Fs.chmodSync(key, 0)
      assert.deepStrictEqual(await problems([/--key.*may not read/, ...tls, "--cert", cert, "--key", key]), [])
    }
  })

  it("policy files", async () => {
    const dir = tempDir()
    let files = 0
    const policy = (text: string): string => {
      const path = Path.join(dir, `${++files}-policy.json`)
      Fs.writeFileSync(path, text)
      return path
    }
    const found = await problems(
      [/--policy \S+none\.json: there is no such file/, "--policy", Path.join(dir, "none.json")],
      [/--policy.*it is not a file/, "--policy", dir],
      [/--policy \S+policy\.json is not JSON/, "--policy", policy("{\n  \"silence\": \"1s\",\n oops\n}")],
      [/--policy \S+policy\.json.*silense/, "--policy", policy("{\"silense\":\"1s\"}")],
      [/--policy \S+policy\.json.*silence/, "--policy", policy("{\"silence\":\"soon\"}")],
      [/--policy \S+policy\.json.*maxFrame/, "--policy", policy("{\"maxFrame\":-3,\"silence\":\"1s\"}")],
      [/--policy \S+policy\.json.*preset/, "--policy", policy("{\"preset\":\"wishful\"}")],
      [/--policy \S+policy\.json.*object/, "--policy", policy("[]")],
      [/--policy \S+policy\.json/, "--policy", policy("")]
    )
    assert.deepStrictEqual(found, [])
    // a mistake in the file stays one when a flag would hide it
    assert.deepStrictEqual(
      await problems([/--policy.*silence/, "--policy", policy("{\"silence\":\"soon\"}"), "--silence", "1s"]),
      []
    )
  })

  it("a command that does not exist", async () => {
    const { code, stderr, stdout } = await holdfast("server")
    assert.match(stderr, /^holdfast: [^\n]*server[^\n]*\n$/)
    assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
  })
})

describe("output nobody reads", () => {
  it("closed before the first line: it serves all the same", async (context) => {
    needs(context, "nc")
    const path = Path.join(tempDir(), "s.sock")
    // both ends of a real pipe, as in `holdfast serve 2>&1 | true`
    const server = start("bash", [
      "-c",
      `exec "$0" "$1" serve --listen unix://${path} --listen tcp://127.0.0.1:0 > >(true) 2>&1`,
      process.execPath,
      main
    ])
    const echo = async () => (await run("nc", ["-N", "-U", path], { input: "hello\n" })).stdout
    await until("the first echo", async () => await echo() === "hello\n")
    // each of them is logged, to nobody
    for (let i = 0; i < 5; i++) assert.strictEqual(await echo(), "hello\n")
    process.kill(server.pid, "SIGTERM")
    assert.strictEqual(await server.ended(), 0)
  })

  it("closed after the first line, as by head -1", async (context) => {
    needs(context, "nc")
    const path = Path.join(tempDir(), "s.sock")
    const server = start("bash", [
      "-c",
      `exec "$0" "$1" serve --listen unix://${path} --listen tcp://127.0.0.1:0 > >(head -1 >&2)`,
      process.execPath,
      main
    ])
    await until("the first line", () => server.stderr.startsWith(`listening unix://${path}\n`))
    assert.strictEqual((await run("nc", ["-N", "-U", path], { input: "hello\n" })).stdout, "hello\n")
    process.kill(server.pid, "SIGTERM")
    assert.strictEqual(await server.ended(), 0)
  })
})
