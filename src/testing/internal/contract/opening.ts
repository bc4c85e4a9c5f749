/** Connections begin: dialling, being refused, being interrupted. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { toBytes } from "../fabric/chunk.ts"
import { arrives, connect, expectBytes, open, pattern, receive, send, start } from "./bench.ts"
import {
  begin,
  type Body,
  broken,
  check,
  describeError,
  expect,
  fails,
  quiet,
  settle,
  staysSuspended,
  succeeds,
  within
} from "./check.ts"

const dialsOnAcquire: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    const socket = yield* bench.dial
    yield* quiet(transport)
    if ((yield* bench.poll) !== undefined) {
      yield* broken("no connection before the reader is acquired", "one that the server handed out")
    }
    yield* connect(transport, bench, Effect.succeed(socket))
  })

const refuses: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    const ends = yield* connect(transport, bench)
    for (const end of ends) yield* within(transport, "a connection to be released", end.close)
    yield* within(transport, "the listener to close", bench.stop)
    for (let i = 0; i < 2; i++) {
      const socket = yield* bench.dial
      const expected = "a dial after the listener closed to fail with a SocketOpenError"
      const error = yield* fails(transport, expected, Effect.scoped(socket.reader))
      yield* expect(error.reason._tag === "SocketOpenError", expected, describeError(error))
    }
  })

const writesWait: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    const dialled = yield* bench.dial
    const scope = yield* Effect.scope
    const early = yield* Scope.provide(dialled.writer, yield* Scope.fork(scope))
    const given = yield* begin(early.write(toBytes("given up")))
    const kept = yield* begin(early.writeAll([toBytes("ke"), toBytes("pt")]))
    yield* staysSuspended(transport, "a write before the dial", kept)
    yield* within(transport, "a write before the dial to be interruptible", Fiber.interrupt(given))
    const [, accepted] = yield* Effect.all([
      open(transport, dialled, "the dialling end"),
      bench.accept
    ], { concurrency: 2 })
    yield* succeeds(transport, "a write made before the dial to go on after it", Fiber.join(kept))
    const answering = yield* Scope.provide(accepted.writer, yield* Scope.fork(scope))
    const answer = yield* begin(answering.write(toBytes("answer")))
    yield* staysSuspended(transport, "a write before the accepted reader is acquired", answer)
    const server = yield* open(transport, accepted, "the accepted end")
    yield* succeeds(transport, "a write made before the reader was acquired to go on after it", Fiber.join(answer))
    const seen = yield* receive(transport, server, 4)
    yield* expectBytes(seen, toBytes("kept"), "the bytes of the write that waited, and of no other")
  })

const interruptedDial: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (let i = 0; i < 24; i++) {
      const socket = yield* bench.dial
      const scope = yield* Scope.make()
      const dial = yield* begin(Scope.provide(socket.reader, scope))
      // both kinds of moments: between two steps of a fiber, and while something real is under way
      if (i % 2 === 0) { for (let turn = 0; turn < i; turn += 2) yield* Effect.yieldNow }
      else yield* Effect.sleep((i - 1) / 2)
      yield* within(transport, "a dial to be interruptible", Fiber.interrupt(dial))
      yield* within(transport, "an interrupted dial to be released", Scope.close(scope, Exit.void))
    }
    // the server may have accepted some of the interrupted dials; those are over, and only ours brings a byte
    yield* Effect.all([
      Effect.gen(function*() {
        const client = yield* open(transport, yield* bench.dial, "the dialling end after interrupted dials")
        yield* send(transport, client, toBytes("!"))
      }),
      Effect.gen(function*() {
        let spoke = false
        while (!spoke) {
          const accepted = yield* bench.accept
          const pull = Effect.flatMap(accepted.reader, ({ pull }) => pull)
          const first = yield* settle(transport, "the connection of an interrupted dial to end", Effect.scoped(pull))
          spoke = Exit.isSuccess(first)
        }
      })
    ], { concurrency: 2 })
  })

const redials: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    const socket = yield* bench.dial
    for (let i = 0; i < 3; i++) {
      const [client, server] = yield* connect(transport, bench, Effect.succeed(socket))
      yield* send(transport, client, pattern(i, 100))
      yield* arrives(transport, server, pattern(i, 100), "the bytes of this connection")
      yield* within(transport, "a connection to be released", client.close)
      yield* within(transport, "a connection to be released", server.close)
    }
  })

const writerOutlives: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    const socket = yield* bench.dial
    const writer = yield* socket.writer
    const first = yield* Scope.make()
    const [, before] = yield* Effect.all([
      succeeds(transport, "the reader to be acquired", Scope.provide(socket.reader, first)),
      Effect.flatMap(bench.accept, (socket) => open(transport, socket, "the accepted end"))
    ], { concurrency: 2 })
    yield* within(transport, "a reader to be released", Scope.close(first, Exit.void))
    yield* before.close
    const between = yield* begin(writer.write(toBytes("later")))
    yield* staysSuspended(transport, "a write between two connections", between)
    const [, server] = yield* Effect.all([
      succeeds(transport, "the reader to be acquired again", socket.reader),
      Effect.flatMap(bench.accept, (socket) => open(transport, socket, "the accepted end"))
    ], { concurrency: 2 })
    yield* succeeds(transport, "a write made between two connections to go on", Fiber.join(between))
    yield* arrives(transport, server, toBytes("later"), "the write made between two connections")
  })

export const opening = [
  check("acquiring the reader dials, and not before", dialsOnAcquire),
  check("a dial that is refused fails with a SocketOpenError", refuses),
  check("a write before the connection waits for it, and one given up is not sent", writesWait),
  check("an interrupted dial leaves nothing behind", interruptedDial),
  check("a socket can be dialled again", redials, ["redial"]),
  check("a writer outlives a connection and waits for the next", writerOutlives, ["redial"])
]
