import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { Mqtt, Nats, Protobuf, Resp, Sse } from "../../src/codecs/index.ts"
import { Codec } from "../../src/index.ts"

const utf8 = (text: string) => new TextEncoder().encode(text)

const most = 4 * 1024 * 1024

/** What the message of a frame weighs, or why it is refused. */
const weightOf = (codec: Codec.Codec<unknown, never>, frame: Uint8Array): number | string => {
  const scale = { most, weight: 0 }
  const decoded = codec.payload.decode(frame, scale)
  return Result.isFailure(decoded) ? decoded.failure.message : scale.weight
}

const mqtt = (type: number, body: Uint8Array): Uint8Array =>
  new Uint8Array([type, 0x80 | (body.length & 127), 0x80 | ((body.length >> 7) & 127), body.length >> 14, ...body])

/** An id, and so many copies of a few bytes. */
const repeated = (count: number, ...unit: ReadonlyArray<number>): Uint8Array => {
  const body = new Uint8Array(2 + count * unit.length)
  body[1] = 1
  for (let i = 0; i < count; i++) body.set(unit, 2 + i * unit.length)
  return body
}

/** A RESP array of one element, so many times. */
const replies = (count: number, unit: string): Uint8Array => utf8(`*${count}\r\n${unit.repeat(count)}`)

describe("B114 what a shipped codec decodes weighs what it is", () => {
  const many = 90_000
  const heavy: ReadonlyArray<readonly [string, Codec.Codec<unknown, never>, Uint8Array]> = [
    ["topics of SUBSCRIBE", Mqtt.make() as never, mqtt(0x82, repeated(many, 0, 1, 97, 0))],
    ["filters of UNSUBSCRIBE, a third more", Mqtt.make() as never, mqtt(0xa2, repeated(many * 4 / 3, 0, 1, 97))],
    ["refusals of RESP", Resp.make() as never, utf8(`*${many}\r\n${"-\r\n".repeat(many)}`)],
    ["sets of RESP, half as many", Resp.make() as never, utf8(`*${many / 2}\r\n${"~0\r\n".repeat(many / 2)}`)],
    ["maps of RESP, half as many", Resp.make() as never, utf8(`*${many / 2}\r\n${"%0\r\n".repeat(many / 2)}`)]
  ]
  for (const [name, codec, frame] of heavy) {
    it(`B114 ${many} ${name}`, () => assert.include(String(weightOf(codec, frame)), "maxDecoded"))
  }

  it("B114 the answers of SUBACK, and INFO of NATS, are weighed", () => {
    assert.isAbove(Number(weightOf(Mqtt.make() as never, mqtt(0x90, repeated(1000, 0)))), 8000)
    const info = utf8(`INFO {"a":[${"[],".repeat(10_000)}[]]}\r\n`)
    assert.isAbove(Number(weightOf(Nats.make() as never, info)), 160_000)
  })
})

/** One element of an array of RESP, and what it takes in V8 with its place: measured on Node 24. */
const elements: ReadonlyArray<readonly [name: string, bulk: "text" | "bytes", element: string, bytes: number]> = [
  ["a text of two characters", "text", "+ab\r\n", 32],
  ["a bulk string", "text", "$2\r\nab\r\n", 32],
  ["bytes", "bytes", "$2\r\nab\r\n", 118],
  ["an integer", "text", ":1\r\n", 8],
  ["an integer beyond 32 bits", "text", ":10000000000\r\n", 24],
  ["an integer beyond 53 bits", "text", ":9223372036854775807\r\n", 32],
  ["a big number", "text", "(1\r\n", 32],
  ["a double", "text", ",1.5\r\n", 24],
  ["a refusal", "text", "-a\r\n", 40],
  ["an array of one", "text", "*1\r\n_\r\n", 64],
  ["a push of one", "text", ">1\r\n_\r\n", 96],
  ["an empty set", "text", "~0\r\n", 160],
  ["a set of 8", "text", `~8\r\n${"+ab\r\n".repeat(8)}`, 240 + 8 * 24],
  ["an empty map", "text", "%0\r\n", 192],
  ["a map of 8", "text", `%8\r\n${"+ab\r\n_\r\n".repeat(8)}`, 304 + 8 * 24]
]

