/**
 * The packets of MQTT 3.1.1, as both ends write them.
 *
 * Use it for a client of a broker, or for a broker. The codec knows packets; which of them answers which, and what is sent again,
 * is the matter of the program. `heartbeat` is that of a client.
 *
 * @see https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"
import type { CodecReason } from "../ConnectionError.ts"
import * as Heartbeats from "../Heartbeat.ts"
import { ours, tooLongOf } from "../internal/codec/framing.ts"
import { sized } from "../internal/codec/framings/sized.ts"
import { guarded } from "../internal/codec/payload.ts"
import type { Scale } from "../internal/codec/room.ts"
import { Fields, Out } from "./internal/mqttFields.ts"
import { fieldsAt, header } from "./internal/mqttHeader.ts"
import { bytesOf, joined, utf8Exact, weigh } from "./internal/text.ts"

/**
 * How often a message arrives: at most once, at least once, exactly once.
 *
 * @category models
 * @since 0.1.0
 */
export type Qos = 0 | 1 | 2

/**
 * What a broker says in place of a client that is lost.
 *
 * @category models
 * @since 0.1.0
 */
export interface Will {
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos?: Qos | undefined
  readonly retain?: boolean | undefined
}

/**
 * Asks for a session. `keepAlive` is in seconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connect {
  readonly _tag: "Connect"
  readonly clientId: string
  readonly clean?: boolean | undefined
  readonly keepAlive?: number | undefined
  readonly username?: string | undefined
  readonly password?: Uint8Array | string | undefined
  readonly will?: Will | undefined
}

/**
 * A message. One of `qos` 1 or 2 has an id.
 *
 * @category models
 * @since 0.1.0
 */
export interface Publish {
  readonly _tag: "Publish"
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: Qos
  readonly id?: number | undefined
  readonly retain?: boolean | undefined
  readonly duplicate?: boolean | undefined
}

/**
 * Every packet.
 *
 * @category models
 * @since 0.1.0
 */
export type Packet =
  | Connect
  | { readonly _tag: "Connack"; readonly sessionPresent: boolean; readonly code: number }
  | Publish
  | { readonly _tag: "Puback" | "Pubrec" | "Pubrel" | "Pubcomp" | "Unsuback"; readonly id: number }
  | {
    readonly _tag: "Subscribe"
    readonly id: number
    readonly topics: ReadonlyArray<{ readonly filter: string; readonly qos: Qos }>
  }
  /** `codes`: the quality granted to each filter, or 128 for one that is refused. */
  | { readonly _tag: "Suback"; readonly id: number; readonly codes: ReadonlyArray<number> }
  | { readonly _tag: "Unsubscribe"; readonly id: number; readonly filters: ReadonlyArray<string> }
  | { readonly _tag: "Pingreq" | "Pingresp" | "Disconnect" }

const types = [
  "",
  "Connect",
  "Connack",
  "Publish",
  "Puback",
  "Pubrec",
  "Pubrel",
  "Pubcomp",
  "Subscribe",
  "Suback",
  "Unsubscribe",
  "Unsuback",
  "Pingreq",
  "Pingresp",
  "Disconnect"
] as const

/** The flags that the standard wants of these; of all others but PUBLISH it wants none. */
const flagged = new Set<string>(["Pubrel", "Subscribe", "Unsubscribe"])

const mostRemaining = 268_435_455

// ---------------------------------------------------------------------------------------------------------------------
// reading
// ---------------------------------------------------------------------------------------------------------------------

const qosOf = (value: number): Qos => {
  if (value !== 0 && value !== 1 && value !== 2) throw new Error("a quality of service that is not 0, 1 or 2")
  return value as Qos
}

const idOf = (fields: Fields): number => {
  const id = fields.short()
  if (id === 0) throw new Error("a packet id of 0")
  return id
}

const readConnect = (fields: Fields): Connect => {
  const protocol = fields.text()
  const level = fields.byte()
  if (protocol !== "MQTT" || level !== 4) throw new Error(`it speaks ${protocol} ${level}, not MQTT 3.1.1 (level 4)`)
  const flags = fields.byte()
  if ((flags & 1) !== 0) throw new Error("a reserved flag is set")
  const keepAlive = fields.short()
  const clientId = fields.text()
  const hasWill = (flags & 4) !== 0
  if (!hasWill && (flags & 0x38) !== 0) throw new Error("flags of a will, and no will")
  if ((flags & 0xc0) === 0x40) throw new Error("a password needs a username")
  const will = hasWill
    ? {
      topic: fields.topic(),
      payload: fields.bytes(),
      qos: qosOf((flags >> 3) & 3),
      retain: (flags & 32) !== 0
    }
    : undefined
  return {
    _tag: "Connect",
    clientId,
    clean: (flags & 2) !== 0,
    keepAlive,
    ...(will === undefined ? {} : { will }),
    ...((flags & 128) === 0 ? {} : { username: fields.text() }),
    ...((flags & 64) === 0 ? {} : { password: fields.bytes() })
  }
}

