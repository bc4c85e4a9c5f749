/** The columns of the table of connections. */
import type { ComponentChildren } from "preact"
import type { Query, Row } from "../../node/internal/admin/schemas.ts"
import { bytes, short, span } from "../../node/internal/admin/shown/format.ts"

export interface Column {
  readonly name: string
  readonly title: string
  readonly sort?: NonNullable<Query["sort"]>
  /** Largest first, the first time it is sorted by. */
  readonly descending?: boolean
  /** `older` is how long ago the row was looked at, in milliseconds. */
  readonly show: (row: Row, older: number) => ComponentChildren
}

const isOver = (row: Row): boolean => row.state === "ended"

export const columns: ReadonlyArray<Column> = [
  { name: "id", title: "Id", sort: "id", show: ({ id }) => id },
  {
    name: "state",
    title: "State",
    sort: "state",
    show: ({ paused, reason, state }) => (
      <span class={`state ${state}`}>
        {state === "ended" && reason !== null ? reason : paused ? `${state}, paused` : state}
      </span>
    )
  },
  { name: "remote", title: "Peer", sort: "remote", show: ({ remote }) => remote ?? "–" },
  {
    name: "key",
    title: "Key and tags",
    sort: "key",
    show: ({ key, tagCount, tags }) => (
      <>
        {key === null ? "" : <b>{key}</b>}
        {tags.slice(0, 4).map((tag) => <span class="tag" key={tag}>{tag}</span>)}
        {tagCount > 4 ? ` +${tagCount - 4}` : ""}
      </>
    )
  },
  {
    name: "age",
    title: "Age",
    sort: "age",
    descending: true,
    show: (row, older) => span(roughly(row.age + (isOver(row) ? 0 : older)))
  },
  {
    name: "quiet",
    title: "Quiet for",
    sort: "quietFor",
    descending: true,
    show: (row, older) => span(roughly(row.quietFor + (isOver(row) ? 0 : older)))
  },
  { name: "in", title: "In", sort: "bytesIn", descending: true, show: ({ bytesIn }) => bytes(bytesIn) },
  { name: "out", title: "Out", sort: "bytesOut", descending: true, show: ({ bytesOut }) => bytes(bytesOut) },
  {
    name: "messages",
    title: "Messages in",
    sort: "messagesIn",
    descending: true,
    show: ({ messagesIn }) => short(messagesIn)
  },
  {
    name: "queue",
    title: "Queued out",
    sort: "outbox",
    descending: true,
    show: ({ outbox }) => outbox.bytes === 0 ? "0" : bytes(outbox.bytes)
  },
  {
    name: "rtt",
    title: "RTT",
    sort: "rtt",
    descending: true,
    show: ({ rtt }) => rtt === null ? "–" : span(rtt.smoothed)
  }
]

/** Whole seconds: milliseconds of a thing that goes on are noise. */
const roughly = (millis: number): number => Math.max(0, Math.floor(millis / 1000) * 1000)
