/** `holdfast top`: what the connections of a running program do, live in a terminal, and as lines for other programs. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { oneLine, plainJson } from "../internal/reasons/text.ts"
import { count } from "../node/internal/admin/shown/format.ts"
import { ratesBetween } from "../node/internal/admin/shown/rates.ts"
import { silentOf } from "../node/internal/admin/shown/silent.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { duration, whole } from "./peer.ts"
import { makeApi } from "./top/ask.ts"
import type { Api, Seen } from "./top/ask.ts"
import { ratesText } from "./top/draw.ts"
import { live } from "./top/live.ts"
import type { Start } from "./top/live.ts"
import { sorts } from "./top/state.ts"

const url = Argument.String("url").pipe(
  Argument.withMetavar("URL"),
  Argument.withDescription(
    "The address that `holdfast serve` printed: http://127.0.0.1:7900/?token=TOKEN; the token may be in HOLDFAST_ADMIN_TOKEN instead"
  ),
  Argument.withDefault("http://127.0.0.1:7900")
)

const flags = {
  url,
  interval: duration("interval", "1s", "From one look to the next; at least 100ms"),
  sort: Flag.Literals("sort", sorts).pipe(
    Flag.withDescription("What connections are sorted by, the key s changes it (default age)"),
    Flag.withDefault("age" as const)
  ),
  order: Flag.Literals("order", ["asc", "desc"]).pipe(
    Flag.withDescription("Smallest first, or largest first; the key r changes it (default asc)"),
    Flag.withDefault("asc" as const)
  ),
  filter: Flag.String("filter").pipe(
    Flag.withMetavar("TEXT"),
    Flag.withDescription(
      "Connections with this in their id, key, tags or peer, the key / changes it (default all)"
    ),
    Flag.withDefault("")
  ),
  rows: whole("rows", 20, 1, "How many connections are in a document of --json"),
  count: whole("count", 0, 0, "How many lines to write where the output is no terminal; 0 goes on"),
  json: Flag.Boolean("json").pipe(
    Flag.withoutNegation,
    Flag.withDescription("One JSON document a line and interval: figures, rates, servers, connections (default off)"),
    Flag.withDefault(false)
  )
}

const line = (
  { figures, page, servers }: Seen,
  rates: ReturnType<typeof ratesBetween>,
  isFiltered: boolean
): string => {
  const { closing, draining, open } = figures.connections
  const stopping = servers.filter(({ phase }) => phase !== "serving").map(({ left, name, phase }) =>
    `  ${name} is ${phase}, ${count(left)} left`
  )
  const silent = silentOf(figures)
  return oneLine(
    `${new Date(figures.at).toISOString()}  open ${count(open)}  draining ${count(draining)}  closing ${
      count(closing)
    }` +
      `${isFiltered ? `  match ${count(page.total)}` : ""}  ${ratesText(rates)}${stopping.join("")}${
        silent === "" ? "" : `  no answer from ${silent}`
      }`
  )
}

/** Lines, for as many intervals as are wanted, or until nobody reads them. */
const lines = (
  api: Api,
  first: Seen,
  { filter, interval, json, order, rows, sort, wanted }: Start & {
    readonly json: boolean
    readonly rows: number
    readonly wanted: number
  }
): Effect.Effect<void, CommandFailed> =>
  Effect.gen(function*() {
    const query = { sort, order, limit: Math.min(rows, 1000), ...(filter === "" ? {} : { text: filter }) }
    let before: Seen["figures"] | undefined
    let seen = first
    const reader = { isGone: false }
    process.stdout.once("error", () => {
      reader.isGone = true
    })
    for (let written = 1; !reader.isGone; written++) {
      const rates = ratesBetween(before, seen.figures)
      const { figures, page, servers } = seen
      yield* Console.log(
        json
          ? plainJson({ figures, rates, servers, total: page.total, connections: page.connections })
          : line(seen, rates, filter !== "")
      )
      if (written === wanted) return
      before = figures
      yield* Effect.sleep(interval)
      seen = yield* api.look(query)
    }
  })

export const top = Command.make(
  "top",
  flags,
  Effect.fnUntraced(function*({ count: wanted, filter, interval, json, order, rows, sort, url }) {
    if (interval < 100) return yield* new CommandFailed({ message: "--interval must be at least 100ms" })
    const api = yield* makeApi(url)
    const start = { interval, sort, order, filter }
    // a token that is wrong, and a server that is not there, are said before the screen is taken
    const first = yield* api.look({
      sort,
      order,
      limit: Math.min(1000, Math.max(rows, process.stdout.rows ?? 0)),
      ...(filter === "" ? {} : { text: filter })
    })
    yield* process.stdout.isTTY === true && !json
      ? live(api, first, start)
      : lines(api, { ...first, page: { ...first.page, connections: first.page.connections.slice(0, rows) } }, {
        ...start,
        json,
        rows,
        wanted
      })
  })
).pipe(
  Command.withDescription(
    "Shows what the connections of a running program do, by its admin API. On a terminal: arrow keys and Enter inspect one, / filters, s " +
      "and r sort, c closes one after it has asked, q and Ctrl-C leave. Elsewhere: a line an interval."
  ),
  Command.withShortDescription("Watch the connections of a running program"),
  Command.withExamples([
    { command: "holdfast top 'http://127.0.0.1:7900/?token=TOKEN'", description: "Watch, inspect, close" },
    {
      command: "HOLDFAST_ADMIN_TOKEN=TOKEN holdfast top http://127.0.0.1:7900 --json --count 1",
      description: "What is there now, as JSON"
    }
  ])
)
