/** What an end does with the segments of its peer. */
import * as Socket from "effect/socket/Socket"
import type { Chunk } from "../fabric/chunk.ts"
import { closeError, systemError } from "../fabric/failures.ts"
import type { Endpoint, Failure } from "./endpoint.ts"
import type { Segment } from "./transmission.ts"

/** The end of a stream, in order. */
export const endOfStream: Failure = () => closeError(1000)

/** Whether what comes after the application let go is discarded. Otherwise it is answered with a reset. */
export const discardsLate = (end: Endpoint): boolean => end.settings.linger > 0 || end.connection.messages

/** A segment of one end is at the other; false when it is lost on the last step. */
export const receive = (from: Endpoint, segment: Segment): boolean => {
  const end = from.peer
  if (!end.connection.translate(from)) return false
  if (end.phase !== "over") {
    from.record("arrive", segment.bytes)
    process(end, segment)
  } else if (!end.isClean) end.sendReset()
  return true
}

const process = (end: Endpoint, segment: Segment): void => {
  switch (segment.kind) {
    case "ack":
      return end.onHandshakeAck?.()
    case "probe":
      return end.incoming.acknowledge()
    case "fin":
      end.finReceived = true
      end.peer.finDelivered = true
      end.peer.settleIfDone()
      if (!end.connection.messages) end.endReading(endOfStream)
      return end.settleIfDone()
    case "data": {
      if (end.isReleased && !discardsLate(end)) return end.abort(systemError("read", "ECONNRESET"), true)
      take(end, segment)
      end.incoming.acknowledge()
      end.notifyReader()
    }
  }
}

const take = (end: Endpoint, segment: Segment): void => {
  const { incoming, outgoing } = end
  const first = segment.chunks[0]
  if (Socket.isCloseEvent(first)) {
    end.endReading(() => closeError(first.code, first.reason))
    if (outgoing.isFinished) return
    // the closing handshake of a WebSocket is answered by the library, not by the application
    outgoing.write([first])
    return outgoing.finish()
  }
  incoming.push(segment.chunks as ReadonlyArray<Chunk>, segment.bytes)
  if (end.isReleased || incoming.end !== undefined) incoming.discard()
}
