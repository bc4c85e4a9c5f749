/** Asks a proxy, over a connection to it, to connect to a target. */
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import * as Http from "node:http"
import type * as Net from "node:net"
import * as ConnectionError from "../../../ConnectionError.ts"
import { oneLine } from "../../../internal/reasons/text.ts"
import { ProxyRefused } from "../../Proxy.ts"
import { formatInet } from "../addresses/address.ts"
import { openError } from "../stream/duplex.ts"
import * as Socks from "./socks.ts"
import type { Gate, Target } from "./through.ts"

const refusedBy = (
  gate: Gate,
  { host, port }: Target,
  { detail, reason }: Socks.Refusal,
  status?: number
): Socket.SocketError => {
  const cause = new ProxyRefused({
    proxy: gate.name,
    target: formatInet(host, port),
    reason,
    detail,
    ...(status === undefined ? {} : { status })
  })
  return openError(
    cause.isRetryable ? cause : ConnectionError.make(new ConnectionError.HandshakeFailed({ cause }))
  )
}

const closed = (gate: Gate): Socket.SocketError =>
  openError(new Error(`the proxy ${gate.name} closed the connection before it had connected us`))

/** What a status that is no 2xx means. */
const refusalOf = ({ statusCode = 0, statusMessage = "" }: Http.IncomingMessage, gate: Gate): Socks.Refusal => {
  // 407 by RFC 9110, and 401 by tinyproxy
  if (statusCode === 407 || statusCode === 401) {
    const detail = gate.credentials === undefined
      ? `it wants a user and a password (${statusCode})`
      : `it does not take our user and password (${statusCode})`
    return { reason: "AuthenticationRequired", detail }
  }
  const detail = oneLine(`it answers ${statusCode} ${statusMessage}`.trim())
  return { reason: statusCode === 403 ? "NotAllowed" : "Status", detail }
}

const headersOf = ({ credentials }: Gate, host: string): Http.OutgoingHttpHeaders => {
  if (credentials === undefined) return { host }
  const secret = Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")
  return { host, "proxy-authorization": `Basic ${secret}` }
}

const overHttp = (conn: Net.Socket, gate: Gate, target: Target): Effect.Effect<Net.Socket, Socket.SocketError> =>
  Effect.callback((resume) => {
    const fail = (error: Socket.SocketError): void => {
      conn.destroy()
      resume(Effect.fail(error))
    }
    const authority = formatInet(target.host, target.port)
    try {
      const request = Http.request({
        method: "CONNECT",
        path: authority,
        headers: headersOf(gate, authority),
        createConnection: () => conn
      })
      // also what goes wrong once the answer is known
      request.on("error", (cause: NodeJS.ErrnoException) => {
        const isForeign = cause.code?.startsWith("HPE_") === true
        const refusal: Socks.Refusal = { reason: "Protocol", detail: "it does not answer in HTTP" }
        fail(
          isForeign ? refusedBy(gate, target, refusal) : conn.errored === null ? closed(gate) : openError(conn.errored)
        )
      })
      request.once("connect", (response, _, head) => {
        const { statusCode = 0 } = response
        if (statusCode < 200 || statusCode > 299) {
          return fail(refusedBy(gate, target, refusalOf(response, gate), statusCode))
        }
        if (head.length > 0) conn.unshift(head)
        resume(Effect.succeed(conn))
      })
      request.end()
    } catch (cause) {
      fail(openError(cause))
    }
    return Effect.sync(() => conn.destroy())
  })

const overSocks = (conn: Net.Socket, gate: Gate, target: Target): Effect.Effect<Net.Socket, Socket.SocketError> =>
  Effect.callback((resume) => {
    const talk = Socks.conversation(target, gate.credentials)
    let held: Buffer = Buffer.alloc(0)
    let turn = talk.next()
    const stop = (): void => {
      conn.off("readable", onReadable)
      conn.off("end", onEnd)
      conn.off("close", onEnd)
    }
    const fail = (error: Socket.SocketError): void => {
      stop()
      conn.destroy()
      resume(Effect.fail(error))
    }
    const say = (): void => {
      if (turn.done !== true && turn.value.say !== undefined) conn.write(turn.value.say)
    }
    function onEnd(): void {
      fail(conn.errored === null ? closed(gate) : openError(conn.errored))
    }
    function onReadable(): void {
      const chunk = conn.read() as Buffer | null
      if (chunk !== null) held = Buffer.concat([held, chunk])
      while (turn.done !== true && held.length >= turn.value.hear) {
        const heard = held.subarray(0, turn.value.hear)
        held = held.subarray(heard.length)
        turn = talk.next(heard)
        say()
      }
      if (turn.done !== true) return
      if (turn.value !== undefined) return fail(refusedBy(gate, target, turn.value))
      stop()
      if (held.length > 0) conn.unshift(held)
      // a stream goes over from `readable` to another way of reading in the next tick
      process.nextTick(resume, Effect.succeed(conn))
    }
    conn.on("readable", onReadable)
    conn.on("end", onEnd)
    conn.on("close", onEnd)
    say()
    return Effect.sync(() => {
      stop()
      conn.destroy()
    })
  })

/** The same connection, on which the target comes next. One that fails is destroyed; its time is bounded by the caller. */
export const tunnel = (conn: Net.Socket, gate: Gate, target: Target): Effect.Effect<Net.Socket, Socket.SocketError> =>
  gate.speaks === "http" ? overHttp(conn, gate, target) : overSocks(conn, gate, target)
