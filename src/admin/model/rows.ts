/** A window of a long list of connections, which the server sorts and filters: only what is looked at is held. */
import type { Page, Query, Row } from "../../node/internal/admin/schemas.ts"

export type Load = (query: Query, signal: AbortSignal) => Promise<Page>

/** How many rows are asked for at once. */
export const windowSize = 200

/** How long what is shown may be old, in milliseconds: where connections came or left, and where only their numbers moved. */
const staleAfter = { changed: 400, quiet: 2000 }

export interface Rows {
  readonly total: number | undefined
  /** When the rows were looked at, on the clock of the page. */
  readonly at: number
  readonly row: (index: number) => Row | undefined
  readonly error: string | undefined
  /** Asks for other connections, or for another order. */
  readonly ask: (query: Query) => void
  /** What is in view; the end is not included. */
  readonly show: (from: number, to: number) => void
  /** To be called often: reads again what is old. */
  readonly tick: (now: number, listed: number) => void
  readonly refresh: () => void
  readonly stop: () => void
}

/** The window to ask for, so that all that is in view is in its middle. */
export const windowAround = (from: number, to: number): { readonly offset: number; readonly limit: number } => {
  const limit = Math.min(1000, Math.max(windowSize, to - from))
  const spare = Math.floor((limit - (to - from)) / 2)
  return { offset: Math.max(0, from - spare), limit }
}

export const makeRows = (load: Load, changed: () => void, now: () => number): Rows => {
  let query: Query = {}
  let view = { from: 0, to: 50 }
  let page: Page | undefined
  let at = 0
  let error: string | undefined
  let seen = 0
  let seenNow = 0
  let running: AbortController | undefined
  let isWanted = false
  let startedAt = -Infinity

  const has = (from: number, to: number): boolean =>
    page !== undefined && from >= page.offset && (to <= page.offset + page.connections.length || to > page.total)

  const read = (): void => {
    if (running !== undefined) {
      isWanted = true
      return
    }
    isWanted = false
    const controller = new AbortController()
    running = controller
    startedAt = now()
    seen = seenNow
    load({ ...query, ...windowAround(view.from, view.to) }, controller.signal).then(
      (loaded) => {
        if (running !== controller) return
        page = loaded
        at = now()
        error = undefined
      },
      (cause: unknown) => {
        if (running === controller) error = cause instanceof Error ? cause.message : String(cause)
      }
    ).finally(() => {
      if (running !== controller) return
      running = undefined
      changed()
      if (error === undefined && (isWanted || !has(view.from, Math.min(view.to, page?.total ?? 0)))) read()
    })
  }

  const abandon = (): void => {
    running?.abort()
    running = undefined
  }

  return {
    get total() {
      return page?.total
    },
    get at() {
      return at
    },
    get error() {
      return error
    },
    row: (index) => page?.connections[index - page.offset],
    ask: (next) => {
      query = next
      abandon()
      read()
    },
    show: (from, to) => {
      if (from === view.from && to === view.to) return
      view = { from, to }
      if (page !== undefined && !has(from, Math.min(to, page.total))) read()
    },
    tick: (time, listed) => {
      seenNow = listed
      if (time - startedAt >= (listed === seen ? staleAfter.quiet : staleAfter.changed)) read()
    },
    refresh: read,
    stop: abandon
  }
}
