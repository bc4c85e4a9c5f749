/** How connections and their ends are shown: no content, no session, no credential, and no text that commands a terminal or a page. */
import * as Effect from "effect/Effect"
import type { Explanation, Snapshot } from "../../../Connection.ts"
import type { Reason } from "../../../ConnectionError.ts"
import { explanationOf, sentence, textOf } from "../../../internal/connection/handle/explanation.ts"
import { TypeId } from "../../../internal/connection/handle/internals.ts"
import { visible } from "../../../internal/reasons/text.ts"
import * as Policy from "../../../Policy.ts"
import type { Entry, ExplainedEnd } from "../../../Registry.ts"
import type * as S from "./schemas.ts"

export type AnyEntry = Entry<unknown, never, unknown>

/** The names that a connection goes by. */
export interface Named {
  readonly key: string | undefined
  readonly tags: ReadonlySet<string>
}

// longer texts are cut, and so are longer lists of tags
const longest = 256
const mostTags = 20

/** A text that a peer may have chosen: what is not printed is seen as an escape. */
export const shown = (text: string): string => {
  const plain = visible(text.length > longest ? text.slice(0, longest) : text)
  return text.length > longest ? `${plain}…` : plain
}

const maybe = (text: string | undefined): string | null => text === undefined ? null : shown(text)

export const tagsOf = (tags: Iterable<string>): Array<string> => {
  const found: Array<string> = []
  for (const tag of tags) {
    if (found.length === mostTags) break
    found.push(shown(tag))
  }
  return found
}

export const rowOf = (snapshot: Snapshot, { key, tags }: Named): S.Row => ({
  id: snapshot.id,
  state: snapshot.state,
  remote: maybe(snapshot.remote),
  local: maybe(snapshot.local),
  key: maybe(key),
  tags: tagsOf(tags),
  tagCount: tags.size,
  openedAt: snapshot.openedAt,
  age: snapshot.age,
  quietFor: snapshot.quietFor,
  bytesIn: snapshot.bytesIn,
  bytesOut: snapshot.bytesOut,
  messagesIn: snapshot.messagesIn,
  messagesOut: snapshot.messagesOut,
  inbox: snapshot.inbox,
  outbox: snapshot.outbox,
  dropped: snapshot.dropped,
  lost: snapshot.lost,
  paused: snapshot.paused,
  rtt: snapshot.rtt ?? null,
  reason: snapshot.reason?._tag ?? null
})

/** Numbers and flags: texts among the facts may quote the application or the peer. */
const factsOf = (reason: Reason): Record<string, number | boolean> =>
  Object.fromEntries(
    Object.entries(reason).filter((fact): fact is [string, number | boolean] =>
      typeof fact[1] === "boolean" || (typeof fact[1] === "number" && Number.isFinite(fact[1]))
    )
  )

const adviceOf = (advice: { readonly after: number; readonly spread: number } | undefined) =>
  advice === undefined ? null : { after: advice.after, spread: advice.spread }

const endOf = ({ deadline, seenBy, snapshot: { reason }, told, who = "us" }: Explanation): S.End | null =>
  reason === undefined ? null : {
    reason: reason._tag,
    text: shown(textOf(who, reason)),
    retryable: reason.isRetryable,
    facts: factsOf(reason),
    who,
    seenBy: maybe(seenBy),
    deadline: deadline ?? null,
    told: told === undefined ? null : {
      text: maybe(told.text),
      comeBack: told.comeBack,
      code: told.code,
      advice: adviceOf(told.advice)
    }
  }

const explained = (explanation: Explanation) => ({
  lastHeardAt: explanation.lastHeardAt,
  lastWrittenAt: explanation.lastWrittenAt ?? null,
  lostLoad: explanation.lost,
  end: endOf(explanation),
  recent: explanation.recent.map(({ at, detail, times, what }) => ({ at, what, detail: maybe(detail), times })),
  words: sentence(explanation)
})

export const endedOf = ({ explanation, key, tags }: ExplainedEnd): S.Ended => ({
  ...rowOf(explanation.snapshot, { key, tags }),
  ...explained(explanation),
  endedAt: explanation.snapshot.openedAt + explanation.snapshot.age
})

const identityOf = ({ identity }: Snapshot): S.Detail["identity"] =>
  identity === undefined ? null : {
    subject: Object.fromEntries(
      Object.entries(identity.subject).map(([name, values]) => [shown(name), values.map(shown)])
    ),
    alternativeNames: identity.alternativeNames.slice(0, mostTags).map(shown),
    fingerprint: identity.fingerprint
  }

export const policyOf = (policy: Policy.Policy): Record<string, unknown> => ({ ...Policy.encode(policy) })

export const detailOf = (entry: AnyEntry): Effect.Effect<S.Detail> =>
  Effect.map(entry.connection.policy, (policy) => {
    const internals = entry.connection[TypeId]
    const explanation = explanationOf(internals)
    return {
      ...rowOf(explanation.snapshot, entry),
      ...explained(explanation),
      identity: identityOf(explanation.snapshot),
      fibers: internals.fibers.map(({ direct, name, state, worked }) => ({ name, state, worked, direct })),
      deadlines: explanation.deadlines.map(({ left, limit, rule }) => ({ rule, limit, left })),
      policy: policyOf(policy)
    }
  })

export const lookAt = ({ connection }: AnyEntry): Snapshot => connection[TypeId].look()
