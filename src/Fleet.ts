/**
 * The connections of all nodes, as `Registry` is those of one: one login a key, send to a key, broadcast to a tag.
 *
 * A `Server` is given `fleet.registry` in place of a registry of its own. Who is connected where goes through an engine that
 * you run already: the `Backplane`. Without one a fleet is one node, and works the same.
 *
 * **Details**
 *
 * A message is delivered at most once, in order for each sending node and key, and never to a login that a newer one has
 * replaced. What is not known is said: see `Outcome`. The guide [A fleet of servers](guides/fleet.md) has all of it in a table.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Backplane, type BackplaneError, type Engine, memory } from "./Backplane.ts"
import * as Codec from "./Codec.ts"
import type * as ConnectionError from "./ConnectionError.ts"
import * as Assembly from "./internal/fleet/fleet.ts"
import { Guards } from "./internal/fleet/lease.ts"
import { type Change as ChangeOf, Node } from "./internal/fleet/node.ts"
import * as Registry from "./Registry.ts"

/**
 * What became of a message for a key.
 *
 * - `accepted`: the outbox of the connection has it, on whichever node. It is not delivered to the peer yet.
 * - `full`: the outbox of the connection was full, or too much waits for its node. It was not taken.
 * - `offline`: no connection has the key. It was not taken.
 * - `unknown`: it left this node, and no answer came: it may have been taken, once.
 * - `cut`: this node does not reach the engine. It was not taken.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome = "accepted" | "full" | "offline" | "unknown" | "cut"

/**
 * What came of a broadcast on one node: how many of its connections took it, or why that is not known: `unknown`, it left this
 * node and no answer came; `cut`, it never left.
 *
 * @category models
 * @since 0.1.0
 */
export type NodeCounts = Registry.Broadcast | "unknown" | "cut"

/**
 * How a broadcast went: the sums of the nodes that answered, and each node by its name.
 *
 * @category models
 * @since 0.1.0
 */
export interface Broadcast extends Registry.Broadcast {
  readonly nodes: ReadonlyMap<string, NodeCounts>
}

/**
 * Where a key is connected.
 *
 * @category models
 * @since 0.1.0
 */
export interface Where {
  readonly node: string
  /** Whether that is this node. */
  readonly isHere: boolean
}

/**
 * A node of the fleet.
 *
 * @category models
 * @since 0.1.0
 */
export interface NodeInfo extends Where {
  /** It stops soon, and takes no new logins. */
  readonly isLeaving: boolean
}

/**
 * How this node stands in its fleet.
 *
 * @category models
 * @since 0.1.0
 */
export interface State {
  readonly node: string
  /**
   * - `joined`: all is well.
   * - `cut`: it does not reach the engine, and still serves its own keys: until 0.9 of its lease has passed.
   * - `fenced`: its lease may have ended. Its connections stay, and nothing is delivered by key until their keys are checked.
   * - `leaving`: `leave` was called.
   */
  readonly status: "joined" | "cut" | "fenced" | "leaving"
  /** The epoch of the engine, once this node has joined. */
  readonly epoch: number | undefined
  /** How many keys this node has. */
  readonly keys: number
  /** How many of those may be delivered to now. */
  readonly served: number
  /** How many sends have no outcome yet. */
  readonly sending: number
  /** How many batches from other nodes were lost. */
  readonly gaps: number
}

/**
 * What happens to a fleet, as this node sees it.
 *
 * - `Joined`: this node has joined, or joined again; `isNewEpoch`: the engine has lost what it knew.
 * - `Cut`: it has lost the engine, and joins again by itself.
 * - `Fenced`: it is cut off for so long that others may have its keys.
 * - `Gap`: so many batches from a node were lost, where that is known. Their senders have `unknown` or nothing at all.
 * - `NodeJoined`, `NodeGone`: another node.
 *
 * @category models
 * @since 0.1.0
 */
export type Change =
  | { readonly _tag: "Joined"; readonly epoch: number; readonly isNewEpoch: boolean }
  | { readonly _tag: "Cut"; readonly error: BackplaneError }
  | { readonly _tag: "Fenced" }
  | { readonly _tag: "Gap"; readonly count: number | undefined; readonly from: string | undefined }
  | { readonly _tag: "NodeJoined"; readonly node: string }
  | { readonly _tag: "NodeGone"; readonly node: string }

