/** The pings of Effect's RPC protocol, and the word with which a server of ours asks its clients to leave. */
import type { FromClientEncoded, FromServerEncoded } from "effect/rpc/RpcMessage"
import { constPing, constPong } from "effect/rpc/RpcMessage"
import * as Heartbeat from "../../Heartbeat.ts"
import type { FromClient, FromServer } from "./codec.ts"

/** A notification of this tag, which clients of Effect ignore, is a goodbye. */
const leaveTag = "holdfast/Leave"

/** The goodbye of a server. Its payload is empty in every serialization. */
export const leave = (isText: boolean): FromServerEncoded => ({
  _tag: "Request",
  id: "",
  tag: leaveTag,
  payload: isText ? null : new Uint8Array(0),
  headers: [],
  isNotification: true
})

const answered = { _tag: "Ping", answer: constPong } as const
const pong = { _tag: "Pong", token: undefined } as const
const leaving = { _tag: "Leave" } as const

/** A server answers pings ahead of what waits. It has none of its own: `ping` is there for the type. */
export const ofServer: Heartbeat.Heartbeat<FromClient, FromServerEncoded> = Heartbeat.make({
  ping: (): FromServerEncoded => constPong,
  read: (messages: FromClient) => messages.length === 1 && messages[0]!._tag === "Ping" ? answered : undefined
})

/** A client pings, with frames where it speaks to a WebSocket. */
export const ofClient: Heartbeat.Heartbeat<FromServer, FromClientEncoded> = Heartbeat.preferFrames(Heartbeat.make({
  ping: (): FromClientEncoded => constPing,
  read: (messages: FromServer) => {
    const message = messages.length === 1 ? messages[0]! : undefined
    if (message?._tag === "Pong") return pong
    return message?._tag === "Request" && message.tag === leaveTag ? leaving : undefined
  }
}))
