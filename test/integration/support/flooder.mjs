// Sends the same bytes for ever to 127.0.0.1, and reads what comes back, unless told not to: port, bytes as base64, first bytes.
import * as Net from "node:net"

const [port, flood, first, reads] = process.argv.slice(2)
const chunk = Buffer.from(flood, "base64")
const all = Buffer.concat(Array.from({ length: Math.ceil(65_536 / chunk.length) }, () => chunk))
const conn = Net.connect(Number(port), "127.0.0.1", () => {
  conn.write(Buffer.from(first, "base64"))
  const send = () => {
    while (conn.write(all)) continue
  }
  conn.on("drain", send)
  send()
})
conn.on("error", () => process.exit(0))
conn.on("close", () => process.exit(0))
if (reads === "reads") conn.on("data", () => {})
