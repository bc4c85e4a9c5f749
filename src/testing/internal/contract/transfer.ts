/** Bytes arrive: all of them, once, in order, for any number of writers and any pattern of pulls. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Transport } from "../../Transport.ts"
import { toBytes } from "../fabric/chunk.ts"
import {
  arrives,
  concat,
  connect,
  expectBytes,
  open,
  type OpenSocket,
  pair,
  pattern,
  receive,
  receiveRest,
  send,
  start
} from "./bench.ts"
import { begin, type Body, broken, check, describeExit, staysSuspended, succeeds, within } from "./check.ts"

const singleBytes: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const bytes = pattern(1, 512)
    yield* Effect.all([
      Effect.gen(function*() {
        for (let i = 0; i < 512; i += 4) {
          const one = (at: number) => bytes.slice(i + at, i + at + 1)
          yield* succeeds(transport, "a write of one byte to be taken", client.writer.write(one(0)))
          yield* send(transport, client, one(1), one(2))
          yield* send(transport, client, one(3))
        }
      }),
      arrives(transport, server, bytes, "512 bytes, written one by one, in order")
    ], { concurrency: 2 })
  })

const emptyWrites: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const nothing = new Uint8Array(0)
    yield* succeeds(transport, "an empty write to be taken", client.writer.write(nothing))
    yield* succeeds(transport, "an empty text to be taken", client.writer.write(""))
    yield* send(transport, client, nothing, toBytes("a"), nothing)
    yield* send(transport, client, nothing)
    yield* send(transport, client, toBytes("b"))
    yield* arrives(transport, server, toBytes("ab"), "what stood between empty writes")
  })

/** Writes a seed's sequence in pieces of many sizes, so that no boundary is special. */
const pour = (transport: Transport, end: OpenSocket, seed: number, size: number) =>
  Effect.gen(function*() {
    let at = 0
    const next = (bytes: number) => {
      const from = at
      at = Math.min(size, at + bytes)
      return pattern(seed, at - from, from)
    }
    let turn = 0
    while (true) {
      turn++
      const big = turn % 3 === 0 ? 65_536 : 100
      yield* send(transport, end, next(1 + (turn * 977) % 60_000), next(1 + turn % 7), next(big))
      if (at === size) return
    }
  })

const bulk: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const size = transport.bulk ?? 2 * 1024 * 1024
    yield* Effect.all([
      pour(transport, client, 1, size),
      pour(transport, server, 2, size),
      arrives(transport, server, pattern(1, size), `${size} bytes at the accepted end`),
      arrives(transport, client, pattern(2, size), `${size} bytes at the dialling end`)
    ], { concurrency: 4 })
  })

const pingPong: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    yield* Effect.all([
      Effect.gen(function*() {
        for (let i = 0; i < 100; i++) {
          yield* send(transport, client, pattern(i, 8))
          yield* arrives(transport, client, pattern(i + 1000, 8), `the answer to ping ${i}`)
        }
      }),
      Effect.gen(function*() {
        for (let i = 0; i < 100; i++) {
          yield* arrives(transport, server, pattern(i, 8), `ping ${i}`)
          yield* send(transport, server, pattern(i + 1000, 8))
        }
      })
    ], { concurrency: 2 })
  })

const writers = 8
const batches = 32
const pieces = 4
const pieceSize = 1024

// every piece begins with its writer, batch and index
const piece = (writer: number, batch: number, index: number): Uint8Array => {
  const out = pattern(writer * 1000 + batch * 10 + index, pieceSize)
  out.set([writer, batch, index])
  return out
}

const concurrentWriters: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const write = (writer: number) =>
      Effect.gen(function*() {
        for (let batch = 0; batch < batches; batch++) {
          yield* send(transport, client, piece(writer, batch, 0), ...[1, 2, 3].map((i) => piece(writer, batch, i)))
          // without it one fiber would write everything before the next begins
          yield* Effect.yieldNow
        }
      })
    const read = Effect.gen(function*() {
      const next = Array.from({ length: writers }, () => 0)
      for (let i = 0; i < writers * batches; i++) {
        const seen = yield* receive(transport, server, pieces * pieceSize)
        const writer = seen[0]!
        const wanted = concat([0, 1, 2, 3].map((index) => piece(writer, next[writer] ?? 0, index)))
        yield* expectBytes(seen, wanted, `batch ${next[writer]} of writer ${writer}, whole and in its turn`)
        next[writer]!++
      }
    })
    yield* Effect.all([...Array.from({ length: writers }, (_, writer) => write(writer)), read], {
      concurrency: "unbounded"
    })
  })

