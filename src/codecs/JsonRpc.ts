/**
 * JSON-RPC 2.0 in lines: requests, notifications, responses and batches of them, in both directions.
 *
 * Use it for peers that speak JSON-RPC over a stream or a WebSocket. For calls between two programs of your own, `holdfast/rpc`
 * carries Effect's RPC, whose serialization may be JSON-RPC as well.
 *
 * @see https://www.jsonrpc.org/specification
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"
import type { CodecReason } from "../ConnectionError.ts"
import { integer } from "../internal/codec/framing.ts"
import { guarded } from "../internal/codec/payload.ts"
import { messageWeight } from "../internal/codec/room.ts"
import { invalid } from "./internal/text.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What a request carries, and its response too. The specification discourages `null` in a request, and it is not taken.
 *
 * @category models
 * @since 0.1.0
 */
export type Id = string | number

/**
 * What went wrong, as a response tells it: `code` is one of the specification's (-32700 to -32600), or the application's.
 *
 * @category models
 * @since 0.1.0
 */
export interface Failure {
  readonly code: number
  readonly message: string
  readonly data?: unknown
}

/**
 * What an end asks of the other: a request, which is answered, or a notification, which is not.
 *
 * @category models
 * @since 0.1.0
 */
export type Asked =
  | { readonly _tag: "Request"; readonly id: Id; readonly method: string; readonly params?: unknown }
  | { readonly _tag: "Notification"; readonly method: string; readonly params?: unknown }

/**
 * What answers a request. A failure without an id answers what could not be read.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer =
  | { readonly _tag: "Result"; readonly id: Id; readonly result: unknown }
  | { readonly _tag: "Error"; readonly id: Id | null; readonly error: Failure }

/**
 * What came and is no message of JSON-RPC 2.0: a member of a batch, and with `invalid: "message"` anything else. `error` is what
 * the specification answers; sent, it is that answer. `detail` says what is wrong, for a log.
 *
 * @category models
 * @since 0.1.0
 */
export interface Invalid {
  readonly _tag: "Invalid"
  /** That of the request, where one could be read. */
  readonly id: Id | null
  readonly error: Failure
  readonly detail: string
}

/**
 * Several messages that travel as one array. The requests in it are answered in one `Batch`, in any order; a batch of
 * notifications is not answered.
 *
 * @category models
 * @since 0.1.0
 */
export interface Batch {
  readonly _tag: "Batch"
  readonly messages: NonEmptyReadonlyArray<Asked | Answer | Invalid>
}

/**
 * A message of either end.
 *
 * @category models
 * @since 0.1.0
 */
export type Message = Asked | Answer | Batch | Invalid

// ---------------------------------------------------------------------------------------------------------------------
// failures
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Answers text that is no JSON: -32700.
 *
 * @category failures
 * @since 0.1.0
 */
export const parseError: Failure = { code: -32700, message: "Parse error" }

/**
 * Answers JSON that is no request: -32600.
 *
 * @category failures
 * @since 0.1.0
 */
export const invalidRequest: Failure = { code: -32600, message: "Invalid Request" }

/**
 * Says that there is no such method: -32601. A handler fails with it.
 *
 * @category failures
 * @since 0.1.0
 */
export const methodNotFound: Failure = { code: -32601, message: "Method not found" }

/**
 * Says that a method takes no such parameters: -32602. A handler fails with it.
 *
 * @category failures
 * @since 0.1.0
 */
export const invalidParams: Failure = { code: -32602, message: "Invalid params" }

/**
 * Says that the server could not do it: -32603. A handler fails with it.
 *
 * @category failures
 * @since 0.1.0
 */
export const internalError: Failure = { code: -32603, message: "Internal error" }

// ---------------------------------------------------------------------------------------------------------------------
// reading and writing
// ---------------------------------------------------------------------------------------------------------------------

type Fields = { readonly [key: string]: unknown }

// another number would be answered: JSON has no such, or rounds it
const isId = (value: unknown): value is Id =>
  typeof value === "string" || (typeof value === "number" && Math.abs(value) <= Number.MAX_SAFE_INTEGER)

