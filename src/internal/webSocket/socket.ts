/** A WebSocket for programs that use `effect/socket` itself: a socket that keeps messages apart, over a stream of bytes. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import { utf8 } from "../bytes/utf8.ts"
import { isSendable, unexpected } from "../reasons/closeCodes.ts"
import { spawnIn } from "../scheduling/supervised.ts"
import type { WebSocketLink } from "../transport/transport.ts"
import { noCode, noFrame, writeClose } from "./closing.ts"
import { frameOf } from "./encoding.ts"
import type { Failure } from "./failure.ts"
import { Opcode } from "./frames.ts"
import { type Events, Reader } from "./reader.ts"

export interface SocketOptions {
  /** The longest message, in bytes. */
  readonly maxFrame: number
  /** How long the peer may take to answer our close frame, in milliseconds. */
  readonly linger: number
}

type Message = Uint8Array | string

const closedWith = (code: number, closeReason?: string): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code, closeReason }) })

/** A code that may be sent: one that may not becomes 1000 where it means "fine", and 1011 otherwise. */
export const closeCode = (code: number): number =>
  isSendable(code) ? code : code === 0 || code === noCode ? 1000 : unexpected

const codeOf = (exit: Exit.Exit<unknown, unknown>): number =>
  Exit.isSuccess(exit) ? 1000 : Cause.hasInterruptsOnly(exit.cause) ? 1001 : unexpected

/** One life of the stream, from the acquisition of the reader to its release. */
class Session implements Events {
  readonly link: WebSocketLink
  readonly writer: Socket.Writer
  private readonly inner: Socket.Reader["pull"]
  private readonly reader: Reader
  private readonly linger: number
  private readonly scope: Scope.Closeable
  private messages: Array<Message> = []
  private pings: Array<Uint8Array> = []
  private ended: Socket.SocketError | undefined
  private hasClosed = false
  private isPulling = false
  private readonly closing = Deferred.makeUnsafe<void>()

  /** The scope is that of the stream. */
  constructor(
    link: WebSocketLink,
    scope: Scope.Closeable,
    inner: Socket.Reader["pull"],
    writer: Socket.Writer,
    options: SocketOptions
  ) {
    this.link = link
    this.scope = scope
    this.inner = inner
    this.writer = writer
    this.linger = options.linger
    this.reader = new Reader({ role: link.role, maxFrame: options.maxFrame }, this)
  }

  message(payload: Message): void {
    this.messages.push(payload)
  }

  ping(payload: Uint8Array): void {
    // of many in one read, the newest (RFC 6455, 5.5.3)
    if (this.pings.length > 32) this.pings[32] = payload
    else this.pings.push(payload)
  }

  pong(): void {}

  close(code: number, reason: string): void {
    this.ended = closedWith(code, reason === "" ? undefined : reason)
  }

  frame(opcode: number, payload: Uint8Array): Uint8Array {
    return frameOf(opcode, payload, this.link.maskKey)
  }

  /** Sends a close frame, once; without a code it answers one without. */
  end(code: number | undefined, reason?: string): Effect.Effect<void, Socket.SocketError> {
    return Effect.suspend(() => {
      if (this.hasClosed) return Effect.void
      this.hasClosed = true
      Deferred.doneUnsafe(this.closing, Exit.void)
      const payload = code === undefined ? new Uint8Array(0) : writeClose(closeCode(code), reason)
      return this.writer.write(this.frame(Opcode.close, payload))
    })
  }

  /** Nothing more is read: the stream goes, and what was written leaves before it. */
  readonly released = Effect.suspend(() => Scope.close(this.scope, Exit.void))

