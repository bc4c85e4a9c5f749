/** Decodes what was read, as far as the inbox has room for it and the turn has a share for it. */
import * as Cause from "effect/Cause"
import type * as ConnectionError from "../../../ConnectionError.ts"
import { Room } from "../../codec/room.ts"
import { defect } from "../core/lifecycle.ts"
import type { Conversation } from "../core/state.ts"
import { shareLeft } from "./budget.ts"

/** What the inbox of a connection has room for: measured before, and used up by, each decoding. */
export const room = new Room()

/**
 * Decodes a read, or what there was no room for before; its messages, and a defect or a bad frame behind them, are separate.
 */
export const decode = <In, Out>(
  c: Conversation<In, Out>,
  chunk: Uint8Array | string | undefined,
  messages: Array<In>
): ConnectionError.Reason | undefined => {
  c.inbox.measure(room)
  room.messages = Math.min(room.messages, shareLeft(c, chunk?.length))
  if (c.holding !== undefined) room.left = Math.min(room.left, c.holding.room)
  try {
    return chunk === undefined ? c.decoder.more(messages, room) : c.decoder.append(chunk, messages, room)
  } catch (thrown) {
    return defect(c, "codec", Cause.die(thrown))
  }
}
