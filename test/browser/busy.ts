/** A registry of made up connections, as many as a test wants: they come and go for nothing. */
import { Effect, Option, Queue, Stream } from "effect"
import type { Cause } from "effect"
import type { Admin } from "holdfast/node"
import type { Snapshot } from "../../src/Connection.ts"
import { Closed } from "../../src/ConnectionError.ts"
import { TypeId } from "../../src/internal/connection/handle/internals.ts"
import type { Change, Entry } from "../../src/Registry.ts"

type AnyEntry = Entry<unknown, never, unknown>
type AnyChange = Change<unknown, never, unknown>

/** What the admin API reads of a connection in a list. */
const made = (id: number, now: () => number): AnyEntry => {
  const openedAt = now()
  const look = (): Snapshot => {
    const age = now() - openedAt
    return {
      id,
      state: "open",
      local: "127.0.0.1:7000",
      remote: `10.0.${(id >> 8) & 255}.${id & 255}:${1024 + (id % 60_000)}`,
      openedAt,
      age,
      quietFor: age % 1000,
      bytesIn: Math.floor(age * 3),
      bytesOut: Math.floor(age * 2),
      messagesIn: Math.floor(age / 50),
      messagesOut: Math.floor(age / 60),
      inbox: { messages: 0, bytes: 0 },
      outbox: { messages: id % 7, bytes: (id % 7) * 100 },
      dropped: 0,
      skipped: 0,
      lost: 0,
      paused: false,
      rtt: { last: 1 + (id % 30), smoothed: 1 + (id % 30) },
      reason: undefined
    }
  }
  return {
    connection: { id, [TypeId]: { look } } as unknown as AnyEntry["connection"],
    session: undefined,
    key: `user-${id}`,
    tags: new Set(["made up"])
  }
}

const named = ({ connection: { id }, key, tags }: AnyEntry) => ({
  id,
  key,
  tags,
  session: undefined,
  first: [],
  last: []
})

export interface Busy extends Admin.Watched {
  /** Ends the oldest ones and begins as many new ones. */
  readonly replace: (count: number) => void
}

/** `count` connections. */
export const busy = (count: number): Effect.Effect<Busy> =>
  Effect.map(Effect.clockWith(Effect.succeed), (clock) => {
    const now = () => clock.currentTimeMillisUnsafe()
    const entries = new Map<number, AnyEntry>()
    const readers = new Set<Queue.Queue<AnyChange, Cause.Done>>()
    let next = 1
    const tell = (change: AnyChange): void => {
      for (const reader of readers) Queue.offerUnsafe(reader, change)
    }
    const add = (): void => {
      const entry = made(next++, now)
      entries.set(entry.connection.id, entry)
      tell({ _tag: "Added", ...named(entry), superseded: undefined })
    }
    for (let i = 0; i < count; i++) add()
    return {
      entries: Effect.sync(() => [...entries.values()]),
      get: (id) => Effect.sync(() => Option.fromNullishOr(entries.get(id)?.connection)),
      size: Effect.sync(() => entries.size),
      ended: () => Effect.succeed([]),
      changes: Stream.callback<AnyChange>((queue) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            readers.add(queue)
            Queue.offerUnsafe(queue, { _tag: "Current", entries: [...entries.values()], missed: 0 })
          }),
          () => Effect.sync(() => readers.delete(queue))
        ), { bufferSize: 4096, strategy: "sliding" }),
      replace: (count) => {
        for (const [id, entry] of [...entries].slice(0, count)) {
          entries.delete(id)
          const snapshot = entry.connection[TypeId].look()
          tell({
            _tag: "Ended",
            ...named(entry),
            snapshot: { ...snapshot, state: "ended", reason: new Closed({ by: id % 3 === 0 ? "peer" : "local" }) },
            isKeyFree: true
          })
          add()
        }
      }
    }
  })
