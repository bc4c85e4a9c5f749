/** What Holdfast is held to, and whether it gets there. Ratios are of the server's CPU for each message, round by round. */
import type { Measured } from "../rounds.ts"
import type { Spread } from "../support/figures.ts"
import { enoughRounds, ratios, short, spread } from "../support/figures.ts"

export interface Goal {
  /** The load as it was measured. */
  readonly load: string
  /** The load as the README calls it; without one, the README does not have it. */
  readonly title?: string
  readonly of: string
  /** What it is measured against; without one, `at` is a figure. */
  readonly against?: string
  readonly sense: "at least" | "above" | "at most"
  readonly at: number
  readonly unit?: string
  /** How many of the load's units one of this unit is; 1 unless it is said here. */
  readonly scale?: number
  /** Which row's figures show how calm the machine was: `against`, unless it is said here. */
  readonly calm?: string
}

const small = (what: string): string => `64 B, ${what}`

const against =
  (of: string, peer: string) =>
  (load: string, title: string | undefined, at: number, sense: Goal["sense"] = "at least"): Goal => ({
    load,
    ...(title === undefined ? {} : { title }),
    of,
    against: peer,
    sense,
    at
  })

const ofRaw = against("holdfast", "raw")
const ofWs = against("holdfast-ws", "ws")
const ofGo = against("holdfast", "go")
const ofSocketIo = against("holdfast-ws", "socket.io")

const figure = (load: string, title: string | undefined, sense: Goal["sense"], at: number, unit: string): Goal => ({
  load,
  ...(title === undefined ? {} : { title }),
  of: "holdfast",
  sense,
  at,
  unit
})

export const goals: ReadonlyArray<Goal> = [
  ofRaw("50x1", small("50x1"), 0.85),
  ofRaw("50x32", small("50x32"), 1),
  against("holdfast-batch", "raw")("50x32", small("50x32, `receiveAll` and `sendAll`"), 1.2),
  ofRaw("1000x1", small("1000x1"), 0.8),
  ofRaw("5000x1", small("5000x1"), 0.8),
  ofRaw("16k 50x1", "16 KiB, 50x1", 0.85),
  ofRaw("1m 4x1", "1 MiB, 4x1", 0.85),
  ofRaw("accept", "accept and first echo", 0.6),
  ofRaw("broadcast", "broadcast to 10,000", 0.9),
  ofWs("ws 50x1", "WebSocket, 50x1", 1),
  ofWs("ws 50x32", "WebSocket, 50x32", 3),
  ofWs("ws 1000x1", "WebSocket, 1000x1", 1),
  against("holdfast-rpc", "effect-rpc")("rpc 50x1", "RPC, a call", 1),
  ...[["uncontended", "pool, one borrower"], ["contended", "pool, 64 borrowers on 8"]].flatMap(([load, title]) =>
    ["generic-pool", "tarn", "effect Pool"].map((peer) => against("holdfast", peer)(`pool ${load}`, title, 1, "above"))
  ),
  { ...figure("start", "start of `holdfast serve`, warm", "at most", 500, "ms"), calm: "node" },
  {
    load: "memory rss",
    title: "idle connection, of the process",
    of: "holdfast",
    against: "effect",
    sense: "at most",
    at: 1
  },
  { ...figure("memory heap", "idle connection, heap", "at most", 12, "KiB"), scale: 1024, calm: "effect" },
  // beside those of the README
  against("serve", "raw")("50x32", undefined, 0.9),
  ofGo("50x32", undefined, 1),
  ofSocketIo("ws 50x1", undefined, 2),
  ofSocketIo("ws 1000x1", undefined, 2),
  figure("cpu", undefined, "at most", 3, "% of a core"),
  figure("in-memory served", undefined, "at most", 9 * 1024, "B/conn"),
  figure("decoder 64 B", undefined, "at least", 3_000_000, "frame/s"),
  figure("decoder 1 MiB", undefined, "at least", 2_000_000_000, "B/s")
]