const textOnStream: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const texts = ["plain", "h\u00e9llo", "\u6f22\u5b57", "\u{1f600}", "\u0000"]
    yield* succeeds(transport, "a text to be taken", client.writer.write(texts[0]!))
    yield* send(transport, client, texts[1]!, toBytes(" and "), ...texts.slice(2))
    yield* arrives(
      transport,
      server,
      toBytes(`${texts[0]}${texts[1]} and ${texts.slice(2).join("")}`),
      "texts as UTF-8"
    )
  })

const interruptedPull: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const size = 64 * 1024
    const waiting = yield* begin(server.pull)
    yield* staysSuspended(transport, "a pull from a silent peer", waiting)
    yield* within(transport, "a pull to be interruptible", Fiber.interrupt(waiting))
    const write = Effect.gen(function*() {
      for (let at = 0; at < size; at += 256) {
        yield* send(transport, client, pattern(1, 256, at))
        yield* Effect.yieldNow
      }
    })
    const read = Effect.gen(function*() {
      let seen = 0
      for (let round = 0; seen < size; round++) {
        const pull = yield* begin(server.pull)
        for (let turn = 0; turn < round % 4; turn++) yield* Effect.yieldNow
        // most rounds give up a pull that has nothing yet; every eighth waits, so that it goes on
        if (round % 8 !== 7) yield* within(transport, "a pull to be interruptible", Fiber.interrupt(pull))
        const exit = yield* within(
          transport,
          `${size} bytes after interrupted pulls, of which ${seen} came`,
          Fiber.await(pull)
        )
        if (Exit.isFailure(exit)) {
          if (round % 8 !== 7) continue
          return yield* broken("more bytes after an interrupted pull", describeExit(exit))
        }
        for (const chunk of exit.value) {
          const bytes = toBytes(chunk)
          yield* expectBytes(
            bytes,
            pattern(1, bytes.byteLength, seen),
            `the bytes from ${seen} on, after interrupted pulls`
          )
          seen += bytes.byteLength
        }
      }
    })
    yield* Effect.all([write, read], { concurrency: 2 })
  })

const manyAtOnce: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    // accepted connections come in any order, so they are echoes: the dialling ends know what is theirs
    const serve = Effect.flatMap(bench.accept, (socket) =>
      Effect.scoped(Effect.gen(function*() {
        const reader = yield* succeeds(transport, "the reader of an accepted end to be acquired", socket.reader)
        const writer = yield* socket.writer
        let seen = 0
        while (seen < 20_000) {
          const batch = yield* succeeds(transport, "20000 bytes", reader.pull)
          seen += batch.reduce((size, chunk) => size + toBytes(chunk).byteLength, 0)
          yield* succeeds(transport, "an echo to be taken", writer.writeAll(batch))
        }
        yield* Effect.exit(within(transport, "the dialling end to close", reader.pull))
      })))
    const talk = (seed: number) =>
      Effect.scoped(Effect.gen(function*() {
        const client = yield* open(transport, yield* bench.dial, "a dialling end")
        yield* Effect.all([
          pour(transport, client, seed, 20_000),
          arrives(transport, client, pattern(seed, 20_000), "the echo of this connection, and of no other")
        ], { concurrency: 2 })
        yield* client.close
      }))
    yield* Effect.all([
      ...Array.from({ length: 16 }, () => serve),
      ...Array.from({ length: 16 }, (_, seed) => talk(seed))
    ], { concurrency: "unbounded" })
  })

const manyShort: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (let i = 0; i < 40; i++) {
      yield* Effect.scoped(Effect.gen(function*() {
        const [client, server] = yield* connect(transport, bench)
        yield* send(transport, client, pattern(i, 10))
        yield* client.close
        const [bytes] = yield* receiveRest(transport, server)
        yield* expectBytes(bytes, pattern(i, 10), `the bytes of connection ${i}`)
        yield* server.close
      }))
    }
  })

export const transfer = [
  check("single bytes arrive in order", singleBytes),
  check("empty writes are harmless", emptyWrites),
  check("large transfers in both directions at once arrive whole", bulk),
  check("ping-pong", pingPong),
  check("batches of concurrent writers do not interleave", concurrentWriters),
  check("text on a stream is UTF-8", textOnStream, ["stream"]),
  check("an interrupted pull loses no byte", interruptedPull),
  check("connections at the same time do not mix", manyAtOnce),
  check("many short connections, one after the other", manyShort)
]
