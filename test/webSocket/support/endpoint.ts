/** One end of a WebSocket whose upgrade is done, and a peer in the hands of the test that writes and reads raw frames. */
import { assert } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Codec, Connection } from "../../../src/index.ts"
import type { Policy } from "../../../src/index.ts"
import type { Compression } from "../../../src/internal/transport/compression.ts"
import { frameOf } from "../../../src/internal/webSocket/encoding.ts"
import { Opcode } from "../../../src/internal/webSocket/frames.ts"
import { TestSocket } from "../../../src/testing/index.ts"

export type Role = "server" | "client"

/** Lets all that can run run. */
export const settle = Effect.forEach(Array.from({ length: 40 }), () => Effect.yieldNow, { discard: true })

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

/** Frames as a peer of this role sends them. */
export const framesOf = (role: Role) => {
  const maskKey = role === "client" ? () => 0x01020304 : undefined
  const frame = (opcode: number, payload: Uint8Array) => frameOf(opcode, payload, maskKey)
  return {
    text: (text: string) => frame(Opcode.text, utf8(text)),
    /** The first or a later fragment of a text, not its last. */
    fragment: (text: string, isFirst: boolean) => {
      const bytes = frame(isFirst ? Opcode.text : Opcode.continuation, utf8(text))
      bytes[0]! &= 0x7f
      return bytes
    },
    ping: (text = "") => frame(Opcode.ping, utf8(text)),
    pong: (...payload: ReadonlyArray<number>) => frame(Opcode.pong, Uint8Array.from(payload)),
    close: (code: number, reason = "") => frame(Opcode.close, Uint8Array.from([code >> 8, code & 255, ...utf8(reason)]))
  }
}

const names = new Map<number, string>([
  [0x80 | Opcode.text, "text"],
  [0x80 | Opcode.binary, "binary"],
  [0x80 | Opcode.close, "close"],
  [0x80 | Opcode.ping, "ping"],
  [0x80 | Opcode.pong, "pong"]
])

/** Whole frames, in words. Masks are taken off; the last frame may be cut, and is left out then. */
export const read = (chunks: ReadonlyArray<Uint8Array | string>): Array<string> => {
  const bytes = Buffer.concat(chunks.map((chunk) => typeof chunk === "string" ? utf8(chunk) : chunk))
  const frames: Array<string> = []
  for (let at = 0; at + 1 < bytes.length;) {
    const name = names.get(bytes[at]!)
    assert.isDefined(name, `a first byte of ${bytes[at]}`)
    const isMasked = (bytes[at + 1]! & 0x80) !== 0
    const short = bytes[at + 1]! & 0x7f
    const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(at + 2) : bytes.readUInt32BE(at + 6)
    let start = at + (short < 126 ? 2 : short === 126 ? 4 : 10)
    const mask = isMasked ? bytes.subarray(start, start += 4) : undefined
    const payload = Buffer.from(bytes.subarray(start, start + length))
    if (mask !== undefined) { for (let i = 0; i < payload.length; i++) payload[i]! ^= mask[i & 3]! }
    at = start + length
    if (at > bytes.length) break
    const said = name === "close" && length > 0
      ? `${payload.readUInt16BE()} ${payload.subarray(2)}`
      : name === "ping"
      ? Array.from(payload).join()
      : `${payload}`
    frames.push(`${name} ${said}`.trim())
  }
  return frames
}

/** Everything that ends a connection is off, so that a test shows the one limit that it turns on. */
export const quiet: Policy.Patch = {
  pingJitter: 0,
  pingEvery: 0,
  silence: 0,
  writeStall: 0,
  frame: 0,
  idle: 0,
  drain: 0
}

/** A connection over a WebSocket: a server's end, unless said otherwise. */
export const open = Effect.fnUntraced(function*(
  policy: Policy.Patch = {},
  { compression, role = "server", ...more }: Partial<Connection.Options<string, string>> & {
    readonly role?: Role
    readonly compression?: Compression
  } = {}
) {
  yield* TestClock.adjust(0)
  const peer = yield* TestSocket.make()
  const below = Connection.describe(peer.socket, { messages: false, unsent: peer.unsent })
  const socket = Connection.describe(below, {
    messages: true,
    webSocket: {
      role,
      stream: below,
      maskKey: role === "client" ? () => 0x0a0b0c0d : undefined,
      ...(compression === undefined ? {} : { compression: () => compression })
    }
  })
  const scope = yield* Scope.make()
  const c = yield* Scope.provide(
    Connection.make(socket, { codec: Codec.lines(), policy: { ...quiet, ...policy }, ...more }),
    scope
  )
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.interrupt(0)))
  return {
    c,
    peer,
    scope,
    from: framesOf(role === "server" ? "client" : "server"),
    sent: Effect.map(peer.written, read)
  }
})

type Live = Connection.Connection<string>

export const reasonOf = (c: Live) =>
  Effect.map(c.snapshot, ({ reason, state }) => (state === "ended" ? reason!._tag : undefined))

/** At `millis` - 1 from now it lives; one millisecond later it has ended, with the reason that is returned. */
export const endsAfter = Effect.fnUntraced(function*(c: Live, millis: number) {
  yield* TestClock.adjust(millis - 1)
  yield* settle
  assert.isUndefined(yield* reasonOf(c), `ended before ${millis} ms`)
  yield* TestClock.adjust(1)
  yield* settle
  const reason = yield* reasonOf(c)
  assert.isDefined(reason, `still alive after ${millis} ms`)
  return reason
})

/** Lets time pass in steps, and sends something at the end of each. */
export const every = Effect.fnUntraced(
  function*<E>(step: number, times: number, act: (n: number) => Effect.Effect<unknown, E>) {
    for (let n = 1; n <= times; n++) {
      yield* TestClock.adjust(step)
      yield* act(n)
      yield* settle
    }
  }
)
