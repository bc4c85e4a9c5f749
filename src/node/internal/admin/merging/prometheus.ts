/** The metrics of several processes as those of one, in the text that Prometheus reads. */

// those of the whole machine, which each process tells, and the largest of something
const largest = /_(listen_overflows_total|listen_drops_total|retransmitted_segments_total|outbox_largest_bytes)$/

// those that say something of one process alone
const apart = /_(event_loop_delay_seconds|event_loop_active_seconds_total)$/

/** A metric with all its labels: lines of text, and a value for each of them. */
interface Family {
  readonly head: ReadonlyArray<string>
  readonly type: string
  readonly values: Map<string, number>
}

type Families = Map<string, Family>

/** What a process tells. `number`: of the worker; nothing for those that are gone. */
export interface Told {
  readonly number: number | undefined
  readonly text: string
}

const numberOf = (text: string): number => text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text)

const textOf = (value: number): string => value === Infinity ? "+Inf" : value === -Infinity ? "-Inf" : String(value)

const parse = (text: string): Families => {
  const families: Families = new Map()
  let head: Array<string> = []
  let family: Family | undefined
  for (const line of text.split("\n")) {
    if (line === "") continue
    if (line.startsWith("# HELP ")) head = [line]
    else if (line.startsWith("# TYPE ")) {
      const [name = "", type = "untyped"] = line.slice(7).split(" ")
      families.set(name, family = { head: [...head, line], type, values: new Map() })
      head = []
    } else {
      const at = line.lastIndexOf(" ")
      family?.values.set(line.slice(0, at), numberOf(line.slice(at + 1)))
    }
  }
  return families
}

const labelled = (series: string, worker: number): string => {
  const label = `worker="${worker}"`
  return series.endsWith("}") ? `${series.slice(0, -1)},${label}}` : `${series}{${label}}`
}

const isApart = (name: string, type: string): boolean => apart.test(name) || type === "summary"

const add = (all: Families, { number, text }: Told): void => {
  for (const [name, { head, type, values }] of parse(text)) {
    const before = all.get(name)
    const sums = before?.values ?? new Map<string, number>()
    if (before === undefined) all.set(name, { head, type, values: sums })
    const single = isApart(name, type)
    // nothing is left of what one process alone had
    if (single && number === undefined) continue
    for (const [series, value] of values) {
      const key = single ? labelled(series, number!) : series
      const other = sums.get(key)
      sums.set(key, other === undefined ? value : largest.test(name) ? Math.max(other, value) : other + value)
    }
  }
}

const write = (families: Families): string => {
  const lines: Array<string> = []
  for (const { head, values } of families.values()) {
    if (values.size > 0) lines.push(...head, ...Array.from(values, ([series, value]) => `${series} ${textOf(value)}`))
  }
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`
}

/** Sums, but for what is of one process alone: that has a label `worker`. */
export const summed = (all: ReadonlyArray<Told>): string => {
  const families: Families = new Map()
  for (const one of all) add(families, one)
  return write(families)
}

/** What counts on once a process is gone: a sum must not fall, or the rate of it jumps. */
export const lasting = (text: string): string => {
  const families = parse(text)
  for (const [name, { type }] of families) {
    const counts = type === "counter" || type === "histogram"
    if (!counts || isApart(name, type) || largest.test(name)) families.delete(name)
  }
  return write(families)
}
