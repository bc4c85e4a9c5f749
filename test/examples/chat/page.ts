/**
 * The code of a page: a chat that comes back by itself, shows where it stands, and keeps what is typed meanwhile.
 *
 * What it shows: a `Client` over the browser's own WebSocket, a login on every new connection, its states as text, and sending
 * while there is no connection. Nothing here needs Node, so any bundler makes a page of it; each noun is imported from an entry
 * of its own, so that esbuild leaves out the others.
 */
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import * as Client from "holdfast/Client"
import * as Connection from "holdfast/Connection"
import * as Status from "../browser/status.ts"
import { clientCodec, type Event, heartbeat } from "./protocol.ts"

/** What the page gives. A test brings its own. */
export interface Page extends Status.Page {
  readonly show: (event: Event) => void
}

/** Opens a connection to the chat over a fresh WebSocket. */
const open = (url: string) =>
  Socket.makeWebSocket(url).pipe(
    Effect.provide(Socket.layerWebSocketConstructorGlobal),
    // a WebSocket keeps messages apart: no lines are needed
    Effect.flatMap(Connection.make({
      codec: clientCodec,
      heartbeat,
      transport: "messages",
      // a dead connection is noticed within half a minute
      policy: { pingEvery: "12 seconds", silence: "30 seconds" }
    }))
  )

/** Runs for as long as its scope, and returns what the page calls when something is typed. */
export const chat = Effect.fnUntraced(function*(url: string, login: { token: string; room: string }, page: Page) {
  const client = yield* Client.make(open(url), {
    // a server that closes with 1008 is not dialled again: the token is wrong, or another page of this user took over
    policy: { retryBase: "500 millis", retryCap: "20 seconds", offlineMessages: 100 },
    // on every new connection, before anything that was typed while there was none
    onConnect: (connection) =>
      connection.sendAll([{ _tag: "Login", token: login.token }, { _tag: "Join", room: login.room }])
  })
  yield* Status.watch(client, page)
  // ends when the client has closed, and then its state says why
  yield* Effect.forkScoped(Effect.ignore(Effect.forever(Effect.map(client.receive, page.show))))

  return {
    /** Waits while there is no connection. Fails once 100 messages wait, and when the client has closed. */
    say: (text: string) => client.send({ _tag: "Say", room: login.room, text }),
    /** Says it to one user. */
    tell: (to: string, text: string) => client.send({ _tag: "Tell", to, text }),
    close: client.close
  }
})
