/** Connections end: orderly, half, from both sides, abruptly; and every waiting pull and write ends with them. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Socket from "effect/socket/Socket"
import type { Transport } from "../../Transport.ts"
import { toBytes } from "../fabric/chunk.ts"
import {
  arrives,
  connect,
  expectBytes,
  isEnd,
  open,
  type OpenSocket,
  pair,
  pattern,
  receiveRest,
  send,
  start
} from "./bench.ts"
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
  within
} from "./check.ts"

/** Everything up to the end has to be this, and the end an orderly one. */
const endsAfter = (transport: Transport, end: OpenSocket, wanted: Uint8Array, what: string) =>
  Effect.gen(function*() {
    const [bytes, error] = yield* receiveRest(transport, end, `${what}, and then the end`)
    yield* expectBytes(bytes, wanted, `${what}, and then the end`)
    yield* expect(error.reason._tag === "SocketCloseError", `a SocketCloseError after ${what}`, describeError(error))
    if (!transport.messages) yield* expect(isEnd(error), `close code 1000 after ${what}`, describeError(error))
  })

const halfClose: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (const first of [0, 1] as const) {
      const ends = yield* connect(transport, bench)
      const [asking, answering] = [ends[first], ends[1 - first]!]
      yield* Effect.all([
        Effect.andThen(
          send(transport, asking, pattern(1, 100_000)),
          within(transport, "a writer to be released", asking.finish)
        ),
        endsAfter(transport, answering, pattern(1, 100_000), "what was written before the half-close")
      ], { concurrency: 2 })
      // some ends close by themselves a moment after the peer's end (`allowHalfOpen: false` of Node)
      yield* quiet(transport)
      yield* send(transport, answering, pattern(2, 1000), pattern(3, 100))
      yield* arrives(transport, asking, pattern(2, 1000), "an answer after the half-close")
      yield* arrives(transport, asking, pattern(3, 100), "an answer after the half-close")
      yield* within(transport, "a writer to be released", answering.finish)
      yield* endsAfter(transport, asking, new Uint8Array(0), "the answer")
    }
  })

const halfCloseWakes: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const pull = yield* begin(Effect.flip(server.pull))
    yield* staysSuspended(transport, "a pull from a silent peer", pull)
    yield* client.finish
    const error = yield* within(transport, "a suspended pull to fail at the peer's half-close", Fiber.await(pull))
    if (error._tag === "Failure") yield* broken("a suspended pull to fail at the peer's half-close", "bytes")
    else yield* expect(isEnd(error.value), "SocketCloseError 1000 at the peer's half-close", describeError(error.value))
  })

const noHalfClose: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    yield* send(transport, client, toBytes("question"))
    yield* within(transport, "a writer to be released", client.finish)
    yield* arrives(transport, server, toBytes("question"), "what was written before the writer was released")
    const pull = yield* begin(server.pull)
    yield* staysSuspended(transport, "a pull, where there is no half-close,", pull)
    yield* Fiber.interrupt(pull)
    yield* send(transport, server, toBytes("answer"))
    yield* arrives(transport, client, toBytes("answer"), "the other direction to work after a writer is released")
  })

const scopeFailsPull: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (const which of [0, 1] as const) {
      const ends = yield* connect(transport, bench)
      const expected = "closing the reader's scope to fail a suspended pull"
      const pull = yield* begin(fails(transport, expected, ends[which].pull))
      yield* staysSuspended(transport, "a pull from a silent peer", pull)
      yield* within(transport, "the reader to be released", ends[which].closeReader)
      yield* within(transport, expected, Fiber.join(pull))
      yield* fails(transport, "a pull after the reader's scope closed to fail", ends[which].pull)
    }
  })

const peerSeesClose: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (const which of [0, 1] as const) {
      const ends = yield* connect(transport, bench)
      const [closing, other] = [ends[which], ends[1 - which]!]
      const pull = yield* begin(endsAfter(transport, other, new Uint8Array(0), "a peer's close"))
      yield* staysSuspended(transport, "a pull from a silent peer", pull)
      yield* within(transport, "a connection to be released", closing.close)
      yield* Fiber.join(pull)
    }
  })

const endedBefore: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (const words of ["", "last words"]) {
      const [client, accepted] = yield* Effect.all([
        Effect.flatMap(bench.dial, (socket) => open(transport, socket, "the dialling end")),
        bench.accept
      ], { concurrency: 2 })
      if (words !== "") yield* send(transport, client, toBytes(words))
      yield* within(transport, "a connection to be released", client.close)
      // the peer's FIN is here before the reader is acquired
      yield* quiet(transport)
      const server = yield* open(transport, accepted, "an accepted end whose peer has closed")
      yield* endsAfter(transport, server, toBytes(words), `${words.length} bytes that came before the reader`)
    }
  })

const flushes: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const size = 300_000
    yield* Effect.all([
      Effect.andThen(send(transport, client, pattern(1, size)), within(transport, "a release", client.close)),
      endsAfter(transport, server, pattern(1, size), "what was written before the close")
    ], { concurrency: 2 })
  })

