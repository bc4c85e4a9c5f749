/** One connection: all that is known of it, while it is open and after. */
import { useState } from "preact/hooks"
import type { Detail as Known, Ended, EndedPage } from "../../node/internal/admin/schemas.ts"
import { bytes, count, span } from "../../node/internal/admin/shown/format.ts"
import { Failed } from "../model/api.ts"
import { Bar, Empty, Fact, Moment, Problem, Timeline, useClock } from "../parts/bits.tsx"
import { Closing } from "../parts/closing.tsx"
import { useModel, usePoll } from "../parts/context.ts"
import { Patching } from "../parts/patching.tsx"
import { Values } from "./policies.tsx"

// milliseconds
const readEvery = 1000
const runEvery = 100

const Facts = ({ known, older }: { readonly known: Known | Ended; readonly older: number }) => (
  <dl class="facts">
    <Fact name="Peer">{known.remote ?? "–"}</Fact>
    <Fact name="Here">{known.local ?? "–"}</Fact>
    <Fact name="Key">{known.key ?? "–"}</Fact>
    <Fact name="Tags">
      {known.tagCount === 0 ? "–" : known.tags.map((tag) => <span class="tag" key={tag}>{tag}</span>)}
      {known.tagCount > known.tags.length ? ` and ${known.tagCount - known.tags.length} more` : ""}
    </Fact>
    <Fact name="Opened">
      <Moment at={known.openedAt} />
    </Fact>
    <Fact name="Age">{span(known.age + older)}</Fact>
    <Fact name="Quiet for">{span(known.quietFor + older)}</Fact>
    <Fact name="Last written">
      {known.lastWrittenAt === null ? "never" : <Moment at={known.lastWrittenAt} />}
    </Fact>
    <Fact name="RTT">
      {known.rtt === null ? "not measured" : `${span(known.rtt.smoothed)} (last ${span(known.rtt.last)})`}
    </Fact>
    <Fact name="In">{count(known.messagesIn)} messages, {bytes(known.bytesIn)}</Fact>
    <Fact name="Out">{count(known.messagesOut)} messages, {bytes(known.bytesOut)}</Fact>
    <Fact name="Queued in">
      {count(known.inbox.messages)} messages, {bytes(known.inbox.bytes)}
      {known.paused ? ", reading is paused" : ""}
    </Fact>
    <Fact name="Queued out">{count(known.outbox.messages)} messages, {bytes(known.outbox.bytes)}</Fact>
    <Fact name="Dropped">{count(known.dropped)}</Fact>
  </dl>
)

const Deadlines = ({ known, older }: { readonly known: Known; readonly older: number }) => (
  <section aria-labelledby="deadlines">
    <h3 id="deadlines">Deadlines</h3>
    {known.deadlines.length === 0 ? <Empty>No rule runs now.</Empty> : (
      <ul class="deadlines">
        {known.deadlines.map(({ left, limit, rule }) => {
          const now = Math.max(0, left - older)
          return (
            <li key={rule}>
              <b>{rule}</b>
              <Bar share={now / limit} tone={now / limit < 0.2 ? "bad" : "good"} />
              <span class="number">{span(now)} of {span(limit)} left</span>
            </li>
          )
        })}
      </ul>
    )}
  </section>
)

const Fibers = ({ known }: { readonly known: Known }) => (
  <section aria-labelledby="fibers">
    <h3 id="fibers">Fibers</h3>
    <ul class="fibers">
      {known.fibers.map(({ direct, name, state, worked }) => (
        <li key={name}>
          <b>{name}</b>
          <span class={`state ${state}`}>{state}</span>
          <span class="dim number">worked {count(worked)}, direct {count(direct)}</span>
        </li>
      ))}
    </ul>
  </section>
)

