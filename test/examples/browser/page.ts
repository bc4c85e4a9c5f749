/**
 * A page whose connection comes back by itself: the code that is the same in every page, without its look.
 *
 * What it shows: a `Client` over the browser's own WebSocket; its states as text; the window's `online`, which ends the wait for
 * the next try; what is typed while there is no connection, which is sent later; and an end for good.
 */
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import * as Client from "holdfast/Client"
import * as Connection from "holdfast/Connection"
import { clientCodec, type Command, type Event, heartbeat } from "./protocol.ts"
import * as Status from "./status.ts"

export interface Page extends Status.Page {
  readonly show: (event: Exclude<Event, { readonly _tag: "Ping" | "Pong" }>) => void
}

/** Opens a connection over a fresh WebSocket. */
const open = (url: string) =>
  Socket.makeWebSocket(url).pipe(
    Effect.provide(Socket.layerWebSocketConstructorGlobal),
    Effect.flatMap(Connection.make({
      codec: clientCodec,
      heartbeat,
      // a WebSocket keeps messages apart: no lines are needed
      transport: "messages",
      // a dead connection is noticed within half a minute
      policy: { pingEvery: "12 seconds", silence: "30 seconds" }
    }))
  )

/** Runs for as long as its scope. What it returns sends; it waits while there is no connection. */
export const start = Effect.fnUntraced(function*(url: string, page: Page) {
  const client = yield* Client.make(open(url), {
    // 100 messages wait for a connection, and one more fails at once
    policy: { retryBase: "500 millis", retryCap: "20 seconds", offlineMessages: 100 }
  })
  yield* Status.watch(client, page)
  // ends when the client has closed, and then its state says why
  yield* Effect.forkScoped(Effect.ignore(Effect.forever(Effect.map(client.receive, page.show))))
  return { send: (command: Command) => client.send(command), retryNow: client.retryNow }
})
