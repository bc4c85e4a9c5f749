/** Reads a `PROXY` header, version 1 or 2, as the specification of HAProxy has it. */
import * as NetAddress from "effect/net/NetAddress"
import * as Net from "node:net"
import type { Header, HeaderTls } from "../../Proxy.ts"
import * as Address from "../addresses/address.ts"
import { crc32c } from "./crc32c.ts"

/** What the bytes so far are. */
export type Step =
  | { readonly _tag: "More" }
  /** Its first `length` bytes are the header. */
  | { readonly _tag: "Header"; readonly header: Header; readonly length: number }
  | { readonly _tag: "Invalid"; readonly detail: string }

/** With its line end (2.1). */
export const longestV1 = 107
/** Of the 65,551 that are possible: addresses have 216, and certificates in it are beyond what is used. */
export const longestV2 = 4096

const more: Step = { _tag: "More" }
const invalid = (detail: string): Step => ({ _tag: "Invalid", detail })

const startV1 = Buffer.from("PROXY ")
const signature = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1")
const headV2 = 16

const startsLike = (bytes: Uint8Array, start: Buffer): boolean => {
  const length = Math.min(bytes.length, start.length)
  return start.subarray(0, length).equals(bytes.subarray(0, length))
}

type Ends = Pick<Header, "source" | "destination">
type Facts = Omit<Header, "version" | keyof Ends>

const noEnds: Ends = { source: undefined, destination: undefined }
const noFacts: Facts = { authority: undefined, alpn: undefined, uniqueId: undefined, tls: undefined }

/** The bytes of a connection so far. */
export const parse = (bytes: Buffer): Step => {
  if (bytes.length === 0) return more
  if (startsLike(bytes, startV1)) return parseV1(bytes)
  if (startsLike(bytes, signature)) return parseV2(bytes)
  return invalid("its first bytes are something else")
}

// ---------------------------------------------------------------------------------------------------------------------
// version 1
// ---------------------------------------------------------------------------------------------------------------------

const portPattern = /^(?:0|[1-9]\d{0,4})$/

const ipOf = (family: string, text: string): string | undefined => {
  if (family === "TCP4") return Net.isIPv4(text) ? text : undefined
  return Net.isIPv6(text) && !text.includes("%")
    ? NetAddress.formatIp(NetAddress.ipFromStringUnsafe(text))
    : undefined
}

const endOf = (family: string, ip: string, port: string): string | undefined => {
  const host = ipOf(family, ip)
  return host === undefined || !portPattern.test(port) || Number(port) > 65535
    ? undefined
    : Address.formatInet(host, Number(port))
}

const parseV1 = (bytes: Buffer): Step => {
  const end = bytes.subarray(0, longestV1).indexOf("\r\n")
  if (end < 0) return bytes.length < longestV1 ? more : invalid(`its line has more than ${longestV1} bytes`)
  const length = end + 2
  const parts = bytes.toString("latin1", 0, end).split(" ")
  const [, family = ""] = parts
  if (family === "UNKNOWN") return { _tag: "Header", length, header: { version: 1, ...noEnds, ...noFacts } }
  if (family !== "TCP4" && family !== "TCP6") return invalid("its line says neither TCP4 nor TCP6 nor UNKNOWN")
  const [, , from = "", to = "", fromPort = "", toPort = ""] = parts
  const source = endOf(family, from, fromPort)
  const destination = endOf(family, to, toPort)
  return parts.length !== 6 || source === undefined || destination === undefined
    ? invalid("its line has no two addresses and two ports")
    : { _tag: "Header", length, header: { version: 1, source, destination, ...noFacts } }
}

// ---------------------------------------------------------------------------------------------------------------------
// version 2
// ---------------------------------------------------------------------------------------------------------------------

const isShort = "it is shorter than its addresses"

/** What the addresses of a family take. */
const sizes: ReadonlyArray<number> = [0, 12, 36, 216]

const unixOf = (bytes: Buffer): string => {
  const end = bytes.indexOf(0)
  return bytes.toString("utf8", 0, end < 0 ? bytes.length : end)
}

const ipText = (bytes: Buffer): string =>
  NetAddress.formatIp(
    bytes.length === 4 ? NetAddress.ipv4FromBytesUnsafe(bytes) : NetAddress.ipv6FromBytesUnsafe(bytes)
  )

