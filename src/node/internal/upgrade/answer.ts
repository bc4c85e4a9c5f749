/** Answers a request that is not upgraded, with Node's own writer of answers. */
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import { linger } from "../stream/tcp.ts"
import type { Answer } from "./form.ts"

/** Fills in the head of an answer, of which the connection does not outlive the end. Throws where a header cannot be. */
const fill = (response: Http.ServerResponse, { body, headers, status }: Answer): string => {
  const text = body ?? Http.STATUS_CODES[status] ?? ""
  response.shouldKeepAlive = false
  response.statusCode = status
  response.setHeader("Content-Type", "text/plain; charset=utf-8")
  response.setHeader("Content-Length", Buffer.byteLength(text))
  for (const [name, value] of Object.entries(headers ?? {})) response.setHeader(name, value)
  const also = response.getHeader("Connection")
  response.setHeader("Connection", also === undefined ? "close" : `close, ${String(also)}`)
  return text
}

/** Answers a request of which Node has made a response. */
export const write = (response: Http.ServerResponse, answer: Answer): void => {
  response.end(fill(response, answer))
}

/** The answer to an earlier request that the connection is busy with: Node emits an upgrade that was pipelined behind it. */
export const answering = (stream: Duplex): Http.ServerResponse | undefined =>
  (stream as Duplex & { readonly _httpMessage?: Http.ServerResponse | null })._httpMessage ?? undefined

/** Calls back once a stream has no answer ahead: Node gives it to the next one before the one before says that it is over. */
export const whenAnswered = (stream: Duplex, done: () => void): void => {
  const before = answering(stream)
  if (before === undefined) done()
  else before.once("close", () => whenAnswered(stream, done))
}

/** `write` for a request that Node gave away with its connection. */
export const refuse = (
  request: Http.IncomingMessage,
  stream: Duplex,
  answer: Answer,
  limit: number
): void => {
  if (stream.destroyed) return
  const response = new Http.ServerResponse(request)
  const text = fill(response, answer)
  response.assignSocket(stream as Net.Socket)
  response.once("finish", () => linger(stream, limit))
  response.end(text)
}
