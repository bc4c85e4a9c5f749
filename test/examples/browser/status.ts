/**
 * Where the connection of a page stands, as text; and the network's `online`, which ends the wait for the next try.
 *
 * It needs nothing of Node. Each noun is imported from an entry of its own, so that esbuild leaves out the others.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as Client from "holdfast/Client"

/** What the page gives: its window, and a place to write to. A test brings its own. */
export interface Page {
  readonly window: EventTarget
  readonly showStatus: (text: string) => void
}

export const textOf = (state: Client.State<unknown, never>): string => {
  switch (state._tag) {
    case "Connecting":
      return "connecting"
    case "Connected":
      return "online"
    case "Waiting":
      return `offline, next try in ${Math.ceil(Duration.toSeconds(state.delay))} s`
    case "Closed":
      return `closed: ${state.error.message}`
  }
}

/** Shows every state of a client, for as long as the scope. */
export const watch = Effect.fnUntraced(function*<In>(
  client: Pick<Client.Client<In, never>, "changes" | "retryNow" | "state">,
  page: Page
) {
  const showState = (state: Client.State<unknown, never>) => Effect.sync(() => page.showStatus(textOf(state)))
  const on = (name: "online" | "offline", effect: Effect.Effect<void>) =>
    Effect.forkScoped(Stream.runForEach(Stream.fromEventListener(page.window, name), () => effect))

  yield* Effect.forkScoped(Stream.runForEach(client.changes, showState))
  yield* on("offline", Effect.sync(() => page.showStatus("offline: no network")))
  // the network is back: no need to wait for the end of the backoff
  yield* on("online", Effect.andThen(client.retryNow, Effect.flatMap(client.state, showState)))
})