describe("B114 what RESP weighs in memory", () => {
  for (const [name, bulk, element, bytes] of elements) {
    it(`B114 ${name}: as much as V8 makes of it, to a tenth less and twice as much`, () => {
      const weight = Number(weightOf(Resp.make({ bulk }) as never, replies(100, element))) / 100
      assert.isAtLeast(weight, bytes * 0.9)
      assert.isAtMost(weight, 2.4 * bytes)
    })
  }

  it("B114 a list has no places that are not used", () => {
    const decoded = Resp.make().payload.decode(utf8("*2\r\n:1\r\n*1\r\n+a\r\n"))
    assert.deepStrictEqual(decoded, Result.succeed([1, ["a"]]))
  })

  it("B16 numbers as keys, which a peer may choose so that each is compared with all others, are few", () => {
    // all of these have one hash
    const key = (i: number) => `(${(BigInt(i + 1) << 64n) + 7n}\r\n`
    const keys = (count: number, value: string) => Array.from({ length: count }, (_, i) => key(i) + value).join("")
    const codec = Resp.make() as never
    assert.isNumber(weightOf(codec, utf8(`~1024\r\n${keys(1024, "")}`)))
    assert.include(String(weightOf(codec, utf8(`~1025\r\n${keys(1025, "")}`))), "a number as a key")
    assert.include(String(weightOf(codec, utf8(`%1025\r\n${keys(1025, "_\r\n")}`))), "a number as a key")
    assert.include(String(weightOf(codec, utf8(`:${"7".repeat(100_000)}\r\n`))), "more than 64 bits")
  })
})

describe("B12 a message that a transport kept apart is one message, and all of it", () => {
  const wrong: ReadonlyArray<readonly [string, Codec.Codec<unknown, never>, Uint8Array]> = [
    ["two replies of RESP", Resp.make() as never, utf8("+a\r\n+b\r\n")],
    ["half a reply of RESP", Resp.make() as never, utf8("+a")],
    ["an array of RESP that ends early", Resp.make() as never, utf8("*2\r\n+a\r\n")],
    ["an array of RESP that reads its own count as an element", Resp.make() as never, utf8("*91\r\n+\r\n+")],
    ["a null attribute of RESP", Resp.make() as never, utf8("|-1\r\n+a\r\n")],
    ["two lines of NATS", Nats.make() as never, utf8("PING\r\nPONG\r\n")],
    ["half a line of NATS", Nats.make() as never, utf8("PING")],
    ["two messages of NATS", Nats.make() as never, utf8("MSG a 1 0\r\n\r\nPING\r\n")],
    ["a message of NATS without its words", Nats.make() as never, utf8("MSG 1 0\r\n\r\n")],
    ["two packets of MQTT", Mqtt.make() as never, Uint8Array.of(0x30, 4, 0, 1, 97, 98, 0x30, 4, 0, 1, 97, 98)],
    ["half a packet of MQTT", Mqtt.make() as never, Uint8Array.of(0x30, 5, 0, 1, 97, 98)]
  ]
  for (const [name, codec, frame] of wrong) {
    it(`B12 ${name}: InvalidMessage`, () => {
      const decoder = Codec.decoder(codec, { transport: "messages" })
      const { error, messages } = decoder.write(frame)
      assert.deepStrictEqual(messages, [])
      assert.strictEqual(error?._tag, "InvalidMessage")
      assert.notInclude(error?.message, "undefined")
    })
  }
})

