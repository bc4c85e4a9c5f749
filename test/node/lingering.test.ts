/** A connection that lingers: what its peer still sends is discarded, and costs the others little. */
import { assert, describe, it } from "@effect/vitest"
import * as Net from "node:net"
import { linger } from "../../src/node/internal/stream/tcp.ts"

describe("a connection that lingers", () => {
  it("B116 is read a little at a time, and its peer is still told by a FIN", async () => {
    const accepted = Promise.withResolvers<Net.Socket>()
    const server = Net.createServer({ allowHalfOpen: true }, (conn) => accepted.resolve(conn)).listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    const { port } = server.address() as Net.AddressInfo
    const peer = Net.connect({ port, host: "127.0.0.1", allowHalfOpen: true })
    const told = new Promise<void>((resolve) => peer.once("end", () => resolve()))
    peer.resume()
    const chunk = Buffer.alloc(1024 * 1024)
    const flood = (): void => {
      while (!peer.destroyed && peer.write(chunk)) continue
    }
    peer.on("drain", flood).on("error", () => {})
    flood()
    const conn = await accepted.promise
    const at = performance.now()
    linger(conn, 10_000)
    await told
    await new Promise((resolve) => setTimeout(resolve, 200))
    const millis = performance.now() - at
    assert.isAbove(conn.bytesRead, 0)
    // B115: and keeps none of it
    assert.strictEqual(conn.readableLength, 0)
    // two reads of 64 KiB every two milliseconds; unhindered it is ten times as much
    assert.isBelow(conn.bytesRead, 128 * 1024 * (millis / 2 + 2))
    peer.off("drain", flood)
    peer.resetAndDestroy()
    await new Promise((resolve) => conn.once("close", resolve))
    server.close()
  })
})
