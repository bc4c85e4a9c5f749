/** What is offered, agreed to and refused of permessage-deflate in an upgrade (RFC 7692, 7.1). */
import * as Result from "effect/Result"
import type { Compression } from "../../../internal/transport/compression.ts"
import type { Deflating } from "./options.ts"
import { type Agreed, compressionOf } from "./zlib.ts"

const extension = "permessage-deflate"

/** An element of `Sec-WebSocket-Extensions`. */
interface Element {
  readonly name: string
  readonly parameters: ReadonlyArray<readonly [name: string, value: string | undefined]>
}

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
const parameter = new RegExp(`^[ \\t]*;[ \\t]*(${token})(?:[ \\t]*=[ \\t]*(?:(${token})|"(${token})"))?`)
const start = new RegExp(`^[ \\t]*(${token})`)

/** Reads the header (RFC 6455, 9.1); undefined where it is malformed. A quoted value has to be a token, so that no comma is in it. */
const elementsOf = (header: string): ReadonlyArray<Element> | undefined => {
  const elements: Array<Element> = []
  for (const text of header.split(",")) {
    if (text.trim() === "") continue
    const name = start.exec(text)
    if (name === null) return undefined
    const parameters: Array<Element["parameters"][number]> = []
    let rest = text.slice(name[0].length)
    for (let found = parameter.exec(rest); found !== null; found = parameter.exec(rest)) {
      parameters.push([found[1]!.toLowerCase(), found[2] ?? found[3]])
      rest = rest.slice(found[0].length)
    }
    if (rest.trim() !== "") return undefined
    elements.push({ name: name[1]!.toLowerCase(), parameters })
  }
  return elements
}

/** The parameters; `true` is `client_max_window_bits` without a value. */
interface Parameters {
  readonly serverKeepsNone: boolean
  readonly clientKeepsNone: boolean
  readonly serverBits: number | undefined
  readonly clientBits: number | true | undefined
}

const bitsOf = (value: string | undefined): number | undefined =>
  value !== undefined && /^([89]|1[0-5])$/.test(value) ? Number(value) : undefined

/** Undefined where one is unknown, there twice, or has a value that it may not have. */
const parametersOf = ({ parameters }: Element, isOffer: boolean): Parameters | undefined => {
  const seen = new Map(parameters)
  if (seen.size !== parameters.length) return undefined
  let serverBits: number | undefined
  let clientBits: number | true | undefined
  for (const [name, value] of parameters) {
    switch (name) {
      case "server_no_context_takeover":
      case "client_no_context_takeover":
        if (value !== undefined) return undefined
        break
      case "server_max_window_bits":
        serverBits = bitsOf(value)
        if (serverBits === undefined) return undefined
        break
      case "client_max_window_bits":
        clientBits = isOffer && value === undefined ? true : bitsOf(value)
        if (clientBits === undefined) return undefined
        break
      default:
        return undefined
    }
  }
  return {
    serverKeepsNone: seen.has("server_no_context_takeover"),
    clientKeepsNone: seen.has("client_no_context_takeover"),
    serverBits,
    clientBits
  }
}

// connections that agreed to the same compress by one: what encodes their messages is shared as well
const shared = new WeakMap<Deflating, Map<string, Compression>>()

const sharedCompression = (options: Deflating, agreed: Omit<Agreed, "threshold" | "level">): Compression => {
  const known = shared.get(options) ?? new Map<string, Compression>()
  shared.set(options, known)
  const key = `${agreed.sentBits} ${agreed.receivedBits} ${agreed.keepsSent} ${agreed.keepsReceived}`
  const compression = known.get(key) ?? compressionOf({ ...options, ...agreed })
  known.set(key, compression)
  return compression
}

/** What was agreed to, and the header that says so. */
export interface Answered {
  readonly header: string
  readonly compression: Compression
}

const headerOf = (parameters: ReadonlyArray<string | false>): string =>
  [extension, ...parameters.filter((one) => one !== false)].join("; ")

const accept = (options: Deflating, offer: Parameters): Answered => {
  const { contextTakeover, windowBits } = options
  const keepsSent = contextTakeover && !offer.serverKeepsNone
  const keepsReceived = contextTakeover && !offer.clientKeepsNone
  const sentBits = Math.min(windowBits, offer.serverBits ?? 15)
  // a client that did not speak of its window may not be told of one
  const receivedBits = offer.clientBits === undefined
    ? 15
    : Math.min(windowBits, offer.clientBits === true ? 15 : offer.clientBits)
  return {
    header: headerOf([
      !keepsSent && "server_no_context_takeover",
      !keepsReceived && "client_no_context_takeover",
      (offer.serverBits !== undefined || sentBits < 15) && `server_max_window_bits=${sentBits}`,
      offer.clientBits !== undefined && receivedBits < 15 && `client_max_window_bits=${receivedBits}`
    ]),
    compression: sharedCompression(options, { sentBits, receivedBits, keepsSent, keepsReceived })
  }
}

/** A server takes the first offer that makes sense; none is no mistake: then nothing is compressed. */
export const answerTo = (options: Deflating | undefined, header: string | undefined): Answered | undefined => {
  if (options === undefined || header === undefined) return undefined
  for (const element of elementsOf(header) ?? []) {
    if (element.name !== extension) continue
    const offer = parametersOf(element, true)
    if (offer !== undefined) return accept(options, offer)
  }
  return undefined
}

/** What a client offers. */
export const offerOf = ({ contextTakeover, windowBits }: Deflating): string =>
  headerOf([
    !contextTakeover && "server_no_context_takeover",
    !contextTakeover && "client_no_context_takeover",
    windowBits < 15 && `server_max_window_bits=${windowBits}`,
    windowBits < 15 ? `client_max_window_bits=${windowBits}` : "client_max_window_bits"
  ])

const notOffered = "the server chose an extension that was not offered"

/** What a server's answer to the offer comes to. The failure is what is wrong with it, as a sentence. */
export const agreedTo = (
  options: Deflating | undefined,
  header: string | undefined
): Result.Result<Compression | undefined, string> => {
  if (header === undefined) return Result.succeed(undefined)
  const elements = elementsOf(header)
  if (options === undefined || elements?.length !== 1 || elements[0]!.name !== extension) return Result.fail(notOffered)
  const answer = parametersOf(elements[0]!, false)
  if (answer === undefined) return Result.fail("the server's answer about compression is malformed")
  const { contextTakeover, windowBits } = options
  if (!contextTakeover && !answer.serverKeepsNone) {
    return Result.fail("the server keeps a context for compression that the offer excludes")
  }
  const receivedBits = answer.serverBits ?? 15
  if (receivedBits > windowBits) {
    return Result.fail("the server's window for compression is larger than the offer allows")
  }
  const sentBits = Math.min(windowBits, typeof answer.clientBits === "number" ? answer.clientBits : 15)
  return Result.succeed(sharedCompression(options, {
    sentBits,
    receivedBits,
    keepsSent: contextTakeover && !answer.clientKeepsNone,
    keepsReceived: contextTakeover && !answer.serverKeepsNone
  }))
}
