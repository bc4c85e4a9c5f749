/** A run is of its seed alone, whatever ran before it in the process. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { SocketServer } from "effect/socket"
import { Codec, Connection, Server } from "holdfast"
import { Simulation } from "holdfast/testing"

const open = Connection.make({ codec: Codec.lengthPrefix() })

/** So much at once that it fills the memory that small frames are cut from, again and again. */
const flood = (world: Simulation.World) =>
  Effect.gen(function*() {
    const listener = yield* world.network.host("server").listen(7000)
    let received = 0
    const handle = ({ receive }: Connection.Connection<Uint8Array>) =>
      Effect.forever(Effect.map(receive, () => void received++))
    yield* Effect.forkScoped(Effect.provideService(Server.run({ open, handle }), SocketServer.SocketServer, listener))
    const { send } = yield* open(world.network.host("client").dial("server:7000"))
    for (let n = 0; n < 1000; n++) yield* send(new Uint8Array(3000))
    yield* world.eventually("all have come", Effect.sync(() => received === 1000))
  })

it.effect("the same seed gives the same run again, where the run before it left memory half used", () =>
  Effect.gen(function*() {
    const hashes = new Set<string>()
    for (let run = 0; run < 3; run++) hashes.add((yield* Simulation.run({ seed: 1 }, flood)).hash)
    assert.strictEqual(hashes.size, 1)
  }))
