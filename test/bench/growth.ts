/** How cost goes with the number of connections: loads like the others. */
import { spareDescriptors } from "./Fleet.ts"
import type { Load, Measured, Settings } from "./rounds.ts"
import { alone, interleaved, rates, withFleets } from "./rounds.ts"
import { sleep } from "./support/processes.ts"

export const sizes = [50, 200, 1000, 5000, 10_000, 19_000]
export const inMemory = [10_000, 100_000, 1_000_000]

const servers = ["raw", "effect", "holdfast", "go", "c"]
// so many connections a load process
const share = 5000
/** Memory of fewer connections is that of the process. */
export const enough = 1000
// what the first connections cost once, such as compiling, is not counted
const first = 100

export const nameOf = (size: number): string => `growth ${size}`

/** What each connection takes of the process, and of its heap, once all are there; then turns as in any other load. */
const measure = (size: number) => (settings: Settings): Promise<ReadonlyArray<Measured>> =>
  withFleets(
    settings,
    { connections: size, inFlight: 1, size: 64 },
    async (fleets) => {
      const memory: Array<Measured> = []
      for (const fleet of size < enough ? [] : fleets) {
        await sleep(200)
        const before = await fleet.memory()
        await fleet.connect()
        await sleep(200)
        const after = await fleet.memory()
        const row = (what: "heap" | "resident"): Measured => ({
          load: `${nameOf(size)} ${what === "heap" ? "heap" : "rss"}`,
          server: fleet.kind.name,
          unit: "B/conn",
          rounds: [(after[what] - before[what]) / (size - first)]
        })
        memory.push(row("heap"), row("resident"))
      }
      const turns = await interleaved(settings, (fleet, ms) => fleet.run(ms), fleets)
      return [...rates(nameOf(size), "echo/s", turns), ...memory]
    },
    { processes: Math.ceil(size / share), ...(size < enough ? {} : { first }) }
  )

/** 64 B, one in flight, on more and more connections. 19,000 is what 20,000 descriptors allow. */
export const growth: ReadonlyArray<Load> = [
  ...sizes.map((size): Load => ({
    name: nameOf(size),
    about: `64 B, ${size} connections, 1 in flight: CPU for each message, and memory for each connection`,
    descriptors: size + spareDescriptors,
    servers,
    measure: measure(size)
  })),
  alone(
    "growth in memory",
    "memory",
    inMemory.map((size) => `growth ${size}`),
    "10,000 to a million connections without a network: cost of a message, of opening, heap; a million need 12 GB"
  )
]
