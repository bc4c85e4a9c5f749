/** The server of the page: a tick each second for every page, an echo, and faults on demand. */
import { Clock, Context, Duration, Effect, Layer, Schedule, Stream } from "effect"
import { Connection, ConnectionError, Registry, Server } from "holdfast"
import { Upgrade } from "holdfast/node"
import { type Command, type Event, heartbeat, serverCodec } from "./protocol.ts"

type Received = Exclude<Command, { readonly _tag: "Ping" | "Pong" }>

class Pages extends Context.Service<Pages, Registry.Registry<Received, Event>>()("browser/Pages") {
  static readonly layer = Registry.layer(Pages)
}

const closed = (code: number, note: string) => new ConnectionError.Closed({ by: "local", code, note })

/** What decides about upgrades, and the server. */
export const make = (options: { readonly down?: Duration.Input } = {}) => {
  const down = Duration.toMillis(options.down ?? "10 seconds")
  let downUntil = 0
  const upgrade = Upgrade.make(() =>
    Effect.flatMap(
      Clock.currentTimeMillis,
      (now) => now < downUntil ? Effect.fail(new Upgrade.Refused({ status: 503 })) : Effect.void
    )
  )

  const obey = (connection: Connection.Connection<Received, Event>) => (command: Received) => {
    switch (command._tag) {
      case "Say":
        return connection.send({ _tag: "Heard", text: command.text })
      case "Drop":
        return connection.closeWith(closed(1012, "the server restarts"))
      case "Down":
        return Effect.flatMap(Clock.currentTimeMillis, (now) => {
          downUntil = now + down
          return connection.closeWith(closed(1012, "the server is down"))
        })
      case "Expel":
        return connection.closeWith(closed(1008, "you asked for it"))
    }
  }

  const server = Pages.use((registry) =>
    Effect.succeed(Server.layer({
      registry,
      policy: { maxFrame: 16 * 1024 },
      open: Connection.make({ codec: serverCodec, heartbeat, policy: { maxFrame: 16 * 1024 } }),
      handle: (connection) => Stream.runForEach(Connection.messages(connection), obey(connection))
    }))
  ).pipe(Layer.unwrap)

  let count = 0
  const ticks = Pages.use((pages) =>
    Effect.forkScoped(Effect.repeat(
      Effect.flatMap(pages.size, (size) => pages.broadcast({ _tag: "Tick", count: ++count, pages: size })),
      Schedule.spaced("1 second")
    ))
  )
  return { upgrade, layer: Layer.merge(server, Layer.effectDiscard(ticks)).pipe(Layer.provide(Pages.layer)) }
}