const badId = "id is neither text nor a number that is exact"

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** A message, or what is wrong with it. */
const readOne = (value: unknown): Asked | Answer | string => {
  if (!isObject(value)) return Array.isArray(value) ? "it is an array" : "it is no object"
  if (value["jsonrpc"] !== "2.0") return "jsonrpc is not \"2.0\""
  const { error, id, method, params } = value
  if (method !== undefined) {
    if (typeof method !== "string") return "method is no text"
    if (params !== undefined && (typeof params !== "object" || params === null)) {
      return "params are neither an object nor an array"
    }
    const asked = params === undefined ? { method } : { method, params }
    if (!Object.hasOwn(value, "id")) return { _tag: "Notification", ...asked }
    return isId(id) ? { _tag: "Request", id, ...asked } : badId
  }
  if (isObject(error)) {
    const { code, data, message } = error
    if (!Number.isInteger(code) || typeof message !== "string") {
      return "error has no code that is an integer, or no message"
    }
    if (!isId(id) && id !== null) return badId
    return { _tag: "Error", id, error: { code: code as number, message, ...(data === undefined ? {} : { data }) } }
  }
  if (!Object.hasOwn(value, "result")) return "it has no method, no result and no error"
  return isId(id) ? { _tag: "Result", id, result: value["result"] } : badId
}

const invalidOf = (value: unknown, error: Failure, detail: string): Invalid => {
  const id = isObject(value) ? value["id"] : null
  return { _tag: "Invalid", id: isId(id) ? id : null, error, detail }
}

const readMember = (value: unknown): Asked | Answer | Invalid => {
  const read = readOne(value)
  return typeof read === "string" ? invalidOf(value, invalidRequest, read) : read
}

const tooMany = (count: number, maxBatch: number): string =>
  `a batch of ${count} messages, and maxBatch is ${maxBatch}: send them in smaller batches, or raise the limit`

/** A message or a batch, or what is wrong with it. Of a batch over the limit no member is read. */
const read = (value: unknown, maxBatch: number): Asked | Answer | Batch | string => {
  if (!Array.isArray(value)) return readOne(value)
  if (value.length === 0) return "a batch of no messages"
  if (value.length > maxBatch) return tooMany(value.length, maxBatch)
  return { _tag: "Batch", messages: value.map(readMember) as unknown as Batch["messages"] }
}

/** What JSON makes of a value that says so itself, as a date does. */
const plain = (value: unknown): unknown => {
  if (!isObject(value) || typeof value["toJSON"] !== "function") return value
  const text = JSON.stringify(value) as string | undefined
  return text === undefined ? undefined : JSON.parse(text)
}

/** A result is there, whatever it is. */
const resultOf = (value: unknown): unknown => {
  if (typeof value === "function" || typeof value === "symbol") throw new Error(`a ${typeof value} has no JSON form`)
  return plain(value) ?? null
}

const fieldsOf = (message: Asked | Answer | Invalid): Fields => {
  const jsonrpc = "2.0"
  switch (message._tag) {
    case "Request":
      return { jsonrpc, id: message.id, method: message.method, params: plain(message.params) }
    case "Notification":
      return { jsonrpc, method: message.method, params: plain(message.params) }
    case "Result":
      return { jsonrpc, id: message.id, result: resultOf(message.result) }
    case "Error":
    case "Invalid": {
      // not as it is: the message of an `Error` is no field that JSON sees
      const { code, data, message: text } = message.error
      return { jsonrpc, id: message.id, error: { code, message: text, data } }
    }
    default:
      throw new Error("it is no message of JSON-RPC")
  }
}

/** The fields of a message. It throws where they could not be read. */
const written = (message: Asked | Answer | Invalid): Fields => {
  const fields = fieldsOf(message)
  const read = readOne(fields)
  if (typeof read === "string") throw new Error(read)
  return fields
}

/**
 * What the codec can be told, besides what lines can.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Codec.FramingOptions {
  /** The most messages in one batch, in both directions, 1 or more. One with more is `Invalid` as a whole. Default 100. */
  readonly maxBatch?: number | undefined
  /**
   * What becomes of that which is no message. `fail` (default): the connection ends with `InvalidMessage`. `message`: it is received as an
   * `Invalid`, which `respond` answers as the specification wants it, and the connection lives on.
   */
  readonly invalid?: "fail" | "message" | undefined
}

