/** What a parent asks the admin API of its workers, and what they tell it. */
import type * as S from "../schemas.ts"

/** Where a worker wants the page to be served. Those of all workers with the same place are one. */
export interface Place {
  readonly host: string
  readonly port: number
  readonly elsewhere: boolean
  readonly hosts: ReadonlyArray<string>
  /** What a request has to know: this, one that the parent makes up, or nothing. */
  readonly token: { readonly is: string } | "any" | "none"
}

export const nameOf = ({ host, port }: Pick<Place, "host" | "port">): string => `${host}:${port}`

/** Asked by a worker: to serve its program at a place. */
export const serveAbout = "admin"

/** Told by a worker whose program is over: what it has counted, and how its servers ended. */
export const overAbout = "admin is over"

/** Asked by the parent, of what a worker has for a place. */
export const askAbout = (place: string): string => `admin ${place}`

export type Served =
  | { readonly port: number; readonly token: string | undefined }
  | { readonly failed: string }

/** What is left of a worker's program. */
export interface Last {
  readonly place: string
  readonly totals: S.Figures["totals"]
  readonly servers: ReadonlyArray<S.Server>
  readonly metrics: string
}

/** A question for a worker. `of`: a stream of changes that it was asked for. */
export type Asked =
  | { readonly op: "list"; readonly query: S.Query }
  | { readonly op: "inspect"; readonly id: number }
  | { readonly op: "close"; readonly id: number; readonly closing: S.Closing }
  | { readonly op: "closeMany"; readonly closing: S.ClosingMany }
  | { readonly op: "patch"; readonly id: number; readonly changes: Readonly<Record<string, unknown>> }
  | { readonly op: "ended"; readonly query: S.EndedQuery }
  | { readonly op: "figures" | "servers" | "pools" | "dispatchers" | "policies" | "drained" | "metrics" | "ping" }
  | { readonly op: "follow" | "unfollow" | "pull"; readonly of: number }

/** What a worker answers. */
export type Answered =
  | { readonly value: unknown }
  | { readonly failed: { readonly _tag: string; readonly message: string } }
