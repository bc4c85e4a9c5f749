/** What an engine does for a fleet: who lives, who holds which key, and one inbox for each node. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { inBrackets } from "../reasons/text.ts"

/**
 * The rank of a claim: of two claims of one key, the one with the greater token is the newer login, on every node.
 *
 * **Details**
 *
 * Tokens are compared by `epoch` first, then by `number`; see `isNewer`. A number that an engine counts anyway will do: an
 * `INCR` of Redis, the revision of a NATS bucket. It may have gaps.
 *
 * @category models
 * @since 0.1.0
 */
export interface Token {
  /** The epoch of the engine in which the login was claimed first. */
  readonly epoch: number
  /** Greater than the number of every earlier claim of the same key in the same epoch. A safe integer. */
  readonly number: number
}

/**
 * So many leases long every engine remembers which login of a key was the newest one, after the key was given back or the lease of its
 * node has ended.
 */
export const remembered = 100

/**
 * Whether a token is greater than another one, or there is no other one.
 *
 * @category tokens
 * @since 0.1.0
 */
export const isNewer = (token: Token, than: Token | undefined): boolean =>
  than === undefined || token.epoch > than.epoch || (token.epoch === than.epoch && token.number > than.number)

/**
 * Which node holds a key, by which claim.
 *
 * @category models
 * @since 0.1.0
 */
export interface Holder {
  readonly node: string
  readonly token: Token
}

/**
 * A node that has a lease.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member {
  readonly node: string
  /** It stops: what it said with its last `renew`. */
  readonly isLeaving: boolean
}

/**
 * What became of a claim.
 *
 * - `Claimed`: the directory names this node as the holder, with `token`.
 * - `Taken`: nothing has changed: the directory names `holder`, which has a lease. `token` is that of the claim: a new login
 *   takes the key from the holder with it, once that one serves the key no more.
 *
 * @category models
 * @since 0.1.0
 */
export type Claim =
  | { readonly _tag: "Claimed"; readonly token: Token }
  | { readonly _tag: "Taken"; readonly token: Token; readonly holder: Holder }

/**
 * How a key is claimed.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClaimOptions {
  /** The token that the claim has already; it may be of an earlier epoch. Without it the engine gives it a new one. */
  readonly as?: Token | undefined
  /** The token of a holder that serves the key no more: this holder, and no other one, may be replaced. */
  readonly over?: Token | undefined
  /** A login that does not want the key of a holder: where one has it, no mark is left, and the token of the answer is of no use. */
  readonly onlyIfFree?: boolean | undefined
}

/**
 * What comes out of an inbox.
 *
 * - `Batch`: what another node, or this one, has published to this node.
 * - `Gap`: batches are missing here; `count` is how many, where the engine knows that.
 *
 * @category models
 * @since 0.1.0
 */
export type Arrival =
  | { readonly _tag: "Batch"; readonly bytes: Uint8Array }
  | { readonly _tag: "Gap"; readonly count: number | undefined }

/**
 * Why an engine did not do what it was asked.
 *
 * - `unreachable`: the engine did not answer, or refused. Whether it did what it was asked is not known.
 * - `lease`: the engine does not know the lease of this node, or that has ended. Nothing was done.
 * - `epoch`: the engine has another epoch than the session. Nothing was done.
 * - `size`: the batch is larger than the engine takes. Nothing was published.
 *
 * @category errors
 * @since 0.1.0
 */
export class BackplaneError extends Data.TaggedError("BackplaneError")<{
  readonly reason: "unreachable" | "lease" | "epoch" | "size"
  /** What the client of the engine said. */
  readonly cause?: unknown
}> {
  override get message(): string {
    switch (this.reason) {
      case "unreachable":
        return `the engine of the fleet does not answer: see that it runs, and that this node reaches it${
          inBrackets(this.cause)
        }`
      case "lease":
        return "the lease of this node has ended: it joins the fleet again by itself"
      case "epoch":
        return "the engine of the fleet has lost what it knew: this node joins again by itself"
      case "size":
        return "a batch is larger than the engine takes: send smaller messages, or raise the engine's limit"
    }
  }
}

/**
 * One stay of a node in the fleet: from `Backplane.join` until its scope closes, or until an operation fails with `lease` or
 * `epoch`, or `renew` or `take` fails at all. Then the fleet closes the scope and joins again, with the same name.
 *
 * @category models
 * @since 0.1.0
 */
