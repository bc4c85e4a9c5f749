/** The floor: an echo by hand on `node:net`, one write a read, and nothing else. */
import type { AddressInfo, Socket } from "node:net"
import { createServer } from "node:net"
import { onCommand } from "../support/commands.ts"
import { broadcastFrame, join, Splitter } from "./framing.ts"

const sockets = new Set<Socket>()

const server = createServer({ noDelay: true }, (socket) => {
  const splitter = new Splitter()
  sockets.add(socket)
  socket.on("data", (chunk: Buffer) => {
    const payloads: Array<Buffer> = []
    splitter.push(chunk, payloads)
    if (payloads.length === 0) return
    const chunks = join(payloads)
    let room = true
    if (chunks.length > 1) socket.cork()
    for (const chunk of chunks) room = socket.write(chunk)
    if (chunks.length > 1) socket.uncork()
    if (room) return
    socket.pause()
    socket.once("drain", () => socket.resume())
  })
  socket.on("error", () => socket.destroy())
  socket.on("close", () => sockets.delete(socket))
})

onCommand("broadcast", ({ bytes }: { readonly bytes: number }) => {
  const frame = broadcastFrame(bytes)
  for (const socket of sockets) socket.write(frame)
})

server.listen(0, "127.0.0.1", () => console.log(`listening tcp://127.0.0.1:${(server.address() as AddressInfo).port}`))
