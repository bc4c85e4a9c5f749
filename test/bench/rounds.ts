/** What a load is, and its rounds: each server has one turn in each round, in another order each time. */
import { fileURLToPath } from "node:url"
import type { Shape, Turn } from "./Fleet.ts"
import { Fleet, spareDescriptors } from "./Fleet.ts"
import type { ServerKind } from "./servers.ts"
import { source } from "./support/bundled.ts"
import { descriptorLimit, startNode } from "./support/processes.ts"

/** The figures of one server under one load. */
export interface Measured {
  readonly load: string
  readonly server: string
  readonly unit: string
  /** One figure a round. */
  readonly rounds: Array<number>
  /** Shares of a core, beside each figure, where it was a turn. */
  readonly serverBusy?: Array<number>
  readonly loadBusy?: Array<number>
  /** Seconds of the server's CPU for each message, call or connection. */
  readonly cost?: Array<number>
}

export interface Settings {
  readonly rounds: number
  readonly seconds: number
  readonly servers: ReadonlyArray<ServerKind>
  readonly note: (text: string) => void
  /** Says that a round is over; that of 0 is not counted. */
  readonly finished: (round: number) => void
  /** Where to leave CPU profiles of the servers. */
  readonly profile: string | undefined
}

export interface Load {
  readonly name: string
  readonly about: string
  /** Descriptors that one process needs. */
  readonly descriptors: number
  /** The servers it is for, by name; the others have nothing to do with it. */
  readonly servers: ReadonlyArray<string>
  /** Those of them that the README compares; a load without it is measured when it is asked for. */
  readonly compared?: ReadonlyArray<string>
  readonly measure: (settings: Settings) => Promise<ReadonlyArray<Measured>>
}

export const rotated = <A>(values: ReadonlyArray<A>, by: number): ReadonlyArray<A> =>
  values.map((_, i) => values[(i + by) % values.length]!)

// the compiler of V8 has to be done before the first turn that counts
const warming = 1000

/**
 * One turn of so many milliseconds for each of them in each round, in another order each round. The first round is longer, of
 * `warm` milliseconds, and is not counted.
 */
export const interleaved = async <Of, A>(
  settings: Settings,
  turn: (of: Of, ms: number) => Promise<A>,
  all: ReadonlyArray<Of>,
  warm = warming
): Promise<ReadonlyMap<Of, Array<A>>> => {
  const ms = settings.seconds * 1000
  const results = new Map<Of, Array<A>>(all.map((of) => [of, []]))
  for (let round = 0; round <= settings.rounds; round++) {
    for (const of of rotated(all, round)) {
      const result = await turn(of, round === 0 ? Math.max(ms, warm) : ms)
      if (round > 0) results.get(of)!.push(result)
    }
    settings.finished(round)
  }
  return results
}

/** Starts all servers at once, and opens `first` of the connections of each, or all of them, to one after the other. */
export const withFleets = async <A>(
  settings: Settings,
  shape: Shape,
  use: (fleets: ReadonlyArray<Fleet>) => Promise<A>,
  { first, processes = 1 }: { readonly first?: number; readonly processes?: number } = {}
): Promise<A> => {
  const started = await Promise.allSettled(
    settings.servers.map((kind) => Fleet.start(kind, shape, { processes, profile: settings.profile }))
  )
  const fleets = started.flatMap((fleet) => fleet.status === "fulfilled" ? [fleet.value] : [])
  try {
    for (const fleet of started) if (fleet.status === "rejected") throw fleet.reason
    for (const fleet of fleets) await fleet.connect(first)
    settings.note("connected")
    return await use(fleets)
  } finally {
    await Promise.all(fleets.map((fleet) => fleet.stop()))
  }
}

export const rates = (
  load: string,
  unit: string,
  results: ReadonlyMap<Fleet, ReadonlyArray<Turn>>
): ReadonlyArray<Measured> =>
  Array.from(results, ([{ kind }, turns]) => ({
    load,
    server: kind.name,
    unit,
    rounds: turns.map(({ rate }) => rate),
    serverBusy: turns.map(({ serverBusy }) => serverBusy),
    loadBusy: turns.map(({ loadBusy }) => loadBusy),
    cost: turns.map(({ cost }) => cost)
  }))

export const echo = (
  name: string,
  servers: ReadonlyArray<string>,
  shape: Shape,
  about: string,
  compared: ReadonlyArray<string>
): Load => ({
  name,
  about,
  compared,
  descriptors: shape.connections + spareDescriptors,
  servers,
  measure: (settings) =>
    withFleets(
      settings,
      shape,
      async (fleets) => rates(name, "echo/s", await interleaved(settings, (fleet, ms) => fleet.run(ms), fleets))
    )
})

/** A load without a network: a process of its own for each part of it. */
export const alone = (
  name: string,
  script: string,
  parts: ReadonlyArray<string>,
  about: string,
  compared?: ReadonlyArray<string>
): Load => ({
  name,
  about,
  ...(compared === undefined ? {} : { compared }),
  descriptors: spareDescriptors,
  servers: [],
  measure: async (settings) => {
    const measured: Array<Measured> = []
    const file = fileURLToPath(new URL(`./alone/${script}.ts`, import.meta.url))
    for (const part of parts) {
      const child = await startNode(await source(file, settings.profile), [], {
        title: `${name} ${part}`,
        listens: false,
        profile: settings.profile
      })
      try {
        const order = { rounds: settings.rounds, seconds: settings.seconds }
        measured.push(...[await child.call<Measured | ReadonlyArray<Measured>>(part, order)].flat())
      } finally {
        await child.stop()
      }
    }
    return measured
  }
})

/** Why a load cannot run here, or `undefined`. */
export const impossible = (load: Load): string | undefined => {
  const limit = descriptorLimit()
  return load.descriptors <= limit
    ? undefined
    : `it needs ${load.descriptors} file descriptors a process: ulimit -n ${load.descriptors} before (it is ${limit})`
}
