/** A peer that does not read: writers wait for it, in bounded memory, and go on. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Socket from "effect/socket/Socket"
import type { Transport } from "../../Transport.ts"
import {
  arrives,
  difference,
  expectBytes,
  type OpenSocket,
  pair,
  pattern,
  receive,
  receiveRest,
  send
} from "./bench.ts"
import { beginScoped, type Body, broken, check, describeExit, quiet, settle, succeeds, within } from "./check.ts"

const chunkSize = 64 * 1024

/** A writer that is suspended because its peer does not read. */
interface Stuck {
  /** The writing fiber; interrupting it gives up the suspended write. */
  readonly fiber: Fiber.Fiber<never, Socket.SocketError>
  /** The chunks whose writes were taken. Chunk `n` is `pattern(n, chunkSize)`. */
  readonly taken: () => number
}

/** Writes until a write stays suspended. */
const fill = (transport: Transport, end: OpenSocket) =>
  Effect.gen(function*() {
    const capacity = transport.capacity ?? 64 * 1024 * 1024
    let taken = 0
    let full = false
    const fiber: Fiber.Fiber<never, Socket.SocketError> = yield* beginScoped(
      Effect.gen(function*() {
        while (true) {
          yield* end.writer.writeAll([pattern(taken, chunkSize)])
          taken++
          // once it was full, a peer may take as much as it likes
          if (!full && taken * chunkSize > capacity) return yield* Effect.never
        }
      })
    )
    const settled = Effect.gen(function*() {
      let before = -1
      let still = 0
      // twice without progress, so that a slow machine is not taken for a full buffer
      while (still < 2) {
        yield* quiet(transport)
        const exit = fiber.pollUnsafe()
        if (exit !== undefined) yield* broken("a write to wait for a peer that does not read", describeExit(exit))
        if (taken * chunkSize > capacity) {
          yield* broken(
            `a write to wait for a peer that does not read, before ${capacity} bytes were taken`,
            `${taken * chunkSize} bytes taken`
          )
        }
        still = taken === before ? still + 1 : 0
        before = taken
      }
    })
    yield* settled
    full = true
    const stuck: Stuck = { fiber, taken: () => taken }
    return stuck
  })

const chunks = (transport: Transport, end: OpenSocket, from: number, to: number) =>
  Effect.gen(function*() {
    for (let i = from; i < to; i++) {
      yield* arrives(transport, end, pattern(i, chunkSize), `chunk ${i} of a writer that had to wait`)
    }
  })

const suspends: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const { fiber, taken } = yield* fill(transport, client)
    const full = taken()
    // the suspended one and some after it
    yield* chunks(transport, server, 0, full + 8)
    yield* Fiber.interrupt(fiber)
  })

const otherDirection: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    yield* fill(transport, client)
    yield* send(transport, server, pattern(7, 1000))
    yield* arrives(transport, client, pattern(7, 1000), "the other direction to work while one is full")
  })

const interruptedWrite: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const { fiber, taken } = yield* fill(transport, client)
    yield* within(transport, "a suspended write to be interruptible", Fiber.interrupt(fiber))
    const full = taken()
    // what comes after the write given up, so that it is seen where that one ends
    const marker = pattern(999_983, chunkSize)
    yield* Effect.all([
      succeeds(transport, "a write after an interrupted one to be taken", client.writer.write(marker)),
      Effect.gen(function*() {
        yield* chunks(transport, server, 0, full)
        const next = yield* receive(transport, server, chunkSize)
        if (difference(next, marker) === undefined) return
        yield* expectBytes(next, pattern(full, chunkSize), "an interrupted write to arrive whole or not at all")
        yield* arrives(transport, server, marker, "the write after an interrupted one")
      })
    ], { concurrency: 2 })
  })

/** A suspended writer has to come to its end, in any way but a defect. */
const comesToItsEnd = (transport: Transport, { fiber }: Stuck, expected: string) =>
  Effect.flatMap(settle(transport, expected, Fiber.join(fiber)), () => Effect.void)

const ownClose: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const stuck = yield* fill(transport, client)
    const expected = "a suspended write to end when its own connection is closed"
    // only the reader: the writer is in use
    const closing = yield* beginScoped(client.closeReader)
    // a writer waits for the next connection once this one is over, and that is no hang: one write has to settle
    yield* Effect.raceFirst(
      comesToItsEnd(transport, stuck, expected),
      progress(transport, stuck, expected)
    )
    yield* within(transport, "the reader to be released", Fiber.join(closing))
    yield* server.close
  })

const progress = (transport: Transport, { taken }: Stuck, expected: string) => {
  const before = taken()
  return within(
    transport,
    expected,
    Effect.gen(function*() {
      while (taken() === before) yield* Effect.sleep(1)
    })
  )
}

const peerClose: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const stuck = yield* fill(transport, client)
    yield* within(transport, "the reader to be released", server.close)
    // a peer that goes may still take what is under way, so writes may go on for a while
    yield* comesToItsEnd(transport, stuck, "a suspended write to fail when the peer is gone")
  })

const closeWhileFull: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const { fiber, taken } = yield* fill(transport, client)
    yield* Fiber.interrupt(fiber)
    const full = taken()
    yield* Effect.all([
      within(transport, "a connection to be released", client.close),
      Effect.gen(function*() {
        yield* chunks(transport, server, 0, full)
        yield* receiveRest(transport, server)
      })
    ], { concurrency: 2 })
  })

export const pressure = [
  check("a writer waits for a peer that does not read, and goes on when it does", suspends),
  check("a full direction does not stop the other", otherDirection),
  check("an interrupted write tears nothing", interruptedWrite),
  check("a suspended write ends when its own connection is closed", ownClose),
  check("a suspended write fails when the peer is gone", peerClose),
  check("what was taken before a close arrives, however slow the peer", closeWhileFull)
]
