/**
 * What `HttpServer` costs on top of Effect's Node server, and what attackers cost its other clients.
 *
 * Needs `wrk` (Debian: apt-get install wrk). Run it on a quiet machine:
 *
 *     npx node --conditions=holdfast-source test/bench/http.ts [rounds] [seconds]
 *
 * 1. `wrk` with keep-alive against either server, in turns: at least 0.95 of Effect's requests per second (medians).
 * 2. The same with and without peers that send heads and bodies byte by byte and that read nothing: the 99th percentile
 *    of the others stays within 1.2 times what it is without, and each attacker is cut at its limit.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Effect, Stream } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { Registry } from "../../src/index.ts"
import { HttpServer } from "../../src/node/index.ts"

const limits = { handshake: 2_000, frame: 4_000, writeStall: 2_000 }
const chunk = new Uint8Array(1024 * 1024)

const serve = (kind: string) =>
  Effect.gen(function*() {
    const registry = yield* Registry.make<string>({ history: 10_000 })
    const application = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      switch (request.url) {
        case "/endless":
          return Effect.succeed(HttpServerResponse.stream(Stream.forever(Stream.make(chunk))))
        case "/upload":
          return Effect.map(Effect.orDie(request.text), HttpServerResponse.text)
        case "/ended":
          return Effect.map(registry.history, (history) =>
            HttpServerResponse.text(
              JSON.stringify(history.map(({ snapshot }) => [snapshot.reason?._tag, snapshot.age]))
            ))
        default:
          return Effect.succeed(HttpServerResponse.text("hello"))
      }
    })
    const http = kind === "holdfast"
      ? (yield* HttpServer.make("http://127.0.0.1:0", { policy: limits, registry })).http
      : yield* NodeHttpServer.make(() => Http.createServer(), { host: "127.0.0.1", port: 0 })
    yield* http.serve(application)
    const { address } = http
    console.log(address._tag === "UnixPathAddress" ? address.path : address.port)
    return yield* Effect.never
  })

interface Child {
  readonly port: number
  readonly process: ChildProcess.ChildProcess
}

const spawnServer = async (kind: string): Promise<Child> => {
  const child = ChildProcess.spawn(
    process.execPath,
    ["--conditions=holdfast-source", fileURLToPath(import.meta.url), "serve", kind],
    { stdio: ["ignore", "pipe", "inherit"] }
  )
  const [line] = await once(child.stdout, "data") as [Buffer]
  return { port: Number(String(line)), process: child }
}

/** Processor time of a process so far, in microseconds (Linux, where a tick is 10 ms). */
const processorTime = (child: Child): number => {
  const fields = Fs.readFileSync(`/proc/${child.process.pid}/stat`, "utf8").split(") ")[1]!.split(" ")
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

const wrk = async (child: Child, connections: number, seconds: number) => {
  const { port } = child
  const before = processorTime(child)
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, "--latency", `http://127.0.0.1:${port}/`]
  const { stdout } = await promisify(ChildProcess.execFile)("wrk", args)
  const spent = processorTime(child) - before
  const [, p99, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout)!
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)![1]),
    perRequest: spent / Number(/(\d+) requests in/.exec(stdout)![1]),
    p99: Number(p99) * { us: 0.001, ms: 1, s: 1000 }[unit as "us" | "ms" | "s"],
    errors: /Socket errors.*|Non-2xx.*/.exec(stdout)?.[0]
  }
}

const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

interface Attack {
  readonly peers: number
  readonly limit: number
  /** As what the server sees it end. */
  readonly reason: string
  readonly first: string
}

const attacks: { readonly [kind: string]: Attack } = {
  "slow head": {
    peers: 50,
    limit: limits.handshake,
    reason: "HandshakeTimeout",
    first: "GET / HTTP/1.1\r\nHost: a\r\nX: "
  },
  "slow body": {
    peers: 50,
    limit: limits.frame,
    reason: "FrameTimeout",
    first: "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
  },
  "slow read": {
    peers: 10,
    limit: limits.writeStall,
    reason: "WriteStalled",
    first: "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"
  }
}

