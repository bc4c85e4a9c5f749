/** A conversation between two ends, and the transcript of what both observe. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type { SocketContract } from "../../../src/testing/index.ts"

/** How long things take where a conversation is held. */
export interface Pace {
  /** Long enough for everything under way to arrive. */
  readonly settle: Effect.Effect<void>
  /** The milliseconds after which a step counts as one that waits for ever. */
  readonly patience: number
}

/** One end. */
export interface Speaker {
  readonly socket: Socket.Socket
  /** Notes what pulls brought until so much was read, or it ended. */
  readonly read: (size?: number) => Effect.Effect<void>
  readonly write: (...chunks: ReadonlyArray<Uint8Array | string | Socket.CloseEvent>) => Effect.Effect<void>
  /** Writes 64 KiB at a time until a write waits; what becomes of that one is noted by `join`. */
  readonly fill: Effect.Effect<{ readonly join: Effect.Effect<void> }, never, Scope.Scope>
  readonly finish: Effect.Effect<void>
  readonly close: Effect.Effect<void>
}

export interface Stage {
  readonly note: (line: string) => Effect.Effect<void>
  readonly settle: Effect.Effect<void>
  readonly dial: (name?: string) => Effect.Effect<Speaker | undefined, never, Scope.Scope>
  readonly accept: (name?: string) => Effect.Effect<Speaker, never, Scope.Scope>
  readonly pair: Effect.Effect<readonly [client: Speaker, server: Speaker], never, Scope.Scope>
  /** Sends RST from the accepting side. */
  readonly abort: (accepted: Speaker) => Effect.Effect<void>
  /** Stops listening. */
  readonly stop: Effect.Effect<void>
}

export type Scenario = (stage: Stage) => Effect.Effect<void, never, Scope.Scope>

/** The transcript of a scenario: results, kinds and codes of errors, bytes, and their order; never times. */
export const perform = (
  transport: SocketContract.Transport,
  pace: Pace,
  play: Scenario
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.suspend(() => {
    const transcript: Array<string> = []
    return Effect.scoped(Effect.flatMap(stageOf(transport, pace, transcript), play)).pipe(
      // a speaker that could not be opened in time is no end of the test: a slower pace may do
      Effect.catchDefect((defect) => Effect.sync(() => void transcript.push(`a defect: ${String(defect)}`))),
      Effect.as(transcript)
    )
  })

const decoder = new TextDecoder()
const textOf = (chunks: ReadonlyArray<Uint8Array | string>) =>
  chunks.map((chunk) => typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: false })).join("")

const ending = ({ reason }: Socket.SocketError): string => {
  if (reason._tag === "SocketCloseError") return `SocketCloseError ${reason.code}`
  const cause = "cause" in reason ? reason.cause as { readonly code?: string; readonly message?: string } : undefined
  return `${reason._tag} ${cause?.code ?? cause?.message}`
}

const brief = (text: string): string => {
  if (text.length <= 40) return JSON.stringify(text)
  let hash = 0
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0
  return `${text.length} characters, ${hash}`
}

const stageOf = (transport: SocketContract.Transport, { patience, settle }: Pace, transcript: Array<string>) =>
  Effect.gen(function*() {
    const note = (line: string) => Effect.sync(() => void transcript.push(line))
    const outcome = <A>(who: string, effect: Effect.Effect<A, Socket.SocketError>, show: (value: A) => string) =>
      Effect.exit(effect).pipe(
        Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.undefined }),
        Effect.flatMap((exit) => {
          if (exit === undefined) return Effect.as(note(`${who}: waits`), undefined)
          if (Exit.isSuccess(exit)) return Effect.as(note(`${who}: ${show(exit.value)}`), exit.value)
          const failure = exit.cause.reasons.find((reason) => reason._tag === "Fail")
          return Effect.as(note(`${who}: ${failure === undefined ? "a defect" : ending(failure.error)}`), undefined)
        })
      )
    const scope = yield* Effect.scope
    const listening = yield* Scope.make()
    const { dial, server } = yield* Effect.orDie(Scope.provide(transport.listen, listening))
    const accepted = yield* Queue.unbounded<Socket.Socket>()
    const loop = yield* Effect.forkScoped(
      server.run((socket) => Effect.andThen(Queue.offer(accepted, socket), Effect.never)),
      { startImmediately: true }
    )
    const speak = (who: string, socket: Socket.Socket) =>
      Effect.gen(function*() {
        const reading = yield* Scope.fork(scope)
        const writing = yield* Scope.fork(scope)
        const reader = yield* outcome(`${who} opens`, Scope.provide(socket.reader, reading), () => "open")
        if (reader === undefined) return undefined
        const writer = yield* Scope.provide(socket.writer, writing)
        const read = (size = Infinity) =>
          Effect.gen(function*() {
            let seen = ""
            const before = transcript.length
            while (seen.length < size) {
              const batch = yield* outcome(who, reader.pull, () => "")
              if (batch === undefined) {
                // the last line is how it ended; what was read goes before it
                const end = transcript.at(-1)!
                transcript.length = before
                if (seen !== "") transcript.push(`${who} reads ${brief(seen)}`)
                transcript.push(end)
                return
              }
              seen += textOf(batch)
              transcript.length = before
            }
            transcript.push(`${who} reads ${brief(seen)}`)
          })
        const write = (...chunks: ReadonlyArray<Uint8Array | string | Socket.CloseEvent>) =>
          Effect.forEach(chunks, (chunk) => outcome(`${who} writes`, writer.write(chunk), () => "taken"), {
            discard: true
          })
        const fill = Effect.gen(function*() {
          const chunk = "x".repeat(65_536)
          let taken = 0
          const fiber = yield* Effect.forkScoped(
            Effect.gen(function*() {
              while (true) {
                yield* writer.write(chunk)
                taken++
              }
            })
          )
          for (let before = -1; before !== taken;) {
            before = taken
            yield* settle
          }
          return { join: Effect.asVoid(outcome(`${who} writes on`, Fiber.join(fiber), () => "taken")) }
        })
        return {
          socket,
          read,
          write,
          fill,
          finish: Scope.close(writing, Exit.void),
          close: Effect.andThen(Scope.close(writing, Exit.void), Scope.close(reading, Exit.void))
        }
      })
    const accept = (name = "server") =>
      Effect.flatMap(Queue.take(accepted), (socket) => Effect.map(speak(name, socket), (speaker) => speaker!))
    const dialAs = (name = "client") =>
      Effect.flatMap(Effect.orDie(Scope.provide(dial, scope)), (socket) => speak(name, socket))
    const stage: Stage = {
      note,
      settle,
      dial: dialAs,
      accept,
      pair: Effect.gen(function*() {
        const client = (yield* dialAs())!
        return [client, yield* accept()] as const
      }),
      abort: ({ socket }) => transport.abort!(socket),
      // Effect's listener waits for its connections
      stop: Effect.andThen(
        Fiber.interrupt(loop),
        Effect.andThen(Effect.forkDetach(Scope.close(listening, Exit.void), { startImmediately: true }), settle)
      )
    }
    yield* Effect.addFinalizer(() => Effect.forkDetach(Scope.close(listening, Exit.void)))
    return stage
  })
