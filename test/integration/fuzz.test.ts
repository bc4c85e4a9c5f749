/** Bytes that nobody should send, behind a real server, next to a client that behaves. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Net from "node:net"
import { Codec, Connection, type ConnectionError } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { dice, handlerFailures, nothingUnhandled, portOf, serve, until } from "./support/kit.ts"

const rounds = 100
const maxFrame = 4096

interface Family {
  readonly name: string
  readonly codec: Codec.Codec<unknown>
  /** A well-formed message. */
  readonly message: (n: number) => unknown
  /** Bytes that lie about a length, where the family has one. */
  readonly lie?: (next: () => number) => Buffer
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

const families: ReadonlyArray<Family> = [
  { name: "lines", codec: Codec.lines() as Codec.Codec<unknown>, message: (n) => `hello ${n} ✓` },
  {
    name: "lengthPrefix",
    codec: Codec.lengthPrefix() as Codec.Codec<unknown>,
    message: (n) => bytes(`hello ${n}`),
    lie: (next) => {
      const head = Buffer.alloc(4)
      head.writeUInt32BE(Math.floor(next() * 2 ** 32))
      return head
    }
  },
  {
    name: "lengthPrefix of 8 bytes",
    codec: Codec.lengthPrefix({ bytes: 8, adjustment: -8 }) as Codec.Codec<unknown>,
    message: (n) => bytes(`hello ${n}`),
    lie: (next) => Buffer.from(Array.from({ length: 8 }, () => Math.floor(next() * 256)))
  },
  {
    name: "varint",
    codec: Codec.varint() as Codec.Codec<unknown>,
    message: (n) => bytes(`hello ${n}`),
    lie: (next) => Buffer.from(Array.from({ length: 11 }, () => 0x80 | Math.floor(next() * 256)))
  },
  {
    name: "json",
    codec: Codec.lines().pipe(Codec.json),
    message: (n) => ({ n, text: "hello", deep: [[[{ n }]]] }),
    lie: (next) => Buffer.from("[".repeat(1 + Math.floor(next() * maxFrame)) + "\n")
  },
  {
    name: "msgpack",
    codec: Codec.lengthPrefix().pipe(Codec.msgpack),
    message: (n) => ({ n, text: "hello", deep: [[[{ n }]]] }),
    lie: (next) => {
      // an array, a map, a string or a binary of up to 4 Gi elements in a frame of 5 bytes
      const kinds = [0xdd, 0xdf, 0xdb, 0xc6]
      const frame = Buffer.alloc(9)
      frame.writeUInt32BE(5)
      frame[4] = kinds[Math.floor(next() * kinds.length)]
      frame.writeUInt32BE(Math.floor(next() * 2 ** 32), 5)
      return frame
    }
  },
  {
    name: "delimiter",
    codec: Codec.delimiter("\r\n--\r\n") as Codec.Codec<unknown>,
    message: (n) => bytes(`hello ${n}`)
  },
  {
    name: "fixed",
    codec: Codec.fixed(16) as Codec.Codec<unknown>,
    message: (n) => bytes(`hello ${n}`.padEnd(16))
  }
]

/** Bytes as a plain array: Node reads them as a `Buffer`. */
const plain = (message: unknown): unknown => message instanceof Uint8Array ? [...message] : message

/** What one attacker writes: noise, a broken frame, half a frame, a lie, or too much of a frame. */
const attack = (family: Family, next: () => number): Buffer => {
  const encode = Codec.encoder(family.codec)
  const good = () => {
    const encoded = encode(family.message(Math.floor(next() * 1000)))
    if (encoded._tag === "Failure") throw encoded.failure
    return Buffer.from(encoded.success as Uint8Array)
  }
  const noise = (most: number) => Buffer.from(Array.from({ length: Math.floor(next() * most) }, () => next() * 256))
  const kind = Math.floor(next() * 5)
  const body = kind === 0
    ? noise(2000)
    : kind === 1
    ? (() => {
      const frame = good()
      for (let i = 0; i <= next() * 4; i++) frame[Math.floor(next() * frame.length)] ^= 1 << Math.floor(next() * 8)
      return frame
    })()
    : kind === 2
    ? (() => {
      const frame = good()
      return frame.subarray(0, Math.floor(next() * frame.length))
    })()
    : kind === 3
    ? family.lie?.(next) ?? noise(100)
    : Buffer.alloc(maxFrame * 3, Math.floor(next() * 256))
  return Buffer.concat([...(next() < 0.5 ? [good(), good()] : []), body, ...(next() < 0.3 ? [noise(300)] : [])])
}

