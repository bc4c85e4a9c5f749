/** Every metric: its name, kind, unit, what it says, and the values of its label. */
import { Reason } from "../../ConnectionError.ts"
import { refusals } from "../reasons/sentences.ts"

/**
 * What a metric is: a sum that grows, a value of now, or how values are spread.
 *
 * @category models
 * @since 0.1.0
 */
export type Kind = "counter" | "gauge" | "histogram"

/** One metric. `name` and `unit` are API. */
export interface Definition {
  readonly name: string
  readonly kind: Kind
  readonly unit: "1" | "s" | "By"
  readonly help: string
  /** The label and all values that it can have: bounded, whatever peers do. */
  readonly label?: { readonly name: string; readonly values: ReadonlyArray<string> } | undefined
  /** The upper bounds of the buckets of a histogram. */
  readonly bounds?: ReadonlyArray<number> | undefined
}

type Partly = Omit<Definition, "name">

const counter = (help: string, unit: Definition["unit"] = "1"): Partly => ({ kind: "counter", unit, help })
const gauge = (help: string, unit: Definition["unit"] = "1"): Partly => ({ kind: "gauge", unit, help })
const histogram = (help: string, bounds: ReadonlyArray<number>): Partly => ({
  kind: "histogram",
  unit: "s",
  help,
  bounds
})
const by = (name: string, values: ReadonlyArray<string>, definition: Partly): Partly => ({
  ...definition,
  label: { name, values }
})

/** What counts under a value that the label does not have. */
export const other = "other"

const reasons = [...Reason.members.map(({ identifier }) => identifier), other]

const fast = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const slow = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]
const lives = [0.1, 1, 10, 60, 600, 3600, 21_600, 86_400]

/** The deadlines that end a connection. `drain`: a drain or a flush took as long as it may. */
export const rules = ["silence", "pong", "frame", "idle", "write", "age", "drain"] as const

const table = {
  // connections, a server's and a client's
  connections: by("state", ["open", "draining", "closing"], gauge("Connections now, by state.")),
  connections_paused: gauge("Connections that read nothing now, because their inbox is full."),
  connections_opened_total: counter("Connections opened."),
  connections_ended_total: by("reason", reasons, counter("Connections ended, by reason; each one once.")),
  connections_ended_by_deadline_total: by("rule", rules, counter("Connections that a deadline ended, by its rule.")),
  connection_lifetime_seconds: histogram("How long connections lived, seen at their end.", lives),
  received_bytes_total: counter("Bytes received.", "By"),
  sent_bytes_total: counter("Bytes handed to transports.", "By"),
  received_messages_total: counter("Messages received, without pings and pongs."),
  sent_messages_total: counter("Messages that outboxes accepted, without pings and pongs."),
  lost_messages_total: counter("Accepted messages that had not left when their connection ended."),
  dropped_messages_total: by(
    "policy",
    ["drop-newest", "drop-oldest"],
    counter("Messages that full outboxes dropped, by the policy that did.")
  ),
  skipped_frames_total: counter("Over-long frames that codecs were told to skip."),
  inbox_messages: gauge("Messages read and not received yet, in all inboxes."),
  inbox_bytes: gauge("Bytes of messages read and not received yet, in all inboxes.", "By"),
  outbox_messages: gauge("Messages that wait to be written, in all outboxes."),
  outbox_bytes: gauge("Bytes that wait to be written, in all outboxes.", "By"),
  outbox_largest_bytes: gauge("Bytes that wait to be written in the fullest outbox.", "By"),
  pings_sent_total: counter("Pings sent."),
  pongs_missed_total: counter("Pings sent while an earlier one had no answer."),
  round_trip_seconds: histogram("Round-trip times of pings.", fast),
  // servers
  server_accepted_total: counter("Connections that servers accepted, once they are handled or refused."),
  server_handled_total: counter("Connections whose handler started."),
  server_refused_total: by(
    "limit",
    [...refusals, ...reasons],
    counter("Connections without a handler, by the limit or the reason that refused them.")
  ),
  server_opening: gauge("Connections in their handshake, waiting for their turn, or being refused."),
  server_waiting: gauge("Connections that wait for their turn: a limit is reached."),
  server_accept_failures_total: counter("Accepts that the operating system failed, such as out of file descriptors."),
  server_handshake_seconds: histogram("From the accept to the handler: TLS, upgrade, handshake, registration.", fast),
  memory_held_bytes: gauge("Bytes that the connections of servers hold, of those that they may.", "By"),
  memory_limit_bytes: gauge("Bytes that the connections of servers may hold: `Policy.memory`.", "By"),
  // clients
  clients: by("state", ["connecting", "connected", "waiting"], gauge("Clients now, by state.")),
  client_dials_total: by("outcome", ["opened", "failed", "interrupted"], counter("Dials of clients, by outcome.")),
  client_dial_seconds: histogram("How long the dials of clients took that opened a connection.", fast),
  client_reconnects_total: counter("Waits of clients before another round of dials."),
  client_reconnect_delay_seconds: histogram("How long clients were to wait before another round of dials.", slow),
  // pools and dispatchers
  pool_connections: by(
    "state",
    ["idle", "in_use", "checking", "closing", "dialing"],
    gauge("Connections of pools now, by state.")
  ),
  pool_waiting: gauge("Borrowers that wait."),
  pool_hits_total: counter("Borrowers served at once by an idle connection."),
  pool_misses_total: counter("Borrowers that no idle connection served at once."),
  pool_waits_total: counter("Borrowers that had to wait, because nothing could be opened at once."),
  pool_wait_seconds_total: counter("How long borrowers waited altogether.", "s"),
  pool_timeouts_total: counter("Borrowers that gave up."),
  pool_rejected_total: counter("Borrowers that were turned away, because too many waited."),
  pool_dials_total: by("outcome", ["opened", "failed"], counter("Dials of pools, by outcome.")),
  pool_dial_seconds_total: counter("How long the dials of pools took altogether.", "s"),
  pool_checks_total: counter("Health checks that began."),
  pool_leaks_total: counter("Leases longer than the limit of a leak."),
  pool_retired_total: by(
    "why",
    ["stale", "unhealthy", "abandoned", "expired", "idle", "trimmed", "evicted", "closing"],
    counter("Connections that left their pool, and why.")
  ),
  dispatcher_workers: gauge("Workers of dispatchers."),
  dispatcher_busy: gauge("Workers that run a task."),
  dispatcher_waiting: gauge("Tasks that wait for a worker."),
  dispatcher_tasks_total: by(
    "outcome",
    ["succeeded", "failed", "interrupted", "refused"],
    counter("Tasks of dispatchers, by outcome.")
  ),
  // registries
  registry_connections: gauge("Connections registered."),
  registry_sweeps_total: counter("Sweeps of registries."),
  registry_swept_total: counter("Connections that sweeps closed, by a rule of the application or as overlooked."),
  registry_overlooked_total: counter("Connections that sweeps had to settle: 0 unless this library has a bug."),
  requests_total: by("outcome", ["answered", "failed", "interrupted"], counter("Requests, by outcome.")),
  request_seconds: histogram("How long requests took that were answered.", fast)
} satisfies Record<string, Partly>

export type Name = keyof typeof table

/** What all names begin with. */
export const prefix = "holdfast_"

export const definitions: ReadonlyMap<Name, Definition> = new Map(
  Object.entries(table).map(([name, definition]) => [name as Name, { name: prefix + name, ...definition }])
)
