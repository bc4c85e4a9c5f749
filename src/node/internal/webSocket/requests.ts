/** Reads a request from an accepted connection that is for WebSockets alone. */
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import { write } from "../upgrade/answer.ts"
import { upgradeRequired } from "../upgrade/form.ts"
import type { Below } from "../upgrade/request.ts"
import { refusalBy } from "./rules.ts"
import { type OnOpen, type Upgrading, upgrading } from "./upgrade.ts"

/**
 * Waits for a request to upgrade on one of the paths and refuses any other. What comes out is paused. It ends with a call, or
 * with the connection destroyed: bounding its time is up to the caller.
 */
export const upgrades = <R>(options: Upgrading<R>): (conn: Net.Socket, below: Below, onOpen: OnOpen) => void => {
  const waiting = new WeakMap<Duplex, { readonly below: Below; readonly onOpen: OnOpen }>()
  const upgrade = upgrading(options)
  const server = Http.createServer({ requireHostHeader: false }, (request, response) => {
    const answer = refusalBy(options.rules, request) ?? upgradeRequired
    const below = waiting.get(request.socket)?.below
    below?.onRequest?.(request)
    below?.answered?.(answer.status)
    write(response, answer)
  })
  server.on("upgrade", (request, stream, head) => {
    const by = waiting.get(stream)
    if (by === undefined) {
      stream.destroy()
      return
    }
    waiting.delete(stream)
    upgrade(request, stream, head, by.below, by.onOpen)
  })
  return (conn, below, onOpen) => {
    waiting.set(conn, { below, onOpen })
    server.emit("connection", conn)
  }
}
