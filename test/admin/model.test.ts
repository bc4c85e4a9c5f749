/** The pure parts of the admin page: what it keeps of changes, the window of a list, and how numbers read. */
import { assert, describe, it } from "@effect/vitest"
import { makeModel } from "../../src/admin/model/model.ts"
import { makeRows, windowAround } from "../../src/admin/model/rows.ts"
import { mostPoints } from "../../src/admin/model/series.ts"
import type { Change, Figures, Page, Query, Row } from "../../src/node/internal/admin/schemas.ts"
import { bytes, count, short, span } from "../../src/node/internal/admin/shown/format.ts"
import { ratesBetween } from "../../src/node/internal/admin/shown/rates.ts"
import { row } from "./support/row.ts"

const figures = (at: number, uptime: number, opened = 0): Figures => ({
  at,
  connections: { open: 1, draining: 0, closing: 0 },
  registered: 1,
  totals: {
    opened,
    ended: 0,
    accepted: opened,
    refused: 0,
    receivedBytes: opened * 100,
    sentBytes: 0,
    receivedMessages: 0,
    sentMessages: 0,
    lostMessages: 0,
    droppedMessages: 0
  },
  outbox: { messages: 0, bytes: 0 },
  inbox: { messages: 0, bytes: 0 },
  memory: { rss: 0, heapUsed: 0 },
  uptime
})

const told = (figures: Figures): Change => ({ _tag: "Figures", figures, servers: [] })

const ended = (id: number, reason: Row["reason"]): Change => ({
  _tag: "Ended",
  id,
  key: null,
  tags: [],
  reason,
  connection: row(id, { state: "ended", reason })
})

/** A model whose frames the test decides. */
const model = () => {
  const frames: Array<() => void> = []
  const made = makeModel((run) => frames.push(run))
  return { ...made, frames }
}

describe("numbers", () => {
  it("read as a person reads them", () => {
    assert.deepStrictEqual([0, 999, 1000, 1023, 1024, 1536, 10_240, 1_048_575, 5e9].map(bytes), [
      "0 B",
      "999 B",
      "1 KiB",
      "1 KiB",
      "1 KiB",
      "1.5 KiB",
      "10 KiB",
      "1 MiB",
      "4.7 GiB"
    ])
    assert.deepStrictEqual([0, 0.25, 9.96, 999, 1000, 12_345, 2.5e6].map(short), [
      "0",
      "0.3",
      "10",
      "999",
      "1k",
      "12k",
      "2.5M"
    ])
    assert.deepStrictEqual([0, 1.25, 12_345].map(count), ["0", "1.3", "12,345"])
    assert.deepStrictEqual(
      [0, 0.4, 850, 999.6, 4200, 59_400, 59_600, 185_000, 7_620_000, 442_800_000, -850].map(span),
      ["0 s", "0.4 ms", "850 ms", "1 s", "4.2 s", "59 s", "1m 00s", "3m 05s", "2h 07m", "5d 03h", "-850 ms"]
    )
  })

  it("are rates between two counts, and none where the program has started again", () => {
    const { bytesIn, opened } = ratesBetween(figures(1000, 1000, 10), figures(3000, 3000, 30))
    assert.deepStrictEqual([opened, bytesIn], [10, 1000])
    assert.isNull(ratesBetween(undefined, figures(1000, 1000)).opened)
    assert.isNull(ratesBetween(figures(1000, 9000, 10), figures(3000, 500, 1)).opened)
    assert.isNull(ratesBetween(figures(1000, 1000), figures(1000, 1000)).opened)
    assert.isNull(ratesBetween({ ...figures(1000, 1000), totals: null }, figures(2000, 2000)).opened)
  })
})

