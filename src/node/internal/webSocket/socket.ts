/** A `ws` WebSocket as an Effect socket with back-pressure. */
import * as NodeWS from "@effect/platform-node/NodeWS"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { Duplex } from "node:stream"
import { describe, type Transport } from "../../../internal/transport/transport.ts"
import { timedOut } from "../stream/dialled.ts"
import { type Chunk, unsent, writeError, writeNow } from "../stream/duplex.ts"
import { noop } from "../stream/tcp.ts"

/** A WebSocket and the stream below it, which the client only has once it is connected. */
export interface Carrier {
  readonly ws: NodeWS.WebSocket
  stream: Duplex | undefined
}

/**
 * Fails once the WebSocket has closed, which the reader is told first: a write that meets the peer's close frame must not
 * hide why the peer closes. A paused WebSocket closes only when it was read, so the wait is bounded, beyond what the
 * closing handshake may take.
 */
const whenClosed = ({ stream, ws }: Carrier, limit: number): Effect.Effect<never, Socket.SocketError> =>
  Effect.callback((resume) => {
    const fail = (): void => {
      clearTimeout(timer)
      resume(Effect.fail(writeError(stream?.errored ?? new Error("the WebSocket is closing"))))
    }
    const timer = setTimeout(fail, ws.readyState === NodeWS.WebSocket.CLOSED ? 0 : 2 * limit)
    ws.once("close", fail)
    return Effect.sync(() => {
      clearTimeout(timer)
      ws.off("close", fail)
    })
  })

/**
 * Sends frames and waits until the kernel has the last one.
 *
 * `ws.send` never waits and Effect's writer does not either: a peer that does not read would cost us memory without
 * bound.
 */
const send = (
  { stream, ws }: Carrier,
  chunks: ReadonlyArray<Uint8Array | string>,
  limit: number
): Effect.Effect<void, Socket.SocketError> => {
  if (ws.readyState !== NodeWS.WebSocket.OPEN || stream === undefined) return whenClosed({ stream, ws }, limit)
  let settled: Error | boolean = false
  let wake: ((effect: Effect.Effect<void, Socket.SocketError>) => void) | undefined
  const done = (error?: Error | null): void => {
    settled = error ?? true
    wake?.(error ? Effect.fail(writeError(error)) : Effect.void)
  }
  stream.cork()
  try {
    const last = chunks.length - 1
    for (let i = 0; i <= last; i++) ws.send(chunks[i], i === last ? done : undefined)
  } catch (cause) {
    return Effect.fail(writeError(cause))
  } finally {
    stream.uncork()
  }
  // the kernel took everything at once: the callback, a tick from now, has nothing to add
  if (stream.writableLength === 0 && !stream.errored && !stream.destroyed) return Effect.void
  return Effect.callback((resume) => {
    if (settled !== false) return resume(settled === true ? Effect.void : Effect.fail(writeError(settled)))
    wake = resume
    return Effect.sync(() => {
      wake = undefined
    })
  })
}

// RFC 6455, 7.4 and 5.5.1
const longestReason = 123
const isSendable = (code: number): boolean =>
  Number.isInteger(code) &&
  ((code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006) || (code >= 3000 && code <= 4999))

/** A close code that may be sent: one that may not becomes 1000 where it means "fine", and 1011 otherwise. */
export const closeCode = (code: number): number => isSendable(code) ? code : code === 0 || code === 1005 ? 1000 : 1011

/** A close reason cut to 123 bytes of UTF-8, between two characters. */
export const closeReason = (reason: string): string => {
  const bytes = Buffer.from(reason)
  if (bytes.length <= longestReason) return reason
  let end = longestReason
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--
  return bytes.toString("utf8", 0, end)
}

/**
 * Starts the closing handshake and cuts it off after `limit` milliseconds.
 *
 * `ws` bounds the handshakes that it or we start (`closeTimeout`), but not a peer that ended its side without a close
 * frame and reads no more.
 */
export const close = (ws: NodeWS.WebSocket, limit: number, code: number, reason: string = ""): void => {
  if (ws.readyState === NodeWS.WebSocket.CLOSED) return
  try {
    ws.close(closeCode(code), closeReason(reason))
  } catch {
    ws.terminate()
  }
  const timer = setTimeout(() => ws.terminate(), limit)
  timer.unref()
  ws.once("close", () => clearTimeout(timer))
}

/**
 * The bound of `ws` on a closing handshake, 30 seconds unless told otherwise. It covers what `close` does not: a peer
 * that sends its close frame and keeps the connection. (Missing from `@types/ws` 8.18.)
 */
export const closeTimeout = (limit: number): object => ({ closeTimeout: limit })

const codeOf = (exit: Exit.Exit<unknown, unknown>): number =>
  Exit.isSuccess(exit) ? 1000 : Cause.hasInterruptsOnly(exit.cause) ? 1001 : 1011