describe("B104 what a shipped codec cannot write, or the peer could not read, is refused to its sender", () => {
  const half = "a\ud800"
  const bytes = new Uint8Array(1)
  const topics = [{ filter: "a", qos: 3 as Mqtt.Qos }]
  const refused: ReadonlyArray<readonly [string, Codec.Codec<unknown, never>, unknown]> = [
    ["MQTT qos 3", Mqtt.make() as never, { _tag: "Publish", topic: "a", qos: 3, id: 1, payload: bytes }],
    ["MQTT qos NaN", Mqtt.make() as never, { _tag: "Publish", topic: "a", qos: Number.NaN, payload: bytes }],
    ["MQTT qos of a will", Mqtt.make() as never, {
      _tag: "Connect",
      clientId: "a",
      will: { topic: "a", payload: bytes, qos: 4 }
    }],
    ["MQTT qos of a topic", Mqtt.make() as never, { _tag: "Subscribe", id: 1, topics }],
    ["MQTT SUBACK of nothing", Mqtt.make() as never, { _tag: "Suback", id: 1, codes: [] }],
    ["MQTT password", Mqtt.make() as never, { _tag: "Connect", clientId: "a", username: "a", password: half }],
    ["MQTT will without a topic", Mqtt.make() as never, {
      _tag: "Connect",
      clientId: "a",
      will: { topic: "", payload: bytes }
    }],
    ["MQTT filter of no character", Mqtt.make() as never, {
      _tag: "Subscribe",
      id: 1,
      topics: [{ filter: "", qos: 0 }]
    }],
    ["MQTT filter with # inside", Mqtt.make() as never, { _tag: "Unsubscribe", id: 1, filters: ["a/#/b"] }],
    ["MQTT filter with + in a level", Mqtt.make() as never, { _tag: "Unsubscribe", id: 1, filters: ["a+/b"] }],
    ["MQTT duplicate of qos 0", Mqtt.make() as never, {
      _tag: "Publish",
      topic: "a",
      qos: 0,
      duplicate: true,
      payload: bytes
    }],
    ["MQTT answer 77 to a subscription", Mqtt.make() as never, { _tag: "Suback", id: 1, codes: [77] }],
    ["MQTT session that is refused", Mqtt.make() as never, { _tag: "Connack", sessionPresent: true, code: 5 }],
    ["NATS max", Nats.make() as never, { _tag: "Unsubscribe", sid: "1", max: Number.NaN }],
    ["NATS payload", Nats.make() as never, { _tag: "Publish", subject: "a", payload: half }],
    ["NATS subject", Nats.make() as never, { _tag: "Publish", subject: half, payload: "" }],
    ["RESP key", Resp.make() as never, ["GET", half]],
    ["RESP what has no text", Resp.make() as never, ["GET", Object.create(null)]],
    ["SSE data", Sse.make() as never, { _tag: "Event", event: "message", data: half }],
    ["SSE retry NaN", Sse.make() as never, { _tag: "Comment", text: "", retry: Number.NaN }],
    ["SSE retry 1e21", Sse.make() as never, { _tag: "Comment", text: "", retry: 1e21 }],
    ["SSE retry -1", Sse.make() as never, { _tag: "Comment", text: "", retry: -1 }],
    [
      "Protobuf without bytes",
      Protobuf.make({ decode: () => 0, encode: () => ({ finish: () => undefined as never }) }) as never,
      0
    ]
  ]
  for (const [name, codec, message] of refused) {
    it(`B104 ${name}`, () => {
      const encoded = Codec.encode(codec as Codec.Codec<unknown>, message)
      assert(Result.isFailure(encoded))
      assert.strictEqual(encoded.failure._tag, "InvalidMessage")
    })
  }
})

describe("B104 SSE writes what it reads", () => {
  it("B104 a name with U+0000 is one, and an id with it is none", () => {
    const codec = Sse.make()
    const event: Sse.Message = { _tag: "Event", event: "a\0b", data: "1" }
    const wire = Result.getOrThrow(Codec.encode(codec, event))
    assert.deepStrictEqual(Codec.decoder(codec).write(wire).messages, [event])
    assert.isTrue(Result.isFailure(Codec.encode(codec, { ...event, id: "a\0b" })))
  })
})

describe("B46 a blank line of SSE is no frame that has begun", () => {
  it("B46 B12 blank lines, and a line feed that comes late, leave nothing pending", () => {
    const decoder = Codec.decoder(Sse.make({ maxFrame: 100 }))
    for (let i = 0; i < 500; i++) assert.isUndefined(decoder.write(utf8("\n")).error)
    assert.strictEqual(decoder.write(utf8("data: 1\r\n\r")).messages.length, 1)
    decoder.write(utf8("\n"))
    assert.isUndefined(decoder.end())
  })
})