const readPublish = (fields: Fields, flags: number): Publish => {
  const qos = qosOf((flags >> 1) & 3)
  if (qos === 0 && (flags & 8) !== 0) throw new Error("a duplicate with qos 0")
  return {
    _tag: "Publish",
    topic: fields.topic(),
    qos,
    ...(qos === 0 ? {} : { id: idOf(fields) }),
    retain: (flags & 1) !== 0,
    duplicate: (flags & 8) !== 0,
    payload: fields.rest()
  }
}

type Connack = Extract<Packet, { readonly _tag: "Connack" }>

/** A connection that is refused has no session. */
const connackOf = (connack: Connack): Connack => {
  if (connack.sessionPresent && connack.code !== 0) throw new Error("a session of a connection that is refused")
  return connack
}

/** Answers to a subscription: the quality of service that it gets, or that it gets none. */
const codeOf = (code: number): number => {
  if (code > 2 && code !== 0x80) throw new Error("an answer to a subscription that is not 0, 1, 2 or 128")
  return code
}

/** One or more, each of which weighs so many bytes: a member of two bytes is a text, and one of three is an object. */
const many = <A>(
  fields: Fields,
  scale: Scale | undefined,
  weight: number,
  read: () => A
): ReadonlyArray<A> => {
  const all: Array<A> = []
  do {
    weigh(scale, weight)
    all.push(read())
  } while (fields.hasMore)
  return all
}

const readBody = (tag: (typeof types)[number], flags: number, fields: Fields, scale: Scale | undefined): Packet => {
  switch (tag) {
    case "Connect":
      return readConnect(fields)
    case "Connack": {
      const present = fields.byte()
      if (present > 1) throw new Error("a reserved flag is set")
      return connackOf({ _tag: tag, sessionPresent: present === 1, code: fields.byte() })
    }
    case "Publish":
      return readPublish(fields, flags)
    case "Puback":
    case "Pubrec":
    case "Pubrel":
    case "Pubcomp":
    case "Unsuback":
      return { _tag: tag, id: idOf(fields) }
    case "Subscribe": {
      const id = idOf(fields)
      return {
        _tag: tag,
        id,
        topics: many(fields, scale, 80, () => ({ filter: fields.filter(), qos: qosOf(fields.byte()) }))
      }
    }
    case "Suback": {
      const id = idOf(fields)
      return { _tag: tag, id, codes: many(fields, scale, 12, () => codeOf(fields.byte())) }
    }
    case "Unsubscribe": {
      const id = idOf(fields)
      return { _tag: tag, id, filters: many(fields, scale, 36, () => fields.filter()) }
    }
    case "Pingreq":
    case "Pingresp":
    case "Disconnect":
      return { _tag: tag }
    default:
      throw new Error("a packet of an unknown type")
  }
}

const decode = (frame: Uint8Array | string, scale?: Scale): Result.Result<Packet, CodecReason> =>
  guarded("decode", "MQTT", () => {
    const bytes = bytesOf(frame)
    const first = bytes[0] ?? 0
    const tag = types[first >> 4] ?? ""
    const flags = first & 15
    if (tag !== "Publish" && flags !== (flagged.has(tag) ? 2 : 0)) {
      return Result.fail("flags that its type does not have")
    }
    const fields = new Fields(bytes, fieldsAt(bytes))
    const packet = readBody(tag, flags, fields, scale)
    return fields.hasMore ? Result.fail("bytes are left over") : Result.succeed(packet)
  })

// ---------------------------------------------------------------------------------------------------------------------
// writing
// ---------------------------------------------------------------------------------------------------------------------

const writeConnect = (out: Out, { clean = true, clientId, keepAlive = 0, password, username, will }: Connect): void => {
  if (password !== undefined && username === undefined) throw new Error("a password needs a username")
  const ofWill = will === undefined ? 0 : 4 | (qosOf(will.qos ?? 0) << 3) | (will.retain === true ? 32 : 0)
  const flags = (clean ? 2 : 0) | ofWill | (username === undefined ? 0 : 128) | (password === undefined ? 0 : 64)
  out.text("MQTT").byte(4).byte(flags).short(keepAlive).text(clientId)
  if (will !== undefined) out.topic(will.topic).bytes(will.payload)
  if (username !== undefined) out.text(username)
  if (password !== undefined) out.bytes(typeof password === "string" ? utf8Exact(password) : password)
}

