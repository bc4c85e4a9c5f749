/** The look of the page: a status, the ticks, buttons for faults, and a line to type in. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { start } from "./page.ts"
import type { Command } from "./protocol.ts"

const find = (id: string): HTMLElement => document.getElementById(id)!

const append = (text: string): void => {
  const item = document.createElement("li")
  item.textContent = `${new Date().toLocaleTimeString()} ${text}`
  find("log").prepend(item)
  if (find("log").childElementCount > 50) find("log").lastElementChild!.remove()
}

// in the event itself: a stream handles it later, when the browser has left the page
find("say").addEventListener("submit", (event) => event.preventDefault())

const program = Effect.gen(function*() {
  const { retryNow, send } = yield* start(`ws://${location.host}/live`, {
    window,
    showStatus: (text) => {
      find("status").textContent = text
      find("status").dataset["online"] = String(text === "online")
      append(text)
    },
    show: (event) => {
      if (event._tag === "Heard") append(`the server heard: ${event.text}`)
      else find("tick").textContent = `tick ${event.count}, pages ${event.pages}`
    }
  })
  const sends = (command: Command) =>
    // it waits while there is no connection
    Effect.forkChild(Effect.catch(send(command), ({ message }) => Effect.sync(() => append(`not sent: ${message}`))))
  const on = (id: string, type: string, effect: () => Effect.Effect<unknown>) =>
    Effect.forkChild(Stream.runForEach(Stream.fromEventListener(find(id), type), effect))

  yield* on("drop", "click", () => sends({ _tag: "Drop" }))
  yield* on("down", "click", () => sends({ _tag: "Down" }))
  yield* on("expel", "click", () => sends({ _tag: "Expel" }))
  yield* on("retry", "click", () => retryNow)
  yield* on("say", "submit", () => {
    const input = find("text") as HTMLInputElement
    const text = input.value
    input.value = ""
    return text === "" ? Effect.void : sends({ _tag: "Say", text })
  })
  return yield* Effect.never
})

Effect.runFork(Effect.scoped(program))
