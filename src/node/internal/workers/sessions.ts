/** The sessions that one worker has with the engine of its parent, and how they end with the worker. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { BackplaneError, type Engine, type Session } from "../../../Backplane.ts"
import { spawn, spawnAmong } from "../../../internal/scheduling/supervised.ts"
import type { Answerer } from "../addresses/calls.ts"
import type { Answered, Asked, Joined } from "./backplane.ts"

interface Open {
  readonly scope: Scope.Closeable
  readonly session: Session
  readonly fibers: Set<Fiber.Fiber<unknown, unknown>>
}

const unknown = Effect.fail(new BackplaneError({ reason: "lease" }))

type Does = Exclude<Asked, { readonly op: "join" | "end" }>

const does = (session: Session, asked: Does): Effect.Effect<unknown, BackplaneError> => {
  switch (asked.op) {
    case "renew":
      return session.renew(asked.isLeaving)
    case "nodes":
      return session.nodes
    case "claim":
      return session.claim(asked.key, { as: asked.as, over: asked.over, onlyIfFree: asked.onlyIfFree })
    case "release":
      return session.release(asked.key, asked.token)
    case "find":
      return session.find(asked.key)
    case "publish":
      return session.publish(asked.to, asked.batch)
    case "take":
      return session.take
    case "leave":
      return session.leave
  }
}

/** Of one worker. */
export class Sessions {
  private readonly engine: Engine
  private readonly context: Context.Context<never>
  private readonly open = new Map<number, Open>()
  /** Who has to leave when the worker is gone: a lease is longer than a session. */
  private readonly leaves = new Map<string, Effect.Effect<void, BackplaneError>>()
  private readonly joining = new Set<Fiber.Fiber<unknown, unknown>>()

  constructor(engine: Engine, context: Context.Context<never>) {
    this.engine = engine
    this.context = context
  }

  readonly answer: Answerer = (what, tell) => {
    const asked = what as Asked
    const open = this.open.get(asked.session)
    if (asked.op === "end") return open === undefined ? undefined : this.close(asked.session, open)
    const effect = asked.op === "join" ? this.join(asked) : open === undefined ? unknown : does(open.session, asked)
    spawnAmong(open?.fibers ?? this.joining, this.context, "an answer to a worker", effect, (exit) => {
      if (Exit.isSuccess(exit)) return tell({ value: exit.value } satisfies Answered)
      const failed = exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error.reason ?? "unreachable"
      tell({ failed } satisfies Answered)
    })
  }

  /** The worker is dead: nothing of it serves a key any more. */
  end(): void {
    for (const fiber of this.joining) fiber.interruptUnsafe()
    for (const [number, open] of this.open) this.close(number, open)
    const leaves = Effect.forEach([...this.leaves.values()], (leave) => Effect.ignore(leave), { discard: true })
    this.leaves.clear()
    spawn(this.context, "the end of a worker's leases", leaves, () => {})
  }

  private close(number: number, { fibers, scope }: Open): void {
    this.open.delete(number)
    for (const fiber of fibers) fiber.interruptUnsafe()
    spawn(this.context, "the end of a worker's session", Scope.close(scope, Exit.void), () => {})
  }

  private join({ lease, node, session: number }: Extract<Asked, { readonly op: "join" }>) {
    return Effect.gen({ self: this }, function*() {
      const scope = yield* Scope.make()
      const joining = Scope.provide(this.engine.join({ node, lease }), scope)
      const session = yield* Effect.onExit(
        joining,
        (exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void
      )
      this.open.set(number, { scope, session, fibers: new Set() })
      this.leaves.set(node, session.leave)
      return { epoch: session.epoch, age: session.age } satisfies Joined
    })
  }
}
