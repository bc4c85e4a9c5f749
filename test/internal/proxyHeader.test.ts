/** What `PROXY` headers say, byte for byte, and who is believed. */
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { behindOf } from "../../src/node/internal/proxy/behind.ts"
import { crc32c } from "../../src/node/internal/proxy/crc32c.ts"
import { forwardingOf } from "../../src/node/internal/proxy/forwarded.ts"
import { longestV2, parse } from "../../src/node/internal/proxy/header.ts"
import { trustOf } from "../../src/node/internal/proxy/trust.ts"
import { headerV2, tlv, withChecksum } from "../node/fixtures/proxyHeader.ts"

const latin1 = (text: string): Buffer => Buffer.from(text, "latin1")

/** How a text or bytes are read: the header, how long it is, or what is wrong. */
const read = (given: string | Buffer) => {
  const step = parse(typeof given === "string" ? latin1(given) : given)
  return step._tag === "Header"
    ? { source: step.header.source, destination: step.header.destination, length: step.length }
    : step._tag === "Invalid"
    ? step.detail
    : step._tag
}

const isInvalid = (given: string | Buffer): boolean => {
  const step = parse(typeof given === "string" ? latin1(given) : given)
  return step._tag === "Invalid"
}

describe("a PROXY header", () => {
  it("of version 1 names both ends, and ends where it ends", () => {
    const line = "PROXY TCP4 203.0.113.9 10.0.0.1 49152 7000\r\n"
    const ends = { source: "203.0.113.9:49152", destination: "10.0.0.1:7000", length: line.length }
    assert.deepStrictEqual(read(line), ends)
    assert.deepStrictEqual(read(`${line}PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n`), ends)
    assert.deepStrictEqual(read("PROXY TCP6 2001:DB8:0:0::7 ::1 65535 0\r\n"), {
      source: "[2001:db8::7]:65535",
      destination: "[::1]:0",
      length: 40
    })
    assert.deepStrictEqual(read("PROXY TCP6 ::ffff:1.2.3.4 ::1 5 6\r\n"), {
      source: "1.2.3.4:5",
      destination: "[::1]:6",
      length: 35
    })
    for (const unknown of ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"]) {
      assert.deepStrictEqual(read(unknown), { source: undefined, destination: undefined, length: unknown.length })
    }
    // the longest that the specification knows
    const full = `PROXY UNKNOWN ${"f".repeat(107 - 16)}\r\n`
    assert.strictEqual(full.length, 107)
    assert.deepStrictEqual(read(full), { source: undefined, destination: undefined, length: 107 })
  })

  it("that is not whole is waited for, byte by byte", () => {
    const wholes = [
      latin1("PROXY TCP4 203.0.113.9 10.0.0.1 49152 7000\r\n"),
      latin1("PROXY UNKNOWN\r\n"),
      headerV2({ family: 1, source: [203, 0, 113, 9], destination: [10, 0, 0, 1], ports: [49152, 7000] }),
      withChecksum(headerV2({ family: 1, source: [1, 2, 3, 4], destination: [5, 6, 7, 8], ports: [1, 2] }))
    ]
    for (const whole of wholes) {
      for (let length = 0; length < whole.length; length++) {
        assert.strictEqual(parse(whole.subarray(0, length))._tag, "More", `${length} bytes`)
      }
      assert.strictEqual(parse(whole)._tag, "Header")
    }
  })

  it("that is wrong is told at the first byte that shows it", () => {
    for (
      const wrong of [
        "G",
        "PROXIE",
        "\r\n\r\n\0\r\nQUIT\r",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n",
        `PROXY UNKNOWN ${"f".repeat(107 - 15)}\r\n`
      ]
    ) assert.isTrue(isInvalid(wrong), JSON.stringify(wrong))
  })

  it("of version 2 has addresses of three families, or none of a client", () => {
    const v4 = headerV2({ family: 1, source: [203, 0, 113, 9], destination: [10, 0, 0, 1], ports: [49152, 7000] })
    assert.deepStrictEqual(read(Buffer.concat([v4, latin1("hello")])), {
      source: "203.0.113.9:49152",
      destination: "10.0.0.1:7000",
      length: v4.length
    })
    const v6 = headerV2({
      family: 2,
      source: [0x20, 1, 0xd, 0xb8, ...Array<number>(11).fill(0), 7],
      destination: [...Array<number>(15).fill(0), 1],
      ports: [1, 2]
    })
    assert.deepStrictEqual(read(v6), { source: "[2001:db8::7]:1", destination: "[::1]:2", length: v6.length })
    const name = (text: string): Array<number> => [...latin1(text.padEnd(108, "\0"))]
    const unix = (source: string) => headerV2({ family: 3, source: name(source), destination: name("/run/app.sock") })
    assert.deepStrictEqual(read(unix("/run/client")), {
      source: "unix:/run/client",
      destination: "unix:/run/app.sock",
      length: 232
    })
    assert.strictEqual((read(unix("")) as { source: string }).source, "unix:/run/app.sock")
    const nobody = { source: undefined, destination: undefined }
    // LOCAL, with the addresses that a proxy may send with it, and without; no family; datagrams
    const local = Buffer.from(v4)
    local[12] = 0x20
    assert.deepStrictEqual(read(local), { ...nobody, length: v4.length })
    assert.deepStrictEqual(read(headerV2({ command: 0, family: 0 })), { ...nobody, length: 16 })
    assert.deepStrictEqual(read(headerV2({ family: 0 })), { ...nobody, length: 16 })
    const datagram = Buffer.from(v4)
    datagram[13] = 0x12
    assert.deepStrictEqual(read(datagram), { ...nobody, length: v4.length })
  })

  it("of version 2 that is wrong is refused before its length is waited for", () => {
    const v4 = headerV2({ family: 1, source: [1, 2, 3, 4], destination: [5, 6, 7, 8], ports: [1, 2] })
    const changed = (at: number, byte: number): Buffer => {
      const copy = Buffer.from(v4)
      copy[at] = byte
      return copy
    }
    for (const [at, byte] of [[12, 0x11], [12, 0x22], [12, 0x31], [13, 0x41], [13, 0x13], [15, 11]] as const) {
      assert.isTrue(isInvalid(changed(at, byte)), `byte ${at} is ${byte}`)
    }
    const long = v4.subarray(0, 16)
    long.writeUInt16BE(longestV2 - 16 + 1, 14)
    assert.match(String(read(long)), /4097 bytes/)
    long.writeUInt16BE(longestV2 - 16, 14)
    assert.strictEqual(read(long), "More")
  })

  it("of version 2 tells the name and the protocol that the client asked for, and its TLS", () => {
    const whole = withChecksum(headerV2({
      family: 1,
      source: [1, 2, 3, 4],
      destination: [5, 6, 7, 8],
      ports: [1, 2],
      values: [
        tlv(0x04, latin1("padding")),
        tlv(0x02, latin1("chat.example")),
        tlv(0x01, latin1("h2")),
        tlv(0x05, latin1("id")),
        tlv(
          0x20,
          Buffer.concat([
            Buffer.from([0b111, 0, 0, 0, 0]),
            tlv(0x21, latin1("TLSv1.3")),
            tlv(0x22, latin1("device-7")),
            tlv(0x23, latin1("TLS_AES_128_GCM_SHA256"))
          ])
        ),
        tlv(0xea, latin1("of a cloud"))
      ]
    }))
    const step = parse(whole)
    assert(step._tag === "Header")
    const { alpn, authority, tls, uniqueId } = step.header
    assert.deepStrictEqual({ alpn, authority, uniqueId: Buffer.from(uniqueId!).toString(), tls }, {
      alpn: "h2",
      authority: "chat.example",
      uniqueId: "id",
      tls: {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        hasCertificate: true,
        isVerified: true,
        commonName: "device-7"
      }
    })
    for (let at = 16; at < whole.length; at++) {
      // but for the type of the checksum, without which there is none
      if (at === whole.length - 7) continue
      const copy = Buffer.from(whole)
      copy[at] = copy[at]! ^ 1
      assert.isTrue(isInvalid(copy), `byte ${at} was changed on its way`)
    }
    const cut = headerV2({ family: 0, values: [tlv(0x02, latin1("name")).subarray(0, 5)] })
    assert.match(String(read(cut)), /longer than it says/)
    assert.match(String(read(headerV2({ family: 0, values: [Buffer.from([1, 0])] }))), /ends in a length/)
  })

  it("has the checksum of RFC 3720, B.4", () => {
    assert.strictEqual(crc32c(new Uint8Array(32)), 0x8a9136aa)
    assert.strictEqual(crc32c(latin1("123456789")), 0xe3069283)
  })
})