/**
 * The connections of all nodes, seen from one of them.
 *
 * **When to use**
 *
 * In place of a `Registry`, as soon as there may be a second process: send to a user wherever the user is connected, broadcast
 * to a room on all nodes, and end the older of two logins on two nodes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fleet<in out In, in out Out = In, in out Session = Registry.AnySession> {
  /** The name of this node. */
  readonly node: string
  /**
   * The connections of this node, for a `Server`. `add` claims the key for this node first and ends the connection that had it,
   * on whichever node, before it succeeds. While the engine is away it fails with `Refused` by `fleet`, or lets the connection
   * in (`Options.logins`). `offer` delivers only where this node may serve the key. All else is that of a `Registry`.
   */
  readonly registry: Registry.Registry<In, Out, Session>
  /**
   * Sends a message to the connection that has a key, on whichever node. Ends with an outcome after `Options.answerWithin` at
   * the latest. An interrupted send may have been taken.
   *
   * Fails with the codec's reason for a message that cannot be encoded, and with `MessageTooLarge` for one that is larger than
   * a batch of the engine.
   *
   * **Example** (To a user, or to the inbox of a user who is not there)
   *
   * ```ts
   * declare const keep: (user: string, text: string) => Effect.Effect<void>
   *
   * const tell = (fleet: Fleet.Fleet<string>, user: string, text: string) =>
   *   Effect.flatMap(fleet.send(user, text), (outcome) => outcome === "accepted" ? Effect.void : keep(user, text))
   * ```
   */
  readonly send: (key: string, message: Out) => Effect.Effect<Outcome, ConnectionError.ConnectionError>
  /**
   * Offers a message to all connections of all nodes, or to those of a tag. Each node does its part without waiting for peers
   * and says how it went; see `Registry.broadcast`. Fails as `send` does, before anything is sent to other nodes.
   */
  readonly broadcast: (message: Out, options?: {
    readonly tag?: string | undefined
    /** The id of a connection of this node to leave out, such as the sender. */
    readonly except?: number | undefined
  }) => Effect.Effect<Broadcast, ConnectionError.ConnectionError>
  /** Where a key is connected; nothing where no node that lives has it. Fails where the engine does not answer. */
  readonly where: (key: string) => Effect.Effect<Where | undefined, BackplaneError>
  /** The nodes that live, this one first. As this node last learned: a third of a lease ago at the most. */
  readonly nodes: Effect.Effect<ReadonlyArray<NodeInfo>>
  /** How this node stands in its fleet. */
  readonly state: Effect.Effect<State>
  /** What happens from now on. A slow reader misses the oldest of more than 256 changes. */
  readonly changes: Stream.Stream<Change>
  /**
   * Tells the other nodes that this one is going to stop, and takes no new logins: `add` fails with `Refused` by `stopping`.
   * Its connections stay and can be sent to. The end of the scope gives its keys and its lease back.
   *
   * **When to use**
   *
   * First of all when a process stops: before its server drains.
   */
  readonly leave: Effect.Effect<void>
}

/**
 * How a node takes part in its fleet.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in out Out> {
  /** How the name of this node begins; random digits follow, because no two processes share a name. Default `node`. */
  readonly name?: string | undefined
  /** The engine. Default: what `Backplane.layer` provides, or else a memory of its own: a fleet of one. */
  readonly engine?: Engine | undefined
  /** How messages travel between nodes: its payload half. Default: MessagePack, which takes what JSON takes, and bytes. */
  readonly codec?: Codec.Codec<Out> | undefined
  /**
   * How long a node that is cut off is believed to live: the longest time for which its keys are not found, and for which a
   * login waits that takes a key from it. All nodes need the same. Default 6 seconds; at least 1.
   */
  readonly lease?: Duration.Input | undefined
  /** How long a send or a broadcast waits for an answer. More than 0. Default: as `lease`. */
  readonly answerWithin?: Duration.Input | undefined
  /**
   * What becomes of a login with a key while the engine is away: `refuse` it, which a client tries again, or `admit` it: its key
   * is claimed once the engine is back, and of two such logins of one key one is ended then. Default `refuse`.
   */
  readonly logins?: "refuse" | "admit" | undefined
  /** How the registry of this node sweeps, what it does with a key that is taken, and how much it remembers. */
  readonly registry?: Registry.Options | undefined
}

const mostChanges = 256

/** Where there is no other node, no lease is needed. */
const alone = Infinity

const nameOf = (name: string): Effect.Effect<string> =>
  Effect.map(Random.nextIntBetween(0, 0xffffffff), (number) => {
    if (!/^[A-Za-z0-9_-]{1,48}$/.test(name)) {
      throw new RangeError(`Fleet: name is 1 to 48 of the characters A-Z a-z 0-9 _ -, and not ${JSON.stringify(name)}`)
    }
    return `${name}-${number.toString(16).padStart(8, "0")}`
  })

