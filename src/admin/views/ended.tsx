/** Connections that have ended: how many for which reason, and each with what is known of its end. */
import { useState } from "preact/hooks"
import type { Ended as Over, EndedPage } from "../../node/internal/admin/schemas.ts"
import { bytes, count, span } from "../../node/internal/admin/shown/format.ts"
import { Bar, Empty, Moment, Problem, Timeline } from "../parts/bits.tsx"
import { usePoll } from "../parts/context.ts"
import { EndFacts } from "./detail.tsx"

const pageSize = 50

const parties = ["peer", "us", "network", "program"]

const Reasons = ({ byReason, choose, chosen }: {
  readonly byReason: Readonly<Record<string, number>>
  readonly chosen: string
  readonly choose: (reason: string) => void
}) => {
  const counts = Object.entries(byReason).toSorted(([, a], [, b]) => b - a)
  const most = counts[0]?.[1] ?? 1
  return (
    <ul class="reasons" aria-label="Reasons">
      {counts.map(([reason, times]) => (
        <li key={reason}>
          <button
            type="button"
            aria-pressed={reason === chosen}
            onClick={() => choose(reason === chosen ? "" : reason)}
          >
            <span>{reason}</span>
            <Bar share={times / most} />
            <span class="number">{count(times)}</span>
          </button>
        </li>
      ))}
    </ul>
  )
}

const One = ({ ended }: { readonly ended: Over }) => {
  const [isOpen, setOpen] = useState(false)
  return (
    <li>
      <details onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
        <summary>
          <Moment at={ended.endedAt} />
          <b>{ended.reason ?? "–"}</b>
          <span class="number">#{ended.id}</span>
          <span class="peer">{ended.key ?? ended.remote ?? ""}</span>
          <span class="dim">
            lived {span(ended.age)}, in {bytes(ended.bytesIn)}, out {bytes(ended.bytesOut)}
          </span>
        </summary>
        {isOpen
          ? (
            <>
              <EndFacts ended={ended} />
              <Timeline recent={ended.recent} />
            </>
          )
          : undefined}
      </details>
    </li>
  )
}

export const Ended = () => {
  const [reason, setReason] = useState("")
  const [who, setWho] = useState("")
  const [shown, setShown] = useState(pageSize)
  const all = usePoll<EndedPage>("/api/ended", 2000, { limit: 1, who })
  const { data, error } = usePoll<EndedPage>("/api/ended", 2000, { limit: shown, reason, who })
  return (
    <section class="view" aria-labelledby="ended-title">
      <div class="tools">
        <h2 id="ended-title" tabIndex={-1}>Ended</h2>
        <span class="dim">{data === undefined ? "…" : count(data.total)}</span>
        <label class="push">
          Ended by{" "}
          <select value={who} onChange={({ currentTarget }) => setWho(currentTarget.value)}>
            <option value="">any</option>
            {parties.map((party) => <option key={party} value={party}>{party}</option>)}
          </select>
        </label>
      </div>
      <Problem error={error} />
      {all.data === undefined ? undefined : <Reasons byReason={all.data.byReason} chosen={reason} choose={setReason} />}
      {data?.total === 0 ? <Empty>None is remembered.</Empty> : undefined}
      <ul class="ended">{data?.ended.map((ended) => <One key={ended.id} ended={ended} />)}</ul>
      {data !== undefined && data.total > data.ended.length && shown < 1000
        ? <button type="button" onClick={() => setShown(Math.min(1000, shown + pageSize))}>Show more</button>
        : undefined}
    </section>
  )
}
