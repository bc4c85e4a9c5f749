/** Puts a fleet's node together: its registry, which claims keys first, and what it sends. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { Connection } from "../../Connection.ts"
import * as ConnectionError from "../../ConnectionError.ts"
import type { Registry } from "../../Registry.ts"
import { TypeId } from "../connection/handle/internals.ts"
import { isLiving } from "../registry/state.ts"
import * as Supervised from "../scheduling/supervised.ts"
import * as Claims from "./claims.ts"
import type { Held } from "./keys.ts"
import type { Node } from "./node.ts"
import type { Outcome } from "./post/lanes.ts"
import type { NodeCounts } from "./post/questions.ts"
import type * as Wire from "./post/wire.ts"
import { keepJoined } from "./session.ts"

/** Keeps a node in its fleet until the scope closes. Then it leaves. */
export const run = <Out>(node: Node<Out>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    yield* Effect.addFinalizer(() => Effect.sync(() => node.claims.stop()))
    yield* Supervised.restarted("waiting for the answers of a fleet", node.deadlines.run)
    yield* Supervised.restarted("waiting for the engine of a fleet", node.answers.run)
    yield* Supervised.restarted("the session of a fleet", keepJoined(node))
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        node.isLeaving = true
        node.isLeft = true
        return Effect.ignore(node.ask(({ leave }) => leave))
      })
    )
  })

/** Tells the others that this node is going to stop. */
export const leave = <Out>(node: Node<Out>): Effect.Effect<void> =>
  Effect.suspend(() => {
    node.isLeaving = true
    return Effect.ignore(node.ask((session) => session.renew(true)))
  })

/** Ends the connection, in the background, when a newer login of another node has its key. */
const superseder = <In, Out>(node: Node<Out>, { closeWith }: Connection<In, Out>, key: string) => () =>
  node.claims.run("ending an older login", Effect.suspend(() => closeWith(new ConnectionError.Superseded({ key }))))

const refuse = (limit: "fleet" | "stopping") => ConnectionError.make(new ConnectionError.Refused({ limit }))

/** Claims a key for a connection; without a token where the engine is away and the connection is let in all the same. */
const claim = <In, Out>(
  node: Node<Out>,
  connection: Connection<In, Out>,
  key: string,
  admits: boolean
): Effect.Effect<Held, ConnectionError.ConnectionError> => {
  const held = { key, id: connection.id, supersede: superseder(node, connection, key) }
  const unclaimed: Held = { ...held, token: undefined, term: -1, session: -1 }
  const login = Effect.map(Claims.login(node, key), (login): Held => ({ ...held, ...login }))
  const bounded = Effect.timeoutOrElse(login, { duration: node.patience, orElse: () => refuse("fleet") })
  return (node.stay === undefined ? bounded : login).pipe(
    Effect.catch((error) => admits && error.reason._tag === "Refused" ? Effect.succeed(unclaimed) : Effect.fail(error))
  )
}

/** `Registry.add`, of which the directory of the fleet is asked first. */
export const add = <In, Out, Session>(
  node: Node<Out>,
  local: Registry<In, Out, Session>,
  admits: boolean
): Registry<In, Out, Session>["add"] => {
  return (connection, names, session) => {
    const key = names?.key
    if (key === undefined) return local.add(connection, names, session)
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        if (node.isLeaving) return yield* refuse("stopping")
        if (node.isOnlyIfFree) {
          const holder = yield* local.getKey(key)
          const isTaken = holder._tag === "Some" && holder.value.id !== connection.id &&
            isLiving(holder.value[TypeId].state)
          if (isTaken) return yield* ConnectionError.make(new ConnectionError.DuplicateKey({ key }))
        }
        node.keys.begin(key)
        const holding = Effect.map(restore(claim(node, connection, key, admits)), (held) => {
          const before = node.keys.held.get(key)
          return { before, held, isHeld: Claims.hold(node, held) }
        })
        const { before, held, isHeld } = yield* Effect.ensuring(holding, Effect.sync(() => node.keys.end(key)))
        if (!isHeld) return yield* ConnectionError.make(new ConnectionError.Superseded({ key }))
        yield* Effect.addFinalizer(() => Effect.sync(() => Claims.letGo(node, held)))
        yield* Effect.tapCause(local.add(connection, names, session), () =>
          Effect.sync(() => {
            if (node.keys.held.get(key) !== held || before === undefined || before.id === held.id) return
            // the directory means the connection that has the key here
            const { session, term, token } = held
            node.keys.held.set(key, Object.assign(before, { token, term, session }))
          }))
        if (!Claims.isConfirmed(node, held)) node.checking.openUnsafe()
      })
    )
  }
}

