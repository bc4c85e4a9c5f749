/** Message transports: boundaries, text and binary, close codes. */
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import type { Transport } from "../../Transport.ts"
import {
  connect,
  difference,
  type OpenSocket,
  pair,
  pattern,
  receiveMessages,
  receiveRest,
  send,
  start
} from "./bench.ts"
import { type Body, broken, check, describeError, describeValue, expect, quiet, settle } from "./check.ts"

type Message = Uint8Array | string

const same = (seen: Message, wanted: Message): string | undefined =>
  typeof seen !== typeof wanted || typeof seen === "string" || typeof wanted === "string"
    ? seen === wanted ? undefined : `${describeValue(seen)} instead of ${describeValue(wanted)}`
    : difference(seen, wanted)

const arrive = (transport: Transport, end: OpenSocket, wanted: ReadonlyArray<Message>) =>
  Effect.gen(function*() {
    const seen = yield* receiveMessages(transport, end, wanted.length)
    for (let i = 0; i < wanted.length; i++) {
      const problem = same(seen[i]!, wanted[i]!)
      if (problem !== undefined) {
        yield* broken(`message ${i}, which is ${describeValue(wanted[i])}, whole and of its kind`, problem)
      }
    }
  })

// where the lengths of WebSocket frames change their width (RFC 6455, 5.2)
const sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 100_000]

const kinds: Body = (transport) =>
  Effect.gen(function*() {
    const ends = yield* pair(transport)
    const messages = sizes.flatMap((size): ReadonlyArray<Message> => [
      pattern(size, size),
      "x".repeat(Math.max(0, size - 2)) + "\u00e9".repeat(size > 1 ? 1 : 0)
    ])
    for (const which of [0, 1] as const) {
      const [from, to] = [ends[which], ends[1 - which]!]
      yield* Effect.all([
        Effect.forEach(messages, (message) => send(transport, from, message), { discard: true }),
        arrive(transport, to, messages)
      ], { concurrency: 2 })
      yield* Effect.all([
        send(transport, from, messages[0]!, ...messages.slice(1)),
        arrive(transport, to, messages)
      ], { concurrency: 2 })
    }
  })

const boundaries: Body = (transport) =>
  Effect.gen(function*() {
    const [client, server] = yield* pair(transport)
    const messages = Array.from({ length: 100 }, (_, i) => `message ${i}`)
    for (const message of messages) yield* send(transport, client, message)
    // read late, so that several have arrived before the first pull
    yield* quiet(transport)
    yield* arrive(transport, server, messages)
  })

const codes: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    for (const which of [0, 1] as const) {
      for (const [code, reason] of [[1000, ""], [1001, "going"], [4001, "h\u00e9 said so"]] as const) {
        const ends = yield* connect(transport, bench)
        yield* send(transport, ends[which], "last words")
        yield* settle(
          transport,
          "a close event to be taken",
          ends[which].writer.write(new Socket.CloseEvent(code, reason))
        )
        const other = ends[1 - which]!
        yield* arrive(transport, other, ["last words"])
        const [, error] = yield* receiveRest(transport, other)
        yield* expect(
          error.reason._tag === "SocketCloseError" && error.reason.code === code &&
            (error.reason.closeReason ?? "") === reason,
          `SocketCloseError ${code}${reason === "" ? "" : ` "${reason}"`}, as the peer closed`,
          describeError(error)
        )
        yield* receiveRest(transport, ends[which])
      }
    }
  })

export const messages = [
  check("messages stay whole, text stays text and binary stays binary", kinds, ["messages"]),
  check("messages that are read late are not merged", boundaries, ["messages"]),
  check("a close code and its reason reach the peer, after what was sent before", codes, ["messages"])
]