/** Who takes what is read as it comes. */
interface Sink {
  take: ((chunk: Chunk) => boolean) | undefined
}

/**
 * A WebSocket as Effect's reader sees it: each message is offered to the sink first. `ws` gives its own buffers here, where
 * a listener of `addEventListener` would get an event made for it, and a copy.
 */
const offering = (
  ws: NodeWS.WebSocket,
  sink: Sink
): Socket.WebSocketLike & Pick<NodeWS.WebSocket, "isPaused" | "pause" | "resume"> => {
  let onMessage: ((data: Buffer, isBinary: boolean) => void) | undefined
  return {
    get readyState() {
      return ws.readyState
    },
    get isPaused() {
      return ws.isPaused
    },
    pause: () => ws.pause(),
    resume: () => ws.resume(),
    send: (data: Chunk) => ws.send(data),
    close: (code, reason) => ws.close(code, reason),
    addEventListener(
      name: string,
      listener: (event: Socket.WebSocketEvent) => void,
      options?: { readonly once?: boolean }
    ) {
      if (name !== "message") return ws.addEventListener(name as "close", listener as () => void, options)
      onMessage = (data, isBinary) => {
        const chunk = isBinary ? data : data.toString()
        if (sink.take?.(chunk) !== true) listener({ data: chunk } as Socket.WebSocketEvent)
      }
      ws.on("message", onMessage)
    },
    removeEventListener(name: string, listener: (event: Socket.WebSocketEvent) => void) {
      if (name !== "message") return ws.removeEventListener(name as "close", listener as () => void)
      sink.take = undefined
      if (onMessage !== undefined) ws.off("message", onMessage)
    }
  }
}

/**
 * Makes the socket.
 *
 * Reading is Effect's (it pauses `ws` at 64 KiB). Releasing the reader closes with 1000, with 1001 when it was
 * interrupted and with 1011 after a failure, unless a `CloseEvent` said something else before.
 */
export const make = (options: {
  readonly acquire: Effect.Effect<Carrier, Socket.SocketError, Scope.Scope>
  readonly openTimeout?: Duration.Input | undefined
  /** Bound on the closing handshake, in milliseconds. */
  readonly linger: number
  readonly addresses: Pick<Transport, "local" | "remote">
}): Effect.Effect<Socket.Socket> =>
  Effect.gen(function*() {
    const latch = Latch.makeUnsafe(false)
    const sink: Sink = { take: undefined }
    let acquired: Carrier | undefined
    let live: Carrier | undefined
    const inner = yield* Socket.fromWebSocket(
      Effect.acquireRelease(
        Effect.map(options.acquire, (carrier) => {
          acquired = carrier
          carrier.ws.on("error", noop)
          return offering(carrier.ws, sink)
        }),
        (_, exit) => Effect.sync(() => close(acquired!.ws, options.linger, codeOf(exit))),
        { interruptible: true }
      ),
      { openTimeout: Infinity }
    )
    // what leads to the WebSocket counts too: lookup, connecting, TLS
    const opening = options.openTimeout === undefined
      ? inner.reader
      : Effect.timeoutOrElse(inner.reader, { duration: options.openTimeout, orElse: timedOut })
    const reader: Socket.Socket["reader"] = Effect.flatMap(opening, (reader) =>
      Effect.as(
        Effect.acquireRelease(
          Effect.sync(() => {
            live = acquired
            latch.openUnsafe()
          }),
          () =>
            Effect.sync(() => {
              live = undefined
              latch.closeUnsafe()
            })
        ),
        reader
      ))
    const write = (chunk: Uint8Array | string | Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> =>
      Effect.suspend(() => {
        const carrier = live
        if (carrier === undefined) return latch.whenOpen(write(chunk))
        if (!Socket.isCloseEvent(chunk)) return send(carrier, [chunk], options.linger)
        close(carrier.ws, options.linger, chunk.code, chunk.reason)
        return Effect.void
      })
    const writeAll: Socket.Writer["writeAll"] = (chunks) =>
      Effect.suspend(() => {
        const carrier = live
        return carrier === undefined ? latch.whenOpen(writeAll(chunks)) : send(carrier, chunks, options.linger)
      })
    return describe(Socket.make({ reader, writer: Effect.succeed({ write, writeAll }) }), {
      messages: true,
      get local() {
        return options.addresses.local
      },
      get remote() {
        return options.addresses.remote
      },
      // not `bufferedAmount`: it stands still during one large frame (see `unsent`)
      unsent: () => acquired?.stream === undefined ? 0 : unsent(acquired.stream),
      writeNow(chunks) {
        if (live?.stream === undefined) return false
        const { stream, ws } = live
        return ws.readyState === NodeWS.WebSocket.OPEN && writeNow(stream, chunks, (chunk) => ws.send(chunk))
      },
      onRead(take) {
        sink.take = take
      }
    })
  })
