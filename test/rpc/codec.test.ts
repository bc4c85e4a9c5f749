import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { layerSchemaBinary, makeNdjson, ndjson, RpcSerialization } from "effect/rpc/RpcSerialization"
import { utf8 } from "../../src/internal/bytes/utf8.ts"
import { serverCodec } from "../../src/rpc/internal/codec.ts"

// one that is not known, and goes through the parser of Effect
const other = makeNdjson()

const ping = `{"_tag":"Ping"}`
const ack = (id: string): string => JSON.stringify({ _tag: "Ack", requestId: id })

const frames = {
  "a line without its end": ack("1"),
  "a line with its end": `${ping}\n`,
  "a line with a return": `${ping}\r`,
  "two lines in one message": `${ack("1")}\n${ack("2")}`,
  "lines between empty ones": `\n${ack("1")}\n\n${ping}\n`,
  "an empty line": "",
  "spaces alone": "  ",
  "no JSON": "{\"_tag\":",
  "more behind it": `${ping}${ping}`,
  "no message of the protocol": "17",
  "a name that is no prototype": `{"_tag":"Eof","__proto__":{"x":1}}`
}

describe("the codec of NDJSON", () => {
  const read = (serialization: RpcSerialization["Service"], frame: string | Uint8Array) =>
    Result.getSuccess(serverCodec(serialization).payload.decode(frame))

  for (const [name, frame] of Object.entries(frames)) {
    it(`reads ${name} as Effect's parser does, from text and from bytes`, () => {
      const expected = read(other, frame)
      assert.deepStrictEqual(read(ndjson, frame), expected)
      assert.deepStrictEqual(read(ndjson, utf8(frame)), expected)
    })
  }

  it("keeps nothing of one frame for the next", () => {
    const { payload } = serverCodec(ndjson)
    assert.isTrue(Result.isFailure(payload.decode("{\"_tag\":")))
    assert.deepStrictEqual(Result.getOrThrow(payload.decode(ping)), [{ _tag: "Ping" }])
  })
})

describe("the codec of binary messages", () => {
  it.effect("B114 the headers of a request weigh what V8 makes of them", () =>
    Effect.gen(function*() {
      const { payload } = serverCodec(yield* RpcSerialization)
      const request = (count: number) => {
        const headers = Array.from({ length: count }, (): [string, string] => ["", ""])
        const message = { _tag: "Request", id: "1", tag: "a", payload: new Uint8Array(0), headers }
        return Result.getOrThrow(payload.encode(message as never))
      }
      const scale = { most: 4 * 2 ** 20, weight: 0 }
      assert.isTrue(Result.isSuccess(payload.decode(request(1000), scale)))
      // measured: 73 bytes for each
      assert.isAtLeast(scale.weight, 70_000)
      const refused = payload.decode(request(60_000), { ...scale, weight: 0 })
      assert(Result.isFailure(refused))
      assert.include(refused.failure.message, "maxDecoded")
    }).pipe(Effect.provide(layerSchemaBinary())))
})
