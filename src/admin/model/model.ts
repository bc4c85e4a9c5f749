/** What the page knows: it takes the changes that the server tells, and says so at most once a frame. */
import type { Change, Figures, Row, Server } from "../../node/internal/admin/schemas.ts"
import { ratesBetween } from "../../node/internal/admin/shown/rates.ts"
import { addPoint, makeSeries } from "./series.ts"
import type { Series } from "./series.ts"

/** `locked`: the server knows no token that this page has. */
export type Link = "connecting" | "live" | "lost" | "locked"

export interface State {
  link: Link
  figures: Figures | undefined
  servers: ReadonlyArray<Server>
  readonly series: Series
  /** Moves on when connections came, left or were tagged: a list of them is to be read again. */
  listed: number
  /** Moves on when the server has begun anew, or changes were missed: all is to be read again. */
  renewed: number
  /** What ended while the page was open, by reason. */
  readonly ends: Map<string, number>
  /** Connections that ended lately, by id: a list that has them still shows it. */
  readonly gone: Map<number, Row>
  /** Servers that were seen to stop: the program may be gone for good. */
  drained: boolean
}

/** How many of the ended are kept: more than a window of a list has. */
const mostGone = 2000

export const makeState = (): State => ({
  link: "connecting",
  figures: undefined,
  servers: [],
  series: makeSeries(),
  listed: 0,
  renewed: 0,
  ends: new Map(),
  gone: new Map(),
  drained: false
})

const hasRestarted = (before: Figures | undefined, after: Figures): boolean =>
  before !== undefined && after.uptime < before.uptime

/** Takes figures, and `ends` since the last ones. */
const takeFigures = (
  state: State,
  { figures, servers }: { readonly figures: Figures; readonly servers: ReadonlyArray<Server> },
  ends: Map<string, number>
): void => {
  if (hasRestarted(state.figures, figures)) {
    state.gone.clear()
    state.drained = false
    state.renewed++
  }
  addPoint(state.series, {
    at: figures.at,
    open: figures.registered,
    rates: ratesBetween(state.figures, figures),
    ends
  })
  ends.clear()
  state.figures = figures
  state.servers = servers
  state.drained ||= servers.length > 0 && servers.every(({ phase }) => phase === "stopping" || phase === "stopped")
}

const takeEnd = (state: State, row: Row, ends: Map<string, number>): void => {
  const reason = row.reason ?? "unknown"
  ends.set(reason, (ends.get(reason) ?? 0) + 1)
  state.ends.set(reason, (state.ends.get(reason) ?? 0) + 1)
  state.gone.set(row.id, row)
  if (state.gone.size > mostGone) state.gone.delete(state.gone.keys().next().value!)
}

export interface Model {
  readonly state: State
  readonly take: (change: Change) => void
  readonly setLink: (link: Link) => void
  /** Calls when something has changed, at most once a frame; gives back what ends it. */
  readonly subscribe: (told: () => void) => () => void
}

/** `later` calls once, soon: the next frame. */
export const makeModel = (later: (run: () => void) => void): Model => {
  const state = makeState()
  const ends = new Map<string, number>()
  const readers = new Set<() => void>()
  let isAsked = false
  const changed = (): void => {
    if (isAsked) return
    isAsked = true
    later(() => {
      isAsked = false
      for (const told of readers) told()
    })
  }
  const take = (change: Change): void => {
    switch (change._tag) {
      case "Current":
        state.renewed++
        break
      case "Figures":
        takeFigures(state, change, ends)
        break
      case "Ended":
        takeEnd(state, change.connection, ends)
        state.listed++
        break
      case "Added":
        state.gone.delete(change.id)
        state.listed++
        break
      case "Tagged":
        state.listed++
        break
    }
    changed()
  }
  return {
    state,
    take,
    setLink: (link) => {
      if (state.link === link) return
      state.link = link
      changed()
    },
    subscribe: (told) => {
      readers.add(told)
      return () => void readers.delete(told)
    }
  }
}
