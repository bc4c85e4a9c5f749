/**
 * A simulated network for anything that is built on `effect/socket`.
 *
 * Hosts listen and dial; what they write is cut, delayed, held back and lost as TCP does it, on the `Clock` and from one
 * seed. Under a virtual clock an hour takes milliseconds, and the same seed gives the same history to the last event.
 *
 * **Example** (An echo server behind a link that fails)
 *
 * ```ts
 * const program = Effect.gen(function*() {
 *   const network = yield* TestNetwork.make({ seed: "42", latency: "20 millis" })
 *   const server = yield* network.host("server").listen(7000)
 *   yield* Effect.forkScoped(server.run(echo))
 *   const socket = network.host("client").dial("server:7000")
 *   const { pull } = yield* socket.reader
 *   const { write } = yield* socket.writer
 *   yield* write("hello")
 *   const echoed = yield* pull // "hello", or a first part of it
 *   yield* network.link("client", "server").partition
 *   yield* write("is anybody there?") // arrives when the scope of the partition is closed
 *   return [echoed, TestNetwork.format(yield* network.snapshot)] as const
 * })
 * ```
 *
 * ## What is simulated
 *
 * The bytes an application sees are never lost, changed or reordered. What happens to packets becomes delay, and in the
 * end a reset:
 *
 * - **Opening** takes one round trip; the server accepts half a round trip later. No listener, or `refuse`: a reset
 *   after one round trip (`ECONNREFUSED`). No answer (partition, crash, full backlog): tried again after 1, 2, 4, ...
 *   seconds, and `ETIMEDOUT` after `connectTimeout`.
 * - **Writing** succeeds when the last byte is in the send buffer, so a peer that reads nothing lets through exactly
 *   `sendBuffer + receiveBuffer` bytes. What an interrupted write had handed over is still sent, as with Node.
 * - **Reading** gives batches that never match what was written; see `slicing`.
 * - **Loss** (a partition when a packet leaves or arrives; a host that is down) is repaired by sending again, 200 ms
 *   later, then after twice the time, at most 120 s. Nothing acknowledged for `userTimeout`: the sender's connection ends
 *   with `ETIMEDOUT`, and the peer is not told.
 * - **Ending**: releasing the writer sends FIN; the peer reads the rest, then `SocketCloseError` 1000. Releasing the
 *   reader closes; with unread data, or when data comes later, the peer gets a reset (unless `linger` is set). After a
 *   reset what was not read yet is lost, reads fail with `ECONNRESET`, later writes too; but after a FIN (the writer was
 *   released first) the peer reads everything, and only its writes fail, with `EPIPE`. This is the bare kernel: Node also
 *   reads up to 64 KiB ahead, which then do not count as unread.
 * - **Message transports** (`messages`) keep messages whole and close with a code, as WebSockets do. A message leaves as
 *   soon as there is any room, so the buffers may hold one message more than their size.
 * - **WebSockets** (`webSocket`) are the real protocol, RFC 6455, on the bytes of such a stream: what is written becomes
 *   frames, and those are cut, delayed, lost and sent again as all bytes are. The upgrade is taken as done when the
 *   connection is. Masks come from the seed.
 *
 * ## Decisions
 *
 * - A host is a name. Links exist between any two hosts that talk, and rules (partitions, holds, options) match names: a
 *   rule made before the hosts talk holds as well.
 * - Every fault that lasts is scoped. The end of the scope is the end of the fault.
 * - Acknowledgements take the latency of the way back, and no event unless a write waits for room: a thousand idle
 *   connections cost nothing.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import * as Settings from "./internal/fabric/settings.ts"
import { Timeline } from "./internal/fabric/timeline.ts"
import { Topology } from "./internal/fabric/topology.ts"
import { Trace } from "./internal/fabric/trace.ts"
import * as Hosts from "./internal/network/host.ts"
import * as Links from "./internal/network/links.ts"
import * as Snapshots from "./internal/network/snapshot.ts"
import { WebSockets } from "./internal/network/webSockets.ts"
import { TcpStack } from "./internal/tcp/connection.ts"
import type { DialOptions, Host, ListenOptions, Network, Options, Snapshot } from "./Network.ts"

export type * from "./Network.ts"

/**
 * The network as a service, for programs that are layers.
 *
 * @category services
 * @since 0.1.0
 */
export class TestNetwork extends Context.Service<TestNetwork, Network>()("holdfast/testing/TestNetwork") {}

/**
 * Makes a network. Its time is the `Clock` of this moment: `TestClock`, a faster virtual one, or the real one. When the
 * scope closes, nothing is delivered any more.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Network, never, Scope.Scope> =>
  Effect.gen(function*() {
    const timeline = yield* Timeline.make
    const seed = String(options.seed ?? (yield* Random.nextInt))
    const trace = new Trace(Settings.countOrAll("trace", options.trace ?? 0, 0))
    const topology = new Topology(timeline, trace, seed, Settings.link(options))
    const retransmit = {
      initial: Settings.interval("retransmit.initial", options.retransmit?.initial ?? "200 millis"),
      max: Settings.interval("retransmit.max", options.retransmit?.max ?? "120 seconds")
    }
    if (retransmit.max < retransmit.initial) {
      Settings.refuse("retransmit.max", options.retransmit?.max, "no less than `retransmit.initial`")
    }
    const stack = new TcpStack(topology, {
      socket: Settings.socket(options, Settings.socketDefaults),
      connectTimeout: Settings.millis("connectTimeout", options.connectTimeout ?? "127 seconds"),
      retransmit,
      finTimeout: Settings.interval("finTimeout", options.finTimeout ?? "60 seconds")
    })
    const webSockets = new WebSockets(topology)
    const hosts = new Map<string, Host>()
    return {
      seed,
      host: (name) => {
        const known = hosts.get(name)
        if (known !== undefined) return known
        const host = Hosts.make(stack, webSockets, name)
        hosts.set(name, host)
        return host
      },
      link: (host, other) => Links.make(stack, host, other),
      name: (name, host, other) => {
        topology.names.set(name, [host, other])
        return Links.make(stack, name)
      },
      inject: (injection) => Effect.suspend(() => stack.inject(injection)),
      reset: (id) => Effect.sync(() => Links.resetAll(stack, (connection) => connection.id === id) > 0),
      vanish: (id) => Effect.sync(() => Links.vanishAll(stack, (connection) => connection.id === id) > 0),
      snapshot: Effect.sync(() => Snapshots.take(stack)),
      trace: Effect.sync(() => topology.trace.last),
      fingerprint: Effect.sync(() => topology.trace.hash)
    }
  })

/**
 * Provides a network.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<TestNetwork> => Layer.effect(TestNetwork, make(options))

/**
 * Provides a server that listens on an address of the network, such as `server:7000`, in place of a real one.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerServer = (
  host: string,
  port: number,
  options?: ListenOptions
): Layer.Layer<SocketServer.SocketServer, SocketServer.SocketServerError, TestNetwork> =>
  Layer.unwrap(Effect.map(TestNetwork, (network) => network.host(host).layerServer(port, options)))

/**
 * Provides a socket that a host of the network dials, in place of a real one.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSocket = (
  host: string,
  address: string,
  options?: DialOptions
): Layer.Layer<Socket.Socket, never, TestNetwork> =>
  Layer.unwrap(Effect.map(TestNetwork, (network) => network.host(host).layerSocket(address, options)))

/**
 * Prints a snapshot as `netstat` would, for a test that fails.
 *
 * @category printing
 * @since 0.1.0
 */
export const format = (snapshot: Snapshot): string => Snapshots.format(snapshot)
