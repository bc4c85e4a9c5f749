/** Clients that begin something, and go on with a byte now and then, or not at all. */
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import { type Part, type Row, row, type Way } from "../fault.ts"
import { serverEnding } from "../support/endings.ts"
import { framed, greetingOf, rawPeer } from "../support/local.ts"
import { certificates } from "../support/needs.ts"
import type { Server, Stage } from "../support/Stage.ts"
import { sleep } from "../support/until.ts"

interface Begun {
  readonly row: Row
  readonly way: Way
  /** What it says at once. */
  readonly first: Uint8Array
  /** Of this it says a byte every 200 ms. */
  readonly rest: Uint8Array
}

const nothing: Uint8Array = new Uint8Array(0)
const long = Buffer.from("x".repeat(100))

const handshake = { atLeast: 1.8, atMost: 2, bound: "`handshake`" }

const slow = (
  what: string,
  way: Way,
  ends: Pick<Row, "reason" | "atMost" | "bound" | "atLeast">,
  rest: Uint8Array,
  first = nothing
): Begun => ({ row: row({ fault: what, end: "server", ways: [way], ...ends }), way, first, rest })

const frame = { reason: "FrameTimeout", atLeast: 1.8, atMost: 2, bound: "`frame`" }

// a record of TLS 1.2 with a ClientHello that promises more than it brings
const clientHello = Buffer.concat([Buffer.from("1603010200010001fc0303", "hex"), Buffer.alloc(100)])

const lorises: ReadonlyArray<Begun> = [
  slow("first message trickles", "TCP", frame, long),
  slow("message trickles", "WebSocket", frame, framed("WebSocket", "x".repeat(100)), greetingOf("WebSocket")),
  slow("message trickles", "native", frame, framed("native", "x".repeat(100)), greetingOf("native")),
  slow(
    "never says anything",
    "TCP",
    { reason: "SilenceTimeout", atLeast: 2.8, atMost: 3, bound: "`silence`" },
    nothing
  ),
  slow("upgrade trickles", "WebSocket", { reason: "HandshakeTimeout", ...handshake }, greetingOf("WebSocket")),
  slow("upgrade never comes", "WebSocket", { reason: "HandshakeTimeout", ...handshake }, nothing),
  slow("hello trickles", "native", { reason: "HandshakeTimeout", ...handshake }, greetingOf("native")),
  slow("hello never comes", "native", { reason: "HandshakeTimeout", ...handshake }, nothing),
  slow("TLS handshake trickles", "TLS", { reason: "HandshakeTimeout", ...handshake }, clientHello),
  slow("TLS handshake never comes", "TLS", { reason: "HandshakeTimeout", ...handshake }, nothing),
  slow(
    "head of a request trickles",
    "HTTP",
    { reason: "408", ...handshake, atMost: 2.5, bound: "`handshake` and a quarter" },
    Buffer.from(`GET / HTTP/1.1\r\nX: ${"x".repeat(100)}`)
  )
]

const certificate = (stage: Stage): ReadonlyArray<string> => {
  const [key, cert] = ["key.pem", "cert.pem"].map((name) => Path.join(stage.directory, name))
  const line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost " +
    `-keyout ${key} -out ${cert}`
  ChildProcess.execFileSync("openssl", line.split(" "), { stdio: "ignore" })
  return ["--cert", cert!, "--key", key!]
}

const serverFor = (stage: Stage, way: Way): Promise<Server> =>
  way === "HTTP" ? stage.serveHttp() : stage.serve(way, way === "TLS" ? { flags: certificate(stage) } : {})

const begin = async (stage: Stage, { port, program }: Server, { first, rest, row, way }: Begun): Promise<void> => {
  const peer = await rawPeer(port)
  peer.conn.on("error", () => {})
  const since = performance.now()
  if (first.length > 0) {
    peer.conn.write(first)
    await sleep(50)
  }
  let at = 0
  const trickle = setInterval(() => {
    if (at < rest.length) peer.conn.write(rest.subarray(at, ++at))
  }, 200)
  if (way !== "HTTP") stage.saw(row, way, await serverEnding(program, since, row, `127.0.0.1:${peer.conn.localPort}`))
  else {
    while (peer.endedAt === undefined && performance.now() < since + 6_000) await sleep(10)
    const status = /^HTTP\/1.1 (\d+)/.exec(peer.text)?.[1] ?? "no answer"
    stage.saw(row, way, { reason: status, seconds: ((peer.endedAt ?? performance.now()) - since) / 1000 })
  }
  clearInterval(trickle)
  peer.end()
}

export const slowLoris: ReadonlyArray<Part> = [{
  name: "slow-loris",
  rows: lorises.map(({ row }) => row),
  needs: [certificates],
  load: "waits",
  run: async (stage) => {
    const present = [...new Set(lorises.map(({ way }) => way))]
    const servers = new Map(await Promise.all(present.map(async (way) => [way, await serverFor(stage, way)] as const)))
    await stage.ready()
    await Promise.all(lorises.map((begun) => begin(stage, servers.get(begun.way)!, begun)))
  }
}]
