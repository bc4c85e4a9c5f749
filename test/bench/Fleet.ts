/** One server and the processes that load it. */
import { performance } from "node:perf_hooks"
import { fileURLToPath } from "node:url"
import type { ConnectOrder, RunResult } from "./load/main.ts"
import type { ServerKind } from "./servers.ts"
import type { Started } from "./support/processes.ts"
import { cpuSeconds, residentBytes, startNode } from "./support/processes.ts"

export interface Shape {
  readonly connections: number
  readonly inFlight: number
  /** Bytes of one message. */
  readonly size: number
}

// what a process has open besides its connections
export const spareDescriptors = 200

/** What one turn of a load showed. */
export interface Turn {
  /** Completed in a second. */
  readonly rate: number
  /** Shares of a core. A server well below 1 was not what limited the rate. */
  readonly serverBusy: number
  /** Seconds of the server's CPU for each, from the first request of the turn to its last answer. */
  readonly cost: number
  readonly loadBusy: number
  readonly latency: RunResult["latency"]
}

const load = fileURLToPath(new URL("./load/main.ts", import.meta.url))

export class Fleet {
  readonly kind: ServerKind
  readonly server: Started
  private readonly loads: ReadonlyArray<Started>
  private readonly shape: Shape

  private constructor(kind: ServerKind, server: Started, loads: ReadonlyArray<Started>, shape: Shape) {
    this.kind = kind
    this.server = server
    this.loads = loads
    this.shape = shape
  }

  /** `processes`: over how many load processes the connections are spread. */
  static async start(
    kind: ServerKind,
    shape: Shape,
    options: { readonly processes?: number; readonly profile?: string | undefined } = {}
  ): Promise<Fleet> {
    const server = await kind.start(options.profile)
    const loads = await Promise.all(
      Array.from(
        { length: options.processes ?? 1 },
        () => startNode(load, [], { title: `load of ${kind.name}`, listens: false })
      )
    )
    return new Fleet(kind, server, loads, shape)
  }

  /** Opens all connections; each has compared its first echo when this resolves. */
  async connect(all = this.shape.connections): Promise<void> {
    const { family } = this.kind
    const each = Math.floor(all / this.loads.length)
    for (const [i, { call }] of this.loads.entries()) {
      const connections = i === 0 ? all - each * (this.loads.length - 1) : each
      const order: ConnectOrder = { ...this.shape, connections, family, port: this.server.port }
      await call("connect", order)
    }
  }

  private async turn(name: string, args: object): Promise<Turn> {
    const cpu = cpuSeconds(this.server.pid)
    const start = performance.now()
    const results = await Promise.all(this.loads.map(({ call }) => call<RunResult>(name, args)))
    const seconds = (performance.now() - start) / 1000
    const used = cpuSeconds(this.server.pid) - cpu
    return {
      rate: results.reduce((sum, { count, elapsed }) => sum + count / (elapsed / 1000), 0),
      serverBusy: used / seconds,
      cost: used / results.reduce((sum, { total }) => sum + total, 0),
      loadBusy: Math.max(...results.map(({ busy }) => busy)),
      latency: results[0]!.latency
    }
  }

  run(ms: number): Promise<Turn> {
    return this.turn("run", { ms })
  }

  /** `rate`: requests in a second, whatever becomes of them. */
  openLoop(ms: number, rate: number): Promise<Turn> {
    return this.turn("open", { ms, rate })
  }

  churn(ms: number, atOnce: number): Promise<Turn> {
    return this.turn("churn", { ms, atOnce })
  }

  /** Broadcasts one message after another for so long; the rate is deliveries in a second. */
  async broadcast(ms: number, size: number): Promise<Turn> {
    const cpu = cpuSeconds(this.server.pid)
    const start = performance.now()
    let delivered = 0
    while (performance.now() - start < ms) {
      const arrived = Promise.all(this.loads.map(({ call }) => call("expect", { size })))
      await Promise.all([arrived, this.server.call("broadcast", { bytes: size })])
      delivered += this.shape.connections
    }
    const seconds = (performance.now() - start) / 1000
    const used = cpuSeconds(this.server.pid) - cpu
    return {
      rate: delivered / seconds,
      serverBusy: used / seconds,
      cost: used / delivered,
      loadBusy: Number.NaN,
      latency: undefined
    }
  }

  /** Bytes of the heap after a collection, and of the process. */
  async memory(): Promise<{ readonly heap: number; readonly resident: number }> {
    const heap = this.kind.node ? await this.server.call<number>("heap") : Number.NaN
    return { heap, resident: residentBytes(this.server.pid) }
  }

  async stop(): Promise<void> {
    await Promise.all(this.loads.map(({ stop }) => stop()))
    await this.server.stop()
  }
}
