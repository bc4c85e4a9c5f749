/** What the admin API looks at and acts on: a registry, and what else a program gives it. */
import type * as Effect from "effect/Effect"
import type { Stats as PoolStats } from "../../../ConnectionPool.ts"
import type { Stats as DispatcherStats } from "../../../Dispatcher.ts"
import type { Policy } from "../../../Policy.ts"
import type { Registry } from "../../../Registry.ts"
import type { Stats as ServerStats } from "../../../Server.ts"

/** A registry of any messages and sessions, as far as it is looked at. */
export type Watched = Pick<Registry<unknown, never, unknown>, "entries" | "get" | "changes" | "ended" | "size">

type Named<A> = Readonly<Record<string, A>>

/** A part of a program that says how it is. */
export interface Counting<out A> {
  readonly stats: Effect.Effect<A>
}

export interface Program {
  readonly registry: Watched
  readonly servers?: Named<Counting<ServerStats>> | undefined
  readonly pools?: Named<Counting<PoolStats>> | undefined
  readonly dispatchers?: Named<Counting<DispatcherStats>> | undefined
  readonly policies?: Named<Policy> | undefined
  readonly drain?: Effect.Effect<void> | undefined
}
