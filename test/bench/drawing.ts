/** The growth as an SVG document: three panels, drawn by ECharts without a browser. */
import { LineChart } from "echarts/charts"
import { GridComponent, LegendComponent, TitleComponent } from "echarts/components"
import { init, use } from "echarts/core"
import { SVGRenderer } from "echarts/renderers"
import { enough, inMemory, nameOf, sizes } from "./growth.ts"
import type { Measured } from "./rounds.ts"
import { spread } from "./support/figures.ts"

type Points = ReadonlyArray<readonly [connections: number, value: number]>

interface Panel {
  readonly title: string
  readonly unit: string
  readonly lines: ReadonlyArray<{ readonly name: string; readonly points: Points }>
}

const two = (value: number): number => Number(value.toPrecision(3))

/** A line for each server over these sizes, of the medians of what `of` takes of a row. */
const lines = (
  measured: ReadonlyArray<Measured>,
  over: ReadonlyArray<number>,
  name: (size: number) => string,
  of: (row: Measured) => ReadonlyArray<number> | undefined
): Panel["lines"] => {
  const names = new Set(over.map(name))
  const rows = measured.filter(({ load }) => names.has(load))
  return [...new Set(rows.map(({ server }) => server))].map((server) => ({
    name: server,
    points: over.flatMap((size) => {
      const row = rows.find((row) => row.load === name(size) && row.server === server)
      const values = (row === undefined ? undefined : of(row))?.filter(Number.isFinite) ?? []
      return values.length === 0 ? [] : [[size, two(spread(values).median)] as const]
    })
  })).filter(({ points }) => points.length > 0)
}

export const panelsOf = (measured: ReadonlyArray<Measured>): ReadonlyArray<Panel> => {
  const kilobytes = ({ rounds }: Measured): ReadonlyArray<number> => rounds.map((bytes) => bytes / 1024)
  const named = (panel: Panel["lines"], what: string): Panel["lines"] =>
    panel.map(({ name, points }) => ({ name: `${name}, ${what}`, points }))
  return [
    {
      title: "CPU of the server for each message, 64 B",
      unit: "us",
      lines: [
        ...lines(measured, sizes, nameOf, ({ cost }) => cost?.map((seconds) => seconds * 1e6)),
        ...named(lines(measured, inMemory, (size) => `in memory ${size}: message`, ({ rounds }) => rounds), "in memory")
      ]
    },
    {
      title: "Memory for each connection",
      unit: "KiB",
      lines: [
        ...named(
          lines(measured, sizes.filter((size) => size >= enough), (size) => `${nameOf(size)} rss`, kilobytes),
          "process"
        ),
        ...named(lines(measured, inMemory, (size) => `in memory ${size}: heap`, kilobytes), "heap in memory")
      ]
    },
    {
      title: "CPU for opening one, in memory",
      unit: "us",
      lines: named(
        lines(measured, inMemory, (size) => `in memory ${size}: open`, ({ rounds }) => rounds),
        "in memory"
      )
    }
  ].filter(({ lines }) => lines.length > 0)
}

// a server has one colour in all panels, and in memory it is dashed
const colours: Readonly<Record<string, string>> = {
  raw: "#5470c6",
  effect: "#91cc75",
  holdfast: "#d62728",
  go: "#17a2b8",
  c: "#7f7f7f"
}

const styleOf = (name: string) => ({
  color: colours[name.split(",")[0]!],
  lineStyle: { type: name.endsWith("in memory") ? "dashed" : "solid" }
})

const height = 380

/** What was measured over the number of connections, as an SVG document. */
export const draw = (measured: ReadonlyArray<Measured>): string => {
  use([LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer])
  const panels = panelsOf(measured)
  const chart = init(null, null, { renderer: "svg", ssr: true, width: 860, height: height * panels.length })
  const top = (i: number): number => i * height
  chart.setOption({
    animation: false,
    backgroundColor: "#fff",
    title: panels.map(({ title }, i) => ({
      text: title,
      left: "center",
      top: top(i) + 8,
      textStyle: { fontSize: 15 }
    })),
    legend: panels.map(({ lines }, i) => ({
      data: lines.map(({ name }) => name),
      top: top(i) + 34,
      itemWidth: 26,
      itemGap: 16
    })),
    grid: panels.map((_, i) => ({ left: 70, right: 40, top: top(i) + 90, height: height - 150 })),
    xAxis: panels.map((_, i) => ({
      type: "log",
      gridIndex: i,
      name: "connections",
      nameLocation: "middle",
      nameGap: 26,
      min: 10,
      max: 1_000_000
    })),
    yAxis: panels.map(({ unit }, i) => ({ type: "value", gridIndex: i, name: unit, min: 0 })),
    series: panels.flatMap(({ lines }, i) =>
      lines.map(({ name, points }) => ({
        ...styleOf(name),
        name,
        type: "line",
        xAxisIndex: i,
        yAxisIndex: i,
        data: points
      }))
    )
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}
