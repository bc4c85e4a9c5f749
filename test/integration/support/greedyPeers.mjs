// Peers that send what they are told to and never read: port, how many, greeting and what is repeated as base64, bytes of that each.
import * as Net from "node:net"

const [port, count, greeting, unit, total] = process.argv.slice(2)
const piece = Buffer.from(unit, "base64")
const all = Buffer.alloc(Math.max(piece.length, Math.floor(Number(total) / piece.length) * piece.length), piece)
let open = 0
for (let i = 0; i < Number(count); i++) {
  const conn = Net.connect(Number(port), "127.0.0.1", () => {
    conn.pause()
    conn.write(Buffer.concat([Buffer.from(greeting, "base64"), all]))
    if (++open === Number(count)) console.log("connected")
  })
  conn.on("error", () => {})
}
