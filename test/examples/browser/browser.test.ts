/** The page against its real server: faults on demand, what is typed meanwhile, and an end for good. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SocketServer } from "effect/socket"
import { Listener } from "holdfast/node"
import { until } from "../../integration/support/kit.ts"
import { start } from "./page.ts"
import type { Event } from "./protocol.ts"
import * as Server from "./server.ts"

const makePage = () => {
  const page = { window: new EventTarget(), statuses: new Array<string>(), heard: "", ticks: 0 }
  return Object.assign(page, {
    showStatus: (text: string) => void page.statuses.push(text),
    show: (event: Event) => {
      if (event._tag === "Heard") page.heard += event.text
      if (event._tag === "Tick") page.ticks = event.count
    }
  })
}

it.live("comes back after a drop and from a server that is down, sends what was typed meanwhile, and ends for good", () =>
  Effect.gen(function*() {
    const { layer, upgrade } = Server.make({ down: "200 millis" })
    const listener = yield* Listener.make("ws://127.0.0.1:0/live", { upgrade })
    yield* Layer.build(Layer.provide(layer, Layer.succeed(SocketServer.SocketServer, listener)))
    const page = makePage()
    const { send } = yield* start(listener.url, page)
    yield* until("it is online", () => page.statuses.at(-1) === "online")
    yield* until("a tick", () => page.ticks > 0)

    yield* send({ _tag: "Drop" })
    yield* until("it waits", () => page.statuses.some((text) => text.startsWith("offline, next try in")))
    page.window.dispatchEvent(new globalThis.Event("online"))
    yield* until("it is back", () => page.statuses.at(-1) === "online")
    yield* send({ _tag: "Say", text: "one" })
    yield* until("the first text is heard", () => page.heard === "one")

    yield* send({ _tag: "Down" })
    yield* until("it waits again", () => page.statuses.at(-1)!.startsWith("offline, next try in"))
    yield* Effect.forkChild(send({ _tag: "Say", text: ", two" }))
    yield* until("it was refused and is back", () => {
      page.window.dispatchEvent(new globalThis.Event("online"))
      return page.heard === "one, two"
    })

    yield* send({ _tag: "Expel" })
    yield* until("it has closed", () => page.statuses.at(-1)!.startsWith("closed: "))
    assert.include(page.statuses.at(-1), "you asked for it")
  }))
