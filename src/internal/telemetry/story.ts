/** What happened to one connection lately, and who saw its end. */
import type { Advice } from "../../ConnectionError.ts"
import type { ConnectionSpan } from "./spans.ts"

/**
 * What can happen to a connection, beside messages and pings.
 *
 * - `paused`: reading stopped, because nothing was received. `dropped`: a full outbox dropped a message.
 * - `unanswered`: a ping left while an earlier one had no answer. `stall`: we were away ourselves, for `detail` milliseconds.
 * - `peer leaves`: the peer asked to be left. `asked to leave`: we asked the peer. `draining`: nothing more is received.
 * - `closing`: nothing more is sent, and what was is flushed. `patched`: its policy was changed. `defect`: a part of it threw.
 *
 * @category models
 * @since 0.1.0
 */
export type What =
  | "paused"
  | "dropped"
  | "unanswered"
  | "stall"
  | "peer leaves"
  | "asked to leave"
  | "draining"
  | "closing"
  | "patched"
  | "defect"

/**
 * One thing that happened to a connection, or the same one `times` in a row; `at` is when it did last, on the wall clock.
 *
 * @category models
 * @since 0.1.0
 */
export interface Happening {
  readonly at: number
  readonly what: What
  /** The tag of a reason, a part of the connection, or a number; never what a peer said. */
  readonly detail: string | undefined
  readonly times: number
}

/** `at` is of the monotonic clock. */
interface Noted {
  at: number
  readonly what: What
  readonly detail: string | undefined
  times: number
}

// a reader that pauses while its outbox drops would fill the ring with two things
const lookBack = 2

/** Made when there is something to tell: an idle connection in order has none. */
export class Story {
  /** The fiber, the deadline or the caller that saw the end first. */
  seenBy: string | undefined
  /** What our last words advised the peer. */
  advised: Advice | undefined
  lostBytes = 0
  private readonly notes: Array<Noted> = []

  note(limit: number, at: number, what: What, detail: string | undefined): void {
    const { notes } = this
    for (let i = notes.length - 1; i >= Math.max(0, notes.length - lookBack); i--) {
      const noted = notes[i]!
      if (noted.what !== what || noted.detail !== detail) continue
      noted.at = at
      noted.times++
      return
    }
    notes.push({ at, what, detail, times: 1 })
    if (notes.length > limit) notes.splice(0, notes.length - limit)
  }

  /** `offset` is from the monotonic clock to the wall clock. */
  recent(offset: number): ReadonlyArray<Happening> {
    return this.notes.map(({ at, detail, times, what }) => ({ at: at + offset, what, detail, times }))
  }
}

/** A connection, as far as its story needs it. */
export interface Told {
  story: Story | undefined
  readonly span: ConnectionSpan | undefined
  readonly inForce: { readonly policy: { readonly recentEvents: number } }
  readonly timers: { readonly now: () => number }
}

// what may happen again and again is not in a span
const inSpans: ReadonlySet<What> = new Set<What>([
  "unanswered",
  "stall",
  "peer leaves",
  "asked to leave",
  "draining",
  "closing",
  "defect"
])

/** Something happened. */
export const note = (c: Told, what: What, detail?: string): void => {
  if (c.span !== undefined && inSpans.has(what)) c.span.event(what, detail === undefined ? undefined : { detail })
  const limit = c.inForce.policy.recentEvents
  if (limit > 0) (c.story ??= new Story()).note(limit, c.timers.now(), what, detail)
}

/** The end of a connection was seen; the first one counts. */
export const seen = (c: Told, by: string): void => {
  const story = c.story ??= new Story()
  story.seenBy ??= by
}

/** Of a message that is the last word of a protocol: what it advises. */
export const Advises = "~holdfast/Advises"
export const adviceIn = (message: unknown): Advice | undefined => {
  const advice = (message as { readonly [Advises]?: Advice } | null | undefined)?.[Advises]
  return advice === undefined || (advice.after === 0 && advice.spread === 0) ? undefined : advice
}
