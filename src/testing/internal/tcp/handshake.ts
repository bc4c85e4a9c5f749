/** How connections open: SYN, SYN-ACK, ACK, each of the first two sent again until it is answered (RFC 9293, 3.5). */
import type { Identity } from "../../Network.ts"
import { systemError } from "../fabric/failures.ts"
import type { SocketSettings } from "../fabric/settings.ts"
import type { SimulatedHost } from "../fabric/simulatedHost.ts"
import { type Connection, portKey, type TcpStack } from "./connection.ts"
import type { Endpoint } from "./endpoint.ts"

// net.ipv4.tcp_syn_retries waits 1, 2, 4, ... seconds
const firstRetry = 1000
// net.ipv4.tcp_synack_retries is 5: after 1, 2, 4, 8 and 16 more seconds the sixth wait is the last
const lastSynAck = 32_000

/** Begins to connect and gives the client's end, which opens or breaks. */
export const connect = (
  stack: TcpStack,
  client: SimulatedHost,
  server: SimulatedHost,
  port: number,
  messages: boolean,
  settings: SocketSettings,
  identity: Identity | undefined
): Endpoint => {
  const connection = stack.add(client, server, port, messages, settings)
  connection.identity = identity
  const { timeline } = stack.topology
  stack.topology.record("dial", connection.id, client.name, connection.server.address)
  sendSyn(stack, connection, firstRetry, timeline.now() + stack.settings.connectTimeout)
  return connection.client
}

/** The SYN leaves, and leaves again until the client's end is open or `deadline` has come. */
const sendSyn = (stack: TcpStack, connection: Connection, retry: number, deadline: number): void => {
  const { client, server } = connection
  const { timeline } = stack.topology
  const now = timeline.now()
  if (client.phase !== "opening") return
  if (now >= deadline) return client.abort(systemError("connect", "ETIMEDOUT", server.address))
  client.sendBare("syn", () => onSyn(stack, connection))
  const timer = timeline.at(Math.min(now + retry, deadline), () => sendSyn(stack, connection, 2 * retry, deadline))
  client.onOver = () => timer.cancel()
}

const onSyn = (stack: TcpStack, connection: Connection): void => {
  const { server } = connection
  const { isUp, name } = server.host
  if (server.phase !== "opening" || !isUp || server.isGone) return
  const listener = stack.listeners.get(portKey(name, connection.port))
  const refused = stack.refusals.some(({ host, port }) =>
    host === name && (port ?? connection.port) === connection.port
  )
  if (listener === undefined || refused) return refuse(stack, connection)
  if (listener.messages !== connection.messages) return refuse(stack, connection, spoken(listener.messages))
  if (!listener.hasRoom()) return
  listener.reserve()
  server.onHandshakeAck = () => {
    server.onHandshakeAck = undefined
    listener.enqueue(connection)
  }
  server.onOver = () => {
    if (server.onHandshakeAck !== undefined) listener.unreserve()
  }
  server.establish(false)
  sendSynAck(stack, connection, firstRetry)
}

/** Told to the test alone: the reset carries nothing of it. */
const spoken = (messages: boolean): string =>
  messages
    ? ": the listener has `messages: true`, and this dial does not"
    : ": the listener has no `messages: true`, and this dial does, as ws:// addresses do without `webSocket: true`"

const refuse = (stack: TcpStack, { client, id, server }: Connection, why = ""): void => {
  stack.topology.record("refuse", id, server.host.name, client.host.name)
  server.settle()
  server.sendBare("reset", () => client.abort(systemError("connect", "ECONNREFUSED", server.address + why)))
}

/** The SYN-ACK leaves, and leaves again until the client's ACK is here. */
const sendSynAck = (stack: TcpStack, connection: Connection, retry: number): void => {
  const { server } = connection
  const { timeline } = stack.topology
  if (server.phase !== "open" || server.onHandshakeAck === undefined) return
  if (retry > lastSynAck) return server.abort(systemError("read", "ETIMEDOUT"))
  server.sendBare("syn-ack", () => onSynAck(stack, connection))
  timeline.at(timeline.now() + retry, () => sendSynAck(stack, connection, 2 * retry))
}

const onSynAck = (stack: TcpStack, { client, id, server }: Connection): void => {
  if (client.phase === "over") return client.sendReset()
  if (client.phase !== "opening") return
  stack.topology.record("open", id, client.host.name, server.host.name)
  client.establish(true)
}
