/** Runs a handler over the connections of a listener. */
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import { plainly } from "../../../internal/reasons/logs.ts"
import { spawn } from "../../../internal/scheduling/supervised.ts"
import { Direct, type Directly, OnPath } from "../../../internal/transport/accepted.ts"
import type { Arrival, Consumer } from "./arrival.ts"

/** What a consumer needs of its acceptor. */
interface Source {
  readonly join: (consumer: Consumer) => void
  /** Takes no more; what it was given and has not read is destroyed. */
  readonly leave: (consumer: Consumer) => void
  /** The handler of a connection is done. */
  readonly handled: (arrival: Arrival, failed: boolean) => void
}

/** Hands every connection of a source to a handler, until it is interrupted or accepting fails. */
export const run = <R, E, A>(
  { handled, join, leave }: Source,
  handler: (socket: Socket.Socket) => Effect.Effect<A, E, R>
): Effect.Effect<never, SocketServer.SocketServerError, R> =>
  Effect.gen(function*() {
    const context = Context.omit(Scope.Scope)(yield* Effect.context<R>()) as Context.Context<R>
    const scope = yield* Scope.make()
    const track = Fiber.runIn(scope)
    const inFiber: Consumer["take"] = (arrival, opened) => {
      let failed = false
      const life = Effect.suspend(() => handler(opened.socket)).pipe(
        Effect.onError(() =>
          Effect.sync(() => {
            failed = true
          })
        ),
        Effect.catchCause((cause) => Effect.failCause(plainly(cause))),
        Effect.ignoreCause({ log: "Unhandled", message: "Unhandled error in SocketServer" })
      )
      // whatever its exit is, a connection that it left behind is destroyed
      const provided = opened.provide(context)
      const whole = opened.request === undefined
        ? provided
        : Context.add(provided, NodeSocketServer.IncomingMessage, opened.request)
      track(spawn(whole, "handler of a listener", life, (exit) => {
        handled(arrival, failed || Exit.isFailure(exit))
      }))
    }
    const reception = (handler as Directly)[Direct]
    const take: Consumer["take"] = reception === undefined ? inFiber : (arrival, opened) => {
      const { counted } = arrival
      arrival.counted = undefined
      reception.receive(
        opened.socket,
        opened.provide(context as Context.Context<never>),
        () => handled(arrival, false),
        counted
      )
    }
    let consumer: Consumer | undefined
    return yield* Effect.callback<never, SocketServer.SocketServerError>((resume) => {
      consumer = {
        path: (handler as Directly)[OnPath],
        reception,
        take,
        fail: (cause) => {
          leave(consumer!)
          const reason = new SocketServer.SocketServerUnknownError({ cause })
          resume(Effect.fail(new SocketServer.SocketServerError({ reason })))
        }
      }
      join(consumer)
    }).pipe(
      Effect.ensuring(Effect.suspend(() => {
        if (consumer !== undefined) leave(consumer)
        return Scope.close(scope, Exit.void)
      }))
    )
  })
