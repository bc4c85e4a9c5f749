import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { build } from "esbuild"
import { fileURLToPath } from "node:url"
import { JsonRpc, Mqtt, Nats, Protobuf, Resp, Sse } from "../../src/codecs/index.ts"
import { Codec } from "../../src/index.ts"

const utf8 = (text: string) => new TextEncoder().encode(text)

const bytes = (...values: ReadonlyArray<number>) => new Uint8Array(values)

interface Kind {
  readonly name: string
  // each codec has messages of its own
  readonly codec: Codec.Codec<unknown, never>
  readonly wire: Uint8Array
  readonly messages: ReadonlyArray<unknown>
}

const respWire =
  "+OK\r\n-ERR no\r\n:42\r\n:9223372036854775807\r\n$5\r\nh\r\nlo\r\n$0\r\n\r\n$-1\r\n*-1\r\n*2\r\n$1\r\na\r\n*1\r\n:1\r\n" +
  "_\r\n#t\r\n#f\r\n,1.5\r\n,inf\r\n(12345678901234567890\r\n=7\r\ntxt:abc\r\n!3\r\nbad\r\n%1\r\n+k\r\n:1\r\n~2\r\n:1\r\n:2\r\n>2\r\n+message\r\n+hi\r\n|1\r\n+ttl\r\n:3\r\n+after\r\n*0\r\n"

const kinds: ReadonlyArray<Kind> = [
  {
    name: "Resp",
    codec: Resp.make() as Codec.Codec<unknown, never>,
    wire: utf8(respWire),
    messages: [
      "OK",
      new Resp.Refusal("ERR no"),
      42,
      9223372036854775807n,
      "h\r\nlo",
      "",
      null,
      null,
      ["a", [1]],
      null,
      true,
      false,
      1.5,
      Infinity,
      12345678901234567890n,
      "abc",
      new Resp.Refusal("bad"),
      new Map([["k", 1]]),
      new Set([1, 2]),
      new Resp.Push(["message", "hi"]),
      "after",
      []
    ]
  },
  {
    name: "Nats",
    codec: Nats.make() as Codec.Codec<unknown, never>,
    wire: utf8(
      "INFO {\"port\":4222}\r\nMSG a.b 1 5\r\nh\r\nlo\r\nmsg a 2 inbox 0\r\n\r\nHMSG a 1 22 24\r\nNATS/1.0\r\nA: some b\r\n\r\nhi\r\nPING\r\nPONG\r\n+OK\r\n-ERR 'no way'\r\n"
        .replace("A: some b", "A: bcdef")
    ),
    messages: [
      { _tag: "Info", info: { port: 4222 } },
      { _tag: "Message", subject: "a.b", sid: "1", payload: utf8("h\r\nlo") },
      { _tag: "Message", subject: "a", sid: "2", reply: "inbox", payload: utf8("") },
      { _tag: "Message", subject: "a", sid: "1", headers: "NATS/1.0\r\nA: bcdef\r\n\r\n", payload: utf8("hi") },
      { _tag: "Ping" },
      { _tag: "Pong" },
      { _tag: "Ok" },
      { _tag: "Err", message: "no way" }
    ]
  },
  {
    name: "Sse",
    codec: Sse.make() as Codec.Codec<unknown, never>,
    wire: utf8(
      "data: one\n\n: hello\n\nevent: price\r\nid: 7\r\ndata: 1\r\ndata:2\r\n\r\nretry: 500\rdata\r\rdata: end\n\n"
    ),
    messages: [
      { _tag: "Event", event: "message", data: "one" },
      { _tag: "Comment", text: "hello" },
      { _tag: "Event", event: "price", id: "7", data: "1\n2" },
      { _tag: "Event", event: "message", retry: 500, data: "" },
      { _tag: "Event", event: "message", data: "end" }
    ]
  },
  {
    name: "JsonRpc",
    codec: JsonRpc.make() as Codec.Codec<unknown, never>,
    wire: utf8(
      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"add\",\"params\":[1,2]}\n{\"jsonrpc\":\"2.0\",\"method\":\"log\"}\n" +
        "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":null}\n{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"no\"}}\n"
    ),
    messages: [
      { _tag: "Request", id: 1, method: "add", params: [1, 2] },
      { _tag: "Notification", method: "log" },
      { _tag: "Result", id: "a", result: null },
      { _tag: "Error", id: null, error: { code: -32700, message: "no" } }
    ]
  },
  {
    name: "Mqtt",
    codec: Mqtt.make() as Codec.Codec<unknown, never>,
    wire: new Uint8Array([
      [0x10, 0x0d, 0, 4, 77, 81, 84, 84, 4, 2, 0, 30, 0, 1, 97],
      [0x20, 2, 1, 0],
      [0x33, 6, 0, 1, 116, 0, 9, 120],
      [0x62, 2, 0, 9],
      [0x82, 6, 0, 1, 0, 1, 35, 1],
      [0x90, 3, 0, 1, 128],
      [0xc0, 0],
      [0xe0, 0]
    ].flat()),
    messages: [
      { _tag: "Connect", clientId: "a", clean: true, keepAlive: 30 },
      { _tag: "Connack", sessionPresent: true, code: 0 },
      { _tag: "Publish", topic: "t", qos: 1, id: 9, retain: true, duplicate: false, payload: utf8("x") },
      { _tag: "Pubrel", id: 9 },
      { _tag: "Subscribe", id: 1, topics: [{ filter: "#", qos: 1 }] },
      { _tag: "Suback", id: 1, codes: [128] },
      { _tag: "Pingreq" },
      { _tag: "Disconnect" }
    ]
  }
]

