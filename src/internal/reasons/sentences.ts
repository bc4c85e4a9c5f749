/** The messages of reasons that have many facts. */
import * as Schema from "effect/Schema"
import { list, oneLine, seconds } from "./text.ts"

export const closed = ({ by, code, note }: {
  readonly by: "peer" | "local"
  readonly code?: number
  readonly note?: string
}): string => {
  const said = oneLine(note ?? "")
  const detail = [
    code === undefined ? "" : `code ${code}`,
    said === "" || by === "local" ? said : `the peer says: ${said}`
  ].filter((s) => s !== "")
  return `closed by ${by === "peer" ? "the peer" : "us"}${detail.length > 0 ? ` (${detail.join(", ")})` : ""}`
}

export const invalidMessage = ({ detail, direction, format, path = [] }: {
  readonly direction: "decode" | "encode"
  readonly format: string
  readonly detail: string
  readonly path?: ReadonlyArray<string>
}): string => {
  const what = direction === "decode" ? "a frame is not valid" : "a message cannot be written as"
  return `${what} ${format}${path.length === 0 ? "" : ` at ${oneLine(path.join("."))}`}: ${oneLine(detail)}`
}

export const acquireTimeout = ({ by, dialing, holders, limit, waiting }: {
  readonly limit: number
  readonly by: string
  readonly waiting: number
  readonly dialing: number
  readonly holders: ReadonlyArray<{ readonly by: string; readonly heldFor: number }>
}): string => {
  const held = list(holders, ({ by, heldFor }) => `${oneLine(by)} for ${seconds(Math.round(heldFor))}`)
  return `no connection for ${oneLine(by)} within ${seconds(limit)}: ${waiting} waiting, ` +
    `${dialing} being opened${held === "" ? "" : `, ${holders.length} in use by ${held}`}`
}

/** The rates of a peer. */
export const rates = ["messageRate", "byteRate"] as const

export const rateExceeded = ({ allowed, limit }: {
  readonly limit: typeof rates[number]
  readonly allowed: number
}): string => `the peer sent more than ${allowed} ${limit === "byteRate" ? "bytes" : "messages"} a second (${limit})`

/** The limits of a server that refuse a connection, and its end. */
export const refusals = [
  "maxConnections",
  "maxConnectionsPerAddress",
  "maxWaiting",
  "maxPending",
  "acceptRate",
  "memory",
  "stopping",
  "fleet"
] as const

export const refused = ({ allowed, limit }: { readonly limit: string; readonly allowed?: number }): string =>
  limit === "stopping"
    ? "the server is stopping"
    : limit === "fleet"
    ? "the server does not reach the engine of its fleet, and takes no logins until it does"
    : limit === "memory"
    ? `the connections of the server hold all the memory that they may${
      allowed === undefined ? "" : ` (${allowed} bytes)`
    }`
    : `the server's ${limit}${allowed === undefined ? "" : ` (${allowed})`} is reached`

export const poolFull = ({ limit, waiting }: { readonly limit: number; readonly waiting: number }): string =>
  `all connections of the pool are in use, and ${waiting} borrowers wait; the limit is ${limit}`

export const unsupportedVersion = ({ highest, lowest, ours }: {
  readonly ours: string
  readonly lowest: number
  readonly highest: number
}): string => `the peer speaks version ${lowest} to ${highest} of the protocol, and we ${ours}`

export const versionsHeard = (note: string, { ours }: { readonly ours: string }) => {
  const [, lowest, highest] = /^(\d{1,3})-(\d{1,3})$/.exec(note) ?? []
  return lowest === undefined ? undefined : { lowest: Number(lowest), highest: Number(highest), ours }
}

// the codecs of the library name what they read; that of an application is its own word
const formats = new Set(["JSON", "UTF-8", "MessagePack", "DEFLATE"])

export const invalidMessageTold = ({ direction, format }: {
  readonly direction: "decode" | "encode"
  readonly format: string
}): string => {
  if (direction === "encode") return "a message cannot be written"
  return formats.has(format) ? `a frame is not valid ${format}` : "a frame is not valid"
}

/** What a peer says is told as what it said. */
export const handshakeHeard = (note: string): { readonly cause: string } => ({
  cause: note === "" ? "the peer gives no reason" : `the peer says: ${note}`
})

/** What a client was used by, where that had to wait for it. */
export const Within = Schema.optionalKey(Schema.Literal("onConnect"))

export const offline = ({ bytes, messages, within }: {
  readonly messages: number
  readonly bytes: number
  readonly within?: string
}): string =>
  within === undefined
    ? `there is no connection, and ${messages} messages (${bytes} bytes) wait for one`
    : "a client has no connection before its onConnect is done: send and receive there with the connection it is given"