/** From here on what else the machine did is too much: the middle half of the peer's rounds, of their median. */
export const loudest = 0.15

export interface Verdict {
  readonly goal: Goal
  /** The ratio by CPU, or the figure; `undefined` where the rounds are too few. */
  readonly measured: Spread | undefined
  /** The ratio by rate, where there are rates. */
  readonly byRate: Spread | undefined
  /** How far apart the peer's own rounds are. */
  readonly noise: number
  /** `undefined` where the figures are too few or too far apart to say. */
  readonly reached: boolean | undefined
}

const finder = (measured: ReadonlyArray<Measured>) => (load: string, server: string): Measured | undefined =>
  measured.find((row) => row.load === load && row.server === server)

/** The middle half of some figures, as a part of their median: 0 where all are the same. */
export const noiseOf = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (part: number): number => {
    const place = (sorted.length - 1) * part
    const [below, above] = [sorted[Math.floor(place)]!, sorted[Math.ceil(place)]!]
    return below + (above - below) * (place % 1)
  }
  return values.length === 0 ? Number.NaN : (at(0.75) - at(0.25)) / spread(values).median
}

/** How much less CPU one needs than the other, round by round: 2 is half of it. */
export const byCpu = (of: Measured, peer: Measured): Spread | undefined =>
  of.cost === undefined || peer.cost === undefined ? undefined : ratios(peer.cost, of.cost)

const meets = ({ at, sense }: Goal, value: number): boolean =>
  sense === "at least" ? value >= at : sense === "above" ? value > at : value <= at

/** Of those that are measured beside another one, a few rounds say nothing. */
const figureOf = ({ calm, scale = 1 }: Goal, { rounds }: Measured): Spread | undefined =>
  rounds.length < enoughRounds && calm !== undefined ? undefined : spread(rounds.map((value) => value / scale))

/** What these figures say of a goal; `undefined` where they are of something else. */
const judged = (goal: Goal, find: ReturnType<typeof finder>): Verdict | undefined => {
  const of = find(goal.load, goal.of)
  const peer = goal.against === undefined ? undefined : find(goal.load, goal.against)
  if (of === undefined || (goal.against !== undefined && peer === undefined)) return undefined
  const isByCpu = peer !== undefined && of.cost !== undefined
  const calm = peer ?? (goal.calm === undefined ? undefined : find(goal.load, goal.calm)) ?? of
  const measured = peer === undefined
    ? figureOf(goal, of)
    : isByCpu
    ? byCpu(of, peer)
    : ratios(of.rounds, peer.rounds)
  const noise = noiseOf(isByCpu ? peer.cost ?? [] : calm.rounds)
  return {
    goal,
    measured,
    byRate: isByCpu ? ratios(of.rounds, peer.rounds) : undefined,
    noise,
    reached: measured === undefined || noise > loudest ? undefined : meets(goal, measured.median)
  }
}

/** The goals about which these figures say anything. The median decides. */
export const judge = (measured: ReadonlyArray<Measured>): ReadonlyArray<Verdict> => {
  const find = finder(measured)
  return goals.map((goal) => judged(goal, find)).filter((verdict) => verdict !== undefined)
}

export const said = ({ at, sense, unit }: Goal): string =>
  `${sense} ${short(at)}${unit === undefined ? "" : ` ${unit}`}`

/** The loads in which Holdfast is to need less than Effect's bare socket, and the one in which it is nearest to it. */
export const againstEffect = (
  measured: ReadonlyArray<Measured>
): { readonly load: string; readonly ratio: Spread; readonly loads: number } | undefined => {
  const find = finder(measured)
  const all = [...new Set(measured.map(({ load }) => load))].flatMap((load) => {
    const [of, peer] = [find(load, "holdfast"), find(load, "effect")]
    const ratio = of === undefined || peer === undefined ? undefined : byCpu(of, peer)
    return ratio === undefined ? [] : [{ load, ratio }]
  })
  const [least] = all.toSorted((a, b) => a.ratio.median - b.ratio.median)
  return least === undefined ? undefined : { ...least, loads: all.length }
}
