/** The pure parts of the bench: medians, which ratios are refused, goals, the tables, what it was asked for. */
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { draw, panelsOf } from "./drawing.ts"
import { options, Usage } from "./options.ts"
import type { Measured } from "./rounds.ts"
import { ratios, spread } from "./support/figures.ts"
import { againstEffect, goals, judge, noiseOf } from "./table/goals.ts"
import { noiseBetween, saidOf, ticksOf } from "./table/machine.ts"
import { between, goalTable, peerTable, type Taken } from "./table/markdown.ts"

const micro = 1e-6

/** A row of rounds at so many echoes in a second, and so many microseconds each. */
const row = (
  load: string,
  server: string,
  micros: ReadonlyArray<number>,
  rates = micros.map(() => 1000)
): Measured => ({
  load,
  server,
  unit: "echo/s",
  rounds: rates,
  cost: micros.map((each) => each * micro)
})

const figures = (load: string, server: string, unit: string, rounds: Array<number>): Measured => ({
  load,
  server,
  unit,
  rounds
})

const five = (value: number): ReadonlyArray<number> => [value, value, value, value, value]

const taken: Taken = {
  machine: "Node v24, 2 x Some CPU",
  neighbours: saidOf({ load: 0.25, others: 0.012, stolen: 0.1 }),
  rounds: 7,
  seconds: 0.4,
  missing: ["Without go: there is no Go toolchain here"]
}

