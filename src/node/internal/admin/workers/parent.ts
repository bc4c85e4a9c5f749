/** The admin servers of a parent: one for each place that its workers name, for all of them. */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { spawn } from "../../../../internal/scheduling/supervised.ts"
import type { Calls } from "../../addresses/calls.ts"
import { makeToken } from "../web/guard.ts"
import type { Last, Place, Served } from "./asking.ts"
import { nameOf, overAbout, serveAbout } from "./asking.ts"
import type { Group } from "./group.ts"
import type { Process, Who } from "./process.ts"

interface Running {
  readonly group: Group
  readonly served: Served
}

export class Admins {
  private readonly scope: Scope.Scope
  private readonly context: Context.Context<never>
  private readonly step: number
  private readonly places = new Map<string, Deferred.Deferred<Running>>()

  constructor(scope: Scope.Scope, context: Context.Context<never>, step: number) {
    this.scope = scope
    this.context = context
    this.step = step
  }

  /** Answers a worker that has a program to be looked at. What this gives back is called once the worker is dead. */
  serve(calls: Calls, who: Who): () => void {
    const joined = new Map<string, { readonly group: Group; readonly process: Process }>()
    let isDead = false
    calls.answer(serveAbout, (what, tell) => {
      const place = what as Place
      const joining = Effect.gen({ self: this }, function*() {
        const { group, served } = yield* this.at(place)
        if ("failed" in served || isDead) return served
        const { Process } = yield* Effect.promise(() => import("./process.ts"))
        const process = new Process(who, nameOf(place), calls, this.context)
        joined.set(nameOf(place), { group, process })
        group.processes.add(process)
        return served
      })
      spawn(this.context, "the admin API of workers", joining, (exit) => {
        tell(Exit.isSuccess(exit) ? exit.value : { failed: String(exit.cause) } satisfies Served)
      })
    })
    calls.answer(overAbout, (what) => {
      const { metrics, place, servers, totals } = what as Last
      const found = joined.get(place)
      if (found === undefined) return
      const { group, process } = found
      joined.delete(place)
      if (process.figures !== undefined) process.figures = { ...process.figures, totals }
      process.servers = servers
      process.metrics = metrics
      group.leave(process)
    })
    return () => {
      isDead = true
      for (const { group, process } of joined.values()) group.leave(process)
      joined.clear()
    }
  }

  /** The server of a place: the first worker that names it says how it is. */
  private at(place: Place): Effect.Effect<Running> {
    return Effect.suspend(() => {
      const name = nameOf(place)
      const known = this.places.get(name)
      if (known !== undefined) return Deferred.await(known)
      const running = Deferred.makeUnsafe<Running>()
      this.places.set(name, running)
      return Effect.tap(this.start(place), (started) =>
        Effect.sync(() => {
          // the next one tries again
          if ("failed" in started.served) this.places.delete(name)
          Deferred.doneUnsafe(running, Exit.succeed(started))
        }))
    })
  }

  private start({ elsewhere, host, hosts, port, token: wanted }: Place): Effect.Effect<Running> {
    return Effect.gen({ self: this }, function*() {
      // an HTTP server takes longer to load than all else
      const [{ Group }, { merged }, { serve }] = yield* Effect.promise(() =>
        Promise.all([import("./group.ts"), import("./merged.ts"), import("../web/serving.ts")])
      )
      const group = new Group(this.step)
      const token = wanted === "none" ? undefined : wanted === "any" ? makeToken() : Redacted.make(wanted.is)
      // the same as its signal: it stops all workers
      const stop = Effect.sync(() => void process.kill(process.pid, "SIGTERM"))
      const serving = serve((readers) => merged(group, readers, stop), {
        place: { host, port },
        elsewhere,
        hosts: [host, ...hosts],
        token
      })
      return yield* Scope.provide(serving, this.scope).pipe(
        Effect.match({
          onFailure: ({ cause }): Running => ({ group, served: { failed: String(cause) } }),
          onSuccess: (port): Running => ({
            group,
            served: { port, token: token === undefined ? undefined : Redacted.value(token) }
          })
        })
      )
    })
  }
}
