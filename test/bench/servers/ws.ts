/** An echo on `ws`, with the ping timer of its documentation. */
import type { AddressInfo } from "node:net"
import type { WebSocket } from "ws"
import { WebSocketServer } from "ws"

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false })
const answered = new WeakSet<WebSocket>()

server.on("connection", (socket) => {
  answered.add(socket)
  socket.on("pong", () => answered.add(socket))
  socket.on("message", (data: Buffer, binary) => socket.send(data, { binary }))
  socket.on("error", () => socket.terminate())
})

setInterval(() => {
  for (const socket of server.clients) {
    if (!answered.delete(socket)) socket.terminate()
    else socket.ping()
  }
}, 25_000)

server.on("listening", () => console.log(`listening ws://127.0.0.1:${(server.address() as AddressInfo).port}`))
