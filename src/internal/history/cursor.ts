/** How far a reader at the other end of a connection has come: what it has seen is dropped, and no hole passes unseen. */
import type { Event, Gone, Message, Position } from "./log.ts"

const isBefore = (a: Position, b: Position | undefined): boolean =>
  b !== undefined && a.epoch === b.epoch && a.offset <= b.offset

const lost = (position: Position): Gone => ({ _tag: "Gone", why: "unknown", position })

export class Progress {
  position: Position | undefined

  constructor(position: Position | undefined) {
    this.position = position
  }

  private message<A>(event: Message<A>): ReadonlyArray<Event<A>> {
    const { position: last } = this
    const { epoch, offset } = event.position
    this.position = event.position
    if (last === undefined || (last.epoch === epoch && offset === last.offset + 1)) return [event]
    const gone = lost({ epoch, offset: offset - 1 })
    return [last.epoch === epoch ? { ...gone, missed: offset - 1 - last.offset } : gone, event]
  }

  accept<A>(event: Event<A>): ReadonlyArray<Event<A>> {
    const { position: last } = this
    // also a gap that lies behind: it was told to an earlier connection
    if (event._tag !== "Start" && isBefore(event.position, last)) return []
    if (event._tag === "Message") return this.message(event)
    this.position = event.position
    if (event._tag === "Gone" && event.missed !== undefined && last?.epoch === event.position.epoch) {
      // more may have come than its sender knew of
      return [{ ...event, missed: event.position.offset - last.offset }]
    }
    if (event._tag === "Gone" || last === undefined) return [event]
    // a place to begin, for a reader that had one
    const isSame = last.epoch === event.position.epoch && last.offset === event.position.offset
    return isSame ? [] : [lost(event.position)]
  }
}
