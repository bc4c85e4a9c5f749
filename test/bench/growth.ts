/** How rate and memory go with the number of connections, as loads like the others and as a drawing. */
import { LineChart } from "echarts/charts"
import { GridComponent, LegendComponent, TitleComponent } from "echarts/components"
import { init, use } from "echarts/core"
import { SVGRenderer } from "echarts/renderers"
import type { Load, Measured } from "./loads.ts"
import { alone, echo } from "./loads.ts"
import { spread } from "./support/figures.ts"

const sizes = [50, 200, 1000, 5000, 10_000, 19_000]
const servers = ["raw", "effect", "holdfast", "go"]
// so many connections a load process
const share = 5000

const nameOf = (size: number): string => `growth ${size}`

/** 64 B, one in flight, on more and more connections. 19,000 is what 20,000 descriptors allow. */
export const growth: ReadonlyArray<Load> = [
  ...sizes.map((size) =>
    echo(
      nameOf(size),
      servers,
      { connections: size, inFlight: 1, size: 64 },
      `64 B, ${size} connections, 1 in flight`,
      Math.ceil(size / share)
    )
  ),
  alone(
    "growth in memory",
    "memory",
    ["served 10000", "served 100000", "served 1000000"],
    "10,000 to a million connections without a network, heap for each; a million need 12 GB"
  )
]

/** Echoes in a second over connections, a line for each server, as an SVG document. */
export const draw = (measured: ReadonlyArray<Measured>): string => {
  use([LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer])
  const names = [...new Set(measured.filter(({ load }) => load.startsWith("growth ")).map(({ server }) => server))]
  const chart = init(null, null, { renderer: "svg", ssr: true, width: 800, height: 480 })
  chart.setOption({
    animation: false,
    backgroundColor: "#fff",
    title: { text: "Echoes in a second, 64 B, one in flight", left: "center" },
    legend: { data: names, bottom: 0 },
    grid: { left: 80, right: 40, bottom: 80 },
    xAxis: { type: "log", name: "connections", nameLocation: "middle", nameGap: 28, min: 10, max: 100_000 },
    yAxis: { type: "value", name: "echo/s", min: 0 },
    series: names.map((name) => ({
      name,
      type: "line",
      data: sizes.flatMap((size) => {
        const row = measured.find(({ load, server }) => load === nameOf(size) && server === name)
        return row === undefined ? [] : [[size, Math.round(spread(row.rounds).median)]]
      })
    }))
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}
