/** A small, correct socket in memory, and ways to break it one at a time. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { SocketContract } from "../../../src/testing/index.ts"

/** What is broken. */
export type Flaw =
  | "loses a byte"
  | "reorders"
  | "interleaves batches"
  | "swallows the FIN"
  | "leaves a pull when its scope closes"
  | "never waits"
  | "leaves a write when its connection closes"
  | "leaves a write when the peer goes"
  | "tells a reset as an end"
  | "drops the rest at the end"
  | "dials when it is made"
  | "hangs when refused"
  | "tells a refusal as a close"
  | "feeds a pull that was given up"
  | "keeps an interrupted dial"
  | "tells the end once"
  | "merges messages"
  | "makes text binary"
  | "forgets the close code"
  | "tears an interrupted write"
  | "drops writes before the connection"
  | "crosses connections"
  | "keeps handlers when it stops"
  | "stops when a handler fails"
  | "refuses before it runs"
  | "ends both ways at a FIN"
  | "dies on a write to the gone"
  | "leaks"
  | "hangs on release"
  | "ends where it cannot half-close"
  | "cannot be dialled twice"
  | "brings empty batches"
  | "hangs when both close"
  | "ends connections when it stops"

type Frame = Uint8Array | string
type Resume<A> = (effect: Effect.Effect<A, Socket.SocketError>) => void

const closed = (code: number, reason = "") =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code, closeReason: reason }) })
const readError = () =>
  new Socket.SocketError({ reason: new Socket.SocketReadError({ cause: new Error("ECONNRESET") }) })
const writeError = () => new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: new Error("EPIPE") }) })
const openError = () =>
  new Socket.SocketError({
    reason: new Socket.SocketOpenError({ kind: "Unknown", cause: new Error("ECONNREFUSED") })
  })

const encoder = new TextEncoder()
const bytesOf = (frame: Frame) => typeof frame === "string" ? encoder.encode(frame) : frame
const capacity = 256 * 1024

/** One direction. */
class Pipe {
  frames: Array<Frame> = []
  size = 0
  end: Socket.SocketError | undefined
  /** Nobody will read any more. */
  gone = false
  /** The writing side has let go. */
  left = false
  reader: Resume<readonly [Frame, ...Array<Frame>]> | undefined
  readonly writers = new Set<Resume<void>>()

  readonly messages: boolean
  readonly flaw: Flaw | undefined

  constructor(messages: boolean, flaw: Flaw | undefined) {
    this.messages = messages
    this.flaw = flaw
  }

  push(frame: Frame): void {
    if (this.flaw === "loses a byte" && frame.length > 5000) frame = frame.slice(1)
    this.frames.push(this.messages && this.flaw !== "makes text binary" ? frame : bytesOf(frame))
    this.size += frame.length
    this.serve()
  }

  serve(): void {
    if (this.reader === undefined) return
    const drop = this.flaw === "drops the rest at the end" && this.end !== undefined
    if (this.frames.length > 0 && !drop) {
      const frames = this.frames as unknown as [Frame, ...Array<Frame>]
      this.frames = []
      this.size = 0
      if (this.flaw === "reorders" && frames.length > 2) frames.reverse()
      const merged = this.flaw === "merges messages" && frames.every((frame) => typeof frame === "string")
        ? [frames.join("")] as const
        : frames
      const resume = this.reader
      this.reader = undefined
      this.wake()
      resume(Effect.succeed(this.flaw === "brings empty batches" ? [] as unknown as [Frame] : merged))
    } else if (this.end !== undefined) {
      const resume = this.reader
      this.reader = undefined
      resume(Effect.fail(this.end))
      if (this.flaw === "tells the end once") this.end = undefined
    }
  }

  /** Lets the writers go on, or tells them that it is over. */
  wake(effect: Effect.Effect<void, Socket.SocketError> = Effect.void): void {
    const writers = [...this.writers]
    this.writers.clear()
    for (const resume of writers) resume(effect)
  }

  readonly pull = Effect.callback<readonly [Frame, ...Array<Frame>], Socket.SocketError>((resume) => {
    this.reader = resume
    this.serve()
    return Effect.sync(() => {
      if (this.flaw !== "feeds a pull that was given up" && this.reader === resume) this.reader = undefined
    })
  })

