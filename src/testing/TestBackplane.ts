/**
 * An engine for fleets on a simulated network: a host that can be cut off, stopped, crashed, and come back with nothing.
 *
 * **When to use**
 *
 * To see how an application over a `Fleet` behaves when its engine does not: nodes and engine are hosts of a `TestNetwork`, and
 * whatever happens to hosts and links happens to them. A crash of the engine's host loses its memory.
 *
 * **Example** (A send comes through after a storm)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Fleet } from "holdfast"
 * import { Simulation, TestBackplane } from "holdfast/testing"
 *
 * const program = (world: Simulation.World) =>
 *   Effect.gen(function*() {
 *     const { network } = world
 *     yield* world.process("engine", TestBackplane.serve(network.host("engine"), 6379))
 *     const engine = TestBackplane.connect(network.host("node"), "engine:6379")
 *     const fleet = yield* Fleet.make<string>({ engine })
 *     yield* world.storm
 *     yield* world.eventually("the node is joined", Effect.map(fleet.state, ({ status }) => status === "joined"))
 *   })
 *
 * const outcome = Simulation.run({ seed: 42, storm: "5 minutes" }, program)
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Engine } from "../Backplane.ts"
import * as Clients from "./internal/backplane/client.ts"
import * as Servers from "./internal/backplane/server.ts"
import type { Host } from "./Network.ts"

/**
 * Runs an engine on a host, with an empty memory. It fails when the host cannot listen, and goes on until it is interrupted: by
 * a crash, under `World.process` or `Host.run`.
 *
 * `losing` is the share of batches that inboxes lose; each loss is told as a gap. `late` is the share of answers that come late, by
 * up to a second, most of them by less: other answers, and batches, overtake them. Default 0, for both. They are
 * read each time, so a getter may change them.
 *
 * @category engines
 * @since 0.1.0
 */
export const serve = (
  host: Host,
  port: number,
  weaknesses: { readonly losing?: number | undefined; readonly late?: number | undefined } = {}
): Effect.Effect<never, unknown, Scope.Scope> =>
  Effect.flatMap(host.listen(port), ({ run }) => Servers.serve((handler) => run(handler), weaknesses))

/**
 * What a node on a host talks to the engine with, at an address such as `engine:6379`. Each join dials anew.
 *
 * @category engines
 * @since 0.1.0
 */
export const connect = (host: Host, address: string): Engine => Clients.connect(() => host.dial(address))
