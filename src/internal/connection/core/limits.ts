/** The limits of a policy as the numbers that are compared with. */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type { ConnectionError } from "../../../ConnectionError.ts"
import { Policy } from "../../../Policy.ts"
import { definitionsOf, numberOf } from "../../limits/definition.ts"
import { isGiven } from "../../limits/limitSet.ts"

const of = definitionsOf(Policy.fields)

type Numeric = {
  [K in keyof typeof of]: Policy[K] extends number | Duration.Duration ? K : never
}[keyof typeof of]

/** One limit as a number: milliseconds, bytes or a count. What is off is `Infinity`; `minPingEvery`, `off` of its definition. */
export const limitOf = (policy: Policy, name: Numeric): number => numberOf(of[name], policy[name])

/** The limits that a connection compares with, as numbers: what is off is `Infinity`, for `minPingEvery` 0. */
const limitsOf = (policy: Policy) => ({
  open: limitOf(policy, "open"),
  handshake: limitOf(policy, "handshake"),
  pingEvery: limitOf(policy, "pingEvery"),
  pong: limitOf(policy, "pong"),
  misses: policy.misses,
  minPingEvery: limitOf(policy, "minPingEvery"),
  /** Whether it was given: as a default it is in force at a server alone. */
  isMinPingGiven: isGiven(policy, "minPingEvery"),
  silence: limitOf(policy, "silence"),
  writeStall: limitOf(policy, "writeStall"),
  frame: limitOf(policy, "frame"),
  idle: limitOf(policy, "idle"),
  maxAge: limitOf(policy, "maxAge"),
  maxAgeGrace: limitOf(policy, "maxAgeGrace"),
  halfClose: limitOf(policy, "halfClose"),
  drain: limitOf(policy, "drain"),
  messageRate: limitOf(policy, "messageRate"),
  byteRate: limitOf(policy, "byteRate"),
  rateBurst: limitOf(policy, "rateBurst"),
  stopGrace: limitOf(policy, "stopGrace"),
  inboxMessages: policy.inboxMessages,
  inboxBytes: policy.inboxBytes,
  maxDecoded: policy.maxDecoded,
  outboxMessages: policy.outboxMessages,
  outboxBytes: policy.outboxBytes
})

/** The limits of a policy that are asked for every message and every look at the clock. */
export interface ConnectionLimits extends Readonly<ReturnType<typeof limitsOf>> {}

/** A policy, and its limits as numbers: the one value that changes when a connection is patched. */
export interface InForce {
  readonly policy: Policy
  readonly limits: ConnectionLimits
}

/** What a server opens a connection for. */
export interface Opening {
  /** Set where that takes longer than a handshake may: why the connection, if there is one already, ends. */
  readonly lateness: ConnectionError | undefined
}

/** Given to what a server opens. A server holds its peer to `minPingEvery` by default. */
export const AtServer = Context.Reference<Opening | undefined>("holdfast/connection/AtServer", {
  defaultValue: () => undefined
})

export const inForce = (policy: Policy): InForce => ({ policy, limits: limitsOf(policy) })
