/** How long the packed command takes until it says that it listens, beside an empty program of Node. */
import { performance } from "node:perf_hooks"
import { spareDescriptors } from "./Fleet.ts"
import type { Load } from "./rounds.ts"
import { interleaved } from "./rounds.ts"
import { packed } from "./support/bundled.ts"
import { spawned } from "./support/processes.ts"

/** Milliseconds until a program says something on its standard output. */
const untilItSpeaks = (args: ReadonlyArray<string>): Promise<number> =>
  new Promise((resolve, reject) => {
    const began = performance.now()
    const child = spawned(process.execPath, args, {})
    let spoke = Number.NaN
    let errors = ""
    child.stdout!.once("data", () => {
      spoke = performance.now() - began
      child.kill()
    })
    child.stderr!.on("data", (data: Buffer) => errors += data.toString())
    child.once("error", reject)
    child.once("close", () => Number.isNaN(spoke) ? reject(new Error(`it said nothing: ${errors}`)) : resolve(spoke))
  })

export const start: Load = {
  name: "start",
  about: "the packed holdfast serve, from its start to \"listening\", once its code is in Node's cache",
  descriptors: spareDescriptors,
  servers: [],
  compared: [],
  measure: async (settings) => {
    const serve = [await packed(), "serve", "--listen", "tcp://127.0.0.1:0"]
    const programs = { holdfast: serve, node: ["--eval", "console.log()"] }
    const results = await interleaved(
      settings,
      (name: keyof typeof programs) => untilItSpeaks(programs[name]),
      ["holdfast", "node"]
    )
    return Array.from(results, ([server, rounds]) => ({ load: "start", server, unit: "ms", rounds }))
  }
}
