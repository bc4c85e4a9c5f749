/** The sockets of a parent: which connection is whose, in the orders that processes cannot be brought into. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Net from "node:net"
import * as Path from "node:path"
import type { Order } from "../../src/node/internal/addresses/worker.ts"
import { type Peer, Sockets } from "../../src/node/internal/workers/sockets.ts"
import { tempDir, until } from "./fixtures/kit.ts"

const binding = { backlog: 511, reusePort: false, ipv6Only: false, fd: undefined, mode: undefined, owner: undefined }

/** A worker that keeps what it is told. */
const worker = () => {
  const orders: Array<Order> = []
  const peer: Peer = { isReady: true, isLeaving: false, say: (order) => void orders.push(order) }
  return { peer, orders }
}

/** A client, and whether its connection has ended. */
const connect = (to: Net.NetConnectOpts) => {
  const conn = Net.connect(to)
  const seen = { isOver: false }
  conn.on("error", () => {}).on("close", () => void (seen.isOver = true)).resume()
  return seen
}

describe("the sockets of a parent", () => {
  it.live("B111: a server of a worker that leaves takes what it was sent, and the parent keeps no copy", () =>
    Effect.gen(function*() {
      const sockets = new Sockets()
      const first = worker()
      const second = worker()
      const address = { scheme: "tcp", host: "127.0.0.1", port: 0, tail: "" } as const
      const answer = yield* sockets.listen(first.peer, 1, address, binding)
      assert.ok("at" in answer && typeof answer.at === "object")
      const taken = connect({ host: "127.0.0.1", port: answer.at.port })
      const left = connect({ host: "127.0.0.1", port: answer.at.port })
      yield* until("both are sent", () => first.orders.length === 2)
      // it leaves before it has said that it took them
      sockets.leave(first.peer, 1)
      sockets.took(first.peer, 1, 1, true)
      yield* until("the copy is closed", () => taken.isOver)
      assert.isFalse(left.isOver)
      // and one that it did not take is another's
      yield* sockets.listen(second.peer, 1, { ...address, port: answer.at.port }, binding)
      sockets.took(first.peer, 1, 2, false)
      assert.strictEqual(second.orders.length, 1)
      sockets.took(second.peer, 1, 3, true)
      yield* until("that copy is closed too", () => left.isOver)
      yield* sockets.end
    }))

  it.live("B90: connections in flight to a server that leaves hold up the end of all", () =>
    Effect.gen(function*() {
      const sockets = new Sockets()
      const { orders, peer } = worker()
      const answer = yield* sockets.listen(peer, 1, { scheme: "tcp", host: "127.0.0.1", port: 0, tail: "" }, binding)
      assert.ok("at" in answer && typeof answer.at === "object")
      connect({ host: "127.0.0.1", port: answer.at.port })
      yield* until("it is sent", () => orders.length === 1)
      sockets.leave(peer, 1)
      let isOver = false
      yield* Effect.forkScoped(Effect.andThen(sockets.end, Effect.sync(() => void (isOver = true))))
      yield* Effect.sleep(20)
      assert.isFalse(isOver)
      sockets.took(peer, 1, 1, true)
      yield* until("it is over", () => isOver)
    }).pipe(Effect.scoped))

  it.live("B89: one too many that waits on a Unix socket is closed, and nothing throws", () =>
    Effect.gen(function*() {
      const sockets = new Sockets()
      const { peer } = worker()
      peer.isReady = false
      const path = Path.join(yield* tempDir, "socket")
      yield* sockets.listen(peer, 1, { scheme: "unix", path }, binding)
      connect({ path })
      const [held] = sockets["all"]
      yield* until("it waits", () => held!.waiting.length === 1)
      held!.waiting.push(...Array.from({ length: 4095 }, () => held!.waiting[0]!))
      const late = connect({ path })
      yield* until("it is closed", () => late.isOver)
      held!.waiting.length = 1
      sockets.leave(peer)
      for (const conn of held!.waiting.splice(0)) conn.destroy()
      yield* sockets.end
    }).pipe(Effect.scoped))
})
