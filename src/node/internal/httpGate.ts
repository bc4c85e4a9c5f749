/** The limits of an HTTP server on connections: who is let in, who waits unread, who is sent away. */
import type * as Net from "node:net"
import type { Policy } from "../../Policy.ts"
import { linger } from "./stream.ts"

const busy = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

/**
 * Lets connections in as the policy allows, in the order they came. Each is paused when it comes here, and is counted
 * until it is closed.
 */
export const make = (options: {
  readonly policy: Policy
  /** Whether somebody who is sent away can be told (not before a TLS handshake). */
  readonly tells: boolean
  readonly linger: number
  readonly admit: (conn: Net.Socket) => void
}) => {
  const { policy } = options
  const maxConnections = policy.maxConnections || Infinity
  const acceptEvery = policy.acceptRate === 0 ? 0 : 1000 / policy.acceptRate
  const perAddress = new Map<string, number>()
  const waiting = new Set<Net.Socket>()
  let served = 0
  // when the next connection is due, were they evenly spaced; up to a second's worth may come at once
  let nextAt = -Infinity
  let timer: NodeJS.Timeout | undefined

  const rateDelay = (): number => Math.max(0, nextAt + acceptEvery - 1000 - performance.now())

  const admit = (conn: Net.Socket): void => {
    served++
    nextAt = Math.max(nextAt, performance.now()) + acceptEvery
    conn.once("close", () => {
      served--
      next()
    })
    options.admit(conn)
  }

  /** Lets in whoever has waited longest. */
  const next = (): void => {
    for (const conn of waiting) {
      if (served >= maxConnections) return
      const delay = acceptEvery === 0 ? 0 : rateDelay()
      if (delay > 0) {
        timer ??= setTimeout(() => {
          timer = undefined
          next()
        }, delay).unref()
        return
      }
      waiting.delete(conn)
      admit(conn)
    }
  }

  const refuse = (conn: Net.Socket): void => {
    if (!options.tells) {
      conn.destroy()
      return
    }
    conn.end(busy)
    linger(conn, options.linger)
  }

  /** Counts by address; false when there are too many. */
  const count = (conn: Net.Socket): boolean => {
    const address = conn.remoteAddress
    if (policy.maxConnectionsPerAddress === 0 || address === undefined) return true
    const already = perAddress.get(address) ?? 0
    if (already >= policy.maxConnectionsPerAddress) return false
    perAddress.set(address, already + 1)
    conn.once("close", () => {
      const left = perAddress.get(address)! - 1
      if (left === 0) perAddress.delete(address)
      else perAddress.set(address, left)
    })
    return true
  }

  const enter = (conn: Net.Socket): void => {
    if (!count(conn)) return refuse(conn)
    if (waiting.size === 0 && served < maxConnections && (acceptEvery === 0 || rateDelay() === 0)) return admit(conn)
    if (policy.whenFull === "reject" || waiting.size >= policy.maxWaiting) return refuse(conn)
    waiting.add(conn)
    conn.once("close", () => waiting.delete(conn))
    next()
  }

  /** Sends those away who wait. */
  const close = (): void => {
    clearTimeout(timer)
    const left = [...waiting]
    waiting.clear()
    for (const conn of left) refuse(conn)
  }

  return { enter, close }
}
