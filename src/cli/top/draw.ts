/** The lines of the terminal view: as many as it has rows, each as wide as it is. */
import type { Detail, Row } from "../../node/internal/admin/schemas.ts"
import { bytes, count, short, span } from "../../node/internal/admin/shown/format.ts"
import type { Rates } from "../../node/internal/admin/shown/rates.ts"
import { silentOf } from "../../node/internal/admin/shown/silent.ts"
import { roomOf } from "./state.ts"
import type { State } from "./state.ts"
import { fit } from "./text.ts"

const sgr = (code: number) => (text: string): string => `\x1b[${code}m${text}\x1b[0m`
const bold = sgr(1)
const dim = sgr(2)
const inverse = sgr(7)
const red = sgr(31)

interface Column {
  readonly title: string
  readonly width: number
  readonly side: "left" | "right"
  readonly show: (row: Row) => string
}

const fixed = (title: string, width: number, show: (row: Row) => string, side: "left" | "right" = "right"): Column => ({
  title,
  width,
  side,
  show
})

const nameOf = ({ key, tags }: Row): string =>
  [...(key === null ? [] : [key]), ...tags.map((tag) => `#${tag}`)].join(" ")

// those that come first are there on a narrow terminal too
const columns: ReadonlyArray<Column> = [
  fixed("ID", 7, ({ id }) => String(id)),
  fixed("STATE", 9, ({ paused, state }) => (paused ? "paused" : state), "left"),
  fixed("PEER", 22, ({ remote }) => remote ?? "-", "left"),
  fixed("AGE", 8, ({ age }) => span(age)),
  fixed("QUIET", 8, ({ quietFor }) => span(quietFor)),
  fixed("IN", 9, ({ bytesIn }) => bytes(bytesIn)),
  fixed("OUT", 9, ({ bytesOut }) => bytes(bytesOut)),
  fixed("MSGS", 7, ({ messagesIn }) => short(messagesIn)),
  fixed("QUEUE", 9, ({ outbox }) => bytes(outbox.bytes)),
  fixed("RTT", 8, ({ rtt }) => (rtt === null ? "-" : span(rtt.smoothed)))
]

// cells that names have before all columns have theirs, and how many columns come before names
const least = 16
const first = 5

const rowLine = (width: number, show: (column: Column) => string, name: string): string => {
  let line = ""
  let left = width
  for (const [index, column] of columns.entries()) {
    if (left - (index < first ? 0 : least) < column.width + 1) break
    line += `${fit(show(column), column.width, column.side)} `
    left -= column.width + 1
  }
  return line + fit(name, left)
}

const rate = (value: number | null, show: (value: number) => string): string =>
  value === null ? "-" : `${show(value)}/s`

/** The rates as words. */
export const ratesText = (rates: Rates): string =>
  `opened ${rate(rates.opened, short)}  ended ${rate(rates.ended, short)}  messages in ${
    rate(rates.messagesIn, short)
  } out ${rate(rates.messagesOut, short)}  bytes in ${rate(rates.bytesIn, bytes)} out ${rate(rates.bytesOut, bytes)}`

const head = (state: State, width: number): ReadonlyArray<string> => {
  const { address, problem, seen } = state
  const title = fit(
    seen === undefined
      ? `holdfast top  ${address}`
      : `holdfast top  ${address}  up ${span(seen.figures.uptime)}  memory ${bytes(seen.figures.memory.rss)}`,
    width
  )
  if (seen === undefined) return [bold(title), fit(problem ?? "asking", width)]
  const { closing, draining, open } = seen.figures.connections
  const phases = seen.servers.filter(({ phase }) => phase !== "serving").map(({ left, name, phase }) =>
    `${name} is ${phase}, ${count(left)} left`
  )
  const silent = silentOf(seen.figures)
  const told = [...phases, ...(silent === "" ? [] : [`no answer from ${silent}`])].join("  ")
  const counts = `open ${count(open)}  draining ${count(draining)}  closing ${count(closing)}  ${told}`
  return [
    bold(title),
    problem === undefined ? fit(`${counts}  ${ratesText(seen.rates)}`, width) : red(fit(problem, width))
  ]
}