describe("figures of the bench", () => {
  it("a median is the middle, of an even number the middle of two; the ends are with it", () => {
    assert.deepStrictEqual(spread([3, 1, 2]), { median: 2, min: 1, max: 3 })
    assert.deepStrictEqual(spread([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4 })
  })

  it("ratios are taken within a round, and refused below five of them", () => {
    // the second round was ten times as slow for both
    const of = [2, 20, 2, 2, 2]
    const against = [1, 10, 1, 1, 1]
    assert.deepStrictEqual(ratios(of, against), { median: 2, min: 2, max: 2 })
    assert.isUndefined(ratios(of.slice(1), against.slice(1)))
    assert.isUndefined(ratios(of, against.slice(1)))
  })

  it("noise is the middle half of the rounds: one that is far off is none, and half of them are", () => {
    assert.strictEqual(noiseOf([10, 10, 10, 10, 50, 10, 10]), 0)
    assert.approximately(noiseOf([8, 12, 10, 8, 12, 10, 12]), 0.3, 1e-9)
    assert.isNaN(noiseOf([]))
  })

  it("a goal counts CPU for each message, whatever the rates are: half of it is a ratio of 2", () => {
    const slow = five(500).slice()
    const [verdict] = judge([row("50x1", "raw", five(10)), row("50x1", "holdfast", five(5), slow)])
    assert.strictEqual(verdict!.measured!.median, 2)
    assert.strictEqual(verdict!.byRate!.median, 0.5)
    assert.isTrue(verdict!.reached)
    const [missed] = judge([row("50x1", "raw", five(10)), row("50x1", "holdfast", five(20))])
    assert.deepStrictEqual([missed!.measured!.median, missed!.reached], [0.5, false])
  })

  it("nothing is said of too few rounds, nor of those in which the peer itself was all over the place", () => {
    const few = five(10).slice(1)
    const [refused] = judge([row("50x1", "raw", few), row("50x1", "holdfast", few)])
    assert.deepStrictEqual([refused!.measured, refused!.reached], [undefined, undefined])
    const [loud] = judge([row("50x1", "raw", [8, 12, 10, 8, 12]), row("50x1", "holdfast", five(1))])
    assert.isAbove(loud!.measured!.median, 5)
    assert.isUndefined(loud!.reached)
  })

  it("a figure of memory is at most that of its peer, and a time at most so many milliseconds", () => {
    const verdicts = judge([
      figures("memory rss", "holdfast", "B/conn", [9, 9, 9, 9, 9]),
      figures("memory rss", "effect", "B/conn", [10, 10, 10, 10, 10]),
      figures("start", "holdfast", "ms", [501, 501, 501, 501, 501]),
      figures("start", "node", "ms", [40, 40, 40, 40, 40]),
      figures("memory heap", "holdfast", "B/conn", [12_288, 12_288, 12_288, 12_288, 12_288])
    ])
    assert.deepStrictEqual(verdicts.map(({ goal, measured, reached }) => [goal.load, measured!.median, reached]), [
      ["start", 501, false],
      ["memory rss", 0.9, true],
      ["memory heap", 12, true]
    ])
  })

  it("of Effect's bare socket the nearest load is named", () => {
    const measured = [["50x1", 12], ["1m 4x1", 9], ["50x32", 30]] as const
    const rows = measured.flatMap(([load, of]) => [row(load, "effect", five(of)), row(load, "holdfast", five(10))])
    assert.deepInclude(againstEffect(rows), { load: "1m 4x1", loads: 3 })
    assert.isUndefined(againstEffect([row("50x1", "effect", five(1))]))
  })

  it("each goal of the README has a load which the bench measures without options", () => {
    const loads = options([]).wanted.map(({ load }) => load.name)
    const asked = goals.filter(({ title }) => title !== undefined).map(({ load }) => load)
    const isMeasured = (load: string) => loads.some((name) => load === name || load.startsWith(`${name} `))
    assert.deepStrictEqual(asked.filter((load) => !isMeasured(load)), [])
    for (const { against, load, of, title } of goals) {
      const servers = options([]).wanted.find((wanted) => wanted.load.name === load)?.servers ?? []
      if (title === undefined || servers.length === 0) continue
      const names = servers.map(({ name }) => name)
      assert.includeMembers(names, against === undefined ? [of] : [of, against], load)
    }
  })
})

describe("tables of the bench", () => {
  const measured = [
    row("50x1", "raw", [10, 10, 10, 10, 10.2]),
    row("1m 4x1", "raw", five(1234)),
    row("50x1", "effect", five(20)),
    row("50x1", "holdfast", [10, 12.5, 12.5, 12.5, 12.5], [800, 800, 800, 800, 800]),
    row("ws 50x1", "ws", [8, 12, 10, 8, 12]),
    row("ws 50x1", "holdfast-ws", five(5)),
    row("pool contended", "tarn", five(5))
  ]

  it("the README has ratio, ends, goal, whether it is reached, the rate, and how loud it was", () => {
    const lines = goalTable(measured, taken).split("\n")
    assert.deepStrictEqual(lines.slice(0, 5), [
      "| load | beside | ratio | goal | reached | by rate | noise |",
      "|---|---|---|---|---|---|---|",
      "| 64 B, 50x1 | raw `node:net` | 0.80 (0.80 to 1.00) | at least 0.85 | no | 0.80 | 0 % |",
      "| WebSocket, 50x1 | `ws` | 2.00 (1.60 to 2.40) | at least 1.00 | too noisy | 1.00 | 40 % |",
      "| each of 1 loads over TCP, the nearest is 50x1 | Effect's bare socket | 1.60 (1.60 to 2.00) | above 1.00 | yes |  |  |"
    ])
    assert.include(
      lines,
      "Node v24, 2 x Some CPU; 7 rounds of 0.4 s; load average before 0.3, other programs 1.2 % of all processors, " +
        "stolen 10 %."
    )
    assert.include(lines, "Without go: there is no Go toolchain here.")
  })

  it("with too few rounds it has no ratio, and says so", () => {
    const few = measured.map((of) => ({ ...of, rounds: of.rounds.slice(1), cost: of.cost!.slice(1) }))
    const text = goalTable(few, { ...taken, rounds: 4 })
    assert.include(text, "| 64 B, 50x1 | raw `node:net` | - | at least 0.85 | too few rounds |  |  |")
    assert.include(text, "Too few rounds for a ratio (4): it takes 5.")
    assert.notMatch(text, /\| (yes|no) \|/)
  })

  it("peers are compared in microseconds, a table for each family, those that were there", () => {
    assert.strictEqual(
      peerTable(measured),
      [
        "| us of CPU for each | raw `node:net` | Effect's bare socket | Holdfast |",
        "|---|---|---|---|",
        "| 50x1 | 10.0 | 20.0 | 12.5 |",
        "| 1m 4x1 | 1234 | - | - |",
        "",
        "| us of CPU for each | `ws` | Holdfast, WebSocket |",
        "|---|---|---|",
        "| ws 50x1 | 10.0 | 5.00 |"
      ].join("\n")
    )
  })

  it("a table is written between its markers, and a page without them is left alone", () => {
    const page =
      "a\n<!-- bench: written by a command -->\nold\n<!-- end -->\nb\n<!-- other: x -->\nkept\n<!-- end -->\n"
    const written = between(page, "bench", "$1 new")
    assert.strictEqual(
      written,
      "a\n<!-- bench: written by a command -->\n\n$1 new\n\n<!-- end -->\nb\n<!-- other: x -->\nkept\n<!-- end -->\n"
    )
    assert.strictEqual(between(written, "bench", "$1 new"), written)
    assert.throws(() => between("no place", "bench", "text"), /no place for bench/)
  })

  it("README.md and the guide have a place for them", () => {
    for (const path of ["README.md", "src/guides/performance.md"]) {
      const page = readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")
      assert.include(between(page, "bench", "the table"), "-->\n\nthe table\n\n<!-- end -->", path)
    }
  })

  it("growth is drawn as lines over connections: cost of a message, memory, cost of opening", () => {
    const grown = [
      row("growth 50", "raw", five(10)),
      row("growth 19000", "raw", five(20)),
      figures("growth 50 rss", "raw", "B/conn", [1_000_000]),
      figures("growth 19000 rss", "raw", "B/conn", [2048]),
      figures("in memory 1000000: heap", "holdfast", "B/conn", [10_240]),
      figures("in memory 1000000: message", "holdfast", "us", [3]),
      figures("in memory 1000000: open", "holdfast", "us", [40])
    ]
    assert.deepStrictEqual(panelsOf(grown).map(({ lines }) => lines), [
      [
        { name: "raw", points: [[50, 10], [19_000, 20]] },
        { name: "holdfast, in memory", points: [[1_000_000, 3]] }
      ],
      // of 50 connections it is the process that is seen
      [
        { name: "raw, process", points: [[19_000, 2]] },
        { name: "holdfast, heap in memory", points: [[1_000_000, 10]] }
      ],
      [{ name: "holdfast, in memory", points: [[1_000_000, 40]] }]
    ])
    assert.match(draw(grown), /^<svg[\s\S]*Memory for each connection[\s\S]*<\/svg>$/)
  })
})

describe("the machine of the bench", () => {
  it("ticks of the processors are told apart: idle, stolen, the bench's own and its children's, others", () => {
    const stat = (user: number, idle: number, stolen: number) =>
      `cpu  ${user} 0 10 ${idle} 5 0 0 ${stolen} 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n`
    const own = (ticks: number) => `12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 ${ticks} 1 ${ticks} 2 20 0 1 0`
    const from = ticksOf(stat(100, 1000, 3), own(10))
    assert.deepStrictEqual(from, { all: 1118, idle: 1005, stolen: 3, own: 23 })
    const to = ticksOf(stat(160, 1035, 8), own(30))
    assert.deepStrictEqual(noiseBetween(from, to), { stolen: 0.05, others: 0.2 })
    assert.deepStrictEqual(noiseBetween(from, from), { stolen: 0, others: 0 })
    assert.notInclude(saidOf({ load: 0, stolen: 0.1, others: 0.1 }), "measure again")
    assert.include(saidOf({ load: 0, stolen: 0.1, others: 0.11 }), "measure again on a quiet machine")
  })
})

describe("what the bench is asked for", () => {
  const refused = (...args: ReadonlyArray<string>): string => {
    try {
      options(args)
    } catch (error) {
      assert.instanceOf(error, Usage)
      return error.message
    }
    return "nothing"
  }

  it("without options it is what the README compares, seven rounds of it; --all is everything", () => {
    const asked = options([])
    assert.strictEqual(asked.rounds, 7)
    const serversOf = (all: ReadonlyArray<string>, load: string) =>
      options(all).wanted.find((wanted) => wanted.load.name === load)?.servers.map(({ name }) => name) ?? []
    assert.deepStrictEqual(serversOf([], "50x1"), ["raw", "effect", "holdfast", "go", "c", "bun"])
    assert.include(serversOf(["--all"], "50x1"), "holdfast-fibers")
    assert.isEmpty(serversOf([], "latency"))
    assert.isNotEmpty(serversOf(["--all"], "latency"))
    assert.deepStrictEqual(serversOf(["--only", "^50x1$", "--servers", "raw,serve"], "50x1"), ["raw", "serve"])
    assert.include(serversOf(["--beside", "/elsewhere"], "50x1"), "beside")
  })

  it("a mistake is one line that says what to do", () => {
    const said = [
      refused("--rounds", "many"),
      refused("--seconds", ""),
      refused("--only", "("),
      refused("--only", "nonsense"),
      refused("--servers", "nginx"),
      refused("--plot", "a.svg"),
      refused("--readme", "--only", "50x1"),
      refused("--readme", "--rounds", "3"),
      refused("--quick")
    ]
    for (const line of said) assert.notInclude(line, "\n")
    assert.deepStrictEqual(said.slice(0, 4), [
      "--rounds takes a number, at least 1, not \"many\"",
      "--seconds takes a number, at least 0.1, not \"\"",
      "--only takes a regular expression, such as \"^50x\", not \"(\"",
      "no load has such a name and such servers: --help has their names"
    ])
    assert.match(said[4]!, /^--servers: there is no nginx, but raw, effect, holdfast/)
    assert.include(said[5]!, "add --growth")
    assert.include(said[6]!, "leave --only and --servers out")
    assert.include(said[7]!, "need 5 rounds")
    assert.match(said[8]!, /^Unknown option '--quick': see --help$/)
  })
})
