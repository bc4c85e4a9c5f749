/**
 * What connections, servers, clients, pools and dispatchers do, as metrics of `effect/Metric`.
 *
 * `Metrics.layer` around a program turns them on: Prometheus and OTLP read them through `effect/observability`, and so does
 * `Metric.snapshot`.
 *
 * | metric | kind | unit | label |
 * |---|---|---|---|
 * | `holdfast_connections` | gauge |  | `state`: open, draining, closing |
 * | `holdfast_connections_paused` | gauge |  |  |
 * | `holdfast_connections_opened_total` | counter |  |  |
 * | `holdfast_connections_ended_total` | counter |  | `reason`: the tag of a `ConnectionError.Reason` |
 * | `holdfast_connections_ended_by_deadline_total` | counter |  | `rule`: silence, pong, frame, idle, write, age, drain |
 * | `holdfast_connection_lifetime_seconds` | histogram | seconds |  |
 * | `holdfast_received_bytes_total` | counter | bytes |  |
 * | `holdfast_sent_bytes_total` | counter | bytes |  |
 * | `holdfast_received_messages_total` | counter |  |  |
 * | `holdfast_sent_messages_total` | counter |  |  |
 * | `holdfast_lost_messages_total` | counter |  |  |
 * | `holdfast_dropped_messages_total` | counter |  | `policy`: drop-newest, drop-oldest |
 * | `holdfast_skipped_frames_total` | counter |  |  |
 * | `holdfast_inbox_messages` | gauge |  |  |
 * | `holdfast_inbox_bytes` | gauge | bytes |  |
 * | `holdfast_outbox_messages` | gauge |  |  |
 * | `holdfast_outbox_bytes` | gauge | bytes |  |
 * | `holdfast_outbox_largest_bytes` | gauge | bytes |  |
 * | `holdfast_pings_sent_total` | counter |  |  |
 * | `holdfast_pongs_missed_total` | counter |  |  |
 * | `holdfast_round_trip_seconds` | histogram | seconds |  |
 * | `holdfast_server_accepted_total` | counter |  |  |
 * | `holdfast_server_handled_total` | counter |  |  |
 * | `holdfast_server_refused_total` | counter |  | `limit`: a limit, or a tag of a `ConnectionError.Reason` |
 * | `holdfast_server_opening` | gauge |  |  |
 * | `holdfast_server_waiting` | gauge |  |  |
 * | `holdfast_server_accept_failures_total` | counter |  |  |
 * | `holdfast_server_handshake_seconds` | histogram | seconds |  |
 * | `holdfast_memory_held_bytes` | gauge | bytes |  |
 * | `holdfast_memory_limit_bytes` | gauge | bytes |  |
 * | `holdfast_clients` | gauge |  | `state`: connecting, connected, waiting |
 * | `holdfast_client_dials_total` | counter |  | `outcome`: opened, failed, interrupted |
 * | `holdfast_client_dial_seconds` | histogram | seconds |  |
 * | `holdfast_client_reconnects_total` | counter |  |  |
 * | `holdfast_client_reconnect_delay_seconds` | histogram | seconds |  |
 * | `holdfast_pool_connections` | gauge |  | `state`: idle, in_use, checking, closing, dialing |
 * | `holdfast_pool_waiting` | gauge |  |  |
 * | `holdfast_pool_hits_total` | counter |  |  |
 * | `holdfast_pool_misses_total` | counter |  |  |
 * | `holdfast_pool_waits_total` | counter |  |  |
 * | `holdfast_pool_wait_seconds_total` | counter | seconds |  |
 * | `holdfast_pool_timeouts_total` | counter |  |  |
 * | `holdfast_pool_rejected_total` | counter |  |  |
 * | `holdfast_pool_dials_total` | counter |  | `outcome`: opened, failed |
 * | `holdfast_pool_dial_seconds_total` | counter | seconds |  |
 * | `holdfast_pool_checks_total` | counter |  |  |
 * | `holdfast_pool_leaks_total` | counter |  |  |
 * | `holdfast_pool_retired_total` | counter |  | `why`: stale, unhealthy, abandoned, expired, idle, trimmed, evicted, closing |
 * | `holdfast_dispatcher_workers` | gauge |  |  |
 * | `holdfast_dispatcher_busy` | gauge |  |  |
 * | `holdfast_dispatcher_waiting` | gauge |  |  |
 * | `holdfast_dispatcher_tasks_total` | counter |  | `outcome`: succeeded, failed, interrupted, refused |
 * | `holdfast_registry_connections` | gauge |  |  |
 * | `holdfast_registry_sweeps_total` | counter |  |  |
 * | `holdfast_registry_swept_total` | counter |  |  |
 * | `holdfast_registry_overlooked_total` | counter |  |  |
 * | `holdfast_requests_total` | counter |  | `outcome`: answered, failed, interrupted |
 * | `holdfast_request_seconds` | histogram | seconds |  |
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Definition, definitions as all } from "./internal/telemetry/definitions.ts"
import { registered } from "./internal/telemetry/register.ts"
import { CurrentTelemetry, Telemetry } from "./internal/telemetry/telemetry.ts"

export type { Definition, Kind } from "./internal/telemetry/definitions.ts"

/**
 * Every metric: its name, kind, unit, help text, and the values of its label.
 *
 * **Details**
 *
 * Names and units are API. The values of a label are all that there will be, whatever peers do: what has no value of its own
 * counts as `other`.
 *
 * @category models
 * @since 0.1.0
 */
export const definitions: ReadonlyArray<Definition> = Array.from(all.values())

/**
 * Turns the metrics on, for what is built and run with this layer.
 *
 * **When to use**
 *
 * Once, around a whole program: provide it last. What was opened without it is not counted.
 *
 * **Details**
 *
 * Figures that connections, servers and pools have anyway are summed up when they are read, and not before: about 0.1 us for each
 * living connection. A pong, a handshake, a dial and an end update a metric when they happen. No message does.
 *
 * A metric is registered in the `MetricRegistry` that the layer is built with, and is gone with the layer. Counters of
 * connections and pools that are gone are kept.
 *
 * **Gotchas**
 *
 * Two of these layers with one `MetricRegistry` have the same metrics, and those of the later one are seen.
 *
 * **Example** (A page for Prometheus)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { PrometheusMetrics } from "effect/observability"
 * import { Codec, Connection, Metrics, Server } from "holdfast"
 *
 * const server = Server.run({
 *   open: Connection.make({ codec: Codec.lines() }),
 *   handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 * })
 *
 * // or `PrometheusMetrics.layerHttp()`, which serves it at `/metrics` of a router
 * const page = PrometheusMetrics.format()
 *
 * const program = Effect.all([server, Effect.delay(page, "1 minute")], { concurrency: 2 }).pipe(
 *   Effect.provide(Metrics.layer)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.effect(
  CurrentTelemetry,
  Effect.contextWith((context: Context.Context<never>) => {
    const telemetry = new Telemetry()
    const remove = registered(telemetry.collector, context)
    return Effect.as(Effect.addFinalizer(() => Effect.sync(remove)), telemetry)
  })
)