/** A message as it travels between nodes. */
const encode = <Out>(
  node: Node<Out>,
  message: Out,
  name: string
): Result.Result<Wire.Payload, ConnectionError.ConnectionError> => {
  const encoded = node.payload.encode(message)
  if (Result.isFailure(encoded)) return Result.fail(ConnectionError.make(encoded.failure))
  const payload = encoded.success
  const size = 3 * name.length + 64 + payload.length * (typeof payload === "string" ? 3 : 1)
  const limit = node.mail.longest
  return size > limit
    ? Result.fail(ConnectionError.make(new ConnectionError.MessageTooLarge({ size, limit })))
    : Result.succeed(payload)
}

/** `Fleet.send`. */
export const send = <Out>(
  node: Node<Out>,
  key: string,
  message: Out
): Effect.Effect<Outcome, ConnectionError.ConnectionError> =>
  Effect.suspend((): Effect.Effect<Outcome, ConnectionError.ConnectionError> => {
    if (!node.lanes.isBusy(key) && node.keys.serving(key) !== undefined) return node.local.offer(key, message)
    if (node.stay === undefined) return Effect.succeed("cut")
    const payload = encode(node, message, key)
    if (Result.isFailure(payload)) return Effect.fail(payload.failure)
    return Effect.callback<Outcome>((resume) => {
      const forget = node.lanes.send(key, message, payload.success, (outcome) => resume(Effect.succeed(outcome)))
      return Effect.sync(forget)
    })
  })

/** Asks all other nodes at once to do a broadcast, and waits for what each says. */
const elsewhere = <Out>(
  node: Node<Out>,
  message: Out,
  tag: string | undefined
): Effect.Effect<ReadonlyArray<readonly [string, NodeCounts]>, ConnectionError.ConnectionError> =>
  Effect.suspend(() => {
    const encoded = encode(node, message, tag ?? "")
    if (Result.isFailure(encoded)) return Effect.fail(encoded.failure)
    const payload = encoded.success
    const names = Array.from(node.members.keys())
    return Effect.callback<ReadonlyArray<readonly [string, NodeCounts]>>((resume) => {
      const said = names.map((name): [string, NodeCounts] => [name, "cut"])
      let open = names.length
      if (node.stay === undefined || open === 0) return resume(Effect.succeed(said))
      const asks = said.map((entry) => {
        const id = node.nextId()
        node.questions.add(id, entry[0], (counts) => {
          entry[1] = counts
          if (--open === 0) resume(Effect.succeed(said))
        })
        return { name: entry[0], id }
      })
      node.mail.together(() => {
        for (const { id, name } of asks) {
          node.mail.post(name, { _tag: "Broadcast", id, tag, payload }, (passing) => {
            if (passing === "dropped") node.questions.answer(id, name, "cut")
            else if (passing === "nobody") node.questions.answer(id, name, "unknown")
          })
        }
      })
    })
  })

/** `Fleet.broadcast`. */
export const broadcast = <Out>(
  node: Node<Out>,
  message: Out,
  { except, tag }: { readonly tag?: string | undefined; readonly except?: number | undefined } = {}
): Effect.Effect<ReadonlyMap<string, NodeCounts>, ConnectionError.ConnectionError> =>
  Effect.gen(function*() {
    const asked = node.members.size === 0
      ? undefined
      : yield* Supervised.joined("a broadcast to other nodes", elsewhere(node, message, tag), {
        startImmediately: true
      })
    const here = yield* node.local.broadcast(message, { tag, except })
    const others = asked === undefined ? [] : yield* Fiber.join(asked)
    return new Map<string, NodeCounts>([[node.name, here], ...others])
  })

/** `Fleet.state`. */
export const stateOf = <Out>(node: Node<Out>) => {
  node.lease.check()
  const { epoch, gaps, keys: { held }, lanes, lease, name } = node
  let served = 0
  for (const { term } of held.values()) if (lease.serves(term)) served++
  const status: "joined" | "cut" | "fenced" | "leaving" = node.isLeaving
    ? "leaving"
    : lease.isFenced
    ? "fenced"
    : node.stay === undefined
    ? "cut"
    : "joined"
  return { node: name, status, epoch, keys: held.size, served, sending: lanes.size, gaps }
}
