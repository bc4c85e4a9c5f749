/** Proxies of Debian, each started on free ports of its own: HAProxy, nginx, tinyproxy, microsocks. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { freePort } from "../../support/freePort.ts"
import { certificate, tempDir } from "./kit.ts"

// where Debian has them, whatever the PATH is
const path = `${process.env.PATH ?? ""}:/usr/sbin`
const env = { ...process.env, PATH: path }

const works = (command: string, ...args: ReadonlyArray<string>): boolean =>
  ChildProcess.spawnSync(command, args, { env }).error === undefined

const streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

/** Which of them this machine has. */
export const has = {
  haproxy: works("haproxy", "-v"),
  nginx: works("nginx", "-v") && Fs.existsSync(streamModule),
  tinyproxy: works("tinyproxy", "-v"),
  microsocks: works("microsocks", "-h")
}

/** From where it is tried whether a proxy runs: what is behind it may see that. */
export const visitor = "127.0.0.3"

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const conn = Net.connect({ port, host: "127.0.0.1", localAddress: visitor }, () => {
      conn.destroy()
      resolve(true)
    })
    conn.once("error", () => resolve(false))
  })

/** Runs a program in the foreground until the scope closes; when it returns, the program answers on its ports. */
const start = (
  command: string,
  args: ReadonlyArray<string>,
  ports: ReadonlyArray<number>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    let said = ""
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => ChildProcess.spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] })),
      (child) =>
        Effect.promise(async () => {
          if (child.exitCode !== null || child.signalCode !== null) return
          const ended = new Promise((resolve) => child.once("exit", resolve))
          child.kill("SIGKILL")
          await ended
        })
    )
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => void (said += String(text)))
    const open = new Set<number>()
    yield* Effect.promise(async () => {
      const deadline = performance.now() + 10_000
      while (open.size < ports.length) {
        if (child.exitCode !== null || performance.now() > deadline) {
          throw new Error(`${command} does not run:\n${said}`)
        }
        for (const port of ports) if (!open.has(port) && await answers(port)) open.add(port)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    })
  })

/** Several free ports, and a file with what is made of them. */
const configured = Effect.fnUntraced(
  function*(count: number, make: (ports: ReadonlyArray<number>, dir: string) => string) {
    const dir = yield* tempDir
    const ports: Array<number> = []
    for (let i = 0; i < count; i++) ports.push(yield* Effect.promise(freePort))
    const file = Path.join(dir, "conf")
    Fs.writeFileSync(Path.join(dir, "pair.pem"), certificate().cert + certificate().key)
    Fs.writeFileSync(file, make(ports, dir))
    return { dir, file, ports }
  }
)

/** One front: the options of its `bind`, its mode and more lines, and what is behind it. */
export interface Front {
  readonly bind?: string
  readonly mode?: "tcp" | "http"
  readonly more?: string
  readonly to: number
  /** The options of the server behind it. */
  readonly send: string
}

/** The ports of the fronts, in their order. */
export const haproxy = Effect.fnUntraced(function*(fronts: ReadonlyArray<Front>) {
  const { dir, file, ports } = yield* configured(fronts.length, (ports, dir) =>
    [
      "global",
      "  maxconn 100",
      "defaults",
      "  timeout connect 5s",
      "  timeout client 30s",
      "  timeout server 30s",
      "  timeout tunnel 30s",
      ...fronts.flatMap(({ bind = "", mode = "tcp", more = "", send, to }, i) => [
        `listen front${i}`,
        `  mode ${mode}`,
        `  bind 127.0.0.1:${ports[i]} ${bind.replace("PAIR", `${dir}/pair.pem`)}`,
        ...more.split("\n").map((line) => `  ${line}`),
        `  server one 127.0.0.1:${to} ${send}`
      ]),
      ""
    ].join("\n"))
  yield* start("haproxy", ["-db", "-f", file, "-p", Path.join(dir, "pid")], ports)
  return ports
})

/** `stream`: what stands in its servers of byte streams; `http`: in the one location of its servers of HTTP. */
export const nginx = Effect.fnUntraced(function*(
  fronts: ReadonlyArray<{ readonly kind: "stream" | "http"; readonly lines: string }>
) {
  const { dir, file, ports } = yield* configured(fronts.length, (ports, dir) => {
    const servers = (kind: "stream" | "http") =>
      fronts.map((front, i) =>
        front.kind !== kind
          ? ""
          : kind === "stream"
          ? `server { listen 127.0.0.1:${ports[i]}; ${front.lines} }`
          : `server { listen 127.0.0.1:${ports[i]}; location / { ${front.lines} } }`
      ).join("\n")
    const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${dir}/${name};`)
      .join(" ")
    return `load_module ${streamModule};
daemon off; master_process off; pid ${dir}/pid; error_log stderr warn; worker_processes 1;
events { worker_connections 100; }
stream { ${servers("stream")} }
http { access_log off; ${temp} ${servers("http")} }
`
  })
  yield* start("nginx", ["-c", file, "-p", dir, "-e", "stderr"], ports)
  return ports
})

/** With user `ada` and password `secret`; its port. */
export const tinyproxy = Effect.gen(function*() {
  const { dir, file, ports } = yield* configured(1, ([port], dir) =>
    [
      `Port ${port}`,
      "Listen 127.0.0.1",
      "Timeout 60",
      "Allow 127.0.0.0/8",
      "BasicAuth ada secret",
      `PidFile "${dir}/pid"`,
      `LogFile "${dir}/log"`,
      "LogLevel Info",
      ""
    ].join("\n"))
  // it may run as another user than the one who made the directory
  Fs.chmodSync(dir, 0o777)
  yield* start("tinyproxy", ["-d", "-c", file], ports)
  return ports[0]!
})

/** With user `ada` and password `secret`; its port. */
export const microsocks = Effect.gen(function*() {
  const port = yield* Effect.promise(freePort)
  yield* start("microsocks", ["-i", "127.0.0.1", "-p", String(port), "-u", "ada", "-P", "secret"], [port])
  return port
})
