/** The gateway and 1,000 devices as a program: a line each second says how they do. */
import { Clock, Config, Console, Effect, Layer, Schedule } from "effect"
import { SocketServer } from "effect/socket"
import { Dialer, Listener } from "holdfast/node"
import { ports, run } from "../support/run.ts"
import { gateway, Store, Work } from "./gateway.ts"
import * as Simulator from "./simulator.ts"

/** A store that needs 5 ms for a batch, and remembers what no gateway may lose: how many different reports it got. */
const makeStore = () => {
  const seen = new Map<number, number>()
  const figures = { reports: 0, twice: 0, batches: 0 }
  const layer = Layer.succeed(Store, {
    save: (device, reports) =>
      Effect.andThen(
        Effect.sleep("5 millis"),
        Effect.sync(() => {
          figures.batches++
          for (const { at } of reports) {
            // a report that was sent again after a lost answer
            if (at <= (seen.get(device) ?? 0)) figures.twice++
            else figures.reports++
            seen.set(device, Math.max(at, seen.get(device) ?? 0))
          }
        })
      )
  })
  return { figures, layer }
}

const program = Effect.gen(function*() {
  const [port] = yield* ports(7120)
  const devices = yield* Config.Int("DEVICES").pipe(Config.withDefault(1000))
  const listener = yield* Listener.make(`tcp://127.0.0.1:${port}`)
  const store = makeStore()
  const serving = gateway.pipe(
    Layer.provide([Layer.succeed(SocketServer.SocketServer, listener), store.layer, Work.layer])
  )

  const dial = Effect.orDie(Dialer.make(listener.url))
  const simulating = Effect.gen(function*() {
    yield* Console.log(
      `a gateway on ${listener.url}, and ${devices} devices that report every 5 s; every 10 s one in 20 loses its connection\n` +
        "Ctrl-C stops it."
    )
    const figures = yield* Simulator.start({
      devices,
      every: "5 seconds",
      pings: { min: "2 seconds", max: "1 minute" },
      faults: "10 seconds"
    }, dial)
    let before = yield* figures
    let at = yield* Clock.currentTimeMillis
    const line = Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const { connections, delivered, interval, online, pings, waiting } = yield* figures
      const rate = (Math.max(0, delivered - before.delivered) * 1000) / Math.max(1, now - at)
      yield* Console.log(
        `${online} online, ${connections} connections until now; ${store.figures.reports} reports stored ` +
          `(${rate.toFixed(0)}/s, ${waiting} wait, ${store.figures.twice} came twice); ` +
          `${pings - before.pings} pings, next after ${(interval / 1000).toFixed(1)} s`
      )
      before = yield* figures
      at = now
    })
    yield* Effect.repeat(Effect.delay(line, "1 second"), Schedule.forever)
  }).pipe(Effect.scoped)
  yield* Effect.raceFirst(Layer.launch(serving), simulating)
})

run(Effect.scoped(program))