const endsOf = (family: number, body: Buffer): Ends => {
  if (family === 0) return noEnds
  if (family === 3) {
    const destination = unixOf(body.subarray(108, 216))
    // a client of a Unix socket has commonly no name
    const source = unixOf(body.subarray(0, 108)) || destination
    return { source: `unix:${source}`, destination: `unix:${destination}` }
  }
  const width = family === 1 ? 4 : 16
  return {
    source: Address.formatInet(ipText(body.subarray(0, width)), body.readUInt16BE(2 * width)),
    destination: Address.formatInet(ipText(body.subarray(width, 2 * width)), body.readUInt16BE(2 * width + 2))
  }
}

const parseV2 = (bytes: Buffer): Step => {
  // what is wrong with these two is known before the length is
  const [command, kind] = [bytes[12], bytes[13]]
  if (command !== undefined && command !== 0x20 && command !== 0x21) {
    return invalid(command >> 4 === 2 ? "its command is neither LOCAL nor PROXY" : "its version is neither 1 nor 2")
  }
  if (kind !== undefined && (kind >> 4 > 3 || (kind & 15) > 2)) return invalid("its family of addresses is unknown")
  if (bytes.length < headV2) return more
  const length = headV2 + bytes.readUInt16BE(14)
  if (length > longestV2) return invalid(`it has ${length} bytes, more than ${longestV2}`)
  if (bytes.length < length) return more
  const whole = bytes.subarray(0, length)
  // of datagrams, and of what has no family, the addresses are no client's of this connection
  const family = (kind! & 15) === 1 ? kind! >> 4 : 0
  const size = sizes[kind! >> 4]!
  const isLocal = command === 0x20
  const body = whole.subarray(headV2)
  if (!isLocal && body.length < size) return invalid(isShort)
  const tlvs = valuesOf(body, Math.min(size, body.length))
  if (typeof tlvs === "string") return invalid(tlvs)
  const wrong = wrongChecksum(whole, tlvs)
  if (wrong !== undefined) return invalid(wrong)
  const header: Header = isLocal
    ? { version: 2, ...noEnds, ...noFacts }
    : { version: 2, ...endsOf(family, body), ...factsOf(tlvs) }
  return { _tag: "Header", header, length }
}

// ---------------------------------------------------------------------------------------------------------------------
// type, length, value
// ---------------------------------------------------------------------------------------------------------------------

const types = { alpn: 0x01, authority: 0x02, checksum: 0x03, uniqueId: 0x05, tls: 0x20 }
const tlsTypes = { version: 0x21, commonName: 0x22, cipher: 0x23 }

type Values = ReadonlyMap<number, Buffer>

/** The values from a place on, by type: the first of each. */
const valuesOf = (bytes: Buffer, from: number): Values | string => {
  const found = new Map<number, Buffer>()
  for (let at = from; at < bytes.length;) {
    if (at + 3 > bytes.length) return "what follows its addresses ends in a length"
    const end = at + 3 + bytes.readUInt16BE(at + 1)
    if (end > bytes.length) return "what follows its addresses is longer than it says"
    const type = bytes[at]!
    if (!found.has(type)) found.set(type, bytes.subarray(at + 3, end))
    at = end
  }
  return found
}

const wrongChecksum = (whole: Buffer, values: Values): string | undefined => {
  const said = values.get(types.checksum)
  if (said === undefined) return undefined
  if (said.length !== 4) return "its checksum has not 4 bytes"
  const copy = Buffer.from(whole)
  copy.fill(0, said.byteOffset - whole.byteOffset, said.byteOffset - whole.byteOffset + 4)
  return crc32c(copy) === said.readUInt32BE(0) ? undefined : "its checksum is not that of its bytes"
}

const text = (bytes: Buffer | undefined): string | undefined =>
  bytes === undefined || bytes.length === 0 ? undefined : bytes.toString("utf8")

const tlsOf = (bytes: Buffer | undefined): HeaderTls | undefined => {
  // the first bit: the client speaks TLS
  if (bytes === undefined || bytes.length < 5 || (bytes[0]! & 1) === 0) return undefined
  const inner = valuesOf(bytes, 5)
  const values: Values = typeof inner === "string" ? new Map() : inner
  const hasCertificate = (bytes[0]! & 6) !== 0
  return {
    version: text(values.get(tlsTypes.version)),
    cipher: text(values.get(tlsTypes.cipher)),
    hasCertificate,
    isVerified: hasCertificate && bytes.readUInt32BE(1) === 0,
    commonName: text(values.get(tlsTypes.commonName))
  }
}

const factsOf = (values: Values): Facts => {
  const uniqueId = values.get(types.uniqueId)
  return {
    authority: text(values.get(types.authority)),
    alpn: text(values.get(types.alpn)),
    uniqueId: uniqueId === undefined ? undefined : new Uint8Array(uniqueId),
    tls: tlsOf(values.get(types.tls))
  }
}