/**
 * Makes a node of a fleet, owned by the scope. It joins in the background, and again whenever it was cut off.
 *
 * **Example** (A server of a fleet)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection, Fleet, Server } from "holdfast"
 *
 * const program = Effect.gen(function*() {
 *   const fleet = yield* Fleet.make<string>()
 *   yield* Server.run({
 *     open: Connection.make({ codec: Codec.lines() }),
 *     handshake: (connection) => connection.receive,
 *     names: (_, user) => ({ key: user, tags: ["everyone"] }),
 *     registry: fleet.registry,
 *     handle: (connection, user) =>
 *       Effect.forever(Effect.flatMap(connection.receive, (text) =>
 *         fleet.broadcast(`${user}: ${text}`, { tag: "everyone" })))
 *   })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <In, Out = In, Session = Registry.AnySession>(
  options: Options<Out> = {}
): Effect.Effect<Fleet<In, Out, Session>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const provided = options.engine ?? (yield* Backplane)
    const engine = provided ?? (yield* memory)
    const lease = provided === undefined ? alone : Math.max(1000, Duration.toMillis(options.lease ?? "6 seconds"))
    const answerWithin = Duration.toMillis(options.answerWithin ?? (lease === alone ? "6 seconds" : lease))
    // else each message would be `unknown` before its answer can come
    if (!(answerWithin > 0)) throw new RangeError("Fleet: answerWithin must be more than 0")
    // what MessagePack cannot write is an error of `send`
    const codec = options.codec ?? (Codec.msgpack(Codec.bytes()) as Codec.Codec<unknown> as Codec.Codec<Out>)
    const changes = yield* PubSub.sliding<ChangeOf>(mostChanges)
    const local = yield* Registry.make<In, Out, Session>(options.registry)
    const node = new Node<Out>({
      name: yield* nameOf(options.name ?? "node"),
      engine,
      local,
      payload: codec.payload,
      clock: yield* Clock.Clock,
      context: yield* Effect.context<never>(),
      guards: yield* Guards,
      lease,
      answerWithin,
      isOnlyIfFree: options.registry?.duplicates === "reject",
      changes
    })
    yield* Assembly.run(node)

    const registry: Registry.Registry<In, Out, Session> = {
      ...local,
      add: Assembly.add(node, local, options.logins === "admit"),
      offer: (key, message) =>
        Effect.suspend(() =>
          node.keys.serving(key) === undefined ? Effect.succeed("offline") : local.offer(key, message)
        )
    }
    return {
      node: node.name,
      registry,
      send: (key, message) => Assembly.send(node, key, message),
      broadcast: (message, to) => Effect.map(Assembly.broadcast(node, message, to), summed),
      where: (key) =>
        Effect.suspend(() =>
          node.keys.serving(key) !== undefined
            ? Effect.succeed({ node: node.name, isHere: true })
            : Effect.map(
              node.find(key),
              (holder) => holder === undefined ? undefined : { node: holder.node, isHere: holder.node === node.name }
            )
        ),
      nodes: Effect.sync(() => [
        { node: node.name, isHere: true, isLeaving: node.isLeaving },
        ...Array.from(node.members, ([name, isLeaving]) => ({ node: name, isHere: false, isLeaving }))
      ]),
      state: Effect.sync(() => Assembly.stateOf(node)),
      changes: Stream.fromPubSub(changes),
      leave: Assembly.leave(node)
    }
  })

const summed = (nodes: ReadonlyMap<string, NodeCounts>): Broadcast => {
  const sums = { delivered: 0, dropped: 0, failed: 0 }
  for (const counts of nodes.values()) {
    if (typeof counts === "string") continue
    sums.delivered += counts.delivered
    sums.dropped += counts.dropped
    sums.failed += counts.failed
  }
  return { ...sums, nodes }
}

/**
 * A node of a fleet for as long as its layer is built.
 *
 * **Example** (A fleet as a service, over the engine of the layer below)
 *
 * ```ts
 * import { Context, Layer } from "effect"
 * import { Backplane, Fleet } from "holdfast"
 *
 * class Users extends Context.Service<Users, Fleet.Fleet<string>>()("app/Users") {
 *   static readonly layer = Fleet.layer(Users, { lease: "10 seconds" })
 * }
 *
 * const engine = Backplane.layer(Backplane.memory)
 * const program = Users.use((users) => users.send("ada", "hello"))
 * const layer = Users.layer.pipe(Layer.provide(engine))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <I, In, Out = In, Session = Registry.AnySession>(
  service: Context.Key<I, Fleet<In, Out, Session>>,
  options?: Options<Out>
): Layer.Layer<I> => Layer.effect(service, make<In, Out, Session>(options))
