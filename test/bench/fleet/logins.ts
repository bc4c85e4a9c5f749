/** How long 10,000 clients are away whose node dies, until each is logged in on one of two others. */
import { residentBytes, sleep } from "../support/processes.ts"
import type { Return } from "./processes/crowd.ts"
import { cpuNanos, type EngineName, withEngine } from "./setting.ts"
import type { Figure, Settings } from "./table.ts"

const clients = 10_000

// milliseconds
const patience = 90_000

const tooLong = async (): Promise<never> => {
  await sleep(patience)
  throw new Error(`not all clients were back after ${patience / 1000} s`)
}

export const logins = (engine: EngineName, settings: Settings): Promise<ReadonlyArray<Figure>> =>
  withEngine(engine, settings, async (setting) => {
    const crowd = await setting.crowd()
    const [third, ...others] = await setting.nodes(3)
    const memory = async () => {
      await third!.call("heap")
      return [residentBytes(third!.pid), residentBytes(setting.engine.pid)] as const
    }
    const empty = await memory()
    const [engineBefore, enteringFrom] = [cpuNanos(setting.engine.pid), performance.now()]
    await crowd.call("enter", { count: clients, ports: [third!.port] })
    const entered = (performance.now() - enteringFrom) / 1000
    const engineEntered = (cpuNanos(setting.engine.pid) - engineBefore) / 1000 / clients
    const full = await memory()
    settings.finished(`logins on ${engine}: all are in`, 0)
    const cpu = async () =>
      (await Promise.all(others.map(({ call }) => call<number>("cpu")))).reduce((a, b) => a + b, 0)
    const [cpuBefore, engineCut] = [await cpu(), cpuNanos(setting.engine.pid)]
    await crowd.call("prepare return", { ports: others.map(({ port }) => port) })
    process.kill(third!.pid, "SIGKILL")
    const look = setInterval(async () => settings.note(`${await crowd.call<number>("in")} are in`), 2000)
    const back = crowd.call<Return>("return").finally(() => clearInterval(look))
    const { dials, last, median } = await Promise.race([back, tooLong()])
    const spent = (await cpu()) - cpuBefore
    const engineSpent = (cpuNanos(setting.engine.pid) - engineCut) / 1000 / clients
    const sizes = await Promise.all(others.map(({ call }) => call<number>("size")))
    const found = sizes.reduce((a, b) => a + b, 0)
    if (found !== clients) throw new Error(`${found} of ${clients} clients are registered`)
    const once = (what: string, unit: Figure["unit"], value: number, most?: number): Figure => ({
      what: `${engine}: ${what}`,
      unit,
      rounds: [value],
      most
    })
    return [
      once(`${clients} logins on one node`, "s", entered),
      once("a login, CPU of the engine", "us", engineEntered),
      once("a client that is logged in, memory of its node", "bytes", (full[0] - empty[0]) / clients),
      once("a client that is logged in, memory of the engine", "bytes", (full[1] - empty[1]) / clients),
      once(`${clients} logins back on 2 nodes after the third died: the last`, "s", last, 10),
      once("half of them", "s", median),
      once("a login that comes back, CPU of the nodes", "us", spent / clients),
      once("a login that comes back, CPU of the engine", "us", engineSpent),
      once("dials for each of them", "", dials / clients)
    ]
  })
