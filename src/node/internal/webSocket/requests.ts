/** Reads a request from an accepted connection that is for WebSockets alone. */
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import { write } from "../upgrade/answer.ts"
import { type Answer, isWellFormed, upgradeRequired } from "../upgrade/form.ts"
import { type Below, pathOf } from "../upgrade/request.ts"
import { type OnOpen, type Upgrading, upgrading } from "./upgrade.ts"

/** The answer to a request that asks for no upgrade. */
const plain = (request: Http.IncomingMessage, isKnown: boolean): Answer =>
  !isWellFormed(request)
    ? { status: 400 }
    : !isKnown
    ? { status: 404 }
    : request.method === "GET"
    ? upgradeRequired
    : { status: 405, headers: { Allow: "GET" } }

/**
 * Waits for a request to upgrade on one of the paths and refuses any other. What comes out is paused. It ends with a call, or
 * with the connection destroyed: bounding its time is up to the caller.
 */
export const upgrades = <R>(options: Upgrading<R>): (conn: Net.Socket, below: Below, onOpen: OnOpen) => void => {
  const waiting = new WeakMap<Duplex, { readonly below: Below; readonly onOpen: OnOpen }>()
  const upgrade = upgrading(options)
  const server = Http.createServer({ requireHostHeader: false }, (request, response) => {
    const answer = plain(request, options.rules.has(pathOf(request)))
    waiting.get(request.socket)?.below.answered?.(answer.status)
    write(response, answer)
  })
  server.on("upgrade", (request, stream, head) => {
    const by = waiting.get(stream)
    if (by === undefined) stream.destroy()
    else upgrade(request, stream, head, by.below, by.onOpen)
  })
  return (conn, below, onOpen) => {
    waiting.set(conn, { below, onOpen })
    server.emit("connection", conn)
  }
}
