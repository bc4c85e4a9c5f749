/** How a connection is, or why it ended, in all that is known of it. */
import type { Advice, Reason } from "../../../ConnectionError.ts"
import { rowOf, toldOf, webSocketCode } from "../../reasons/reason.ts"
import { oneLine, seconds } from "../../reasons/text.ts"
import type { rules as deadlineNames } from "../../telemetry/definitions.ts"
import type { Happening } from "../../telemetry/story.ts"
import { guarded } from "../core/lifecycle.ts"
import type { Snapshot } from "../core/snapshot.ts"
import { type Conversation, reasonOf } from "../core/state.ts"
import { deadlineOf, type Remaining, remaining } from "../deadlines.ts"

/**
 * Who ended a connection: the peer, by a word of its own or by breaking a rule; us, by a call, a policy or a stop; the network,
 * which reset it or fell silent; a mistake in the program.
 *
 * @category models
 * @since 0.1.0
 */
export type Who = "peer" | "us" | "network" | "program"

/**
 * A deadline that ended a connection; `drain`: a drain or a flush took as long as it may.
 *
 * @category models
 * @since 0.1.0
 */
export type Deadline = typeof deadlineNames[number]

/**
 * All that is known of a connection: how it is, or why it ended. Times are milliseconds on the wall clock.
 *
 * @category models
 * @since 0.1.0
 */
export interface Explanation {
  /** How it looks, or looked at its end, with the reason and its facts, bytes and round-trip times. */
  readonly snapshot: Snapshot
  /** Who ended it; undefined while it is open. */
  readonly who: Who | undefined
  /**
   * What saw the end first: a fiber (`reader`, `writer`, `heartbeat`, `deadlines`), `outbox`, `close`, `drain`, `stop` of a
   * server, `scope`; undefined while it is open. Of HTTP, whose fibers are Node's: what would have seen it.
   */
  readonly seenBy: string | undefined
  /** The deadline that ended it, if one did; `drain`: a drain or a flush took as long as it may. */
  readonly deadline: Deadline | undefined
  readonly lastHeardAt: number
  /** When messages or a ping were handed to the transport last; undefined: never. */
  readonly lastWrittenAt: number | undefined
  /** What was accepted and never left: messages and their bytes. */
  readonly lost: { readonly messages: number; readonly bytes: number }
  /** What the peer was told, where the end was ours to tell. */
  readonly told: {
    /** Undefined where the reason is none of the peer's business. */
    readonly text: string | undefined
    readonly comeBack: boolean
    /** That of a close frame; of an HTTP connection the status of its last answer. */
    readonly code: number
    /** When to come back, where the protocol said so. */
    readonly advice: Advice | undefined
  } | undefined
  /** What the peer last advised. */
  readonly advice: Advice | undefined
  /** What it waits for, and for how long still; none once it has ended. */
  readonly deadlines: ReadonlyArray<Remaining>
  /** What happened to it lately, oldest first: at most `Policy.recentEvents`. */
  readonly recent: ReadonlyArray<Happening>
}

const byTag: Readonly<Partial<Record<Reason["_tag"], Who>>> = {
  Reset: "network",
  TransportFailed: "network",
  SilenceTimeout: "network",
  PongTimeout: "network",
  OpenFailed: "network",
  OpenTimeout: "network",
  HandshakeTimeout: "peer",
  FrameTimeout: "peer",
  WriteStalled: "peer",
  SlowConsumer: "peer",
  TooManyPings: "peer",
  RateExceeded: "peer",
  UnsupportedVersion: "peer",
  ProtocolViolation: "peer",
  FrameTooLong: "peer",
  InvalidLength: "peer",
  Truncated: "peer",
  Defect: "program",
  MessageTooLarge: "program",
  OutboxFull: "program"
}

const whoOf = (reason: Reason): Who => {
  if (reason._tag === "Closed") return reason.by === "peer" ? "peer" : "us"
  if (reason._tag === "InvalidMessage") return reason.direction === "decode" ? "peer" : "program"
  return byTag[reason._tag] ?? "us"
}

const toldTo = (who: Who, reason: Reason, advice: Advice | undefined): Explanation["told"] => {
  if (who === "network" || (who === "peer" && (reason._tag === "Closed" || reason._tag === "Truncated"))) {
    return undefined
  }
  const comeBack = rowOf(reason).comeBack?.(reason) ?? reason.isRetryable
  return { text: toldOf(reason), comeBack, code: webSocketCode(reason), advice }
}

