/** What a connection waits for, and since when: what its deadlines count from. */
import type * as ConnectionError from "../../../ConnectionError.ts"

// before any clock began, whatever is added to it; unlike -Infinity it needs no box of its own in every connection
const longAgo = -1_000_000_000

/**
 * What is waited for, and since when: milliseconds of the monotonic clock. Changed synchronously, by the event that each
 * field names.
 */
export class Facts {
  readonly openedAt: number
  /** Drawn once: how much of `maxAge` this connection lives. */
  readonly ageFactor: number
  /** The last byte came; stamped before decoding. */
  heardAt: number
  /** Something came that only a living peer sends: anything but a pong that answers nothing. */
  provenAt: number
  /** The last data was handed to the transport. */
  sentAt: number
  /** The last message came, or left. */
  messageAt: number
  /** We are ready to read; undefined while our own inbox is full, and once the peer has finished. */
  readingSince: number | undefined
  /** Reading went on after a pause. */
  resumedAt = longAgo
  /** A frame is incomplete. */
  frameSince: number | undefined
  /** The peer owes us taking some bytes. */
  stalledSince: number | undefined
  isWriting = false
  /** What the peer's side had taken at the last look. */
  taken = 0
  /** A write began since the last look; and whether the next look comes soon enough to see its progress. */
  hasWritten = false
  isWatching = false
  /** The interval between pings as it is now. */
  pingEvery: number
  /** The connection was asked to leave because of its age. */
  isAsked = false
  /** We came back from a stall of our own: the peer gets half of each limit from here, whatever was nearly over. */
  forgivenAt = longAgo
  /** The deadline that was broken. */
  rule: string | undefined
  /** For how long we were not there to ask since the peer was last heard, and when we came back. */
  away = 0
  backAt = longAgo

  constructor(at: number, ageFactor: number, pingEvery: number) {
    this.openedAt = at
    this.ageFactor = ageFactor
    this.heardAt = at
    this.provenAt = at
    this.sentAt = at
    this.messageAt = at
    this.readingSince = at
    this.pingEvery = pingEvery
  }
}

/** A server stops: how long a connection is still read. */
export interface Stopping {
  readonly reason: ConnectionError.ConnectionError
  /** The end of the drain. */
  readonly by: number
  /** The end of the grace that the policy gives. */
  readonly grace: number
  /** When to begin the last read, or to give it up. */
  until: number | undefined
  /** Of the ping behind the goodbye: its pong says that the peer has heard both. */
  token: number | undefined
  /** How many bytes had come when the last read began. */
  from: number | undefined
  isLooking: boolean
}

/** How often the transport of a connection that reads nothing is asked whether it still stands, in milliseconds. */
export const askEvery = 10_000

/** Our own inbox is full: nothing the peer does or does not do is seen. */
export const stoppedReading = (facts: Facts): void => {
  facts.readingSince = undefined
}

export const readsAgain = (facts: Facts, at: number): void => {
  facts.readingSince = at
  facts.resumedAt = at
}

/** A ping left `late`. */
export const pingedLate = (facts: Facts, late: number, at: number): void => {
  facts.away = (facts.heardAt >= facts.backAt ? 0 : facts.away) + late
  facts.backAt = at
}
