/** How long 10,000 clients are away whose node dies, until each is logged in on one of two others. */
import type { Return } from "./crowd.ts"
import { cpuNanos, type EngineName, withEngine } from "./setting.ts"
import type { Figure, Settings } from "./table.ts"

const clients = 10_000

export const logins = (engine: EngineName, settings: Settings): Promise<ReadonlyArray<Figure>> =>
  withEngine(engine, settings, async (setting) => {
    const crowd = await setting.crowd()
    const [third, ...others] = await setting.nodes(3)
    const [engineBefore, enteringFrom] = [cpuNanos(setting.engine.pid), performance.now()]
    await crowd.call("enter", { count: clients, ports: [third!.port] })
    const entered = (performance.now() - enteringFrom) / 1000
    const engineEntered = (cpuNanos(setting.engine.pid) - engineBefore) / 1000 / clients
    settings.finished(`logins on ${engine}: all are in`, 0)
    const cpu = async () =>
      (await Promise.all(others.map(({ call }) => call<number>("cpu")))).reduce((a, b) => a + b, 0)
    const [cpuBefore, engineCut] = [await cpu(), cpuNanos(setting.engine.pid)]
    await crowd.call("prepare return", { ports: others.map(({ port }) => port) })
    process.kill(third!.pid, "SIGKILL")
    const look = setInterval(async () => settings.note(`${await crowd.call<number>("in")} are in`), 2000)
    const { dials, last, median } = await crowd.call<Return>("return").finally(() => clearInterval(look))
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
      once(`${clients} logins back on 2 nodes after the third died: the last`, "s", last, 10),
      once("half of them", "s", median),
      once("a login that comes back, CPU of the nodes", "us", spent / clients),
      once("a login that comes back, CPU of the engine", "us", engineSpent),
      once("dials for each of them", "", dials / clients)
    ]
  })