const foot = ({ closing, filter, inspected, order, said, sort, typed }: State, width: number): string => {
  if (closing !== undefined) return bold(fit(`Close connection ${closing}? y closes it, any other key does not`, width))
  if (typed !== undefined) return bold(fit(`filter: ${typed}_  Enter keeps it, Esc clears it`, width))
  if (said !== "") return bold(fit(said, width))
  return dim(
    fit(
      inspected === undefined
        ? `q quit  / filter${
          filter === "" ? "" : ` (${filter})`
        }  s sort (${sort}, ${order})  r reverse  Enter inspect  c close`
        : "q quit  Esc back  c close",
      width
    )
  )
}

const list = (state: State, width: number): ReadonlyArray<string> => {
  const { at, seen, size, top } = state
  const room = roomOf(size)
  const lines = [inverse(rowLine(width, ({ title }) => title, "KEY AND TAGS"))]
  if (seen === undefined) return lines
  for (let index = top; index < Math.min(top + room, seen.page.total); index++) {
    const row = seen.page.connections[index - seen.page.offset]
    const line = row === undefined ? fit("…", width) : rowLine(width, ({ show }) => show(row), nameOf(row))
    lines.push(index === at ? inverse(line) : line)
  }
  if (seen.page.total === 0) {
    lines.push(fit(state.filter === "" ? "no connection is open" : "none match the filter", width))
  }
  return lines
}

const detailLines = (detail: Detail, room: number): ReadonlyArray<string> => {
  const facts = [
    `state ${detail.state}${detail.paused ? ", reading is paused" : ""}  peer ${detail.remote ?? "-"}  here ${
      detail.local ?? "-"
    }`,
    `key ${detail.key ?? "-"}  tags ${detail.tags.join(" ") || "-"}`,
    `age ${span(detail.age)}  quiet for ${span(detail.quietFor)}  rtt ${
      detail.rtt === null ? "-" : `${span(detail.rtt.smoothed)} (last ${span(detail.rtt.last)})`
    }`,
    `in ${count(detail.messagesIn)} messages, ${bytes(detail.bytesIn)}  out ${count(detail.messagesOut)} messages, ${
      bytes(detail.bytesOut)
    }`,
    `queued in ${count(detail.inbox.messages)}, ${bytes(detail.inbox.bytes)}  out ${count(detail.outbox.messages)}, ${
      bytes(detail.outbox.bytes)
    }  dropped ${count(detail.dropped)}`,
    "",
    "deadlines",
    ...(detail.deadlines.length === 0
      ? ["  none runs now"]
      : detail.deadlines.map(({ left, limit, rule }) => `  ${rule.padEnd(10)} ${span(left)} of ${span(limit)} left`)),
    "",
    "fibers",
    ...detail.fibers.map(({ direct, name, state, worked }) =>
      `  ${name.padEnd(10)} ${state.padEnd(9)} worked ${count(worked)}, direct ${count(direct)}`
    ),
    "",
    "lately"
  ]
  const events = detail.recent.length === 0 ? ["  nothing that is remembered"] : detail.recent.map((
    { at, detail, times, what }
  ) => `  ${new Date(at).toISOString().slice(11, 23)}  ${what}${times > 1 ? ` x${times}` : ""} ${detail ?? ""}`)
  // the newest are the ones to see
  return [...facts, ...events.slice(-Math.max(1, room - facts.length))]
}

const inspected = (state: State, width: number): ReadonlyArray<string> => {
  const { detail, gone, id } = state.inspected!
  const room = roomOf(state.size)
  const lines = [inverse(fit(`connection ${id}`, width))]
  if (gone) return [...lines, fit("it has ended, see the admin page for how", width)]
  if (detail === undefined) return [...lines, fit("asking", width)]
  return [...lines, ...detailLines(detail, room).slice(0, room).map((line) => fit(line, width))]
}

/** All lines of a screen. */
export const draw = (state: State): ReadonlyArray<string> => {
  const { columns: width, rows } = state.size
  if (width < 20 || rows < 6) return [fit("too small", width)].slice(0, rows)
  const body = [
    ...head(state, width),
    "",
    ...(state.inspected === undefined ? list(state, width) : inspected(state, width))
  ]
  const blank = Array.from({ length: Math.max(0, rows - 1 - body.length) }, () => "")
  return [...body.slice(0, rows - 1), ...blank, foot(state, width)]
}
