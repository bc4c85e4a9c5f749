/** A WebSocket as an Effect socket that keeps messages apart, over any byte stream whose upgrade is done. */
import * as Arr from "effect/Array"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Socket from "effect/socket/Socket"
import * as ConnectionError from "../../ConnectionError.ts"
import { sizeOf } from "../bytes/sizes.ts"
import { utf8 } from "../bytes/utf8.ts"
import { isSendable, unexpected } from "../reasons/closeCodes.ts"
import { spawnIn } from "../scheduling/supervised.ts"
import type { Compression } from "../transport/compression.ts"
import { Pongs } from "../transport/pongs.ts"
import { type Transport, transportOf, TypeId, type WebSocketLink } from "../transport/transport.ts"
import { type Close, noCode, noFrame, writeClose } from "./closing.ts"
import { inflating } from "./decoder.ts"
import { frameOf, messageFrameOf } from "./encoding.ts"
import type { Failure } from "./failure.ts"
import { Opcode } from "./frames.ts"
import { Reader } from "./reader.ts"

export interface SocketOptions {
  /** The most bytes of a message of the peer. */
  readonly maxFrame: number
  /** How long a close frame may take to be written, and to be answered, in milliseconds. */
  readonly linger: number
}

type Frame = Uint8Array | string

const closed = (code: number, closeReason?: string): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code, closeReason }) })

const writeError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause }) })

const violated = ({ reason }: Failure): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketReadError({ cause: ConnectionError.make(reason) }) })

/** A code that may be sent: one that may not becomes 1000 where it means "fine", and 1011 otherwise. */
export const closeCode = (code: number): number =>
  isSendable(code) ? code : code === 0 || code === noCode ? 1000 : unexpected

const codeOf = (exit: Exit.Exit<unknown, unknown>): number =>
  Exit.isSuccess(exit) ? 1000 : Cause.hasInterruptsOnly(exit.cause) ? 1001 : unexpected

// nothing more is read of a peer that sent so many pings since it last took a pong
const mostOwed = 1024

// what is inflated before the application has taken it: this, and one message
const mostInflated = 1024 * 1024

// the closing handshake reads for an application that does not, up to so many bytes
const mostUnread = 65_536

/** One connection. */
class Life {
  private readonly link: WebSocketLink
  private readonly stream: Socket.Reader
  private readonly out: Socket.Writer
  // the stream lives in it
  private readonly scope: Scope.Closeable
  private readonly linger: number
  private readonly reader: Reader
  private readonly compression: Compression | undefined
  // what has come behind messages that the application has to take first
  private waiting: Array<Uint8Array> = []
  // pulls of the application and of a closing handshake take turns
  private readonly turn = Semaphore.makeUnsafe(1)
  private messages: Array<Frame> = []
  private unread = 0
  private readonly asked = new Pongs<Uint8Array>()
  // those to be answered one by one
  private pongs: Array<Uint8Array> = []
  private isPonging = false
  /** Closed while the peer takes none of too many pongs. */
  private readonly mayRead = Latch.makeUnsafe(true)
  private peerClose: Close | undefined
  private failure: Failure | undefined
  private hasSaidClose = false
  private error: Socket.SocketError | undefined
  /** Open once the peer has closed, or the stream has ended. */
  private readonly over = Latch.makeUnsafe(false)

