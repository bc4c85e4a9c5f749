/** Where a part plays: it starts the real command and its clients, and takes down what was seen. */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { bundle, bundleCommand } from "../../cli/support/bundle.ts"
import type { Outcome, Row, UsualWay, Way } from "../fault.ts"
import { atEnd } from "./cleanUp.ts"
import type { Host, Hosts } from "./Link.ts"
import { Program } from "./Program.ts"
import { limited } from "./until.ts"

/** What the processes of a run share: the command and the programs as one file each. */
export interface Built {
  readonly directory: string
  readonly command: string
  readonly fleet: string
  readonly httpServer: string
}

export const build = async (): Promise<Built> => {
  const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "holdfast-faults-"))
  atEnd(() => Fs.rmSync(directory, { recursive: true, force: true }))
  const programs = { fleet: "", httpServer: "" }
  for (const name of ["fleet", "httpServer"] as const) {
    programs[name] = Path.join(directory, `${name}.js`)
    await bundle(fileURLToPath(new URL(`../programs/${name}.ts`, import.meta.url)), programs[name])
  }
  return { directory, command: await bundleCommand(directory), ...programs }
}

/** Fields of a policy, as its JSON has them. */
export type Limits = Readonly<Record<string, unknown>>

/** Short ones, so that a run takes minutes; the bounds of the table follow them. */
export const quick = {
  open: "2s",
  pingEvery: "1s",
  silence: "3s",
  writeStall: "2s",
  frame: "2s",
  handshake: "2s",
  drain: "2s",
  halfClose: "1s",
  retryBase: "100ms",
  retryCap: "1s"
} as const satisfies Limits

interface Place {
  /** Default: the host of this process. */
  readonly host?: Host | undefined
  readonly limits?: Limits | undefined
}

/** A server, and what it tells of its connections. */
export interface Server {
  readonly program: Program
  readonly url: string
  readonly port: number
}

/** How a fleet of clients is to behave. */
export interface FleetOptions extends Place {
  readonly url: string
  readonly way: Way
  readonly count: number
  readonly does: "wait" | "ask" | "send and never read"
  /** How many milliseconds a client that asks waits between an answer and the next question. */
  readonly pause?: number
}

// starting Node is what costs most here
const starting = limited(3)
let policies = 0

const schemes: Record<Way, string> = { TCP: "tcp", WebSocket: "ws", native: "tcp", TLS: "tls", HTTP: "http" }
/** Waits until a program says where it listens. */
const listening = async (program: Program, way: Way): Promise<Server> => {
  const address = new RegExp(`^listening (${schemes[way]}://.+)$`)
  const { found: url } = await program.says("where it listens", (line) => address.exec(line)?.[1])
  return { program, url, port: Number(/:(\d+)(\/|$)/.exec(url)![1]) }
}

const protocolOf = (way: Way): string => way === "native" ? "native" : "lines"

export class Stage {
  readonly seen = new Map<string, Outcome>()
  /** For files of this run. */
  readonly directory: string
  readonly #built: Built
  readonly #programs: Array<Program> = []
  readonly #removals: Array<() => void> = []
  /** Resolves when the parts that run beside this one are set up, too: they would make each other late. */
  readonly ready: () => Promise<void>

  constructor(built: Built, ready: () => Promise<void>) {
    this.directory = built.directory
    this.#built = built
    this.ready = ready
  }

  /** Takes down what an end made of a fault. */
  saw(row: Row, way: Way, outcome: Outcome): void {
    this.seen.set(keyOf(row, way), outcome)
  }

  /** Removes it when the part is over. */
  removing<A extends { readonly remove: () => void }>(thing: A): A {
    this.#removals.push(() => thing.remove())
    return thing
  }