/** Attacks until it is stopped: whoever is cut comes again. */
const attack = ({ port }: Child): () => void => {
  const sockets = new Set<Net.Socket>()
  let stopped = false
  const dial = ({ first, limit, reason }: Attack): void => {
    if (stopped) return
    const conn = Net.connect(port, "127.0.0.1")
    sockets.add(conn)
    conn.on("error", () => {})
    conn.write(first)
    let timer: NodeJS.Timeout
    if (reason === "WriteStalled") {
      // a paused socket does not notice its end
      timer = setTimeout(() => conn.destroy(), 2 * limit)
    } else {
      conn.resume()
      timer = setInterval(() => conn.write("x"), 200)
    }
    conn.on("close", () => {
      clearInterval(timer)
      sockets.delete(conn)
      // not all at the same moment
      setTimeout(dial, 500 * Math.random(), { first, limit, reason })
    })
  }
  for (const kind of Object.values(attacks)) {
    for (let i = 0; i < kind.peers; i++) setTimeout(dial, 1000 * Math.random(), kind)
  }
  return () => {
    stopped = true
    for (const conn of sockets) conn.destroy()
  }
}

const main = async (rounds: number, seconds: number): Promise<void> => {
  const effect = await spawnServer("effect")
  const holdfast = await spawnServer("holdfast")
  try {
    await wrk(effect, 50, 2)
    await wrk(holdfast, 50, 2)
    const perSecond = { effect: [] as Array<number>, holdfast: [] as Array<number> }
    const perRequest = { effect: [] as Array<number>, holdfast: [] as Array<number> }
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 === 0 ? ["effect", "holdfast"] as const : ["holdfast", "effect"] as const
      for (const kind of order) {
        const result = await wrk(kind === "effect" ? effect : holdfast, 50, seconds)
        perSecond[kind].push(result.perSecond)
        perRequest[kind].push(result.perRequest)
        if (result.errors !== undefined) console.log(`${kind}: ${result.errors}`)
      }
    }
    const [theirs, ours] = [median(perSecond.effect), median(perSecond.holdfast)]
    console.log(`requests a second, 50 connections, median of ${rounds} rounds of ${seconds} s`)
    const ratios = perSecond.holdfast.map((rate, round) => rate / perSecond.effect[round]!)
    console.log(
      `  effect ${theirs.toFixed(0)}, holdfast ${ours.toFixed(0)}; of the rounds' ratios the median is ` +
        `${median(ratios).toFixed(3)}, from ${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)}`
    )
    const [theirTime, ourTime] = [median(perRequest.effect), median(perRequest.holdfast)]
    console.log(`processor time of a request, which a busy machine changes less`)
    console.log(
      `  effect ${theirTime.toFixed(1)} us, holdfast ${ourTime.toFixed(1)} us: ${(theirTime / ourTime).toFixed(3)}`
    )

    const p99 = { quiet: [] as Array<number>, attacked: [] as Array<number> }
    for (let round = 0; round < rounds; round++) {
      p99.quiet.push((await wrk(holdfast, 16, seconds)).p99)
      const stop = attack(holdfast)
      await new Promise((resolve) => setTimeout(resolve, 4_500))
      p99.attacked.push((await wrk(holdfast, 16, seconds)).p99)
      stop()
    }
    const [quiet, attacked] = [median(p99.quiet), median(p99.attacked)]
    console.log(`99th percentile of 16 connections, median of ${rounds} rounds, without and with 110 attackers`)
    console.log(`  ${quiet.toFixed(2)} ms, ${attacked.toFixed(2)} ms: ${(attacked / quiet).toFixed(2)}`)
    const ended = await (await fetch(`http://127.0.0.1:${holdfast.port}/ended`)).json() as Array<[string, number]>
    for (const [kind, { limit, reason }] of Object.entries(attacks)) {
      const ages = ended.filter(([tag]) => tag === reason).map(([, age]) => age)
      const worst = Math.max(...ages).toFixed(0)
      console.log(
        `  ${kind}: ${ages.length} cut, after ${median(ages).toFixed(0)} ms, at most ${worst}; limit ${limit} ms`
      )
    }
  } finally {
    effect.process.kill()
    holdfast.process.kill()
  }
}

const [mode, kind] = process.argv.slice(2)
if (mode === "serve") Effect.runFork(Effect.scoped(serve(kind!)))
else await main(Number(mode ?? 5), Number(kind ?? 3))
