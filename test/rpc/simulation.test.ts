/** RPC in storms of partitions, cuts and crashes, from a seed: every call settles, and what it says of its execution is so. `HOLDFAST_SEEDS=200` tries more. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { Rpc, RpcClient, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
import { RpcClientError } from "effect/rpc/RpcClientError"
import { RequestId } from "effect/rpc/RpcMessage"
import * as Schema from "effect/Schema"
import * as SocketServer from "effect/socket/SocketServer"
import * as Stream from "effect/Stream"
import { ClientProtocol, ServerProtocol } from "../../src/rpc/index.ts"
import type { Simulation } from "../../src/testing/index.ts"
import { it } from "../../src/testing/vitest.ts"

const Charge = Rpc.make("Charge", { payload: { id: Schema.Finite }, success: Schema.Finite })
const Again = Rpc.make("Again", { payload: { id: Schema.Finite }, success: Schema.Finite })
const Count = Rpc.make("Count", { payload: { to: Schema.Finite }, success: Schema.Finite, stream: true })
const Calls = RpcGroup.make(Charge, Again, Count)

interface Ledger {
  settled: number
  answered: number
  unknown: number
  refused: number
}

const program = (world: Simulation.World, overPool: boolean, totals: Ledger) =>
  Effect.gen(function*() {
    const executed = new Map<number, number>()
    const carryOut = ({ id }: { readonly id: number }) =>
      Effect.map(Effect.sleep(id % 7 * 40), () => {
        executed.set(id, (executed.get(id) ?? 0) + 1)
        return 2 * id
      })
    const handlers = Calls.toLayer({
      Charge: carryOut,
      Again: carryOut,
      Count: ({ to }) => Stream.mapEffect(Stream.range(1, to), (n) => Effect.as(Effect.sleep(20), n))
    })
    const serve = Effect.flatMap(world.network.host("server").listen(7000), (listener) =>
      Layer.launch(
        RpcServer.layer(Calls).pipe(
          Layer.provide(handlers),
          Layer.provide(ServerProtocol.layer({ logs: false })),
          Layer.provide(RpcSerialization.layerNdjson),
          Layer.provide(Layer.succeed(SocketServer.SocketServer, listener))
        )
      ))
    yield* world.process("server", serve)
    const dial = Effect.sync(() => world.network.host("client").dial("server:7000"))
    const options = { idempotent: (tag: string) => tag === "Again" }
    const protocol = overPool
      ? ClientProtocol.layerPool(dial, { ...options, inFlight: 4, pool: { max: 3 } })
      : ClientProtocol.layer(dial, options)
    const context = yield* Layer.build(Layer.provide(protocol, RpcSerialization.layerNdjson))
    // its own ids go on from one run to the next
    let requests = 0
    const generateRequestId = () => RequestId(`${++requests}`)
    const client = yield* Effect.provideContext(RpcClient.make(Calls, { generateRequestId }), context)

    /** What a call says has to be what became of it. */
    const check = (id: number, most: number, exit: Exit.Exit<number, unknown>) => {
      totals.settled++
      const times = executed.get(id) ?? 0
      if (Exit.isSuccess(exit)) {
        totals.answered++
        if (exit.value !== 2 * id) world.fail(`call ${id} got the answer of another: ${exit.value}`)
        if (times < 1 || times > most) world.fail(`call ${id} is answered, and was executed ${times} times`)
        return
      }
      const error = exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error
      if (!(error instanceof RpcClientError)) return world.fail(`call ${id} ended with ${exit.cause}`)
      if (ClientProtocol.reasonOf(error)._tag === "None") world.fail(`call ${id} ended without a reason: ${error}`)
      if (ClientProtocol.wasExecuted(error) === "unknown") {
        totals.unknown++
        if (times > most) world.fail(`call ${id} was executed ${times} times`)
      } else {
        totals.refused++
        if (times > 0) world.fail(`call ${id} was not executed, it says, and was ${times} times`)
      }
    }

    let ids = 0
    const calling = yield* Effect.forkScoped(Effect.forever(Effect.gen(function*() {
      const id = ++ids
      yield* Effect.forkScoped(
        id % 3 === 0
          ? Effect.map(Effect.exit(client.Again({ id })), (exit) => check(id, Infinity, exit))
          : id % 3 === 1
          ? Effect.map(Effect.exit(client.Charge({ id })), (exit) => check(id, 1, exit))
          : Effect.map(Effect.exit(Stream.runCollect(client.Count({ to: 5 }))), (exit) => {
            totals.settled++
            if (Exit.isSuccess(exit) && String(exit.value) !== "1,2,3,4,5") world.fail(`a stream was ${exit.value}`)
          })
      )
      yield* Effect.sleep("400 millis")
    })))
    const before = totals.settled
    yield* world.storm
    yield* Fiber.interrupt(calling)
    yield* world.eventually("every call settles", Effect.sync(() => totals.settled - before === ids))
    yield* world.eventually("a call is answered", Effect.map(Effect.exit(client.Again({ id: 0 })), Exit.isSuccess))
  })

describe("RPC in storms", () => {
  for (const overPool of [false, true]) {
    const totals: Ledger = { settled: 0, answered: 0, unknown: 0, refused: 0 }
    const over = overPool ? "a pool" : "a client"
    it.simulate(
      `over ${over} each call is answered, or says rightly whether it was executed`,
      { seeds: 2, storm: "1 minute" },
      (world) => program(world, overPool, totals)
    )
    it(`over ${over} the storms had something to say`, () => {
      assert.isAbove(totals.answered, 50, JSON.stringify(totals))
    })
  }
})
