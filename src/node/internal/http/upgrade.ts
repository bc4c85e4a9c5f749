/** Takes requests away from an HTTP server, before its application sees them: those for a WebSocket, and malformed ones. */
import type * as Http from "node:http"
import type * as Net from "node:net"
import { linger, noop } from "../stream/tcp.ts"
import type { Accepted } from "../upgrade/accepted.ts"
import { answering, refuse, whenAnswered, write } from "../upgrade/answer.ts"
import { asksForWebSocket, isWellFormed } from "../upgrade/form.ts"
import { type Below, pathOf } from "../upgrade/request.ts"
import { type Upgrading, upgrading } from "../webSocket/upgrade.ts"
import { readWhole } from "./reading/slices.ts"

const requests = new Set(["request", "checkContinue", "checkExpectation"])

// from there on Node reads the body of a request for an upgrade itself
const readsBody = Number(process.versions.node.split(".")[0]) >= 26

/** How much of the body of a request for an upgrade is still to come on its connection. */
const bodyBehind = ({ headers }: Http.IncomingMessage, { length }: Buffer): number =>
  readsBody ? 0 : Math.max(0, Number(headers["content-length"] ?? 0) - length)

/**
 * Upgrades the requests on its paths; `onOpen` gets each connection, which nothing reads from. Requests on other paths go to the listeners of
 * the server. Listeners cannot stop each other, and Effect's would answer every request: so it is the emitting that changes.
 */
export const intercept = <R, A extends Below>(
  server: Http.Server,
  options: Upgrading<R>,
  /** Of a connection that asks for an upgrade on one of the paths. */
  announce: (conn: Net.Socket, request: Http.IncomingMessage) => A,
  onOpen: (announced: A, conn: Net.Socket, accepted: Accepted, source: Http.IncomingMessage) => void,
  /** Gets each request of the application's, and calls `dispatch` when its turn has come. */
  onRequest: (request: Http.IncomingMessage, response: Http.ServerResponse, dispatch: () => void) => void,
  /** The application gets a request for an upgrade, and the connection with it; so many bytes of its body it reads itself. */
  onLent: (conn: Net.Socket, body: number) => void
): void => {
  const upgrade = upgrading(options)
  const emit = server.emit as (this: Http.Server, name: string, ...args: ReadonlyArray<unknown>) => boolean
  // without any listener Node answers such a request as if it asked for no upgrade
  if (options.rules.size > 0) server.on("upgrade", noop)
  const own = server.listenerCount("upgrade")

  /** Effect's listener answers on the connection at once, whatever is under way there, and then ends our side alone. */
  const ofApplication = (request: Http.IncomingMessage, conn: Net.Socket, head: Buffer): void => {
    const enter = (): void => {
      onLent(conn, bodyBehind(request, head))
      conn.once("finish", () => {
        // a protocol that it went over to may go on with one side
        if (answering(conn) === undefined) return
        options.onTaken?.(conn)
        linger(conn, options.linger)
      })
      emit.call(server, "upgrade", request, conn, head)
    }
    if (answering(conn) === undefined) return enter()
    whenAnswered(conn, () => {
      // it is not idle, as Node takes it to be after the answer before
      conn.setTimeout(0)
      if (conn.writable) enter()
    })
  }
  const upgraded = (request: Http.IncomingMessage, conn: Net.Socket, head: Buffer): void => {
    const isOurs = asksForWebSocket(request) && options.rules.has(pathOf(request))
    if (!isOurs && isWellFormed(request) && server.listenerCount("upgrade") > own) {
      return ofApplication(request, conn, head)
    }
    conn.on("error", noop)
    const announced = announce(conn, request)
    upgrade(request, conn, head, announced, (_, accepted) => onOpen(announced, conn, accepted, request))
  }
  // without any listener Node destroys the connection of such a request, and answers to earlier ones with it
  server.on("connect", noop)
  const refuseTunnel = (request: Http.IncomingMessage, conn: Net.Socket): void => {
    conn.on("error", noop)
    whenAnswered(conn, () => {
      options.onTaken?.(conn)
      if (conn.writable) refuse(request, conn, { status: 501 }, options.linger)
      else linger(conn, options.linger)
    })
  }
  /** Those that came before the application did: it has them once it listens. */
  const early: Array<() => unknown> = []
  server.on("newListener", (event) => {
    if (event === "request") queueMicrotask(() => early.splice(0).forEach((enter) => enter()))
  })
  Object.assign(server, {
    emit(name: string, ...args: ReadonlyArray<unknown>): boolean {
      if (name === "upgrade" || name === "connect") readWhole(args[1] as Net.Socket)
      if (name === "upgrade") {
        const [request, conn, head] = args as [Http.IncomingMessage, Net.Socket, Buffer]
        upgraded(request, conn, head)
        return true
      }
      if (name === "connect" && server.listenerCount(name) === 1) {
        refuseTunnel(args[0] as Http.IncomingMessage, args[1] as Net.Socket)
        return true
      }
      if (requests.has(name)) {
        const [request, response] = args as [Http.IncomingMessage, Http.ServerResponse]
        const enter = () => onRequest(request, response, () => emit.call(server, name, ...args))
        if (isWellFormed(request)) {
          if (server.listenerCount("request") > 0) enter()
          else early.push(() => request.socket.destroyed || enter())
        } else write(response, { status: 400 })
        return true
      }
      return emit.call(server, name, ...args)
    }
  })
}