  write(messages: NonEmptyReadonlyArray<Message>): Effect.Effect<void, Socket.SocketError> {
    if (this.hasClosed || this.ended !== undefined) {
      const cause = new Error("the WebSocket is closing")
      return Effect.fail(new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause }) }))
    }
    const frames = messages.map((message) =>
      typeof message === "string" ? this.frame(Opcode.text, utf8(message)) : this.frame(Opcode.binary, message)
    )
    return this.writer.writeAll(frames as unknown as NonEmptyReadonlyArray<Uint8Array>)
  }

  /** Where no pull waits, the peer's answer to our close frame is waited for here, for `linger` at most. */
  readonly awaitClose: Effect.Effect<void> = Effect.suspend(() => {
    if (this.isPulling || this.ended !== undefined) return Effect.void
    const answered = Effect.gen({ self: this }, function*() {
      while (this.ended === undefined) {
        this.messages = []
        yield* this.step
      }
    })
    return spawnIn(this.scope, "closing of a WebSocket", answered, () => {}, { startImmediately: true })
  })

  private read(chunks: NonEmptyReadonlyArray<Message>): Failure | undefined {
    let failure: Failure | undefined
    for (const chunk of chunks) failure ??= this.reader.write(typeof chunk === "string" ? utf8(chunk) : chunk)
    return failure
  }

  private readonly answered = Effect.suspend(() => {
    const { pings } = this
    if (pings.length === 0 || this.hasClosed) return Effect.void
    this.pings = []
    const pongs = pings.map((payload) => this.frame(Opcode.pong, payload))
    return this.writer.writeAll(pongs as unknown as NonEmptyReadonlyArray<Uint8Array>)
  })

  /** Last words. */
  private said(words: Effect.Effect<void, Socket.SocketError>): Effect.Effect<void> {
    return Effect.andThen(Effect.ignore(words), this.released)
  }

  /** The last message is told before the end. */
  private next(): Socket.Reader["pull"] | undefined {
    const { ended, messages } = this
    if (messages.length > 0) {
      this.messages = []
      return Effect.succeed(messages as unknown as NonEmptyReadonlyArray<Message>)
    }
    return ended === undefined ? undefined : Effect.fail(ended)
  }

  private readonly waited = Effect.suspend(() =>
    Effect.andThen(
      Effect.andThen(Deferred.await(this.closing), Effect.sleep(this.linger)),
      Effect.fail(closedWith(noFrame))
    )
  )

  readonly pull: Socket.Reader["pull"] = Effect.suspend(() => this.next() ?? Effect.andThen(this.step, this.pull))

  /** Reads once. */
  private readonly step: Effect.Effect<void> = Effect.suspend(() => {
    this.isPulling = true
    return Effect.matchEffect(Effect.raceFirst(this.inner, this.waited), {
      onFailure: () => {
        this.isPulling = false
        // the stream has ended, and no close frame came
        this.ended ??= closedWith(noFrame)
        return this.released
      },
      onSuccess: (chunks) => {
        this.isPulling = false
        const failure = this.read(chunks)
        if (failure !== undefined) {
          this.ended = new Socket.SocketError({ reason: new Socket.SocketReadError({ cause: failure.reason }) })
          return this.said(this.end(failure.code, failure.reason.message))
        }
        const closed = this.ended?.reason
        if (closed?._tag !== "SocketCloseError") return Effect.ignore(this.answered)
        return this.said(Effect.andThen(this.answered, this.end(closed.code === noCode ? undefined : closed.code)))
      }
    })
  })
}

/** The socket over a stream whose upgrade is done when its reader is acquired. */
export const overStream = (link: WebSocketLink, options: SocketOptions): Socket.Socket => {
  const connected = Latch.makeUnsafe(false)
  let live: Session | undefined
  const reader: Socket.Socket["reader"] = Effect.gen(function*() {
    const scope = yield* Effect.scope
    const own = yield* Scope.fork(scope)
    const { pull, upgrade } = yield* Scope.provide(link.stream.reader, own)
    const session = new Session(link, own, pull, yield* Scope.provide(link.stream.writer, own), options)
    // before the stream goes
    yield* Scope.addFinalizerExit(scope, (exit) => {
      if (live === session) {
        live = undefined
        connected.closeUnsafe()
      }
      // a peer that reads nothing must not hold up the end
      return Effect.raceFirst(Effect.ignore(session.end(codeOf(exit))), Effect.yieldNow)
    })
    live = session
    connected.openUnsafe()
    return { pull: session.pull, upgrade }
  })
  const writing = (
    run: (session: Session) => Effect.Effect<void, Socket.SocketError>
  ): Effect.Effect<void, Socket.SocketError> =>
    Effect.suspend(() => live === undefined ? connected.whenOpen(writing(run)) : run(live))
  const writeAll: Socket.Writer["writeAll"] = (messages) => writing((session) => session.write(messages))
  const write: Socket.Writer["write"] = (message) =>
    Socket.isCloseEvent(message)
      ? writing((session) => Effect.andThen(session.end(message.code, message.reason), session.awaitClose))
      : writeAll([message])
  return Socket.make({ reader, writer: Effect.succeed({ write, writeAll }) })
}
