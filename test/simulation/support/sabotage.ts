/** Ways to break the runtime on purpose, to see that the swarm finds it: a check that never fails checks nothing. */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { type Connection, type ConnectionError, Policy, type Registry } from "../../../src/index.ts"
import { TypeId } from "../../../src/internal/connection/handle/internals.ts"
import type { Sabotage } from "./kinds.ts"
import type { Draw } from "./policies.ts"

type Live = Connection.Connection<string>
type Open<R> = Effect.Effect<Live, ConnectionError.ConnectionError, R>

/** The policy that a connection really has, in place of the one it claims to have. */
export const policyOf = (kind: Sabotage | undefined, policy: Policy.Policy): Policy.Policy => {
  if (kind === "silence") return Policy.make({ silence: 0, pong: 0, misses: 0 }, policy)
  if (kind !== "outbox") return policy
  return Policy.make({ outboxMessages: 100_000, outboxBytes: 100_000_000, overflow: "wait" }, policy)
}

// one message in this many
const rare = 0.02

/** A connection is no record: what stands in for one passes everything else on. */
const instead = (self: Live, other: Partial<Live>): Live =>
  new Proxy(self, { get: (_, key) => Reflect.get(key in other ? other : self, key) })

/** A connection that is broken in this way, and says that its policy is this one. */
export const connection = <R>(kind: Sabotage | undefined, policy: Policy.Policy, draw: Draw, open: Open<R>): Open<R> =>
  kind === undefined ? open : Effect.flatMap(open, (self) => {
    const claims = { policy: Effect.succeed(policy) }
    switch (kind) {
      case "order":
        return Effect.succeed(
          instead(self, { ...claims, sendAll: (messages) => self.sendAll(Array.from(messages).toReversed()) })
        )
      case "twice": {
        let last: string | undefined
        const receive = Effect.suspend(() =>
          last !== undefined && draw() < rare
            ? Effect.succeed(last)
            : Effect.map(self.receive, (message) => last = message)
        )
        return Effect.succeed(instead(self, { ...claims, receive }))
      }
      case "lost":
        return Effect.succeed(
          instead(self, { ...claims, send: (message) => draw() < rare ? Effect.never : self.send(message) })
        )
      case "fiber":
        return Effect.as(Effect.forkDetach(Effect.never), instead(self, claims))
      default:
        return Effect.succeed(instead(self, claims))
    }
  })

/** A connection that never tells of its end. */
const deaf = (self: Live): Live =>
  instead(self, {
    [TypeId]: Object.create(self[TypeId], { state: { value: "open" }, onEnded: { value: () => {} } })
  })

/** A registry that is broken in this way: what is added stays until this scope ends. */
export const registry = (
  kind: Sabotage | undefined,
  self: Registry.Registry<string>,
  scope: Scope.Scope
): Registry.Registry<string> =>
  kind !== "registry"
    ? self
    : { ...self, add: (connection, names) => Scope.provide(self.add(deaf(connection), names), scope) }