  readonly room: Effect.Effect<void, Socket.SocketError> = Effect.callback((resume) => {
    if (this.size < capacity || this.flaw === "never waits") return resume(Effect.void)
    this.writers.add(resume)
    return Effect.sync(() => {
      this.writers.delete(resume)
      if (this.flaw !== "tears an interrupted write") return
      const last = this.frames.pop()
      if (last !== undefined) this.frames.push(last.slice(0, last.length / 2))
    })
  })

  finish(error: Socket.SocketError): void {
    this.end ??= error
    this.serve()
  }
}

/** One connection: what each end reads. */
interface Link {
  readonly toServer: Pipe
  readonly toClient: Pipe
}

const links = new WeakMap<Socket.Socket, Link>()

export const make = (options: { readonly messages: boolean; readonly halfClose?: boolean; readonly flaw?: Flaw }) => {
  const { flaw, messages } = options
  const halfClose = options.halfClose ?? !messages
  let held = 0

  /** A socket whose connection comes from `acquire`. */
  const socketOf = (acquire: Effect.Effect<Link, Socket.SocketError, Scope.Scope>, side: "client" | "server") => {
    const latch = Latch.makeUnsafe(false)
    let live: { readonly incoming: Pipe; readonly outgoing: Pipe } | undefined
    const reader = Effect.gen(function*() {
      const link = yield* acquire
      links.set(socket, link)
      const own = {
        incoming: side === "client" ? link.toClient : link.toServer,
        outgoing: side === "client" ? link.toServer : link.toClient
      }
      yield* Effect.addFinalizer(() =>
        Effect.suspend(() => {
          live = undefined
          latch.closeUnsafe()
          if (flaw !== "leaks") held--
          const both = own.outgoing.gone
          own.incoming.gone = true
          own.outgoing.left = true
          own.outgoing.finish(closed(1000))
          if (flaw !== "leaves a write when its connection closes") own.outgoing.wake(Effect.fail(writeError()))
          if (flaw !== "leaves a write when the peer goes") own.incoming.wake(Effect.fail(writeError()))
          own.incoming.frames = []
          if (flaw !== "leaves a pull when its scope closes") own.incoming.finish(closed(1006))
          return flaw === "hangs on release" || (flaw === "hangs when both close" && both) ? Effect.never : Effect.void
        })
      )
      live = own
      latch.openUnsafe()
      return { pull: own.incoming.pull, upgrade: Socket.SocketUpgradeError.unsupported }
    })
    const writeAll = (frames: ReadonlyArray<Frame>): Effect.Effect<void, Socket.SocketError> =>
      Effect.suspend(() => {
        if (live === undefined) {
          return flaw === "drops writes before the connection" ? Effect.void : latch.whenOpen(writeAll(frames))
        }
        const { outgoing } = live
        if (outgoing.gone || outgoing.end !== undefined) {
          return flaw === "dies on a write to the gone" ? Effect.die("gone") : Effect.fail(writeError())
        }
        if (flaw === "interleaves batches") {
          return Effect.andThen(
            Effect.forEach(frames, (frame) => Effect.andThen(Effect.sync(() => outgoing.push(frame)), Effect.yieldNow)),
            outgoing.room
          )
        }
        for (const frame of frames) outgoing.push(frame)
        return outgoing.room
      })
    const write = (frame: Frame | Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> =>
      Effect.suspend(() => {
        if (!Socket.isCloseEvent(frame)) return writeAll([frame])
        if (live === undefined) return latch.whenOpen(write(frame))
        const error = flaw === "forgets the close code" ? closed(1000) : closed(frame.code, frame.reason)
        live.outgoing.finish(error)
        live.incoming.finish(error)
        live.incoming.wake(Effect.fail(writeError()))
        return Effect.void
      })
    const socket = Socket.make({
      reader,
      writer: Effect.acquireRelease(Effect.succeed({ write, writeAll }), () =>
        Effect.sync(() => {
          if (flaw === "swallows the FIN" || live === undefined) return
          if (!halfClose && flaw !== "ends where it cannot half-close") return
          live.outgoing.finish(closed(1000))
          if (flaw === "ends both ways at a FIN") live.incoming.finish(closed(1000))
        }))
    })
    return socket
  }

  const listen: SocketContract.Transport["listen"] = Effect.gen(function*() {
    const backlog = yield* Queue.unbounded<Socket.Socket>()
    const unclaimed = new Map<Socket.Socket, Link>()
    let listening = true
    let running = 0
    let latest: Pipe | undefined
    const destroy = (socket: Socket.Socket) => {
      const link = unclaimed.get(socket)
      if (link === undefined) return
      unclaimed.delete(socket)
      link.toClient.finish(closed(1000))
      link.toServer.gone = true
    }
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        listening = false
        for (const socket of unclaimed.keys()) destroy(socket)
      })
    )
    /** What arrives at the server for one dial. */
    const arrive = Effect.suspend(() => {
      if (!listening || (flaw === "refuses before it runs" && running === 0)) {
        if (flaw === "hangs when refused") return Effect.never
        return Effect.fail(flaw === "tells a refusal as a close" ? closed(1006) : openError())
      }
      const link: Link = { toServer: new Pipe(messages, flaw), toClient: new Pipe(messages, flaw) }
      const before = latest
      latest = link.toClient
      const accepted: Socket.Socket = socketOf(
        Effect.suspend(() => {
          if (!unclaimed.delete(accepted)) return Effect.fail(openError())
          held++
          return Effect.succeed(
            flaw === "crosses connections" && before !== undefined ? { ...link, toClient: before } : link
          )
        }),
        "server"
      )
      unclaimed.set(accepted, link)
      return Effect.as(Queue.offer(backlog, accepted), link)
    })
    const dialling = () => {
      let used = false
      return Effect.gen(function*() {
        if (flaw === "cannot be dialled twice" && used) return yield* Effect.fail(openError())
        used = true
        // a dial takes its time, there and back
        yield* Effect.sleep(1)
        const link = yield* arrive
        if (flaw === "keeps an interrupted dial") yield* Effect.sleep(1)
        else {
          yield* Effect.onInterrupt(Effect.sleep(1), () => Effect.sync(() => link.toServer.finish(closed(1000))))
        }
        held++
        return link
      })
    }
    return {
      dial: Effect.gen(function*() {
        const early = flaw === "dials when it is made" ? yield* Effect.exit(arrive) : undefined
        const dialled = dialling()
        return socketOf(
          early === undefined || Exit.isFailure(early) ? dialled : Effect.as(dialled, early.value),
          "client"
        )
      }),
      server: {
        address: NetAddress.inetAddressFromIpStringUnsafe("127.0.0.1", 7),
        run: (handler) =>
          Effect.gen(function*() {
            const scope = yield* Scope.make()
            running++
            return yield* Effect.gen(function*() {
              while (true) {
                const socket = yield* Queue.take(backlog)
                const handling = Effect.ensuring(handler(socket), Effect.sync(() => destroy(socket)))
                const fiber = yield* Effect.forkIn(Effect.exit(handling), scope, { startImmediately: true })
                if (flaw === "stops when a handler fails" && fiber.pollUnsafe() !== undefined) yield* Effect.never
              }
            }).pipe(
              Effect.ensuring(Effect.suspend(() => {
                running--
                if (flaw === "ends connections when it stops") latest?.finish(closed(1000))
                return flaw === "keeps handlers when it stops" ? Effect.void : Scope.close(scope, Exit.void)
              }))
            )
          })
      }
    }
  })

  const transport: SocketContract.Transport = {
    name: `memory${messages ? " messages" : ""}${flaw === undefined ? "" : ` that ${flaw}`}`,
    messages,
    halfClose,
    listen,
    held: Effect.sync(() => held),
    capacity: 4 * 1024 * 1024,
    abort: (accepted) =>
      Effect.sync(() => {
        const link = links.get(accepted)!
        const error = flaw === "tells a reset as an end" ? closed(1000) : readError()
        for (const pipe of [link.toClient, link.toServer]) {
          pipe.frames = []
          pipe.gone = true
          pipe.finish(error)
          pipe.wake(Effect.fail(writeError()))
        }
      })
  }
  return transport
}
