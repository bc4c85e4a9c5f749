/** A port for a server of a test that cannot be told to choose one. */
import * as Net from "node:net"

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = Net.createServer().once("error", () => resolve(false))
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)))
  })

// below those that a kernel gives to connections and to servers without a port (from 32,768 on): a port of these may be taken between
// this look and its use, by any other test. Each process goes on from a place of its own, so that two of them do not meet
let port = 10_000 + process.pid * 97 % 20_000

/** A port of the loopback that is free, and that nobody is given meanwhile. */
export const freePort = async (): Promise<number> => {
  do port = port === 29_999 ? 10_000 : port + 1
  while (!await isFree(port))
  return port
}
