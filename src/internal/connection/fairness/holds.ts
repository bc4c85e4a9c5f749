/** What keeps a connection from reading on, beside its end: an inbox that is full, pongs, rates, the memory of all. */
import * as Effect from "effect/Effect"
import { Gate } from "../../scheduling/gate.ts"
import { askEvery, stoppedReading } from "../core/facts.ts"
import type { Conversation } from "../core/state.ts"
import { waitFor } from "./rates.ts"

type Held =
  & Pick<
    Conversation<never, never>,
    "awaitsMemory" | "hold" | "holding" | "inForce" | "isLost" | "outbox" | "rates" | "timers" | "turns"
  >
  & {
    readonly inbox: Pick<Conversation<never, never>["inbox"], "awaitRoom" | "isFull">
    readonly lifecycle: Conversation<never, never>["lifecycle"]
  }

/** Pongs count to the outbox of the peer that asked for them, the ones that newer ones replaced as well. */
const owesPongs = ({ inForce: { limits }, outbox: { pongs } }: Held): boolean =>
  pongs !== undefined && pongs.owed >= limits.outboxMessages

/** Whether the next read has to wait. */
export const isHeld = (c: Held): boolean =>
  c.inbox.isFull || owesPongs(c) || c.holding?.mustWait === true ||
  (c.rates !== undefined && waitFor(c, c.timers.now()) > 0)

/** Waits until nothing keeps the connection from reading on, or it ends. */
export const untilFree = (c: Held): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (c.lifecycle._tag !== "Open" || c.isLost) return Effect.void
    if (c.inbox.isFull) return Effect.andThen(c.inbox.awaitRoom(), untilFree(c))
    const at = c.timers.now()
    const wait = waitFor(c, at)
    c.awaitsMemory = c.holding?.mustWait === true
    if (wait <= 0 && !owesPongs(c) && !c.awaitsMemory) return Effect.void
    const gate = c.hold ??= new Gate(c.turns, false)
    gate.close()
    if (wait <= 0) return Effect.andThen(gate.await, untilFree(c))
    const timer = c.timers.at(at + wait, () => gate.open())
    const waiting = Effect.ensuring(gate.await, Effect.sync(() => timer.cancel()))
    return Effect.andThen(waiting, untilFree(c))
  })

/** The rates are other ones. */
export const patchedRates = (c: Held): void => {
  const { byteRate, messageRate } = c.inForce.limits
  if (messageRate === Infinity && byteRate === Infinity) c.rates = undefined
  c.hold?.open()
}

/** What is not read shows no end either: the transport is asked for it. */
export const stopReading = <In, Out>(c: Conversation<In, Out>): void => {
  stoppedReading(c.facts)
  if (c.transport.fault !== undefined) c.wakeUp.secondBy(c.timers.now() + askEvery)
}

/** The memory of all connections is used up: the transport reads nothing, where it can be told so, and the reader waits in its pull. */
export const pause = <In, Out>(c: Conversation<In, Out>): void => {
  if (c.transport.pause === undefined || !c.isPulling || c.lifecycle._tag !== "Open") return
  c.awaitsMemory = c.isPaused = true
  c.transport.pause()
  stopReading(c)
}
