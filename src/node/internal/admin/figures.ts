/** What is counted now: the connections of the registry, and the totals of metrics, servers, pools and dispatchers. */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Name } from "../../../internal/telemetry/definitions.ts"
import { definitions } from "../../../internal/telemetry/definitions.ts"
import { type Telemetry, telemetryOf } from "../../../internal/telemetry/telemetry.ts"
import type { Counting, Program } from "./program.ts"
import type * as S from "./schemas.ts"
import { lookAt, shown } from "./views.ts"

// readers of the stream share a look at all connections: milliseconds
const freshFor = 500

const totalsOf = ({ collector }: Telemetry): NonNullable<S.Figures["totals"]> => {
  const sum = (name: Name): number => {
    const { label } = definitions.get(name)!
    return label === undefined
      ? collector.figure(name)
      : label.values.reduce((sum, value) => sum + collector.figure(name, value), 0)
  }
  return {
    opened: sum("connections_opened_total"),
    ended: sum("connections_ended_total"),
    accepted: sum("server_accepted_total"),
    refused: sum("server_refused_total"),
    receivedBytes: sum("received_bytes_total"),
    sentBytes: sum("sent_bytes_total"),
    receivedMessages: sum("received_messages_total"),
    sentMessages: sum("sent_messages_total"),
    lostMessages: sum("lost_messages_total"),
    droppedMessages: sum("dropped_messages_total")
  }
}

const count = (
  { registry }: Program,
  telemetry: Telemetry | undefined
): Effect.Effect<S.Figures> =>
  Effect.gen(function*() {
    const connections = { open: 0, draining: 0, closing: 0 }
    const inbox = { messages: 0, bytes: 0 }
    const outbox = { messages: 0, bytes: 0 }
    const entries = yield* registry.entries
    for (const entry of entries) {
      const snapshot = lookAt(entry)
      connections[snapshot.state === "ended" ? "closing" : snapshot.state]++
      inbox.messages += snapshot.inbox.messages
      inbox.bytes += snapshot.inbox.bytes
      outbox.messages += snapshot.outbox.messages
      outbox.bytes += snapshot.outbox.bytes
    }
    const { heapUsed, rss } = process.memoryUsage()
    return {
      at: yield* Clock.currentTimeMillis,
      connections,
      registered: entries.length,
      totals: telemetry === undefined ? null : totalsOf(telemetry),
      inbox,
      outbox,
      memory: { rss, heapUsed },
      uptime: Math.round(process.uptime() * 1000)
    }
  })

/** Counts, and looks at no connection twice within half a second. */
export const figuresOf = (program: Program, context: Context.Context<never>): Effect.Effect<S.Figures> => {
  const telemetry = telemetryOf(context)
  let last: S.Figures | undefined
  return Effect.flatMap(
    Clock.currentTimeMillis,
    (now) =>
      last !== undefined && now - last.at < freshFor && now >= last.at
        ? Effect.succeed(last)
        : Effect.tap(count(program, telemetry), (figures) =>
          Effect.sync(() => {
            last = figures
          }))
  )
}

const named = <A, B>(
  all: Readonly<Record<string, Counting<A>>> | undefined,
  show: (name: string, stats: A) => B
): Effect.Effect<ReadonlyArray<B>> =>
  Effect.forEach(
    Object.entries(all ?? {}),
    ([name, { stats }]) => Effect.map(stats, (stats) => show(shown(name), stats))
  )

export const serversOf = ({ servers }: Program): Effect.Effect<ReadonlyArray<S.Server>> =>
  named(servers, (name, { connections, opened, phase, refused, waiting }) => ({
    name,
    phase,
    connections,
    left: Object.values(connections).reduce((sum, count) => sum + count, 0),
    waiting,
    opened,
    refused
  }))

export const poolsOf = ({ pools }: Program) => named(pools, (name, stats) => ({ name, ...stats }))

export const dispatchersOf = ({ dispatchers }: Program) => named(dispatchers, (name, stats) => ({ name, ...stats }))