const feed = (codec: Codec.Codec<unknown, never>, wire: Uint8Array, size: number) => {
  const decoder = Codec.decoder(codec)
  const messages: Array<unknown> = []
  for (let at = 0; at < wire.length; at += size) {
    const decoded = decoder.write(wire.slice(at, at + size))
    messages.push(...decoded.messages)
    if (decoded.error !== undefined) return { messages, error: decoded.error, pending: 0 }
  }
  return { messages, error: undefined, pending: decoder.pending }
}

/** The files of the library that a module needs. */
const filesOf = async (module: string): Promise<ReadonlyArray<string>> => {
  const { metafile } = await build({
    stdin: {
      contents: `export { make } from "./${module}"`,
      resolveDir: fileURLToPath(new URL("../..", import.meta.url))
    },
    bundle: true,
    write: false,
    metafile: true,
    format: "esm",
    packages: "external",
    treeShaking: true
  })
  return Object.values(metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([name]) => name)
  )
}

describe("ready codecs", () => {
  it("an import of one brings no other", async () => {
    for (const name of ["JsonRpc", "Mqtt", "Nats", "Protobuf", "Resp", "Sse"]) {
      const codecs = (await filesOf(`src/codecs/${name}.ts`)).filter((file) => /src\/codecs\/[^/]+\.ts$/.test(file))
      assert.deepStrictEqual(codecs, [`src/codecs/${name}.ts`])
    }
    const files = await filesOf("src/codecs/Resp.ts")
    assert.notInclude(files, "src/codecs/internal/mqttFields.ts")
  })

  for (const { codec, messages, name, wire } of kinds) {
    it(`${name} reads its messages, however they are cut`, () => {
      for (const size of [1, 2, 3, 5, 7, 64, wire.length]) {
        assert.deepStrictEqual(
          feed(codec, wire, size),
          { messages: [...messages], error: undefined, pending: 0 },
          `${size}`
        )
      }
    })
  }

  it("what ends inside a message is Truncated", () => {
    for (const { codec, name, wire } of kinds) {
      const decoder = Codec.decoder(codec)
      decoder.write(wire.slice(0, wire.length - 1))
      assert.strictEqual(decoder.end()?._tag, "Truncated", name)
    }
  })

  it("JSON-RPC, MQTT and SSE write what they read", () => {
    for (const { codec, messages, name, wire } of kinds) {
      if (name === "Resp" || name === "Nats") continue
      const written = messages.map((message) => Result.getOrThrow(Codec.encode(codec, message as never)))
      const decoder = Codec.decoder(codec)
      assert.deepStrictEqual(written.flatMap((frame) => decoder.write(frame).messages), [...messages], name)
      if (name === "Mqtt") assert.deepStrictEqual(new Uint8Array(written.flatMap((frame) => [...frame])), wire)
    }
  })

  it("RESP and NATS write commands", () => {
    const text = (result: Result.Result<Uint8Array, unknown>) => new TextDecoder().decode(Result.getOrThrow(result))
    assert.strictEqual(
      text(Codec.encode(Resp.make(), ["SET", "k", 42, utf8("é")])),
      "*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n42\r\n$2\r\né\r\n"
    )
    const nats = Nats.make()
    assert.strictEqual(
      text(Codec.encode(nats, { _tag: "Publish", subject: "a", reply: "r", payload: "hi" })),
      "PUB a r 2\r\nhi\r\n"
    )
    assert.strictEqual(
      text(Codec.encode(nats, { _tag: "Publish", subject: "a", headers: "NATS/1.0\r\n\r\n", payload: "hi" })),
      "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
    )
    assert.strictEqual(
      text(Codec.encode(nats, { _tag: "Subscribe", subject: "a.>", queue: "q", sid: "1" })),
      "SUB a.> q 1\r\n"
    )
    assert.strictEqual(text(Codec.encode(nats, { _tag: "Unsubscribe", sid: "1", max: 5 })), "UNSUB 1 5\r\n")
  })

  it("what would be another command, or no message at all, is not written", () => {
    const refused: ReadonlyArray<Result.Result<unknown, { readonly _tag: string }>> = [
      Codec.encode(Resp.make(), []),
      Codec.encode(Nats.make(), { _tag: "Publish", subject: "a\r\nPING", payload: "" }),
      Codec.encode(Nats.make(), { _tag: "Subscribe", subject: "a b", sid: "1" }),
      Codec.encode(Sse.make(), { _tag: "Event", event: "a\nb", data: "" }),
      Codec.encode(Mqtt.make(), { _tag: "Publish", topic: "a/#", qos: 0, payload: bytes() }),
      Codec.encode(Mqtt.make(), { _tag: "Publish", topic: "a", qos: 1, payload: bytes() }),
      Codec.encode(Mqtt.make(), { _tag: "Puback", id: 0 }),
      Codec.encode(Mqtt.make(), { _tag: "Connect", clientId: "x".repeat(70_000) })
    ]
    for (const [i, result] of refused.entries()) {
      assert.isTrue(Result.isFailure(result), `${i}`)
      assert.strictEqual(Result.isFailure(result) ? result.failure._tag : "", "InvalidMessage", `${i}`)
    }
  })

  const hostile: ReadonlyArray<readonly [string, Codec.Codec<unknown, never>, string | Uint8Array, string]> = [
    ["a bulk string that is announced too long", Resp.make(), "$9999999\r\n", "FrameTooLong"],
    ["an array that is announced too long", Resp.make(), "*9999999\r\n", "FrameTooLong"],
    ["a map that is announced too long", Resp.make(), "%9999999\r\n", "FrameTooLong"],
    ["arrays in arrays", Resp.make(), `${"*1\r\n".repeat(5000)}:1\r\n`, "InvalidMessage"],
    ["a reply of an unknown kind", Resp.make(), "@1\r\n", "InvalidLength"],
    ["a negative length", Resp.make(), "$-2\r\n", "InvalidLength"],
    ["a bulk string of another length", Resp.make(), "$1\r\nabc\r\n", "InvalidMessage"],
    ["a line without an end", Resp.make(), `+${"x".repeat(2 ** 20 + 10)}`, "FrameTooLong"],
    ["small values that are large in memory", Resp.make(), `*170000\r\n${"*0\r\n".repeat(170_000)}`, "InvalidMessage"],
    ["a message that is announced too long", Nats.make(), "MSG a 1 99999999\r\n", "FrameTooLong"],
    ["a message without a size", Nats.make(), "MSG a 1 x\r\n", "InvalidLength"],
    ["a control line without an end", Nats.make(), "X".repeat(9000), "InvalidLength"],
    ["an unknown operation", Nats.make(), "HELLO\r\n", "InvalidMessage"],
    ["INFO without JSON", Nats.make(), "INFO {\r\n", "InvalidMessage"],
    ["a payload of another length", Nats.make(), "MSG a 1 1\r\nabc\r\n", "InvalidMessage"],
    ["a packet that is announced too long", Mqtt.make(), bytes(0x30, 0xff, 0xff, 0xff, 0x7f), "FrameTooLong"],
    ["a length of five bytes", Mqtt.make(), bytes(0x30, 0xff, 0xff, 0xff, 0xff, 1), "InvalidLength"],
    ["a packet of type 0", Mqtt.make(), bytes(0, 0), "InvalidMessage"],
    ["wrong flags", Mqtt.make(), bytes(0x63, 2, 0, 1), "InvalidMessage"],
    ["a field that is cut", Mqtt.make(), bytes(0x30, 2, 0, 9), "InvalidMessage"],
    ["bytes that are left over", Mqtt.make(), bytes(0xc0, 1, 0), "InvalidMessage"],
    ["a filter of no character", Mqtt.make(), bytes(0x82, 5, 0, 1, 0, 0, 0), "InvalidMessage"],
    ["a filter of no character to end", Mqtt.make(), bytes(0xa2, 4, 0, 1, 0, 0), "InvalidMessage"],
    ["a # before the last level", Mqtt.make(), bytes(0x82, 8, 0, 1, 0, 3, 35, 47, 97, 0), "InvalidMessage"],
    ["a duplicate of qos 0", Mqtt.make(), bytes(0x38, 3, 0, 1, 97), "InvalidMessage"],
    ["a reserved flag of CONNACK", Mqtt.make(), bytes(0x20, 2, 2, 0), "InvalidMessage"],
    ["a session that is refused", Mqtt.make(), bytes(0x20, 2, 1, 5), "InvalidMessage"],
    ["an answer 77 to a subscription", Mqtt.make(), bytes(0x90, 3, 0, 1, 77), "InvalidMessage"],
    [
      "a password without a username",
      Mqtt.make(),
      bytes(0x10, 15, 0, 4, 77, 81, 84, 84, 4, 0x42, 0, 0, 0, 1, 97, 0, 0),
      "InvalidMessage"
    ],
    [
      "a will without a topic",
      Mqtt.make(),
      bytes(0x10, 17, 0, 4, 77, 81, 84, 84, 4, 6, 0, 0, 0, 1, 97, 0, 0, 0, 0),
      "InvalidMessage"
    ],
    ["a boolean that is neither", Resp.make(), "#x\r\n", "InvalidMessage"],
    ["a double that is none", Resp.make(), ",0x10\r\n", "InvalidMessage"],
    ["a null with text", Resp.make(), "_0\r\n", "InvalidMessage"],
    ["a verbatim string without its format", Resp.make(), "=3\r\ntxt\r\n", "InvalidMessage"],
    ["an integer of more than 64 bits", Resp.make(), ":9223372036854775808\r\n", "InvalidMessage"],
    ["a batch", JsonRpc.make(), "[]\n", "InvalidMessage"],
    ["another version", JsonRpc.make(), "{\"jsonrpc\":\"1.0\",\"method\":\"a\"}\n", "InvalidMessage"],
    ["a block without an end", Sse.make(), `data: ${"x".repeat(2 ** 20 + 10)}`, "FrameTooLong"]
  ] as ReadonlyArray<readonly [string, Codec.Codec<unknown, never>, string | Uint8Array, string]>

  for (const [name, codec, wire, tag] of hostile) {
    it(`${name}: ${tag}`, () => {
      const all = typeof wire === "string" ? utf8(wire) : wire
      assert.strictEqual(feed(codec, all, 1000).error?._tag, tag)
    })
  }

  it("random bytes never make a codec throw", () => {
    let state = 7
    const next = () => state = (Math.imul(state, 1103515245) + 12345) >>> 0
    for (const { codec, wire } of kinds) {
      for (let round = 0; round < 300; round++) {
        const broken = wire.slice()
        for (let i = 0; i < 1 + round % 4; i++) broken[next() % broken.length] = next() >>> 24
        const { error, messages } = feed(codec, broken, 1 + next() % 40)
        assert.isTrue(error === undefined || typeof error._tag === "string" || messages.length > 0)
      }
    }
  })

  it("Protobuf frames the messages of a library", () => {
    const type: Protobuf.MessageType<string> = {
      decode: (frame) => {
        if (frame[0] === 0xff) throw new Error("invalid wire type")
        return new TextDecoder().decode(frame)
      },
      encode: (message) => ({ finish: () => utf8(message) })
    }
    const codec = Protobuf.make(type)
    const wire = Result.getOrThrow(Codec.encode(codec, "x".repeat(200)))
    assert.deepStrictEqual([...wire.subarray(0, 3)], [200, 1, 120])
    assert.deepStrictEqual(Codec.decoder(codec).write(wire).messages, ["x".repeat(200)])
    const failed = Codec.decoder(codec).write(bytes(1, 0xff)).error
    assert.strictEqual(failed?._tag, "InvalidMessage")
    assert.include(failed?.message, "invalid wire type")
  })
})
