/** The stop of a server, at one connection: say goodbye, read on for a while, read what has come, receive nothing more. */
import * as Result from "effect/Result"
import * as ConnectionError from "../../ConnectionError.ts"
import { seen } from "../telemetry/story.ts"
import { readsAgain, type Stopping } from "./core/facts.ts"
import { drain, guarded, leave } from "./core/lifecycle.ts"
import { offerControl } from "./core/outbox.ts"
import type { Conversation } from "./core/state.ts"

// milliseconds for a client of the native protocol to hear the goodbye: a round trip, also by satellite
const mostHearing = 1000

// turns of the event loop after which a read that was due has come: at least one of them polls after it began
const turnsOfRead = 3

// a turn that brought as much as one read of Node takes (64 KiB) may have left more
const wholeRead = 64 * 1024

// what the kernel can have had for us (Linux takes 6 MiB for one connection): what comes beyond was sent later
const mostHeld = 8 * 1024 * 1024

/** A ping behind the goodbye, where its pong says that the peer sends nothing new. */
const fence = <In, Out>(c: Conversation<In, Out>, at: number): number | undefined => {
  const { heartbeat } = c.setup
  if (heartbeat?.hearsGoodbye !== true || c.way.ping === undefined) return undefined
  const token = c.pings.send(at)
  const encoded = guarded(c, "heartbeat", () => c.way.ping!(token))
  if (encoded === undefined || Result.isFailure(encoded)) return undefined
  offerControl(c.outbox, encoded.success)
  return token
}

/** Asks the peer to finish, and receives what had come by then, or comes within `Policy.stopGrace`. */
export const stop = <In, Out>(c: Conversation<In, Out>, reason: ConnectionError.Reason): void => {
  leave(c, reason)
  if (c.lifecycle._tag !== "Open" || c.stopping !== undefined) return
  const at = c.timers.now()
  const { limits } = c.inForce
  const by = at + limits.drain
  const grace = Math.min(by, at + limits.stopGrace)
  const token = fence(c, at)
  const until = token === undefined ? grace : Math.min(by, Math.max(grace, at + mostHearing))
  c.stopping = { reason: ConnectionError.make(reason), by, grace, until, token, from: undefined, isLooking: false }
  beginBy(c, c.stopping, until)
}

const beginBy = <In, Out>(c: Conversation<In, Out>, stopping: Stopping, until: number): void => {
  stopping.until = until
  if (until > c.timers.now()) c.wakeUp.secondBy(until)
  else lastRead(c)
}

/** The peer has answered a ping: where that was the one behind the goodbye, it sends nothing new. */
export const heard = <In, Out>(c: Conversation<In, Out>): void => {
  const { pings, stopping } = c
  if (stopping?.token === undefined || stopping.from !== undefined || !pings.isAnswered(stopping.token)) return
  stopping.token = undefined
  beginBy(c, stopping, stopping.grace)
}

/**
 * Reads what has come, and drains. A connection that reads has it after a few turns of the event loop; one without room for
 * it goes on when it has (`resumed`), or ends with the drain.
 */
export const lastRead = <In, Out>(c: Conversation<In, Out>): void => {
  const { stopping } = c
  if (stopping === undefined || c.lifecycle._tag !== "Open") return
  seen(c, "stop")
  if (stopping.from !== undefined && c.timers.now() >= stopping.by) return drain(c, stopping.reason, 0)
  stopping.from ??= c.bytesIn
  stopping.until = undefined
  if (!stopping.isLooking) look(c, stopping, stopping.from)
}

const look = <In, Out>(c: Conversation<In, Out>, stopping: Stopping, from: number): void => {
  const before = c.bytesIn
  stopping.isLooking = true
  c.turns.after(turnsOfRead, () => {
    stopping.isLooking = false
    if (c.lifecycle._tag !== "Open") return
    c.acts.handleArrived(c)
    if (c.lifecycle._tag !== "Open") return
    if (c.bytesIn - from < mostHeld) {
      if (c.facts.readingSince === undefined) {
        stopping.until = stopping.by
        return c.wakeUp.secondBy(stopping.by)
      }
      // others had their turn first, or more is waiting
      if (!c.isPulling || c.bytesIn - before >= wholeRead) return look(c, stopping, from)
    }
    drain(c, stopping.reason, Math.max(0, stopping.by - c.timers.now()))
  })
}

/** There is room again, and a read is taken. Returns when. */
export const resumed = <In, Out>(c: Conversation<In, Out>): number => {
  const at = c.timers.now()
  readsAgain(c.facts, at)
  if (c.stopping?.from !== undefined) lastRead(c)
  return at
}