/** Writes what is behind the length, and returns the flags. */
const writeBody = (out: Out, packet: Packet): number => {
  switch (packet._tag) {
    case "Connect":
      writeConnect(out, packet)
      return 0
    case "Connack":
      connackOf(packet)
      out.byte(packet.sessionPresent ? 1 : 0).byte(packet.code)
      return 0
    case "Publish": {
      if (packet.qos === 0 && packet.duplicate === true) throw new Error("a duplicate with qos 0")
      if (packet.qos > 0 !== (packet.id !== undefined)) throw new Error("an id belongs to qos 1 and 2, and to no other")
      out.topic(packet.topic)
      if (packet.id !== undefined) out.id(packet.id)
      out.rest(packet.payload)
      return (qosOf(packet.qos) << 1) | (packet.retain === true ? 1 : 0) | (packet.duplicate === true ? 8 : 0)
    }
    case "Subscribe":
      if (packet.topics.length === 0) throw new Error("a subscription to nothing")
      out.id(packet.id)
      for (const { filter, qos } of packet.topics) out.filter(filter).byte(qosOf(qos))
      return 2
    case "Suback":
      if (packet.codes.length === 0) throw new Error("an answer to no subscription")
      out.id(packet.id)
      for (const code of packet.codes) out.byte(codeOf(code))
      return 0
    case "Unsubscribe":
      if (packet.filters.length === 0) throw new Error("an end of no subscription")
      out.id(packet.id)
      for (const filter of packet.filters) out.filter(filter)
      return 2
    case "Puback":
    case "Pubrec":
    case "Pubrel":
    case "Pubcomp":
    case "Unsuback":
      out.id(packet.id)
      return flagged.has(packet._tag) ? 2 : 0
    default:
      return 0
  }
}

const encode = (packet: Packet): Result.Result<Uint8Array, CodecReason> =>
  guarded("encode", "MQTT", () => {
    const out = new Out()
    const flags = writeBody(out, packet)
    const type = types.indexOf(packet._tag)
    if (type < 1) return Result.fail("a packet of an unknown type")
    if (out.size > mostRemaining) return Result.fail("a packet of more than 256 MiB")
    const head = [(type << 4) | flags]
    let rest = out.size
    do {
      head.push((rest % 128) | (rest >= 128 ? 128 : 0))
      rest = Math.floor(rest / 128)
    } while (rest > 0)
    return Result.succeed(joined([new Uint8Array(head), ...out.parts]))
  })

/**
 * The pings of a client: PINGREQ, answered with PINGRESP. A broker hangs up after one and a half times the `keepAlive` of CONNECT:
 * give it in seconds what `Policy.pingEvery` says, or more.
 *
 * @category heartbeats
 * @since 0.1.0
 */
export const heartbeat: Heartbeats.Heartbeat<Packet, Packet> = Heartbeats.messages<Packet>({
  ping: { _tag: "Pingreq" },
  pong: { _tag: "Pingresp" }
})

/**
 * Makes the codec, which is the same at both ends.
 *
 * **Details**
 *
 * A packet is bounded by `maxFrame` from its announced length on, header included, and by `Policy.maxDecoded` in memory. What the standard does not allow (other flags,
 * an id of 0, bytes left over, a version other than 3.1.1) is `InvalidMessage`.
 *
 * **Gotchas**
 *
 * The payload of a message is a view of what was read: copy what is kept for long.
 *
 * **Example** (Subscribe)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection } from "holdfast"
 * import { Mqtt } from "holdfast/codecs"
 * import { Dialer } from "holdfast/node"
 *
 * const open = Connection.make({ codec: Mqtt.make(), heartbeat: Mqtt.heartbeat })
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const broker = yield* open(yield* Dialer.make("tcp://127.0.0.1:1883"))
 *   yield* broker.send({ _tag: "Connect", clientId: "sensor-7", keepAlive: 30 })
 *   yield* broker.send({ _tag: "Subscribe", id: 1, topics: [{ filter: "rooms/+", qos: 0 }] })
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: { readonly maxFrame?: number | undefined } = {}): Codec.Codec<Packet> =>
  Codec.make<Packet>({
    framing: ours({
      name: "mqtt",
      skips: false,
      decoder: (limit: number) => sized(header(), limit, tooLongOf({})),
      encode: (payload: Uint8Array) => Result.succeed(payload)
    }),
    payload: { form: "bytes", content: "value", decode, encode },
    maxFrame: options.maxFrame
  })