describe("what the page keeps", () => {
  it("says so once a frame, however much has changed", () => {
    const { frames, subscribe, take } = model()
    let drawn = 0
    const stop = subscribe(() => drawn++)
    for (let id = 0; id < 1000; id++) take(ended(id, "Reset"))
    assert.deepStrictEqual([drawn, frames.length], [0, 1])
    frames.shift()!()
    assert.strictEqual(drawn, 1)
    take(ended(1, "Reset"))
    stop()
    frames.shift()!()
    assert.strictEqual(drawn, 1)
  })

  it("is bounded: points of charts, reasons, and those that ended", () => {
    const { state, take } = model()
    for (let i = 0; i < 3 * mostPoints; i++) {
      for (let k = 0; k < 10; k++) take(ended(i * 10 + k, `Reason${i % 60}` as Row["reason"]))
      take(told(figures(i * 1000, i * 1000, i)))
    }
    assert.strictEqual(state.series.at.length, mostPoints)
    for (const points of [...Object.values(state.series.columns), ...state.series.reasons.values()]) {
      assert.strictEqual(points.length, mostPoints)
    }
    assert.isAtMost(state.series.reasons.size, 25)
    assert.isAtMost(state.gone.size, 2000)
  })

  it("counts ends by reason, each once", () => {
    const { state, take } = model()
    take(told(figures(1000, 1000)))
    for (const reason of ["Reset", "Closed", "Reset"] as const) take(ended(1, reason))
    take(told(figures(2000, 2000)))
    take(told(figures(3000, 3000)))
    assert.deepStrictEqual(state.series.reasons.get("Reset" as never), [0, 2, 0])
    assert.deepStrictEqual([...state.ends], [["Reset", 2], ["Closed", 1]])
  })

  it("forgets who was gone when the server has started again, whose ids begin anew", () => {
    const { state, take } = model()
    take(told(figures(1000, 90_000)))
    take(ended(7, "Reset"))
    const { renewed } = state
    take(told(figures(2000, 100)))
    assert.strictEqual(state.gone.size, 0)
    assert.strictEqual(state.renewed, renewed + 1)
  })
})

describe("a window of a list", () => {
  /** Answers when the test says so. */
  const rows = () => {
    const asked: Array<{ readonly query: Query; readonly answer: (total: number) => Promise<void> }> = []
    let now = 0
    const made = makeRows(
      (query) =>
        new Promise((resolve) => {
          const answer = async (total: number): Promise<void> => {
            const { limit = 0, offset = 0 } = query
            const ids = Array.from({ length: Math.max(0, Math.min(limit, total - offset)) }, (_, i) => offset + i)
            resolve({ total, offset, limit, at: 0, connections: ids.map((id) => row(id)) } satisfies Page)
            await new Promise((done) => setImmediate(done))
          }
          asked.push({ query, answer })
        }),
      () => {},
      () => now
    )
    return { made, asked, pass: (millis: number) => now += millis, time: () => now }
  }

  it("asks for what is in view and around it, one question at a time", async () => {
    const { asked, made } = rows()
    made.ask({ sort: "age" })
    assert.deepStrictEqual(asked[0]!.query, { sort: "age", ...windowAround(0, 50) })
    // a scroll meanwhile waits for the answer
    made.show(5000, 5040)
    assert.strictEqual(asked.length, 1)
    await asked[0]!.answer(10_000)
    assert.strictEqual(asked.length, 2)
    await asked[1]!.answer(10_000)
    assert.strictEqual(made.row(5000)?.id, 5000)
    assert.isUndefined(made.row(0))
    // within the window nothing is asked
    made.show(5010, 5050)
    assert.strictEqual(asked.length, 2)
  })

  it("is read again when connections came or left, and seldom when only numbers moved", async () => {
    const { asked, made, pass, time } = rows()
    made.ask({})
    await asked[0]!.answer(10)
    made.tick(time() + 399, 1)
    assert.strictEqual(asked.length, 1)
    pass(400)
    made.tick(time(), 1)
    assert.strictEqual(asked.length, 2)
    await asked[1]!.answer(11)
    pass(1999)
    made.tick(time(), 1)
    assert.strictEqual(asked.length, 2)
    pass(1)
    made.tick(time(), 1)
    assert.strictEqual(asked.length, 3)
  })

  it("of another question is not shown: the answer to the last one is", async () => {
    const { asked, made } = rows()
    made.ask({ text: "a" })
    made.ask({ text: "b" })
    await asked[0]!.answer(1)
    assert.isUndefined(made.total)
    await asked[1]!.answer(2)
    assert.strictEqual(made.total, 2)
  })
})
