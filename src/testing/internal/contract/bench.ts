/** What every check does: connect two ends, bound each step, and say what was expected and seen. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import { concat, toBytes } from "./bytes.ts"
import type { Check, Need, Transport } from "./model.ts"
import { ContractViolation } from "./model.ts"

/** A promise that was not kept, before it is known whose and in which check. */
export class Broken extends Data.TaggedError("Broken")<{ readonly expected: string; readonly seen: string }> {}

/** The body of a check. */
export type Body = (transport: Transport) => Effect.Effect<void, Broken, Scope.Scope>

export const broken = (expected: string, seen: string): Effect.Effect<never, Broken> =>
  Effect.fail(new Broken({ expected, seen }))

export const expect = (holds: boolean, expected: string, seen: string): Effect.Effect<void, Broken> =>
  holds ? Effect.void : broken(expected, seen)

// ---------------------------------------------------------------------------------------------------------------------
// time
// ---------------------------------------------------------------------------------------------------------------------

const deadlineOf = (transport: Transport): Duration.Duration =>
  Duration.fromInputUnsafe(transport.deadline ?? "5 seconds")

/** A step that has to end in time. `expected` is what it should have come to. */
export const within = <A, E, R>(
  transport: Transport,
  expected: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | Broken, R> => {
  const deadline = deadlineOf(transport)
  return Effect.timeoutOrElse(effect, {
    duration: deadline,
    orElse: () => broken(expected, `nothing within ${Duration.format(deadline)}`)
  })
}

/** Lets time pass in which nothing should happen. */
export const quiet = (transport: Transport): Effect.Effect<void> => Effect.sleep(transport.quiet ?? "50 millis")

/** Fails unless the fiber is suspended, and stays so for a while. */
export const staysSuspended = (
  transport: Transport,
  what: string,
  fiber: Fiber.Fiber<unknown, unknown>
): Effect.Effect<void, Broken> =>
  Effect.flatMap(quiet(transport), () => {
    const exit = fiber.pollUnsafe()
    return exit === undefined ? Effect.void : broken(`${what} to stay suspended`, describeExit(exit))
  })

/** How a step ended: with a value or a `SocketError`; a defect or a hang breaks the contract. */
export const settle = <A, R>(
  transport: Transport,
  expected: string,
  effect: Effect.Effect<A, Socket.SocketError, R>
): Effect.Effect<Exit.Exit<A, Socket.SocketError>, Broken, R> =>
  Effect.flatMap(
    within(transport, expected, Effect.exit(effect)),
    (exit) =>
      Exit.isSuccess(exit) ||
        exit.cause.reasons.every((reason) => Cause.isFailReason(reason) && Socket.isSocketError(reason.error))
        ? Effect.succeed(exit)
        : broken(`${expected}, or a SocketError`, describeExit(exit))
  )

/** A step that has to succeed. */
export const succeeds = <A, R>(
  transport: Transport,
  expected: string,
  effect: Effect.Effect<A, Socket.SocketError, R>
): Effect.Effect<A, Broken, R> =>
  Effect.flatMap(
    settle(transport, expected, effect),
    (exit) => Exit.isSuccess(exit) ? Effect.succeed(exit.value) : broken(expected, describeExit(exit))
  )

/** A step that has to fail with a `SocketError`. */
export const fails = <R>(
  transport: Transport,
  expected: string,
  effect: Effect.Effect<unknown, Socket.SocketError, R>
): Effect.Effect<Socket.SocketError, Broken, R> =>
  Effect.flatMap(settle(transport, expected, effect), (exit) =>
    Exit.isSuccess(exit)
      ? broken(expected, describeExit(exit))
      : Effect.succeed(Cause.squash(exit.cause) as Socket.SocketError))

export const describeError = ({ reason }: Socket.SocketError): string => {
  if (reason._tag === "SocketCloseError") {
    return `SocketCloseError ${reason.code}${reason.closeReason ? ` "${reason.closeReason}"` : ""}`
  }
  const cause = "cause" in reason && reason.cause instanceof Error ? reason.cause.message : ""
  return cause === "" ? reason._tag : `${reason._tag} (${cause})`
}

export const describeExit = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) {
    return exit.value === undefined ? "success" : `success with ${describeValue(exit.value)}`
  }
  return exit.cause.reasons.map((reason) =>
    Cause.isFailReason(reason)
      ? Socket.isSocketError(reason.error) ? describeError(reason.error) : describeValue(reason.error)
      : Cause.isDieReason(reason)
      ? `a defect: ${describeValue(reason.defect)}`
      : "an interruption"
  ).join(" and ")
}

