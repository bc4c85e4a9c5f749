/** Takes the `PROXY` header off a connection, and leaves what follows it for what reads next. */
import type * as Net from "node:net"
import { type Header, ProxyHeaderInvalid } from "../../Proxy.ts"
import { parse } from "./header.ts"

/**
 * Reads the header of a connection that is paused, and leaves it paused. It ends with one of the calls, or with the connection:
 * bounding its time is up to the caller.
 */
export const receive = (
  conn: Net.Socket,
  onHeader: (header: Header) => void,
  onInvalid: (cause: ProxyHeaderInvalid) => void
): void => {
  let held: Buffer = Buffer.alloc(0)
  const stop = (): void => {
    conn.off("readable", onReadable)
    conn.off("end", onEnd)
    conn.pause()
  }
  const refuse = (detail: string): void => {
    stop()
    onInvalid(new ProxyHeaderInvalid({ detail }))
  }
  function onEnd(): void {
    refuse(held.length === 0 ? "it ended without a byte" : `it ended after ${held.length} bytes of it`)
  }
  function onReadable(): void {
    const chunk = conn.read() as Buffer | null
    if (chunk === null) return
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    const step = parse(held)
    if (step._tag === "More") return
    if (step._tag === "Invalid") return refuse(step.detail)
    stop()
    if (held.length > step.length) conn.unshift(held.subarray(step.length))
    // a stream goes over from `readable` to another way of reading in the next tick
    process.nextTick(onHeader, step.header)
  }
  conn.on("readable", onReadable)
  conn.on("end", onEnd)
}