export const explain = <In, Out>(c: Conversation<In, Out>, snapshot: Snapshot): Explanation => {
  const { facts, lifecycle, outbox, pings, story } = c
  const offset = c.openedAt - c.opened
  const error = reasonOf(lifecycle)
  const isPeers = c.hasPeerEnded || c.closeFrame !== undefined
  const who = error === undefined ? undefined : isPeers ? "peer" : whoOf(error.reason)
  const now = c.timers.now()
  return {
    snapshot,
    who,
    seenBy: error === undefined ? undefined : story?.seenBy,
    deadline: error === undefined ? undefined : deadlineOf(c, error.reason),
    lastHeardAt: facts.heardAt + offset,
    lastWrittenAt: outbox.written === 0
      ? undefined
      : offset + (pings.sent === 0 ? facts.sentAt : Math.max(facts.sentAt, pings.lastAt)),
    lost: { messages: c.lost, bytes: story?.lostBytes ?? 0 },
    told: who === undefined ? undefined : toldTo(who, error!.reason, story?.advised),
    advice: error?.advice ?? c.advice,
    deadlines: lifecycle._tag === "Ended" ? [] : guarded(c, "transport", () => remaining(c, now)) ?? [],
    recent: story?.recent(offset) ?? []
  }
}

/** What is known of a connection that has no fibers, such as one of HTTP, beside its snapshot. */
export type Known =
  & Partial<
    Pick<Explanation, "seenBy" | "deadline" | "lastWrittenAt" | "lost" | "deadlines" | "recent">
  >
  & {
    /** What the peer was told, with the code it was told by; undefined: nothing. */
    readonly toldCode?: number | undefined
  }

/** As far as a snapshot and what else is `known` tell it. */
export const explainSnapshot = (snapshot: Snapshot, known: Known): Explanation => {
  const { age, lost, openedAt, quietFor, reason } = snapshot
  const { toldCode, ...facts } = known
  const who = reason === undefined ? undefined : whoOf(reason)
  const told = who === undefined || toldCode === undefined ? undefined : toldTo("us", reason!, undefined)
  return {
    snapshot,
    who,
    seenBy: undefined,
    deadline: undefined,
    lastHeardAt: openedAt + age - quietFor,
    lastWrittenAt: undefined,
    lost: { messages: lost, bytes: 0 },
    advice: undefined,
    deadlines: [],
    recent: [],
    ...facts,
    told: told === undefined ? undefined : { ...told, code: toldCode! }
  }
}

export const explanationOf = (internals: {
  readonly explain?: (() => Explanation) | undefined
  readonly look: () => Snapshot
}): Explanation => internals.explain?.() ?? explainSnapshot(internals.look(), {})

const whoSays: Readonly<Record<Who, string>> = {
  peer: "by the peer",
  us: "by us",
  network: "by the network",
  program: "by a mistake in the program"
}

/** What a system says of the network is safe to show; other texts are those that a peer may read. */
export const textOf = (who: Who | undefined, reason: Reason): string =>
  who === "network" ? reason.message : toldOf(reason) ?? reason._tag

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`

/** An explanation as one line: the same in logs, in the terminal and on a page. */
export const sentence = (explanation: Explanation): string => {
  const { deadline, lastHeardAt, lastWrittenAt, lost, recent, seenBy, snapshot, told, who } = explanation
  const { age, bytesIn, bytesOut, id, messagesIn, messagesOut, openedAt, reason, remote, rtt, state } = snapshot
  const at = openedAt + age
  const ago = (time: number): string => `${seconds(Math.max(0, Math.round(at - time)))} before`
  const saw = deadline !== undefined ? `its ${deadline} deadline` : seenBy === undefined ? undefined : `its ${seenBy}`
  const heard = `last heard ${ago(lastHeardAt)}`
  return oneLine(
    [
      `connection ${id}${remote === undefined ? "" : ` (${remote})`} ${
        reason === undefined ? `is ${state}` : `ended ${whoSays[who ?? "us"]}: ${textOf(who, reason)}`
      }${saw === undefined ? "" : ` (seen by ${saw})`}`,
      `open for ${seconds(Math.round(age))}, ${heard}${
        lastWrittenAt === undefined ? "" : `, last written ${ago(lastWrittenAt)}`
      }`,
      `${counted(bytesIn, "byte")} and ${counted(messagesIn, "message")} in, ${counted(bytesOut, "byte")} and ${
        counted(messagesOut, "message")
      } out`,
      rtt === undefined ? "" : `round trip ${Math.round(rtt.smoothed)} ms`,
      lost.messages === 0 ? "" : `lost ${counted(lost.messages, "message")} (${counted(lost.bytes, "byte")})`,
      told === undefined ? "" : `the peer was told ${told.comeBack ? "to come back" : "not to come back"}`,
      recent.length === 0
        ? ""
        : `lately: ${
          recent.map(({ at, detail, times, what }) =>
            `${what}${detail === undefined ? "" : ` ${detail}`}${times === 1 ? "" : ` ${times} times`} ${ago(at)}`
          ).join(", ")
        }`
    ].filter((part) => part !== "").join("; ")
  )
}
