/**
 * JSON-RPC 2.0 in lines: requests, notifications and responses, in both directions.
 *
 * Use it for peers that speak JSON-RPC over a stream or a WebSocket. For calls between two programs of your own, `holdfast/rpc`
 * carries Effect's RPC, whose serialization may be JSON-RPC as well.
 *
 * @see https://www.jsonrpc.org/specification
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"

/**
 * What a request carries, and its response too.
 *
 * @category models
 * @since 0.1.0
 */
export type Id = string | number

/**
 * What went wrong, as a response tells it.
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
 * A message of either end. A failure without an id answers what could not be read.
 *
 * @category models
 * @since 0.1.0
 */
export type Message =
  | { readonly _tag: "Request"; readonly id: Id; readonly method: string; readonly params?: unknown }
  | { readonly _tag: "Notification"; readonly method: string; readonly params?: unknown }
  | { readonly _tag: "Result"; readonly id: Id; readonly result: unknown }
  | { readonly _tag: "Error"; readonly id: Id | null; readonly error: Failure }

type Fields = { readonly [key: string]: unknown }

const isId = (value: unknown): value is Id => typeof value === "string" || typeof value === "number"

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const read = (value: unknown): Result.Result<Message, string> => {
  if (Array.isArray(value)) return Result.fail("a batch, which is not taken: send one message a line")
  if (!isObject(value)) return Result.fail("it is no object")
  if (value["jsonrpc"] !== "2.0") return Result.fail("jsonrpc is not \"2.0\"")
  const { error, id, method, params } = value
  if (method !== undefined) {
    if (typeof method !== "string") return Result.fail("method is no text")
    if (params !== undefined && (typeof params !== "object" || params === null)) {
      return Result.fail("params are neither an object nor an array")
    }
    const asked = params === undefined ? { method } : { method, params }
    if (!Object.hasOwn(value, "id")) return Result.succeed({ _tag: "Notification", ...asked })
    return isId(id) ? Result.succeed({ _tag: "Request", id, ...asked }) : Result.fail("id is neither text nor a number")
  }
  if (isObject(error)) {
    const { code, data, message } = error
    if (typeof code !== "number" || typeof message !== "string") return Result.fail("error has no code, or no message")
    if (!isId(id) && id !== null) return Result.fail("id is neither text nor a number")
    return Result.succeed({ _tag: "Error", id, error: { code, message, ...(data === undefined ? {} : { data }) } })
  }
  if (!Object.hasOwn(value, "result")) return Result.fail("it has no method, no result and no error")
  return isId(id)
    ? Result.succeed({ _tag: "Result", id, result: value["result"] })
    : Result.fail("id is neither text nor a number")
}

const write = (message: Message): Fields => {
  const jsonrpc = "2.0"
  switch (message._tag) {
    case "Request":
      return { jsonrpc, id: message.id, method: message.method, params: message.params }
    case "Notification":
      return { jsonrpc, method: message.method, params: message.params }
    case "Result":
      // a result is there, whatever it is
      return { jsonrpc, id: message.id, result: message.result ?? null }
    case "Error":
      return { jsonrpc, id: message.id, error: message.error }
  }
}

/**
 * Makes the codec, which is the same at both ends: a message a line on a stream, a text message on a WebSocket.
 *
 * **Details**
 *
 * Text is bounded as that of `Codec.json`: by `maxFrame`, by `Policy.maxDecoded`, and 100 levels deep. What is no message of JSON-RPC
 * 2.0 is `InvalidMessage`, and so is a batch.
 *
 * **Example** (Answer requests)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Connection, Server } from "holdfast"
 * import { JsonRpc } from "holdfast/codecs"
 *
 * const server = Server.run({
 *   open: Connection.make({ codec: JsonRpc.make() }),
 *   handle: (connection) =>
 *     Stream.runForEach(Connection.messages(connection), (message) =>
 *       message._tag === "Request"
 *         ? connection.send({ _tag: "Result", id: message.id, result: message.params })
 *         : Effect.void)
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Codec.FramingOptions = {}): Codec.Codec<Message> =>
  Codec.lines(options).pipe(
    Codec.json,
    Codec.mapResult<unknown, unknown, Message, Message>({
      format: "JSON-RPC",
      decode: read,
      encode: (message) => Result.succeed(write(message))
    })
  )