  node(title: string, file: string, args: ReadonlyArray<string>, options: Place & {
    readonly nodeFlags?: ReadonlyArray<string> | undefined
    readonly descriptors?: number | undefined
  } = {}): Program {
    let words = [process.execPath, ...(options.nodeFlags ?? []), file, ...args]
    // the shell becomes Node: the pid stays
    if (options.descriptors !== undefined) {
      words = ["bash", "-c", `ulimit -n ${options.descriptors}; exec "$@"`, "-", ...words]
    }
    const [command, ...rest] = options.host?.within(words[0]!, words.slice(1)) ?? words
    const program = new Program(title, command!, rest, {
      NODE_COMPILE_CACHE: Path.join(this.#built.directory, "compiled")
    })
    this.#programs.push(program)
    return program
  }

  #policy(limits: Limits | undefined): string {
    const file = Path.join(this.#built.directory, `policy-${++policies}.json`)
    Fs.writeFileSync(file, JSON.stringify({ ...quick, ...limits }))
    return file
  }

  /** `holdfast serve`; when it returns, the server listens. */
  readonly serve = (way: Way, options: Place & {
    readonly address?: string
    readonly port?: number | undefined
    readonly flags?: ReadonlyArray<string>
    readonly nodeFlags?: ReadonlyArray<string>
    readonly descriptors?: number
  } = {}): Promise<Server> =>
    starting(async () => {
      const listen = `${schemes[way]}://${options.address ?? "127.0.0.1"}:${options.port ?? 0}`
      const program = this.node(`serve (${way})`, this.#built.command, [
        "serve",
        "--no-admin",
        "--listen",
        listen,
        "--protocol",
        protocolOf(way),
        "--log",
        "json",
        "--policy",
        this.#policy(options.limits),
        ...(options.flags ?? [])
      ], options)
      return listening(program, way)
    })

  /** One process that serves lines over TCP and over WebSocket, and one that serves the native protocol. */
  readonly serveAll = async (
    options: Place & { readonly address?: string; readonly ports?: Readonly<Record<string, number>> } = {}
  ): Promise<Readonly<Record<UsualWay, Server>>> => {
    const { address, ports } = options
    const webSocket = `ws://${address ?? "127.0.0.1"}:${ports?.WebSocket ?? 0}`
    const [TCP, native] = await Promise.all([
      this.serve("TCP", { ...options, port: ports?.TCP, flags: ["--listen", webSocket] }),
      this.serve("native", { ...options, port: ports?.native })
    ])
    return { TCP, WebSocket: await listening(TCP.program, "WebSocket"), native }
  }

  /** `holdfast connect`; when it returns, the client is connected. */
  readonly connect = (way: Way, url: string, options: Place = {}): Promise<Program> =>
    starting(async () => {
      const program = this.node(`connect (${way})`, this.#built.command, [
        "connect",
        url,
        "--protocol",
        protocolOf(way),
        "--policy",
        this.#policy(options.limits)
      ], options)
      await program.says("connected", (line) => line.startsWith("connected ") ? true : undefined)
      return program
    })

  /** Many clients of the public API in one process; when it returns, all are connected. */
  readonly fleet = (options: FleetOptions): Promise<Program> =>
    starting(async () => {
      const { count, does, limits, pause = 100, url, way } = options
      const program = this.node(`${count} clients (${way})`, this.#built.fleet, [
        JSON.stringify({ url, protocol: protocolOf(way), count, does, pause, policy: { ...quick, ...limits } })
      ], options)
      await program.says("all connected", (line) => line === "all connected" ? true : undefined, { deadline: 100_000 })
      return program
    })

  /** A server of HTTP on the public API. */
  readonly serveHttp = (): Promise<Server> =>
    starting(async () => {
      const program = this.node("HTTP server", this.#built.httpServer, [JSON.stringify(quick)])
      return listening(program, "HTTP")
    })

  /** A server and a client, connected; both real commands. */
  async pair(
    way: Way,
    hosts: Hosts,
    port: number,
    limits: { readonly server?: Limits; readonly client?: Limits } = {}
  ) {
    const server = await this.serve(way, { host: hosts.server, address: hosts.address, port, limits: limits.server })
    const client = await this.connect(way, server.url, { host: hosts.client, limits: limits.client })
    return { way, server: server.program, client, port }
  }

  async end(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.exit === undefined ? program.kill() : undefined))
    for (const remove of this.#removals.toReversed()) remove()
  }
}

export type Pair = Awaited<ReturnType<Stage["pair"]>>

export const keyOf = (row: Row, way: Way): string => `${row.fault} | ${row.end} | ${way}`