/**
 * Makes the codec, which is the same at both ends: a message or a batch a line on a stream, a text message each on a WebSocket.
 *
 * **Details**
 *
 * - Text is bounded as that of `Codec.json`: by `maxFrame`, by `Policy.maxDecoded`, and 100 levels deep. A batch is one frame and
 *   one message, with at most `maxBatch` members.
 * - A member of a batch that is no message is an `Invalid` among the others.
 * - What is no message of JSON-RPC 2.0 and in no batch is `InvalidMessage`, and so are an empty batch and one with too many members:
 *   with `invalid: "message"` they are an `Invalid`.
 *
 * **Gotchas**
 *
 * Limits that count messages (`Policy.inboxMessages`, rates) count a batch as one: `maxBatch` is how much work that can be.
 *
 * **Example** (A server that answers requests and batches)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Connection, Server } from "holdfast"
 * import { JsonRpc } from "holdfast/codecs"
 *
 * const answer = ({ method, params }: JsonRpc.Asked) =>
 *   method === "echo" ? Effect.succeed(params) : Effect.fail(JsonRpc.methodNotFound)
 *
 * const server = Server.run({
 *   open: Connection.make({ codec: JsonRpc.make({ invalid: "message" }) }),
 *   handle: (connection) =>
 *     Stream.runForEach(Connection.messages(connection), JsonRpc.respond(connection.send, answer))
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Codec.Codec<Message> => {
  const maxBatch = integer("maxBatch", options.maxBatch ?? 100, 1)
  const isLenient = options.invalid === "message"
  const { framing, maxFrame, payload } = Codec.lines(options).pipe(Codec.json)
  const format = "JSON-RPC"

  const decode: typeof codec.payload.decode = (frame, scale) => {
    const value = payload.decode(frame, scale)
    if (Result.isFailure(value)) {
      const reason: CodecReason = value.failure
      return isLenient && reason._tag === "InvalidMessage"
        ? Result.succeed(invalidOf(null, parseError, reason.message))
        : Result.fail(reason)
    }
    const message = read(value.success, maxBatch)
    if (typeof message === "string") {
      return isLenient
        ? Result.succeed(invalidOf(value.success, invalidRequest, message))
        : Result.fail(invalid("decode", format, message))
    }
    if (message._tag === "Batch" && scale !== undefined) scale.weight += message.messages.length * messageWeight
    return Result.succeed(message)
  }

  /** What a message is as JSON, or what is wrong with it. */
  const jsonOf = (message: Message): Result.Result<Fields | ReadonlyArray<Fields>, string> => {
    if (message._tag !== "Batch") return Result.succeed(written(message))
    const { messages } = message
    if (messages.length > maxBatch) return Result.fail(tooMany(messages.length, maxBatch))
    return messages.length as number === 0
      ? Result.fail("a batch of no messages")
      : Result.succeed(Array.from(messages, written))
  }

  const encode: typeof codec.payload.encode = (message) => {
    const json = guarded("encode", format, () => jsonOf(message))
    return Result.isFailure(json) ? Result.fail(json.failure) : payload.encode(json.success)
  }

  const codec: Codec.Codec<Message> = Codec.make<Message>({
    framing,
    maxFrame,
    payload: { form: payload.form, content: "value", decode, encode }
  })
  return codec
}

// ---------------------------------------------------------------------------------------------------------------------
// answering
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Answers what comes, as the specification says: a request with a `Result` or an `Error`, a batch with one `Batch` of the answers to
 * its requests, an `Invalid` with its error. A notification is handled and not answered; answers are skipped.
 *
 * **When to use**
 *
 * In the `handle` of a server, and for the `pushes` of `Request.duplex`.
 *
 * **Details**
 *
 * `handle` succeeds with the result (`undefined` is sent as `null`), or fails with what the error of the answer is. Of a notification
 * both are dropped. The members of a batch are handled in their order, `concurrency` at a time (default 1), and their answers have
 * the same order. An interruption interrupts what is being handled, and sends nothing.
 *
 * **Gotchas**
 *
 * A defect of `handle` is not answered: it ends the connection with `Defect`. The answers to a batch are one frame, for which `maxFrame`
 * holds: `send` fails with `FrameTooLong` if they are longer.
 *
 * **Example** (Both ends ask)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { type Connection, Request } from "holdfast"
 * import { JsonRpc } from "holdfast/codecs"
 *
 * const program = Effect.fnUntraced(function*(connection: Connection.Connection<JsonRpc.Message>) {
 *   const duplex = yield* Request.duplex(connection, { correlate: JsonRpc.correlate })
 *   const respond = JsonRpc.respond(duplex.send, () => Effect.fail(JsonRpc.methodNotFound))
 *   yield* Effect.forkScoped(Stream.runForEach(duplex.pushes, respond))
 *   return yield* duplex.request({ _tag: "Request", id: 0, method: "time" })
 * })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const respond = <E, R>(
  send: (message: Message) => Effect.Effect<void, E>,
  handle: (asked: Asked) => Effect.Effect<unknown, Failure, R>,
  options?: { readonly concurrency?: number | undefined }
): (message: Message) => Effect.Effect<void, E, R> => {
  const concurrency = integer("concurrency", options?.concurrency ?? 1, 1)

  const answer = (message: Asked | Answer | Invalid): Effect.Effect<Answer | undefined, never, R> => {
    switch (message._tag) {
      case "Request": {
        const { id } = message
        return Effect.match(Effect.suspend(() => handle(message)), {
          onSuccess: (result): Answer => ({ _tag: "Result", id, result }),
          onFailure: (error): Answer => ({ _tag: "Error", id, error })
        })
      }
      case "Notification":
        return Effect.match(Effect.suspend(() => handle(message)), {
          onSuccess: () => undefined,
          onFailure: () => undefined
        })
      case "Invalid":
        return Effect.succeed<Answer>({ _tag: "Error", id: message.id, error: message.error })
      default:
        return Effect.undefined
    }
  }

  return (message) =>
    message._tag === "Batch"
      ? Effect.flatMap(Effect.forEach(message.messages, answer, { concurrency }), (all) => {
        const [first, ...others] = all.filter((one) => one !== undefined)
        return first === undefined ? Effect.void : send({ _tag: "Batch", messages: [first, ...others] })
      })
      : Effect.flatMap(answer(message), (one) => one === undefined ? Effect.void : send(one))
}