const success = <A>(result: Result.Result<A, string>): A => {
  assert(Result.isSuccess(result))
  return result.success
}

describe("an address is believed", () => {
  it("when it is named, or in a range that is", () => {
    const trusts = success(trustOf("proxyProtocol", ["10.0.0.0/8", "127.0.0.1", "2001:db8::/32", "::1"]))
    for (const one of ["10.255.0.1", "::ffff:10.0.0.1", "127.0.0.1", "2001:db8:ffff::1", "::1"]) {
      assert.isTrue(trusts(one), one)
    }
    for (const one of ["11.0.0.1", "127.0.0.2", "::2", "2001:db9::1", "::ffff:11.0.0.1", "unix", "", undefined]) {
      assert.isFalse(trusts(one), one)
    }
    assert.isTrue(success(trustOf("proxyProtocol", ["unix"]))("unix"))
    assert.isTrue(success(trustOf("proxyProtocol", ["fe80::/10"]))("fe80::1%eth0"))
  })

  it("and a list that makes no sense is told", () => {
    for (
      const one of [
        "10.0.0.0/33",
        "10.0.0/8",
        "::1/129",
        "example.com",
        "10.0.0.1/",
        "10.0.0.0/8/8",
        "fe80::1%eth0",
        ""
      ]
    ) {
      const result = trustOf("proxyProtocol", [one])
      assert(Result.isFailure(result), one)
      assert.match(result.failure, /^`proxyProtocol` has ".*", which is no address/)
      assert.isTrue(Result.isFailure(behindOf({ trustForwarded: [one] })))
    }
    assert.isTrue(Result.isFailure(behindOf({ trustForwarded: [], forwardedHeader: "X-Real-IP" as never })))
  })
})

