/** What the figures come to for a million connections, as tables in Markdown. Each number is a product of measured ones. */
import { short, spread } from "../support/figures.ts"
import { type EngineName, engineNames } from "./setting.ts"
import type { Figure } from "./table.ts"

const connections = 1_000_000
const fleets = [20, 50, 100, 200]
/** Of one core, for 10,000 idle connections with a heartbeat each 25 s: `npm run bench -- --only '^cpu$'`. */
const heartbeats = 0.039

const titles: Record<EngineName, string> = { redis: "Redis", nats: "NATS" }

const lines = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map((_, i) => (i === 0 ? "---" : "--:")), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

const seconds = (value: number): string => value < 0.1 ? `${short(value * 1000)} ms` : `${short(value)} s`

export const million = (figures: ReadonlyArray<Figure>): string => {
  const of = (what: string): number => {
    const figure = figures.find((figure) => figure.what === what)
    if (figure === undefined) throw new Error(`no figure of ${what}`)
    return spread(figure.rounds).median
  }
  // milliseconds for 10,000 clients on three nodes
  const broadcast = (engine: EngineName): number =>
    (of(`${engine}: a broadcast to 10000 on 3 nodes, CPU of node 2`) * 3) / 10_000
  const back = (engine: EngineName, whose: string): number =>
    of(`${engine}: a login that comes back, CPU of the ${whose}`) / 1e6
  const resident = of("redis: a client that is logged in, memory of its node")
  const each = fleets.map((nodes) => ({ nodes, own: connections / nodes }))
  const byNodes = lines(["a million connections on", ...fleets.map((nodes) => `${nodes} nodes`)], [
    ["connections of a node", ...each.map(({ own }) => own.toLocaleString("en"))],
    ["memory of a node, idle", ...each.map(({ own }) => `${short((own * resident) / 1e9)} GB`)],
    [
      "heartbeats each 25 s, of one core",
      ...each.map(({ own }) => `${((own / 10_000) * heartbeats * 100).toFixed(0)}%`)
    ],
    ["a broadcast to all, CPU of a node", ...each.map(({ own }) => seconds((own * broadcast("redis")) / 1000))],
    ...engineNames.flatMap((engine) => [
      [
        `a node dies, ${titles[engine]}: CPU of the engine`,
        ...each.map(({ own }) => seconds(own * back(engine, "engine")))
      ],
      [
        `a node dies, ${titles[engine]}: CPU of each other node`,
        ...each.map(({ nodes, own }) => seconds((own * back(engine, "nodes")) / (nodes - 1)))
      ]
    ])
  ])
  const rate = (engine: EngineName, flight: string): number => 1e6 / of(`${engine}: send${flight}, CPU of the engine`)
  const byEngine = lines(["one core of", ...engineNames.map((engine) => titles[engine])], [
    ["carries answered sends a second, one batch each", ...engineNames.map((engine) => short(rate(engine, "")))],
    ["in batches of 32", ...engineNames.map((engine) => short(rate(engine, " 32 in flight")))],
    [
      "so each of a million connections gets one each",
      ...engineNames.map((engine) => seconds(connections / rate(engine, " 32 in flight")))
    ],
    [
      "takes a million logins, or claims after it has lost its memory, in",
      ...engineNames.map((engine) => seconds((connections * of(`${engine}: a login, CPU of the engine`)) / 1e6))
    ],
    [
      "and memory for the directory",
      ...engineNames.map((engine) =>
        `${short((connections * of(`${engine}: a client that is logged in, memory of the engine`)) / 1e9)} GB`
      )
    ]
  ])
  return `${byNodes}\n\n${byEngine}`
}
