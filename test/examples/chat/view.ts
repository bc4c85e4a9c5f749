/** What a user of the page sees: the status, the log, and a line to type in. What it does is in `page.ts`. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Page from "./page.ts"
import type { Event } from "./protocol.ts"

const find = (id: string): HTMLElement => document.getElementById(id)!

const append = (text: string, kind: "said" | "event"): void => {
  const item = document.createElement("li")
  item.className = kind
  item.textContent = text
  find("log").append(item)
  item.scrollIntoView()
}

const show = (event: Event): void => {
  switch (event._tag) {
    case "Welcome":
      return append(`you are logged in as ${event.user}`, "event")
    case "Members":
      return append(`in the room: ${event.users.join(", ")}`, "event")
    case "Came":
      return append(`${event.user} came`, "event")
    case "Went":
      return append(`${event.user} left`, "event")
    case "Said":
      return append(`${event.from}: ${event.text}`, "said")
    case "Told":
      return append(`${event.from} tells you: ${event.text}`, "said")
    case "Undelivered":
      return append(`${event.to} did not get that: ${event.why}`, "event")
    case "Bye":
      return append(`the server closes this connection: ${event.why}`, "event")
  }
}

const showStatus = (text: string): void => {
  find("status").textContent = text
  find("status").dataset["online"] = String(text === "online")
}

const user = location.hash.slice(1) || "guest"
find("user").textContent = user

// in the event itself: a stream handles it later, when the browser has left the page
find("say").addEventListener("submit", (event) => event.preventDefault())

const program = Effect.gen(function*() {
  const chat = yield* Page.chat(
    `ws://${location.host}/live`,
    { token: `token-${user}`, room: "tea" },
    { window, show, showStatus }
  )
  const input = find("text") as HTMLInputElement
  const submits = Stream.fromEventListener(find("say"), "submit")
  yield* Stream.runForEach(submits, () => {
    const text = input.value.trim()
    input.value = ""
    if (text === "") return Effect.void
    const [, to, told] = /^\/tell (\w+) (.+)$/.exec(text) ?? []
    const sent = to === undefined ? chat.say(text) : chat.tell(to, told!)
    // it waits while there is no connection; more than a hundred messages may not wait
    return Effect.forkChild(Effect.catch(sent, ({ message }) => Effect.sync(() => append(message, "event"))))
  })
})

Effect.runFork(Effect.scoped(program))