  constructor(
    link: WebSocketLink,
    stream: Socket.Reader,
    out: Socket.Writer,
    scope: Scope.Closeable,
    options: SocketOptions
  ) {
    this.link = link
    this.stream = stream
    this.out = out
    this.scope = scope
    this.linger = options.linger
    this.compression = link.compression?.()
    this.reader = new Reader({ ...options, role: link.role, extension: inflating(this.compression) }, {
      message: (payload, inflated) => {
        this.messages.push(payload)
        this.unread += sizeOf(payload)
        if (inflated !== undefined && this.unread >= mostInflated) this.reader.isPaused = true
      },
      ping: (payload) => {
        if (this.asked.answers(payload)) this.pongs.push(payload)
        else if (this.asked.owed >= mostOwed) this.mayRead.closeUnsafe()
      },
      pong: () => {},
      close: (code, reason) => {
        this.peerClose = { code, reason }
      }
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // reading
  // -------------------------------------------------------------------------------------------------------------------

  private end(error: Socket.SocketError): void {
    this.error ??= error
    this.over.openUnsafe()
  }

  private take(chunks: NonEmptyReadonlyArray<Frame>): Effect.Effect<void> {
    const all = this.waiting
    for (const chunk of chunks) all.push(typeof chunk === "string" ? utf8(chunk) : chunk)
    return this.read(all)
  }

  /** Reads what has come, as far as the application has room for it. */
  private read(chunks: ReadonlyArray<Uint8Array>): Effect.Effect<void> {
    const { reader } = this
    this.waiting = []
    reader.isPaused = false
    for (let i = 0; i < chunks.length; i++) {
      reader.rest = undefined
      this.failure = reader.write(chunks[i]!)
      if (reader.rest === undefined) continue
      this.waiting = [reader.rest, ...chunks.slice(i + 1)]
      reader.rest = undefined
      break
    }
    if (this.peerClose !== undefined) this.over.openUnsafe()
    return this.pongs.length === 0 || this.isPonging ? Effect.void : this.answerPings
  }

  /** Pongs have a fiber: a pull that waited for the peer to take them would stop two ends that both write. */
  private readonly answerPings: Effect.Effect<void> = Effect.suspend(() => {
    this.isPonging = true
    const writing = Effect.whileLoop({
      while: () => this.pongs.length > 0 && !this.hasSaidClose,
      body: () => {
        const { pongs } = this
        this.pongs = []
        const newest = this.asked.leave()
        if (newest !== undefined) pongs.push(newest)
        const frames = pongs.map((payload) => this.frame(Opcode.pong, payload))
        return Effect.andThen(
          this.mayRead.open,
          this.out.writeAll(frames as unknown as NonEmptyReadonlyArray<Uint8Array>)
        )
      },
      step: () => {}
    })
    // what cannot be written is told to the reader, and to writers
    return spawnIn(this.scope, "pongs", Effect.ignore(writing), () => {
      this.isPonging = false
      this.mayRead.openUnsafe()
    }, { startImmediately: true })
  })

  /** Goes on with what has come, or reads once from the stream. */
  private readonly fill: Effect.Effect<void> = Effect.suspend(() =>
    this.waiting.length > 0 ? this.read(this.waiting) : this.pullStream
  )

  private readonly pullStream: Effect.Effect<void> = Effect.uninterruptibleMask((restore) =>
    Effect.matchEffect(restore(this.mayRead.isOpen() ? this.stream.pull : this.mayRead.whenOpen(this.stream.pull)), {
      // a stream that ends without a close frame has ended abnormally, in whichever way it did
      onFailure: () => Effect.sync(() => this.end(closed(noFrame))),
      onSuccess: (chunks) => this.take(chunks)
    })
  )

  private get isAtEnd(): boolean {
    return this.error !== undefined || this.peerClose !== undefined || this.failure !== undefined
  }

  /** What was received before a close frame is given, and can be answered, before that is. */
  private readonly settle: Effect.Effect<never, Socket.SocketError> = Effect.suspend(() => {
    const { error, failure, peerClose } = this
    if (error !== undefined) return Effect.fail(error)
    const said = peerClose ?? { code: failure!.code, reason: failure!.reason.message }
    return Effect.andThen(
      this.sayClose(said.code, peerClose === undefined ? said.reason : ""),
      Effect.suspend(() => {
        this.end(failure === undefined ? closed(said.code, said.reason) : violated(failure))
        return Effect.andThen(this.released, Effect.fail(this.error!))
      })
    )
  })

  readonly pull: Effect.Effect<NonEmptyReadonlyArray<Frame>, Socket.SocketError> = Effect.suspend(() => {
    const { messages } = this
    if (Arr.isReadonlyArrayNonEmpty(messages)) {
      this.messages = []
      this.unread = 0
      return Effect.succeed(messages)
    }
    if (this.isAtEnd) return this.settle
    return Effect.andThen(this.fillInTurn, this.pull)
  })

  private readonly fillInTurn = this.turn.withPermit(
    Effect.suspend(() => this.messages.length > 0 || this.isAtEnd ? Effect.void : this.fill)
  )

  // -------------------------------------------------------------------------------------------------------------------
  // writing
  // -------------------------------------------------------------------------------------------------------------------

  writeAll(messages: NonEmptyReadonlyArray<Frame>): Effect.Effect<void, Socket.SocketError> {
    if (this.hasSaidClose) return Effect.fail(writeError(new Error("the WebSocket is closing")))
    const { compression, link: { maskKey } } = this
    return this.out.writeAll(
      Arr.map(
        messages,
        (message) =>
          typeof message === "string"
            ? messageFrameOf(Opcode.text, utf8(message), maskKey, compression)
            : messageFrameOf(Opcode.binary, message, maskKey, compression)
      )
    )
  }

  private frame(opcode: number, payload: Uint8Array): Uint8Array {
    return frameOf(opcode, payload, this.link.maskKey)
  }

  /** Says the last word once, within `linger`. */
  private sayClose(code: number, reason: string | undefined): Effect.Effect<void> {
    if (this.hasSaidClose) return Effect.void
    this.hasSaidClose = true
    const frame = this.frame(Opcode.close, writeClose(code, reason))
    return Effect.ignore(Effect.timeoutOption(this.out.write(frame), this.linger))
  }

  /** Our side of the stream ends behind what was written. */
  private readonly released = Effect.suspend(() => Scope.close(this.scope, Exit.void))

  /** Reads until the peer's close frame. Messages before it are kept for the application. */
  private readonly untilClosed: Effect.Effect<void> = Effect.suspend(() => {
    if (this.isAtEnd) return Effect.void
    return this.unread > mostUnread
      ? this.over.await
      : Effect.andThen(
        this.turn.withPermit(Effect.suspend(() => this.isAtEnd ? Effect.void : this.fill)),
        this.untilClosed
      )
  })

  close({ code, reason }: Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> {
    if (this.hasSaidClose) return Effect.void
    return Effect.andThen(
      this.sayClose(closeCode(code), reason),
      Effect.andThen(
        Effect.timeoutOption(this.untilClosed, this.linger),
        Effect.suspend(() => {
          if (!this.isAtEnd) this.end(closed(noFrame))
          // which fails a suspended pull
          return this.released
        })
      )
    )
  }

  /** The scope of the reader closes. */
  release(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    const { error, failure, peerClose } = this
    this.end(closed(noFrame))
    return error === undefined ? this.sayClose(failure?.code ?? peerClose?.code ?? codeOf(exit), "") : Effect.void
  }
}

/** A listener may have ten thousand whose connections do the frames themselves: what those need not is made when it is used. */
class MessageSocket implements Socket.Socket, Transport {
  readonly [Socket.TypeId]: typeof Socket.TypeId = Socket.TypeId
  readonly [TypeId] = this
  readonly messages = true
  readonly webSocket: WebSocketLink
  private readonly options: SocketOptions
  private connected: Latch.Latch | undefined
  private life: Life | undefined

  constructor(link: WebSocketLink, options: SocketOptions) {
    this.webSocket = link
    this.options = options
  }

  get local(): string | undefined {
    return transportOf(this.webSocket.stream).local
  }

  get remote(): string | undefined {
    return transportOf(this.webSocket.stream).remote
  }

  get unsent(): Transport["unsent"] {
    const below = transportOf(this.webSocket.stream)
    return below.unsent === undefined ? undefined : () => below.unsent!()
  }

  get reader(): Socket.Socket["reader"] {
    return Effect.gen({ self: this }, function*() {
      const { options, webSocket } = this
      const scope = yield* Effect.scope
      const below = yield* Scope.fork(scope)
      const source = yield* Scope.provide(webSocket.stream.reader, below)
      const out = yield* Scope.provide(webSocket.stream.writer, below)
      const life = new Life(webSocket, source, out, below, options)
      yield* Scope.addFinalizerExit(scope, (exit) => {
        this.life = undefined
        this.connected?.closeUnsafe()
        return life.release(exit)
      })
      this.life = life
      this.connected?.openUnsafe()
      return { pull: life.pull, upgrade: Socket.SocketUpgradeError.unsupported }
    })
  }

  /** A WebSocket has no half-close: releasing the writer leaves the connection alone. */
  get writer(): Socket.Socket["writer"] {
    return Effect.succeed({
      write: (chunk) =>
        this.withLife((life) => Socket.isCloseEvent(chunk) ? life.close(chunk) : life.writeAll([chunk])),
      writeAll: (chunks) => this.withLife((life) => life.writeAll(chunks))
    })
  }

  /** With the connection, or with the next one. */
  private withLife(
    use: (life: Life) => Effect.Effect<void, Socket.SocketError>
  ): Effect.Effect<void, Socket.SocketError> {
    return Effect.suspend(() => {
      if (this.life !== undefined) return use(this.life)
      this.connected ??= Latch.makeUnsafe(false)
      return this.connected.whenOpen(this.withLife(use))
    })
  }
}

/**
 * Makes the socket of a link, whose upgrade is done when the reader of its stream is acquired.
 *
 * **Details**
 *
 * - Nothing is read while nothing is pulled. Pings are answered by what pulls.
 * - The peer's close frame is answered by the pull after the last message, which fails with a `SocketCloseError` of its code.
 * - A `CloseEvent` sends a close frame and waits for the peer's, at most `linger`; then the stream is closed, and the reader
 *   ends with 1006.
 * - What breaks the protocol fails the reader with a `SocketReadError` whose cause is the `ConnectionError`; the peer is told
 *   its code.
 * - Releasing the reader sends 1000, 1001 after an interruption, 1011 after a failure, unless a close frame was sent.
 */
export const overStream = (link: WebSocketLink, options: SocketOptions): Socket.Socket =>
  new MessageSocket(link, options)
