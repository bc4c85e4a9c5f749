/** Questions that a parent and its workers ask each other, over the channel between them. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"

/** A question, and its answer. `call` is a number of the asker. What is asked and answered is plain data. */
export type Call =
  | { readonly holdfast: "ask"; readonly call: number; readonly about: string; readonly what: unknown }
  | { readonly holdfast: "told"; readonly call: number; readonly answer: unknown }
  | { readonly holdfast: "unanswered"; readonly call: number; readonly why: string }

/** Whether a message between processes is one of these. */
export const isCall = (message: { readonly holdfast: string }): message is Call =>
  message.holdfast === "ask" || message.holdfast === "told" || message.holdfast === "unanswered"

/** There will be no answer: the other process is gone, or does not know what it was asked. */
export class Unanswered extends Data.TaggedError("Unanswered")<{ readonly why: string }> {
  override get message(): string {
    return this.why
  }
}

/** Answers a question, now or later: with `tell`, once. Must not throw. */
export type Answerer = (what: unknown, tell: (answer: unknown) => void) => void

type Resume = (answer: Effect.Effect<unknown, Unanswered>) => void

const gone = new Unanswered({ why: "the other process is gone" })

/** One end of the channel. */
export class Calls {
  private readonly say: (call: Call) => void
  private readonly waiting = new Map<number, Resume>()
  private readonly answerers = new Map<string, Answerer>()
  private last = 0
  private isOver = false

  constructor(say: (call: Call) => void) {
    this.say = say
  }

  /** Asks, and waits for the answer without a limit. One that is interrupted is answered in vain. */
  ask(about: string, what: unknown): Effect.Effect<unknown, Unanswered> {
    return Effect.callback((resume) => {
      if (this.isOver) return resume(Effect.fail(gone))
      const call = ++this.last
      this.waiting.set(call, resume)
      this.say({ holdfast: "ask", call, about, what })
      return Effect.sync(() => void this.waiting.delete(call))
    })
  }

  /** Asks for what is not answered, or whose answer does not matter. */
  post(about: string, what: unknown): void {
    if (!this.isOver) this.say({ holdfast: "ask", call: 0, about, what })
  }

  /** Answers what the other end asks. */
  answer(about: string, answerer: Answerer): void {
    this.answerers.set(about, answerer)
  }

  /** Takes what the other end said. */
  hear(message: Call): void {
    if (message.holdfast !== "ask") {
      const resume = this.waiting.get(message.call)
      this.waiting.delete(message.call)
      return resume?.(
        message.holdfast === "told"
          ? Effect.succeed(message.answer)
          : Effect.fail(new Unanswered({ why: message.why }))
      )
    }
    const { about, call, what } = message
    const answerer = this.answerers.get(about)
    if (answerer !== undefined) {
      return answerer(what, (answer) => {
        if (call !== 0 && !this.isOver) this.say({ holdfast: "told", call, answer })
      })
    }
    if (call !== 0) this.say({ holdfast: "unanswered", call, why: `the other process does not know of ${about}` })
  }

  /** The other end is gone: all that wait for it fail. */
  end(): void {
    this.isOver = true
    const waiting = Array.from(this.waiting.values())
    this.waiting.clear()
    for (const resume of waiting) resume(Effect.fail(gone))
  }
}