export const EndFacts = ({ ended }: { readonly ended: Pick<Ended, "end" | "words" | "lostLoad"> }) => (
  <>
    <p class="words">{ended.words}</p>
    {ended.end === null ? undefined : (
      <dl class="facts">
        <Fact name="Reason">{ended.end.reason}</Fact>
        <Fact name="In words">{ended.end.text}</Fact>
        <Fact name="Who">{ended.end.who}</Fact>
        <Fact name="Seen by">{ended.end.seenBy ?? "–"}</Fact>
        <Fact name="Rule">{ended.end.deadline ?? "–"}</Fact>
        <Fact name="Worth a retry">{ended.end.retryable ? "yes" : "no"}</Fact>
        <Fact name="Lost">{count(ended.lostLoad.messages)} messages, {bytes(ended.lostLoad.bytes)}</Fact>
        <Fact name="Peer was told">
          {ended.end.told === null ? "nothing" : `${ended.end.told.code} ${ended.end.told.text ?? ""}`}
          {ended.end.told?.advice === null || ended.end.told === null || ended.end.told.advice === undefined
            ? ""
            : `, to come back after ${span(ended.end.told.advice.after)} within ${span(ended.end.told.advice.spread)}`}
        </Fact>
        {Object.entries(ended.end.facts).map(([name, value]) => (
          <Fact key={name} name={name}>{typeof value === "number" ? count(value) : String(value)}</Fact>
        ))}
      </dl>
    )}
  </>
)

const Open = ({ at, known }: { readonly known: Known; readonly at: number }) => {
  const now = useClock(runEvery)
  const older = Math.max(0, now - at)
  return (
    <>
      <Facts known={known} older={older} />
      <Deadlines known={known} older={older} />
      <Fibers known={known} />
      <section aria-labelledby="events">
        <h3 id="events">What happened lately</h3>
        <Timeline recent={known.recent} />
      </section>
      <details>
        <summary>Policy in force</summary>
        <Values values={known.policy} />
      </details>
    </>
  )
}

const Over = ({ ended }: { readonly ended: Ended }) => (
  <>
    <p>
      <span class="state ended">ended</span> <Moment at={ended.endedAt} />
    </p>
    <EndFacts ended={ended} />
    <section aria-labelledby="events">
      <h3 id="events">What happened at last</h3>
      <Timeline recent={ended.recent} />
    </section>
    <Facts known={ended} older={0} />
  </>
)

/** What is known of it; one that has ended is not asked for again. */
const useKnown = (id: number) => {
  const { gone } = useModel(({ gone }) => gone.has(id))
  const { data: history, error: unread } = usePoll<EndedPage>("/api/ended", 2000, { id, limit: 1 })
  const ended = history?.ended[0]
  const isOver = gone.has(id) || ended !== undefined
  const isUnasked = isOver || (history === undefined && unread === undefined)
  const { at, data, error } = usePoll<Known>(isUnasked ? undefined : `/api/connections/${id}`, readEvery)
  const isUnknown = error instanceof Failed && error.status === 404
  return { at, ended, error: unread ?? error, isUnknown, open: isOver || isUnknown ? undefined : data }
}

export const Detail = ({ id }: { readonly id: number }) => {
  const { at, ended, error, isUnknown, open } = useKnown(id)
  const [isClosing, setClosing] = useState(false)
  const [isPatching, setPatching] = useState(false)
  return (
    <section class="view" aria-labelledby="detail-title">
      <div class="tools">
        <a href="#/">Connections</a>
        <h2 id="detail-title" tabIndex={-1}>Connection {id}</h2>
        {open === undefined ? undefined : (
          <>
            <span class={`state ${open.state}`}>{open.state}</span>
            <button type="button" class="push" onClick={() => setPatching(true)}>Change a limit…</button>
            <button type="button" class="danger" onClick={() => setClosing(true)}>Close…</button>
          </>
        )}
      </div>
      {isUnknown ? undefined : <Problem error={error} />}
      {open !== undefined
        ? <Open known={open} at={at} />
        : ended !== undefined
        ? <Over ended={ended} />
        : isUnknown
        ? <Empty>No connection {id} is open or remembered.</Empty>
        : undefined}
      {isClosing && open !== undefined
        ? (
          <Closing
            title={`Close connection ${id}?`}
            action="Close it"
            path={`/api/connections/${id}/close`}
            said={() => `Connection ${id} is asked to close`}
            stop={() => setClosing(false)}
          />
        )
        : undefined}
      {isPatching && open !== undefined
        ? <Patching id={id} policy={open.policy} stop={() => setPatching(false)} />
        : undefined}
    </section>
  )
}
