/** One worker, as the admin API of its parent reaches it: within a time limit, and with what it said last. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { spawn } from "../../../../internal/scheduling/supervised.ts"
import type { Calls } from "../../addresses/calls.ts"
import * as S from "../schemas.ts"
import { type Answered, askAbout, type Asked } from "./asking.ts"

// milliseconds; a stream of changes brings figures every second
const patience = 2000

/** Who it is. `slot`: what its ids are, modulo their step. */
export interface Who {
  readonly number: number
  readonly pid: number | undefined
  readonly slot: number
}

type Failed = S.NotFound | S.Invalid | S.NotOffered | S.NoAnswer

const failures = { NotFound: S.NotFound, Invalid: S.Invalid, NotOffered: S.NotOffered } as const

const failureOf = ({ _tag, message }: { readonly _tag: string; readonly message: string }): Failed =>
  _tag === "NotFound" || _tag === "Invalid" || _tag === "NotOffered"
    ? new failures[_tag]({ message })
    : new S.NoAnswer({ message })

export class Process {
  readonly who: Who
  /** Whether its program is over, or it is dead. */
  isOver = false
  isSilent = false
  /** What it said last: that counts on for as long as it does not answer. */
  figures: S.Figures | undefined
  servers: ReadonlyArray<S.Server> = []
  metrics = ""
  private readonly calls: Calls
  private readonly about: string
  private readonly context: Context.Context<never>

  constructor(who: Who, place: string, calls: Calls, context: Context.Context<never>) {
    this.who = who
    this.calls = calls
    this.about = askAbout(place)
    this.context = context
  }

  /** Asks; one that hangs is not waited for again until it has answered. */
  ask<A>(asked: Asked): Effect.Effect<A, Failed> {
    return Effect.suspend(() =>
      this.isSilent || this.isOver ? Effect.fail(this.silent) : this.raw(asked).pipe(
        Effect.timeoutOrElse({
          duration: patience,
          orElse: () => {
            this.wait()
            return Effect.fail(this.silent)
          }
        }),
        Effect.flatMap((answer) =>
          "failed" in answer ? Effect.fail(failureOf(answer.failed)) : Effect.succeed(answer.value as A)
        )
      )
    )
  }

  private raw(asked: Asked): Effect.Effect<Answered, S.NoAnswer> {
    return Effect.matchEffect(this.calls.ask(this.about, asked), {
      onFailure: () => Effect.fail(this.silent),
      onSuccess: (answer) => Effect.succeed(answer as Answered)
    })
  }

  private get silent(): S.NoAnswer {
    const { number, pid } = this.who
    return new S.NoAnswer({ message: `worker ${number} (process ${pid}) does not answer: it hangs, or is very busy` })
  }

  /** It is heard again once it answers this. */
  private wait(): void {
    if (this.isSilent) return
    this.isSilent = true
    spawn(this.context, "the wait for a worker", this.raw({ op: "ping" }), () => {
      this.isSilent = false
    })
  }

  forget(of: number): void {
    this.calls.post(this.about, { op: "unfollow", of } satisfies Asked)
  }

  /** As it is listed. */
  get told(): S.Worker {
    const { number, pid } = this.who
    return {
      number,
      process: pid ?? null,
      state: this.isSilent ? "silent" : "answers",
      open: this.figures?.connections.open ?? 0
    }
  }
}