describe("a forwarded client", () => {
  const clientOf = (
    header: string | undefined,
    { as = "X-Forwarded-For", from = "10.0.0.1:5" }: { as?: "X-Forwarded-For" | "Forwarded"; from?: string } = {}
  ) =>
    success(forwardingOf({ trustForwarded: ["10.0.0.0/8", "unix", "fd00::/8"], forwardedHeader: as }))!
      .clientOf(from, header === undefined ? {} : { [as.toLowerCase()]: header })

  it("is the last address that is no proxy's, and what stands before it may be invented", () => {
    for (
      const [header, client] of [
        [undefined, "10.0.0.1:5"],
        ["203.0.113.9", "203.0.113.9"],
        ["6.6.6.6, 203.0.113.9", "203.0.113.9"],
        ["6.6.6.6, 203.0.113.9, 10.0.0.3, fd00::4", "203.0.113.9"],
        ["10.0.0.9", "10.0.0.9"],
        ["203.0.113.9:4711", "203.0.113.9:4711"],
        ["2001:db8::7", "[2001:db8::7]"],
        ["[2001:db8::7]:4711", "[2001:db8::7]:4711"],
        ["::ffff:203.0.113.9", "203.0.113.9"],
        ["6.6.6.6, unknown", "10.0.0.1:5"],
        ["6.6.6.6, unknown, 10.0.0.3", "10.0.0.3"],
        ["6.6.6.6,", "10.0.0.1:5"],
        ["", "10.0.0.1:5"],
        ["\u0000", "10.0.0.1:5"]
      ] as const
    ) assert.strictEqual(clientOf(header), client, header)
    assert.strictEqual(clientOf("203.0.113.9", { from: "unix:/run/app.sock" }), "203.0.113.9")
    assert.strictEqual(clientOf("203.0.113.9", { from: "[fd00::1]:7" }), "203.0.113.9")
    // an address that is not believed
    assert.strictEqual(clientOf("203.0.113.9", { from: "11.0.0.1:5" }), "11.0.0.1:5")
    assert.strictEqual(clientOf("203.0.113.9", { from: "[2001:db8::1]:5" }), "[2001:db8::1]:5")
  })

  it("in the words of RFC 7239", () => {
    for (
      const [header, client] of [
        ["for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"],
        ["FOR=\"[2001:db8::7]:4711\"", "[2001:db8::7]:4711"],
        ["for=6.6.6.6, For=203.0.113.9 , for=10.0.0.4;by=10.0.0.1", "203.0.113.9"],
        ["for=6.6.6.6, for=unknown", "10.0.0.1:5"],
        ["for=6.6.6.6, for=_hidden, for=10.0.0.4", "10.0.0.4"],
        ["for=6.6.6.6, proto=https", "10.0.0.1:5"],
        // what a client began does not reach into what a proxy added
        ["for=\"6.6.6.6, for=203.0.113.9", "203.0.113.9"],
        ["for=203.0.113.9;host=\"a,for=6.6.6.6\"", "10.0.0.1:5"],
        ["for=203.0.113.9;host=\"a,for=6.6.6.6;b=\"", "10.0.0.1:5"],
        ["203.0.113.9", "10.0.0.1:5"]
      ] as const
    ) assert.strictEqual(clientOf(header, { as: "Forwarded" }), client, header)
  })
})
