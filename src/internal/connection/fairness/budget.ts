/** What one turn of the event loop does for a connection: the rest waits until the others have had theirs. */
import { perform, type Turns } from "../../scheduling/turns.ts"
import type { Conversation } from "../core/state.ts"

/** Half a millisecond of work for small messages, and what one read brings at the most. */
export const share = { messages: 256, bytes: 64 * 1024 }

/** What was read of a connection in a turn. */
interface Spending {
  readonly holding: { readonly isSpent: boolean } | undefined
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

/** How many messages of this connection this turn still takes. */
export const shareLeft = (c: Spending): number =>
  c.holding?.isSpent === true
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

export const hasShare = (c: Spending): boolean => shareLeft(c) > 0

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
