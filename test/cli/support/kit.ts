/** What the tests of the command share: the real command as a child process, clients nobody here wrote, and waiting. */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import type { TestContext } from "vitest"
import { afterAll, onTestFinished } from "vitest"
import { bundled } from "./bundle.ts"

export const root = fileURLToPath(new URL("../../..", import.meta.url))
/** The command of `src`, in one file; `npm start` and the package run the files that users have. */
export const main = bundled
export const support = Path.join(root, "test/cli/support")

/** Looks at a condition until it holds; fails after the deadline with what was waited for. */
export const until = async (
  what: string | (() => string),
  condition: () => boolean | Promise<boolean>,
  deadline = 10_000
): Promise<void> => {
  const end = performance.now() + deadline
  while (!(await condition())) {
    if (performance.now() > end) {
      throw new Error(`waited ${deadline} ms in vain: ${typeof what === "string" ? what : what()}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

type AtEnd = (finalizer: () => void | Promise<void>) => void

/** For what all tests of a `describe` share: call it there, not in a hook. */
export const atEndOfSuite = (): AtEnd => {
  const finalizers: Array<() => void | Promise<void>> = []
  afterAll(async () => {
    for (const finalizer of finalizers.toReversed()) await finalizer()
  })
  return (finalizer) => void finalizers.push(finalizer)
}

// ---------------------------------------------------------------------------------------------------------------------
// processes
// ---------------------------------------------------------------------------------------------------------------------

export interface Running {
  readonly child: ChildProcess.ChildProcessWithoutNullStreams
  readonly pid: number
  stdout: string
  stderr: string
  /** Set once the process is gone and its output was read. */
  exit: { readonly code: number | null; readonly signal: NodeJS.Signals | null } | undefined
  readonly write: (text: string | Uint8Array) => void
  /** Waits for the end; its exit code, or the name of the signal that ended it. */
  readonly ended: (deadline?: number) => Promise<number | string>
  /** Waits until the standard output has the text. */
  readonly says: (text: string) => Promise<void>
}

/** Starts a program. It is killed, by its pid, when the test (or `atEnd`) is over. */
export const start = (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly env?: Record<string, string>; readonly atEnd?: AtEnd } = {}
): Running => {
  const child = ChildProcess.spawn(command, args, {
    cwd: root,
    env: {
      ...process.env,
      // `node` and `npm start` are the Node that runs this test
      PATH: Path.dirname(process.execPath) + Path.delimiter + process.env.PATH,
      NODE_OPTIONS: "",
      // starts faster
      NODE_COMPILE_CACHE: Path.join(root, "node_modules/.cache/node"),
      NO_COLOR: "1",
      ...options.env
    }
  })
  const what = `${Path.basename(command)} ${args.join(" ").slice(0, 200)}`
  const running: Running = {
    child,
    pid: child.pid!,
    stdout: "",
    stderr: "",
    exit: undefined,
    write: (text) => void child.stdin.write(text),
    ended: async (deadline = 10_000) => {
      await until(
        () => `the end of ${what}\n${running.stdout}\n${running.stderr}`,
        () => running.exit !== undefined,
        deadline
      )
      return running.exit!.code ?? running.exit!.signal!
    },
    says: (text) =>
      until(() => `"${text}" from ${what}, it said "${running.stdout}"`, () => running.stdout.includes(text))
  }
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    running.stdout += text
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    running.stderr += text
  })
  // a client that ends before it was given everything
  child.stdin.on("error", () => {})
  child.on("error", (error) => {
    running.stderr += String(error)
  })
  child.on("close", (code, signal) => {
    running.exit = { code, signal }
  })
  const atEnd = options.atEnd ?? onTestFinished
  atEnd(async () => {
    if (running.exit === undefined) child.kill("SIGKILL")
    await until(`the end of ${what}, killed`, () => running.exit !== undefined)
  })
  return running
}

/** Runs a program to its end, with this as its standard input. */
export const run = async (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly input?: string | Uint8Array; readonly env?: Record<string, string> } = {}
) => {
  const running = start(command, args, options)
  running.child.stdin.end(options.input ?? "")
  const code = await running.ended(20_000)
  return { code, stdout: running.stdout, stderr: running.stderr }
}

// ---------------------------------------------------------------------------------------------------------------------
// the server
// ---------------------------------------------------------------------------------------------------------------------

export interface Server extends Running {
  /** One a listener, in the order of the flags, with the real ports. */
  readonly urls: ReadonlyArray<string>
  readonly ports: ReadonlyArray<number>
  /** What `--log json` wrote so far. */
  readonly logs: () => ReadonlyArray<Record<string, unknown>>
  /** Waits for a log line with these fields. */
  readonly logged: (fields: Record<string, unknown>) => Promise<Record<string, unknown>>
}

/** The words of a command line; no test needs one with a blank in it. */
export const words = (line: string): ReadonlyArray<string> => line.trim().split(/\s+/)

/** `holdfast serve` with these flags; when it returns, the server is listening. */
export const serve = async (flags: string, atEnd?: AtEnd): Promise<Server> => {
  const args = words(flags)
  const count = Math.max(1, args.filter((arg) => arg === "--listen").length)
  // what is not asked for would be loaded beside the test
  const admin = args.some((arg) => arg.startsWith("--admin")) ? [] : ["--no-admin"]
  const running = start(process.execPath, [main, "serve", ...args, ...admin], atEnd === undefined ? {} : { atEnd })
  const urls = () => [...running.stdout.matchAll(/^listening (\S+).*\n/gm)].map((match) => match[1]!)
  await until(
    `${count} listening lines of serve ${flags}`,
    () => urls().length === count || running.exit !== undefined
  )
  if (running.exit !== undefined) throw new Error(`serve ${flags} ended:\n${running.stderr}`)
  const logs = () => running.stderr.split("\n").slice(0, -1).map((line) => JSON.parse(line) as Record<string, unknown>)
  return Object.assign(running, {
    urls: urls(),
    ports: urls().map((url) => Number(/:(\d+)(\/|$)/.exec(url)?.[1] ?? 0)),
    logs,
    logged: async (fields: Record<string, unknown>) => {
      const find = () => logs().find((line) => Object.entries(fields).every(([name, value]) => line[name] === value))
      await until(() => `a log line with ${JSON.stringify(fields)} in\n${running.stderr}`, () => find() !== undefined)
      return find()!
    }
  })
}

/** Resident memory of a process, in MiB. */
export const residentMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024

export const descriptors = (pid: number): number => Fs.readdirSync(`/proc/${pid}/fd`).length

/** A directory that is gone at the end. */
export const tempDir = (atEnd: AtEnd = onTestFinished): string => {
  const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "holdfast-cli-"))
  atEnd(() => Fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

// ---------------------------------------------------------------------------------------------------------------------
// the clients
// ---------------------------------------------------------------------------------------------------------------------

const works = (command: string, args: ReadonlyArray<string>, output: RegExp): boolean => {
  const { error, stderr, stdout } = ChildProcess.spawnSync(command, args, { encoding: "utf8" })
  return error === undefined && output.test(stdout + stderr)
}

const pythons = (process.env.PATH ?? "").split(Path.delimiter).map((dir) => Path.join(dir, "python3"))
  .filter((path) => Fs.existsSync(path))

/** A version manager's python may hide the one that has the Debian package. */
const pythonWithWebsockets = pythons.find((path) => works(path, ["-c", "import websockets; print('has it')"], /has it/))

export const python = pythonWithWebsockets ?? pythons[0] ?? "python3"

const tools = {
  nc: [works("nc", ["-h"], /OpenBSD/), "nc of OpenBSD (netcat-openbsd)"],
  openssl: [works("openssl", ["version"], /OpenSSL/), "openssl"],
  python: [pythons.length > 0, "python3"],
  websockets: [pythonWithWebsockets !== undefined, "python3 with websockets (python3-websockets)"],
  proc: [Fs.existsSync("/proc/self/fd"), "/proc"],
  webSocket: ["WebSocket" in globalThis, "a Node with a global WebSocket"]
} as const

export const has = (name: keyof typeof tools): boolean => tools[name][0]

/** Skips a test, and says why, where a program it needs is missing. */
export const needs = (context: TestContext, ...names: ReadonlyArray<keyof typeof tools>): void => {
  const missing = names.filter((name) => !has(name)).map((name) => tools[name][1])
  if (missing.length > 0) context.skip(`not on this machine: ${missing.join(", ")}`)
}

/** Runs Python with these lines. */
export const runPython = (script: string, ...args: ReadonlyArray<string>) => run(python, ["-c", script, ...args])

/** A self-signed certificate for localhost, in a directory. */
export const makeCertificate = (dir: string, name = "server"): { readonly cert: string; readonly key: string } => {
  const cert = Path.join(dir, `${name}-cert.pem`)
  const key = Path.join(dir, `${name}-key.pem`)
  const line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost " +
    `-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout ${key} -out ${cert}`
  ChildProcess.execFileSync("openssl", words(line), { stdio: "ignore" })
  return { cert, key }
}

/** A raw TCP client of Node, destroyed at the end. */
export interface Client {
  readonly conn: Net.Socket
  text: string
  bytes: number
  /** The peer has finished, or the connection is gone. */
  ended: boolean
  readonly write: (data: string | Uint8Array) => void
  /** Waits until exactly this was received. */
  readonly receives: (text: string) => Promise<void>
  readonly ends: () => Promise<void>
}

export const connect = async (port: number, options: { readonly from?: string } = {}): Promise<Client> => {
  const conn = Net.connect({
    host: "127.0.0.1",
    port,
    allowHalfOpen: true,
    ...(options.from === undefined ? {} : { localAddress: options.from })
  })
  let connected = false
  const client: Client = {
    conn,
    text: "",
    bytes: 0,
    ended: false,
    write: (data) => void conn.write(data),
    receives: (text) =>
      until(() => `"${text}" to be all a client gets, it got "${client.text}"`, () => client.text === text),
    ends: () => until("the end of a connection", () => client.ended)
  }
  conn.on("data", (chunk) => {
    client.bytes += chunk.length
    // of the big ones only the number of bytes matters
    if (client.bytes < 100_000) client.text += chunk.toString()
  })
  conn.on("connect", () => {
    connected = true
  })
  conn.on("end", () => {
    client.ended = true
  })
  conn.on("close", () => {
    client.ended = true
  })
  conn.on("error", () => {})
  onTestFinished(() => void conn.destroy())
  await until("a connection", () => connected || client.ended)
  return client
}

/** A browser's WebSocket, as Node has it. */
export interface Browser {
  readonly ws: WebSocket
  /** A text, or an `ArrayBuffer` with bytes. */
  readonly messages: Array<unknown>
  closed: CloseEvent | undefined
  readonly receives: (...messages: ReadonlyArray<unknown>) => Promise<void>
}

export const browse = async (url: string): Promise<Browser> => {
  const ws = new WebSocket(url)
  ws.binaryType = "arraybuffer"
  const browser: Browser = {
    ws,
    messages: [],
    closed: undefined,
    receives: (...messages) =>
      until(
        () => `${JSON.stringify(messages)} to be all a browser gets, it got ${JSON.stringify(browser.messages)}`,
        () => browser.messages.length === messages.length && messages.every((one, i) => one === browser.messages[i])
      )
  }
  ws.addEventListener("message", (event) => {
    browser.messages.push(event.data)
  })
  ws.addEventListener("close", (event) => {
    browser.closed = event
  })
  onTestFinished(() => ws.close())
  await until("a WebSocket to open", () => ws.readyState === WebSocket.OPEN || browser.closed !== undefined)
  return browser
}

/** Runs a command on a terminal of its own, and copies what it shows; an end of the input is a Ctrl-C. */
const onPty = `
import os, pty, select, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
inputs = [fd, 0]
while True:
    ready, _, _ = select.select(inputs, [], [])
    if 0 in ready:
        inputs.remove(0)
        os.write(fd, b"\\x03")
    if fd in ready:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data: break
        os.write(1, data)
os.waitpid(pid, 0)
`

/** What a program shows on a terminal, as its `stdout`; needs `python`. */
export const onTerminal = (command: string, ...args: ReadonlyArray<string>): Running =>
  start(python, ["-c", onPty, command, ...args], { env: { TERM: "xterm" } })
