/** Counts and rates of the last minutes. */
import { bytes, short } from "../../node/internal/admin/shown/format.ts"
import { Chart } from "../parts/chart.tsx"
import { useModel } from "../parts/context.ts"

const perSecond = (show: (value: number) => string) => (value: number): string => `${show(value)}/s`

const colours = ["--one", "--two", "--three", "--four", "--five", "--six"]

export const Charts = () => {
  const { figures, series } = useModel(({ figures }) => figures)
  const { at, columns } = series
  const uncounted = figures !== undefined && figures.totals === null ? "not counted without Metrics.layer" : undefined
  const reasons = [...series.reasons].map(([name, points], index) => ({
    name,
    colour: colours[index % colours.length]!,
    points
  }))
  return (
    <section class="charts" aria-label="Counts and rates">
      <Chart title="Open" at={at} show={short} lines={[{ name: "now", colour: "--one", points: columns.open }]} />
      <Chart
        title="Connections"
        at={at}
        show={perSecond(short)}
        note={uncounted}
        lines={[
          { name: "opened", colour: "--one", points: columns.opened },
          { name: "refused", colour: "--four", points: columns.refused }
        ]}
      />
      <Chart
        title="Messages"
        at={at}
        show={perSecond(short)}
        note={uncounted}
        lines={[
          { name: "in", colour: "--one", points: columns.messagesIn },
          { name: "out", colour: "--two", points: columns.messagesOut }
        ]}
      />
      <Chart
        title="Bytes"
        at={at}
        show={perSecond(bytes)}
        note={uncounted}
        lines={[
          { name: "in", colour: "--one", points: columns.bytesIn },
          { name: "out", colour: "--two", points: columns.bytesOut }
        ]}
      />
      <Chart
        title="Ended"
        at={at}
        show={perSecond(short)}
        note={reasons.length === 0 ? "none yet" : undefined}
        lines={reasons}
      />
    </section>
  )
}