// ---------------------------------------------------------------------------------------------------------------------
// asking
// ---------------------------------------------------------------------------------------------------------------------

/** The id of a member of a batch, and its place. */
const memberId = /^(\d+)\.(\d+)$/

const numberOf = (message: Asked | Answer | Invalid): number | undefined => {
  if (message._tag !== "Result" && message._tag !== "Error") return undefined
  const { id } = message
  if (typeof id === "number") return id
  const found = id === null ? null : memberId.exec(id)
  return found === null ? undefined : Number(found[1])
}

/**
 * The `correlate` of `Request.make` and `Request.duplex`, for requests and for batches: whatever ids they have are replaced.
 *
 * **Details**
 *
 * A batch is one request with one answer, in which `answersTo` finds the answer to each member.
 *
 * **Gotchas**
 *
 * A batch without a request, and a notification, have no answer: `send` them. An `Error` without an id belongs to no request: the
 * server could not read what it answers.
 *
 * **Example** (Two questions in one batch)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection, Request } from "holdfast"
 * import { JsonRpc } from "holdfast/codecs"
 * import { Dialer } from "holdfast/node"
 *
 * const open = Effect.flatMap(
 *   Effect.orDie(Dialer.make("tcp://127.0.0.1:7000")),
 *   Connection.make({ codec: JsonRpc.make() })
 * )
 * const batch: JsonRpc.Batch = {
 *   _tag: "Batch",
 *   messages: [{ _tag: "Request", id: 0, method: "time" }, { _tag: "Request", id: 0, method: "name" }]
 * }
 *
 * const program = Effect.gen(function*() {
 *   const requests = yield* Request.make(open, { correlate: JsonRpc.correlate, inFlight: 8 })
 *   const [time, name] = JsonRpc.answersTo(batch, yield* requests.request(batch))
 *   yield* Effect.log(time, name)
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const correlate: {
  /** Gives a request its id, and the requests of a batch ids made of it. */
  readonly request: (message: Message, id: number) => Message
  /** The id of the request, or of the batch, that a message answers. */
  readonly response: (message: Message) => number | undefined
} = {
  request: (message, id) => {
    if (message._tag === "Request") return { ...message, id }
    if (message._tag !== "Batch") return message
    const [first, ...others] = message.messages.map((member, place) =>
      member._tag === "Request" ? { ...member, id: `${id}.${place}` } : member
    )
    return { _tag: "Batch", messages: [first!, ...others] }
  },
  response: (message) => {
    if (message._tag !== "Batch") return numberOf(message)
    for (const member of message.messages) {
      const id = numberOf(member)
      if (id !== undefined) return id
    }
    return undefined
  }
}

/**
 * The answers to the members of a batch, each at the place of its member, after `correlate` has given them ids. `undefined`: that member
 * is a notification, or has no answer.
 *
 * @category combinators
 * @since 0.1.0
 */
export const answersTo = (asked: Batch, answered: Message): ReadonlyArray<Answer | undefined> => {
  const answers = asked.messages.map((): Answer | undefined => undefined)
  for (const answer of answered._tag === "Batch" ? answered.messages : [answered]) {
    if (answer._tag !== "Result" && answer._tag !== "Error") continue
    const place = Number(memberId.exec(String(answer.id))?.[2] ?? -1)
    if (asked.messages[place]?._tag === "Request") answers[place] = answer
  }
  return answers
}
