/** Where a figure is measured: an engine, nodes on it, and clients, each a process, until the figure is there. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { installed, natsServer, redisServer } from "../../integration/support/engines.ts"
import { sleep, type Started, startNode } from "../support/processes.ts"

export type EngineName = "redis" | "nats"

export const engineNames: ReadonlyArray<EngineName> = ["redis", "nats"]

/** Why an engine cannot be used here. */
export const missing = (name: EngineName): string | undefined =>
  installed(`${name}-server`) === undefined
    ? `${name}-server is not installed: apt-get install ${name === "redis" ? "redis-server" : "nats-server"}`
    : undefined

/** Nanoseconds on a processor, of all threads that a process has (Linux). */
export const cpuNanos = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`).reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]),
    0
  )

export const here = fileURLToPath(new URL("../../..", import.meta.url)).replace(/\/$/, "")

export interface Setting {
  readonly engine: { readonly pid: number; readonly port: number }
  /** Nodes of one fleet, which know each other; `root` is the checkout whose code they run. */
  readonly nodes: (count: number, root?: string) => Promise<ReadonlyArray<Started>>
  readonly crowd: () => Promise<Started>
}

/** Starts an engine for a measurement, and ends all that was started for it afterwards. */
export const withEngine = async <A>(
  name: EngineName,
  settings: { readonly profile: string | undefined },
  measure: (setting: Setting) => Promise<A>
): Promise<A> => {
  const scope = Scope.makeUnsafe()
  const started: Array<Started> = []
  let titles = 0
  const start = async (script: string, args: ReadonlyArray<string>, listens: boolean): Promise<Started> => {
    // counted before they are there: those that start together have different ones
    const title = `${script} ${++titles} on ${name}`
    const profile = listens ? settings.profile : undefined
    const one = await startNode(fileURLToPath(new URL(script, import.meta.url)), args, { title, listens, profile })
    started.push(one)
    return one
  }
  let fleets = 0
  let kill = (): void => {}
  try {
    const daemon = await Effect.runPromise(Scope.provide(name === "redis" ? redisServer() : natsServer(), scope))
    // an end by a signal runs no finalizer
    kill = () => void process.kill(daemon.pid(), "SIGKILL")
    process.once("exit", kill)
    const nodes = async (count: number, root = here): Promise<ReadonlyArray<Started>> => {
      const args = [name, `127.0.0.1:${daemon.port}`, `bench${++fleets}`, root]
      const all = await Promise.all(Array.from({ length: count }, () => start("processes/node.ts", args, true)))
      for (const { call } of all) while ((await call<number>("others")) < count - 1) await sleep(50)
      return all
    }
    return await measure({
      engine: { pid: daemon.pid(), port: daemon.port },
      nodes,
      crowd: () => start("processes/crowd.ts", [], false)
    })
  } finally {
    process.off("exit", kill)
    await Promise.all(started.map(({ stop }) => stop()))
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}
