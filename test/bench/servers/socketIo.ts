/** An echo on `socket.io`, over WebSocket only, with its own heartbeat. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Server } from "socket.io"
import { WebSocketServer } from "ws"

const http = createServer()
// its default, which it does not find where it is in one file
const server = new Server(http, { transports: ["websocket"], wsEngine: WebSocketServer })

server.on("connection", (socket) => {
  socket.on("m", (data: string) => socket.emit("m", data))
})

http.listen(0, "127.0.0.1", () => console.log(`listening ws://127.0.0.1:${(http.address() as AddressInfo).port}`))
