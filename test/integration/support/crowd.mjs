// Peers of a server that echoes frames behind a 4-byte length: port, how many are honest, hold a part of a frame, and never read.
// in:  "attack", "ask": each honest one asks, again and again for 5 s
// out: "idle", "attacked", "asked" with what the honest ones saw
import * as Net from "node:net"
import * as Readline from "node:readline"

const [port, honest, partial, silent] = process.argv.slice(2).map(Number)
const mebibyte = 1024 * 1024

const frame = (size, announced = size) => {
  const bytes = Buffer.alloc(4 + size)
  bytes.writeUInt32BE(announced)
  return bytes
}

const connect = () =>
  new Promise((resolve) => {
    const conn = Net.connect(port, "127.0.0.1", () => resolve(conn))
    conn.on("error", () => {})
  })

// four hundred at a time: an accept queue is short
const connectAll = async (count) => {
  const conns = []
  while (conns.length < count) {
    conns.push(...await Promise.all(Array.from({ length: Math.min(400, count - conns.length) }, connect)))
  }
  return conns
}

const question = frame(200)
let answers = 0
let slowest = 0
let isAsking = false

const ask = (conn) => {
  conn.askedAt = performance.now()
  conn.left = question.length
  conn.write(question)
}

const honestOnes = await connectAll(honest)
for (const conn of honestOnes) {
  conn.on("data", (chunk) => {
    conn.left -= chunk.length
    if (conn.left > 0) return
    answers++
    slowest = Math.max(slowest, performance.now() - conn.askedAt)
    conn.askedAt = undefined
    if (isAsking) setTimeout(ask, 1000 + 1000 * Math.random(), conn)
  })
}
// the server has taken all of them
for (const conn of honestOnes) ask(conn)
while (answers < honest) await new Promise((resolve) => setTimeout(resolve, 20))
answers = slowest = 0
console.log("idle")

const partOfOne = frame(mebibyte - 5, mebibyte - 4)
const echoes = Buffer.concat(Array.from({ length: 32 }, () => frame(32 * 1024)))

Readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  if (line === "attack") {
    for (const conn of await connectAll(partial)) conn.write(partOfOne)
    for (const conn of await connectAll(silent)) {
      conn.pause()
      conn.write(echoes)
    }
    console.log("attacked")
  } else if (line === "ask") {
    isAsking = true
    for (const conn of honestOnes) setTimeout(ask, 2000 * Math.random(), conn)
    setTimeout(() => {
      isAsking = false
      const stopped = performance.now()
      const report = setInterval(() => {
        const unanswered = honestOnes.filter(({ askedAt }) => askedAt !== undefined).length
        if (unanswered > 0 && performance.now() - stopped < 10_000) return
        clearInterval(report)
        console.log(`asked ${JSON.stringify({ answers, unanswered, slowest: Math.round(slowest) })}`)
      }, 100)
    }, 5000)
  }
}).on("close", () => process.exit())