export const describeValue = (value: unknown): string => {
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`
  if (typeof value === "string") {
    return value.length > 60
      ? `a text of ${value.length} characters`
      : JSON.stringify(value)
  }
  if (Array.isArray(value)) {
    return `[${value.slice(0, 5).map(describeValue).join(", ")}${value.length > 5 ? ", ..." : ""}]`
  }
  return value instanceof Error ? value.message : String(value)
}

// ---------------------------------------------------------------------------------------------------------------------
// ends
// ---------------------------------------------------------------------------------------------------------------------

/** One end of a live connection. */
export interface End {
  readonly socket: Socket.Socket
  readonly pull: Effect.Effect<NonEmptyReadonlyArray<Uint8Array | string>, Socket.SocketError>
  readonly writer: Socket.Writer
  /** Releases the writer. */
  readonly finish: Effect.Effect<void>
  /** Releases the writer and then the reader, as a scope that holds both does. */
  readonly close: Effect.Effect<void>
  /** Releases the reader alone. */
  readonly closeReader: Effect.Effect<void>
  /** Pulled and not asked for yet. */
  rest: Array<Uint8Array | string>
}

/** A scope of its own inside the check's. */
const subScope: Effect.Effect<Scope.Closeable, never, Scope.Scope> = Effect.acquireRelease(
  Scope.make(),
  (scope, exit) => Scope.close(scope, exit)
)

/** Acquires both sides of a socket. */
export const open = (
  transport: Transport,
  socket: Socket.Socket,
  who: string
): Effect.Effect<End, Broken, Scope.Scope> =>
  Effect.gen(function*() {
    const readerScope = yield* subScope
    const writerScope = yield* subScope
    const { pull } = yield* succeeds(
      transport,
      `the reader of ${who} to be acquired`,
      Scope.provide(socket.reader, readerScope)
    )
    const writer = yield* Scope.provide(socket.writer, writerScope)
    return {
      socket,
      pull,
      writer,
      finish: Scope.close(writerScope, Exit.void),
      close: Effect.andThen(Scope.close(writerScope, Exit.void), Scope.close(readerScope, Exit.void)),
      closeReader: Scope.close(readerScope, Exit.void),
      rest: []
    }
  })

/** A server whose connections wait in a queue. */
export interface Bench {
  /** Makes a socket to the server, not dialled yet. */
  readonly dial: Effect.Effect<Socket.Socket, Broken, Scope.Scope>
  /** The next connection that the server handed out. */
  readonly accept: Effect.Effect<Socket.Socket, Broken>
  /** The same, if there is one. */
  readonly poll: Effect.Effect<Socket.Socket | undefined>
  /** Stops the accept loop. */
  readonly pause: Effect.Effect<void>
  /** Closes the listener, and the accept loop with it. */
  readonly stop: Effect.Effect<void>
}

const failWith = (expected: string) => (cause: Cause.Cause<unknown>): Effect.Effect<never, Broken> =>
  broken(expected, describeExit(Exit.failCause(cause)))

/** Listens, without an accept loop. */
export const listen = (transport: Transport) =>
  Effect.gen(function*() {
    const scope = yield* subScope
    const { dial, server } = yield* within(
      transport,
      "to listen",
      Effect.catchCause(Scope.provide(transport.listen, scope), failWith("to listen"))
    )
    return {
      server,
      dial: Effect.catchCause(dial, failWith("a socket to be made")) as Effect.Effect<
        Socket.Socket,
        Broken,
        Scope.Scope
      >,
      stop: Scope.close(scope, Exit.void)
    }
  })

/** Listens, and accepts everybody. The handlers never end by themselves: the checks own the sockets. */
export const start = (transport: Transport): Effect.Effect<Bench, Broken, Scope.Scope> =>
  Effect.gen(function*() {
    const { dial, server, stop } = yield* listen(transport)
    const accepted = yield* Queue.unbounded<Socket.Socket, Broken>()
    const fiber = yield* run(server, accepted)
    return {
      dial,
      accept: within(transport, "the server to hand out a connection", Queue.take(accepted)),
      poll: Effect.map(
        Effect.orElseSucceed(Queue.poll(accepted), () => undefined),
        (taken) => taken?._tag === "Some" ? taken.value : undefined
      ),
      pause: Effect.asVoid(Fiber.interrupt(fiber)),
      stop: Effect.andThen(Fiber.interrupt(fiber), stop)
    }
  })

/** Runs an accept loop that puts its sockets into a queue, and fails the queue when it fails itself. */
export const run = (
  server: SocketServer.SocketServer["Service"],
  accepted: Queue.Queue<Socket.Socket, Broken>
): Effect.Effect<Fiber.Fiber<unknown, unknown>, never, Scope.Scope> =>
  server.run((socket) => Effect.andThen(Queue.offer(accepted, socket), Effect.never)).pipe(
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause) : Queue.fail(
        accepted,
        new Broken({ expected: "the accept loop to run on", seen: describeExit(Exit.failCause(cause)) })
      )
    ),
    Effect.forkScoped({ startImmediately: true })
  )

/** One more connection: the dialling end and the accepted one. */
export const connect = (
  transport: Transport,
  bench: Bench
): Effect.Effect<readonly [client: End, server: End], Broken, Scope.Scope> =>
  Effect.gen(function*() {
    const socket = yield* bench.dial
    return yield* Effect.all([
      open(transport, socket, "the dialling end"),
      Effect.flatMap(bench.accept, (socket) => open(transport, socket, "the accepted end"))
    ], { concurrency: 2 })
  })

/** A connection of its own. */
export const pair = (transport: Transport) => Effect.flatMap(start(transport), (bench) => connect(transport, bench))

// ---------------------------------------------------------------------------------------------------------------------
// reading
// ---------------------------------------------------------------------------------------------------------------------

const pullInto = (transport: Transport, end: End, expected: string): Effect.Effect<void, Broken> =>
  Effect.flatMap(succeeds(transport, expected, end.pull), (batch) => {
    if (batch.length === 0) return broken("a pull to bring at least one chunk", "an empty batch")
    end.rest.push(...batch)
    return Effect.void
  })

/** The next `size` bytes, messages joined. What came with them is kept for the next call. */
export const receive = (transport: Transport, end: End, size: number): Effect.Effect<Uint8Array, Broken> =>
  Effect.gen(function*() {
    const parts: Array<Uint8Array> = []
    let missing = size
    while (missing > 0) {
      while (end.rest.length === 0) {
        yield* pullInto(transport, end, `${size} bytes, of which ${size - missing} came`)
      }
      const part = toBytes(end.rest.shift()!)
      if (part.byteLength > missing) end.rest.unshift(part.subarray(missing))
      parts.push(part.subarray(0, missing))
      missing -= Math.min(missing, part.byteLength)
    }
    return concat(parts)
  })

/** The next messages, as they are. */
export const receiveMessages = (
  transport: Transport,
  end: End,
  count: number
): Effect.Effect<ReadonlyArray<Uint8Array | string>, Broken> =>
  Effect.gen(function*() {
    while (end.rest.length < count) {
      yield* pullInto(transport, end, `${count} messages, of which ${end.rest.length} came`)
    }
    return end.rest.splice(0, count)
  })

/** Everything up to the end, and the end. */
export const receiveRest = (
  transport: Transport,
  end: End,
  expected: string = "the connection to end"
): Effect.Effect<readonly [Uint8Array, Socket.SocketError], Broken> =>
  Effect.gen(function*() {
    const parts = end.rest.splice(0).map(toBytes)
    while (true) {
      const exit = yield* settle(transport, expected, end.pull)
      if (Exit.isFailure(exit)) return [concat(parts), Cause.squash(exit.cause) as Socket.SocketError] as const
      parts.push(...exit.value.map(toBytes))
    }
  })

/** Writes that have to succeed. */
export const send = (
  transport: Transport,
  end: End,
  ...chunks: NonEmptyReadonlyArray<Uint8Array | string>
): Effect.Effect<void, Broken> => succeeds(transport, "a write to be taken", end.writer.writeAll(chunks))

/** Whether an error is the orderly end of a stream. */
export const isEnd = ({ reason }: Socket.SocketError): boolean =>
  reason._tag === "SocketCloseError" && reason.code === 1000

// ---------------------------------------------------------------------------------------------------------------------
// checks
// ---------------------------------------------------------------------------------------------------------------------

const has: Record<Need, (transport: Transport) => boolean> = {
  stream: (transport) => !transport.messages,
  messages: (transport) => transport.messages,
  "half-close": (transport) => transport.halfClose,
  "no half-close": (transport) => !transport.halfClose,
  redial: (transport) => transport.redial !== false,
  abort: (transport) => transport.abort !== undefined
}

export const missing = (transport: Transport, needs: ReadonlyArray<Need>): ReadonlyArray<Need> =>
  needs.filter((need) => !has[need](transport))

/** Fails unless what the implementation holds goes back to what it was. */
const released = (transport: Transport, before: number): Effect.Effect<void, Broken> =>
  transport.held === undefined ? Effect.void : Effect.gen(function*() {
    const step = Duration.times(deadlineOf(transport), 0.01)
    let now = yield* transport.held!
    for (let i = 0; i < 100 && now > before; i++) {
      yield* Effect.sleep(step)
      now = yield* transport.held!
    }
    if (now > before) yield* broken(`everything to be released: ${before} held before the check`, `${now} after it`)
  })

/** Makes a check of its body. */
export const check = (name: string, body: Body, needs: ReadonlyArray<Need> = []): Check => ({
  name,
  needs,
  run: (transport) => {
    const unmet = missing(transport, needs)
    const limit = Duration.times(deadlineOf(transport), 3)
    const whole = Effect.gen(function*() {
      const before = transport.held === undefined ? 0 : yield* transport.held
      yield* Effect.scoped(body(transport))
      yield* released(transport, before)
    })
    // detached, so that a release that hangs does not take the check with it
    const bounded = Effect.gen(function*() {
      const fiber = yield* Effect.forkDetach(whole, { startImmediately: true })
      const exit = yield* Fiber.await(fiber).pipe(
        Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.undefined }),
        Effect.onInterrupt(() => Fiber.interrupt(fiber))
      )
      if (exit === undefined) {
        fiber.interruptUnsafe()
        return yield* broken("the check and all releases to end", `them still running after ${Duration.format(limit)}`)
      }
      return yield* exit
    })
    return (unmet.length > 0 ? broken(`a transport with ${unmet.join(" and ")}`, "one without") : bounded).pipe(
      Effect.catchCause((cause) => {
        const failure = cause.reasons.find(Cause.isFailReason)?.error
        if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
        const { expected, seen } = failure ?? { expected: "no defect", seen: describeExit(Exit.failCause(cause)) }
        return Effect.fail(new ContractViolation({ transport: transport.name, check: name, expected, seen }))
      }),
      // handlers that fail are part of it, and servers log them
      Effect.provideService(References.MinimumLogLevel, "None")
    )
  }
})
