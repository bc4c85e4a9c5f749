/** A connection as the admin API shows it, which did nothing yet. */
import type { Row } from "../../../src/node/internal/admin/schemas.ts"

export const row = (id: number, more: Partial<Row> = {}): Row => ({
  id,
  state: "open",
  remote: null,
  local: null,
  key: null,
  tags: [],
  tagCount: 0,
  openedAt: 0,
  age: 0,
  quietFor: 0,
  bytesIn: 0,
  bytesOut: 0,
  messagesIn: 0,
  messagesOut: 0,
  inbox: { messages: 0, bytes: 0 },
  outbox: { messages: 0, bytes: 0 },
  dropped: 0,
  lost: 0,
  paused: false,
  rtt: null,
  reason: null,
  ...more
})
