/** Ends of connections as sockets of `effect/socket`: what the application does with them. */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { Identity } from "../../Network.ts"
import type { Batch, Chunk } from "../fabric/chunk.ts"
import { closeError, readError, systemError, writeError } from "../fabric/failures.ts"
import type { SimulatedHost } from "../fabric/simulatedHost.ts"
import type { Endpoint, Failure } from "./endpoint.ts"
import { discardsLate, endOfStream } from "./receiving.ts"

type Resume = (effect: Effect.Effect<void>) => void

/** The key under which a socket describes its transport, as Holdfast's `Connection.describe` reads it. */
const TransportId = "~holdfast/Transport"

/**
 * Makes a socket that gets its connection from `acquire`, anew for every reader. A later reader takes the writer with it.
 */
export const make = (
  host: SimulatedHost,
  options: {
    readonly messages: boolean
    readonly local: string | undefined
    readonly remote: string
    readonly identity?: Identity | undefined
  },
  acquire: Effect.Effect<Endpoint, Socket.SocketError>
): Socket.Socket => {
  let current: Endpoint | undefined
  let waiting: Array<Resume> = []

  const connect = (end: Endpoint): void => {
    current = end
    const waiters = waiting
    waiting = []
    for (const resume of waiters) host.post(() => resume(Effect.void))
  }
  const connected: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (current !== undefined) return resume(Effect.void)
    waiting.push(resume)
    return Effect.sync(() => {
      waiting = waiting.filter((waiter) => waiter !== resume)
    })
  })

  const reader: Socket.Socket["reader"] = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      yield* restore(host.running)
      const end = yield* acquire
      end.isClaimed = true
      yield* Scope.addFinalizer(
        scope,
        Effect.sync(() => {
          if (current === end) current = undefined
          release(end)
        })
      )
      yield* restore(opened(end))
      connect(end)
      return { pull: pull(end), upgrade: Socket.SocketUpgradeError.unsupported }
    })
  )

  const write = (chunk: Chunk | Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> =>
    Effect.suspend(() => {
      if (current === undefined) return Effect.andThen(connected, write(chunk))
      if (!Socket.isCloseEvent(chunk)) return writeTo(current, [chunk])
      return closeWith(current, chunk)
    })
  const writeAll: Socket.Writer["writeAll"] = (chunks) =>
    Effect.suspend(() => current === undefined ? Effect.andThen(connected, writeAll(chunks)) : writeTo(current, chunks))
  const writer: Socket.Socket["writer"] = Effect.acquireRelease(
    Effect.succeed({ write, writeAll }),
    () =>
      Effect.sync(() => {
        // a message transport has no half-close
        if (!options.messages) current?.finish()
      })
  )

  return Object.assign(Socket.make({ reader, writer }), {
    [TransportId]: {
      messages: options.messages,
      get local() {
        return options.local ?? current?.address
      },
      remote: options.remote,
      identity: options.identity,
      unsent: () => current?.outgoing.unsent ?? 0
    }
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// opening, reading, writing
// ---------------------------------------------------------------------------------------------------------------------

const opened = (end: Endpoint): Effect.Effect<void, Socket.SocketError> =>
  Effect.callback<void, Socket.SocketError>((resume) => {
    if (end.phase === "over") return resume(Effect.fail(end.openFailure()))
    if (end.phase === "open" && end.isRunning) return resume(Effect.void)
    if (end.phase === "open") return end.wake(() => resume(Effect.void))
    return Effect.sync(end.whenOpened(resume))
  })

const pull = (end: Endpoint): Effect.Effect<Batch, Socket.SocketError> =>
  Effect.callback<Batch, Socket.SocketError>((resume) => {
    const { incoming } = end
    incoming.waiter = resume
    if (end.isRunning) end.wakeReader()
    else end.notifyReader()
    if (incoming.waiter !== resume) return
    return Effect.sync(() => {
      if (incoming.waiter === resume) incoming.waiter = undefined
    })
  })

const writeTo = (
  end: Endpoint,
  chunks: ReadonlyArray<Chunk | Socket.CloseEvent>
): Effect.Effect<void, Socket.SocketError> => {
  const { outgoing } = end
  const injected = end.phase === "over" ? undefined : end.connection.fault("write", end.host)
  if (injected !== undefined) end.abort(injected, true)
  if (end.phase === "over") return Effect.fail(end.brokenBy())
  if (outgoing.isFinished) return failEnded(end)
  const goal = outgoing.write(chunks)
  if (outgoing.isAccepted(goal)) return Effect.void
  return Effect.callback((resume) => {
    if (end.phase === "over") return resume(Effect.fail(end.brokenBy()))
    if (outgoing.isAccepted(goal)) return resume(Effect.void)
    return Effect.sync(outgoing.whenAccepted(goal, resume))
  })
}

const failEnded = (end: Endpoint): Effect.Effect<void, Socket.SocketError> => {
  const byPeer = end.incoming.end !== undefined && (end.connection.messages || !end.settings.halfOpen)
  const failed = Effect.suspend(() =>
    Effect.fail(writeError(
      byPeer
        ? Object.assign(new Error("This socket has been ended by the other party"), { code: "EPIPE" })
        : Object.assign(new Error("write after end"), { code: "ERR_STREAM_WRITE_AFTER_END" })
    ))
  )
  if (!byPeer) return failed
  // the reader is told first: a write that meets the peer's close frame must not hide why the peer closes
  return Effect.callback((resume) => end.wake(() => end.wake(() => resume(failed))))
}

// ---------------------------------------------------------------------------------------------------------------------
// closing
// ---------------------------------------------------------------------------------------------------------------------

const released: Failure = () => closeError(1006)

/** Writes a close event as the transport does: a close frame, or the end of a byte stream. */
const closeWith = (end: Endpoint, event: Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> => {
  if (!end.connection.messages) {
    // as NodeSocket does: the stream is destroyed, which the peer sees as an end
    end.isReleased = true
    const failure = event.code > 1000 ? () => readError(new Error(`closed with code ${event.code}`)) : endOfStream
    failWriters(end)
    letGo(end, failure)
    return Effect.void
  }
  const result = writeTo(end, [event])
  // nothing is written behind it, and nothing more is read: the peer answers with its own
  end.outgoing.finish()
  end.endReading(() => closeError(event.code, event.reason))
  return result
}

/** Resets a connection that no reader has taken: its handler failed before that. */
export const abandon = (end: Endpoint): void => {
  if (!end.isClaimed && end.phase === "open") end.abort(systemError("read", "ECONNRESET"), true)
}

/** The application lets go: what it wrote still leaves, and it reads nothing more. */
const release = (end: Endpoint): void => {
  const { waiter } = end.incoming
  end.incoming.waiter = undefined
  waiter?.(Effect.suspend(() => Effect.fail(released())))
  if (end.isReleased) return
  end.isReleased = true
  failWriters(end)
  if (end.isRunning) letGo(end, released)
  else end.wake(() => letGo(end, released))
}

/** Writes that wait for room fail; what was handed over is sent nevertheless. */
const failWriters = (end: Endpoint): void => {
  const { writers } = end.outgoing
  end.outgoing.writers = []
  const failed = Effect.suspend(() => Effect.fail(writeError(new Error("socket closed"))))
  for (const { resume } of writers) end.wake(() => resume(failed))
}

const letGo = (end: Endpoint, failure: Failure): void => {
  const { incoming, outgoing } = end
  const unread = incoming.bytes > 0
  incoming.discard()
  end.endReading(failure)
  if (end.phase !== "open" || end.isGone) return end.settle()
  // RFC 1122, 4.2.2.13: what was received and not read makes the close a reset
  if (unread && !discardsLate(end)) return end.abort(systemError("read", "ECONNRESET"), true)
  if (unread) incoming.acknowledge()
  if (end.connection.messages && !outgoing.isFinished) outgoing.write([new Socket.CloseEvent(1005)])
  outgoing.finish()
  waitForPeer(end)
  end.settleIfDone()
}

/** The peer's FIN has to come in time. */
const waitForPeer = (end: Endpoint): void => {
  const { connection: { finTimeout, timeline }, settings: { linger } } = end
  end.lingering = timeline.at(timeline.now() + (linger > 0 ? linger : finTimeout), () => {
    // a kernel goes on sending what it has taken for as long as the peer acknowledges
    if (linger === 0 && !end.finDelivered) return waitForPeer(end)
    end.abort(systemError("read", "ECONNRESET"), !end.finDelivered)
  })
}
