/** What a registry tells of its connections: its entries, and how they change. */
import type { Connection } from "../../Connection.ts"
import type { Snapshot } from "../connection/core/snapshot.ts"

/**
 * What a registry that is made without sessions takes for one: anything, or none at all.
 *
 * **Details**
 *
 * It is `unknown` written out. `void` among its members is what lets `add` be called without a session.
 *
 * @category models
 * @since 0.1.0
 */
export type AnySession = {} | null | undefined | void

/**
 * One registered connection, the names it goes by, and its session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry<out In, in Out = In, out Session = AnySession> {
  readonly connection: Connection<In, Out>
  /** What the handshake of the server returned, or what was given to `add`. */
  readonly session: Session
  /** At most one living connection has a key: a user, a device. */
  readonly key: string | undefined
  /** Any number of connections share a tag: a room, a topic. */
  readonly tags: ReadonlySet<string>
}

/**
 * What a change says of its connection: that by its id, so that changes which wait for a slow reader keep no connection alive.
 *
 * @category models
 * @since 0.1.0
 */
export interface Changed<out Session> {
  readonly id: number
  readonly key: string | undefined
  readonly tags: ReadonlySet<string>
  readonly session: Session
  /** The tags that this connection is the first to have. */
  readonly first: ReadonlyArray<string>
  /** The tags that this connection was the last to have. */
  readonly last: ReadonlyArray<string>
}

/** `Change`, for any kind of entry. */
export type ChangeOf<Entry, Session> =
  | { readonly _tag: "Current"; readonly entries: ReadonlyArray<Entry>; readonly missed: number }
  | { readonly _tag: "Added"; readonly superseded: number | undefined } & Changed<Session>
  | {
    readonly _tag: "Tagged"
    readonly added: ReadonlyArray<string>
    readonly removed: ReadonlyArray<string>
  } & Changed<Session>
  | { readonly _tag: "Ended"; readonly snapshot: Snapshot; readonly isKeyFree: boolean } & Changed<Session>

/**
 * What is told of a registry of these connections; see `Registry.changes`.
 *
 * - `Current`: all that is registered now. It comes first, and again in place of changes that a slow reader missed; `missed`
 *   says how many those were.
 * - `Added`: a connection was registered. `superseded` is the id of the one that its key was taken from. A connection that is
 *   added again is told again, with its new names.
 * - `Tagged`: the tags of a connection changed; `tags` are the new ones.
 * - `Ended`: a connection is not registered any more, mostly because it ended: `snapshot` says how it looked then.
 *   `isKeyFree` is false where another connection has its key by now.
 *
 * @category models
 * @since 0.1.0
 */
export type Change<In, Out = In, Session = AnySession> = ChangeOf<Entry<In, Out, Session>, Session>
