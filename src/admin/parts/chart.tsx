/** One chart: lines over the last minutes, and what they are now as text. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import uPlot from "uplot"
import { useApp } from "./context.ts"
import { colour } from "./theme.ts"

export interface Line {
  readonly name: string
  /** A variable of the style sheet. */
  readonly colour: string
  readonly points: ReadonlyArray<number | null>
}

const phone = matchMedia("(max-width: 760px)")

// as the style sheet has it
const heightNow = (): number => (phone.matches ? 64 : 110)

// one chart a frame: five at once are one long task
const waiting = new Set<() => void>()

const drawNext = (): void => {
  const [next] = waiting
  if (next === undefined) return
  waiting.delete(next)
  next()
  if (waiting.size > 0) requestAnimationFrame(drawNext)
}

/** Draws in a frame that no other chart is drawn in; gives back what forgets it. */
const drawSoon = (draw: () => void): () => void => {
  waiting.add(draw)
  if (waiting.size === 1) requestAnimationFrame(drawNext)
  return () => void waiting.delete(draw)
}

const optionsOf = (lines: ReadonlyArray<Line>, show: (value: number) => string, width: number): uPlot.Options => {
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false } }
  return {
    width,
    height: heightNow(),
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false }, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_self, _min, max) => [0, Math.max(1, (max ?? 0) * 1.1)] } },
    axes: [
      { ...axis, size: 24, space: 60, values: [[1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
      { ...axis, size: 48, space: 26, values: (_self, values) => values.map((value) => show(value).replace("/s", "")) }
    ],
    series: [
      {},
      ...lines.map(({ colour: variable, name }) => ({
        label: name,
        stroke: colour(variable),
        width: 1.5,
        points: { show: false },
        spanGaps: false
      }))
    ]
  }
}

export const Chart = ({ at, lines, note, show, title }: {
  readonly title: string
  readonly at: ReadonlyArray<number>
  readonly lines: ReadonlyArray<Line>
  readonly show: (value: number) => string
  /** In place of values that there are none of. */
  readonly note?: string | undefined
}) => {
  const { colours } = useApp()
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  const [hovered, setHovered] = useState<number | null>(null)
  const drawn = lines.map(({ name }) => name).join("\n")
  useLayoutEffect(() => {
    const element = box.current!
    const made = new uPlot(
      {
        ...optionsOf(lines, show, Math.max(120, element.clientWidth)),
        hooks: { setCursor: [({ cursor }) => setHovered(cursor.idx ?? null)] }
      },
      [[], ...lines.map(() => [])],
      element
    )
    plot.current = made
    const resized = new ResizeObserver(() =>
      made.setSize({ width: Math.max(120, element.clientWidth), height: heightNow() })
    )
    resized.observe(element)
    return () => {
      resized.disconnect()
      made.destroy()
      plot.current = undefined
    }
  }, [drawn, colours])
  const last = at.at(-1)
  useEffect(() => {
    const data: uPlot.AlignedData = [
      at as Array<number>,
      ...lines.map(({ points }) => points as Array<number | null>)
    ]
    return drawSoon(() => plot.current?.setData(data))
  }, [last, drawn, colours])
  const index = hovered === null || hovered >= at.length ? at.length - 1 : hovered
  return (
    <figure class="chart">
      <figcaption>
        <b>{title}</b>
        {note === undefined ? undefined : <span class="dim">{note}</span>}
        {lines.map(({ colour, name, points }) => {
          const value = points[index]
          return (
            <span class="value" key={name}>
              <i style={{ background: `var(${colour})` }} aria-hidden="true" />
              {name} <span class="number">{value === null || value === undefined ? "–" : show(value)}</span>
            </span>
          )
        })}
      </figcaption>
      <div class="plot" ref={box} aria-hidden="true" />
    </figure>
  )
}
