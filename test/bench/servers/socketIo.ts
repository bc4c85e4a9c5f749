/** An echo on `socket.io`, over WebSocket only, with its own heartbeat. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Server } from "socket.io"

const http = createServer()
const server = new Server(http, { transports: ["websocket"] })

server.on("connection", (socket) => {
  socket.on("m", (data: string) => socket.emit("m", data))
})

http.listen(0, "127.0.0.1", () => console.log(`listening ws://127.0.0.1:${(http.address() as AddressInfo).port}`))