export interface Session {
  /**
   * Which memory the engine has, as a number that grows: another one whenever claims may have been lost (an engine that came
   * back empty, or fell back to a copy that lags). The time of the engine at which it was empty, in milliseconds, will do.
   */
  readonly epoch: number
  /**
   * How many milliseconds ago the epoch began, by the clock of the engine, when this session was joined; `Infinity` for an
   * engine that had no memory to lose. In an epoch younger than a lease the fleet holds new logins back, for a node may still
   * serve what it had claimed in the epoch before.
   */
  readonly age: number
  /**
   * Makes the lease of this node last from now on for as long as it was joined for, and says whether the node is leaving.
   * Fails with `lease` where the lease has ended: it must not begin anew, for others may have taken the keys.
   */
  readonly renew: (isLeaving: boolean) => Effect.Effect<void, BackplaneError>
  /** The nodes that have a lease now; with this one. */
  readonly nodes: Effect.Effect<ReadonlyArray<Member>, BackplaneError>
  /**
   * Makes this node the holder of a key, in one step that no other claim comes between:
   *
   * - where no node that has a lease holds it, and, for a claim made again (`as`), none held it last with a greater token: a node
   *   that is cut off may have that connection still, or the older one that claims again. An engine remembers the newest login for a
   *   hundred leases or so after its key was given back, or its lease has ended;
   * - where this node holds it with a smaller token, or the same;
   * - where another node holds it with a smaller token, and that is the token `over`.
   *
   * Otherwise it is `Taken`. A holder that is replaced serves the key no more: the fleet has seen to it.
   *
   * A claim that is taken by a holder with a smaller token, and has no `onlyIfFree`, leaves a mark at the key: that this node, with this token, wants it.
   * The greatest one counts, until a claim with a token as great is made. From then on a claim that the holder makes again
   * (`as` a smaller token than the mark) is `Taken` by the node and the token of the mark: a holder that has not heard of a
   * newer login learns of it so.
   */
  readonly claim: (key: string, options?: ClaimOptions) => Effect.Effect<Claim, BackplaneError>
  /**
   * Removes a key from the directory, where that names this node with this very token. Otherwise nothing happens. The node and the
   * token are remembered, or those of the mark at the key, where there is one: a claim made again with a smaller token is `Taken`
   * by them, though no node holds the key.
   */
  readonly release: (key: string, token: Token) => Effect.Effect<void, BackplaneError>
  /**
   * The holder of a key, when its node has a lease. It should see every claim that was answered before it was asked. It may
   * follow the directory and lag by a moment: a node that has lost a key says so, and the fleet asks again.
   */
  readonly find: (key: string) => Effect.Effect<Holder | undefined, BackplaneError>
  /**
   * Hands a batch to the engine for the inbox of a node, and ends when the engine has it. `nobody`: no inbox takes it. `sent`
   * does not say that it arrived.
   */
  readonly publish: (node: string, batch: Uint8Array) => Effect.Effect<"sent" | "nobody", BackplaneError>
  /**
   * Takes what has come, in order, and waits where there is nothing. Batches of one session arrive in the order of their
   * `publish`, each at most once. A batch that was lost is told by a `Gap` ahead of every batch that was published later. The
   * inbox begins before `join` ends, and holds a bounded number of batches: what is too much is a gap.
   */
  readonly take: Effect.Effect<NonEmptyReadonlyArray<Arrival>, BackplaneError>
  /** Ends the lease of this node now; its keys are free with that, and remembered as if it had released them. The last that is called. */
  readonly leave: Effect.Effect<void, BackplaneError>
}

/**
 * How a node joins.
 *
 * @category models
 * @since 0.1.0
 */
export interface JoinOptions {
  /** The name of this node; no other process has it. At most 64 of the characters `A-Z a-z 0-9 _ -`. */
  readonly node: string
  /** How long its lease lasts, in milliseconds, at least 1000. All nodes of a fleet have the same. */
  readonly lease: number
}

/**
 * An engine that connects the nodes of a fleet: it knows who lives, who holds which key, and carries batches to nodes.
 *
 * **When to use**
 *
 * To write an engine for what you run already. An application gives a ready one to its fleet and calls nothing of this.
 *
 * **Details**
 *
 * - `Fleet` asks for few guarantees, and makes its own of them: the order of tokens, leases that end by the clock of the
 *   engine, one inbox a node, in order for each sender. It measures each lease by its own clock too, from before it asked.
 * - The fleet puts a time limit around each operation and may interrupt it: an engine needs none of its own.
 * - Claims, finds and publishes run concurrently, many at once. `take` and `renew` are called by one fiber each.
 * - Nothing may throw. `BackplaneContract` of `holdfast/testing` checks all of this for any engine.
 *
 * **Example** (What an engine looks like)
 *
 * ```ts
 * import { Effect } from "effect"
 * import type { Scope } from "effect"
 * import type { Backplane } from "holdfast"
 *
 * // made of the client of your engine
 * declare const join: (
 *   options: Backplane.JoinOptions
 * ) => Effect.Effect<Backplane.Session, Backplane.BackplaneError, Scope.Scope>
 *
 * const engine: Backplane.Engine = { name: "my engine", largest: 1_000_000, join }
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface Engine {
  /** Its name in logs. */
  readonly name: string
  /** The largest batch it takes, in bytes. A fleet makes batches of at most 64 KiB, but one large message may need more. */
  readonly largest: number
  /**
   * Gives the node a lease and an inbox. The end of the scope ends the inbox and lets go of the engine, but **not** the lease:
   * a node that has lost its connection still serves its keys until its lease ends.
   */
  readonly join: (options: JoinOptions) => Effect.Effect<Session, BackplaneError, Scope.Scope>
}