const endIsSticky: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    yield* client.close
    const [, first] = yield* receiveRest(transport, server)
    for (let i = 0; i < 3; i++) {
      const again = yield* fails(transport, "a pull after the end to fail", server.pull)
      yield* expect(
        describeError(again) === describeError(first),
        `every pull after the end to fail like the first, with ${describeError(first)}`,
        describeError(again)
      )
    }
  })

const bothClose: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (let i = 0; i < 5; i++) {
      const [client, server] = yield* connect(transport, bench)
      const pulls = yield* Effect.forEach([client, server], (end) =>
        begin(fails(transport, "a pull to fail when both ends close", end.pull)))
      yield* Effect.all([
        within(transport, "a connection to be released", client.close),
        within(transport, "a connection to be released", server.close)
      ], { concurrency: 2 })
      yield* Effect.forEach(pulls, Fiber.join)
    }
  })

/** Runs an effect over and over until it fails. */
const loop = (effect: Effect.Effect<unknown, Socket.SocketError>, what: string) =>
  begin(
    Effect.flip(Effect.forever(effect)).pipe(
      Effect.flatMap((error) =>
        Socket.isSocketError(error) ? Effect.void : broken(`${what} to fail with a SocketError`, String(error))
      )
    )
  )

const closeInTraffic: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (const which of [0, 1] as const) {
      const ends = yield* connect(transport, bench)
      const [closing, other] = [ends[which], ends[1 - which]!]
      const chunk = pattern(1, 10_000)
      // traffic has to take time: on a network without latency and a virtual clock it would go on for ever in an instant
      const burst = (end: OpenSocket) => Effect.andThen(end.writer.writeAll([chunk, chunk, chunk]), Effect.sleep(1))
      const pulling = yield* loop(closing.pull, "a pull")
      // the writer of the closing end waits for a next connection by contract, so it is given up
      const writing = yield* loop(burst(closing), "a write")
      const peers = [yield* loop(other.pull, "a pull"), yield* loop(burst(other), "a write")]
      yield* Effect.sleep(5)
      yield* within(transport, "a connection to be released in the middle of traffic", closing.close)
      yield* within(transport, "a pull to fail when its connection is closed in traffic", Fiber.join(pulling))
      yield* Fiber.interrupt(writing)
      for (const fiber of peers) {
        yield* within(transport, "pulls and writes to fail when the peer closes in traffic", Fiber.join(fiber))
      }
    }
  })

const writesToTheGone: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    yield* within(transport, "a connection to be released", server.close)
    yield* receiveRest(transport, client)
    const expected = "writes to a peer that is gone to fail, and none to hang"
    // the first ones may be taken: that the peer is gone is learnt by writing to it
    const chunk = pattern(1, 1000)
    const untilItFails = Effect.gen(function*() {
      while (true) {
        const exit = yield* settle(transport, expected, client.writer.write(chunk))
        if (exit._tag === "Failure") return
        yield* Effect.sleep(1)
      }
    })
    yield* within(transport, expected, untilItFails)
    for (let i = 0; i < 3; i++) yield* fails(transport, expected, client.writer.writeAll([chunk, chunk]))
  })

const closeEvent: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (const which of [0, 1] as const) {
      const ends = yield* connect(transport, bench)
      const [closing, other] = [ends[which], ends[1 - which]!]
      const pulls = yield* Effect.forEach([closing, other], (end) =>
        begin(fails(transport, "a pull to fail after a close event", end.pull)))
      yield* settle(transport, "a close event to be taken", closing.writer.write(new Socket.CloseEvent()))
      yield* Effect.forEach(pulls, Fiber.join)
    }
  })

const abort: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    yield* send(transport, client, toBytes("hello"))
    yield* arrives(transport, server, toBytes("hello"), "a greeting")
    const expected = "a broken connection to be told from an orderly end"
    const pull = yield* begin(fails(transport, expected, client.pull))
    yield* staysSuspended(transport, "a pull from a silent peer", pull)
    yield* transport.abort!(server.socket)
    const error = yield* Fiber.join(pull)
    yield* expect(!isEnd(error) && error.reason._tag !== "SocketOpenError", expected, describeError(error))
    // for good, and not only in the moment of the break
    yield* quiet(transport)
    yield* fails(transport, "a pull after the connection broke to fail", client.pull)
    yield* fails(transport, "a write after the connection broke to fail", client.writer.write(toBytes("x")))
  })

export const closing = [
  check("after a half-close the rest is read, and the other direction still works", halfClose, ["half-close"]),
  check("a half-close fails the peer's suspended pull", halfCloseWakes, ["half-close"]),
  check("releasing a writer that cannot half-close leaves the connection alone", noHalfClose, ["no half-close"]),
  check("closing the reader's scope fails a suspended pull", scopeFailsPull),
  check("closing one end fails the peer's suspended pull", peerSeesClose),
  check("a peer that closed before the reader was acquired has closed", endedBefore),
  check("what was written before a close arrives", flushes),
  check("pulls after the end keep failing in the same way", endIsSticky),
  check("both ends may close at once", bothClose),
  check("closing in the middle of traffic unblocks everybody", closeInTraffic),
  check("writes to a peer that is gone fail and do not hang", writesToTheGone),
  check("a close event ends the connection for both", closeEvent),
  check("a broken connection is no orderly end", abort, ["abort"])
]
