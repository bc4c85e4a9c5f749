/** Making a call, and making it again over another connection where that is safe. */
import * as Effect from "effect/Effect"
import type { FromClientEncoded, RequestEncoded } from "effect/rpc/RpcMessage"
import * as ConnectionError from "../../ConnectionError.ts"
import { Call, type Link, type LinkOptions, type Outcome } from "./link.ts"
import { Links, type Source } from "./links.ts"

type Failure = ConnectionError.ConnectionError

export interface AttemptOptions {
  readonly retries: number
  readonly idempotent: (tag: string) => boolean
  /** How many calls may wait for a connection. */
  readonly waiting: number
}

export class Attempts {
  private readonly links: Links
  private readonly options: AttemptOptions
  /** Where a call is now: what follows it goes there, too. */
  private readonly active = new Map<string | number, { readonly link: Link; readonly call: Call }>()
  private waiting = 0

  constructor(source: Source, linkOptions: Omit<LinkOptions, "onEnd" | "onRest">, options: AttemptOptions) {
    this.links = new Links(source, linkOptions)
    this.options = options
  }

  get close(): Effect.Effect<void> {
    return this.links.close
  }

  send(clientId: number, message: FromClientEncoded): Effect.Effect<void, Failure> {
    switch (message._tag) {
      case "Request":
        return this.request(clientId, message, this.options.retries)
      case "Ack":
      case "Interrupt":
        return Effect.suspend(() => {
          const at = this.active.get(message.requestId)
          if (at === undefined) return Effect.void
          if (message._tag === "Interrupt") this.active.delete(message.requestId)
          return at.link.follow(message)
        })
      default:
        // the connection pings by itself, and ends by its scope
        return Effect.void
    }
  }

  private request(clientId: number, request: RequestEncoded, left: number): Effect.Effect<void, Failure> {
    return Effect.flatMap(this.once(clientId, request), (outcome): Effect.Effect<void, Failure> => {
      if (outcome._tag === "Done") return Effect.void
      const { begun, error, written } = outcome
      const isFinal = error.reason._tag === "Defect"
      const isSafe = !written || (!begun && this.options.idempotent(request.tag))
      if (left > 0 && isSafe && !isFinal) return this.request(clientId, request, left - 1)
      return Effect.fail(
        written && !isFinal ? ConnectionError.make(new ConnectionError.OutcomeUnknown({ cause: error })) : error
      )
    })
  }

  private once(clientId: number, request: RequestEncoded): Effect.Effect<Outcome, Failure> {
    return Effect.suspend(() => {
      const isFull = this.waiting >= this.options.waiting
      if (!isFull) this.waiting++
      let isWaiting = true
      const found = (): void => {
        if (isWaiting && !isFull) this.waiting--
        isWaiting = false
      }
      const call = new Call(clientId, request.id)
      const used = Effect.ensuring(
        this.links.use((link) => {
          found()
          this.active.set(request.id, { link, call })
          return Effect.onExit(
            link.exchange(call, request, request.isNotification !== true),
            (exit) =>
              Effect.sync(() => {
                // an interrupted one is followed by its interruption, which takes it out
                const isOver = exit._tag === "Success" || !exit.cause.reasons.some(({ _tag }) => _tag === "Interrupt")
                if (isOver || !link.calls.has(request.id)) this.active.delete(request.id)
              })
          )
        }),
        Effect.sync(found)
      )
      // one that finds a connection at once does not wait
      return isFull ? this.unlessItWaits(used, () => isWaiting) : used
    })
  }

  /** Fails what waits for a connection after this turn. */
  private unlessItWaits<A>(used: Effect.Effect<A, Failure>, waits: () => boolean): Effect.Effect<A, Failure> {
    const offline = Effect.suspend(() =>
      waits()
        ? Effect.fail(ConnectionError.make(new ConnectionError.Offline({ messages: this.waiting, bytes: 0 })))
        : Effect.never
    )
    return Effect.raceFirst(Effect.interruptible(used), Effect.interruptible(Effect.andThen(Effect.yieldNow, offline)))
  }
}