const expected = new Set<ConnectionError.Reason["_tag"]>([
  "Closed",
  "Reset",
  "Truncated",
  "FrameTooLong",
  "InvalidLength",
  "InvalidMessage"
])

describe("random bytes", () => {
  for (const family of families) {
    it.live(
      `${family.name}: ${rounds} attackers, and a client that is served all the while`,
      () =>
        Effect.gen(function*() {
          yield* nothingUnhandled
          const next = dice(family.name.length * 7919)
          const listener = yield* Listener.make("tcp://127.0.0.1:0", { linger: "200 millis" })
          const served = yield* serve(listener, {
            codec: family.codec,
            policy: { maxFrame, halfClose: "200 millis", drain: "100 millis" }
          })
          let answered = 0
          const good = yield* Effect.flatMap(Dialer.make(listener.url), Connection.make({ codec: family.codec }))
          const behaving = yield* Effect.forkChild(Effect.gen(function*() {
            while (true) {
              const message = family.message(answered)
              yield* good.send(message)
              assert.deepStrictEqual(plain(yield* good.receive), plain(message))
              answered++
              yield* Effect.sleep(1)
            }
          }))
          let slowest = 0
          let memory = 0
          const memoryBefore = process.memoryUsage().arrayBuffers
          for (let wave = 0; wave < rounds / 10; wave++) {
            const before = answered
            const startedAt = performance.now()
            yield* Effect.promise(() =>
              Promise.all(
                Array.from({ length: 10 }, () =>
                  new Promise<void>((resolve) => {
                    const payload = attack(family, next)
                    const cut = Math.floor(next() * payload.length)
                    const how = next()
                    const conn = Net.createConnection({ host: "127.0.0.1", port: portOf(listener) }, () => {
                      conn.resume()
                      conn.write(payload.subarray(0, cut))
                      setImmediate(() => {
                        if (how < 0.2) {
                          conn.write(payload.subarray(cut))
                          conn.resetAndDestroy()
                        } else {
                          conn.end(payload.subarray(cut))
                        }
                      })
                    })
                    conn.on("error", () => {})
                    conn.on("close", () => resolve())
                  }))
              )
            )
            yield* until("the good client is served on", () => answered > before)
            memory = Math.max(memory, process.memoryUsage().arrayBuffers - memoryBefore)
            slowest = Math.max(slowest, performance.now() - startedAt)
          }
          yield* until(
            "every attacker is gone",
            () => served.events.filter(({ _tag }) => _tag === "Closed").length === served.connections.length - 1
          )
          assert.ok(served.connections.length > rounds / 2)
          for (const event of served.events) {
            if (event._tag === "Closed") {
              assert.ok(expected.has(event.snapshot.reason!._tag), event.snapshot.reason!._tag)
            }
          }
          assert.deepStrictEqual(handlerFailures(served.events), [])
          assert.isUndefined(behaving.pollUnsafe())
          assert.strictEqual((yield* good.snapshot).state, "open")
          yield* Fiber.interrupt(behaving)
          assert.strictEqual(yield* served.registry.size, 1)
          assert.ok(slowest < 5000)
          // B13: what is only announced, up to 2^64 bytes, is not allocated; 64 KiB of it are each connection's read
          assert.ok(memory < 32 * 1024 * 1024, `${memory} bytes more`)
        }),
      40_000
    )
  }
})
