/** How much a codec does for each byte that comes, however few come at a time: counted, not timed. */
import { assert, describe, it } from "@effect/vitest"
import { JsonRpc, Mqtt, Nats, Resp, Sse } from "../../src/codecs/index.ts"
import { Codec } from "../../src/index.ts"

interface Searched {
  indexOf: (item: number, from?: number) => number
  lastIndexOf: (item: number, from?: number) => number
  includes: (item: number, from?: number) => boolean
  set: (source: ArrayLike<number>, at?: number) => void
}

const proto = Object.getPrototypeOf(Uint8Array.prototype) as Searched
const { includes, indexOf, lastIndexOf, set } = proto

/** How many bytes are searched, copied and decoded as text while `f` runs. */
const work = (f: () => void): number => {
  const text = TextDecoder.prototype.decode
  let bytes = 0
  proto.indexOf = function(this: Uint8Array, item, from = 0) {
    const at = indexOf.call(this, item, from)
    bytes += (at < 0 ? this.length : at + 1) - from
    return at
  }
  proto.lastIndexOf = function(this: Uint8Array, item, from = this.length - 1) {
    const at = lastIndexOf.call(this, item, from)
    bytes += from + 1 - Math.max(0, at)
    return at
  }
  proto.includes = function(this: Uint8Array, item) {
    return this.indexOf(item) >= 0
  }
  proto.set = function(this: Uint8Array, source, at) {
    bytes += source.length
    set.call(this, source, at)
  }
  TextDecoder.prototype.decode = function(input, options) {
    bytes += input?.byteLength ?? 0
    return text.call(this, input, options)
  }
  try {
    f()
  } finally {
    Object.assign(proto, { includes, indexOf, lastIndexOf, set })
    TextDecoder.prototype.decode = text
  }
  return bytes
}

const size = 60_000
const many = (unit: string) => unit.repeat(Math.ceil(size / unit.length))
const long = "x".repeat(size)

/** What has one frame that is long, or never ends, or many short ones. */
const cases: ReadonlyArray<readonly [name: string, codec: Codec.Codec<unknown, never>, wire: string]> = [
  ["a line", Codec.lines() as never, `${long}\n`],
  ["a line of returns", Codec.lines() as never, many("\r")],
  ["lines of JSON", Codec.lines().pipe(Codec.json) as never, many("{\"a\":1}\n")],
  ["a delimiter that nearly comes", Codec.delimiter("\r\n\r\n") as never, many("\r\n\r")],
  ["a line of SSE", Sse.make() as never, `data: ${long}`],
  ["an event of SSE", Sse.make() as never, many("data\r\n")],
  ["events of SSE", Sse.make() as never, many("data: 1\n\n")],
  ["a line of RESP", Resp.make() as never, `+${long}`],
  ["a bulk string of RESP", Resp.make() as never, `$${size}\r\n${long}\r\n`],
  ["an array of RESP", Resp.make() as never, `*${size / 4}\r\n${many(":1\r\n")}`],
  ["a control line of NATS", Nats.make() as never, "X".repeat(8000)],
  ["INFO of NATS", Nats.make() as never, `INFO {"a":"${long}"}\r\n`],
  ["a message of NATS", Nats.make() as never, `MSG a 1 ${size}\r\n${long}\r\n`],
  ["messages of NATS", Nats.make() as never, many("MSG a 1 1\r\nx\r\n")],
  ["a request of JSON-RPC", JsonRpc.make() as never, `{"jsonrpc":"2.0","method":"a","params":["${long}"]}\n`],
  ["packets of MQTT", Mqtt.make() as never, many("\xc0\0")],
  ["a message behind its length", Codec.lengthPrefix({ bytes: 2 }) as never, `\x01\x02${many("\x02")}`]
]

describe("B1 a codec does the same for each byte, however few come at a time", () => {
  for (const [name, codec, wire] of cases) {
    it(`B1 ${name}: no byte is searched or copied again for those behind it`, () => {
      const bytes = Uint8Array.from(wire, (char) => char.charCodeAt(0))
      for (const piece of [1, 7]) {
        const decoder = Codec.decoder(codec)
        const done = work(() => {
          for (let at = 0; at < bytes.length; at += piece) decoder.write(bytes.subarray(at, at + piece))
        })
        // searched, copied, and copied again by a buffer that grows; then read, and made text
        assert.isAtMost(done / bytes.length, 6.5, `pieces of ${piece}`)
      }
    })
  }
})
