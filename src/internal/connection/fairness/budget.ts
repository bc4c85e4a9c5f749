/** What one turn of the event loop does for a connection: the rest waits until the others have had theirs. */
import { perform, type Turns } from "../../scheduling/turns.ts"
import type { Conversation } from "../core/state.ts"

/** Half a millisecond of work for small messages, and what one read brings at the most. */
export const share = { messages: 256, bytes: 64 * 1024 }

/** What was read of a connection in a turn. */
interface Spending {
  readonly holding: { readonly isSpentFor: (bytes: number) => boolean } | undefined
  /** Bytes of earlier reads that are not decoded. */
  readonly undecoded: number
  readonly turns: Turns
  turn: number
  turnMessages: number
  turnBytes: number
}

/** Counts a read, or a part of one. */
export const spendShare = (c: Spending, messages: number, bytes: number): void => {
  if (c.turn !== c.turns.count) {
    c.turn = c.turns.count
    c.turnMessages = 0
    c.turnBytes = 0
  }
  c.turnMessages += messages
  c.turnBytes += bytes
}

/** Whether the memory of all keeps so many bytes, and what is not decoded of earlier reads, for the next turn. */
export const isSpent = ({ holding, undecoded }: Spending, bytes = 0): boolean =>
  holding !== undefined && holding.isSpentFor(undecoded + bytes)

/** How many messages of this connection this turn still takes out of so many bytes. */
export const shareLeft = (c: Spending, bytes = 0): number =>
  isSpent(c, bytes)
    ? 0
    : c.turn !== c.turns.count
    ? share.messages
    : c.turnBytes >= share.bytes
    ? 0
    : share.messages - c.turnMessages

/** A turn has passed, also where nothing was done in it. */
export const renewShare = (c: Spending): void => {
  c.turnMessages = 0
  c.turnBytes = 0
}

export const hasShare = (c: Spending, bytes = 0): boolean => shareLeft(c, bytes) > 0

/** What has come is decoded further: in this turn, or in the next one where this one has done its share. */
export const hasRoom = <In, Out>(c: Conversation<In, Out>): void => {
  if (c.goesOn) return
  if (hasShare(c)) return c.turns.scheduleTask(c)
  c.goesOn = true
  c.turns.after(1, () => {
    c.goesOn = false
    renewShare(c)
    perform(c)
  })
}
