/** The routes of the admin API, and which action each of them is. */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as Layer from "effect/Layer"
import { oneLine } from "../../../internal/reasons/text.ts"
import type { Actions } from "./actions.ts"
import { api, Checked } from "./api.ts"
import * as S from "./schemas.ts"
import { shown } from "./views.ts"

const connections = (actions: Actions) =>
  HttpApiBuilder.group(api, "connections", (handlers) =>
    handlers
      .handle("list", ({ query }) => actions.list(query))
      .handle("inspect", ({ params: { id } }) => actions.inspect(id))
      .handle("close", ({ params: { id }, payload }) => actions.close(id, payload))
      .handle("closeMany", ({ payload }) => actions.closeMany(payload))
      .handle("patch", ({ params: { id }, payload }) => actions.patch(id, payload))
      .handle("ended", ({ query }) => actions.ended(query))
      .handle("changes", () => Effect.succeed(actions.changes)))

const ofProgram = (actions: Actions) =>
  HttpApiBuilder.group(api, "program", (handlers) =>
    handlers
      .handle("figures", () => actions.figures)
      .handle("servers", () => actions.servers)
      .handle("pools", () => actions.pools)
      .handle("dispatchers", () => actions.dispatchers)
      .handle("policies", () => actions.policies)
      .handle("drained", () => actions.drained)
      .handle("drain", () => actions.drain))

const checked = HttpApiMiddleware.layerSchemaErrorTransform(
  Checked,
  ({ cause, kind }) => Effect.fail(new S.Invalid({ message: shown(`${kind}: ${oneLine(cause.message)}`) }))
)

/** The routes of the API. */
export const handlers = (actions: Actions) =>
  HttpApiBuilder.layer(api).pipe(
    Layer.provide([connections(actions), ofProgram(actions)]),
    Layer.provide(checked)
  )
