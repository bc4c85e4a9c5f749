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

/** An id, and so many bytes of zero. */
const zeros = (size: number): Uint8Array => {
  const body = new Uint8Array(2 + size)
  body[1] = 1
  return body
}

describe("B114 what a shipped codec decodes weighs what it is", () => {
  const many = 90_000
  const heavy: ReadonlyArray<readonly [string, Codec.Codec<unknown, never>, Uint8Array]> = [
    ["topics of SUBSCRIBE", Mqtt.make() as never, mqtt(0x82, zeros(3 * many))],
    ["filters of UNSUBSCRIBE", Mqtt.make() as never, mqtt(0xa2, zeros(3 * many))],
    ["refusals of RESP", Resp.make() as never, utf8(`*${many}\r\n${"-\r\n".repeat(many)}`)],
    ["sets of RESP, half as many", Resp.make() as never, utf8(`*${many / 2}\r\n${"~0\r\n".repeat(many / 2)}`)],
    ["maps of RESP, half as many", Resp.make() as never, utf8(`*${many / 2}\r\n${"%0\r\n".repeat(many / 2)}`)]
  ]
  for (const [name, codec, frame] of heavy) {
    it(`B114 ${many} ${name}`, () => assert.include(String(weightOf(codec, frame)), "maxDecoded"))
  }

  it("B114 the answers of SUBACK, and INFO of NATS, are weighed", () => {
    assert.isAbove(Number(weightOf(Mqtt.make() as never, mqtt(0x90, zeros(1000)))), 8000)
    const info = utf8(`INFO {"a":[${"[],".repeat(10_000)}[]]}\r\n`)
    assert.isAbove(Number(weightOf(Nats.make() as never, info)), 160_000)
  })
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

describe("B46 a blank line of SSE is no frame that has begun", () => {
  it("B46 B12 blank lines, and a line feed that comes late, leave nothing pending", () => {
    const decoder = Codec.decoder(Sse.make({ maxFrame: 100 }))
    for (let i = 0; i < 500; i++) assert.isUndefined(decoder.write(utf8("\n")).error)
    assert.strictEqual(decoder.write(utf8("data: 1\r\n\r")).messages.length, 1)
    decoder.write(utf8("\n"))
    assert.isUndefined(decoder.end())
  })
})
