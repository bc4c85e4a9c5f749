/** What the terminal view shows, and what a key does to it. */
import type { Detail, Figures, Page, Query, Row, Server } from "../../node/internal/admin/schemas.ts"
import type { Rates } from "../../node/internal/admin/shown/rates.ts"

export type Sort = NonNullable<Query["sort"]>

/** The orders that `s` goes through. */
export const sorts = [
  "id",
  "age",
  "quietFor",
  "bytesIn",
  "bytesOut",
  "messagesIn",
  "outbox",
  "rtt",
  "key",
  "remote"
] as const

export interface Size {
  readonly columns: number
  readonly rows: number
}

export interface State {
  readonly address: string
  readonly size: Size
  readonly sort: Sort
  readonly order: "asc" | "desc"
  readonly filter: string
  /** What is typed into the filter; undefined: nothing is typed. */
  readonly typed: string | undefined
  readonly seen: {
    readonly figures: Figures
    readonly rates: Rates
    readonly servers: ReadonlyArray<Server>
    readonly page: Page
  } | undefined
  /** The row under the cursor, in the whole list. */
  readonly at: number
  /** The first row that is drawn. */
  readonly top: number
  /** The connection that is looked at, and what is known of it. */
  readonly inspected: { readonly id: number; readonly detail: Detail | undefined; readonly gone: boolean } | undefined
  /** The connection that is to be closed, once `y` is pressed. */
  readonly closing: number | undefined
  /** Said in the last line. */
  readonly said: string
  /** Why nothing new is known. */
  readonly problem: string | undefined
}

export interface Key {
  readonly name: string | undefined
  readonly text: string | undefined
  readonly ctrl: boolean
}

/** What is to be done beside drawing. */
export type Action =
  | { readonly _tag: "Quit" }
  | { readonly _tag: "Read" }
  | { readonly _tag: "Close"; readonly id: number }

// lines above and below the list
const around = 5

export const roomOf = ({ rows }: Size): number => Math.max(1, rows - around)

export const queryOf = ({ filter, order, size, sort, top }: State): Query => ({
  sort,
  order,
  offset: top,
  limit: Math.min(1000, roomOf(size)),
  ...(filter === "" ? {} : { text: filter })
})

export const rowAt = ({ at, seen }: State): Row | undefined => seen?.page.connections[at - seen.page.offset]

/** The cursor is in the list, and what is drawn has the cursor. */
export const settled = (state: State): State => {
  const room = roomOf(state.size)
  const total = state.seen?.page.total ?? 0
  const at = Math.max(0, Math.min(state.at, total - 1))
  const top = Math.max(0, Math.min(Math.max(state.top, at - room + 1), at, Math.max(0, total - room)))
  return { ...state, at, top }
}

type Step = readonly [State, Action?]

const read: Action = { _tag: "Read" }

const moved = (state: State, at: number): Step => {
  const next = settled({ ...state, at, said: "" })
  return next.top === state.top ? [next] : [next, read]
}

const typing = (state: State, { name, text, ctrl }: Key, typed: string): Step => {
  if (name === "return" || name === "enter") return [{ ...state, typed: undefined }]
  if (name === "escape") return [{ ...state, typed: undefined, filter: "", at: 0, top: 0 }, read]
  const next = name === "backspace"
    ? [...typed].slice(0, -1).join("")
    : text !== undefined && !ctrl && /^[^\p{Cc}\p{Cf}\p{Cs}]+$/u.test(text)
    ? (typed + text).slice(0, 256)
    : typed
  return next === typed ? [state] : [{ ...state, typed: next, filter: next.trim(), at: 0, top: 0 }, read]
}

const inspecting = (state: State, key: Key, id: number): Step => {
  switch (key.name) {
    case "escape":
    case "left":
    case "backspace":
      return [{ ...state, inspected: undefined, said: "" }, read]
    case "c":
      return state.inspected?.gone === true ? [state] : [{ ...state, closing: id }]
    default:
      return [state]
  }
}

const listing = (state: State, { name, text }: Key): Step => {
  const room = roomOf(state.size)
  if (text === "/") return [{ ...state, typed: state.filter, said: "" }]
  switch (name) {
    case "up":
    case "k":
      return moved(state, state.at - 1)
    case "down":
    case "j":
      return moved(state, state.at + 1)
    case "pageup":
      return moved(state, state.at - room)
    case "pagedown":
    case "space":
      return moved(state, state.at + room)
    case "home":
      return moved(state, 0)
    case "end":
      return moved(state, Infinity)
    case "s": {
      const next = sorts[(sorts.findIndex((sort) => sort === state.sort) + 1) % sorts.length]!
      return [{ ...state, sort: next, at: 0, top: 0 }, read]
    }
    case "r":
      return [{ ...state, order: state.order === "asc" ? "desc" : "asc", at: 0, top: 0 }, read]
    case "return":
    case "enter":
    case "right": {
      const row = rowAt(state)
      return row === undefined
        ? [state]
        : [{ ...state, inspected: { id: row.id, detail: undefined, gone: false }, said: "" }, read]
    }
    case "c": {
      const row = rowAt(state)
      return row === undefined ? [state] : [{ ...state, closing: row.id }]
    }
    case "escape":
      return state.filter === "" ? [state] : [{ ...state, filter: "", at: 0, top: 0 }, read]
    default:
      return [state]
  }
}

/** What a key does. */
export const press = (state: State, key: Key): Step => {
  if (key.ctrl && (key.name === "c" || key.name === "d")) return [state, { _tag: "Quit" }]
  const { closing } = state
  if (closing !== undefined) {
    return key.text === "y" || key.text === "Y"
      ? [{ ...state, closing: undefined, said: `closing connection ${closing}` }, { _tag: "Close", id: closing }]
      : [{ ...state, closing: undefined, said: "not closed" }]
  }
  if (state.typed !== undefined) return typing(state, key, state.typed)
  if (key.name === "q") return [state, { _tag: "Quit" }]
  return state.inspected === undefined ? listing(state, key) : inspecting(state, key, state.inspected.id)
}
