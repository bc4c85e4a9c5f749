/** The connections of a client's end: which one takes the next call, and when one goes back to where it came from. */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type * as ConnectionError from "../../ConnectionError.ts"
import { Mutex } from "../../internal/scheduling/mutex.ts"
import { spawn } from "../../internal/scheduling/supervised.ts"
import { type ClientConnection, Link, type LinkOptions } from "./link.ts"

type Failure = ConnectionError.ConnectionError

/** Where connections come from. */
export interface Source {
  readonly open: Effect.Effect<ClientConnection, Failure, Scope.Scope>
  /** How many calls share a connection before another one is asked for. `Infinity`: there is only the one of the source. */
  readonly inFlight: number
}

export class Links {
  private readonly source: Source
  private readonly context: Context.Context<never>
  private readonly all = new Map<number, Link>()
  private readonly options: LinkOptions
  // one call at a time looks for a connection: the others may share the one it opens
  private readonly looking: Mutex
  /** A call that waits for a connection, and takes one that has room again. */
  private room: Deferred.Deferred<void> | undefined

  constructor(source: Source, options: Omit<LinkOptions, "onEnd" | "onRest">) {
    this.source = source
    this.context = options.context
    this.looking = new Mutex(options.turns)
    this.options = {
      ...options,
      onRest: (link) => options.turns.scheduleTask(() => this.rested(link)),
      onEnd: (link) => {
        this.all.delete(link.connection.id)
      }
    }
  }

  /** Runs a call on a connection. */
  use<A, E>(call: (link: Link) => Effect.Effect<A, E>): Effect.Effect<A, E | Failure> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        restore(this.looking.withPermit(Effect.suspend(() => {
          const known = this.withRoom()
          return known === undefined ? this.open() : Effect.succeed(known)
        }))),
        (link) => {
          link.isFresh = false
          link.users++
          return Effect.ensuring(
            restore(call(link)),
            Effect.sync(() => {
              link.users--
              this.options.onRest(link)
            })
          )
        }
      )
    )
  }

  private withRoom(): Link | undefined {
    const { inFlight } = this.source
    // the source knows which one it is
    if (inFlight === Infinity) return undefined
    for (const link of this.all.values()) {
      // one that is interrupted has a place until its answer comes, one that is being sent has it already
      if (!link.isLeaving && Math.max(link.calls.size, link.users) < inFlight) return link
    }
    return undefined
  }

  private open(): Effect.Effect<Link, Failure> {
    const opening = Effect.uninterruptibleMask((restore) => {
      const scope = Scope.makeUnsafe()
      return restore(Scope.provide(this.source.open, scope)).pipe(
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause))),
        Effect.map((connection) => this.linkOf(connection, scope))
      )
    })
    if (this.source.inFlight === Infinity) return Effect.flatMap(opening, (link) => this.checked(link))
    return Effect.onExit(Effect.raceFirst(opening, this.free()), (exit) =>
      Effect.sync(() => {
        this.room = undefined
        // opened when another one had room already
        for (const link of this.all.values()) {
          if (!link.isFresh || (Exit.isSuccess(exit) && exit.value === link)) continue
          link.isFresh = false
          this.rested(link)
        }
      }))
  }

  /** Waits for a connection that has room. */
  private free(): Effect.Effect<Link> {
    return Effect.suspend(() => {
      const room = this.room = Deferred.makeUnsafe<void>()
      return Effect.flatMap(Deferred.await(room), () => {
        const link = this.withRoom()
        return link === undefined ? this.free() : Effect.succeed(link)
      })
    })
  }

  /** A client may give a connection of which we have seen the end first. */
  private checked(link: Link): Effect.Effect<Link, Failure> {
    return link.ended === undefined
      ? Effect.succeed(link)
      : Effect.andThen(Effect.ignore(link.connection.closed), Effect.andThen(Effect.yieldNow, this.open()))
  }

  private linkOf(connection: ClientConnection, scope: Scope.Closeable): Link {
    const known = this.all.get(connection.id)
    if (known !== undefined) return known
    const link = new Link(connection, scope, this.options)
    this.all.set(connection.id, link)
    link.start()
    return link
  }

  /** A call of this link has ended. */
  private rested(link: Link): void {
    if (link.ended !== undefined || link.isFresh) return
    if (this.room !== undefined && !link.isLeaving) Deferred.doneUnsafe(this.room, Exit.void)
    else if (link.calls.size === 0 && link.users === 0 && this.source.inFlight !== Infinity) this.giveBack(link)
  }

  /** The source keeps it for others, or closes it. */
  private giveBack(link: Link): void {
    if (!this.all.delete(link.connection.id)) return
    spawn(this.context, "giving back an RPC connection", link.release, () => {})
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach(Array.from(this.all.values()), (link) => {
      this.all.delete(link.connection.id)
      return link.release
    }, { concurrency: "unbounded", discard: true })
  )
}
