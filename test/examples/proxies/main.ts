/** The gateway and its proxies as a program: a client comes through each of them, and is told who it is. */
import { Config, Console, Effect, Layer } from "effect"
import { Codec, Connection } from "holdfast"
import { Dialer } from "holdfast/node"
import { CannotRun, run } from "../support/run.ts"
import { freePort } from "../support/servers.ts"
import * as Fronts from "./fronts.ts"
import { Clients, gateway, listen } from "./gateway.ts"

const ports = Effect.gen(function*() {
  const base = yield* Config.Int("PORT").pipe(Config.withDefault(Fronts.first))
  const all = yield* Effect.all(Array.from({ length: 6 }, (_, i) => base === 0 ? freePort : Effect.succeed(base + i)))
  return all as unknown as Fronts.Ports
})

/** Comes from an address that no proxy has, and waits for the first line. */
const visit = (url: string) =>
  Dialer.make(url, { localAddress: "127.0.0.7" }).pipe(
    Effect.flatMap(Connection.make({ codec: Codec.lines() })),
    Effect.flatMap((connection) => connection.receive),
    Effect.scoped
  )

const program = Effect.gen(function*() {
  const all = yield* ports
  const { all: listener } = yield* listen(all[0], all[1])
  yield* Layer.build(Layer.provide(gateway(listener), Clients.layer))
  const fronts = [
    { name: "nginx", start: Fronts.nginx(all), tcp: all[2], webSocket: all[3] },
    { name: "HAProxy", start: Fronts.haproxy(all), tcp: all[4], webSocket: all[5] }
  ]
  let running = 0
  for (const { name, start, tcp, webSocket } of fronts) {
    const problem = yield* Effect.match(start, { onFailure: ({ message }) => message, onSuccess: () => undefined })
    if (problem !== undefined) {
      yield* Console.log(`without ${name}: ${problem}`)
      continue
    }
    running++
    yield* Console.log(`${name}, TCP: a client from 127.0.0.7 is told "${yield* visit(`tcp://127.0.0.1:${tcp}`)}"`)
    const web = yield* visit(`ws://127.0.0.1:${webSocket}/live`)
    yield* Console.log(`${name}, WebSocket: a client from 127.0.0.7 is told "${web}"`)
    yield* Console.log(`  try: nc -s 127.0.0.9 127.0.0.1 ${tcp}`)
  }
  if (running === 0) return yield* new CannotRun({ message: "there is no proxy to run: install one of the two" })
  yield* Console.log(`  without a proxy the gateway refuses you: nc 127.0.0.1 ${all[0]}\nCtrl-C stops it.`)
  return yield* Effect.never
})

run(Effect.scoped(program))
