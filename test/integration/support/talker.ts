/**
 * Many plain TCP clients in a process of their own, which talk whatever the process under test is doing.
 *
 * usage: talker.ts PORT CLIENTS MILLISECONDS
 * in:  "loud" (a line every so often, which it is at first), "polite" (answers pings, and says nothing else), "mute",
 *      "report"
 * out: "connected", "report OPEN CLOSED"
 */
import * as Net from "node:net"
import * as Readline from "node:readline"

const [port, clients, every] = process.argv.slice(2).map(Number)
const open = new Set<Net.Socket>()
let closed = 0
let mood = "loud"

const connect = (): Promise<void> =>
  new Promise((resolve) => {
    const conn = Net.createConnection({ host: "127.0.0.1", port, noDelay: true }, () => {
      open.add(conn)
      resolve()
    })
    conn.on("data", (data) => {
      if (mood !== "mute" && data.includes("ping")) conn.write("pong\n")
    })
    conn.on("error", () => resolve())
    conn.on("close", () => {
      if (open.delete(conn)) closed++
    })
  })

setInterval(() => {
  if (mood === "loud") { for (const conn of open) conn.write("tick\n") }
}, every)

await Promise.all(Array.from({ length: clients }, connect))
console.log("connected")
for await (const line of Readline.createInterface({ input: process.stdin })) {
  if (line === "report") console.log(`report ${open.size} ${closed}`)
  else mood = line
}
// whoever started us is gone
process.exit()
