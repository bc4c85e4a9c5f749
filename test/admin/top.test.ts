/** The view of `holdfast top`, without a terminal: its lines, and what keys do. */
import { assert, describe, it } from "@effect/vitest"
import { stripVTControlCharacters } from "node:util"
import { draw } from "../../src/cli/top/draw.ts"
import { press, queryOf, settled } from "../../src/cli/top/state.ts"
import type { State } from "../../src/cli/top/state.ts"
import { fit } from "../../src/cli/top/text.ts"
import { row } from "./support/row.ts"

const none = {
  opened: null,
  ended: null,
  refused: null,
  messagesIn: null,
  messagesOut: null,
  bytesIn: null,
  bytesOut: null
}

const shownRow = (id: number, key: string | null = null) => row(id, { key, remote: "127.0.0.1:1", age: 1000 })

const state = (total: number, more: Partial<State> = {}): State => {
  const offset = more.top ?? 0
  return {
    address: "http://127.0.0.1:7900",
    size: { columns: 120, rows: 20 },
    sort: "age",
    order: "asc",
    filter: "",
    typed: undefined,
    at: 0,
    top: 0,
    inspected: undefined,
    closing: undefined,
    said: "",
    problem: undefined,
    seen: {
      figures: {
        at: 0,
        connections: { open: total, draining: 0, closing: 0 },
        registered: total,
        totals: null,
        outbox: { messages: 0, bytes: 0 },
        inbox: { messages: 0, bytes: 0 },
        memory: { rss: 0, heapUsed: 0 },
        uptime: 0
      },
      rates: none,
      servers: [],
      page: {
        total,
        offset,
        limit: 100,
        at: 0,
        connections: Array.from({ length: Math.min(15, total - offset) }, (_, i) => shownRow(offset + i))
      }
    },
    ...more
  }
}

const key = (name: string, text: string | undefined = undefined, ctrl = false) => ({ name, text, ctrl })

/** Presses keys one after the other; the last action. */
const pressed = (start: State, ...keys: ReadonlyArray<ReturnType<typeof key>>) => {
  let now = start
  let action: unknown
  for (const one of keys) [now, action] = press(now, one)
  return { now, action }
}

describe("text in cells", () => {
  it("is as wide as asked for, whatever a peer wrote, and commands nothing", () => {
    assert.strictEqual(fit("abc", 5), "abc  ")
    assert.strictEqual(fit("abc", 5, "right"), "  abc")
    assert.strictEqual(fit("abcdef", 4), "abc…")
    assert.strictEqual(fit("日本語", 6), "日本語")
    assert.strictEqual(fit("日本語", 5), "日本…")
    assert.strictEqual(fit("日本語", 4), "日… ")
    assert.strictEqual(fit("e\u0301e", 3), "e\u0301e ")
    assert.strictEqual(fit("\x1b[2J\u202ex\n", 40).trimEnd(), "\\x1b[2J\\u202ex\\x0a")
    assert.strictEqual(fit("x".repeat(100_000), 3), "xx…")
    assert.strictEqual(fit("abc", 0), "")
  })
})

describe("the screen", () => {
  it("has as many lines as the terminal has rows, none wider than it, at any size", () => {
    for (const rows of [6, 7, 20, 60]) {
      for (const columns of [20, 21, 40, 80, 100, 200]) {
        for (
          const one of [
            state(0),
            state(100),
            state(100, { inspected: { id: 1, detail: undefined, gone: false } }),
            { ...state(3), seen: undefined, problem: "no answer" }
          ]
        ) {
          const lines = draw({ ...one, size: { columns, rows } })
          assert.strictEqual(lines.length, rows, `${columns}x${rows}`)
          for (const line of lines) assert.isAtMost(stripVTControlCharacters(line).length, columns, line)
        }
      }
    }
  })

  it("shows what a peer wrote as text", () => {
    const shown = state(1)
    const evil = "\x1b]0;owned\x07\u202e"
    const lines = draw({
      ...shown,
      size: { columns: 160, rows: 20 },
      seen: { ...shown.seen!, page: { ...shown.seen!.page, connections: [shownRow(1, evil)] } }
    }).join("\n")
    assert.include(lines, "\\x1b]0;owned\\x07\\u202e")
    assert.notInclude(lines, "\x1b]")
  })
})

describe("keys", () => {
  it("move the cursor, and the list with it", () => {
    const { action, now } = pressed(state(100), ...Array.from({ length: 15 }, () => key("down")))
    assert.deepStrictEqual([now.at, now.top], [15, 1])
    assert.deepStrictEqual(action, { _tag: "Read" })
    assert.strictEqual(pressed(state(100), key("end")).now.at, 99)
    assert.strictEqual(pressed(state(100), key("end"), key("home")).now.top, 0)
    assert.strictEqual(pressed(state(0), key("down")).now.at, 0)
    assert.strictEqual(queryOf(pressed(state(100), key("end")).now).offset, 85)
  })

  it("filter as they are typed; Escape clears the filter", () => {
    const typed = pressed(state(100), key("/", "/"), key("q", "q"), key("x", "x"), key("backspace"))
    assert.deepStrictEqual([typed.now.filter, typed.action], ["q", { _tag: "Read" }])
    assert.strictEqual(queryOf(typed.now).text, "q")
    const kept = pressed(typed.now, key("return"))
    assert.deepStrictEqual([kept.now.filter, kept.now.typed], ["q", undefined])
    assert.strictEqual(pressed(typed.now, key("escape")).now.filter, "")
  })

  it("close only after a y", () => {
    const asked = pressed(state(100), key("down"), key("c", "c"))
    assert.deepStrictEqual([asked.now.closing, asked.action], [1, undefined])
    assert.include(draw(asked.now).at(-1), "Close connection 1?")
    for (const other of [key("n", "n"), key("return"), key("escape"), key("c", "c")]) {
      const refused = pressed(asked.now, other)
      assert.deepStrictEqual([refused.now.closing, refused.action], [undefined, undefined])
    }
    assert.deepStrictEqual(pressed(asked.now, key("y", "y")).action, { _tag: "Close", id: 1 })
  })

  it("leave, from everywhere by Ctrl-C", () => {
    assert.deepStrictEqual(pressed(state(1), key("q", "q")).action, { _tag: "Quit" })
    for (const start of [state(1), state(1, { typed: "x" }), state(1, { closing: 1 })]) {
      assert.deepStrictEqual(pressed(start, key("c", "\x03", true)).action, { _tag: "Quit" })
    }
  })

  it("a smaller terminal still has the cursor in view", () => {
    const { at, top } = settled(state(100, { at: 14, size: { columns: 80, rows: 10 } }))
    assert.isAtLeast(at, top)
    assert.isBelow(at, top + 5)
  })
})
