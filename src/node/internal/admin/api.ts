/** The admin API: its paths, what they take and what they answer, and the OpenAPI document that follows from it. */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import * as S from "./schemas.ts"

/** Says what is wrong with a request. */
export class Checked extends HttpApiMiddleware.Service<Checked>()("holdfast/admin/Checked", { error: S.Invalid }) {}

const Id = { id: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)) }

const says = (summary: string) => OpenApi.annotations({ summary })

const connections = HttpApiGroup.make("connections").add(
  HttpApiEndpoint.get("list", "/api/connections", { query: S.Query, success: S.Page }).annotateMerge(
    says("Connections, filtered, sorted, a page at a time")
  ),
  HttpApiEndpoint.get("inspect", "/api/connections/:id", {
    params: Id,
    success: S.Detail,
    error: [S.NotFound, S.NoAnswer]
  })
    .annotateMerge(says("All that is known of one connection")),
  HttpApiEndpoint.post("close", "/api/connections/:id/close", {
    params: Id,
    payload: S.Closing,
    success: S.Closed,
    error: [S.NotFound, S.NoAnswer]
  }).annotateMerge(says("Close one connection: what was accepted is flushed first")),
  HttpApiEndpoint.post("closeMany", "/api/connections/close", {
    payload: S.ClosingMany,
    success: S.Closed,
    error: S.Invalid
  }).annotateMerge(says("Close connections by their ids or by a filter")),
  HttpApiEndpoint.patch("patch", "/api/connections/:id/policy", {
    params: Id,
    payload: Schema.Record(Schema.String, Schema.Unknown),
    success: Schema.Record(Schema.String, Schema.Unknown),
    error: [S.NotFound, S.Invalid, S.NoAnswer]
  }).annotateMerge(says("Change limits of a live connection: fields of a policy, as its JSON has them")),
  HttpApiEndpoint.get("ended", "/api/ended", { query: S.EndedQuery, success: S.EndedPage }).annotateMerge(
    says("Connections that have ended, the newest first")
  ),
  HttpApiEndpoint.get("changes", "/api/changes", { success: HttpApiSchema.StreamSse({ data: S.Change }) })
    .annotateMerge(says("What changes, as server-sent events; a slow reader misses changes and is told how many"))
)

const program = HttpApiGroup.make("program").add(
  HttpApiEndpoint.get("figures", "/api/figures", { success: S.Figures }).annotateMerge(says("What is counted now")),
  HttpApiEndpoint.get("servers", "/api/servers", { success: Schema.Array(S.Server) }).annotateMerge(
    says("Servers, by name")
  ),
  HttpApiEndpoint.get("pools", "/api/pools", { success: Schema.Array(S.Pool) }).annotateMerge(says("Pools, by name")),
  HttpApiEndpoint.get("dispatchers", "/api/dispatchers", { success: Schema.Array(S.Dispatcher) }).annotateMerge(
    says("Dispatchers, by name")
  ),
  HttpApiEndpoint.get("policies", "/api/policies", { success: Schema.Array(S.NamedPolicy) }).annotateMerge(
    says("Policies that new connections get, by name")
  ),
  HttpApiEndpoint.get("drained", "/api/drain", { success: S.Drain }).annotateMerge(says("How far a drain is")),
  HttpApiEndpoint.post("drain", "/api/drain", { success: S.Drain, error: S.NotOffered }).annotateMerge(
    says("Stop serving: connections are asked to leave, and the program ends once they have")
  )
)

/** The admin API of Holdfast. A filter that is misspelt must not list, or close, all connections. */
export const api = HttpApi.make("holdfast").add(connections, program).middleware(Checked).annotate(
  HttpApi.PayloadParseOptions,
  { onExcessProperty: "error" }
).annotate(HttpApi.QueryParseOptions, { onExcessProperty: "error" }).annotateMerge(
  OpenApi.annotations({
    title: "Holdfast admin",
    version: "1",
    transform: (document) => ({
      ...document,
      components: { ...document.components, securitySchemes: { token: { type: "http", scheme: "bearer" } } },
      security: [{ token: [] }]
    }),
    description:
      "Looks at the connections of a program and acts on them. Every request needs the token: `Authorization: Bearer`, " +
      "`?token=` once, or the cookie that this sets. Times are milliseconds, sizes are bytes. No content of messages is told."
  })
)
