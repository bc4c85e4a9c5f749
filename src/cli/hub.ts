/** The members of a hub: those of this process, or those of all workers. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as ConnectionError from "../ConnectionError.ts"
import * as Fleet from "../Fleet.ts"
import * as Workers from "../node/Workers.ts"
import * as Registry from "../Registry.ts"
import { notHeard } from "./serveLogs.ts"

// a worker that was started is heard of after a third of it; one that hangs is waited for as long as the answer takes
const lease = "3 seconds"
const answerWithin = "1 second"

// of one sender, to other workers: each waits for its counts
const atOnce = 64

type Say<E> = (text: string) => Effect.Effect<void, E>

/** What takes part in a hub. */
export interface Members<A> {
  readonly registry: Registry.Registry<A>
  /** Sends messages to all but their sender, in order. `say` tells the sender who did not get one. */
  readonly tell: <E>(messages: ReadonlyArray<A>, sender: number, say: Say<E>) => Effect.Effect<void, E>
}

const told = <E>({ failed }: Registry.Broadcast, say: Say<E>): Effect.Effect<void, E> =>
  failed > 0 ? say(notHeard(failed)) : Effect.void

const notElsewhere = ({ message }: ConnectionError.ConnectionError): string =>
  `holdfast: members in other workers did not get your last message: ${message}`

/** Without other workers no message is encoded for them. */
export const members = <A>(mode: "echo" | "hub"): Effect.Effect<Members<A>, never, Scope.Scope> =>
  Effect.gen(function*() {
    if (mode === "echo" || (Workers.self()?.count ?? 1) === 1) {
      const registry = yield* Registry.make<A>()
      return {
        registry,
        tell: (messages, except, say) =>
          Effect.gen(function*() {
            for (const message of messages) yield* told(yield* registry.broadcast(message, { except }), say)
          })
      }
    }
    const { broadcast, registry } = yield* Fleet.make<A>({
      name: "worker",
      engine: yield* Workers.engine,
      lease,
      answerWithin
    })
    return {
      registry,
      tell: (messages, except, say) =>
        Effect.forEach(messages, (message) =>
          Effect.matchEffect(broadcast(message, { except }), {
            onFailure: (error) =>
              Effect.andThen(
                Effect.flatMap(registry.broadcast(message, { except }), (counts) => told(counts, say)),
                say(notElsewhere(error))
              ),
            onSuccess: (counts) => told(counts, say)
          }), { concurrency: atOnce, discard: true })
    }
  })
