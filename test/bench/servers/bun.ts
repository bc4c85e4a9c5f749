/** An echo by hand on Bun's own sockets, one write a read: started by Bun, not by Node. */
import { join, Splitter } from "./framing.ts"

interface Socket {
  data: Peer
  readonly write: (bytes: Uint8Array) => number
  readonly pause: () => void
  readonly resume: () => void
}

interface Peer {
  readonly splitter: Splitter
  /** What the kernel has not taken yet. */
  rest: Array<Uint8Array>
}

declare const Bun: {
  readonly listen: (options: {
    readonly hostname: string
    readonly port: number
    readonly socket: {
      readonly open: (socket: Socket) => void
      readonly data: (socket: Socket, chunk: Buffer) => void
      readonly drain: (socket: Socket) => void
      readonly error: () => void
    }
  }) => { readonly port: number }
}

const flush = (socket: Socket): void => {
  const { data: peer } = socket
  while (peer.rest.length > 0) {
    const [first] = peer.rest as [Uint8Array]
    const taken = socket.write(first)
    if (taken < first.length) {
      peer.rest[0] = first.subarray(Math.max(0, taken))
      return socket.pause()
    }
    peer.rest.shift()
  }
}

const server = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open: (socket) => {
      socket.data = { splitter: new Splitter(), rest: [] }
    },
    data: (socket, chunk) => {
      const payloads: Array<Buffer> = []
      socket.data.splitter.push(chunk, payloads)
      if (payloads.length === 0) return
      socket.data.rest.push(...join(payloads))
      flush(socket)
    },
    drain: (socket) => {
      socket.resume()
      flush(socket)
    },
    error: () => {}
  }
})

process.stdin.on("end", () => process.exit(0)).resume()
console.log(`listening tcp://127.0.0.1:${server.port}`)
